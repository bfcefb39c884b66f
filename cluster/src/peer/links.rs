//! The links of a node: to whom it sends, from whom it takes, and who is who (R10).

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use tokio::io::AsyncWriteExt;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

use super::credit::CreditLimits;
use super::frame::{Envelope, FRAME_SLACK, FrameReader, frame};
use super::handshake::{self, HANDSHAKE_TIMEOUT, Security, SecurityConfig, SecurityError, Shaken};
use super::hello::{Class, Hello, Identity, LinkError};
use super::inbound::{Inbound, Request};
use super::outbound::{Answer, Outbound, Reply, RequestError};
use super::transport::{Connection, Transport};
use crate::{BootId, Incarnation, Member, NodeId};

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
}

impl Default for LinkConfig {
    fn default() -> Self {
        Self {
            security: SecurityConfig::default(),
            credit: CreditLimits::default(),
            payload_limit: 4 * 1024 * 1024,
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

#[derive(Debug, Default)]
struct Peers {
    addrs: HashMap<NodeId, Vec<String>>,
    known: HashMap<NodeId, (Incarnation, BootId)>,
    outbound: HashMap<(NodeId, Class), Arc<Outbound>>,
    inbound: HashMap<(NodeId, Class), Arc<Inbound>>,
}

/// What the links of a node share.
pub(crate) struct Shared {
    identity: Mutex<Identity>,
    config: LinkConfig,
    pub(crate) security: Security,
    pub(crate) transport: Arc<dyn Transport>,
    pub(crate) handler: Arc<dyn Handler>,
    peers: Mutex<Peers>,
    tasks: Mutex<JoinSet<()>>,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Shared").field(&self.identity).finish()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shared {
    pub(crate) fn identity(&self) -> Identity {
        lock(&self.identity).clone()
    }

    pub(crate) const fn frame_limit(&self) -> usize {
        self.config.payload_limit + FRAME_SLACK
    }

    fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) -> tokio::task::AbortHandle {
        let mut tasks = lock(&self.tasks);
        while tasks.try_join_next().is_some() {}
        tasks.spawn(task)
    }

    /// R10, for a life that has proved that it is of this cluster. A newer life ends the links of
    /// the older one, once those are closed or silent.
    pub(crate) fn admit(&self, hello: &Hello) -> Result<(), LinkError> {
        let mut peers = lock(&self.peers);
        self.check_known(&peers, hello)?;
        let node = hello.node;
        let found = (hello.incarnation, hello.boot);
        let known = peers.known.insert(node, found);
        if known.is_some_and(|known| known != found) {
            for class in [Class::Control, Class::Data] {
                if let Some(old) = peers.inbound.remove(&(node, class)) {
                    old.kill();
                }
            }
        }
        Ok(())
    }

    fn check_known(&self, peers: &Peers, hello: &Hello) -> Result<(), LinkError> {
        let node = hello.node;
        let Some((incarnation, boot)) = peers.known.get(&node).copied() else {
            return Ok(());
        };
        if hello.incarnation < incarnation {
            return Err(LinkError::OldLife {
                node,
                known: incarnation,
                found: hello.incarnation,
            });
        }
        if hello.incarnation == incarnation && hello.boot != boot {
            return Err(LinkError::SecondProcess {
                node,
                incarnation,
                known: boot,
                found: hello.boot,
            });
        }
        let newer = hello.incarnation > incarnation;
        let alive = |class| {
            let old = peers.inbound.get(&(node, class));
            old.is_some_and(|old| old.is_alive())
        };
        if newer && [Class::Control, Class::Data].into_iter().any(alive) {
            return Err(LinkError::StillAlive {
                node,
                known: incarnation,
            });
        }
        Ok(())
    }

    fn inbound(&self, shaken: &Shaken) -> Result<Arc<Inbound>, LinkError> {
        let hello = &shaken.hello;
        let fresh = || {
            let remote = Remote::of(hello, shaken.protocol);
            let limit = self.config.payload_limit;
            let handler = Arc::clone(&self.handler);
            Arc::new(Inbound::new(remote, self.config.credit, limit, handler))
        };
        if hello.class == Class::Ask {
            if hello.node != NodeId(0) {
                let peers = lock(&self.peers);
                match self.check_known(&peers, hello) {
                    // Whether a new life may replace an old one is what it asks.
                    Ok(()) | Err(LinkError::StillAlive { .. }) => {}
                    Err(error) => return Err(error),
                }
            }
            return Ok(fresh());
        }
        self.admit(hello)?;
        let mut peers = lock(&self.peers);
        let inbound = peers
            .inbound
            .entry((hello.node, hello.class))
            .or_insert_with(fresh);
        Ok(Arc::clone(inbound))
    }

    async fn accept(self: Arc<Self>) {
        let mut unfinished: VecDeque<tokio::task::AbortHandle> = VecDeque::new();
        loop {
            let connection = match self.transport.accept().await {
                Ok(connection) => connection,
                // Out of descriptors, or the like: it passes.
                Err(_) => {
                    sleep(Duration::from_millis(50)).await;
                    continue;
                }
            };
            unfinished.retain(|task| !task.is_finished());
            if unfinished.len() >= HANDSHAKES
                && let Some(oldest) = unfinished.pop_front()
            {
                oldest.abort();
            }
            let shared = Arc::clone(&self);
            unfinished.push_back(self.spawn(shared.shake(connection)));
        }
    }

    async fn shake(self: Arc<Self>, connection: Connection) {
        let from = connection.peer.clone();
        let identity = self.identity();
        match handshake::listen(connection, &identity, &self.security).await {
            Ok(shaken) => {
                let shared = Arc::clone(&self);
                self.spawn(shared.serve(shaken, from));
            }
            Err(why) => self.refused(from, &why),
        }
    }

    fn refused(&self, from: String, why: &LinkError) {
        let why = why.to_string();
        self.handler.event(LinkEvent::Refused { from, why });
    }

    async fn serve(self: Arc<Self>, shaken: Shaken, from: String) {
        let link = shaken.hello.link;
        let opened = self.inbound(&shaken).and_then(|inbound| {
            let way = inbound.open(link, shaken.protocol)?;
            Ok((inbound, way))
        });
        let (read, mut write) = tokio::io::split(shaken.stream);
        let (inbound, way) = match opened {
            Ok(opened) => opened,
            Err(why) => {
                self.refused(from, &why);
                let why = why.to_string();
                let told = async {
                    write
                        .write_all(&frame(&[Envelope::Refused { why }]))
                        .await?;
                    write.shutdown().await
                };
                let _ = timeout(HANDSHAKE_TIMEOUT, told).await;
                return;
            }
        };
        let remote = Box::new(Remote::of(&shaken.hello, shaken.protocol));
        self.handler.event(LinkEvent::Accepted(remote));
        let mut reader = FrameReader::new(read, self.frame_limit());
        let ended = tokio::select! {
            ended = way.queue.write_to(&mut write, || Envelope::Ping) => ended,
            ended = inbound.read(&mut reader, link) => ended,
            () = way.stop.notified() => Ok(()),
        };
        inbound.closed(link);
        match ended {
            Ok(()) | Err(LinkError::Closed | LinkError::Io(_) | LinkError::Silent(_)) => {}
            Err(why) => self.refused(from, &why),
        }
    }
}

/// Ends everything with the last handle.
#[derive(Debug)]
struct Guard(Arc<Shared>);

impl Drop for Guard {
    fn drop(&mut self) {
        lock(&self.0.tasks).abort_all();
        for outbound in lock(&self.0.peers).outbound.values() {
            outbound.gone();
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
    /// Begins to take links. Others are opened when something is sent.
    ///
    /// # Errors
    /// If secrets or certificates cannot be used.
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
            security,
            transport,
            handler,
            peers: Mutex::default(),
            tasks: Mutex::default(),
        });
        shared.spawn(Arc::clone(&shared).accept());
        Ok(Self {
            _guard: Arc::new(Guard(Arc::clone(&shared))),
            shared,
        })
    }

    /// This node has joined, or says something else of itself from now on. Links that are open stay.
    pub fn set_identity(&self, identity: Identity) {
        *lock(&self.shared.identity) = identity;
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

    /// What the table says of a life: older ones, and other processes of it, are refused (R10).
    pub fn set_known(&self, member: Member, boot: BootId) {
        let mut peers = lock(&self.shared.peers);
        let known = peers
            .known
            .entry(member.id)
            .or_insert((member.incarnation, boot));
        if member.incarnation > known.0 {
            *known = (member.incarnation, boot);
        }
    }

    /// A node is dead or removed: its links end, what is unanswered is told so.
    pub fn forget_peer(&self, peer: NodeId) {
        let mut peers = lock(&self.shared.peers);
        peers.addrs.remove(&peer);
        for class in [Class::Control, Class::Data] {
            if let Some(outbound) = peers.outbound.remove(&(peer, class)) {
                outbound.gone();
            }
            if let Some(inbound) = peers.inbound.remove(&(peer, class)) {
                inbound.kill();
            }
        }
    }

    /// Where the link to a peer stands.
    pub fn state(&self, peer: NodeId, class: Class) -> LinkState {
        let peers = lock(&self.shared.peers);
        let outbound = peers.outbound.get(&(peer, class));
        outbound.map_or(LinkState::Idle, |outbound| outbound.link_state())
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
        let shared = &self.shared;
        let outbound = Arc::new(Outbound::new(
            None,
            Class::Ask,
            vec![addr.to_owned()],
            shared.config.credit,
            shared.config.payload_limit,
        ));
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
        let config = &self.shared.config;
        let outbound = Arc::new(Outbound::new(
            Some(peer),
            class,
            addrs,
            config.credit,
            config.payload_limit,
        ));
        peers.outbound.insert((peer, class), Arc::clone(&outbound));
        drop(peers);
        let run = Arc::clone(&outbound).run(Arc::clone(&self.shared));
        self.shared.spawn(run);
        Ok(outbound)
    }
}

#[cfg(test)]
mod tests;
