//! `cache_empty`: a cache recovery found nothing stored; the reply says whether something is now.

use super::{Event, EventKind, Gated, Parts};
use crate::answer::rules::Rules;
use crate::proto::proxy;
use crate::reply::{Intent, ReplyMessage};

/// A cache recovery found nothing stored (PRO).
#[derive(Debug, Clone, Copy)]
pub struct CacheEmpty;

impl Event for CacheEmpty {
    const KIND: EventKind = EventKind::CacheEmpty;
    type Request = proxy::NotifyCacheEmptyRequest;
    type Result = proxy::NotifyCacheEmptyResult;
    type Response = proxy::NotifyCacheEmptyResponse;
}

impl Gated for CacheEmpty {
    fn result(message: &ReplyMessage) -> Option<&Self::Result> {
        match message {
            ReplyMessage::CacheEmpty(result) => Some(result),
            _ => None,
        }
    }

    fn message(result: Self::Result) -> ReplyMessage {
        ReplyMessage::CacheEmpty(result)
    }

    fn parts(response: Self::Response) -> Result<Parts<Self::Result>, String> {
        Ok(Parts {
            result: response.result,
            error: None,
            disconnect: None,
        })
    }

    fn check(_: &Self::Result, _: &Rules) -> Result<(), String> {
        Ok(())
    }
}

/// Says whether the channel has a publication now.
#[derive(Debug, Clone, PartialEq)]
pub struct CacheEmptyReply {
    result: proxy::NotifyCacheEmptyResult,
    intent: Intent,
}

impl CacheEmptyReply {
    /// `true` makes Centrifugo read the cache once more.
    pub fn populated(populated: bool) -> Self {
        Self {
            result: proxy::NotifyCacheEmptyResult { populated },
            intent: Intent::default(),
        }
    }
}

reply_of!(CacheEmpty, CacheEmptyReply);
