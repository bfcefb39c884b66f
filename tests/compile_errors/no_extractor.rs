//! An argument that is no extractor.
use centripeta::{Json, Router};

pub fn router() -> Router {
    Router::new().rpc("a", |name: String| async move { Json(name) }).with_state(())
}
