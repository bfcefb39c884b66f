//! An application that does what the client asks, for people who test clients, proxies and failure
//! handling; to Centrifugo what an HTTP echo site is to HTTP. It listens on loopback only.
//!
//! It obeys a JSON object in the client's `data` (connect, subscribe, publish, rpc, streams, map
//! events), and in the connection meta under `refresh` and `sub_refresh` for these two:
//!
//! | Directive | It does |
//! |---|---|
//! | none, or no `do` | connect as user `u1`; refresh, sub_refresh: extend by an hour; the rest: allow |
//! | `{"do":"result","result":{…}}` | answers this result, see `Reply::from_json` |
//! | `{"do":"empty"}` | answers with neither result nor error nor disconnect |
//! | `{"do":"error","code":N,"message":"…","temporary":true}` | answers this error |
//! | `{"do":"disconnect","code":N,"reason":"…"}` | answers this disconnect |
//! | `{"do":"fail"}` | panics |
//! | `{"do":"sleep","ms":N,"then":{…}}` | sleeps, then obeys `then` |
//! | `{"do":"echo"}` (rpc) | answers what it saw of the client |
//! | `{"do":"stream","first":{…},"publications":[…],"end":"ok"}` (streams) | accepts, sends, stays open or ends: `ok`, `fail` |
//!
//! What a client publishes into a two-way stream comes back as `{"echo": …}`. With
//! `--log info,mirror=debug` every event leaves a line when it begins and when it ends.

use centripeta::config::Config;
use centripeta::extract::{FromEvent, Rejection};
use centripeta::proto::proxy::Publication;
use centripeta::reject::BoxError;
use centripeta::{
    App, ConnectReply, Cx, EventKind, Failure, Flow, Inbound, Interceptor, MapPublishReply,
    MapRemoveReply, Outcome, PublishReply, RefreshReply, Reject, Reply, Router, RpcReply,
    StreamReply, SubRefreshReply, SubscribeReply, event::Event,
};
use futures_util::stream::{self, Stream, StreamExt};
use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize};
use serde_json::value::{RawValue, to_raw_value};
use std::collections::BTreeMap;
use std::future::ready;
use std::process::ExitCode;
use std::time::Duration;
use tokio::time::sleep;

/// By how much refreshes extend if nothing else is asked.
const HOUR: Duration = Duration::from_secs(3600);
/// How long a stream that is to end stays open after its last publication.
const LAST_WORDS: Duration = Duration::from_millis(100);

fn main() -> ExitCode {
    App::new(router())
        .name("mirror")
        .about("Does what the client asks: for tests of clients, proxies and failure handling")
        .require(loopback_only)
        .run()
}

/// Whoever reaches a mirror can make it answer anything.
fn loopback_only(config: &Config) -> Result<(), String> {
    config.beyond_loopback().map_or(Ok(()), |key| {
        let rule = "mirror answers whatever a client asks for, so it listens on loopback only";
        Err(format!("{rule}, which `{key}` does not"))
    })
}

fn router() -> Router {
    Router::new()
        .intercept_all("journal", Journal)
        .connect(obey)
        .refresh(obey)
        .subscribe("*", obey)
        .sub_refresh("*", obey)
        .publish("*", obey)
        .rpc("*", obey)
        .map_publish("*", obey)
        .map_remove("*", obey)
        .stream("*", obey_one_way)
        .stream_bidirectional("*", obey_two_way)
}

/// What is to be done. Which keys count depends on `do`.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Directive {
    r#do: Option<String>,
    result: Option<Box<RawValue>>,
    code: u32,
    message: String,
    temporary: bool,
    reason: String,
    ms: u64,
    then: Option<Box<Directive>>,
    first: Option<Box<RawValue>>,
    publications: Vec<Publication>,
    end: Option<End>,
}

#[derive(Clone, Copy, PartialEq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum End {
    Ok,
    Fail,
}

/// What an rpc with `echo` is answered.
#[derive(Serialize)]
struct Echo {
    client: String,
    transport: String,
    protocol: String,
    encoding: String,
    user: String,
    method: String,
    data: Option<Box<RawValue>>,
    meta: Option<Box<RawValue>>,
}

/// An event as the mirror sees it: an extractor of our own.
struct Ask {
    kind: EventKind,
    directive: Directive,
    echo: Echo,
}

impl<E: Event, S> FromEvent<E, S> for Ask {
    fn from_event(cx: &mut Cx, _: &S) -> Result<Self, Rejection> {
        let data = cx
            .data()
            .map_err(|why| Rejection::bad_data(why.to_string()))?;
        let meta = cx.meta();
        let told = match E::KIND.is_refresh() {
            false => data
                .as_deref()
                .map(|data| String::from_utf8_lossy(data).into()),
            true => meta.as_deref().and_then(|meta| {
                let mut keys =
                    serde_json::from_slice::<BTreeMap<String, Box<RawValue>>>(meta).ok()?;
                keys.remove(E::KIND.name()).map(Box::<str>::from)
            }),
        };
        let directive = match told.filter(|text| is_directive(text)) {
            None => Directive::default(),
            Some(text) => serde_json::from_str(&text)
                .map_err(|why| Rejection::bad_data(format!("the directive: {why}")))?,
        };
        let echo = Echo {
            client: cx.client().to_owned(),
            transport: cx.transport().to_owned(),
            protocol: cx.protocol().to_owned(),
            encoding: cx.encoding().to_owned(),
            user: cx.user().to_owned(),
            method: cx.method().to_owned(),
            data: data.as_deref().and_then(json),
            meta: meta.as_deref().and_then(json),
        };
        Ok(Self {
            kind: E::KIND,
            directive,
            echo,
        })
    }
}

/// Whether it is an object with a `do`.
fn is_directive(text: &str) -> bool {
    let keys = serde_json::from_str::<BTreeMap<String, IgnoredAny>>(text);
    keys.is_ok_and(|keys| keys.contains_key("do"))
}

/// The bytes as JSON, kept as they are; what is not JSON becomes a string.
fn json(bytes: &[u8]) -> Option<Box<RawValue>> {
    let as_text = || to_raw_value(&String::from_utf8_lossy(bytes));
    serde_json::from_slice(bytes).or_else(|_| as_text()).ok()
}

impl Ask {
    /// Sleeps as often as it is told to, and is left with the rest.
    async fn awake(mut self) -> Self {
        while self.directive.r#do.as_deref() == Some("sleep") {
            sleep(Duration::from_millis(self.directive.ms)).await;
            self.directive = self.directive.then.map(|then| *then).unwrap_or_default();
        }
        self
    }

    fn answer(self) -> Outcome {
        let it = self.directive;
        match it.r#do.as_deref() {
            None => Outcome::Reply(plain_yes(self.kind)),
            Some("result") => {
                let result = it.result.as_deref().map_or("{}", RawValue::get);
                let reply = Reply::from_json(self.kind, result).map(Outcome::Reply);
                reply.unwrap_or_else(|why| Failure::BadData(why.to_string()).into())
            }
            Some("empty") => Outcome::Reply(Reply::empty()),
            Some("error") => match Reject::error(it.code, it.message) {
                reject if it.temporary => reject.temporary().into(),
                reject => reject.into(),
            },
            Some("disconnect") => Reject::disconnect(it.code, it.reason).into(),
            Some("fail") => panic!("the client asked for a panic"),
            Some("echo") if self.kind == EventKind::Rpc => {
                Outcome::Reply(RpcReply::data(&self.echo).into())
            }
            Some(other) => {
                let what = format!("a {} event can't do `{other}`", self.kind);
                Failure::BadData(what).into()
            }
        }
    }
}

/// What an event is answered if nothing is asked.
fn plain_yes(kind: EventKind) -> Reply {
    match kind {
        EventKind::Connect => ConnectReply::user("u1").into(),
        EventKind::Refresh => RefreshReply::extend(HOUR).into(),
        EventKind::SubRefresh => SubRefreshReply::extend(HOUR).into(),
        EventKind::Publish => PublishReply::allow().into(),
        EventKind::Rpc => RpcReply::done().into(),
        EventKind::MapPublish => MapPublishReply::allow().into(),
        EventKind::MapRemove => MapRemoveReply::allow().into(),
        _ => SubscribeReply::allow().into(),
    }
}

async fn obey(ask: Ask) -> Outcome {
    ask.awake().await.answer()
}

async fn obey_one_way(ask: Ask) -> Outcome {
    open(ask.awake().await, stream::empty())
}

async fn obey_two_way(ask: Ask, inbound: Inbound) -> Outcome {
    let echoes = inbound.map(|publication| {
        let echo = BTreeMap::from([("echo", json(&publication.data))]);
        Ok(Publication::json(&echo)?)
    });
    open(ask.awake().await, echoes)
}

/// Accepts a stream, if that is what was asked for: with these echoes beside its publications.
fn open<S>(mut ask: Ask, echoes: S) -> Outcome
where
    S: Stream<Item = Result<Publication, BoxError>> + Send + 'static,
{
    let it = &mut ask.directive;
    let first = match it.r#do.as_deref() {
        None => None,
        Some("stream") => it.first.take(),
        Some("result") => it.result.take(),
        Some(_) => return ask.answer(),
    };
    let first = match first.map(|first| SubscribeReply::from_json(first.get())) {
        None => SubscribeReply::allow(),
        Some(Ok(first)) => first,
        Some(Err(why)) => return Failure::BadData(why.to_string()).into(),
    };
    let sent = stream::iter(std::mem::take(&mut it.publications)).map(|one| Some(Ok(one)));
    let source = stream::select(sent.chain(end(it.end)), echoes.map(Some));
    // Nothing, said in words, ends both.
    let source = source.take_while(|item| ready(item.is_some()));
    let reply = StreamReply::try_publications(source.filter_map(ready));
    reply.first(first).into()
}

/// What follows the last publication.
fn end(end: Option<End>) -> impl Stream<Item = Option<Result<Publication, BoxError>>> + Send {
    stream::once(async move {
        match end {
            None => std::future::pending().await,
            Some(_) => sleep(LAST_WORDS).await,
        }
        (end == Some(End::Fail)).then(|| Err("the client asked for a failure".into()))
    })
}

/// Says what comes and how it goes; nothing of what clients send but names.
struct Journal;

#[derive(Clone, Copy)]
struct Begun(tokio::time::Instant);

impl Interceptor for Journal {
    async fn before(&self, cx: &mut Cx) -> Flow {
        cx.set_attribute(Begun(tokio::time::Instant::now()));
        let (event, client, user) = (cx.kind().name(), cx.client(), cx.user());
        let subject = cx.subject();
        tracing::debug!(target: "mirror", event, client, user, subject, "begin");
        Flow::Next
    }

    async fn after(&self, cx: &Cx, outcome: &mut Outcome) {
        let ms = cx
            .attribute()
            .map(|Begun(at)| at.elapsed().as_secs_f64() * 1e3);
        let (event, client, subject) = (cx.kind().name(), cx.client(), cx.subject());
        tracing::debug!(target: "mirror", event, client, subject, ms, outcome = outcome.label(), "end");
    }
}
