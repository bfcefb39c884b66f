#![allow(clippy::unwrap_used)]
use crate::engine::flight::Landed;
use crate::engine::{Engine, EngineConfig, EngineLimits, Incoming};
use crate::event::EventKind;
use crate::json::request_from_json;
use crate::outcome::Outcome;
use crate::{Router, RpcReply};
use centripeta_cluster::LocalOwnership;
use std::sync::Arc;
use std::time::Duration;

const LIMITS: EngineLimits = EngineLimits {
    in_flight: 64,
    in_flight_bytes: 1 << 20,
    streams: 64,
    lane_queue: 64,
    shard_events: 64,
    shard_bytes: 1 << 20,
    timeout: Duration::from_secs(5),
    deadline_margin: Duration::ZERO,
};

async fn engine(router: Router) -> Engine {
    let config = EngineConfig {
        node: "a".to_owned(),
        limits: LIMITS,
        shards_per_core: 8,
        passivate_after: Duration::from_secs(60),
        watchdog: Duration::from_secs(1),
        namespace_boundary: ":".to_owned(),
    };
    let cores = [tokio::runtime::Handle::current()];
    let ownership = Arc::new(LocalOwnership);
    Engine::start(router, config, ownership, &cores)
        .await
        .unwrap()
}

async fn rpc(engine: &Engine) -> Landed {
    let request = r#"{"client": "c", "protocol": "json", "method": "wait"}"#;
    let incoming = Incoming {
        kind: EventKind::Rpc,
        method: String::new(),
        raw: request_from_json(EventKind::Rpc, request).unwrap(),
        metadata: http::HeaderMap::new(),
        timeout: None,
        inbound: None,
    };
    engine.enter(0, incoming).unwrap().landed().await
}

#[tokio::test]
async fn handler_without_a_key_may_wait_and_is_answered() {
    async fn wait() -> RpcReply {
        tokio::time::sleep(Duration::from_millis(1)).await;
        RpcReply::done()
    }
    let engine = engine(Router::new().rpc("wait", wait)).await;
    let landed = rpc(&engine).await;
    assert!(
        matches!(&landed, Landed::Done(Outcome::Reply(_), ..)),
        "{landed:?}"
    );
    engine.shutdown(Duration::ZERO).await;
}
