//! Another configuration for a node that runs: made ready as a whole, then applied as a whole.

use super::membership::Membership;
use super::{CallBack, Node, NodeError, bind_rpc, connection_limits, engine_limits, workers};
use crate::config::Config;
use crate::egress::Reconfigured;
use crate::engine::replace::Prepared;
use crate::engine::{Engine, EngineLimits};
use crate::ingress::listener::ConnectionLimits;
use crate::router::Router;
use crate::rpc::Server;
use crate::upstream::handler::Upstream;
use crate::worker::handler::Workers;
use arc_swap::ArcSwap;
use centripeta_cluster::Serves;
use centripeta_cluster::peer::NewSecurity;
use futures_util::future::join_all;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

/// How long a reload waits for the names of new upstreams.
const LOOK_UP: Duration = Duration::from_secs(1);

/// A configuration that a node could run, and does not run yet; dropped it leaves nothing behind.
#[derive(Debug)]
pub(crate) struct Change {
    engine: Engine,
    limits: EngineLimits,
    plan: Prepared,
    /// Where new workers call back.
    call_back: Option<String>,
    /// The same, where it is new: with its first pool a node gets a server too.
    server: Option<Server>,
    rpc: CallBack,
    workers: Vec<Arc<Workers>>,
    upstreams: Vec<Arc<Upstream>>,
    publisher: Reconfigured,
    sampling: f64,
    connections: ConnectionLimits,
    current: Arc<ArcSwap<ConnectionLimits>>,
    membership: Option<Membership>,
    serves: Serves,
    security: Option<NewSecurity>,
}

impl Node {
    /// Makes ready what another configuration changes, without touching what runs: routes, stages
    /// and handlers (those of `router`), limits, and the publisher; where it brings the first worker
    /// pool, the server that workers call. Of the rest nothing is looked at.
    ///
    /// # Errors
    /// The router contradicts itself, threads can't be started, certificates or secrets can't be
    /// read, the server's address can't be listened on.
    pub(crate) async fn prepare(
        &self,
        config: &Config,
        router: Router,
    ) -> Result<Change, NodeError> {
        let (workers, upstreams) = (router.workers.clone(), router.upstreams.clone());
        let publisher = self.publisher.prepare(&config.centrifugo);
        let publisher = publisher.map_err(NodeError::Centrifugo)?;
        let security = match (&self.membership, &config.cluster) {
            (Some(membership), Some(section)) => {
                let links = membership.cluster().links();
                let prepared = links.prepare_security(section.security());
                Some(prepared.map_err(NodeError::Links)?)
            }
            _ => None,
        };
        let plan = self.engine.prepare(router)?;
        let server = match self.rpc_address() {
            Some(_) => None,
            None => self.serve_calls(config).await?,
        };
        let address = server.as_ref().map(|server| server.address().clone());
        let call_back = address.or_else(|| self.rpc_address());
        Ok(Change {
            engine: self.engine.clone(),
            limits: engine_limits(config),
            plan,
            workers,
            upstreams,
            call_back: call_back.map(|address| address.to_string()),
            server,
            rpc: Arc::clone(&self.rpc),
            publisher,
            sampling: config.log.sampling,
            connections: connection_limits(config),
            current: Arc::clone(&self.limits),
            membership: self.membership.clone(),
            serves: config.node.serves.clone(),
            security,
        })
    }

    /// A server that workers call, where the configuration wants one.
    async fn serve_calls(&self, config: &Config) -> Result<Option<Server>, NodeError> {
        let Some(address) = config.rpc.listens(config.has_workers()) else {
            return Ok(None);
        };
        let door = bind_rpc(&address).await.map_err(NodeError::CallBack)?;
        Ok(Some(Server::start(door, Arc::clone(&self.services))?))
    }
}

impl Change {
    /// Starts the workers and upstreams that it brings, beside those that run, and waits until the
    /// workers are there and, for a moment, until names are looked up.
    ///
    /// # Errors
    /// They do not come up; dropped, the change ends those that did.
    pub(crate) async fn start_workers(&self) -> Result<(), NodeError> {
        workers::bring_up(&self.workers, self.call_back.as_deref()).await?;
        self.upstreams.iter().for_each(|upstream| upstream.start());
        let looked_up = self.upstreams.iter();
        let looked_up = looked_up.map(|upstream| upstream.until_looked_up(LOOK_UP));
        join_all(looked_up).await;
        Ok(())
    }

    /// Runs it. Nothing can fail any more; events that are in go on as they came in.
    pub(crate) fn apply(self) {
        self.engine.set_limits(&self.limits);
        self.current.store(Arc::new(self.connections));
        self.publisher.apply();
        self.engine.shared.tracer.set_sampling(self.sampling);
        self.plan.run();
        let pools = workers::pools(&self.workers);
        self.engine.shared.pools.set(&pools);
        self.engine.shared.upstreams.set(&self.upstreams);
        if let Some(security) = self.security {
            security.apply();
        }
        if let Some(membership) = &self.membership {
            membership.changed(self.serves, &self.engine);
        }
        if let Some(server) = self.server {
            tracing::info!(rpc = %server.address(), "workers can call back");
            let mut rpc = self.rpc.lock().unwrap_or_else(PoisonError::into_inner);
            *rpc = Some(server);
        }
    }
}
