//! A client of Centrifugo: connects as an SDK does, by WebSocket and JSON, without a token, and
//! says what came back.

use super::finding::Finding;
use super::sniff::{Speaks, dial, sniff};
use crate::client::ClientTls;
use crate::config::ClientTlsConfig;
use futures_util::{SinkExt, StreamExt};
use http::{HeaderValue, Uri, header};
use rustls::pki_types::ServerName;
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::{Instant, timeout};
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{WebSocketStream, client_async_with_config};

/// How long the handshakes may take.
const HANDSHAKE: Duration = Duration::from_secs(3);
/// How long saying goodbye may take.
const FAREWELL: Duration = Duration::from_millis(500);
/// How long SDKs wait for the reply to a connect.
pub(super) const SDK: Duration = Duration::from_secs(5);
/// The largest message taken; Centrifugo's queue for a client is 1 MiB.
const MESSAGE_BYTES: usize = 4 << 20;

/// What a connection ends with, if it is not a reply.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Answer {
    /// The reply to the connect command: `connect`, or `error` with `code` and `message`.
    Reply(Value),
    /// Closed instead, with a code and a reason; 1006 where there was none.
    Closed(u16, String),
    /// Neither within the time that SDKs wait.
    Silence,
}

/// Where clients connect.
#[derive(Debug)]
pub(super) struct Door<'a> {
    /// `ws://` or `wss://`.
    pub(super) url: &'a str,
    /// The `Origin` that a browser would send.
    pub(super) origin: Option<&'a str>,
    /// Trusted beside the authorities of the system.
    pub(super) tls: &'a ClientTlsConfig,
}

trait Transport: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Transport for T {}
type Socket = WebSocketStream<Box<dyn Transport>>;

/// An address without the user and password that may stand in it.
pub(super) fn shown(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else {
        return url.to_owned();
    };
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (authority, path) = rest.split_at(end);
    let host = authority.rsplit('@').next().unwrap_or(authority);
    let path = path.split(['?', '#']).next().unwrap_or(path);
    format!("{scheme}://{host}{path}")
}

impl Door<'_> {
    /// Connects, and gives the answer and how long the connect command took.
    ///
    /// # Errors
    /// The finding that says why the command could not be sent.
    pub(super) async fn knock(&self) -> Result<(Answer, Duration), Finding> {
        let at = shown(self.url);
        let Some((host, port, is_tls)) = self.address() else {
            let fix = "write it as ws://127.0.0.1:8000/connection/websocket";
            return Err(Finding::error("client.address", at, "is no address", fix));
        };
        let socket = match dial(&host, port).await {
            Ok(socket) => socket,
            Err(why) => {
                let found = format!("can't be reached: {why}");
                let fix = "start Centrifugo, or correct `centrifugo.client`; `centripeta \
                           centrifugo-config` prints a configuration for it";
                return Err(Finding::error("client.unreachable", at, found, fix));
            }
        };
        drop(socket.set_nodelay(true));
        let opened = timeout(HANDSHAKE, async {
            let socket: Box<dyn Transport> = match is_tls {
                true => Box::new(self.secure(&host, socket).await.map_err(Trouble::Tls)?),
                false => Box::new(socket),
            };
            self.open(socket).await.map_err(Trouble::WebSocket)
        });
        let mut socket = match opened.await {
            Ok(Ok(socket)) => socket,
            Ok(Err(trouble)) => {
                return Err(self.explained(&at, &host, port, is_tls, trouble).await);
            }
            Err(_) => {
                let found = format!("no WebSocket within {} s", HANDSHAKE.as_secs());
                let fix =
                    "see what listens there; it has to be Centrifugo, or what stands before it";
                return Err(Finding::error("client.stranger", at, found, fix));
            }
        };
        let begun = Instant::now();
        let answer = timeout(SDK, ask(&mut socket)).await;
        let took = begun.elapsed();
        // It has said what was asked.
        drop(timeout(FAREWELL, socket.close(None)).await);
        Ok((answer.unwrap_or(Answer::Silence), took))
    }

    fn address(&self) -> Option<(String, u16, bool)> {
        let uri: Uri = self.url.parse().ok()?;
        let is_tls = match uri.scheme_str()? {
            "ws" => false,
            "wss" => true,
            _ => return None,
        };
        let port = uri.port_u16().unwrap_or(if is_tls { 443 } else { 80 });
        Some((
            uri.host()?.trim_matches(['[', ']']).to_owned(),
            port,
            is_tls,
        ))
    }

    async fn secure(
        &self,
        host: &str,
        socket: tokio::net::TcpStream,
    ) -> Result<impl Transport + use<>, String> {
        let own = ClientTls::new(self.tls.clone());
        let mut config = own.config().map_err(|why| why.to_string())?;
        // Clients may come by a certificate of an authority that everybody knows.
        let system = ClientTls::new(ClientTlsConfig::default()).roots();
        let mut roots = own.roots().map_err(|why| why.to_string())?;
        if let Ok(system) = system {
            roots.extend(system.roots);
        }
        let verifier = rustls::client::WebPkiServerVerifier::builder_with_provider(
            Arc::new(roots),
            Arc::new(rustls::crypto::ring::default_provider()),
        );
        let verifier = verifier.build().map_err(|why| why.to_string())?;
        config.dangerous().set_certificate_verifier(verifier);
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        let name = ServerName::try_from(host.to_owned()).map_err(|why| why.to_string())?;
        tokio_rustls::TlsConnector::from(Arc::new(config))
            .connect(name, socket)
            .await
            .map_err(|why| why.to_string())
    }

    async fn open(&self, socket: Box<dyn Transport>) -> Result<Socket, Box<Error>> {
        let mut request = self.url.into_client_request()?;
        if let Some(origin) = self.origin {
            let origin =
                HeaderValue::from_str(origin).map_err(|why| Error::from(http::Error::from(why)))?;
            request.headers_mut().insert(header::ORIGIN, origin);
        }
        let config = WebSocketConfig::default()
            .max_message_size(Some(MESSAGE_BYTES))
            .max_frame_size(Some(MESSAGE_BYTES));
        let opened = client_async_with_config(request, socket, Some(config)).await;
        Ok(opened.map_err(Box::new)?.0)
    }

    async fn explained(
        &self,
        at: &str,
        host: &str,
        port: u16,
        is_tls: bool,
        trouble: Trouble,
    ) -> Finding {
        let why = match trouble {
            Trouble::WebSocket(error) => match *error {
                Error::Http(response) => return self.refused(at, response.status().as_u16()),
                other => other.to_string(),
            },
            Trouble::Tls(why) => why,
        };
        match (sniff(host, port).await, is_tls) {
            (Speaks::Tls, false) => Finding::error(
                "client.tls",
                at,
                "speaks TLS",
                "write wss:// in `centrifugo.client`",
            ),
            (Speaks::Http1 | Speaks::Http2, true) => Finding::error(
                "client.tls",
                at,
                "does not speak TLS",
                "write ws:// in `centrifugo.client`, or set `http_server.tls` of Centrifugo",
            ),
            (_, true) => Finding::error(
                "client.tls",
                at,
                format!("the TLS handshake failed: {why}"),
                "set `centrifugo.tls.ca` to the authority of its certificate, and the host to a \
                 name in it",
            ),
            (_, false) => Finding::error(
                "client.stranger",
                at,
                format!("opens no WebSocket: {why}"),
                "correct `centrifugo.client`: it is Centrifugo's `http_server.port` (8000) and the \
                 path /connection/websocket",
            ),
        }
    }

    /// A handshake that was answered with an HTTP status.
    fn refused(&self, at: &str, status: u16) -> Finding {
        match (status, self.origin) {
            (403, Some(origin)) => Finding::error(
                "client.origin",
                at,
                format!("HTTP 403: browsers on {origin} may not connect"),
                format!("add \"{origin}\" to `client.allowed_origins` of Centrifugo"),
            ),
            (403, None) => Finding::error(
                "client.stranger",
                at,
                "HTTP 403 to a client that sends no Origin: something before Centrifugo refuses it",
                "see what stands before Centrifugo, such as nginx",
            ),
            (404, _) => Finding::error(
                "client.stranger",
                at,
                "HTTP 404: there is no WebSocket under this path",
                "correct `centrifugo.client`: Centrifugo has it under /connection/websocket \
                 (`websocket.handler_prefix`); `websocket.disabled` has to be off",
            ),
            (502..=504, _) => Finding::error(
                "client.stranger",
                at,
                format!("HTTP {status}: what stands before Centrifugo does not reach it"),
                "start Centrifugo, or correct the upstream there",
            ),
            _ => Finding::error(
                "client.stranger",
                at,
                format!("HTTP {status} instead of a WebSocket"),
                "correct `centrifugo.client`; what stands before Centrifugo has to pass `Upgrade` \
                 and `Connection` on by HTTP/1.1",
            ),
        }
    }
}

/// Why there is no WebSocket.
enum Trouble {
    Tls(String),
    WebSocket(Box<Error>),
}

/// Sends the connect command and waits for what comes of it.
async fn ask(socket: &mut Socket) -> Answer {
    let connect = json!({ "id": 1, "connect": {
        "name": "centripeta-doctor", "version": env!("CARGO_PKG_VERSION"),
    }});
    let lost = |why: &dyn std::fmt::Display| Answer::Closed(1006, why.to_string());
    if let Err(why) = socket.send(Message::text(connect.to_string())).await {
        return lost(&why);
    }
    loop {
        match socket.next().await {
            Some(Ok(Message::Text(text))) => {
                let replies = text
                    .lines()
                    .filter_map(|line| serde_json::from_str(line).ok());
                let reply = replies.into_iter().find(|reply: &Value| reply["id"] == 1);
                if let Some(reply) = reply {
                    return Answer::Reply(reply);
                }
            }
            Some(Ok(Message::Close(Some(frame)))) => {
                return Answer::Closed(frame.code.into(), frame.reason.to_string());
            }
            Some(Ok(Message::Close(None))) | None => return lost(&"closed without a code"),
            Some(Ok(_)) => {}
            Some(Err(why)) => return lost(&why),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_of_an_address_are_not_shown() {
        for (url, wanted) in [
            (
                "ws://h:1/connection/websocket",
                "ws://h:1/connection/websocket",
            ),
            ("wss://me:secret@h/p?token=secret", "wss://h/p"),
            ("ws://me:s@ret@[::1]:1", "ws://[::1]:1"),
            ("ws://h?x=s@cret", "ws://h"),
        ] {
            assert_eq!(shown(url), wanted);
        }
    }

    #[test]
    fn an_address_has_a_port_of_its_scheme() {
        let tls = ClientTlsConfig::default();
        let of = |url| {
            let origin = None;
            Door {
                url,
                origin,
                tls: &tls,
            }
            .address()
        };
        assert_eq!(of("ws://h/x"), Some(("h".to_owned(), 80, false)));
        assert_eq!(of("wss://[::1]/x"), Some(("::1".to_owned(), 443, true)));
        assert_eq!(of("http://h/x"), None);
    }
}
