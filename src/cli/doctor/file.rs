//! A configuration file of Centrifugo 6: the settings in it that would bite.
//!
//! Values of the file are told only where they can't be secrets. Variables of the environment of
//! Centrifugo win over the file and are not known here.

mod access;
mod endpoint;
mod keys;
mod model;
mod proxies;
mod spaces;

use super::finding::{Finding, Severity};
use crate::config::Config;
use crate::engine::compile::Compiled;
use crate::event::EventKind;
use model::Uses;
use serde_json::Value;
use std::collections::BTreeSet;
use std::fs;
use std::io::Read;
use std::path::Path;

/// The largest file that is read, in bytes.
const FILE_BYTES: u64 = 4 << 20;

/// What both sides say.
#[derive(Debug)]
struct Scope<'a> {
    /// Centrifugo's, keys in lower case, as it reads them itself.
    root: &'a Value,
    /// Ours.
    config: &'a Config,
    /// Our routes.
    compiled: &'a Compiled,
    /// Another address under which this node is reached.
    own: Option<&'a str>,
}

impl Scope<'_> {
    /// Whether a route takes the kind.
    fn routes(&self, kind: EventKind) -> bool {
        let mut routes = self.compiled.routes.iter();
        routes.any(|it| it.route.kind == kind)
    }
}

/// Reads the file and looks through it.
pub(super) fn look(
    path: &Path,
    config: &Config,
    compiled: &Compiled,
    own: Option<&str>,
) -> Vec<Finding> {
    let shown = path.display().to_string();
    let text = match read(path) {
        Ok(text) => text,
        Err(why) => {
            let fix = "name a file of Centrifugo's configuration that can be read here";
            return vec![Finding::error("file.read", shown, why, fix)];
        }
    };
    let parsed = match parse(path, &text) {
        Ok(parsed) => parsed,
        Err((why, fix)) => return vec![Finding::error("file.syntax", shown, why, fix)],
    };
    let root = lower(parsed);
    let scope = Scope {
        root: &root,
        config,
        compiled,
        own,
    };
    let mut findings = judge(&scope);
    let bad = |it: &Finding| it.severity >= Severity::Warn;
    if !findings.iter().any(bad) {
        let uses: BTreeSet<EventKind> = Uses::of(&root).list.iter().map(|it| it.kind).collect();
        let names: Vec<&str> = uses.into_iter().map(EventKind::name).collect();
        let found = match names.as_slice() {
            [] => "nothing in it will bite; it sends no event".to_owned(),
            names => format!("nothing in it will bite; it sends {}", names.join(", ")),
        };
        findings.insert(0, Finding::ok("file.fine", shown, found));
    }
    findings.push(environment());
    findings
}

/// Everything that is found in a file.
fn judge(scope: &Scope<'_>) -> Vec<Finding> {
    let uses = Uses::of(scope.root);
    let mut findings = keys::look(scope.root);
    findings.extend(access::look(scope, &uses));
    findings.extend(proxies::look(scope, &uses));
    findings.extend(spaces::look(scope));
    findings
}

fn environment() -> Finding {
    let ours = ["CENTRIFUGO_BIN", "CENTRIFUGO_GRPC_API_KEY"];
    let names = std::env::vars_os().filter_map(|(name, _)| name.into_string().ok());
    let mut set: Vec<String> = names
        .filter(|name| name.starts_with("CENTRIFUGO_") && !ours.contains(&name.as_str()))
        .collect();
    set.sort_unstable();
    let here = match set.as_slice() {
        [] => String::new(),
        set => format!("; set here: {}", set.join(", ")),
    };
    let found = format!(
        "variables of Centrifugo's environment win over its file, and are not looked at{here}"
    );
    Finding::note("file.environment", "CENTRIFUGO_*", found)
}

fn read(path: &Path) -> Result<String, String> {
    let file = fs::File::open(path).map_err(|why| why.to_string())?;
    let mut text = String::new();
    let read = file.take(FILE_BYTES + 1).read_to_string(&mut text);
    match read {
        Ok(length) if length as u64 > FILE_BYTES => Err("is larger than 4 MiB".to_owned()),
        Ok(_) => Ok(text),
        Err(why) => Err(why.to_string()),
    }
}

/// By the extension, as Centrifugo does. Errors show no line of the file: it may hold a secret.
fn parse(path: &Path, text: &str) -> Result<Value, (String, &'static str)> {
    let kind = path.extension().unwrap_or_default().to_string_lossy();
    let (parsed, fix) = match kind.to_ascii_lowercase().as_str() {
        "json" => (
            serde_json::from_str(text).map_err(|why| why.to_string()),
            "mend the JSON; it has no comments and no comma before a closing bracket",
        ),
        "yaml" | "yml" => (
            serde_saphyr::from_str(text).map_err(|why| at_line(why.location().map(|it| it.line()))),
            "mend the YAML",
        ),
        "toml" => (
            toml::from_str(text).map_err(|why: toml::de::Error| {
                let start = why.span().map(|span| span.start);
                let before = start.and_then(|start| text.get(..start));
                at_line(before.map(|before| before.matches('\n').count() as u64 + 1))
            }),
            "mend the TOML",
        ),
        _ => (
            Err("is of no format that Centrifugo reads".to_owned()),
            "name it .json, .yaml, .yml or .toml, by which Centrifugo tells them",
        ),
    };
    match parsed {
        Ok(value @ Value::Object(_)) => Ok(value),
        Ok(_) => Err(("holds no object".to_owned(), fix)),
        Err(why) => Err((why, fix)),
    }
}

fn at_line(line: Option<u64>) -> String {
    match line {
        Some(line) => format!("can't be parsed at line {line}"),
        None => "can't be parsed".to_owned(),
    }
}

/// Keys in lower case: Centrifugo does not tell them apart.
fn lower(value: Value) -> Value {
    match value {
        Value::Object(object) => {
            let pairs = object.into_iter();
            Value::Object(
                pairs
                    .map(|(key, value)| (key.to_lowercase(), lower(value)))
                    .collect(),
            )
        }
        Value::Array(list) => Value::Array(list.into_iter().map(lower).collect()),
        other => other,
    }
}

#[cfg(test)]
mod tests;
