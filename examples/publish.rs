//! Publishing back: a chat room whose messages go through an rpc.
//!
//! The rpc checks what the user says and publishes it; everybody in the room gets it, the caller
//! included. `mod.kick` shows the other half of the API: it ends a user's connections.
//!
//! Centrifugo needs `grpc_api.enabled`, and asks this node about connect, subscribe and rpc; see
//! `node.toml` for the keys under `[centrifugo]`.

use centripeta::egress::Publisher;
use centripeta::proto::api::{Disconnect, DisconnectRequest, PublishRequest};
use centripeta::{
    App, Client, ConnectReply, Data, Headers, Reject, Router, RpcReply, SubscribeReply, User,
};
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::process::ExitCode;

fn main() -> ExitCode {
    App::new(router())
        .name("publish")
        .about("a chat room whose messages go through an rpc")
        .run()
}

fn router() -> Router {
    Router::new()
        .connect(welcome)
        .subscribe("room:{name}", || async { SubscribeReply::allow() })
        .rpc("room.say", say)
        .rpc("mod.kick", kick)
}

async fn welcome(Client(client): Client) -> ConnectReply {
    ConnectReply::user(format!("guest-{client}"))
}

#[derive(Deserialize)]
struct Said {
    room: String,
    text: String,
}

#[derive(Serialize)]
struct Message<'a> {
    from: &'a str,
    text: &'a str,
}

/// Publishes what the user says. The answer waits for Centrifugo's, so that the caller knows the
/// message's place in the room.
async fn say(
    User(user): User,
    Data(said): Data<Said>,
    Headers(headers): Headers,
    publisher: Publisher,
) -> Result<RpcReply, Reject> {
    if said.text.trim().is_empty() {
        return Err(Reject::bad_request("say something"));
    }
    let message = Message {
        from: &user,
        text: &said.text,
    };
    // An event may come twice; with a key the second one has no effect.
    let key = headers.get("x-request-id").and_then(|id| id.to_str().ok());
    let publication = PublishRequest {
        channel: format!("room:{}", said.room),
        data: serde_json::to_vec(&message)?.into(),
        idempotency_key: key.unwrap_or_default().to_owned(),
        ..Default::default()
    };
    let published = publisher.publish(publication).await;
    // Overloaded or unreachable is worth another try of the client; a wrong namespace is not.
    let published = published.map_err(centripeta::egress::Error::into_reject)?;
    Ok(RpcReply::data(&json!({ "offset": published.offset })))
}

/// Ends the connections of a user. Not awaited: the answer does not depend on it.
async fn kick(
    User(moderator): User,
    Data(user): Data<String>,
    publisher: Publisher,
) -> Result<RpcReply, Reject> {
    if user == moderator {
        return Err(Reject::permission_denied());
    }
    publisher.publish_now("room:log", &json!({ "kicked": user, "by": moderator }))?;
    publisher.cast(DisconnectRequest {
        user,
        disconnect: Some(Disconnect {
            code: 4501,
            reason: "kicked".to_owned(),
        }),
        ..Default::default()
    })?;
    Ok(RpcReply::data(&"done"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use centripeta::proto::proxy::RpcRequest;
    use centripeta::testing::TestRouter;

    fn rpc(method: &str, data: serde_json::Value) -> RpcRequest {
        RpcRequest {
            client: "c1".to_owned(),
            user: "ann".to_owned(),
            method: method.to_owned(),
            data: data.to_string().into(),
            ..Default::default()
        }
    }

    #[tokio::test]
    async fn what_is_said_is_published() {
        let router = TestRouter::new(router()).await.unwrap();
        let said = rpc("room.say", json!({ "room": "1", "text": "hi" }));
        let answer = router.rpc(said).metadata("x-request-id", "7").await;
        assert_eq!(answer.result().unwrap().data, r#"{"offset":0}"#);
        let publications = router.recorder().publications();
        assert_eq!(publications.len(), 1);
        assert_eq!(publications[0].channel, "room:1");
        assert_eq!(publications[0].data, r#"{"from":"ann","text":"hi"}"#);
        assert_eq!(publications[0].idempotency_key, "7");
    }

    #[tokio::test]
    async fn nobody_kicks_themselves() {
        let router = TestRouter::new(router()).await.unwrap();
        let answer = router.rpc(rpc("mod.kick", json!("ann"))).await;
        assert_eq!(answer.error().unwrap().code, 103);
        assert!(router.recorder().calls().is_empty());
        let answer = router.rpc(rpc("mod.kick", json!("bob"))).await;
        assert!(answer.error().is_none());
        assert_eq!(
            router.recorder().requests::<DisconnectRequest>()[0].user,
            "bob"
        );
    }
}
