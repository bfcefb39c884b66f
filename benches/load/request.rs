//! The calls that are sent: rpc events as Centrifugo makes them, encoded once.

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::Context;
use bytes::{BufMut, Bytes, BytesMut};
use centripeta::proto::proxy::{RpcRequest, RpcResponse, RpcResult};
use http::{HeaderMap, HeaderValue, Method, Request, Uri, Version};
use prost::Message;

/// Distinct keys that the calls are spread over.
pub(crate) const KEYS: usize = 10_000;

/// Path of the rpc event.
pub(crate) const RPC_PATH: &str = "/centrifugal.centrifugo.proxy.CentrifugoProxy/RPC";

/// A call and the reply that it must get.
#[derive(Clone, Debug)]
pub(crate) struct Call {
    /// The gRPC frame to send.
    pub(crate) frame: Bytes,
    /// The payload that has to come back.
    pub(crate) data: Bytes,
    /// The gRPC frame of the shortest reply that carries it.
    pub(crate) reply: Bytes,
}

impl Call {
    fn of_key(key: usize) -> Self {
        let data = payload(key);
        let request = RpcRequest {
            client: client_id(key),
            transport: "websocket".into(),
            protocol: "json".into(),
            encoding: "json".into(),
            user: format!("user-{}", key % 2_000),
            method: "bench.echo".into(),
            data: data.clone(),
            ..RpcRequest::default()
        };
        let reply = RpcResponse {
            result: Some(RpcResult {
                data: data.clone(),
                ..RpcResult::default()
            }),
            ..RpcResponse::default()
        };
        Self {
            frame: frame(&request),
            reply: frame(&reply),
            data,
        }
    }

    /// Whether the body of a reply is what this call asked for.
    pub(crate) fn is_answered_by(&self, body: &[u8]) -> bool {
        body == self.reply || self.is_answered_in_other_words(body)
    }

    #[cold]
    fn is_answered_in_other_words(&self, body: &[u8]) -> bool {
        let [0, a, b, c, d, message @ ..] = body else {
            return false;
        };
        if u32::from_be_bytes([*a, *b, *c, *d]) as usize != message.len() {
            return false;
        }
        let Ok(response) = RpcResponse::decode(message) else {
            return false;
        };
        response.error.is_none()
            && response.disconnect.is_none()
            && response
                .result
                .is_some_and(|result| result.data == self.data)
    }
}

/// One call per key.
pub(crate) fn calls() -> Arc<[Call]> {
    (0..KEYS).map(Call::of_key).collect()
}

/// A payload of about 60 bytes that holds the key; its fields are in alphabetical order.
pub(crate) fn payload(key: usize) -> Bytes {
    format!(
        r#"{{"room":"r{key}","seat":{},"text":"one event of the load bench"}}"#,
        key % 97
    )
    .into()
}

/// An id in the form of Centrifugo's client ids.
pub(crate) fn client_id(key: usize) -> String {
    let key = key as u64;
    let mixed = key.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    format!(
        "{:08x}-{:04x}-4{:03x}-a{:03x}-{:012x}",
        mixed >> 32,
        (mixed >> 16) & 0xffff,
        mixed & 0xfff,
        key & 0xfff,
        mixed & 0xffff_ffff_ffff
    )
}

/// The message as one uncompressed gRPC frame.
pub(crate) fn frame(message: &impl Message) -> Bytes {
    let length = message.encoded_len();
    let mut frame = BytesMut::with_capacity(5 + length);
    frame.put_u8(0);
    frame.put_u32(u32::try_from(length).expect("bench messages are small"));
    message.encode_raw(&mut frame);
    frame.freeze()
}

/// The head of every request to one server.
#[derive(Clone, Debug)]
pub(crate) struct Head {
    uri: Uri,
    headers: HeaderMap,
}

impl Head {
    /// A unary call carries `grpc-timeout`, a stream does not.
    pub(crate) fn new(
        address: SocketAddr,
        path: &str,
        grpc_timeout: Option<&'static str>,
    ) -> anyhow::Result<Self> {
        let uri = format!("http://{address}{path}")
            .parse()
            .context("build the request URI")?;
        let mut headers = HeaderMap::with_capacity(8);
        for (name, value) in [
            ("content-type", "application/grpc"),
            ("user-agent", "grpc-go/1.82.0"),
            ("te", "trailers"),
            ("grpc-accept-encoding", "gzip"),
        ] {
            headers.insert(name, HeaderValue::from_static(value));
        }
        if let Some(timeout) = grpc_timeout {
            headers.insert("grpc-timeout", HeaderValue::from_static(timeout));
        }
        Ok(Self { uri, headers })
    }

    /// A fresh request with this head.
    pub(crate) fn request(&self) -> Request<()> {
        let mut request = Request::new(());
        *request.method_mut() = Method::POST;
        *request.version_mut() = Version::HTTP_2;
        *request.uri_mut() = self.uri.clone();
        *request.headers_mut() = self.headers.clone();
        request
    }
}
