//! A simulated process: its clocks, its copy of the table, its machines.

use std::collections::BTreeMap;
use std::time::Duration;

use super::events::Events;
use super::net::What;
use super::world::HOT;
use crate::handoff::{Coordinator, HandoffConfig, Source, Target};
use crate::lease::{Grantor, Holder, LeaseConfig, Reading, Tenure};
use crate::testing::{Chance, slot};
use crate::{BootId, LeaderId, Member, OwnerEpoch, Rules, SlotId, View};

/// The part of a process that lives as long as one incarnation.
#[derive(Debug)]
pub(super) struct Life {
    pub(super) holder: Holder,
    pub(super) tenure: Tenure,
    pub(super) source: Source,
    pub(super) target: Target,
}

impl Life {
    pub(super) fn new(
        me: Member,
        boot: BootId,
        config: LeaseConfig,
        now: Reading,
        rules: Rules,
    ) -> Self {
        Self {
            holder: Holder::with_rules(me, boot, config, 0, now, rules),
            tenure: Tenure::with_rules(me, rules),
            source: Source::with_rules(me, HandoffConfig::default(), rules),
            target: Target::with_rules(me, rules),
        }
    }
}

/// The part of a process that thinks it leads.
#[derive(Debug)]
pub(super) struct Lead {
    pub(super) id: LeaderId,
    pub(super) grantor: Grantor,
    pub(super) coordinator: Coordinator,
}

#[derive(Debug)]
pub(super) struct Node {
    pub(super) index: usize,
    pub(super) me: Member,
    pub(super) boot: BootId,
    pub(super) view: View,
    pub(super) life: Option<Life>,
    pub(super) lead: Option<Lead>,
    pub(super) alive: bool,
    pub(super) paused: bool,
    /// What came while it was paused.
    pub(super) backlog: Vec<What>,
    /// How many entries it has applied, if it is a voter.
    pub(super) applied: usize,
    /// The voter that it watches, if it is none.
    pub(super) watches: usize,
    pub(super) leader: Option<(LeaderId, usize)>,
    pub(super) side: u8,
    pub(super) store: BTreeMap<SlotId, OwnerEpoch>,
    pub(super) next_register: u64,
    pub(super) next_ask: u64,
    /// Until when a voter applies nothing.
    pub(super) slow_until: u64,
    pub(super) events: Events,
    rates: (u64, u64),
    offsets: (u64, u64),
}

impl Node {
    pub(super) fn new(
        index: usize,
        me: Member,
        boot: BootId,
        view: View,
        chance: &mut Chance,
    ) -> Self {
        // At the bounds more often than between them, and often both clocks alike.
        let bounds = [960_000, 960_000, 1_000_000, 1_040_000, 1_040_000];
        let one = *chance.pick(&bounds).expect("not empty");
        let other = *chance.pick(&bounds).expect("not empty");
        let rates = (one, if chance.permille(600) { one } else { other });
        let offsets = (chance.below(1_000_000_000), chance.below(1_000_000_000));
        Self {
            index,
            me,
            boot,
            view,
            life: None,
            lead: None,
            alive: true,
            paused: false,
            backlog: Vec::new(),
            applied: 0,
            watches: chance.below(3) as usize,
            leader: None,
            side: 0,
            store: BTreeMap::new(),
            next_register: 0,
            next_ask: 0,
            slow_until: 0,
            events: Events::new(Rules::ALL),
            rates,
            offsets,
        }
    }

    /// What its clocks say at this true time, in microseconds.
    pub(super) fn reading(&self, at: u64) -> Reading {
        let clock =
            |rate: u64, offset: u64| Duration::from_micros(offset + at / 1000 * rate / 1000);
        Reading {
            boot: clock(self.rates.0, self.offsets.0),
            raw: clock(self.rates.1, self.offsets.1),
        }
    }

    /// Its one clock for time-outs.
    pub(super) fn clock(&self, at: u64) -> Duration {
        self.reading(at).raw
    }

    /// The slots that it may act for now.
    pub(super) fn acting(&self, at: u64) -> impl Iterator<Item = (SlotId, OwnerEpoch)> {
        let life = self.life.as_ref().filter(|_| self.alive && !self.paused);
        let valid = life.is_some_and(|life| life.holder.is_valid(self.reading(at)));
        life.into_iter().flat_map(move |life| {
            (0..HOT).filter_map(move |index| {
                let slot = slot(index);
                Some((slot, life.tenure.acts_for(slot, valid)?))
            })
        })
    }
}
