//! How many retries there may be, over all calls: a share of the successes, and a few to begin with.

use std::sync::atomic::{AtomicU64, Ordering};

/// Retries of what was sent: each takes tokens, which successes fill.
#[derive(Debug)]
pub(crate) struct Budget {
    tokens: AtomicU64,
    fill: u64,
}

impl Budget {
    /// What a retry takes; a success gives its share of it.
    const COST: u64 = 1000;
    /// At most so many retries are saved up.
    const SAVED: u64 = 100;
    /// As many there are to begin with.
    const FIRST: u64 = 10;

    /// So many retries for each success, 0 to 1; none at all for 0.
    pub(crate) fn new(share: f64) -> Self {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a share is from 0 to 1"
        )]
        let fill = (share.clamp(0.0, 1.0) * Self::COST as f64).round() as u64;
        let first = if fill == 0 { 0 } else { Self::FIRST };
        Self {
            tokens: AtomicU64::new(first * Self::COST),
            fill,
        }
    }

    /// A call has succeeded.
    pub(crate) fn succeeded(&self) {
        let most = Self::SAVED * Self::COST;
        if self.fill == 0 || self.tokens.load(Ordering::Relaxed) >= most {
            return;
        }
        let fill = |tokens: u64| Some((tokens + self.fill).min(most));
        _ = self
            .tokens
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, fill);
    }

    /// Takes a retry, if there is one.
    pub(crate) fn may_retry(&self) -> bool {
        let pay = |tokens: u64| tokens.checked_sub(Self::COST);
        self.tokens
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, pay)
            .is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn retries(budget: &Budget) -> usize {
        (0..1000).filter(|_| budget.may_retry()).count()
    }

    #[test]
    fn the_budget_of_retries_is_spent_and_filled_by_successes() {
        let budget = Budget::new(0.1);
        assert_eq!(retries(&budget), 10);
        (0..25).for_each(|_| budget.succeeded());
        assert_eq!(retries(&budget), 2);
        (0..100_000).for_each(|_| budget.succeeded());
        assert_eq!(retries(&budget), 100, "what is saved up is bounded");
    }

    #[test]
    fn a_share_of_nothing_allows_no_retry_at_all() {
        let budget = Budget::new(0.0);
        (0..1000).for_each(|_| budget.succeeded());
        assert_eq!(retries(&budget), 0);
    }
}
