//! What all links of a node share: who is known, which links are open, and the door.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::runtime::Handle;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::{HANDSHAKES, Handler, LinkConfig, LinkEvent, Remote};
use crate::peer::frame::{Envelope, FRAME_SLACK, FrameReader, frame};
use crate::peer::handshake::{self, HANDSHAKE_TIMEOUT, Security, Shaken};
use crate::peer::hello::{Class, Hello, Identity, LinkError};
use crate::peer::inbound::Inbound;
use crate::peer::outbound::Outbound;
use crate::peer::streams::EndWith;
use crate::peer::transport::{Connection, Transport};
use crate::{BootId, Incarnation, NodeId};

#[derive(Debug, Default)]
pub(super) struct Peers {
    pub(super) addrs: BTreeMap<NodeId, Vec<String>>,
    /// How often a peer was forgotten.
    pub(super) forgotten: u64,
    pub(super) known: BTreeMap<NodeId, (Incarnation, BootId)>,
    /// Those that are gone for good.
    pub(super) removed: BTreeSet<NodeId>,
    pub(super) outbound: BTreeMap<(NodeId, Class), Arc<Outbound>>,
    pub(super) inbound: BTreeMap<(NodeId, Class), Arc<Inbound>>,
}

impl Peers {
    /// What a node has open here ends; nothing of it starts any more.
    pub(super) fn end_inbound(&mut self, node: NodeId) {
        for class in [Class::Control, Class::Data] {
            if let Some(old) = self.inbound.remove(&(node, class)) {
                old.kill();
            }
        }
    }
}

/// What the links of a node share.
pub(crate) struct Shared {
    pub(super) identity: Mutex<Identity>,
    pub(super) config: LinkConfig,
    pub(super) security: Mutex<Arc<Security>>,
    pub(crate) transport: Arc<dyn Transport>,
    pub(crate) handler: Arc<dyn Handler>,
    /// Where everything runs that is not data.
    pub(super) runtime: Handle,
    pub(super) peers: Mutex<Peers>,
    pub(super) tasks: Mutex<JoinSet<()>>,
    pub(super) refused: Mutex<BTreeMap<&'static str, u64>>,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Shared").field(&self.identity).finish()
    }
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shared {
    pub(crate) fn identity(&self) -> Identity {
        lock(&self.identity).clone()
    }

    /// How strangers are kept out of links that open now.
    pub(crate) fn security(&self) -> Arc<Security> {
        Arc::clone(&lock(&self.security))
    }

    pub(crate) const fn frame_limit(&self) -> usize {
        self.config.payload_limit + FRAME_SLACK
    }

    pub(super) fn spawn(
        &self,
        (class, peer): (Class, NodeId),
        task: impl Future<Output = ()> + Send + 'static,
    ) -> tokio::task::AbortHandle {
        let mut tasks = lock(&self.tasks);
        while tasks.try_join_next().is_some() {}
        let data = &self.config.data_runtimes;
        let at = (peer.0 as usize).checked_rem(data.len());
        let runtime = at.filter(|_| class == Class::Data).map(|at| &data[at]);
        tasks.spawn_on(task, runtime.unwrap_or(&self.runtime))
    }

    /// R10, for a life that has proved that it is of this cluster. A newer life ends the links of
    /// the older one, once those are closed or silent.
    pub(crate) fn admit(&self, hello: &Hello) -> Result<(), LinkError> {
        Self::admit_to(&mut lock(&self.peers), hello)
    }

    fn admit_to(peers: &mut Peers, hello: &Hello) -> Result<(), LinkError> {
        Self::check_known(peers, hello)?;
        let node = hello.node;
        let found = (hello.incarnation, hello.boot);
        let known = peers.known.insert(node, found);
        if known.is_some_and(|known| known != found) {
            peers.end_inbound(node);
        }
        Ok(())
    }

    fn check_known(peers: &Peers, hello: &Hello) -> Result<(), LinkError> {
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
            let handler = Arc::clone(&self.handler);
            Arc::new(Inbound::new(remote, self.config.limits(), handler))
        };
        // Whether its life may replace another is what it asks: the leader says no in words that end it.
        if hello.class == Class::Ask {
            return Ok(fresh());
        }
        let mut peers = lock(&self.peers);
        if hello.class == Class::Data && peers.removed.contains(&hello.node) {
            return Err(LinkError::Removed(hello.node));
        }
        Self::admit_to(&mut peers, hello)?;
        let inbound = peers
            .inbound
            .entry((hello.node, hello.class))
            .or_insert_with(fresh);
        Ok(Arc::clone(inbound))
    }

    pub(super) async fn accept(self: Arc<Self>) {
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
                self.count("made_room");
            }
            let shared = Arc::clone(&self);
            unfinished.push_back(self.spawn((Class::Control, NodeId(0)), shared.shake(connection)));
        }
    }

    async fn shake(self: Arc<Self>, connection: Connection) {
        let from = connection.peer.clone();
        let identity = self.identity();
        match handshake::listen(connection, &identity, &self.security()).await {
            Ok(shaken) => {
                let shared = Arc::clone(&self);
                let of = (shaken.hello.class, shaken.hello.node);
                self.spawn(of, shared.serve(shaken, from));
            }
            Err(why) => self.refused(from, &why),
        }
    }

    fn count(&self, reason: &'static str) {
        *lock(&self.refused).entry(reason).or_default() += 1;
    }

    fn refused(&self, from: String, why: &LinkError) {
        let reason = why.label();
        self.count(reason);
        let why = why.to_string();
        let refused = LinkEvent::Refused { from, reason, why };
        self.handler.event(refused);
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
        let _end = EndWith(Arc::clone(&way.streams));
        let ended = tokio::select! {
            ended = way.queue.write_to(&mut write, || Envelope::Ping) => ended,
            ended = inbound.read(&mut reader, link, &way.streams) => ended,
            () = way.stop.notified() => Ok(()),
        };
        let why = match &ended {
            Ok(()) => "closed by the peer, which has no use for it".to_owned(),
            Err(why) => why.to_string(),
        };
        way.streams.lost(&why);
        inbound.closed(link, why);
        match ended {
            Ok(()) | Err(LinkError::Closed | LinkError::Io(_) | LinkError::Silent(_)) => {}
            Err(why) => self.refused(from, &why),
        }
    }
}
