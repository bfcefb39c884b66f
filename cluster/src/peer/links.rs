//! The links of a node: to whom it sends, from whom it takes, and who is who (R10).

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use tokio::runtime::Handle;
use tokio::time::Instant;

use super::credit::CreditLimits;
use super::handshake::{Security, SecurityConfig, SecurityError};
use super::hello::{Class, Hello, Identity, LinkError};
use super::inbound::Inbound;
use super::outbound::{Answer, Answers, Mark, Outbound, Reply, RequestError, Sent, StreamAnswer};
use super::request::Request;
use super::transport::Transport;
use super::view::PeerView;
use crate::{BootId, Incarnation, Member, NodeId};

mod shared;

pub(crate) use shared::Shared;
use shared::lock;

/// A link without a byte for so long is silent.
pub const SILENCE: Duration = Duration::from_millis(400);
/// So many handshakes are unfinished at most; the oldest makes room.
pub const HANDSHAKES: usize = 64;

/// What holds for all links of a node.
#[derive(Debug, Clone)]
pub struct LinkConfig {
    /// How strangers are kept out.
    pub security: SecurityConfig,
    /// Credit of each link, of either class.
    pub credit: CreditLimits,
    /// The largest payload, in bytes; at most 63 MiB.
    pub payload_limit: usize,
    /// So many streams may be open with one peer, of each class and direction. One that nobody
    /// reads holds up to 256 KiB at either end, or one message that is larger.
    pub streams: usize,
    /// Where data links run, and what the [`Handler`] does with what comes on them: other runtimes
    /// than that of [`Links::start`], on which the door, the handshakes and the control links stay.
    /// So data can never delay a heartbeat. All links of a peer are on one of them. Empty: the same.
    pub data_runtimes: Vec<Handle>,
}

/// What holds for each link.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    pub(crate) credit: CreditLimits,
    pub(crate) payload: usize,
    pub(crate) streams: usize,
}

impl LinkConfig {
    pub(crate) const fn limits(&self) -> Limits {
        Limits {
            credit: self.credit,
            payload: self.payload_limit,
            streams: self.streams,
        }
    }
}

impl Default for LinkConfig {
    fn default() -> Self {
        Self {
            security: SecurityConfig::default(),
            credit: CreditLimits::default(),
            payload_limit: 4 * 1024 * 1024,
            streams: 16 * 1024,
            data_runtimes: Vec::new(),
        }
    }
}

/// The largest payload that may be configured, in bytes.
pub const PAYLOAD_MAX: usize = 63 * 1024 * 1024;

/// Who is at the other end of a link.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Remote {
    /// Its life; node 0 if it has not joined.
    pub member: Member,
    /// Its process.
    pub boot: BootId,
    /// Its name.
    pub name: String,
    /// Where it is reached.
    pub addrs: Vec<String>,
    /// The hash of its routes.
    pub routes_hash: u64,
    /// Its build.
    pub build: String,
    /// The class of the link.
    pub class: Class,
    /// The version that the link speaks.
    pub protocol: u16,
}

impl Remote {
    pub(crate) fn of(hello: &Hello, protocol: u16) -> Self {
        Self {
            member: hello.member(),
            boot: hello.boot,
            name: hello.name.clone(),
            addrs: hello.addrs.clone(),
            routes_hash: hello.routes_hash,
            build: hello.build.clone(),
            class: hello.class,
            protocol,
        }
    }
}

/// Where an outgoing link stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LinkState {
    /// There is no use for it.
    Idle,
    /// It is being opened.
    Dialling,
    /// It is open.
    Up,
    /// Nothing was heard for 400 ms; it is dialled anew.
    Silent,
    /// It failed; it is dialled again after a while.
    Down,
}

/// What happens to links.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LinkEvent {
    /// A link to a peer is open.
    Up {
        /// The peer.
        peer: NodeId,
        /// The class.
        class: Class,
        /// What the peer says of itself.
        remote: Box<Remote>,
    },
    /// Nothing was heard of a peer for 400 ms. What is sent waits.
    Silent {
        /// The peer.
        peer: NodeId,
        /// The class.
        class: Class,
    },
    /// A link to a peer has ended or could not be opened. It is tried again.
    Down {
        /// The peer.
        peer: NodeId,
        /// The class.
        class: Class,
        /// Why, in words.
        why: String,
    },
    /// A peer has opened a link to this node.
    Accepted(Box<Remote>),
    /// Someone was refused.
    Refused {
        /// From where.
        from: String,
        /// The reason in one word ([`LinkError::label`](super::LinkError::label)).
        reason: &'static str,
        /// Why, in words.
        why: String,
    },
}

/// What a node does with what comes. None of it may block.
pub trait Handler: Send + Sync + 'static {
    /// A request has come. Those of one sender and class come in its order.
    fn request(&self, from: &Remote, request: Request);
    /// A message that wants no answer has come.
    fn cast(&self, from: &Remote, kind: u8, payload: Bytes);
    /// A link has changed.
    fn event(&self, event: LinkEvent);
    /// How much this node has in flight: every reply tells it.
    fn load(&self) -> u32 {
        0
    }
}

/// Ends everything with the last handle.
#[derive(Debug)]
struct Guard(Arc<Shared>);

impl Drop for Guard {
    fn drop(&mut self) {
        lock(&self.0.tasks).abort_all();
        let peers = lock(&self.0.peers);
        for outbound in peers.outbound.values() {
            outbound.gone();
        }
        for inbound in peers.inbound.values() {
            inbound.kill();
        }
    }
}

/// The links of a node. They end when the last clone is dropped.
#[derive(Debug, Clone)]
pub struct Links {
    shared: Arc<Shared>,
    _guard: Arc<Guard>,
}

impl Links {
    /// Begins to take links, on the runtime that it is called on. Others are opened when something is
    /// sent.
    ///
    /// # Errors
    /// If secrets or certificates cannot be used.
    ///
    /// # Panics
    /// If it is called outside of a runtime.
    pub fn start(
        mut config: LinkConfig,
        identity: Identity,
        transport: Arc<dyn Transport>,
        handler: Arc<dyn Handler>,
    ) -> Result<Self, SecurityError> {
        config.payload_limit = config.payload_limit.min(PAYLOAD_MAX);
        let security = Security::new(std::mem::take(&mut config.security))?;
        let shared = Arc::new(Shared {
            identity: Mutex::new(identity),
            config,
            security: Mutex::new(Arc::new(security)),
            transport,
            handler,
            runtime: Handle::current(),
            peers: Mutex::default(),
            tasks: Mutex::default(),
            refused: Mutex::default(),
        });
        shared.spawn((Class::Control, NodeId(0)), Arc::clone(&shared).accept());
        Ok(Self {
            _guard: Arc::new(Guard(Arc::clone(&shared))),
            shared,
        })
    }

    /// This node has joined, or says something else of itself from now on. Links that are open stay.
    pub fn set_identity(&self, identity: Identity) {
        *lock(&self.shared.identity) = identity;
    }

    /// Other secrets or certificates, for links that open from now on. Links that are open stay.
    ///
    /// # Errors
    /// If they cannot be used; those before hold on.
    pub fn set_security(&self, security: SecurityConfig) -> Result<(), SecurityError> {
        self.prepare_security(security)?.apply();
        Ok(())
    }

    /// The same in two steps: reads and checks them, and uses them when they are applied.
    ///
    /// # Errors
    /// If they cannot be used.
    pub fn prepare_security(&self, security: SecurityConfig) -> Result<NewSecurity, SecurityError> {
        Ok(NewSecurity {
            links: self.clone(),
            security: Arc::new(Security::new(security)?),
        })
    }

    /// Where a node is reached: `host:port`, tried in order.
    pub fn set_peer(&self, peer: NodeId, addrs: Vec<String>) {
        let mut peers = lock(&self.shared.peers);
        for class in [Class::Control, Class::Data] {
            if let Some(outbound) = peers.outbound.get(&(peer, class)) {
                outbound.readdress(addrs.clone());
            }
        }
        peers.addrs.insert(peer, addrs);
    }

    /// A node was heard of just now: links to it that failed are dialled again without a further wait.
    pub fn hasten(&self, peer: NodeId) {
        let peers = lock(&self.shared.peers);
        for class in [Class::Control, Class::Data] {
            if let Some(outbound) = peers.outbound.get(&(peer, class)) {
                outbound.hasten();
            }
        }
    }

    /// What the table says of a life: older ones, and other processes of it, are refused, and what
    /// an older one has open ends (R10).
    pub fn set_known(&self, member: Member, boot: BootId) {
        let mut peers = lock(&self.shared.peers);
        let known = peers
            .known
            .entry(member.id)
            .or_insert((member.incarnation, boot));
        if member.incarnation > known.0 {
            *known = (member.incarnation, boot);
            peers.end_inbound(member.id);
        }
    }

    /// A node is gone for good: its links end, what is unanswered is told so, and nothing of it is
    /// kept. Its data links are refused from now on, as nobody remembers what it had started here; by
    /// a control link it may still hear that it was removed.
    pub fn forget_peer(&self, peer: NodeId) {
        self.end_life(Member {
            id: peer,
            incarnation: Incarnation(u64::MAX),
        });
        let mut peers = lock(&self.shared.peers);
        peers.removed.insert(peer);
        peers.end_inbound(peer);
    }

    /// A life of a node is over: what is unanswered is told so, and its links end. Those that the node
    /// has opened in a newer life stay. What it has started here stays known until a newer life comes:
    /// it may not have heard of its end, and come back (R12).
    pub fn end_life(&self, over: Member) {
        let peer = over.id;
        let mut peers = lock(&self.shared.peers);
        peers.addrs.remove(&peer);
        peers.forgotten += 1;
        for class in [Class::Control, Class::Data] {
            if let Some(outbound) = peers.outbound.remove(&(peer, class)) {
                outbound.gone();
            }
            let inbound = peers.inbound.get(&(peer, class));
            let lived = |of: &Inbound| of.remote().member.incarnation <= over.incarnation;
            if let Some(inbound) = inbound.filter(|inbound| lived(inbound)) {
                inbound.cut();
            }
        }
    }

    /// Where the link to a peer stands.
    pub fn state(&self, peer: NodeId, class: Class) -> LinkState {
        let peers = lock(&self.shared.peers);
        let outbound = peers.outbound.get(&(peer, class));
        outbound.map_or(LinkState::Idle, |outbound| outbound.link_state())
    }

    /// How many requests to a peer wait for their answers or for credit: whoever leaves waits until
    /// there are none.
    pub fn unanswered(&self, peer: NodeId, class: Class) -> usize {
        let peers = lock(&self.shared.peers);
        let outbound = peers.outbound.get(&(peer, class));
        outbound.map_or(0, |outbound| outbound.unanswered())
    }

    /// A future that ends when nothing that this node sent to a peer is unanswered, or the peer is
    /// forgotten. Streams that are open do not count, nor do casts.
    pub fn drained(&self, peer: NodeId, class: Class) -> impl Future<Output = ()> + Send + use<> {
        let outbound = lock(&self.shared.peers)
            .outbound
            .get(&(peer, class))
            .cloned();
        async move {
            if let Some(outbound) = outbound {
                outbound.drained().await;
            }
        }
    }

    /// Each link to and from each peer, by peer, class and who dials.
    pub fn peers(&self) -> Vec<PeerView> {
        let peers = lock(&self.shared.peers);
        let out = peers.outbound.values().filter_map(|link| link.view());
        let mut views: Vec<_> = out
            .chain(peers.inbound.values().filter_map(|link| link.view()))
            .collect();
        drop(peers);
        views.sort_by_key(|view| (view.peer, view.class, view.direction));
        views
    }

    /// Of how many lives and classes something is kept.
    #[cfg(test)]
    pub(crate) fn kept_inbound(&self) -> usize {
        lock(&self.shared.peers).inbound.len()
    }

    /// How many handshakes and links were refused here since the start, by reason.
    pub fn refused(&self) -> BTreeMap<&'static str, u64> {
        lock(&self.shared.refused).clone()
    }

    /// Sends a request. Requests to one peer of one class start there in this order.
    ///
    /// # Errors
    /// If the peer is not known, too much waits for it, or the payload is too large. What becomes of
    /// it later, the answer says.
    pub fn request(
        &self,
        peer: NodeId,
        class: Class,
        kind: u8,
        payload: Bytes,
        deadline: Instant,
    ) -> Result<Answer, RequestError> {
        self.outbound(peer, class)?.request(kind, payload, deadline)
    }

    /// Sends a request that the peer may answer with a stream: two directions of messages, which end
    /// with the link. The deadline is that of the answer.
    ///
    /// # Errors
    /// As [`Self::request`], and overloaded if as many streams are open as may be.
    pub fn request_stream(
        &self,
        peer: NodeId,
        class: Class,
        kind: u8,
        payload: Bytes,
        deadline: Instant,
    ) -> Result<StreamAnswer, RequestError> {
        self.outbound(peer, class)?
            .request_stream(kind, payload, deadline)
    }

    /// Sends a request, in one order with the others, whose answer comes to a place: once, whatever
    /// becomes of it, unless it is given up. At its deadline nothing comes by itself. With `stream` the
    /// answer may be one.
    ///
    /// # Errors
    /// As [`Self::request_stream`]; nothing comes to the place then.
    pub fn request_to(
        &self,
        (peer, class): (NodeId, Class),
        (kind, stream): (u8, bool),
        payload: Bytes,
        deadline: Instant,
        to: (Arc<dyn Answers>, Mark),
    ) -> Result<Sent, RequestError> {
        self.outbound(peer, class)?
            .request_to((kind, stream), payload, deadline, to)
    }

    /// Sends a message that wants no answer, and is lost with its link.
    ///
    /// # Errors
    /// If the peer is not known, too much waits for it, or the payload is too large.
    pub fn cast(
        &self,
        peer: NodeId,
        class: Class,
        kind: u8,
        payload: Bytes,
    ) -> Result<(), RequestError> {
        self.outbound(peer, class)?.cast(kind, payload)
    }

    /// Puts one question to whoever is at an address: what a node does that has not joined.
    ///
    /// # Errors
    /// If the address does not answer, refuses, or the deadline passes.
    pub async fn ask(
        &self,
        addr: &str,
        kind: u8,
        payload: Bytes,
        deadline: Instant,
    ) -> Result<Reply, RequestError> {
        self.ask_with(self.question(addr), kind, payload, deadline)
            .await
    }

    /// The same, in the name of a node that has not joined: what a node does that may have missed a
    /// recovery of its cluster.
    ///
    /// # Errors
    /// As [`ask`](Self::ask).
    pub async fn ask_as_stranger(
        &self,
        addr: &str,
        kind: u8,
        payload: Bytes,
        deadline: Instant,
    ) -> Result<Reply, RequestError> {
        let question = self.question(addr).unknown();
        self.ask_with(question, kind, payload, deadline).await
    }

    fn question(&self, addr: &str) -> Outbound {
        let limits = self.shared.config.limits();
        Outbound::new(None, Class::Ask, vec![addr.to_owned()], limits)
    }

    async fn ask_with(
        &self,
        question: Outbound,
        kind: u8,
        payload: Bytes,
        deadline: Instant,
    ) -> Result<Reply, RequestError> {
        let shared = &self.shared;
        let outbound = Arc::new(question);
        let answer = outbound.request(kind, payload, deadline)?;
        tokio::select! {
            answer = answer.wait() => answer,
            (_, ended) = outbound.link(shared) => Err(RequestError::Link(
                ended.err().unwrap_or(LinkError::Closed).to_string(),
            )),
        }
    }

    fn outbound(&self, peer: NodeId, class: Class) -> Result<Arc<Outbound>, RequestError> {
        let mut peers = lock(&self.shared.peers);
        if let Some(outbound) = peers.outbound.get(&(peer, class)) {
            return Ok(Arc::clone(outbound));
        }
        let addrs = peers
            .addrs
            .get(&peer)
            .filter(|_| class != Class::Ask)
            .cloned()
            .ok_or(RequestError::UnknownPeer(peer))?;
        let limits = self.shared.config.limits();
        let outbound =
            Arc::new(Outbound::new(Some(peer), class, addrs, limits).after(peers.forgotten));
        peers.outbound.insert((peer, class), Arc::clone(&outbound));
        drop(peers);
        let run = Arc::clone(&outbound).run(Arc::clone(&self.shared));
        self.shared.spawn((class, peer), run);
        Ok(outbound)
    }
}

/// Secrets and certificates that can be used; dropped it changes nothing.
#[must_use]
pub struct NewSecurity {
    links: Links,
    security: Arc<Security>,
}

impl std::fmt::Debug for NewSecurity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("NewSecurity").finish_non_exhaustive()
    }
}

impl NewSecurity {
    /// Links that open from now on go by it.
    pub fn apply(self) {
        *lock(&self.links.shared.security) = self.security;
    }
}

#[cfg(test)]
mod tests;
