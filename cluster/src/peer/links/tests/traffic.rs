//! What travels: order, cuts, silence, credit.

use super::*;
use crate::peer::Outcome;

fn number(payload: &[u8]) -> u64 {
    u64::from_le_bytes(payload[..8].try_into().unwrap())
}

/// Starts everything in the order in which it comes, answers some of it later than others, and says
/// what has started.
async fn run_in_order(mut requests: mpsc::UnboundedReceiver<Request>, total: u64) -> u64 {
    let (mut next, mut later) = (0, VecDeque::new());
    while next < total {
        let mut request = requests.recv().await.unwrap();
        // Now and then it is slow: links break and open while much of what came has not started.
        if next % 500 == 0 {
            tokio::time::sleep(Duration::from_millis(120)).await;
        }
        if !request.start() {
            continue;
        }
        assert_eq!(number(request.payload()), next, "once, and in order");
        next += 1;
        later.push_back(request);
        if later.len() > 50 || next == total {
            for request in later.drain(..) {
                let payload = request.payload().clone();
                request.reply(payload);
            }
        }
    }
    next
}

/// Sends so many, at most 600 unanswered; each is answered with itself.
async fn send_in_order(links: Links, to: u32, total: u64) -> u64 {
    let deadline = Instant::now() + LONG;
    let (mut answers, mut answered) = (VecDeque::new(), 0);
    for sent in 0..=total {
        while answers.len() >= 600 || (sent == total && !answers.is_empty()) {
            let answer: Answer = answers.pop_front().unwrap();
            let reply = answer.wait().await.unwrap();
            assert_eq!(reply.outcome, Outcome::Answered);
            assert_eq!(number(&reply.payload), answered);
            answered += 1;
        }
        if sent < total {
            let payload = Bytes::copy_from_slice(&[sent.to_le_bytes(), [7; 8]].concat());
            let answer = links.request(NodeId(to), Class::Data, 0, payload, deadline);
            answers.push_back(answer.unwrap());
        }
    }
    answered
}

#[tokio::test(start_paused = true)]
async fn messages_start_once_and_in_order_over_links_that_are_cut_at_random() {
    const EACH: u64 = 50_000;
    let net = Net::new();
    net.cut_at_random(Some(11));
    let (one, two) = (Node::new(&net, 1), Node::new(&net, 2));
    let ran = tokio::join!(
        tokio::spawn(send_in_order(one.links.clone(), 2, EACH)),
        tokio::spawn(send_in_order(two.links.clone(), 1, EACH)),
        tokio::spawn(run_in_order(one.requests, EACH)),
        tokio::spawn(run_in_order(two.requests, EACH)),
    );
    for done in [ran.0, ran.1, ran.2, ran.3] {
        assert_eq!(done.unwrap(), EACH);
    }
    let dialled = net.dialled.load(Ordering::Relaxed);
    assert!(dialled > 15, "{dialled} links: they were cut");
}

#[tokio::test(start_paused = true)]
async fn silence_is_noticed_in_400_ms_and_what_waits_is_answered_when_it_ends() {
    let net = Net::new();
    let (mut one, two) = (Node::new(&net, 1), Node::new(&net, 2));
    let _two = two.echo();
    let first = one.send(2, Class::Control, b"first").unwrap();
    assert_eq!(first.wait().await.unwrap().payload, "first");
    // An idle link stays up on its signs of life alone.
    let other = |event: &LinkEvent| !matches!(event, LinkEvent::Up { .. });
    assert_eq!(one.within(Duration::from_secs(30), other).await, None);
    assert_eq!(one.links.state(NodeId(2), Class::Control), LinkState::Up);

    net.stall(true);
    let stalled = Instant::now();
    let waits = one.send(2, Class::Control, b"waits").unwrap();
    one.until(|event| matches!(event, LinkEvent::Silent { .. }))
        .await;
    let noticed = stalled.elapsed();
    assert!(
        noticed >= SILENCE - Duration::from_millis(200) && noticed <= SILENCE,
        "{noticed:?}"
    );
    net.stall(false);
    assert_eq!(waits.wait().await.unwrap().payload, "waits");
    assert!(stalled.elapsed() < Duration::from_secs(5));
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_is_not_there_is_dialled_ever_less_often_and_reached_when_it_comes() {
    let net = Net::new();
    let mut one = Node::new(&net, 1);
    let waits = one.send(3, Class::Data, b"early").unwrap();
    assert_eq!(one.links.unanswered(NodeId(3), Class::Data), 1);
    let up = |event: &LinkEvent| matches!(event, LinkEvent::Up { .. });
    assert_eq!(one.within(Duration::from_secs(60), up).await, None);
    let dialled = net.dialled.load(Ordering::Relaxed);
    assert!(
        (30..=70).contains(&dialled),
        "{dialled} in a minute: up to 2 s apart, half of it by chance"
    );
    let three = Node::new(&net, 3).echo();
    let begun = Instant::now();
    assert_eq!(waits.wait().await.unwrap().payload, "early");
    assert!(begun.elapsed() <= Duration::from_secs(2));
    assert_eq!(one.links.unanswered(NodeId(3), Class::Data), 0);
    drop(three);
}

#[tokio::test(start_paused = true)]
async fn data_links_without_use_close_and_open_again_while_control_links_stay() {
    let net = Net::new();
    let (mut one, two) = (Node::new(&net, 1), Node::new(&net, 2));
    let _two = two.echo();
    for class in [Class::Control, Class::Data] {
        let answer = one.send(2, class, b"x").unwrap();
        assert!(answer.wait().await.is_ok());
    }
    let down = |event: &LinkEvent| matches!(event, LinkEvent::Down { .. });
    assert_eq!(one.within(Duration::from_secs(310), down).await, None);
    let state = |class| one.links.state(NodeId(2), class);
    assert_eq!(
        (state(Class::Control), state(Class::Data)),
        (LinkState::Up, LinkState::Idle)
    );
    let answer = one.send(2, Class::Data, b"again").unwrap();
    assert_eq!(answer.wait().await.unwrap().payload, "again");
}

fn small() -> LinkConfig {
    LinkConfig {
        credit: CreditLimits {
            envelopes: 4,
            bytes: 100_000,
            queue: 2,
        },
        ..LinkConfig::default()
    }
}

#[tokio::test(start_paused = true)]
async fn a_slow_peer_holds_back_events_and_neither_control_nor_replies() {
    let net = Net::new();
    let (one, mut two) = (
        Node::with(&net, identity(1, 1, 1001), small()),
        Node::with(&net, identity(2, 1, 1002), small()),
    );
    let answers: Vec<_> = (0..6u8)
        .map(|event| one.send(2, Class::Data, &[event]).unwrap())
        .collect();
    let shed = one.send(2, Class::Data, &[6]).unwrap_err();
    assert_eq!(shed, RequestError::Overloaded);
    let mut held = Vec::new();
    for _ in 0..4 {
        held.push(two.requests.recv().await.unwrap());
    }
    // No more come while none is over; time goes by.
    let fifth = timeout(Duration::from_secs(10), two.requests.recv()).await;
    assert!(fifth.is_err(), "it has no credit");
    // Control goes through, and so do replies to the slow peer's own events.
    let control = one.send(2, Class::Control, b"control").unwrap();
    let request = two.requests.recv().await.unwrap();
    assert_eq!(
        (request.from().class, request.payload()),
        (Class::Control, &Bytes::from("control"))
    );
    request.reply(Bytes::from("yes"));
    assert_eq!(control.wait().await.unwrap().payload, "yes");
    let (mut one_requests, back) = (one.requests, two.send(1, Class::Data, b"back").unwrap());
    one_requests.recv().await.unwrap().reply(Bytes::from("ack"));
    assert_eq!(back.wait().await.unwrap().payload, "ack");
    // Each that is over lets one more in, in order; the rest is answered.
    two.tap.load.store(17, Ordering::Relaxed);
    for event in 0..6u8 {
        if held.is_empty() {
            held.push(two.requests.recv().await.unwrap());
        }
        let request = held.remove(0);
        assert_eq!(request.payload()[..], [event]);
        request.reply(Bytes::new());
    }
    for answer in answers {
        assert_eq!(answer.wait().await.unwrap().load, 17);
    }
}

#[tokio::test(start_paused = true)]
async fn a_long_request_gives_its_credit_back_when_it_is_accepted() {
    let net = Net::new();
    let (one, mut two) = (
        Node::with(&net, identity(1, 1, 1001), small()),
        Node::with(&net, identity(2, 1, 1002), small()),
    );
    let mut long = Vec::new();
    let mut answers = Vec::new();
    for event in 0..20u8 {
        answers.push(one.send(2, Class::Data, &[event]).unwrap());
        let mut request = two.requests.recv().await.unwrap();
        request.release_credit();
        long.push(request);
    }
    for request in long {
        request.reply(Bytes::from("over"));
    }
    for answer in answers {
        assert_eq!(answer.wait().await.unwrap().payload, "over");
    }
}

#[tokio::test(start_paused = true)]
async fn little_credit_is_enough_for_many_quick_answers_and_streams() {
    let net = Net::new();
    let (one, mut two) = (
        Node::with(&net, identity(1, 1, 1001), small()),
        Node::with(&net, identity(2, 1, 1002), small()),
    );
    for _ in 0..200 {
        let answer = one.send(2, Class::Data, b"x").unwrap();
        two.requests.recv().await.unwrap().reply(Bytes::new());
        assert!(answer.wait().await.is_ok());
        one.stream(2, &mut two).await;
    }
    assert!(two.links.refused().is_empty());
}

#[tokio::test(start_paused = true)]
async fn deadlines_are_kept_on_both_sides() {
    let net = Net::new();
    let (one, mut two) = (Node::new(&net, 1), Node::new(&net, 2));
    let soon = Instant::now() + Duration::from_millis(300);
    let ask = |deadline| {
        one.links
            .request(NodeId(2), Class::Data, 0, Bytes::new(), deadline)
    };
    let answer = ask(soon).unwrap();
    let request = two.requests.recv().await.unwrap();
    let left = request.deadline() - Instant::now();
    assert!(left <= Duration::from_millis(300) && left > Duration::from_millis(250));
    assert_eq!(answer.wait().await, Err(RequestError::Deadline));
    assert!(Instant::now() >= soon);
    drop(request);
    // One that is over before it is sent never reaches the handler.
    let late = ask(Instant::now()).unwrap();
    let next = one.send(2, Class::Data, b"next").unwrap();
    assert_eq!(late.wait().await, Err(RequestError::Deadline));
    let request = two.requests.recv().await.unwrap();
    assert_eq!(request.payload(), "next");
    request.reply(Bytes::new());
    assert!(next.wait().await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn an_unanswered_request_is_answered_all_the_same_and_says_whether_it_started() {
    let net = Net::new();
    let (one, mut two) = (Node::new(&net, 1), Node::new(&net, 2));
    let mut outcomes = Vec::new();
    for start in [false, true] {
        let answer = one.send(2, Class::Data, b"x").unwrap();
        let mut request = two.requests.recv().await.unwrap();
        if start {
            assert!(request.start());
        }
        drop(request);
        outcomes.push(answer.wait().await.unwrap().outcome);
    }
    assert_eq!(outcomes, [Outcome::NotStarted, Outcome::Dropped]);
    let answer = one.send(2, Class::Data, b"x").unwrap();
    let bounced = two.requests.recv().await.unwrap();
    bounced.bounce(Bytes::from("moving"));
    let reply = answer.wait().await.unwrap();
    assert_eq!(
        (reply.outcome, reply.payload),
        (Outcome::NotStarted, Bytes::from("moving"))
    );
}

#[tokio::test(start_paused = true)]
async fn casts_arrive_in_order_and_a_payload_beyond_the_limit_is_not_taken() {
    let net = Net::new();
    let (one, mut two) = (Node::new(&net, 1), Node::new(&net, 2));
    for cast in 0..500u16 {
        let payload = Bytes::copy_from_slice(&cast.to_le_bytes());
        one.links
            .cast(NodeId(2), Class::Control, 9, payload)
            .unwrap();
    }
    for cast in 0..500u16 {
        let payload = Bytes::copy_from_slice(&cast.to_le_bytes());
        assert_eq!(two.casts.recv().await, Some((NodeId(1), 9, payload)));
    }
    let limit = LinkConfig::default().payload_limit;
    let large = Bytes::from(vec![0; limit + 1]);
    let error = one
        .links
        .cast(NodeId(2), Class::Control, 9, large.clone())
        .unwrap_err();
    assert_eq!(
        error,
        RequestError::TooLarge {
            length: limit + 1,
            limit
        }
    );
    // The largest one passes, and is more than one frame's worth.
    let answer = one.send(2, Class::Data, &large.slice(..limit)).unwrap();
    let request = two.requests.recv().await.unwrap();
    assert_eq!(request.payload().len(), limit);
    request.reply(large);
    let reply = answer.wait().await.unwrap();
    assert_eq!(
        (reply.outcome, &reply.payload[..]),
        (Outcome::Dropped, &b"answer too large"[..])
    );
}
