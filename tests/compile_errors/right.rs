//! The same, right: what the others are compared with.
use centripeta::{Inbound, Json, PublishReply, Router, StreamReply, SubscribeReply, User};

pub fn router() -> Router {
    Router::new()
        .publish("chat:{room}", |_: User| async { PublishReply::allow() })
        .subscribe("chat:{room}", || async { SubscribeReply::allow() })
        .rpc("a", || async { Json("a") })
        .stream_bidirectional("t:{x}", |_: Inbound| async { StreamReply::silent() })
        .with_state(())
}
