//! Shared polls: whichever node is asked, the owner of the channel counts its versions.

use super::fleet::{Binary, Fleet, NODES};
use super::support::{self, Client, path, request};
use centripeta::event::EventKind;
use centripeta::proto::proxy::SharedPollRefreshResponse;
use prost::Message;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

const CHANNELS: usize = 48;

/// What one poll brought.
#[derive(Debug, Clone)]
struct Polled {
    channel: usize,
    node: usize,
    began: Instant,
    /// Epoch and version, or the status.
    found: Result<(String, u64), i32>,
}

/// Pollers at work: each polls a channel through the nodes in turn.
struct Pollers {
    through: Arc<Mutex<Vec<usize>>>,
    polled: Arc<Mutex<Vec<Polled>>>,
    stop: Arc<AtomicBool>,
    tasks: Vec<JoinHandle<()>>,
}

/// A connection to each node.
type Doors = Arc<[tokio::sync::Mutex<Option<Client>>; 3]>;

async fn poll(
    fleet: [std::net::SocketAddr; 3],
    doors: &Doors,
    node: usize,
    channel: usize,
) -> Option<Result<(String, u64), i32>> {
    let client = {
        let mut held = doors[node].lock().await;
        if held.is_none() {
            let socket = TcpStream::connect(fleet[node]).await.ok()?;
            *held = Some(Client::try_new(socket).await.ok()?);
        }
        held.clone()?
    };
    let json = format!(r#"{{"channel":"poll:{channel}","items":[{{"key":"k"}}]}}"#);
    let kind = EventKind::SharedPollRefresh;
    let headers = [("grpc-timeout", "3S")];
    let reply = client
        .call(&path(kind), &headers, &request(kind, &json))
        .await;
    match reply.status {
        Some(0) => {
            let response = SharedPollRefreshResponse::decode(&reply.message()[..]).unwrap();
            let result = response.result.expect("no OK without a result");
            Some(Ok((result.epoch, result.items[0].version)))
        }
        Some(status) => Some(Err(status)),
        None => {
            *doors[node].lock().await = None;
            None
        }
    }
}

impl Pollers {
    fn start(fleet: &Fleet) -> Self {
        let addresses = [0, 1, 2].map(|node| fleet.address(node));
        let doors: Doors = Arc::default();
        let through = Arc::new(Mutex::new(vec![0, 1, 2]));
        let polled = Arc::new(Mutex::new(Vec::new()));
        let stop = Arc::new(AtomicBool::new(false));
        let task = |channel: usize| {
            let (through, polled, stop) = (through.clone(), polled.clone(), stop.clone());
            let doors = doors.clone();
            tokio::spawn(async move {
                let mut turn = channel;
                while !stop.load(Ordering::Relaxed) {
                    turn += 1;
                    let node = {
                        let through = through.lock().unwrap();
                        through[turn % through.len()]
                    };
                    let began = Instant::now();
                    // What could not be sent is no poll.
                    if let Some(found) = poll(addresses, &doors, node, channel).await {
                        polled.lock().unwrap().push(Polled {
                            channel,
                            node,
                            began,
                            found,
                        });
                    }
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
            })
        };
        Self {
            tasks: (0..CHANNELS).map(task).collect(),
            through,
            polled,
            stop,
        }
    }

    fn through(&self, nodes: &[usize]) {
        *self.through.lock().unwrap() = nodes.to_vec();
    }

    /// Waits until every channel was polled through each of these nodes from now on.
    async fn round(&self, nodes: &[usize]) {
        let from = Instant::now();
        support::eventually("every channel is polled through every node", async || {
            let polled = self.polled.lock().unwrap();
            let fresh = polled
                .iter()
                .rev()
                .take_while(|it| it.began >= from - Duration::from_secs(4));
            let fresh = fresh.filter(|it| it.began >= from && it.found.is_ok());
            let mut seen: Vec<_> = fresh.map(|it| (it.channel, it.node)).collect();
            seen.sort_unstable();
            seen.dedup();
            let has = |node: &usize| seen.iter().filter(|it| it.1 == *node).count() == CHANNELS;
            nodes.iter().all(has)
        })
        .await;
    }

    async fn stop(self) -> Vec<Polled> {
        self.stop.store(true, Ordering::Relaxed);
        for task in self.tasks {
            task.await.unwrap();
        }
        std::mem::take(&mut *self.polled.lock().unwrap())
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn c86_all_replicas_give_one_epoch_and_its_versions_start_at_1_and_never_fall() {
    // It needs none of the programs; the turn alone keeps others quiet.
    let _turn = super::Turn::take();
    let mut fleet = Fleet::of(Binary::Own, |_| String::new());
    let pollers = Pollers::start(&fleet);
    pollers.round(&[0, 1, 2]).await;

    // A node is drained and comes back.
    pollers.through(&[0, 1]);
    pollers.round(&[0, 1]).await;
    fleet.drain(2);
    pollers.round(&[0, 1]).await;
    fleet.start(2);
    fleet.settled(&[0, 1, 2]);
    pollers.through(&[0, 1, 2]);
    pollers.round(&[0, 1, 2]).await;
    let quiet = pollers.polled.lock().unwrap().clone();
    let failed: Vec<_> = quiet.iter().filter(|it| it.found.is_err()).collect();
    assert!(failed.is_empty(), "{failed:?}");

    // Another is killed.
    pollers.through(&[1, 2]);
    pollers.round(&[1, 2]).await;
    fleet.kill(0);
    pollers.round(&[1, 2]).await;
    let polled = pollers.stop().await;

    let mut epochs: BTreeMap<usize, Vec<(&str, u64, usize)>> = BTreeMap::new();
    for poll in &polled {
        let Ok((epoch, version)) = &poll.found else {
            assert_eq!(poll.found, Err(14), "{poll:?}");
            continue;
        };
        let lives = epochs.entry(poll.channel).or_default();
        match lives.iter_mut().find(|life| life.0 == epoch) {
            // What was polled and not answered may have counted.
            Some(life) => {
                assert!(
                    *version > life.1,
                    "fell to or stayed at {}: {poll:?}",
                    life.1
                );
                life.1 = *version;
                life.2 |= 1 << poll.node;
            }
            None => {
                assert!(!epoch.is_empty());
                assert_eq!(*version, 1, "a new epoch begins elsewhere: {poll:?}");
                lives.push((epoch, *version, 1 << poll.node));
            }
        }
    }
    assert_eq!(epochs.len(), CHANNELS);
    let first_everywhere = epochs.values().filter(|lives| lives[0].2 == 0b111).count();
    assert_eq!(
        first_everywhere, CHANNELS,
        "every replica told of the first epoch"
    );
    let moved = epochs.values().filter(|lives| lives.len() > 1).count();
    eprintln!(
        "C86: {} polls through {} nodes, {moved} channels changed their owner",
        polled.len(),
        NODES.len()
    );
    assert!(moved > 0, "no channel changed its owner");
}
