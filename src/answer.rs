//! The one table of answers: what the caller gets for every kind of event and every outcome.
//!
//! It fails closed. Centrifugo reads an empty reply as *allowed* for most events, so a failure is
//! always a gRPC status or an explicit error, and what Centrifugo or an SDK would mishandle does not
//! leave. Status messages are fixed texts; causes are for the log, see [`fault`].

mod flaws;
pub(crate) mod rules;
mod seal;

pub(crate) use flaws::Flaws;
pub use rules::MAX_REPLY_BYTES;
pub(crate) use seal::accepts;
pub use seal::{seal, stream_first, stream_publication};

use crate::engine::guard::{drop_caught, panic_message};
use crate::event::EventKind;
use crate::outcome::{Failure, Outcome, StreamEndReason};
use crate::proto::proxy;
use crate::reject::{BoxError, Reject, RejectView, code};
use bytes::Bytes;
use seal::Part;
use std::error::Error as StdError;
use std::panic::{AssertUnwindSafe, catch_unwind};
use tonic::Code;

/// What goes back to the caller.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// The response message. On a stream it is a refusal: the stream ends after it.
    Message(Bytes),
    /// On a stream only: it was accepted by a plain reply, without publications. This is its first
    /// message; it stays open, silent, until the client leaves.
    Open(Bytes),
    /// No message but a status.
    Status {
        /// The gRPC status code, never `Ok`.
        code: Code,
        /// A fixed text that tells nothing of the cause.
        message: &'static str,
    },
}

impl Answer {
    const INTERNAL: Self = Self::status(Code::Internal, "internal error");
    const UNAVAILABLE: Self = Self::status(Code::Unavailable, "unavailable, try again");

    const fn status(code: Code, message: &'static str) -> Self {
        Self::Status { code, message }
    }
}

/// Kinds of events that are answered alike.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Class {
    /// A client waits for result, error or disconnect; `no_route` is the error without a handler.
    Client { no_route: u32 },
    /// Centrifugo heeds nothing but extended and expired.
    Refresh,
    /// The first message says accepted or refused.
    Stream,
    /// No client waits.
    Rest,
}

const fn class(kind: EventKind) -> Class {
    let no_route = match kind {
        EventKind::Connect => code::NOT_AVAILABLE,
        EventKind::Subscribe
        | EventKind::Publish
        | EventKind::MapPublish
        | EventKind::MapRemove => code::PERMISSION_DENIED,
        EventKind::Rpc => code::METHOD_NOT_FOUND,
        EventKind::Refresh | EventKind::SubRefresh => return Class::Refresh,
        EventKind::Stream | EventKind::StreamBidirectional => return Class::Stream,
        EventKind::SharedPollRefresh
        | EventKind::CacheEmpty
        | EventKind::ChannelState
        | EventKind::Raw => return Class::Rest,
    };
    Class::Client { no_route }
}

/// The answer to an event. Checks the outcome like [`gate`] first; who wants to log what that finds
/// calls [`gate`] and [`fault`] before.
///
/// An accepted stream ([`Outcome::Stream`]) is the caller's to send, with [`stream_first`] and
/// [`stream_publication`]; here it counts as a fault, as does the end of a stream.
pub fn answer(kind: EventKind, json_client: bool, mut outcome: Outcome) -> Answer {
    gate(kind, json_client, &mut outcome);
    match outcome {
        Outcome::Reply(reply) => match seal::take(kind, json_client, reply) {
            Ok(message) if kind.is_stream() && accepts(&message) => Answer::Open(message),
            Ok(message) => Answer::Message(message),
            Err(failure) => failed(kind, &failure),
        },
        Outcome::Reject(reject) => rejected(kind, &reject),
        Outcome::Failure(failure) => failed(kind, &failure),
        Outcome::Stream(_) | Outcome::StreamEnd(_) => Answer::INTERNAL,
    }
}

/// Replaces an outcome that may not leave by the [`Failure`] that says why, and seals a reply that
/// may. Cheap when nothing has changed since the last time.
pub fn gate(kind: EventKind, json_client: bool, outcome: &mut Outcome) {
    let checked = match &mut *outcome {
        Outcome::Reply(reply) => seal::close(kind, json_client, reply),
        Outcome::Reject(reject) => rules::reject(kind, reject).map_err(Failure::BadReply),
        Outcome::Stream(open) if kind.is_stream() => stream_first(json_client, open).map(drop),
        Outcome::Stream(_) => Err(Failure::BadReply(format!(
            "a stream was opened for a {kind} event"
        ))),
        Outcome::Failure(_) | Outcome::StreamEnd(_) => Ok(()),
    };
    if let Err(failure) = checked {
        replace(outcome, failure);
    }
}

/// Puts a failure in the place of an outcome that came from the application's code: a stream or an
/// error of it may do anything when it is dropped.
fn replace(outcome: &mut Outcome, failure: Failure) {
    let refused = std::mem::replace(outcome, Outcome::Failure(failure));
    drop_caught(|| drop(refused));
}

/// Replaces a refusal that is a fault by the failure that names its cause, and where it was.
pub(crate) fn settle(outcome: &mut Outcome, place: impl FnOnce() -> String) {
    if let Outcome::Reject(_) = outcome
        && let Some(cause) = fault(outcome)
    {
        let place = place();
        replace(outcome, Failure::Internal { place, cause });
    }
}

/// The cause for the log, with its own causes, of an outcome that is a fault or a failure.
pub fn fault(outcome: &Outcome) -> Option<String> {
    match outcome {
        Outcome::Failure(failure) => Some(failure.to_string()),
        Outcome::Reject(reject) => match reject.view() {
            RejectView::Internal(cause) => Some(chain(cause)),
            RejectView::Error { .. } | RejectView::Disconnect { .. } => None,
        },
        Outcome::StreamEnd(end) => match &end.reason {
            StreamEndReason::Failed(cause) => Some(cause.clone()),
            StreamEndReason::Finished
            | StreamEndReason::Cancelled
            | StreamEndReason::Drained
            | StreamEndReason::Moved => None,
        },
        Outcome::Reply(_) | Outcome::Stream(_) => None,
    }
}

/// The error or disconnect code that the client gets with an outcome, if it gets one.
pub(crate) fn client_code(kind: EventKind, outcome: &Outcome) -> Option<u32> {
    let class = class(kind);
    match (outcome, class) {
        (_, Class::Refresh | Class::Rest) => None,
        (Outcome::Reject(reject), _) => match (reject.view(), class) {
            (
                RejectView::Error {
                    temporary: true, ..
                },
                Class::Stream,
            ) => None,
            (RejectView::Error { code, .. } | RejectView::Disconnect { code, .. }, _) => Some(code),
            (RejectView::Internal(_), _) => None,
        },
        (Outcome::Failure(Failure::NoRoute), Class::Client { no_route }) => Some(no_route),
        (Outcome::Failure(Failure::NoRoute), _) => Some(code::PERMISSION_DENIED),
        (Outcome::Failure(Failure::BadData(_)), _) => Some(code::BAD_REQUEST),
        (Outcome::Failure(Failure::Overloaded(_)), Class::Client { .. }) => {
            Some(code::TOO_MANY_REQUESTS)
        }
        _ => None,
    }
}

/// The gRPC status that the caller gets with an outcome; of a stream, the one at its end.
pub(crate) fn status(kind: EventKind, outcome: &Outcome) -> Code {
    let answer = match outcome {
        Outcome::Reply(_) | Outcome::Stream(_) => return Code::Ok,
        Outcome::StreamEnd(end) => {
            return stream_status(&end.reason).map_or(Code::Ok, |(code, _)| code);
        }
        Outcome::Reject(reject) => rejected(kind, reject),
        Outcome::Failure(failure) => failed(kind, failure),
    };
    match answer {
        Answer::Status { code, .. } => code,
        Answer::Message(_) | Answer::Open(_) => Code::Ok,
    }
}

/// How an accepted stream ends on the wire; `None` is the clean end, after which the client does not
/// come back by itself.
pub fn stream_status(reason: &StreamEndReason) -> Option<(Code, &'static str)> {
    match reason {
        StreamEndReason::Finished => None,
        StreamEndReason::Failed(_) => Some((Code::Internal, "internal error")),
        StreamEndReason::Cancelled => Some((Code::Cancelled, "cancelled")),
        StreamEndReason::Drained | StreamEndReason::Moved => {
            Some((Code::Unavailable, "unavailable, try again"))
        }
    }
}

/// An error and its causes in one line. How it writes itself is the application's code: where that
/// panics, the text says so.
pub fn chain(error: &(dyn StdError + 'static)) -> String {
    catch_unwind(AssertUnwindSafe(|| written(error))).unwrap_or_else(|panic| {
        let message = panic_message(panic.as_ref());
        drop_caught(|| drop(panic));
        format!("an error that panicked while it was written: {message}")
    })
}

fn written(error: &(dyn StdError + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(next) = cause {
        let next_text = next.to_string();
        if !text.ends_with(&next_text) {
            text.push_str(": ");
            text.push_str(&next_text);
        }
        cause = next.source();
    }
    text
}

/// The name of a code as gRPC writes it.
pub(crate) const fn code_name(code: Code) -> &'static str {
    match code {
        Code::Ok => "OK",
        Code::Cancelled => "CANCELLED",
        Code::Unknown => "UNKNOWN",
        Code::InvalidArgument => "INVALID_ARGUMENT",
        Code::DeadlineExceeded => "DEADLINE_EXCEEDED",
        Code::NotFound => "NOT_FOUND",
        Code::AlreadyExists => "ALREADY_EXISTS",
        Code::PermissionDenied => "PERMISSION_DENIED",
        Code::ResourceExhausted => "RESOURCE_EXHAUSTED",
        Code::FailedPrecondition => "FAILED_PRECONDITION",
        Code::Aborted => "ABORTED",
        Code::OutOfRange => "OUT_OF_RANGE",
        Code::Unimplemented => "UNIMPLEMENTED",
        Code::Internal => "INTERNAL",
        Code::Unavailable => "UNAVAILABLE",
        Code::DataLoss => "DATA_LOSS",
        Code::Unauthenticated => "UNAUTHENTICATED",
    }
}

fn failed(kind: EventKind, failure: &Failure) -> Answer {
    let class = class(kind);
    match failure {
        Failure::Panic { .. } | Failure::Internal { .. } | Failure::BadReply(_) => Answer::INTERNAL,
        Failure::Deadline => Answer::status(Code::DeadlineExceeded, "deadline exceeded"),
        Failure::Unavailable(_) => Answer::UNAVAILABLE,
        Failure::Overloaded(_) => match class {
            Class::Client { .. } => error(kind, code::TOO_MANY_REQUESTS, "too many requests", true),
            Class::Refresh | Class::Stream | Class::Rest => Answer::UNAVAILABLE,
        },
        Failure::Undecodable(_) => Answer::status(Code::InvalidArgument, "undecodable request"),
        Failure::BadData(_) => match class {
            Class::Client { .. } | Class::Stream => {
                error(kind, code::BAD_REQUEST, "bad request", false)
            }
            Class::Refresh | Class::Rest => Answer::status(Code::InvalidArgument, "bad data"),
        },
        Failure::NoRoute => match class {
            Class::Client { no_route } => error(kind, no_route, refusal(no_route), false),
            Class::Stream => {
                let denied = code::PERMISSION_DENIED;
                error(kind, denied, refusal(denied), false)
            }
            Class::Refresh => expired(kind),
            Class::Rest => Answer::status(Code::Unimplemented, "no route takes this event"),
        },
        Failure::Unauthenticated => Answer::status(Code::Unauthenticated, "unauthenticated"),
        Failure::Cancelled => Answer::status(Code::Cancelled, "cancelled"),
    }
}

fn rejected(kind: EventKind, reject: &Reject) -> Answer {
    match (reject.view(), class(kind)) {
        (RejectView::Internal(_), _) => Answer::INTERNAL,
        (_, Class::Rest) => Answer::INTERNAL,
        (
            RejectView::Error {
                temporary: true, ..
            },
            Class::Refresh | Class::Stream,
        ) => Answer::UNAVAILABLE,
        (_, Class::Refresh) => expired(kind),
        (
            RejectView::Error {
                code,
                message,
                temporary,
            },
            Class::Client { .. } | Class::Stream,
        ) => error(kind, code, message, temporary),
        (RejectView::Disconnect { code, reason }, Class::Client { .. } | Class::Stream) => {
            let reason = reason.to_owned();
            let disconnect = proxy::Disconnect { code, reason };
            sized(seal::response(kind, Part::Disconnect, &disconnect))
        }
    }
}

/// What the built-in code means, in Centrifugo's own words.
const fn refusal(code: u32) -> &'static str {
    match code {
        code::NOT_AVAILABLE => "not available",
        code::METHOD_NOT_FOUND => "method not found",
        _ => "permission denied",
    }
}

fn error(kind: EventKind, code: u32, message: &str, temporary: bool) -> Answer {
    let message = message.to_owned();
    let error = proxy::Error {
        code,
        message,
        temporary,
    };
    sized(seal::response(kind, Part::Error, &error))
}

/// The plain no of refresh and sub_refresh.
fn expired(kind: EventKind) -> Answer {
    let message = match kind {
        EventKind::SubRefresh => {
            let result = proxy::SubRefreshResult {
                expired: true,
                ..Default::default()
            };
            seal::response(kind, Part::Result, &result)
        }
        _ => {
            let result = proxy::RefreshResult {
                expired: true,
                ..Default::default()
            };
            seal::response(kind, Part::Result, &result)
        }
    };
    sized(message)
}

/// A message, unless it is too big to leave.
fn sized(message: Bytes) -> Answer {
    match rules::size(message.len()) {
        Ok(()) => Answer::Message(message),
        Err(_) => Answer::INTERNAL,
    }
}

/// The failure of a handler's error that is no `Reject`.
pub fn internal(place: impl Into<String>, cause: &BoxError) -> Failure {
    Failure::Internal {
        place: place.into(),
        cause: chain(cause.as_ref()),
    }
}

#[cfg(test)]
mod tests;
