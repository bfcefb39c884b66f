//! Starts an engine: its first plan, its cores, the supervision of their actors.

use super::children::{pipeline, region};
use super::compile::{Compiled, EngineError};
use crate::egress::{Egress, Publisher};
use crate::engine::faults::Faults;
use crate::engine::limits::{EngineLimits, Limits};
use crate::engine::replace::Ground;
use crate::engine::shared::{Apart, Core, Gauge, Shared};
use crate::engine::{Drain, Engine};
use crate::forward::{Forward, Seat};
use crate::metrics::Metrics;
use crate::region::{Shard, Slots, report_progress};
use crate::router::Router;
use crate::supervision::{ChildId, Supervisor};
use crate::trace::Tracer;
use crate::watchdog::{self, Activities};
use crate::worker::pools::Pools;
use arc_swap::ArcSwap;
use centripeta_cluster::store::MemoryStore;
use centripeta_cluster::{ShardLayout, Standing};
use ractor::Actor;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;
use tokio::runtime::Handle;
use tokio::sync::watch;

/// How an engine is run.
#[derive(Debug, Clone)]
pub struct EngineConfig {
    /// The node's name.
    pub node: String,
    /// Admission.
    pub limits: EngineLimits,
    /// Shard actors a core, 8 to 64.
    pub shards_per_core: u16,
    /// How long a kept lane stays idle.
    pub passivate_after: Duration,
    /// How long code may hold a core before the watchdog names it.
    pub watchdog: Duration,
    /// The namespace boundary of channels, as Centrifugo has it.
    pub namespace_boundary: String,
    /// Whether events are counted for `/metrics`.
    pub metrics: bool,
    /// Who records what happens to events.
    pub tracer: Tracer,
    /// The node's place in a cluster; `None` for a node alone.
    pub cluster: Option<Seat>,
}

impl Engine {
    /// Compiles the router and starts its actors, one pipeline and one region on each of `cores`.
    ///
    /// # Errors
    /// The router contradicts itself, or actors and threads can't be started.
    pub async fn start(
        router: Router,
        config: EngineConfig,
        standing: Arc<Standing>,
        cores: &[Handle],
    ) -> Result<Self, EngineError> {
        Self::start_with(router, config, standing, cores, Publisher::closed()).await
    }

    /// The same with a publisher for its handlers; without one every call of theirs is refused.
    ///
    /// # Errors
    /// As for [`Engine::start`].
    pub async fn start_with(
        router: Router,
        config: EngineConfig,
        standing: Arc<Standing>,
        cores: &[Handle],
        publisher: Publisher,
    ) -> Result<Self, EngineError> {
        let egress = Arc::new(Egress {
            publisher,
            standing: Arc::clone(&standing),
        });
        let compiled = Compiled::try_new(router, &config.namespace_boundary)?;
        if config.cluster.is_some() {
            compiled.check_attributes()?;
        }
        let count = u16::try_from(cores.len()).unwrap_or(u16::MAX);
        let layout = ShardLayout::try_new(count, config.shards_per_core)?;
        let activities = Arc::new(Activities::default());
        let metrics = Metrics::new(config.metrics, cores.len());
        let own: Vec<Core> = cores.iter().map(|_| Core::default()).collect();
        let ground = Ground {
            boundary: &config.namespace_boundary,
            egress: &egress,
            activities: &activities,
            metrics: &metrics,
            rosters: own.iter().map(|core| &core.roster).collect(),
        };
        let plan = ground.plan(compiled, None)?;
        let shard = |index: u16| {
            let id = layout.shard(index).map_or(0, |id| layout.core_of(id));
            let core = usize::from(id);
            Arc::new(Shard::new(index, core, Arc::clone(&own[core].waiting)))
        };
        let shards = (0..layout.shards()).map(shard).collect();
        let (drain, drains) = watch::channel::<Option<Drain>>(None);
        let seat = config.cluster;
        let shared = Arc::new_cyclic(|shared| Shared {
            plan: ArcSwap::from_pointee(plan),
            boundary: config.namespace_boundary,
            egress,
            layout,
            forward: seat
                .map(|seat| Forward::start(Arc::clone(&standing), seat, shared.clone(), cores)),
            slots: Slots::new(standing.is_alone()),
            standing,
            shards,
            cores: own,
            store: Arc::new(MemoryStore::default()),
            in_flight: Apart::default(),
            streams: Gauge::default(),
            metrics,
            tracer: config.tracer,
            collectors: crate::rpc::Collectors::default(),
            faults: Faults::default(),
            activities: Arc::clone(&activities),
            limits: Limits::new(&config.limits),
            pools: Pools::default(),
            upstreams: crate::upstream::Upstreams::default(),
            node: config.node.into(),
            drains,
            draining: AtomicBool::new(false),
            closed: AtomicBool::new(false),
        });
        let mut children = Vec::new();
        for (core, handle) in cores.iter().enumerate() {
            let id = children.len() as ChildId;
            let after = config.passivate_after;
            children.push(region(id, core, handle.clone(), &shared, after));
            children.push(pipeline(id + 1, core, handle.clone(), &shared));
        }
        let (root, _) = Actor::spawn(None, Supervisor, children)
            .await
            .map_err(Box::new)?;
        report_progress(&shared, cores);
        let beats = shared
            .cores
            .iter()
            .map(|core| Arc::clone(&core.beat))
            .collect();
        let counted = Arc::clone(&shared);
        let stuck = move |core: usize| counted.cores[core].stuck.add_one();
        let watchdog = watchdog::spawn(config.watchdog, beats, activities, stuck)?;
        Ok(Self {
            shared,
            root,
            drain: Arc::new(drain),
            _watchdog: Arc::new(watchdog),
        })
    }
}
