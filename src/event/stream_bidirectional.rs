//! `stream_bidirectional`: a stream that also carries the client's publications to the handler.

use super::stream::stream_outcomes;
use super::{Event, EventKind, Gated, Parts, Stream, StreamReply, SubscribeReply};
use crate::answer::rules::Rules;
use crate::outcome::{IntoOutcome, Outcome};
use crate::proto::proxy;
use crate::reply::ReplyMessage;

/// A stream that also carries the client's publications to the handler. The request is what opens
/// it, without the message that it came in.
#[derive(Debug, Clone, Copy)]
pub struct StreamBidirectional;

impl Event for StreamBidirectional {
    const KIND: EventKind = EventKind::StreamBidirectional;
    type Request = proxy::SubscribeRequest;
    type Result = proxy::SubscribeResult;
    type Response = proxy::StreamSubscribeResponse;
}

impl Gated for StreamBidirectional {
    fn result(message: &ReplyMessage) -> Option<&Self::Result> {
        Stream::result(message)
    }

    fn message(result: Self::Result) -> ReplyMessage {
        Stream::message(result)
    }

    fn parts(response: Self::Response) -> Result<Parts<Self::Result>, String> {
        Stream::parts(response)
    }

    fn check(result: &Self::Result, rules: &Rules) -> Result<(), String> {
        Stream::check(result, rules)
    }
}

stream_outcomes!(StreamBidirectional);
