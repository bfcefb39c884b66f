//! Which node a process speaks as: where the leader's answer to it goes.

use std::collections::BTreeMap;

use crate::lease::Heartbeat;
use crate::{BootId, NodeId};

/// The node that each process last spoke as, by what came straight from it: a voter that passes
/// something on is not who is to be answered.
#[derive(Debug, Default)]
pub(super) struct Spoke(BTreeMap<BootId, NodeId>);

impl Spoke {
    /// A heartbeat has come, through that voter if it is one, on a link from that node.
    pub(super) fn heard(&mut self, heartbeat: &Heartbeat, via: Option<NodeId>, from: NodeId) {
        if via.is_none() {
            self.0.insert(heartbeat.boot, from);
        }
    }

    /// A process has asked to be registered on a link of its own, as that node if it was one before.
    pub(super) fn asked(&mut self, boot: BootId, from: NodeId) {
        if from != NodeId(0) {
            self.0.insert(boot, from);
        }
    }

    pub(super) fn node(&self, boot: BootId) -> Option<NodeId> {
        self.0.get(&boot).copied()
    }

    pub(super) fn forget(&mut self, boot: BootId) {
        self.0.remove(&boot);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::member;

    #[test]
    fn a_process_is_answered_where_it_speaks_itself_not_where_others_pass_it_on() {
        let (node, voter, boot) = (NodeId(7), NodeId(3), BootId(1));
        let heartbeat = Heartbeat {
            member: member(7, 1),
            boot,
            seq: 1,
            version: 0,
            degraded: false,
            closed: 0,
        };
        let mut spoke = Spoke::default();
        spoke.heard(&heartbeat, Some(voter), voter);
        assert_eq!(spoke.node(boot), None);
        spoke.heard(&heartbeat, None, node);
        spoke.heard(&heartbeat, Some(voter), voter);
        assert_eq!(spoke.node(boot), Some(node));
        spoke.forget(boot);
        spoke.asked(boot, NodeId(0));
        assert_eq!(spoke.node(boot), None, "it is no node yet");
        spoke.asked(boot, node);
        assert_eq!(spoke.node(boot), Some(node));
    }
}
