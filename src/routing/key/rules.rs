//! The rules that a key has to keep, by itself and for the events of its route.

use super::{Field, KeySpec, KeyUse};
use crate::event::{EventKind, Subject};
use crate::routing::pattern::Pattern;

/// A key that is not one, or not one for its route: key, value, rule and fix.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{key} = \"{value}\": {rule}")]
pub struct KeySpecError {
    /// The configuration key.
    pub key: &'static str,
    /// As it was written.
    pub value: String,
    /// The rule and the fix.
    pub rule: KeyRule,
}

/// The rules of a key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyRule {
    /// Neither a word nor a template.
    #[error(
        "is neither `user`, `client`, `channel` nor a template; a template has a field, such as \
         `showing:{{data.showing}}`"
    )]
    NoField,
    /// `all` of a route or `none` of a limit.
    #[error("`none` is for the key of a route, `all` for `per` of a limit; use the other one here")]
    WordElsewhere,
    /// `{` without `}`.
    #[error("a brace is never closed; close it with `}}`, or write `{{{{` for the brace itself")]
    Unclosed,
    /// A field that does not exist.
    #[error(
        "there is no field `{{{0}}}`; fields are {{user}}, {{client}}, {{channel}}, {{method}}, \
         {{param.X}} and {{data.X}}"
    )]
    UnknownField(String),
    /// `{data.}`, `{param}` and the like.
    #[error("`{{{0}}}` lacks a name behind a dot; write for example `{{data.id}}`")]
    Unnamed(String),
    /// `{header.X}` of a route.
    #[error("`{{header.X}}` is for `per` of a limit alone; use `{{user}}` or `{{data.X}}`")]
    HeaderElsewhere,
    /// The channel, of an event without one.
    #[error("the event `{0}` has no channel; use `user`, `client` or a template over other fields")]
    NoChannel(EventKind),
    /// The method, of an event that is no call.
    #[error("the event `{0}` has no method; `{{method}}` is for rpc")]
    NoMethod(EventKind),
    /// The user or client, of an event that comes from Centrifugo itself.
    #[error("the event `{0}` has neither user nor client; use `none`, or `channel` if it has one")]
    NoClient(EventKind),
    /// The data, of an event without.
    #[error("the event `{0}` carries no data of the client; use other fields")]
    NoData(EventKind),
    /// A parameter that the pattern does not capture.
    #[error("`{{param.{param}}}` needs `{{{param}}}` in the route's `match`, which is {pattern}")]
    NoParam {
        /// The name behind `param.`.
        param: String,
        /// The pattern in backquotes, or that there is none.
        pattern: String,
    },
}

impl KeySpec {
    /// Whether the key makes sense for a route over this kind of event with this pattern.
    ///
    /// # Errors
    /// The first field that the event or the pattern lacks.
    pub fn check(
        &self,
        used: KeyUse,
        kind: EventKind,
        pattern: Option<&Pattern>,
    ) -> Result<(), KeySpecError> {
        let checked = match self {
            Self::None | Self::All => Ok(()),
            Self::User => Field::User.check(kind, pattern),
            Self::Client => Field::Client.check(kind, pattern),
            Self::Channel => Field::Channel.check(kind, pattern),
            Self::Template(template) => template
                .fields()
                .try_for_each(|field| field.check(kind, pattern)),
        };
        let value = || self.to_string();
        checked.map_err(|rule| KeySpecError {
            key: used.key(),
            value: value(),
            rule,
        })
    }
}

impl Field {
    fn check(&self, kind: EventKind, pattern: Option<&Pattern>) -> Result<(), KeyRule> {
        let require = |holds: bool, rule: fn(EventKind) -> KeyRule| {
            if holds { Ok(()) } else { Err(rule(kind)) }
        };
        match self {
            Self::User | Self::Client => require(has_client(kind), KeyRule::NoClient),
            Self::Channel => require(kind.has_channel(), KeyRule::NoChannel),
            Self::Method => require(kind.subject() == Subject::Method, KeyRule::NoMethod),
            Self::Data(_) => require(has_data(kind), KeyRule::NoData),
            Self::Header(_) => Ok(()),
            Self::Param(name) if pattern.is_some_and(|pattern| pattern.has_capture(name)) => Ok(()),
            Self::Param(name) => Err(KeyRule::NoParam {
                param: name.to_string(),
                pattern: pattern
                    .map_or_else(|| "left out".into(), |pattern| format!("`{pattern}`")),
            }),
        }
    }
}

/// Whether a client caused the event; the others come from a Centrifugo node itself.
const fn has_client(kind: EventKind) -> bool {
    use EventKind::{CacheEmpty, ChannelState, Raw, SharedPollRefresh};
    !matches!(kind, SharedPollRefresh | CacheEmpty | ChannelState | Raw)
}

/// Whether the request has the field `data`.
const fn has_data(kind: EventKind) -> bool {
    use EventKind::{Connect, MapPublish, Publish, Rpc, Stream, StreamBidirectional, Subscribe};
    matches!(
        kind,
        Connect | Subscribe | Publish | Rpc | MapPublish | Stream | StreamBidirectional
    )
}
