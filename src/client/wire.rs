//! One connection to a server, and gRPC calls on it that say whether they were sent.
//!
//! The connection sends no HTTP/2 pings: servers in Go close those that ping more often than every
//! five minutes (`too_many_pings`). A peer that is gone without a word is found by the time limit of
//! calls.

use super::incoming::{self, Messages};
use super::outgoing::Outgoing;
use super::status::{CallError, chain};
use bytes::Bytes;
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, Uri, header};
use hyper::body::Incoming;
use hyper::client::conn::http2::{self, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use std::fmt::Display;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, ToSocketAddrs};
use tokio::task::JoinHandle;

/// When a call is over, as it is told to the server.
pub(crate) const GRPC_TIMEOUT: HeaderName = HeaderName::from_static("grpc-timeout");
/// Calls that ended here first and are remembered, so that what still comes for them is dropped.
const FORGOTTEN: usize = 1024;
/// What a peer that says nothing of it takes at once.
const UNTOLD: usize = 100;

/// Flow control: how many bytes may be on their way to us.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Windows {
    /// For one call.
    pub(crate) stream: u32,
    /// For all of a connection together.
    pub(crate) connection: u32,
}

/// A connection. Clones share it.
#[derive(Debug, Clone)]
pub(crate) struct Connection {
    sender: SendRequest<Outgoing>,
    scheme: Scheme,
    authority: Authority,
    room: Arc<AtomicUsize>,
}

/// Connects to an address, secured if there is TLS and a name to find in the certificate. The handle
/// ends when the connection does.
///
/// # Errors
/// What went wrong, in words.
pub(crate) async fn dial(
    to: impl ToSocketAddrs,
    authority: &str,
    tls: Option<(Arc<ClientConfig>, ServerName<'static>)>,
    windows: Windows,
) -> Result<(Connection, JoinHandle<()>), String> {
    let told = |why: &dyn Display| why.to_string();
    let socket = TcpStream::connect(to).await.map_err(|why| told(&why))?;
    // A message is written in one piece.
    socket.set_nodelay(true).map_err(|why| told(&why))?;
    match tls {
        Some((config, name)) => {
            let connector = tokio_rustls::TlsConnector::from(config);
            let socket = connector.connect(name, socket).await;
            let socket = socket.map_err(|why| told(&why))?;
            handshake(socket, Scheme::HTTPS, authority, windows).await
        }
        None => handshake(socket, Scheme::HTTP, authority, windows).await,
    }
}

async fn handshake<S>(
    socket: S,
    scheme: Scheme,
    authority: &str,
    windows: Windows,
) -> Result<(Connection, JoinHandle<()>), String>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let authority = authority.parse::<Authority>();
    let authority = authority.map_err(|why| why.to_string())?;
    let (sender, mut driver) = http2::Builder::new(TokioExecutor::new())
        .initial_stream_window_size(windows.stream)
        .initial_connection_window_size(windows.connection)
        .max_concurrent_reset_streams(FORGOTTEN)
        .handshake(TokioIo::new(socket))
        .await
        .map_err(|why| chain(&why))?;
    let room = Arc::new(AtomicUsize::new(UNTOLD));
    let told = Arc::clone(&room);
    let name = authority.clone();
    let driver = tokio::spawn(async move {
        let driven = poll_fn(|cx| {
            let ended = Pin::new(&mut driver).poll(cx);
            told.store(driver.current_max_send_streams(), Ordering::Relaxed);
            ended
        });
        if let Err(why) = driven.await {
            tracing::debug!(why = chain(&why), server = %name, "a connection to a gRPC server failed");
        }
    });
    let connection = Connection {
        sender,
        scheme,
        authority,
        room,
    };
    Ok((connection, driver))
}

impl Connection {
    /// `HOST:PORT` of the server.
    pub(crate) fn authority(&self) -> &str {
        self.authority.as_str()
    }

    /// How many calls the server takes on it at once, as far as it has said so.
    pub(crate) fn room(&self) -> usize {
        self.room.load(Ordering::Relaxed)
    }

    /// Whether it has ended.
    pub(crate) fn is_closed(&self) -> bool {
        self.sender.is_closed()
    }

    /// Calls a method with an encoded message; answers the encoded response, of at most `limit`
    /// bytes. The caller keeps the time, and says in `metadata` what the server is told of it.
    pub(crate) async fn call(
        &self,
        path: &str,
        metadata: HeaderMap,
        message: &[u8],
        limit: usize,
    ) -> Result<Bytes, CallError> {
        let response = self.send(path, metadata, Outgoing::one(message)).await?;
        incoming::answer(response, limit).await
    }

    /// Opens a stream; its messages have at most `limit` bytes each.
    pub(crate) async fn open(
        &self,
        path: &str,
        metadata: HeaderMap,
        messages: Outgoing,
        limit: usize,
    ) -> Result<Messages, CallError> {
        let response = self.send(path, metadata, messages).await?;
        Messages::of(response, limit)
    }

    async fn send(
        &self,
        path: &str,
        metadata: HeaderMap,
        body: Outgoing,
    ) -> Result<Response<Incoming>, CallError> {
        let request = self.request(path, metadata, body);
        let request = request.map_err(|why| CallError::NotSent(why.to_string()))?;
        let mut sender = self.sender.clone();
        let ready = sender.ready().await;
        ready.map_err(|why| CallError::NotSent(chain(&why)))?;
        match sender.try_send_request(request).await {
            Ok(response) => Ok(response),
            Err(mut failed) => {
                let unsent = failed.take_message().is_some();
                let why = failed.into_error();
                Err(match unsent {
                    true => CallError::NotSent(chain(&why)),
                    false => CallError::of(&why),
                })
            }
        }
    }

    fn request(
        &self,
        path: &str,
        metadata: HeaderMap,
        body: Outgoing,
    ) -> Result<Request<Outgoing>, http::Error> {
        let uri = Uri::builder()
            .scheme(self.scheme.clone())
            .authority(self.authority.clone())
            .path_and_query(PathAndQuery::try_from(path)?)
            .build()?;
        let mut request = Request::post(uri).body(body)?;
        let headers = request.headers_mut();
        *headers = metadata;
        let grpc = HeaderValue::from_static("application/grpc");
        headers.insert(header::CONTENT_TYPE, grpc);
        headers.insert(header::TE, HeaderValue::from_static("trailers"));
        let program = concat!("centripeta/", env!("CARGO_PKG_VERSION"));
        let program = HeaderValue::from_static(program);
        headers.entry(header::USER_AGENT).or_insert(program);
        Ok(request)
    }
}

/// The time that is left as `grpc-timeout` has it, in at most eight digits.
pub(crate) fn grpc_timeout(left: Duration) -> HeaderValue {
    const MOST: u128 = 99_999_999;
    let (micros, millis) = (left.as_micros().max(1), left.as_millis());
    let text = match micros {
        ..=MOST => format!("{micros}u"),
        _ => format!("{}m", millis.min(MOST)),
    };
    // Digits and a letter are visible ASCII.
    HeaderValue::from_str(&text).unwrap_or(HeaderValue::from_static("1S"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_left_has_at_most_eight_digits() {
        let cases = [
            (Duration::ZERO, "1u"),
            (Duration::from_millis(1500), "1500000u"),
            (Duration::from_secs(99), "99000000u"),
            (Duration::from_secs(101), "101000m"),
            (Duration::from_secs(1_000_000), "99999999m"),
        ];
        for (left, text) in cases {
            assert_eq!(grpc_timeout(left), text, "{left:?}");
        }
    }
}
