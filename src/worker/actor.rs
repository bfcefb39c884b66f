//! A worker as an actor: it starts the process, shakes hands, and sees to its end.

use super::info::{WorkerInfo, WorkerState};
use super::lease::Lease;
use super::link::{Link, LinkError, Relay};
use super::pool::PoolMessage;
use super::process::{self, CommandSpec, Process};
use super::queue::Queue;
use super::relay::{RelayDoor, Stranger, pid_in};
use super::stderr::Stderr;
use crate::goridge::Frame;
use ractor::{Actor, ActorProcessingErr, ActorRef, SupervisionEvent};
use std::io;
use std::os::fd::OwnedFd;
use std::process::ExitStatus;
use std::sync::Arc;
use std::time::Duration;
use tokio::process::Child;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep_until, timeout};

/// What a worker is told.
#[derive(Debug)]
pub(crate) enum WorkerMessage {
    /// It is idle and is to leave; the reason is empty where nothing is wrong.
    Retire(Box<Link>, String),
    /// It is to be killed, for this reason.
    Kill(String),
    /// It has closed its line: it is on its way out, or is killed a moment later. This is the reason.
    Leaves(String),
    /// Its process has ended.
    Exited(io::Result<ExitStatus>),
}

/// What a worker needs.
#[derive(Debug)]
pub(crate) struct WorkerArgs {
    /// Its number.
    pub(crate) id: u64,
    /// The pool's name.
    pub(crate) pool: Arc<str>,
    /// How it is started.
    pub(crate) command: CommandSpec,
    /// How long start and handshake may take.
    pub(crate) allocate_timeout: Duration,
    /// How long it may take to leave when asked.
    pub(crate) stop_timeout: Duration,
    /// The events that it may do; 0 for any number.
    pub(crate) max_jobs: u64,
    /// The longest payload that is taken from it, in bytes.
    pub(crate) max_frame: usize,
    /// Where it connects to, if frames reach it by a socket.
    pub(crate) door: Option<Arc<RelayDoor>>,
    /// Where it serves.
    pub(crate) queue: Arc<Queue>,
    /// Who is told that it is up.
    pub(crate) parent: ActorRef<PoolMessage>,
    /// The request that it is started for, in debug: it serves no other.
    pub(crate) only_for: Option<oneshot::Sender<Result<Lease, String>>>,
    /// Dropped by who wants it no more before it is up.
    pub(crate) wanted: oneshot::Receiver<()>,
}

/// Why a worker did not come up.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SpawnError {
    /// The system can't start it.
    #[error("WorkerAllocate: {0}")]
    Start(#[from] io::Error),
    /// It did not answer in time.
    #[error("WorkerAllocate: no answer within {0:?} (`allocate_timeout`){1}")]
    Silent(Duration, String),
    /// It ended, or wrote something else.
    #[error("WorkerAllocate: {0}{1}")]
    Link(LinkError, String),
    /// It answered something else than its pid.
    #[error("WorkerAllocate: {0}{1}")]
    Answer(Stranger, String),
    /// Nobody wants it any more.
    #[error("WorkerAllocate: it was sent away before it was up")]
    Unwanted,
}

/// The actor.
#[derive(Debug)]
pub(crate) struct Worker;

/// A worker whose process runs.
#[derive(Debug)]
pub(crate) struct Running {
    info: Arc<WorkerInfo>,
    pool: Arc<str>,
    keeper: mpsc::UnboundedSender<Order>,
    stderr: Stderr,
    why: String,
}

/// What the keeper of a process is told.
#[derive(Debug)]
enum Order {
    Stop(Box<Link>),
    Kill,
    KillSoon,
}

/// How long a worker that has closed its line may take to end by itself: how it ended is known then.
/// PHP closes a socket well before it is gone.
const LEAVING: Duration = Duration::from_millis(400);

impl Actor for Worker {
    type Msg = WorkerMessage;
    type State = Running;
    type Arguments = WorkerArgs;

    async fn pre_start(
        &self,
        myself: ActorRef<WorkerMessage>,
        mut args: WorkerArgs,
    ) -> Result<Running, ActorProcessingErr> {
        let only_for = args.only_for.take();
        match start(myself, &mut args).await {
            Ok((running, link)) => {
                running.info.go(WorkerState::Ready);
                let up = PoolMessage::Up(args.id, Arc::clone(&running.info));
                // A pool that is gone has closed its queue, which sends the worker away.
                drop(args.parent.cast(up));
                match only_for {
                    None => args.queue.give_back(link),
                    // Dropped by a request that has gone, it goes back, which sends it away.
                    Some(request) => drop(request.send(Ok(Lease::new(link, args.queue)))),
                }
                Ok(running)
            }
            Err(why) => {
                if let Some(request) = only_for {
                    // The request may have gone.
                    drop(request.send(Err(why.to_string())));
                }
                Err(why.into())
            }
        }
    }

    async fn handle(
        &self,
        myself: ActorRef<WorkerMessage>,
        message: WorkerMessage,
        state: &mut Running,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            WorkerMessage::Retire(link, why) => {
                state.info.go(WorkerState::Stopping);
                state.blame(why);
                state.order(Order::Stop(link));
            }
            WorkerMessage::Kill(why) => {
                state.blame(why);
                state.order(Order::Kill);
            }
            WorkerMessage::Leaves(why) => {
                state.blame(why);
                state.order(Order::KillSoon);
            }
            WorkerMessage::Exited(status) => {
                state.info.go(WorkerState::Stopped);
                let how = match status {
                    Ok(status) => status.to_string(),
                    Err(why) => format!("its end is not known: {why}"),
                };
                let words = state.stderr.last_words().await;
                state.info.ended(&how, &words);
                let (pool, pid, jobs) = (&*state.pool, state.info.pid, state.info.jobs());
                let why = state.why.as_str();
                match (why, how.as_str()) {
                    ("", "exit status: 0") => {
                        tracing::debug!(pool, pid, jobs, "a worker has left");
                    }
                    _ => tracing::warn!(
                        pool,
                        pid,
                        jobs,
                        how,
                        stderr = words,
                        "a worker is gone: {why}"
                    ),
                }
                myself.stop(Some(how));
            }
        }
        Ok(())
    }

    async fn handle_supervisor_evt(
        &self,
        _: ActorRef<WorkerMessage>,
        _: SupervisionEvent,
        _: &mut Running,
    ) -> Result<(), ActorProcessingErr> {
        // A worker has no children of this kind.
        Ok(())
    }
}

impl Running {
    /// Keeps the first reason.
    fn blame(&mut self, why: String) {
        if self.why.is_empty() {
            self.why = why;
        }
    }

    fn order(&self, order: Order) {
        // A keeper that is gone has seen the end.
        drop(self.keeper.send(order));
    }
}

/// Starts the process and shakes hands.
async fn start(
    actor: ActorRef<WorkerMessage>,
    args: &mut WorkerArgs,
) -> Result<(Running, Link), SpawnError> {
    let Process {
        child,
        pid,
        pipes,
        stderr,
    } = process::start(args.command.clone()).await?;
    let stderr = Stderr::follow(stderr, Arc::clone(&args.pool), pid)?;
    let info = WorkerInfo::new(args.id, pid, args.max_jobs, actor.clone());
    let info = Arc::new(info.of(Arc::clone(&args.pool)));
    let (keeper, orders) = mpsc::unbounded_channel();
    tokio::spawn(keep(child, orders, args.stop_timeout, actor));
    let running = Running {
        info,
        pool: Arc::clone(&args.pool),
        keeper,
        stderr,
        why: String::new(),
    };
    let line = connect(&running.info, pipes, args.door.as_deref(), args.max_frame);
    let failed = tokio::select! {
        _ = &mut args.wanted => {
            running.order(Order::Kill);
            return Err(SpawnError::Unwanted);
        }
        shaken = timeout(args.allocate_timeout, line) => match shaken {
            Ok(Ok(link)) => return Ok((running, link)),
            failed => failed,
        }
    };
    running.order(Order::Kill);
    let said = running.stderr.last_words().await;
    let said = match said.as_str() {
        "" => String::new(),
        said => format!("; on stderr: {said}"),
    };
    Err(match failed {
        Ok(Err(Handshake::Link(why))) => SpawnError::Link(why, said),
        Ok(Err(Handshake::Answer(why))) => SpawnError::Answer(why, said),
        _ => SpawnError::Silent(args.allocate_timeout, said),
    })
}

/// Waits for the end of a process, and brings it about when told.
async fn keep(
    mut child: Child,
    mut orders: mpsc::UnboundedReceiver<Order>,
    stop_timeout: Duration,
    actor: ActorRef<WorkerMessage>,
) {
    let mut kill_at: Option<Instant> = None;
    // Kept until the end: some workers spin when their line is cut.
    let mut line: Option<Box<Link>> = None;
    let mut is_told = true;
    let status = loop {
        let late = async {
            match kill_at {
                Some(at) => sleep_until(at).await,
                None => std::future::pending().await,
            }
        };
        let told = async {
            match &mut line {
                Some(line) if !is_told => line.flush().await,
                _ => std::future::pending().await,
            }
        };
        tokio::select! {
            status = process::end_of(&mut child) => break status,
            order = orders.recv() => match order {
                Some(Order::Stop(link)) if line.is_none() => {
                    kill_at = Some(Instant::now() + stop_timeout);
                    // Encoding a short frame does not fail.
                    let _ = Frame::stop().encode(line.insert(link).output());
                    is_told = false;
                }
                Some(Order::Stop(_)) => {}
                Some(Order::KillSoon) => {
                    let soon = Instant::now() + LEAVING;
                    kill_at = Some(kill_at.map_or(soon, |at| at.min(soon)));
                }
                // The actor is gone: so must be the process.
                Some(Order::Kill) | None => {
                    process::kill_group(&child);
                    break child.wait().await;
                }
            },
            // A worker that is gone needs no word.
            _ = told => is_told = true,
            () = late => {
                process::kill_group(&child);
                break child.wait().await;
            }
        }
    };
    // An actor that has stopped needs no word.
    drop(actor.cast(WorkerMessage::Exited(status)));
}

enum Handshake {
    Link(LinkError),
    Answer(Stranger),
}

impl From<LinkError> for Handshake {
    fn from(why: LinkError) -> Self {
        Self::Link(why)
    }
}

/// The line to a worker that has said that it is ready.
async fn connect(
    info: &Arc<WorkerInfo>,
    pipes: Option<(OwnedFd, OwnedFd)>,
    door: Option<&RelayDoor>,
    limit: usize,
) -> Result<Link, Handshake> {
    let link = |relay| {
        let link = Link::new(Arc::clone(info), relay, limit);
        link.map_err(|why| Handshake::Link(why.into()))
    };
    match (pipes, door) {
        (Some((read, write)), _) => handshake(link(Relay::Pipes(read, Arc::new(write)))?).await,
        (None, Some(door)) => {
            // Hands were shaken at the door.
            let relay = door.connection_of(info.pid).await;
            link(relay.map_err(Handshake::Answer)?)
        }
        (None, None) => {
            let closed = Stranger::Line("the relay is not open".to_owned());
            Err(Handshake::Answer(closed))
        }
    }
}

/// Asks for the worker's pid, which says that it is ready.
async fn handshake(mut link: Link) -> Result<Link, Handshake> {
    // A short frame always fits.
    let _ = Frame::pid(std::process::id()).encode(link.output());
    link.flush().await?;
    let frame = link.frame().await?;
    pid_in(&frame).map_err(Handshake::Answer)?;
    Ok(link)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::super::tests::listener;
    use super::*;

    /// A process that reads nothing, and a line to it that takes no byte more.
    async fn deaf(actor: &ActorRef<WorkerMessage>) -> (Child, Box<Link>) {
        let started = process::start(CommandSpec {
            command: ["sleep", "3600"].map(str::to_owned).to_vec(),
            ..CommandSpec::default()
        });
        let Process {
            child, pid, pipes, ..
        } = started.await.unwrap();
        let (read, write) = pipes.unwrap();
        while rustix::io::write(&write, &[0; 4096]).is_ok() {}
        let info = Arc::new(WorkerInfo::new(1, pid, 0, actor.clone()));
        let link = Link::new(info, Relay::Pipes(read, Arc::new(write)), 1024);
        (child, Box::new(link.unwrap()))
    }

    #[tokio::test]
    async fn a_worker_that_does_not_read_its_stop_is_seen_to_end_and_can_be_killed() {
        for is_killed in [true, false] {
            let (actor, mut told) = listener().await;
            let (child, link) = deaf(&actor).await;
            let pid = link.worker.pid;
            let (keeper, orders) = mpsc::unbounded_channel();
            let limit = Duration::from_secs(60);
            let keeping = tokio::spawn(keep(child, orders, limit, actor));
            keeper.send(Order::Stop(link)).unwrap();
            // It takes the order, and waits for room.
            for _ in 0..100 {
                tokio::task::yield_now().await;
            }
            match is_killed {
                true => keeper.send(Order::Kill).unwrap(),
                false => {
                    let pid = rustix::process::Pid::from_raw(pid.cast_signed()).unwrap();
                    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
                }
            }
            timeout(Duration::from_secs(20), keeping)
                .await
                .unwrap()
                .unwrap();
            let told = told.recv().await;
            assert!(
                matches!(told, Some(WorkerMessage::Exited(Ok(_)))),
                "{told:?}"
            );
        }
    }
}
