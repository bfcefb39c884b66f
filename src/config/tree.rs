//! TOML as a tree in which every value knows where it came from.

use std::collections::BTreeMap;
use std::path::Path;

use toml::de::{DeTable, DeValue};

use super::problem::{Origin, Problem};

/// A value and where it came from.
#[derive(Clone)]
pub(super) struct Node {
    pub(super) value: Value,
    pub(super) origin: Origin,
}

/// What a TOML value is; dates, which no key takes, are text.
#[derive(Clone, PartialEq)]
pub(super) enum Value {
    Text(String),
    Int(i64),
    Float(f64),
    Bool(bool),
    List(Vec<Node>),
    Table(BTreeMap<String, Node>),
}

impl PartialEq for Node {
    fn eq(&self, other: &Self) -> bool {
        self.value == other.value
    }
}

impl Node {
    pub(super) fn text(text: impl Into<String>, origin: Origin) -> Self {
        Self {
            value: Value::Text(text.into()),
            origin,
        }
    }

    pub(super) fn empty_table(origin: Origin) -> Self {
        Self {
            value: Value::Table(BTreeMap::new()),
            origin,
        }
    }

    pub(super) fn child(&self, name: &str) -> Option<&Node> {
        match &self.value {
            Value::Table(entries) => entries.get(name),
            _ => None,
        }
    }

    /// Lays `over` upon this: tables merge key by key, everything else is replaced.
    pub(super) fn merge(&mut self, over: Node) {
        match (&mut self.value, over.value) {
            (Value::Table(mine), Value::Table(theirs)) => {
                for (name, node) in theirs {
                    match mine.get_mut(&name) {
                        Some(old) => old.merge(node),
                        None => {
                            mine.insert(name, node);
                        }
                    }
                }
            }
            (mine, value) => {
                *mine = value;
                self.origin = over.origin;
            }
        }
    }

    /// The value as TOML on one line.
    pub(super) fn to_toml(&self) -> String {
        match &self.value {
            Value::Text(text) => quote(text),
            Value::Int(number) => number.to_string(),
            Value::Float(number) => toml::Value::Float(*number).to_string(),
            Value::Bool(flag) => flag.to_string(),
            Value::List(items) => {
                let items: Vec<_> = items.iter().map(Node::to_toml).collect();
                format!("[{}]", items.join(", "))
            }
            Value::Table(entries) if entries.is_empty() => "{}".to_owned(),
            Value::Table(entries) => {
                let entries: Vec<_> = entries
                    .iter()
                    .map(|(name, node)| format!("{} = {}", quote_key(name), node.to_toml()))
                    .collect();
                format!("{{ {} }}", entries.join(", "))
            }
        }
    }

    /// The value as JSON; `None` if it holds a number that JSON cannot.
    pub(super) fn to_json(&self) -> Option<serde_json::Value> {
        use serde_json::Value as Json;
        Some(match &self.value {
            Value::Text(text) => Json::String(text.clone()),
            Value::Int(number) => Json::from(*number),
            Value::Float(number) => Json::Number(serde_json::Number::from_f64(*number)?),
            Value::Bool(flag) => Json::Bool(*flag),
            Value::List(items) => {
                Json::Array(items.iter().map(Node::to_json).collect::<Option<_>>()?)
            }
            Value::Table(entries) => {
                let entries = entries
                    .iter()
                    .map(|(name, node)| Some((name.clone(), node.to_json()?)));
                Json::Object(entries.collect::<Option<_>>()?)
            }
        })
    }
}

impl Value {
    /// The type with its article, for messages.
    pub(super) fn type_name(&self) -> &'static str {
        match self {
            Self::Text(_) => "a string",
            Self::Int(_) => "a number",
            Self::Float(_) => "a number with a fraction",
            Self::Bool(_) => "true or false",
            Self::List(_) => "a list",
            Self::Table(_) => "a table",
        }
    }
}

/// A basic TOML string on one line.
pub(super) fn quote(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push('"');
    for letter in text.chars() {
        match letter {
            '"' | '\\' => quoted.extend(['\\', letter]),
            '\n' => quoted.push_str("\\n"),
            '\t' => quoted.push_str("\\t"),
            '\r' => quoted.push_str("\\r"),
            _ if letter.is_control() => {
                quoted.push_str(&format!("\\u{:04X}", u32::from(letter)));
            }
            _ => quoted.push(letter),
        }
    }
    quoted.push('"');
    quoted
}

/// A TOML key, bare where it may be.
pub(super) fn quote_key(name: &str) -> String {
    let bare = |letter: char| letter.is_ascii_alphanumeric() || letter == '_' || letter == '-';
    if !name.is_empty() && name.chars().all(bare) {
        name.to_owned()
    } else {
        quote(name)
    }
}

/// Reads a whole document; every syntax error is a problem with its line, what could be read is the
/// tree. The text of a faulty line is not repeated: it may hold a secret.
pub(super) fn parse_document(text: &str, path: &Path, problems: &mut Vec<Problem>) -> Node {
    let lines = Lines::of(text, path);
    let (table, errors) = DeTable::parse_recoverable(text);
    for error in errors {
        let origin = lines.origin(error.span().map_or(0, |span| span.start));
        problems.push(Problem {
            key: String::new(),
            value: None,
            rule: format!("not TOML: {}", error.message()),
            fix: "correct the line; strings stand in double quotes, as in key = \"value\""
                .to_owned(),
            origin,
        });
    }
    let at = |offset| lines.origin(offset);
    Node {
        value: convert_table(table.get_ref(), &at),
        origin: Origin::File {
            path: path.to_owned(),
            line: 0,
        },
    }
}

/// Reads one TOML value, as in `--set` and in the defaults; `None` if it is not one.
pub(super) fn parse_value(text: &str, origin: &Origin) -> Option<Node> {
    let value = DeValue::parse(text.trim()).ok()?;
    let value = convert(value.get_ref(), &|_| origin.clone());
    Some(Node {
        value,
        origin: origin.clone(),
    })
}

type At<'a> = &'a dyn Fn(usize) -> Origin;

fn convert_table(table: &DeTable<'_>, at: At<'_>) -> Value {
    let entries = table.iter().map(|(name, value)| {
        let node = Node {
            value: convert(value.get_ref(), at),
            origin: at(name.span().start),
        };
        (name.get_ref().to_string(), node)
    });
    Value::Table(entries.collect())
}

fn convert(value: &DeValue<'_>, at: At<'_>) -> Value {
    match value {
        DeValue::String(text) => Value::Text(text.to_string()),
        DeValue::Boolean(flag) => Value::Bool(*flag),
        DeValue::Datetime(date) => Value::Text(date.to_string()),
        DeValue::Integer(number) => {
            match i64::from_str_radix(number.as_str(), number.radix()) {
                Ok(number) => Value::Int(number),
                // Beyond the range of every key, which is what the problem will say.
                Err(_) => Value::Float(number.as_str().parse().unwrap_or(f64::INFINITY)),
            }
        }
        DeValue::Float(number) => Value::Float(number.as_str().parse().unwrap_or(f64::NAN)),
        DeValue::Array(items) => {
            let items = items.iter().map(|item| Node {
                value: convert(item.get_ref(), at),
                origin: at(item.span().start),
            });
            Value::List(items.collect())
        }
        DeValue::Table(table) => convert_table(table, at),
    }
}

/// `parent.name`, or `name` at the top.
pub(super) fn join(parent: &str, name: &str) -> String {
    if parent.is_empty() {
        name.to_owned()
    } else {
        format!("{parent}.{name}")
    }
}

/// Where the lines of a file begin.
struct Lines<'a> {
    starts: Vec<usize>,
    path: &'a Path,
}

impl<'a> Lines<'a> {
    fn of(text: &str, path: &'a Path) -> Self {
        let ends = text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n');
        Self {
            starts: ends.map(|(at, _)| at + 1).collect(),
            path,
        }
    }

    fn origin(&self, offset: usize) -> Origin {
        let line = self.starts.partition_point(|start| *start <= offset) + 1;
        Origin::File {
            path: self.path.to_owned(),
            line,
        }
    }
}
