//! The handler `grpc`: an event's bytes to an upstream, and the bytes of its answer back.
//!
//! It is made with the configuration, so that `check-config` finds what is wrong, and looks names up
//! once the node runs. It ends when the last event that has it is done.

use super::ask::{Answer, Ask, Failed, of_status, told};
use super::fleet::Fleet;
use super::health::Rule;
use super::lease::Lease;
use super::member::{Dialing, Kind, Member};
use super::metadata::Added;
use super::resolve::{self, Resolver};
use super::stats::{End, Standing, Target};
use super::stream::Relay;
use super::tls::Tls;
use crate::answer::{Flaws, accepts};
use crate::client::{Budget, CallError};
use crate::config::UpstreamConfig;
use crate::cx::Cx;
use crate::engine::faults::Throttle;
use crate::event::{EventKind, SERVICE_PATH};
use crate::handler::{AnyHandler, HandlerFuture};
use crate::inbound::Inbound;
use crate::ingress::tls::TlsError;
use crate::metrics::cells::{Counter, Totals};
use crate::outcome::{Failure, Outcome, Unavailable};
use crate::reply::StreamOpen;
use bytes::Bytes;
use futures_util::StreamExt;
use std::fmt;
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use tokio::task::AbortHandle;
use tokio::time::{Instant, sleep, timeout_at};

/// Attempts to send a call at all.
const SENDINGS: usize = 8;
/// A pause before the next attempt once every address was tried, times their number.
const PAUSE: Duration = Duration::from_millis(10);
/// gRPC's numbers of statuses that mean something here.
const CANCELLED: i32 = 1;
const DEADLINE_EXCEEDED: i32 = 4;
const RESOURCE_EXHAUSTED: i32 = 8;
const UNAVAILABLE: i32 = 14;

/// The upstream of one `[handler.NAME]`.
pub(crate) struct Upstream {
    name: Arc<str>,
    config: UpstreamConfig,
    fleet: Arc<Fleet>,
    added: Added,
    tls: Option<Arc<Tls>>,
    resolver: Resolver,
    budget: Budget,
    /// Attempts after the first: of what was not sent, and of what was.
    retries: [Counter; 2],
    flaws: Flaws,
    failures: Throttle,
    running: OnceLock<Vec<AbortHandle>>,
}

impl fmt::Debug for Upstream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Upstream")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

impl Upstream {
    /// An upstream of this name. Names are not looked up yet.
    ///
    /// # Errors
    /// Certificates can't be used.
    pub(crate) fn try_new(name: &str, config: &UpstreamConfig) -> Result<Self, TlsError> {
        Self::with_resolver(name, config, Resolver::system())
    }

    pub(super) fn with_resolver(
        name: &str,
        config: &UpstreamConfig,
        resolver: Resolver,
    ) -> Result<Self, TlsError> {
        let has_tls = config.endpoints.iter().any(|endpoint| endpoint.tls);
        let tls = has_tls.then(|| Tls::try_new(&config.tls)).transpose()?;
        let tls = tls.map(Arc::new);
        let dialing = Dialing {
            limit: config.connect_timeout,
            tls: tls.clone(),
        };
        let rule = Rule {
            failures: config.eject.failures,
            time: config.eject.time,
            longest: config.eject.longest,
        };
        let targets = config.endpoints.iter();
        let targets = targets.map(|endpoint| Arc::new(Target::new(endpoint)));
        Ok(Self {
            name: name.into(),
            fleet: Arc::new(Fleet::new(targets.collect(), dialing, rule)),
            added: Added::new(&config.metadata),
            tls,
            resolver,
            budget: Budget::new(config.retry.budget),
            retries: Default::default(),
            flaws: Flaws::default(),
            failures: Throttle::default(),
            running: OnceLock::new(),
            config: config.clone(),
        })
    }

    /// Whether it is made of the same settings.
    pub(crate) fn is_like(&self, other: &Self) -> bool {
        self.name == other.name && self.config == other.config
    }

    /// The handler's name.
    pub(crate) const fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// Looks names up and watches certificates from now on, on the runtime that this is called on,
    /// unless it does already.
    pub(crate) fn start(&self) {
        self.running.get_or_init(|| {
            let (fleet, resolver) = (Arc::clone(&self.fleet), self.resolver.clone());
            let names = resolve::keep(fleet, resolver, Arc::clone(&self.name));
            let mut tasks = vec![tokio::spawn(names).abort_handle()];
            if let Some(tls) = &self.tls {
                let files = Arc::clone(tls).watch(Arc::clone(&self.name));
                tasks.push(tokio::spawn(files).abort_handle());
            }
            tasks
        });
    }

    /// Waits until there is an address, or none was found, but not for longer than this.
    pub(crate) async fn until_looked_up(&self, limit: Duration) {
        // Whether in time or not: the first event waits for what is left.
        drop(timeout_at(Instant::now() + limit, self.looked_up()).await);
    }

    async fn looked_up(&self) {
        let mut looked_up = self.fleet.looked_up.subscribe();
        while self.fleet.len() == 0 && *looked_up.borrow_and_update() == 0 {
            // The sender is the fleet's, which is there.
            drop(looked_up.changed().await);
        }
    }

    /// Its addresses.
    #[cfg(test)]
    pub(super) const fn fleet(&self) -> &Arc<Fleet> {
        &self.fleet
    }

    /// How its endpoints stand.
    pub(crate) fn standings(&self) -> Vec<Standing> {
        self.fleet.standings()
    }

    /// The times of calls to each endpoint, in the order of [`Upstream::standings`].
    pub(crate) fn add_times(&self, at: usize, totals: &mut Totals) {
        if let Some(target) = self.fleet.targets.get(at) {
            target.took.add_to(totals);
        }
    }

    /// Attempts after the first: of what was not sent, and of what was.
    pub(crate) fn retries(&self) -> [u64; 2] {
        [self.retries[0].get(), self.retries[1].get()]
    }

    /// Answers that crossed though they are flawed.
    pub(crate) const fn flaws(&self) -> &Flaws {
        &self.flaws
    }

    /// A message of an open stream may cross.
    pub(super) fn publication(
        &self,
        event: (EventKind, bool),
        message: &Bytes,
    ) -> Result<(), Failure> {
        let strict = self.config.strict_replies;
        self.flaws.publication(&self.name, strict, event, message)
    }

    async fn answer(self: Arc<Self>, mut ask: Ask) -> Outcome {
        let event = (ask.kind, ask.json_client);
        let deadline = ask.deadline;
        let (answer, lease) = match timeout_at(deadline, self.exchange(&ask)).await {
            Ok(Ok(answered)) => answered,
            Ok(Err(failed)) => return self.failed(ask.kind, deadline, failed).into(),
            Err(_) => return Failure::Deadline.into(),
        };
        let (Answer::Reply(first) | Answer::Stream(first, ..)) = &answer;
        let (strict, first) = (self.config.strict_replies, first.clone());
        let reply = match self.flaws.reply(&self.name, strict, event, first.clone()) {
            Ok(reply) => reply,
            Err(failure) => return failure.into(),
        };
        match answer {
            Answer::Stream(_, messages, mut feeder) if accepts(&first) => {
                if let Some(feeder) = &mut feeder {
                    feeder.begin(ask.inbound.take());
                }
                let relay = Relay {
                    upstream: self,
                    event,
                    messages,
                    _feeder: feeder,
                    lease,
                };
                Outcome::Stream(StreamOpen::encoded(first, relay.boxed()))
            }
            _ => Outcome::Reply(reply),
        }
    }

    /// Tries until there is an answer, or no further attempt is allowed.
    async fn exchange(&self, ask: &Ask) -> Result<(Answer, Lease), Failed> {
        self.looked_up().await;
        let kind = match ask.kind.is_stream() {
            true => Kind::Stream,
            false => Kind::Call,
        };
        let mut tried: Vec<Arc<Member>> = Vec::new();
        let (mut unsent, mut sent) = (0, 0);
        loop {
            let Some(member) = self.fleet.pick(kind, &tried) else {
                self.fleet.doubt.notify_one();
                return Err(Failed::Unreachable(self.fleet.why_empty()));
            };
            let mut lease = Lease::new(&self.name, &self.fleet, &member, kind, ask.deadline);
            let error = match ask.attempt(&mut lease).await {
                Ok(answer) => {
                    lease.settle(End::Status(0), "");
                    self.budget.succeeded();
                    return Ok((answer, lease));
                }
                Err(error) => error,
            };
            let place = lease.place();
            let told = told(&error, &place);
            lease.settle(End::of(&error), &told);
            drop(lease);
            tried.push(member);
            match error {
                CallError::NotSent(_) | CallError::Refused(_) => {
                    unsent += 1;
                    if unsent == SENDINGS {
                        return Err(Failed::Unreachable(told));
                    }
                    self.retries[0].add_one();
                }
                error => {
                    sent += 1;
                    if !self.may_repeat(sent, &error) {
                        return Err(match error {
                            CallError::Status(status) => Failed::Status(status, place),
                            CallError::Unreadable(_) => Failed::Unreadable(told),
                            _ => Failed::Unreachable(told),
                        });
                    }
                    self.retries[1].add_one();
                }
            }
            let rounds = tried.len() / self.fleet.len().max(1);
            if rounds > 0 {
                let rounds = u32::try_from(rounds).unwrap_or(u32::MAX);
                sleep((PAUSE * rounds).mul_f64(0.5 + fastrand::f64())).await;
            }
        }
    }

    /// Whether a call that was sent so many times is sent again. One that was lost counts as
    /// UNAVAILABLE, as gRPC has it.
    fn may_repeat(&self, sent: u32, error: &CallError) -> bool {
        let retry = &self.config.retry;
        let code = match error {
            CallError::Status(status) => status.code,
            CallError::Lost(_) => UNAVAILABLE,
            CallError::NotSent(_) | CallError::Refused(_) | CallError::Unreadable(_) => {
                return false;
            }
        };
        retry.on.contains(&code) && sent < retry.attempts && self.budget.may_retry()
    }

    fn failed(&self, kind: EventKind, deadline: Instant, failed: Failed) -> Failure {
        let place = || format!("handler `{}`", self.name);
        match failed {
            Failed::Unreachable(why) => self.unavailable(kind, &why),
            Failed::Unreadable(cause) => Failure::Internal {
                place: place(),
                cause,
            },
            Failed::Status(status, at) => match status.code {
                DEADLINE_EXCEEDED => Failure::Deadline,
                // Servers that drop a late call may be the first to notice.
                CANCELLED if deadline <= Instant::now() + PAUSE => Failure::Deadline,
                UNAVAILABLE | RESOURCE_EXHAUSTED => {
                    self.unavailable(kind, &of_status(&status, &at))
                }
                _ => Failure::Internal {
                    place: place(),
                    cause: of_status(&status, &at),
                },
            },
        }
    }

    fn unavailable(&self, kind: EventKind, why: &str) -> Failure {
        if let Some(count) = self.failures.pass() {
            tracing::error!(
                handler = &*self.name,
                event = kind.name(),
                count,
                "no upstream answers: {why} (`count` such events since the last line)"
            );
        }
        Failure::Unavailable(Unavailable::Upstream)
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        for task in self.running.take().into_iter().flatten() {
            task.abort();
        }
    }
}

/// A route's way to an upstream.
pub(crate) struct UpstreamHandler(pub(crate) Arc<Upstream>);

impl AnyHandler for UpstreamHandler {
    fn call(&self, cx: &mut Cx) -> HandlerFuture {
        let upstream = Arc::clone(&self.0);
        let kind = cx.kind();
        let method = match kind {
            EventKind::Raw => cx.method(),
            kind => kind.method(),
        };
        let own = upstream.config.timeout.map(|own| Instant::now() + own);
        let ask = Ask {
            kind,
            json_client: cx.is_json_client(),
            path: format!("{SERVICE_PATH}{method}"),
            metadata: upstream.added.onto(cx.metadata(), cx.trace_context()),
            request: cx.raw().clone(),
            deadline: own.into_iter().fold(cx.deadline(), Instant::min),
            inbound: cx.inbound.take().map(Inbound::new),
        };
        Box::pin(upstream.answer(ask))
    }
}
