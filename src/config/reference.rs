//! The configuration reference: every key as Markdown, with the kinds of entry, events, patterns and
//! keys of routes. `docs/configuration.md` is what this writes; a test compares them.

use super::layers::env_name;
use super::print::{header, kind_and_unit, of_kinds};
use super::schema::{
    self, BUILT_IN, HANDLER_KINDS, INTERCEPTOR_KINDS, Key, SECTIONS, Section, Shape, needs_restart,
};
use crate::answer::client_code;
use crate::builtin::refusal;
use crate::event::{EventKind, Subject};
use crate::outcome::{Failure, Outcome};
use crate::routing::key::{KeySpec, MAX_FIELD_BYTES};
use crate::routing::pattern::{MAX_CAPTURES, MAX_PATTERN_BYTES};

const INTRODUCTION: &str = "\
# Settings

This page is written by the code (`centripeta print-config --docs`); a test compares them.

A node reads its settings from four places; each wins over those before it:

| Place | How a key is written | Example |
|---|---|---|
| built-in defaults | `print-config --defaults` shows them | |
| the file: `--config FILE`, else `./node.toml` if it exists | TOML | `limits.timeout = \"2s\"` |
| the environment | `CENTRIPETA_`, then the key in capitals, `__` for each dot | `CENTRIPETA_LIMITS__TIMEOUT=2s` |
| the command line | `--set KEY=VALUE`, repeatable | `--set limits.timeout=2s` |

`check-config` says everything that is wrong, all at once; `print-config` shows what is in force and where each value came from. A key that nobody knows stops the start.

| Value | Written |
|---|---|
| duration | `250ms`, `2s`, `10m`, `1h` |
| size | `64KiB`, `4MiB`, `1GiB` |
| in any string | `${NAME}` is the environment variable, which must be set; `${NAME:-default}` may be unset |
| `\"file:PATH\"` | what is in that file, trimmed; for secrets |

Secrets are never printed. Their safest places are a variable or a file that only the node's user can read.

**Applied by** says what a changed value needs: `reload` is `centripeta reload` or SIGHUP, without a dropped event (`listen.max_connection_age` and `limits.header_bytes` for connections that are opened from then on); `restart` waits for the next start. A certificate file is read again by itself when it changes.
";

const PATTERNS: &str = "\
## Patterns

`match` of a route is compared with the channel; for `rpc` and `raw` with the method.

| Written | Matches |
|---|---|
| `{x}` | one or more characters without `channel.namespace_boundary` |
| `{x...}` | the rest, at least one character; only at the end |
| `*` | anything, also nothing; only at the end |
| `{{`, `}}` | a brace |
| anything else | itself |

The more specific route wins: an exact name, then more literal characters, then everything. Two routes of one event that are equally specific and can match the same name stop the start, and so does a route that can never match. `centripeta explain` shows which route takes a name, and why.
";

const KEYS_OF_ROUTES: &str = "\
## Keys

`key` of a route names what is handled one after the other (its *lane*) and what is owned. Different keys never wait for each other.

| Written | One lane for each |
|---|---|
| `none` | event: no order, all at once |
| `user` | user; for anonymous users each client |
| `client` | connection |
| `channel` | channel |
| a template such as `showing:{data.showing}` | name that it makes; that is the lane of the channel of this name too |

A template may hold `{user}`, `{client}`, `{channel}`, `{method}`, `{param.X}` (a capture of `match`) and `{data.X}` (a field of the payload; `{data.a.b}` looks deeper); `per` of a `limit` also `{header.NAME}`. A field that is missing, or neither text nor number, is bad data: the client gets error 107.
";

/// Every key as Markdown, with what entries and routes may say: `docs/configuration.md`.
pub fn print_docs() -> String {
    let mut text = String::from(INTRODUCTION);
    for section in SECTIONS {
        describe(section, &mut text);
        match section.name {
            "interceptor" => kinds(INTERCEPTOR_KINDS, "interceptor[]", interceptor, &mut text),
            "handler" => kinds(HANDLER_KINDS, "handler.NAME", handler, &mut text),
            _ => {}
        }
    }
    text.push('\n');
    events(&mut text);
    text.push('\n');
    text.push_str(PATTERNS);
    text.push_str(&format!(
        "\nAt most {MAX_CAPTURES} captures and {MAX_PATTERN_BYTES} bytes.\n\n"
    ));
    text.push_str(KEYS_OF_ROUTES);
    text.push_str(&format!(
        "\nOne field comes to at most {MAX_FIELD_BYTES} bytes; more is bad data.\n"
    ));
    text
}

/// The dotted path of every key; `interceptor[]`, `route[]` and `handler.NAME` stand for each entry.
pub fn keys() -> impl Iterator<Item = &'static str> {
    schema::KEYS.iter().map(|key| key.path)
}

fn describe(section: &Section, text: &mut String) {
    let title = header(section, "NAME");
    text.push_str(&format!("\n## `{title}`\n\n{}\n\n", section.meaning));
    let is_once = matches!(section.shape, Shape::Once | Shape::Optional);
    if !is_once {
        let example = match section.shape {
            Shape::Named => format!("{}.name.", section.name),
            _ => format!("{}.0.", section.name),
        };
        text.push_str(&format!(
            "In the environment such an entry is `{}…`. Applied by reload.\n\n",
            env_name(&example)
        ));
    }
    let mut head = vec!["Key", "Type", "Default", "Since"];
    if is_once {
        head.extend(["Applied by", "Environment"]);
    }
    head.push("Meaning");
    text.push_str(&line(&head));
    text.push_str(&format!("|{}\n", "---|".repeat(head.len())));
    for (rest, key) in schema::below(section.prefix()) {
        text.push_str(&line(&row(key, rest, is_once)));
    }
}

fn row(key: &Key, rest: &str, is_once: bool) -> Vec<String> {
    let default = match key.default {
        Some(toml) => format!("`{toml}`"),
        None if key.required && rest.contains('.') => "required with its table".to_owned(),
        None if key.required => "required".to_owned(),
        None => key.absent.to_owned(),
    };
    let mut row = vec![
        format!("`{rest}`"),
        kind_and_unit(key),
        default,
        key.since.to_owned(),
    ];
    if is_once {
        let applied = if needs_restart(key.path) {
            "restart"
        } else {
            "reload"
        };
        row.extend([applied.to_owned(), format!("`{}`", env_name(key.path))]);
    }
    row.push(format!("{}{}", key.meaning, of_kinds(key)));
    row
}

/// A row of a table.
fn line<T: AsRef<str>>(cells: &[T]) -> String {
    let cells: Vec<_> = cells
        .iter()
        .map(|cell| cell.as_ref().replace('|', "\\|"))
        .collect();
    format!("| {} |\n", cells.join(" | "))
}

/// The kinds of an entry with the keys that each has of its own.
fn kinds(kinds: &[&str], prefix: &str, meaning: fn(&str) -> &'static str, text: &mut String) {
    text.push_str("\n| `kind` | Does | Keys of its own |\n|---|---|---|\n");
    for kind in kinds {
        let own = schema::below(prefix).filter(|(_, key)| key.of_kinds.contains(kind));
        let own: Vec<_> = own.map(|(rest, _)| format!("`{rest}`")).collect();
        let row = [
            format!("`{kind}`"),
            meaning(kind).to_owned(),
            own.join(", "),
        ];
        text.push_str(&line(&row));
    }
}

fn interceptor(kind: &str) -> &'static str {
    match kind {
        "access-log" => {
            "writes a line for each event at its end, for an accepted stream when it is over; never payloads, metadata or tokens"
        }
        "header-auth" => {
            "refuses, like `deny`, events whose metadata lack the header or have another value for it"
        }
        "limit" => {
            "lets so many events a second pass for each thing counted by; the rest is overloaded (error 111, which SDKs repeat where they repeat)"
        }
        _ => "",
    }
}

fn handler(kind: &str) -> &'static str {
    match kind {
        "static" => "answers the same each time: exactly one of `reply`, `error` and `disconnect`",
        "allow" => {
            "says the event's plain yes: subscribe, publish, map events and streams are allowed, refreshes extended, an rpc succeeds without data"
        }
        "deny" => {
            "says its plain no: error 103; refreshes expire; a connect ends with disconnect 4403"
        }
        "echo" => "gives an rpc its data back",
        "roadrunner" => {
            "worker processes in PHP or another language answer it over goridge frames, as under RoadRunner"
        }
        "grpc" => {
            "an application that speaks Centrifugo's proxy protocol over gRPC answers it, in any language: bytes cross untouched both ways, streams too"
        }
        "counter" => {
            "counts the events of its key in memory and tells an rpc the count; says yes to other events. A node alone counts from 1 again after a restart; in a cluster the count moves with its slot, so a drained restart keeps it, and begins at 1 again after a takeover or when its owner starts anew"
        }
        _ => "",
    }
}

fn events(text: &mut String) {
    text.push_str(
        "## Events\n\n`on` of a route and of an interceptor takes these names. Without a route an event is refused.\n\n",
    );
    let mut head = vec![
        "Event".to_owned(),
        "Centrifugo's method".to_owned(),
        "`match` is over".to_owned(),
        "`key` by default".to_owned(),
        "Without a route".to_owned(),
    ];
    head.extend(BUILT_IN.iter().map(|name| format!("`{name}`")));
    text.push_str(&line(&head));
    text.push_str(&format!("|{}\n", "---|".repeat(head.len())));
    for kind in EventKind::ALL {
        let method = match kind.method() {
            "" => "any other, by path".to_owned(),
            method => format!("`{method}`"),
        };
        let subject = match kind.subject() {
            Subject::Channel => "channels",
            Subject::Method => "methods",
            Subject::Nothing => "nothing: leave it out",
        };
        let key = match KeySpec::default_for(kind) {
            KeySpec::Channel => "`channel`",
            _ => "`none`",
        };
        let no_route = match client_code(kind, &Outcome::Failure(Failure::NoRoute)) {
            Some(code) => format!("error {code}"),
            None if kind.is_refresh() => "expired".to_owned(),
            None => "UNIMPLEMENTED".to_owned(),
        };
        let mut row = vec![
            format!("`{kind}`"),
            method,
            subject.to_owned(),
            key.to_owned(),
            no_route,
        ];
        row.extend(BUILT_IN.iter().map(|name| {
            match refusal(name, kind) {
                Some(_) => "–",
                None => "yes",
            }
            .to_owned()
        }));
        text.push_str(&line(&row));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_waits_for_a_restart_is_named_by_its_key_or_section() {
        for name in schema::RESTART.iter().chain(schema::APPLIED) {
            let mut keys = schema::KEYS.iter().map(|key| key.path);
            let is_there = keys.any(|key| {
                let rest = key.strip_prefix(name);
                rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
            });
            assert!(is_there, "{name}");
        }
    }

    #[test]
    fn every_kind_of_entry_is_described() {
        for kind in INTERCEPTOR_KINDS {
            assert!(!interceptor(kind).is_empty(), "{kind}");
        }
        for kind in HANDLER_KINDS {
            assert!(!handler(kind).is_empty(), "{kind}");
        }
    }

    #[test]
    fn where_a_node_listens_and_what_it_is_called_wait_for_a_restart_and_routes_do_not() {
        let waits = [
            "node",
            "node.name",
            "listen.tls.cert",
            "log.format",
            "runtime.cores",
        ];
        for key in waits {
            assert!(needs_restart(key), "{key}");
        }
        let applied = [
            "log",
            "log.level",
            "limits.timeout",
            "route[].handler",
            "nodes",
            "centrifugo.api",
            "listen.max_connection_age",
        ];
        for key in applied {
            assert!(!needs_restart(key), "{key}");
        }
    }
}
