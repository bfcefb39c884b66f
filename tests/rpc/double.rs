//! A stand-in for Centrifugo's server API that answers by the name of the method, with bytes: it
//! knows methods that no contract of ours has.

#![allow(
    dead_code,
    reason = "each test target uses the part of it that it needs"
)]

use bytes::{BufMut, Bytes, BytesMut};
use centripeta::proto::api;
use http_body_util::{BodyExt, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::{HeaderMap, Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use prost::Message;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// An answer: a message, or a status and its text.
pub(crate) type Answer = Result<Bytes, (u16, &'static str)>;

type Script = dyn Fn(&str, &[u8]) -> Answer + Send + Sync;

/// The stand-in; ends with the runtime.
pub(crate) struct Double {
    pub(crate) address: SocketAddr,
    state: Arc<State>,
    gate: watch::Sender<bool>,
}

struct State {
    script: Box<Script>,
    /// Method and request of every call.
    calls: Mutex<Vec<(String, Bytes)>>,
    /// Method and headers of every call, as it came.
    heads: Mutex<Vec<(String, HeaderMap)>>,
    open: watch::Receiver<bool>,
}

impl Double {
    /// Starts one that answers as the script says.
    pub(crate) async fn start(
        script: impl Fn(&str, &[u8]) -> Answer + Send + Sync + 'static,
    ) -> Self {
        Self::start_at(([127, 0, 0, 1], 0).into(), script).await
    }

    /// The same on this address.
    pub(crate) async fn start_at(
        address: SocketAddr,
        script: impl Fn(&str, &[u8]) -> Answer + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind(address).await.unwrap();
        let address = listener.local_addr().unwrap();
        let (gate, open) = watch::channel(true);
        let state = Arc::new(State {
            script: Box::new(script),
            calls: Mutex::default(),
            heads: Mutex::default(),
            open,
        });
        let shared = Arc::clone(&state);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, Arc::clone(&shared)));
            }
        });
        Self {
            address,
            state,
            gate,
        }
    }

    /// One where every method has an empty result.
    pub(crate) async fn plain() -> Self {
        Self::start(|_, _| Ok(Bytes::from_static(&[0x12, 0]))).await
    }

    /// Keeps calls waiting, or lets them go.
    pub(crate) fn open(&self, open: bool) {
        self.gate.send_replace(open);
    }

    /// Requests of a method, in order.
    pub(crate) fn requests(&self, method: &str) -> Vec<Bytes> {
        let calls = self.state.calls.lock().unwrap();
        let of = calls.iter().filter(|(name, _)| name == method);
        of.map(|(_, request)| request.clone()).collect()
    }

    /// A header of every call of a method, as text.
    pub(crate) fn headers(&self, method: &str, header: &str) -> Vec<Option<String>> {
        let heads = self.state.heads.lock().unwrap();
        let of = heads.iter().filter(|(name, _)| name == method);
        of.map(|(_, head)| Some(head.get(header)?.to_str().ok()?.to_owned()))
            .collect()
    }

    /// Everything but the probes of a node that looks whether it is there.
    pub(crate) fn count(&self) -> usize {
        self.state.calls.lock().unwrap().len()
    }
}

async fn serve(stream: TcpStream, state: Arc<State>) {
    stream.set_nodelay(true).unwrap();
    let service = hyper::service::service_fn(move |request: Request<Incoming>| {
        let state = Arc::clone(&state);
        async move { Ok::<_, Infallible>(state.respond(request).await) }
    });
    let server = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
    // A client that is gone is no failure of the stand-in.
    drop(server.serve_connection(TokioIo::new(stream), service).await);
}

type Parts =
    StreamBody<futures_util::stream::Iter<std::vec::IntoIter<Result<Frame<Bytes>, Infallible>>>>;

impl State {
    async fn respond(&self, request: Request<Incoming>) -> Response<Parts> {
        let (head, body) = request.into_parts();
        let method = head.uri.path().rsplit('/').next().unwrap().to_owned();
        let called = (method.clone(), head.headers);
        self.heads.lock().unwrap().push(called);
        let body = body.collect().await.unwrap().to_bytes();
        let message = body.slice(5..);
        let answer = match method.as_str() {
            "Batch" => self.batch(&message),
            _ => self.one(&method, &message),
        };
        self.open.clone().wait_for(|open| *open).await.unwrap();
        let mut parts = Vec::new();
        let mut trailers = HeaderMap::new();
        match answer {
            Ok(answer) => {
                let mut frame = BytesMut::new();
                frame.put_u8(0);
                frame.put_u32(u32::try_from(answer.len()).unwrap());
                frame.put_slice(&answer);
                parts.push(Ok(Frame::data(frame.freeze())));
                trailers.insert("grpc-status", 0.into());
            }
            Err((status, text)) => {
                trailers.insert("grpc-status", status.into());
                trailers.insert("grpc-message", text.parse().unwrap());
            }
        }
        parts.push(Ok(Frame::trailers(trailers)));
        let body = StreamBody::new(futures_util::stream::iter(parts));
        let response = Response::builder().header("content-type", "application/grpc");
        response.body(body).unwrap()
    }

    fn one(&self, method: &str, request: &[u8]) -> Answer {
        let call = (method.to_owned(), Bytes::copy_from_slice(request));
        self.calls.lock().unwrap().push(call);
        (self.script)(method, request)
    }

    /// A batch of publications: each as if it had come by itself.
    fn batch(&self, request: &[u8]) -> Answer {
        let batch = api::BatchRequest::decode(request).unwrap();
        let reply = |command: api::Command| {
            let publish = command.publish.unwrap();
            let response = self.one("Publish", &publish.encode_to_vec()).unwrap();
            let response = api::PublishResponse::decode(response).unwrap();
            api::Reply {
                error: response.error.map(Box::new),
                publish: response.result.map(Box::new),
                ..Default::default()
            }
        };
        let replies = batch.commands.into_iter().map(reply).collect();
        Ok(api::BatchResponse { replies }.encode_to_vec().into())
    }
}
