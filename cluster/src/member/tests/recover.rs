//! Three voters of which two are lost for good.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::time::Instant;

use super::super::{DataDir, Error, Identity, Joined, RecoverOutcome, Survey, recover, survey};
use super::{copy, found, genesis, lies, seven, voter};
use crate::peer::{Class, LinkError};
use crate::raft::{CallError, FOUNDER, Network, Raft, Status, Timing};
use crate::testing::registration;
use crate::{Command, Member, NodeId, NodeState, Outcome, Registration};

type Nodes = Arc<Mutex<BTreeMap<NodeId, Raft>>>;

/// Wires that never fail.
#[derive(Debug, Clone, Default)]
struct Wires(Nodes);

impl Wires {
    fn plug(&self, raft: &Raft) {
        self.0.lock().unwrap().insert(raft.id(), raft.clone());
    }

    fn unplug(&self, id: NodeId) {
        self.0.lock().unwrap().remove(&id);
    }
}

impl Network for Wires {
    async fn call(&self, to: NodeId, rpc: Vec<u8>) -> Result<Vec<u8>, CallError> {
        let node = self.0.lock().unwrap().get(&to).cloned();
        let node = node.ok_or(CallError::Unreachable(to))?;
        node.handle(&rpc).await.map_err(|error| CallError::Refused {
            to,
            why: error.to_string(),
        })
    }
}

async fn until(raft: &Raft, wanted: impl Fn(&Status) -> bool) -> Status {
    let mut status = raft.status();
    let waited = tokio::time::timeout(Duration::from_secs(20), status.wait_for(wanted)).await;
    waited.expect("it comes to that").unwrap().clone()
}

async fn register(leader: &Raft, name: &str, opened: &mut DataDir) -> Member {
    let node = Registration {
        data: opened.data(),
        incarnation: opened.incarnation(),
        boot: opened.boot(),
        ..registration(name, 0, 0)
    };
    let command = Command::Register {
        node,
        leader: leader.leader().unwrap(),
        grants: Vec::new(),
    };
    let outcome = leader.propose(command).await.unwrap().outcome;
    let Outcome::Registered(member) = outcome else {
        panic!("{outcome:?}")
    };
    let cluster = leader.table().table().cluster().clone();
    let joined = Joined {
        cluster: cluster.id,
        recovery: cluster.recovery,
        node: member.id,
    };
    assert_eq!(opened.joined(joined, member.incarnation).unwrap(), member);
    member
}

/// Waits until the tasks that used a directory have let go of it.
async fn ended(raft: Raft, opened: DataDir) {
    let log = opened.path().join("meta.redb");
    raft.shutdown().await.unwrap();
    drop((raft, opened));
    let free = async {
        while matches!(
            crate::raft::Store::open(&log),
            Err(crate::raft::StoreError::Locked { .. })
        ) {
            tokio::task::yield_now().await;
        }
    };
    let limit = Duration::from_secs(10);
    tokio::time::timeout(limit, free)
        .await
        .expect("it is let go");
}

/// Directories of three voters that ran and stopped, the third before the others. By node.
async fn three_voters(folder: &Path) -> Vec<(NodeId, PathBuf)> {
    let wires = Wires::default();
    let dirs: Vec<_> = ["a", "b", "c"].map(|name| folder.join(name)).into();
    found(&dirs[0]);
    let mut first = DataDir::open(&dirs[0]).unwrap();
    let leader = Raft::start(first.store().unwrap(), Timing::default(), wires.clone())
        .await
        .unwrap();
    wires.plug(&leader);
    assert!(first.founds().unwrap());
    leader.found(vec!["a:7946".to_owned()]).await.unwrap();
    until(&leader, |status| status.leads).await;
    assert!(!first.founds().unwrap());
    let member = register(&leader, "a", &mut first).await;
    assert_eq!(member.id, FOUNDER);
    let mut running = vec![(leader.clone(), first)];
    for (name, dir) in [("b", &dirs[1]), ("c", &dirs[2])] {
        let mut opened = DataDir::open(dir).unwrap();
        register(&leader, name, &mut opened).await;
        let begun = running[0].1.store().unwrap().genesis().unwrap();
        let store = opened.keep_log(&begun).unwrap();
        let raft = Raft::start(&store, Timing::default(), wires.clone())
            .await
            .unwrap();
        wires.plug(&raft);
        running.push((raft, opened));
    }
    let mut status = leader.status();
    let voted = async {
        loop {
            let members = status.borrow_and_update().members.clone();
            if members.voters().len() == 3 && !members.is_joint() {
                break;
            }
            if leader.tend_voters().await.unwrap().is_none() {
                status.changed().await.unwrap();
            }
        }
    };
    let limit = Duration::from_secs(20);
    tokio::time::timeout(limit, voted)
        .await
        .expect("three vote");
    // The last one misses what comes now.
    let (raft, opened) = running.pop().unwrap();
    until(&raft, |status| status.members.voters().len() == 3).await;
    wires.unplug(raft.id());
    let mut places = vec![(raft.id(), dirs[2].clone())];
    ended(raft, opened).await;
    let missed = leader.propose(Command::Remove { id: NodeId(77) }).await;
    let index = missed.unwrap().log.index;
    for (raft, _) in &running {
        until(raft, |status| status.applied >= Some(index)).await;
    }
    for ((raft, opened), dir) in running.into_iter().zip(&dirs).rev() {
        wires.unplug(raft.id());
        places.push((raft.id(), dir.clone()));
        ended(raft, opened).await;
    }
    places.reverse();
    places
}

fn recovered(outcome: RecoverOutcome) -> Survey {
    match outcome {
        RecoverOutcome::Recovered(survey) => survey,
        RecoverOutcome::Alone(survey) => panic!("{survey:?}"),
    }
}

#[tokio::test]
async fn the_survivor_with_the_longest_log_goes_on_alone_and_the_others_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let places = three_voters(folder.path()).await;
    let surveys: Vec<_> = places.iter().map(|(_, dir)| survey(dir).unwrap()).collect();
    for (survey, (id, _)) in surveys.iter().zip(&places) {
        assert_eq!(survey.joined.node, *id);
        assert_eq!(survey.extent.voters.len(), 3);
        assert!(survey.votes() && !survey.is_alone());
        assert!(survey.extent.committed <= survey.extent.last);
    }
    assert_eq!(surveys[0].reach(), surveys[1].reach());
    assert!(surveys[2].reach() < surveys[1].reach());

    let (survivor, dir) = &places[1];
    let before = &surveys[1];
    let began = Instant::now();
    let after = recovered(recover(dir).unwrap());
    let grace = before.extent.table.cluster().grace();
    assert!(
        began.elapsed() >= grace,
        "leases that had begun are waited out"
    );
    assert_eq!(
        after.joined,
        Joined {
            recovery: 1,
            ..before.joined
        }
    );
    assert_eq!(lies(dir).joined, Some(after.joined));
    assert!(after.is_alone());
    let (old, new) = (&before.extent.table, &after.extent.table);
    assert_eq!(new.version(), old.version() + (1 << 32));
    for (slot, rec) in new.slots() {
        assert_eq!(rec.epoch.0, old.slot(slot).epoch.0 + (1 << 32));
    }
    for (id, node) in new.nodes() {
        assert_eq!(node.state == NodeState::Dead, id != survivor, "node {id}");
    }
    // Once more changes nothing, and waits for nothing.
    let began = Instant::now();
    let RecoverOutcome::Alone(again) = recover(dir).unwrap() else {
        panic!("recovered twice")
    };
    assert!(began.elapsed() < grace);
    assert_eq!(again, after);

    let mut opened = DataDir::open(dir).unwrap();
    assert!(!opened.founds().unwrap());
    let raft = Raft::start(opened.store().unwrap(), Timing::default(), Wires::default())
        .await
        .unwrap();
    until(&raft, |status| status.leads).await;
    let member = register(&raft, "b", &mut opened).await;
    assert_eq!(member.id, *survivor);
    assert_eq!(member.incarnation, opened.incarnation());
    assert_eq!(
        raft.status().borrow().members.voters(),
        BTreeSet::from([*survivor])
    );

    // Who missed it is told so.
    let missed = DataDir::open(&places[2].1).unwrap();
    let hello = missed.greeting("c").hello(Class::Control, 1, [0; 32]);
    let refused = opened.greeting("b").check(&hello);
    assert!(
        matches!(refused, Err(LinkError::Recovery { ours: 1, theirs: 0 })),
        "{refused:?}"
    );
    ended(raft, opened).await;
}

#[tokio::test]
async fn a_recovery_cut_short_is_whole_at_the_next_start_and_not_done_twice() {
    let folder = tempfile::tempdir().unwrap();
    let places = three_voters(folder.path()).await;
    let (_, dir) = &places[0];
    let before = lies(dir);
    let log_before = std::fs::read(dir.join("meta.redb")).unwrap();
    let after = recovered(recover(dir).unwrap());
    // The log was written, the identity not.
    before.write(dir).unwrap();
    let started = folder.path().join("started");
    copy(dir, &started);
    assert_eq!(DataDir::open(&started).unwrap().known(), Some(after.joined));
    assert_eq!(recover(dir).unwrap(), RecoverOutcome::Alone(after.clone()));
    assert_eq!(lies(dir).joined, Some(after.joined));

    // A log from before the recovery is an older one, an identity from two before it as well.
    std::fs::write(dir.join("meta.redb"), log_before).unwrap();
    let refused = DataDir::open(dir).unwrap_err();
    assert!(
        matches!(
            refused,
            Error::LogOlder {
                what: "recovery",
                log: 0,
                identity: 1,
                ..
            }
        ),
        "{refused}"
    );
    let two_before = Joined {
        recovery: 0,
        ..after.joined
    };
    let ahead = Joined {
        recovery: 2,
        ..after.joined
    };
    Identity {
        joined: Some(ahead),
        ..lies(&started)
    }
    .write(&started)
    .unwrap();
    let refused = DataDir::open(&started).unwrap_err();
    assert!(
        matches!(
            refused,
            Error::LogOlder {
                what: "recovery",
                ..
            }
        ),
        "{refused}"
    );
    Identity {
        joined: Some(two_before),
        ..lies(&started)
    }
    .write(&started)
    .unwrap();
    DataDir::open(&started).unwrap();
}

#[test]
fn a_directory_without_a_log_that_can_go_on_is_not_recovered() {
    let folder = tempfile::tempdir().unwrap();
    let (fresh, member, empty) = (
        folder.path().join("fresh"),
        folder.path().join("member"),
        folder.path().join("empty"),
    );
    drop(DataDir::open(&fresh).unwrap());
    drop(seven(&member));
    drop(voter(&empty));
    let refused = recover(&fresh).unwrap_err();
    assert!(matches!(refused, Error::NotJoined { .. }), "{refused}");
    let refused = recover(&member).unwrap_err();
    assert!(
        matches!(
            refused,
            Error::KeepsNoLog {
                node: NodeId(7),
                ..
            }
        ),
        "{refused}"
    );
    let refused = recover(&empty).unwrap_err();
    assert!(
        matches!(
            refused,
            Error::EmptyLog {
                node: NodeId(7),
                ..
            }
        ),
        "{refused}"
    );
    let looked = survey(&empty).unwrap();
    assert_eq!(looked.reach(), (0, None));
    assert!(!looked.votes());
    assert_eq!(looked.extent.table, genesis());
    for dir in [&fresh, &member, &empty] {
        DataDir::open(dir).unwrap();
    }
}
