//! Where values come from: the file, then the environment, then `--set`, each over the one before;
//! and what `${NAME}` and `file:PATH` inside a value stand for.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use super::problem::{Fault, Origin, Problem};
use super::schema::{self, Kind, SECTIONS, Shape};
use super::tree::{Node, Value, parse_document, parse_value};

/// Start of the names of environment variables that are keys.
const ENV_PREFIX: &str = "CENTRIPETA_";
/// The largest configuration file, and the largest file behind `file:PATH`, in bytes.
pub(super) const FILE_BYTES: u64 = 1 << 20;
/// How deep a key of the environment or of `--set` may reach.
const DEPTH: usize = 16;

/// What the loader sees of the world around it.
pub(super) struct World<'a> {
    pub(super) env: &'a BTreeMap<String, String>,
    pub(super) dir: &'a Path,
    /// Reads a file of at most [`FILE_BYTES`].
    pub(super) read: &'a dyn Fn(&Path) -> io::Result<Vec<u8>>,
}

/// Reads the bytes of a configuration file.
pub(super) fn file(path: &Path, bytes: &[u8], problems: &mut Vec<Problem>) -> Node {
    match std::str::from_utf8(bytes) {
        Ok(text) => parse_document(text, path, problems),
        Err(why) => {
            let good = &bytes[..why.valid_up_to()];
            let line = good.iter().filter(|byte| **byte == b'\n').count() + 1;
            let origin = Origin::File {
                path: path.to_owned(),
                line,
            };
            problems.push(Problem {
                key: String::new(),
                value: None,
                rule: "not UTF-8".to_owned(),
                fix: "save the file as UTF-8".to_owned(),
                origin: origin.clone(),
            });
            Node::empty_table(origin)
        }
    }
}

/// Lays the environment over the tree, shorter and lower keys first.
pub(super) fn environment(root: &mut Node, world: &World<'_>, problems: &mut Vec<Problem>) {
    let mut found: Vec<_> = world
        .env
        .iter()
        .filter_map(|(name, text)| {
            let path = name
                .strip_prefix(ENV_PREFIX)
                .filter(|path| path.contains("__"))?;
            let segments: Vec<String> = path.split("__").map(str::to_ascii_lowercase).collect();
            Some((segments, name, text))
        })
        .collect();
    let number = |segment: &String| segment.parse::<usize>().unwrap_or(0);
    found.sort_by_key(|(segments, ..)| segments.iter().map(number).collect::<Vec<_>>());
    for (segments, name, text) in found {
        overlay(
            root,
            &segments,
            text,
            &Origin::Env { name: name.clone() },
            problems,
        );
    }
}

/// Lays the `KEY=VALUE`s of the command line over the tree, in their order.
pub(super) fn sets(root: &mut Node, sets: &[String], problems: &mut Vec<Problem>) {
    for set in sets {
        let Some((key, text)) = set.split_once('=') else {
            // What follows the key may be a secret after a mistyped `=`.
            let letter = |letter: char| letter.is_ascii_alphanumeric() || "._-".contains(letter);
            let key: String = set.chars().take_while(|it| letter(*it)).collect();
            problems.push(Problem {
                key: key.clone(),
                value: None,
                rule: "has no `=`".to_owned(),
                fix: "write --set KEY=VALUE, such as --set limits.timeout=2s".to_owned(),
                origin: Origin::Set { key },
            });
            continue;
        };
        let segments: Vec<String> = key.trim().split('.').map(str::to_owned).collect();
        overlay(
            root,
            &segments,
            text,
            &Origin::Set {
                key: key.trim().to_owned(),
            },
            problems,
        );
    }
}

/// The name of the environment variable for a dotted key.
pub(super) fn env_name(key: &str) -> String {
    format!(
        "{ENV_PREFIX}{}",
        key.replace('.', "__")
            .replace('-', "_")
            .to_ascii_uppercase()
    )
}

fn overlay(
    root: &mut Node,
    segments: &[String],
    text: &str,
    origin: &Origin,
    problems: &mut Vec<Problem>,
) {
    let placed = if segments.len() > DEPTH || segments.iter().any(String::is_empty) {
        Err(Fault::new(
            "is not a dotted key",
            "name a section and a key, such as limits.timeout",
        ))
    } else {
        place(root, segments, &|| value_of(segments, text, origin), origin)
    };
    if let Err(fault) = placed {
        problems.push(Problem {
            key: segments.join("."),
            value: None,
            rule: fault.rule(true),
            fix: fault.fix,
            origin: origin.clone(),
        });
    }
}

/// A value as TOML, falling back to a string; a key that takes text takes it as it stands.
fn value_of(segments: &[String], text: &str, origin: &Origin) -> Node {
    let key = schema::find(&schema_path(segments));
    let takes_text = key.is_some_and(|key| takes_text(&key.kind));
    let takes_secrets = key.is_some_and(|key| key.kind == Kind::Secrets);
    let parsed = parse_value(text, origin);
    match parsed {
        Some(node) if takes_secrets && matches!(node.value, Value::List(_)) => node,
        Some(node) if !takes_text || matches!(node.value, Value::Text(_)) && is_quoted(text) => {
            node
        }
        _ => Node::text(text, origin.clone()),
    }
}

fn is_quoted(text: &str) -> bool {
    text.trim_start().starts_with(['"', '\''])
}

fn takes_text(kind: &Kind) -> bool {
    !matches!(
        kind,
        Kind::Flag
            | Kind::Count(..)
            | Kind::Rate
            | Kind::Share
            | Kind::Bytes(..)
            | Kind::Endpoints
            | Kind::Events
            | Kind::On
            | Kind::Names
            | Kind::Words(_)
            | Kind::Serves
            | Kind::Peers
            | Kind::Object
            | Kind::ErrorCode
            | Kind::DisconnectCode
    )
}

fn schema_path(segments: &[String]) -> String {
    let shape = section_shape(&segments[0]);
    match (shape, segments.get(2..)) {
        (Some(Shape::Entries), Some(rest)) => format!("{}[].{}", segments[0], rest.join(".")),
        (Some(Shape::Named), Some(rest)) => format!("{}.NAME.{}", segments[0], rest.join(".")),
        _ => segments.join("."),
    }
}

fn section_shape(name: &str) -> Option<Shape> {
    SECTIONS
        .iter()
        .find(|section| section.name == name)
        .map(|section| section.shape)
}

/// Puts a value where `segments` lead, making tables and the next entry of a list on the way.
fn place(
    node: &mut Node,
    segments: &[String],
    value: &dyn Fn() -> Node,
    origin: &Origin,
) -> Result<(), Fault> {
    let Some((segment, rest)) = segments.split_first() else {
        node.merge(value());
        return Ok(());
    };
    let child = match &mut node.value {
        Value::Table(children) => {
            let name = name_among(children, segment, origin);
            let entries = section_shape(segment) == Some(Shape::Entries) && !rest.is_empty();
            children.entry(name).or_insert_with(|| match entries {
                true => Node {
                    value: Value::List(Vec::new()),
                    origin: origin.clone(),
                },
                false => Node::empty_table(origin.clone()),
            })
        }
        Value::List(items) => {
            let length = items.len();
            let index = segment
                .parse()
                .ok()
                .filter(|index: &usize| *index <= length);
            let index = index.ok_or_else(|| {
                Fault::new(
                    format!("has no such entry: there are {length}, counted from 0"),
                    "name an entry by its number, or the next number for a new one",
                )
            })?;
            if index == length {
                items.push(Node::empty_table(origin.clone()));
            }
            &mut items[index]
        }
        other => {
            return Err(Fault::new(
                format!("goes below a value that is {}", other.type_name()),
                "remove that value, or set it as a whole",
            ));
        }
    };
    place(child, rest, value, origin)
}

/// The name that a segment stands for: environment variables have neither small letters nor `-`.
fn name_among(children: &BTreeMap<String, Node>, segment: &str, origin: &Origin) -> String {
    let loose = matches!(origin, Origin::Env { .. }) && !children.contains_key(segment);
    let same = |name: &&String| name.replace('-', "_").eq_ignore_ascii_case(segment);
    let known = loose.then(|| children.keys().find(same)).flatten();
    known.map_or_else(|| segment.to_owned(), String::clone)
}

/// A copy of the value with every `${NAME}` and `file:PATH` replaced, and whether there was one.
pub(super) fn resolve(node: &Node, world: &World<'_>) -> Result<(Node, bool), Fault> {
    let mut replaced = false;
    let value = match &node.value {
        Value::Text(text) => {
            let full = resolve_text(text, world)?;
            replaced = full.is_some();
            Value::Text(full.unwrap_or_else(|| text.clone()))
        }
        Value::List(items) => {
            let mut list = Vec::with_capacity(items.len());
            for item in items {
                let (item, by_reference) = resolve(item, world)?;
                replaced |= by_reference;
                list.push(item);
            }
            Value::List(list)
        }
        Value::Table(children) => {
            let mut table = BTreeMap::new();
            for (name, child) in children {
                let (child, by_reference) = resolve(child, world)?;
                replaced |= by_reference;
                table.insert(name.clone(), child);
            }
            Value::Table(table)
        }
        other => other.clone(),
    };
    Ok((
        Node {
            value,
            origin: node.origin.clone(),
        },
        replaced,
    ))
}

fn resolve_text(text: &str, world: &World<'_>) -> Result<Option<String>, Fault> {
    let expanded = expand(text, world.env)?;
    match text.strip_prefix("file:") {
        None => Ok(expanded),
        // Only what is written as `file:` is a file: a variable's value never turns into one.
        Some(path) => {
            let path = expanded
                .as_deref()
                .and_then(|full| full.strip_prefix("file:"))
                .unwrap_or(path);
            read_value(path, world).map(Some)
        }
    }
}

/// The file that a text written as `file:PATH` names.
pub(super) fn file_path(text: &str, world: &World<'_>) -> Option<PathBuf> {
    let path = text.strip_prefix("file:")?;
    let expanded = expand(text, world.env).ok()?;
    let path = expanded
        .as_deref()
        .and_then(|full| full.strip_prefix("file:"))
        .unwrap_or(path);
    Some(world.dir.join(path))
}

fn read_value(path: &str, world: &World<'_>) -> Result<String, Fault> {
    let fix = "give the path of a readable text file, relative to the working directory";
    let bytes = (world.read)(&world.dir.join(path))
        .map_err(|why| Fault::new(format!("names a file that cannot be read: {why}"), fix))?;
    let text = String::from_utf8(bytes)
        .map_err(|_| Fault::new("names a file that is not UTF-8 text", fix))?;
    match text.trim() {
        "" => Err(Fault::new(
            "names a file that is empty",
            "write the value into the file",
        )),
        value => Ok(value.to_owned()),
    }
}

/// Replaces `${NAME}` and `${NAME:-default}`; `$${` is a literal `${`. `None` if there was neither.
fn expand(text: &str, env: &BTreeMap<String, String>) -> Result<Option<String>, Fault> {
    if !text.contains("${") {
        return Ok(None);
    }
    let mut expanded = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find("${") {
        if let Some(before) = rest[..at].strip_suffix('$') {
            expanded.push_str(before);
            expanded.push_str("${");
            rest = &rest[at + 2..];
            continue;
        }
        expanded.push_str(&rest[..at]);
        let (inside, after) = rest[at + 2..].split_once('}').ok_or_else(|| {
            Fault::new(
                "opens a `${` that nothing closes",
                "close it with `}`; a literal ${ is $${",
            )
        })?;
        expanded.push_str(&variable(inside, env)?);
        rest = after;
    }
    expanded.push_str(rest);
    Ok(Some(expanded))
}

fn variable(inside: &str, env: &BTreeMap<String, String>) -> Result<String, Fault> {
    let (name, default) = match inside.split_once(":-") {
        Some((name, default)) => (name, Some(default)),
        None => (inside, None),
    };
    let letter = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    if name.is_empty() || !name.bytes().all(letter) {
        return Err(Fault::new(
            "holds a `${…}` that is not the name of a variable",
            "write ${NAME} or ${NAME:-default}; a literal ${ is $${",
        ));
    }
    let set = env.get(name);
    match (set, default) {
        (Some(value), None) => Ok(value.clone()),
        (Some(value), Some(_)) if !value.is_empty() => Ok(value.clone()),
        (_, Some(default)) => Ok(default.to_owned()),
        (None, None) => Err(Fault::new(
            format!("needs the environment variable {name}, which is not set"),
            format!("set {name}, or give a default as in ${{{name}:-default}}"),
        )),
    }
}
