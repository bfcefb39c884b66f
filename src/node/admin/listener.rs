//! The connections of the admin listener: HTTP/1 and HTTP/2, with an end to everything that a
//! client may draw out.
//!
//! At most [`CONNECTIONS`] are open at once, further ones wait in the system's backlog. A client
//! that asks for nothing, reads nothing, or sends what is no HTTP costs a connection for a while and
//! no more. Panics end in an answer.

use axum::body::Body;
use axum::http::{Request, Response, StatusCode};
use futures_util::FutureExt;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use std::convert::Infallible;
use std::io;
use std::panic::AssertUnwindSafe;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tonic::{Code, Status};
use tower_service::Service;

/// Connections open at once.
const CONNECTIONS: usize = 256;
/// How long a client may take to ask for something.
const FIRST_REQUEST_TIMEOUT: Duration = Duration::from_secs(10);
/// How long the head of a request may take, and the pause between two over HTTP/1.
const HEAD_TIMEOUT: Duration = Duration::from_secs(60);
/// How long an answer may take; what a request has set off goes on.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(60);
/// After how long a connection is asked to end.
const MAX_AGE: Duration = Duration::from_secs(600);
/// How long it then has.
const LAST_ANSWERS: Duration = Duration::from_secs(60);
/// Peers that are gone without a word are noticed after about these two.
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(30);
const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(20);
/// Requests at once on a connection.
const STREAMS: u32 = 32;
/// The headers of a request, in bytes.
const HEADER_BYTES: u32 = 16 * 1024;
/// What is read of a request ahead of whoever wants it, in bytes.
const WINDOW_BYTES: u32 = 64 * 1024;
/// A pause where the system refuses connections, such as without descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Serves until the task is ended, which closes what is open.
pub(crate) async fn serve(listener: TcpListener, router: axum::Router) {
    let mut open = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept(), if open.len() < CONNECTIONS => match accepted {
                Ok((socket, _)) => {
                    // Small answers do not wait for acknowledgements.
                    drop(socket.set_nodelay(true));
                    open.spawn(connection(socket, router.clone(), FIRST_REQUEST_TIMEOUT));
                }
                Err(error) => accept_failed(&error).await,
            },
            Some(_) = open.join_next() => {}
        }
    }
}

async fn accept_failed(error: &io::Error) {
    if error.kind() != io::ErrorKind::ConnectionAborted {
        tracing::warn!(%error, "the admin listener could not accept a connection");
        tokio::time::sleep(ACCEPT_PAUSE).await;
    }
}

/// Serves one connection to its end.
async fn connection(socket: TcpStream, router: axum::Router, first_request: Duration) {
    let asked = Arc::new(AtomicBool::new(false));
    let service = service_fn(|request: Request<Incoming>| {
        asked.store(true, Ordering::Relaxed);
        let answer = answer(router.clone(), request.map(Body::new));
        async move { Ok::<_, Infallible>(answer.await) }
    });
    let builder = builder();
    let mut connection = pin!(builder.serve_connection(TokioIo::new(socket), service));
    tokio::select! {
        ended = connection.as_mut() => return report(ended),
        () = tokio::time::sleep(first_request) => {}
    }
    if !asked.load(Ordering::Relaxed) {
        return tracing::debug!("a connection to the admin listener asked for nothing");
    }
    tokio::select! {
        ended = connection.as_mut() => return report(ended),
        () = tokio::time::sleep(MAX_AGE) => {}
    }
    connection.as_mut().graceful_shutdown();
    if let Ok(ended) = tokio::time::timeout(LAST_ANSWERS, connection).await {
        report(ended);
    }
}

fn builder() -> auto::Builder<TokioExecutor> {
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_buf_size(HEADER_BYTES as usize);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(STREAMS)
        .max_header_list_size(HEADER_BYTES)
        .initial_stream_window_size(WINDOW_BYTES)
        .initial_connection_window_size(WINDOW_BYTES)
        .keep_alive_interval(KEEP_ALIVE_INTERVAL)
        .keep_alive_timeout(KEEP_ALIVE_TIMEOUT);
    builder
}

fn report(ended: Result<(), Box<dyn std::error::Error + Send + Sync>>) {
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection to the admin listener ended with an error");
    }
}

/// The answer to a request, within its time and in spite of panics.
async fn answer(mut router: axum::Router, request: Request<Body>) -> Response<Body> {
    let grpc = super::is_grpc(request.headers());
    let work = AssertUnwindSafe(async { router.call(request).await }).catch_unwind();
    let (code, status) = match tokio::time::timeout(REQUEST_TIMEOUT, work).await {
        Ok(Ok(Ok(response))) => return response,
        Ok(Ok(Err(never))) => match never {},
        // The panic itself is logged where it happened.
        Ok(Err(_)) => (Code::Internal, StatusCode::INTERNAL_SERVER_ERROR),
        Err(_) => (Code::DeadlineExceeded, StatusCode::REQUEST_TIMEOUT),
    };
    if grpc {
        let why = "no answer from the node; its log says more";
        return Status::new(code, why).into_http();
    }
    let mut response = Response::new(Body::empty());
    *response.status_mut() = status;
    response
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use axum::routing::get;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::time::Instant;

    async fn pair() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap());
        let (client, accepted) = tokio::join!(client, listener.accept());
        (client.unwrap(), accepted.unwrap().0)
    }

    fn router() -> axum::Router {
        async fn boom() -> StatusCode {
            panic!("of the admin listener")
        }
        axum::Router::new()
            .route("/boom", get(boom))
            .route("/fine", get(|| async { "fine" }))
    }

    #[tokio::test]
    async fn whoever_asks_for_nothing_is_let_go_and_whoever_asked_may_stay() {
        let soon = Duration::from_millis(200);
        // Nothing, a part of a preface, and a head without its end.
        for sent in ["", "PRI * HT", "GET /fine HTTP/1.1\r\n"] {
            let (mut client, socket) = pair().await;
            client.write_all(sent.as_bytes()).await.unwrap();
            connection(socket, router(), soon).await;
            let mut rest = Vec::new();
            drop(client.read_to_end(&mut rest).await);
            assert!(rest.is_empty(), "{sent:?}");
        }
        let (mut client, socket) = pair().await;
        let served = tokio::spawn(connection(socket, router(), soon));
        let begun = Instant::now();
        // Beyond the time for the first request.
        while begun.elapsed() < soon * 2 {
            client
                .write_all(b"GET /fine HTTP/1.1\r\nhost: x\r\n\r\n")
                .await
                .unwrap();
            let mut answer = vec![0; 4096];
            let size = client.read(&mut answer).await.unwrap();
            let answer = String::from_utf8_lossy(&answer[..size]).into_owned();
            assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        }
        drop(client);
        served.await.unwrap();
    }

    #[tokio::test]
    async fn a_panic_is_answered_and_the_connection_lives() {
        let (mut client, socket) = pair().await;
        tokio::spawn(connection(socket, router(), FIRST_REQUEST_TIMEOUT));
        for (path, status) in [("/boom", "500"), ("/fine", "200")] {
            let request = format!("GET {path} HTTP/1.1\r\nhost: x\r\n\r\n");
            client.write_all(request.as_bytes()).await.unwrap();
            let mut answer = vec![0; 4096];
            let size = client.read(&mut answer).await.unwrap();
            let answer = String::from_utf8_lossy(&answer[..size]).into_owned();
            assert!(
                answer.starts_with(&format!("HTTP/1.1 {status}")),
                "{answer}"
            );
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_that_does_not_come_is_given_up_in_the_callers_protocol() {
        let router = axum::Router::new().route("/never", get(std::future::pending::<StatusCode>));
        let plain = Request::get("/never").body(Body::empty()).unwrap();
        let answered = answer(router.clone(), plain).await;
        assert_eq!(answered.status(), StatusCode::REQUEST_TIMEOUT);
        let grpc = Request::get("/never").header("content-type", "application/grpc");
        let answered = answer(router, grpc.body(Body::empty()).unwrap()).await;
        let status = Status::from_header_map(answered.headers()).unwrap();
        assert_eq!(status.code(), Code::DeadlineExceeded);
    }
}
