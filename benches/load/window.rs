//! When calls of a slice count.

use tokio::time::Instant;

/// When calls count: those that end in `from..until`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Window {
    /// End of the warm-up.
    pub(crate) from: Instant,
    /// End of the load.
    pub(crate) until: Instant,
}

impl Window {
    /// Whether a call that ended at `instant` counts.
    pub(crate) fn contains(&self, instant: Instant) -> bool {
        self.from <= instant && instant < self.until
    }
}
