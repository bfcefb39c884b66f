//! Namespaces: which of them send which events, as the routes or the command line have it.

use crate::engine::compile::Compiled;
use crate::event::{EventKind, Subject};
use serde_json::{Map, Value, json};
use std::collections::{BTreeMap, BTreeSet};

type Kinds = BTreeSet<EventKind>;

const PLAIN: &[EventKind] = &[
    EventKind::Subscribe,
    EventKind::Publish,
    EventKind::SubRefresh,
];
const STREAMS: &[EventKind] = &[EventKind::Stream, EventKind::StreamBidirectional];
const MAP: &[EventKind] = &[EventKind::MapPublish, EventKind::MapRemove];
const POLL: &[EventKind] = &[EventKind::SharedPollRefresh];

/// Channels of one namespace, or those without.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::cli) enum Space {
    Without,
    Named(String),
}

/// A namespace of the command line: its name and the kinds that its type has.
#[derive(Debug, Clone)]
pub(super) struct Explicit {
    name: String,
    kinds: &'static [EventKind],
}

impl Explicit {
    /// `NAME` or `NAME=TYPE`.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let (name, kinds) = match text.split_once('=') {
            None | Some((_, "channel")) => (text.split('=').next().unwrap_or(text), PLAIN),
            Some((name, "stream")) => (name, &STREAMS[..1]),
            Some((name, "bidirectional")) => (name, &STREAMS[1..]),
            Some((name, "map")) => (name, MAP),
            Some((name, "shared-poll")) => (name, POLL),
            Some((_, other)) => {
                return Err(format!(
                    "`{other}` is no type; there are stream, bidirectional, map, shared-poll"
                ));
            }
        };
        if !is_name(name) {
            return Err(format!(
                "`{name}` is no namespace: Centrifugo takes two or more of a-z, A-Z, 0-9, `-`, \
                 `_`, `.`"
            ));
        }
        let name = name.to_owned();
        Ok(Self { name, kinds })
    }
}

/// Whether Centrifugo takes it as the name of a namespace.
fn is_name(name: &str) -> bool {
    let letter = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    name.len() >= 2 && name.bytes().all(letter)
}

/// The channels that a pattern can match.
#[derive(Debug, PartialEq, Eq)]
enum Reach<'a> {
    /// Of one namespace.
    Namespace(&'a str),
    /// Without a namespace.
    Without,
    /// With any namespace, known to nobody.
    AnyNamespace,
    /// All of them.
    Everything,
}

/// What a pattern, as it prints, can match.
fn reach<'a>(pattern: &'a str, boundary: &str) -> Reach<'a> {
    let open = pattern.find(['{', '*']).unwrap_or(pattern.len());
    let (literal, rest) = pattern.split_at(open);
    if let Some(at) = literal.find(boundary) {
        return Reach::Namespace(&literal[..at]);
    }
    if rest.contains(boundary) {
        Reach::AnyNamespace
    } else if rest.ends_with('*') || rest.ends_with("...}") {
        Reach::Everything
    } else {
        Reach::Without
    }
}

/// Which spaces send which events.
#[derive(Debug, Default)]
pub(in crate::cli) struct Namespaces {
    spaces: BTreeMap<Space, Kinds>,
    rpc: BTreeSet<String>,
    /// Kinds that any route takes.
    routed: Kinds,
    /// What the user should know.
    pub(super) notes: Vec<String>,
}

impl Namespaces {
    /// As the patterns of the routes have it.
    pub(in crate::cli) fn of_routes(compiled: &Compiled, boundary: &str) -> Self {
        let mut found = Self::default();
        let mut wide = Kinds::new();
        for route in &compiled.routes {
            let kind = route.route.kind;
            let pattern = route.pattern.to_string();
            match kind.subject() {
                Subject::Channel => found.channel(kind, &pattern, boundary, &mut wide),
                Subject::Method if kind == EventKind::Rpc => {
                    // Centrifugo's own boundary of methods.
                    if let Reach::Namespace(name) = reach(&pattern, ":") {
                        found.rpc(name);
                    }
                }
                Subject::Method | Subject::Nothing => {}
            }
            found.routed.insert(kind);
        }
        found.spread(&mut wide);
        if !wide.is_empty() {
            found.notes.push(format!(
                "routes for {} take channels of any namespace, but Centrifugo has to know \
                 namespaces: name yours with --namespaces",
                names(&wide)
            ));
        }
        let pro = [EventKind::CacheEmpty, EventKind::ChannelState];
        let pro: Kinds = pro.into_iter().filter(|kind| found.has(*kind)).collect();
        if !pro.is_empty() {
            found.notes.push(format!(
                "only Centrifugo PRO sends {}: left out",
                names(&pro)
            ));
        }
        found
    }

    fn channel(&mut self, kind: EventKind, pattern: &str, boundary: &str, wide: &mut Kinds) {
        let space = match reach(pattern, boundary) {
            Reach::Namespace(name) if is_name(name) => Space::Named(name.to_owned()),
            Reach::Namespace(name) => {
                self.notes.push(format!(
                    "`{name}` of the route `{pattern}` can't be a namespace of Centrifugo: left out"
                ));
                return;
            }
            Reach::Without => Space::Without,
            Reach::AnyNamespace => {
                wide.insert(kind);
                return;
            }
            Reach::Everything => {
                wide.insert(kind);
                Space::Without
            }
        };
        self.spaces.entry(space).or_default().insert(kind);
    }

    /// Routes for every channel take those of the namespaces that other routes name too.
    fn spread(&mut self, wide: &mut Kinds) {
        let named = self.spaces.iter_mut();
        let named = named.filter(|(space, _)| **space != Space::Without);
        let mut refreshed = false;
        for (_, kinds) in named {
            for group in [PLAIN, MAP] {
                if group.iter().any(|kind| kinds.contains(kind)) {
                    kinds.extend(group.iter().filter(|kind| wide.contains(kind)));
                }
            }
            refreshed |= kinds.contains(&EventKind::SubRefresh);
        }
        // It only ever follows a subscribe.
        if refreshed {
            wide.remove(&EventKind::SubRefresh);
        }
    }

    fn rpc(&mut self, name: &str) {
        if is_name(name) {
            self.rpc.insert(name.to_owned());
        } else {
            self.notes.push(format!(
                "`{name}` can't be an rpc namespace of Centrifugo: left out"
            ));
        }
    }

    /// Takes these namespaces in place of those in the routes. Of a plain one only what some route
    /// takes is sent, and if that is nothing, subscribes.
    pub(super) fn replace(&mut self, explicit: &[Explicit]) {
        self.spaces.retain(|space, _| *space == Space::Without);
        self.notes.clear();
        for Explicit { name, kinds } in explicit {
            let routed = kinds
                .iter()
                .copied()
                .filter(|kind| self.routed.contains(kind));
            let mut sent: Kinds = routed.collect();
            if sent.is_empty() {
                sent.extend(kinds.first());
            }
            let space = Space::Named(name.clone());
            self.spaces.entry(space).or_default().extend(sent);
        }
    }

    /// Events that were sent elsewhere are wanted, whether a route is here or not.
    pub(super) fn add_split(&mut self, kinds: impl Iterator<Item = EventKind>) {
        for kind in kinds {
            let first = self.routed.insert(kind);
            let sent = self.spaces.values().any(|kinds| kinds.contains(&kind));
            if first && !sent && PLAIN.contains(&kind) {
                self.spaces.entry(Space::Without).or_default().insert(kind);
                for (space, kinds) in &mut self.spaces {
                    if *space != Space::Without && PLAIN.iter().any(|it| kinds.contains(it)) {
                        kinds.insert(kind);
                    }
                }
            }
        }
    }

    /// Whether a route, here or elsewhere, takes the kind.
    pub(in crate::cli) fn has(&self, kind: EventKind) -> bool {
        self.routed.contains(&kind)
    }

    /// The names, in order.
    pub(in crate::cli) fn names(&self) -> Vec<String> {
        let name = |space: &Space| match space {
            Space::Named(name) => Some(name.clone()),
            Space::Without => None,
        };
        self.spaces.keys().filter_map(name).collect()
    }

    /// The names of rpc namespaces.
    pub(in crate::cli) fn rpc_names(&self) -> impl Iterator<Item = &str> {
        self.rpc.iter().map(String::as_str)
    }

    /// The options of a space, and the kinds that it sends with them: a space is of one type, and
    /// what does not go with that is left out with a note.
    pub(in crate::cli) fn options(&mut self, space: &Space) -> (Map<String, Value>, Kinds) {
        let kinds = self.spaces.get(space).cloned().unwrap_or_default();
        let order = match space {
            // Whoever routes everything means ordinary channels first.
            Space::Without => [PLAIN, STREAMS, MAP, POLL],
            Space::Named(_) => [MAP, POLL, PLAIN, STREAMS],
        };
        let chosen = order
            .into_iter()
            .find(|group| group.iter().any(|kind| kinds.contains(kind)));
        let Some(group) = chosen else {
            return (Map::new(), Kinds::new());
        };
        let mut sent: Kinds = group
            .iter()
            .copied()
            .filter(|kind| kinds.contains(kind))
            .collect();
        if sent.len() == 2 && group == STREAMS {
            sent.remove(&EventKind::StreamBidirectional);
        }
        let left: Kinds = kinds.difference(&sent).copied().collect();
        if !left.is_empty() {
            let place = match space {
                Space::Without => "channels without a namespace".to_owned(),
                Space::Named(name) => format!("the namespace `{name}`"),
            };
            self.notes.push(format!(
                "{place} can't send {} beside {}, so that is left out; use a namespace of its own",
                names(&left),
                names(&sent)
            ));
        }
        let options = sent.iter().fold(json!({}), |mut options, kind| {
            option(&mut options, *kind);
            options
        });
        match options {
            Value::Object(options) => (options, sent),
            _ => (Map::new(), sent),
        }
    }
}

/// Turns an event on for a namespace.
fn option(options: &mut Value, kind: EventKind) {
    match kind {
        EventKind::Subscribe | EventKind::Publish | EventKind::SubRefresh => {
            options[format!("{kind}_proxy_enabled")] = json!(true);
        }
        EventKind::Stream => options["subscribe_stream_proxy_enabled"] = json!(true),
        EventKind::StreamBidirectional => {
            options["subscribe_stream_proxy_enabled"] = json!(true);
            options["subscribe_stream_proxy_bidirectional"] = json!(true);
        }
        EventKind::MapPublish | EventKind::MapRemove => {
            options["subscription_type"] = json!("map");
            // The subscribe proxy does not work for maps (error 107).
            options["allow_subscribe_for_client"] = json!(true);
            options["map"]["mode"] = json!("recoverable");
            options["map"]["key_ttl"] = json!("60s");
            let switch = match kind {
                EventKind::MapPublish => "publish_proxy_enabled",
                _ => "remove_proxy_enabled",
            };
            options["map"][switch] = json!(true);
        }
        EventKind::SharedPollRefresh => {
            options["subscription_type"] = json!("shared_poll");
            options["allow_subscribe_for_client"] = json!(true);
            options["shared_poll"] = json!({ "mode": "versioned" });
        }
        _ => {}
    }
}

fn names(kinds: &Kinds) -> String {
    let names: Vec<&str> = kinds.iter().map(|kind| kind.name()).collect();
    names.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_reaches_a_namespace_none_any_or_all() {
        let cases = [
            ("chat:{room}", Reach::Namespace("chat")),
            ("chat:*", Reach::Namespace("chat")),
            ("news", Reach::Without),
            ("room-{x}", Reach::Without),
            ("{ns}:{x}", Reach::AnyNamespace),
            ("*", Reach::Everything),
            ("ch*", Reach::Everything),
            ("{all...}", Reach::Everything),
        ];
        for (pattern, wanted) in cases {
            assert_eq!(reach(pattern, ":"), wanted, "{pattern}");
        }
        assert_eq!(reach("chat/{x}", "/"), Reach::Namespace("chat"));
    }

    #[test]
    fn names_and_types_that_centrifugo_would_refuse_are_refused_here() {
        assert!(Explicit::parse("chat").is_ok());
        assert!(Explicit::parse("feed=stream").is_ok());
        assert!(Explicit::parse("x").is_err());
        assert!(Explicit::parse("chat=queue").is_err());
        assert!(Explicit::parse("ch at").is_err());
    }
}
