//! A `.rr.yaml` as our `node.toml`: addresses and values are kept, absent keys get RoadRunner's
//! default where ours differs, and what has no counterpart is listed key by key.
//!
//! Every key that is understood is taken out of the tree; what remains at the end is unknown.

mod listeners;
mod pool;
mod rest;

use super::super::error::CliError;
use super::remark::Remarks;
use super::source::{Source, at, word};
use super::{Imported, refused, text};
use serde_json::Value;
use std::fmt::Write;

/// Sections that stay with a RoadRunner beside us.
const OTHERS: &[&str] = &[
    "http",
    "jobs",
    "kv",
    "grpc",
    "temporal",
    "tcp",
    "service",
    "fileserver",
    "reload",
    "lock",
    "broadcast",
    "websockets",
    "amqp",
    "nats",
    "kafka",
    "sqs",
    "beanstalk",
    "boltdb",
    "redis",
    "memory",
    "memcached",
    "google-pub-sub",
    "app-logger",
    "appcenter",
    "smtp",
];

/// The file while it is read and the new one while it grows.
struct Draft<'a> {
    source: &'a Source,
    /// What is not yet understood.
    left: Value,
    remarks: Remarks,
    out: String,
    /// The sections that stay with RoadRunner.
    others: Vec<String>,
    /// Where workers call, if that is another address than RoadRunner's.
    own_rpc: Option<String>,
}

/// Makes a `node.toml`.
///
/// # Errors
///
/// If the file has no `version` in quotes, no `centrifuge` section or no command.
pub(super) fn import(source: &Source) -> Result<Imported, CliError> {
    version(source)?;
    if source.root.get("centrifuge").is_none() {
        return Err(refused(
            source,
            "has no `centrifuge` section, without which RoadRunner does not answer Centrifugo",
            "name the .rr.yaml of the RoadRunner that Centrifugo calls",
        ));
    }
    let mut draft = Draft {
        source,
        left: source.root.clone(),
        remarks: Remarks::default(),
        out: String::new(),
        others: Vec::new(),
        own_rpc: None,
    };
    draft.take("version");
    draft.find_others();
    let shown = source.path.display().to_string();
    let shown = shown.replace(char::is_control, "?");
    let _ = writeln!(
        draft.out,
        "# Made of {shown} by `centripeta import roadrunner`; `centripeta check-config` checks it."
    );
    draft.listen();
    draft.metrics();
    draft.centrifugo();
    draft.log();
    draft.limits();
    draft.rpc();
    draft.routes();
    draft.handler()?;
    draft.rest();
    Ok(Imported {
        text: draft.out,
        remarks: draft.remarks,
    })
}

/// RoadRunner takes a string alone.
fn version(source: &Source) -> Result<(), CliError> {
    match source.root.get("version") {
        Some(Value::String(_)) => Ok(()),
        Some(_) => Err(refused(
            source,
            "version: must be a string, and is none",
            "write version: \"3\", with the quotes",
        )),
        None => Err(refused(
            source,
            "version: is missing",
            "name a .rr.yaml, which has version: \"3\"",
        )),
    }
}

impl Draft<'_> {
    fn find_others(&mut self) {
        let found = OTHERS.iter().filter(|name| self.left.get(**name).is_some());
        self.others = found.map(|name| (*name).to_owned()).collect();
    }

    /// Takes a key out of the tree; null is the same as absent.
    fn take(&mut self, path: &str) -> Option<Value> {
        let (place, name) = path.rsplit_once('.').unwrap_or(("", path));
        let mut object = &mut self.left;
        for part in place.split('.').filter(|part| !part.is_empty()) {
            object = object.get_mut(part)?;
        }
        object
            .as_object_mut()?
            .remove(name)
            .filter(|it| !it.is_null())
    }

    /// A text with its variables as ours.
    fn text(&mut self, path: &str) -> Option<String> {
        let value = self.take(path)?;
        match word(&value) {
            Some(text) => Some(text::variables(path, &text, &mut self.remarks)),
            None => {
                self.remarks.left(path, "is no text, and was left out");
                None
            }
        }
    }

    /// A text whose variables stand at their defaults, for keys that can't hold variables here.
    fn settled(&mut self, path: &str) -> Option<String> {
        let text = self.text(path)?;
        if !text.contains("${") {
            return Some(text);
        }
        let settled = text::at_defaults(&text);
        self.remarks.warn(
            path,
            format!(
                "is {text}; this key takes no variable in a file, so \"{settled}\" stands there; set \
                 the key's own variable (see `centripeta print-config --docs`) or --set"
            ),
        );
        (!settled.is_empty()).then_some(settled)
    }

    /// A whole number.
    fn count(&mut self, path: &str) -> Option<u64> {
        let text = self.settled(path)?;
        let number = text.trim().parse().ok();
        if number.is_none() {
            self.remarks
                .left(path, "is no whole number, and was left out");
        }
        number
    }

    /// `true` or `false`.
    fn flag(&mut self, path: &str) -> Option<bool> {
        let text = self.settled(path)?;
        match text.trim().to_ascii_lowercase().as_str() {
            "true" | "1" | "t" | "yes" => Some(true),
            "false" | "0" | "f" | "no" => Some(false),
            _ => {
                self.remarks
                    .left(path, "is neither true nor false, and was left out");
                None
            }
        }
    }

    /// A duration in our form, within what ours takes (milliseconds).
    fn duration(&mut self, path: &str, from: u64, to: u64) -> Option<String> {
        let said = self.settled(path)?;
        let said = said.trim();
        let Some(mut time) = text::duration(said) else {
            self.remarks.left(
                path,
                "is no duration such as 30s or 1m30s, and was left out",
            );
            return None;
        };
        if let Ok(number) = said.parse::<u64>()
            && number > 0
        {
            if time.as_millis() == 0 {
                time = std::time::Duration::from_secs(number.min(to / 1000));
            }
            self.remarks.warn(
                path,
                format!(
                    "is a bare number, which RoadRunner takes for nanoseconds; {} is written, look \
                     whether that is meant",
                    text::show(time)
                ),
            );
        }
        let range = |millis: u64| std::time::Duration::from_millis(millis);
        let held = time.clamp(range(from), range(to));
        if held != time && !(time.is_zero() && from > 0) {
            let held = text::show(held);
            self.remarks.note(
                path,
                format!("is {said}; the nearest that is taken here is {held}"),
            );
        }
        // A zero that switches nothing off is an absent key.
        (!time.is_zero() || from == 0).then(|| text::show(held))
    }

    /// Lists what is in the way, once, by its path.
    fn list(&mut self, path: &str, why: &str) {
        if self.take(path).is_some() {
            self.remarks.left(path, why);
        }
    }

    /// Starts a table.
    fn table(&mut self, name: &str) {
        let _ = write!(self.out, "\n[{name}]\n");
    }

    /// A key with a value that is TOML already, and where it came from.
    fn raw(&mut self, key: &str, value: &str, from: &str) {
        let _ = writeln!(self.out, "{key} = {value}  # {from}");
    }

    /// A key with a text.
    fn put(&mut self, key: &str, value: &str, from: &str) {
        self.raw(key, &quoted(value), from);
    }

    /// Whether the file had the key.
    fn had(&self, path: &str) -> bool {
        at(&self.source.root, path).is_some_and(|it| !it.is_null())
    }
}

/// A text as TOML writes it, on one line.
fn quoted(text: &str) -> String {
    let mut made = String::with_capacity(text.len() + 2);
    made.push('"');
    for letter in text.chars() {
        match letter {
            '"' => made.push_str("\\\""),
            '\\' => made.push_str("\\\\"),
            letter if letter.is_control() => {
                let _ = write!(made, "\\u{:04X}", u32::from(letter));
            }
            letter => made.push(letter),
        }
    }
    made.push('"');
    made
}

/// A list of texts as TOML.
fn quoted_list(list: &[String]) -> String {
    let words: Vec<String> = list.iter().map(|word| quoted(word)).collect();
    format!("[{}]", words.join(", "))
}
