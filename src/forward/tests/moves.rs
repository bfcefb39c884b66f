//! Slots that move, lapse, or have another owner than the ingress thinks.

use super::net::{eventually, publish};
use super::{Net, ms};
use crate::event::PublishReply;
use crate::extract::{Channel, Data};
use crate::router::Router;
use centripeta_cluster::{Command, MoveAbort, Region, Report, SlotId, slot_of};
use futures_util::{StreamExt, stream};
use std::collections::BTreeMap;
use std::future::IntoFuture;
use std::sync::{Arc, Mutex};
use tokio::sync::mpsc::{self, UnboundedReceiver};
use tokio::time::sleep;
use tonic::Code;

/// Where an event ran, and its number.
type Run = (usize, u32);

/// What ran, per channel, in its order.
#[derive(Debug, Clone, Default)]
struct Ran(Arc<Mutex<BTreeMap<String, Vec<Run>>>>);

impl Ran {
    fn router(&self, at: usize) -> Router {
        let ran = self.clone();
        Router::new().publish("*", move |Channel(channel): Channel, Data(n): Data<u32>| {
            let ran = ran.clone();
            async move {
                if n % 7 == 0 {
                    sleep(ms(1)).await;
                }
                ran.0
                    .lock()
                    .unwrap()
                    .entry(channel)
                    .or_default()
                    .push((at, n));
                PublishReply::allow()
            }
        })
    }

    fn count(&self) -> usize {
        self.0.lock().unwrap().values().map(Vec::len).sum()
    }

    fn of(&self, channel: &str) -> Vec<Run> {
        self.0
            .lock()
            .unwrap()
            .get(channel)
            .cloned()
            .unwrap_or_default()
    }
}

/// The regions of the nodes, and what they say.
struct Regions(Vec<(Arc<dyn Region>, UnboundedReceiver<Report>)>);

impl Regions {
    fn of(net: &Net) -> Self {
        let region = |node: &super::net::Node| {
            let region = node.router.engine().region();
            let (to, from) = mpsc::unbounded_channel();
            region.reports(to);
            (region, from)
        };
        Self(net.nodes.iter().map(region).collect())
    }

    /// Nothing of a closed slot runs any more.
    async fn idle(&mut self, at: usize, of: SlotId) {
        loop {
            match self.0[at].1.recv().await.unwrap() {
                Report::Closed {
                    slot, started: 0, ..
                }
                | Report::Idle { slot, .. }
                    if slot == of =>
                {
                    return;
                }
                _ => {}
            }
        }
    }
}

/// A slot goes from one node to another, or the move is aborted, as the shells do it.
async fn change(
    net: &mut Net,
    regions: &mut Regions,
    slot: SlotId,
    path: (usize, usize),
    abort: bool,
) {
    let (from, to) = path;
    let id = net.begin(slot, to);
    let moving = net.table.slot(slot).moving.unwrap();
    for at in 0..net.nodes.len() {
        let shut: &[SlotId] = if at == from { &[slot] } else { &[] };
        net.nodes[at].show(&net.table, shut);
    }
    regions.0[from].0.close(slot, moving);
    regions.idle(from, slot).await;
    if abort {
        net.commit(&Command::AbortMoves {
            moves: vec![MoveAbort { slot, id }],
            why: "test".to_owned(),
        });
        net.nodes[from].show(&net.table, &[]);
        regions.0[from].0.reopen(slot, net.table.slot(slot).epoch);
    } else {
        net.complete(slot, id);
        net.nodes[to].show(&net.table, &[]);
        regions.0[to].0.open(slot, net.table.slot(slot).epoch);
        regions.0[from].0.forget(slot);
    }
    net.tell();
}

#[tokio::test]
async fn events_of_a_channel_run_once_and_in_order_while_its_slot_moves() {
    let ran = Ran::default();
    let mut net = Net::of(3, |at| ran.router(at)).await;
    let mut regions = Regions::of(&net);
    let tag = net.channel(1);
    let slot = slot_of(tag.as_bytes());
    let channels = [format!("{{{tag}}}:a"), format!("{{{tag}}}:b")];
    let near = net.nodes[0].router.clone();
    let sends = channels.clone().map(|channel| {
        let near = near.clone();
        tokio::spawn(async move {
            let calls = stream::iter(0..1000u32).map(|n| {
                let call = near.publish(publish(&channel, &n.to_string()));
                tokio::spawn(call.timeout(ms(20_000)).into_future())
            });
            let answers = calls.buffered(24).map(|answer| answer.unwrap().status());
            answers.collect::<Vec<Code>>().await
        })
    });
    let mut owner = 1;
    let mut moves = 0;
    while !sends.iter().all(tokio::task::JoinHandle::is_finished) {
        // No event meets three owners that are not: links take longer than these moves.
        let before = ran.count();
        eventually("something runs at the new owner", || {
            ran.count() > before + 5 || sends.iter().all(tokio::task::JoinHandle::is_finished)
        })
        .await;
        // To the ingress itself too: then what it holds runs here.
        let to = (owner + 1 + moves % 2) % 3;
        let abort = moves % 3 == 2;
        change(&mut net, &mut regions, slot, (owner, to), abort).await;
        if !abort {
            owner = to;
        }
        moves += 1;
    }
    for send in sends {
        let answers = send.await.unwrap();
        assert_eq!(answers.len(), 1000);
        assert!(answers.iter().all(|code| *code == Code::Ok), "{answers:?}");
    }
    for channel in &channels {
        let ran = ran.of(channel);
        let order: Vec<u32> = ran.iter().map(|(_, n)| *n).collect();
        assert_eq!(order, (0..1000).collect::<Vec<_>>(), "in order, each once");
    }
    assert!(moves > 3, "{moves}");
    let counts = net.nodes[0].counts();
    assert!(counts.bounced[1].get() > 0, "something was bounced");
    assert_eq!(net.nodes[0].held(), 0);
}

#[tokio::test]
async fn an_ingress_that_asked_the_wrong_owner_catches_up_and_asks_the_right_one() {
    let ran = Ran::default();
    let mut net = Net::of(3, |at| ran.router(at)).await;
    let channel = net.channel(1);
    let slot = slot_of(channel.as_bytes());
    let id = net.begin(slot, 2);
    net.complete(slot, id);
    for at in [1, 2] {
        net.nodes[at].show(&net.table, &[]);
    }
    let near = net.nodes[0].router.clone();
    let waits = tokio::spawn(near.publish(publish(&channel, "1")).into_future());
    eventually("it went back", || {
        net.nodes[1].counts().sent_back[0].get() == 1
    })
    .await;
    net.nodes[0].show(&net.table, &[]);
    assert_eq!(waits.await.unwrap().status(), Code::Ok);
    assert_eq!(ran.of(&channel), [(2, 1)]);
    assert_eq!(net.nodes[0].counts().resent.get(), 1);
}

#[tokio::test]
async fn what_is_held_goes_on_from_its_core_and_not_in_the_call_that_says_that_it_may() {
    let ran = Ran::default();
    let net = Net::of(2, |at| ran.router(at)).await;
    let channel = net.channel(1);
    let slot = slot_of(channel.as_bytes());
    let near = net.nodes[0].router.clone();
    for word in [false, true] {
        net.nodes[1].lapse(Some(ms(150)));
        let waits = tokio::spawn(near.publish(publish(&channel, "1")).into_future());
        eventually("it is held", || net.nodes[0].held() == 1).await;
        net.nodes[1].lapse(None);
        if word {
            net.nodes[0].ingress.resumed(net.nodes[1].member, slot);
        } else {
            net.nodes[0].ingress.table_changed(&[slot]);
        }
        // The cores of this node are on this thread, which has not let go meanwhile.
        assert_eq!(net.nodes[0].held(), 1);
        assert_eq!(waits.await.unwrap().status(), Code::Ok);
    }
    assert_eq!(net.nodes[0].held(), 0);
}

#[tokio::test]
async fn events_wait_for_an_owner_whose_lease_has_lapsed() {
    let ran = Ran::default();
    let net = Net::of(2, |at| ran.router(at)).await;
    let channel = net.channel(1);
    let region = net.nodes[1].router.engine().region();
    net.nodes[1].lapse(Some(ms(150)));
    region.suspend();
    let near = net.nodes[0].router.clone();
    let first = tokio::spawn(near.publish(publish(&channel, "1")).into_future());
    eventually("it went back", || {
        net.nodes[1].counts().sent_back[2].get() == 1
    })
    .await;
    let second = tokio::spawn(near.publish(publish(&channel, "2")).into_future());
    eventually("both are held", || net.nodes[0].held() == 2).await;
    net.nodes[1].lapse(None);
    region.resume();
    net.nodes[0]
        .ingress
        .resumed(net.nodes[1].member, slot_of(channel.as_bytes()));
    assert_eq!(first.await.unwrap().status(), Code::Ok);
    assert_eq!(second.await.unwrap().status(), Code::Ok);

    // The owner's word is lost: it is asked again all the same.
    net.nodes[1].lapse(Some(ms(150)));
    let third = tokio::spawn(near.publish(publish(&channel, "3")).into_future());
    eventually("it is held", || net.nodes[0].held() == 1).await;
    net.nodes[1].lapse(None);
    assert_eq!(third.await.unwrap().status(), Code::Ok);
    let order: Vec<u32> = ran.of(&channel).iter().map(|(_, n)| *n).collect();
    assert_eq!(order, [1, 2, 3]);

    // And if it never comes back, the answer is said in time.
    net.nodes[1].lapse(Some(ms(150)));
    let late = near.publish(publish(&channel, "4")).timeout(ms(200)).await;
    assert_eq!(late.status(), Code::Unavailable);
}
