//! What operators see, where links run, and when nothing is left.

use std::sync::mpsc as blocking;

use tokio::net::TcpListener;
use tokio::runtime::{Builder, Runtime};

use super::*;
use crate::peer::Tcp;

#[tokio::test(start_paused = true)]
async fn an_open_stream_keeps_its_link_and_an_idle_link_closes() {
    let net = Net::new();
    let (mut one, mut two) = (Node::new(&net, 1), Node::new(&net, 2));
    let ((mut tx, rx), (far_tx, mut far_rx)) = one.stream(2, &mut two).await;
    let down = |event: &LinkEvent| !matches!(event, LinkEvent::Up { .. });
    assert_eq!(one.within(Duration::from_secs(900), down).await, None);
    let (sent, came) = tokio::join!(tx.send(Bytes::from("still")), far_rx.recv());
    assert_eq!((sent, came), (Ok(()), message("still")));
    drop((tx, rx, far_tx, far_rx));
    let state = || one.links.state(NodeId(2), Class::Data);
    tokio::time::sleep(Duration::from_secs(290)).await;
    assert_eq!(state(), LinkState::Up);
    tokio::time::sleep(Duration::from_secs(20)).await;
    assert_eq!(state(), LinkState::Idle);
    let view = one.view(2, Class::Data, Direction::Out);
    assert_eq!((view.reconnects, view.reason), (0, None));
}

#[tokio::test(start_paused = true)]
async fn drained_ends_when_nothing_is_unanswered_and_with_the_peer() {
    let net = Net::new();
    let (one, mut two) = (Node::new(&net, 1), Node::new(&net, 2));
    let drained = || {
        timeout(
            Duration::from_secs(30),
            one.links.drained(NodeId(2), Class::Data),
        )
    };
    assert!(drained().await.is_ok(), "nothing was ever sent");
    let answers = [b"a", b"b"].map(|event| one.send(2, Class::Data, event).unwrap());
    let mut requests = Vec::new();
    for _ in &answers {
        requests.push(two.requests.recv().await.unwrap());
    }
    assert!(drained().await.is_err());
    requests.pop().unwrap().reply(Bytes::new());
    assert!(drained().await.is_err(), "one is left");
    let waits = tokio::spawn(one.links.drained(NodeId(2), Class::Data));
    requests.pop().unwrap().reply(Bytes::new());
    waits.await.unwrap();
    // One that runs and nobody waits for any more is still with the peer.
    let answer = one.send(2, Class::Data, b"c").unwrap();
    let mut request = two.requests.recv().await.unwrap();
    assert!(request.start());
    drop(answer);
    assert!(drained().await.is_err());
    drop(request);
    assert!(drained().await.is_ok());
    // A stream that is open is answered.
    let _stream = one.stream(2, &mut two).await;
    assert!(drained().await.is_ok());
    let _waits = one.send(2, Class::Data, b"d").unwrap();
    let waits = tokio::spawn(one.links.drained(NodeId(2), Class::Data));
    one.links.forget_peer(NodeId(2));
    waits.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn operators_see_each_link_and_why_strangers_were_refused() {
    let net = Net::new();
    let (one, mut two) = (Node::new(&net, 1), Node::new(&net, 2));
    assert!(one.links.peers().is_empty());
    let control = one.send(2, Class::Control, b"x").unwrap();
    two.requests.recv().await.unwrap().reply(Bytes::new());
    assert!(control.wait().await.is_ok());
    let (_near, _far) = one.stream(2, &mut two).await;
    let _waits = one.send(2, Class::Data, b"1234").unwrap();
    let _held = two.requests.recv().await.unwrap();
    tokio::time::sleep(Duration::from_secs(5)).await;
    let seen = |view: &PeerView| (view.peer.0, view.class, view.direction, view.state);
    let (out, up) = (Direction::Out, LinkState::Up);
    assert_eq!(
        one.links.peers().iter().map(seen).collect::<Vec<_>>(),
        [(2, Class::Control, out, up), (2, Class::Data, out, up)]
    );
    let (near, far) = (
        one.view(2, Class::Data, Direction::Out),
        two.view(1, Class::Data, Direction::In),
    );
    for view in [&near, &far] {
        assert_eq!((view.unanswered, view.streams, view.waiting), (1, 1, 0));
        assert_eq!((view.credit_envelopes, view.credit_bytes), (1, 4));
        assert!(view.since >= Duration::from_secs(5), "{view:?}");
        assert!(
            view.heard.unwrap() <= Duration::from_millis(250),
            "{view:?}"
        );
        assert_eq!((view.state, view.reconnects), (up, 0));
    }
    net.cut();
    until("both are up again", || {
        let views = [
            one.view(2, Class::Data, out),
            two.view(1, Class::Data, Direction::In),
        ];
        views
            .iter()
            .all(|view| view.state == up && view.reconnects == 1)
    })
    .await;
    let near = one.view(2, Class::Data, out);
    assert_eq!(
        (near.streams, near.unanswered),
        (1, 1),
        "its ends are held here"
    );
    let why = near.reason.unwrap();
    assert!(
        ["closed by the peer", "broken pipe"].contains(&&*why),
        "{why}"
    );
    assert!(near.since < Duration::from_secs(5));

    for (incarnation, boot) in [(1, 77), (1, 78), (0, 79)] {
        let other = identity(1, incarnation, boot);
        let mut other = Node::with(&net, other, LinkConfig::default());
        let _waits = other.send(2, Class::Control, b"x").unwrap();
        other.refusal().await;
    }
    let refused = two.links.refused();
    assert_eq!(refused, [("old_life", 1), ("second_process", 2)].into());
}

fn runtime(name: &str) -> Runtime {
    Builder::new_multi_thread()
        .worker_threads(1)
        .thread_name(name)
        .enable_all()
        .build()
        .unwrap()
}

/// Says on which thread each request came, and lets one of data block it.
#[derive(Debug)]
struct Blocks {
    came: mpsc::UnboundedSender<(Class, String)>,
    release: Mutex<blocking::Receiver<()>>,
}

impl Handler for Blocks {
    fn request(&self, from: &Remote, request: Request) {
        let thread = std::thread::current().name().unwrap_or("").to_owned();
        let _ = self.came.send((from.class, thread));
        if from.class == Class::Data {
            let _ = lock(&self.release).recv();
        }
        request.reply(Bytes::new());
    }
    fn cast(&self, _: &Remote, _: u8, _: Bytes) {}
    fn event(&self, _: LinkEvent) {}
}

#[test]
fn data_that_blocks_its_runtime_does_not_delay_control() {
    let (main, data) = (runtime("main"), runtime("data"));
    let config = || LinkConfig {
        data_runtimes: vec![data.handle().clone()],
        ..LinkConfig::default()
    };
    let (came, mut threads) = mpsc::unbounded_channel();
    let (release, released) = blocking::channel();
    let listener = |addr: &'static str| main.block_on(TcpListener::bind(addr)).unwrap();
    let (one, two) = (listener("127.0.0.1:0"), listener("127.0.0.1:0"));
    let addr = two.local_addr().unwrap().to_string();
    main.block_on(async {
        let handler = Arc::new(Blocks {
            came,
            release: Mutex::new(released),
        });
        let transport = Arc::new(Tcp::new(two));
        let _two = Links::start(config(), identity(2, 1, 2), transport, handler).unwrap();
        let mut one = node_over(Arc::new(Tcp::new(one)), identity(1, 1, 1), config());
        one.links.set_peer(NodeId(2), vec![addr]);
        let waits = one.send(2, Class::Data, b"blocks").unwrap();
        let first = threads.recv().await.unwrap();
        assert_eq!(first, (Class::Data, "data".to_owned()));
        // For longer than silence takes to be noticed.
        let blocked = Instant::now();
        while blocked.elapsed() < 3 * SILENCE {
            let answer = one.send(2, Class::Control, b"heartbeat").unwrap();
            assert!(answer.wait().await.is_ok());
            let next = threads.recv().await.unwrap();
            assert_eq!(next, (Class::Control, "main".to_owned()));
            tokio::task::yield_now().await;
        }
        let control = |event: &LinkEvent| match event {
            LinkEvent::Silent { class, .. } | LinkEvent::Down { class, .. } => {
                *class == Class::Control
            }
            _ => false,
        };
        while let Ok(event) = one.events.try_recv() {
            assert!(!control(&event), "{event:?}");
        }
        release.send(()).unwrap();
        drop(release);
        assert!(waits.wait().await.is_ok());
    });
    main.shutdown_background();
    data.shutdown_background();
}
