//! `stream`: a subscription as a stream of publications to one client.

use super::{Event, EventKind, Gated, Parts, Subscribe, SubscribeReply};
use crate::answer::rules::Rules;
use crate::outcome::{Failure, IntoOutcome, Outcome};
use crate::proto::proxy;
use crate::reject::BoxError;
use crate::reply::{PublicationStream, ReplyMessage, StreamOpen};
use futures_util::{StreamExt, stream};
use serde::Serialize;
use std::fmt;
use std::time::Duration;
use tokio::time::{Instant, sleep_until};

/// A subscription as a stream of publications to one client.
#[derive(Debug, Clone, Copy)]
pub struct Stream;

impl Event for Stream {
    const KIND: EventKind = EventKind::Stream;
    type Request = proxy::SubscribeRequest;
    type Result = proxy::SubscribeResult;
    type Response = proxy::StreamSubscribeResponse;
}

impl Gated for Stream {
    fn result(message: &ReplyMessage) -> Option<&Self::Result> {
        Subscribe::result(message)
    }

    fn message(result: Self::Result) -> ReplyMessage {
        Subscribe::message(result)
    }

    fn parts(response: Self::Response) -> Result<Parts<Self::Result>, String> {
        if response.publication.is_some() {
            return Err(
                "the first message of a stream carries a publication, which Centrifugo \
                        drops; send it as the next message"
                    .to_owned(),
            );
        }
        match response.subscribe_response {
            Some(inner) => Subscribe::parts(inner),
            None => Err("the first message of a stream lacks `subscribe_response`".to_owned()),
        }
    }

    fn check(result: &Self::Result, rules: &Rules) -> Result<(), String> {
        Subscribe::check(result, rules)
    }
}

/// Accepts a stream: its first message and what follows it.
///
/// The end of the publications ends the stream, and the client does not come back by itself; an
/// error among them ends it with a failure, and the client resubscribes. To refuse a client, return
/// a `Reject` instead: failing right after the accept makes SDKs resubscribe without back-off.
pub struct StreamReply {
    first: SubscribeReply,
    publications: PublicationStream,
}

impl StreamReply {
    /// Accepts, then sends these publications.
    pub fn publications<S>(source: S) -> Self
    where
        S: stream::Stream<Item = proxy::Publication> + Send + 'static,
    {
        Self::new(source.map(Ok).boxed())
    }

    /// Accepts, then sends these publications until the first error.
    pub fn try_publications<S, X>(source: S) -> Self
    where
        S: stream::Stream<Item = Result<proxy::Publication, X>> + Send + 'static,
        X: Into<BoxError> + 'static,
    {
        Self::new(source.map(|item| item.map_err(Into::into)).boxed())
    }

    /// Accepts and stays open without a word until the client leaves.
    pub fn silent() -> Self {
        Self::new(stream::pending().boxed())
    }

    fn new(publications: PublicationStream) -> Self {
        Self {
            first: SubscribeReply::allow(),
            publications,
        }
    }

    /// What the client gets in the reply to its subscribe.
    #[must_use]
    pub fn first(mut self, first: SubscribeReply) -> Self {
        self.first.result = first.result;
        self.first.intent.absorb(first.intent);
        self
    }

    /// Sends at most this many publications per second; the source waits meanwhile. A client that
    /// reads slower than it is sent to is closed by Centrifugo with 3008. 0 is refused when the
    /// reply leaves.
    #[must_use]
    pub fn throttle(mut self, per_second: u32) -> Self {
        if per_second == 0 {
            let flaw = "a stream can't be throttled to 0 publications per second";
            self.first.intent.spoil(flaw.to_owned());
            return self;
        }
        self.publications = paced(self.publications, Duration::from_secs(1) / per_second);
        self
    }
}

/// How far a paced stream may catch up with its schedule, so that coarse timers don't slow it down.
const CATCH_UP: Duration = Duration::from_millis(10);

/// Lets items pass at a distance; the first one at once.
fn paced(source: PublicationStream, gap: Duration) -> PublicationStream {
    let start = (source, None::<Instant>);
    stream::unfold(start, move |(mut source, due)| async move {
        let item = source.next().await?;
        if let Some(due) = due {
            sleep_until(due).await;
        }
        let now = Instant::now();
        let earliest = now.checked_sub(CATCH_UP).unwrap_or(now);
        let from = due.unwrap_or(now).max(earliest);
        Some((item, (source, Some(from + gap))))
    })
    .boxed()
}

impl fmt::Debug for StreamReply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StreamReply")
            .field("first", &self.first)
            .finish_non_exhaustive()
    }
}

impl From<StreamReply> for Outcome {
    fn from(reply: StreamReply) -> Self {
        let SubscribeReply { result, intent } = reply.first;
        let checked = Subscribe::check(&result, &Rules::new(false, &intent));
        let flaw = intent.flaw.map(String::from).or_else(|| checked.err());
        match flaw {
            Some(flaw) => Self::Failure(Failure::BadReply(flaw)),
            None => Self::Stream(StreamOpen::new(result, reply.publications)),
        }
    }
}

/// The ways to an accepted stream, for both kinds of streams.
macro_rules! stream_outcomes {
    ($event:ty) => {
        impl IntoOutcome<$event> for StreamReply {
            fn into_outcome(self) -> Outcome {
                self.into()
            }
        }

        /// Accepts with this first message and stays open without a word.
        impl IntoOutcome<$event> for SubscribeReply {
            fn into_outcome(self) -> Outcome {
                StreamReply::silent().first(self).into()
            }
        }

        result_of!($event);
    };
}
pub(super) use stream_outcomes;

stream_outcomes!(Stream);

impl proxy::Publication {
    /// A publication with the JSON of a value; the error says why it can't be written.
    pub fn json<T: Serialize + ?Sized>(value: &T) -> Result<Self, serde_json::Error> {
        Ok(Self {
            data: serde_json::to_vec(value)?.into(),
            ..Default::default()
        })
    }

    /// Adds a tag that the client sees.
    #[must_use]
    pub fn tag(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.tags.insert(name.into(), value.into());
        self
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::reply::{FirstMessage, StreamSource};

    fn opened(reply: StreamReply) -> StreamOpen {
        match IntoOutcome::<Stream>::into_outcome(reply) {
            Outcome::Stream(open) => open,
            other => panic!("expected an open stream, got {other:?}"),
        }
    }

    fn publications(open: StreamOpen) -> PublicationStream {
        match open.rest {
            StreamSource::Publications(publications) => publications,
            StreamSource::Messages(_) => panic!("expected publications"),
        }
    }

    fn ticks(count: u32) -> impl stream::Stream<Item = proxy::Publication> {
        stream::iter((0..count).map(|i| proxy::Publication::json(&i).unwrap()))
    }

    #[tokio::test(start_paused = true)]
    async fn throttled_stream_keeps_its_rate_and_its_order() {
        let started = Instant::now();
        let open = opened(StreamReply::publications(ticks(41)).throttle(20));
        let data = publications(open).map(|item| item.unwrap().data);
        let sent: Vec<_> = data.collect().await;
        let expected: Vec<_> = (0..41).map(|i| bytes::Bytes::from(i.to_string())).collect();
        assert_eq!(sent, expected);
        let took = started.elapsed();
        assert!(took >= Duration::from_secs(2) - CATCH_UP, "{took:?}");
        assert!(took <= Duration::from_millis(2100), "{took:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn throttled_stream_does_not_burst_after_a_pause_of_its_source() {
        let pause = stream::once(async {
            tokio::time::sleep(Duration::from_secs(5)).await;
            proxy::Publication::json("late").unwrap()
        });
        let source = ticks(1).chain(pause).chain(ticks(20));
        let mut sent = publications(opened(StreamReply::publications(source).throttle(10)));
        sent.next().await.unwrap().unwrap();
        sent.next().await.unwrap().unwrap();
        let resumed = Instant::now();
        assert_eq!(sent.count().await, 20);
        assert!(resumed.elapsed() >= Duration::from_millis(1980));
    }

    #[test]
    fn throttle_of_zero_is_refused_and_not_a_panic() {
        let reply = StreamReply::silent().throttle(0);
        let outcome = Outcome::from(reply.first(SubscribeReply::allow()));
        assert!(
            matches!(outcome, Outcome::Failure(Failure::BadReply(why)) if why.contains("0 pub"))
        );
    }

    #[test]
    fn first_message_that_can_not_be_written_refuses_the_stream() {
        let bad = std::collections::HashMap::from([((1, 2), 3)]);
        let reply = StreamReply::silent().first(SubscribeReply::allow().data(&bad));
        let outcome = Outcome::from(reply);
        assert!(
            matches!(outcome, Outcome::Failure(Failure::BadReply(why)) if why.contains("data"))
        );
    }

    #[test]
    fn null_in_the_first_message_leaves_only_when_it_is_meant() {
        let null = SubscribeReply::allow().data(&());
        let refused = Outcome::from(StreamReply::silent().first(null.clone()));
        assert!(matches!(refused, Outcome::Failure(Failure::BadReply(_))));
        let open = opened(StreamReply::silent().first(null.null_payloads()));
        assert!(matches!(open.first, FirstMessage::Result(first) if first.data == "null"));
    }
}
