//! The process of a worker: how it is started, and how it ends for sure.
//!
//! Each worker leads a process group of its own, so that it takes its children with it however it
//! ends, and no Ctrl-C of our terminal reaches it. Where this program can start itself (it says so by
//! [`reexec_by`]), the worker is started through it: a step between sets the signal that comes when
//! we die, then becomes the worker. That signal is bound to the thread that forks, so one thread for
//! ever starts all of them.

use rustix::process::{Pid, PidfdFlags, Signal};
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::sync::{OnceLock, PoisonError};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::process::{Child, Command};
use tokio::runtime::Handle;
use tokio::sync::oneshot;

/// The hidden command by which a worker is started.
pub(crate) const REEXEC: &str = "__worker";
/// Exit code of the step between where the command can't be started.
const NOT_STARTED: i32 = 127;

/// Variables of ours that are about our own process.
const NOT_THEIRS: [&str; 3] = ["NOTIFY_SOCKET", "WATCHDOG_PID", "WATCHDOG_USEC"];
/// This program as it runs, even when its file has been replaced.
const OURSELVES: &str = "/proc/self/exe";

/// Set once this program answers to [`REEXEC`].
static REEXEC_BY: OnceLock<PathBuf> = OnceLock::new();

/// From now on workers are started through this program, which has to answer to [`REEXEC`].
pub(crate) fn reexec_by(program: PathBuf) {
    // Whoever came first is as good.
    drop(REEXEC_BY.set(program));
}

/// How workers are started.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct CommandSpec {
    /// Program and arguments; never given to a shell.
    pub(crate) command: Vec<String>,
    /// What is set above our own environment.
    pub(crate) env: BTreeMap<String, String>,
    /// Where it runs; looked up at each start, so that a changed link is followed.
    pub(crate) dir: Option<PathBuf>,
    /// The user and group that it runs as.
    pub(crate) owner: Option<(u32, u32)>,
    /// Whether frames reach it by a socket: then it has no stdin, and its stdout is a log.
    pub(crate) has_socket: bool,
}

/// A worker's process.
#[derive(Debug)]
pub(crate) struct Process {
    /// To wait for its end.
    pub(crate) child: Child,
    /// Its number.
    pub(crate) pid: u32,
    /// Its stdout and stdin, neither of which blocks, unless frames reach it by a socket.
    pub(crate) pipes: Option<(OwnedFd, OwnedFd)>,
    /// Its stderr.
    pub(crate) stderr: OwnedFd,
}

/// Ends a process and all of its group, which is what it has started, at once. Nothing once it has been
/// waited for: its number may be another's then.
pub(crate) fn kill_group(child: &Child) {
    if let Some(pid) = pid_of(child) {
        // A group that is gone is what was wanted.
        let _ = rustix::process::kill_process_group(pid, Signal::KILL);
    }
}

fn pid_of(child: &Child) -> Option<Pid> {
    Pid::from_raw(i32::try_from(child.id()?).ok()?)
}

/// Waits for the end of a process, and ends what is left of its group. Can be dropped and called again.
///
/// # Errors
/// The system does not say how it ended.
pub(crate) async fn end_of(child: &mut Child) -> io::Result<ExitStatus> {
    // It has ended and still has its number: nobody else can be meant by it.
    if let Some(pid) = pid_of(child)
        && until_ended(pid).await.is_ok()
    {
        kill_group(child);
    }
    child.wait().await
}

/// Waits for the end of a child without taking note of it.
///
/// # Errors
/// The system has no descriptors for processes (Linux before 5.3).
#[expect(
    deprecated,
    reason = "the other way is `unsafe`; this descriptor is owned, and stays open for as long as it is watched"
)]
async fn until_ended(pid: Pid) -> io::Result<()> {
    let ended = rustix::process::pidfd_open(pid, PidfdFlags::empty())?;
    let ended = AsyncFd::with_interest(ended, Interest::READABLE)?;
    ended.readable().await.map(drop)
}

/// Starts a process; the error is the system's, with the program's name.
pub(crate) async fn start(spec: CommandSpec) -> io::Result<Process> {
    let (reply, started) = oneshot::channel();
    let runtime = Handle::current();
    let order: Order = Box::new(move || {
        let _within = runtime.enter();
        drop(reply.send(spawn(&spec)));
    });
    let gone = || io::Error::other("the thread that starts workers is gone");
    spawner()?.send(order).map_err(|_| gone())?;
    started.await.map_err(|_| gone())?
}

type Order = Box<dyn FnOnce() + Send>;

/// The thread that starts all workers, and lives as long as the process.
fn spawner() -> io::Result<std::sync::mpsc::Sender<Order>> {
    static SPAWNER: std::sync::Mutex<Option<std::sync::mpsc::Sender<Order>>> =
        std::sync::Mutex::new(None);
    let mut spawner = SPAWNER.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(spawner) = &*spawner {
        return Ok(spawner.clone());
    }
    let (orders, queue) = std::sync::mpsc::channel::<Order>();
    std::thread::Builder::new()
        .name("worker-spawner".to_owned())
        .spawn(move || queue.into_iter().for_each(|order| order()))?;
    *spawner = Some(orders.clone());
    Ok(orders)
}

fn spawn(spec: &CommandSpec) -> io::Result<Process> {
    let program = spec.command.first().map_or("", String::as_str);
    let mut command = match REEXEC_BY.get() {
        Some(ourselves) => {
            // Another user may not look at what we run.
            let mut command = match spec.owner {
                None => Command::new(OURSELVES),
                Some(_) => Command::new(ourselves),
            };
            command.arg(REEXEC).arg(std::process::id().to_string());
            command.args(&spec.command);
            command
        }
        None => {
            let mut command = Command::new(program);
            command.args(spec.command.iter().skip(1));
            command
        }
    };
    command.process_group(0).kill_on_drop(true);
    for name in NOT_THEIRS {
        command.env_remove(name);
    }
    command.envs(&spec.env);
    if let Some(dir) = &spec.dir {
        command.current_dir(dir);
    }
    if let Some((user, group)) = spec.owner {
        command.uid(user).gid(group);
    }
    let (our_stderr, their_stderr) = std::io::pipe()?;
    let pipes = if spec.has_socket {
        command.stdin(std::process::Stdio::null());
        command.stdout(their_stderr.try_clone()?);
        None
    } else {
        let (their_stdin, our_write) = std::io::pipe()?;
        let (our_read, their_stdout) = std::io::pipe()?;
        command.stdin(their_stdin).stdout(their_stdout);
        Some((OwnedFd::from(our_read), OwnedFd::from(our_write)))
    };
    command.stderr(their_stderr);
    let child = command.spawn().map_err(|why| {
        let at = spec
            .dir
            .as_ref()
            .map(|dir| format!(" in {}", dir.display()));
        let text = format!("exec {program}{}: {why}", at.unwrap_or_default());
        io::Error::new(why.kind(), text)
    })?;
    // Our copies of the other ends go with the command: the end of the process shows as such.
    drop(command);
    let pid = child.id().unwrap_or_default();
    let ours = pipes
        .iter()
        .flat_map(|(read, write)| [read.as_fd(), write.as_fd()]);
    for fd in ours {
        let flags = rustix::fs::fcntl_getfl(fd)?;
        rustix::fs::fcntl_setfl(fd, flags | rustix::fs::OFlags::NONBLOCK)?;
    }
    Ok(Process {
        child,
        pid,
        pipes,
        stderr: our_stderr.into(),
    })
}

/// The step between: asks to be killed with our parent, then becomes the command. Comes back only
/// with an exit code.
pub(crate) fn become_worker(args: &[OsString]) -> i32 {
    let [parent, program, rest @ ..] = args else {
        return NOT_STARTED;
    };
    let bound = rustix::process::set_parent_process_death_signal(Some(Signal::KILL));
    if let Err(why) = bound {
        eprintln!("the signal at the end of the node can't be set: {why}");
    }
    let ours = rustix::process::getppid().map(Pid::as_raw_nonzero);
    let ours = ours.map(|pid| pid.get().to_string());
    if ours.as_deref().map(std::ffi::OsStr::new) != Some(parent.as_os_str()) {
        // The node was gone before the signal was set.
        return NOT_STARTED;
    }
    let why = std::process::Command::new(program).args(rest).exec();
    eprintln!("exec {}: {why}", Path::new(program).display());
    NOT_STARTED
}
