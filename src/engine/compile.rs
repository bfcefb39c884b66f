//! A router checked as a whole, and compiled: patterns and keys parsed, stages found by name.

use crate::engine::plan::RouteInfo;
use crate::event::EventKind;
use crate::forward::Attributes;
use crate::metrics::RouteLabels;
use crate::router::{self, On, Router, StageSpec};
use crate::routing::key::{KeySpec, KeySpecError, KeyUse};
use crate::routing::pattern::{Pattern, PatternError};
use crate::routing::table::{RouteError, RouteRule, RouteTable};
use ractor::SpawnErr;
use std::fmt;

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
    /// Types of attributes that cross between nodes.
    pub(crate) attributes: Attributes,
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
    /// Attributes that can't be told apart between nodes.
    #[error("{0}")]
    Attributes(String),
    /// Patterns, and routes held against each other.
    #[error(transparent)]
    Route(#[from] RouteError),
}

/// Everything that is wrong with a router, in no order that matters.
pub(crate) fn check(router: &Router, boundary: &str) -> Vec<RouterProblem> {
    let attributes = router.attributes.problems().into_iter();
    let mut problems: Vec<_> = attributes.map(RouterProblem::Attributes).collect();
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
        Ok(Self {
            stages,
            routes,
            attributes: router.attributes,
        })
    }

    /// Whether every attribute that stages say they set crosses between nodes.
    ///
    /// # Errors
    /// All that do not.
    pub(crate) fn check_attributes(&self) -> Result<(), BuildError> {
        let mut problems = Vec::new();
        for stage in &self.stages {
            for of in stage.interceptor.sets() {
                if !self.attributes.has(of) {
                    problems.push(format!(
                        "interceptor `{}` sets the attribute `{}`, which does not cross between the \
                         nodes of a cluster; register it with Router::attribute",
                        stage.name, of.type_name
                    ));
                }
            }
        }
        if problems.is_empty() {
            Ok(())
        } else {
            Err(BuildError { problems })
        }
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
            retry_safe: compiled.route.retry_safe || compiled.route.kind.is_retry_safe(),
            pool: compiled
                .route
                .pool
                .as_ref()
                .map(|pool| pool.name().to_owned()),
        }
    }

    /// A route as the labels of its events.
    pub(crate) fn labels(&self, index: usize) -> RouteLabels {
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
