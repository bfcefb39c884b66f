//! The publisher itself: checks, encodes and queues calls, and gives their answers.

use super::batch;
use super::dispatcher::Course;
use super::error::{self, Error, MethodName, Refusal};
use super::job::{Fence, Job, LaneKeys, Stands};
use super::live::{self, Live};
use super::methods::{self, BATCH, MethodInfo, Request};
use super::pending::Pending;
use super::recorder::Recorder;
use super::rules::{Inside, Ruled, Rules};
use super::stats::{Counters, Stats};
use super::tally::Tally;
use crate::config::CentrifugoConfig;
use crate::ingress::tls::TlsError;
use crate::proto::api;
use crate::trace::call::Caller;
use bytes::Bytes;
use prost::Message;
use serde::Serialize;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::oneshot;
use tokio::time::Instant;

/// No call waits longer.
const LONGEST: Duration = Duration::from_secs(24 * 3600);

/// A client of Centrifugo's server API. Clones are cheap and share everything.
///
/// Every method of the API is there under its name in a batch, such as [`Publisher::publish`] or
/// [`Publisher::presence_stats`]; [`Publisher::call`] takes any of their requests, and
/// [`Publisher::raw`] a method that this version does not know.
#[derive(Clone)]
pub struct Publisher {
    backend: Backend,
    flags: Flags,
    timeout: Option<Duration>,
    /// Whose ownership is checked.
    pub(super) fence: Option<Fence>,
    /// The subscribe whose handler calls.
    pub(super) inside: Option<Arc<Inside>>,
    /// The trace of the event whose handler calls.
    pub(super) caller: Option<Caller>,
}

#[derive(Debug, Clone)]
enum Backend {
    Live(Arc<Live>),
    Recorder(Arc<Recorder>),
    Closed,
}

#[derive(Debug, Clone, Copy, Default)]
struct Flags {
    binary: bool,
    anonymous: bool,
    idempotent: bool,
    transport_errors: bool,
}

impl Publisher {
    /// Connects to the endpoints of a configuration, on the current runtime. Endpoints that are not
    /// there are tried again and again; nothing waits for them here. `namespace_boundary` is
    /// `channel.namespace_boundary`, for the words of errors.
    ///
    /// # Errors
    /// The files of `centrifugo.tls` can't be used.
    pub fn connect(config: &CentrifugoConfig, namespace_boundary: &str) -> Result<Self, TlsError> {
        let live = Live::connect(config, namespace_boundary)?;
        Ok(Self::new(Backend::Live(Arc::new(live))))
    }

    /// Sends later calls by another configuration: other endpoints, another key, other limits. Order
    /// per channel and what waits stay; calls under way are answered where they are.
    ///
    /// # Errors
    /// As for [`Publisher::connect`]; nothing has changed then.
    pub fn reconfigure(&self, config: &CentrifugoConfig) -> Result<(), TlsError> {
        self.prepare(config).map(Reconfigured::apply)
    }

    /// Whether a configuration could be connected by, without doing it.
    ///
    /// # Errors
    /// As for [`Publisher::connect`].
    pub(crate) fn check(config: &CentrifugoConfig) -> Result<(), TlsError> {
        live::course(config).map(drop)
    }

    /// Makes another configuration ready, for [`Reconfigured::apply`].
    pub(crate) fn prepare(&self, config: &CentrifugoConfig) -> Result<Reconfigured, TlsError> {
        Ok(Reconfigured {
            publisher: self.clone(),
            config: config.clone(),
            course: live::course(config)?,
        })
    }

    /// A publisher that keeps what is called and sends nothing.
    pub fn recording(recorder: Arc<Recorder>) -> Self {
        Self::new(Backend::Recorder(recorder))
    }

    /// A publisher that refuses every call as [`Error::Closed`].
    pub const fn closed() -> Self {
        Self::new(Backend::Closed)
    }

    const fn new(backend: Backend) -> Self {
        Self {
            backend,
            flags: Flags {
                binary: false,
                anonymous: false,
                idempotent: false,
                transport_errors: false,
            },
            timeout: None,
            fence: None,
            inside: None,
            caller: None,
        }
    }

    /// Lets payloads be anything. Only for channels whose clients all speak protobuf: one that
    /// speaks JSON is disconnected (3506) by the first publication that is not JSON.
    #[must_use]
    pub fn binary(&self) -> Self {
        let mut it = self.clone();
        it.flags.binary = true;
        it
    }

    /// Lets `user` be empty, which means every anonymous connection.
    #[must_use]
    pub fn anonymous(&self) -> Self {
        let mut it = self.clone();
        it.flags.anonymous = true;
        it
    }

    /// Gives calls that can have an idempotency key and have none a random one, so that they are
    /// sent again when an answer is lost. Centrifugo keeps each for five minutes.
    #[must_use]
    pub fn idempotent(&self) -> Self {
        let mut it = self.clone();
        it.flags.idempotent = true;
        it
    }

    /// Asks for errors as gRPC statuses; what callers get is the same.
    #[must_use]
    pub fn transport_errors(&self) -> Self {
        let mut it = self.clone();
        it.flags.transport_errors = true;
        it
    }

    /// Another time limit than `centrifugo.timeout`, from the call to its answer; at most a day.
    #[must_use]
    pub fn timeout(&self, timeout: Duration) -> Self {
        let mut it = self.clone();
        it.timeout = Some(timeout);
        it
    }

    /// For a task that outlives the handler which started it: the subscribe that the handler works
    /// on may be undone. The bond to slot and owner epoch stays.
    #[must_use]
    pub fn detached(&self) -> Self {
        let mut it = self.clone();
        it.inside = None;
        it
    }

    /// Calls a method; the request says which. Queued at once, awaited for the answer.
    pub fn call<R: Request>(&self, request: R) -> Pending<R::Result> {
        let (reply, answer) = oneshot::channel();
        match self.submit(request, Some(reply)) {
            Ok(()) => Pending::plain(answer, decoded::<R>),
            Err(error) => Pending::failed(error),
        }
    }

    /// Calls a method without waiting for its answer; that it fails later is logged and counted.
    ///
    /// # Errors
    /// The call could not be queued.
    pub fn cast<R: Request>(&self, request: R) -> Result<(), Error> {
        self.submit(request, None)
    }

    /// Publishes a value as JSON.
    pub fn publish_json<T: Serialize + ?Sized>(
        &self,
        channel: impl Into<String>,
        value: &T,
    ) -> Pending<api::PublishResult> {
        match publication(channel.into(), value) {
            Ok(request) => self.publish(request),
            Err(error) => self.refused(&api::PublishRequest::INFO, error),
        }
    }

    /// Publishes a value as JSON without waiting for the answer; see [`Publisher::cast`].
    ///
    /// # Errors
    /// The publication could not be queued.
    pub fn publish_now<T: Serialize + ?Sized>(
        &self,
        channel: impl Into<String>,
        value: &T,
    ) -> Result<(), Error> {
        let publication = publication(channel.into(), value);
        let counted = |error: &Error| self.count_refused(&api::PublishRequest::INFO, error);
        self.cast(publication.inspect_err(counted)?)
    }

    /// Publishes a value as JSON into several channels. Each has an answer of its own, see
    /// [`api::BroadcastResult::per_channel`].
    pub fn broadcast_json<C: Into<String>, T: Serialize + ?Sized>(
        &self,
        channels: impl IntoIterator<Item = C>,
        value: &T,
    ) -> Pending<api::BroadcastResult> {
        match json("Broadcast", value) {
            Ok(data) => self.broadcast(api::BroadcastRequest {
                channels: channels.into_iter().map(Into::into).collect(),
                data,
                ..Default::default()
            }),
            Err(error) => self.refused(&api::BroadcastRequest::INFO, error),
        }
    }

    /// Several commands in one call, in their order unless `parallel`. Each has its own answer, in
    /// the same order; a command that was not answered has [`Error::Lost`]. It goes beside the lanes
    /// of channels: await it for order with other calls.
    pub fn batch(
        &self,
        mut commands: Vec<api::Command>,
        parallel: bool,
    ) -> Pending<Vec<Result<api::Reply, Error>>> {
        let rules = self.rules();
        for command in &mut commands {
            if self.flags.idempotent {
                methods::fill_key(command);
            }
            if let Err(error) = methods::check(command, &rules) {
                return self.refused(&BATCH, error);
            }
        }
        let is_safe = commands.iter_mut().all(methods::is_safe);
        let names: Vec<MethodName> = commands.iter().map(methods::name_of).collect();
        let request = api::BatchRequest { commands, parallel };
        let payload = request.encode_to_vec().into();
        let (reply, answer) = oneshot::channel();
        match self.send(BATCH, payload, LaneKeys::None, is_safe, Some(reply)) {
            Ok(()) => Pending::with(answer, move |bytes| apart(bytes, names)),
            Err(error) => Pending::failed(error),
        }
    }

    /// Calls a method of the service by its name, such as `"Publish"`, with an encoded request; the
    /// answer is the encoded response, which may hold an error. Nothing of it is checked.
    pub fn raw(&self, method: &str, message: impl Into<Bytes>) -> Pending<Bytes> {
        let name = MethodName::Owned(method.to_owned());
        let info = MethodInfo { name, ..BATCH };
        if method.is_empty() || !method.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
            let error = Error::Refused {
                method: info.name.clone(),
                refusal: Refusal::BadMethod,
            };
            return self.refused(&info, error);
        }
        let (reply, answer) = oneshot::channel();
        match self.send(info, message.into(), LaneKeys::None, false, Some(reply)) {
            Ok(()) => Pending::plain(answer, Ok),
            Err(error) => Pending::failed(error),
        }
    }

    /// What it has done so far. All zero, without endpoints, unless it is connected.
    pub fn stats(&self) -> Stats {
        match &self.backend {
            Backend::Live(live) => live.counters.stats(live.fleet.stats()),
            Backend::Recorder(_) | Backend::Closed => Counters::default().stats(Vec::new()),
        }
    }

    /// Refuses new calls and waits at most `grace` until the queue is empty; what is left then is
    /// [`Error::Closed`]. Answers how many calls that were.
    pub async fn shutdown(&self, grace: Duration) -> usize {
        match &self.backend {
            Backend::Live(live) => live.close(grace).await,
            Backend::Recorder(_) | Backend::Closed => 0,
        }
    }

    /// What `/metrics` says of its calls; nothing unless it is connected.
    pub(crate) fn tally(&self) -> Option<&Tally> {
        match &self.backend {
            Backend::Live(live) => Some(&live.counters.tally),
            Backend::Recorder(_) | Backend::Closed => None,
        }
    }

    /// How many calls and how many of their bytes may wait; 0 unless it is connected.
    pub(crate) fn limits(&self) -> (usize, usize) {
        match &self.backend {
            Backend::Live(live) => {
                let limits = live.limits.load();
                (limits.queue, limits.queue_bytes)
            }
            Backend::Recorder(_) | Backend::Closed => (0, 0),
        }
    }

    /// Counts and records a call that ends before it is queued.
    fn count_refused(&self, method: &MethodInfo, error: &Error) {
        if let Some(tally) = self.tally() {
            tally.refused(method, error);
        }
        if let Some(caller) = &self.caller {
            caller.call().ended(&method.name, || None, Some(error));
        }
    }

    fn refused<T>(&self, method: &MethodInfo, error: Error) -> Pending<T> {
        self.count_refused(method, &error);
        Pending::failed(error)
    }

    fn rules(&self) -> Rules<'_> {
        Rules {
            binary: self.flags.binary,
            anonymous: self.flags.anonymous,
            inside: self.inside.as_deref(),
        }
    }

    fn submit<R: Request>(&self, mut request: R, reply: Option<Answer>) -> Result<(), Error> {
        let refused = |refusal| Error::Refused {
            method: R::INFO.name,
            refusal,
        };
        let checked = request.check(&self.rules()).map_err(refused);
        checked.inspect_err(|error| self.count_refused(&R::INFO, error))?;
        if self.flags.idempotent {
            fill_key(&mut request);
        }
        let is_safe = methods::is_safe_request(&mut request);
        let lanes = methods::lanes_of(&request);
        let payload = request.encode_to_vec().into();
        self.send(R::INFO, payload, lanes, is_safe, reply)
    }

    #[allow(
        clippy::needless_pass_by_value,
        reason = "callers make it for this call"
    )]
    pub(super) fn send(
        &self,
        method: MethodInfo,
        payload: Bytes,
        lanes: LaneKeys,
        is_safe: bool,
        reply: Option<Answer>,
    ) -> Result<(), Error> {
        let sent = self.try_send(&method, payload, lanes, is_safe, reply);
        sent.inspect_err(|error| self.count_refused(&method, error))
    }

    fn try_send(
        &self,
        method: &MethodInfo,
        payload: Bytes,
        lanes: LaneKeys,
        is_safe: bool,
        reply: Option<Answer>,
    ) -> Result<(), Error> {
        if let Some(fence) = &self.fence {
            // A call waits for a lease that has lapsed as the answer of its event does; what keeps no
            // queue refuses it.
            match (fence.stands(), &self.backend) {
                (Stands::Free, _) | (Stands::Lapsed, Backend::Live(_)) => {}
                (Stands::Lapsed | Stands::Fenced, _) => return Err(fence.error()),
            }
        }
        let live = match &self.backend {
            Backend::Live(live) => live,
            Backend::Recorder(recorder) => {
                let answer = recorder.record(&method.name, payload);
                if let Some(reply) = reply {
                    // Nobody may be waiting for it.
                    drop(reply.send(answer));
                }
                return Ok(());
            }
            Backend::Closed => return Err(Error::Closed),
        };
        let limits = live.limits.load();
        if payload.len() > limits.message_bytes {
            return Err(Error::Refused {
                method: method.name.clone(),
                refusal: Refusal::TooLarge {
                    bytes: payload.len(),
                    limit: limits.message_bytes,
                },
            });
        }
        let place = live.place(payload.len())?;
        let timeout = self.timeout.unwrap_or(limits.timeout).min(LONGEST);
        let job = Job {
            method: method.clone(),
            payload,
            lanes,
            timeout,
            deadline: Instant::now() + timeout,
            is_safe,
            transport_errors: self.flags.transport_errors,
            fence: self.fence.clone(),
            trace: self.caller.as_ref().map(Caller::call),
            reply,
            place,
        };
        live.inbox.send(job).map_err(|_| Error::Closed)
    }
}

/// Another configuration of a publisher, ready to be used.
#[derive(Debug)]
pub(crate) struct Reconfigured {
    publisher: Publisher,
    config: CentrifugoConfig,
    course: Course,
}

impl Reconfigured {
    /// Uses it for later calls.
    pub(crate) fn apply(self) {
        if let Backend::Live(live) = &self.publisher.backend {
            live.reconfigure(&self.config, self.course);
        }
    }
}

type Answer = oneshot::Sender<Result<Bytes, Error>>;

impl fmt::Debug for Publisher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Publisher")
            .field("flags", &self.flags)
            .field("fence", &self.fence)
            .finish_non_exhaustive()
    }
}

fn decoded<R: Request>(bytes: Bytes) -> Result<R::Result, Error> {
    R::Result::decode(bytes).map_err(|why| Error::Lost {
        method: R::INFO.name,
        why: format!("its result is malformed: {why}"),
    })
}

/// The answers to the commands of a batch.
fn apart(response: Bytes, names: Vec<MethodName>) -> Result<Vec<Result<api::Reply, Error>>, Error> {
    let replies = batch::replies(response);
    let (wanted, there) = (names.len(), replies.len());
    let mut replies = replies.into_iter();
    let answer = |method: MethodName| {
        let lost = |why: String| Error::Lost {
            method: method.clone(),
            why,
        };
        let Some(reply) = replies.next() else {
            return Err(lost(format!("{there} of {wanted} commands were answered")));
        };
        let reply = api::Reply::decode(reply).map_err(|why| lost(why.to_string()))?;
        match &reply.error {
            Some(error) => Err(error::refused(&method, error, None, ":")),
            None => Ok(reply),
        }
    };
    Ok(names.into_iter().map(answer).collect())
}

fn publication<T: Serialize + ?Sized>(
    channel: String,
    value: &T,
) -> Result<api::PublishRequest, Error> {
    Ok(api::PublishRequest {
        channel,
        data: json("Publish", value)?,
        ..Default::default()
    })
}

fn json<T: Serialize + ?Sized>(method: &'static str, value: &T) -> Result<Bytes, Error> {
    let json = serde_json::to_vec(value).map_err(|why| Error::Refused {
        method: method.into(),
        refusal: Refusal::Unserializable(why.to_string()),
    })?;
    Ok(json.into())
}

/// A random idempotency key, where the method has one and none is set.
pub(super) fn fill_key<R: Ruled>(request: &mut R) {
    if let Some(key) = request.key().filter(|key| key.is_empty()) {
        *key = format!("{:032x}", fastrand::u128(..));
    }
}

impl api::BroadcastResult {
    /// How it went in each channel, in the order of the request.
    pub fn per_channel(&self) -> impl Iterator<Item = Result<api::PublishResult, Error>> {
        self.responses.iter().map(|response| match &response.error {
            Some(error) => Err(error::refused(&"Broadcast".into(), error, None, ":")),
            None => Ok(response.result.clone().unwrap_or_default()),
        })
    }
}
