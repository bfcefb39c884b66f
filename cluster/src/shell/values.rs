//! The values of slots that move: from the source's store in parts over the data link, and put
//! together at the target.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::time::Instant;

use super::core::Core;
use super::event::Event;
use super::wire::{CONTROL, Part, VALUES};
use crate::handoff::Prepared;
use crate::peer::{Class, LinkState, Links, Outcome, Request};
use crate::store::StoreError;
use crate::{Gate, Member, Move, MoveId, SlotId};

/// How long a part may wait for its answer.
const PART: Duration = Duration::from_secs(5);
/// The largest part, in bytes.
const PART_MAX: usize = 512 * 1024;

/// Values that are coming.
#[derive(Debug)]
pub(super) struct Arriving {
    id: MoveId,
    attempt: u64,
    next: u32,
    pieces: Vec<Bytes>,
    piece: BytesMut,
    complete: bool,
}

/// All values of a slot that have come, and whether the store has kept room for them.
#[derive(Debug)]
pub(super) struct Staged {
    /// The life that they came for.
    me: Member,
    from: Member,
    slot: SlotId,
    id: MoveId,
    pieces: Result<Vec<Bytes>, StoreError>,
    /// The last part, which is answered now.
    request: Request,
}

impl Arriving {
    fn new(id: MoveId, attempt: u64) -> Self {
        Self {
            id,
            attempt,
            next: 0,
            pieces: Vec::new(),
            piece: BytesMut::new(),
            complete: false,
        }
    }

    /// Takes the next part. Says whether all are there.
    fn take(&mut self, part: &Part) -> bool {
        if part.attempt != self.attempt || part.index != self.next || self.complete {
            return false;
        }
        self.next += 1;
        self.piece.extend_from_slice(&part.bytes);
        if part.ends_piece {
            self.pieces.push(std::mem::take(&mut self.piece).freeze());
        }
        self.complete = part.last;
        part.last
    }
}

impl Core {
    /// The target of a move is ready. That counts once this node reaches it where values go: a slot
    /// must not close for as long as they could not follow.
    pub(super) fn prepared(&mut self, from: Member, step: Prepared) {
        if !matches!(
            self.links.state(from.id, Class::Data),
            LinkState::Up | LinkState::Dialling
        ) {
            // Whatever is sent opens the link; this says nothing.
            drop(self.links.cast(from.id, Class::Data, CONTROL, Bytes::new()));
        }
        self.prepared.insert(step.slot, (from, step));
        self.take_prepared();
    }

    /// Takes the word of those targets that are reached now.
    pub(super) fn take_prepared(&mut self) {
        let Some(life) = &mut self.life else { return };
        let links = &self.links;
        self.prepared.retain(|_, (from, step)| {
            let up = links.state(from.id, Class::Data) == LinkState::Up;
            if up {
                life.source.prepared(*from, *step);
            }
            !up
        });
    }

    /// Sends the values of a slot that is closed, unless they are on their way.
    pub(super) fn send_values(&mut self, slot: SlotId, to: Move) {
        let under_way = self
            .sending
            .get(&slot)
            .is_some_and(|(id, task)| *id == to.id && !task.is_finished());
        let epoch = match self.standing.gate(slot) {
            Gate::Shut(epoch) | Gate::Open(epoch) => epoch,
            Gate::Foreign | Gate::Opening(_) => return,
        };
        if under_way {
            return;
        }
        self.attempts += 1;
        let attempt = self.attempts;
        let part_max = PART_MAX.min(self.setup.payload_limit / 2).max(1);
        let (store, links, events) = (
            Arc::clone(&self.store),
            self.links.clone(),
            self.events.clone(),
        );
        let task = tokio::spawn(async move {
            let refused = match store.export(slot, epoch).await {
                Ok(pieces) => {
                    let parts = parts(slot, to.id, attempt, &pieces, part_max);
                    send(&links, to.to, parts).await
                }
                Err(why) => {
                    tracing::warn!(%slot, %why, "values of a moving slot cannot be read");
                    None
                }
            };
            if let Some(why) = &refused {
                tracing::warn!(%slot, node = %to.to, %why, "values of a moving slot are refused");
            }
            drop(events.send(Event::Sent(slot, to.id, refused.is_some())));
        });
        if let Some((_, old)) = self.sending.insert(slot, (to.id, task)) {
            old.abort();
        }
    }

    /// Values are not being sent any more. If they were refused, the move is to be aborted.
    pub(super) fn sent(&mut self, slot: SlotId, id: MoveId, refused: bool) {
        if self.sending.get(&slot).is_none_or(|(of, _)| *of != id) {
            return;
        }
        self.sending.remove(&slot);
        let now = self.clock();
        if let Some(life) = self.life.as_mut().filter(|_| refused) {
            let effects = life.source.refused(slot, id, now);
            self.sourced(effects);
        }
    }

    /// A part of the values of a slot has come. The last one is answered when the store has said
    /// whether it can take them all.
    pub(super) fn part(&mut self, from: Member, part: &Part, request: Request) {
        let Some(pieces) = self.take_part(from, part) else {
            request.reply(Bytes::new());
            return;
        };
        let (slot, id, me) = (part.slot, part.id, self.me);
        let (store, events) = (Arc::clone(&self.store), self.events.clone());
        tokio::spawn(async move {
            let staged = store.stage(slot, id, pieces.clone()).await;
            let staged = Staged {
                me,
                from,
                slot,
                id,
                pieces: staged.map(|()| pieces),
                request,
            };
            drop(events.send(Event::Staged(Box::new(staged))));
        });
    }

    /// All values, if this was the last part of them.
    fn take_part(&mut self, from: Member, part: &Part) -> Option<Vec<Bytes>> {
        let rec = self.view.as_ref()?.table().slot(part.slot);
        let wanted = rec.owner == Some(from)
            && rec
                .moving
                .is_some_and(|moving| moving.id == part.id && moving.to == self.me);
        if !wanted {
            return None;
        }
        let arriving = self
            .arriving
            .entry(part.slot)
            .or_insert_with(|| Arriving::new(part.id, part.attempt));
        if (arriving.id, arriving.attempt) != (part.id, part.attempt) {
            *arriving = Arriving::new(part.id, part.attempt);
        }
        let whole = arriving.take(part);
        let arrived = whole.then(|| self.arriving.remove(&part.slot)).flatten();
        arrived.map(|arriving| arriving.pieces)
    }

    /// The store has kept room for the values of a slot: the source hears that they are here. Or it
    /// could not: the source, which has them still, hears why.
    pub(super) fn staged(&mut self, staged: Staged) {
        let Staged {
            me,
            from,
            slot,
            id,
            pieces,
            request,
        } = staged;
        let pieces = match pieces {
            Ok(pieces) => pieces,
            Err(why) => {
                tracing::warn!(%slot, %from, %why, "values of a slot that moves here are refused");
                request.reply(why.to_string().into());
                return;
            }
        };
        let life = self.life.as_mut().filter(|life| life.me == me);
        let effects = life.map_or_else(Vec::new, |life| life.target.values(from, slot, id));
        if !effects.is_empty() {
            self.arrived.insert(slot, (id, pieces));
            self.targeted(effects);
        } else if self.arrived.get(&slot).is_none_or(|(of, _)| *of != id) {
            // The move came to nothing meanwhile, or is over.
            self.store.unstage(slot, id);
        }
        request.reply(Bytes::new());
    }

    /// Values that have come are not wanted any more.
    pub(super) fn discard(&mut self, slot: SlotId) {
        if let Some((id, _)) = self.arrived.remove(&slot) {
            self.store.unstage(slot, id);
        }
    }
}

/// Cuts pieces into parts; there is one at least.
fn parts(slot: SlotId, id: MoveId, attempt: u64, pieces: &[Bytes], limit: usize) -> Vec<Part> {
    let part = |bytes: Bytes, ends_piece| Part {
        slot,
        id,
        attempt,
        index: 0,
        ends_piece,
        last: false,
        bytes,
    };
    let mut parts = Vec::new();
    for piece in pieces {
        let mut rest = piece.clone();
        while rest.len() > limit {
            parts.push(part(rest.split_to(limit), false));
        }
        parts.push(part(rest, true));
    }
    if parts.is_empty() {
        parts.push(part(Bytes::new(), false));
    }
    let last = parts.len() - 1;
    for (index, part) in parts.iter_mut().enumerate() {
        part.index = u32::try_from(index).unwrap_or(u32::MAX);
        part.last = index == last;
    }
    parts
}

/// Sends parts one after the other. What fails is sent anew when the source asks again. Says why, in
/// words, if the target cannot take them.
async fn send(links: &Links, to: Member, parts: Vec<Part>) -> Option<String> {
    for part in parts {
        let deadline = Instant::now() + PART;
        let sent = links.request(to.id, Class::Data, VALUES, part.encode(), deadline);
        let reply = match sent {
            Ok(answer) => answer.wait().await,
            Err(why) => Err(why),
        };
        match reply {
            Ok(reply) if reply.outcome != Outcome::Answered => return None,
            Ok(reply) if reply.payload.is_empty() => {}
            Ok(reply) => return Some(String::from_utf8_lossy(&reply.payload).into_owned()),
            Err(why) => {
                tracing::debug!(node = %to, %why, "values of a moving slot are not sent");
                return None;
            }
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::slot;

    fn join(parts: &[Part]) -> Option<Vec<Bytes>> {
        let mut arriving = Arriving::new(MoveId(4), 1);
        let complete = parts.iter().fold(false, |_, part| arriving.take(part));
        complete.then_some(arriving.pieces)
    }

    #[test]
    fn pieces_come_back_as_they_were_however_large_or_few_they_are() {
        let long = Bytes::from(vec![7; 25]);
        for pieces in [
            vec![],
            vec![Bytes::new()],
            vec![
                Bytes::from_static(b"a"),
                long.clone(),
                Bytes::from_static(b"b"),
            ],
            vec![long.slice(..10), long.slice(..20)],
        ] {
            let parts = parts(slot(3), MoveId(4), 1, &pieces, 10);
            assert!(parts.iter().all(|part| part.bytes.len() <= 10));
            assert_eq!(join(&parts), Some(pieces));
        }
    }

    #[test]
    fn values_with_a_part_missing_or_of_another_attempt_are_not_complete() {
        let pieces = [Bytes::from(vec![7; 25])];
        let whole = parts(slot(3), MoveId(4), 1, &pieces, 10);
        assert_eq!(join(&whole[1..]), None);
        assert_eq!(join(&[whole[0].clone(), whole[2].clone()]), None);
        assert_eq!(join(&parts(slot(3), MoveId(4), 2, &pieces, 10)), None);
    }
}
