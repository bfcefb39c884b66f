//! The admin listener: health and readiness, metrics, the Admin service. All but the first two ask
//! for the token.
//!
//! HTTP/1 and HTTP/2 are spoken on one port, the latter without TLS and by prior knowledge, as gRPC
//! clients do; gRPC itself needs HTTP/2.

mod cluster;
mod explain;
mod listener;
mod service;
#[cfg(test)]
mod tests;
mod workers;

pub(crate) use cluster::Operators;
pub(crate) use listener::serve;

use super::Addresses;
use super::membership::Membership;
use crate::config::{Config, Secret};
use crate::control::Control;
use crate::engine::Engine;
use crate::metrics;
use crate::proto::admin::admin_server::{AdminServer, SERVICE_NAME};
use axum::Json;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode, Version, header};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use serde::Serialize;
use service::AdminService;
use tonic::Status as GrpcStatus;

/// The largest message taken, in bytes.
const MESSAGE_BYTES: usize = 64 * 1024;

/// What the handlers know.
#[derive(Clone)]
struct Admin {
    engine: Engine,
    node: String,
    token: Option<Secret>,
    membership: Option<Membership>,
    /// Whether workers are counted under RoadRunner's names too.
    roadrunner: bool,
}

/// The answer to `/health` and `/ready`.
#[derive(Debug, Serialize)]
struct Status {
    status: &'static str,
    node: String,
    version: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    /// What makes too little progress for the node's part in its cluster.
    #[serde(skip_serializing_if = "Option::is_none")]
    degraded: Option<String>,
}

/// Whether a node takes events: it, and in a cluster its part in that.
///
/// # Errors
/// It does not; why, in words.
fn readiness(engine: &Engine, membership: Option<&Membership>) -> Result<(), String> {
    engine.ready()?;
    membership.map_or(Ok(()), Membership::ready)
}

/// The paths of the admin listener. Without a control nobody carries out what the Admin service is
/// asked to change.
pub(crate) fn router(
    engine: Engine,
    config: &Config,
    addresses: Addresses,
    control: Option<Control>,
    operators: Operators,
    membership: Option<Membership>,
) -> axum::Router {
    let admin = Admin {
        engine: engine.clone(),
        node: config.node.name.clone(),
        token: config.listen.admin_token.clone(),
        membership: membership.clone(),
        roadrunner: config.metrics.roadrunner,
    };
    let name = config.node.name.clone();
    let service = AdminService::new(engine, name, addresses, control, operators, membership);
    let service = AdminServer::new(service).max_decoding_message_size(MESSAGE_BYTES);
    axum::Router::new()
        .route("/metrics", get(scrape))
        .route_service(&format!("/{SERVICE_NAME}/{{method}}"), service)
        .fallback(elsewhere)
        .layer(from_fn_with_state(admin.clone(), authenticate))
        .route("/health", get(health))
        .route("/ready", get(ready))
        .with_state(admin)
}

/// A path that there is not.
async fn elsewhere(request: Request) -> Response {
    if is_grpc(request.headers()) {
        return refused(GrpcStatus::unimplemented("no such service"));
    }
    StatusCode::NOT_FOUND.into_response()
}

fn is_grpc(headers: &HeaderMap) -> bool {
    let kind = headers.get(header::CONTENT_TYPE);
    kind.is_some_and(|kind| kind.as_bytes().starts_with(b"application/grpc"))
}

fn refused(status: GrpcStatus) -> Response {
    status.into_http::<axum::body::Body>()
}

/// Alive: the process answers.
async fn health(State(admin): State<Admin>) -> Json<Status> {
    Json(Status {
        status: "ok",
        ..admin.status()
    })
}

/// Ready: every shard and stage is running, the node is not draining, and has its part in its cluster.
async fn ready(State(admin): State<Admin>) -> Response {
    let ready = readiness(&admin.engine, admin.membership.as_ref());
    let (code, status) = match ready {
        Ok(()) => (StatusCode::OK, "ready"),
        Err(_) => (StatusCode::SERVICE_UNAVAILABLE, "not ready"),
    };
    let status = Status {
        status,
        reason: ready.err(),
        degraded: admin.membership.as_ref().and_then(Membership::degraded),
        ..admin.status()
    };
    (code, Json(status)).into_response()
}

/// What is counted, as Prometheus reads it.
async fn scrape(State(admin): State<Admin>) -> Response {
    match metrics::page(&admin.engine, admin.membership.as_ref()) {
        Some(mut page) => {
            if admin.roadrunner {
                page.push_str(&metrics::roadrunner_page(&admin.engine));
            }
            ([(header::CONTENT_TYPE, metrics::CONTENT_TYPE)], page).into_response()
        }
        None => (
            StatusCode::NOT_FOUND,
            "metrics are switched off: set `metrics.enabled = true`\n",
        )
            .into_response(),
    }
}

impl Admin {
    fn status(&self) -> Status {
        let node = self.node.clone();
        Status {
            status: "",
            node,
            version: env!("CARGO_PKG_VERSION"),
            reason: None,
            degraded: None,
        }
    }
}

/// Lets through whoever has the token, if one is set; beyond loopback one has to be.
async fn authenticate(State(admin): State<Admin>, request: Request, next: Next) -> Response {
    let grpc = is_grpc(request.headers());
    if grpc && request.version() < Version::HTTP_2 {
        // It has no trailers that a gRPC client would read.
        let why = "gRPC needs HTTP/2 by prior knowledge\n";
        return (StatusCode::HTTP_VERSION_NOT_SUPPORTED, why).into_response();
    }
    if let Some(token) = &admin.token {
        let given = bearer(request.headers());
        if !given.is_some_and(|given| token.matches(given)) {
            let why = "this needs `Authorization: Bearer ADMIN_TOKEN`";
            return match grpc {
                true => refused(GrpcStatus::unauthenticated(why)),
                false => (StatusCode::UNAUTHORIZED, format!("{why}\n")).into_response(),
            };
        }
    }
    next.run(request).await
}

/// The token of `Authorization: Bearer TOKEN`; the scheme's case does not matter.
fn bearer(headers: &HeaderMap) -> Option<&[u8]> {
    let given = headers.get(header::AUTHORIZATION)?.as_bytes();
    let (scheme, token) = given.split_at_checked(b"Bearer ".len())?;
    scheme.eq_ignore_ascii_case(b"Bearer ").then_some(token)
}
