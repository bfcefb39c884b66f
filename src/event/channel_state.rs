//! `channel_state`: channels became occupied or vacated; the reply acknowledges the batch.

use super::{Event, EventKind, Gated, Parts};
use crate::answer::rules::Rules;
use crate::proto::proxy;
use crate::reply::{Intent, ReplyMessage};

/// Channels became occupied or vacated (PRO).
#[derive(Debug, Clone, Copy)]
pub struct ChannelState;

impl Event for ChannelState {
    const KIND: EventKind = EventKind::ChannelState;
    type Request = proxy::NotifyChannelStateRequest;
    type Result = proxy::NotifyChannelStateResult;
    type Response = proxy::NotifyChannelStateResponse;
}

impl Gated for ChannelState {
    fn result(message: &ReplyMessage) -> Option<&Self::Result> {
        match message {
            ReplyMessage::ChannelState(result) => Some(result),
            _ => None,
        }
    }

    fn message(result: Self::Result) -> ReplyMessage {
        ReplyMessage::ChannelState(result)
    }

    fn parts(response: Self::Response) -> Result<Parts<Self::Result>, String> {
        Ok(Parts {
            result: response.result,
            error: response.error,
            disconnect: None,
        })
    }

    fn check(_: &Self::Result, _: &Rules) -> Result<(), String> {
        Ok(())
    }
}

/// Acknowledges a batch. A handler that fails instead makes Centrifugo send it again.
#[derive(Debug, Clone, PartialEq)]
pub struct ChannelStateReply {
    result: proxy::NotifyChannelStateResult,
    intent: Intent,
}

impl ChannelStateReply {
    /// The batch is handled and does not come again.
    pub fn acknowledge() -> Self {
        Self {
            result: proxy::NotifyChannelStateResult {},
            intent: Intent::default(),
        }
    }
}

reply_of!(ChannelState, ChannelStateReply);
