//! Lists and tables: words, programs, variables, metadata, kinds of events, fixed results.

use super::text::metadata;
use super::{Scalar, wrong_type};
use crate::config::problem::{Fault, one_of};
use crate::config::tree::{Node, Value};
use crate::config::types::On;
use crate::event::EventKind;
use std::collections::BTreeMap;

pub(super) fn object(node: &Node) -> Result<Scalar, Fault> {
    if !matches!(node.value, Value::Table(_)) {
        return Err(wrong_type(
            &node.value,
            "a table",
            "write the fields of the result, as in { user = \"guest\" }",
        ));
    }
    node.to_json().map(Scalar::Object).ok_or_else(|| {
        Fault::new(
            "holds a number that JSON has no form for",
            "use finite numbers",
        )
    })
}

/// One string or a list of them.
pub(super) fn texts(value: &Value, what: &str) -> Result<Vec<String>, Fault> {
    let fix = format!("write a list of {what}, as in [\"…\", \"…\"]");
    match value {
        Value::Text(text) => Ok(vec![text.clone()]),
        Value::List(items) => {
            let one = |item: &Node| match &item.value {
                Value::Text(text) => Ok(text.clone()),
                other => Err(Fault::new(
                    format!("holds {} among the {what}", other.type_name()),
                    fix.clone(),
                )),
            };
            items.iter().map(one).collect()
        }
        other => Err(wrong_type(other, &format!("a list of {what}"), &fix)),
    }
}

/// A program and its arguments.
pub(super) fn command(value: &Value) -> Result<Vec<String>, Fault> {
    let words: Vec<String> = match value {
        Value::Text(text) => text.split_whitespace().map(str::to_owned).collect(),
        other => texts(other, "words")?,
    };
    match words.first() {
        Some(program) if !program.is_empty() && !words.iter().any(|word| word.contains('\0')) => {
            Ok(words)
        }
        _ => Err(Fault::new(
            "names no program",
            "write the program and its arguments, as in [\"php\", \"app.php\"]",
        )),
    }
}

/// Environment variables; numbers and flags are written out, names in capitals.
pub(super) fn variables(value: &Value) -> Result<BTreeMap<String, String>, Fault> {
    let fix = "write names and texts, as in { APP_ENV = \"prod\" }";
    let Value::Table(children) = value else {
        return Err(wrong_type(value, "a table of texts", fix));
    };
    let mut variables = BTreeMap::new();
    for (name, child) in children {
        let text = match &child.value {
            Value::Text(text) => text.clone(),
            Value::Int(number) => number.to_string(),
            Value::Bool(flag) => flag.to_string(),
            other => {
                let rule = format!("holds {} under a name", other.type_name());
                return Err(Fault::new(rule, fix));
            }
        };
        if name.is_empty() || name.contains(['=', '\0']) || text.contains('\0') {
            return Err(Fault::new("holds what no environment can", fix));
        }
        if variables.insert(name.to_uppercase(), text).is_some() {
            let rule = "holds a name twice, since names are written in capitals";
            return Err(Fault::new(rule, "give each name once"));
        }
    }
    Ok(variables)
}

/// Metadata of calls; names in lower case, values that gRPC carries.
pub(super) fn metadata_table(value: &Value) -> Result<BTreeMap<String, String>, Fault> {
    let fix = "write names and texts, as in { x-api-key = \"${API_KEY}\" }";
    let Value::Table(children) = value else {
        return Err(wrong_type(value, "a table of texts", fix));
    };
    let mut pairs = BTreeMap::new();
    for (name, child) in children {
        let Value::Text(text) = &child.value else {
            let rule = format!("holds {} under a name", child.value.type_name());
            return Err(Fault::new(rule, fix));
        };
        let Scalar::Text(name) = metadata(name)? else {
            return Err(Fault::new("holds a name that is no metadata key", fix));
        };
        let is_plain = text.bytes().all(|byte| matches!(byte, b' '..=b'~'));
        if !is_plain || text.trim() != text {
            return Err(Fault::new(
                format!("holds under `{name}` what gRPC metadata can't carry"),
                "use visible ASCII characters, with spaces only between them",
            ));
        }
        if pairs.insert(name, text.clone()).is_some() {
            let rule = "holds a name twice, since names are written in lower case";
            return Err(Fault::new(rule, "give each name once"));
        }
    }
    Ok(pairs)
}

pub(super) fn word_list(value: &Value, words: &'static [&'static str]) -> Result<Scalar, Fault> {
    let read = texts(value, "words")?;
    match read.iter().find(|word| !words.contains(&word.as_str())) {
        Some(word) => Err(Fault::of_part(
            word,
            "is none of its words",
            one_of(word, words.iter().copied()),
        )),
        None => Ok(Scalar::Words(read)),
    }
}

pub(super) fn events(value: &Value) -> Result<Vec<EventKind>, Fault> {
    let read = texts(value, "events")?;
    if read.is_empty() {
        return Err(Fault::new(
            "names no event",
            "name one event, or a list of them",
        ));
    }
    let mut kinds = Vec::new();
    for name in read {
        let kind = name.parse::<EventKind>().map_err(|_| {
            Fault::of_part(
                &name,
                "is no event",
                one_of(&name, EventKind::ALL.map(EventKind::name)),
            )
        })?;
        if kinds.contains(&kind) {
            return Err(Fault::new(
                format!("names `{kind}` twice"),
                "name each event once",
            ));
        }
        kinds.push(kind);
    }
    Ok(kinds)
}

pub(super) fn on(value: &Value) -> Result<On, Fault> {
    match value {
        Value::Text(text) if text == "*" => Ok(On::All),
        Value::Text(text) if text == "route" => Ok(On::Route),
        Value::List(items) if items.len() > 1 => {
            let word = |item: &&Node| matches!(&item.value, Value::Text(text) if text == "*" || text == "route");
            match items.iter().find(word) {
                Some(_) => Err(Fault::new(
                    "a list holds events only",
                    "write \"*\" or \"route\" by itself, not in a list",
                )),
                None => events(value).map(On::Events),
            }
        }
        Value::List(items) => match items.first() {
            Some(Node {
                value: inner @ Value::Text(_),
                ..
            }) => on(inner),
            _ => events(value).map(On::Events),
        },
        _ => events(value).map(On::Events),
    }
}
