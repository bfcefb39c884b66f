//! What is counted of an endpoint, whatever addresses its name has.

use super::health::Verdict;
use crate::answer::code_name;
use crate::client::CallError;
use crate::config::Endpoint;
use crate::metrics::cells::{Counter, EVENT_BOUNDS, Histogram};
use std::sync::{Mutex, PoisonError};
use tonic::Code;

/// How many gRPC statuses there are.
const STATUSES: usize = 17;
/// What else a call may end with.
const OTHER: [&str; 5] = ["not_sent", "lost", "unreadable", "timeout", "cancelled"];

/// How calls end, as the label `result` has it: statuses by their number, then the others.
pub(crate) static RESULTS: [&str; STATUSES + OTHER.len()] = {
    let mut results = [""; STATUSES + OTHER.len()];
    let mut at = 0;
    while at < results.len() {
        results[at] = match at {
            0 => code_name(Code::Ok),
            1 => code_name(Code::Cancelled),
            2 => code_name(Code::Unknown),
            3 => code_name(Code::InvalidArgument),
            4 => code_name(Code::DeadlineExceeded),
            5 => code_name(Code::NotFound),
            6 => code_name(Code::AlreadyExists),
            7 => code_name(Code::PermissionDenied),
            8 => code_name(Code::ResourceExhausted),
            9 => code_name(Code::FailedPrecondition),
            10 => code_name(Code::Aborted),
            11 => code_name(Code::OutOfRange),
            12 => code_name(Code::Unimplemented),
            13 => code_name(Code::Internal),
            14 => code_name(Code::Unavailable),
            15 => code_name(Code::DataLoss),
            16 => code_name(Code::Unauthenticated),
            other => OTHER[other - STATUSES],
        };
        at += 1;
    }
    results
};

/// How a call to an upstream has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// With a status; 0 is OK.
    Status(i32),
    /// It was provably not sent.
    NotSent,
    /// It has arrived, and provably was not looked at; counted with the former.
    Refused,
    /// Nobody knows what became of it.
    Lost,
    /// Something came back that is no answer.
    Unreadable,
    /// Its time was over.
    Timeout,
    /// Nobody waited for it any more.
    Cancelled,
}

impl End {
    /// How a call without an answer has ended.
    pub(super) const fn of(error: &CallError) -> Self {
        match error {
            CallError::NotSent(_) => Self::NotSent,
            CallError::Refused(_) => Self::Refused,
            CallError::Lost(_) => Self::Lost,
            CallError::Unreadable(_) => Self::Unreadable,
            CallError::Status(status) => Self::Status(status.code),
        }
    }

    /// What it says of the server. A status that an application answers on purpose is an answer;
    /// UNKNOWN and INTERNAL are what many answer to any error of their own, and what came too late may
    /// have had little time.
    pub(super) const fn verdict(self) -> Verdict {
        match self {
            Self::Status(14) | Self::Lost => Verdict::Down,
            Self::Status(2 | 4 | 8 | 13 | 15) | Self::Unreadable | Self::Timeout => {
                Verdict::Suspect
            }
            Self::Status(_) => Verdict::Well,
            Self::NotSent => Verdict::Unreachable,
            // A server that ends a connection after so many calls refuses all that were on their way.
            Self::Refused | Self::Cancelled => Verdict::Nothing,
        }
    }

    fn index(self) -> usize {
        match self {
            Self::Status(code) => usize::try_from(code).map_or(2, |code| match code {
                ..STATUSES => code,
                _ => 2,
            }),
            Self::NotSent | Self::Refused => STATUSES,
            Self::Lost => STATUSES + 1,
            Self::Unreadable => STATUSES + 2,
            Self::Timeout => STATUSES + 3,
            Self::Cancelled => STATUSES + 4,
        }
    }
}

/// One endpoint of the configuration.
#[derive(Debug)]
pub(super) struct Target {
    /// Where it is.
    pub(super) address: Endpoint,
    /// The same as text, for logs and labels.
    pub(super) label: String,
    /// Calls by how they ended.
    ended: [Counter; RESULTS.len()],
    /// Time from sending to the answer.
    pub(super) took: Histogram,
    /// How often one of its addresses was ejected.
    pub(super) ejections: Counter,
    /// Why its name was not found the last time.
    unresolved: Mutex<Option<String>>,
}

impl Target {
    /// An endpoint of which nothing is known yet.
    pub(super) fn new(address: &Endpoint) -> Self {
        Self {
            address: address.clone(),
            label: address.to_string(),
            ended: std::array::from_fn(|_| Counter::default()),
            took: Histogram::new(&EVENT_BOUNDS),
            ejections: Counter::default(),
            unresolved: Mutex::default(),
        }
    }

    /// Counts a call that has ended.
    pub(super) fn count(&self, end: End) {
        self.ended[end.index()].add_one();
    }

    /// What the last look-up said; whether that is news.
    pub(super) fn resolved(&self, why_not: Option<String>) -> bool {
        let mut unresolved = self.unresolved();
        let is_news = *unresolved != why_not;
        *unresolved = why_not;
        is_news
    }

    /// Why its name was not found the last time.
    pub(super) fn why_unresolved(&self) -> Option<String> {
        self.unresolved().clone()
    }

    fn unresolved(&self) -> std::sync::MutexGuard<'_, Option<String>> {
        self.unresolved
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Calls by how they ended, in the order of [`RESULTS`].
    pub(super) fn ended(&self) -> [u64; RESULTS.len()] {
        std::array::from_fn(|at| self.ended[at].get())
    }
}

/// How an endpoint stands at one moment, for metrics.
#[derive(Debug, Default)]
pub(crate) struct Standing {
    /// The endpoint, as the configuration has it.
    pub(crate) endpoint: String,
    /// Addresses that it has.
    pub(crate) addresses: usize,
    /// Those of them that are ejected now.
    pub(crate) ejected: usize,
    /// Calls under way.
    pub(crate) calls: usize,
    /// Streams that are open, or being opened.
    pub(crate) streams: usize,
    /// How often an address was ejected.
    pub(crate) ejections: u64,
    /// Calls by how they ended, in the order of [`RESULTS`].
    pub(crate) ended: [u64; RESULTS.len()],
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_end_counts_under_its_own_result() {
        let ends = [
            (End::Status(0), "OK"),
            (End::Status(14), "UNAVAILABLE"),
            (End::Status(16), "UNAUTHENTICATED"),
            (End::Status(17), "UNKNOWN"),
            (End::Status(-1), "UNKNOWN"),
            (End::NotSent, "not_sent"),
            (End::Refused, "not_sent"),
            (End::Lost, "lost"),
            (End::Unreadable, "unreadable"),
            (End::Timeout, "timeout"),
            (End::Cancelled, "cancelled"),
        ];
        for (end, result) in ends {
            assert_eq!(RESULTS[end.index()], result, "{end:?}");
        }
    }

    #[test]
    fn an_application_that_refuses_is_well_one_that_errs_is_suspect_and_one_that_is_gone_is_down() {
        for code in [0, 3, 5, 7, 12, 16] {
            assert_eq!(End::Status(code).verdict(), Verdict::Well, "{code}");
        }
        for code in [2, 4, 8, 13, 15] {
            assert_eq!(End::Status(code).verdict(), Verdict::Suspect, "{code}");
        }
        for (end, verdict) in [
            (End::Timeout, Verdict::Suspect),
            (End::Unreadable, Verdict::Suspect),
            (End::Status(14), Verdict::Down),
            (End::Lost, Verdict::Down),
            (End::NotSent, Verdict::Unreachable),
            (End::Refused, Verdict::Nothing),
            (End::Cancelled, Verdict::Nothing),
        ] {
            assert_eq!(end.verdict(), verdict, "{end:?}");
        }
    }
}
