//! Nodes that come and go for months.

use super::Net;
use super::net::registration;
use crate::event::PublishReply;
use crate::router::Router;
use centripeta_cluster::hold::Sender;
use centripeta_cluster::{BootId, Command, Incarnation, LeaderId, NodeId, Outcome, Shown, SlotId};
use std::sync::Arc;

async fn allow() -> PublishReply {
    PublishReply::allow()
}

/// How much a node keeps of what it sent back to processes.
fn kept(net: &Net) -> usize {
    let shared = &net.nodes[0].router.engine().shared;
    let shards = shared.shards.iter().map(|shard| shard.memory.bars().len());
    shards.sum::<usize>() + shared.forward.as_ref().unwrap().reception.marks()
}

#[tokio::test]
async fn ten_thousand_lives_of_a_node_leave_no_more_behind_than_one() {
    const LIVES: u128 = 10_000;
    let mut net = Net::of(2, |_| Router::new().publish("*", allow)).await;
    let shared = Arc::clone(&net.nodes[0].router.engine().shared);
    let forward = Arc::clone(shared.forward.as_ref().unwrap());
    let own = net.table.node(net.nodes[0].member.id).unwrap().boot;
    let bounced = |boot: BootId, slot: SlotId| {
        let sender = Sender { boot, core: 0 };
        forward.reception.mark(sender, slot);
        let shard = shared.layout.shard_of(slot).index();
        let mut bars = shared.shards[usize::from(shard)].memory.bars();
        bars.bounced(sender, slot, 1);
    };
    let slots: Vec<SlotId> = SlotId::all().take(8).collect();
    bounced(own, slots[0]);
    let mut before = net.nodes[1].member;
    let mut boot = net.table.node(before.id).unwrap().boot;
    let mut most = 0;
    for life in 0..LIVES {
        slots.iter().for_each(|slot| bounced(boot, *slot));
        most = most.max(kept(&net));
        // It starts anew: another process, a higher life.
        let mut node = registration(1);
        boot = BootId(1000 + life);
        node.boot = boot;
        node.incarnation = Incarnation(before.incarnation.0 + 1);
        let leader = LeaderId {
            term: 1,
            node: NodeId(1),
        };
        let grants = Vec::new();
        let outcome = net.commit(&Command::Register {
            node,
            leader,
            grants,
        });
        let Outcome::Registered(member) = outcome else {
            panic!("{outcome:?}")
        };
        let standing = &net.nodes[0].standing;
        let (me, boot) = (net.nodes[0].member, own);
        standing.show(Shown {
            table: Arc::new(net.table.clone()),
            me,
            boot,
        });
        net.nodes[0].ingress.died(before);
        before = member;
    }
    // What this node sent back to itself stays; of all others there is nothing.
    assert_eq!(kept(&net), 2, "after {LIVES} lives");
    assert_eq!(most, 2 + 2 * slots.len(), "of one life at a time");
}
