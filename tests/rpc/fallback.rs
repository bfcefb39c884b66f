//! Calls of services that are not here, passed on to another RPC server.

use crate::Served;
use crate::client::{Client, encoded};
use crate::double::Double;
use bytes::BytesMut;
use centripeta::config::RpcAddress;
use centripeta::goridge::{Decoder, Flags, Frame};
use std::net::SocketAddr;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

/// The other server's end of a connection.
struct Other {
    stream: TcpStream,
    decoder: Decoder,
    input: BytesMut,
}

impl Other {
    async fn accept(listener: &TcpListener) -> Self {
        let accepted = timeout(crate::client::SOON, listener.accept()).await;
        Self {
            stream: accepted.unwrap().unwrap().0,
            decoder: Decoder::new(32 << 20),
            input: BytesMut::new(),
        }
    }

    async fn next(&mut self) -> Frame {
        loop {
            if let Some(frame) = self.decoder.next(&mut self.input).unwrap() {
                return frame;
            }
            let read = timeout(crate::client::SOON, self.stream.read_buf(&mut self.input)).await;
            assert!(read.expect("a call").unwrap() > 0, "closed");
        }
    }

    async fn answer(&mut self, call: &Frame, body: &[u8]) {
        let call = call.as_call().unwrap();
        let bytes = encoded(Flags::RAW, call.seq, &call.method, body);
        self.stream.write_all(&bytes).await.unwrap();
    }
}

async fn listener() -> (TcpListener, RpcAddress) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    (listener, named(address))
}

fn named(address: SocketAddr) -> RpcAddress {
    RpcAddress::Tcp {
        host: address.ip().to_string(),
        port: address.port(),
    }
}

async fn served(fallback: RpcAddress) -> Served {
    let double = Double::plain().await;
    Served::start_with(&double, |config| config.rpc.fallback = Some(fallback)).await
}

#[tokio::test]
async fn calls_of_other_services_cross_unchanged_and_answers_find_their_callers_in_any_order() {
    let (listener, address) = listener().await;
    let served = served(address).await;
    let mut client = served.client().await;
    let one = encoded(Flags::PROTO, 5, "kv.Has", b"\xff\x00 key");
    let two = encoded(Flags::GOB, 6, "jobs.Push", b"gob");
    client.send(&[one.clone(), two.clone()].concat()).await;
    let mut other = Other::accept(&listener).await;
    let mut seen = BytesMut::new();
    let first = other.next().await;
    first.encode(&mut seen).unwrap();
    let second = other.next().await;
    second.encode(&mut seen).unwrap();
    assert_eq!(seen, [one, two].concat());
    // What is here does not go there.
    assert_eq!(client.json("rpc.Version", "true").await, r#""2025.1.15""#);
    let refused = client.refused("rpc.Nope", "true").await;
    assert_eq!(refused, "rpc: can't find method rpc.Nope");
    other.answer(&second, b"two").await;
    other.answer(&first, b"one").await;
    for (seq, body) in [(6, "two"), (5, "one")] {
        let answer = client.next().await.unwrap();
        assert_eq!(answer.flags, Flags::RAW);
        let answer = answer.as_call().unwrap();
        assert_eq!((answer.seq, answer.body.as_ref()), (seq, body.as_bytes()));
    }
}

#[tokio::test]
async fn callers_with_the_same_number_do_not_meet() {
    let (listener, address) = listener().await;
    let served = served(address).await;
    let mut answers = Vec::new();
    for who in ["a", "b"] {
        let mut client = served.client().await;
        client
            .send(&encoded(Flags::JSON, 1, "lock.Lock", who.as_bytes()))
            .await;
        let mut other = Other::accept(&listener).await;
        let call = other.next().await;
        answers.push((client, other, call));
    }
    for (client, other, call) in answers.iter_mut().rev() {
        let body = call.as_call().unwrap().body;
        other.answer(call, &body).await;
        let answer = client.next().await.unwrap().as_call().unwrap();
        assert_eq!(answer.body, body);
    }
}

#[tokio::test]
async fn without_the_other_server_a_call_is_answered_with_an_error_and_the_next_one_tries_again() {
    let (listener, address) = listener().await;
    let at = listener.local_addr().unwrap();
    drop(listener);
    let served = served(address).await;
    let mut client = served.client().await;
    let text = client.refused("kv.Has", "1").await;
    let start = format!("`rpc.fallback = \"tcp://{at}\"` did not answer: ");
    assert!(text.starts_with(&start), "{text}");
    let listener = TcpListener::bind(at).await.unwrap();
    client.send(&encoded(Flags::JSON, 9, "kv.Has", b"2")).await;
    let mut other = Other::accept(&listener).await;
    let call = other.next().await;
    other.answer(&call, b"yes").await;
    let answer = client.next().await.unwrap().as_call().unwrap();
    assert_eq!((answer.seq, answer.body.as_ref()), (9, &b"yes"[..]));
    // It goes while a call is with it.
    client
        .send(&encoded(Flags::PROTO, 10, "kv.Has", b"3"))
        .await;
    other.next().await;
    drop(other);
    let answer = client.next().await.unwrap();
    assert_eq!(answer.flags, Flags::PROTO.and(Flags::ERROR));
    let answer = answer.as_call().unwrap();
    assert_eq!((answer.seq, answer.method.as_str()), (10, "kv.Has"));
    assert!(
        answer.body.ends_with(b"it closed the connection"),
        "{:?}",
        answer.body
    );
}

#[tokio::test]
async fn a_connection_has_1024_calls_at_once_where_answers_are_small_and_more_wait_for_them() {
    const AT_ONCE: u32 = 1024;
    let (listener, address) = listener().await;
    let served = served(address).await;
    let mut client = served.client().await;
    // Before there were answers less is dared: they may be large.
    let call = |seq| encoded(Flags::RAW, seq, "kv.Has", b"");
    client.send(&call(0)).await;
    let mut other = Other::accept(&listener).await;
    for seq in 1..=20 {
        let asked = other.next().await;
        other.answer(&asked, b"").await;
        assert_eq!(client.next().await.unwrap().as_call().unwrap().seq, seq - 1);
        client.send(&call(seq)).await;
    }
    let asked = other.next().await;
    other.answer(&asked, b"").await;
    assert_eq!(client.next().await.unwrap().as_call().unwrap().seq, 20);
    let calls: Vec<_> = (0..=AT_ONCE).map(call).collect();
    client.send(&calls.concat()).await;
    let first = other.next().await;
    for seq in 1..AT_ONCE {
        assert_eq!(other.next().await.as_call().unwrap().seq, seq);
    }
    // Nobody else's calls wait with it.
    let mut second = served.client().await;
    assert_eq!(second.json("rpc.Version", "true").await, r#""2025.1.15""#);
    let mut byte = [0];
    let more = other.stream.try_read(&mut byte);
    assert!(more.is_err_and(|why| why.kind() == std::io::ErrorKind::WouldBlock));
    other.answer(&first, b"").await;
    assert_eq!(other.next().await.as_call().unwrap().seq, AT_ONCE);
}

#[tokio::test]
async fn a_caller_that_leaves_takes_its_connection_to_the_other_server_along() {
    let (listener, address) = listener().await;
    let served = served(address).await;
    let mut client: Client = served.client().await;
    client.send(&encoded(Flags::RAW, 1, "kv.Has", b"")).await;
    let mut other = Other::accept(&listener).await;
    let call = other.next().await;
    other.answer(&call, b"").await;
    client.next().await.unwrap();
    drop(client);
    let mut byte = [0];
    let end = timeout(crate::client::SOON, other.stream.read(&mut byte)).await;
    assert_eq!(end.expect("the end").unwrap(), 0);
}

#[tokio::test]
async fn a_caller_that_leaves_unanswered_does_not_hold_a_connection_to_a_server_that_hangs() {
    let (listener, address) = listener().await;
    let served = served(address).await;
    let mut client = served.client().await;
    client.send(&encoded(Flags::RAW, 1, "lock.Lock", b"")).await;
    let mut other = Other::accept(&listener).await;
    other.next().await;
    drop(client);
    let mut byte = [0];
    let end = timeout(crate::client::SOON, other.stream.read(&mut byte)).await;
    assert_eq!(end.expect("the end").unwrap(), 0);
}

#[tokio::test]
async fn a_caller_that_has_closed_one_half_alone_still_reads_its_answer() {
    let (listener, address) = listener().await;
    let served = served(address).await;
    let mut client = served.client().await;
    client.send(&encoded(Flags::RAW, 1, "kv.Has", b"")).await;
    client.stream.shutdown().await.unwrap();
    let mut other = Other::accept(&listener).await;
    let call = other.next().await;
    other.answer(&call, b"yes").await;
    let answer = client.next().await.unwrap().as_call().unwrap();
    assert_eq!(answer.body, &b"yes"[..]);
    client.is_closed().await;
}
