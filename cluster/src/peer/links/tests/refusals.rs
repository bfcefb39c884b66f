//! Who is let in, and what strangers can do.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::*;
use crate::peer::{SecretSource, Tcp};

async fn answered(node: &Node, peer: u32) -> bool {
    let answer = node.send(peer, Class::Control, b"x").unwrap();
    timeout(Duration::from_secs(20), answer.wait())
        .await
        .is_ok_and(|answer| answer.is_ok())
}

#[tokio::test(start_paused = true)]
async fn an_equal_incarnation_with_another_boot_id_and_a_lower_one_are_refused() {
    let net = Net::new();
    let (mut one, two) = (
        Node::with(&net, identity(1, 5, 1), LinkConfig::default()),
        Node::with(&net, identity(2, 5, 2), LinkConfig::default()),
    );
    let _two = two.echo();
    assert!(answered(&one, 2).await);
    for (incarnation, boot, expected) in [
        (
            5,
            9,
            "refused by the peer: node 1 at incarnation 5 is process \
             00000000000000000000000000000001",
        ),
        (
            4,
            8,
            "refused by the peer: node 1 is at incarnation 5, the peer comes with 4",
        ),
    ] {
        let copy = identity(1, incarnation, boot);
        let mut copy = Node::with(&net, copy, LinkConfig::default());
        let _waits = copy.send(2, Class::Control, b"x").unwrap();
        let why = copy.refusal().await;
        assert!(why.starts_with(expected), "{why}");
    }
    assert!(answered(&one, 2).await, "the right one is not disturbed");
    assert!(!matches!(one.events.try_recv(), Ok(LinkEvent::Down { .. })));
}

#[tokio::test(start_paused = true)]
async fn a_higher_incarnation_waits_until_the_old_one_is_silent() {
    let net = Net::new();
    let (old, mut two) = (Node::new(&net, 1), Node::new(&net, 2));
    let held = old.send(2, Class::Data, b"held").unwrap();
    let mut held_there = two.requests.recv().await.unwrap();
    let mut new = Node::with(&net, identity(1, 2, 77), LinkConfig::default());
    let answer = new.send(2, Class::Data, b"new").unwrap();
    let why = new.refusal().await;
    assert_eq!(
        why,
        "refused by the peer: node 1 still lives at incarnation 1"
    );
    drop((old, held));
    let request = two.requests.recv().await.unwrap();
    assert_eq!(
        (request.payload(), request.from().member.incarnation),
        (&Bytes::from("new"), Incarnation(2))
    );
    assert!(
        !held_there.start(),
        "what the old life left unstarted never runs"
    );
    request.reply(Bytes::new());
    assert!(answer.wait().await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_newer_life_in_the_table_ends_the_links_of_the_older_one() {
    let net = Net::new();
    let (mut old, mut two) = (Node::new(&net, 1), Node::new(&net, 2));
    let _waits = old.send(2, Class::Data, b"x").unwrap();
    let mut request = two.requests.recv().await.unwrap();
    let newer = Member {
        id: NodeId(1),
        incarnation: Incarnation(2),
    };
    two.links.set_known(newer, BootId(77));
    assert!(!request.start());
    let wanted = |event: &LinkEvent| matches!(event, LinkEvent::Down { why, .. } if why.contains("is at incarnation 2"));
    old.until(wanted).await;
}

/// The first life of node 1.
const FIRST: Member = Member {
    id: NodeId(1),
    incarnation: Incarnation(1),
};

#[tokio::test(start_paused = true)]
async fn the_end_of_an_earlier_life_does_not_disturb_the_next() {
    let net = Net::new();
    let mut two = Node::new(&net, 2);
    let mut next = Node::with(&net, identity(1, 2, 77), LinkConfig::default());
    let answer = next.send(2, Class::Data, b"x").unwrap();
    let mut request = two.requests.recv().await.unwrap();
    assert!(request.start());
    // The table that says so comes after the newcomer itself.
    two.links.end_life(FIRST);
    let down = |event: &LinkEvent| matches!(event, LinkEvent::Down { .. });
    assert_eq!(next.within(Duration::from_secs(5), down).await, None);
    request.reply(Bytes::from("once"));
    assert_eq!(answer.wait().await.unwrap().payload, "once");
    assert!(two.requests.try_recv().is_err());
}

#[tokio::test(start_paused = true)]
async fn a_life_that_is_called_dead_and_comes_back_starts_nothing_twice() {
    let net = Net::new();
    let (mut one, mut two) = (Node::new(&net, 1), Node::new(&net, 2));
    let answers = [b"a", b"b"].map(|event| one.send(2, Class::Data, event).unwrap());
    let mut started = two.requests.recv().await.unwrap();
    assert!(started.start());
    let mut unstarted = two.requests.recv().await.unwrap();
    two.links.end_life(FIRST);
    assert!(two.links.peers().is_empty(), "operators see the living");
    one.until(|event| matches!(event, LinkEvent::Down { .. }))
        .await;
    assert!(!unstarted.start());
    let again = two.requests.recv().await.unwrap();
    assert_eq!(again.payload(), "b");
    again.reply(Bytes::from("second"));
    started.reply(Bytes::from("first"));
    for (answer, expected) in answers.into_iter().zip(["first", "second"]) {
        assert_eq!(answer.wait().await.unwrap().payload, expected);
    }
    assert!(two.requests.try_recv().is_err());
}

#[tokio::test(start_paused = true)]
async fn a_process_sends_nothing_again_in_its_next_life() {
    let net = Net::new();
    let (one, mut two) = (Node::new(&net, 1), Node::new(&net, 2));
    let lost = one.send(2, Class::Data, b"lost").unwrap();
    let mut request = two.requests.recv().await.unwrap();
    assert!(request.start());
    one.links.set_identity(identity(1, 2, 1001));
    let next = Member {
        incarnation: Incarnation(2),
        ..FIRST
    };
    two.links.set_known(next, BootId(1001));
    let gone = RequestError::Gone {
        may_have_started: true,
    };
    assert_eq!(lost.wait().await, Err(gone));
    let answer = one.send(2, Class::Data, b"new").unwrap();
    let request = two.requests.recv().await.unwrap();
    assert_eq!(request.payload(), "new");
    request.reply(Bytes::new());
    assert!(answer.wait().await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn what_was_with_a_process_that_is_gone_is_told_so_and_new_requests_reach_the_next() {
    let net = Net::new();
    let (one, mut two) = (Node::new(&net, 1), Node::new(&net, 2));
    let lost = one.send(2, Class::Data, b"lost").unwrap();
    let mut request = two.requests.recv().await.unwrap();
    assert!(request.start());
    drop((request, two.links));
    drop(two.requests);
    let mut next = Node::with(&net, identity(2, 2, 78), LinkConfig::default());
    let gone = RequestError::Gone {
        may_have_started: true,
    };
    // The drop of the request above was answered, or its process was gone first.
    match lost.wait().await {
        Ok(reply) => assert_eq!(reply.outcome, crate::peer::Outcome::Dropped),
        Err(error) => assert_eq!(error, gone),
    }
    let answer = one.send(2, Class::Data, b"again").unwrap();
    next.requests
        .recv()
        .await
        .unwrap()
        .reply(Bytes::from("here"));
    assert_eq!(answer.wait().await.unwrap().payload, "here");
    // A peer that is declared dead is not waited for.
    let waits = one.send(2, Class::Data, b"waits").unwrap();
    next.requests.recv().await.unwrap().start();
    one.links.forget_peer(NodeId(2));
    assert!(waits.wait().await.is_err());
    let unknown = one.send(2, Class::Data, b"x").unwrap_err();
    assert_eq!(unknown, RequestError::UnknownPeer(NodeId(2)));
}

#[tokio::test(start_paused = true)]
async fn of_a_removed_node_nothing_is_kept_and_it_may_only_hear_of_it() {
    let net = Net::new();
    let (mut one, mut two) = (Node::new(&net, 1), Node::new(&net, 2));
    let ran = one.send(2, Class::Data, b"x").unwrap();
    let mut request = two.requests.recv().await.unwrap();
    assert!(request.start());
    request.reply(Bytes::new());
    assert!(ran.wait().await.is_ok());
    two.links.forget_peer(NodeId(1));
    assert_eq!(two.links.kept_inbound(), 0);
    let _waits = one.send(2, Class::Data, b"again").unwrap();
    let wanted = |event: &LinkEvent| matches!(event, LinkEvent::Down { why, .. } if why.contains("node 1 was removed"));
    one.until(wanted).await;
    assert!(two.requests.try_recv().is_err());
    assert_eq!(two.links.refused().keys().collect::<Vec<_>>(), [&"removed"]);
    let told = one.send(2, Class::Control, b"am I?").unwrap();
    let request = two.requests.recv().await.unwrap();
    request.reply(Bytes::from("no"));
    assert_eq!(told.wait().await.unwrap().payload, "no");
}

#[tokio::test(start_paused = true)]
async fn a_node_that_has_not_joined_may_ask_any_seed_and_no_more() {
    let net = Net::new();
    let mut two = Node::new(&net, 2);
    let mut newcomer = Node::with(&net, identity(0, 0, 5), LinkConfig::default());
    let deadline = Instant::now() + Duration::from_secs(5);
    let ask = newcomer
        .links
        .ask("2", 3, Bytes::from("register"), deadline);
    let serve = async {
        let request = two.requests.recv().await.unwrap();
        assert_eq!((request.from().member.id, request.kind()), (NodeId(0), 3));
        request.reply(Bytes::from("you are 4"));
    };
    let (reply, ()) = tokio::join!(ask, serve);
    assert_eq!(reply.unwrap().payload, "you are 4");
    let _waits = newcomer.send(2, Class::Data, b"x").unwrap();
    let why = newcomer.refusal().await;
    assert!(why.contains("has not joined"), "{why}");
    let nobody = newcomer.links.ask("9", 3, Bytes::new(), deadline).await;
    assert!(matches!(nobody, Err(RequestError::Link(_))));
}

/// A node on a port of this host, with a secret.
async fn on_tcp(id: u32) -> (Node, String) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap().to_string();
    let mut config = LinkConfig::default();
    config.security.secrets = vec![SecretSource::Text("a secret of the test".to_owned())];
    let identity = identity(id, 1, 1000 + u128::from(id));
    (
        node_over(Arc::new(Tcp::new(listener)), identity, config),
        addr,
    )
}

#[tokio::test]
async fn secrets_change_for_links_that_open_from_then_on() {
    let known = |texts: &[&str]| SecurityConfig {
        secrets: texts
            .iter()
            .map(|text| SecretSource::Text((*text).to_owned()))
            .collect(),
        ..SecurityConfig::default()
    };
    let ((one, addr), (two, _), (mut late, _)) =
        (on_tcp(1).await, on_tcp(2).await, on_tcp(3).await);
    for node in [&two, &late] {
        node.links.set_peer(NodeId(1), vec![addr.clone()]);
    }
    let links = one.links.clone();
    let _one = one.echo();
    assert!(answered(&two, 1).await);
    links
        .set_security(known(&["the secret that follows"]))
        .unwrap();
    assert!(answered(&two, 1).await, "a link that is open stays");
    let waits = late.send(1, Class::Control, b"x").unwrap();
    let why = late.refusal().await;
    assert!(why.contains("secret"), "{why}");
    assert!(late.links.set_security(known(&["short"])).is_err());
    let both = known(&["the secret that follows", "a secret of the test"]);
    late.links.set_security(both).unwrap();
    let reply = timeout(Duration::from_secs(20), waits.wait())
        .await
        .unwrap();
    assert!(reply.is_ok(), "{reply:?}");
}

#[tokio::test]
async fn garbage_on_the_port_hurts_nobody() {
    let ((mut one, addr), (two, _)) = (on_tcp(1).await, on_tcp(2).await);
    two.links.set_peer(NodeId(1), vec![addr.clone()]);
    let mut refusals = Vec::new();
    for garbage in [
        &b"GET /metrics HTTP/1.1\r\n\r\n"[..],
        b"CPP1\xff\xff",
        b"CPP1\x04\x00\xff\xff\xff\xff",
        &[0; 10_000],
    ] {
        let mut stream = TcpStream::connect(&addr).await.unwrap();
        stream.write_all(garbage).await.unwrap();
        let _ = stream.read_to_end(&mut Vec::new()).await;
        refusals.push(one.refusal().await);
    }
    assert!(refusals[0].starts_with("not a peer"), "{refusals:?}");
    assert!(
        refusals[1].starts_with("a frame of 65535 bytes was announced"),
        "{refusals:?}"
    );
    assert!(
        refusals[2].starts_with("frame not understood"),
        "{refusals:?}"
    );
    assert!(refusals[3].starts_with("not a peer"), "{refusals:?}");
    let _one = one.echo();
    assert!(answered(&two, 1).await);
}

#[tokio::test]
async fn half_open_connections_are_bounded_and_keep_no_peer_out() {
    let ((one, addr), (two, _)) = (on_tcp(1).await, on_tcp(2).await);
    two.links.set_peer(NodeId(1), vec![addr.clone()]);
    let _one = one.echo();
    let mut strangers = Vec::new();
    for _ in 0..500 {
        strangers.push(TcpStream::connect(&addr).await.unwrap());
    }
    let begun = Instant::now();
    assert!(answered(&two, 1).await);
    let took = begun.elapsed();
    // All but the newest were closed to make room for the next; the others go by the time limit.
    let mut closed = 0;
    for stranger in &mut strangers[..500 - HANDSHAKES] {
        let read = timeout(Duration::from_secs(1), stranger.read(&mut [0])).await;
        closed += usize::from(matches!(read, Ok(Ok(0) | Err(_))));
    }
    assert!(closed >= 500 - 2 * HANDSHAKES, "{closed} of 500 closed");
    assert!(took < Duration::from_millis(1500), "{took:?}");
}
