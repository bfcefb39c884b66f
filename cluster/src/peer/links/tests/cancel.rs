//! Requests that nobody waits for any more.

use super::*;
use crate::peer::Outcome;
use std::future::poll_fn;

/// Ends once nobody waits for a request.
async fn cancelled(request: &Request) {
    poll_fn(|cx| request.poll_cancelled(cx)).await;
}

#[tokio::test(start_paused = true)]
async fn what_has_not_started_never_does_and_its_place_is_free_at_once() {
    let net = Net::new();
    let (one, mut two) = (Node::new(&net, 1), Node::new(&net, 2));
    let mut answer = one.send(2, Class::Data, b"x").unwrap();
    let mut request = two.requests.recv().await.unwrap();
    answer.cancel();
    answer.cancel();
    match answer.ready().await.unwrap() {
        Answered::Reply(reply) => assert_eq!(reply.outcome, Outcome::Expired),
        Answered::Stream(_) => panic!("a stream"),
    }
    assert!(!request.start(), "it must not run");
    drop(request);
    let view = two.view(1, Class::Data, Direction::In);
    assert_eq!((view.unanswered, view.credit_envelopes), (0, 0));
    // Dropping the answer says the same.
    drop(one.send(2, Class::Data, b"y").unwrap());
    let dropped = one.send(2, Class::Data, b"z").unwrap();
    let mut request = two.requests.recv().await.unwrap();
    while request.payload() != "z" {
        request = two.requests.recv().await.unwrap();
    }
    drop(dropped);
    until("nothing is left of it", || {
        one.links.unanswered(NodeId(2), Class::Data) == 0
    })
    .await;
    assert!(!request.start());
}

#[tokio::test(start_paused = true)]
async fn whoever_runs_it_is_told_and_answers_all_the_same() {
    let net = Net::new();
    let (one, mut two) = (Node::new(&net, 1), Node::new(&net, 2));
    let mut answer = one.send(2, Class::Data, b"x").unwrap();
    let mut request = two.requests.recv().await.unwrap();
    assert!(request.start());
    let waits = timeout(Duration::from_secs(5), cancelled(&request));
    assert!(waits.await.is_err(), "its sender waits");
    answer.cancel();
    cancelled(&request).await;
    request.reply(Bytes::from("over"));
    match answer.ready().await.unwrap() {
        Answered::Reply(reply) => assert_eq!(reply.payload, "over"),
        Answered::Stream(_) => panic!("a stream"),
    }
    // What is not an event goes on where it is.
    let control = one.send(2, Class::Control, b"c").unwrap();
    let mut request = two.requests.recv().await.unwrap();
    assert!(request.start());
    drop(control);
    let waits = timeout(Duration::from_secs(5), cancelled(&request));
    assert!(waits.await.is_err());
}

#[tokio::test(start_paused = true)]
async fn a_cancel_outlives_its_link_and_what_was_unstarted_is_not_sent_again() {
    let net = Net::new();
    let (mut one, mut two) = (Node::new(&net, 1), Node::new(&net, 2));
    let (started, unstarted) = (
        one.send(2, Class::Data, b"started").unwrap(),
        one.send(2, Class::Data, b"unstarted").unwrap(),
    );
    let mut runs = two.requests.recv().await.unwrap();
    assert!(runs.start());
    let mut waits = two.requests.recv().await.unwrap();
    // The link carries nothing while both are given up.
    net.stall(true);
    one.until(|event| matches!(event, LinkEvent::Silent { .. }))
        .await;
    drop((started, unstarted));
    net.stall(false);
    cancelled(&runs).await;
    assert!(!waits.start());
    let next = one.send(2, Class::Data, b"next").unwrap();
    let request = two.requests.recv().await.unwrap();
    assert_eq!(request.payload(), "next", "not the one that nobody wants");
    request.reply(Bytes::new());
    assert!(next.wait().await.is_ok());
    runs.reply(Bytes::new());
    until("all is settled", || {
        one.links.unanswered(NodeId(2), Class::Data) == 0
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn nobody_waits_any_more_once_the_sender_is_gone() {
    let net = Net::new();
    let (one, mut two) = (Node::new(&net, 1), Node::new(&net, 2));
    let _answer = one.send(2, Class::Data, b"x").unwrap();
    let mut request = two.requests.recv().await.unwrap();
    assert!(request.start());
    let waiting = tokio::spawn(async move {
        cancelled(&request).await;
        request
    });
    tokio::task::yield_now().await;
    assert!(!waiting.is_finished());
    two.links.forget_peer(NodeId(1));
    drop(waiting.await.unwrap());
}

#[tokio::test(start_paused = true)]
async fn a_peer_of_an_older_build_is_not_told_and_nothing_breaks() {
    let net = Net::new();
    let old = Identity {
        features: Vec::new(),
        ..identity(2, 1, 1002)
    };
    let (one, mut two) = (
        Node::new(&net, 1),
        Node::with(&net, old, LinkConfig::default()),
    );
    let answer = one.send(2, Class::Data, b"x").unwrap();
    let mut request = two.requests.recv().await.unwrap();
    assert!(request.start());
    drop(answer);
    let waits = timeout(Duration::from_secs(5), cancelled(&request));
    assert!(waits.await.is_err());
    request.reply(Bytes::new());
    until("it is settled by its answer", || {
        one.links.unanswered(NodeId(2), Class::Data) == 0
    })
    .await;
    assert_eq!(one.links.state(NodeId(2), Class::Data), LinkState::Up);
}
