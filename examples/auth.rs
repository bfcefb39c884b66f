//! Who is it, and may they? A client is verified once, when it connects; from then on Centrifugo
//! hands its identity to every event, as the user and as the connection meta, which no client can
//! write.
//!
//! Three stages show where such checks live: one on everything that knows our Centrifugo by a
//! header, one that turns the meta into a typed [`Session`] for the handlers behind it, with a second
//! half that keeps an audit trail, and one on a single route.
//!
//! ```text
//! cargo run --example auth -- serve
//! cargo run --example auth -- fire connect --data '{"token":"ann-secret"}' --metadata x-app=shop
//! ```
//!
//! Centrifugo needs `"include_connection_meta": true` on its proxies (all but connect), and
//! `"grpc": {"static_metadata": {"x-app": "shop"}}`.

use centripeta::{
    App, Attribute, ConnectReply, Cx, Data, EventKind, Flow, Interceptor, Json, Meta, On, Outcome,
    Param, PublishReply, RefreshReply, Reject, Route, Router, State, SubscribeReply, User, event,
};
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

/// How long a connection lives until its user is looked up again.
const SESSION: Duration = Duration::from_secs(600);

fn main() -> ExitCode {
    App::new(router())
        .name("auth")
        .about("Verifies clients once and knows them afterwards")
        .run()
}

fn router() -> Router {
    let later = On::Kinds(vec![
        EventKind::Subscribe,
        EventKind::Publish,
        EventKind::Rpc,
    ]);
    Router::new()
        .intercept_all("known-centrifugo", KnownCentrifugo)
        .intercept(later, "session", WithSession)
        .connect(connect)
        .refresh(refresh)
        .subscribe("orders:{user}", watch_orders)
        .publish("news", announce)
        .rpc("whoami", whoami)
        .route(
            Route::of::<event::Rpc, _, _>(close_shop)
                .matching("shop.close")
                .intercept("admins", AdminsOnly),
        )
        .with_state(Accounts::demo())
}

/// Who is behind which token; a real application asks its database here.
#[derive(Clone)]
struct Accounts(Arc<HashMap<&'static str, (&'static str, Role)>>);

impl Accounts {
    fn demo() -> Self {
        let accounts = [
            ("ann-secret", ("ann", Role::Admin)),
            ("bob-secret", ("bob", Role::Customer)),
        ];
        Self(Arc::new(HashMap::from(accounts)))
    }

    fn by_token(&self, token: &str) -> Option<(&'static str, Role)> {
        self.0.get(token).copied()
    }

    fn is_active(&self, user: &str) -> bool {
        self.0.values().any(|(name, _)| *name == user)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Role {
    Admin,
    Customer,
}

/// What we know of a connection: kept by Centrifugo as its meta, never shown to the client.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Session {
    role: Role,
}

#[derive(Deserialize)]
struct Credentials {
    token: String,
}

/// The only place where a secret of the client is looked at.
async fn connect(
    State(accounts): State<Accounts>,
    Data(credentials): Data<Credentials>,
) -> Result<ConnectReply, Reject> {
    let Some((user, role)) = accounts.by_token(&credentials.token) else {
        return Err(Reject::disconnect(4501, "unknown token"));
    };
    Ok(ConnectReply::user(user)
        .meta(&Session { role })
        .expire_in(SESSION))
}

/// Asked again and again while the client stays: the way to end sessions of users who are gone.
async fn refresh(
    State(accounts): State<Accounts>,
    User(user): User,
    Meta(session): Meta<Session>,
) -> RefreshReply {
    if accounts.is_active(&user) {
        RefreshReply::extend(SESSION).meta(&session)
    } else {
        RefreshReply::expire()
    }
}

/// Everybody sees their own orders, admins see all.
async fn watch_orders(
    User(user): User,
    Param(owner): Param<String>,
    Attribute(session): Attribute<Session>,
) -> Result<SubscribeReply, Reject> {
    if user == owner || session.role == Role::Admin {
        Ok(SubscribeReply::allow().info(&session))
    } else {
        Err(Reject::permission_denied())
    }
}

/// Publications are signed by us: a client can't write another one's name into them.
async fn announce(
    User(user): User,
    Attribute(session): Attribute<Session>,
    Data(text): Data<String>,
) -> Result<PublishReply, Reject> {
    if session.role != Role::Admin {
        return Err(Reject::permission_denied());
    }
    let signed = serde_json::json!({ "by": user, "text": text });
    Ok(PublishReply::allow().data(&signed))
}

async fn whoami(User(user): User, Attribute(session): Attribute<Session>) -> Json<(String, Role)> {
    Json((user, session.role))
}

async fn close_shop(User(user): User) -> Json<String> {
    Json(format!("closed by {user}"))
}

/// Lets in what our Centrifugo has marked. (Whether the caller is a Centrifugo at all is a matter
/// of `listen.auth` or client certificates; this tells one application's from another's.)
struct KnownCentrifugo;

impl Interceptor for KnownCentrifugo {
    const HAS_AFTER: bool = false;

    async fn before(&self, cx: &mut Cx) -> Flow {
        match cx.header("x-app") {
            Some("shop") => Flow::Next,
            _ => Reject::permission_denied().into(),
        }
    }
}

/// Reads the session once for all handlers behind it, and says afterwards how the event went.
struct WithSession;

impl Interceptor for WithSession {
    async fn before(&self, cx: &mut Cx) -> Flow {
        let session = cx.meta().map(|meta| serde_json::from_slice(&meta));
        let Some(Ok::<Session, _>(session)) = session else {
            return Reject::permission_denied().into();
        };
        cx.set_attribute(session);
        Flow::Next
    }

    async fn after(&self, cx: &Cx, outcome: &mut Outcome) {
        let role = cx.attribute::<Session>().map(|session| session.role);
        tracing::info!(event = %cx.kind(), user = cx.user(), ?role, outcome = outcome.label(), "audit");
    }
}

/// For routes that are nobody else's.
struct AdminsOnly;

impl Interceptor for AdminsOnly {
    const HAS_AFTER: bool = false;

    async fn before(&self, cx: &mut Cx) -> Flow {
        match cx.attribute::<Session>() {
            Some(Session { role: Role::Admin }) => Flow::Next,
            _ => Reject::permission_denied().into(),
        }
    }
}
