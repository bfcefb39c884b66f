//! `deny`: the event's plain no.

use super::plain_no;
use crate::cx::Cx;
use crate::handler::{AnyHandler, HandlerFuture};
use std::future::ready;

/// Says no to everything.
#[derive(Debug)]
pub(crate) struct Deny;

impl AnyHandler for Deny {
    fn call(&self, cx: &mut Cx) -> HandlerFuture {
        Box::pin(ready(plain_no(cx.kind())))
    }
}
