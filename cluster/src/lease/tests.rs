#![allow(clippy::unwrap_used)]

use super::*;
use crate::testing::{Log, leader, member, registration, slot};
use crate::{NodeId, NodeState, OwnerEpoch, Rule, Rules, Table, View};

fn at(ms: u64) -> Reading {
    Reading::of_one(Duration::from_millis(ms))
}

fn config() -> LeaseConfig {
    LeaseConfig::new(
        &ClusterInfo::new(crate::ClusterId(1)),
        Duration::from_millis(200),
    )
}

fn beat(table: &Table, id: u32, seq: u64) -> Heartbeat {
    let member = table.member(NodeId(id)).unwrap();
    let boot = table.node(NodeId(id)).unwrap().boot;
    Heartbeat {
        member,
        boot,
        seq,
        version: 0,
        degraded: false,
        closed: 0,
    }
}

fn holder(rules: Rules) -> Holder {
    let mut holder = Holder::with_rules(member(3, 1), BootId(9), config(), 2, at(0), rules);
    holder.voters(vec![NodeId(1), NodeId(3), NodeId(5), NodeId(7)]);
    holder
}

fn ack(seq: u64) -> Ack {
    Ack {
        member: member(3, 1),
        boot: BootId(9),
        seq,
        leader: leader(1),
        version: 0,
    }
}

fn sends(effects: &[HolderEffect]) -> Vec<(u64, Vec<NodeId>)> {
    let send = |effect: &HolderEffect| match effect {
        HolderEffect::Send { via, heartbeat, .. } => Some((heartbeat.seq, via.clone())),
        _ => None,
    };
    effects.iter().filter_map(send).collect()
}

fn acked(effects: &[GrantorEffect]) -> usize {
    effects
        .iter()
        .filter(|effect| matches!(effect, GrantorEffect::Ack { .. }))
        .count()
}

fn declared(effects: &[GrantorEffect]) -> Vec<NodeId> {
    let dead = |effect: &GrantorEffect| match effect {
        GrantorEffect::DeclareDead { member, .. } => Some(member.id),
        _ => None,
    };
    effects.iter().filter_map(dead).collect()
}

/// A leader that has begun at 0.
fn grantor(table: &Table, rules: Rules) -> Grantor {
    let (mut grantor, effects) = Grantor::with_rules(leader(1), table, config(), 7, at(0), rules);
    assert_eq!(effects, [GrantorEffect::Barrier { nonce: 7 }]);
    grantor.barrier_applied(7);
    grantor
}

/// Ticks a leader from one moment to another; whom it declares dead, and when first.
fn run(grantor: &mut Grantor, table: &Table, from: u64, to: u64) -> Option<(u64, Vec<NodeId>)> {
    (from..=to).step_by(25).find_map(|ms| {
        let dead = declared(&grantor.tick(table, at(ms)));
        (!dead.is_empty()).then_some((ms, dead))
    })
}

/// Acknowledges a heartbeat that arrives now.
fn renew(grantor: &mut Grantor, heartbeat: Heartbeat, ms: u64) -> usize {
    let effects = grantor.heartbeat(heartbeat, None, at(ms));
    let round = effects.iter().find_map(|effect| match effect {
        GrantorEffect::Round { id } => Some(*id),
        _ => None,
    });
    acked(&effects) + round.map_or(0, |id| acked(&grantor.round_over(id, true, at(ms + 5))))
}

#[test]
fn a_lease_ends_its_length_after_the_heartbeat_was_sent() {
    let mut node = holder(Rules::ALL);
    assert_eq!(sends(&node.leader(Some(NodeId(1)), at(100))), [(1, vec![])]);
    assert!(!node.is_valid(at(100)));
    assert_eq!(node.ack(ack(1), at(900)), [HolderEffect::Valid]);
    assert!(node.is_valid(at(1299)) && !node.is_valid(at(1300)));
    assert_eq!(node.lapsed_for(at(1400)), Duration::from_millis(100));
    node.worked(0, at(1300));
    assert!(node.tick(at(1300)).contains(&HolderEffect::Lapsed));
    // An acknowledgement that comes after that is worth nothing.
    let mut slow = holder(Rules::ALL);
    slow.leader(Some(NodeId(1)), at(100));
    assert_eq!(slow.ack(ack(1), at(1300)), []);
}

#[test]
fn a_short_lapse_is_made_good_at_the_same_epoch() {
    let mut node = holder(Rules::ALL);
    node.leader(Some(NodeId(1)), at(0));
    node.ack(ack(1), at(10));
    node.worked(0, at(1200));
    let effects = node.tick(at(1210));
    assert!(effects.contains(&HolderEffect::Lapsed));
    assert_eq!(sends(&effects)[0].0, 2);
    assert_eq!(node.ack(ack(2), at(1230)), [HolderEffect::Valid]);
}

#[test]
fn an_acknowledgement_for_another_process_or_heartbeat_is_worth_nothing() {
    let mut node = holder(Rules::ALL);
    node.leader(Some(NodeId(1)), at(0));
    for wrong in [
        Ack {
            boot: BootId(8),
            ..ack(1)
        },
        Ack {
            member: member(3, 2),
            ..ack(1)
        },
        ack(2),
    ] {
        assert_eq!(node.ack(wrong, at(5)), []);
    }
    assert!(!node.is_valid(at(5)));
    let mut mutant = holder(Rules::without(Rule::BootIdTellsApart));
    mutant.leader(Some(NodeId(1)), at(0));
    mutant.ack(
        Ack {
            boot: BootId(8),
            ..ack(1)
        },
        at(5),
    );
    assert!(mutant.is_valid(at(5)), "the mutant is not one");
}

#[test]
fn without_an_answer_for_two_intervals_heartbeats_go_through_two_voters_as_well() {
    let mut node = holder(Rules::ALL);
    node.leader(Some(NodeId(1)), at(0));
    assert_eq!(sends(&node.tick(at(200))), [(2, vec![])]);
    assert_eq!(
        sends(&node.tick(at(400))),
        [(3, vec![NodeId(5), NodeId(7)])]
    );
    node.ack(ack(3), at(450));
    assert_eq!(sends(&node.tick(at(600))), [(4, vec![])]);
}

#[test]
fn a_node_without_progress_is_degraded_first_and_then_lets_its_lease_go() {
    let mut node = holder(Rules::ALL);
    node.leader(Some(NodeId(1)), at(0));
    let mut all = Vec::new();
    for ms in (25..=1025).step_by(25) {
        node.worked(1, at(ms));
        all.extend(node.tick(at(ms)));
    }
    let degraded = HolderEffect::Degraded {
        degraded: true,
        worker: Some(0),
    };
    assert!(all.contains(&degraded) && node.is_degraded());
    // One stalled worker: renewal goes on until it is stuck for ten seconds.
    for ms in (1050..=9975).step_by(25) {
        node.worked(1, at(ms));
        node.tick(at(ms));
    }
    assert!(!sends(&node.tick(at(10_000))).is_empty() || !sends(&node.tick(at(10_200))).is_empty());
    node.worked(1, at(10_400));
    assert_eq!(sends(&node.tick(at(10_400))), []);
    // Both stalled for a second: none either; and it goes on as soon as they tick.
    let mut node = holder(Rules::ALL);
    node.leader(Some(NodeId(1)), at(0));
    assert_eq!(sends(&node.tick(at(1001))), []);
    node.worked(0, at(1002));
    assert_eq!(sends(&node.tick(at(1025))).len(), 1);
}

#[test]
fn a_late_lease_timer_makes_a_node_degraded() {
    let mut node = holder(Rules::ALL);
    node.tick(at(0));
    let late = HolderEffect::Degraded {
        degraded: true,
        worker: None,
    };
    assert!(node.tick(at(226)).contains(&late));
    let fine = HolderEffect::Degraded {
        degraded: false,
        worker: None,
    };
    assert!(node.tick(at(250)).contains(&fine));
}

#[test]
fn a_worker_that_is_stuck_is_so_in_the_next_life_from_its_first_heartbeat() {
    let mut progress = Progress::new(2, at(0));
    progress.worked(0, at(5000));
    progress.worked(7, at(5000));
    let mut node = holder(Rules::ALL);
    let noticed = node.progress(progress.clone(), at(5100));
    let worker = Some(1);
    let degraded = true;
    assert_eq!(noticed, [HolderEffect::Degraded { degraded, worker }]);
    let beats = node.leader(Some(NodeId(1)), at(5100));
    assert!(
        matches!(&beats[..], [HolderEffect::Send { heartbeat, .. }] if heartbeat.degraded),
        "{beats:?}"
    );
    progress.worked(0, at(9500));
    // Stuck for 10 s, or all stalled: nothing is asked for.
    for (stuck, now) in [(progress, 10_001), (Progress::new(2, at(0)), 1001)] {
        let mut node = holder(Rules::ALL);
        assert!(stuck.is_enough(at(now - 1)) && !stuck.is_enough(at(now)));
        node.progress(stuck, at(now));
        assert_eq!(sends(&node.leader(Some(NodeId(1)), at(now))), []);
    }
}

#[test]
fn a_dead_life_never_acts_again() {
    let mut node = holder(Rules::ALL);
    node.leader(Some(NodeId(1)), at(0));
    node.ack(ack(1), at(5));
    assert_eq!(node.dead(), [HolderEffect::Dead]);
    assert!(!node.is_valid(at(6)));
    assert_eq!(sends(&node.tick(at(300))), []);
    assert_eq!(node.dead(), []);
}

#[test]
fn an_acknowledgement_waits_for_a_round_that_began_after_the_heartbeat_arrived() {
    let table = Log::with_nodes(2).table;
    let mut lead = grantor(&table, Rules::ALL);
    let first = lead.heartbeat(beat(&table, 1, 1), None, at(10));
    assert_eq!(first, [GrantorEffect::Round { id: 1 }]);
    assert_eq!(lead.heartbeat(beat(&table, 3, 1), None, at(20)), []);
    assert_eq!(acked(&lead.round_over(1, true, at(30))), 1);
    let next = lead.tick(&table, at(60));
    assert_eq!(next, [GrantorEffect::Round { id: 2 }]);
    let again = lead.round_over(2, false, at(160));
    assert_eq!(
        again,
        [GrantorEffect::Round { id: 3 }],
        "a failed round is repeated at once"
    );
    assert_eq!(acked(&lead.round_over(3, true, at(170))), 1);
    assert_eq!(lead.round_over(3, true, at(180)), []);
    let mut mutant = grantor(&table, Rules::without(Rule::AckAfterRound));
    assert_eq!(
        acked(&mutant.heartbeat(beat(&table, 1, 1), None, at(10))),
        1
    );
}

#[test]
fn a_node_is_declared_dead_past_its_lease_and_the_margin_only() {
    let table = Log::with_nodes(2).table;
    let mut lead = grantor(&table, Rules::ALL);
    for ms in [300, 500] {
        run(&mut lead, &table, ms - 175, ms);
        assert_eq!(renew(&mut lead, beat(&table, 3, ms), ms), 1);
    }
    let (when, who) = run(&mut lead, &table, 525, 3000).unwrap();
    assert_eq!((when, who), (1325, vec![NodeId(1)]));
    let (when, who) = run(&mut lead, &table, 1350, 3000).unwrap();
    assert_eq!((when, who), (1825, vec![NodeId(3)]));
    // From then on it is not acknowledged, and proposed again only if nothing comes of it.
    assert_eq!(renew(&mut lead, beat(&table, 3, 9), 1830), 0);
    assert_eq!(run(&mut lead, &table, 1850, 5000).unwrap().0, 3325);
}

#[test]
fn a_heartbeat_that_waits_for_its_round_keeps_a_node_alive() {
    let table = Log::with_nodes(1).table;
    let mut lead = grantor(&table, Rules::ALL);
    lead.heartbeat(beat(&table, 1, 1), None, at(100));
    assert_eq!(run(&mut lead, &table, 100, 3000), None);
}

#[test]
fn a_leader_that_has_slept_counts_everyone_as_heard_when_it_wakes() {
    let table = Log::with_nodes(2).table;
    let mut lead = grantor(&table, Rules::ALL);
    run(&mut lead, &table, 0, 1000);
    assert_eq!(declared(&lead.tick(&table, at(5000))), []);
    assert_eq!(run(&mut lead, &table, 5025, 9000).unwrap().0, 6325);
}

#[test]
fn a_node_that_left_is_declared_dead_at_once_and_not_acknowledged_before() {
    let table = Log::with_nodes(2).table;
    let mut lead = grantor(&table, Rules::ALL);
    lead.left(table.member(NodeId(3)).unwrap());
    assert_eq!(renew(&mut lead, beat(&table, 3, 1), 5), 0);
    assert_eq!(declared(&lead.tick(&table, at(25))), [NodeId(3)]);
}

#[test]
fn a_node_heard_only_through_others_for_five_seconds_is_cut_off() {
    let table = Log::with_nodes(2).table;
    let mut lead = grantor(&table, Rules::ALL);
    for ms in (25..=5025).step_by(25) {
        lead.tick(&table, at(ms));
        lead.heartbeat(beat(&table, 1, ms), None, at(ms));
        lead.heartbeat(beat(&table, 3, ms), Some(NodeId(1)), at(ms));
    }
    assert_eq!(
        lead.cut_off(at(5025)).into_iter().collect::<Vec<_>>(),
        [NodeId(3)]
    );
}

/// A leader that restarts within its term, with a death in its log that is not applied yet.
fn acknowledges_before_its_log_is_applied(rules: Rules) -> bool {
    let mut log = Log::with_nodes(2);
    let stale = log.table.clone();
    log.kill(3, Vec::new());
    let (mut lead, _) = Grantor::with_rules(leader(1), &stale, config(), 8, at(0), rules);
    let before = renew(&mut lead, beat(&stale, 3, 1), 5);
    lead.table(&log.table, at(20));
    lead.barrier_applied(8);
    before + renew(&mut lead, beat(&stale, 3, 2), 80) > 0
}

#[test]
fn nothing_is_acknowledged_before_the_barrier() {
    assert!(!acknowledges_before_its_log_is_applied(Rules::ALL));
    assert!(acknowledges_before_its_log_is_applied(Rules::without(
        Rule::BarrierFirst
    )));
}

/// How long after its last acknowledged heartbeat a life is replaced by the next one.
fn replaced_after(rules: Rules) -> u64 {
    let table = Log::with_nodes(2).table;
    let mut lead = grantor(&table, rules);
    assert_eq!(renew(&mut lead, beat(&table, 3, 1), 50), 1);
    let registers = |effects: &[GrantorEffect]| {
        effects.iter().any(|effect| {
            matches!(
                effect,
                GrantorEffect::Register {
                    replaces: Some(_),
                    ..
                }
            )
        })
    };
    if registers(&lead.register(registration("n2", 2, 2), &table, at(75))) {
        return 25;
    }
    let when = (100..6000)
        .step_by(25)
        .find(|ms| registers(&lead.tick(&table, at(*ms))))
        .unwrap();
    assert_eq!(
        renew(&mut lead, beat(&table, 3, 2), when + 60),
        0,
        "acknowledged after a proposal"
    );
    when - 50
}

#[test]
fn a_registration_that_replaces_a_life_waits_it_out() {
    assert_eq!(replaced_after(Rules::ALL), 1325);
    assert_eq!(replaced_after(Rules::without(Rule::ReplaceAfterMargin)), 25);
}

#[test]
fn a_copied_directory_displaces_nobody() {
    let table = Log::with_nodes(2).table;
    let mut lead = grantor(&table, Rules::ALL);
    let mut effects = lead.register(registration("n2", 2, 2), &table, at(0));
    for ms in (25..=5100).step_by(25) {
        effects.extend(lead.tick(&table, at(ms)));
        if ms % 200 == 0 {
            assert_eq!(renew(&mut lead, beat(&table, 3, ms), ms), 1);
        }
        if ms % 200 == 100 {
            assert_eq!(renew(&mut lead, beat(&table, 1, ms), ms), 1);
        }
    }
    let refused = |effect: &GrantorEffect| {
        matches!(
            effect,
            GrantorEffect::RefuseRegister {
                why: RegisterRefusal::OldLives(NodeId(3)),
                ..
            }
        )
    };
    assert_eq!(effects.iter().filter(|effect| refused(effect)).count(), 1);
    assert!(
        !effects
            .iter()
            .any(|effect| matches!(effect, GrantorEffect::Register { .. }))
    );
    // With its incarnation and another boot id it is refused at once, and so are its heartbeats.
    let mut copy = registration("n2", 2, 1);
    copy.boot = BootId(0xbad);
    let effects = lead.register(copy, &table, at(5200));
    assert!(matches!(
        effects[..],
        [GrantorEffect::RefuseRegister {
            why: RegisterRefusal::SecondProcess { .. },
            ..
        }]
    ));
    let stolen = Heartbeat {
        boot: BootId(0xbad),
        ..beat(&table, 3, 99)
    };
    let refused = lead.heartbeat(stolen, None, at(5210));
    assert_eq!(
        refused,
        [GrantorEffect::RefuseProcess {
            member: member(3, 1),
            boot: BootId(0xbad)
        }]
    );
    let mut mutant = grantor(&table, Rules::without(Rule::BootIdTellsApart));
    assert_eq!(renew(&mut mutant, stolen, 10), 1);
}

#[test]
fn an_old_life_is_told_that_it_is_over_after_a_round() {
    let mut log = Log::with_nodes(2);
    let old = beat(&log.table, 3, 1);
    log.kill(3, Vec::new());
    let mut lead = grantor(&log.table, Rules::ALL);
    let told = [GrantorEffect::TellDead {
        member: member(3, 1),
    }];
    let round = |effects: Vec<GrantorEffect>| match effects[..] {
        [GrantorEffect::Round { id }] => id,
        _ => panic!("{effects:?}"),
    };
    let first = round(lead.heartbeat(old, None, at(5)));
    assert_eq!(lead.round_over(first, true, at(10)), told);
    log.register(registration("n2", 2, 2));
    lead.table(&log.table, at(100));
    let second = round(lead.heartbeat(Heartbeat { seq: 2, ..old }, None, at(105)));
    assert_eq!(lead.round_over(second, true, at(110)), told);
    // One that ends while its heartbeat waits is told so as well.
    let new = beat(&log.table, 3, 1);
    let third = round(lead.heartbeat(new, None, at(205)));
    log.kill(3, Vec::new());
    lead.table(&log.table, at(207));
    let told = [GrantorEffect::TellDead { member: new.member }];
    assert_eq!(lead.round_over(third, true, at(210)), told);
}

#[test]
fn a_leader_that_cannot_prove_that_it_leads_ends_no_life_that_is_new_to_it() {
    let mut log = Log::with_nodes(3);
    let before = log.table.clone();
    let newcomer = log.join("n4", 4).id.0;
    let mut isolated = grantor(&before, Rules::ALL);
    let mut round = None;
    for seq in 1..100 {
        let ms = seq * 200;
        let heard = isolated.heartbeat(beat(&log.table, newcomer, seq), None, at(ms));
        round = new_round(&heard).or(round);
        let failed = isolated.round_over(round.unwrap(), false, at(ms + 100));
        round = new_round(&failed);
        for effects in [heard, failed] {
            let told = |effect: &GrantorEffect| matches!(effect, GrantorEffect::TellDead { .. });
            assert!(!effects.iter().any(told), "{effects:?}");
        }
        assert!(isolated.waiting_count() <= 2);
    }
    // Once it leads again its table names the life, before the round is over.
    isolated.table(&log.table, at(20_000));
    let led = isolated.round_over(round.unwrap(), true, at(20_001));
    assert_eq!((acked(&led), led.len()), (1, 1), "{led:?}");
}

#[test]
fn lives_of_one_process_wait_as_one_with_a_leader_without_a_majority() {
    let log = Log::with_nodes(3);
    let mut lead = grantor(&log.table, Rules::ALL);
    let living = beat(&log.table, 3, 1);
    for incarnation in 0..50 {
        let member = member(9, incarnation);
        let old = Heartbeat { member, ..living };
        lead.heartbeat(old, None, at(200 * (incarnation + 1)));
    }
    assert!(lead.waiting_count() <= 2, "{}", lead.waiting_count());
}

#[test]
fn a_leader_without_a_majority_keeps_one_heartbeat_of_each_life_and_way() {
    let log = Log::with_nodes(3);
    let table = log.table.clone();
    let mut lead = grantor(&table, Rules::ALL);
    let mut round = None;
    for seq in 1..=500 {
        let ms = seq * 200;
        for (id, via) in [(1, None), (3, None), (3, Some(NodeId(1)))] {
            let effects = lead.heartbeat(beat(&table, id, seq), via, at(ms));
            round = new_round(&effects).or(round);
        }
        // The round fails, and the next one begins at once.
        let failed = lead.round_over(round.unwrap(), false, at(ms + 100));
        round = new_round(&failed);
        assert!(lead.waiting_count() <= 6, "{}", lead.waiting_count());
    }
    // It has its majority again: the newest are acknowledged, by the way that they came.
    let effects = lead.round_over(round.unwrap(), true, at(100_200));
    let mut acks: Vec<_> = effects
        .iter()
        .filter_map(|effect| match effect {
            GrantorEffect::Ack { via, ack } => Some((ack.member.id.0, *via, ack.seq)),
            _ => None,
        })
        .collect();
    acks.sort_unstable();
    let newest = [(1, None, 500), (3, None, 500), (3, Some(NodeId(1)), 500)];
    assert_eq!(acks, newest);
}

fn new_round(effects: &[GrantorEffect]) -> Option<u64> {
    effects.iter().find_map(|effect| match effect {
        GrantorEffect::Round { id } => Some(*id),
        _ => None,
    })
}

#[test]
fn a_heartbeat_that_comes_during_a_round_takes_no_acknowledgement_from_the_one_before() {
    let log = Log::with_nodes(1);
    let table = log.table.clone();
    let mut lead = grantor(&table, Rules::ALL);
    let round = new_round(&lead.heartbeat(beat(&table, 1, 1), None, at(100)));
    lead.heartbeat(beat(&table, 1, 2), None, at(110));
    lead.heartbeat(beat(&table, 1, 3), None, at(120));
    let first = lead.round_over(round.unwrap(), true, at(160));
    assert_eq!(acked(&first), 1);
    let next = lead.round_over(new_round(&first).unwrap(), true, at(170));
    let seqs: Vec<_> = next
        .iter()
        .filter_map(|effect| match effect {
            GrantorEffect::Ack { ack, .. } => Some(ack.seq),
            _ => None,
        })
        .collect();
    assert_eq!(seqs, [3]);
}

fn view_of_one_slot() -> (Log, View) {
    let mut log = Log::with_nodes(2);
    log.give(5, 1);
    let view = View::new(log.table.clone());
    (log, view)
}

#[test]
fn a_slot_opens_when_the_table_the_lease_and_the_store_agree() {
    let (_, view) = view_of_one_slot();
    let (spot, epoch) = (slot(5), OwnerEpoch(1));
    let mut tenure = Tenure::new(member(1, 1));
    let named = TenureEffect::Named { slot: spot, epoch };
    assert_eq!(
        tenure.table(&view, [spot]),
        [named],
        "its events wait, though there is no lease yet"
    );
    let fence = TenureEffect::Fence { slot: spot, epoch };
    assert_eq!(tenure.lease(true), [TenureEffect::Resume, fence]);
    assert_eq!(tenure.acts_for(spot, true), None);
    // The lease lapses before the store answers: the slot opens when it is valid again.
    tenure.lease(false);
    assert_eq!(tenure.fenced(spot, epoch, Ok(())), []);
    let open = TenureEffect::Open {
        slot: spot,
        epoch,
        via: None,
    };
    assert_eq!(tenure.lease(true), [TenureEffect::Resume, open]);
    assert_eq!(tenure.acts_for(spot, true), Some(epoch));
    let mut mutant = Tenure::with_rules(member(1, 1), Rules::without(Rule::FenceBeforeOpen));
    mutant.lease(true);
    assert_eq!(mutant.table(&view, [spot]), [open]);
}

#[test]
fn a_store_that_knows_a_higher_epoch_keeps_the_slot_shut() {
    let (_, mut view) = view_of_one_slot();
    let spot = slot(5);
    let mut tenure = Tenure::new(member(1, 1));
    tenure.lease(true);
    tenure.table(&view, [spot]);
    let effects = tenure.fenced(spot, OwnerEpoch(1), Err(OwnerEpoch(3)));
    let [
        TenureEffect::Saw { slot, epoch },
        TenureEffect::Drop {
            why: DropReason::Fenced,
            ..
        },
    ] = effects[..]
    else {
        panic!("{effects:?}")
    };
    view.saw(slot, epoch);
    assert_eq!(tenure.table(&view, [spot]), []);
    assert_eq!(tenure.acts_for(spot, true), None);
}

/// An open slot whose lease lapses for 20 ms: whether anything left it meanwhile, and whether its
/// lanes are still there.
fn lapse(rules: Rules) -> (bool, bool) {
    let (_, view) = view_of_one_slot();
    let spot = slot(5);
    let mut tenure = Tenure::with_rules(member(1, 1), rules);
    tenure.lease(true);
    tenure.table(&view, [spot]);
    tenure.fenced(spot, OwnerEpoch(1), Ok(()));
    let mut effects = tenure.lease(false);
    let released = tenure.acts_for(spot, false).is_some();
    effects.extend(tenure.lease(true));
    let dropped = effects
        .iter()
        .any(|effect| matches!(effect, TenureEffect::Drop { .. }));
    (released, !dropped && tenure.acts_for(spot, true).is_some())
}

#[test]
fn a_lapse_suspends_and_loses_nothing() {
    assert_eq!(lapse(Rules::ALL), (false, true));
    assert_eq!(lapse(Rules::without(Rule::SuspendedIsSilent)), (true, true));
    assert!(!lapse(Rules::without(Rule::LapseSuspends)).1);
}

#[test]
fn another_owner_a_newer_epoch_or_death_drops_a_slot() {
    let (mut log, mut view) = view_of_one_slot();
    let spot = slot(5);
    let mut tenure = Tenure::new(member(1, 1));
    tenure.lease(true);
    tenure.table(&view, [spot]);
    tenure.fenced(spot, OwnerEpoch(1), Ok(()));
    log.begin(5, 3, crate::MoveReason::Admin);
    log.complete(5);
    view.install(log.table.clone());
    let drop = |why| TenureEffect::Drop {
        slot: spot,
        epoch: OwnerEpoch(1),
        why,
    };
    let mut lost = tenure.clone();
    assert_eq!(lost.table(&view, [spot]), [drop(DropReason::Table)]);
    assert_eq!(tenure.dead(), [drop(DropReason::Dead)]);
    // Another life of the same node owns nothing of the old one.
    let mut log = Log::with_nodes(1);
    log.give(5, 1);
    log.register(registration("n1", 1, 2));
    log.turn(1, NodeState::Up);
    let mut next = Tenure::new(member(1, 2));
    next.lease(true);
    assert_eq!(next.table(&View::new(log.table), [spot]), []);
}

#[test]
fn a_slot_let_go_before_it_was_open_stays_shut_until_the_move_is_aborted() {
    let (_, view) = view_of_one_slot();
    let (spot, epoch) = (slot(5), OwnerEpoch(1));
    let mut tenure = Tenure::new(member(1, 1));
    tenure.lease(true);
    tenure.table(&view, [spot]);
    assert!(tenure.release(spot, epoch) && tenure.release(spot, epoch));
    assert!(!tenure.release(spot, OwnerEpoch(2)));
    assert_eq!(tenure.fenced(spot, epoch, Ok(())), []);
    assert_eq!(tenure.lease(false), [TenureEffect::Suspend]);
    assert_eq!(tenure.lease(true), [TenureEffect::Resume]);
    assert_eq!(tenure.acts_for(spot, true), None);
    let mut lapsed = tenure.clone();
    lapsed.lease(false);
    assert_eq!(
        lapsed.take_back(spot, epoch),
        [TenureEffect::Named { slot: spot, epoch }]
    );
    assert_eq!(
        tenure.take_back(spot, epoch),
        [TenureEffect::Fence { slot: spot, epoch }]
    );
    tenure.fenced(spot, epoch, Ok(()));
    assert_eq!(tenure.acts_for(spot, true), Some(epoch));
    let mut lapsed = tenure.clone();
    lapsed.lease(false);
    lapsed.release(spot, epoch);
    assert_eq!(lapsed.take_back(spot, epoch), [], "it was open");
    tenure.release(spot, epoch);
    assert_eq!(tenure.take_back(spot, epoch), []);
    assert_eq!(tenure.acts_for(spot, true), Some(epoch));
}
