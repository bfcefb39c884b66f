//! What the leader remembers of failures: nodes that die too often, pairs whose moves fail. Both are
//! forgotten with its leadership. Times count from any fixed start.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use crate::NodeId;

const DEATHS: usize = 3;
const DEATHS_WITHIN: Duration = Duration::from_secs(600);
const QUARANTINE: Duration = Duration::from_secs(600);
const FIRST_REST: Duration = Duration::from_secs(2);
const LONGEST_REST: Duration = Duration::from_secs(60);

/// How often nodes were declared dead of late. The third time within 10 minutes puts a node in
/// quarantine for 10 minutes.
#[derive(Debug, Clone, Default)]
pub struct Deaths {
    recent: BTreeMap<NodeId, VecDeque<Duration>>,
    until: BTreeMap<NodeId, Duration>,
}

impl Deaths {
    /// A node was declared dead.
    pub fn died(&mut self, node: NodeId, now: Duration) {
        let recent = self.recent.entry(node).or_default();
        recent.push_back(now);
        while recent
            .front()
            .is_some_and(|first| now.saturating_sub(*first) > DEATHS_WITHIN)
        {
            recent.pop_front();
        }
        if recent.len() >= DEATHS {
            self.until.insert(node, now + QUARANTINE);
        }
    }

    /// An operator trusts the node again.
    pub fn undrained(&mut self, node: NodeId) {
        self.recent.remove(&node);
        self.until.remove(&node);
    }

    /// The nodes in quarantine.
    pub fn quarantined(&self, now: Duration) -> impl Iterator<Item = NodeId> {
        self.until
            .iter()
            .filter(move |(_, until)| now < **until)
            .map(|(node, _)| *node)
    }
}

/// Pairs of source and target whose moves failed. A pair rests 2 s after a failure, twice as long
/// after each further one, at most 60 s.
#[derive(Debug, Clone, Default)]
pub struct Rests {
    pairs: BTreeMap<(NodeId, NodeId), (Duration, Duration)>,
}

impl Rests {
    /// A move from one node to another failed. What fails while the pair rests is of the same kind
    /// and does not make it longer.
    pub fn failed(&mut self, from: NodeId, to: NodeId, now: Duration) {
        let rest = match self.pairs.get(&(from, to)) {
            Some((_, until)) if now < *until => return,
            Some((rest, _)) => rest.saturating_mul(2).min(LONGEST_REST),
            None => FIRST_REST,
        };
        self.pairs.insert((from, to), (rest, now + rest));
    }

    /// A move from one node to another succeeded.
    pub fn completed(&mut self, from: NodeId, to: NodeId) {
        self.pairs.remove(&(from, to));
    }

    /// Whether a pair rests.
    pub fn rests(&self, from: NodeId, to: NodeId, now: Duration) -> bool {
        self.pairs
            .get(&(from, to))
            .is_some_and(|(_, until)| now < *until)
    }

    /// The pairs that rest.
    pub fn resting(&self, now: Duration) -> BTreeSet<(NodeId, NodeId)> {
        let rests = self.pairs.iter().filter(|(_, (_, until))| now < *until);
        rests.map(|(pair, _)| *pair).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: NodeId = NodeId(1);
    const B: NodeId = NodeId(2);

    fn seconds(count: u64) -> Duration {
        Duration::from_secs(count)
    }

    #[test]
    fn the_third_death_within_ten_minutes_is_quarantine_for_ten() {
        let mut deaths = Deaths::default();
        for at in [0, 400, 601] {
            deaths.died(A, seconds(at));
        }
        assert_eq!(deaths.quarantined(seconds(601)).count(), 0);
        deaths.died(A, seconds(700));
        assert_eq!(deaths.quarantined(seconds(1299)).collect::<Vec<_>>(), [A]);
        assert_eq!(deaths.quarantined(seconds(1300)).count(), 0);
        deaths.undrained(A);
        assert_eq!(deaths.quarantined(seconds(800)).count(), 0);
    }

    #[test]
    fn a_pair_rests_twice_as_long_each_time_until_it_succeeds() {
        let mut rests = Rests::default();
        let mut now = seconds(0);
        for rest in [2, 4, 8, 16, 32, 60, 60] {
            rests.failed(A, B, now);
            rests.failed(A, B, now);
            now += seconds(rest) - Duration::from_millis(1);
            assert!(rests.resting(now).contains(&(A, B)), "{rest}");
            now += Duration::from_millis(1);
            assert!(rests.resting(now).is_empty(), "{rest}");
        }
        rests.completed(A, B);
        rests.failed(A, B, now);
        assert!(rests.resting(now + seconds(2)).is_empty());
    }
}
