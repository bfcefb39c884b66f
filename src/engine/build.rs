//! Starts an engine: its first plan, its cores, the supervision of their actors.

pub use super::compile::BuildError;
pub(crate) use super::compile::{Compiled, CompiledRoute, RouterProblem, check};

use crate::egress::{Egress, Publisher};
use crate::engine::faults::Faults;
use crate::engine::limits::{EngineLimits, Limits};
use crate::engine::replace::Ground;
use crate::engine::shared::{Core, Gauge, Shared};
use crate::engine::{Drain, Engine};
use crate::metrics::{ChildKind, Metrics};
use crate::pipeline::{Roster, Stage, StageActor, StageArgs};
use crate::region::{Shard, ShardActor, ShardArgs};
use crate::router::Router;
use crate::store::MemoryStore;
use crate::supervision::{Child, ChildId, Supervisor};
use crate::trace::Tracer;
use crate::watchdog::{self, Activities};
use arc_swap::ArcSwap;
use centripeta_cluster::{Ownership, ShardLayout};
use ractor::{Actor, ActorCell, SpawnErr};
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
}

/// Why an engine does not start.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// The router's routes or stages contradict each other.
    #[error("invalid routes: {0}")]
    Routes(#[from] BuildError),
    /// The cores and shards asked for can't be laid out.
    #[error("invalid layout: {0}")]
    Layout(#[from] centripeta_cluster::LayoutError),
    /// Threads could not be started.
    #[error("can't start threads: {0}")]
    Threads(#[from] std::io::Error),
    /// An actor could not be started.
    #[error("can't start actors: {0}")]
    Actors(#[from] Box<SpawnErr>),
}

impl Engine {
    /// Compiles the router and starts its actors, one pipeline and one region on each of `cores`.
    ///
    /// # Errors
    /// The router contradicts itself, or actors and threads can't be started.
    pub async fn start(
        router: Router,
        config: EngineConfig,
        ownership: Arc<dyn Ownership>,
        cores: &[Handle],
    ) -> Result<Self, EngineError> {
        Self::start_with(router, config, ownership, cores, Publisher::closed()).await
    }

    /// The same with a publisher for its handlers; without one every call of theirs is refused.
    ///
    /// # Errors
    /// As for [`Engine::start`].
    pub async fn start_with(
        router: Router,
        config: EngineConfig,
        ownership: Arc<dyn Ownership>,
        cores: &[Handle],
        publisher: Publisher,
    ) -> Result<Self, EngineError> {
        let egress = Arc::new(Egress {
            publisher,
            ownership: Arc::clone(&ownership),
        });
        let compiled = Compiled::try_new(router, &config.namespace_boundary)?;
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
            Arc::new(Shard::new(usize::from(id)))
        };
        let shared = Arc::new(Shared {
            plan: ArcSwap::from_pointee(plan),
            boundary: config.namespace_boundary,
            egress,
            layout,
            ownership,
            shards: (0..layout.shards()).map(shard).collect(),
            cores: own,
            store: Arc::new(MemoryStore::default()),
            in_flight: Gauge::default(),
            in_flight_bytes: Gauge::default(),
            streams: Gauge::default(),
            metrics,
            tracer: config.tracer,
            collectors: crate::rpc::Collectors::default(),
            faults: Faults::default(),
            activities: Arc::clone(&activities),
            limits: Limits::new(&config.limits),
            node: config.node.into(),
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
        let beats = shared
            .cores
            .iter()
            .map(|core| Arc::clone(&core.beat))
            .collect();
        let counted = Arc::clone(&shared);
        let stuck = move |core: usize| counted.cores[core].stuck.add_one();
        let watchdog = watchdog::spawn(config.watchdog, beats, activities, stuck)?;
        let (drain, _) = watch::channel::<Option<Drain>>(None);
        Ok(Self {
            shared,
            root,
            drain: Arc::new(drain),
            _watchdog: Arc::new(watchdog),
        })
    }
}

/// The supervisor of a core's shards.
fn region(
    id: ChildId,
    core: usize,
    handle: Handle,
    shared: &Arc<Shared>,
    passivate_after: Duration,
) -> Child {
    let counted = Arc::clone(shared);
    let shared = Arc::clone(shared);
    let children = move || {
        let of_core = shared
            .shards
            .iter()
            .enumerate()
            .filter(|(_, shard)| shard.core() == core);
        let child = |(index, shard): (usize, &Arc<Shard>)| {
            let (seat, shared) = (Arc::clone(shard), Arc::clone(&shared));
            let (vacate, park) = (Arc::clone(shard), Arc::clone(shard));
            let (restarts, parks) = (Arc::clone(&shared), Arc::clone(&shared));
            Child {
                id: index as ChildId,
                name: format!("shard {index}"),
                start: Box::new(move |supervisor| {
                    let shard = Arc::clone(&seat);
                    let shared = Arc::clone(&shared);
                    Box::pin(async move {
                        let args = ShardArgs {
                            shard: Arc::clone(&shard),
                            shared,
                            passivate_after,
                        };
                        let spawned = Actor::spawn_linked(None, ShardActor, args, supervisor);
                        let (actor, _) = spawned.await?;
                        shard.seat.seat(actor.clone());
                        Ok(actor.get_cell())
                    })
                }),
                vacate: Box::new(move || {
                    restarts.metrics.restarted(ChildKind::Shard);
                    vacate.seat.vacate();
                }),
                park: Box::new(move || {
                    parks.metrics.parked(ChildKind::Shard);
                    drop(park.seat.park());
                }),
            }
        };
        of_core.map(child).collect()
    };
    let name = format!("region of core {core}");
    supervisor(id, ChildKind::Region, name, handle, counted, children, None)
}

/// The supervisor of a core's stages.
fn pipeline(id: ChildId, core: usize, handle: Handle, shared: &Arc<Shared>) -> Child {
    let counted = Arc::clone(shared);
    let shared = Arc::clone(shared);
    let children = move || {
        let listed = shared.cores[core].roster.stages();
        let child = |(id, stage): &(ChildId, Arc<Stage>)| stage_child(core, *id, stage, &shared);
        listed.iter().map(child).collect()
    };
    let name = format!("pipeline of core {core}");
    let seat = Some(Arc::clone(&counted.cores[core].roster));
    supervisor(
        id,
        ChildKind::Pipeline,
        name,
        handle,
        counted,
        children,
        seat,
    )
}

/// A stage as a child of its core's supervisor.
pub(super) fn stage_child(
    core: usize,
    id: ChildId,
    stage: &Arc<Stage>,
    shared: &Arc<Shared>,
) -> Child {
    let beat = Arc::clone(&shared.cores[core].beat);
    let seat = Arc::clone(stage);
    let (vacate, park) = (Arc::clone(stage), Arc::clone(stage));
    let (restarts, parks) = (Arc::clone(shared), Arc::clone(shared));
    Child {
        id,
        name: format!("interceptor `{}` on core {core}", stage.name()),
        start: Box::new(move |supervisor| {
            let stage = Arc::clone(&seat);
            let beat = Arc::clone(&beat);
            Box::pin(async move {
                let args = StageArgs {
                    stage: Arc::clone(&stage),
                    beat,
                };
                let spawned = Actor::spawn_linked(None, StageActor, args, supervisor);
                let (actor, _) = spawned.await?;
                stage.seat.seat(actor.clone());
                Ok(actor.get_cell())
            })
        }),
        vacate: Box::new(move || {
            restarts.metrics.restarted(ChildKind::Interceptor);
            vacate.seat.vacate();
        }),
        park: Box::new(move || {
            parks.metrics.parked(ChildKind::Interceptor);
            drop(park.seat.park());
        }),
    }
}

/// A supervisor on the runtime of a core; its children are made anew when it is restarted.
fn supervisor(
    id: ChildId,
    kind: ChildKind,
    name: String,
    handle: Handle,
    shared: Arc<Shared>,
    children: impl Fn() -> Vec<Child> + Send + Sync + 'static,
    seat: Option<Arc<Roster>>,
) -> Child {
    let seated = seat.clone();
    let start = move |parent: ActorCell| {
        let (handle, children, seat) = (handle.clone(), children(), seated.clone());
        let spawned = handle.spawn(async move {
            let (actor, _) = Actor::spawn_linked(None, Supervisor, children, parent).await?;
            let cell = actor.get_cell();
            if let Some(roster) = seat {
                roster.supervisor.seat(actor);
            }
            Ok(cell)
        });
        let joined = async move {
            match spawned.await {
                Ok(started) => started,
                Err(gone) => Err(SpawnErr::StartupFailed(Box::new(gone))),
            }
        };
        Box::pin(joined) as std::pin::Pin<Box<dyn Future<Output = _> + Send>>
    };
    let counted = Arc::clone(&shared);
    let parked = seat.clone();
    Child {
        id,
        name,
        start: Box::new(start),
        vacate: Box::new(move || {
            shared.metrics.restarted(kind);
            if let Some(roster) = &seat {
                roster.supervisor.vacate();
            }
        }),
        park: Box::new(move || {
            counted.metrics.parked(kind);
            if let Some(roster) = &parked {
                // What it would start it finds listed when it is tried again.
                drop(roster.supervisor.park());
            }
        }),
    }
}
