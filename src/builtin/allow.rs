//! `allow`: the event's plain yes.

use super::plain_yes;
use crate::cx::Cx;
use crate::handler::{AnyHandler, HandlerFuture};
use std::future::ready;
use std::time::Duration;

/// Says yes to everything but connect and raw events. A stream stays open and silent.
#[derive(Debug)]
pub(crate) struct Allow {
    /// By how much refresh and sub_refresh extend.
    pub(crate) extend: Duration,
}

impl AnyHandler for Allow {
    fn call(&self, cx: &mut Cx) -> HandlerFuture {
        Box::pin(ready(plain_yes("allow", cx.kind(), self.extend)))
    }
}
