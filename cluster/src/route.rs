//! Where an event runs: from the table alone, asked on every event, never waiting.
//!
//! What has a key runs at the owner of its slot. What has none runs here, if this node serves its
//! group and has room; else at the less busy of two servers picked by chance, which keeps the load
//! even without anyone knowing all of it.

use crate::{Member, NodeId, NodeState, OwnerEpoch, Serves, SlotId, Table};

/// What an event needs of the node that runs it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind<'a> {
    /// A key, which falls into this slot.
    Keyed(SlotId),
    /// A connect or a refresh.
    Connect,
    /// A call without a key, of this method.
    Rpc(&'a str),
    /// Any other kind on a route without a key: what serves `channel` runs it.
    Unkeyed,
}

/// Where an event runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Route {
    /// On this node; with a key, under this epoch.
    Here(Option<OwnerEpoch>),
    /// On another node.
    Node {
        /// Which one.
        member: Member,
        /// Under which epoch, with a key.
        epoch: Option<OwnerEpoch>,
    },
    /// Nowhere for now.
    Unavailable(Unroutable),
}

/// Why an event runs nowhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
pub enum Unroutable {
    /// Its slot has no living owner: hold it until there is one.
    #[error("the slot has no owner for now")]
    Vacant,
    /// No node that can be reached serves its group.
    #[error("no node in reach serves this kind of event")]
    NoServer,
    /// There is no quorum in reach, and such events do not go on without one.
    #[error("no quorum in reach, and serve_stateless_isolated is off")]
    Isolated,
}

/// What this node knows beside the table.
pub trait Surroundings {
    /// How many events without a key are in flight at a node, as its last answer said.
    fn in_flight(&self, node: NodeId) -> u32;

    /// Whether the links to a node carry something.
    fn is_reachable(&self, node: NodeId) -> bool;

    /// Whether this node has room for one more event without a key.
    fn has_room(&self) -> bool;

    /// Whether events without a key are served now: with a quorum in reach, or by
    /// `serve_stateless_isolated`.
    fn serves_stateless(&self) -> bool;
}

impl Serves {
    /// Whether an event of this kind may run at a node that serves this.
    pub fn covers(&self, kind: Kind<'_>) -> bool {
        match kind {
            Kind::Keyed(_) | Kind::Unkeyed => self.channel,
            Kind::Connect => self.connect,
            Kind::Rpc(method) => self.rpc.iter().any(|pattern| matches(pattern, method)),
        }
    }
}

/// `*` matches everything, `a.*` what begins with `a.`, anything else itself.
fn matches(pattern: &str, method: &str) -> bool {
    match pattern.strip_suffix('*') {
        Some("") => true,
        Some(prefix) if prefix.ends_with('.') => method.starts_with(prefix),
        _ => pattern == method,
    }
}

/// Where an event of this kind runs, seen from this node. `chance` is any random number.
pub fn route(
    table: &Table,
    me: Member,
    kind: Kind<'_>,
    around: &impl Surroundings,
    chance: u64,
) -> Route {
    if let Kind::Keyed(slot) = kind {
        return keyed(table, me, slot);
    }
    if !around.serves_stateless() {
        return Route::Unavailable(Unroutable::Isolated);
    }
    let here = table.node(me.id).filter(|node| node.serves.covers(kind));
    if here.is_some_and(|node| node.state == NodeState::Up) && around.has_room() {
        return Route::Here(None);
    }
    match less_busy_of_two(table, me, kind, around, chance) {
        Some(member) => Route::Node {
            member,
            epoch: None,
        },
        // A draining or busy node is better than none; its own limits have the last word.
        None if here.is_some_and(|node| node.state.is_living()) => Route::Here(None),
        None => Route::Unavailable(Unroutable::NoServer),
    }
}

fn keyed(table: &Table, me: Member, slot: SlotId) -> Route {
    let rec = table.slot(slot);
    match rec.owner.filter(|owner| table.is_living(*owner)) {
        Some(owner) if owner == me => Route::Here(Some(rec.epoch)),
        Some(member) => Route::Node {
            member,
            epoch: Some(rec.epoch),
        },
        None => Route::Unavailable(Unroutable::Vacant),
    }
}

/// Two different servers by chance, of these the one with less in flight.
fn less_busy_of_two(
    table: &Table,
    me: Member,
    kind: Kind<'_>,
    around: &impl Surroundings,
    chance: u64,
) -> Option<Member> {
    let servers = || {
        table.nodes().iter().filter(|(id, node)| {
            **id != me.id
                && node.state == NodeState::Up
                && node.serves.covers(kind)
                && around.is_reachable(**id)
        })
    };
    let count = servers().count() as u64;
    if count == 0 {
        return None;
    }
    let first = (chance >> 32) % count;
    let step = if count > 1 {
        1 + (chance & 0xffff_ffff) % (count - 1)
    } else {
        0
    };
    let second = (first + step) % count;
    let pick = |index: u64| {
        servers()
            .nth(usize::try_from(index).ok()?)
            .map(|(id, _)| *id)
    };
    let (first, second) = (pick(first)?, pick(second)?);
    let less = if around.in_flight(second) < around.in_flight(first) {
        second
    } else {
        first
    };
    table.member(less)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;
    use crate::testing::{Chance, Log, member, registration, slot};

    #[derive(Default)]
    struct Around {
        busy: BTreeMap<u32, u32>,
        away: Vec<u32>,
        full: bool,
        isolated: bool,
    }

    impl Surroundings for Around {
        fn in_flight(&self, node: NodeId) -> u32 {
            self.busy.get(&node.0).copied().unwrap_or_default()
        }
        fn is_reachable(&self, node: NodeId) -> bool {
            !self.away.contains(&node.0)
        }
        fn has_room(&self) -> bool {
            !self.full
        }
        fn serves_stateless(&self) -> bool {
            !self.isolated
        }
    }

    /// Node 1 serves connects, node 3 `chat.*`, nodes 5 and 7 channels.
    fn split() -> Log {
        let mut log = Log::with_nodes(4);
        for (id, node) in log.table.nodes.iter_mut() {
            node.serves = Serves {
                connect: id.0 == 1,
                channel: id.0 >= 5,
                rpc: if id.0 == 3 {
                    vec!["chat.*".to_owned(), "ping".to_owned()]
                } else {
                    Vec::new()
                },
            };
        }
        log
    }

    fn to(id: u32) -> Route {
        Route::Node {
            member: member(id, 1),
            epoch: None,
        }
    }

    #[test]
    fn connects_run_on_one_node_and_calls_on_another_by_what_they_serve() {
        let log = split();
        let around = Around::default();
        let from = |id, kind| route(&log.table, member(id, 1), kind, &around, 7);
        assert_eq!(from(1, Kind::Connect), Route::Here(None));
        assert_eq!(from(5, Kind::Connect), to(1));
        for (method, served) in [
            ("chat.say", true),
            ("ping", true),
            ("chat", false),
            ("pingo", false),
        ] {
            let expected = if served {
                to(3)
            } else {
                Route::Unavailable(Unroutable::NoServer)
            };
            assert_eq!(from(1, Kind::Rpc(method)), expected, "{method}");
        }
        assert!(matches!(from(1, Kind::Unkeyed), Route::Node { member, .. } if member.id.0 >= 5));
        assert_eq!(from(7, Kind::Unkeyed), Route::Here(None));
    }

    #[test]
    fn a_key_runs_at_the_living_owner_of_its_slot() {
        let mut log = Log::with_nodes(2);
        log.give(5, 3);
        let around = Around {
            isolated: true,
            ..Around::default()
        };
        let keyed = Kind::Keyed(slot(5));
        let epoch = Some(OwnerEpoch(1));
        let from = |log: &Log, me| route(&log.table, me, keyed, &around, 0);
        assert_eq!(from(&log, member(3, 1)), Route::Here(epoch));
        assert_eq!(
            from(&log, member(1, 1)),
            Route::Node {
                member: member(3, 1),
                epoch
            }
        );
        log.register(registration("n2", 2, 2));
        let vacant = Route::Unavailable(Unroutable::Vacant);
        assert_eq!(from(&log, member(1, 1)), vacant);
        assert_eq!(from(&log, member(3, 1)), vacant, "an old life goes on");
    }

    #[test]
    fn a_full_or_draining_node_sends_on_while_another_serves() {
        let mut log = Log::with_nodes(2);
        let full = Around {
            full: true,
            ..Around::default()
        };
        let away = Around {
            full: true,
            away: vec![3],
            ..Around::default()
        };
        let from =
            |log: &Log, around: &Around| route(&log.table, member(1, 1), Kind::Connect, around, 0);
        assert_eq!(from(&log, &full), to(3));
        assert_eq!(from(&log, &away), Route::Here(None));
        log.turn(1, NodeState::Draining);
        assert_eq!(from(&log, &Around::default()), to(3));
        log.turn(3, NodeState::Draining);
        assert_eq!(from(&log, &Around::default()), Route::Here(None));
        let isolated = Around {
            isolated: true,
            ..Around::default()
        };
        assert_eq!(
            from(&log, &isolated),
            Route::Unavailable(Unroutable::Isolated)
        );
    }

    proptest! {
        #[test]
        fn the_busiest_of_several_servers_is_never_picked(
            busiest in 1u32..6, chance: u64, away in 1u32..6,
        ) {
            let log = Log::with_nodes(6);
            let id = |index: u32| index * 2 + 1;
            let around = Around {
                full: true,
                busy: BTreeMap::from([(id(busiest), 9)]),
                away: vec![id(away)],
                ..Around::default()
            };
            let Route::Node { member, .. } = route(&log.table, member(1, 1), Kind::Connect, &around, chance)
                else { panic!("not sent on") };
            prop_assert!(![1, id(busiest), id(away)].contains(&member.id.0));
        }
    }

    #[test]
    fn two_choices_keep_servers_even() {
        let log = Log::with_nodes(9);
        let mut around = Around {
            full: true,
            ..Around::default()
        };
        let mut chance = Chance::new(1);
        for _ in 0..8000 {
            let at = route(
                &log.table,
                member(1, 1),
                Kind::Rpc("x"),
                &around,
                chance.next(),
            );
            let Route::Node { member, .. } = at else {
                panic!("{at:?}")
            };
            *around.busy.entry(member.id.0).or_default() += 1;
        }
        let counts: Vec<_> = around.busy.values().copied().collect();
        assert!(
            counts.len() == 8 && counts.iter().all(|count| (990..1010).contains(count)),
            "{counts:?}"
        );
    }
}
