//! Nodes whose routes differ: for some seconds while a change is rolled out, for good by mistake.
//!
//! What an event's ingress has found out (it has a route, its key falls into this slot) the node that
//! runs it finds out anew by its own routes. Where it finds otherwise nothing has started. While the
//! difference is young the event goes back and is asked again soon, so that reloading one node after
//! the other fails no event; once it lasts, events are refused at once, and the log says what to do.

use crate::engine::flight::Flight;
use crate::engine::shared::Shared;
use crate::forward::message::encode_not_here;
use crate::forward::{Forward, PeerCall, counts, lock, outcome};
use crate::outcome::{Failure, Unavailable};
use crate::region::Leg;
use centripeta_cluster::SlotId;
use centripeta_cluster::peer::{NotHere, Reason, Request};
use std::sync::Mutex;
use std::time::Duration;
use tokio::time::Instant;

/// For so long a difference may be one that a reload of the other nodes ends.
const PATIENCE: Duration = Duration::from_secs(5);
/// Without an event that shows it for so long, a difference is over.
const FORGOTTEN: Duration = Duration::from_secs(30);
/// What to do.
const CURE: &str = "give all nodes the same routes (`centripeta reload` on those that lag behind); \
                    `centripeta cluster nodes` says whose routes differ, `centripeta explain` what an \
                    event's owner makes of it";

/// Since when, and when last, an event showed a difference.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Span {
    since: Instant,
    last: Instant,
    /// Whether it was said that events are refused.
    said: bool,
}

/// The difference that this node sees.
#[derive(Debug, Default)]
pub(super) struct Differing(Mutex<Option<Span>>);

/// What becomes of an event that shows a difference.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Seen {
    /// Whether it may come again.
    wait: bool,
    /// Whether this is the first time that anything becomes of one.
    news: bool,
}

impl Differing {
    fn seen(&self, now: Instant) -> Seen {
        let mut span = lock(&self.0);
        match &mut *span {
            Some(span) if now.saturating_duration_since(span.last) < FORGOTTEN => {
                span.last = now;
                let wait = now.saturating_duration_since(span.since) < PATIENCE;
                let news = !wait && !std::mem::replace(&mut span.said, true);
                Seen { wait, news }
            }
            _ => {
                *span = Some(Span {
                    since: now,
                    last: now,
                    said: false,
                });
                Seen {
                    wait: true,
                    news: true,
                }
            }
        }
    }
}

impl Forward {
    /// Says so, and whether the event is to come again.
    fn differs(&self, from: &str, cause: &str) -> bool {
        let seen = self.differing.seen(Instant::now());
        match (seen.news, seen.wait) {
            (false, _) => {}
            (true, true) => tracing::warn!(
                from,
                cause,
                help = CURE,
                "the routes of two nodes differ: events wait until they agree"
            ),
            (true, false) => tracing::error!(
                from,
                cause,
                help = CURE,
                "the routes of two nodes differ for long: their events are refused"
            ),
        }
        seen.wait
    }

    /// An event of another node for which there is no route here.
    pub(super) fn no_route(&self, request: Request, place: Option<(SlotId, Leg)>, cause: &str) {
        let wait = self.differs(&request.from().name, cause);
        match place {
            // Another server may have one.
            None => {
                self.counts.sent_back[counts::bounce(Reason::WrongOwner)].add_one();
                request.bounce(bytes::Bytes::new());
            }
            Some((slot, leg)) if wait => {
                self.reception.bar(slot, leg);
                let table = &self.standing().shown().table;
                let why = NotHere::new(Reason::Behind, table, slot);
                self.counts.sent_back[counts::bounce(Reason::Behind)].add_one();
                request.bounce(encode_not_here(&why));
            }
            Some(_) => {
                let failure = Failure::Unavailable(Unavailable::Routes);
                request.reply(outcome::encode(&failure.into()));
            }
        }
    }

    /// An event of another node whose key, by the routes here, is another one.
    pub(super) fn other_key(
        &self,
        shared: &Shared,
        flight: Flight,
        asked: Option<(SlotId, Leg)>,
        key: Option<(SlotId, String)>,
    ) {
        let cause = format!(
            "sent for slot {}, its key by {} is `{}` here",
            asked.map_or_else(|| "none".to_owned(), |(slot, _)| slot.to_string()),
            flight
                .cx()
                .route()
                .map_or("no route", |route| route.name.as_str()),
            key.as_ref().map_or("none", |(_, key)| key.as_str()),
        );
        let from = flight.peer().map_or("", PeerCall::from).to_owned();
        let wait = self.differs(&from, &cause);
        let table = std::sync::Arc::clone(&self.standing().shown().table);
        match (asked, key) {
            (Some((slot, leg)), _) if wait => {
                // What was sent behind it must not overtake it.
                let shard = &shared.shards[usize::from(shared.layout.shard_of(slot).index())];
                let mut bars = shard.memory.bars();
                bars.bounced(leg.sender, slot, leg.generation);
                drop(bars);
                flight.bounce(NotHere::new(Reason::Behind, &table, slot));
            }
            // Another server may take it without a key.
            (None, Some((slot, _))) => {
                flight.bounce(NotHere::new(Reason::WrongOwner, &table, slot));
            }
            _ => flight.finish(Failure::Unavailable(Unavailable::Routes).into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_difference_is_waited_for_while_it_is_young_and_is_forgotten_once_it_is_over() {
        let differing = Differing::default();
        let start = Instant::now();
        let at = |millis| differing.seen(start + Duration::from_millis(millis));
        let of = |wait, news| Seen { wait, news };
        assert_eq!(at(0), of(true, true));
        assert_eq!(at(4_999), of(true, false));
        assert_eq!(at(5_000), of(false, true), "it is said once that it lasts");
        assert_eq!(at(30_000), of(false, false));
        assert_eq!(at(60_000), of(true, true), "that is another one");
    }
}
