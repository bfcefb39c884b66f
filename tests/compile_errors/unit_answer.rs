//! A handler that answers nothing.
use centripeta::{Router, User};

pub fn router() -> Router {
    Router::new().publish("chat:{room}", |_: User| async {}).with_state(())
}
