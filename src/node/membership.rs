//! A node's part in its cluster, if it has one: started behind the engine, up once the rest is ready,
//! given away at the end.

use crate::config::{ClusterConfig, Config};
use crate::engine::Engine;
use crate::forward::Seat;
use centripeta_cluster::lease::Clock;
use centripeta_cluster::member::DataDir;
use centripeta_cluster::{
    self as cluster, Cluster, Ended, NodeChange, NodeState, Now, Serves, Standing, StartError,
    Status,
};
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::runtime::Handle;
use tokio::time::Instant;

/// A table of this age is not to be trusted.
const STALE: Duration = Duration::from_secs(2);
/// What a leave may take beyond the grace: the leader has to hear of it.
const LAST_WORD: Duration = Duration::from_secs(1);
/// How often a drain looks whether anyone is left to give slots to.
const LOOK: Duration = Duration::from_millis(50);
/// A drain goes on without a quorum for so long: longer than a takeover, far shorter than whoever stops
/// a process waits.
const WITHOUT_QUORUM: Duration = Duration::from_secs(4);

/// Why a node does not take part in its cluster.
#[derive(Debug, thiserror::Error)]
pub enum ClusterError {
    /// What it keeps on disk.
    #[error(transparent)]
    Home(#[from] cluster::member::Error),
    /// Links, Raft, the system.
    #[error(transparent)]
    Start(#[from] StartError),
    /// The listener.
    #[error("the listener of the cluster: {0}")]
    Listener(#[from] io::Error),
}

/// What stands before the engine: the node's place in the cluster, or none.
pub(super) struct Prospect {
    /// What the data path asks.
    pub(super) standing: Arc<Standing>,
    /// How events are forwarded, in a cluster.
    pub(super) seat: Option<Seat>,
    entry: Option<Entry>,
}

/// What the start of the cluster's part needs.
struct Entry {
    home: DataDir,
    now: Now,
    listener: std::net::TcpListener,
}

impl Prospect {
    /// Opens what the node keeps on disk; `listener` is bound if and only if there is a cluster.
    ///
    /// # Errors
    /// Another process has the folder, or what is there may not be used.
    pub(super) async fn open(
        config: &Config,
        listener: Option<tokio::net::TcpListener>,
    ) -> Result<Self, ClusterError> {
        let (Some(section), Some(listener)) = (&config.cluster, listener) else {
            return Ok(Self {
                standing: Arc::new(Standing::alone(&config.node.name)),
                seat: None,
                entry: None,
            });
        };
        let folder = config.node.data.clone();
        let opened = tokio::task::spawn_blocking(move || DataDir::open(&folder)).await;
        let home = opened.map_err(io::Error::other)??;
        let now: Now = Arc::new(Clock::read);
        Ok(Self {
            standing: Arc::new(Standing::new(Arc::clone(&now))),
            seat: Some(Seat {
                serve_stateless_isolated: section.serve_stateless_isolated,
            }),
            entry: Some(Entry {
                home,
                now,
                listener: listener.into_std()?,
            }),
        })
    }

    /// Starts the node's part in the cluster, over an engine that runs on these cores.
    ///
    /// # Errors
    /// What is kept is damaged, or the system refuses.
    pub(super) async fn enter(
        self,
        config: &Config,
        engine: &Engine,
        cores: &[Handle],
    ) -> Result<Option<Membership>, ClusterError> {
        let (Some(section), Some(entry)) = (&config.cluster, self.entry) else {
            return Ok(None);
        };
        let Some(ingress) = engine.ingress() else {
            return Ok(None);
        };
        let advertised = section.advertised(entry.listener.local_addr()?);
        let door = cluster::Door::Tcp(entry.listener);
        let name = &config.node.name;
        let mut settings = cluster::ClusterConfig::new(
            Box::new(entry.home),
            name,
            door,
            vec![advertised],
            entry.now,
        );
        fill(&mut settings, config, section);
        settings.routes_hash = engine.routes_hash();
        settings.workers = engine.cores();
        // Beside the events that come and go on them: a hop to another thread would cost as much as
        // the rest of the way.
        settings.data = cores.to_vec();
        let standing = self.standing;
        let started = Cluster::start(settings, standing, engine.store(), engine.region(), ingress);
        let cluster = started.await?;
        engine.connect(Arc::new(cluster.links().clone()));
        Ok(Some(Membership { cluster }))
    }
}

fn fill(settings: &mut cluster::ClusterConfig, config: &Config, section: &ClusterConfig) {
    settings.seeds.clone_from(&section.seeds);
    settings.roles = config.node.roles;
    settings.serves = config.node.serves.clone();
    settings.heartbeat = section.lease.heartbeat;
    settings.timing = section.timing();
    settings.handoff = section.handoff();
    settings.open_limit = section.moves.open_limit;
    settings.lift_after = config.limits.shutdown_grace / 2;
    settings.security = section.security();
    settings.payload_limit = config.limits.message_bytes;
}

/// A node's part in its cluster. Clones share it.
#[derive(Debug, Clone)]
pub(crate) struct Membership {
    cluster: Cluster,
}

impl Membership {
    /// The handle.
    pub(crate) const fn cluster(&self) -> &Cluster {
        &self.cluster
    }

    /// The rest of the node is ready: it may get slots.
    pub(super) fn is_ready(&self) {
        self.cluster.ready(true);
    }

    /// Another configuration runs from now on.
    pub(super) fn changed(&self, serves: Serves, engine: &Engine) {
        let hash = engine.routes_hash();
        self.cluster.change(NodeChange::RoutesHash(hash));
        self.cluster.change(NodeChange::Serves(serves));
    }

    /// Whether the node takes part; else why not, in words.
    ///
    /// # Errors
    /// It does not.
    pub(crate) fn ready(&self) -> Result<(), String> {
        readiness(&self.cluster.status())
    }

    /// What makes too little progress, in words, if something does: the node then gets no new slots,
    /// and may lose its lease. It is ready all the same while it has one.
    pub(crate) fn degraded(&self) -> Option<String> {
        degraded(&self.cluster.status())
    }

    /// The node's part in a few words, for whoever watches the process.
    pub(super) fn summary(&self) -> String {
        summary(&self.cluster.status())
    }

    /// Gives all slots away, while there is anybody to give them to and a quorum to say so. Says whether
    /// none is left.
    pub(super) async fn drain(&self, standing: &Standing, grace: Duration) -> bool {
        let in_vain = async {
            let mut seen = Instant::now();
            loop {
                let now = Instant::now();
                if self.cluster.status().quorum {
                    seen = now;
                }
                if let Some(why) = vain(has_heirs(standing), now.duration_since(seen)) {
                    return why;
                }
                tokio::time::sleep(LOOK).await;
            }
        };
        tokio::select! {
            drained = self.cluster.drain(grace) => drained,
            why = in_vain => {
                tracing::warn!("{why}");
                false
            }
        }
    }

    /// Says that the node has stopped, so that nobody waits for its lease to end.
    pub(super) async fn leave(&self, end: Instant) {
        let left = end.saturating_duration_since(Instant::now());
        // Without a quorum peers are out of reach, or about to end themselves.
        let hears = self.cluster.status().quorum;
        let within = if hears {
            left.max(LAST_WORD)
        } else {
            LAST_WORD
        };
        self.cluster.leave(within).await;
        self.cluster.stop().await;
    }
}

/// Whether a node of this status takes part in its cluster; else why not, in words.
fn readiness(status: &Status) -> Result<(), String> {
    match status.state {
        _ if status.refused.is_some() && status.state.is_none() => Err(format!(
            "not in the cluster: {}",
            status.refused.as_deref().unwrap_or_default()
        )),
        None => Err("joining the cluster: no member of it has answered yet".to_owned()),
        Some(NodeState::Joining) => Err("joining the cluster".to_owned()),
        Some(NodeState::Draining) => Err("draining: slots move to other nodes".to_owned()),
        Some(NodeState::Dead | NodeState::Removed) => {
            Err("the cluster holds this node for dead; it joins again".to_owned())
        }
        Some(NodeState::Up) if status.lease_left.is_zero() => Err(degraded(status).map_or_else(
            || "no lease: the leader, or a quorum, is out of reach".to_owned(),
            |why| format!("no lease: {why}"),
        )),
        Some(NodeState::Up) if status.table_age.is_none_or(|age| age >= STALE) => {
            Err("the table is out of date: no voter is in reach".to_owned())
        }
        Some(NodeState::Up) => Ok(()),
    }
}

/// What makes too little progress: a core, by its number, or the task that renews the lease.
fn degraded(status: &Status) -> Option<String> {
    status.degraded.map(|worker| match worker {
        Some(core) => format!("core {core} makes too little progress"),
        None => "the lease timer was late".to_owned(),
    })
}

/// A node's part in its cluster in a few words.
fn summary(status: &Status) -> String {
    if let Err(why) = readiness(status) {
        return why;
    }
    let mut words = format!("up with {} slots", status.slots);
    if status.leads {
        words.push_str(", leads");
    }
    if let Some(why) = degraded(status) {
        words.push_str(&format!(", degraded: {why}"));
    }
    if status.vacant > 0 {
        words.push_str(&format!(", {} slots without an owner", status.vacant));
    }
    words
}

/// What a drain has ended, beside the events that it let finish; `None` if nothing.
pub(super) fn ended_words(ended: Ended) -> Option<String> {
    let Ended { cut, streams } = ended;
    (cut + streams > 0).then(|| {
        format!(
            "the drain has cut {cut} events at `cluster.moves.release_timeout` and ended {streams} \
             streams as their slots moved"
        )
    })
}

/// Why it is in vain to wait for slots to go, if it is: whether others can take them, and for how long
/// there has been no quorum.
fn vain(has_heirs: bool, without_quorum: Duration) -> Option<&'static str> {
    if !has_heirs {
        return Some("no other node can take the slots of this one");
    }
    (without_quorum >= WITHOUT_QUORUM)
        .then_some("no quorum is in reach, so the slots of this node can't be given away")
}

/// Whether another node may own slots.
fn has_heirs(standing: &Standing) -> bool {
    let shown = standing.shown();
    shown.table.nodes().iter().any(|(id, node)| {
        *id != shown.me.id
            && node.state == NodeState::Up
            && node.roles.region
            && node.serves.channel
    })
}

#[cfg(test)]
mod tests;
