//! What callers wrote down, and the check of it: nothing that must never be, whatever failed meanwhile.
//!
//! Counts of a key go on through planned moves and begin at 1 again after a takeover. So the answers of
//! a key, in the order of their epochs and counts, are one run or several, each 1, 2, 3 …; a number that
//! nobody was told of was counted for a call that failed. One more than that, and an event was executed
//! twice.

use super::{Call, Count, Failed, PATIENCE};
use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

/// How long beyond its deadline an event that nobody was told of may still have been counted.
const LATE: Duration = Duration::from_secs(1);

/// A way in which a report can be wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    /// Two nodes acted for a key under one epoch, or an older one after a newer.
    Owners,
    /// An event was answered or executed twice.
    Twice,
    /// OK without an answer.
    Empty,
    /// Counts began anew though no owner had died.
    Anew,
}

/// Something that must never be.
#[derive(Debug)]
pub(crate) struct Wrong {
    pub(crate) kind: Kind,
    pub(crate) what: String,
}

/// What callers wrote down.
#[derive(Debug)]
pub(crate) struct Report {
    /// In the order of the answers.
    pub(crate) calls: Vec<Call>,
    pub(crate) took: Duration,
}

fn end(call: &Call) -> Instant {
    call.began + call.took
}

/// Counts that follow each other without a takeover between them.
#[derive(Debug, Default)]
struct Run<'a> {
    answers: Vec<(&'a Call, &'a Count)>,
}

impl Run<'_> {
    fn last(&self) -> u64 {
        self.answers.last().map_or(0, |(_, count)| count.count)
    }

    /// Counts that nobody was told of: how many, and when they were made.
    fn gaps(&self) -> impl Iterator<Item = (u64, Option<Instant>, Instant)> {
        let mut before: Option<(u64, Instant)> = None;
        self.answers.iter().filter_map(move |(call, count)| {
            let (last, from) = before.unzip();
            before = Some((count.count, call.began));
            let missing = count.count.saturating_sub(last.unwrap_or(0) + 1);
            (missing > 0).then(|| (missing, from, end(call)))
        })
    }
}

/// The answers of a key as runs; what is answered twice; and whether a run began without a takeover.
fn runs<'a>(answers: &[(&'a Call, &'a Count)]) -> (Vec<Run<'a>>, Vec<&'a Call>) {
    let mut in_order = answers.to_vec();
    in_order.sort_by_key(|(_, count)| (count.epoch, count.count));
    let (mut runs, mut twice): (Vec<Run<'_>>, _) = (Vec::new(), Vec::new());
    let mut epoch = 0;
    for (call, count) in in_order {
        let begins = runs
            .last()
            .is_none_or(|run| count.epoch > epoch && count.count <= run.last());
        epoch = count.epoch;
        if begins {
            runs.push(Run::default());
        }
        let Some(run) = runs.last_mut() else { continue };
        if !run.answers.is_empty() && run.last() == count.count {
            twice.push(call);
        } else {
            run.answers.push((call, count));
        }
    }
    (runs, twice)
}

impl Report {
    /// Calls without a count; those that were never sent do not count, since a caller goes on elsewhere.
    pub(crate) fn failed(&self) -> Vec<&Call> {
        self.calls.iter().filter(|call| has_failed(call)).collect()
    }

    /// All that must never be: two owners at one time, an older owner after a newer one, an answer that
    /// was given twice, a count that no failed call explains, an empty OK; and, unless `restarts` says
    /// that owners died, a count that begins anew.
    pub(crate) fn wrongs(&self, restarts: bool) -> Vec<Wrong> {
        let mut wrongs = Vec::new();
        let mut wrong = |kind, what: String| wrongs.push(Wrong { kind, what });
        let mut owners: BTreeMap<(usize, u64), &str> = BTreeMap::new();
        let mut keys: BTreeMap<usize, Vec<&Call>> = BTreeMap::new();
        for call in &self.calls {
            match &call.result {
                Err(Failed::Empty) => wrong(Kind::Empty, format!("an empty OK: {call:?}")),
                Err(_) => {}
                Ok(count) => {
                    let owner = owners.entry((call.key, count.epoch)).or_insert(&count.node);
                    if *owner != count.node {
                        let what = format!("two owners under one epoch, {owner} and: {call:?}");
                        wrong(Kind::Owners, what);
                    }
                }
            }
            keys.entry(call.key).or_default().push(call);
        }
        for (key, calls) in keys {
            let answered = calls.iter().copied();
            let answers: Vec<_> = answered
                .filter_map(|call| Some((call, call.result.as_ref().ok()?)))
                .collect();
            let (runs, twice) = runs(&answers);
            for call in twice {
                wrong(Kind::Twice, format!("answered twice: {call:?}"));
            }
            if let (Some(anew), false) = (runs.get(1), restarts) {
                let what = format!("key {key} begins anew: {:?}", anew.answers.first());
                wrong(Kind::Anew, what);
            }
            let failed: Vec<_> = calls.iter().filter(|call| has_failed(call)).collect();
            let mut missing = 0;
            for (gap, from, to) in runs.iter().flat_map(Run::gaps) {
                missing += gap;
                let may_be = |call: &&&&Call| {
                    let over = call.began + call.took.max(PATIENCE) + LATE;
                    call.began <= to && from.is_none_or(|from| over >= from)
                };
                let explained = failed.iter().filter(may_be).count() as u64;
                if gap > explained {
                    let what = format!(
                        "key {key}: {gap} counts that nobody was told of, {explained} calls that \
                         failed then"
                    );
                    wrong(Kind::Twice, what);
                }
            }
            if missing > failed.len() as u64 {
                let what = format!(
                    "key {key}: {missing} counts that nobody was told of, {} calls that failed",
                    failed.len()
                );
                wrong(Kind::Twice, what);
            }
            for call in older(&answers) {
                wrong(Kind::Owners, format!("an older owner or count: {call:?}"));
            }
        }
        wrongs
    }

    /// Fails where anything is [wrong](Self::wrongs).
    pub(crate) fn check(&self, restarts: bool) {
        let wrongs = self.wrongs(restarts);
        let some = &wrongs[..wrongs.len().min(5)];
        assert!(wrongs.is_empty(), "{} wrongs: {some:#?}", wrongs.len());
    }

    /// How many answers of an owner came after one of the owner that followed it: what a node that
    /// stood still between its last look at the lease and the sending may emit.
    pub(crate) fn stale(&self) -> usize {
        let mut newest: BTreeMap<usize, u64> = BTreeMap::new();
        let mut answers: Vec<_> = self.calls.iter().collect();
        answers.sort_by_key(|call| end(call));
        let stale = answers.into_iter().filter(|call| {
            let Ok(count) = &call.result else {
                return false;
            };
            let newest = newest.entry(call.key).or_default();
            *newest = count.epoch.max(*newest);
            count.epoch < *newest
        });
        stale.count()
    }

    /// Says in a line what came of a scenario, which may have ended owners.
    pub(crate) fn is_sound(&self, what: &str) {
        eprintln!("{what}: {}", self.line());
        self.check(true);
    }

    /// Says in a line what came of a scenario that may cost no event and no count.
    pub(crate) fn is_intact(&self, what: &str) {
        eprintln!("{what}: {}", self.line());
        self.check(false);
        let failed = self.failed();
        let some = &failed[..failed.len().min(5)];
        assert!(failed.is_empty(), "{} failed: {some:#?}", failed.len());
    }

    /// The longest time that a key went without an answer while its caller wanted one.
    pub(crate) fn longest_gap(&self) -> Duration {
        let mut last: BTreeMap<usize, Instant> = BTreeMap::new();
        let mut longest = Duration::ZERO;
        for call in &self.calls {
            if call.result.is_ok()
                && let Some(before) = last.insert(call.caller, end(call))
            {
                longest = longest.max(end(call).saturating_duration_since(before));
            }
        }
        longest
    }

    /// The time below which this share of the answers came.
    pub(crate) fn quantile(&self, share: f64) -> Duration {
        let answered = self.calls.iter().filter(|call| call.result.is_ok());
        let mut took: Vec<_> = answered.map(|call| call.took).collect();
        took.sort_unstable();
        let index = (took.len() as f64 * share) as usize;
        took.get(index.min(took.len().saturating_sub(1)))
            .copied()
            .unwrap_or_default()
    }

    /// One line for a log.
    pub(crate) fn line(&self) -> String {
        let answered = self.calls.iter().filter(|call| call.result.is_ok()).count();
        format!(
            "{answered} answered, {} failed in {:?}; p50 {:?}, p99 {:?}, longest gap {:?}, {} stale",
            self.failed().len(),
            self.took,
            self.quantile(0.5),
            self.quantile(0.99),
            self.longest_gap(),
            self.stale(),
        )
    }
}

fn has_failed(call: &Call) -> bool {
    !matches!(call.result, Ok(_) | Err(Failed::NotSent))
}

/// Answers of an older owner, or with a smaller count, to calls that began after another answer had come.
fn older<'a>(answers: &[(&'a Call, &'a Count)]) -> Vec<&'a Call> {
    let mut timeline = answers.to_vec();
    timeline.sort_by_key(|(call, _)| call.began);
    let mut done: Vec<_> = answers
        .iter()
        .map(|(call, count)| (end(call), count.epoch, count.count))
        .collect();
    done.sort_unstable();
    let (mut at, mut newest) = (0, (0, 0));
    let mut found = Vec::new();
    for (call, count) in timeline {
        while at < done.len() && done[at].0 <= call.began {
            newest = newest.max((done[at].1, done[at].2));
            at += 1;
        }
        if (count.epoch, count.count) <= newest {
            found.push(call);
        }
    }
    found
}

#[cfg(test)]
#[path = "report/tests.rs"]
mod tests;
