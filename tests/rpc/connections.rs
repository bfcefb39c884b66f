//! Many calls, many connections, readers that do not read, and the end of the node.

use crate::client::{Client, SOON, encoded, tcp};
use crate::double::Double;
use crate::vectors::vector;
use crate::{Served, eventually, free, logs};
use bytes::Bytes;
use centripeta::Listeners;
use centripeta::config::{RpcAddress, RpcListen};
use centripeta::goridge::Flags;
use rustix::process::{Resource, getrlimit, setrlimit};
use std::collections::BTreeSet;
use std::io;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UnixStream};
use tokio::time::timeout;

#[tokio::test]
async fn w102_a_hundred_calls_in_flight_on_one_connection_are_answered_by_their_own_numbers() {
    let double = Double::start(|_, request| Ok(Bytes::copy_from_slice(request))).await;
    let served = Served::start(&double).await;
    let mut client = served.client().await;
    double.open(false);
    let mut bytes = Vec::new();
    for seq in 1..=100_u32 {
        let body = seq.to_le_bytes();
        bytes.extend_from_slice(&encoded(Flags::PROTO, seq, "centrifuge.Echo", &body));
    }
    bytes.extend_from_slice(&encoded(Flags::JSON, 101, "rpc.Version", b"true"));
    client.send(&bytes).await;
    // What needs no Centrifugo does not wait behind what does.
    let first = client.next().await.unwrap().as_call().unwrap();
    assert_eq!((first.seq, first.method.as_str()), (101, "rpc.Version"));
    double.open(true);
    let mut seen = BTreeSet::new();
    for _ in 1..=100 {
        let answer = client.next().await.unwrap().as_call().unwrap();
        assert_eq!(answer.body, answer.seq.to_le_bytes()[..]);
        assert!(seen.insert(answer.seq), "{} was answered twice", answer.seq);
    }
    assert_eq!(seen, (1..=100).collect());
}

#[tokio::test]
async fn w100_what_is_no_call_ends_its_connection_without_an_answer_and_no_other() {
    let served = Served::start(&Double::plain().await).await;
    let mut other = served.client().await;
    let good = vector("TV30");
    let mut crc = good.clone();
    crc[6] ^= 1;
    let mut long = vec![0x15, 0x08, 0x01, 0, 0, 1];
    long.extend_from_slice(&crc32fast::hash(&long).to_le_bytes());
    long.extend_from_slice(&[0, 0]);
    let bad = [
        ("a wrong checksum", crc),
        ("no options", vector("TV01")),
        ("one option", vector("NV11")),
        ("a header of 14 words", vector("NV08")),
        ("a payload of 16 MiB and one byte", long),
        ("another protocol", b"GET / HTTP/1.1\r\n\r\n".to_vec()),
    ];
    for (what, bytes) in bad {
        let mut client = served.client().await;
        client.send(&bytes).await;
        client.is_closed().await;
        let given = other.exchange(&good).await;
        assert_eq!(given, vector("TV31")[..], "after {what}");
    }
}

#[tokio::test]
async fn answers_to_calls_before_a_bad_frame_still_leave() {
    let served = Served::start(&Double::plain().await).await;
    let mut client = served.client().await;
    let both = [vector("TV30"), vector("NV10")].concat();
    let given = client.exchange(&both).await;
    assert_eq!(given, vector("TV31")[..]);
    client.is_closed().await;
}

fn threads() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("Threads:"));
    line.unwrap().trim().parse().unwrap()
}

#[tokio::test]
async fn w105_five_thousand_idle_connections_cost_no_thread_each() {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    setrlimit(Resource::Nofile, limit).unwrap();
    // Both ends are in this process.
    let room = limit.current.unwrap_or(u64::MAX).saturating_sub(2000) / 2;
    let count = usize::try_from(room.min(5000)).unwrap();
    let served = Served::start(&Double::plain().await).await;
    let before = threads();
    let mut idle = Vec::with_capacity(count);
    for _ in 0..count {
        idle.push(served.client().await);
    }
    // They are served, and not only in the backlog.
    let mut last = idle.pop().unwrap();
    assert_eq!(last.json("rpc.Version", "true").await, r#""2025.1.15""#);
    assert_eq!(idle[0].json("rpc.Version", "true").await, r#""2025.1.15""#);
    // Other tests of this process start nodes meanwhile.
    let more = threads().saturating_sub(before);
    assert!(more < 100, "{more} threads more for {count} connections");
    assert!(count > 1000, "only {count} descriptors");
}

#[tokio::test]
async fn w109_fifty_connections_with_a_call_each_get_every_answer() {
    let double = Double::start(|_, request| Ok(Bytes::copy_from_slice(request))).await;
    let served = Served::start(&double).await;
    let mut clients = Vec::new();
    for _ in 0..50 {
        clients.push(served.client().await);
    }
    for (client, seq) in clients.iter_mut().zip(1_u32..) {
        let call = encoded(Flags::PROTO, seq, "centrifuge.Echo", &seq.to_le_bytes());
        client.send(&call).await;
    }
    for (client, seq) in clients.iter_mut().zip(1_u32..) {
        let answer = client.next().await.unwrap().as_call().unwrap();
        assert_eq!(
            (answer.seq, answer.body.as_ref()),
            (seq, &seq.to_le_bytes()[..])
        );
    }
}

#[tokio::test]
async fn a_client_that_does_not_read_holds_up_nobody_and_loses_nothing() {
    const CALLS: u32 = 400;
    let large = Bytes::from(vec![7; 64 << 10]);
    let double = Double::start(move |_, _| Ok(large.clone())).await;
    let served = Served::start(&double).await;
    let mut slow = served.client().await;
    for seq in 0..CALLS {
        slow.send(&encoded(Flags::PROTO, seq, "centrifuge.Large", b""))
            .await;
    }
    // More than the sockets between can hold has been answered, and nobody takes it.
    eventually("every call has been made", || {
        double.requests("Large").len() == CALLS as usize
    })
    .await;
    let mut quick = served.client().await;
    assert_eq!(quick.json("rpc.Version", "true").await, r#""2025.1.15""#);
    let (flags, body) = quick.call(Flags::PROTO, "centrifuge.Large", b"").await;
    assert_eq!((flags, body.len()), (Flags::PROTO, 64 << 10));
    let mut seen = BTreeSet::new();
    for _ in 0..CALLS {
        let answer = slow.next().await.unwrap().as_call().unwrap();
        assert_eq!(answer.body.len(), 64 << 10);
        seen.insert(answer.seq);
    }
    assert_eq!(seen, (0..CALLS).collect());
}

#[tokio::test]
async fn large_answers_that_nobody_takes_stop_further_calls_of_their_connection_alone() {
    const CALLS: u32 = 200;
    const SIZE: usize = 2 << 20;
    let large = Bytes::from(vec![7; SIZE]);
    let double = Double::start(move |_, _| Ok(large.clone())).await;
    let served = Served::start(&double).await;
    let mut slow = served.client().await;
    // How large answers are is known from those before.
    let (_, body) = slow.call(Flags::PROTO, "centrifuge.Large", b"").await;
    assert_eq!(body.len(), SIZE);
    let calls = (0..CALLS).map(|seq| encoded(Flags::PROTO, seq, "centrifuge.Large", b""));
    slow.send(&calls.collect::<Vec<_>>().concat()).await;
    eventually("some calls have been made", || {
        double.requests("Large").len() > 10
    })
    .await;
    // Others go on, and it does not.
    let mut quick = served.client().await;
    for _ in 0..20 {
        let (flags, _) = quick.call(Flags::PROTO, "centrifuge.Small", b"").await;
        assert_eq!(flags, Flags::PROTO);
    }
    let made = double.requests("Large").len();
    assert!(
        made < 60,
        "{made} answers of 2 MiB, of which nobody takes any"
    );
    let mut seen = BTreeSet::new();
    for _ in 0..CALLS {
        let answer = slow.next().await.unwrap().as_call().unwrap();
        assert_eq!(answer.body.len(), SIZE);
        seen.insert(answer.seq);
    }
    assert_eq!(seen, (0..CALLS).collect());
}

#[tokio::test]
async fn w110_a_listener_on_localhost_is_reached_over_ipv4_and_one_on_every_address_too() {
    for (host, open) in [("localhost", false), ("0.0.0.0", true)] {
        let mut config = free();
        config.rpc.allow_open = open;
        config.rpc.listen = Some(RpcListen::At(RpcAddress::Tcp {
            host: host.to_owned(),
            port: 0,
        }));
        let double = Double::plain().await;
        config.centrifugo.api[0].port = double.address.port();
        let served = Served::of(config).await;
        let RpcAddress::Tcp { port, .. } = served.address else {
            panic!("a TCP address");
        };
        let stream = TcpStream::connect(("127.0.0.1", port)).await;
        assert!(stream.is_ok(), "{host} over IPv4: {stream:?}");
    }
}

#[tokio::test]
async fn a_unix_socket_is_served_and_its_file_is_gone_at_the_end() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("rpc.sock");
    let double = Double::plain().await;
    let served = Served::start_with(&double, |config| {
        config.rpc.listen = Some(RpcListen::At(RpcAddress::Unix(path.clone())));
    })
    .await;
    let mut stream = UnixStream::connect(&path).await.unwrap();
    stream.write_all(&vector("TV30")).await.unwrap();
    let mut given = vec![0; vector("TV31").len()];
    stream.read_exact(&mut given).await.unwrap();
    assert_eq!(given, vector("TV31"));
    served.node.shutdown(SOON).await;
    assert!(!path.exists(), "the socket is left behind");
}

#[tokio::test]
async fn a_taken_address_is_named_by_its_key() {
    let taken = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = taken.local_addr().unwrap().port();
    let mut config = free();
    config.rpc.listen = Some(RpcListen::At(RpcAddress::Tcp {
        host: "127.0.0.1".to_owned(),
        port,
    }));
    let errors = Listeners::bind(&config).await.unwrap_err();
    let [error] = errors.0.as_slice() else {
        panic!("one error: {errors}");
    };
    assert_eq!(error.key, "rpc.listen");
    assert_eq!(error.address, format!("tcp://127.0.0.1:{port}"));
    assert_eq!(error.cause.kind(), io::ErrorKind::AddrInUse);
}

#[tokio::test]
async fn a_node_that_ends_answers_what_it_has_taken_and_then_closes() {
    let double = Double::plain().await;
    let served = Served::start(&double).await;
    let mut client = served.client().await;
    double.open(false);
    let before = double.count();
    client.send(&vector("TV23")).await;
    eventually("the publication is on its way", || double.count() > before).await;
    let address = tcp(&served.address);
    let ending = tokio::spawn(served.node.shutdown(SOON));
    double.open(true);
    let answer = client.next().await.unwrap();
    assert_eq!(answer.flags, Flags::PROTO, "{answer:?}");
    client.is_closed().await;
    timeout(SOON, ending).await.unwrap().unwrap();
    let again = timeout(Duration::from_secs(5), TcpStream::connect(address)).await;
    assert!(again.unwrap().is_err(), "it still listens");
}

#[tokio::test]
async fn an_idle_connection_is_closed_when_the_node_ends() {
    let served = Served::start(&Double::plain().await).await;
    let mut client: Client = served.client().await;
    assert_eq!(client.json("rpc.Version", "true").await, r#""2025.1.15""#);
    timeout(SOON, served.node.shutdown(SOON)).await.unwrap();
    client.is_closed().await;
}

#[tokio::test]
async fn w11_a_call_of_another_version_is_answered_and_said_once_for_its_connection() {
    logs::keep();
    let served = Served::start(&Double::plain().await).await;
    let said = || logs::with("not of version 1");
    assert_eq!(said(), [""; 0]);
    let mut odd = vector("TV30");
    // Version 9 instead of 1, under a checksum that is right.
    odd[0] = 0x90 | odd[0] & 0x0f;
    let sum = crc32fast::hash(&odd[..6]).to_le_bytes();
    odd[6..10].copy_from_slice(&sum);
    for connections in 1..=2 {
        let mut client = served.client().await;
        for _ in 0..3 {
            assert_eq!(client.exchange(&odd).await, vector("TV31")[..]);
        }
        let lines = said();
        assert_eq!(lines.len(), connections, "{lines:?}");
        assert!(lines.iter().all(|line| line.contains("version=9")));
    }
}
