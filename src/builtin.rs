//! The handlers that are there without code: `allow`, `deny`, `echo`, `static`, `counter`.
//!
//! Each answers with what the event's builders make, so that the gate judges it like any other
//! reply. What a handler cannot answer (`allow` a connect, `echo` a publish) stops the start
//! ([`refusal`]); should such an event come by all the same, it fails and names the fix.

mod allow;
mod counter;
mod deny;
mod echo;
mod fixed;
#[cfg(test)]
pub(crate) mod tests;

pub(crate) use allow::Allow;
pub(crate) use counter::Counter;
pub(crate) use deny::Deny;
pub(crate) use echo::Echo;
pub(crate) use fixed::{Fixed, FixedError};

use crate::event::{
    CacheEmptyReply, ChannelStateReply, EventKind, MapPublishReply, MapRemoveReply, PublishReply,
    RefreshReply, RpcReply, SharedPollRefreshReply, StreamReply, SubRefreshReply, SubscribeReply,
};
use crate::outcome::{Failure, Outcome};
use crate::reject::Reject;
use crate::reply::Reply;
use std::time::Duration;

/// The code with which a refused connect is closed; SDKs may come back.
const FORBIDDEN: u32 = 4403;

/// Why a built-in handler, by its kind's name, cannot answer an event: the rule and the fix.
pub(crate) fn refusal(handler: &str, kind: EventKind) -> Option<(String, String)> {
    match (handler, kind) {
        ("allow" | "counter", EventKind::Connect) => Some((
            format!("`{handler}` cannot answer `connect`: it does not say who the user is"),
            "say who the user is with a `static` handler, for instance reply = { user = \
             \"guest-{client}\" }"
                .to_owned(),
        )),
        ("allow" | "counter", EventKind::Raw) => Some((
            format!("`{handler}` cannot answer `raw`: nobody knows what yes looks like there"),
            "leave `raw` out, or route it to `deny`".to_owned(),
        )),
        ("echo", kind) if kind != EventKind::Rpc => Some((
            format!("`echo` answers only `rpc`, not `{kind}`"),
            "use `allow` for the other events, or leave them out".to_owned(),
        )),
        _ => None,
    }
}

/// The failure of an event that its handler cannot answer.
fn unanswerable(handler: &'static str, kind: EventKind) -> Outcome {
    let cause = match refusal(handler, kind) {
        Some((rule, fix)) => format!("{rule}; {fix}"),
        None => format!("there is no answer to `{kind}`; leave it out"),
    };
    internal(handler, cause)
}

fn internal(handler: &str, cause: String) -> Outcome {
    Outcome::Failure(Failure::Internal {
        place: format!("handler `{handler}`"),
        cause,
    })
}

/// The event's plain yes, in the name of a handler; refresh and sub_refresh extend by `extend`.
fn plain_yes(handler: &'static str, kind: EventKind, extend: Duration) -> Outcome {
    let reply: Reply = match kind {
        EventKind::Refresh => RefreshReply::extend(extend).into(),
        EventKind::SubRefresh => SubRefreshReply::extend(extend).into(),
        EventKind::Subscribe => SubscribeReply::allow().into(),
        EventKind::Stream | EventKind::StreamBidirectional => return StreamReply::silent().into(),
        EventKind::Publish => PublishReply::allow().into(),
        EventKind::Rpc => RpcReply::done().into(),
        EventKind::MapPublish => MapPublishReply::allow().into(),
        EventKind::MapRemove => MapRemoveReply::allow().into(),
        EventKind::SharedPollRefresh => SharedPollRefreshReply::new().into(),
        EventKind::CacheEmpty => CacheEmptyReply::populated(false).into(),
        EventKind::ChannelState => ChannelStateReply::acknowledge().into(),
        EventKind::Connect | EventKind::Raw => return unanswerable(handler, kind),
    };
    Outcome::Reply(reply)
}

/// The event's plain no: error 103; the end of a session or subscription; for a connect the end of
/// the connection.
pub(crate) fn plain_no(kind: EventKind) -> Outcome {
    match kind {
        EventKind::Refresh => Outcome::Reply(RefreshReply::expire().into()),
        EventKind::SubRefresh => Outcome::Reply(SubRefreshReply::expire().into()),
        EventKind::Connect => Reject::disconnect(FORBIDDEN, "forbidden").into(),
        _ => Reject::permission_denied().into(),
    }
}
