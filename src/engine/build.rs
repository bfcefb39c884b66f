//! Compiles a router into a plan and starts its actors.

use crate::egress::{Egress, Publisher};
use crate::engine::faults::Faults;
use crate::engine::plan::{CoreChains, Plan, Route, RouteInfo};
use crate::engine::shared::{Core, EngineLimits, Gauge, Shared};
use crate::engine::{Drain, Engine};
use crate::event::EventKind;
use crate::metrics::{ChildKind, Metrics, RouteLabels};
use crate::pipeline::{Chain, Stage, StageActor, StageArgs};
use crate::region::{Shard, ShardActor, ShardArgs};
use crate::router::{self, On, Router, StageSpec};
use crate::routing::key::{KeySpec, KeySpecError, KeyUse};
use crate::routing::pattern::{Pattern, PatternError};
use crate::routing::table::{RouteError, RouteRule, RouteTable};
use crate::store::MemoryStore;
use crate::supervision::{Child, Supervisor};
use crate::trace::Tracer;
use crate::watchdog::{self, Activities, Activity};
use centripeta_cluster::{Ownership, ShardLayout};
use ractor::{Actor, ActorCell, SpawnErr};
use std::fmt;
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

/// Everything that is wrong with a router, at once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BuildError {
    /// One sentence for each.
    pub problems: Vec<String>,
}

impl fmt::Display for BuildError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.problems.join("; "))
    }
}

impl std::error::Error for BuildError {}

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

/// A route before its plan: what `explain` shows, and what the engine runs.
#[derive(Debug)]
pub(crate) struct Compiled {
    /// The stages, in the order of their definition.
    pub(crate) stages: Vec<StageSpec>,
    /// For each route, what is known outside, its key, its stages by index.
    pub(crate) routes: Vec<CompiledRoute>,
}

/// See [`Compiled`].
#[derive(Debug)]
pub(crate) struct CompiledRoute {
    pub(crate) route: router::Route,
    pub(crate) pattern: Pattern,
    pub(crate) key: KeySpec,
    pub(crate) stages: Vec<usize>,
}

/// One thing that is wrong with a router; routes are named by their titles.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum RouterProblem {
    /// Two stages have one name.
    #[error("two interceptors are called `{0}`")]
    SameName(String),
    /// A route names a stage that is not there.
    #[error("{route}: no interceptor with `on = \"route\"` is called `{name}`")]
    NoStage {
        /// The route.
        route: String,
        /// The name.
        name: String,
    },
    /// A handler takes more parameters than the pattern has.
    #[error(
        "{route}: its handler takes {wanted} parameters by `Param`, the pattern has {there}; name \
         as many in the pattern"
    )]
    Params {
        /// The route.
        route: String,
        /// As many as the handler takes.
        wanted: usize,
        /// As many as there are.
        there: usize,
    },
    /// The key is none, or not one for the route.
    #[error("{route}: {source}")]
    Key {
        /// The route.
        route: String,
        /// The rule that it breaks.
        source: KeySpecError,
    },
    /// Patterns, and routes held against each other.
    #[error(transparent)]
    Route(#[from] RouteError),
}

/// Everything that is wrong with a router, in no order that matters.
pub(crate) fn check(router: &Router, boundary: &str) -> Vec<RouterProblem> {
    let mut problems = Vec::new();
    for (index, stage) in router.stages.iter().enumerate() {
        let mut before = router.stages[..index].iter();
        if before.any(|other| other.name == stage.name) {
            problems.push(RouterProblem::SameName(stage.name.clone()));
        }
    }
    for route in &router.routes {
        for name in &route.stage_names {
            if named(&router.stages, name).is_none() {
                let (route, name) = (route.title(), name.clone());
                problems.push(RouterProblem::NoStage { route, name });
            }
        }
        // A pattern that is none is found when the table is built.
        let Ok(pattern) = pattern_of(route, boundary) else {
            continue;
        };
        if let Err(source) = key_of(route, &pattern) {
            let route = route.title();
            problems.push(RouterProblem::Key { route, source });
        }
        let (wanted, there) = (route.params, pattern.capture_names().len());
        if wanted > there {
            problems.push(RouterProblem::Params {
                route: route.title(),
                wanted,
                there,
            });
        }
    }
    let rule = |route: &router::Route| RouteRule {
        kind: route.kind,
        pattern: route.pattern.clone(),
        name: route.title(),
        payload: (),
    };
    if let Err(errors) = RouteTable::build(router.routes.iter().map(rule).collect(), boundary) {
        problems.extend(errors.into_iter().map(RouterProblem::from));
    }
    problems
}

impl Compiled {
    /// Checks a router as a whole.
    ///
    /// # Errors
    /// All problems at once.
    pub(crate) fn try_new(router: Router, boundary: &str) -> Result<Self, BuildError> {
        let problems = check(&router, boundary);
        if !problems.is_empty() {
            let problems = problems.iter().map(ToString::to_string).collect();
            return Err(BuildError { problems });
        }
        let mut stages = router.stages;
        let mut routes = Vec::new();
        for mut route in router.routes {
            let mut ids: Vec<usize> = around(&stages, route.kind);
            ids.extend(
                route
                    .stage_names
                    .iter()
                    .filter_map(|name| named(&stages, name)),
            );
            for stage in std::mem::take(&mut route.stages) {
                ids.push(stages.len());
                stages.push(stage);
            }
            let whole = |why: String| BuildError {
                problems: vec![format!("{}: {why}", route.title())],
            };
            let pattern = pattern_of(&route, boundary).map_err(|why| whole(why.to_string()))?;
            let key = key_of(&route, &pattern).map_err(|why| whole(why.to_string()))?;
            routes.push(CompiledRoute {
                route,
                pattern,
                key,
                stages: ids,
            });
        }
        Ok(Self { stages, routes })
    }

    /// The table of routes, with their places as payload.
    pub(crate) fn table(&self, boundary: &str) -> Result<RouteTable<usize>, Vec<RouteError>> {
        let rule = |(payload, compiled): (usize, &CompiledRoute)| RouteRule {
            kind: compiled.route.kind,
            pattern: compiled.route.pattern.clone(),
            name: compiled.route.title(),
            payload,
        };
        RouteTable::build(self.routes.iter().enumerate().map(rule).collect(), boundary)
    }

    /// What is known of a route outside of the engine.
    pub(crate) fn info(&self, index: usize) -> RouteInfo {
        let compiled = &self.routes[index];
        let names = compiled
            .stages
            .iter()
            .map(|id| self.stages[*id].name.clone());
        RouteInfo {
            name: compiled.route.title(),
            kind: compiled.route.kind,
            pattern: compiled.pattern.clone(),
            handler: compiled.route.handler_name.clone(),
            stages: names.collect(),
            key: compiled.key.to_string(),
            timeout: compiled.route.timeout,
            pool: compiled
                .route
                .pool
                .as_ref()
                .map(|pool| pool.name().to_owned()),
        }
    }

    /// A route as the labels of its events.
    fn labels(&self, index: usize) -> RouteLabels {
        let compiled = &self.routes[index];
        RouteLabels {
            kind: compiled.route.kind,
            route: compiled.pattern.to_string(),
            handler: compiled.route.handler_name.clone(),
        }
    }

    /// The stages around events of a kind that no route takes.
    pub(crate) fn unrouted(&self, kind: EventKind) -> Vec<usize> {
        around(&self.stages, kind)
    }
}

/// Stages on everything, then those on the kind, each in order of definition.
fn around(stages: &[StageSpec], kind: EventKind) -> Vec<usize> {
    let of = |wanted: fn(&On, EventKind) -> bool| {
        let hit = move |(id, stage): (usize, &StageSpec)| wanted(&stage.on, kind).then_some(id);
        stages.iter().enumerate().filter_map(hit)
    };
    let all = of(|on, _| *on == On::All);
    let of_kind = of(|on, kind| matches!(on, On::Kinds(kinds) if kinds.contains(&kind)));
    all.chain(of_kind).collect()
}

/// The stage on `route` of this name.
fn named(stages: &[StageSpec], name: &str) -> Option<usize> {
    stages
        .iter()
        .position(|stage| stage.name == name && stage.on == On::Routes)
}

fn pattern_of(route: &router::Route, boundary: &str) -> Result<Pattern, PatternError> {
    match &route.pattern {
        Some(pattern) => Pattern::parse(pattern, boundary),
        None => Ok(Pattern::everything()),
    }
}

/// What is serialised: what the route says, or the default of its event.
fn key_of(route: &router::Route, pattern: &Pattern) -> Result<KeySpec, KeySpecError> {
    let key = match &route.key {
        Some(text) => KeySpec::parse(text, KeyUse::Route)?,
        None => KeySpec::default_for(route.kind),
    };
    let pattern = route.pattern.as_ref().map(|_| pattern);
    key.check(KeyUse::Route, route.kind, pattern)?;
    Ok(key)
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
        let labels = (0..compiled.routes.len()).map(|at| compiled.labels(at));
        let metrics = Metrics::new(config.metrics, cores.len(), labels.collect());
        let plan = plan_of(
            compiled,
            &config.namespace_boundary,
            cores.len(),
            &activities,
            config.metrics,
            &egress,
        )?;
        let shard = |index: u16| {
            let id = layout.shard(index).map_or(0, |id| layout.core_of(id));
            Arc::new(Shard::new(usize::from(id)))
        };
        let shared = Arc::new(Shared {
            plan,
            layout,
            ownership,
            shards: (0..layout.shards()).map(shard).collect(),
            cores: cores.iter().map(|_| Core::default()).collect(),
            store: Arc::new(MemoryStore::default()),
            in_flight: Gauge::default(),
            in_flight_bytes: Gauge::default(),
            streams: Gauge::default(),
            metrics,
            tracer: config.tracer,
            faults: Faults::default(),
            #[cfg(test)]
            activities: Arc::clone(&activities),
            after_grace: config.limits.deadline_margin / 2,
            limits: config.limits,
            node: config.node.into(),
            draining: AtomicBool::new(false),
            closed: AtomicBool::new(false),
        });
        let children = cores.iter().enumerate().flat_map(|(core, handle)| {
            let region = region(core, handle.clone(), &shared, config.passivate_after);
            [region, pipeline(core, handle.clone(), &shared)]
        });
        let children: Vec<Child> = children.collect();
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

fn plan_of(
    compiled: Compiled,
    boundary: &str,
    cores: usize,
    activities: &Activities,
    counted: bool,
    egress: &Arc<Egress>,
) -> Result<Plan, EngineError> {
    let stage_activities: Vec<Activity> = compiled
        .stages
        .iter()
        .map(|stage| activities.register(format!("interceptor `{}`", stage.name)))
        .collect();
    let chains = (0..cores)
        .map(|_| chains_of(&compiled, &stage_activities, counted))
        .collect();
    let infos: Vec<RouteInfo> = (0..compiled.routes.len())
        .map(|at| compiled.info(at))
        .collect();
    let mut rules = Vec::new();
    for (index, (mut compiled, info)) in compiled.routes.into_iter().zip(infos).enumerate() {
        let pool = compiled
            .route
            .pool
            .as_ref()
            .map(crate::pool::Pool::start)
            .transpose()?;
        let handler = compiled.route.handler();
        let (pattern, name) = (compiled.route.pattern.clone(), info.name.clone());
        let activity = activities.register(format!("handler `{}` of {name}", info.handler));
        let kind = info.kind;
        let route = Route {
            index,
            info,
            key: compiled.key,
            egress: Arc::clone(egress),
            handler,
            pool,
            activity,
        };
        rules.push(RouteRule {
            kind,
            pattern,
            name,
            payload: Arc::new(route),
        });
    }
    let table = RouteTable::build(rules, boundary).map_err(|errors| BuildError {
        problems: errors.iter().map(ToString::to_string).collect(),
    })?;
    Ok(Plan { table, chains })
}

/// The stages of one core, and the chains of them.
fn chains_of(compiled: &Compiled, activities: &[Activity], counted: bool) -> CoreChains {
    let stage = |(spec, activity): (&StageSpec, &Activity)| {
        let interceptor = Arc::clone(&spec.interceptor);
        Arc::new(Stage::new(
            spec.name.as_str().into(),
            interceptor,
            *activity,
            counted.then(Arc::default),
        ))
    };
    let stages: Vec<Arc<Stage>> = compiled.stages.iter().zip(activities).map(stage).collect();
    let chain = |ids: &[usize]| {
        Arc::new(Chain::new(
            ids.iter().map(|id| Arc::clone(&stages[*id])).collect(),
        ))
    };
    let routed = compiled
        .routes
        .iter()
        .map(|route| chain(&route.stages))
        .collect();
    let unrouted = EventKind::ALL
        .iter()
        .map(|kind| chain(&compiled.unrouted(*kind)))
        .collect();
    CoreChains {
        stages,
        routed,
        unrouted,
    }
}

/// The supervisor of a core's shards.
fn region(core: usize, handle: Handle, shared: &Arc<Shared>, passivate_after: Duration) -> Child {
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
    supervisor(ChildKind::Region, name, handle, counted, children)
}

/// The supervisor of a core's stages.
fn pipeline(core: usize, handle: Handle, shared: &Arc<Shared>) -> Child {
    let counted = Arc::clone(shared);
    let shared = Arc::clone(shared);
    let children = move || {
        let beat = Arc::clone(&shared.cores[core].beat);
        let child = |stage: &Arc<Stage>| {
            let (seat, beat) = (Arc::clone(stage), Arc::clone(&beat));
            let (vacate, park) = (Arc::clone(stage), Arc::clone(stage));
            let (restarts, parks) = (Arc::clone(&shared), Arc::clone(&shared));
            Child {
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
        };
        shared.plan.chains[core].stages.iter().map(child).collect()
    };
    let name = format!("pipeline of core {core}");
    supervisor(ChildKind::Pipeline, name, handle, counted, children)
}

/// A supervisor on the runtime of a core; its children are made anew when it is restarted.
fn supervisor(
    kind: ChildKind,
    name: String,
    handle: Handle,
    shared: Arc<Shared>,
    children: impl Fn() -> Vec<Child> + Send + Sync + 'static,
) -> Child {
    let start = move |parent: ActorCell| {
        let (handle, children) = (handle.clone(), children());
        let spawned = handle.spawn(async move {
            let (actor, _) = Actor::spawn_linked(None, Supervisor, children, parent).await?;
            Ok(actor.get_cell())
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
    Child {
        name,
        start: Box::new(start),
        vacate: Box::new(move || shared.metrics.restarted(kind)),
        park: Box::new(move || counted.metrics.parked(kind)),
    }
}
