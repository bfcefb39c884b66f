//! The checker finds what it is there for.

use super::*;

/// Calls of one key, one after the other, each of 10 ms; a call that failed has no count.
struct Told {
    zero: Instant,
    calls: Vec<Call>,
}

impl Told {
    fn new() -> Self {
        Self {
            zero: Instant::now(),
            calls: Vec::new(),
        }
    }

    fn call(mut self, at_ms: u64, took_ms: u64, result: Result<Count, Failed>) -> Self {
        self.calls.push(Call {
            key: 0,
            caller: self.calls.len(),
            through: 0,
            began: self.zero + Duration::from_millis(at_ms),
            took: Duration::from_millis(took_ms),
            result,
        });
        self
    }

    /// This count of an owner.
    fn counts(self, at_ms: u64, node: &str, epoch: u64, count: u64) -> Self {
        let node = node.to_owned();
        self.call(at_ms, 10, Ok(Count { count, node, epoch }))
    }

    fn fails(self, at_ms: u64) -> Self {
        let failed = Failed::Status(14, "unavailable".to_owned());
        self.call(at_ms, 10, Err(failed))
    }

    fn report(self) -> Report {
        Report {
            calls: self.calls,
            took: Duration::from_secs(1),
        }
    }

    /// What is wrong where owners may have died.
    fn kinds(self) -> Vec<Kind> {
        let wrongs = self.report().wrongs(true);
        let kinds: BTreeSet<_> = wrongs.iter().map(|wrong| wrong.kind).collect();
        kinds.into_iter().collect()
    }
}

/// Three counts of an owner, in order.
fn three() -> Told {
    let told = Told::new().counts(0, "a", 1, 1);
    told.counts(20, "a", 1, 2).counts(40, "a", 1, 3)
}

#[test]
fn the_checker_finds_nothing_in_counts_that_go_on_through_moves_and_begin_anew_at_a_takeover() {
    let told = three().counts(60, "b", 2, 4).fails(80);
    let report = told.counts(100, "c", 3, 1).counts(120, "c", 3, 2).report();
    assert!(report.wrongs(true).is_empty());
    assert_eq!(report.wrongs(false)[0].kind, Kind::Anew);
    assert_eq!(report.stale(), 0);
}

#[test]
fn the_checker_finds_an_event_that_a_living_owner_executed_twice_though_others_have_failed() {
    // The one that failed did so before it all began to count.
    let told = Told::new().fails(0).counts(9_000, "a", 1, 1);
    let told = told.counts(9_020, "a", 1, 2).counts(9_040, "a", 1, 4);
    assert_eq!(told.kinds(), [Kind::Twice]);
    // Explained by one that failed at that time.
    let told = three().fails(50).counts(70, "a", 1, 5);
    assert_eq!(told.kinds(), []);
    // But two are not, and not in two places.
    let told = three().fails(50).counts(70, "a", 1, 6);
    assert_eq!(told.kinds(), [Kind::Twice]);
    let told = three().fails(50).counts(70, "a", 1, 5);
    assert_eq!(told.counts(90, "a", 1, 7).kinds(), [Kind::Twice]);
}

#[test]
fn the_checker_counts_what_is_missing_behind_a_takeover_too() {
    let told = three().fails(60).counts(100, "b", 2, 2);
    assert_eq!(told.kinds(), []);
    let told = three().counts(100, "b", 2, 2);
    assert_eq!(told.kinds(), [Kind::Twice]);
    // What could not be sent explains nothing.
    let told = three().call(60, 10, Err(Failed::NotSent));
    assert_eq!(told.counts(100, "b", 2, 2).kinds(), [Kind::Twice]);
}

#[test]
fn the_checker_finds_two_owners_answers_given_twice_and_empty_ones() {
    assert_eq!(three().counts(35, "b", 1, 4).kinds(), [Kind::Owners]);
    let told = three().counts(35, "a", 1, 3);
    assert_eq!(told.kinds(), [Kind::Twice]);
    let told = three().call(60, 10, Err(Failed::Empty));
    assert_eq!(told.kinds(), [Kind::Empty]);
    // An older owner answers what began after a newer one had answered.
    let told = three().counts(60, "b", 2, 1);
    assert_eq!(told.counts(80, "a", 1, 4).kinds(), [Kind::Owners]);
}

#[test]
fn an_answer_of_an_owner_that_stood_still_is_counted_as_stale_and_is_not_wrong() {
    let late = Count {
        count: 4,
        node: "a".to_owned(),
        epoch: 1,
    };
    let told = three().call(50, 5_000, Ok(late)).counts(2_000, "b", 2, 1);
    let report = told.report();
    assert!(report.wrongs(true).is_empty(), "{report:?}");
    assert_eq!(report.stale(), 1);
}
