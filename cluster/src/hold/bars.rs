//! The owner's side of R11: which generations it bounces.

use std::collections::HashMap;

use crate::{BootId, Rule, Rules, SlotId};

/// An ingress core of one process: generations go on when its node registers anew, and begin again
/// when it starts anew.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Sender {
    /// The process.
    pub boot: BootId,
    /// The core.
    pub core: u16,
}

/// The generations that were bounced, per ingress core and slot.
#[derive(Debug, Clone, Default)]
pub struct Bars {
    highest: HashMap<(Sender, SlotId), u32>,
    rules: Rules,
}

impl Bars {
    /// Nothing was bounced.
    pub fn new() -> Self {
        Self::default()
    }

    /// The same, under these rules.
    pub fn with_rules(rules: Rules) -> Self {
        Self {
            rules,
            ..Self::default()
        }
    }

    /// Whether an event may run: neither its generation nor a newer one was bounced. One that may
    /// not is bounced as `Stale`.
    pub fn admits(&self, sender: Sender, slot: SlotId, generation: u32) -> bool {
        let barred = self
            .highest
            .get(&(sender, slot))
            .is_some_and(|highest| generation <= *highest);
        !barred || !self.rules.hold(Rule::Generations)
    }

    /// An event is bounced, for whatever reason.
    pub fn bounced(&mut self, sender: Sender, slot: SlotId, generation: u32) {
        let highest = self.highest.entry((sender, slot)).or_default();
        *highest = (*highest).max(generation);
    }

    /// Only these processes may send anything any more: all others are forgotten.
    pub fn keep(&mut self, lives: impl Fn(BootId) -> bool) {
        self.highest.retain(|(sender, _), _| lives(sender.boot));
    }

    /// For how many ingress cores and slots something is kept.
    pub fn len(&self) -> usize {
        self.highest.len()
    }

    /// Whether nothing is kept.
    pub fn is_empty(&self) -> bool {
        self.highest.is_empty()
    }
}
