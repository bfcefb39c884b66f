//! `rpc.fallback`: calls of services that are not here, passed on to another RPC server.
//!
//! Each connection of ours that needs it gets one of its own there, so that numbers of different
//! callers can't meet; frames cross unchanged both ways. While the other server is gone, calls are
//! answered with an error and each of them tries to reach it again.

use super::Codec;
use super::room::Place;
use super::server::{Answer, CHUNK, LONGEST, error};
use crate::config::RpcAddress;
use crate::goridge::{Decoder, Frame};
use bytes::{Bytes, BytesMut};
use std::collections::{HashMap, VecDeque};
use std::io;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::mpsc;
use tokio::time::timeout;

/// How long a connection may take to be made.
const CONNECT: Duration = Duration::from_secs(2);
/// Calls that wait to be written.
const WAITING: usize = 16;
/// Above so many bytes that wait to be written, no more calls are taken.
const UNWRITTEN: usize = 1 << 20;

/// A call to pass on.
#[derive(Debug)]
pub(super) struct Passed {
    /// As it came.
    pub(super) frame: Frame,
    /// Service and method.
    pub(super) method: String,
    /// Its number.
    pub(super) seq: u32,
    /// How an error has to be written.
    pub(super) codec: Codec,
    /// Given back with the answer.
    pub(super) place: Place,
}

/// A call that waits for its answer.
#[derive(Debug)]
struct Waiting {
    method: String,
    codec: Codec,
    place: Place,
}

/// Those calls by number; callers may use a number again before its answer came.
type Pending = HashMap<u32, VecDeque<Waiting>>;

/// Why the connection to the other server is over.
#[derive(Debug)]
enum End {
    /// Nobody is left who wants answers.
    Done,
    /// It broke.
    Broken(String),
}

/// Passes calls on until the sender is dropped and everything is answered.
pub(super) fn start(address: &RpcAddress, answers: mpsc::Sender<Answer>) -> mpsc::Sender<Passed> {
    let (calls, incoming) = mpsc::channel(WAITING);
    tokio::spawn(run(address.clone(), incoming, answers));
    calls
}

async fn run(
    address: RpcAddress,
    mut calls: mpsc::Receiver<Passed>,
    answers: mpsc::Sender<Answer>,
) {
    while let Some(first) = calls.recv().await {
        let mut pending = Pending::new();
        let end = match connect(&address).await {
            Ok(stream) => exchange(stream, first, &mut calls, &answers, &mut pending).await,
            Err(why) => {
                wait(&mut pending, first);
                End::Broken(why.to_string())
            }
        };
        let End::Broken(why) = end else { return };
        let text = format!("`rpc.fallback = \"{address}\"` did not answer: {why}");
        for (seq, waiting) in pending {
            for Waiting {
                method,
                codec,
                place,
            } in waiting
            {
                let bytes = error(codec, seq, &method, &text);
                if answers.send(Answer::new(bytes, place)).await.is_err() {
                    return;
                }
            }
        }
    }
}

/// A connection of either kind.
trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

async fn connect(address: &RpcAddress) -> io::Result<Box<dyn Stream>> {
    let connecting = async {
        Ok::<Box<dyn Stream>, io::Error>(match address {
            RpcAddress::Tcp { host, port } => {
                let stream = TcpStream::connect(format!("{host}:{port}")).await?;
                // Without it small calls wait for each other; not having it harms nobody.
                drop(stream.set_nodelay(true));
                Box::new(stream)
            }
            RpcAddress::Unix(path) => Box::new(UnixStream::connect(path).await?),
        })
    };
    let late = || io::Error::new(io::ErrorKind::TimedOut, "no connection within 2s");
    timeout(CONNECT, connecting).await.map_err(|_| late())?
}

fn wait(pending: &mut Pending, passed: Passed) -> Frame {
    let Passed {
        frame,
        method,
        seq,
        codec,
        place,
    } = passed;
    pending.entry(seq).or_default().push_back(Waiting {
        method,
        codec,
        place,
    });
    frame
}

/// Calls out, answers back, over one connection. What is left in `pending` has no answer.
async fn exchange(
    stream: Box<dyn Stream>,
    first: Passed,
    calls: &mut mpsc::Receiver<Passed>,
    answers: &mpsc::Sender<Answer>,
    pending: &mut Pending,
) -> End {
    let (mut read, mut write) = tokio::io::split(stream);
    let mut decoder = Decoder::new(LONGEST);
    let (mut input, mut output) = (BytesMut::new(), BytesMut::new());
    let mut more = true;
    // What was read as a frame can be written as one.
    wait(pending, first).encode(&mut output).ok();
    loop {
        if !more && pending.is_empty() {
            return End::Done;
        }
        input.reserve(CHUNK);
        tokio::select! {
            call = calls.recv(), if more && output.len() < UNWRITTEN => match call {
                Some(call) => {
                    wait(pending, call).encode(&mut output).ok();
                }
                None => more = false,
            },
            written = write.write_buf(&mut output), if !output.is_empty() => {
                if let Err(why) = written {
                    return End::Broken(why.to_string());
                }
            }
            read = read.read_buf(&mut input) => match read {
                Ok(0) => return End::Broken("it closed the connection".to_owned()),
                Ok(_) => {
                    if let Err(end) = take(&mut decoder, &mut input, pending, answers).await {
                        return end;
                    }
                }
                Err(why) => return End::Broken(why.to_string()),
            },
            () = answers.closed() => return End::Done,
        }
    }
}

/// Hands on every answer that is complete.
async fn take(
    decoder: &mut Decoder,
    input: &mut BytesMut,
    pending: &mut Pending,
    answers: &mpsc::Sender<Answer>,
) -> Result<(), End> {
    let broken = |why: &dyn std::fmt::Display| End::Broken(why.to_string());
    while let Some(frame) = decoder.next(input).map_err(|why| broken(&why))? {
        let seq = frame.as_call().map_err(|why| broken(&why))?.seq;
        let Some(waiting) = pending.get_mut(&seq).and_then(VecDeque::pop_front) else {
            tracing::debug!(seq, "an answer of `rpc.fallback` that nobody waits for");
            continue;
        };
        if pending.get(&seq).is_some_and(VecDeque::is_empty) {
            pending.remove(&seq);
        }
        let mut bytes = BytesMut::new();
        // What was read as a frame can be written as one.
        frame.encode(&mut bytes).ok();
        let answer = Answer::new(Bytes::from(bytes), waiting.place);
        answers.send(answer).await.map_err(|_| End::Done)?;
    }
    Ok(())
}
