//! Keys of routes: what is serialised and owned, and the lane that an event goes to.
//!
//! | Written | Its lane |
//! |---|---|
//! | `none` | none: no order, no owner |
//! | `user` | the user's; the client's where there is no user |
//! | `client`, `channel` | the client's, the channel's |
//! | a template such as `showing:{data.showing}` | the channel's of the name that it fills in to |
//! | `all` | one for all (only for limits) |
//!
//! A template is text with at least one of `{user} {client} {channel} {method} {param.X} {data.X}`
//! (`{data.a.b}` looks into an object), for limits also `{header.NAME}`; `{{` and `}}` stand for the
//! brace itself. `{user}` too falls back to the client. A field that is missing, or in the data
//! neither string nor number, or in data that is not JSON, is bad data.

mod data;
mod lane;
mod rules;
mod template;
#[cfg(test)]
mod tests;

use std::fmt;

use bytes::Bytes;

pub use data::{BadData, find_text};
pub use lane::{BuildLaneHasher, LaneHasher, LaneKey, LaneMap, Space};
pub use rules::{KeyRule, KeySpecError};
pub use template::{Field, Template};

use crate::event::EventKind;

/// The most bytes that one field of a template may come to; more is bad data. Keeps the names of
/// lanes small, whatever clients send.
pub const MAX_FIELD_BYTES: usize = 1024;

/// Where a key stands, which decides what it may be and what messages call it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum KeyUse {
    /// `key` of a route.
    Route,
    /// `per` of the interceptor `limit`: also `all` and `{header.NAME}`.
    Limit,
}

impl KeyUse {
    /// The configuration key.
    pub const fn key(self) -> &'static str {
        match self {
            Self::Route => "key",
            Self::Limit => "per",
        }
    }
}

/// What a route is keyed by; prints as it is written.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum KeySpec {
    /// Nothing: events run in parallel, anywhere.
    None,
    /// The user, or the client where there is none.
    User,
    /// The client.
    Client,
    /// The channel.
    Channel,
    /// One key for all events.
    All,
    /// A name made from fields of the event.
    Template(Template),
}

/// What a key is made from: the event at hand. Absent strings are empty.
pub trait KeySource {
    /// The user id; empty for anonymous users and on connect.
    fn user(&self) -> &str;
    /// The client id.
    fn client(&self) -> &str;
    /// The channel, complete.
    fn channel(&self) -> &str;
    /// The rpc method.
    fn method(&self) -> &str;
    /// What the capture of this name took.
    fn param(&self, name: &str) -> Option<&str>;
    /// The client's data as JSON; `None` where there is none or where it is binary.
    fn data(&self) -> Option<Bytes>;
    /// The first value of a header (metadata), by its name in lower case.
    fn header(&self, name: &str) -> Option<&str>;
}

/// An event whose key cannot be told.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// What the client sent lacks a field, or has something else there.
    #[error("key field `{{{field}}}` {why}")]
    BadData {
        /// As in the template, without braces.
        field: String,
        /// What is wrong with it.
        why: BadData,
    },
}

impl KeySpec {
    /// Parses the value of a configuration key.
    ///
    /// # Errors
    /// Text that is neither one of the words nor a template; fields that do not exist, or not here.
    pub fn parse(text: &str, used: KeyUse) -> Result<Self, KeySpecError> {
        let spec = match text {
            "none" if used == KeyUse::Route => Ok(Self::None),
            "user" => Ok(Self::User),
            "client" => Ok(Self::Client),
            "channel" => Ok(Self::Channel),
            "all" if used == KeyUse::Limit => Ok(Self::All),
            "none" | "all" => Err(KeyRule::WordElsewhere),
            _ => Template::parse(text, used).map(Self::Template),
        };
        spec.map_err(|rule| KeySpecError {
            key: used.key(),
            value: text.to_owned(),
            rule,
        })
    }

    /// The key of a route that names none: the channel where the event has one.
    pub const fn default_for(kind: EventKind) -> Self {
        if kind.has_channel() {
            Self::Channel
        } else {
            Self::None
        }
    }

    /// The lane of an event; `None` if it has none.
    ///
    /// # Errors
    /// What the key names is missing from the event or is no text.
    pub fn evaluate(&self, source: &dyn KeySource) -> Result<Option<LaneKey>, KeyError> {
        Ok(Some(match self {
            Self::None => return Ok(None),
            Self::User if !source.user().is_empty() => LaneKey::new(Space::User, source.user()),
            Self::User | Self::Client => {
                LaneKey::new(Space::Client, present("client", source.client())?)
            }
            Self::Channel => LaneKey::new(Space::Channel, present("channel", source.channel())?),
            Self::All => LaneKey::new(Space::All, ""),
            Self::Template(template) => LaneKey::new(Space::Channel, &template.fill(source)?),
        }))
    }
}

impl fmt::Display for KeySpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => f.write_str("none"),
            Self::User => f.write_str("user"),
            Self::Client => f.write_str("client"),
            Self::Channel => f.write_str("channel"),
            Self::All => f.write_str("all"),
            Self::Template(template) => template.fmt(f),
        }
    }
}

fn present<'a>(field: &str, text: &'a str) -> Result<&'a str, KeyError> {
    if text.is_empty() {
        return Err(KeyError::BadData {
            field: field.to_owned(),
            why: BadData::Missing,
        });
    }
    Ok(text)
}
