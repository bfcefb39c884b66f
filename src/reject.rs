//! A handler's refusal: an error or a disconnect for the client, or a failure of its own.

use std::error::Error as StdError;
use std::fmt;

/// A cause of any type, kept for the log and never shown to a client.
pub type BoxError = Box<dyn StdError + Send + Sync + 'static>;

/// Built-in client error codes of Centrifugo that an application may reuse on purpose.
pub mod code {
    /// Internal server error; SDKs take it for temporary.
    pub const INTERNAL: u32 = 100;
    /// The connection is not authorised.
    pub const UNAUTHORIZED: u32 = 101;
    /// The channel's namespace does not exist.
    pub const UNKNOWN_CHANNEL: u32 = 102;
    /// The client may not do this.
    pub const PERMISSION_DENIED: u32 = 103;
    /// No such rpc method.
    pub const METHOD_NOT_FOUND: u32 = 104;
    /// The request does not make sense.
    pub const BAD_REQUEST: u32 = 107;
    /// The feature is not available here.
    pub const NOT_AVAILABLE: u32 = 108;
    /// Too many requests; add `.temporary()`, as this node does when it is overloaded itself.
    pub const TOO_MANY_REQUESTS: u32 = 111;
}

/// Centrifugo's own disconnect codes that an application may reuse on purpose. 3000 is not among
/// them: WebSocket clients see it as a lost transport and reconnect for ever.
pub mod disconnect_code {
    /// The node shuts down; the client reconnects.
    pub const SHUTDOWN: u32 = 3001;
    /// Internal server error; the client reconnects.
    pub const SERVER_ERROR: u32 = 3004;
    /// The connection expired; the client reconnects.
    pub const EXPIRED: u32 = 3005;
    /// A server-side subscription expired; the client reconnects.
    pub const SUBSCRIPTION_EXPIRED: u32 = 3006;
    /// The client reads too slowly; it reconnects.
    pub const SLOW: u32 = 3008;
    /// Writing to the client failed; it reconnects.
    pub const WRITE_ERROR: u32 = 3009;
    /// The position in a stream was lost; the client reconnects.
    pub const INSUFFICIENT_STATE: u32 = 3010;
    /// Asks the client to reconnect.
    pub const FORCE_RECONNECT: u32 = 3011;
    /// The client did not answer a ping; it reconnects.
    pub const NO_PONG: u32 = 3012;
    /// Too many requests; the client reconnects.
    pub const TOO_MANY_REQUESTS: u32 = 3013;
    /// The state of the connection is no longer valid; the client reconnects.
    pub const STATE_INVALIDATED: u32 = 3014;
    /// The token is invalid; final.
    pub const INVALID_TOKEN: u32 = 3500;
    /// The request makes no sense; final.
    pub const BAD_REQUEST: u32 = 3501;
    /// The connection did not authenticate in time; final.
    pub const STALE: u32 = 3502;
    /// The client has to go; final.
    pub const FORCE_DISCONNECT: u32 = 3503;
    /// Too many connections; final.
    pub const CONNECTION_LIMIT: u32 = 3504;
    /// Too many channels; final.
    pub const CHANNEL_LIMIT: u32 = 3505;
    /// The data does not fit the client's protocol; final.
    pub const INAPPROPRIATE_PROTOCOL: u32 = 3506;
    /// The client may not do this; final.
    pub const PERMISSION_DENIED: u32 = 3507;
    /// The feature is not available; final.
    pub const NOT_AVAILABLE: u32 = 3508;
    /// Too many errors; final.
    pub const TOO_MANY_ERRORS: u32 = 3509;

    /// Whether a code is one of those above.
    pub const fn is_known(code: u32) -> bool {
        matches!(code, SHUTDOWN | SERVER_ERROR..=SUBSCRIPTION_EXPIRED | SLOW..=STATE_INVALIDATED)
            || matches!(code, INVALID_TOKEN..=TOO_MANY_ERRORS)
    }
}

/// What a handler or a stage answers instead of a reply.
///
/// Codes are checked before the answer leaves: errors are 100–113 or 400–1999, disconnects
/// 4000–4999 or one of Centrifugo's own; anything else becomes an internal error and a log line.
/// Refresh events can't carry either: Centrifugo ignores them there, so a refusal becomes
/// `expired: true`.
pub struct Reject(Kind);

enum Kind {
    Error {
        code: u32,
        message: String,
        temporary: bool,
    },
    Disconnect {
        code: u32,
        reason: String,
    },
    Internal(BoxError),
}

/// The parts of a [`Reject`], by what they ask of the client.
#[derive(Debug, Clone, Copy)]
pub enum RejectView<'a> {
    /// An error in the reply.
    Error {
        /// Code shown to the client.
        code: u32,
        /// Text shown to the client.
        message: &'a str,
        /// Whether SDKs should try again.
        temporary: bool,
    },
    /// The end of the client's connection.
    Disconnect {
        /// Close code.
        code: u32,
        /// Close reason, at most 123 bytes.
        reason: &'a str,
    },
    /// A failure of the handler, with the cause for the log.
    Internal(&'a (dyn StdError + Send + Sync + 'static)),
}

impl Reject {
    /// An error for the client; `code` 400–1999, or one of [`code`] on purpose.
    pub fn error(code: u32, message: impl Into<String>) -> Self {
        Self(Kind::Error {
            code,
            message: message.into(),
            temporary: false,
        })
    }

    /// Ends the client's connection: 4000–4499 lets SDKs reconnect, 4500–4999 is final.
    /// `reason` is at most 123 bytes (above 32 ASCII ones a warning is logged).
    pub fn disconnect(code: u32, reason: impl Into<String>) -> Self {
        Self(Kind::Disconnect {
            code,
            reason: reason.into(),
        })
    }

    /// A failure of the handler itself: the cause is logged, the client learns only that it failed.
    pub fn internal(cause: impl Into<BoxError>) -> Self {
        Self(Kind::Internal(cause.into()))
    }

    /// The caller may not do this (103).
    pub fn permission_denied() -> Self {
        Self::error(code::PERMISSION_DENIED, "permission denied")
    }

    /// The request is malformed (107).
    pub fn bad_request(message: impl Into<String>) -> Self {
        Self::error(code::BAD_REQUEST, message)
    }

    /// Marks an error as worth another try; a disconnect or a failure stays as it is.
    #[must_use]
    pub fn temporary(mut self) -> Self {
        if let Kind::Error { temporary, .. } = &mut self.0 {
            *temporary = true;
        }
        self
    }

    /// The parts, for the answer and for stages that look at it.
    pub fn view(&self) -> RejectView<'_> {
        match &self.0 {
            Kind::Error {
                code,
                message,
                temporary,
            } => RejectView::Error {
                code: *code,
                message,
                temporary: *temporary,
            },
            Kind::Disconnect { code, reason } => RejectView::Disconnect {
                code: *code,
                reason,
            },
            Kind::Internal(cause) => RejectView::Internal(cause.as_ref()),
        }
    }
}

impl fmt::Debug for Reject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.view().fmt(f)
    }
}

/// Any other error of a handler is a failure: logged, and never shown to the client.
impl<E: Into<BoxError>> From<E> for Reject {
    fn from(cause: E) -> Self {
        Self::internal(cause)
    }
}
