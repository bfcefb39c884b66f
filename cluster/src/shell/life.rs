//! The lives of this process, and what a changed table means for it.

use std::sync::Arc;

use super::core::Core;
use super::home::Home;
use super::operate::wall_clock;
use crate::handoff::{Source, Target};
use crate::lease::{Holder, LeaseConfig, TenureEffect};
use crate::member::Joined;
use crate::peer::Identity;
use crate::raft::Since;
use crate::{
    Advance, ClusterId, Delta, Gate, Install, Member, NodeId, NodeState, Shown, SlotId, Table, View,
};

/// The machines that live as long as one incarnation.
#[derive(Debug)]
pub(super) struct Life {
    pub(super) me: Member,
    pub(super) holder: Holder,
    pub(super) tenure: crate::lease::Tenure,
    pub(super) source: Source,
    pub(super) target: Target,
    /// How long its lease lasts.
    pub(super) lease: LeaseConfig,
    /// The worker that makes no progress, or `None` if the timer is late; `None` outside: all is well.
    pub(super) degraded: Option<Option<usize>>,
}

impl Core {
    /// Raft has applied something here.
    pub(super) fn own_table(&mut self) {
        let Some(raft) = &self.raft else { return };
        for (version, command) in raft.table.reasons(self.watched.reasons) {
            self.watched.reasons = version;
            self.watched.events.because(&command, version);
        }
        let Some(view) = &self.view else {
            let table = raft.table.table();
            self.take_table(Table::clone(&table));
            return;
        };
        match raft.table.since(view.table().version()) {
            Since::Unchanged => {}
            Since::Delta(delta) => drop(self.take_delta(&delta)),
            // A log that is still being caught up with may begin far behind what is known.
            Since::Whole(table) if table.version() > view.table().version() => {
                self.take_table(Table::clone(&table));
            }
            Since::Whole(_) => {}
        }
    }

    /// A whole table has come. R9: the view decides.
    pub(super) fn take_table(&mut self, table: Table) {
        let Some(view) = &mut self.view else {
            self.view = Some(View::new(table));
            self.feed.replaced();
            self.changed(&SlotId::all().collect::<Vec<_>>());
            return;
        };
        let before = self.standing.shown().table.clone();
        if view.install(table) == Install::Installed {
            let after = view.table();
            let slots = SlotId::all().filter(|slot| before.slot(*slot) != after.slot(*slot));
            let slots: Vec<_> = slots.collect();
            let at = wall_clock();
            self.watched.events.replaced(&before, after, at);
            self.feed.replaced();
            self.changed(&slots);
        }
    }

    /// A delta has come. Says whether something before it is missing.
    pub(super) fn take_delta(&mut self, delta: &Delta) -> bool {
        let Some(view) = &mut self.view else {
            return true;
        };
        let before = Arc::clone(&self.standing.shown().table);
        match view.advance(delta) {
            Advance::Advanced => {
                self.watched.events.delta(&before, delta, wall_clock());
                self.feed.advanced(delta);
                let slots: Vec<_> = delta.slots.iter().map(|(slot, _)| *slot).collect();
                self.changed(&slots);
                false
            }
            Advance::NotNewer => false,
            Advance::Gap | Advance::Foreign => true,
        }
    }

    /// The table has changed in these slots, and in who lives.
    fn changed(&mut self, slots: &[SlotId]) {
        let (now, clock) = (self.reading(), self.clock());
        let Some(view) = &self.view else { return };
        let before = Arc::clone(&self.standing.shown().table);
        let table = Arc::new(view.table().clone());
        let over = view.is_over(self.me);
        let (mut target, mut tenure, mut source) = (Vec::new(), Vec::new(), Vec::new());
        if let Some(life) = self.life.as_mut().filter(|_| !over) {
            target = life.target.table(&table, slots.iter().copied(), clock);
            tenure = life.tenure.table(view, slots.iter().copied());
            source = life.source.table(&table, slots.iter().copied(), clock);
        }
        // What is lost is shut before anyone hears of it, and what has come lets events wait.
        for effect in &tenure {
            match effect {
                TenureEffect::Drop { slot, .. } => self.standing.set_gate(*slot, Gate::Foreign),
                TenureEffect::Named { slot, epoch } | TenureEffect::Fence { slot, epoch } => {
                    self.standing.set_gate(*slot, Gate::Opening(*epoch));
                }
                _ => {}
            }
        }
        self.watched
            .ages
            .table(&table, slots.iter().copied(), clock);
        self.note_drain(&before, &table);
        self.show(&table);
        self.arriving.table(&table, slots);
        self.follow.reached(table.version());
        if let Some(lead) = &mut self.lead {
            let effects = lead.table_changed(&table, slots.iter().copied(), now);
            self.led(effects);
        }
        self.push(&table, slots);
        let died = self.peers_changed(&before, &table);
        self.orphans(&before, &died);
        if over {
            self.die();
        } else {
            self.targeted(target);
            self.tenured(tenure);
            self.sourced(source);
        }
        self.ingress.table_changed(slots);
        for member in died {
            if let Some(node) = before.node(member.id) {
                self.spoke.forget(node.boot);
            }
            self.ingress.died(member);
        }
        self.voters_changed();
        self.be_born();
        self.show_status();
    }

    /// The node's data path goes by this from now on.
    fn show(&self, table: &Arc<Table>) {
        self.standing.show(Shown {
            table: Arc::clone(table),
            me: self.me,
            boot: self.boot,
        });
    }

    /// Links follow the table: where nodes are, which lives are over. Returns those lives.
    fn peers_changed(&self, before: &Table, after: &Table) -> Vec<Member> {
        let mut died = Vec::new();
        for (id, node) in after.nodes() {
            let old = before.node(*id);
            if *id == self.me.id || old == Some(node) {
                continue;
            }
            let lives = node.state.is_living();
            let lived = old.filter(|old| old.state.is_living());
            if let Some(old) = lived.filter(|old| !lives || old.incarnation != node.incarnation) {
                let over = Member {
                    id: *id,
                    incarnation: old.incarnation,
                };
                died.push(over);
                self.links.end_life(over);
            }
            if node.state == NodeState::Removed {
                self.links.forget_peer(*id);
            }
            // One that is dead has to be told so, and may be a member of Raft.
            if node.state != NodeState::Removed {
                let moved = old.is_none_or(|old| old.addrs != node.addrs);
                if moved || lived.is_none_or(|old| !lives || old.incarnation != node.incarnation) {
                    self.links.set_peer(*id, node.addrs.clone());
                }
            }
            if lives {
                let member = Member {
                    id: *id,
                    incarnation: node.incarnation,
                };
                self.links.set_known(member, node.boot);
            }
        }
        died
    }

    /// This life is over; the process goes on under the next.
    pub(super) fn die(&mut self) {
        self.standing.end_lease();
        if let Some(mut life) = self.life.take() {
            if self.leaving.is_gone() {
                tracing::info!(life = %life.me, "this node has left the cluster");
            } else {
                tracing::warn!(life = %life.me, "this life of the node is over");
            }
            life.holder.dead();
            let dropped = life.tenure.dead();
            for effect in &dropped {
                if let TenureEffect::Drop { slot, .. } = effect {
                    self.standing.set_gate(*slot, Gate::Foreign);
                }
            }
            self.tenured(dropped);
        }
        self.next_life();
    }

    /// Another life begins, unless the node leaves.
    fn next_life(&mut self) {
        self.prepared.clear();
        self.arriving.clear();
        for slot in self.arrived.keys().copied().collect::<Vec<_>>() {
            self.discard(slot);
        }
        for (_, (_, task)) in std::mem::take(&mut self.sending) {
            task.abort();
        }
        self.resumed.clear();
        self.forget_stalls();
        if self.leaving.is_gone() {
            return;
        }
        match self.home.raise() {
            Ok(incarnation) => {
                self.me.incarnation = incarnation;
                self.greet();
                let table = Arc::clone(&self.standing.shown().table);
                self.show(&table);
            }
            Err(why) => self.fatal(&why.to_string()),
        }
    }

    /// A life has ended before the node heard that it had begun.
    pub(super) fn buried(&mut self, member: Member) {
        self.joining = None;
        if self.life.is_none() && self.home.incarnation() <= member.incarnation {
            self.next_life();
        }
    }

    /// Another process has had this life: this one ends, and its directory does not count the life,
    /// so that it is refused again however often it is started (R10).
    pub(super) fn second_process(&mut self, member: Member) {
        if member.incarnation != self.home.incarnation() {
            return;
        }
        if let Err(why) = self.home.give_back() {
            tracing::error!(%why, "the life that was refused stays counted");
        }
        self.fatal(&format!(
            "node {} has incarnation {} from another process: the data directory is a copy or an old \
             backup; start this node on an empty one, as a new node",
            member.id, member.incarnation
        ));
    }

    /// The process cannot go on.
    pub(super) fn fatal(&self, why: &str) {
        tracing::error!(%why, "the node cannot go on");
        self.status.send_modify(|status| {
            status.fatal.get_or_insert_with(|| why.to_owned());
        });
    }

    /// What this node says of itself on links from now on.
    pub(super) fn greet(&self) {
        self.links.set_identity(greeting(
            self.home.as_ref(),
            self.me,
            &self.setup.name,
            &self.setup.advertise,
            self.routes_hash,
            &self.setup.build,
        ));
    }

    /// The table names this life of the node: its machines begin.
    fn be_born(&mut self) {
        let Some(view) = self.view.as_ref().filter(|_| self.life.is_none()) else {
            return;
        };
        let (data, incarnation) = (self.home.data(), self.home.incarnation());
        let found = view.table().nodes().iter().find(|(_, node)| {
            node.data == data
                && node.incarnation == incarnation
                && node.boot == self.boot
                && node.state.is_living()
        });
        let Some((id, _)) = found else { return };
        let cluster = view.table().cluster();
        let joined = Joined {
            cluster: cluster.id,
            recovery: cluster.recovery,
            node: *id,
        };
        let lease = LeaseConfig::new(cluster, self.setup.heartbeat);
        self.me = match self.home.joined(joined, incarnation) {
            Ok(me) => me,
            Err(why) => {
                let why = why.to_string();
                self.fatal(&why);
                return;
            }
        };
        tracing::info!(life = %self.me, "this node is in the cluster");
        self.refused = None;
        self.unheard = Default::default();
        if let Some(task) = self.joining.take() {
            task.abort();
        }
        self.greet();
        let now = self.reading();
        let me = self.me;
        let mut life = Life {
            me,
            holder: Holder::new(me, self.boot, lease, 0, now),
            tenure: crate::lease::Tenure::new(me),
            source: Source::new(me, self.setup.handoff),
            target: Target::new(me),
            lease,
            degraded: None,
        };
        let mut held = life.holder.progress(self.progress.clone(), now);
        held.extend(
            life.holder
                .leader(self.leader.map(|leader| leader.node), now),
        );
        self.life = Some(life);
        self.held(held);
        self.shards.say_again();
        self.tell_parked();
        self.changed(&SlotId::all().collect::<Vec<_>>());
        self.follow.hasten();
    }

    /// Through whom a heartbeat can go if the way to the leader is bad.
    pub(super) fn voters_changed(&mut self) {
        let voters = self.voters();
        if let Some(life) = &mut self.life {
            life.holder.voters(voters);
        }
    }

    /// The voters; where Raft does not run, those who may be.
    pub(super) fn voters(&self) -> Vec<NodeId> {
        if let Some(raft) = &self.raft {
            let voters = raft.status.borrow().members.voters();
            if !voters.is_empty() {
                return voters.into_iter().collect();
            }
        }
        let nodes = self.view.iter().flat_map(|view| view.table().nodes());
        nodes
            .filter(|(_, node)| node.roles.voter && node.state.is_living())
            .map(|(id, _)| *id)
            .collect()
    }
}

/// What a node says of itself when a link opens.
pub(super) fn greeting(
    home: &dyn Home,
    me: Member,
    name: &str,
    addrs: &[String],
    routes_hash: u64,
    build: &str,
) -> Identity {
    let known = home.known();
    let cluster = known.map_or(ClusterId(0), |known| known.cluster);
    let mut greeting = Identity::new(cluster, me, home.boot(), name);
    greeting.recovery = known.map_or(0, |known| known.recovery);
    greeting.addrs = addrs.to_vec();
    greeting.routes_hash = routes_hash;
    build.clone_into(&mut greeting.build);
    greeting
}
