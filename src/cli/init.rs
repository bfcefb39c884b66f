//! `serve` as process 1, as in a container: a small process in front of the node that waits for
//! everybody.
//!
//! The system hands every process whose parent is gone to process 1, which has to wait for its end, or
//! it stays as a zombie. A node that did so itself would take the ends of its own children away from
//! those who wait for them. So process 1 starts this program again as its only child, hands signals
//! on, waits for whoever ends, and ends as the node does, which ends everything else in the container.

use rustix::process::{Pid, Signal, WaitOptions, kill_process, wait};
use std::io;
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

/// This program as it runs, even when its file has been replaced.
const OURSELVES: &str = "/proc/self/exe";
/// Added to the number of the signal that ended the node, as shells do.
const BY_SIGNAL: i32 = 128;

/// Runs the node as a child where this is process 1, and gives its exit code; `None` where this
/// process is to be the node.
pub(super) fn run_as_process_1() -> Option<ExitCode> {
    if std::process::id() != 1 {
        return None;
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let ended = runtime.and_then(|runtime| runtime.block_on(mind()));
    match ended {
        Ok(code) => Some(ExitCode::from(u8::try_from(code).unwrap_or(u8::MAX))),
        Err(why) => {
            // Its log is not there yet.
            eprintln!(
                "warning: process 1: the node can't be started as a child, so processes whose parents are \
                 gone leave zombies: {why}"
            );
            None
        }
    }
}

/// Starts the node and minds it to its end.
async fn mind() -> io::Result<i32> {
    // Before the node is there, so that nothing of it is missed.
    let mut ends = signal(SignalKind::child())?;
    let (heard, mut signals) = mpsc::unbounded_channel();
    for (kind, signal_) in [
        (SignalKind::terminate(), Signal::TERM),
        (SignalKind::interrupt(), Signal::INT),
        (SignalKind::hangup(), Signal::HUP),
        (SignalKind::user_defined2(), Signal::USR2),
    ] {
        let (mut stream, heard) = (signal(kind)?, heard.clone());
        tokio::spawn(async move {
            while stream.recv().await.is_some() {
                if heard.send(signal_).is_err() {
                    return;
                }
            }
        });
    }
    let node = start()?;
    loop {
        tokio::select! {
            _ = ends.recv() => {
                if let Some(code) = reap(node) {
                    return Ok(code);
                }
            }
            Some(signal) = signals.recv() => {
                // A node that is gone shows as such.
                let _ = kill_process(node, signal);
            }
        }
    }
}

/// This program again, in a group of its own: Ctrl-C of a terminal is to reach it once, through us.
fn start() -> io::Result<Pid> {
    let mut args = std::env::args_os();
    let mut command = Command::new(OURSELVES);
    if let Some(name) = args.next() {
        command.arg0(name);
    }
    #[allow(
        clippy::zombie_processes,
        reason = "`reap` waits for it, by its number"
    )]
    let node = command.args(args).process_group(0).spawn()?;
    let pid = i32::try_from(node.id()).ok().and_then(Pid::from_raw);
    pid.ok_or_else(|| io::Error::other("it has no number"))
}

/// Waits for all that have ended; the exit code of the node once that is among them.
fn reap(node: Pid) -> Option<i32> {
    let mut code = None;
    while let Ok(Some((pid, status))) = wait(WaitOptions::NOHANG) {
        if pid == node {
            let by_signal = status.terminating_signal().map(|it| BY_SIGNAL + it);
            code = status.exit_status().or(by_signal).or(code);
        }
    }
    code
}
