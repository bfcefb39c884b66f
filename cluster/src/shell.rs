//! The shell of a node: one task that owns its machines, reads the clocks, performs what the machines
//! want, and reports back. [`Cluster`] is the handle on it.
//!
//! It is the one writer of the [`Standing`], drives [`Region`], [`Ingress`] and [`StateStore`], and is
//! on its own thread and runtime, so that no busy data path delays a lease.
//!
//! | To change | Open |
//! |---|---|
//! | the loop, the order in which it listens | `shell/core.rs`, `shell/event.rs` |
//! | what a changed table means, birth and death of a life | `shell/life.rs` |
//! | what machines want done | `shell/effects.rs`; the leader's part: `shell/leading.rs` |
//! | control messages, questions, links | `shell/deliver.rs`; kinds and bytes: `shell/wire.rs` |
//! | who gets the table from whom | `shell/feed.rs` |
//! | a recovery that was missed | `shell/estranged.rs` |
//! | names of seeds | `shell/names.rs` |
//! | joining; Raft here; leaving | `shell/join.rs`; `shell/voter.rs`; `shell/leave.rs` |
//! | a leader that leaves hands over | `shell/succession.rs` |
//! | a drain whose time is half over | `shell/hurry.rs` |
//! | values of slots that move | `shell/values.rs` |
//! | shards that are parked | `shell/parked.rs` |
//! | what operators see and ask | `shell/operate.rs`; the handle's side: `shell/operations.rs` |
//! | lines of the log that repeat; who a process speaks as | `shell/quiet.rs`; `shell/spoke.rs` |
//! | what is told of how things stand | `shell/status.rs`; times: `shell/counts.rs` |

mod config;
mod core;
mod counts;
mod deliver;
mod effects;
mod estranged;
mod event;
mod feed;
mod home;
mod hurry;
mod join;
mod leading;
mod leave;
mod life;
mod names;
mod operate;
mod operations;
mod parked;
mod quiet;
mod spoke;
mod status;
mod succession;
#[cfg(test)]
mod tests;
mod values;
mod voter;
mod wire;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwapOption;
use bytes::Bytes;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::sync::{oneshot, watch};
use tokio::time::Instant;

pub use self::config::{ClusterConfig, Door, StartError};
pub use self::counts::Counts;
pub use self::home::{Home, HomeError, MemoryHome};
pub use self::names::{LookingUp, Names, SystemNames};
pub use self::status::Status;

use self::core::{Core, Setup};
use self::counts::Unserved;
use self::event::{Event, Order};
use self::feed::{Feed, Follow};
use self::leave::Leaving;
use self::operate::Watched;
use self::parked::Shards;
use self::quiet::Quiet;
use self::values::Arrivals;
use self::voter::Raft;
use self::wire::Calls;
use crate::lease::Progress;
use crate::peer::{Answer, Class, LinkConfig, Links, RequestError, Tcp, Transport};
use crate::store::StateStore;
use crate::{Command, Ingress, NodeChange, NodeId, Now, Outcome, Region, Report, Standing};

/// The handle on a node's part in its cluster. A clone is the same one; it ends with the last.
#[derive(Clone)]
pub struct Cluster {
    events: UnboundedSender<Event>,
    status: watch::Receiver<Status>,
    counts: Arc<Counts>,
    links: Links,
    now: Now,
    _end: Arc<End>,
}

impl fmt::Debug for Cluster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cluster")
            .field("me", &self.status.borrow().me)
            .finish_non_exhaustive()
    }
}

/// Stops the loop with the last handle.
#[derive(Debug)]
struct End(UnboundedSender<Event>);

impl Drop for End {
    fn drop(&mut self) {
        let (done, _) = oneshot::channel();
        drop(self.0.send(Event::Order(Order::Stop(done))));
    }
}

impl Cluster {
    /// Starts the node's part in the cluster: it takes links, runs Raft if it keeps a log, joins by
    /// its seeds or founds, and writes the standing from then on. It is not up before
    /// [`ready`](Self::ready).
    ///
    /// # Errors
    /// If what the node keeps is damaged, or links, Raft or the system refuse.
    pub async fn start(
        mut config: ClusterConfig,
        standing: Arc<Standing>,
        store: Arc<dyn StateStore>,
        region: Arc<dyn Region>,
        ingress: Arc<dyn Ingress>,
    ) -> Result<Self, StartError> {
        let (started, wait) = oneshot::channel();
        let control = config.control.take();
        let begin = async move {
            match begin(config, standing, store, region, ingress).await {
                Ok((cluster, core, events, reports)) => {
                    if started.send(Ok(cluster)).is_ok() {
                        core.run(events, reports).await;
                    }
                }
                Err(why) => drop(started.send(Err(why))),
            }
        };
        match control {
            Some(handle) => drop(handle.spawn(begin)),
            None => {
                let runtime = tokio::runtime::Builder::new_current_thread()
                    .enable_all()
                    .build()?;
                std::thread::Builder::new()
                    .name("cluster".to_owned())
                    .spawn(move || {
                        runtime.block_on(begin);
                        runtime.shutdown_timeout(Duration::from_secs(1));
                    })?;
            }
        }
        wait.await
            .unwrap_or_else(|_| Err(std::io::Error::other("its thread broke off").into()))
    }

    /// Listeners, pools and store are ready, or are not yet: once they are, the node is up as soon as
    /// the table names it, and gets slots.
    pub fn ready(&self, ready: bool) {
        self.order(Order::Ready(ready));
    }

    /// The node serves other groups, is reached elsewhere, or has other routes from now on. A state
    /// is not changed by this.
    pub fn change(&self, change: NodeChange) {
        self.order(Order::Change(change));
    }

    /// How things stand now.
    pub fn status(&self) -> Status {
        let mut status = self.status.borrow().clone();
        let since = (self.now)().longest_since(status.at);
        status.lease_left = status.lease_left.saturating_sub(since);
        status.table_age = status.table_age.map(|age| age.saturating_add(since));
        status
    }

    /// How things stand, now and some 40 times a second.
    pub fn watch(&self) -> watch::Receiver<Status> {
        self.status.clone()
    }

    /// What was measured since the start.
    pub fn counts(&self) -> &Counts {
        &self.counts
    }

    /// Waits until the node is in the table.
    ///
    /// # Errors
    /// In words, why it is refused for now: it goes on asking.
    pub async fn joined(&self) -> Result<(), String> {
        let mut status = self.status.clone();
        let seen = status
            .wait_for(|status| status.state.is_some() || status.refused.is_some())
            .await
            .map_err(|_| "the cluster's part of the node has ended".to_owned())?;
        match (&seen.state, &seen.refused) {
            (None, Some(why)) => Err(why.clone()),
            _ => Ok(()),
        }
    }

    /// Waits until the process must end, and says why. After it the process ends with exit code 70.
    pub async fn fatal(&self) -> String {
        let mut status = self.status.clone();
        let seen = status.wait_for(|status| status.fatal.is_some()).await;
        let why = seen.ok().and_then(|status| status.fatal.clone());
        match why {
            Some(why) => why,
            // It has been stopped.
            None => std::future::pending().await,
        }
    }

    /// Commits a command, where this node leads.
    ///
    /// # Errors
    /// In words, if it does not lead, or the command is not committed in time. That the table refuses
    /// stands in the outcome.
    pub async fn propose(&self, command: Command) -> Result<Outcome, String> {
        let (answer, wait) = oneshot::channel();
        self.order(Order::Propose(command, answer));
        wait.await
            .unwrap_or_else(|_| Err("this node leads no more".to_owned()))
    }

    /// Gives all slots away. Says whether none was left within the grace; from half of it on, nothing
    /// limits how many move at once.
    pub async fn drain(&self, grace: Duration) -> bool {
        let (done, wait) = oneshot::channel();
        self.order(Order::Drain(grace, done));
        wait.await.unwrap_or(false)
    }

    /// Waits until nothing that peers sent is under way here, for so long at most; then the node
    /// stops acting and tells the leader, which takes over at once what is left.
    pub async fn leave(&self, within: Duration) {
        let (done, wait) = oneshot::channel();
        self.order(Order::Leave(within, done));
        drop(wait.await);
    }

    /// Stops everything here, at once and without a word to anyone.
    pub async fn stop(&self) {
        let (done, wait) = oneshot::channel();
        self.order(Order::Stop(done));
        drop(wait.await);
    }

    /// Sends a request on the data link to a node. Requests to one node start there in this order.
    ///
    /// # Errors
    /// If the node is not known, too much waits for it, or the payload is too large.
    pub fn request(
        &self,
        node: NodeId,
        kind: u8,
        payload: Bytes,
        deadline: Instant,
    ) -> Result<Answer, RequestError> {
        self.links
            .request(node, Class::Data, kind, payload, deadline)
    }

    /// The links of this node.
    pub const fn links(&self) -> &Links {
        &self.links
    }

    fn order(&self, order: Order) {
        drop(self.events.send(Event::Order(order)));
    }
}

type Begun = (
    Cluster,
    Core,
    UnboundedReceiver<Event>,
    UnboundedReceiver<Report>,
);

/// Builds everything, on the runtime that it is to run on.
async fn begin(
    config: ClusterConfig,
    standing: Arc<Standing>,
    store: Arc<dyn StateStore>,
    region: Arc<dyn Region>,
    ingress: Arc<dyn Ingress>,
) -> Result<Begun, StartError> {
    let (events, to_events) = unbounded_channel();
    let (reports, to_reports) = unbounded_channel();
    region.reports(reports);
    let me = home::member(config.home.as_ref());
    let boot = config.home.boot();
    let (transport, names): (Arc<dyn Transport>, _) = match config.door {
        Door::Tcp(listener) => {
            listener.set_nonblocking(true)?;
            let listener = tokio::net::TcpListener::from_std(listener)?;
            (Arc::new(Tcp::new(listener)), Some(config.names))
        }
        Door::Over(transport) => (transport, None),
    };
    let raft_slot = Arc::new(ArcSwapOption::empty());
    let door = wire::Door {
        events: events.clone(),
        raft: Arc::clone(&raft_slot),
        ingress: Arc::clone(&ingress),
    };
    let link_config = LinkConfig {
        security: config.security,
        payload_limit: config.payload_limit,
        data_runtimes: config.data,
        ..LinkConfig::default()
    };
    let greeting = life::greeting(
        config.home.as_ref(),
        me,
        &config.name,
        &config.advertise,
        config.routes_hash,
        &config.build,
    );
    let links = Links::start(link_config, greeting, transport, Arc::new(door))?;
    let (status, status_seen) = watch::channel(Status::default());
    let counts = Arc::new(Counts::default());
    let mut core = Core {
        setup: Setup {
            name: config.name,
            advertise: config.advertise,
            seeds: config.seeds,
            names,
            roles: config.roles,
            heartbeat: config.heartbeat,
            timing: config.timing,
            handoff: config.handoff,
            open_limit: config.open_limit,
            lift_after: config.lift_after,
            payload_limit: config.payload_limit,
            build: config.build,
            layout: config.layout,
        },
        serves: config.serves,
        routes_hash: config.routes_hash,
        home: config.home,
        me,
        boot,
        links: links.clone(),
        standing,
        store,
        region,
        ingress,
        now: Arc::clone(&config.now),
        events: events.clone(),
        status,
        counts: Arc::clone(&counts),
        unserved: Unserved::default(),
        quiet: Quiet::default(),
        newest: 0,
        view: None,
        life: None,
        raft: None,
        raft_slot,
        learning: None,
        lead: None,
        tending: false,
        members_seen: Vec::new(),
        asked: BTreeMap::new(),
        registering: BTreeMap::new(),
        spoke: spoke::Spoke::default(),
        leader: None,
        acked: None,
        current: None,
        quorum: false,
        greeted: BTreeMap::new(),
        feed: Feed::new(),
        follow: Follow::default(),
        joining: None,
        join_again: Duration::ZERO,
        refused: None,
        unheard: (0, BTreeSet::new()),
        progress: Progress::new(config.workers, (config.now)()),
        shards: Shards::default(),
        watched: Watched::default(),
        in_touch: (config.now)().raw,
        ready: false,
        asked_leader: Duration::ZERO,
        leaving: Leaving::default(),
        prepared: BTreeMap::new(),
        arriving: Arrivals::default(),
        arrived: BTreeMap::new(),
        sending: BTreeMap::new(),
        attempts: 0,
        resumed: VecDeque::new(),
        parting: Vec::new(),
    };
    if let Some(log) = core.home.store() {
        let founds = core.home.founds()?.then(|| core.setup.advertise.clone());
        // Whoever is to be called must be known before the first call.
        let calls = Calls(links.clone());
        core.take_table(log.genesis().map_err(crate::raft::Error::from)?);
        let raft = Raft::start(&log, core.setup.timing, calls, founds).await?;
        core.raft_runs(raft);
    }
    let cluster = Cluster {
        events: events.clone(),
        status: status_seen,
        counts,
        links,
        now: config.now,
        _end: Arc::new(End(events)),
    };
    Ok((cluster, core, to_events, to_reports))
}
