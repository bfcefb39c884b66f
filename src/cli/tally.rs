//! How many events fared, for `fire --count` and `load`.

use super::fire::client::Failed;
use super::meaning;
use crate::answer::code_name;
use crate::event::EventKind;
use crate::json::response_to_json;
use bytes::Bytes;
use hdrhistogram::Histogram;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::time::Duration;

/// The longest time told apart, in nanoseconds; nothing here waits for longer.
const LONGEST: u64 = 25 * 3600 * 1_000_000_000;
/// What comes where a reply should, as a status.
const UNREADABLE: &str = "UNREADABLE";

/// How an event ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ending {
    /// A message said yes.
    Ok,
    /// A message said no, with this code.
    Error(i64),
    /// A message ends the connection, with this code.
    Disconnect(i64),
    /// A refresh was refused.
    Expired,
    /// A status came instead, or what is no reply.
    Status(&'static str),
    /// Nobody was reached.
    Unreachable,
}

impl Ending {
    /// Reads it off an answer.
    pub(super) fn of(kind: EventKind, outcome: &Result<Bytes, Failed>) -> Self {
        let message = match outcome {
            Ok(message) => message,
            Err(Failed::Status(status)) => return Self::Status(code_name(status.code())),
            Err(Failed::Unreachable(_)) => return Self::Unreachable,
        };
        let text = response_to_json(kind, message).ok();
        let reply = text.and_then(|text| serde_json::from_str::<Value>(&text).ok());
        let reply = match reply {
            Some(mut reply) if kind.is_stream() => reply["subscribe_response"].take(),
            Some(reply) => reply,
            None => Value::Null,
        };
        if !reply.is_object() {
            return Self::Status(UNREADABLE);
        }
        let code = |of: &Value| of.get("code").and_then(Value::as_i64).unwrap_or_default();
        if !meaning::is_refusal(kind, &reply) {
            Self::Ok
        } else if let Some(disconnect) = reply.get("disconnect") {
            Self::Disconnect(code(disconnect))
        } else if let Some(error) = reply.get("error") {
            Self::Error(code(error))
        } else {
            Self::Expired
        }
    }
}

/// How events ended, and after which time.
#[derive(Debug, Default)]
pub(super) struct Tally {
    /// A message said yes.
    pub(super) ok: u64,
    errors: BTreeMap<i64, u64>,
    disconnects: BTreeMap<i64, u64>,
    expired: u64,
    statuses: BTreeMap<&'static str, u64>,
    /// Nobody was reached.
    pub(super) unreachable: u64,
    /// Of all that were answered, by whatever it was.
    pub(super) times: Times,
}

impl Tally {
    /// Counts an event.
    pub(super) fn count(&mut self, ending: Ending, took: Duration) {
        match ending {
            Ending::Ok => self.ok += 1,
            Ending::Error(code) => *self.errors.entry(code).or_default() += 1,
            Ending::Disconnect(code) => *self.disconnects.entry(code).or_default() += 1,
            Ending::Expired => self.expired += 1,
            Ending::Status(name) => *self.statuses.entry(name).or_default() += 1,
            Ending::Unreachable => {
                self.unreachable += 1;
                return;
            }
        }
        self.times.record(took);
    }

    /// Events that got a message saying no.
    pub(super) fn rejected(&self) -> u64 {
        let codes = self.errors.values().chain(self.disconnects.values());
        codes.sum::<u64>() + self.expired
    }

    /// Events that got a status, or what is no reply.
    pub(super) fn failed(&self) -> u64 {
        self.statuses.values().sum()
    }

    /// Events that got anything.
    pub(super) fn answered(&self) -> u64 {
        self.ok + self.rejected() + self.failed()
    }

    /// The statuses and their counts.
    pub(super) const fn statuses(&self) -> &BTreeMap<&'static str, u64> {
        &self.statuses
    }

    /// Each way to end that there was, with its count, in words.
    pub(super) fn words(&self) -> String {
        let errors = self
            .errors
            .iter()
            .map(|(code, count)| format!("error {code}: {count}"));
        let ends = self.disconnects.iter();
        let ends = ends.map(|(code, count)| format!("disconnect {code}: {count}"));
        let expired = (self.expired > 0).then(|| format!("expired: {}", self.expired));
        let statuses = self
            .statuses
            .iter()
            .map(|(name, count)| format!("{name}: {count}"));
        let unreachable =
            (self.unreachable > 0).then(|| format!("unreachable: {}", self.unreachable));
        let ok = std::iter::once(format!("ok: {}", self.ok));
        let all = ok.chain(errors).chain(ends).chain(expired).chain(statuses);
        all.chain(unreachable).collect::<Vec<_>>().join(", ")
    }

    /// The same as fields of a JSON object.
    pub(super) fn add_to(&self, object: &mut Value) {
        object["ok"] = json!(self.ok);
        object["errors"] = json!(self.errors);
        object["disconnects"] = json!(self.disconnects);
        object["expired"] = json!(self.expired);
        object["failed"] = json!(self.failed());
        object["statuses"] = json!(self.statuses);
        object["unreachable"] = json!(self.unreachable);
    }
}

/// Times, to three digits.
#[derive(Debug)]
pub(super) struct Times(Histogram<u64>);

impl Default for Times {
    fn default() -> Self {
        let times = Histogram::new_with_bounds(1, LONGEST, 3);
        Self(times.expect("the bounds are constants that fit"))
    }
}

impl Times {
    /// Counts a time.
    pub(super) fn record(&mut self, time: Duration) {
        let nanos = u64::try_from(time.as_nanos()).unwrap_or(LONGEST);
        self.0.saturating_record(nanos);
    }

    /// Forgets them.
    pub(super) fn clear(&mut self) {
        self.0.reset();
    }

    /// How many there are.
    pub(super) fn count(&self) -> u64 {
        self.0.len()
    }

    /// The time that this part of them did not exceed; 0 if there is none.
    pub(super) fn quantile(&self, part: f64) -> Duration {
        Duration::from_nanos(self.0.value_at_quantile(part))
    }

    /// The shortest.
    pub(super) fn min(&self) -> Duration {
        Duration::from_nanos(self.0.min())
    }

    /// The longest.
    pub(super) fn max(&self) -> Duration {
        Duration::from_nanos(self.0.max())
    }

    /// The mean.
    pub(super) fn mean(&self) -> Duration {
        Duration::from_secs_f64(self.0.mean() / 1e9)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::proxy;
    use prost::Message;
    use tonic::Status;

    fn near(time: Duration, millis: u64) -> bool {
        let wanted = Duration::from_millis(millis);
        time.abs_diff(wanted) <= wanted / 500
    }

    #[test]
    fn quantiles_are_those_of_the_times() {
        let mut times = Times::default();
        (1..=1000).for_each(|millis| times.record(Duration::from_millis(millis)));
        assert!(near(times.min(), 1) && near(times.max(), 1000));
        assert!(near(times.quantile(0.5), 500));
        assert!(near(times.quantile(0.99), 990));
        assert!(near(times.quantile(0.999), 999));
        assert!(near(times.mean(), 500));
        times.clear();
        assert_eq!((times.quantile(0.5), times.count()), (Duration::ZERO, 0));
        times.record(Duration::MAX);
        assert_eq!(times.count(), 1);
    }

    #[test]
    fn a_reply_counts_by_what_it_says() {
        let ending = |kind, reply: Vec<u8>| Ending::of(kind, &Ok(reply.into()));
        let error = Some(proxy::Error {
            code: 103,
            ..Default::default()
        });
        let disconnect = Some(proxy::Disconnect {
            code: 4403,
            ..Default::default()
        });
        let rpc = proxy::RpcResponse {
            error: error.clone(),
            ..Default::default()
        };
        assert_eq!(
            ending(EventKind::Rpc, rpc.encode_to_vec()),
            Ending::Error(103)
        );
        let connect = proxy::ConnectResponse {
            disconnect,
            ..Default::default()
        };
        let connect = connect.encode_to_vec();
        assert_eq!(
            ending(EventKind::Connect, connect),
            Ending::Disconnect(4403)
        );
        let subscribe = proxy::SubscribeResponse {
            error,
            ..Default::default()
        };
        let stream = proxy::StreamSubscribeResponse {
            subscribe_response: Some(subscribe),
            ..Default::default()
        };
        let refused = ending(EventKind::Stream, stream.encode_to_vec());
        assert_eq!(refused, Ending::Error(103));
        let refresh = proxy::RefreshResponse {
            result: Some(proxy::RefreshResult {
                expired: true,
                ..Default::default()
            }),
            ..Default::default()
        };
        let refresh = refresh.encode_to_vec();
        assert_eq!(ending(EventKind::Refresh, refresh), Ending::Expired);
        assert_eq!(ending(EventKind::Rpc, Vec::new()), Ending::Ok);
        assert_eq!(
            ending(EventKind::Rpc, vec![0xff]),
            Ending::Status(UNREADABLE)
        );
        let status = Err(Failed::Status(Status::unavailable("")));
        assert_eq!(
            Ending::of(EventKind::Rpc, &status),
            Ending::Status("UNAVAILABLE")
        );
    }

    #[test]
    fn what_was_not_answered_has_no_time() {
        let mut tally = Tally::default();
        let took = Duration::from_millis(1);
        for ending in [
            Ending::Ok,
            Ending::Error(103),
            Ending::Error(103),
            Ending::Disconnect(4403),
            Ending::Status("INTERNAL"),
            Ending::Unreachable,
        ] {
            tally.count(ending, took);
        }
        assert_eq!(
            (tally.answered(), tally.rejected(), tally.failed()),
            (5, 3, 1)
        );
        assert_eq!(tally.times.count(), 5);
        assert_eq!(
            tally.words(),
            "ok: 1, error 103: 2, disconnect 4403: 1, INTERNAL: 1, unreachable: 1"
        );
    }
}
