//! `rpc`: a client calls a method; the reply carries its result.

use super::{Event, EventKind, Gated, Parts};
use crate::answer::rules::Rules;
use crate::outcome::{IntoOutcome, Outcome};
use crate::proto::proxy;
use crate::reply::{Intent, ReplyMessage};
use serde::Serialize;

/// A client calls a method.
#[derive(Debug, Clone, Copy)]
pub struct Rpc;

impl Event for Rpc {
    const KIND: EventKind = EventKind::Rpc;
    type Request = proxy::RpcRequest;
    type Result = proxy::RpcResult;
    type Response = proxy::RpcResponse;
}

impl Gated for Rpc {
    fn result(message: &ReplyMessage) -> Option<&Self::Result> {
        match message {
            ReplyMessage::Rpc(result) => Some(result),
            _ => None,
        }
    }

    fn message(result: Self::Result) -> ReplyMessage {
        ReplyMessage::Rpc(result)
    }

    fn parts(response: Self::Response) -> Result<Parts<Self::Result>, String> {
        Ok(Parts {
            result: response.result,
            error: response.error,
            disconnect: response.disconnect,
        })
    }

    fn check(result: &Self::Result, rules: &Rules) -> Result<(), String> {
        // The result of a call may well be nothing: `null` is a value like any other here.
        rules
            .with_null_payloads()
            .payload("data", &result.data, "b64data", &result.b64data)
    }
}

/// The success of a call, with or without data.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct RpcReply {
    result: proxy::RpcResult,
    intent: Intent,
}

impl RpcReply {
    /// Success without data.
    pub fn done() -> Self {
        Self::default()
    }

    /// Success with the JSON of a value, which may be `null`. A value that can't be written as
    /// JSON makes the reply an internal error.
    pub fn data<T: Serialize + ?Sized>(value: &T) -> Self {
        let mut reply = Self::default();
        reply.result.data = reply.intent.json("data", value);
        reply
    }

    /// Success with these bytes; towards a client whose protocol is JSON they must be JSON.
    pub fn bytes(data: impl Into<bytes::Bytes>) -> Self {
        let mut reply = Self::default();
        reply.result.data = data.into();
        reply
    }
}

reply_of!(Rpc, RpcReply);

/// The success of a call, with the JSON of a value as its data.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Json<T>(pub T);

impl<T: Serialize> IntoOutcome<Rpc> for Json<T> {
    fn into_outcome(self) -> Outcome {
        RpcReply::data(&self.0).into_outcome()
    }
}
