//! Finds one string or number in JSON without building the rest of it.

use std::borrow::Cow;
use std::fmt;

use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

/// What is wrong with a field that a key needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadData {
    /// Not there, or empty where it cannot be.
    #[error("is missing")]
    Missing,
    /// There, but `null`, a bool, a list or an object.
    #[error("is neither a string nor a number")]
    NotText,
    /// The data is binary, absent, or not JSON.
    #[error("is wanted from data that is not JSON")]
    NotJson,
    /// Over [`super::MAX_FIELD_BYTES`].
    #[error("has over {} bytes", super::MAX_FIELD_BYTES)]
    TooLong,
}

/// The string or number at `path` (names of members, outermost first) in a JSON text.
///
/// Where a name occurs twice in an object the last one counts. A whole number is the same text
/// however it is written (`7`, `7.0`, `7e0`), so that it leads to the same lane as the string `7`;
/// numbers without point and exponent keep every digit. Never panics, never recurses into the data.
///
/// # Errors
/// Bytes that are not JSON, a path that leads nowhere or to something else.
pub fn find_text<'a, S: AsRef<str>>(json: &'a [u8], path: &[S]) -> Result<Cow<'a, str>, BadData> {
    let mut from = serde_json::Deserializer::from_slice(json);
    let found = Seek { path }
        .deserialize(&mut from)
        .map_err(|_| BadData::NotJson)?;
    from.end().map_err(|_| BadData::NotJson)?;
    let raw = found.ok_or(BadData::Missing)?.get();
    match raw.as_bytes() {
        [b'"', ..] if raw.contains('\\') => serde_json::from_str(raw)
            .map(Cow::Owned)
            .map_err(|_| BadData::NotJson),
        [b'"', .., b'"'] => Ok(Cow::Borrowed(&raw[1..raw.len() - 1])),
        [b'-' | b'0'..=b'9', ..] => number(raw),
        _ => Err(BadData::NotText),
    }
}

/// One text per number.
fn number(raw: &str) -> Result<Cow<'_, str>, BadData> {
    /// Up to here every whole number is a float of its own.
    const EXACT: f64 = 9_007_199_254_740_992.0;
    if !raw.contains(['.', 'e', 'E']) {
        return Ok(Cow::Borrowed(if raw == "-0" { "0" } else { raw }));
    }
    let float: f64 = raw.parse().map_err(|_| BadData::NotJson)?;
    if !float.is_finite() {
        return Err(BadData::NotText);
    }
    if float.fract() == 0.0 && float.abs() <= EXACT {
        return Ok(Cow::Owned((float as i64).to_string()));
    }
    Ok(Cow::Owned(float.to_string()))
}

/// Walks down a path; yields the text of the value at its end.
struct Seek<'p, S> {
    path: &'p [S],
}

impl<'de, S: AsRef<str>> DeserializeSeed<'de> for Seek<'_, S> {
    type Value = Option<&'de RawValue>;

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<Self::Value, D::Error> {
        if self.path.is_empty() {
            return <&RawValue>::deserialize(from).map(Some);
        }
        from.deserialize_any(self)
    }
}

impl<'de, S: AsRef<str>> Visitor<'de> for Seek<'_, S> {
    type Value = Option<&'de RawValue>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Self::Value, A::Error> {
        let Some((wanted, path)) = self.path.split_first() else {
            return Ok(None);
        };
        let mut found = None;
        while let Some(is_it) = members.next_key_seed(Is(wanted.as_ref()))? {
            if is_it {
                found = members.next_value_seed(Seek { path })?;
            } else {
                members.next_value::<IgnoredAny>()?;
            }
        }
        Ok(found)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Self::Value, A::Error> {
        while items.next_element::<IgnoredAny>()?.is_some() {}
        Ok(None)
    }

    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_bool<E>(self, _: bool) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_str<E>(self, _: &str) -> Result<Self::Value, E> {
        Ok(None)
    }
}

/// Whether the name of a member is this one.
struct Is<'p>(&'p str);

impl<'de> DeserializeSeed<'de> for Is<'_> {
    type Value = bool;

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<bool, D::Error> {
        from.deserialize_str(self)
    }
}

impl Visitor<'_> for Is<'_> {
    type Value = bool;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the name of a member")
    }

    fn visit_str<E>(self, name: &str) -> Result<bool, E> {
        Ok(name == self.0)
    }
}
