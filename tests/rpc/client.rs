//! A client of goridge RPC, byte by byte.

use bytes::{Bytes, BytesMut};
use centripeta::config::RpcAddress;
use centripeta::goridge::{Call, Decoder, Flags, Frame};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// How long anything may take.
pub(crate) const SOON: Duration = Duration::from_secs(20);

pub(crate) struct Client {
    pub(crate) stream: TcpStream,
    decoder: Decoder,
    input: BytesMut,
}

/// The TCP part of an address.
pub(crate) fn tcp(address: &RpcAddress) -> String {
    match address {
        RpcAddress::Tcp { host, port } => format!("{host}:{port}"),
        RpcAddress::Unix(path) => panic!("{} is no TCP address", path.display()),
    }
}

/// The bytes of a call.
pub(crate) fn encoded(flags: Flags, seq: u32, method: &str, body: &[u8]) -> Bytes {
    let mut bytes = BytesMut::new();
    let frame = Frame::call(flags, seq, method, body).unwrap();
    frame.encode(&mut bytes).unwrap();
    bytes.freeze()
}

impl Client {
    pub(crate) async fn connect(address: &RpcAddress) -> Self {
        let stream = TcpStream::connect(tcp(address)).await.unwrap();
        stream.set_nodelay(true).unwrap();
        Self {
            stream,
            decoder: Decoder::new(64 << 20),
            input: BytesMut::new(),
        }
    }

    pub(crate) async fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).await.unwrap();
    }

    /// The next frame; `None` once the server has closed.
    pub(crate) async fn next(&mut self) -> Option<Frame> {
        loop {
            if let Some(frame) = self.decoder.next(&mut self.input).unwrap() {
                return Some(frame);
            }
            let read = self.stream.read_buf(&mut self.input);
            let read = timeout(SOON, read).await.expect("an answer, or the end");
            match read {
                // What the server had not read makes its end a reset.
                Ok(0) | Err(_) => return None,
                Ok(_) => {}
            }
        }
    }

    /// One call, and its answer: flags and body.
    pub(crate) async fn call(&mut self, flags: Flags, method: &str, body: &[u8]) -> (Flags, Bytes) {
        self.send(&encoded(flags, 7, method, body)).await;
        let frame = self.next().await.expect("an answer");
        let Call {
            seq,
            method: named,
            body,
        } = frame.as_call().unwrap();
        assert_eq!((seq, named.as_str()), (7, method));
        (frame.flags, body)
    }

    /// A JSON call that succeeds.
    pub(crate) async fn json(&mut self, method: &str, argument: &str) -> String {
        let (flags, body) = self.call(Flags::JSON, method, argument.as_bytes()).await;
        let text = String::from_utf8(body.to_vec()).unwrap();
        assert_eq!(flags, Flags::JSON, "{method}: {text}");
        text
    }

    /// A JSON call that is answered with an error.
    pub(crate) async fn refused(&mut self, method: &str, argument: &str) -> String {
        let (flags, body) = self.call(Flags::JSON, method, argument.as_bytes()).await;
        let text = String::from_utf8(body.to_vec()).unwrap();
        assert_eq!(flags, Flags::JSON.and(Flags::ERROR), "{method}: {text}");
        text
    }

    /// The bytes of the answer to these bytes.
    pub(crate) async fn exchange(&mut self, bytes: &[u8]) -> Bytes {
        self.send(bytes).await;
        let mut answer = BytesMut::new();
        let frame = self.next().await.expect("an answer");
        frame.encode(&mut answer).unwrap();
        answer.freeze()
    }

    /// The server closes without another byte.
    pub(crate) async fn is_closed(&mut self) {
        assert_eq!(self.next().await, None, "the connection should have ended");
    }
}
