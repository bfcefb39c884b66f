//! A file of another program as a tree: keys in lower case, dotted ones as paths, as both programs
//! read them themselves. Errors show no line of the file, which may hold a secret.

use super::super::error::{CliError, Exit};
use serde_json::{Map, Value};
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};

/// The largest file that is read, in bytes.
const FILE_BYTES: u64 = 4 << 20;

/// How many parts a dotted key may have to be followed; parsers bound the rest.
const DEPTH: usize = 32;

/// A file that was read.
#[derive(Debug, Clone)]
pub(super) struct Source {
    /// Where it was read.
    pub(super) path: PathBuf,
    /// What it holds; always an object.
    pub(super) root: Value,
    /// The text as it was.
    pub(super) raw: String,
    /// Whether it was JSON with comments, which is none.
    pub(super) has_comments: bool,
}

/// Reads a file.
///
/// # Errors
///
/// If it can't be read, is larger than 4 MiB, or is not what its name says.
pub(super) fn read(path: &Path) -> Result<Source, CliError> {
    let what = path.display().to_string();
    let refused = |why: String, help: &str| CliError::new(Exit::Failed, &*what, why, help);
    let file = fs::File::open(path)
        .map_err(|why| refused(why.to_string(), "name a file that can be read here"))?;
    let mut text = String::new();
    let length = file
        .take(FILE_BYTES + 1)
        .read_to_string(&mut text)
        .map_err(|why| refused(why.to_string(), "name a text file in UTF-8"))?;
    if length as u64 > FILE_BYTES {
        return Err(refused(
            "is larger than 4 MiB".to_owned(),
            "name a configuration file",
        ));
    }
    parse(path, &text).map_err(|(why, help)| refused(why, help))
}

/// Makes a tree of a text, by the end of the file's name: `.json`, `.toml`, anything else is YAML.
pub(super) fn parse(path: &Path, text: &str) -> Result<Source, (String, &'static str)> {
    let kind = path.extension().unwrap_or_default().to_string_lossy();
    let mut has_comments = false;
    let (parsed, help) = match kind.to_ascii_lowercase().as_str() {
        "json" => {
            let parsed = serde_json::from_str(text).or_else(|why| {
                has_comments = true;
                serde_json::from_str(&without_comments(text)).map_err(|_| why.to_string())
            });
            (
                parsed,
                "mend the JSON: quotes around keys, commas between entries",
            )
        }
        "toml" => (
            toml::from_str(text).map_err(|why: toml::de::Error| {
                let before = why.span().and_then(|span| text.get(..span.start));
                at_line(before.map(|before| before.matches('\n').count() as u64 + 1))
            }),
            "mend the TOML",
        ),
        _ => (
            serde_saphyr::from_str(text).map_err(|why| at_line(why.location().map(|it| it.line()))),
            "mend the YAML: spaces before keys, quotes around values with a colon",
        ),
    };
    match parsed {
        Ok(value @ Value::Object(_)) => Ok(Source {
            path: path.to_owned(),
            root: normal(value),
            raw: text.to_owned(),
            has_comments,
        }),
        Ok(_) => Err(("holds no keys".to_owned(), help)),
        Err(why) => Err((why, help)),
    }
}

fn at_line(line: Option<u64>) -> String {
    match line {
        Some(line) => format!("can't be parsed at line {line}"),
        None => "can't be parsed".to_owned(),
    }
}

/// JSON without what stands behind `//` or between `/*` and `*/`, and without commas before a closing
/// bracket.
fn without_comments(text: &str) -> String {
    let mut kept = String::with_capacity(text.len());
    let mut letters = text.chars().peekable();
    let (mut quoted, mut escaped) = (false, false);
    while let Some(letter) = letters.next() {
        match letter {
            _ if escaped => escaped = false,
            '\\' if quoted => escaped = true,
            '"' => quoted = !quoted,
            '/' if !quoted && letters.peek() == Some(&'/') => {
                for letter in letters.by_ref() {
                    if letter == '\n' {
                        kept.push('\n');
                        break;
                    }
                }
                continue;
            }
            '/' if !quoted && letters.peek() == Some(&'*') => {
                letters.next();
                let mut before = ' ';
                for letter in letters.by_ref() {
                    if before == '*' && letter == '/' {
                        break;
                    }
                    before = letter;
                }
                continue;
            }
            '}' | ']' if !quoted => {
                let end = kept.trim_end();
                if let Some(end) = end.strip_suffix(',') {
                    kept.truncate(end.len());
                }
            }
            _ => {}
        }
        kept.push(letter);
    }
    kept
}

/// Keys in lower case, dotted ones as paths.
fn normal(value: Value) -> Value {
    match value {
        Value::Object(object) => {
            let mut made = Map::new();
            for (key, value) in object {
                let key = key.to_lowercase();
                let value = normal(value);
                let parts: Vec<&str> = key.split('.').filter(|part| !part.is_empty()).collect();
                if parts.len() > 1 && parts.len() < DEPTH {
                    put(&mut made, &parts, value);
                } else {
                    put(&mut made, &[&key], value);
                }
            }
            Value::Object(made)
        }
        Value::Array(list) => Value::Array(list.into_iter().map(normal).collect()),
        other => other,
    }
}

/// Puts a value at a path; objects there are merged, anything else is replaced.
pub(super) fn put(object: &mut Map<String, Value>, path: &[&str], value: Value) {
    let [first, rest @ ..] = path else { return };
    let slot = object.entry((*first).to_owned()).or_insert(Value::Null);
    if rest.is_empty() {
        match (slot, value) {
            (Value::Object(there), Value::Object(more)) => {
                for (key, value) in more {
                    put(there, &[&key], value);
                }
            }
            (slot, value) => *slot = value,
        }
        return;
    }
    if !slot.is_object() {
        *slot = Value::Object(Map::new());
    }
    if let Value::Object(there) = slot {
        put(there, rest, value);
    }
}

/// What stands at a dotted path.
pub(super) fn at<'a>(root: &'a Value, path: &str) -> Option<&'a Value> {
    path.split('.')
        .try_fold(root, |value, part| value.get(part))
}

/// A value as the text that both programs would take it for; nothing for objects, lists and null.
pub(super) fn word(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(flag) => Some(flag.to_string()),
        _ => None,
    }
}
