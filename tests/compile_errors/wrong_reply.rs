//! A subscribe handler with the reply of a connect.
use centripeta::{ConnectReply, Router};

pub fn router() -> Router {
    Router::new().subscribe("chat:{room}", || async { ConnectReply::user("u") }).with_state(())
}
