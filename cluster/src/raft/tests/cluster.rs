//! Several nodes: elections, proposals, partitions, growth, joint configurations, snapshots.

use std::collections::BTreeSet;
use std::time::Duration;

use super::net::{Net, Nodes, join};
use super::{genesis, identity, register, until};
use crate::raft::records::Key;
use crate::raft::{Error, FOUNDER, Raft, ReplaceError, Stopped, Store, Timing};
use crate::{Command, Member, NodeId, NodeState, Outcome, Refusal, Settings};

const SECOND: Duration = Duration::from_secs(1);

fn others(nodes: &Nodes, than: NodeId) -> Vec<NodeId> {
    let ids = nodes.rafts.keys().copied();
    ids.filter(|id| *id != than).collect()
}

fn declare_dead(member: Member, by: &Raft) -> Command {
    Command::DeclareDead {
        member,
        why: "silent".to_owned(),
        leader: by.leader().expect("it knows a leader"),
        grants: Vec::new(),
    }
}

#[tokio::test(start_paused = true)]
async fn three_nodes_elect_propose_and_apply_equal_tables() {
    let nodes = Nodes::of(3, Timing::default()).await;
    let leader = nodes.leader().await;
    let member = join(&leader, "late", 9).await;
    assert!(leader.table().table().is_up(member));
    nodes.agree(&leader).await;
    let elsewhere = nodes.raft(others(&nodes, leader.id())[0]);
    let refused = elsewhere.propose(Command::Barrier { nonce: 1 }).await;
    let Err(Error::NotLeader { leader: Some(id) }) = refused else {
        panic!("a follower sends on: {refused:?}")
    };
    assert_eq!(id, leader.id());
    assert!(elsewhere.linearizable(SECOND).await.is_err());
}

#[tokio::test(start_paused = true)]
async fn a_barrier_answers_with_its_nonce_and_proves_the_leadership_that_wrote_it() {
    let nodes = Nodes::of(3, Timing::default()).await;
    let leader = nodes.leader().await;
    let committed = leader
        .propose(Command::Barrier { nonce: 42 })
        .await
        .unwrap();
    assert_eq!(committed.outcome, Outcome::Barrier(42));
    let proved = leader.linearizable(SECOND).await.unwrap();
    assert_eq!(proved, committed.log.leader);
    assert_eq!(leader.leader(), Some(proved));
}

#[tokio::test(start_paused = true)]
async fn when_the_leader_dies_another_takes_over_with_all_that_was_committed() {
    let mut nodes = Nodes::of(3, Timing::default()).await;
    let old = nodes.leader().await;
    let member = join(&old, "late", 9).await;
    let began = tokio::time::Instant::now();
    nodes.crash(old.id()).await;
    let new = nodes.leader().await;
    let took = began.elapsed();
    assert!(took < 2 * Timing::default().worst_election(3), "{took:?}");
    assert!(new.table().table().is_up(member));
    assert_eq!(old.stopped().await, Stopped::Shutdown);
    let back = nodes.start(old.id()).await;
    let committed = new.propose(Command::Barrier { nonce: 1 }).await.unwrap();
    until("it has caught up", &back, |status| {
        status.applied >= Some(committed.log.index)
    })
    .await;
    nodes.agree(&new).await;
}

#[tokio::test(start_paused = true)]
async fn a_leader_that_is_cut_off_proves_nothing_and_follows_once_the_partition_heals() {
    let nodes = Nodes::of(3, Timing::default()).await;
    let old = nodes.leader().await;
    nodes.net.isolate(old.id());
    let began = tokio::time::Instant::now();
    let proof = old.linearizable(Duration::from_millis(300)).await;
    assert!(matches!(
        proof,
        Err(Error::NoQuorum { .. } | Error::NotLeader { .. })
    ));
    assert!(began.elapsed() < Duration::from_millis(400));
    let lost = old.propose(Command::Barrier { nonce: 1 }).await;
    assert!(
        matches!(lost, Err(Error::Timeout { .. } | Error::NotLeader { .. })),
        "{lost:?}"
    );
    let rest = others(&nodes, old.id());
    let new = until("another leads", &nodes.raft(rest[0]), |status| {
        status.leader.is_some_and(|leader| leader.node != old.id())
    })
    .await;
    let new = nodes.raft(new.leader.unwrap().node);
    let member = join(&new, "late", 9).await;
    assert!(!old.table().table().is_up(member));
    nodes.net.heal();
    until("it follows", &old, |status| {
        !status.leads && status.leader.is_some()
    })
    .await;
    nodes.agree(&new).await;
}

#[tokio::test(start_paused = true)]
async fn a_leader_far_from_its_voters_proves_itself_within_a_heartbeat_that_is_long_enough() {
    let timing = Timing {
        heartbeat: Duration::from_millis(600),
        election: Duration::from_secs(2),
        ..Timing::default()
    };
    let nodes = Nodes::of(3, timing).await;
    let leader = nodes.leader().await;
    nodes.net.lossy(0, Duration::from_millis(100));
    assert_eq!(leader.round_limit(), timing.heartbeat);
    leader.linearizable(leader.round_limit()).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_voter_whose_answers_are_lost_holds_up_nobody() {
    let nodes = Nodes::of(3, Timing::default()).await;
    let leader = nodes.leader().await;
    let mute = others(&nodes, leader.id())[0];
    nodes.net.cut(mute, leader.id());
    for nonce in 0..20 {
        let command = Command::Barrier { nonce };
        let committed = leader.propose(command).await.unwrap();
        assert_eq!(committed.outcome, Outcome::Barrier(nonce));
        leader.linearizable(SECOND).await.unwrap();
    }
    nodes.net.heal();
    nodes.agree(&leader).await;
}

#[tokio::test(start_paused = true)]
async fn loss_and_delay_cost_time_but_no_agreement() {
    let nodes = Nodes::of(3, Timing::default()).await;
    nodes.net.lossy(15, Duration::from_millis(4));
    let mut done = 0;
    for data in 10..30 {
        let leader = nodes.leader().await;
        let (command, _) = register(&leader, &format!("n{data}"), data);
        done += usize::from(leader.propose(command).await.is_ok());
    }
    assert!(done >= 10, "{done} of 20 were committed");
    nodes.net.lossy(0, Duration::from_millis(1));
    let leader = nodes.leader().await;
    leader.propose(Command::Barrier { nonce: 1 }).await.unwrap();
    nodes.agree(&leader).await;
    let table = leader.table().table();
    assert!(table.nodes().len() >= 3 + done);
}

#[tokio::test(start_paused = true)]
async fn voters_grow_from_one_to_three_to_five_two_at_a_time() {
    let mut nodes = Nodes::founded(Timing::default()).await;
    for data in 2..=5 {
        nodes.join(data).await;
    }
    let leader = nodes.leader().await;
    assert_eq!(nodes.tend(3).await, [1, 3]);
    assert_eq!(leader.tend_voters().await.unwrap(), None);
    let settings = Settings {
        voters: 5,
        ..leader.table().table().settings().clone()
    };
    leader
        .propose(Command::SetSettings { settings })
        .await
        .unwrap();
    assert_eq!(nodes.tend(5).await, [3, 5]);
    let members = leader.status().borrow().members.clone();
    assert_eq!(
        members.configs,
        [nodes.rafts.keys().copied().collect::<BTreeSet<_>>()]
    );
    assert!(members.learners.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_change_of_voters_that_a_lost_leader_began_is_finished_by_the_next() {
    let mut nodes = Nodes::of(3, Timing::default()).await;
    let old = nodes.leader().await;
    let (fourth, fifth) = (nodes.join(4).await, nodes.join(5).await);
    for raft in [&fourth, &fifth] {
        old.add_learner(raft.id(), Vec::new()).await.unwrap();
        until("it follows", raft, |status| status.version > 0).await;
    }
    let wanted: BTreeSet<NodeId> = nodes.rafts.keys().copied().collect();
    let changing = {
        let (old, wanted) = (old.clone(), wanted.clone());
        tokio::spawn(async move { old.set_voters(&wanted).await })
    };
    // The joint configuration is in the log of others; then nothing of the leader arrives any more.
    let witness = nodes.raft(others(&nodes, old.id())[0]);
    until("it changes", &witness, |status| status.members.is_joint()).await;
    nodes.net.isolate(old.id());
    assert!(
        changing.await.unwrap().is_err(),
        "the old leader could not finish"
    );
    until("it is finished", &witness, |status| {
        status.members.configs == [wanted.clone()]
            && status.leader.is_some_and(|leader| leader.node != old.id())
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_dead_voter_is_removed_once_a_learner_has_caught_up_to_take_its_place() {
    let mut nodes = Nodes::of(3, Timing::default()).await;
    let leader = nodes.leader().await;
    let dead = others(&nodes, leader.id())[0];
    let living = leader.remove(dead).await;
    assert!(matches!(living, Err(Error::Replace(ReplaceError::Living(id))) if id == dead));
    nodes.crash(dead).await;
    let member = leader.table().table().member(dead).unwrap();
    leader.propose(declare_dead(member, &leader)).await.unwrap();
    let nobody = leader.remove(dead).await;
    assert!(matches!(nobody, Err(Error::Replace(ReplaceError::NoLearner(id))) if id == dead));
    let newcomer = nodes.join(4).await;
    leader.tend_voters().await.unwrap();
    until("it has caught up", &leader, |status| {
        status.members.has_caught_up(newcomer.id())
    })
    .await;
    leader.remove(dead).await.unwrap();
    let status = until("it votes", &newcomer, |status| {
        !status.members.is_joint() && status.members.voters().contains(&newcomer.id())
    })
    .await;
    assert_eq!(status.members.voters().len(), 3);
    assert!(!status.members.voters().contains(&dead));
    let table = leader.table().table();
    assert_eq!(table.node(dead).unwrap().state, NodeState::Removed);
}

#[tokio::test(start_paused = true)]
async fn a_death_declared_by_an_old_leader_is_ignored_in_a_later_leadership() {
    let nodes = Nodes::of(3, Timing::default()).await;
    let old = nodes.leader().await;
    let rest = others(&nodes, old.id());
    let member = old.table().table().member(rest[0]).unwrap();
    let command = declare_dead(member, &old);
    let proposed = old.leader().unwrap();
    nodes.net.isolate(old.id());
    let seen = until("another leads", &nodes.raft(rest[0]), |status| {
        status.leader.is_some_and(|leader| leader.node != old.id())
    })
    .await;
    nodes.net.heal();
    let new = nodes.raft(seen.leader.unwrap().node);
    new.linearizable(5 * SECOND).await.unwrap();
    let late = new.propose(command).await.unwrap();
    let logged = late.log.leader;
    assert_ne!(logged, proposed);
    assert_eq!(
        late.outcome,
        Outcome::Refused(Refusal::Leader { proposed, logged })
    );
    new.propose(Command::Barrier { nonce: 1 }).await.unwrap();
    nodes.agree(&new).await;
    for raft in nodes.rafts.values() {
        assert!(raft.table().table().is_up(member));
    }
}

#[tokio::test(start_paused = true)]
async fn a_follower_that_was_away_gets_the_snapshot() {
    let timing = Timing {
        snapshot_every: 40,
        keep: 5,
        ..Timing::default()
    };
    let mut nodes = Nodes::of(3, timing).await;
    let leader = nodes.leader().await;
    let away = others(&nodes, leader.id())[0];
    let before = nodes.raft(away).status().borrow().applied;
    nodes.crash(away).await;
    for data in 10..80 {
        leader
            .propose(register(&leader, &format!("n{data}"), data).0)
            .await
            .unwrap();
    }
    until("it has a snapshot", &leader, |status| {
        status.snapshot > before
    })
    .await;
    let store = nodes.store(leader.id());
    let purged = crate::codec::decode_record::<Option<crate::raft::types::LogId>>(
        &store.records.get(Key::Purged).unwrap().unwrap(),
    );
    assert!(
        purged.unwrap().map(|log| log.index) > before,
        "only a snapshot can help"
    );
    let back = nodes.start(away).await;
    let status = until("it has the snapshot", &back, |status| {
        status.version == leader.table().table().version()
    })
    .await;
    assert!(status.snapshot > before, "{status:?}");
    nodes.agree(&leader).await;
}

#[tokio::test(start_paused = true)]
async fn who_watches_gets_deltas_and_the_whole_table_where_they_do_not_reach() {
    use crate::raft::Since;
    let nodes = Nodes::founded(Timing::default()).await;
    let raft = nodes.raft(FOUNDER);
    let mut watch = raft.table();
    let seen = watch.table();
    let mut view = crate::View::new((*seen).clone());
    join(&raft, "n2", 2).await;
    assert!(watch.changed().await);
    let Since::Delta(delta) = watch.since(seen.version()) else {
        panic!("a delta is kept")
    };
    assert_eq!(view.advance(&delta), crate::Advance::Advanced);
    assert_eq!(view.table(), &*watch.table());
    assert!(matches!(
        watch.since(view.table().version()),
        Since::Unchanged
    ));
    assert!(matches!(watch.since(u64::MAX), Since::Whole(table) if table == watch.table()));
}

#[tokio::test(start_paused = true)]
async fn a_majority_lost_for_good_is_recovered_from_the_only_survivor() {
    let mut nodes = Nodes::of(3, Timing::default()).await;
    let leader = nodes.leader().await;
    let member = join(&leader, "late", 9).await;
    nodes.agree(&leader).await;
    let before = leader.table().table();
    let survivor = others(&nodes, leader.id())[0];
    for id in nodes.rafts.keys().copied().collect::<Vec<_>>() {
        nodes.crash(id).await;
    }
    let table = nodes.store(survivor).recover().unwrap();
    assert_eq!(table.cluster().recovery, 1);
    assert!(table.version() > before.version() + u64::from(u32::MAX));
    let alone = nodes.start(survivor).await;
    until("it leads", &alone, |status| status.leads).await;
    assert_eq!(*alone.table().table(), table);
    assert_eq!(table.node(member.id).unwrap().state, NodeState::Dead);
    let voters = alone.status().borrow().members.voters();
    assert_eq!(voters, BTreeSet::from([survivor]));
    let newcomer = nodes.join(20).await;
    alone.add_learner(newcomer.id(), Vec::new()).await.unwrap();
    nodes.agree(&alone).await;
}

#[tokio::test(start_paused = true)]
async fn a_store_that_refuses_a_write_stops_raft_and_says_so() {
    let nodes = Nodes::founded(Timing::default()).await;
    let raft = nodes.raft(FOUNDER);
    nodes
        .memory(FOUNDER)
        .refuse(Some("no space left".to_owned()));
    let failed = raft.propose(Command::Barrier { nonce: 1 }).await;
    assert!(failed.is_err(), "{failed:?}");
    let why = raft.stopped().await;
    assert!(why.is_fatal());
    assert!(why.to_string().contains("no space left"), "{why}");
}

#[tokio::test(start_paused = true)]
async fn bytes_that_are_no_call_are_refused_and_do_no_harm() {
    let nodes = Nodes::founded(Timing::default()).await;
    let raft = nodes.raft(FOUNDER);
    for junk in [&b""[..], b"\xff", b"\x00\x01\x02", &[0x7f; 200]] {
        assert!(matches!(raft.handle(junk).await, Err(Error::Malformed(_))));
    }
    raft.linearizable(SECOND).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_cluster_is_founded_once() {
    let nodes = Nodes::founded(Timing::default()).await;
    let raft = nodes.raft(FOUNDER);
    let version = raft.table().table().version();
    raft.found(Vec::new()).await.unwrap();
    assert_eq!(raft.table().table().version(), version);
}

#[tokio::test(start_paused = true)]
async fn timers_that_contradict_each_other_are_refused() {
    let timing = Timing {
        heartbeat: Duration::from_millis(500),
        ..Timing::default()
    };
    let store = Store::memory(identity(1), &genesis());
    let refused = Raft::start(&store, timing, Net::new().end(FOUNDER)).await;
    assert!(matches!(refused, Err(Error::Timing(_))));
}

#[test]
fn the_worst_election_is_what_the_design_says() {
    let timing = Timing::default();
    assert_eq!(timing.worst_election(3), Duration::from_millis(650));
    assert_eq!(timing.worst_election(5), Duration::from_millis(770));
}
