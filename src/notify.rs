//! What the service manager that started the process is told: ready, reloading, stopping, alive.
//!
//! systemd and its kin listen on a datagram socket that `NOTIFY_SOCKET` names (`sd_notify(3)`).
//! Without one every method does nothing. A manager that is gone or does not read is never in the
//! way: a message is given up after a few seconds, and the first failure is logged.
//!
//! Keepalives for `WATCHDOG_USEC` are no blind timer: each one leaves only after the runtime of the
//! node and every one of its cores has run a task, so they stop while code holds a core.

use crate::node::{Node, Pulse};
use std::env;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram as StdDatagram};
use std::process;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::net::UnixDatagram;
use tokio::task::JoinHandle;
use tokio::time::timeout;

/// How long the manager may take to accept a message.
const SEND_TIMEOUT: Duration = Duration::from_secs(5);
/// What a stop may take beyond the grace: the last bytes, the threads.
const STOP_MARGIN: Duration = Duration::from_secs(5);
/// Keepalives in the time that the manager allows between two; `sd_watchdog_enabled(3)` asks for two.
const BEATS: u32 = 4;

/// The way to the service manager. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct Notify {
    socket: Option<SocketAddr>,
    watchdog: Option<Duration>,
    failed: Arc<AtomicBool>,
}

impl Notify {
    /// The manager of this process, as `NOTIFY_SOCKET`, `WATCHDOG_USEC` and `WATCHDOG_PID` have it. A
    /// socket that can't be one is logged and left alone.
    pub fn from_env() -> Self {
        let var = |name: &str| env::var(name).ok();
        let Some(name) = env::var_os("NOTIFY_SOCKET").filter(|name| !name.is_empty()) else {
            return Self::default();
        };
        let mut notify = match address(name.as_encoded_bytes()) {
            Ok(socket) => Self::to(socket),
            Err(error) => {
                tracing::warn!(
                    socket = %name.display(),
                    "`NOTIFY_SOCKET` names no socket, so the service manager is told nothing: {error}"
                );
                return Self::default();
            }
        };
        notify.watchdog = watchdog(
            var("WATCHDOG_USEC").as_deref(),
            var("WATCHDOG_PID").as_deref(),
            process::id(),
        );
        notify
    }

    /// A manager that listens here and wants no keepalives.
    pub fn to(socket: SocketAddr) -> Self {
        Self {
            socket: Some(socket),
            ..Self::default()
        }
    }

    /// The same, with a keepalive at least this often.
    #[must_use]
    pub fn with_watchdog(mut self, limit: Duration) -> Self {
        self.watchdog = Some(limit);
        self
    }

    /// The node serves, or serves again after [`reloading`](Self::reloading); `status` is what
    /// `systemctl status` shows.
    pub async fn ready(&self, status: &str) {
        self.tell(&format!("READY=1\nSTATUS={}", line(status)))
            .await;
    }

    /// What `systemctl status` shows from now on; nothing else changes.
    pub async fn status(&self, status: &str) {
        self.tell(&format!("STATUS={}", line(status))).await;
    }

    /// Whether there is a manager to be told.
    pub const fn is_heard(&self) -> bool {
        self.socket.is_some()
    }

    /// A reload has begun; [`ready`](Self::ready) ends it, be it applied or refused.
    pub async fn reloading(&self) {
        self.tell(&format!(
            "RELOADING=1\nMONOTONIC_USEC={}\nSTATUS=reloading",
            monotonic_usec()
        ))
        .await;
    }

    /// The node drains for at most `grace`. The manager is asked for that much time, should it allow
    /// less by itself.
    pub async fn stopping(&self, status: &str, grace: Duration) {
        let patience = grace.saturating_add(STOP_MARGIN).as_micros();
        self.tell(&format!(
            "STOPPING=1\nSTATUS={}\nEXTEND_TIMEOUT_USEC={}",
            line(status),
            u64::try_from(patience).unwrap_or(u64::MAX)
        ))
        .await;
    }

    /// Sends keepalives while the node lives, if the manager wants any; until the result is dropped
    /// or the node has ended.
    pub fn keep_alive(&self, node: &Node) -> KeepAlive {
        let limit = self.watchdog.filter(|_| self.socket.is_some());
        KeepAlive(limit.map(|limit| {
            let (notify, pulse) = (self.clone(), node.pulse());
            tokio::spawn(async move { notify.beat(limit / BEATS, &pulse).await })
        }))
    }

    async fn beat(&self, pause: Duration, pulse: &Pulse) {
        // A core that is gone is never felt again: no more keepalives.
        while pulse.felt().await {
            self.tell("WATCHDOG=1").await;
            tokio::time::sleep(pause).await;
        }
    }

    /// Sends one message.
    async fn tell(&self, message: &str) {
        let Some(socket) = &self.socket else { return };
        let sent = timeout(SEND_TIMEOUT, send(socket, message.as_bytes())).await;
        let sent = sent.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
        if let Err(error) = sent
            && !self.failed.swap(true, Ordering::Relaxed)
        {
            tracing::warn!(
                ?socket,
                "the service manager does not hear us, so it may think that the node never got \
                 ready (`NOTIFY_SOCKET`): {error}"
            );
        }
    }
}

/// Ends the keepalives when dropped.
#[derive(Debug)]
#[must_use = "dropping it ends the keepalives"]
pub struct KeepAlive(Option<JoinHandle<()>>);

impl Drop for KeepAlive {
    fn drop(&mut self) {
        if let Some(task) = &self.0 {
            task.abort();
        }
    }
}

/// A socket per message: a manager that has started anew is found again.
async fn send(to: &SocketAddr, message: &[u8]) -> io::Result<()> {
    let socket = StdDatagram::unbound()?;
    socket.connect_addr(to)?;
    socket.set_nonblocking(true)?;
    UnixDatagram::from_std(socket)?.send(message).await?;
    Ok(())
}

/// A path, or `@` and a name without one.
fn address(name: &[u8]) -> io::Result<SocketAddr> {
    match name {
        [b'@', name @ ..] => SocketAddr::from_abstract_name(name),
        [b'/', ..] => {
            use std::os::unix::ffi::OsStrExt;
            SocketAddr::from_pathname(std::ffi::OsStr::from_bytes(name))
        }
        _ => Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "it is neither an absolute path nor `@` and a name",
        )),
    }
}

/// What the manager allows between two keepalives, if it wants any of this process.
fn watchdog(usec: Option<&str>, of: Option<&str>, us: u32) -> Option<Duration> {
    if of.is_some_and(|of| of.parse() != Ok(us)) {
        return None;
    }
    let usec = usec?.parse().ok().filter(|usec| *usec > 0)?;
    Some(Duration::from_micros(usec))
}

/// The clock that the manager compares with, in microseconds.
fn monotonic_usec() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    let usec = now.tv_sec.saturating_mul(1_000_000) + now.tv_nsec / 1_000;
    u64::try_from(usec).unwrap_or_default()
}

/// A value is one line.
fn line(text: &str) -> String {
    text.replace(['\n', '\r'], " ")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    async fn heard(socket: &UnixDatagram) -> String {
        let mut bytes = [0; 512];
        let read = timeout(Duration::from_secs(10), socket.recv(&mut bytes));
        let read = read.await.unwrap().unwrap();
        String::from_utf8(bytes[..read].to_vec()).unwrap()
    }

    #[tokio::test]
    async fn a_reload_carries_the_time_of_the_monotonic_clock_and_ends_with_ready() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("notify");
        let socket = UnixDatagram::bind(&path).unwrap();
        let notify = Notify::to(SocketAddr::from_pathname(&path).unwrap());
        let before = monotonic_usec();
        notify.reloading().await;
        let said = heard(&socket).await;
        let stamp = said
            .strip_prefix("RELOADING=1\nMONOTONIC_USEC=")
            .unwrap()
            .split_once('\n')
            .unwrap()
            .0;
        let stamp: u64 = stamp.parse().unwrap();
        assert!(before > 0 && (before..=monotonic_usec()).contains(&stamp));
        notify.ready("two\nlines").await;
        assert_eq!(heard(&socket).await, "READY=1\nSTATUS=two lines");
        notify.status("alone\r").await;
        assert_eq!(heard(&socket).await, "STATUS=alone ");
    }

    #[tokio::test]
    async fn a_stop_asks_for_the_grace_and_a_bit() {
        let name = format!("centripeta-test-{}", process::id());
        let of = SocketAddr::from_abstract_name(&name).unwrap();
        let socket = StdDatagram::bind_addr(&of).unwrap();
        socket.set_nonblocking(true).unwrap();
        let socket = UnixDatagram::from_std(socket).unwrap();
        let notify = Notify::to(address(format!("@{name}").as_bytes()).unwrap());
        notify.stopping("draining", Duration::from_secs(25)).await;
        assert_eq!(
            heard(&socket).await,
            "STOPPING=1\nSTATUS=draining\nEXTEND_TIMEOUT_USEC=30000000"
        );
        // Nobody is there any more: logged, and no harm.
        drop(socket);
        notify.ready("late").await;
        assert!(notify.failed.load(Ordering::Relaxed));
    }

    #[test]
    fn a_socket_is_an_absolute_path_or_an_abstract_name() {
        assert!(address(b"/run/systemd/notify").is_ok());
        assert!(address(b"@name").is_ok());
        for wrong in [&b"run/notify"[..], b"vsock:2:1234", b""] {
            assert!(address(wrong).is_err(), "{wrong:?}");
        }
        let long = [b"/".as_slice(), &[b'x'; 200]].concat();
        assert!(address(&long).is_err());
    }

    #[test]
    fn keepalives_are_for_the_process_that_is_watched() {
        let second = Some(Duration::from_secs(1));
        assert_eq!(watchdog(Some("1000000"), None, 7), second);
        assert_eq!(watchdog(Some("1000000"), Some("7"), 7), second);
        assert_eq!(watchdog(Some("1000000"), Some("8"), 7), None);
        assert_eq!(watchdog(Some("1000000"), Some("x"), 7), None);
        for none in [None, Some("0"), Some("-1"), Some("soon")] {
            assert_eq!(watchdog(none, None, 7), None, "{none:?}");
        }
    }
}
