//! JSON of an event's result message into a reply, with errors that name the key.

use super::Error;
use crate::event::setters::unix_after;
use crate::event::{Event, EventKind, Gated, Subscribe, SubscribeReply, with_event};
use crate::reply::{Intent, Reply};
use serde::de::{DeserializeOwned, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::Value;
use serde_json::value::RawValue;
use std::fmt;
use std::time::Duration;

/// Keys whose value is a payload: any JSON, `null` too.
const PAYLOADS: [&str; 5] = ["data", "info", "meta", "stream_data", "prev_data"];

/// Keys whose value is a map with keys of the user's.
const MAPS: [&str; 3] = ["subs", "tags", "labels"];

/// See [`Reply::from_json`].
pub(crate) fn reply_from_json(kind: EventKind, text: &str) -> Result<Reply, Error> {
    let what = format!("{kind} result");
    if kind == EventKind::Raw {
        let why = "a raw event has no result message; answer it with bytes".to_owned();
        return Err(Error::Whole { what, why });
    }
    with_event!(kind, E => {
        let (result, intent) = result_from_json::<E>(&what, text)?;
        Ok(Reply::with_intent(E::message(result), intent))
    })
}

/// See [`SubscribeReply::from_json`].
pub(crate) fn subscribe_from_json(text: &str) -> Result<SubscribeReply, Error> {
    let (result, intent) = result_from_json::<Subscribe>("subscribe result", text)?;
    Ok(SubscribeReply { result, intent })
}

/// The result of an event, and what is said in words in it.
fn result_from_json<E: Event>(what: &str, text: &str) -> Result<(E::Result, Intent), Error> {
    let text = resolve_expiry(E::KIND, what, text)?;
    let intent = intent(E::KIND, what, &text)?;
    Ok((parse(what, &text)?, intent))
}

/// What is said in words by writing a zero value out.
fn intent(kind: EventKind, what: &str, text: &str) -> Result<Intent, Error> {
    let value: Value = from_str(text)?;
    if value.get("meta").is_some_and(|meta| !meta.is_object()) {
        return Err(key_error(what, "meta", "must be a JSON object"));
    }
    let said = |key: &str, zero: Value| value.get(key) == Some(&zero);
    Ok(Intent {
        anonymous: kind == EventKind::Connect && said("user", Value::from("")),
        never_expires: kind == EventKind::SubRefresh && said("expire_at", Value::from(0)),
        null_payloads: true,
        untouched: false,
        flaw: None,
    })
}

/// Reads a message. Errors name the key; `null` is taken for payloads only.
pub(super) fn parse<M: DeserializeOwned>(what: &str, text: &str) -> Result<M, Error> {
    let value: Value = from_str(text)?;
    if !value.is_object() {
        return Err(Error::Whole {
            what: what.to_owned(),
            why: format!("expected a JSON object, found {}", name_of(&value)),
        });
    }
    if let Some(path) = misplaced_null(&value) {
        let why = "`null` is no value here; leave the key out, or write `{}` for an empty message";
        return Err(key_error(what, &path, why));
    }
    serde_json::from_str(text).map_err(|why| locate::<M>(what, &value, &why))
}

fn from_str<'a, T: Deserialize<'a>>(text: &'a str) -> Result<T, Error> {
    serde_json::from_str(text).map_err(|why| Error::Syntax(why.to_string()))
}

fn key_error(what: &str, key: &str, why: impl Into<String>) -> Error {
    Error::Key {
        what: what.to_owned(),
        key: key.to_owned(),
        why: why.into(),
    }
}

fn name_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "`null`",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "an array",
        Value::Object(_) => "an object",
    }
}

/// The path of the first `null` that stands where a message, a list or a plain value is expected.
fn misplaced_null(message: &Value) -> Option<String> {
    let below = |key: String, value: &Value| match value {
        Value::Null => Some(key),
        other => misplaced_null(other).map(|rest| format!("{key}.{rest}")),
    };
    match message {
        Value::Object(fields) => fields.iter().find_map(|(key, value)| {
            if PAYLOADS.contains(&key.as_str()) {
                return None;
            }
            match value {
                Value::Object(entries) if MAPS.contains(&key.as_str()) => entries
                    .iter()
                    .find_map(|(name, entry)| below(format!("{key}.{name}"), entry)),
                other => below(key.clone(), other),
            }
        }),
        Value::Array(items) => items
            .iter()
            .enumerate()
            .find_map(|(at, item)| below(at.to_string(), item)),
        _ => None,
    }
}

/// Finds the key that an error is about: the message is read again with one key at a time, which
/// works since every key may be left out.
fn locate<M: DeserializeOwned>(what: &str, value: &Value, error: &serde_json::Error) -> Error {
    let mut path: Vec<String> = Vec::new();
    let mut wrap: Vec<Step> = Vec::new();
    let mut at = value;
    let mut why = error.to_string();
    loop {
        let steps: Vec<(Step, &Value)> = match at {
            Value::Object(fields) => fields
                .iter()
                .map(|(key, below)| (Step::Key(key.clone()), below))
                .collect(),
            Value::Array(items) => items
                .iter()
                .enumerate()
                .map(|(index, below)| (Step::Index(index), below))
                .collect(),
            _ => break,
        };
        let failing = steps.into_iter().find_map(|(step, below)| {
            wrap.push(step);
            let failed = serde_json::from_value::<M>(pruned(&wrap, below.clone())).err();
            let step = wrap.pop()?;
            failed.map(|why| (step, below, why.to_string()))
        });
        let Some((step, below, reason)) = failing else {
            break;
        };
        let unknown = reason.starts_with(&format!("unknown field `{step}`"));
        path.push(step.to_string());
        wrap.push(step);
        why = reason;
        at = below;
        if unknown {
            break;
        }
    }
    let end = why.find(" at line ").unwrap_or(why.len());
    why.truncate(end);
    match path.is_empty() {
        true => Error::Whole {
            what: what.to_owned(),
            why,
        },
        false => key_error(what, &path.join("."), why),
    }
}

/// One step down into a JSON value.
enum Step {
    Key(String),
    Index(usize),
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Key(key) => f.write_str(key),
            Self::Index(index) => index.fmt(f),
        }
    }
}

/// A value with nothing but `inner` at the end of the steps.
fn pruned(steps: &[Step], inner: Value) -> Value {
    steps.iter().rev().fold(inner, |value, step| match step {
        Step::Key(key) => Value::Object([(key.clone(), value)].into_iter().collect()),
        Step::Index(_) => Value::Array(vec![value]),
    })
}

/// Replaces `expire_in` by `expire_at`, wherever the result of the kind has one.
fn resolve_expiry(kind: EventKind, what: &str, text: &str) -> Result<String, Error> {
    let expires = kind.is_stream()
        || kind.is_refresh()
        || matches!(kind, EventKind::Connect | EventKind::Subscribe);
    // What is no object is refused by the reader that comes next.
    match serde_json::from_str::<Entries<'_>>(text) {
        Ok(message) if expires && text.contains("\"expire_in\"") => {
            message.resolve(what, "", |key, raw| match key {
                "subs" if kind == EventKind::Connect => resolve_subs(what, raw),
                _ => Ok(raw.to_owned()),
            })
        }
        _ => Ok(text.to_owned()),
    }
}

/// The same for the subscriptions of a connect result.
fn resolve_subs(what: &str, subs: &str) -> Result<String, Error> {
    let Ok(subs) = serde_json::from_str::<Entries<'_>>(subs) else {
        return Ok(subs.to_owned());
    };
    subs.rewrite(|name, raw| {
        let value = match serde_json::from_str::<Entries<'_>>(raw) {
            Ok(options) => {
                let path = format!("subs.{name}.");
                options.resolve(what, &path, |_, raw| Ok(raw.to_owned()))?
            }
            Err(_) => raw.to_owned(),
        };
        Ok((name.to_owned(), value))
    })
}

/// The entries of a JSON object as they stand in the text.
struct Entries<'a>(Vec<(String, &'a RawValue)>);

impl Entries<'_> {
    /// The object again, with `expire_in` resolved and the other values as `other` has them.
    fn resolve(
        &self,
        what: &str,
        path: &str,
        other: impl Fn(&str, &str) -> Result<String, Error>,
    ) -> Result<String, Error> {
        let both = ["expire_in", "expire_at"].map(|key| self.0.iter().any(|(name, _)| name == key));
        self.rewrite(|name, raw| {
            if name != "expire_in" {
                return Ok((name.to_owned(), other(name, raw)?));
            }
            let at = match both {
                [true, true] => Err("stands beside `expire_at`; set one of the two".to_owned()),
                _ => expire_at(raw),
            };
            let at = at.map_err(|why| key_error(what, &format!("{path}expire_in"), why))?;
            Ok(("expire_at".to_owned(), at.to_string()))
        })
    }

    /// The object again, with other keys and values.
    fn rewrite(
        &self,
        entry: impl Fn(&str, &str) -> Result<(String, String), Error>,
    ) -> Result<String, Error> {
        let entries = self.0.iter().map(|(name, raw)| {
            let (name, value) = entry(name, raw.get())?;
            Ok(format!("{}:{value}", Value::from(name)))
        });
        let entries: Vec<String> = entries.collect::<Result<_, _>>()?;
        Ok(format!("{{{}}}", entries.join(",")))
    }
}

impl<'de> Deserialize<'de> for Entries<'de> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Collect;
        impl<'de> Visitor<'de> for Collect {
            type Value = Entries<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a JSON object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut entries = Vec::new();
                while let Some(entry) = map.next_entry()? {
                    entries.push(entry);
                }
                Ok(Entries(entries))
            }
        }
        from.deserialize_map(Collect)
    }
}

/// Unix seconds of `expire_in`: whole seconds from now, or a duration such as `"15m"`.
fn expire_at(raw: &str) -> Result<i64, String> {
    let rule = "takes whole seconds or a duration such as \"15m\"";
    match serde_json::from_str(raw) {
        Ok(Value::Number(seconds)) => match seconds.as_i64() {
            Some(seconds) => Ok(unix_after(Duration::ZERO).saturating_add(seconds)),
            None => Err(format!("{rule}, found {seconds}")),
        },
        Ok(Value::String(text)) => match humantime::parse_duration(&text) {
            Ok(duration) => Ok(unix_after(duration)),
            Err(why) => Err(format!("{rule}, found {text:?}: {why}")),
        },
        Ok(other) => Err(format!("{rule}, found {}", name_of(&other))),
        Err(why) => Err(why.to_string()),
    }
}
