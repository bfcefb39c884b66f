//! How an event ended, between nodes: the ingress sees the same outcome as if it had run there.
//!
//! A reply crosses sealed: it was checked where it was made, and is not checked or encoded again
//! unless a stage of the ingress changes it.

use crate::event::{EventKind, Gated, with_event};
use crate::forward::message::OutcomeMessage;
use crate::outcome::{Failure, Outcome, Overloaded, Unavailable};
use crate::reject::{Reject, RejectView};
use crate::reply::{Intent, Reply, ReplyMessage};
use bytes::Bytes;
use prost::Message;

const REPLY: u32 = 1;
const REJECT_ERROR: u32 = 2;
const REJECT_DISCONNECT: u32 = 3;
const REJECT_INTERNAL: u32 = 4;
const PANIC: u32 = 5;
const INTERNAL: u32 = 6;
const BAD_REPLY: u32 = 7;
const DEADLINE: u32 = 8;
const UNAVAILABLE: u32 = 9;
const OVERLOADED: u32 = 10;
const UNDECODABLE: u32 = 11;
const BAD_DATA: u32 = 12;
const NO_ROUTE: u32 = 13;
const UNAUTHENTICATED: u32 = 14;
const CANCELLED: u32 = 15;

/// What a reply's response holds.
const TYPED: u32 = 0;
const RAW: u32 = 1;
const EMPTY: u32 = 2;

const ANONYMOUS: u32 = 1;
const NEVER_EXPIRES: u32 = 2;
const NULL_PAYLOADS: u32 = 4;
const UNTOUCHED: u32 = 8;

macro_rules! codes {
    ($to:ident, $of:ident, $type:ident; $($code:literal = $variant:ident),* $(,)?) => {
        const fn $to(why: $type) -> u32 {
            match why { $($type::$variant => $code,)* }
        }

        const fn $of(code: u32) -> Option<$type> {
            match code { $($code => Some($type::$variant),)* _ => None }
        }
    };
}

codes! { unavailable_code, unavailable, Unavailable;
    1 = Draining, 2 = Parked, 3 = Crashed, 4 = NoOwner, 5 = Worker, 6 = Moving, 7 = Lapsed,
    8 = LostPeer, 9 = Isolated, 10 = NoServer, 11 = Lost, 12 = Cut, 13 = Upstream,
    14 = Routes,
}

codes! { overloaded_code, overloaded, Overloaded;
    1 = InFlight, 2 = InFlightBytes, 3 = Streams, 4 = Lane, 5 = Shard, 6 = Memory, 7 = Rate,
    8 = Workers, 9 = Held, 10 = Peer,
}

/// The bytes of an outcome. A stream is none of them: it is accepted by other means.
pub(super) fn encode(outcome: &Outcome) -> Bytes {
    let message = match outcome {
        Outcome::Reply(reply) => of_reply(reply),
        Outcome::Reject(reject) => of_reject(reject),
        Outcome::Failure(failure) => of_failure(failure),
        Outcome::Stream(_) | Outcome::StreamEnd(_) => OutcomeMessage {
            code: INTERNAL,
            place: "the owner".to_owned(),
            text: "a stream was opened where none was asked for".to_owned(),
            ..OutcomeMessage::default()
        },
    };
    message.encode_to_vec().into()
}

fn of_reply(reply: &Reply) -> OutcomeMessage {
    // The gate has sealed every reply that leaves a handler.
    let Some(response) = reply.sealed() else {
        return OutcomeMessage {
            code: INTERNAL,
            place: "the owner".to_owned(),
            text: "a reply was not checked".to_owned(),
            ..OutcomeMessage::default()
        };
    };
    let intent = reply.intent();
    let flag = |is: bool, flag: u32| if is { flag } else { 0 };
    OutcomeMessage {
        code: REPLY,
        detail: match reply.message() {
            ReplyMessage::Raw(_) => RAW,
            ReplyMessage::Empty => EMPTY,
            _ => TYPED,
        },
        response: response.clone(),
        intent: flag(intent.anonymous, ANONYMOUS)
            | flag(intent.never_expires, NEVER_EXPIRES)
            | flag(intent.null_payloads, NULL_PAYLOADS)
            | flag(intent.untouched, UNTOUCHED),
        ..OutcomeMessage::default()
    }
}

fn of_reject(reject: &Reject) -> OutcomeMessage {
    let none = OutcomeMessage::default();
    match reject.view() {
        RejectView::Error {
            code,
            message,
            temporary,
        } => OutcomeMessage {
            code: REJECT_ERROR,
            detail: code,
            text: message.to_owned(),
            temporary,
            ..none
        },
        RejectView::Disconnect { code, reason } => OutcomeMessage {
            code: REJECT_DISCONNECT,
            detail: code,
            text: reason.to_owned(),
            ..none
        },
        RejectView::Internal(cause) => OutcomeMessage {
            code: REJECT_INTERNAL,
            text: crate::answer::chain(cause),
            ..none
        },
    }
}

fn of_failure(failure: &Failure) -> OutcomeMessage {
    let (code, detail, place, text) = match failure {
        Failure::Panic { place, message } => (PANIC, 0, place.as_str(), message.as_str()),
        Failure::Internal { place, cause } => (INTERNAL, 0, place.as_str(), cause.as_str()),
        Failure::BadReply(text) => (BAD_REPLY, 0, "", text.as_str()),
        Failure::Deadline => (DEADLINE, 0, "", ""),
        Failure::Unavailable(why) => (UNAVAILABLE, unavailable_code(*why), "", ""),
        Failure::Overloaded(which) => (OVERLOADED, overloaded_code(*which), "", ""),
        Failure::Undecodable(text) => (UNDECODABLE, 0, "", text.as_str()),
        Failure::BadData(text) => (BAD_DATA, 0, "", text.as_str()),
        Failure::NoRoute => (NO_ROUTE, 0, "", ""),
        Failure::Unauthenticated => (UNAUTHENTICATED, 0, "", ""),
        Failure::Cancelled => (CANCELLED, 0, "", ""),
    };
    OutcomeMessage {
        code,
        detail,
        place: place.to_owned(),
        text: text.to_owned(),
        ..OutcomeMessage::default()
    }
}

/// The outcome of an event of this kind. Bytes that are none, and codes of later versions, are
/// failures: never an empty reply.
pub(super) fn decode(kind: EventKind, bytes: Bytes) -> Outcome {
    let message = match OutcomeMessage::decode(bytes) {
        Ok(message) => message,
        Err(why) => return unreadable(why.to_string()),
    };
    let OutcomeMessage {
        code,
        detail,
        response,
        intent,
        text,
        place,
        temporary,
    } = message;
    let failure = match code {
        REPLY => return with_event!(kind, E => reply::<E>(detail, response, intent)),
        REJECT_ERROR => {
            let reject = Reject::error(detail, text);
            return if temporary {
                reject.temporary()
            } else {
                reject
            }
            .into();
        }
        REJECT_DISCONNECT => return Reject::disconnect(detail, text).into(),
        REJECT_INTERNAL => return Reject::internal(text).into(),
        PANIC => Failure::Panic {
            place,
            message: text,
        },
        INTERNAL => Failure::Internal { place, cause: text },
        BAD_REPLY => Failure::BadReply(text),
        DEADLINE => Failure::Deadline,
        UNAVAILABLE => Failure::Unavailable(unavailable(detail).unwrap_or(Unavailable::NoOwner)),
        OVERLOADED => Failure::Overloaded(overloaded(detail).unwrap_or(Overloaded::Peer)),
        UNDECODABLE => Failure::Undecodable(text),
        BAD_DATA => Failure::BadData(text),
        NO_ROUTE => Failure::NoRoute,
        UNAUTHENTICATED => Failure::Unauthenticated,
        CANCELLED => Failure::Cancelled,
        unknown => return unreadable(format!("an outcome with the unknown code {unknown}")),
    };
    failure.into()
}

fn unreadable(cause: String) -> Outcome {
    let place = "the answer of the node that ran the event".to_owned();
    Failure::Internal { place, cause }.into()
}

fn reply<E: Gated>(detail: u32, response: Bytes, intent: u32) -> Outcome {
    let message = match detail {
        RAW => ReplyMessage::Raw(response.clone()),
        EMPTY => ReplyMessage::Empty,
        TYPED => match result_of::<E>(response.clone()) {
            Ok(Some(result)) => E::message(result),
            Ok(None) => return unreadable("a reply without a result".to_owned()),
            Err(why) => return unreadable(why),
        },
        unknown => return unreadable(format!("a reply of the unknown sort {unknown}")),
    };
    let intent = Intent {
        anonymous: intent & ANONYMOUS != 0,
        never_expires: intent & NEVER_EXPIRES != 0,
        null_payloads: intent & NULL_PAYLOADS != 0,
        untouched: intent & UNTOUCHED != 0,
        flaw: None,
    };
    let mut reply = Reply::with_intent(message, intent);
    reply.seal_with(response);
    Outcome::Reply(reply)
}

fn result_of<E: Gated>(response: Bytes) -> Result<Option<E::Result>, String> {
    let response = E::Response::decode(response).map_err(|why| why.to_string())?;
    E::parts(response).map(|parts| parts.result)
}

#[cfg(test)]
mod tests;
