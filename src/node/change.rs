//! Another configuration for a node that runs: made ready as a whole, then applied as a whole.

use super::membership::Membership;
use super::{Node, NodeError, connection_limits, engine_limits, workers};
use crate::config::Config;
use crate::egress::Reconfigured;
use crate::engine::replace::Prepared;
use crate::engine::{Engine, EngineLimits};
use crate::ingress::listener::ConnectionLimits;
use crate::router::Router;
use crate::worker::handler::Workers;
use arc_swap::ArcSwap;
use centripeta_cluster::Serves;
use centripeta_cluster::peer::NewSecurity;
use std::sync::Arc;

/// A configuration that a node could run, and does not run yet; dropped it leaves nothing behind.
#[derive(Debug)]
pub(crate) struct Change {
    engine: Engine,
    limits: EngineLimits,
    plan: Prepared,
    /// Where new workers call back.
    call_back: Option<String>,
    workers: Vec<Arc<Workers>>,
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
    /// and handlers (those of `router`), limits, and the publisher. Of the rest nothing is looked at.
    ///
    /// # Errors
    /// The router contradicts itself, threads can't be started, certificates or secrets can't be read.
    pub(crate) fn prepare(&self, config: &Config, router: Router) -> Result<Change, NodeError> {
        let workers = router.workers.clone();
        let publisher = self.publisher.prepare(&config.centrifugo);
        let security = match (&self.membership, &config.cluster) {
            (Some(membership), Some(section)) => {
                let links = membership.cluster().links();
                let prepared = links.prepare_security(section.security());
                Some(prepared.map_err(NodeError::Links)?)
            }
            _ => None,
        };
        Ok(Change {
            engine: self.engine.clone(),
            limits: engine_limits(config),
            plan: self.engine.prepare(router)?,
            workers,
            call_back: self.rpc_address().map(ToString::to_string),
            publisher: publisher.map_err(NodeError::Centrifugo)?,
            sampling: config.log.sampling,
            connections: connection_limits(config),
            current: Arc::clone(&self.limits),
            membership: self.membership.clone(),
            serves: config.node.serves.clone(),
            security,
        })
    }
}

impl Change {
    /// Starts the workers that it brings, beside those that run, and waits until they are there.
    ///
    /// # Errors
    /// They do not come up; dropped, the change ends those that did.
    pub(crate) async fn start_workers(&self) -> Result<(), NodeError> {
        workers::bring_up(&self.workers, self.call_back.as_deref()).await
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
        if let Some(security) = self.security {
            security.apply();
        }
        if let Some(membership) = &self.membership {
            membership.changed(self.serves, &self.engine);
        }
    }
}
