//! Registrations on the leader: those that replace a living incarnation wait until that one is over
//! (R3), and are refused after 5 s if it still lives (R10): a copied directory displaces nobody.

use std::collections::BTreeMap;
use std::time::Duration;

use super::{GrantorEffect, Reading};
use crate::{BootId, DataId, Incarnation, Member, NodeId, Registration, Table};

/// How long a registration waits for the incarnation that it replaces.
const WAIT: Duration = Duration::from_secs(5);

/// Why a node is not registered.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RegisterRefusal {
    /// The incarnation that it would replace goes on living.
    #[error("node {0} lives: is this data directory a copy of its?")]
    OldLives(NodeId),
    /// The incarnation is not newer, and another process had it.
    #[error(
        "node {id} has incarnation {known} from another process, this one has {given}: is the data directory a copy or an old backup?"
    )]
    SecondProcess {
        /// The node.
        id: NodeId,
        /// Its latest life.
        known: Incarnation,
        /// The life that was refused.
        given: Incarnation,
    },
    /// Another process of the same directory asked first.
    #[error("another process with this data directory is being registered")]
    AnotherAsks,
}

/// Registrations that wait.
#[derive(Debug, Clone, Default)]
pub(super) struct Registrar {
    waiting: BTreeMap<(DataId, BootId), (Registration, Reading)>,
}

impl Registrar {
    /// A node asks, or asks again.
    pub(super) fn ask(&mut self, node: Registration, now: Reading) {
        let since = self
            .waiting
            .get(&(node.data, node.boot))
            .map_or(now, |(_, since)| *since);
        self.waiting.insert((node.data, node.boot), (node, since));
    }

    /// What can be decided by now. `over` says whether a living incarnation may be replaced.
    pub(super) fn tick(
        &mut self,
        table: &Table,
        now: Reading,
        over: impl Fn(Member) -> bool,
    ) -> Vec<GrantorEffect> {
        let mut effects = Vec::new();
        let mut taken = Vec::new();
        self.waiting.retain(|(data, boot), (node, since)| {
            let refuse = |why| GrantorEffect::RefuseRegister {
                data: *data,
                boot: *boot,
                why,
            };
            if taken.contains(data) {
                effects.push(refuse(RegisterRefusal::AnotherAsks));
                return false;
            }
            let known = table.nodes().iter().find(|(_, known)| known.data == *data);
            let Some((id, known)) = known.filter(|(_, known)| known.state.is_living()) else {
                taken.push(*data);
                effects.push(GrantorEffect::Register {
                    node: node.clone(),
                    replaces: None,
                });
                return false;
            };
            let old = Member {
                id: *id,
                incarnation: known.incarnation,
            };
            if known.boot == *boot && known.incarnation == node.incarnation {
                effects.push(GrantorEffect::Register {
                    node: node.clone(),
                    replaces: None,
                });
                return false;
            }
            if node.incarnation <= known.incarnation {
                let (known, given) = (known.incarnation, node.incarnation);
                effects.push(refuse(RegisterRefusal::SecondProcess {
                    id: *id,
                    known,
                    given,
                }));
                return false;
            }
            if over(old) {
                taken.push(*data);
                effects.push(GrantorEffect::Register {
                    node: node.clone(),
                    replaces: Some(old),
                });
                return false;
            }
            if now.shortest_since(*since) > WAIT {
                effects.push(refuse(RegisterRefusal::OldLives(*id)));
                return false;
            }
            true
        });
        effects
    }
}
