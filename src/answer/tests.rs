#![allow(clippy::unwrap_used)]
use super::*;
use crate::event::{
    CacheEmptyReply, ChannelStateReply, ConnectReply, Event, Json, MapPublishReply, MapRemoveReply,
    PublishReply, Raw, RawMessage, RefreshReply, Rpc, RpcReply, SharedPollRefreshReply,
    StreamReply, SubRefreshReply, SubscribeOptions, SubscribeReply,
};
use crate::json::response_to_json;
use crate::outcome::{IntoOutcome, Overloaded, StreamEnd, Unavailable};
use crate::reply::{Reply, ReplyMessage};
use prost::Message;
use std::time::Duration;

mod matrix;
mod replies;
mod unknown_fields;

/// An answer in a form that is easy to write down: a status, or the JSON of the message.
fn shown(kind: EventKind, answer: &Answer) -> String {
    match answer {
        Answer::Message(message) => response_to_json(kind, message).unwrap(),
        Answer::Open(message) => format!("open {}", response_to_json(kind, message).unwrap()),
        Answer::Status { code, .. } => format!("{code:?}"),
    }
}
