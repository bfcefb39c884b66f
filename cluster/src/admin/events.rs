//! Recent changes with their reasons, in a ring. What changed comes from the table's deltas, why
//! from the commands of the log, whoever proposed them, or else from the table itself.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use super::{Event, EventKind, EventsView, Named, name, state_word};
use crate::{
    Command, Delta, Incarnation, Member, Move, MoveId, MoveReason, NodeId, NodeRec, NodeState,
    Settings, SlotId, SlotRec, Table,
};

/// How many changes are kept.
pub const EVENTS_KEPT: usize = 1000;
/// How many reasons are remembered until their change is seen.
const REASONS_KEPT: usize = 4096;

/// What a reason belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Cause {
    Death(Member),
    Abort(SlotId, MoveId),
}

/// Slots that changed alike: how their change is told, from whom, to whom, why.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Alike {
    kind: u8,
    from: Option<NodeId>,
    to: Option<NodeId>,
    why: String,
}

/// The last [`EVENTS_KEPT`] changes.
#[derive(Debug, Clone, Default)]
pub struct Events {
    ring: VecDeque<Event>,
    latest: u64,
    reasons: BTreeMap<Cause, String>,
    /// Changes that were told before their reason was known, by the number of their event.
    untold: BTreeMap<Cause, u64>,
    /// The version up to which changes were told.
    told: u64,
}

impl Events {
    /// This command made the table's `version`: its reason is told with the change that came of it,
    /// also where that was told already, by a delta that was faster than the log.
    pub fn because(&mut self, command: &Command, version: u64) {
        match command {
            Command::DeclareDead { member, why, .. } => {
                self.explain(Cause::Death(*member), why, version);
            }
            Command::AbortMoves { moves, why } => {
                for abort in moves {
                    self.explain(Cause::Abort(abort.slot, abort.id), why, version);
                }
            }
            _ => {}
        }
    }

    /// The table goes forward by a delta, from what it was before. `at` is the time of day, since
    /// the Unix epoch.
    pub fn delta(&mut self, before: &Table, delta: &Delta, at: Duration) {
        self.told = self.told.max(delta.to);
        let mut after = before.clone();
        if !delta.nodes.is_empty() {
            after.nodes.extend(delta.nodes.iter().cloned());
        }
        let at = (at, delta.to);
        for (id, node) in &delta.nodes {
            self.node(before.node(*id), *id, node, at);
        }
        let mut groups: BTreeMap<Alike, (SlotId, usize)> = BTreeMap::new();
        for (slot, rec) in &delta.slots {
            for alike in self.slot(before.slot(*slot), *slot, rec, &after) {
                groups.entry(alike).or_insert((*slot, 0)).1 += 1;
            }
        }
        for (alike, (first, count)) in groups {
            self.tell_slots(&alike, first, count, &after, at);
            let moving = before.slot(first).moving;
            if let (ABORTED, true, Some(moving)) = (alike.kind, alike.why.is_empty(), moving) {
                self.lacks(Cause::Abort(first, moving.id));
            }
        }
        if let Some(settings) = &delta.settings {
            self.settings(before.settings(), settings, at);
        }
    }

    /// Another table has taken the place of the one before, with changes between that were not seen
    /// one by one.
    pub fn replaced(&mut self, before: &Table, after: &Table, at: Duration) {
        let versions = (before.version(), after.version());
        self.push(
            EventKind::Gap,
            (at, after.version()),
            format!(
                "the table went from version {} to {} at once",
                versions.0, versions.1
            ),
            "what was between is told as one change".to_owned(),
        );
        let differs = |(slot, rec): &(SlotId, &SlotRec)| before.slot(*slot) != *rec;
        let slots = after.slots().filter(differs);
        let nodes = after.nodes().iter();
        let delta = Delta {
            recovery: after.cluster().recovery,
            from: before.version(),
            to: after.version(),
            slots: slots.map(|(slot, rec)| (slot, rec.clone())).collect(),
            nodes: nodes
                .filter(|(id, node)| before.node(**id) != Some(node))
                .map(|(id, node)| (*id, node.clone()))
                .collect(),
            settings: (before.settings() != after.settings()).then(|| after.settings().clone()),
        };
        self.delta(before, &delta, at);
    }

    /// Another node leads, or none that is known.
    pub fn leader(&mut self, leader: Option<&Named>, version: u64, at: Duration) {
        let what = leader.map_or_else(
            || "no leader is known".to_owned(),
            |leader| format!("{leader} leads"),
        );
        self.push(EventKind::Leader, (at, version), what, String::new());
    }

    /// Changes with a number above `after`; `node` and `incarnation` are this node's own.
    pub fn view(&self, node: Named, incarnation: Incarnation, after: u64) -> EventsView {
        let newer = self.ring.iter().filter(|event| event.number > after);
        EventsView {
            node,
            incarnation,
            events: newer.cloned().collect(),
            latest: self.latest,
        }
    }

    fn explain(&mut self, cause: Cause, why: &str, version: u64) {
        if version <= self.told {
            let number = self.untold.remove(&cause);
            let event = number.and_then(|number| {
                let back = usize::try_from(self.latest.checked_sub(number)?).ok()?;
                self.ring.iter_mut().rev().nth(back)
            });
            if let Some(event) = event {
                why.clone_into(&mut event.why);
            }
            return;
        }
        if self.reasons.len() >= REASONS_KEPT {
            self.reasons.pop_first();
        }
        self.reasons.insert(cause, why.to_owned());
    }

    fn push(&mut self, kind: EventKind, at: (Duration, u64), what: String, why: String) {
        self.latest += 1;
        let (at, version) = at;
        self.ring.push_back(Event {
            number: self.latest,
            at,
            version,
            kind,
            what,
            why,
        });
        while self.ring.len() > EVENTS_KEPT {
            self.ring.pop_front();
        }
    }

    /// The event that was told last lacks its reason.
    fn lacks(&mut self, cause: Cause) {
        let gone = self.latest.saturating_sub(EVENTS_KEPT as u64);
        self.untold.retain(|_, number| *number > gone);
        self.untold.insert(cause, self.latest);
    }

    fn node(&mut self, before: Option<&NodeRec>, id: NodeId, now: &NodeRec, at: (Duration, u64)) {
        let named = Named {
            id,
            name: now.name.clone(),
        };
        let mut tell = |what: String, why: String| self.push(EventKind::Node, at, what, why);
        let life = now.incarnation;
        let Some(before) = before else {
            tell(
                format!("{named} has come"),
                format!("it registered at incarnation {life}"),
            );
            if now.state != NodeState::Joining {
                tell(
                    format!("{named} is {}", state_word(now.state)),
                    String::new(),
                );
            }
            return;
        };
        if before.incarnation < life {
            let why = format!("it registered again at incarnation {life}");
            tell(format!("{named} has come back"), why);
        }
        if before.state != now.state
            && (before.incarnation == life || now.state != NodeState::Joining)
        {
            let member = Member {
                id,
                incarnation: life,
            };
            let why = match now.state {
                NodeState::Dead => self.reasons.remove(&Cause::Death(member)),
                _ => None,
            };
            let what = format!("{named} is {}", state_word(now.state));
            let lacks = now.state == NodeState::Dead && why.is_none();
            self.push(EventKind::Node, at, what, why.unwrap_or_default());
            if lacks {
                self.lacks(Cause::Death(member));
            }
        }
        if now.state == NodeState::Removed {
            return;
        }
        let mut tell = |what: String| self.push(EventKind::Node, at, what, String::new());
        if before.serves != now.serves {
            tell(format!("{named} serves {}", now.serves));
        }
        if before.addrs != now.addrs {
            tell(format!("{named} is reached at {}", now.addrs.join(", ")));
        }
        if before.routes_hash != now.routes_hash {
            tell(format!("{named} has other routes"));
        }
    }

    /// How the change of a slot is told.
    fn slot(&mut self, before: &SlotRec, slot: SlotId, now: &SlotRec, after: &Table) -> Vec<Alike> {
        let mut told = Vec::new();
        let id = |member: Option<Member>| member.map(|member| member.id);
        let (from, to) = (id(before.owner), id(now.owner));
        let completed = before.moving.filter(|moving| now.via == Some(moving.id));
        if let Some(moving) = completed {
            told.push(alike(COMPLETED, from, to, reason_word(moving.reason)));
        } else {
            let given_up = before
                .moving
                .filter(|moving| now.moving.is_none_or(|next| next.id != moving.id));
            if let Some(moving) = given_up {
                let why = self.why_given_up(slot, moving, before.owner, after);
                told.push(alike(ABORTED, from, Some(moving.to.id), &why));
            }
            if before.epoch < now.epoch && now.owner.is_some() {
                let why = before.owner.map_or("it had none", |owner| {
                    if after.is_living(owner) {
                        "what was between was not seen"
                    } else {
                        "its owner is gone"
                    }
                });
                told.push(alike(GRANTED, from, to, why));
            } else if before.owner.is_some() && now.owner.is_none() {
                told.push(alike(VACATED, from, None, "its owner is gone"));
            }
        }
        let began = now
            .moving
            .filter(|moving| before.moving.is_none_or(|past| past.id != moving.id));
        if let Some(moving) = began {
            let why = reason_word(moving.reason);
            told.push(alike(BEGAN, to, Some(moving.to.id), why));
        }
        told
    }

    fn why_given_up(
        &mut self,
        slot: SlotId,
        moving: Move,
        owner: Option<Member>,
        after: &Table,
    ) -> String {
        if let Some(why) = self.reasons.remove(&Cause::Abort(slot, moving.id)) {
            return why;
        }
        if !after.is_living(moving.to) {
            "its target is gone".to_owned()
        } else if !after.is_up(moving.to) {
            "its target drains".to_owned()
        } else if owner.is_some_and(|owner| !after.is_living(owner)) {
            "its source is gone".to_owned()
        } else {
            String::new()
        }
    }

    fn tell_slots(
        &mut self,
        alike: &Alike,
        first: SlotId,
        count: usize,
        after: &Table,
        at: (Duration, u64),
    ) {
        let (slots, begin, go, are) = if count == 1 {
            (format!("slot {}", first.index()), "begins", "moves", "is")
        } else {
            (format!("{count} slots"), "begin", "move", "are")
        };
        let named = |id: Option<NodeId>| {
            id.map_or_else(|| "nobody".to_owned(), |id| name(after, id).to_string())
        };
        let (from, to) = (named(alike.from), named(alike.to));
        let (kind, what) = match alike.kind {
            COMPLETED => (
                EventKind::MoveCompleted,
                format!("{slots} moved from {from} to {to}"),
            ),
            ABORTED => (
                EventKind::MoveAborted,
                format!("{slots} no longer {go} from {from} to {to}"),
            ),
            BEGAN => (
                EventKind::MoveBegan,
                format!("{slots} {begin} to move from {from} to {to}"),
            ),
            VACATED => (EventKind::Grant, format!("{slots} of {from} {are} vacant")),
            _ if alike.from.is_none() => (EventKind::Grant, format!("{slots} granted to {to}")),
            _ => (
                EventKind::Grant,
                format!("{slots} of {from} granted to {to}"),
            ),
        };
        self.push(kind, at, what, alike.why.clone());
    }

    fn settings(&mut self, before: &Settings, now: &Settings, at: (Duration, u64)) {
        let mut tell = |what: String| {
            let why = "an operator asked for it".to_owned();
            self.push(EventKind::Settings, at, what, why);
        };
        if before.voters != now.voters {
            tell(format!("{} voters are wanted", now.voters));
        }
        if before.moves_paused != now.moves_paused {
            let word = if now.moves_paused {
                "paused"
            } else {
                "resumed"
            };
            tell(format!("moves are {word}"));
        }
        if before.protocol != now.protocol {
            tell(format!("settings need protocol {}", now.protocol));
        }
    }
}

const BEGAN: u8 = 0;
const COMPLETED: u8 = 1;
const ABORTED: u8 = 2;
const VACATED: u8 = 3;
const GRANTED: u8 = 4;

fn alike(kind: u8, from: Option<NodeId>, to: Option<NodeId>, why: &str) -> Alike {
    Alike {
        kind,
        from,
        to,
        why: why.to_owned(),
    }
}

const fn reason_word(reason: MoveReason) -> &'static str {
    match reason {
        MoveReason::Rebalance => "rebalance",
        MoveReason::Drain => "drain",
        MoveReason::Admin => "an operator asked for it",
    }
}
