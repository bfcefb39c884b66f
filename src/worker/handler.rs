//! The handler `roadrunner`: an event's bytes to a worker, and the worker's answer untouched back.
//!
//! It is made with the configuration and started with the node: `check-config` and `explain` start
//! nothing. Its pool ends when the last event that has it is done, which is how a reload gives up an
//! old one.

use super::context;
use super::init::{self, Init, InitError};
use super::owner::{self, OwnerError};
use super::pool::{Growth, MOST_WORKERS, PoolError, PoolSpec, WorkerPool};
use super::process::CommandSpec;
use super::queue::ExecError;
use crate::config::{RelayAddress, Variables, WorkersConfig};
use crate::cx::Cx;
use crate::engine::faults::Throttle;
use crate::event::EventKind;
use crate::handler::{AnyHandler, HandlerFuture};
use crate::outcome::{Failure, Outcome, Overloaded, Unavailable};
use crate::reply::Reply;
use bytes::Bytes;
use std::collections::BTreeMap;
use std::fmt;
use std::future::ready;
use std::sync::{Arc, OnceLock};
use std::thread::available_parallelism;
use std::time::Duration;
use tokio::runtime::Handle;
use tokio::time::Instant;

/// The version of RoadRunner that workers find themselves under.
const RR_VERSION: &str = "2025.1.15";
/// How long the workers of a pool that is given up may take to end.
const LEAVE: Duration = Duration::from_secs(60);

/// Why workers are not started.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StartError {
    /// The command before them.
    #[error("handler `{0}`: {1}")]
    Init(Arc<str>, #[source] InitError),
    /// The actor.
    #[error("handler `{0}`: the pool can't be started: {1}")]
    Pool(Arc<str>, #[source] PoolError),
    /// The first of them.
    #[error("handler `{0}`: no worker came up: {1}")]
    Worker(Arc<str>, Arc<str>),
}

/// The workers of one `[handler.NAME]`.
pub(crate) struct Workers {
    spec: PoolSpec,
    init: Option<Init>,
    allow_empty: bool,
    strict: bool,
    running: OnceLock<Running>,
    full: Throttle,
    lost: Throttle,
}

struct Running {
    pool: WorkerPool,
    /// Where it runs.
    on: Handle,
}

impl fmt::Debug for Workers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Workers")
            .field("name", &self.spec.name)
            .finish_non_exhaustive()
    }
}

impl Workers {
    /// Workers of this name, which are not started yet; `in_flight` is `limits.in_flight`.
    ///
    /// # Errors
    /// The user or group is not there.
    pub(crate) fn try_new(
        name: &str,
        config: &WorkersConfig,
        in_flight: usize,
    ) -> Result<Self, OwnerError> {
        let pool = &config.pool;
        let cpus = || available_parallelism().map_or(1, std::num::NonZero::get);
        let spec = PoolSpec {
            name: name.into(),
            command: CommandSpec {
                command: config.command.clone(),
                env: environment(&config.relay, &config.env),
                dir: config.dir.clone(),
                owner: owner::find(config.user.as_deref(), config.group.as_deref())?,
                has_socket: config.relay != RelayAddress::Pipes,
            },
            relay: config.relay.clone(),
            num_workers: pool
                .num_workers
                .map_or_else(|| cpus().min(MOST_WORKERS), std::num::NonZero::get),
            max_jobs: pool.max_jobs,
            max_queue_size: pool
                .max_queue_size
                .map_or(in_flight, std::num::NonZero::get),
            allocate_timeout: pool.allocate_timeout,
            destroy_timeout: pool.destroy_timeout,
            reset_timeout: pool.reset_timeout,
            stream_timeout: pool.stream_timeout,
            exec_ttl: pool.exec_ttl,
            ttl: pool.ttl,
            idle_ttl: pool.idle_ttl,
            max_worker_memory: pool.max_worker_memory,
            watch_tick: pool.watch_tick,
            growth: pool.dynamic_allocator.as_ref().map(|it| Growth {
                max_workers: it.max_workers,
                spawn_rate: it.spawn_rate,
                idle_timeout: it.idle_timeout,
            }),
            debug: pool.debug,
            fence: config.fence,
            max_frame: config.max_frame,
        };
        let init = match &config.on_init {
            None => None,
            Some(init) => Some(Init {
                command: CommandSpec {
                    command: init.command.clone(),
                    env: init.env.0.clone(),
                    dir: config.dir.clone(),
                    owner: owner::find(init.user.as_deref(), None)?,
                    has_socket: false,
                },
                limit: init.exec_timeout,
                is_needed: init.exit_on_error,
            }),
        };
        Ok(Self {
            spec,
            init,
            allow_empty: config.allow_empty,
            strict: config.strict_replies,
            running: OnceLock::new(),
            full: Throttle::default(),
            lost: Throttle::default(),
        })
    }

    /// Whether these are made of the same settings.
    pub(crate) fn is_like(&self, other: &Self) -> bool {
        self.spec == other.spec
            && self.init == other.init
            && self.allow_empty == other.allow_empty
            && self.strict == other.strict
    }

    /// The handler's name.
    pub(crate) fn name(&self) -> &Arc<str> {
        &self.spec.name
    }

    /// The pool, once it is started.
    pub(crate) fn pool(&self) -> Option<&WorkerPool> {
        self.running.get().map(|running| &running.pool)
    }

    /// Runs `on_init` and starts the pool on the runtime that this is called on, unless it runs
    /// already. Its workers come up by themselves.
    ///
    /// # Errors
    /// `on_init` failed and is needed, or the pool can't be started.
    pub(crate) async fn start(&self, rpc: Option<&str>) -> Result<(), StartError> {
        if self.running.get().is_some() {
            return Ok(());
        }
        let name = &self.spec.name;
        if let Some(init) = &self.init {
            match init::run(init, name).await {
                Ok(()) => tracing::info!(handler = &**name, "`on_init.command` is done"),
                Err(why) if init.is_needed => {
                    return Err(StartError::Init(Arc::clone(name), why));
                }
                Err(why) => {
                    tracing::error!(handler = &**name, "{why}; the pool starts all the same")
                }
            }
        }
        if self.spec.exec_ttl.is_zero() {
            tracing::warn!(
                handler = &**name,
                "`exec_ttl` is 0: a worker that hangs holds its place for ever"
            );
        }
        let mut spec = self.spec.clone();
        if let Some(rpc) = rpc {
            let own = spec.command.env.entry("RR_RPC".to_owned());
            own.or_insert_with(|| rpc.to_owned());
        }
        let pool = WorkerPool::start(spec).await;
        let pool = pool.map_err(|why| StartError::Pool(Arc::clone(name), why))?;
        tracing::info!(
            handler = &**name,
            workers = self.spec.num_workers,
            exec_ttl = ?self.spec.exec_ttl,
            "a worker pool starts"
        );
        let on = Handle::current();
        // Nobody else starts it meanwhile: starts come one after the other.
        drop(self.running.set(Running { pool, on }));
        Ok(())
    }

    /// Waits until there is a worker.
    ///
    /// # Errors
    /// The first one did not come up.
    pub(crate) async fn until_ready(&self) -> Result<(), StartError> {
        let Some(pool) = self.pool() else {
            return Ok(());
        };
        let ready = pool.until_ready().await;
        ready.map_err(|why| StartError::Worker(Arc::clone(&self.spec.name), why))
    }

    async fn answer(
        &self,
        kind: EventKind,
        json_client: bool,
        (context, body): (&[u8], &[u8]),
        deadline: Instant,
    ) -> Outcome {
        let Some(pool) = self.pool() else {
            return self.internal("its workers are not started: no node runs it".to_owned());
        };
        match pool.exec_until(context, body, Some(deadline)).await {
            Ok(body) => self.reply(pool, kind, json_client, body),
            Err(why) => self.failed(kind, &why),
        }
    }

    fn reply(&self, pool: &WorkerPool, kind: EventKind, json_client: bool, body: Bytes) -> Outcome {
        if body.is_empty() {
            return match self.allow_empty {
                true => Outcome::Reply(Reply::empty()),
                false => self.internal(format!(
                    "an empty answer to `{kind}`; answer with a result, an error or a disconnect, or \
                     say `allow_empty = true`"
                )),
            };
        }
        let (name, strict) = (&*self.spec.name, self.strict);
        let reply = pool.flaws().reply(name, strict, (kind, json_client), body);
        reply.map_or_else(Outcome::from, Outcome::Reply)
    }

    fn failed(&self, kind: EventKind, why: &ExecError) -> Outcome {
        let (handler, event) = (&*self.spec.name, kind.name());
        match why {
            ExecError::QueueSize(_) | ExecError::NoFreeWorkers { .. } => {
                if let Some(count) = self.full.pass() {
                    tracing::warn!(
                        handler,
                        event,
                        count,
                        "{why} (`count` such events since the last line)"
                    );
                }
                Failure::Overloaded(Overloaded::Workers).into()
            }
            ExecError::Stopped => Failure::Unavailable(Unavailable::Draining).into(),
            ExecError::Lost { .. } => {
                if let Some(count) = self.lost.pass() {
                    tracing::error!(
                        handler,
                        event,
                        count,
                        "the worker was lost while the event was running: {why} (`count` such \
                         events since the last line)"
                    );
                }
                Failure::Unavailable(Unavailable::Worker).into()
            }
            ExecError::ExecTtl(_) => {
                tracing::error!(handler, event, "{why}");
                Failure::Deadline.into()
            }
            ExecError::NotStarted(_)
            | ExecError::Soft(_)
            | ExecError::Nothing
            | ExecError::Stream
            | ExecError::Replacements(_)
            | ExecError::Empty => self.internal(why.to_string()),
        }
    }

    fn internal(&self, cause: String) -> Outcome {
        let place = format!("handler `{}`", self.spec.name);
        Failure::Internal { place, cause }.into()
    }
}

impl Drop for Workers {
    fn drop(&mut self) {
        if let Some(Running { pool, on }) = self.running.take() {
            // A runtime that has ended has dropped the workers with it.
            on.spawn(async move { pool.shutdown(LEAVE).await });
        }
    }
}

/// What the workers find beside our own environment; later ones win.
fn environment(relay: &RelayAddress, own: &Variables) -> BTreeMap<String, String> {
    let mut env = BTreeMap::from([("RR_RELAY".to_owned(), relay.to_string())]);
    env.extend(own.0.clone());
    env.insert("RR_VERSION".to_owned(), RR_VERSION.to_owned());
    env.insert("RR_MODE".to_owned(), "centrifuge".to_owned());
    env
}

/// Why a pool can't answer an event: the rule and the fix.
pub(crate) fn refusal(
    name: &str,
    config: &WorkersConfig,
    kind: EventKind,
) -> Option<(String, String)> {
    if context::type_of(kind).is_none() {
        return Some((
            format!("workers answer once, and `{name}` cannot answer `{kind}`"),
            format!("leave `{kind}` out, or route it to another handler"),
        ));
    }
    let knows = config.on.as_ref().is_none_or(|on| on.contains(&kind));
    (!knows).then(|| {
        (
            format!("the workers of `{name}` do not know `{kind}` (`handler.{name}.on`)"),
            format!("leave `{kind}` out, or add it to `handler.{name}.on`"),
        )
    })
}

/// A route's way to workers.
pub(crate) struct WorkerHandler(pub(crate) Arc<Workers>);

impl AnyHandler for WorkerHandler {
    fn call(&self, cx: &mut Cx) -> HandlerFuture {
        let (kind, json_client) = (cx.kind(), cx.is_json_client());
        let Some(type_name) = context::type_of(kind) else {
            let cause = format!("workers cannot answer `{kind}`");
            return Box::pin(ready(self.0.internal(cause)));
        };
        let context = context::of(type_name, cx.authority(), cx.metadata());
        let body = cx.raw().clone();
        let (workers, deadline) = (Arc::clone(&self.0), cx.deadline());
        Box::pin(async move {
            let request = (&*context, &*body);
            workers.answer(kind, json_client, request, deadline).await
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::config::{HandlerConfig, LoadOptions, load};

    /// The workers of a handler with these keys.
    fn workers(keys: &str) -> Workers {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("node.toml");
        let text = format!("[handler.app]\nkind = \"roadrunner\"\n{keys}");
        std::fs::write(&file, text).unwrap();
        let mut options = LoadOptions::new([]);
        options.file = Some(file);
        let config = load(&options).unwrap().config;
        let HandlerConfig::Workers(app) = &config.handlers["app"] else {
            panic!("no workers: {:?}", config.handlers);
        };
        Workers::try_new("app", app, 4096).unwrap()
    }

    #[test]
    fn w27_w49_without_a_number_there_is_a_worker_per_cpu_and_without_a_limit_one_of_thirty_seconds()
     {
        let cpus = available_parallelism().unwrap().get();
        for keys in ["", "pool.num_workers = 0\n"] {
            let workers = workers(&format!("command = \"php\"\n{keys}"));
            assert_eq!(workers.spec.num_workers, cpus);
            assert_eq!(workers.spec.exec_ttl, Duration::from_secs(30));
            assert_eq!(workers.spec.max_queue_size, 4096);
            assert_eq!(workers.spec.growth, None);
        }
    }

    #[test]
    fn w29_a_command_is_split_on_white_space_as_a_text_and_taken_as_it_is_as_a_list() {
        let text = workers("command = \"php  app.php\t--x=1,2 'a b'\"");
        let words = ["php", "app.php", "--x=1,2", "'a", "b'"];
        assert_eq!(text.spec.command.command, words);
        let list = workers("command = [\"/opt/my php\", \"a  b.php\"]");
        assert_eq!(list.spec.command.command, ["/opt/my php", "a  b.php"]);
    }

    #[test]
    fn the_table_of_the_allocator_alone_makes_a_pool_grow_with_roadrunners_defaults() {
        let grows = workers("command = \"php\"\n[handler.app.pool.dynamic_allocator]\n");
        let growth = grows.spec.growth.unwrap();
        assert_eq!((growth.max_workers, growth.spawn_rate), (10, 5));
        assert_eq!(growth.idle_timeout, Duration::from_secs(60));
        let set = "command = \"php\"\npool.dynamic_allocator.max_workers = 3\n";
        assert_eq!(workers(set).spec.growth.unwrap().max_workers, 3);
    }

    #[test]
    fn w17_own_variables_win_over_the_relay_and_lose_to_version_and_mode() {
        let own = [
            ("FOO", "x"),
            ("RR_RPC", "tcp://1.2.3.4:1"),
            ("RR_MODE", "http"),
        ];
        let own = own.map(|(name, value)| (name.to_owned(), value.to_owned()));
        let env = environment(&RelayAddress::Pipes, &Variables(BTreeMap::from(own)));
        let of = |name: &str| env.get(name).map(String::as_str);
        assert_eq!(of("FOO"), Some("x"));
        assert_eq!(of("RR_RPC"), Some("tcp://1.2.3.4:1"));
        assert_eq!(of("RR_MODE"), Some("centrifuge"));
        assert_eq!(of("RR_RELAY"), Some("pipes"));
        assert_eq!(of("RR_VERSION"), Some(RR_VERSION));
    }
}
