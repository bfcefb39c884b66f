//! Which seeds are run: each twice, as many at a time as there are cores.
//!
//! Two things are counted and printed, and fail a run only with `SIM_STRICT=1`: traces that differ
//! between the two runs of a seed, and events that took effect twice. Neither is zero yet.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use crate::world::{self, Trace};

/// How many seeds are run where `SIM_SEEDS` says nothing.
const SEEDS: u64 = 24;

fn setting(name: &str, default: u64) -> u64 {
    let set = std::env::var(name).ok();
    set.map_or(default, |set| {
        set.parse()
            .unwrap_or_else(|_| panic!("{name}={set}: not a number"))
    })
}

/// Runs a seed twice, and says whether both left the same trace. In words, what went wrong.
fn twice(seed: u64, strict: bool) -> Result<(Trace, bool), String> {
    let run = || world::run(seed).map_err(|why| format!("SIM_FIRST={seed} SIM_SEEDS=1: {why}"));
    let (first, second) = (run()?, run()?);
    if strict && !first.twice.is_empty() {
        let events = &first.twice;
        return Err(format!(
            "SIM_FIRST={seed} SIM_SEEDS=1: events {events:?} took effect twice"
        ));
    }
    let same = first == second;
    if same || !strict {
        return Ok((first, same));
    }
    let pairs = first.lines.iter().zip(&second.lines);
    let differs = pairs.clone().position(|(one, other)| one != other);
    let at = differs.unwrap_or_else(|| first.lines.len().min(second.lines.len()));
    let around = at.saturating_sub(3)..at + 9;
    let shown = |trace: &Trace| {
        let lines = trace.lines.iter().take(around.end).skip(around.start);
        let lines: Vec<_> = lines.map(|line| format!("  {line:?}\n")).collect();
        format!("{} of {} lines\n", lines.concat(), trace.lines.len())
    };
    Err(format!(
        "SIM_FIRST={seed} SIM_SEEDS=1: two runs differ from line {at} on:\n{}\n{}",
        shown(&first),
        shown(&second)
    ))
}

#[test]
fn no_slot_has_two_owners_and_every_slot_is_served_again_whatever_breaks() {
    let first = setting("SIM_FIRST", 0);
    let end = first.saturating_add(setting("SIM_SEEDS", SEEDS));
    let next = AtomicU64::new(first);
    let wrong = Mutex::new(Vec::new());
    let strict = setting("SIM_STRICT", 0) != 0;
    let sums = [const { AtomicU64::new(0) }; 6];
    thread::scope(|scope| {
        for _ in 0..thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= end || wrong.lock().unwrap().len() >= 5 {
                        return;
                    }
                    match twice(seed, strict) {
                        Ok((trace, same)) => {
                            let lines = trace.lines.len() as u64;
                            let lasted = trace.lasted.as_secs();
                            let twice = trace.twice.len() as u64;
                            let differs = u64::from(!same);
                            let counts =
                                [lines, trace.answered, trace.fenced, lasted, twice, differs];
                            for (sum, count) in sums.iter().zip(counts) {
                                sum.fetch_add(count, Ordering::Relaxed);
                            }
                        }
                        Err(why) => wrong.lock().unwrap().push(why),
                    }
                }
            });
        }
    });
    let wrong = wrong.into_inner().unwrap();
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
    let [lines, answered, fenced, lasted, twice, differs] = sums.map(AtomicU64::into_inner);
    println!(
        "seeds {first}..{end}: {lines} lines, {answered} events answered, {fenced} late writes \
         fenced off, {lasted} simulated seconds; {twice} events took effect twice, {differs} seeds \
         differed between their two runs"
    );
    assert!(answered > 0, "no event was answered");
}
