//! Extractors: the arguments of handlers, taken from the event.
//!
//! | Extractor | Gives | Refuses |
//! |---|---|---|
//! | [`Data<T>`] | the payload as `T` from JSON | no payload, not JSON, another shape: *bad data* |
//! | [`Param<T>`] | the next parameter of the pattern | does not parse as `T`: *bad data* |
//! | [`User`] | the authenticated user | an anonymous one: 103 |
//! | [`Client`], [`Channel`], [`Method`] | the field | never |
//! | [`Meta<T>`] | the connection meta as `T` | absent or another shape: a failure of ours |
//! | [`State<T>`] | the state given to `with_state` | never |
//! | [`Attribute<T>`] | what a stage has set | absent: a failure of ours |
//! | [`Headers`], [`Raw`], [`Request<E>`] | metadata, request bytes, typed request | never |
//! | [`Deadline`] | when the answer is due | never |
//! | [`TraceContext`](crate::TraceContext) | the trace, for calls of the handler's own | never |
//! | [`Publisher`](crate::Publisher) | a client of Centrifugo's API, bound to the event's key | never |
//! | [`Inbound`] | the client's publications | only on two-way streams |
//!
//! `Option<X>` of an extractor is `None` where the event has no such value; a value of the wrong
//! shape is refused all the same.

use crate::cx::Cx;
use crate::event::{Event, StreamBidirectional};
pub use crate::inbound::Inbound;
use crate::outcome::{Failure, Outcome};
use crate::reject::Reject;
use bytes::Bytes;
use http::HeaderMap;
use serde::de::DeserializeOwned;
use std::fmt::Display;
use std::str::FromStr;
use tokio::time::Instant;

/// Why an argument can't be had.
#[derive(Debug)]
pub enum Rejection {
    /// The event has no such value; `Option` of the extractor is `None`.
    Absent(Outcome),
    /// It has one that does not fit.
    Invalid(Outcome),
}

impl Rejection {
    /// Bad data, said to the client (107 or its twin of the event).
    pub fn bad_data(what: impl Into<String>) -> Self {
        Self::Invalid(Failure::BadData(what.into()).into())
    }

    fn internal(place: &str, cause: impl Into<String>) -> Outcome {
        Failure::Internal {
            place: place.to_owned(),
            cause: cause.into(),
        }
        .into()
    }
}

impl From<Rejection> for Outcome {
    fn from(rejection: Rejection) -> Self {
        match rejection {
            Rejection::Absent(outcome) | Rejection::Invalid(outcome) => outcome,
        }
    }
}

/// A handler's argument that is taken from the event.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not an extractor of the event `{E}`",
    label = "can't be an argument of this handler",
    note = "extractors are `Data<T>` (T: Deserialize), `Param<T>` (T: FromStr), `User`, `Client`, \
            `Channel`, `Method`, `Meta<T>`, `State<T>`, `Attribute<T>`, `Headers`, `Raw`, \
            `Request<E>`, `Deadline`, `Publisher`, `TraceContext`, on two-way streams `Inbound`, and \
            `Option` of each"
)]
pub trait FromEvent<E: Event, S>: Sized + Send {
    /// Parameters of the pattern that it takes.
    const PARAMS: usize = 0;

    /// Takes the value.
    ///
    /// # Errors
    /// The event has no such value, or one that does not fit.
    fn from_event(cx: &mut Cx, state: &S) -> Result<Self, Rejection>;
}

impl<E: Event, S, X: FromEvent<E, S>> FromEvent<E, S> for Option<X> {
    const PARAMS: usize = X::PARAMS;

    fn from_event(cx: &mut Cx, state: &S) -> Result<Self, Rejection> {
        match X::from_event(cx, state) {
            Ok(value) => Ok(Some(value)),
            Err(Rejection::Absent(_)) => Ok(None),
            Err(invalid) => Err(invalid),
        }
    }
}

/// The client's payload, from JSON.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Data<T>(pub T);

impl<E: Event, S, T: DeserializeOwned + Send> FromEvent<E, S> for Data<T> {
    fn from_event(cx: &mut Cx, _: &S) -> Result<Self, Rejection> {
        let data = cx
            .data()
            .map_err(|why| Rejection::bad_data(format!("`b64data`: {why}")))?;
        let Some(data) = data else {
            return Err(Rejection::Absent(
                Failure::BadData("`data` is missing".to_owned()).into(),
            ));
        };
        match serde_json::from_slice(&data) {
            Ok(value) => Ok(Self(value)),
            Err(why) => Err(Rejection::bad_data(format!("`data`: {}", misfit(&why)))),
        }
    }
}

/// Why JSON does not fit a type, with nothing of the JSON in it: that may be a secret, and this is
/// logged.
fn misfit(why: &serde_json::Error) -> String {
    let text = why.to_string();
    if !why.is_data() {
        // What is wrong with the text itself is told by its place.
        return text;
    }
    let place = format!("at line {} column {}", why.line(), why.column());
    let text = text.trim_end_matches(&place).trim_end();
    let of_the_type = ["missing field `", "duplicate field `"];
    if of_the_type.iter().any(|begin| text.starts_with(begin)) {
        return format!("{text} {place}");
    }
    let names_both = ["invalid ", "unknown field `", "unknown variant `"];
    let expected = text.rsplit_once(", expected ");
    match expected.filter(|_| names_both.iter().any(|begin| text.starts_with(begin))) {
        Some((_, expected)) => format!("expected {expected} {place}"),
        None => format!("does not fit its type {place}"),
    }
}

/// The next parameter of the route's pattern: the first `Param` takes the first one, and so on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Param<T>(pub T);

impl<E: Event, S, T> FromEvent<E, S> for Param<T>
where
    T: FromStr<Err: Display> + Send,
{
    const PARAMS: usize = 1;

    fn from_event(cx: &mut Cx, _: &S) -> Result<Self, Rejection> {
        let index = cx.next_param;
        cx.next_param += 1;
        let Some(text) = cx.param_at(index) else {
            let cause = format!("the pattern has no parameter number {}", index + 1);
            return Err(Rejection::Absent(Rejection::internal(
                "extractor `Param`",
                cause,
            )));
        };
        match text.parse() {
            Ok(value) => Ok(Self(value)),
            Err(why) => {
                let place = index + 1;
                Err(Rejection::bad_data(format!(
                    "parameter {place} `{text}`: {why}"
                )))
            }
        }
    }
}

/// The user id, as authenticated at connect. An anonymous user is refused with 103; take
/// `Option<User>` to let it pass.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User(pub String);

impl<E: Event, S> FromEvent<E, S> for User {
    fn from_event(cx: &mut Cx, _: &S) -> Result<Self, Rejection> {
        match cx.user() {
            "" => Err(Rejection::Absent(Reject::permission_denied().into())),
            user => Ok(Self(user.to_owned())),
        }
    }
}

/// Id of the client connection; empty for events without one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Client(pub String);

impl<E: Event, S> FromEvent<E, S> for Client {
    fn from_event(cx: &mut Cx, _: &S) -> Result<Self, Rejection> {
        Ok(Self(cx.client().to_owned()))
    }
}

/// Full channel name; empty for events without one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Channel(pub String);

impl<E: Event, S> FromEvent<E, S> for Channel {
    fn from_event(cx: &mut Cx, _: &S) -> Result<Self, Rejection> {
        Ok(Self(cx.channel().to_owned()))
    }
}

/// The rpc method, may be empty; for raw events the name of the gRPC method.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Method(pub String);

impl<E: Event, S> FromEvent<E, S> for Method {
    fn from_event(cx: &mut Cx, _: &S) -> Result<Self, Rejection> {
        Ok(Self(cx.method().to_owned()))
    }
}

/// The connection meta, from JSON. It is there only if the proxy has `include_connection_meta`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Meta<T>(pub T);

impl<E: Event, S, T: DeserializeOwned + Send> FromEvent<E, S> for Meta<T> {
    fn from_event(cx: &mut Cx, _: &S) -> Result<Self, Rejection> {
        let Some(meta) = cx.meta() else {
            let cause = "the event has no connection meta: set `include_connection_meta` on the \
                         proxy and `meta` in the connect reply";
            return Err(Rejection::Absent(Rejection::internal(
                "extractor `Meta`",
                cause,
            )));
        };
        match serde_json::from_slice(&meta) {
            Ok(value) => Ok(Self(value)),
            Err(why) => {
                let why = misfit(&why);
                let cause = format!("the connection meta has another shape: {why}");
                Err(Rejection::Invalid(Rejection::internal(
                    "extractor `Meta`",
                    cause,
                )))
            }
        }
    }
}

/// The state given to `Router::with_state`, or a part of it by [`FromRef`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct State<T>(pub T);

/// A part of a state that handlers may ask for.
pub trait FromRef<S> {
    /// Takes the part.
    fn from_ref(state: &S) -> Self;
}

impl<S: Clone> FromRef<S> for S {
    fn from_ref(state: &S) -> Self {
        state.clone()
    }
}

impl<E: Event, S, T: FromRef<S> + Send> FromEvent<E, S> for State<T> {
    fn from_event(_: &mut Cx, state: &S) -> Result<Self, Rejection> {
        Ok(Self(T::from_ref(state)))
    }
}

/// An attribute that a stage has set for this event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Attribute<T>(pub T);

impl<E: Event, S, T: Clone + Send + Sync + 'static> FromEvent<E, S> for Attribute<T> {
    fn from_event(cx: &mut Cx, _: &S) -> Result<Self, Rejection> {
        cx.attribute::<T>().cloned().map(Self).ok_or_else(|| {
            let kind = std::any::type_name::<T>();
            let cause = format!("no stage has set an attribute of type {kind}");
            Rejection::Absent(Rejection::internal("extractor `Attribute`", cause))
        })
    }
}

/// The call's metadata; what clients can set here depends on Centrifugo's header lists.
#[derive(Debug, Clone)]
pub struct Headers(pub HeaderMap);

impl<E: Event, S> FromEvent<E, S> for Headers {
    fn from_event(cx: &mut Cx, _: &S) -> Result<Self, Rejection> {
        Ok(Self(cx.metadata().clone()))
    }
}

/// The request message as it came, unknown fields included.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Raw(pub Bytes);

impl<E: Event, S> FromEvent<E, S> for Raw {
    fn from_event(cx: &mut Cx, _: &S) -> Result<Self, Rejection> {
        Ok(Self(cx.raw().clone()))
    }
}

/// The whole request as a typed message.
#[derive(Debug, Clone)]
pub struct Request<E: Event>(pub E::Request);

impl<E: Event, S> FromEvent<E, S> for Request<E>
where
    E::Request: Send,
{
    fn from_event(cx: &mut Cx, _: &S) -> Result<Self, Rejection> {
        cx.request::<E>()
            .map(Self)
            .map_err(|why| Rejection::Invalid(Failure::Undecodable(why.to_string()).into()))
    }
}

/// When the answer is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Deadline(pub Instant);

impl<E: Event, S> FromEvent<E, S> for Deadline {
    fn from_event(cx: &mut Cx, _: &S) -> Result<Self, Rejection> {
        Ok(Self(cx.deadline()))
    }
}

impl<S> FromEvent<StreamBidirectional, S> for Inbound {
    fn from_event(cx: &mut Cx, _: &S) -> Result<Self, Rejection> {
        cx.inbound.take().map(Inbound::new).ok_or_else(|| {
            let cause = "the publications of a stream can be taken once";
            Rejection::Invalid(Rejection::internal("extractor `Inbound`", cause))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::misfit;
    use serde::Deserialize;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Seat {
        #[serde(rename = "row")]
        _row: u8,
        #[serde(rename = "kind")]
        _kind: Option<Kind>,
        #[serde(rename = "at", default, deserialize_with = "strict")]
        _at: (),
    }

    #[derive(Debug, Deserialize)]
    enum Kind {
        Balcony,
    }

    /// An error of the type's own, which repeats the value.
    fn strict<'de, D: serde::Deserializer<'de>>(from: D) -> Result<(), D::Error> {
        let text = String::deserialize(from)?;
        Err(serde::de::Error::custom(format!("no time: {text}")))
    }

    #[test]
    fn why_data_does_not_fit_is_told_without_the_data() {
        for (data, told) in [
            (r#"{"row":"s3cr3t"}"#, "expected u8 at line 1 column 15"),
            (r#"{"row":"s3cr3t, expected s3cr3t"}"#, "expected u8 at"),
            (r#"{"row":3000}"#, "expected u8 at"),
            (r#"{"kind":"Balcony"}"#, "missing field `row` at"),
            (r#"{"row":1,"row":2}"#, "duplicate field `row` at"),
            (
                r#"{"row":1,"s3cr3t":2}"#,
                "expected one of `row`, `kind`, `at` at",
            ),
            (r#"{"row":1,"kind":"s3cr3t"}"#, "expected `Balcony` at"),
            (r#"{"row":1,"at":"s3cr3t"}"#, "does not fit its type at"),
            (r#"["s3cr3t"]"#, "expected u8 at"),
            (r#""s3cr3t""#, "expected struct Seat at"),
            (r#"{"row":s3cr3t}"#, "expected value at line 1 column 8"),
            (r#"{"row":1"#, "EOF while parsing"),
        ] {
            let why = serde_json::from_str::<Seat>(data).map_err(|why| misfit(&why));
            let why = why.expect_err("none of them fits");
            assert!(
                why.starts_with(told) && !why.contains("s3cr3t"),
                "{data}: {why}"
            );
        }
    }
}
