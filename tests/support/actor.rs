//! A router that does what the metadata `x-do` says, for every kind of event alike.

use bytes::Bytes;
use centripeta::event::{
    CacheEmpty, ChannelState, Connect, Event, EventKind, MapPublish, MapRemove, Publish, Raw,
    RawMessage, Refresh, Rpc, SharedPollRefresh, Stream, StreamBidirectional, SubRefresh,
    Subscribe,
};
use centripeta::extract::Rejection;
use centripeta::outcome::{Overloaded, Unavailable};
use centripeta::{
    CacheEmptyReply, ChannelStateReply, ConnectReply, Cx, Failure, Flow, Headers, Interceptor,
    IntoOutcome, MapPublishReply, MapRemoveReply, Outcome, PublishReply, RefreshReply, Reject,
    Reply, Route, Router, RpcReply, SharedPollRefreshReply, StreamReply, SubRefreshReply,
    SubscribeReply,
};
use std::time::Duration;

/// An expiry that is far enough.
pub const EXPIRY: i64 = 4_000_000_000;

/// The event's plain yes.
pub fn yes(kind: EventKind) -> Outcome {
    match kind {
        EventKind::Connect => of::<Connect>(ConnectReply::user("u1")),
        EventKind::Refresh => of::<Refresh>(RefreshReply::extend_until(EXPIRY)),
        EventKind::Subscribe => of::<Subscribe>(SubscribeReply::allow()),
        EventKind::SubRefresh => of::<SubRefresh>(SubRefreshReply::extend_until(EXPIRY)),
        EventKind::Publish => of::<Publish>(PublishReply::allow()),
        EventKind::Rpc => of::<Rpc>(RpcReply::done()),
        EventKind::Stream => of::<Stream>(StreamReply::silent()),
        EventKind::StreamBidirectional => of::<StreamBidirectional>(StreamReply::silent()),
        EventKind::MapPublish => of::<MapPublish>(MapPublishReply::allow()),
        EventKind::MapRemove => of::<MapRemove>(MapRemoveReply::allow()),
        EventKind::SharedPollRefresh => of::<SharedPollRefresh>(SharedPollRefreshReply::new()),
        EventKind::CacheEmpty => of::<CacheEmpty>(CacheEmptyReply::populated(false)),
        EventKind::ChannelState => of::<ChannelState>(ChannelStateReply::acknowledge()),
        EventKind::Raw => of::<Raw>(RawMessage::new(b"\x0a\x03raw")),
    }
}

fn of<E: Event>(answer: impl IntoOutcome<E>) -> Outcome {
    answer.into_outcome()
}

fn act<E: Event>(Headers(headers): Headers) -> impl Future<Output = Outcome> + Send + use<E> {
    let act = headers
        .get("x-do")
        .map(|act| act.to_str().unwrap().to_owned());
    async move {
        let act = act.unwrap_or_default();
        let mut words = act.split('/');
        let verb = words.next().unwrap_or_default();
        let code = |words: &mut std::str::Split<'_, char>| -> u32 {
            words.next().unwrap_or_default().parse().unwrap()
        };
        match verb {
            "" => yes(E::KIND),
            "empty" => Outcome::Reply(Reply::empty()),
            "error" => Reject::error(code(&mut words), words.next().unwrap_or_default()).into(),
            "temporary" => Reject::error(code(&mut words), "later").temporary().into(),
            "disconnect" => {
                let code = code(&mut words);
                Reject::disconnect(code, words.next().unwrap_or_default()).into()
            }
            "fail" => Reject::from(std::io::Error::other("secret cause")).into(),
            "panic" => panic!("secret cause"),
            "panic-later" => {
                tokio::task::yield_now().await;
                panic!("secret cause")
            }
            "sleep" => {
                tokio::time::sleep(Duration::from_millis(u64::from(code(&mut words)))).await;
                yes(E::KIND)
            }
            "bad-data" => Rejection::bad_data("secret cause").into(),
            "stream" => of::<Stream>(StreamReply::silent()),
            "raw" => {
                let hex = words.next().unwrap_or_default();
                Outcome::Reply(Reply::raw(Bytes::from(unhex(hex))))
            }
            other => panic!("`{other}` is nothing to do"),
        }
    }
}

/// Bytes of hexadecimal digits.
pub fn unhex(hex: &str) -> Vec<u8> {
    let digit = |digit: u8| char::from(digit).to_digit(16).unwrap() as u8;
    let pairs = hex.as_bytes().chunks(2);
    pairs
        .map(|pair| digit(pair[0]) * 16 + digit(pair[1]))
        .collect()
}

/// Fails in the handler's place where `x-stage` says so.
struct Stage;

impl Interceptor for Stage {
    async fn before(&self, cx: &mut Cx) -> Flow {
        match cx.header("x-stage") {
            Some("overload") => Failure::Overloaded(Overloaded::Rate).into(),
            Some("parked") => Failure::Unavailable(Unavailable::Parked).into(),
            Some("no-owner") => Failure::Unavailable(Unavailable::NoOwner).into(),
            Some("panic") => panic!("secret cause"),
            Some("fail") => Reject::internal("secret cause").into(),
            _ => Flow::Next,
        }
    }

    async fn after(&self, cx: &Cx, outcome: &mut Outcome) {
        if cx.header("x-stage") == Some("bad-after") {
            *outcome = Reject::error(99, "code 99 may not leave").into();
        }
    }
}

/// The router.
pub fn router() -> Router {
    Router::new()
        .intercept_all("stage", Stage)
        .route(Route::of::<Connect, _, _>(act::<Connect>))
        .route(Route::of::<Refresh, _, _>(act::<Refresh>))
        .route(Route::of::<Subscribe, _, _>(act::<Subscribe>))
        .route(Route::of::<SubRefresh, _, _>(act::<SubRefresh>))
        .route(Route::of::<Publish, _, _>(act::<Publish>))
        .route(Route::of::<Rpc, _, _>(act::<Rpc>))
        .route(Route::of::<Stream, _, _>(act::<Stream>))
        .route(Route::of::<StreamBidirectional, _, _>(
            act::<StreamBidirectional>,
        ))
        .route(Route::of::<MapPublish, _, _>(act::<MapPublish>))
        .route(Route::of::<MapRemove, _, _>(act::<MapRemove>))
        .route(Route::of::<SharedPollRefresh, _, _>(
            act::<SharedPollRefresh>,
        ))
        .route(Route::of::<CacheEmpty, _, _>(act::<CacheEmpty>))
        .route(Route::of::<ChannelState, _, _>(act::<ChannelState>))
        .route(Route::of::<Raw, _, _>(act::<Raw>))
}
