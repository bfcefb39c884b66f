//! The values of slots that move: from the source's store in parts over the data link, and put
//! together at the target.

use std::collections::BTreeMap;
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
use crate::{Gate, Member, Move, MoveId, SlotId, Table, View};

/// How long a part may wait for its answer.
const PART: Duration = Duration::from_secs(5);
/// The largest part, in bytes.
const PART_MAX: usize = 512 * 1024;

/// Values of one slot that are coming.
#[derive(Debug)]
struct Arriving {
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

/// Values that are coming, by slot.
#[derive(Debug, Default)]
pub(super) struct Arrivals(BTreeMap<SlotId, Arriving>);

impl Arrivals {
    /// Takes a part from the owner of a slot that moves to this life. All values, if it was the last
    /// one of them.
    fn take(&mut self, table: &Table, me: Member, from: Member, part: &Part) -> Option<Vec<Bytes>> {
        let rec = table.slot(part.slot);
        let wanted = rec.owner == Some(from)
            && rec
                .moving
                .is_some_and(|moving| moving.id == part.id && moving.to == me);
        if !wanted {
            return None;
        }
        let arriving = self
            .0
            .entry(part.slot)
            .or_insert_with(|| Arriving::new(part.id, part.attempt));
        if (arriving.id, arriving.attempt) != (part.id, part.attempt) {
            *arriving = Arriving::new(part.id, part.attempt);
        }
        let whole = arriving.take(part);
        let arrived = whole.then(|| self.0.remove(&part.slot)).flatten();
        arrived.map(|arriving| arriving.pieces)
    }

    /// The table has changed in these slots: what has come for a move that is over is dropped.
    pub(super) fn table(&mut self, table: &Table, changed: &[SlotId]) {
        if self.0.is_empty() {
            return;
        }
        for slot in changed {
            let open = table.slot(*slot).moving.map(|moving| moving.id);
            if self.0.get(slot).is_some_and(|it| open != Some(it.id)) {
                self.0.remove(slot);
            }
        }
    }

    /// Nothing is wanted any more.
    pub(super) fn clear(&mut self) {
        self.0.clear();
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
        let table = self.view.as_ref().map(View::table);
        let pieces = table.and_then(|table| self.arriving.take(table, self.me, from, part));
        let Some(pieces) = pieces else {
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
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::testing::{Log, member, slot};
    use crate::{Command, MoveAbort, MoveReason};

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
    fn what_has_come_of_a_move_is_dropped_once_that_is_over() {
        let mut log = Log::with_nodes(2);
        let (from, me) = (member(1, 1), member(3, 1));
        for index in [3, 4] {
            log.give(index, 1);
        }
        let begin = |log: &mut Log, index| {
            log.begin(index, 3, MoveReason::Admin);
            log.table.slot(slot(index)).moving.unwrap().id
        };
        let (one, other) = (begin(&mut log, 3), begin(&mut log, 4));
        let pieces = [Bytes::from(vec![7; 25])];
        let mut arrivals = Arrivals::default();
        let of = |arrivals: &mut Arrivals, log: &Log, index, id, parts: &[Part]| {
            let took = |part: &Part| arrivals.take(&log.table, me, from, part);
            assert!(
                parts
                    .iter()
                    .all(|part| (part.slot, part.id) == (slot(index), id))
            );
            parts.iter().filter_map(took).next()
        };
        let first = parts(slot(3), one, 1, &pieces, 10);
        let second = parts(slot(4), other, 2, &pieces, 10);
        assert_eq!(of(&mut arrivals, &log, 3, one, &first[..2]), None);
        assert_eq!(of(&mut arrivals, &log, 4, other, &second[..2]), None);
        // The first is aborted and begun again; of the second nothing has changed but its neighbour.
        let why = "why not".to_owned();
        let moves = vec![MoveAbort {
            slot: slot(3),
            id: one,
        }];
        log.commit(&Command::AbortMoves { moves, why });
        arrivals.table(&log.table, &[slot(3)]);
        assert_eq!(arrivals.0.keys().copied().collect::<Vec<_>>(), [slot(4)]);
        arrivals.table(&log.table, &[slot(4)]);
        let whole = of(&mut arrivals, &log, 4, other, &second[2..]);
        assert_eq!(whole.as_deref(), Some(&pieces[..]));
        // The source of another dies.
        let again = begin(&mut log, 3);
        let third = parts(slot(3), again, 3, &pieces, 10);
        assert_eq!(of(&mut arrivals, &log, 3, again, &third[..2]), None);
        log.kill(1, Vec::new());
        arrivals.table(&log.table, &[slot(3), slot(4)]);
        assert!(arrivals.0.is_empty());
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
