//! Streams: both ways, their windows, their ends.

use tokio::net::TcpListener;

use super::*;
use crate::peer::{FINAL_MAX, NotAccepted, Outcome, STREAM_BYTES, STREAM_MESSAGES, Tcp};

async fn on_tcp(id: u32) -> (Node, String) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap().to_string();
    let identity = identity(id, 1, 1000 + u128::from(id));
    let transport = Arc::new(Tcp::new(listener));
    (node_over(transport, identity, LinkConfig::default()), addr)
}

/// Sends back what comes, and finishes when it ends, with how many there were.
async fn echo((mut tx, mut rx): Ends) -> Result<u64, StreamError> {
    let mut count = 0;
    loop {
        match rx.recv().await? {
            StreamItem::Message(message) => tx.send(message).await?,
            StreamItem::Finished(_) => break,
        }
        count += 1;
    }
    tx.finish(Bytes::from(format!("{count}")))?;
    Ok(count)
}

/// Sends so many, reads them back at the same time, and finishes.
async fn talk((mut tx, mut rx): Ends, count: u64, pad: usize) {
    let send = async move {
        for number in 0..count {
            let mut message = number.to_le_bytes().to_vec();
            message.resize(8 + pad, 7);
            tx.send(Bytes::from(message)).await.unwrap();
        }
        tx.finish(Bytes::from_static(b"that is all")).unwrap();
    };
    let read = async move {
        for number in 0..count {
            let StreamItem::Message(message) = rx.recv().await.unwrap() else {
                panic!("ended at {number}");
            };
            assert_eq!(message[..8], number.to_le_bytes());
        }
        let last = StreamItem::Finished(Bytes::from(format!("{count}")));
        assert_eq!(rx.recv().await, Ok(last));
        assert_eq!(rx.recv().await, Err(StreamError::Over));
    };
    tokio::join!(send, read);
}

#[tokio::test]
async fn ten_thousand_messages_go_both_ways_over_tcp_in_order() {
    let ((one, _), (mut two, addr)) = (on_tcp(1).await, on_tcp(2).await);
    one.links.set_peer(NodeId(2), vec![addr]);
    let (near, far) = one.stream(2, &mut two).await;
    let far = tokio::spawn(echo(far));
    talk(near, 10_000, 100).await;
    assert_eq!(far.await.unwrap(), Ok(10_000));
    until("both ends forget it", || {
        let views = [one.links.peers(), two.links.peers()].concat();
        views.iter().all(|view| view.streams == 0)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn many_short_streams_on_many_threads_end_well_and_leave_nothing() {
    let ((one, _), (mut two, addr)) = (on_tcp(1).await, on_tcp(2).await);
    one.links.set_peer(NodeId(2), vec![addr]);
    let serve = tokio::spawn(async move {
        for _ in 0..400 {
            let request = two.requests.recv().await.unwrap();
            tokio::spawn(echo(request.accept(Bytes::new()).unwrap()));
        }
        two
    });
    let mut tasks = Vec::new();
    for count in 0..400 {
        let answer = one.ask_stream(2, b"short");
        tasks.push(tokio::spawn(async move {
            let stream = opened(answer.wait().await);
            let ends = (stream.tx, stream.rx);
            // Some go away in the middle.
            if count % 4 == 0 {
                let _ = timeout(Duration::from_millis(1), talk(ends, 1000, 0)).await;
            } else {
                talk(ends, count % 40, 50).await;
            }
        }));
    }
    for task in tasks {
        task.await.unwrap();
    }
    let two = serve.await.unwrap();
    until("all are over", || {
        let views = [one.links.peers(), two.links.peers()].concat();
        views.iter().all(|view| view.streams == 0)
    })
    .await;
    assert!(two.links.refused().is_empty(), "{:?}", two.links.refused());
    assert_eq!(one.view(2, Class::Data, Direction::Out).reconnects, 0);
}

#[tokio::test(start_paused = true)]
async fn two_hundred_streams_at_once_do_not_mix() {
    let net = Net::new();
    let (one, mut two) = (Node::new(&net, 1), Node::new(&net, 2));
    let mut tasks = Vec::new();
    let mut opened = Vec::new();
    for _ in 0..200 {
        let (near, far) = one.stream(2, &mut two).await;
        opened.push(near);
        tasks.push(tokio::spawn(async { assert_eq!(echo(far).await, Ok(100)) }));
    }
    let view = one.view(2, Class::Data, Direction::Out);
    assert_eq!(
        (view.streams, view.unanswered, view.credit_envelopes),
        (200, 0, 0)
    );
    for (place, near) in opened.into_iter().enumerate() {
        tasks.push(tokio::spawn(talk(near, 100, place * 2)));
    }
    for task in tasks {
        task.await.unwrap();
    }
    until("all are over", || {
        one.view(2, Class::Data, Direction::Out).streams == 0
            && two.view(1, Class::Data, Direction::In).streams == 0
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_reader_that_stops_stops_its_own_stream_and_nothing_else() {
    let net = Net::new();
    let (one, mut two) = (Node::new(&net, 1), Node::new(&net, 2));
    let ((mut small, _small), (_, mut slow)) = one.stream(2, &mut two).await;
    let ((mut large, _large), (_, mut slower)) = one.stream(2, &mut two).await;
    let (near, far) = one.stream(2, &mut two).await;
    let many = u64::from(STREAM_MESSAGES);
    for number in 0..many {
        small
            .send(Bytes::from(vec![number as u8; 10]))
            .await
            .unwrap();
    }
    assert_eq!(small.try_send(Bytes::new()), Ok(false));
    let third = STREAM_BYTES as usize / 3;
    for _ in 0..3 {
        large.send(Bytes::from(vec![1; third])).await.unwrap();
    }
    let stuck = large.send(Bytes::from(vec![2; third]));
    assert!(timeout(Duration::from_secs(30), stuck).await.is_err());

    // Another stream and requests go on, on the same link.
    let far = tokio::spawn(echo(far));
    talk(near, 1000, 1000).await;
    assert_eq!(far.await.unwrap(), Ok(1000));
    for _ in 0..100 {
        let answer = one.send(2, Class::Data, b"ask").unwrap();
        two.requests.recv().await.unwrap().reply(Bytes::from("yes"));
        assert_eq!(answer.wait().await.unwrap().payload, "yes");
    }
    let mut unread = two.unread(1);
    unread.sort_unstable();
    assert_eq!(
        unread,
        [(3, 3 * third), (many as usize, 10 * many as usize)]
    );
    assert_eq!(net.dialled.load(Ordering::Relaxed), 1);

    // Once they are read, they go on.
    for number in 0..many {
        assert_eq!(slow.recv().await, message(vec![number as u8; 10]));
    }
    let (sent, came) = tokio::join!(small.send(Bytes::from("on")), slow.recv());
    assert_eq!((sent, came), (Ok(()), message("on")));
    for _ in 0..3 {
        assert_eq!(slower.recv().await, message(vec![1; third]));
    }
    let (sent, came) = tokio::join!(large.send(Bytes::from("on")), slower.recv());
    assert_eq!((sent, came), (Ok(()), message("on")));
}

#[tokio::test(start_paused = true)]
async fn a_message_larger_than_the_window_passes_alone_and_one_beyond_a_payload_not_at_all() {
    let net = Net::new();
    let (one, mut two) = (Node::new(&net, 1), Node::new(&net, 2));
    let ((mut tx, _rx), (_tx, mut far)) = one.stream(2, &mut two).await;
    let large = Bytes::from(vec![3; 1024 * 1024]);
    for _ in 0..3 {
        let (sent, came) = tokio::join!(tx.send(large.clone()), far.recv());
        assert_eq!((sent, came), (Ok(()), message(large.clone())));
    }
    // What was read and is not worth a word yet is told when the reader waits: else this would stick.
    for size in [100 * 1024, 200 * 1024] {
        let both = async { tokio::join!(tx.send(large.slice(..size)), far.recv()) };
        let both = timeout(Duration::from_secs(60), both).await.unwrap();
        assert_eq!(both, (Ok(()), message(large.slice(..size))));
    }
    let limit = LinkConfig::default().payload_limit;
    let beyond = Bytes::from(vec![0; limit + 1]);
    let length = limit + 1;
    assert_eq!(
        tx.send(beyond).await,
        Err(StreamError::TooLarge { length, limit })
    );
    // The last one is told though nobody reads: it needs no room.
    let nothing = timeout(Duration::from_secs(1), far.recv());
    assert!(nothing.await.is_err());
    tx.send(large.clone()).await.unwrap();
    assert_eq!(tx.try_send(Bytes::new()), Ok(false));
    tx.finish(Bytes::from("unavailable")).unwrap();
    assert_eq!(far.recv().await, message(large));
    assert_eq!(far.recv().await, finished("unavailable"));
}

#[tokio::test(start_paused = true)]
async fn each_direction_ends_on_its_own() {
    let net = Net::new();
    let (one, mut two) = (Node::new(&net, 1), Node::new(&net, 2));
    let ((tx, mut rx), (mut far_tx, mut far_rx)) = one.stream(2, &mut two).await;
    tx.finish(Bytes::from("I have no more to say")).unwrap();
    assert_eq!(far_rx.recv().await, finished("I have no more to say"));
    assert_eq!(far_rx.recv().await, Err(StreamError::Over));
    for number in 0..100u8 {
        let sent = far_tx.send(Bytes::from(vec![number]));
        let (sent, came) = tokio::join!(sent, rx.recv());
        assert_eq!((sent, came), (Ok(()), message(vec![number])));
    }
    far_tx.finish(Bytes::new()).unwrap();
    assert_eq!(rx.recv().await, finished(""));
    until("it is over", || {
        one.view(2, Class::Data, Direction::Out).streams == 2 - 1
    })
    .await;
    drop((rx, far_rx));
    assert_eq!(one.view(2, Class::Data, Direction::Out).streams, 0);
    assert_eq!(two.view(1, Class::Data, Direction::In).streams, 0);
}

#[tokio::test(start_paused = true)]
async fn an_end_that_goes_away_is_noticed_at_the_other_and_late_messages_are_no_defect() {
    let net = Net::new();
    let (mut one, mut two) = (Node::new(&net, 1), Node::new(&net, 2));
    for accepter_first in [false, true] {
        let (near, far) = one.stream(2, &mut two).await;
        let (stays, goes) = if accepter_first {
            (near, far)
        } else {
            (far, near)
        };
        let ((mut tx, mut rx), (mut gone_tx, gone_rx)) = (stays, goes);
        gone_tx.send(Bytes::from("before")).await.unwrap();
        // These are on their way when the other end goes: they cross what it says.
        for _ in 0..STREAM_MESSAGES {
            tx.send(Bytes::from("late")).await.unwrap();
        }
        drop((gone_tx, gone_rx));
        assert_eq!(tx.closed().await, StreamError::Cancelled);
        assert_eq!(tx.send(Bytes::new()).await, Err(StreamError::Cancelled));
        assert_eq!(rx.recv().await, message("before"));
        assert_eq!(rx.recv().await, Err(StreamError::Dropped));
        assert_eq!(rx.recv().await, Err(StreamError::Dropped));
    }
    // A last message that is too large drops its direction.
    let ((tx, _rx), (_tx, mut far)) = one.stream(2, &mut two).await;
    let (length, limit) = (FINAL_MAX + 1, FINAL_MAX);
    let refused = tx.finish(Bytes::from(vec![0; length]));
    assert_eq!(refused, Err(StreamError::TooLarge { length, limit }));
    assert_eq!(far.recv().await, Err(StreamError::Dropped));
    assert_eq!(net.dialled.load(Ordering::Relaxed), 1, "all on one link");
    let down = |event: &LinkEvent| !matches!(event, LinkEvent::Up { .. });
    assert_eq!(one.within(Duration::from_secs(1), down).await, None);
}

#[tokio::test(start_paused = true)]
async fn a_cut_link_ends_its_streams_on_both_sides_with_the_reason_and_requests_go_on() {
    let net = Net::new();
    let (one, mut two) = (Node::new(&net, 1), Node::new(&net, 2));
    let ((mut tx, mut rx), (mut far_tx, mut far_rx)) = one.stream(2, &mut two).await;
    far_tx.send(Bytes::from("was here")).await.unwrap();
    let unread = far_tx.send(Bytes::from("before the cut"));
    assert_eq!(
        (unread.await, rx.recv().await),
        (Ok(()), message("was here"))
    );
    for _ in 0..STREAM_MESSAGES {
        tx.send(Bytes::from("x")).await.unwrap();
    }
    until("all have come", || two.unread(1) == [(32, 32)]).await;
    let answer = one.send(2, Class::Data, b"over the cut").unwrap();
    let mut request = two.requests.recv().await.unwrap();
    assert!(request.start());
    // One that waits for room, and one that waits for what comes.
    let (sends, reads) = (
        tokio::spawn(async move { (tx.send(Bytes::from("y")).await, tx.closed().await) }),
        tokio::spawn(async move {
            let before = rx.recv().await;
            (before, rx.recv().await, rx.recv().await)
        }),
    );
    net.cut();
    let (sent, closed) = sends.await.unwrap();
    let lost = closed.clone();
    assert!(matches!(&lost, StreamError::Lost(why) if !why.is_empty()));
    assert_eq!(sent, Err(closed));
    let read = reads.await.unwrap();
    let lost_then = (
        message("before the cut"),
        Err(lost.clone()),
        Err(lost.clone()),
    );
    assert_eq!(read, lost_then);
    let lost_there = far_tx.closed().await;
    assert!(matches!(&lost_there, StreamError::Lost(_)));
    for _ in 0..STREAM_MESSAGES {
        assert_eq!(
            far_rx.recv().await,
            message("x"),
            "what has come is handed out"
        );
    }
    assert_eq!(far_rx.recv().await, Err(lost_there));
    drop((far_tx, far_rx));

    request.reply(Bytes::from("answered on the next"));
    assert_eq!(answer.wait().await.unwrap().payload, "answered on the next");
    let (near, far) = one.stream(2, &mut two).await;
    let far = tokio::spawn(echo(far));
    talk(near, 50, 0).await;
    assert_eq!(far.await.unwrap(), Ok(50));
    let view = one.view(2, Class::Data, Direction::Out);
    assert_eq!((view.streams, view.reconnects), (0, 1));
    assert_eq!(StreamError::Lost(view.reason.unwrap().into()), lost);
}

/// Reads numbers as they come, each once and in order: how many there were, and whether that was all.
async fn read_numbers(mut rx: StreamRx) -> (u64, bool) {
    let mut next = 0u64;
    loop {
        match rx.recv().await {
            Ok(StreamItem::Message(message)) => {
                assert_eq!(message[..8], next.to_le_bytes());
                next += 1;
            }
            Ok(StreamItem::Finished(last)) => {
                assert_eq!(last[..], next.to_le_bytes(), "none is missing");
                return (next, true);
            }
            Err(error) => {
                assert!(matches!(error, StreamError::Lost(_)), "{error}");
                return (next, false);
            }
        }
    }
}

/// Sends numbers, and finishes with how many: whether that went well.
async fn send_numbers(mut tx: StreamTx, count: u64) -> bool {
    for number in 0..count {
        let mut message = number.to_le_bytes().to_vec();
        message.resize(8 + (number as usize % 7) * 300, 0);
        if let Err(error) = tx.send(Bytes::from(message)).await {
            assert!(matches!(error, StreamError::Lost(_)), "{error}");
            return false;
        }
    }
    tx.finish(Bytes::copy_from_slice(&count.to_le_bytes()))
        .is_ok()
}

#[tokio::test(start_paused = true)]
async fn whatever_breaks_a_stream_is_whole_or_lost_on_both_sides_and_none_is_left_over() {
    const STREAMS: usize = 600;
    const EACH: u64 = 25;
    let net = Net::new();
    net.cut_at_random(Some(5));
    let (one, mut two) = (Node::new(&net, 1), Node::new(&net, 2));
    let (stop, mut stopped) = tokio::sync::oneshot::channel();
    let serve = tokio::spawn(async move {
        let (mut tasks, mut late) = (Vec::new(), 0);
        loop {
            let request = tokio::select! {
                request = two.requests.recv() => request.unwrap(),
                _ = &mut stopped => break,
            };
            match request.accept(Bytes::new()) {
                Ok((tx, rx)) => tasks.push(tokio::spawn(async move {
                    tokio::join!(send_numbers(tx, EACH), read_numbers(rx)).1
                })),
                Err(error) => {
                    assert!(matches!(error, NotAccepted::Replaced), "{error}");
                    late += 1;
                }
            }
        }
        let mut whole = 0;
        for task in tasks {
            whole += usize::from(task.await.unwrap().1);
        }
        (whole, late, two)
    });
    let ask = async |links: Links| {
        let deadline = Instant::now() + LONG;
        let answer = links.request_stream(NodeId(2), Class::Data, 0, Bytes::new(), deadline);
        match answer.unwrap().wait().await.unwrap() {
            Answered::Stream(OpenStream { tx, rx, .. }) => {
                tokio::join!(send_numbers(tx, EACH), read_numbers(rx)).1.1
            }
            // Lost before it was heard of, or dropped by an accept that came too late.
            Answered::Reply(reply) => {
                assert_eq!(reply.outcome, Outcome::Dropped);
                false
            }
        }
    };
    let mut tasks = Vec::new();
    for number in 0..STREAMS {
        tasks.push(tokio::spawn(ask(one.links.clone())));
        if number % 3 == 0 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
    let mut whole = 0;
    for task in tasks {
        whole += usize::from(task.await.unwrap());
    }
    stop.send(()).unwrap();
    let (whole_there, late, two) = serve.await.unwrap();
    let links = net.dialled.load(Ordering::Relaxed);
    assert!(links > 10, "{links} links: they were cut");
    for whole in [whole, whole_there] {
        assert!(
            whole > STREAMS / 4 && whole < STREAMS,
            "{whole} are whole, {late} late"
        );
    }
    until("nobody holds any", || {
        [one.links.peers(), two.links.peers()]
            .concat()
            .iter()
            .all(|view| view.streams == 0)
    })
    .await;
    assert!(
        !two.links.refused().contains_key("protocol_broken"),
        "{:?}",
        two.links.refused()
    );
}

#[tokio::test(start_paused = true)]
async fn a_stream_whose_link_was_lost_before_it_was_heard_of_is_answered_so() {
    let net = Net::new();
    let (one, mut two) = (Node::new(&net, 1), Node::new(&net, 2));
    let answer = one.ask_stream(2, b"subscribe");
    let request = two.requests.recv().await.unwrap();
    net.stall(true);
    let (_tx, mut rx) = request.accept(Bytes::from("never heard")).unwrap();
    net.cut();
    net.stall(false);
    match answer.wait().await.unwrap() {
        Answered::Reply(reply) => assert_eq!(
            (reply.outcome, &reply.payload[..]),
            (Outcome::Dropped, &b"the link of the stream was lost"[..])
        ),
        Answered::Stream(stream) => panic!("{stream:?}"),
    }
    assert!(matches!(rx.recv().await, Err(StreamError::Lost(_))));
    // One that has not started by then is sent again, and accepted on the new link.
    let answer = one.ask_stream(2, b"again");
    let old = two.requests.recv().await.unwrap();
    net.cut();
    let request = two.requests.recv().await.unwrap();
    assert!(matches!(
        old.accept(Bytes::new()),
        Err(NotAccepted::Replaced)
    ));
    let (mut far, _rx) = request.accept(Bytes::from("now")).unwrap();
    let mut near = opened(answer.wait().await);
    assert_eq!(near.first, "now");
    let (sent, came) = tokio::join!(far.send(Bytes::from("1")), near.rx.recv());
    assert_eq!((sent, came), (Ok(()), message("1")));
}

#[tokio::test(start_paused = true)]
async fn the_end_of_a_life_ends_its_streams_at_once() {
    let net = Net::new();
    let (one, mut two) = (Node::new(&net, 1), Node::new(&net, 2));
    let ((mut tx, mut rx), _far) = one.stream(2, &mut two).await;
    one.links.forget_peer(NodeId(2));
    assert_eq!(tx.closed().await, StreamError::Gone);
    assert_eq!(rx.recv().await, Err(StreamError::Gone));

    // A newer life of the dialler takes the place of the older one.
    let three = Node::new(&net, 3);
    let (_near, (mut tx, mut rx)) = three.stream(2, &mut two).await;
    let member = Member {
        id: NodeId(3),
        incarnation: Incarnation(2),
    };
    two.links.set_known(member, BootId(9));
    assert_eq!(tx.send(Bytes::new()).await, Err(StreamError::Gone));
    assert_eq!(rx.recv().await, Err(StreamError::Gone));

    // And so does the end of one's own links, whoever had dialled.
    let net = Net::new();
    let (mut one, mut two) = (Node::new(&net, 1), Node::new(&net, 2));
    let (_near, (mut tx, mut rx)) = one.stream(2, &mut two).await;
    let ((mut dialled, _rx), _far) = two.stream(1, &mut one).await;
    drop(two.links);
    assert_eq!(dialled.closed().await, StreamError::Gone);
    assert_eq!(tx.closed().await, StreamError::Gone);
    assert_eq!(rx.recv().await, Err(StreamError::Gone));
}

#[tokio::test(start_paused = true)]
async fn a_deadline_is_that_of_the_answer_and_whoever_waits_no_more_drops_the_stream() {
    let net = Net::new();
    let (one, mut two) = (Node::new(&net, 1), Node::new(&net, 2));
    let ask = || {
        let deadline = Instant::now() + Duration::from_secs(1);
        one.links
            .request_stream(NodeId(2), Class::Data, 1, Bytes::new(), deadline)
            .unwrap()
    };
    let answer = ask();
    let request = two.requests.recv().await.unwrap();
    let (mut tx, _far) = request.accept(Bytes::new()).unwrap();
    let mut near = opened(answer.wait().await);
    let long = timeout(Duration::from_secs(300), near.rx.recv());
    assert!(long.await.is_err(), "it lives long after the deadline");
    let (sent, came) = tokio::join!(tx.send(Bytes::from("1")), near.rx.recv());
    assert_eq!((sent, came), (Ok(()), message("1")));

    let answer = ask();
    let request = two.requests.recv().await.unwrap();
    assert!(matches!(answer.wait().await, Err(RequestError::Deadline)));
    let (mut tx, mut rx) = request.accept(Bytes::new()).unwrap();
    assert_eq!(tx.closed().await, StreamError::Cancelled);
    assert_eq!(rx.recv().await, Err(StreamError::Dropped));
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_cannot_be_accepted_leaves_the_request_to_be_answered() {
    let net = Net::new();
    let config = LinkConfig {
        streams: 2,
        ..LinkConfig::default()
    };
    let (one, mut two) = (
        Node::new(&net, 1),
        Node::with(&net, identity(2, 1, 1002), config),
    );
    let answer = one.send(2, Class::Data, b"x").unwrap();
    let request = two.requests.recv().await.unwrap();
    let Err(NotAccepted::NotWanted(request)) = request.accept(Bytes::new()) else {
        panic!("it wants one answer");
    };
    request.reply(Bytes::from("one answer"));
    assert_eq!(answer.wait().await.unwrap().payload, "one answer");

    let held = [one.stream(2, &mut two).await, one.stream(2, &mut two).await];
    let answer = one.ask_stream(2, b"a third");
    let request = two.requests.recv().await.unwrap();
    let Err(NotAccepted::TooMany { limit: 2, request }) = request.accept(Bytes::new()) else {
        panic!("there are two");
    };
    request.bounce(Bytes::from("overloaded"));
    match answer.wait().await.unwrap() {
        Answered::Reply(reply) => assert_eq!(
            (reply.outcome, reply.payload),
            (Outcome::NotStarted, Bytes::from("overloaded"))
        ),
        Answered::Stream(stream) => panic!("{stream:?}"),
    }
    drop(held);
    let answer = one.ask_stream(2, b"there is room");
    let request = two.requests.recv().await.unwrap();
    let limit = LinkConfig::default().payload_limit;
    let refused = request.accept(Bytes::from(vec![0; limit + 1]));
    let Err(NotAccepted::TooLarge { request, .. }) = refused else {
        panic!("it is too large");
    };
    assert!(request.accept(Bytes::from("fits")).is_ok());
    assert_eq!(opened(answer.wait().await).first, "fits");
}
