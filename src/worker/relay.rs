//! Relays that are sockets: a door that workers connect to, and whose each connection is.
//!
//! Pools with one address share its door, so that a reload finds it open. Every connection shakes hands
//! in a task of its own, within a limit: a stranger, or garbage, keeps nobody else out. A connection
//! belongs to the process that we started and whose group it comes from, as the kernel says of a unix
//! socket (so a shell in between does no harm), or whose pid or group it reports, on TCP.

use super::link::Relay;
use crate::config::RpcAddress;
use crate::engine::faults::Throttle;
use crate::goridge::{Decoder, Flags, Frame};
use crate::rpc::Door;
use bytes::BytesMut;
use serde::Deserialize;
use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout};

/// How long a connection may take to say who it is, unless it is that of a process which we wait for.
const SHAKE: Duration = Duration::from_secs(10);
/// The longest answer to the question for a pid, in bytes.
const ANSWER: usize = 4096;
/// Connections that shake hands, or wait for their worker to be told of; the oldest makes room.
const STRANGERS: usize = 256;
/// How long accepting rests after it failed.
const REST: Duration = Duration::from_millis(50);

/// Why a connection is nobody's worker.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Stranger {
    /// It closed, or said nothing in time, or what it said is no frame.
    #[error("{0}")]
    Line(String),
    /// Its answer is none.
    #[error("unexpected response, header is missing, no CONTROL flag")]
    NoControl,
    /// Its pid is no JSON.
    #[error("its pid is no JSON")]
    NoJson,
    /// Its pid is none.
    #[error("pid should be greater than 0")]
    NoPid,
}

impl Stranger {
    fn line(why: impl fmt::Display) -> Self {
        Self::Line(why.to_string())
    }
}

/// A connection that has shaken hands, or why it could not.
type Shaken = Result<Relay, Stranger>;

/// A connection that nobody has asked for yet.
#[derive(Debug)]
struct Arrived {
    shaken: Shaken,
    /// Processes that it may be of: its group, the pid that it reports.
    of: Vec<u32>,
    since: Instant,
}

#[derive(Debug, Default)]
struct Waiting {
    workers: HashMap<u32, oneshot::Sender<Shaken>>,
    arrived: Vec<Arrived>,
}

/// A door that is open as long as somebody holds it.
#[derive(Debug)]
pub(crate) struct RelayDoor {
    waiting: Arc<Mutex<Waiting>>,
    accepting: JoinHandle<()>,
    path: Option<std::path::PathBuf>,
}

impl Drop for RelayDoor {
    fn drop(&mut self) {
        self.accepting.abort();
        if let Some(path) = &self.path {
            // It may be gone already.
            drop(std::fs::remove_file(path));
        }
    }
}

/// The doors that are open, by address.
static DOORS: Mutex<Option<HashMap<String, Weak<RelayDoor>>>> = Mutex::new(None);

/// The door of an address: the one that is open, or a new one, which `owner` may use as well.
///
/// # Errors
/// The address can't be listened on.
pub(crate) async fn open(
    address: &RpcAddress,
    owner: Option<(u32, u32)>,
) -> io::Result<Arc<RelayDoor>> {
    let name = address.to_string();
    if let Some(door) = known(&name) {
        return Ok(door);
    }
    let door = Door::bind(address).await?;
    let path = match &door {
        Door::Unix(_, path) => {
            admit(path, owner)?;
            Some(path.clone())
        }
        Door::Tcp(_) => None,
    };
    let waiting = Arc::<Mutex<Waiting>>::default();
    let accepting = tokio::spawn(accept(door, Arc::clone(&waiting), name.clone()));
    let door = Arc::new(RelayDoor {
        waiting,
        accepting,
        path,
    });
    let mut doors = DOORS.lock().unwrap_or_else(PoisonError::into_inner);
    let doors = doors.get_or_insert_default();
    doors.retain(|_, door| door.strong_count() > 0);
    doors.insert(name, Arc::downgrade(&door));
    Ok(door)
}

fn known(name: &str) -> Option<Arc<RelayDoor>> {
    let doors = DOORS.lock().unwrap_or_else(PoisonError::into_inner);
    doors.as_ref()?.get(name)?.upgrade()
}

/// Only we and the workers' user reach a unix socket.
fn admit(path: &Path, owner: Option<(u32, u32)>) -> io::Result<()> {
    let owner_only = std::fs::Permissions::from_mode(0o600);
    std::fs::set_permissions(path, owner_only)?;
    if let Some((user, group)) = owner {
        std::os::unix::fs::chown(path, Some(user), Some(group))?;
    }
    Ok(())
}

impl RelayDoor {
    /// Waits for the connection of a process that was started just now.
    ///
    /// # Errors
    /// It came, and did not shake hands.
    pub(crate) async fn connection_of(&self, pid: u32) -> Result<Relay, Stranger> {
        let (tell, told) = oneshot::channel();
        let _forget = Forget(&self.waiting, pid);
        {
            let mut waiting = lock(&self.waiting);
            let here = waiting.arrived.iter().position(|it| it.of.contains(&pid));
            if let Some(here) = here {
                return waiting.arrived.swap_remove(here).shaken;
            }
            waiting.workers.insert(pid, tell);
        }
        let closed = || Stranger::Line("the relay was closed".to_owned());
        told.await.unwrap_or_else(|_| Err(closed()))
    }
}

/// Nobody waits for the connection of a process any more.
struct Forget<'a>(&'a Mutex<Waiting>, u32);

impl Drop for Forget<'_> {
    fn drop(&mut self) {
        lock(self.0).workers.remove(&self.1);
    }
}

fn lock(waiting: &Mutex<Waiting>) -> std::sync::MutexGuard<'_, Waiting> {
    waiting.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn accept(door: Door, waiting: Arc<Mutex<Waiting>>, name: String) {
    let mut shaking = Shaking::default();
    let failures = Throttle::default();
    loop {
        let taken = match &door {
            Door::Unix(listener, _) => match listener.accept().await {
                Ok((stream, _)) => stream
                    .peer_cred()
                    .map(|peer| Line::Unix(stream, peer.pid().unwrap_or_default())),
                Err(why) => Err(why),
            },
            Door::Tcp(listener) => listener
                .accept()
                .await
                .and_then(|(stream, _)| stream.set_nodelay(true).map(|()| Line::Tcp(stream))),
        };
        match taken {
            Ok(line) => {
                if shaking.make_room() {
                    tracing::warn!(
                        relay = name,
                        "too many connections shake hands: the oldest was closed"
                    );
                }
                let (waiting, name) = (Arc::clone(&waiting), name.clone());
                shaking.0.push_back(tokio::spawn(async move {
                    let (shaken, of) = greet(line, &waiting).await;
                    if let Err(why) = &shaken {
                        tracing::warn!(relay = name, "a connection is no worker: {why}");
                    }
                    arrive(&waiting, shaken, of);
                }));
            }
            Err(why) => {
                if let Some(count) = failures.pass() {
                    tracing::warn!(relay = name, count, "workers can't connect: {why}");
                }
                tokio::time::sleep(REST).await;
            }
        }
    }
}

/// The connections that shake hands, in the order in which they came; closed when this is dropped.
#[derive(Debug, Default)]
struct Shaking(VecDeque<JoinHandle<()>>);

impl Shaking {
    /// Leaves room for one more; whether the oldest had to be closed for it.
    fn make_room(&mut self) -> bool {
        if self.0.len() < STRANGERS {
            return false;
        }
        self.0.retain(|it| !it.is_finished());
        if self.0.len() < STRANGERS {
            return false;
        }
        if let Some(oldest) = self.0.pop_front() {
            oldest.abort();
        }
        true
    }
}

impl Drop for Shaking {
    fn drop(&mut self) {
        self.0.iter().for_each(JoinHandle::abort);
    }
}

/// A connection, and for a unix socket the process at its other end.
enum Line {
    Unix(tokio::net::UnixStream, i32),
    Tcp(tokio::net::TcpStream),
}

/// Shakes hands; gives the processes as well that the connection may be of.
async fn greet(line: Line, waiting: &Mutex<Waiting>) -> (Shaken, Vec<u32>) {
    match line {
        Line::Unix(mut stream, peer) => {
            // What it reports is not needed: the kernel knows better.
            let of = group_of(peer).into_iter().chain(u32::try_from(peer));
            let of: Vec<u32> = of.collect();
            let is_awaited = || of.iter().any(|pid| lock(waiting).workers.contains_key(pid));
            let shaken = within(shake(&mut stream), is_awaited).await;
            let relay = shaken.and_then(|_| stream.into_std().map_err(Stranger::line));
            (relay.map(Relay::Unix), of)
        }
        Line::Tcp(mut stream) => {
            // Whose it is shows in its answer alone.
            let shaken = within(shake(&mut stream), || false).await;
            let pid = shaken
                .as_ref()
                .ok()
                .and_then(|pid| i32::try_from(*pid).ok());
            let of = pid.and_then(group_of).into_iter();
            let of = of.chain(pid.and_then(|pid| u32::try_from(pid).ok()));
            let relay = shaken.and_then(|_| stream.into_std().map_err(Stranger::line));
            (relay.map(Relay::Tcp), of.collect())
        }
    }
}

/// Gives a connection its time, and more as long as it is that of a worker whose start has its own
/// limit (`allocate_timeout`).
async fn within<T>(
    work: impl Future<Output = Result<T, Stranger>>,
    is_awaited: impl Fn() -> bool,
) -> Result<T, Stranger> {
    let mut work = std::pin::pin!(work);
    loop {
        match timeout(SHAKE, &mut work).await {
            Ok(done) => return done,
            Err(_) if is_awaited() => {}
            Err(_) => return Err(Stranger::line(format!("no answer within {SHAKE:?}"))),
        }
    }
}

/// The group of a process, which for what we start has the number of the process itself. `None` for
/// one that is not there, and for those of the kernel, which are in none.
fn group_of(pid: i32) -> Option<u32> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // Behind the name, which may hold anything: state, parent, group.
    let (_, rest) = stat.rsplit_once(") ")?;
    let group: u32 = rest.split(' ').nth(2)?.parse().ok()?;
    (group > 0).then_some(group)
}

fn arrive(waiting: &Mutex<Waiting>, mut shaken: Shaken, of: Vec<u32>) {
    let mut waiting = lock(waiting);
    let since = Instant::now();
    waiting.arrived.retain(|it| since - it.since < SHAKE);
    if waiting.arrived.len() >= STRANGERS {
        waiting.arrived.remove(0);
    }
    for pid in &of {
        if let Some(tell) = waiting.workers.remove(pid) {
            match tell.send(shaken) {
                Ok(()) => return,
                Err(back) => shaken = back,
            }
        }
    }
    // Its worker may not have been told of yet.
    waiting.arrived.push(Arrived { shaken, of, since });
}

/// Asks who is there; gives the pid that it reports.
async fn shake(stream: &mut (impl AsyncRead + AsyncWrite + Unpin)) -> Result<i64, Stranger> {
    let mut question = BytesMut::new();
    // A short frame always fits.
    let _ = Frame::pid(std::process::id()).encode(&mut question);
    stream.write_all(&question).await.map_err(Stranger::line)?;
    let mut decoder = Decoder::new(ANSWER);
    let mut input = BytesMut::new();
    loop {
        if let Some(frame) = decoder.next(&mut input).map_err(Stranger::line)? {
            return pid_in(&frame);
        }
        let read = stream.read_buf(&mut input).await;
        if read.map_err(Stranger::line)? == 0 {
            return Err(Stranger::line("Network: EOF"));
        }
    }
}

/// The pid that a worker answers with.
///
/// # Errors
/// It is none.
pub(super) fn pid_in(frame: &Frame) -> Result<i64, Stranger> {
    #[derive(Deserialize)]
    struct Answer {
        pid: i64,
    }
    if !frame.flags.has(Flags::CONTROL) {
        return Err(Stranger::NoControl);
    }
    let answer: Answer = serde_json::from_slice(&frame.payload).map_err(|_| Stranger::NoJson)?;
    (answer.pid > 0)
        .then_some(answer.pid)
        .ok_or(Stranger::NoPid)
}

/// For fuzzing: what a stranger says as its first frames is a pid, or refused.
pub(crate) fn fuzz_pid(bytes: &[u8]) {
    let mut decoder = Decoder::new(ANSWER);
    let mut input = BytesMut::from(bytes);
    while let Ok(Some(frame)) = decoder.next(&mut input) {
        if let Ok(pid) = pid_in(&frame) {
            assert!(pid > 0 && frame.flags.has(Flags::CONTROL), "{pid}");
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use tokio::net::UnixStream;
    use tokio::time::sleep;

    /// A connection of this process, with its other end at a door.
    fn connected() -> (UnixStream, Line) {
        let (near, far) = UnixStream::pair().unwrap();
        (near, Line::Unix(far, std::process::id().cast_signed()))
    }

    #[tokio::test(start_paused = true)]
    async fn a_worker_that_connects_first_may_boot_for_longer_than_a_stranger_may_be_silent() {
        let waiting = Mutex::<Waiting>::default();
        let (mut near, line) = connected();
        let (tell, _told) = oneshot::channel();
        lock(&waiting).workers.insert(std::process::id(), tell);
        let booting = async {
            sleep(SHAKE * 4).await;
            let mut answer = BytesMut::new();
            Frame::pid(std::process::id()).encode(&mut answer).unwrap();
            near.write_all(&answer).await.unwrap();
        };
        let ((shaken, _), ()) = tokio::join!(greet(line, &waiting), booting);
        assert!(shaken.is_ok(), "{shaken:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_that_nobody_waits_for_is_given_up_after_ten_seconds() {
        let waiting = Mutex::<Waiting>::default();
        let start = Instant::now();
        let (_near, line) = connected();
        let (shaken, _) = greet(line, &waiting).await;
        let late = Stranger::line("no answer within 10s");
        assert_eq!(shaken.err(), Some(late));
        assert!(start.elapsed() < SHAKE * 2);
    }

    #[test]
    fn the_group_of_a_process_is_known_and_what_is_none_has_none() {
        let own = std::process::id().cast_signed();
        let group = u32::try_from(rustix::process::getpgrp().as_raw_nonzero().get());
        assert_eq!(group_of(own), group.ok());
        // Those of the kernel are in group 0.
        let of_kernel = |stat: &str| {
            stat.rsplit_once(") ")
                .is_some_and(|it| it.1.contains(" 0 0 0 "))
        };
        for pid in 1..40 {
            let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"));
            if stat.is_ok_and(|stat| of_kernel(&stat)) {
                assert_eq!(group_of(pid), None, "{pid}");
            }
        }
        assert_eq!([-1, 0, i32::MAX].map(group_of), [None; 3]);
    }
}
