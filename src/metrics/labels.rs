//! Outcomes as places in an array: every label value that there can be, known beforehand.

use crate::outcome::{Failure, Outcome, Overloaded, StreamEndReason, Unavailable};

/// How events end, as [`Outcome::label`] says it, in the order of the cells.
pub(super) const OUTCOMES: [&str; 14] = [
    "ok",
    "stream_open",
    "rejected",
    "panic",
    "internal",
    "bad_reply",
    "timeout",
    "unavailable",
    "overloaded",
    "undecodable",
    "bad_data",
    "no_route",
    "unauthenticated",
    "cancelled",
];

/// Why events are refused, in the order of the cells.
pub(super) const REASONS: [&str; 26] = [
    "in_flight",
    "in_flight_bytes",
    "streams",
    "lane",
    "shard",
    "rate",
    "draining",
    "parked",
    "crashed",
    "no_owner",
    "unauthenticated",
    "undecodable",
    "memory",
    "worker",
    "workers",
    "lapsed",
    "lost",
    "cut",
    "moving",
    "lost_peer",
    "isolated",
    "no_server",
    "held",
    "peer",
    "upstream",
    "routes",
];

/// Who ended a stream, in the order of the cells.
pub(super) const STREAM_ENDS: [&str; 5] = ["finished", "failed", "cancelled", "drained", "moved"];

/// How an event ended, as far as it is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct End {
    pub(super) outcome: usize,
    pub(super) reason: Option<usize>,
}

impl End {
    /// A stream was accepted.
    pub(crate) const STREAM_OPEN: Self = Self::plain(1);
    /// The caller went away.
    pub(crate) const CANCELLED: Self = Self::plain(13);

    const fn plain(outcome: usize) -> Self {
        let reason = None;
        Self { outcome, reason }
    }

    const fn refused(outcome: usize, reason: usize) -> Self {
        let reason = Some(reason);
        Self { outcome, reason }
    }
}

impl From<&Outcome> for End {
    fn from(outcome: &Outcome) -> Self {
        match outcome {
            Outcome::Reply(_) => Self::plain(0),
            Outcome::Stream(_) => Self::STREAM_OPEN,
            Outcome::Reject(_) => Self::plain(2),
            Outcome::Failure(failure) => failure.into(),
            // Nothing that an event can end with: the caller gets *internal*.
            Outcome::StreamEnd(_) => Self::plain(4),
        }
    }
}

impl From<&Failure> for End {
    fn from(failure: &Failure) -> Self {
        match failure {
            Failure::Panic { .. } => Self::plain(3),
            Failure::Internal { .. } => Self::plain(4),
            Failure::BadReply(_) => Self::plain(5),
            Failure::Deadline => Self::plain(6),
            Failure::Unavailable(why) => Self::refused(
                7,
                match why {
                    Unavailable::Draining => 6,
                    Unavailable::Parked => 7,
                    Unavailable::Crashed => 8,
                    Unavailable::NoOwner => 9,
                    Unavailable::Worker => 13,
                    Unavailable::Lapsed => 15,
                    Unavailable::Lost => 16,
                    Unavailable::Cut => 17,
                    Unavailable::Moving => 18,
                    Unavailable::LostPeer => 19,
                    Unavailable::Isolated => 20,
                    Unavailable::NoServer => 21,
                    Unavailable::Upstream => 24,
                    Unavailable::Routes => 25,
                },
            ),
            Failure::Overloaded(which) => Self::refused(
                8,
                match which {
                    Overloaded::InFlight => 0,
                    Overloaded::InFlightBytes => 1,
                    Overloaded::Streams => 2,
                    Overloaded::Lane => 3,
                    Overloaded::Shard => 4,
                    Overloaded::Rate => 5,
                    Overloaded::Memory => 12,
                    Overloaded::Workers => 14,
                    Overloaded::Held => 22,
                    Overloaded::Peer => 23,
                },
            ),
            Failure::Undecodable(_) => Self::refused(9, 11),
            Failure::BadData(_) => Self::plain(10),
            Failure::NoRoute => Self::plain(11),
            Failure::Unauthenticated => Self::refused(12, 10),
            Failure::Cancelled => Self::CANCELLED,
        }
    }
}

/// The place of a stream's end.
pub(super) const fn stream_end(reason: &StreamEndReason) -> usize {
    match reason {
        StreamEndReason::Finished => 0,
        StreamEndReason::Failed(_) => 1,
        StreamEndReason::Cancelled => 2,
        StreamEndReason::Drained => 3,
        StreamEndReason::Moved => 4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reject::Reject;
    use crate::reply::Reply;

    fn failures() -> Vec<(Failure, Option<&'static str>)> {
        let text = String::new;
        let (place, message, cause) = (text(), text(), text());
        let mut failures = vec![
            (Failure::Panic { place, message }, None),
            (
                Failure::Internal {
                    place: text(),
                    cause,
                },
                None,
            ),
            (Failure::BadReply(text()), None),
            (Failure::Deadline, None),
            (Failure::Undecodable(text()), Some("undecodable")),
            (Failure::BadData(text()), None),
            (Failure::NoRoute, None),
            (Failure::Unauthenticated, Some("unauthenticated")),
            (Failure::Cancelled, None),
        ];
        let unavailable = [
            (Unavailable::Draining, "draining"),
            (Unavailable::Parked, "parked"),
            (Unavailable::Crashed, "crashed"),
            (Unavailable::NoOwner, "no_owner"),
            (Unavailable::Worker, "worker"),
            (Unavailable::Lapsed, "lapsed"),
            (Unavailable::Lost, "lost"),
            (Unavailable::Cut, "cut"),
            (Unavailable::Moving, "moving"),
            (Unavailable::LostPeer, "lost_peer"),
            (Unavailable::Isolated, "isolated"),
            (Unavailable::NoServer, "no_server"),
            (Unavailable::Upstream, "upstream"),
            (Unavailable::Routes, "routes"),
        ];
        let overloaded = [
            (Overloaded::InFlight, "in_flight"),
            (Overloaded::InFlightBytes, "in_flight_bytes"),
            (Overloaded::Streams, "streams"),
            (Overloaded::Lane, "lane"),
            (Overloaded::Shard, "shard"),
            (Overloaded::Rate, "rate"),
            (Overloaded::Memory, "memory"),
            (Overloaded::Workers, "workers"),
            (Overloaded::Held, "held"),
            (Overloaded::Peer, "peer"),
        ];
        failures.extend(unavailable.map(|(why, reason)| (Failure::Unavailable(why), Some(reason))));
        failures.extend(overloaded.map(|(why, reason)| (Failure::Overloaded(why), Some(reason))));
        failures
    }

    #[test]
    fn every_outcome_is_counted_under_its_own_label_and_reason() {
        for (failure, reason) in failures() {
            let end = End::from(&failure);
            assert_eq!(OUTCOMES[end.outcome], failure.label(), "{failure:?}");
            assert_eq!(end.reason.map(|at| REASONS[at]), reason, "{failure:?}");
        }
        for outcome in [
            Outcome::Reply(Reply::empty()),
            Outcome::Reject(Reject::permission_denied()),
        ] {
            assert_eq!(OUTCOMES[End::from(&outcome).outcome], outcome.label());
        }
        assert_eq!(OUTCOMES[End::STREAM_OPEN.outcome], "stream_open");
    }

    #[test]
    fn every_end_of_a_stream_is_counted_under_the_last_part_of_its_label() {
        for reason in [
            StreamEndReason::Finished,
            StreamEndReason::Failed(String::new()),
            StreamEndReason::Cancelled,
            StreamEndReason::Drained,
            StreamEndReason::Moved,
        ] {
            let label = format!("stream_{}", STREAM_ENDS[stream_end(&reason)]);
            assert_eq!(label, reason.label());
        }
    }
}
