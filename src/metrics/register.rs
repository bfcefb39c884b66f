//! The cells of routes and interceptors by their labels: made when a plan is built, summed by a
//! scrape, never on the way of an event. They stay when their route goes, as counters should; their
//! number is bounded by the configurations that the process has run.

use super::RouteLabels;
use super::cells::EventCounts;
use super::stages::StageCounts;
use crate::event::EventKind;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

/// See the module's text.
#[derive(Debug)]
pub(super) struct Register {
    cores: usize,
    routes: Mutex<Vec<RouteSeries>>,
    unrouted: Vec<Vec<Arc<EventCounts>>>,
    stages: Mutex<BTreeMap<String, StageSeries>>,
}

/// A route, and its cells by core.
#[derive(Debug, Clone)]
pub(super) struct RouteSeries {
    pub(super) labels: RouteLabels,
    pub(super) cores: Vec<Arc<EventCounts>>,
}

/// An interceptor's cells by core. Routes may have interceptors of their own that share a name.
#[derive(Debug, Clone)]
pub(super) struct StageSeries {
    pub(super) has_after: bool,
    pub(super) cores: Vec<Arc<StageCounts>>,
}

impl Register {
    /// Cells for so many cores.
    pub(super) fn new(cores: usize) -> Self {
        Self {
            cores,
            routes: Mutex::default(),
            unrouted: EventKind::ALL.iter().map(|_| cells(cores)).collect(),
            stages: Mutex::default(),
        }
    }

    /// The cells of a route; new ones if no route had its labels yet.
    pub(super) fn route(&self, labels: &RouteLabels) -> Vec<Arc<EventCounts>> {
        let mut routes = self.routes.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = routes.iter().find(|known| known.labels == *labels) {
            return known.cores.clone();
        }
        let cores: Vec<Arc<EventCounts>> = cells(self.cores);
        routes.push(RouteSeries {
            labels: labels.clone(),
            cores: cores.clone(),
        });
        cores
    }

    /// The cells of a kind's events without a route.
    pub(super) fn unrouted(&self, kind: EventKind) -> &[Arc<EventCounts>] {
        &self.unrouted[kind as usize]
    }

    /// The cells of an interceptor; new ones if none had its name yet.
    pub(super) fn stage(&self, name: &str, has_after: bool) -> Vec<Arc<StageCounts>> {
        let mut stages = self.stages.lock().unwrap_or_else(PoisonError::into_inner);
        let series = stages
            .entry(name.to_owned())
            .or_insert_with(|| StageSeries {
                has_after,
                cores: cells(self.cores),
            });
        series.has_after |= has_after;
        series.cores.clone()
    }

    /// Every route there has been, in the order of their first plan.
    pub(super) fn routes(&self) -> Vec<RouteSeries> {
        let routes = self.routes.lock().unwrap_or_else(PoisonError::into_inner);
        routes.clone()
    }

    /// Every interceptor there has been, by name.
    pub(super) fn stages(&self) -> BTreeMap<String, StageSeries> {
        let stages = self.stages.lock().unwrap_or_else(PoisonError::into_inner);
        stages.clone()
    }
}

fn cells<T: Default>(cores: usize) -> Vec<Arc<T>> {
    (0..cores).map(|_| Arc::default()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(route: &str) -> RouteLabels {
        RouteLabels {
            kind: EventKind::Rpc,
            route: route.to_owned(),
            handler: "echo".to_owned(),
        }
    }

    #[test]
    fn the_same_labels_get_the_same_cells_and_others_get_their_own() {
        let register = Register::new(2);
        let first = register.route(&labels("a"));
        let other = register.route(&labels("b"));
        let again = register.route(&labels("a"));
        assert_eq!((first.len(), register.routes().len()), (2, 2));
        assert!(Arc::ptr_eq(&first[1], &again[1]));
        assert!(!Arc::ptr_eq(&first[1], &other[1]) && !Arc::ptr_eq(&first[0], &first[1]));
    }

    #[test]
    fn an_interceptor_that_comes_back_goes_on_counting_and_may_gain_a_half() {
        let register = Register::new(1);
        let first = register.stage("limit", false);
        let again = register.stage("limit", true);
        assert!(Arc::ptr_eq(&first[0], &again[0]));
        assert!(register.stages()["limit"].has_after);
    }
}
