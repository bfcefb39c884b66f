//! Prints: the effective configuration and the documented defaults. The table of every key is
//! `reference.rs`.

use serde_json::{Map, Value as Json, json};

use super::Loaded;
use super::check::{Setting, Settings};
use super::problem::Origin;
use super::schema::{self, Key, SECTIONS, Section, Shape};
use super::tree::quote_key;

/// What stands in `node.toml` between the printed defaults and the example routes.
pub const EXAMPLE_MARK: &str = "# ---- example: everything below may go ----";

/// The effective configuration as TOML: every key with its value and, where that is not the
/// default, where it came from. Secrets are redacted; free text that came by `${NAME}` or
/// `file:PATH` stands as it was written.
pub fn print_effective(loaded: &Loaded) -> String {
    let settings = &loaded.settings;
    let mut text = String::new();
    for section in SECTIONS {
        for (header, path) in tables(section, settings) {
            text.push_str(&format!(
                "{}{header}\n",
                if text.is_empty() { "" } else { "\n" }
            ));
            for (rest, setting) in entries(section, settings, &path) {
                text.push_str(&format!("{rest} = {}", setting.shown.to_toml()));
                match &setting.origin {
                    Origin::Default => text.push('\n'),
                    // A line end in a path would end the comment.
                    origin => text.push_str(&format!("  # {}\n", one_line(&origin.to_string()))),
                }
            }
        }
    }
    text
}

/// The effective configuration as JSON: `settings` nested as in the file, `origins` by dotted key
/// for what is not a default, and `file`, the file read. Redacted as in [`print_effective`].
pub fn effective_json(loaded: &Loaded) -> Json {
    let settings = &loaded.settings;
    let mut root = Map::new();
    let mut origins = Map::new();
    for section in SECTIONS {
        let mut found = Vec::new();
        for (_, path) in tables(section, settings) {
            let mut table = Map::new();
            for (rest, setting) in entries(section, settings, &path) {
                let value = setting.shown.to_json().unwrap_or(Json::Null);
                insert(&mut table, rest, value);
                if setting.origin != Origin::Default {
                    origins.insert(format!("{path}.{rest}"), json!(setting.origin));
                }
            }
            found.push((path, table));
        }
        let value = match section.shape {
            Shape::Optional if found.is_empty() => continue,
            Shape::Once | Shape::Optional => found
                .pop()
                .map_or(Json::Null, |(_, table)| Json::Object(table)),
            Shape::Entries => found
                .into_iter()
                .map(|(_, table)| Json::Object(table))
                .collect(),
            Shape::Named => {
                let name = |path: &str| {
                    path.rsplit_once('.')
                        .map_or("", |(_, name)| name)
                        .to_owned()
                };
                let named = found
                    .into_iter()
                    .map(|(path, table)| (name(&path), Json::Object(table)));
                Json::Object(named.collect())
            }
        };
        root.insert(section.name.to_owned(), value);
    }
    let file = loaded.file.as_ref().map(|path| path.to_string_lossy());
    json!({ "file": file, "settings": root, "origins": origins })
}

/// The built-in defaults as TOML, each key with meaning, type, unit and version; loads back to the
/// same defaults. Keys without a default and the repeated sections stand there as comments.
pub fn print_defaults() -> String {
    let mut text = String::from(
        "# The settings of Centripeta, each at its default.\n\
         #\n\
         # Durations are 250ms, 2s, 10m, 1h; sizes 64KiB, 4MiB. Any key may come from the environment as\n\
         # CENTRIPETA_ and its path in capitals with __ for each dot (CENTRIPETA_LISTEN__GRPC), which\n\
         # wins over this file, or by --set KEY=VALUE, which wins over both. In every string ${NAME}\n\
         # and ${NAME:-default} stand for a variable, and \"file:PATH\" for what is in that file.\n",
    );
    for section in SECTIONS {
        text.push('\n');
        text.push_str(&wrap(section.meaning));
        let comment = if section.shape == Shape::Once {
            ""
        } else {
            "# "
        };
        text.push_str(&format!("{comment}{}\n", header(section, "NAME")));
        for (rest, key) in schema::below(section.prefix()) {
            text.push('\n');
            text.push_str(&wrap(&about(key, rest)));
            let set = section.shape == Shape::Once && key.default.is_some();
            let value = key.default.unwrap_or(key.example);
            text.push_str(&format!(
                "{}{rest} = {value}\n",
                if set { "" } else { "# " }
            ));
        }
    }
    text
}

pub(super) fn header(section: &Section, name: &str) -> String {
    match section.shape {
        Shape::Once | Shape::Optional => format!("[{}]", section.name),
        Shape::Entries => format!("[[{}]]", section.name),
        Shape::Named => format!("[{}.{}]", section.name, quote_key(name)),
    }
}

/// The header and the path of each table of a section.
fn tables(section: &Section, settings: &Settings) -> Vec<(String, String)> {
    let numbered = |count: usize| {
        (0..count)
            .map(|at| (header(section, ""), format!("{}.{at}", section.name)))
            .collect()
    };
    match section.shape {
        Shape::Once => vec![(header(section, ""), section.name.to_owned())],
        Shape::Optional if !settings.is_written(section.name) => Vec::new(),
        Shape::Optional => vec![(header(section, ""), section.name.to_owned())],
        Shape::Entries if section.name == "route" => numbered(settings.routes),
        Shape::Entries => numbered(settings.interceptors),
        Shape::Named => {
            let names = settings.handlers.iter();
            names
                .map(|name| (header(section, name), format!("{}.{name}", section.name)))
                .collect()
        }
    }
}

/// The settings of one table, in the order of the schema.
fn entries<'a>(
    section: &Section,
    settings: &'a Settings,
    path: &str,
) -> Vec<(&'static str, &'a Setting)> {
    schema::below(section.prefix())
        .filter_map(|(rest, _)| Some((rest, settings.get(&format!("{path}.{rest}"))?)))
        .collect()
}

fn insert(table: &mut Map<String, Json>, path: &str, value: Json) {
    match path.split_once('.') {
        None => {
            table.insert(path.to_owned(), value);
        }
        Some((name, rest)) => {
            let inner = table
                .entry(name)
                .or_insert_with(|| Json::Object(Map::new()));
            if let Json::Object(inner) = inner {
                insert(inner, rest, value);
            }
        }
    }
}

pub(super) fn kind_and_unit(key: &Key) -> String {
    match key.unit {
        "" => key.kind.describe(),
        unit => format!("{}; {unit}", key.kind.describe()),
    }
}

pub(super) fn of_kinds(key: &Key) -> String {
    match key.of_kinds {
        [] => String::new(),
        kinds => format!(" Only of kind `{}`.", kinds.join("`, `")),
    }
}

/// Meaning, type, unit, default and version of a key, in sentences.
fn about(key: &Key, rest: &str) -> String {
    let default = match key.default {
        Some(toml) => format!("default {toml}"),
        None if key.required && !rest.contains('.') => "required".to_owned(),
        None if key.required => "required with its table".to_owned(),
        None => format!("default: {}", key.absent),
    };
    let kind = kind_and_unit(key);
    format!(
        "{}{}\n{kind}; {default}; since {}",
        key.meaning,
        of_kinds(key),
        key.since
    )
}

/// Comment lines of at most a hundred columns.
fn wrap(text: &str) -> String {
    let mut wrapped = String::new();
    for paragraph in text.lines() {
        let mut line = String::from("#");
        for word in paragraph.split(' ') {
            if line.chars().count() + 1 + word.chars().count() > 100 {
                wrapped.push_str(&line);
                wrapped.push('\n');
                line = String::from("#");
            }
            line.push(' ');
            line.push_str(word);
        }
        wrapped.push_str(&line);
        wrapped.push('\n');
    }
    wrapped
}

fn one_line(text: &str) -> String {
    text.chars()
        .map(|letter| if letter.is_control() { ' ' } else { letter })
        .collect()
}
