//! A seeded simulation of several nodes: the machines of this crate under pauses, crashes,
//! partitions, lost, late, doubled and reordered messages, and clocks that run 4 % fast or slow.
//!
//! Consensus is modelled, not run: one log that only the newest leader appends to, applied by each
//! voter in its own time; old leaders that do not know yet; rounds of leadership that tell the truth
//! about one moment between their begin and their end; proposals that a later leader logs again.
//!
//! Checked at every step: no two processes act for one slot, none acts under an epoch older than one
//! that has acted, and no write of an older epoch reaches a shared store once a newer one is open. At
//! the end, after some calm, every slot is served. Events come in at every node and run at the owner:
//! in order per ingress and channel, started once or, if that is safe, once more after a death; each is
//! answered once, and none that ran is called not started.

mod checker;
mod deliver;
mod effects;
mod events;
mod faults;
mod life;
mod log;
mod net;
mod node;
mod raft;
mod tick;
mod world;

use crate::{Rule, Rules};
use world::{Report, World};

/// Runs a seed for so many steps, with events or without.
fn run(seed: u64, steps: usize, rules: Rules, shared_store: bool, busy: bool) -> Report {
    World::new(seed, rules, shared_store, busy).run(steps)
}

/// The steps of a run with a mutant, and how many seeds it may take to notice one.
const MUTANT_STEPS: usize = 12_000;
const MUTANT_SEEDS: u64 = 200;

/// Whether the checker notices, with this seed, that a rule is missing.
fn notices(rule: Rule, seed: u64, shared_store: bool) -> bool {
    // Only one rule is about events; without them a run covers more time.
    let busy = rule == Rule::Generations;
    let report = run(seed, MUTANT_STEPS, Rules::without(rule), shared_store, busy);
    report.violation.is_some()
}

#[test]
fn a_million_random_steps_have_no_double_owner() {
    let mut all = Report::default();
    for seed in 0..40 {
        let report = run(seed, 26_000, Rules::ALL, seed % 2 == 0, true);
        assert_eq!(report.violation, None, "seed {seed}");
        all.add(&report);
    }
    // That there was something to notice:
    assert!(all.steps > 1_000_000 && all.elections > 150, "{all:?}");
    assert!(
        all.takeovers > 250 && all.moves > 200 && all.aborted > 50,
        "{all:?}"
    );
    assert!(all.lapses > 150 && all.replaced > 50, "{all:?}");
    assert!(all.ran > 20_000 && all.bounced > 5_000, "{all:?}");
    assert!(all.again > 0 && all.ambiguous > 500, "{all:?}");
}

#[test]
#[ignore = "takes minutes"]
fn ten_million_random_steps_have_no_double_owner() {
    for seed in 1000..1400 {
        let report = run(seed, 26_000, Rules::ALL, seed % 2 == 0, true);
        assert_eq!(report.violation, None, "seed {seed}");
    }
}

#[test]
fn a_seed_runs_the_same_way_twice() {
    let (one, two) = (
        run(7, 20_000, Rules::ALL, false, true),
        run(7, 20_000, Rules::ALL, false, true),
    );
    assert_eq!(one, two);
    assert_ne!(one.trace, run(8, 20_000, Rules::ALL, false, true).trace);
}

macro_rules! mutants {
    ($($name:ident: $rule:ident, $shared:literal;)+) => {
        $(
            #[test]
            fn $name() {
                let noticed = (0..MUTANT_SEEDS).any(|seed| notices(Rule::$rule, seed, $shared));
                assert!(noticed, "no seed notices");
            }
        )+

        /// Figures, for whoever changes a rule or the faults.
        #[test]
        #[ignore = "takes minutes; prints in how many seeds each mutant is noticed"]
        fn how_often_each_mutant_is_noticed() {
            $(
                let count = (0..MUTANT_SEEDS).filter(|seed| notices(Rule::$rule, *seed, $shared)).count();
                println!("{count} of {MUTANT_SEEDS} seeds notice that {:?} is missing", Rule::$rule);
            )+
        }
    };
}

mutants! {
    a_lease_from_receipt_is_noticed: LeaseFromSend, false;
    an_acknowledgement_without_a_round_is_noticed: AckAfterRound, false;
    a_death_without_margin_is_noticed: DeathAfterMargin, false;
    a_start_of_leadership_without_grace_is_noticed: GraceAtStart, false;
    an_acknowledgement_after_a_proposal_is_noticed: NoAckAfterProposal, false;
    a_death_logged_by_a_later_leader_is_noticed: LeaderGuard, false;
    a_slot_opened_before_its_fence_is_noticed: FenceBeforeOpen, true;
    a_table_that_goes_backwards_is_noticed: NeverBackwards, false;
    a_bounced_generation_that_runs_is_noticed: Generations, false;
    a_suspended_slot_that_acts_is_noticed: SuspendedIsSilent, false;
}
