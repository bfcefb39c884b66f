//! What a node's part in the cluster is started with.

use std::fmt;
use std::net::TcpListener;
use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Handle;

use super::home::{Home, HomeError};
use super::names::{Names, SystemNames};
use crate::handoff::HandoffConfig;
use crate::peer::{SecurityConfig, SecurityError, Transport};
use crate::raft::{self, Timing};
use crate::{Now, Roles, Serves, ShardLayout, allocation};

/// Where peers come in, and how they are dialled.
#[derive(Debug)]
pub enum Door {
    /// TCP; seeds are addresses or DNS names, with a port.
    Tcp(TcpListener),
    /// Something else; seeds are dialled as they stand.
    Over(Arc<dyn Transport>),
}

/// What a node's part in the cluster is started with.
pub struct ClusterConfig {
    /// What the node keeps from one start to the next: a [`DataDir`](crate::member::DataDir).
    pub home: Box<dyn Home>,
    /// Its name.
    pub name: String,
    /// Where peers come in.
    pub door: Door,
    /// Where others dial it, in order.
    pub advertise: Vec<String>,
    /// Whom to ask at a join: addresses or DNS names, with a port.
    pub seeds: Vec<String>,
    /// Looks up the names of seeds, where the door is TCP.
    pub names: Arc<dyn Names>,
    /// What it is there for.
    pub roles: Roles,
    /// Which events it runs.
    pub serves: Serves,
    /// How often it asks for its lease.
    pub heartbeat: Duration,
    /// Raft's timers.
    pub timing: Timing,
    /// Limits of moves.
    pub handoff: HandoffConfig,
    /// How many moves may be open in the table.
    pub open_limit: usize,
    /// Once this node has drained for so long, nothing limits its moves any more: half of the grace.
    pub lift_after: Duration,
    /// How strangers are kept out of links.
    pub security: SecurityConfig,
    /// The largest payload of a link, in bytes.
    pub payload_limit: usize,
    /// Its build, for example `1.4.0+3f2a`.
    pub build: String,
    /// A hash of its routes, to warn of nodes that differ.
    pub routes_hash: u64,
    /// How many workers report their progress.
    pub workers: usize,
    /// Which slots share a shard; `None`: a parked shard is that of one slot.
    pub layout: Option<ShardLayout>,
    /// Reads both clocks.
    pub now: Now,
    /// Where leases, Raft and control links run; `None`: on a thread of their own.
    pub control: Option<Handle>,
    /// Where data links run and what comes on them is handed over, those of a peer all on one; empty:
    /// beside the control links.
    pub data: Vec<Handle>,
}

impl ClusterConfig {
    /// The defaults, for this home, name and door, dialled at these addresses.
    pub fn new(
        home: Box<dyn Home>,
        name: &str,
        door: Door,
        advertise: Vec<String>,
        now: Now,
    ) -> Self {
        Self {
            home,
            name: name.to_owned(),
            door,
            advertise,
            seeds: Vec::new(),
            names: Arc::new(SystemNames),
            roles: Roles {
                voter: true,
                ingress: true,
                region: true,
            },
            serves: Serves {
                connect: true,
                channel: true,
                rpc: vec!["*".to_owned()],
            },
            heartbeat: Duration::from_millis(200),
            timing: Timing::default(),
            handoff: HandoffConfig::default(),
            open_limit: allocation::OPEN_LIMIT,
            lift_after: Duration::from_millis(12_500),
            security: SecurityConfig::default(),
            payload_limit: 4 * 1024 * 1024,
            build: env!("CARGO_PKG_VERSION").to_owned(),
            routes_hash: 0,
            workers: 0,
            layout: None,
            now,
            control: None,
            data: Vec::new(),
        }
    }
}

impl fmt::Debug for ClusterConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClusterConfig")
            .field("name", &self.name)
            .field("advertise", &self.advertise)
            .field("seeds", &self.seeds)
            .finish_non_exhaustive()
    }
}

/// Why a node's part in the cluster does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// What it keeps cannot be used.
    #[error(transparent)]
    Home(#[from] HomeError),
    /// The secrets or certificates of links cannot be used.
    #[error(transparent)]
    Security(#[from] SecurityError),
    /// Raft does not start.
    #[error(transparent)]
    Raft(#[from] raft::Error),
    /// The system refuses a thread, a runtime or the listener.
    #[error("cluster: {0}")]
    System(#[from] std::io::Error),
}
