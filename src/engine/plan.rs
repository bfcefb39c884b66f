//! Routes and chains as the engine runs them: looked up for every event, replaced as a whole.

use crate::egress::Egress;
use crate::event::EventKind;
use crate::forward::Attributes;
use crate::handler::AnyHandler;
use crate::pipeline::{Chain, Lease};
use crate::pool::Threads;
use crate::routing::key::KeySpec;
use crate::routing::pattern::{Captures, Pattern};
use crate::routing::table::RouteTable;
use crate::watchdog::Activity;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// What is known of a route outside of the engine.
#[derive(Debug)]
pub struct RouteInfo {
    /// How the route is named in messages, such as ``rpc `seat.*` ``.
    pub name: String,
    /// The kind of event.
    pub kind: EventKind,
    /// What it matches.
    pub(crate) pattern: Pattern,
    /// Name of its handler.
    pub handler: String,
    /// Names of its stages, outermost first.
    pub stages: Vec<String>,
    /// What is serialised.
    pub key: String,
    /// Its own time limit.
    pub timeout: Option<Duration>,
    /// Name of the pool that runs its handler, if it has one.
    pub pool: Option<String>,
    /// Whether an event that may have run at a node which was lost is run once more at another:
    /// connect, refresh, subscribe, sub_refresh, and routes that say so.
    pub retry_safe: bool,
}

/// A compiled route.
pub(crate) struct Route {
    /// Its place in the plan.
    pub(crate) index: usize,
    /// What is known of it outside.
    pub(crate) info: RouteInfo,
    /// What is serialised.
    pub(crate) key: KeySpec,
    /// What its handlers publish by.
    pub(crate) egress: Arc<Egress>,
    /// Runs its events.
    pub(crate) handler: Arc<dyn AnyHandler>,
    /// Where they run, if not on the cores.
    pub(crate) pool: Option<Threads>,
    /// Its name for the watchdog.
    pub(crate) activity: Activity,
}

impl Route {
    /// The handler as failures name it.
    pub(crate) fn place(&self) -> String {
        format!("handler `{}` of {}", self.info.handler, self.info.name)
    }
}

impl fmt::Debug for Route {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Route")
            .field("info", &self.info)
            .finish_non_exhaustive()
    }
}

/// The chains of one core.
#[derive(Debug)]
pub(crate) struct CoreChains {
    /// Every stage, in file order.
    pub(crate) stages: Vec<Arc<Lease>>,
    /// By route.
    pub(crate) routed: Vec<Arc<Chain>>,
    /// By kind, for events without a route.
    pub(crate) unrouted: Vec<Arc<Chain>>,
}

/// Routes and chains.
#[derive(Debug)]
pub(crate) struct Plan {
    /// The routes by event and name.
    pub(crate) table: RouteTable<Arc<Route>>,
    /// The chains of each core.
    pub(crate) chains: Vec<CoreChains>,
    /// Types of attributes that cross between nodes.
    pub(crate) attributes: Attributes,
}

impl Plan {
    /// The route of an event.
    pub(crate) fn find(&self, kind: EventKind, subject: &str) -> Option<(Arc<Route>, Captures)> {
        let found = self.table.find(kind, subject)?;
        Some((Arc::clone(found.payload()), found.captures))
    }

    /// The stages that an event passes on a core.
    pub(crate) fn chain(&self, core: usize, kind: EventKind, route: Option<&Route>) -> Arc<Chain> {
        let chains = &self.chains[core];
        match route {
            Some(route) => Arc::clone(&chains.routed[route.index]),
            None => Arc::clone(&chains.unrouted[kind as usize]),
        }
    }
}
