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

mod builders;
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

fn sealed(kind: EventKind, json_client: bool, reply: impl Into<Reply>) -> Result<String, String> {
    let mut reply = reply.into();
    match seal(kind, json_client, &mut reply) {
        Ok(response) => Ok(response_to_json(kind, &response).unwrap()),
        Err(Failure::BadReply(why)) => Err(why),
        Err(other) => panic!("{other:?}"),
    }
}

#[track_caller]
fn leaves(kind: EventKind, reply: impl Into<Reply>, expected: &str) {
    assert_eq!(sealed(kind, true, reply).as_deref(), Ok(expected));
}

#[track_caller]
fn stays(kind: EventKind, reply: impl Into<Reply>, naming: &str) {
    let why = sealed(kind, true, reply).unwrap_err();
    assert!(why.contains(naming), "{why}");
}

fn raw(kind: EventKind, json: &str) -> Reply {
    Reply::raw(crate::json::response_from_json(kind, json).unwrap())
}
