//! A reply with marks where fields of the event and moments relative to it go.
//!
//! A mark in a text is U+FDD0, which is no character, and one of the private-use characters, whose
//! place among them is that of the field in a list. A mark in a time is one of the smallest numbers.

use super::FixedError;
use super::slots::{Fill, fill};
use crate::event::EventKind;
use crate::event::setters::unix_after;
use crate::reply::Reply;
use crate::routing::pattern::{Pattern, Token, next_token};
use bytes::Bytes;
use serde_json::{Map, Value};
use std::fmt;
use std::time::Duration;

/// The first half of a mark.
const MARK: char = '\u{FDD0}';

/// The second half of the first mark.
const FIRST: u32 = 0xE000;

/// How many fields a reply may name.
pub(super) const FIELDS: usize = 1000;

/// What stands for every field while the reply is judged; no base64, so that nobody hides a field
/// there.
const SAMPLE: &str = "a-sample";

/// A field that a string of the reply may name; prints as between the braces.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Place {
    Client,
    User,
    Channel,
    Method,
    Param(Box<str>),
}

/// A moment relative to the event.
#[derive(Debug, Clone, Copy)]
enum After {
    Seconds(i64),
    Time(Duration),
}

impl After {
    fn unix(self) -> i64 {
        match self {
            Self::Seconds(seconds) => unix_after(Duration::ZERO).saturating_add(seconds),
            Self::Time(time) => unix_after(time),
        }
    }
}

/// See the module's text.
#[derive(Debug)]
pub(super) struct Template {
    reply: Reply,
    places: Vec<Place>,
    times: Vec<After>,
}

impl Template {
    /// Reads the JSON of a result message.
    pub(super) fn try_new(
        message: &Value,
        kind: EventKind,
        pattern: Option<&Pattern>,
    ) -> Result<Self, FixedError> {
        let mut marks = Marks {
            kind,
            pattern,
            places: Vec::new(),
            times: Vec::new(),
        };
        // Once as it is written, for the errors.
        Reply::from_json(kind, &message.to_string())?;
        let marked = marks.value(message)?;
        let marked = marks.expiry(marked, true);
        let reply = Reply::from_json(kind, &marked.to_string())?;
        Ok(Self {
            reply,
            places: marks.places,
            times: marks.times,
        })
    }

    /// Whether the reply is the same for every event.
    pub(super) const fn is_fixed(&self) -> bool {
        self.places.is_empty() && self.times.is_empty()
    }

    /// The reply as it is.
    pub(super) fn into_reply(self) -> Reply {
        self.reply
    }

    /// The reply to an event whose fields are these, at this moment.
    pub(super) fn fill<'a>(&self, value: impl Fn(&Place) -> &'a str) -> Reply {
        let mut reply = self.reply.clone();
        fill(
            reply.message_mut(),
            &mut Filling {
                template: self,
                value,
            },
        );
        reply
    }

    /// The reply to an event like no other, to be judged.
    pub(super) fn sample(&self) -> Reply {
        self.fill(|_| SAMPLE)
    }
}

/// Puts the fields of one event where the marks are.
struct Filling<'t, V> {
    template: &'t Template,
    value: V,
}

impl<'a, V: Fn(&Place) -> &'a str> Filling<'_, V> {
    /// The text without its marks; `None` if it has none.
    fn filled(&self, text: &str, push: fn(&mut String, &str)) -> Option<String> {
        let mut rest = text;
        let mut filled = String::new();
        while let Some((before, marked)) = rest.split_once(MARK) {
            filled.push_str(before);
            let mut chars = marked.chars();
            let index = chars
                .next()
                .map(|second| u32::from(second).wrapping_sub(FIRST));
            let place = index.and_then(|index| self.template.places.get(index as usize));
            if let Some(place) = place {
                push(&mut filled, (self.value)(place));
            }
            rest = chars.as_str();
        }
        if rest.len() == text.len() {
            return None;
        }
        filled.push_str(rest);
        Some(filled)
    }
}

impl<'a, V: Fn(&Place) -> &'a str> Fill for Filling<'_, V> {
    fn text(&mut self, text: &mut String) {
        if let Some(filled) = self.filled(text, String::push_str) {
            *text = filled;
        }
    }

    fn json(&mut self, json: &mut Bytes) {
        let text = std::str::from_utf8(json).unwrap_or_default();
        if let Some(filled) = self.filled(text, push_escaped) {
            *json = Bytes::from(filled);
        }
    }

    fn time(&mut self, time: &mut i64) {
        let index = usize::try_from(time.wrapping_sub(i64::MIN)).ok();
        if let Some(after) = index.and_then(|index| self.template.times.get(index)) {
            *time = after.unix();
        }
    }
}

/// Appends text as it stands within a JSON string.
fn push_escaped(json: &mut String, text: &str) {
    let quoted = Value::from(text).to_string();
    json.push_str(&quoted[1..quoted.len() - 1]);
}

/// Replaces fields and moments by marks.
struct Marks<'p> {
    kind: EventKind,
    pattern: Option<&'p Pattern>,
    places: Vec<Place>,
    times: Vec<After>,
}

impl Marks<'_> {
    fn value(&mut self, value: &Value) -> Result<Value, FixedError> {
        Ok(match value {
            Value::String(text) => Value::String(self.text(text)?),
            Value::Array(items) => {
                let items = items.iter().map(|item| self.value(item));
                Value::Array(items.collect::<Result<_, _>>()?)
            }
            Value::Object(entries) => {
                let mut marked = Map::new();
                for (name, value) in entries {
                    marked.insert(self.text(name)?, self.value(value)?);
                }
                Value::Object(marked)
            }
            other => other.clone(),
        })
    }

    fn text(&mut self, text: &str) -> Result<String, FixedError> {
        let mut marked = String::with_capacity(text.len());
        let mut rest = text;
        while let Some((token, bytes)) = next_token(rest) {
            match token {
                Token::Char(MARK) => return Err(FixedError::Marked),
                Token::Char(c) => marked.push(c),
                Token::Unclosed => return Err(FixedError::Unclosed(text.to_owned())),
                Token::Braced(inside) => {
                    marked.push(MARK);
                    marked.push(self.mark(inside)?);
                }
            }
            rest = &rest[bytes..];
        }
        Ok(marked)
    }

    /// The second half of a field's mark.
    fn mark(&mut self, inside: &str) -> Result<char, FixedError> {
        let place = self.place(inside)?;
        let known = self.places.iter().position(|other| *other == place);
        let index = known.unwrap_or(self.places.len());
        if known.is_none() {
            self.places.push(place);
        }
        let second = u32::try_from(index).ok().filter(|_| index < FIELDS);
        second
            .and_then(|index| char::from_u32(FIRST + index))
            .ok_or(FixedError::Marked)
    }

    fn place(&self, inside: &str) -> Result<Place, FixedError> {
        let place = match (inside, inside.split_once('.')) {
            ("client", _) => Place::Client,
            ("user", _) => Place::User,
            ("channel", _) => Place::Channel,
            ("method", _) => Place::Method,
            (_, Some(("param", name))) => Place::Param(name.into()),
            _ => return Err(FixedError::UnknownField(inside.to_owned())),
        };
        if let Place::Param(name) = &place {
            if self
                .pattern
                .is_some_and(|pattern| pattern.has_capture(name))
            {
                return Ok(place);
            }
            let none = || "left out".to_owned();
            let pattern = self
                .pattern
                .map_or_else(none, |pattern| format!("`{pattern}`"));
            let param = name.to_string();
            return Err(FixedError::NoParam { param, pattern });
        }
        match place.is_in(self.kind) {
            true => Ok(place),
            false => Err(FixedError::NeverThere {
                place: place.to_string(),
                kind: self.kind,
            }),
        }
    }

    /// The message with marks for `expire_in`, also within the subscriptions of a connect result.
    fn expiry(&mut self, message: Value, outermost: bool) -> Value {
        let Value::Object(entries) = message else {
            return message;
        };
        let expires = self.kind.is_stream()
            || self.kind.is_refresh()
            || matches!(self.kind, EventKind::Connect | EventKind::Subscribe);
        let mut marked = Map::new();
        for (name, value) in entries {
            match (name.as_str(), value) {
                ("expire_in", value) if expires => {
                    let mark = i64::MIN.saturating_add_unsigned(self.times.len() as u64);
                    self.times.push(after(&value));
                    marked.insert("expire_at".to_owned(), mark.into());
                }
                ("subs", Value::Object(subs)) if outermost && self.kind == EventKind::Connect => {
                    let subs = subs
                        .into_iter()
                        .map(|(channel, options)| (channel, self.expiry(options, false)));
                    let subs: Map<String, Value> = subs.collect();
                    marked.insert(name, Value::Object(subs));
                }
                (_, value) => {
                    marked.insert(name, value);
                }
            }
        }
        Value::Object(marked)
    }
}

/// Whole seconds or a duration; the reader of replies has accepted it.
fn after(value: &Value) -> After {
    let time = value
        .as_str()
        .and_then(|text| humantime::parse_duration(text).ok());
    match time {
        Some(time) => After::Time(time),
        None => After::Seconds(value.as_i64().unwrap_or_default()),
    }
}

impl Place {
    /// Whether events of this kind have it.
    const fn is_in(&self, kind: EventKind) -> bool {
        use EventKind::{CacheEmpty, ChannelState, Connect, Raw, Rpc, SharedPollRefresh};
        let has_client = !matches!(kind, SharedPollRefresh | CacheEmpty | ChannelState | Raw);
        match self {
            Self::Client => has_client,
            Self::User => has_client && !matches!(kind, Connect),
            Self::Channel => kind.has_channel(),
            Self::Method => matches!(kind, Rpc),
            Self::Param(_) => true,
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Client => f.write_str("client"),
            Self::User => f.write_str("user"),
            Self::Channel => f.write_str("channel"),
            Self::Method => f.write_str("method"),
            Self::Param(name) => write!(f, "param.{name}"),
        }
    }
}
