//! What the machines of a life want done.

use std::sync::Arc;
use std::time::Duration;

use super::core::Core;
use super::event::Event;
use crate::handoff::{SourceEffect, TargetEffect};
use crate::lease::{HolderEffect, TenureEffect};
use crate::peer::Control;
use crate::store::StoreError;
use crate::{Gate, Member, MoveId, OwnerEpoch, SlotId};

/// A store that cannot be reached is asked again after so long.
const STORE_AGAIN: Duration = Duration::from_millis(100);
/// So many slots a tick are told to be served again.
const RESUMED: usize = 512;
/// What nothing acts under: a gate that is shut at it admits nothing and lets nothing out.
const NO_EPOCH: OwnerEpoch = OwnerEpoch(0);

impl Core {
    pub(super) fn held(&mut self, effects: Vec<HolderEffect>) {
        for effect in effects {
            match effect {
                HolderEffect::Send { to, via, heartbeat } => {
                    for to in std::iter::once(to).chain(via) {
                        self.send(to, Control::Heartbeat(heartbeat, None));
                    }
                }
                HolderEffect::Valid | HolderEffect::Lapsed => {
                    let valid = effect == HolderEffect::Valid;
                    if !valid {
                        tracing::warn!("the lease is over: slots are suspended");
                    }
                    if let Some(life) = &mut self.life {
                        let effects = life.tenure.lease(valid);
                        self.tenured(effects);
                    }
                }
                HolderEffect::Behind { version } => {
                    let now = self.clock();
                    self.follow.behind(version, now);
                }
                HolderEffect::Degraded { degraded, worker } => {
                    if let Some(life) = &mut self.life {
                        life.degraded = degraded.then_some(worker);
                    }
                    if degraded {
                        tracing::warn!(?worker, "the node makes too little progress");
                    }
                }
                // Whoever says so goes on with it.
                HolderEffect::Dead => {}
            }
        }
    }

    pub(super) fn tenured(&mut self, effects: Vec<TenureEffect>) {
        for effect in effects {
            match effect {
                TenureEffect::Named { slot, epoch } => {
                    self.standing.set_gate(slot, Gate::Opening(epoch));
                }
                TenureEffect::Fence { slot, epoch } => {
                    self.standing.set_gate(slot, Gate::Opening(epoch));
                    self.fence(slot, epoch);
                }
                TenureEffect::Open { slot, epoch, via } => {
                    let kept = self
                        .life
                        .as_mut()
                        .is_some_and(|life| life.target.take(slot, via));
                    let ours = |(id, _): &(MoveId, _)| kept && Some(*id) == via;
                    if self.arrived.get(&slot).is_some_and(|it| !ours(it)) {
                        self.discard(slot);
                    }
                    let values = self.arrived.remove(&slot);
                    self.install(slot, epoch, values);
                }
                TenureEffect::Suspend => self.region.suspend(),
                TenureEffect::Resume => {
                    self.region.resume();
                    let open = self.life.iter().flat_map(|life| life.tenure.open());
                    self.resumed.extend(open.map(|(slot, _)| slot));
                }
                TenureEffect::Drop { slot, epoch, why } => {
                    self.standing.set_gate(slot, Gate::Foreign);
                    self.region.lose(slot, epoch, why);
                    self.store.clear(slot);
                    if let Some((_, task)) = self.sending.remove(&slot) {
                        task.abort();
                    }
                }
                TenureEffect::Saw { slot, epoch } => {
                    if let Some(view) = &mut self.view {
                        view.saw(slot, epoch);
                    }
                }
            }
        }
    }

    /// Raises the slot's epoch in the store, however often it takes.
    fn fence(&self, slot: SlotId, epoch: OwnerEpoch) {
        let (store, events, me) = (Arc::clone(&self.store), self.events.clone(), self.me);
        tokio::spawn(async move {
            let answer = loop {
                match store.fence(slot, epoch).await {
                    Ok(()) => break Ok(()),
                    Err(StoreError::Fenced { current }) => break Err(current),
                    Err(why) => {
                        tracing::warn!(%slot, %why, "the store takes no fence");
                        tokio::time::sleep(STORE_AGAIN).await;
                    }
                }
                if events.is_closed() {
                    return;
                }
            };
            drop(events.send(Event::Fenced(me, slot, epoch, answer)));
        });
    }

    /// Brings what a move has brought into the store, or begins with nothing; then the slot opens.
    fn install(
        &mut self,
        slot: SlotId,
        epoch: OwnerEpoch,
        values: Option<(MoveId, Vec<bytes::Bytes>)>,
    ) {
        let Some((id, values)) = values else {
            self.store.clear(slot);
            self.open(self.me, slot, epoch);
            return;
        };
        let (store, events, me) = (Arc::clone(&self.store), self.events.clone(), self.me);
        let standing = Arc::clone(&self.standing);
        tokio::spawn(async move {
            let mut told = false;
            loop {
                match store.import(slot, epoch, values.clone()).await {
                    Ok(()) => break,
                    // It was staged: there was room, and there will be.
                    Err(
                        why @ (StoreError::Unavailable(_)
                        | StoreError::Unknown
                        | StoreError::Full { .. }),
                    ) => {
                        if !std::mem::replace(&mut told, true) {
                            tracing::warn!(%slot, %why, "a slot that moved here has to wait");
                        }
                        tokio::time::sleep(STORE_AGAIN).await;
                    }
                    Err(why) => {
                        tracing::error!(%slot, %why, "values of a slot that moved here are lost");
                        store.unstage(slot, id);
                        break;
                    }
                }
                // It may have been lost meanwhile: then nothing of it belongs here.
                if events.is_closed() || standing.gate(slot) != Gate::Opening(epoch) {
                    store.unstage(slot, id);
                    return;
                }
            }
            drop(events.send(Event::Ready(me, slot, epoch)));
        });
    }

    /// The values of a slot are in place: events of it run.
    pub(super) fn open(&mut self, me: Member, slot: SlotId, epoch: OwnerEpoch) {
        let held = self.life.as_ref().filter(|life| life.me == me);
        // It may have been lost, or let go of, meanwhile.
        let ours = held.filter(|life| life.tenure.acts_for(slot, true) == Some(epoch));
        if ours.is_none_or(|life| life.source.shut_for(slot).is_some()) {
            return;
        }
        self.standing.set_gate(slot, Gate::Open(epoch));
        self.region.open(slot, epoch);
        self.taken_over(slot, true);
        self.resumed.push_back(slot);
    }

    pub(super) fn sourced(&mut self, effects: Vec<SourceEffect>) {
        for effect in effects {
            match effect {
                SourceEffect::Close { slot, to } => {
                    self.stall_begins(slot);
                    if let Gate::Open(epoch) | Gate::Opening(epoch) = self.standing.gate(slot) {
                        self.standing.set_gate(slot, Gate::Shut(epoch));
                    }
                    self.region.close(slot, to);
                }
                SourceEffect::SendValues { slot, to } => self.send_values(slot, to),
                SourceEffect::Cut { slot } => self.region.cut(slot),
                SourceEffect::LetGo { slot, epoch } => {
                    if let Some(life) = &mut self.life
                        && life.tenure.release(slot, epoch)
                    {
                        self.standing.set_gate(slot, Gate::Shut(NO_EPOCH));
                    }
                }
                SourceEffect::Release(all) => {
                    self.tell_leader(Control::Released(self.me, all));
                }
                SourceEffect::WantAbort(wanted) => {
                    self.tell_leader(Control::AbortWanted(self.me, vec![wanted]));
                }
                SourceEffect::Reopen { slot, epoch } => self.reopen(slot, epoch),
                SourceEffect::Forget { slot } => self.region.forget(slot),
            }
        }
    }

    /// A move was aborted: the slot is served here again.
    fn reopen(&mut self, slot: SlotId, epoch: OwnerEpoch) {
        if let Some((_, task)) = self.sending.remove(&slot) {
            task.abort();
        }
        let Some(life) = &mut self.life else { return };
        let effects = life.tenure.take_back(slot, epoch);
        self.tenured(effects);
        let open = self
            .life
            .as_ref()
            .and_then(|life| life.tenure.acts_for(slot, true));
        if open == Some(epoch) {
            self.standing.set_gate(slot, Gate::Open(epoch));
            self.region.reopen(slot, epoch);
            self.stall_ends(slot);
            self.resumed.push_back(slot);
        }
    }

    pub(super) fn targeted(&mut self, effects: Vec<TargetEffect>) {
        for effect in effects {
            match effect {
                TargetEffect::Prepared { to, step } => {
                    self.send(to.id, Control::Prepared(self.me, step));
                }
                TargetEffect::Received { to, step } => {
                    self.send(to.id, Control::Received(self.me, step));
                }
                // Whoever heard from the store has put them aside.
                TargetEffect::Keep { .. } => {}
                TargetEffect::Discard { slot, id } => {
                    if self.arrived.get(&slot).is_some_and(|(of, _)| *of == id) {
                        self.discard(slot);
                    }
                }
            }
        }
    }

    /// Tells every ingress, this node's own first, of slots that are served again.
    pub(super) fn tell_resumed(&mut self) {
        if self.resumed.is_empty() {
            return;
        }
        let table = Arc::clone(&self.standing.shown().table);
        let ingresses: Vec<_> = table
            .nodes()
            .iter()
            .filter(|(id, node)| **id != self.me.id && node.roles.ingress && node.state.is_living())
            .map(|(id, _)| *id)
            .collect();
        let count = self.resumed.len().min(RESUMED);
        for slot in self.resumed.drain(..count).collect::<Vec<_>>() {
            if self.standing.acts_for(slot).is_none() {
                continue;
            }
            self.ingress.resumed(self.me, slot);
            let told: bytes::Bytes = Control::Resumed(self.me, slot).encode().into();
            for node in &ingresses {
                self.send_bytes(*node, told.clone());
            }
        }
    }
}
