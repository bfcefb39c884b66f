//! A client of Centrifugo that comes in through nginx.

use crate::process::LIMIT;
use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream};

/// A client that speaks the JSON protocol over a WebSocket.
pub(super) struct Client {
    socket: WebSocketStream<MaybeTlsStream<tokio::net::TcpStream>>,
    last: u64,
    /// What came besides replies.
    pushed: Vec<Value>,
}

impl Client {
    pub(super) async fn connect(front: &str) -> Result<Self, String> {
        let url = format!("ws://{front}/connection/websocket");
        let connected = tokio_tungstenite::connect_async(url).await;
        let (socket, _) = connected.map_err(|why| why.to_string())?;
        let mut client = Self {
            socket,
            last: 0,
            pushed: Vec::new(),
        };
        let reply = client.call(json!({ "connect": {} })).await?;
        match reply["connect"]["client"].is_string() {
            true => Ok(client),
            false => Err(reply.to_string()),
        }
    }

    /// The reply to a command, or why the connection is over.
    pub(super) async fn call(&mut self, mut command: Value) -> Result<Value, String> {
        self.last += 1;
        command["id"] = json!(self.last);
        let text = Message::text(command.to_string());
        let sent = self.socket.send(text).await;
        sent.map_err(|why| why.to_string())?;
        loop {
            let mut reply = None;
            for message in self.messages().await? {
                match message["id"] == json!(self.last) {
                    true => reply = Some(message),
                    false => self.pushed.push(message),
                }
            }
            if let Some(reply) = reply {
                return Ok(reply);
            }
        }
    }

    /// What is published in a channel next.
    pub(super) async fn hears(&mut self, channel: &str) -> Value {
        loop {
            let at = self.pushed.iter().position(|message| {
                let push = &message["push"];
                push["channel"] == channel && !push["pub"].is_null()
            });
            if let Some(at) = at {
                return self.pushed.remove(at)["push"]["pub"]["data"].take();
            }
            let more = self.messages().await.unwrap();
            self.pushed.extend(more);
        }
    }

    /// The next frame with messages.
    async fn messages(&mut self) -> Result<Vec<Value>, String> {
        loop {
            let frame = tokio::time::timeout(LIMIT, self.socket.next()).await;
            match frame.map_err(|_| "nothing came".to_owned())? {
                Some(Ok(Message::Text(text))) if &*text == "{}" => {
                    let pong = self.socket.send(Message::text("{}")).await;
                    pong.map_err(|why| why.to_string())?;
                }
                Some(Ok(Message::Text(text))) => {
                    let lines = text.lines().map(|line| serde_json::from_str(line).unwrap());
                    return Ok(lines.collect());
                }
                other => return Err(format!("{other:?}")),
            }
        }
    }
}
