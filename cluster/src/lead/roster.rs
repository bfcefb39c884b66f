//! What the leader remembers of nodes beside the table: since when each is as it is, which lives it
//! has condemned, who dies too often, who is cut off. All of it begins anew with each leadership.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::{LeadEffect, Note};
use crate::allocation::Deaths;
use crate::{Incarnation, Member, NodeId, NodeRec, NodeState, Table};

/// What of a node matters to the plan, as it was last seen.
#[derive(Debug, Clone)]
struct Seen {
    incarnation: Incarnation,
    state: NodeState,
    owns: bool,
    build: String,
    /// Since when it is in this state, as far as this leadership has seen.
    since: Duration,
}

impl Seen {
    fn is_still(&self, node: &NodeRec) -> bool {
        self.is_same_state(node)
            && self.owns == (node.roles.region && node.serves.channel)
            && self.build == node.build
    }

    fn is_same_state(&self, node: &NodeRec) -> bool {
        self.incarnation == node.incarnation && self.state == node.state
    }
}

/// A life whose death was proposed, by itself or by the registration of its successor.
#[derive(Debug, Clone, Copy)]
struct Dying {
    why: &'static str,
    /// Whether it is still, or again, to be proposed.
    wanted: bool,
    /// Whether it died, or left.
    died: bool,
}

/// What is new about the nodes.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct News {
    /// Anything that the plan depends on.
    pub(super) changed: bool,
    /// A life that was not there before.
    pub(super) born: bool,
}

/// What is remembered of nodes.
#[derive(Debug, Clone, Default)]
pub(super) struct Roster {
    seen: BTreeMap<NodeId, Seen>,
    dying: BTreeMap<Member, Dying>,
    pub(super) deaths: Deaths,
    cut_off: BTreeSet<NodeId>,
    degraded: BTreeSet<NodeId>,
    /// Nodes that drain and have said that half of the time for it is over.
    pub(super) hurried: BTreeSet<NodeId>,
}

impl Roster {
    /// The table has changed.
    pub(super) fn table(
        &mut self,
        table: &Table,
        now: Duration,
        effects: &mut Vec<LeadEffect>,
    ) -> News {
        let mut news = News::default();
        for (id, node) in table.nodes() {
            let known = self.seen.get(id);
            if known.is_some_and(|seen| seen.is_still(node)) {
                continue;
            }
            news.changed = true;
            news.born |= node.state.is_living()
                && known.is_none_or(|seen| seen.incarnation != node.incarnation);
            let same = known.filter(|seen| seen.is_same_state(node));
            let seen = Seen {
                incarnation: node.incarnation,
                state: node.state,
                owns: node.roles.region && node.serves.channel,
                build: node.build.clone(),
                since: same.map_or(now, |seen| seen.since),
            };
            self.seen.insert(*id, seen);
        }
        self.hurried.retain(|id| drains(table, *id));
        let over: Vec<_> = self
            .dying
            .iter()
            .filter(|(member, _)| !table.is_living(**member))
            .map(|(member, dying)| (*member, dying.died))
            .collect();
        for (member, died) in over {
            self.dying.remove(&member);
            if died {
                let held = |deaths: &Deaths| deaths.quarantined(now).any(|id| id == member.id);
                let before = held(&self.deaths);
                self.deaths.died(member.id, now);
                if held(&self.deaths) && !before {
                    effects.push(LeadEffect::Note(Note::Quarantined(member.id)));
                }
            }
        }
        news
    }

    /// A node says that half of the time for its drain is over. Says whether that is news.
    pub(super) fn hurry(&mut self, id: NodeId, table: &Table) -> bool {
        drains(table, id) && self.hurried.insert(id)
    }

    /// The death of a life is to be proposed.
    pub(super) fn condemn(&mut self, member: Member, why: &'static str, left: bool) {
        let dying = Dying {
            why,
            wanted: true,
            died: !left,
        };
        self.dying.insert(member, dying);
    }

    /// The registration that ends a life is being proposed.
    pub(super) fn replace(&mut self, member: Member, left: bool) {
        self.dying.entry(member).or_insert(Dying {
            why: "its successor registers",
            wanted: false,
            died: !left,
        });
    }

    /// The proposal of a death came to nothing.
    pub(super) fn condemn_again(&mut self, member: Member) {
        if let Some(dying) = self.dying.get_mut(&member) {
            dying.wanted = true;
        }
    }

    /// Every life that was condemned and that the table still counts as living.
    pub(super) fn dying(&self) -> Vec<Member> {
        self.dying.keys().copied().collect()
    }

    /// Those whose death is to be proposed now. Each is told once.
    pub(super) fn take_wanted(&mut self) -> Vec<(Member, &'static str)> {
        let wanted = self.dying.iter_mut().filter(|(_, dying)| dying.wanted);
        wanted
            .map(|(member, dying)| {
                dying.wanted = false;
                (*member, dying.why)
            })
            .collect()
    }

    /// Whether any is.
    pub(super) fn any_wanted(&self) -> bool {
        self.dying.values().any(|dying| dying.wanted)
    }

    /// How long nodes have been in this state.
    pub(super) fn been(&self, state: NodeState, now: Duration) -> BTreeMap<NodeId, Duration> {
        let are = self.seen.iter().filter(|(_, seen)| seen.state == state);
        are.map(|(id, seen)| (*id, now.saturating_sub(seen.since)))
            .collect()
    }

    /// Who is cut off and who degraded by now. Says whether that is news.
    pub(super) fn heard(
        &mut self,
        cut_off: BTreeSet<NodeId>,
        degraded: BTreeSet<NodeId>,
        table: &Table,
        effects: &mut Vec<LeadEffect>,
    ) -> bool {
        if cut_off == self.cut_off && degraded == self.degraded {
            return false;
        }
        let living = |id: &&NodeId| table.node(**id).is_some_and(|node| node.state.is_living());
        let mut news = false;
        let mut tell =
            |before: &BTreeSet<NodeId>, now: &BTreeSet<NodeId>, note: fn(NodeId) -> Note| {
                // Who has died meanwhile has not got better.
                for id in now.difference(before).filter(living) {
                    news = true;
                    effects.push(LeadEffect::Note(note(*id)));
                }
            };
        tell(&self.cut_off, &cut_off, Note::CutOff);
        tell(&cut_off, &self.cut_off, Note::Straight);
        tell(&self.degraded, &degraded, Note::Degraded);
        tell(&degraded, &self.degraded, Note::Recovered);
        self.cut_off = cut_off;
        self.degraded = degraded;
        news
    }
}

fn drains(table: &Table, id: NodeId) -> bool {
    table
        .node(id)
        .is_some_and(|node| node.state == NodeState::Draining)
}
