//! The lead passes on without an election time-out.

use std::collections::BTreeSet;
use std::time::Duration;

use tokio::time::Instant;

use super::net::{Nodes, join};
use super::until;
use crate::raft::{Error, Timing};
use crate::{Command, LeaderId, NodeId, Settings};

const MILLI: Duration = Duration::from_millis(1);

/// From the word of the leader until the heir leads, among so many voters.
async fn handed_over(voters: u32) -> Duration {
    let nodes = Nodes::of(voters, Timing::default()).await;
    let old = nodes.leader().await;
    if voters > 3 {
        let settings = Settings {
            voters: 5,
            ..old.table().table().settings().clone()
        };
        let command = Command::SetSettings { settings };
        old.propose(command).await.unwrap();
        nodes.tend(5).await;
    }
    // It leads for a while: votes of its own are as old as its leadership.
    let member = join(&old, "late", 9).await;
    tokio::time::sleep(1000 * MILLI).await;
    let of: BTreeSet<NodeId> = nodes.rafts.keys().copied().collect();
    let (heir, leader, last) = old.heir(&of, 300 * MILLI).await.unwrap();
    assert_ne!(heir, old.id());
    let began = Instant::now();
    let heir = nodes.raft(heir);
    heir.succeed(leader, last, 600 * MILLI).await.unwrap();
    let took = began.elapsed();
    until("the old one follows", &old, |status| {
        status.leader.is_some_and(|leader| leader.node == heir.id())
    })
    .await;
    assert!(heir.table().table().is_up(member));
    heir.propose(Command::Barrier { nonce: 1 }).await.unwrap();
    nodes.agree(&heir).await;
    took
}

#[tokio::test(start_paused = true)]
async fn of_three_voters_the_leaders_vote_makes_its_heir_the_leader_at_once() {
    let took = handed_over(3).await;
    assert!(took < 20 * MILLI, "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn of_five_voters_the_heir_leads_as_soon_as_anothers_lease_is_over() {
    let took = handed_over(5).await;
    // Before anyone would stand for election by itself.
    assert!(took < 420 * MILLI, "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn nobody_succeeds_a_leader_that_is_none_or_whose_log_it_lacks() {
    let nodes = Nodes::of(3, Timing::default()).await;
    let old = nodes.leader().await;
    let of: BTreeSet<NodeId> = nodes.rafts.keys().copied().collect();
    let (heir, leader, last) = old.heir(&of, 300 * MILLI).await.unwrap();
    let heir = nodes.raft(heir);
    let earlier = LeaderId {
        term: leader.term - 1,
        ..leader
    };
    for (leader, last) in [(earlier, last), (leader, last + 1000)] {
        let refused = heir.succeed(leader, last, 600 * MILLI).await;
        assert!(matches!(refused, Err(Error::Timeout { .. })), "{refused:?}");
    }
    assert_eq!(old.status().borrow().leader, Some(leader));
    assert!(old.status().borrow().leads);
    let alone = BTreeSet::from([old.id()]);
    assert_eq!(old.heir(&alone, 300 * MILLI).await, None);
    assert_eq!(heir.heir(&of, 300 * MILLI).await, None, "it does not lead");
}
