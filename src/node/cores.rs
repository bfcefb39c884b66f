//! The cores: a thread each with a current-thread runtime of its own.

use std::io;
use std::thread::JoinHandle;
use std::time::Duration;
use tokio::runtime::{Builder, Handle};
use tokio::sync::oneshot;
use tokio::time::Instant;

/// How long a core may take to stop; a handler that blocks can't be ended from outside.
const STOP_TIMEOUT: Duration = Duration::from_secs(1);

/// Threads that run events.
#[derive(Debug)]
pub(crate) struct Cores {
    handles: Vec<Handle>,
    threads: Vec<(oneshot::Sender<()>, JoinHandle<()>)>,
}

impl Cores {
    /// Starts so many threads; by default one per core of the machine.
    pub(crate) fn start(count: Option<usize>) -> io::Result<Self> {
        let count = match count {
            Some(count) => count,
            None => std::thread::available_parallelism()?.get(),
        };
        let mut cores = Self {
            handles: Vec::new(),
            threads: Vec::new(),
        };
        for core in 0..count {
            let runtime = Builder::new_current_thread().enable_all().build()?;
            cores.handles.push(runtime.handle().clone());
            let (stop, stopped) = oneshot::channel();
            let run = move || {
                // An error means that `Cores` is gone, which is a stop as well.
                drop(runtime.block_on(stopped));
                runtime.shutdown_background();
            };
            let thread = std::thread::Builder::new()
                .name(format!("core-{core}"))
                .spawn(run)?;
            cores.threads.push((stop, thread));
        }
        Ok(cores)
    }

    /// Their runtimes, by core.
    pub(crate) fn handles(&self) -> &[Handle] {
        &self.handles
    }

    /// Stops them; a thread that is stuck in a handler is left behind.
    pub(crate) fn stop(self) {
        let until = Instant::now() + STOP_TIMEOUT;
        let threads: Vec<_> = self
            .threads
            .into_iter()
            .map(|(stop, thread)| {
                let _gone_already = stop.send(());
                thread
            })
            .collect();
        for thread in threads {
            while !thread.is_finished() && Instant::now() < until {
                std::thread::park_timeout(Duration::from_millis(1));
            }
            if thread.is_finished() {
                drop(thread.join());
            } else {
                tracing::warn!("a core is stuck in a handler and is left behind");
            }
        }
    }
}
