//! A node's side of its lease: heartbeats, what an acknowledgement is worth, and whether the node
//! makes enough progress to ask for more.

use std::collections::VecDeque;
use std::time::Duration;

use super::{Ack, Heartbeat, LeaseConfig, Progress, Reading};
use crate::{BootId, Member, NodeId, Rule, Rules};

/// Heartbeats that may still be acknowledged.
const UNANSWERED: usize = 64;
/// A lease timer late by so much makes the node degraded.
const LATE: Duration = Duration::from_millis(200);

/// What a holder wants done, or makes known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HolderEffect {
    /// Send a heartbeat to the leader.
    Send {
        /// The leader.
        to: NodeId,
        /// Voters to send it through as well.
        via: Vec<NodeId>,
        /// The heartbeat.
        heartbeat: Heartbeat,
    },
    /// The lease has begun, or is valid again: slots open or resume.
    Valid,
    /// The lease is over and was not renewed: slots are suspended.
    Lapsed,
    /// This life is over: slots are dropped, and the node registers with a new incarnation.
    Dead,
    /// The table of the leader is newer than this node's.
    Behind {
        /// The version that the leader has.
        version: u64,
    },
    /// The node makes too little progress, and which worker it is if it is one; or it does again.
    Degraded {
        /// Whether it is so now.
        degraded: bool,
        /// The first stalled worker.
        worker: Option<usize>,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Never granted yet, or over.
    Lapsed,
    Valid,
    Dead,
}

/// A node's side of its lease.
#[derive(Debug, Clone)]
pub struct Holder {
    me: Member,
    boot: BootId,
    config: LeaseConfig,
    rules: Rules,
    seq: u64,
    sent: VecDeque<(u64, Reading)>,
    last_sent: Option<Reading>,
    /// When the heartbeat was sent that the lease rests on.
    start: Option<Reading>,
    state: State,
    leader: Option<NodeId>,
    voters: Vec<NodeId>,
    /// Since when an acknowledgement is missing.
    waiting_since: Option<Reading>,
    version: u64,
    closed: u16,
    last_tick: Option<Reading>,
    progress: Progress,
    degraded: bool,
}

impl Holder {
    /// A holder of this life of a node, without a lease, whose workers have all ticked just now.
    pub fn new(
        me: Member,
        boot: BootId,
        config: LeaseConfig,
        workers: usize,
        now: Reading,
    ) -> Self {
        Self::with_rules(me, boot, config, workers, now, Rules::ALL)
    }

    /// The same, under these rules.
    pub fn with_rules(
        me: Member,
        boot: BootId,
        config: LeaseConfig,
        workers: usize,
        now: Reading,
        rules: Rules,
    ) -> Self {
        Self {
            me,
            boot,
            config,
            rules,
            seq: 0,
            sent: VecDeque::new(),
            last_sent: None,
            start: None,
            state: State::Lapsed,
            leader: None,
            voters: Vec::new(),
            waiting_since: None,
            version: 0,
            closed: 0,
            last_tick: None,
            progress: Progress::new(workers, now),
            degraded: false,
        }
    }

    /// Whether the node may act now. Asked before each act: it reads nothing but the clock.
    pub fn is_valid(&self, now: Reading) -> bool {
        !self.left(now).is_zero()
    }

    /// How much of the lease is left.
    pub fn left(&self, now: Reading) -> Duration {
        match self.start {
            Some(start) if self.state != State::Dead => {
                self.config.length.saturating_sub(now.longest_since(start))
            }
            _ => Duration::ZERO,
        }
    }

    /// When the heartbeat was sent that the lease rests on (R1); `None` before the first one.
    pub const fn rests_on(&self) -> Option<Reading> {
        self.start
    }

    /// For how long the lease has been over; zero while it is valid or before the first one.
    pub fn lapsed_for(&self, now: Reading) -> Duration {
        self.start.map_or(Duration::ZERO, |start| {
            now.longest_since(start).saturating_sub(self.config.length)
        })
    }

    /// Which life this is.
    pub const fn member(&self) -> Member {
        self.me
    }

    /// Whether the node makes too little progress for new slots.
    pub const fn is_degraded(&self) -> bool {
        self.degraded
    }

    /// What heartbeats say about this node: the version of its table, how many slots are closed.
    pub const fn report(&mut self, version: u64, closed: u16) {
        self.version = version;
        self.closed = closed;
    }

    /// Raft's voters, through whom a heartbeat can go if the way to the leader is bad.
    pub fn voters(&mut self, voters: Vec<NodeId>) {
        self.voters = voters;
    }

    /// A worker has ticked.
    pub fn worked(&mut self, worker: usize, now: Reading) {
        self.progress.worked(worker, now);
    }

    /// What the workers had done before this life began.
    pub fn progress(&mut self, progress: Progress, now: Reading) -> Vec<HolderEffect> {
        let mut effects = Vec::new();
        self.progress = progress;
        self.watch_progress(now, &mut effects);
        effects
    }

    /// A leader made itself known, or was lost. A new one gets a heartbeat at once.
    pub fn leader(&mut self, leader: Option<NodeId>, now: Reading) -> Vec<HolderEffect> {
        let new = leader.is_some() && leader != self.leader;
        self.leader = leader;
        let mut effects = Vec::new();
        if new {
            self.waiting_since = Some(now);
            self.send(now, &mut effects);
        }
        effects
    }

    /// Two other voters, if the leader has not answered for two intervals: heartbeats and `Released`
    /// go through them as well.
    pub fn detour(&self, now: Reading) -> Vec<NodeId> {
        let unheard = self
            .waiting_since
            .is_some_and(|since| now.longest_since(since) >= self.config.heartbeat * 2);
        let others = self
            .voters
            .iter()
            .filter(|voter| Some(**voter) != self.leader && **voter != self.me.id);
        others.copied().take(if unheard { 2 } else { 0 }).collect()
    }

    /// Time has passed.
    pub fn tick(&mut self, now: Reading) -> Vec<HolderEffect> {
        let mut effects = Vec::new();
        if self.state == State::Valid && !self.is_valid(now) {
            self.state = State::Lapsed;
            effects.push(HolderEffect::Lapsed);
        }
        self.watch_progress(now, &mut effects);
        let due = self
            .last_sent
            .is_none_or(|sent| now.longest_since(sent) >= self.config.heartbeat);
        if due {
            self.send(now, &mut effects);
        }
        self.last_tick = Some(now);
        effects
    }

    /// The leader has acknowledged a heartbeat.
    pub fn ack(&mut self, ack: Ack, now: Reading) -> Vec<HolderEffect> {
        let mut effects = Vec::new();
        let ours = ack.member == self.me
            && (ack.boot == self.boot || !self.rules.hold(Rule::BootIdTellsApart));
        if !ours || self.state == State::Dead {
            return effects;
        }
        let Some(index) = self.sent.iter().position(|(seq, _)| *seq == ack.seq) else {
            return effects;
        };
        let Some((_, sent)) = self.sent.get(index).copied() else {
            return effects;
        };
        self.sent.drain(..=index);
        let sent = if self.rules.hold(Rule::LeaseFromSend) {
            sent
        } else {
            now
        };
        self.start = Some(self.start.map_or(sent, |start| start.later(sent)));
        self.waiting_since = None;
        if ack.version > self.version {
            effects.push(HolderEffect::Behind {
                version: ack.version,
            });
        }
        if self.state == State::Lapsed && self.is_valid(now) {
            self.state = State::Valid;
            effects.push(HolderEffect::Valid);
        }
        effects
    }

    /// The table, or the leader, says that this life is over. It is so for good.
    pub fn dead(&mut self) -> Vec<HolderEffect> {
        if self.state == State::Dead {
            return Vec::new();
        }
        self.state = State::Dead;
        vec![HolderEffect::Dead]
    }

    fn send(&mut self, now: Reading, effects: &mut Vec<HolderEffect>) {
        let Some(leader) = self
            .leader
            .filter(|_| self.state != State::Dead && self.progress.is_enough(now))
        else {
            return;
        };
        self.seq += 1;
        self.last_sent = Some(now);
        self.sent.push_back((self.seq, now));
        if self.sent.len() > UNANSWERED {
            self.sent.pop_front();
        }
        self.waiting_since.get_or_insert(now);
        let via = self.detour(now);
        let heartbeat = Heartbeat {
            member: self.me,
            boot: self.boot,
            seq: self.seq,
            version: self.version,
            degraded: self.degraded,
            closed: self.closed,
        };
        effects.push(HolderEffect::Send {
            to: leader,
            via,
            heartbeat,
        });
    }

    fn watch_progress(&mut self, now: Reading, effects: &mut Vec<HolderEffect>) {
        let worker = self.progress.stalled(now);
        let late = self
            .last_tick
            .is_some_and(|last| now.longest_since(last) > self.config.tick + LATE);
        let degraded = worker.is_some() || late;
        if degraded != self.degraded {
            self.degraded = degraded;
            effects.push(HolderEffect::Degraded { degraded, worker });
        }
    }
}
