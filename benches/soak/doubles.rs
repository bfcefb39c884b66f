//! Stand-ins for what is around a node: Centrifugo's server API, which dies or is slow, and a collector
//! of traces that takes connections and never answers.

use anyhow::Context;
use centripeta::proto::api;
use centripeta::proto::api::centrifugo_api_server::{CentrifugoApi, CentrifugoApiServer};
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::runtime::Runtime;
use tokio::task::JoinHandle;
use tokio::time::sleep;
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;
use tonic::{Request, Response, Status};

#[derive(Debug, Default)]
struct State {
    offset: AtomicU64,
    delay_millis: AtomicU64,
}

impl State {
    fn published(&self) -> api::PublishResult {
        let offset = self.offset.fetch_add(1, Ordering::Relaxed);
        let epoch = "e".to_owned();
        api::PublishResult { offset, epoch }
    }

    async fn wait(&self) {
        let millis = self.delay_millis.load(Ordering::Relaxed);
        if millis > 0 {
            sleep(Duration::from_millis(millis)).await;
        }
    }
}

#[derive(Debug, Clone)]
struct Service(Arc<State>);

#[tonic::async_trait]
impl CentrifugoApi for Service {
    async fn publish(
        &self,
        _: Request<api::PublishRequest>,
    ) -> Result<Response<api::PublishResponse>, Status> {
        self.0.wait().await;
        let (error, result) = (None, Some(self.0.published()));
        Ok(Response::new(api::PublishResponse { error, result }))
    }

    async fn batch(
        &self,
        request: Request<api::BatchRequest>,
    ) -> Result<Response<api::BatchResponse>, Status> {
        let commands = &request.get_ref().commands;
        // An empty one only asks whether somebody is there.
        if !commands.is_empty() {
            self.0.wait().await;
        }
        let reply = |_: &api::Command| api::Reply {
            publish: Some(Box::new(self.0.published())),
            ..Default::default()
        };
        let replies = commands.iter().map(reply).collect();
        Ok(Response::new(api::BatchResponse { replies }))
    }
}

/// A stand-in for the API, on a thread of its own.
#[derive(Debug)]
pub(crate) struct Double {
    state: Arc<State>,
    address: SocketAddr,
    runtime: Option<Runtime>,
}

impl Double {
    /// Starts one on a free port.
    pub(crate) fn start() -> anyhow::Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).context("bind a stand-in")?;
        let mut double = Self {
            state: Arc::default(),
            address: listener.local_addr()?,
            runtime: None,
        };
        double.serve(listener)?;
        Ok(double)
    }

    /// Where it listens.
    pub(crate) const fn address(&self) -> SocketAddr {
        self.address
    }

    /// How long it takes for each call from now on.
    pub(crate) fn delay(&self, delay: Duration) {
        let millis = u64::try_from(delay.as_millis()).unwrap_or(u64::MAX);
        self.state.delay_millis.store(millis, Ordering::Relaxed);
    }

    /// Ends it at once, its connections in the middle.
    pub(crate) fn kill(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }

    /// Starts it again where it was, unless it runs.
    pub(crate) fn restart(&mut self) -> anyhow::Result<()> {
        if self.runtime.is_some() {
            return Ok(());
        }
        let listener = TcpListener::bind(self.address);
        self.serve(listener.context("bind a stand-in again")?)
    }

    fn serve(&mut self, listener: TcpListener) -> anyhow::Result<()> {
        listener.set_nonblocking(true)?;
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()?;
        let service = CentrifugoApiServer::new(Service(Arc::clone(&self.state)));
        let listener = {
            let _inside = runtime.enter();
            tokio::net::TcpListener::from_std(listener)?
        };
        let incoming = TcpIncoming::from(listener).with_nodelay(Some(true));
        runtime.spawn(
            Server::builder()
                .add_service(service)
                .serve_with_incoming(incoming),
        );
        self.runtime = Some(runtime);
        Ok(())
    }
}

impl Drop for Double {
    fn drop(&mut self) {
        self.kill();
    }
}

/// A collector that takes every connection and never answers.
#[derive(Debug)]
pub(crate) struct Collector {
    address: SocketAddr,
    task: JoinHandle<()>,
}

impl Collector {
    /// Starts one on a free port.
    pub(crate) async fn start() -> anyhow::Result<Self> {
        let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await?;
        let address = listener.local_addr()?;
        let task = tokio::spawn(async move {
            // The last few; those before have been given up by the node.
            let mut held = std::collections::VecDeque::new();
            while let Ok((socket, _)) = listener.accept().await {
                held.push_back(socket);
                if held.len() > 4 {
                    held.pop_front();
                }
            }
        });
        Ok(Self { address, task })
    }

    /// Where it listens.
    pub(crate) const fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Collector {
    fn drop(&mut self) {
        self.task.abort();
    }
}
