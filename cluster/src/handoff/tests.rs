#![allow(clippy::unwrap_used)]

use super::*;
use crate::testing::{Log, member, registration, slot};
use crate::{Command, Member, Move, MoveReason, NodeId, NodeState, Rule, Rules};

fn at(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

fn idle(_: SlotId) -> Option<Load> {
    Some(Load::default())
}

fn empty(_: SlotId) -> Option<Load> {
    Some(Load {
        empty: true,
        longest: Duration::ZERO,
    })
}

/// Slot 5 of node 1, on its way to node 3 since 0.
struct World {
    log: Log,
    source: Source,
    target: Target,
    leader: Coordinator,
}

const S: Member = Member {
    id: NodeId(1),
    incarnation: crate::Incarnation(1),
};
const T: Member = Member {
    id: NodeId(3),
    incarnation: crate::Incarnation(1),
};

impl World {
    fn new(reason: MoveReason, rules: Rules) -> Self {
        let mut log = Log::with_nodes(3);
        log.give(5, 1);
        if reason == MoveReason::Drain {
            log.turn(1, NodeState::Draining);
        }
        log.begin(5, 3, reason);
        let config = HandoffConfig::default();
        let mut world = Self {
            source: Source::with_rules(S, config, rules),
            target: Target::with_rules(T, rules),
            leader: Coordinator::with_rules(config, &log.table, at(0), rules),
            log,
        };
        assert_eq!(world.table(0), (vec![], vec![], vec![]));
        world
    }

    fn id(&self) -> MoveId {
        self.log.table.slot(slot(5)).moving.unwrap().id
    }

    fn to(&self) -> Move {
        self.log.table.slot(slot(5)).moving.unwrap()
    }

    fn table(&mut self, ms: u64) -> (Vec<SourceEffect>, Vec<TargetEffect>, Vec<CoordinatorEffect>) {
        let table = &self.log.table;
        let slots = [slot(5)];
        (
            self.source.table(table, slots, at(ms)),
            self.target.table(table, slots, at(ms)),
            self.leader.table(table, slots, at(ms)),
        )
    }

    fn prepare(&mut self, ms: u64) {
        let effects = self.target.tick(at(ms), |_, _| true);
        let [TargetEffect::Prepared { to: S, step }] = effects[..] else {
            panic!("{effects:?}")
        };
        self.source.prepared(T, step);
    }

    /// Closed with nothing running and values to send, which arrive.
    fn up_to_release(&mut self, ms: u64) -> Vec<Released> {
        self.prepare(ms);
        let to = self.to();
        assert_eq!(
            self.source.tick(at(ms), idle),
            [SourceEffect::Close { slot: slot(5), to }]
        );
        let sent = self.source.closed(slot(5), 0, true, at(ms));
        assert_eq!(sent, [SourceEffect::SendValues { slot: slot(5), to }]);
        let kept = self.target.values(S, slot(5), to.id);
        let [
            TargetEffect::Keep { .. },
            TargetEffect::Received { to: S, step },
        ] = kept[..]
        else {
            panic!("{kept:?}")
        };
        let let_go = SourceEffect::LetGo {
            slot: slot(5),
            epoch: OwnerEpoch(1),
        };
        assert_eq!(self.source.received(T, step, at(ms)), [let_go]);
        let released = self.source.tick(at(ms + 10), idle);
        let [SourceEffect::Release(released)] = &released[..] else {
            panic!("{released:?}")
        };
        released.clone()
    }

    fn commit(&mut self, effects: &[CoordinatorEffect]) {
        let [CoordinatorEffect::Propose(command)] = effects else {
            panic!("{effects:?}")
        };
        assert!(self.log.commit(command).delta.is_some(), "{command:?}");
    }
}

fn abort_wanted(effects: &[SourceEffect]) -> Option<GiveUp> {
    effects.iter().find_map(|effect| match effect {
        SourceEffect::WantAbort(wanted) => Some(wanted.why),
        _ => None,
    })
}

#[test]
fn a_slot_moves_step_by_step_with_its_values() {
    let mut world = World::new(MoveReason::Rebalance, Rules::ALL);
    let id = world.id();
    let released = world.up_to_release(20);
    assert_eq!(
        released,
        [Released {
            slot: slot(5),
            id,
            epoch: OwnerEpoch(1)
        }]
    );
    assert_eq!(world.source.closed_count(), 1);
    let proposed = world
        .leader
        .released(S, &released, &world.log.table, at(40));
    world.commit(&proposed);
    let (source, target, leader) = world.table(50);
    assert_eq!(source, [SourceEffect::Forget { slot: slot(5) }]);
    assert_eq!(target, []);
    assert_eq!(
        leader,
        [CoordinatorEffect::Completed {
            from: S.id,
            to: T.id
        }]
    );
    assert!(
        !world.target.take(slot(5), None),
        "a grant uses half a move"
    );
    assert!(world.target.take(slot(5), Some(id)));
    assert!(!world.target.take(slot(5), Some(id)), "installed twice");
    assert_eq!(
        (world.source.closed_count(), world.leader.open_count()),
        (0, 0)
    );
}

#[test]
fn an_empty_slot_is_released_at_once_unprepared_and_uncounted() {
    let mut log = Log::with_nodes(3);
    for index in 0..20 {
        log.give(index, 1);
        log.begin(index, 3, MoveReason::Rebalance);
    }
    let mut source = Source::new(S, HandoffConfig::default());
    source.table(&log.table, SlotId::all(), at(0));
    let closes = source.tick(at(0), |slot| {
        if slot.index() < 10 {
            empty(slot)
        } else {
            idle(slot)
        }
    });
    assert_eq!(closes.len(), 10);
    for index in 0..10 {
        source.closed(slot(index), 0, false, at(1));
    }
    let released = source.tick(at(11), idle);
    assert!(matches!(&released[..], [SourceEffect::Release(all)] if all.len() == 10));
    // The others wait for the target, and go at most eight at a time.
    for index in 10..20 {
        let id = log.table.slot(slot(index)).moving.unwrap().id;
        source.prepared(
            T,
            Prepared {
                slot: slot(index),
                id,
                epoch: OwnerEpoch(1),
            },
        );
    }
    assert_eq!(source.tick(at(12), idle).len(), 8);
    source.closed(slot(10), 0, false, at(13));
    assert!(matches!(
        source.tick(at(23), idle)[..],
        [SourceEffect::Release(_)]
    ));
    assert_eq!(
        source.tick(at(24), idle),
        [],
        "it counts until the table says that it has gone"
    );
    log.complete(10);
    source.table(&log.table, [slot(10)], at(25));
    assert_eq!(source.tick(at(26), idle).len(), 1);
    source.limit_closed(usize::MAX);
    assert_eq!(source.tick(at(27), idle).len(), 1);
}

#[test]
fn a_slot_stays_open_while_an_event_of_it_runs_long() {
    let long = |_| {
        Some(Load {
            empty: false,
            longest: at(51),
        })
    };
    for (reason, at_last) in [
        (MoveReason::Rebalance, false),
        (MoveReason::Admin, false),
        (MoveReason::Drain, true),
    ] {
        let mut world = World::new(reason, Rules::ALL);
        world.prepare(0);
        assert_eq!(world.source.tick(at(1999), long), []);
        let effects = world.source.tick(at(2000), long);
        if at_last {
            assert!(
                matches!(effects[..], [SourceEffect::Close { .. }]),
                "{effects:?}"
            );
        } else {
            assert_eq!(abort_wanted(&effects), Some(GiveUp::LongEvents));
            assert_eq!(world.source.tick(at(2299), long), []);
            assert_eq!(
                abort_wanted(&world.source.tick(at(2300), long)),
                Some(GiveUp::LongEvents)
            );
            assert_eq!(world.source.closed_count(), 0);
        }
    }
}

#[test]
fn a_slot_that_is_not_open_yet_is_never_closed_however_long_it_takes_and_whoever_waits() {
    for (reason, asks) in [
        (MoveReason::Rebalance, Some(GiveUp::NotOpen)),
        (MoveReason::Admin, Some(GiveUp::NotOpen)),
        (MoveReason::Drain, None),
    ] {
        let mut world = World::new(reason, Rules::ALL);
        world.prepare(0);
        assert_eq!(world.source.tick(at(1999), |_| None), []);
        for ms in [2000, 2300, 60_000] {
            let effects = world.source.tick(at(ms), |_| None);
            assert_eq!(abort_wanted(&effects), asks, "{reason:?} at {ms}");
        }
        assert_eq!(world.source.closed_count(), 0);
        let to = world.to();
        let close = SourceEffect::Close { slot: slot(5), to };
        assert_eq!(world.source.tick(at(60_001), empty), [close]);
    }
}

#[test]
fn values_that_the_target_refuses_stay_at_the_source_and_end_the_move_even_in_a_drain() {
    let mut world = World::new(MoveReason::Drain, Rules::ALL);
    let id = world.id();
    world.prepare(0);
    world.source.tick(at(0), idle);
    assert_eq!(
        world.source.refused(slot(5), id, at(0)),
        [],
        "nothing was sent"
    );
    world.source.closed(slot(5), 0, true, at(1));
    assert_eq!(world.source.refused(slot(5), MoveId(1), at(2)), []);
    let refused = world.source.refused(slot(5), id, at(2));
    let [SourceEffect::WantAbort(wanted)] = refused[..] else {
        panic!("{refused:?}")
    };
    assert_eq!(wanted.why, GiveUp::Refused);
    assert_eq!(
        world.source.refused(slot(5), id, at(3)),
        [],
        "said just now"
    );
    let proposed = world
        .leader
        .abort_wanted(S, &[wanted], &world.log.table, at(10));
    world.commit(&proposed);
    let (source, ..) = world.table(20);
    let epoch = OwnerEpoch(1);
    assert_eq!(
        source,
        [SourceEffect::Reopen {
            slot: slot(5),
            epoch
        }]
    );
}

#[test]
fn a_target_that_does_not_prepare_is_given_up_after_two_seconds() {
    let mut world = World::new(MoveReason::Drain, Rules::ALL);
    assert_eq!(world.source.tick(at(1999), idle), []);
    let effects = world.source.tick(at(2000), idle);
    let [SourceEffect::WantAbort(wanted)] = effects[..] else {
        panic!("{effects:?}")
    };
    assert_eq!(wanted.why, GiveUp::NotPrepared);
    let proposed = world
        .leader
        .abort_wanted(S, &[wanted], &world.log.table, at(2010));
    assert_eq!(
        world
            .leader
            .abort_wanted(S, &[wanted], &world.log.table, at(2011)),
        []
    );
    world.commit(&proposed);
    let (source, target, leader) = world.table(2020);
    assert_eq!((source, target), (vec![], vec![]), "it was never closed");
    assert_eq!(
        leader,
        [CoordinatorEffect::Failed {
            from: S.id,
            to: T.id
        }]
    );
}

#[test]
fn a_rebalance_gives_up_when_closed_for_500_ms_and_a_drain_cuts_after_5_s() {
    let mut world = World::new(MoveReason::Rebalance, Rules::ALL);
    world.prepare(0);
    world.source.tick(at(0), idle);
    world.source.closed(slot(5), 1, true, at(1));
    assert_eq!(world.source.tick(at(499), idle), []);
    assert_eq!(
        abort_wanted(&world.source.tick(at(500), idle)),
        Some(GiveUp::ClosedTooLong)
    );
    world.log.abort(5);
    let (source, _, _) = world.table(520);
    assert_eq!(
        source,
        [SourceEffect::Reopen {
            slot: slot(5),
            epoch: OwnerEpoch(1)
        }]
    );

    let mut world = World::new(MoveReason::Drain, Rules::ALL);
    world.prepare(0);
    world.source.tick(at(0), idle);
    world.source.closed(slot(5), 1, true, at(1));
    assert_eq!(world.source.tick(at(4999), idle), []);
    assert_eq!(
        world.source.tick(at(5000), idle),
        [SourceEffect::Cut { slot: slot(5) }]
    );
    assert_eq!(world.source.tick(at(5100), idle), [], "cut twice");
    assert!(matches!(
        world.source.idle(slot(5), true, at(5101))[..],
        [SourceEffect::SendValues { .. }]
    ));
}

#[test]
fn values_that_the_last_event_of_a_closed_slot_has_made_go_with_it() {
    for (before, after) in [(false, true), (true, true), (true, false), (false, false)] {
        let mut world = World::new(MoveReason::Rebalance, Rules::ALL);
        world.prepare(0);
        world.source.tick(at(0), idle);
        assert_eq!(world.source.closed(slot(5), 1, before, at(1)), []);
        let then = world.source.idle(slot(5), after, at(2));
        let sends = matches!(then[..], [SourceEffect::SendValues { .. }]);
        let releases = matches!(then[..], [SourceEffect::LetGo { .. }]);
        assert_eq!((sends, releases), (after, !after), "{then:?}");
    }
}

#[test]
fn steps_that_nothing_answers_are_taken_again() {
    let mut world = World::new(MoveReason::Rebalance, Rules::ALL);
    assert_eq!(world.target.tick(at(0), |_, _| false), []);
    world.prepare(10);
    assert_eq!(world.target.tick(at(309), |_, _| true), []);
    world.prepare(310);
    world.source.tick(at(310), idle);
    world.source.closed(slot(5), 0, true, at(310));
    assert_eq!(world.source.tick(at(609), idle), []);
    assert!(matches!(
        world.source.tick(at(610), idle)[..],
        [SourceEffect::SendValues { .. }]
    ));
    let id = world.id();
    for _ in 0..2 {
        assert_eq!(world.target.values(S, slot(5), id).len(), 2);
    }
    assert_eq!(world.target.tick(at(900), |_, _| true), []);
    let step = Received { slot: slot(5), id };
    assert_eq!(world.source.received(T, step, at(700)).len(), 1);
    assert_eq!(world.source.received(T, step, at(701)), []);
    let first = world.source.tick(at(710), idle);
    assert!(matches!(first[..], [SourceEffect::Release(_)]));
    assert_eq!(world.source.tick(at(900), idle), []);
    world.source.tick(at(1000), idle);
    assert_eq!(world.source.tick(at(1010), idle), first);
    assert_eq!(world.source.new_leader(at(1020)), first);
}

#[test]
fn a_released_slot_stays_shut_until_the_table_speaks() {
    let mut world = World::new(MoveReason::Rebalance, Rules::ALL);
    let id = world.id();
    let released = world.up_to_release(0);
    let effects: Vec<_> = (11..9000)
        .step_by(50)
        .flat_map(|ms| world.source.tick(at(ms), idle))
        .collect();
    assert!(
        effects
            .iter()
            .all(|effect| matches!(effect, SourceEffect::Release(_)))
    );
    assert_eq!(world.source.shut_for(slot(5)).unwrap().id, id);
    // An abort that comes first: the source goes on, and the late release changes nothing.
    world.log.abort(5);
    let (source, target, _) = world.table(9000);
    assert_eq!(
        source,
        [SourceEffect::Reopen {
            slot: slot(5),
            epoch: OwnerEpoch(1)
        }]
    );
    assert_eq!(target, [TargetEffect::Discard { slot: slot(5), id }]);
    assert_eq!(
        world
            .leader
            .released(S, &released, &world.log.table, at(9001)),
        []
    );
}

#[test]
fn nobody_but_the_source_releases_a_slot() {
    let mut world = World::new(MoveReason::Rebalance, Rules::ALL);
    let step = Released {
        slot: slot(5),
        id: world.id(),
        epoch: OwnerEpoch(1),
    };
    for other in [T, member(1, 2), member(5, 1)] {
        assert_eq!(
            world
                .leader
                .released(other, &[step], &world.log.table, at(1)),
            []
        );
    }
    let wrong = Released {
        epoch: OwnerEpoch(2),
        ..step
    };
    assert_eq!(
        world.leader.released(S, &[wrong], &world.log.table, at(1)),
        []
    );
    assert_eq!(
        world
            .leader
            .released(S, &[step], &world.log.table, at(1))
            .len(),
        1
    );
    // What is on its way is not proposed twice, but again when nothing came of it.
    assert_eq!(
        world.leader.released(S, &[step], &world.log.table, at(2)),
        []
    );
    assert_eq!(
        world
            .leader
            .released(S, &[step], &world.log.table, at(301))
            .len(),
        1
    );
}

/// Aborted and begun again: whether what the source released of the first completes the second.
fn an_old_release_counts(rules: Rules) -> bool {
    let mut world = World::new(MoveReason::Rebalance, rules);
    world.log.rules = rules;
    let released = world.up_to_release(0);
    world.log.abort(5);
    world.table(20);
    world.log.begin(5, 3, MoveReason::Rebalance);
    world.table(30);
    let effects = world
        .leader
        .released(S, &released, &world.log.table, at(400));
    effects.iter().any(|effect| match effect {
        CoordinatorEffect::Propose(command @ Command::CompleteMoves { .. }) => {
            world.log.commit(command).delta.is_some()
        }
        _ => false,
    })
}

#[test]
fn a_release_of_an_earlier_move_does_not_count() {
    assert!(!an_old_release_counts(Rules::ALL));
    assert!(an_old_release_counts(Rules::without(Rule::MoveStepsMatch)));
}

#[test]
fn a_source_that_keeps_slots_closed_and_says_nothing_is_given_up() {
    let mut world = World::new(MoveReason::Rebalance, Rules::ALL);
    assert_eq!(world.leader.tick(at(60_000)), [], "nothing is closed");
    world.leader.closed(S.id, 1, at(60_000));
    assert_eq!(world.leader.tick(at(64_999)), []);
    let effects = world.leader.tick(at(65_000));
    world.commit(&effects);
    let mut drain = World::new(MoveReason::Drain, Rules::ALL);
    drain.leader.closed(S.id, 1, at(0));
    assert_eq!(drain.leader.tick(at(9_999)), []);
    assert_eq!(drain.leader.tick(at(10_000)).len(), 1);
}

#[test]
fn a_new_leader_goes_on_from_the_table_alone() {
    let mut world = World::new(MoveReason::Rebalance, Rules::ALL);
    let released = world.up_to_release(0);
    let mut next = Coordinator::new(HandoffConfig::default(), &world.log.table, at(0));
    assert_eq!(next.open_count(), 1);
    let proposed = next.released(S, &released, &world.log.table, at(1));
    world.commit(&proposed);
    assert_eq!(world.table(2).0, [SourceEffect::Forget { slot: slot(5) }]);
}

#[test]
fn a_source_that_dies_takes_its_move_along_and_half_a_move_is_never_used() {
    let mut world = World::new(MoveReason::Rebalance, Rules::ALL);
    let id = world.id();
    world.up_to_release(0);
    let grant = crate::Grant {
        slot: slot(5),
        expect_epoch: OwnerEpoch(1),
        to: T,
    };
    world.log.kill(1, vec![grant]);
    let (source, target, _) = world.table(20);
    assert_eq!(source, [SourceEffect::Forget { slot: slot(5) }]);
    assert_eq!(target, [TargetEffect::Discard { slot: slot(5), id }]);
    let rec = world.log.table.slot(slot(5));
    assert_eq!(
        (rec.owner, rec.epoch, rec.via),
        (Some(T), OwnerEpoch(2), None)
    );
    assert!(!world.target.take(slot(5), rec.via));
}

#[test]
fn a_target_that_restarts_ends_the_move_in_the_same_entry() {
    let mut world = World::new(MoveReason::Rebalance, Rules::ALL);
    world.prepare(0);
    world.source.tick(at(0), idle);
    world.source.closed(slot(5), 1, true, at(1));
    world.log.register(registration("n2", 2, 2));
    let (source, _, leader) = world.table(20);
    assert_eq!(
        source,
        [SourceEffect::Reopen {
            slot: slot(5),
            epoch: OwnerEpoch(1)
        }]
    );
    assert_eq!(
        leader,
        [CoordinatorEffect::Failed {
            from: S.id,
            to: T.id
        }]
    );
    assert_eq!(world.source.closed_count(), 0);
}

#[test]
fn steps_from_others_or_of_other_moves_change_nothing() {
    let mut world = World::new(MoveReason::Rebalance, Rules::ALL);
    let good = Prepared {
        slot: slot(5),
        id: world.id(),
        epoch: OwnerEpoch(1),
    };
    world.source.prepared(member(5, 1), good);
    world.source.prepared(
        T,
        Prepared {
            id: MoveId(1),
            ..good
        },
    );
    world.source.prepared(
        T,
        Prepared {
            epoch: OwnerEpoch(9),
            ..good
        },
    );
    world.source.prepared(
        T,
        Prepared {
            slot: slot(6),
            ..good
        },
    );
    assert_eq!(world.source.tick(at(1), idle), []);
    assert_eq!(world.target.values(member(5, 1), slot(5), good.id), []);
    assert_eq!(world.target.values(S, slot(5), MoveId(1)), []);
    let step = Received {
        slot: slot(5),
        id: good.id,
    };
    assert_eq!(
        world.source.received(T, step, at(1)),
        [],
        "received before anything was sent"
    );
}
