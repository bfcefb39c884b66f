//! Routes without code: `[[interceptor]]`, `[[route]]` and `[handler.*]` become part of a router.
//!
//! What is wrong is reported at once, each problem with its key: patterns and keys that are none,
//! routes that tie or can never match (with those of the program too), fields that the event or the
//! pattern lacks, static replies that do not parse or could not leave.

mod places;
#[cfg(test)]
mod tests;

use crate::builtin::{Allow, Counter, Deny, Echo, Fixed, FixedError, refusal};
use crate::config::{
    Config, HandlerConfig, InterceptorConfig, InterceptorKind, On, Origin, Partial, Problem,
    RouteConfig,
};
use crate::engine::compile::check;
use crate::event::EventKind;
use crate::handler::AnyHandler;
use crate::interceptor::{AccessLog, AnyInterceptor, HeaderAuth, Limit};
use crate::pool::Pool;
use crate::router::{self, Route, Router};
use crate::routing::key::{KeySpec, KeyUse};
use crate::routing::pattern::Pattern;
use crate::upstream::handler::{Upstream, UpstreamHandler};
use crate::worker::handler::{WorkerHandler, Workers, refusal as worker_refusal};
use http::HeaderName;
use places::{Places, problem};
use std::num::NonZeroUsize;
use std::sync::Arc;

impl std::fmt::Debug for Kept {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let names = self.stages.iter().map(|(stage, _)| &stage.name);
        f.debug_struct("Kept")
            .field("stages", &names.collect::<Vec<_>>())
            .field("pools", &self.pools.len())
            .field("workers", &self.workers)
            .field("upstreams", &self.upstreams)
            .finish()
    }
}

/// Handlers that are there without a section.
const BUILT_IN: [&str; 4] = ["allow", "deny", "echo", "counter"];

/// What a configuration was made into: what did not change stays when the next one is assembled, so
/// that limits keep their buckets and handlers their threads.
#[derive(Clone, Default)]
pub(crate) struct Kept {
    stages: Vec<(InterceptorConfig, Arc<dyn AnyInterceptor>)>,
    pools: Vec<(RouteConfig, Pool)>,
    workers: Vec<Arc<Workers>>,
    upstreams: Vec<Arc<Upstream>>,
}

impl Kept {
    /// The interceptor of this name, if it was made of the same settings; what it stands before may
    /// have changed.
    fn stage(&self, wanted: &InterceptorConfig) -> Option<Arc<dyn AnyInterceptor>> {
        let is_same = |(known, _): &&(InterceptorConfig, _)| {
            known.name == wanted.name && known.kind == wanted.kind
        };
        let known = self.stages.iter().find(is_same);
        known.map(|(_, stage)| Arc::clone(stage))
    }

    /// Workers of the same name that are made of the same settings, or else these.
    fn workers(&self, wanted: Workers) -> Arc<Workers> {
        let known = self.workers.iter().find(|known| known.is_like(&wanted));
        known.map_or_else(|| Arc::new(wanted), Arc::clone)
    }

    /// The upstream of the same name that is made of the same settings, or else this.
    fn upstream(&self, wanted: Upstream) -> Arc<Upstream> {
        let known = self.upstreams.iter().find(|known| known.is_like(&wanted));
        known.map_or_else(|| Arc::new(wanted), Arc::clone)
    }

    /// The threads of a route that takes the same events and asks for as many.
    fn pool(&self, wanted: &RouteConfig) -> Option<Pool> {
        let is_same = |(known, _): &&(RouteConfig, _)| {
            known.on == wanted.on && known.pattern == wanted.pattern && known.pool == wanted.pool
        };
        let known = self.pools.iter().find(is_same);
        known.map(|(_, pool)| pool.clone())
    }
}

/// The router that a node runs: the program's own, and where it asks for them
/// ([`Router::with_config_routes`]) the routes and interceptors of the configuration behind it. Where
/// it does not, one warning says that they are ignored. The router is also checked as a whole.
///
/// # Errors
/// Everything that is wrong with the routes of both, all at once.
pub fn assemble(config: &Config, router: Router) -> Result<Router, Vec<Problem>> {
    if let Some(warning) = ignored(config, &router) {
        tracing::warn!("{warning}; {}", warning.fix);
    }
    assemble_again(config, router, &Kept::default()).map(|(router, _)| router)
}

/// The same where a configuration was assembled `before`; answers too what to keep for the next one.
pub(crate) fn assemble_again(
    config: &Config,
    mut router: Router,
    before: &Kept,
) -> Result<(Router, Kept), Vec<Problem>> {
    let mut problems = Vec::new();
    let mut places = Places::new(config);
    let mut kept = Kept::default();
    let boundary = &config.channel.namespace_boundary;
    if std::mem::take(&mut router.config_routes) {
        for (at, interceptor) in config.interceptors.iter().enumerate() {
            let known = before.stage(interceptor);
            match known.map_or_else(|| stage(at, interceptor), Ok) {
                Ok(stage) => {
                    let (name, on) = (interceptor.name.clone(), on(&interceptor.on));
                    kept.stages.push((interceptor.clone(), Arc::clone(&stage)));
                    router = router.stage(name, on, stage);
                }
                Err(why) => problems.push(*why),
            }
        }
        kept.workers = workers(config, before, &mut problems);
        router.workers.clone_from(&kept.workers);
        kept.upstreams = upstreams(config, before, &mut problems);
        router.upstreams.clone_from(&kept.upstreams);
        for (at, route) in config.routes.iter().enumerate() {
            let new = |threads: NonZeroUsize| Pool::new(format!("route.{at}"), threads.get());
            let pool = before.pool(route).or_else(|| route.pool.map(new));
            for compiled in routes(config, at, route, pool.as_ref(), &kept, &mut problems) {
                places.add(&compiled, at);
                router.routes.push(compiled);
            }
            kept.pools.extend(pool.map(|pool| (route.clone(), pool)));
        }
        limits(config, &router, &mut problems);
    }
    let found = check(&router, boundary);
    problems.extend(found.into_iter().map(|found| places.problem(found)));
    let mut once: Vec<Problem> = Vec::new();
    for problem in problems {
        if !once.contains(&problem) {
            once.push(problem);
        }
    }
    match once.is_empty() {
        true => Ok((router, kept)),
        false => Err(once),
    }
}

/// What is wrong with the routes of a configuration that has `problems` already, added to them. One
/// cause is told once: a key that has its problem gets no other for the same reason.
pub(crate) fn judge(partial: &Partial, router: Router, problems: &mut Vec<Problem>) {
    let Err(mut found) = assemble(&partial.config, router) else {
        return;
    };
    for problem in &mut found {
        problem.key = partial.key_in_file(&problem.key);
    }
    found.retain(|problem| {
        // How routes stand to each other is known here alone.
        let between = problem.key.ends_with(".match") && !problem.rule.contains("no name to match");
        between || problems.iter().all(|known| known.key != problem.key)
    });
    problems.extend(found);
}

/// The warning that the configuration has routes, interceptors or handlers and the program does not
/// ask for them.
pub fn ignored(config: &Config, router: &Router) -> Option<Problem> {
    if router.config_routes {
        return None;
    }
    let routes = config.routes.iter().map(|route| ("route", &route.origin));
    let stages = config.interceptors.iter();
    let stages = stages.map(|stage| ("interceptor", &stage.origin));
    let own = |name: &&String| !BUILT_IN.contains(&name.as_str());
    let handlers = config.handlers.keys().find(own);
    let handlers = handlers.map(|_| ("handler", &Origin::Default));
    let (key, origin) = routes.chain(stages).chain(handlers).next()?;
    Some(Problem {
        key: key.to_owned(),
        value: None,
        rule: "the program brings routes of its own, so that [[route]], [[interceptor]] and \
               [handler.*] are ignored"
            .to_owned(),
        fix: "remove them, or ask for them in the program with `Router::with_config_routes`"
            .to_owned(),
        origin: origin.clone(),
    })
}

fn on(on: &On) -> router::On {
    match on {
        On::All => router::On::All,
        On::Events(kinds) => router::On::Kinds(kinds.clone()),
        On::Route => router::On::Routes,
    }
}

/// An interceptor of the configuration.
fn stage(at: usize, config: &InterceptorConfig) -> Result<Arc<dyn AnyInterceptor>, Box<Problem>> {
    let wrong = |key: &str, value: &str, rule: String, fix: &str| {
        let key = format!("interceptor.{at}.{key}");
        Box::new(problem(key, Some(value), rule, fix, &config.origin))
    };
    Ok(match &config.kind {
        InterceptorKind::AccessLog { level, fields } => {
            let field = |name: &String| {
                let known = name.parse();
                known.map_err(|why: crate::interceptor::UnknownField| {
                    wrong("fields", name, why.to_string(), "remove it")
                })
            };
            let fields: Vec<_> = fields.iter().map(field).collect::<Result<_, _>>()?;
            Arc::new(AccessLog::new(*level, fields))
        }
        InterceptorKind::HeaderAuth { header, value } => {
            let name = HeaderName::from_bytes(header.as_bytes()).map_err(|why| {
                let fix = "write a header name, for instance x-app-key";
                wrong("header", header, why.to_string(), fix)
            })?;
            Arc::new(HeaderAuth::new(name, value.clone()))
        }
        InterceptorKind::Limit { rate, burst, per } => {
            let limit = Limit::per_second(*rate).burst(*burst);
            match per {
                None => Arc::new(limit),
                Some(per) => Arc::new(limit.per(per).map_err(|why| {
                    let (rule, fix) = places::parted(&why.rule.to_string());
                    let fix = fix.unwrap_or_else(|| "choose another key".to_owned());
                    wrong("per", per, rule, &fix)
                })?),
            }
        }
    })
}

/// What limits count by has to be there in every event that has a route behind them.
fn limits(config: &Config, router: &Router, problems: &mut Vec<Problem>) {
    for (at, stage) in config.interceptors.iter().enumerate() {
        let InterceptorKind::Limit { per: Some(per), .. } = &stage.kind else {
            continue;
        };
        // What is no key has been reported.
        let Ok(key) = KeySpec::parse(per, KeyUse::Limit) else {
            continue;
        };
        let seen = router.routes.iter().filter(|route| match &stage.on {
            On::All => true,
            On::Events(kinds) => kinds.contains(&route.kind),
            On::Route => route.stage_names.contains(&stage.name),
        });
        for route in seen {
            let Ok(pattern) = pattern_of(config, route.pattern.as_deref()) else {
                continue;
            };
            let Err(why) = key.check(KeyUse::Limit, route.kind, pattern.as_ref()) else {
                continue;
            };
            let (rule, _) = places::parted(&why.rule.to_string());
            problems.push(problem(
                format!("interceptor.{at}.per"),
                Some(per),
                format!("{rule}; and it stands before {}", route.title()),
                "count by something that all its events have, or narrow `on`",
                &stage.origin,
            ));
        }
    }
}

/// The workers that routes name; those of `before` where nothing has changed.
fn workers(config: &Config, before: &Kept, problems: &mut Vec<Problem>) -> Vec<Arc<Workers>> {
    let mut workers = Vec::new();
    for (name, handler) in &config.handlers {
        let HandlerConfig::Workers(own) = handler else {
            continue;
        };
        if config.routes.iter().all(|route| route.handler != *name) {
            continue;
        }
        match Workers::try_new(name, own, config.limits.in_flight.get()) {
            Ok(made) => workers.push(before.workers(made)),
            Err(why) => problems.push(problem(
                format!("handler.{name}.user"),
                own.user.as_deref(),
                why.to_string(),
                "name a user and a group of this system in `user`, `group` and `on_init.user`",
                &Origin::Default,
            )),
        }
    }
    workers
}

/// The upstreams that routes name; those of `before` where nothing has changed.
fn upstreams(config: &Config, before: &Kept, problems: &mut Vec<Problem>) -> Vec<Arc<Upstream>> {
    let mut upstreams = Vec::new();
    for (name, handler) in &config.handlers {
        let HandlerConfig::Upstream(own) = handler else {
            continue;
        };
        if config.routes.iter().all(|route| route.handler != *name) {
            continue;
        }
        match Upstream::try_new(name, own) {
            Ok(made) => upstreams.push(before.upstream(made)),
            Err(why) => problems.push(problem(
                format!("handler.{name}.tls"),
                None,
                why.to_string(),
                "name PEM files that can be read and belong together",
                &Origin::Default,
            )),
        }
    }
    upstreams
}

fn pattern_of(config: &Config, pattern: Option<&str>) -> Result<Option<Pattern>, ()> {
    let boundary = &config.channel.namespace_boundary;
    let parsed = pattern.map(|pattern| Pattern::parse(pattern, boundary));
    parsed.transpose().map_err(drop)
}

/// The routes of one `[[route]]`, one for each event.
fn routes(
    config: &Config,
    at: usize,
    route: &RouteConfig,
    pool: Option<&Pool>,
    made: &Kept,
    problems: &mut Vec<Problem>,
) -> Vec<Route> {
    let config_of = config.handlers.get(&route.handler);
    let is_foreign = matches!(
        config_of,
        Some(HandlerConfig::Workers(_) | HandlerConfig::Upstream(_))
    );
    let compiled = route.on.iter().map(|kind| {
        let handler = Entry {
            config,
            at,
            route,
            kind: *kind,
            made,
        };
        let handler = handler.handler().unwrap_or_else(|why| {
            problems.push(*why);
            // The route stands all the same while the others are held against it.
            Arc::new(Deny)
        });
        let mut compiled = Route::configured(*kind, route.handler.clone(), handler);
        compiled.pattern.clone_from(&route.pattern);
        compiled.key.clone_from(&route.key);
        if is_foreign {
            // Any worker or address answers any event, beside the others.
            compiled.key.get_or_insert_with(|| "none".to_owned());
        }
        compiled.timeout = route.timeout;
        compiled.retry_safe = route.retry_safe;
        compiled.stage_names.clone_from(&route.interceptors);
        compiled.pool = pool.cloned();
        compiled.origin = Some(route.origin.to_string());
        compiled
    });
    compiled.collect()
}

/// One event of a `[[route]]`.
struct Entry<'c> {
    config: &'c Config,
    at: usize,
    route: &'c RouteConfig,
    kind: EventKind,
    made: &'c Kept,
}

impl Entry<'_> {
    fn problem(&self, key: &str, value: Option<&str>, rule: String, fix: &str) -> Box<Problem> {
        let key = format!("route.{}.{key}", self.at);
        Box::new(problem(key, value, rule, fix, &self.route.origin))
    }

    fn of_handler(&self, rule: String, fix: &str) -> Box<Problem> {
        self.problem("handler", Some(&self.route.handler), rule, fix)
    }

    fn handler(&self) -> Result<Arc<dyn AnyHandler>, Box<Problem>> {
        let Some(handler) = self.config.handlers.get(&self.route.handler) else {
            let fix = "add a [handler.NAME] of this name, or name another";
            return Err(self.of_handler("no handler has this name".to_owned(), fix));
        };
        let able = |kind| match refusal(kind, self.kind) {
            Some((rule, fix)) => Err(self.of_handler(rule, &fix)),
            None => Ok(()),
        };
        Ok(match handler {
            HandlerConfig::Allow { extend } => {
                able("allow")?;
                Arc::new(Allow { extend: *extend })
            }
            HandlerConfig::Deny => Arc::new(Deny),
            HandlerConfig::Echo => {
                able("echo")?;
                Arc::new(Echo)
            }
            HandlerConfig::Counter => {
                able("counter")?;
                self.countable()?;
                Arc::new(Counter)
            }
            HandlerConfig::Workers(config) => {
                let name = self.route.handler.as_str();
                if let Some((rule, fix)) = worker_refusal(name, config, self.kind) {
                    return Err(self.of_handler(rule, &fix));
                }
                let known = self.made.workers.iter().find(|it| &**it.name() == name);
                match known {
                    Some(workers) => Arc::new(WorkerHandler(Arc::clone(workers))),
                    // What is wrong with them has been reported.
                    None => Arc::new(Deny),
                }
            }
            HandlerConfig::Upstream(_) => {
                let mut known = self.made.upstreams.iter();
                match known.find(|it| **it.name() == *self.route.handler) {
                    Some(upstream) => Arc::new(UpstreamHandler(Arc::clone(upstream))),
                    // What is wrong with it has been reported.
                    None => Arc::new(Deny),
                }
            }
            HandlerConfig::Static(answer) => {
                let pattern = pattern_of(self.config, self.route.pattern.as_deref());
                match Fixed::try_new(
                    answer,
                    self.kind,
                    pattern.as_ref().map_or(None, Option::as_ref),
                ) {
                    Ok(fixed) => Arc::new(fixed),
                    // Only the pattern is to blame, which is reported by itself.
                    Err(FixedError::NoParam { .. }) if pattern.is_err() => Arc::new(Deny),
                    Err(why) => {
                        let (name, kind) = (&self.route.handler, self.kind);
                        let rule = format!("`{name}` cannot answer `{kind}`: {why}");
                        return Err(self.of_handler(rule, &why.fix()));
                    }
                }
            }
        })
    }

    /// A counter needs a key, and the lane of that key, which a pool does not have.
    fn countable(&self) -> Result<(), Box<Problem>> {
        let kind = self.kind;
        let keyed = match self.route.key.as_deref() {
            None => KeySpec::default_for(kind) != KeySpec::None,
            Some(key) => key != "none",
        };
        if !keyed {
            let fix = match kind {
                EventKind::ChannelState => {
                    "leave `channel_state` out: its events are about many channels at once"
                }
                _ => "give the route a key, for instance key = \"user\"",
            };
            let rule = format!("`counter` counts the events of a key, and `{kind}` has none here");
            return Err(self.problem("key", self.route.key.as_deref(), rule, fix));
        }
        if self.route.pool.is_some() {
            let rule = "`counter` keeps its count in the shard, and runs there".to_owned();
            return Err(self.problem("pool", None, rule, "remove pool"));
        }
        Ok(())
    }
}
