//! The tree against the schema: unknown keys, missing keys and bad values, all of them at once.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::Duration;

use super::cluster::ClusterSecret;
use super::layers::{World, env_name, file_path, resolve};
use super::problem::{Fault, Origin, Problem, nearest};
use super::schema::{
    self, FILLED, FILLED_SECTIONS, Key, Kind, LATER_KEYS, LATER_KINDS, SECTIONS, Section, Shape,
};
use super::secret::{REDACTED, Secret};
use super::tree::{Node, Value, join, parse_value};
use super::types::{ListenAddr, On};
use super::values::{Scalar, read};
use crate::event::EventKind;

/// What is wrong with a key that there is not.
pub(super) const NOT_A_KEY: &str = "is not a key";

/// A value that is fit for its key.
#[derive(Clone)]
pub(super) struct Setting {
    pub(super) scalar: Scalar,
    pub(super) origin: Origin,
    /// The value as it may be shown to anyone.
    pub(super) shown: Node,
}

/// Every value that is fit, by its dotted key, and what was found on the way.
#[derive(Clone, Default)]
pub(super) struct Settings {
    values: BTreeMap<String, Setting>,
    tables: BTreeMap<String, Origin>,
    unfit: BTreeSet<String>,
    /// How many `[[interceptor]]`s there are.
    pub(super) interceptors: usize,
    /// How many `[[route]]`s there are.
    pub(super) routes: usize,
    /// The names of `[handler.NAME]`s.
    pub(super) handlers: Vec<String>,
}

impl Settings {
    pub(super) fn get(&self, key: &str) -> Option<&Setting> {
        self.values.get(key)
    }

    /// Whether somebody wrote the key or the table, fit or not.
    pub(super) fn is_written(&self, key: &str) -> bool {
        let value = self
            .values
            .get(key)
            .is_some_and(|it| it.origin != Origin::Default);
        value || self.tables.contains_key(key) || self.unfit.contains(key)
    }

    /// Where a value, or else a table, stands.
    pub(super) fn origin(&self, key: &str) -> Origin {
        let value = self.values.get(key).map(|setting| &setting.origin);
        value
            .or_else(|| self.tables.get(key))
            .cloned()
            .unwrap_or(Origin::Default)
    }

    /// A problem with a value that is fit by itself.
    pub(super) fn problem(
        &self,
        key: &str,
        rule: impl Into<String>,
        fix: impl Into<String>,
    ) -> Problem {
        let value = self
            .get(key)
            .map(|setting| shorten(&setting.shown.to_toml()));
        Problem {
            key: key.to_owned(),
            value,
            rule: rule.into(),
            fix: fix.into(),
            origin: self.origin(key),
        }
    }
}

/// Typed access: `None` where the key is absent or unfit.
macro_rules! typed {
    ($($name:ident: $variant:ident => $type:ty;)*) => {
        impl Settings {
            $(pub(super) fn $name(&self, key: &str) -> Option<$type> {
                match &self.get(key)?.scalar {
                    Scalar::$variant(value) => Some(value.clone()),
                    _ => None,
                }
            })*
        }
    };
}

typed! {
    text: Text => String;
    secret: Secret => Secret;
    flag: Flag => bool;
    count: Count => u64;
    rate: Rate => f64;
    share: Share => f64;
    collector: Collector => super::types::Collector;
    duration: Duration => Duration;
    bytes: Bytes => usize;
    listen: Listen => ListenAddr;
    tcp: Tcp => SocketAddr;
    endpoints: Endpoints => Vec<super::types::Endpoint>;
    rpc_listen: RpcListen => super::types::RpcListen;
    rpc_server: RpcServer => super::types::RpcAddress;
    relay: Relay => super::types::RelayAddress;
    words: Words => Vec<String>;
    events: Events => Vec<EventKind>;
    on: On => On;
    object: Object => serde_json::Value;
    variables: Variables => BTreeMap<String, String>;
    serves: Serves => centripeta_cluster::Serves;
    secrets: Secrets => Vec<ClusterSecret>;
}

/// Checks the whole tree; values absent from it get their defaults.
pub(super) fn check(root: &Node, world: &World<'_>, problems: &mut Vec<Problem>) -> Settings {
    let mut walk = Walk {
        world,
        problems,
        settings: Settings::default(),
    };
    walk.root(root);
    walk.settings
}

struct Walk<'a> {
    world: &'a World<'a>,
    problems: &'a mut Vec<Problem>,
    settings: Settings,
}

impl Walk<'_> {
    fn root(&mut self, root: &Node) {
        if let Value::Table(children) = &root.value {
            for (name, child) in children {
                if SECTIONS.iter().all(|section| section.name != name) {
                    self.unknown("", name, child, None);
                }
            }
        }
        for section in SECTIONS {
            let found = root.child(section.name);
            match (section.shape, found) {
                (Shape::Once, Some(node)) => self.table(section.prefix(), section.name, node, None),
                (Shape::Once, None) => {
                    let absent = Node::empty_table(Origin::Default);
                    self.table(section.prefix(), section.name, &absent, None);
                }
                (Shape::Optional, Some(node)) => self.optional(section, node),
                (Shape::Entries, Some(node)) => self.entries(section, node),
                (Shape::Named, Some(node)) => self.named(section, node),
                (Shape::Optional | Shape::Entries | Shape::Named, None) => {}
            }
        }
    }

    /// A section whose defaults hold only where it is written.
    fn optional(&mut self, section: &Section, node: &Node) {
        let prefix = section.prefix();
        self.table(prefix, section.name, node, None);
        let filled = FILLED_SECTIONS.iter().filter(|(of, _)| *of == section.name);
        for table in filled.flat_map(|(_, tables)| *tables) {
            if matches!(node.value, Value::Table(_)) && node.child(table).is_none() {
                let absent = Node::empty_table(Origin::Default);
                let path = join(section.name, table);
                self.table(&join(prefix, table), &path, &absent, None);
            }
        }
    }

    fn entries(&mut self, section: &Section, node: &Node) {
        let Value::List(items) = &node.value else {
            let name = section.name;
            self.report(
                name,
                node,
                Fault::new(
                    format!(
                        "must be a list of tables, and is {}",
                        node.value.type_name()
                    ),
                    format!("write [[{name}]] in double brackets, once for each"),
                ),
            );
            return;
        };
        match section.name {
            "route" => self.settings.routes = items.len(),
            _ => self.settings.interceptors = items.len(),
        }
        for (index, item) in items.iter().enumerate() {
            self.entry(section, &join(section.name, &index.to_string()), item);
        }
    }

    fn named(&mut self, section: &Section, node: &Node) {
        let Value::Table(children) = &node.value else {
            self.report(
                section.name,
                node,
                Fault::new(
                    format!(
                        "must be a table of handlers, and is {}",
                        node.value.type_name()
                    ),
                    "write [handler.NAME] for each",
                ),
            );
            return;
        };
        for (name, child) in children {
            let path = join(section.name, name);
            match super::names::check_name(name) {
                Ok(()) => {
                    self.settings.handlers.push(name.clone());
                    self.entry(section, &path, child);
                }
                Err(fault) => self.report(&path, child, fault),
            }
        }
    }

    /// An entry whose `kind`, if it has one, decides which other keys it has.
    fn entry(&mut self, section: &Section, path: &str, node: &Node) {
        let resolved = node
            .child("kind")
            .and_then(|kind| resolve(kind, self.world).ok());
        let kind = match &resolved {
            Some((
                Node {
                    value: Value::Text(kind),
                    ..
                },
                _,
            )) => Some(kind.as_str()),
            _ => None,
        };
        let written = node.child("kind");
        if let (Some(later), Some(written)) = (kind.filter(|it| LATER_KINDS.contains(it)), written)
        {
            self.later(section, path, node, (later, written));
            return;
        }
        let prefix = section.prefix();
        let known = schema::below(prefix)
            .find(|(rest, _)| *rest == "kind")
            .map(|(_, key)| key.kind);
        let kind =
            kind.filter(|kind| matches!(known, Some(Kind::Choice(kinds)) if kinds.contains(kind)));
        self.table(prefix, path, node, kind);
        let filled = FILLED.iter().filter(|(of, _)| Some(*of) == kind);
        for table in filled.flat_map(|(_, tables)| *tables) {
            let mut at = Some(node);
            for name in table.split('.') {
                at = at.and_then(|node| node.child(name));
            }
            if at.is_none() {
                let absent = Node::empty_table(Origin::Default);
                self.table(&join(prefix, table), &join(path, table), &absent, kind);
            }
        }
    }

    /// An entry of a kind that a later version brings: its name counts, its other keys are not judged.
    fn later(&mut self, section: &Section, path: &str, node: &Node, kind: (&str, &Node)) {
        self.settings.unfit.insert(join(path, "kind"));
        let name = schema::find(&join(section.prefix(), "name"));
        if let (Some(key), Some(name)) = (name, node.child("name")) {
            self.leaf(key, &join(path, "name"), name);
        }
        let (later, written) = kind;
        let value = Some(shorten(&written.to_toml()));
        self.push(
            join(path, "kind"),
            value,
            written,
            Fault::new(
                format!("the kind `{later}` is not part of this version"),
                "remove the entry, or use a version that has it",
            ),
        );
    }

    fn table(&mut self, schema: &str, path: &str, node: &Node, kind: Option<&str>) {
        let Value::Table(children) = &node.value else {
            self.settings.unfit.insert(path.to_owned());
            self.report(
                path,
                node,
                Fault::new(
                    format!("must be a table, and is {}", node.value.type_name()),
                    "write its keys one by one, each as KEY = VALUE",
                ),
            );
            return;
        };
        if node.origin != Origin::Default {
            self.settings
                .tables
                .insert(path.to_owned(), node.origin.clone());
        }
        for (name, child) in children {
            let at = join(path, name);
            let known: Vec<_> = schema::below(schema)
                .filter(|(_, key)| key.is_of(kind))
                .collect();
            let nested = format!("{name}.");
            if name.contains('.') {
                self.unknown(path, name, child, None);
            } else if let Some((_, key)) = known.iter().find(|(rest, _)| rest == name) {
                self.leaf(key, &at, child);
            } else if known.iter().any(|(rest, _)| rest.starts_with(&nested)) {
                self.table(&join(schema, name), &at, child, kind);
            } else {
                self.unknown(path, name, child, Some((schema, kind)));
            }
        }
        for (name, key) in schema::below(schema) {
            let applies = key.of_kinds.is_empty() || kind.is_some_and(|it| key.is_of(Some(it)));
            if applies && !name.contains('.') && !children.contains_key(name) {
                self.absent(key, &join(path, name), node);
            }
        }
    }

    fn absent(&mut self, key: &'static Key, path: &str, parent: &Node) {
        if let Some(node) = key
            .default
            .and_then(|toml| parse_value(toml, &Origin::Default))
        {
            self.leaf(key, path, &node);
        } else if key.required {
            self.push(
                path.to_owned(),
                None,
                parent,
                Fault::new(
                    "is missing",
                    format!("add it, for instance {} = {}", key.name(), key.example),
                ),
            );
        }
    }

    fn leaf(&mut self, key: &'static Key, path: &str, node: &Node) {
        let outcome = resolve(node, self.world)
            .map_err(|fault| (fault, true))
            .and_then(
                |(resolved, by_reference)| match read(&key.kind, &resolved) {
                    Ok(scalar) => Ok((scalar, resolved, by_reference)),
                    Err(fault) => Err((fault, by_reference)),
                },
            );
        match outcome {
            Ok((mut scalar, resolved, by_reference)) => {
                if let Scalar::Secrets(secrets) = &mut scalar {
                    self.name_files(secrets, node);
                }
                let shown = match &scalar {
                    Scalar::Secrets(_) => redacted(node),
                    Scalar::Secret(secret) if secret.is_empty() => {
                        Node::text("", node.origin.clone())
                    }
                    Scalar::Secret(_) => Node::text(REDACTED, node.origin.clone()),
                    Scalar::Variables(_) => hidden(&resolved),
                    _ if by_reference && is_free(&key.kind) => node.clone(),
                    _ => resolved,
                };
                let setting = Setting {
                    scalar,
                    origin: node.origin.clone(),
                    shown,
                };
                self.settings.values.insert(path.to_owned(), setting);
            }
            Err((fault, discreet)) => {
                self.settings.unfit.insert(path.to_owned());
                let composite = matches!(node.value, Value::Table(_))
                    || matches!(node.value, Value::List(_)) && !takes_list(&key.kind);
                let value = match key.kind {
                    Kind::Secret | Kind::Secrets => Some(quote_redacted()),
                    Kind::Variables | Kind::MetadataTable => None,
                    _ if composite || holds_credential(&key.kind, node) => None,
                    _ => Some(shorten(&node.to_toml())),
                };
                let rule = fault.rule(
                    discreet || value.is_none() || matches!(key.kind, Kind::Secret | Kind::Secrets),
                );
                self.push(path.to_owned(), value, node, Fault::new(rule, fault.fix));
            }
        }
    }

    /// Secrets that were written as `file:PATH` are read again later: their path counts.
    fn name_files(&self, secrets: &mut [ClusterSecret], written: &Node) {
        let items = match &written.value {
            Value::List(items) => items.iter().collect(),
            _ => vec![written],
        };
        for (secret, item) in secrets.iter_mut().zip(items) {
            if let Value::Text(text) = &item.value
                && let Some(path) = file_path(text, self.world)
            {
                *secret = ClusterSecret::File(path);
            }
        }
    }

    /// A key that nobody knows: its value is not shown, since it may be a mistyped secret.
    fn unknown(
        &mut self,
        parent: &str,
        name: &str,
        node: &Node,
        near: Option<(&str, Option<&str>)>,
    ) {
        let path = join(parent, name);
        if LATER_KEYS.contains(&path.as_str()) {
            self.report(
                &path,
                node,
                Fault::new(
                    "is not part of this version",
                    "remove it, or use a version that has it",
                ),
            );
            return;
        }
        let names: Vec<&str> = match near {
            None if parent.is_empty() => SECTIONS.iter().map(|section| section.name).collect(),
            None => Vec::new(),
            Some((schema, kind)) => {
                let of_kind = schema::below(schema).filter(|(_, key)| key.is_of(kind));
                let mut names: Vec<_> = of_kind
                    .map(|(rest, _)| rest.split_once('.').map_or(rest, |(name, _)| name))
                    .collect();
                names.dedup();
                names
            }
        };
        let other = near.and_then(|(schema, _)| {
            schema::below(schema)
                .find(|(rest, _)| *rest == name || rest.starts_with(&format!("{name}.")))
        });
        let fix = if let Some((_, key)) = other {
            format!(
                "remove it; only the kind `{}` has it",
                key.of_kinds.join("`, `")
            )
        } else if let Some(near) = nearest(name, names.iter().copied()) {
            let meant = join(parent, near);
            match node.origin {
                // Below a section nothing but its keys is read.
                Origin::Env { .. }
                    if parent.is_empty() && matches!(node.value, Value::Table(_)) =>
                {
                    format!("did you mean {}__KEY?", env_name(&meant))
                }
                Origin::Env { .. } => format!("did you mean {}?", env_name(&meant)),
                _ => format!("did you mean `{meant}`?"),
            }
        } else if names.is_empty() {
            "remove it".to_owned()
        } else {
            format!("remove it; there are `{}`", names.join("`, `"))
        };
        self.report(&path, node, Fault::new(NOT_A_KEY, fix));
    }

    fn report(&mut self, path: &str, node: &Node, fault: Fault) {
        self.push(path.to_owned(), None, node, fault);
    }

    fn push(&mut self, key: String, value: Option<String>, at: &Node, fault: Fault) {
        let rule = fault.rule(false);
        self.problems.push(Problem {
            key,
            value,
            rule,
            fix: fault.fix,
            origin: at.origin.clone(),
        });
    }
}

/// Whether any text passes for the key, so that what a variable or a file put there may be secret.
fn is_free(kind: &Kind) -> bool {
    matches!(
        kind,
        Kind::Text
            | Kind::Name
            | Kind::Names
            | Kind::Boundary
            | Kind::File
            | Kind::SocketUrl
            | Kind::Collector
            | Kind::Metadata
            | Kind::Key
            | Kind::Per
            | Kind::Object
            | Kind::Reason
            | Kind::Endpoints
            | Kind::Command
            | Kind::Serves
            | Kind::Peer
            | Kind::Peers
    )
}

fn takes_list(kind: &Kind) -> bool {
    matches!(
        kind,
        Kind::Endpoints
            | Kind::Names
            | Kind::Words(_)
            | Kind::Events
            | Kind::On
            | Kind::Command
            | Kind::Serves
            | Kind::Peers
            | Kind::Secrets
    )
}

/// Whether an address has something before an `@`, where people put passwords.
fn holds_credential(kind: &Kind, node: &Node) -> bool {
    let kinds = [Kind::Endpoints, Kind::SocketUrl, Kind::Collector];
    kinds.contains(kind) && node.to_toml().contains('@')
}

/// A table whose values are shown to nobody.
fn hidden(table: &Node) -> Node {
    let Value::Table(children) = &table.value else {
        return Node::text(REDACTED, table.origin.clone());
    };
    let hide = |(name, child): (&String, &Node)| {
        let hidden = Node::text(REDACTED, child.origin.clone());
        (name.clone(), hidden)
    };
    Node {
        value: Value::Table(children.iter().map(hide).collect()),
        origin: table.origin.clone(),
    }
}

/// Secrets as they may be shown: how many there are.
fn redacted(written: &Node) -> Node {
    let Value::List(items) = &written.value else {
        return Node::text(REDACTED, written.origin.clone());
    };
    let hide = |item: &Node| Node::text(REDACTED, item.origin.clone());
    Node {
        value: Value::List(items.iter().map(hide).collect()),
        origin: written.origin.clone(),
    }
}

fn quote_redacted() -> String {
    super::tree::quote(REDACTED)
}

/// At most eighty characters of a value.
fn shorten(toml: &str) -> String {
    if toml.chars().count() <= 80 {
        return toml.to_owned();
    }
    let start: String = toml.chars().take(79).collect();
    format!("{start}…")
}
