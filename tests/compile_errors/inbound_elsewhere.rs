//! The client's publications where there are none.
use centripeta::{Inbound, Router, StreamReply};

pub fn router() -> Router {
    Router::new().stream("t:{x}", |_: Inbound| async { StreamReply::silent() }).with_state(())
}
