//! `echo`: the data of a call, back to the caller.

use super::unanswerable;
use crate::cx::Cx;
use crate::event::{EventKind, RpcReply};
use crate::handler::{AnyHandler, HandlerFuture};
use crate::outcome::{Failure, Outcome};
use std::future::ready;

/// Sends back what came, byte for byte; a call without data succeeds without data.
#[derive(Debug)]
pub(crate) struct Echo;

impl AnyHandler for Echo {
    fn call(&self, cx: &mut Cx) -> HandlerFuture {
        Box::pin(ready(echo(cx)))
    }
}

fn echo(cx: &Cx) -> Outcome {
    if cx.kind() != EventKind::Rpc {
        return unanswerable("echo", cx.kind());
    }
    match cx.data() {
        Ok(Some(data)) => Outcome::Reply(RpcReply::bytes(data).into()),
        Ok(None) => Outcome::Reply(RpcReply::done().into()),
        Err(why) => Failure::BadData(format!("`b64data` is not base64: {why}")).into(),
    }
}
