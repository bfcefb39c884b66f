//! Answers that cross as they are though Centrifugo or an SDK would mishandle them: counted, and each
//! told of once.

use crate::answer::Flaw;
use crate::event::EventKind;
use crate::metrics::cells::Counter;
use std::collections::HashSet;
use std::sync::{Mutex, PoisonError};

/// Events and codes that are remembered; applications choose the codes.
const REMEMBERED: usize = 1000;

/// What was found in the answers of a handler.
#[derive(Debug, Default)]
pub(crate) struct Flaws {
    count: Counter,
    told: Mutex<HashSet<(EventKind, u32)>>,
}

impl Flaws {
    /// How many such answers there were.
    pub(crate) fn count(&self) -> u64 {
        self.count.get()
    }

    /// Counts one; whether it is the first of its event and code.
    fn is_new(&self, kind: EventKind, code: u32) -> bool {
        self.count.add_one();
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        told.len() < REMEMBERED && told.insert((kind, code))
    }

    /// Counts one, and tells of the first of each event and code.
    pub(crate) fn found(&self, handler: &str, kind: EventKind, flaw: &Flaw) {
        if self.is_new(kind, flaw.code) {
            let (event, code) = (kind.name(), flaw.code);
            tracing::warn!(
                handler,
                event,
                code,
                "an answer crosses that Centrifugo or an SDK would mishandle (told once): {}",
                flaw.text
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_event_and_code_is_new_once_and_every_answer_counts() {
        let flaws = Flaws::default();
        assert!(flaws.is_new(EventKind::Rpc, 7));
        assert!(!flaws.is_new(EventKind::Rpc, 7));
        assert!(flaws.is_new(EventKind::Rpc, 8));
        assert!(flaws.is_new(EventKind::Connect, 7));
        assert_eq!(flaws.count(), 4);
        for code in 0..5000 {
            flaws.is_new(EventKind::Publish, code);
        }
        assert!(!flaws.is_new(EventKind::Publish, 6000), "it is bounded");
    }
}
