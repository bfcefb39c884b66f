//! Threads apart from the cores, for handlers that block or compute for long.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::runtime::{Handle, Runtime};
use tokio::task::JoinHandle;

/// A pool of threads for handlers that would hold a core (`Route::on_pool`). Clones share it.
#[derive(Clone)]
pub struct Pool(Arc<Inner>);

struct Inner {
    name: String,
    threads: usize,
    runtime: Mutex<Option<Runtime>>,
}

impl Pool {
    /// A pool with a name for logs and so many threads (at least one); they start with the node.
    pub fn new(name: impl Into<String>, threads: usize) -> Self {
        let (name, threads) = (name.into(), threads.max(1));
        Self(Arc::new(Inner {
            name,
            threads,
            runtime: Mutex::new(None),
        }))
    }

    /// The name.
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// Starts the threads, unless they run already.
    pub(crate) fn start(&self) -> std::io::Result<Threads> {
        let handle = self.handle()?;
        let pool = self.clone();
        Ok(Threads {
            handle,
            _pool: pool,
        })
    }

    fn handle(&self) -> std::io::Result<Handle> {
        let mut runtime = self
            .0
            .runtime
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(runtime) = &*runtime {
            return Ok(runtime.handle().clone());
        }
        let new = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(self.0.threads)
            .thread_name(format!("pool-{}", self.0.name))
            .enable_all()
            .build()?;
        let handle = new.handle().clone();
        *runtime = Some(new);
        Ok(handle)
    }
}

/// The running threads of a pool; they end with the last of these and of its clones.
#[derive(Debug)]
pub(crate) struct Threads {
    handle: Handle,
    _pool: Pool,
}

impl Threads {
    /// Runs a task on one of them.
    pub(crate) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) -> JoinHandle<()> {
        self.handle.spawn(task)
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        let runtime = self
            .runtime
            .get_mut()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        if let Some(runtime) = runtime {
            // The last clone may go within a runtime, where waiting for threads is not allowed.
            runtime.shutdown_background();
        }
    }
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Inner { name, threads, .. } = &*self.0;
        f.debug_struct("Pool")
            .field("name", name)
            .field("threads", threads)
            .finish()
    }
}
