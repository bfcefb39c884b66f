#![allow(clippy::unwrap_used)]

mod cancel;
mod net;
mod operating;
mod refusals;
mod renewal;
mod streams;
mod traffic;
mod violations;

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU32, Ordering};

use tokio::sync::mpsc;
use tokio::time::timeout;

use super::*;
use crate::ClusterId;
use crate::peer::Direction;
use crate::peer::transport::Connection;
use crate::peer::{Answered, OpenStream, StreamError, StreamItem, StreamRx, StreamTx};
use net::Net;

/// Longer than anything a test waits for, on a paused clock.
const LONG: Duration = Duration::from_secs(3600);

/// Hands everything to the test.
#[derive(Debug)]
struct Tap {
    requests: mpsc::UnboundedSender<Request>,
    casts: mpsc::UnboundedSender<(NodeId, u8, Bytes)>,
    events: mpsc::UnboundedSender<LinkEvent>,
    load: AtomicU32,
}

impl Handler for Tap {
    fn request(&self, _: &Remote, request: Request) {
        let _ = self.requests.send(request);
    }
    fn cast(&self, from: &Remote, kind: u8, payload: Bytes) {
        let _ = self.casts.send((from.member.id, kind, payload));
    }
    fn event(&self, event: LinkEvent) {
        let _ = self.events.send(event);
    }
    fn load(&self) -> u32 {
        self.load.load(Ordering::Relaxed)
    }
}

type Ends = (StreamTx, StreamRx);

fn opened(answered: Result<Answered, RequestError>) -> OpenStream {
    match answered.unwrap() {
        Answered::Stream(stream) => stream,
        Answered::Reply(reply) => panic!("{reply:?}"),
    }
}

fn message(text: impl Into<Bytes>) -> Result<StreamItem, StreamError> {
    Ok(StreamItem::Message(text.into()))
}

fn finished(text: &'static str) -> Result<StreamItem, StreamError> {
    Ok(StreamItem::Finished(text.into()))
}

/// Lets other tasks run until it is so.
async fn until(what: &str, condition: impl Fn() -> bool) {
    let wait = async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(Duration::from_secs(60), wait).await.expect(what);
}

struct Node {
    links: Links,
    tap: Arc<Tap>,
    requests: mpsc::UnboundedReceiver<Request>,
    casts: mpsc::UnboundedReceiver<(NodeId, u8, Bytes)>,
    events: mpsc::UnboundedReceiver<LinkEvent>,
}

fn identity(id: u32, incarnation: u64, boot: u128) -> Identity {
    let member = Member {
        id: NodeId(id),
        incarnation: Incarnation(incarnation),
    };
    Identity::new(ClusterId(7), member, BootId(boot), &format!("node-{id}"))
}

fn node_over(transport: Arc<dyn Transport>, identity: Identity, config: LinkConfig) -> Node {
    let (requests, to_requests) = mpsc::unbounded_channel();
    let (casts, to_casts) = mpsc::unbounded_channel();
    let (events, to_events) = mpsc::unbounded_channel();
    let tap = Arc::new(Tap {
        requests,
        casts,
        events,
        load: AtomicU32::new(0),
    });
    let handler = Arc::clone(&tap) as Arc<dyn Handler>;
    let links = Links::start(config, identity, transport, handler).unwrap();
    Node {
        links,
        tap,
        requests: to_requests,
        casts: to_casts,
        events: to_events,
    }
}

impl Node {
    /// On this network, at address `id`; it knows nodes 1 to 3 there.
    fn new(net: &Arc<Net>, id: u32) -> Self {
        Self::with(
            net,
            identity(id, 1, 1000 + u128::from(id)),
            LinkConfig::default(),
        )
    }

    fn with(net: &Arc<Net>, identity: Identity, config: LinkConfig) -> Self {
        let id = identity.member.id;
        let node = node_over(net.node(&id.0.to_string()), identity, config);
        for peer in (1..=3).filter(|peer| NodeId(*peer) != id) {
            node.links.set_peer(NodeId(peer), vec![peer.to_string()]);
        }
        node
    }

    fn send(&self, peer: u32, class: Class, payload: &[u8]) -> Result<Answer, RequestError> {
        let deadline = Instant::now() + LONG;
        let payload = Bytes::copy_from_slice(payload);
        self.links
            .request(NodeId(peer), class, 1, payload, deadline)
    }

    fn ask_stream(&self, peer: u32, payload: &'static [u8]) -> StreamAnswer {
        let deadline = Instant::now() + LONG;
        let payload = Bytes::from_static(payload);
        self.links
            .request_stream(NodeId(peer), Class::Data, 1, payload, deadline)
            .unwrap()
    }

    /// A stream from this node to another: its ends here and there.
    async fn stream(&self, peer: u32, other: &mut Self) -> (Ends, Ends) {
        let answer = self.ask_stream(peer, b"subscribe");
        let request = other.requests.recv().await.unwrap();
        assert!(request.wants_stream());
        let far = request.accept(Bytes::from_static(b"subscribed")).unwrap();
        let near = opened(answer.wait().await);
        assert_eq!(near.first, "subscribed");
        ((near.tx, near.rx), far)
    }

    /// What waits to be read here, of each stream that a node has opened.
    fn unread(&self, from: u32) -> Vec<(usize, usize)> {
        let peers = lock(&self.links.shared.peers);
        peers.inbound[&(NodeId(from), Class::Data)].unread()
    }

    /// What operators see of the data links with a peer, and of the control links.
    fn view(&self, peer: u32, class: Class, direction: Direction) -> PeerView {
        let wanted = |view: &PeerView| {
            (view.peer, view.class, view.direction) == (NodeId(peer), class, direction)
        };
        self.links.peers().into_iter().find(wanted).unwrap()
    }

    /// The next event that says so.
    async fn until(&mut self, wanted: impl Fn(&LinkEvent) -> bool) -> LinkEvent {
        self.within(Duration::from_secs(60), wanted).await.unwrap()
    }

    /// The same, if it comes in time.
    async fn within(
        &mut self,
        limit: Duration,
        wanted: impl Fn(&LinkEvent) -> bool,
    ) -> Option<LinkEvent> {
        let wait = async {
            loop {
                let event = self.events.recv().await.unwrap();
                if wanted(&event) {
                    return event;
                }
            }
        };
        timeout(limit, wait).await.ok()
    }

    /// The refusal that this node or its peer has told.
    async fn refusal(&mut self) -> String {
        let wanted =
            |event: &LinkEvent| matches!(event, LinkEvent::Refused { .. } | LinkEvent::Down { .. });
        match self.until(wanted).await {
            LinkEvent::Refused { why, .. } | LinkEvent::Down { why, .. } => why,
            other => panic!("{other:?}"),
        }
    }

    /// Answers everything with what was sent.
    fn echo(mut self) -> Links {
        tokio::spawn(async move {
            while let Some(request) = self.requests.recv().await {
                let payload = request.payload().clone();
                request.reply(payload);
            }
        });
        self.links
    }
}
