//! The rules that keep a slot with one owner, as switches.
//!
//! In a build for use every rule holds and nothing can change that. In tests, and with the feature
//! `sim`, single rules can be switched off: a simulation has to notice each one that is missing.

/// A rule of the design, or the part of one, that a test can switch off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Rule {
    /// R1: a lease counts from the moment its heartbeat was sent.
    LeaseFromSend,
    /// R2: a heartbeat is acknowledged after a leadership round that began after its arrival.
    AckAfterRound,
    /// R3: a node is declared dead only past its lease and the drift margin.
    DeathAfterMargin,
    /// R3: a `Register` that replaces a living incarnation waits like a death.
    ReplaceAfterMargin,
    /// R4: a new leader counts every node as last heard when it began.
    GraceAtStart,
    /// R4: a leader acknowledges nothing before its barrier is applied.
    BarrierFirst,
    /// R5: an incarnation whose death was proposed is never acknowledged again.
    NoAckAfterProposal,
    /// R5: the table ignores a death proposed by another leadership.
    LeaderGuard,
    /// R6: a lapse suspends and drops nothing.
    LapseSuspends,
    /// R6: a suspended slot releases nothing.
    SuspendedIsSilent,
    /// R7: a slot opens after its store has accepted the fence.
    FenceBeforeOpen,
    /// R8: a step of a move counts only if slot, epoch and move id match.
    MoveStepsMatch,
    /// R9: a table never goes backwards.
    NeverBackwards,
    /// R10: a repeat is one only with the same boot id.
    BootIdTellsApart,
    /// R11: what was sent under a bounced generation is bounced too.
    Generations,
    /// R12: a new link drops the unread events of the old one.
    NewLinkDropsOld,
}

/// Which rules hold: all of them, but in tests.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Rules {
    #[cfg(any(test, feature = "sim"))]
    off: u32,
}

impl Rules {
    /// Every rule holds.
    pub const ALL: Self = Self {
        #[cfg(any(test, feature = "sim"))]
        off: 0,
    };

    /// All rules but one: a mutant, for tests.
    #[cfg(any(test, feature = "sim"))]
    pub const fn without(rule: Rule) -> Self {
        Self {
            off: 1 << rule as u8,
        }
    }

    /// Whether the rule holds.
    pub(crate) const fn hold(self, rule: Rule) -> bool {
        #[cfg(any(test, feature = "sim"))]
        {
            self.off & (1 << rule as u8) == 0
        }
        #[cfg(not(any(test, feature = "sim")))]
        {
            let _ = rule;
            true
        }
    }
}
