//! One attempt at one address: counted while it lasts, and judged by how it ends.

use super::fleet::Fleet;
use super::health::Verdict;
use super::member::{InUse, Kind, Member};
use super::stats::End;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use tokio::time::Instant;

/// An attempt; of a stream, until the stream is over.
#[derive(Debug)]
pub(super) struct Lease {
    handler: Arc<str>,
    fleet: Arc<Fleet>,
    member: Arc<Member>,
    kind: Kind,
    /// Whether the address is ejected, and tried for want of another.
    was_ejected: bool,
    started: Instant,
    deadline: Instant,
    is_settled: bool,
    channel: Option<InUse>,
}

impl Lease {
    /// An attempt begins.
    pub(super) fn new(
        handler: &Arc<str>,
        fleet: &Arc<Fleet>,
        member: &Arc<Member>,
        kind: Kind,
        deadline: Instant,
    ) -> Self {
        member.under_way(kind).fetch_add(1, Ordering::Relaxed);
        let started = Instant::now();
        Self {
            handler: Arc::clone(handler),
            fleet: Arc::clone(fleet),
            member: Arc::clone(member),
            kind,
            was_ejected: member.ejected_until(started).is_some(),
            started,
            deadline,
            is_settled: false,
            channel: None,
        }
    }

    /// The connection that it goes over.
    ///
    /// # Errors
    /// There is none, and none can be opened.
    pub(super) async fn connect(&mut self) -> Result<&InUse, String> {
        let channel = self.member.channel(self.kind).await;
        let channel = channel.map_err(|why| why.to_string())?;
        Ok(self.channel.insert(channel))
    }

    /// Where it goes, for logs.
    pub(super) fn place(&self) -> String {
        let (endpoint, address) = (&self.member.target.label, self.member.address);
        match endpoint.ends_with(&format!("/{address}")) {
            true => endpoint.clone(),
            false => format!("{endpoint} ({address})"),
        }
    }

    /// It has ended so, of a stream: it was opened or not.
    pub(super) fn settle(&mut self, end: End, why: &str) {
        if std::mem::replace(&mut self.is_settled, true) {
            return;
        }
        // Behind the last call that a connection takes others are refused, or not even sent on it.
        let served = self.channel.as_ref().is_some_and(InUse::has_answered);
        let end = match end {
            End::NotSent if served => End::Refused,
            end => end,
        };
        let target = &self.member.target;
        target.count(end);
        if matches!(end, End::Status(_)) {
            target.took.record(self.started.elapsed());
        }
        match (end, &self.channel) {
            (End::Status(_), Some(channel)) => channel.answered(),
            (End::Timeout, Some(channel)) => channel.doubt(self.started),
            _ => {}
        }
        match end.verdict() {
            Verdict::Well => self.member.succeeded(self.was_ejected),
            verdict @ (Verdict::Suspect | Verdict::Down | Verdict::Unreachable) => {
                self.fleet.doubt.notify_one();
                if let Some(out) = self.member.failed(&self.fleet.rule, verdict) {
                    tracing::warn!(
                        handler = &*self.handler,
                        endpoint = target.label,
                        address = %self.member.address,
                        ?out,
                        why,
                        "an upstream failed several times in a row, and gets no calls for a while \
                         if others are there"
                    );
                }
            }
            // Who leaves in good order may have moved.
            Verdict::Nothing if end == End::Refused => self.fleet.doubt.notify_one(),
            Verdict::Nothing => {}
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        // Dropped at its deadline, or since nobody waits any more.
        let end = match Instant::now() >= self.deadline {
            true => End::Timeout,
            false => End::Cancelled,
        };
        self.settle(end, "no answer in time");
        let under_way = self.member.under_way(self.kind);
        under_way.fetch_sub(1, Ordering::Relaxed);
    }
}
