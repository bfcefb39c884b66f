//! The admin listener: health and readiness, metrics. All but the first two ask for the token.

use crate::config::{ListenConfig, Secret};
use crate::control::Control;
use crate::engine::Engine;
use crate::metrics;
use axum::Json;
use axum::extract::{Request, State};
use axum::http::{StatusCode, header};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use serde::Serialize;
use tokio::net::TcpListener;

/// What the handlers know.
#[derive(Clone)]
struct Admin {
    engine: Engine,
    node: String,
    token: Option<Secret>,
    /// Asks for what only the loop of `serve` can do.
    _control: Option<Control>,
}

/// The answer to `/health` and `/ready`.
#[derive(Debug, Serialize)]
struct Status {
    status: &'static str,
    node: String,
    version: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
}

/// The paths of the admin listener.
pub(crate) fn router(
    engine: Engine,
    node: &str,
    config: &ListenConfig,
    control: Option<Control>,
) -> axum::Router {
    let admin = Admin {
        engine,
        node: node.to_owned(),
        token: config.admin_token.clone(),
        _control: control,
    };
    axum::Router::new()
        .route("/metrics", get(scrape))
        .fallback(|| async { StatusCode::NOT_FOUND })
        .layer(from_fn_with_state(admin.clone(), authenticate))
        .route("/health", get(health))
        .route("/ready", get(ready))
        .with_state(admin)
}

/// Serves until the task is ended.
pub(crate) async fn serve(listener: TcpListener, router: axum::Router) {
    if let Err(error) = axum::serve(listener, router).await {
        tracing::error!(%error, "the admin listener has failed");
    }
}

/// Alive: the process answers.
async fn health(State(admin): State<Admin>) -> Json<Status> {
    Json(Status {
        status: "ok",
        ..admin.status()
    })
}

/// Ready: every shard and stage is running, and the node is not draining.
async fn ready(State(admin): State<Admin>) -> Response {
    match admin.engine.ready() {
        Ok(()) => Json(Status {
            status: "ready",
            ..admin.status()
        })
        .into_response(),
        Err(reason) => {
            let status = Status {
                status: "not ready",
                reason: Some(reason),
                ..admin.status()
            };
            (StatusCode::SERVICE_UNAVAILABLE, Json(status)).into_response()
        }
    }
}

/// What is counted, as Prometheus reads it.
async fn scrape(State(admin): State<Admin>) -> Response {
    match metrics::page(&admin.engine) {
        Some(page) => ([(header::CONTENT_TYPE, metrics::CONTENT_TYPE)], page).into_response(),
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
        }
    }
}

/// Lets through whoever has the token, if one is set; beyond loopback one has to be.
async fn authenticate(State(admin): State<Admin>, request: Request, next: Next) -> Response {
    if let Some(token) = &admin.token {
        let given = request.headers().get(header::AUTHORIZATION);
        let given = given.and_then(|value| value.as_bytes().strip_prefix(b"Bearer "));
        if !given.is_some_and(|given| token.matches(given)) {
            return (
                StatusCode::UNAUTHORIZED,
                "this needs `Authorization: Bearer ADMIN_TOKEN`\n",
            )
                .into_response();
        }
    }
    next.run(request).await
}
