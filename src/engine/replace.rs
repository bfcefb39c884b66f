//! Plans made of compiled routers: the first one, and those that replace it while events run.
//!
//! A plan keeps of the one before what did not change: a stage that has the same interceptor under
//! the same name stays, with its actor and what waits for it. An event runs from its start to its end
//! under the plan that let it in; lanes belong to keys, not to plans, so order per key holds across.

use super::Engine;
use super::children::stage_child;
use super::compile::{BuildError, Compiled, EngineError};
use super::limits::EngineLimits;
use super::plan::{CoreChains, Plan, Route, RouteInfo};
use super::shared::Shared;
use crate::egress::Egress;
use crate::event::EventKind;
use crate::metrics::Metrics;
use crate::pipeline::{Chain, Lease, Roster, Stage};
use crate::router::{Router, StageSpec};
use crate::routing::table::{RouteRule, RouteTable};
use crate::supervision::SupervisorMessage;
use crate::watchdog::{Activities, Activity};
use std::sync::Arc;

/// What plans are made with.
pub(super) struct Ground<'g> {
    pub(super) boundary: &'g str,
    pub(super) egress: &'g Arc<Egress>,
    pub(super) activities: &'g Activities,
    pub(super) metrics: &'g Metrics,
    /// By core.
    pub(super) rosters: Vec<&'g Arc<Roster>>,
}

impl<'g> Ground<'g> {
    fn of(shared: &'g Shared) -> Self {
        Self {
            boundary: &shared.boundary,
            egress: &shared.egress,
            activities: &shared.activities,
            metrics: &shared.metrics,
            rosters: shared.cores.iter().map(|core| &core.roster).collect(),
        }
    }

    /// A plan that keeps the stages of `before` which did not change. The actors of new stages are
    /// the caller's to start.
    pub(super) fn plan(
        &self,
        compiled: Compiled,
        before: Option<&Plan>,
    ) -> Result<Plan, EngineError> {
        let stage_activities: Vec<Activity> = compiled
            .stages
            .iter()
            .map(|stage| {
                self.activities
                    .register(format!("interceptor `{}`", stage.name))
            })
            .collect();
        let chains = (0..self.rosters.len()).map(|core| {
            let before = before.map(|plan| &plan.chains[core]);
            self.chains(core, &compiled, &stage_activities, before)
        });
        let chains = chains.collect();
        let infos: Vec<RouteInfo> = (0..compiled.routes.len())
            .map(|at| compiled.info(at))
            .collect();
        let mut rules = Vec::new();
        let attributes = compiled.attributes;
        for (index, (mut compiled, info)) in compiled.routes.into_iter().zip(infos).enumerate() {
            let pool = compiled.route.pool.as_ref();
            let pool = pool.map(crate::pool::Pool::start).transpose()?;
            let handler = compiled.route.handler();
            let (pattern, name) = (compiled.route.pattern.clone(), info.name.clone());
            let activity = format!("handler `{}` of {name}", info.handler);
            let kind = info.kind;
            let route = Route {
                index,
                info,
                key: compiled.key,
                egress: Arc::clone(self.egress),
                handler,
                pool,
                activity: self.activities.register(activity),
            };
            rules.push(RouteRule {
                kind,
                pattern,
                name,
                payload: Arc::new(route),
            });
        }
        let table = RouteTable::build(rules, self.boundary).map_err(|errors| BuildError {
            problems: errors.iter().map(ToString::to_string).collect(),
        })?;
        Ok(Plan {
            table,
            chains,
            attributes,
        })
    }

    /// The stages of one core, and the chains of them.
    fn chains(
        &self,
        core: usize,
        compiled: &Compiled,
        activities: &[Activity],
        before: Option<&CoreChains>,
    ) -> CoreChains {
        let stage = |(spec, activity): (&StageSpec, &Activity)| {
            let is_same = |lease: &&Arc<Lease>| lease.stage().is(&spec.name, &spec.interceptor);
            if let Some(kept) = before.and_then(|before| before.stages.iter().find(is_same)) {
                return Arc::clone(kept);
            }
            let has_after = spec.interceptor.has_after();
            let counts = self.metrics.of_stage(&spec.name, has_after);
            self.rosters[core].list(Stage::new(
                spec.name.as_str().into(),
                Arc::clone(&spec.interceptor),
                *activity,
                counts.get(core).cloned(),
            ))
        };
        let stages: Vec<Arc<Lease>> = compiled.stages.iter().zip(activities).map(stage).collect();
        let of = |ids: &[usize]| ids.iter().map(|id| Arc::clone(&stages[*id])).collect();
        let routed = compiled.routes.iter().enumerate().map(|(at, route)| {
            let counts = self.metrics.of_route(&compiled.labels(at));
            Arc::new(Chain::new(of(&route.stages), counts.get(core).cloned()))
        });
        let routed = routed.collect();
        let unrouted = EventKind::ALL.iter().map(|kind| {
            let counts = self.metrics.of_unrouted(*kind).get(core).cloned();
            Arc::new(Chain::new(of(&compiled.unrouted(*kind)), counts))
        });
        let unrouted = unrouted.collect();
        CoreChains {
            stages,
            routed,
            unrouted,
        }
    }
}

/// A plan that could be made, and does not run yet; dropped it leaves nothing behind.
#[derive(Debug)]
pub(crate) struct Prepared {
    shared: Arc<Shared>,
    plan: Plan,
}

impl Engine {
    /// Makes a plan of another router, without touching what runs.
    ///
    /// # Errors
    /// The router contradicts itself, or a pool's threads can't be started.
    pub(crate) fn prepare(&self, router: Router) -> Result<Prepared, EngineError> {
        let shared = Arc::clone(&self.shared);
        let compiled = Compiled::try_new(router, &shared.boundary)?;
        if shared.forward.is_some() {
            compiled.check_attributes()?;
        }
        let plan = Ground::of(&shared).plan(compiled, Some(&shared.plan.load()))?;
        Ok(Prepared { shared, plan })
    }

    /// These limits hold from now on. What is above a lowered one stays and is answered; nothing new
    /// is let in until it is below.
    pub(crate) fn set_limits(&self, limits: &EngineLimits) {
        self.shared.limits.set(limits);
    }

    /// Runs another router for the events that come in from now on. Those that are in go on under
    /// the routes and stages that they have; stages that none of them needs any more end.
    ///
    /// # Errors
    /// As for [`Engine::prepare`]; what runs stays.
    #[cfg(test)]
    pub(crate) fn replace(&self, router: Router) -> Result<(), EngineError> {
        self.prepare(router).map(Prepared::run)
    }
}

impl Prepared {
    /// Runs it for the events that come in from now on.
    pub(crate) fn run(self) {
        let Self { shared, plan } = self;
        let before = shared.plan.load_full();
        for (core, chains) in plan.chains.iter().enumerate() {
            let known = &before.chains[core].stages;
            let is_new = |lease: &&Arc<Lease>| known.iter().all(|known| known.id() != lease.id());
            for lease in chains.stages.iter().filter(is_new) {
                let child = stage_child(core, lease.id(), lease.stage(), &shared);
                let supervisor = &shared.cores[core].roster.supervisor;
                // One that is gone starts what is listed when it comes back; an engine that has
                // ended runs nothing.
                drop(supervisor.cast(SupervisorMessage::Add(child)));
            }
        }
        shared.plan.store(Arc::new(plan));
    }
}
