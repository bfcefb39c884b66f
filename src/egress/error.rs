//! What can go wrong with a call to the server API, and what Centrifugo's codes mean in words.

use super::scan;
use bytes::Bytes;
use centripeta_cluster::{OwnerEpoch, SlotId};
use prost::Message;
use std::borrow::Cow;
use std::time::Duration;

use crate::Reject;
use crate::proto::api;
use crate::reject::code;

/// A method's name as errors show it.
pub type MethodName = Cow<'static, str>;

/// Why a call has no result.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Centrifugo took the call and refused it.
    #[error("centrifugo refused {method}: {code} {message}: {meaning}")]
    Api {
        /// The method.
        method: MethodName,
        /// Centrifugo's code, such as 102.
        code: u32,
        /// Centrifugo's text for it.
        message: String,
        /// What it means for this method and channel, and how to mend it.
        meaning: String,
    },
    /// This Centrifugo does not have the method: it is part of PRO, or of a later version.
    #[error("{method} is unsupported by this centrifugo: {why}")]
    Unsupported {
        /// The method.
        method: MethodName,
        /// What it said.
        why: String,
    },
    /// The API key is not the one that Centrifugo has.
    #[error("centrifugo refused the API key: set `centrifugo.key` to what its `grpc_api.key` says")]
    Unauthenticated,
    /// The call makes no sense or would do harm; nothing was sent.
    #[error("{method} was not sent: {refusal}")]
    Refused {
        /// The method.
        method: MethodName,
        /// The rule that it breaks.
        refusal: Refusal,
    },
    /// Another node, or a later epoch of this one, owns the slot of the event; nothing was sent.
    #[error("fenced: this node may not act now for slot {slot} under epoch {epoch}")]
    Fenced {
        /// The slot of the event.
        slot: SlotId,
        /// The epoch under which its handler was started.
        epoch: OwnerEpoch,
    },
    /// The queue is full; nothing was sent.
    #[error("overloaded: {limit} is reached by calls that wait for centrifugo")]
    Overloaded {
        /// The key of the limit.
        limit: &'static str,
    },
    /// The time was over first.
    #[error("{method} had no answer after {after:?}{}", if *.sent { "; it may have been done" } else { "; it was not sent" })]
    Timeout {
        /// The method.
        method: MethodName,
        /// How long the call had.
        after: Duration,
        /// Whether it was on its way.
        sent: bool,
    },
    /// No endpoint took the call; nothing was done.
    #[error("centrifugo is unavailable: {why}")]
    Unavailable {
        /// What the endpoints said.
        why: String,
    },
    /// The call was on its way when the connection was lost, or its answer is missing; it may have
    /// been done.
    #[error("the answer to {method} was lost, it may have been done: {why}")]
    Lost {
        /// The method.
        method: MethodName,
        /// How.
        why: String,
    },
    /// The gRPC call failed with another status.
    #[error("{method} failed with gRPC status {status}: {message}")]
    Status {
        /// The method.
        method: MethodName,
        /// The number of the status.
        status: i32,
        /// Its text.
        message: String,
    },
    /// The publisher is shut down, or was never connected.
    #[error("the publisher is closed")]
    Closed,
}

/// The rule that a call breaks.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Clients that speak JSON are disconnected (3506) by a payload that is not JSON.
    #[error(
        "`{field}` is not JSON, and would disconnect clients that speak JSON: send JSON, or \
         publish by `publisher.binary()` into channels whose clients all speak protobuf"
    )]
    NotJson {
        /// The field.
        field: &'static str,
    },
    /// `b64data` or `b64info` is not base64.
    #[error("`{field}` is not padded standard base64")]
    NotBase64 {
        /// The field.
        field: &'static str,
    },
    /// An empty user means all anonymous connections.
    #[error(
        "`user` is empty, which means every anonymous connection: name the user, or call by \
         `publisher.anonymous()` if they are meant"
    )]
    AnonymousUser,
    /// Centrifugo would wait for the subscribe that its handler is still working on.
    #[error(
        "it would wait for the subscribe to `{channel}` that this handler has yet to answer: \
         answer with a `Reject`, or call by `publisher.detached()` from a task of its own"
    )]
    OwnSubscribe {
        /// The channel.
        channel: String,
    },
    /// Centrifugo would not take a message of this size.
    #[error("it is {bytes} bytes long, and `centrifugo.message_bytes` is {limit}")]
    TooLarge {
        /// Bytes of the message.
        bytes: usize,
        /// At most.
        limit: usize,
    },
    /// A value has no JSON form.
    #[error("its value has no JSON form: {0}")]
    Unserializable(String),
    /// The bytes of a request that is passed on are not the method's message.
    #[error("it is not the message of this method: {0}")]
    Malformed(String),
    /// The method's name is none.
    #[error("a method is named by letters and digits")]
    BadMethod,
}

impl Error {
    /// Centrifugo's code, if it was Centrifugo that refused.
    pub const fn code(&self) -> Option<u32> {
        match self {
            Self::Api { code, .. } => Some(*code),
            _ => None,
        }
    }

    /// Whether the call may have had its effect all the same.
    pub const fn may_be_done(&self) -> bool {
        matches!(
            self,
            Self::Timeout { sent: true, .. } | Self::Lost { .. } | Self::Status { .. }
        )
    }

    /// A short word for logs and metrics.
    pub const fn label(&self) -> &'static str {
        match self {
            Self::Api { .. } => "refused",
            Self::Unsupported { .. } => "unsupported",
            Self::Unauthenticated => "unauthenticated",
            Self::Refused { .. } => "invalid",
            Self::Fenced { .. } => "fenced",
            Self::Overloaded { .. } => "overloaded",
            Self::Timeout { .. } => "timeout",
            Self::Unavailable { .. } => "unavailable",
            Self::Lost { .. } => "lost",
            Self::Status { .. } => "status",
            Self::Closed => "closed",
        }
    }

    /// The answer for the client of an event whose handler needed this call: an error that SDKs try
    /// again (111, 100) where another try may help, else a failure of the handler. Plain `?` makes
    /// each of them a failure.
    pub fn into_reject(self) -> Reject {
        match self {
            Self::Overloaded { .. } => {
                Reject::error(code::TOO_MANY_REQUESTS, "too many requests").temporary()
            }
            Self::Timeout { .. }
            | Self::Unavailable { .. }
            | Self::Lost { .. }
            | Self::Fenced { .. }
            | Self::Closed => Reject::error(code::INTERNAL, "internal server error").temporary(),
            other => Reject::internal(other),
        }
    }
}

/// An error of the API for a method, with its meaning.
pub(super) fn refused(
    method: &MethodName,
    error: &api::Error,
    channel: Option<&str>,
    boundary: &str,
) -> Error {
    if error.code == code::METHOD_NOT_FOUND && method != "RPC" {
        return Error::Unsupported {
            method: method.clone(),
            why: format!("{} {}: {PRO}", error.code, error.message),
        };
    }
    Error::Api {
        method: method.clone(),
        code: error.code,
        message: error.message.clone(),
        meaning: meaning(method, error.code, channel, boundary),
    }
}

const PRO: &str = "the method belongs to Centrifugo PRO, or to a later version";

/// What a code of the API means.
fn meaning(method: &str, code: u32, channel: Option<&str>, boundary: &str) -> String {
    let namespace = match channel.map(|channel| channel.split_once(boundary)) {
        Some(Some((namespace, _))) => format!("namespace `{namespace}`"),
        Some(None) => "`channel.without_namespace`".to_owned(),
        None => "the channel's namespace".to_owned(),
    };
    match (code, method) {
        (100, "Subscribe" | "Refresh") => {
            "centrifugo failed; an `expire_at` in the past is one cause".to_owned()
        }
        (100, _) => "centrifugo failed, its log says why".to_owned(),
        (102, _) => format!("{namespace} is not configured in centrifugo"),
        (104, _) => "no such extension method is compiled into centrifugo".to_owned(),
        (107, "Publish" | "Broadcast") => {
            "the channel is missing or not of type stream, or the data does not fit the \
             namespace's `publication_data_format` (empty data needs \"binary\")"
                .to_owned()
        }
        (
            107,
            "MapPublish" | "MapRemove" | "MapReadState" | "MapReadStream" | "MapStats" | "MapClear",
        ) => format!(
            "channel or key is missing, `key_mode` is unknown, or {namespace} is not of type map"
        ),
        (107, "SharedPollPublish") => format!(
            "channel, key or a `version` of at least 1 is missing, or {namespace} is not of type \
             shared_poll"
        ),
        (107, _) => "a field that the method needs is missing or malformed".to_owned(),
        (108, "Presence" | "PresenceStats") => format!("set `presence` in {namespace}"),
        (108, "History" | "HistoryRemove" | "Publish" | "Broadcast") => {
            format!("set `history_size` and `history_ttl` in {namespace}, both above 0")
        }
        (108, "SharedPollPublish") => {
            format!("set `shared_poll.publish_enabled` in {namespace}")
        }
        (108, _) => format!("{namespace} does not have the option that the method needs"),
        (112, _) => {
            "the history no longer reaches back to `since`: start from the present state".to_owned()
        }
        (113, _) => "somebody else was faster: read the present state and try again".to_owned(),
        (code, _) => format!("code {code} has no meaning that we know of"),
    }
}

/// What a gRPC status means for a method. In transport mode it carries the API's own error.
pub(super) fn of_status(
    method: &MethodName,
    status: &super::wire::GrpcStatus,
    channel: Option<&str>,
    boundary: &str,
) -> Error {
    if let Some(error) = status.details.as_ref().and_then(api_error_of) {
        return refused(method, &error, channel, boundary);
    }
    match status.code {
        12 => Error::Unsupported {
            method: method.clone(),
            why: format!("{}: {PRO}", status.message),
        },
        16 => Error::Unauthenticated,
        code => Error::Status {
            method: method.clone(),
            status: code,
            message: status.message.clone(),
        },
    }
}

const ERROR_TYPE: &str = "type.googleapis.com/centrifugal.centrifugo.api.Error";

/// The API's error inside `grpc-status-details-bin`: a `google.rpc.Status` with one `Any`.
fn api_error_of(details: &Bytes) -> Option<api::Error> {
    let any = scan::last(details, 3)?;
    let kind = scan::last(&any, 1)?;
    if kind != ERROR_TYPE.as_bytes() {
        return None;
    }
    api::Error::decode(scan::last(&any, 2)?).ok()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::reject::RejectView;

    fn error(method: &'static str, code: u32, channel: &str) -> Error {
        let message = "x".to_owned();
        let name = MethodName::Borrowed(method);
        refused(&name, &api::Error { code, message }, Some(channel), ":")
    }

    #[test]
    fn error_108_names_the_namespace_and_its_missing_option() {
        let said = |method, channel| error(method, 108, channel).to_string();
        assert!(said("Presence", "chat:1").ends_with("set `presence` in namespace `chat`"));
        let history = said("History", "plain");
        assert!(
            history.contains("`history_size` and `history_ttl`"),
            "{history}"
        );
        assert!(history.contains("`channel.without_namespace`"), "{history}");
        let poll = said("SharedPollPublish", "q:1");
        assert!(
            poll.contains("`shared_poll.publish_enabled` in namespace `q`"),
            "{poll}"
        );
    }

    #[test]
    fn error_104_is_an_unsupported_method_but_for_extension_methods() {
        assert!(matches!(
            error("BlockUser", 104, ""),
            Error::Unsupported { .. }
        ));
        assert_eq!(error("RPC", 104, "").code(), Some(104));
    }

    #[test]
    fn what_another_try_may_mend_is_temporary_for_the_client() {
        let full = Error::Overloaded {
            limit: "centrifugo.queue",
        };
        let full = full.into_reject();
        let RejectView::Error {
            code: 111,
            temporary: true,
            ..
        } = full.view()
        else {
            panic!("{full:?}");
        };
        let refused = error("Publish", 102, "chat:1").into_reject();
        assert!(matches!(refused.view(), RejectView::Internal(_)));
    }
}
