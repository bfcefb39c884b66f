//! Templates of keys: text with fields of the event in it.

use std::borrow::Cow;
use std::fmt::{self, Write as _};

use bytes::Bytes;

use super::{BadData, KeyError, KeyRule, KeySource, KeyUse, MAX_FIELD_BYTES, find_text};
use crate::routing::pattern::{Token, next_token, write_literal};

/// A parsed template, with at least one field; prints as it is written.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Template {
    parts: Box<[Part]>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Part {
    Text(Box<str>),
    Field(Field),
}

/// A field of the event; prints as between the braces.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Field {
    /// `user`, or the client where there is none.
    User,
    /// `client`.
    Client,
    /// `channel`.
    Channel,
    /// `method`.
    Method,
    /// `param.X`: what a capture of the route's pattern took.
    Param(Box<str>),
    /// `data.X` or `data.a.b`: a string or number in the client's data.
    Data(Box<[Box<str>]>),
    /// `header.NAME`, the name in lower case.
    Header(Box<str>),
}

impl Template {
    pub(super) fn parse(text: &str, used: KeyUse) -> Result<Self, KeyRule> {
        let mut parts = Vec::new();
        let mut literal = String::new();
        let mut at = 0;
        while let Some((token, bytes)) = text.get(at..).and_then(next_token) {
            match token {
                Token::Char(c) => literal.push(c),
                Token::Unclosed => return Err(KeyRule::Unclosed),
                Token::Braced(inside) => {
                    if !literal.is_empty() {
                        parts.push(Part::Text(std::mem::take(&mut literal).into()));
                    }
                    parts.push(Part::Field(Field::parse(inside, used)?));
                }
            }
            at += bytes;
        }
        if parts.is_empty() {
            return Err(KeyRule::NoField);
        }
        if !literal.is_empty() {
            parts.push(Part::Text(literal.into()));
        }
        Ok(Self {
            parts: parts.into(),
        })
    }

    /// The fields, in the order of the text.
    pub fn fields(&self) -> impl Iterator<Item = &Field> {
        self.parts.iter().filter_map(|part| match part {
            Part::Field(field) => Some(field),
            Part::Text(_) => None,
        })
    }

    /// The text with the fields of this event.
    pub(super) fn fill(&self, source: &dyn KeySource) -> Result<String, KeyError> {
        let mut filled = String::with_capacity(32);
        let mut data = None;
        for part in &self.parts {
            match part {
                Part::Text(text) => filled.push_str(text),
                Part::Field(field) => {
                    if matches!(field, Field::Data(_)) && data.is_none() {
                        data = Some(source.data());
                    }
                    let value = field.value(source, data.as_ref().and_then(Option::as_ref));
                    let value = value.and_then(|value| match value.len() {
                        0..=MAX_FIELD_BYTES => Ok(value),
                        _ => Err(BadData::TooLong),
                    });
                    filled.push_str(&value.map_err(|why| KeyError::BadData {
                        field: field.to_string(),
                        why,
                    })?);
                }
            }
        }
        Ok(filled)
    }
}

impl Field {
    fn parse(inside: &str, used: KeyUse) -> Result<Self, KeyRule> {
        let (word, path) = inside
            .split_once('.')
            .map_or((inside, None), |(word, path)| (word, Some(path)));
        let unknown = || KeyRule::UnknownField(inside.to_owned());
        let path = match (word, path) {
            ("user", None) => return Ok(Self::User),
            ("client", None) => return Ok(Self::Client),
            ("channel", None) => return Ok(Self::Channel),
            ("method", None) => return Ok(Self::Method),
            ("param" | "data" | "header", path) => path.unwrap_or_default(),
            _ => return Err(unknown()),
        };
        let unnamed = |name: &str| {
            name.is_empty() || name.contains(|c: char| c.is_whitespace() || c.is_control())
        };
        match word {
            "header" if used == KeyUse::Route => Err(KeyRule::HeaderElsewhere),
            "data" if path.split('.').any(unnamed) => Err(KeyRule::Unnamed(inside.to_owned())),
            "data" => Ok(Self::Data(path.split('.').map(Box::from).collect())),
            _ if unnamed(path) => Err(KeyRule::Unnamed(inside.to_owned())),
            "param" => Ok(Self::Param(path.into())),
            _ => Ok(Self::Header(path.to_ascii_lowercase().into())),
        }
    }

    fn value<'a>(
        &self,
        source: &'a dyn KeySource,
        data: Option<&'a Bytes>,
    ) -> Result<Cow<'a, str>, BadData> {
        let present = |text: &'a str| Some(text).filter(|text| !text.is_empty());
        let text = match self {
            Self::User => present(source.user()).or_else(|| present(source.client())),
            Self::Client => present(source.client()),
            Self::Channel => present(source.channel()),
            Self::Method => present(source.method()),
            Self::Param(name) => source.param(name),
            Self::Header(name) => source.header(name),
            Self::Data(path) => return find_text(data.ok_or(BadData::NotJson)?, path),
        };
        text.map(Cow::Borrowed).ok_or(BadData::Missing)
    }
}

impl fmt::Display for Template {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.parts.iter().try_for_each(|part| match part {
            Part::Text(text) => write_literal(f, text),
            Part::Field(field) => write!(f, "{{{field}}}"),
        })
    }
}

impl fmt::Display for Field {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::User => f.write_str("user"),
            Self::Client => f.write_str("client"),
            Self::Channel => f.write_str("channel"),
            Self::Method => f.write_str("method"),
            Self::Param(name) => write!(f, "param.{name}"),
            Self::Header(name) => write!(f, "header.{name}"),
            Self::Data(path) => {
                f.write_str("data")?;
                path.iter().try_for_each(|name| {
                    f.write_char('.')?;
                    f.write_str(name)
                })
            }
        }
    }
}
