//! What a crash may leave behind, and what it may not: any history of lives, first joins and
//! recoveries that is cut off between any two writes, without files.

use proptest::prelude::*;

use super::super::agree::{Discord, LogFacts, Verdict, judge};
use super::super::{Identity, Joined};
use super::SEVEN;
use crate::raft::{self, FOUNDER};
use crate::{DataId, Incarnation, NodeId};

/// What lies on the disk.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Disk {
    identity: Identity,
    log: Option<LogFacts>,
}

impl Disk {
    fn joined() -> Self {
        let identity = Identity {
            data: DataId(3),
            incarnation: Incarnation(1),
            joined: Some(SEVEN),
            keeps_log: false,
        };
        Self {
            identity,
            log: None,
        }
    }

    /// A start: its life, after what was left behind was put right.
    fn start(&mut self) -> Result<Incarnation, Discord> {
        match judge(Some(self.identity), self.log)? {
            Verdict::Joined(identity, _) => self.identity = identity,
            other => panic!("{other:?}"),
        }
        self.raise(true)
    }

    fn raise(&mut self, whole: bool) -> Result<Incarnation, Discord> {
        let life = Incarnation(self.identity.incarnation.0 + 1);
        if let Some(log) = &mut self.log {
            log.identity.incarnation = life;
            if !whole {
                return Ok(life);
            }
        }
        self.identity.incarnation = life;
        Ok(life)
    }

    fn make_log(&mut self, whole: bool) {
        let owner = raft::Identity {
            cluster: SEVEN.cluster,
            node: SEVEN.node,
            data: self.identity.data,
            incarnation: self.identity.incarnation,
        };
        self.log.get_or_insert(LogFacts {
            identity: owner,
            is_new: true,
            recovery: None,
        });
        if whole {
            self.identity.keeps_log = true;
        }
    }

    fn recover(&mut self, whole: bool) {
        let Some(log) = &mut self.log else { return };
        let joined = self.identity.joined.unwrap_or(SEVEN);
        let recovery = joined.recovery + 1;
        log.is_new = false;
        log.recovery = Some(recovery);
        if whole {
            self.identity.joined = Some(Joined { recovery, ..joined });
        }
    }
}

#[test]
fn only_a_founding_before_its_first_life_leaves_a_log_without_a_cluster() {
    let identity = |life| Identity {
        incarnation: Incarnation(life),
        joined: None,
        ..Disk::joined().identity
    };
    let log = |is_new, node, life| LogFacts {
        identity: raft::Identity {
            cluster: SEVEN.cluster,
            node: NodeId(node),
            data: DataId(3),
            incarnation: Incarnation(life),
        },
        is_new,
        recovery: None,
    };
    let verdict = judge(Some(identity(0)), Some(log(true, 1, 0)));
    let Ok(Verdict::HalfFounded(founded)) = verdict else {
        panic!("{verdict:?}")
    };
    assert_eq!(founded.joined.unwrap().node, FOUNDER);
    assert!(founded.keeps_log);
    let others = [
        (0, log(false, 1, 0)),
        (0, log(true, 2, 0)),
        (0, log(true, 1, 1)),
        (1, log(true, 1, 0)),
        (1, log(true, 1, 1)),
    ];
    for (life, log) in others {
        let verdict = judge(Some(identity(life)), Some(log));
        assert!(
            matches!(verdict, Err(Discord::IdentityOlder { .. })),
            "{life} {log:?}: {verdict:?}"
        );
    }
}

proptest! {
    #[test]
    fn no_crash_between_two_writes_is_refused_and_no_life_is_lived_twice(
        steps in prop::collection::vec((0u8..4, any::<bool>()), 1..40),
    ) {
        let mut disk = Disk::joined();
        let mut told = Incarnation(1);
        for (step, whole) in steps {
            match step {
                0 => disk.make_log(whole),
                1 => disk.recover(whole),
                2 => {
                    let life = disk.raise(whole).unwrap();
                    prop_assert!(life > told);
                    told = life;
                }
                _ => {}
            }
            // A step that was cut off ends the process; others go on or end.
            if step == 3 || !whole {
                let life = disk.start();
                prop_assert!(life.is_ok(), "{disk:?}: {life:?}");
                let life = life.unwrap();
                prop_assert!(life > told, "{life} after {told}");
                told = life;
                let settled = disk.log.is_none_or(|log| {
                    log.identity.incarnation == disk.identity.incarnation
                });
                prop_assert!(settled && disk.identity.keeps_log == disk.log.is_some());
            }
        }
    }

    #[test]
    fn an_older_log_is_always_refused_and_an_older_identity_never_goes_back(
        lives in 1u64..6, ago in 1usize..6, recoveries in 0u32..3,
    ) {
        let mut disk = Disk::joined();
        disk.make_log(true);
        let mut history = vec![disk];
        for life in 0..lives {
            if life < u64::from(recoveries) {
                disk.recover(true);
            }
            disk.start().unwrap();
            history.push(disk);
        }
        let old = history[history.len().saturating_sub(1 + ago)];
        prop_assume!(old != disk);
        let older_log = judge(Some(disk.identity), old.log);
        let refused = matches!(older_log, Err(Discord::LogOlder { .. }));
        prop_assert!(refused, "{older_log:?}");
        prop_assert_eq!(
            judge(Some(disk.identity), None),
            Err(Discord::LogMissing(SEVEN.node))
        );
        match judge(Some(old.identity), disk.log) {
            Err(Discord::IdentityOlder { .. }) => {}
            Ok(Verdict::Joined(identity, _)) => prop_assert_eq!(identity, disk.identity),
            other => prop_assert!(false, "{other:?}"),
        }
    }
}
