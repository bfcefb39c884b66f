//! Peers that do not keep to the protocol of streams: each loses its link, for a reason that is told.

use tokio::io::AsyncWriteExt;

use super::*;
use crate::peer::frame::{Envelope, FrameReader, frame};
use crate::peer::handshake::{self, Security, Shaken};
use crate::peer::transport::BoxStream;
use crate::peer::{FINAL_MAX, NotAccepted, STREAM_MESSAGES, SecurityConfig};

const LIMIT: usize = 8 * 1024 * 1024;

fn security() -> Security {
    Security::new(SecurityConfig::default()).unwrap()
}

/// A peer that says what a test makes it say.
struct Raw {
    reader: FrameReader<tokio::io::ReadHalf<BoxStream>>,
    write: tokio::io::WriteHalf<BoxStream>,
}

impl Raw {
    fn new(shaken: Shaken) -> Self {
        let (read, write) = tokio::io::split(shaken.stream);
        Self {
            reader: FrameReader::new(read, LIMIT),
            write,
        }
    }

    /// Node 1 dials node 2.
    async fn dial(net: &Arc<Net>, link: u64) -> Self {
        let connection = net.node("1").dial("2").await.unwrap();
        let (me, to, open) = (identity(1, 1, 1001), Some(NodeId(2)), security());
        let shaken = handshake::dial(connection, &me, &open, Class::Data, link, to);
        let mut raw = Self::new(shaken.await.unwrap());
        raw.until(|envelope| matches!(envelope, Envelope::Welcome { .. }))
            .await;
        raw
    }

    /// Node 2 takes a link.
    async fn listen(door: &Arc<net::Mem>) -> Self {
        let connection = door.accept().await.unwrap();
        let shaken = handshake::listen(connection, &identity(2, 1, 1002), &security()).await;
        let mut raw = Self::new(shaken.unwrap());
        let (protocol, started) = (1, Vec::new());
        raw.say(&[Envelope::Welcome { protocol, started }]).await;
        raw
    }

    async fn say(&mut self, batch: &[Envelope]) {
        self.write.write_all(&frame(batch)).await.unwrap();
    }

    /// The next envelope of that kind.
    async fn until(&mut self, wanted: impl Fn(&Envelope) -> bool) -> Envelope {
        loop {
            let batch = self.reader.next().await.unwrap();
            if let Some(found) = batch.into_iter().find(&wanted) {
                return found;
            }
        }
    }
}

fn ask(id: u64, stream: bool) -> Envelope {
    Envelope::Request {
        id,
        deadline_ms: 1_000_000,
        kind: 0,
        stream,
        payload: Bytes::new(),
    }
}

fn data(id: u64, bytes: usize) -> Envelope {
    Envelope::StreamData {
        id,
        payload: Bytes::from(vec![0; bytes]),
    }
}

fn end(id: u64, bytes: usize) -> Envelope {
    Envelope::StreamEnd {
        id,
        payload: Bytes::from(vec![0; bytes]),
    }
}

fn credit(id: u64, messages: u32, bytes: u64) -> Envelope {
    Envelope::StreamCredit {
        id,
        messages,
        bytes,
    }
}

#[tokio::test(start_paused = true)]
async fn a_dialler_that_breaks_the_protocol_of_streams_loses_its_link_with_one_reason() {
    let net = Net::new();
    let mut two = Node::new(&net, 2);
    let window = vec![data(1, 10); STREAM_MESSAGES as usize + 1];
    let beyond = "a stream goes beyond its window";
    let defects = [
        (window, beyond),
        (vec![data(1, 200_000), data(1, 100_000)], beyond),
        (vec![data(1, 300_000), data(1, 0)], beyond),
        (
            vec![end(1, 0), data(1, 1)],
            "a message after the end of its stream",
        ),
        (
            vec![Envelope::StreamDropped { id: 1 }, end(1, 0)],
            "a stream ends twice",
        ),
        (
            vec![end(1, FINAL_MAX + 1)],
            "the last message of a stream is too large",
        ),
        (vec![data(9, 1)], "it speaks of a stream that is not open"),
        (
            vec![credit(9, 1, 1)],
            "it speaks of a stream that is not open",
        ),
        (
            vec![Envelope::StreamCancelled { id: 9 }],
            "it speaks of a stream that is not open",
        ),
        (vec![credit(1, 1, 3)], "more of a stream was read than sent"),
        (vec![credit(1, 2, 2)], "more of a stream was read than sent"),
        (vec![credit(1, 0, 0)], "more of a stream was read than sent"),
        (
            vec![Envelope::StreamOpened {
                id: 1,
                load: 0,
                payload: Bytes::new(),
            }],
            "a dialler sends requests, casts, streams and confirmations",
        ),
    ];
    let count = defects.len();
    for (place, (defect, expected)) in defects.into_iter().enumerate() {
        // Ids rise across links: each defect is told in terms of the stream of its own.
        let id = 1 + place as u64;
        let shift = |envelope: Envelope| renumber(envelope, id - 1);
        let mut raw = Raw::dial(&net, id).await;
        raw.say(&[ask(id, true)]).await;
        let request = two.requests.recv().await.unwrap();
        let (mut tx, mut rx) = request.accept(Bytes::from("yes")).unwrap();
        raw.until(|envelope| matches!(envelope, Envelope::StreamOpened { .. }))
            .await;
        tx.send(Bytes::from("ab")).await.unwrap();
        raw.until(|envelope| matches!(envelope, Envelope::StreamData { .. }))
            .await;
        let defect: Vec<_> = defect.into_iter().map(shift).collect();
        raw.say(&defect).await;
        let broken = format!("the peer breaks the protocol: {expected}");
        assert_eq!(two.refusal().await, broken);
        assert_eq!(tx.closed().await, StreamError::Lost(broken.into()));
        while let Ok(item) = rx.recv().await {
            assert!(matches!(
                item,
                StreamItem::Message(_) | StreamItem::Finished(_)
            ));
        }
    }
    assert_eq!(
        two.links.refused(),
        [("protocol_broken", count as u64)].into()
    );
}

fn renumber(mut envelope: Envelope, by: u64) -> Envelope {
    match &mut envelope {
        Envelope::StreamData { id, .. }
        | Envelope::StreamEnd { id, .. }
        | Envelope::StreamCredit { id, .. }
        | Envelope::StreamDropped { id }
        | Envelope::StreamCancelled { id }
        | Envelope::StreamOpened { id, .. } => *id += by,
        _ => {}
    }
    envelope
}

#[tokio::test(start_paused = true)]
async fn what_crosses_the_end_of_a_stream_is_no_defect() {
    let net = Net::new();
    let mut two = Node::new(&net, 2);
    let mut raw = Raw::dial(&net, 1).await;
    raw.say(&[ask(1, true)]).await;
    let request = two.requests.recv().await.unwrap();
    let (mut tx, rx) = request.accept(Bytes::new()).unwrap();
    tx.send(Bytes::from("ab")).await.unwrap();
    tx.finish(Bytes::new()).unwrap();
    drop(rx);
    let cancelled = |envelope: &Envelope| matches!(envelope, Envelope::StreamCancelled { id: 1 });
    raw.until(cancelled).await;
    // Messages that were on their way, the end, and what a reader says of a stream that is over.
    raw.say(&[data(1, 10), data(1, 10), Envelope::StreamDropped { id: 1 }])
        .await;
    raw.say(&[credit(1, 1, 2), Envelope::StreamCancelled { id: 1 }])
        .await;
    raw.say(&[ask(2, false)]).await;
    two.requests
        .recv()
        .await
        .unwrap()
        .reply(Bytes::from("still here"));
    raw.until(|envelope| matches!(envelope, Envelope::Reply { id: 2, .. }))
        .await;
    assert!(two.links.refused().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_cancelled_stream_whose_writer_goes_on_is_held_to_its_window() {
    let net = Net::new();
    let mut two = Node::new(&net, 2);
    let mut raw = Raw::dial(&net, 1).await;
    raw.say(&[ask(1, true)]).await;
    let request = two.requests.recv().await.unwrap();
    drop(request.accept(Bytes::new()).unwrap());
    let cancelled = |envelope: &Envelope| matches!(envelope, Envelope::StreamCancelled { id: 1 });
    raw.until(cancelled).await;
    raw.say(&vec![data(1, 10); STREAM_MESSAGES as usize]).await;
    until("they have come", || {
        two.view(1, Class::Data, Direction::In).streams == 1
    })
    .await;
    assert_eq!(two.unread(1), [(0, 0)], "none is kept");
    raw.say(&[data(1, 10)]).await;
    let why = two.refusal().await;
    assert!(why.ends_with("a stream goes beyond its window"), "{why}");
}

#[tokio::test(start_paused = true)]
async fn a_listener_that_breaks_the_protocol_of_streams_loses_its_link_with_one_reason() {
    let opened = |id| Envelope::StreamOpened {
        id,
        load: 0,
        payload: Bytes::new(),
    };
    for (stream, defect, expected) in [
        (false, vec![opened(1)], "a stream that nobody asked for"),
        (true, vec![opened(2)], "a stream that nobody asked for"),
        (
            true,
            vec![opened(1), opened(1)],
            "a stream that nobody asked for",
        ),
        (
            true,
            vec![opened(1), data(2, 1)],
            "it speaks of a stream that is not open",
        ),
        (
            true,
            vec![opened(1), data(1, 300_000), data(1, 0)],
            "a stream goes beyond its window",
        ),
    ] {
        let net = Net::new();
        let (door, mut one) = (net.node("2"), Node::new(&net, 1));
        let (_plain, _stream);
        if stream {
            _stream = one.ask_stream(2, b"x");
        } else {
            _plain = one.send(2, Class::Data, b"x").unwrap();
        }
        let mut raw = Raw::listen(&door).await;
        raw.until(|envelope| matches!(envelope, Envelope::Request { id: 1, .. }))
            .await;
        raw.say(&defect).await;
        let broken = format!("the peer breaks the protocol: {expected}");
        assert_eq!(one.refusal().await, broken);
        let view = one.view(2, Class::Data, Direction::Out);
        assert_eq!(view.reason, Some(broken));
    }
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_does_not_read_gets_no_more_streams() {
    let net = Net::new();
    let mut two = Node::new(&net, 2);
    let mut raw = Raw::dial(&net, 1).await;
    let (first, mut held) = (Bytes::from(vec![0; 1024 * 1024]), Vec::new());
    let refused = loop {
        raw.say(&[ask(1 + held.len() as u64, true)]).await;
        let request = two.requests.recv().await.unwrap();
        match request.accept(first.clone()) {
            Ok(ends) => held.push(ends),
            Err(error) => break error,
        }
    };
    assert!(matches!(refused, NotAccepted::TooMany { .. }), "{refused}");
    assert!((64..70).contains(&held.len()), "{} MiB wait", held.len());
}
