//! Why an event takes the route that it takes.

use std::cmp::Reverse;

use super::{Route, RouteTable};
use crate::event::EventKind;
use crate::routing::pattern::{Mismatch, Specificity};

/// A route of the event's kind, and what became of it.
#[derive(Debug)]
pub struct Candidate<'t, T> {
    /// Its place among the rules that the table was built from.
    pub index: usize,
    /// The route.
    pub route: &'t Route<T>,
    /// How specific its pattern is.
    pub specificity: Specificity,
    /// What became of it.
    pub verdict: Verdict,
}

/// What became of a candidate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It takes the event; with what its captures took, by name.
    Takes(Vec<(String, String)>),
    /// It matches as well, but this route, more specific, takes the event.
    LosesTo(usize),
    /// It does not match.
    Differs(Mismatch),
}

impl<T> RouteTable<T> {
    /// Every route of the event's kind, the most specific first, with why it takes the event or does
    /// not. Agrees with [`RouteTable::find`].
    pub fn explain(&self, kind: EventKind, name: &str) -> Vec<Candidate<'_, T>> {
        let winner = self.find(kind, name);
        let of_kind = self
            .routes
            .iter()
            .enumerate()
            .filter(|(_, route)| route.kind == kind);
        let mut candidates: Vec<Candidate<'_, T>> = of_kind
            .map(|(index, route)| {
                let verdict = match (route.pattern.mismatch(name), &winner) {
                    (Some(why), _) => Verdict::Differs(why),
                    (None, Some(winner)) if winner.index != index => Verdict::LosesTo(winner.index),
                    (None, _) => Verdict::Takes(params(route, name)),
                };
                Candidate {
                    index,
                    route,
                    specificity: route.pattern.specificity(),
                    verdict,
                }
            })
            .collect();
        candidates.sort_by_key(|candidate| Reverse(candidate.specificity));
        candidates
    }
}

fn params<T>(route: &Route<T>, name: &str) -> Vec<(String, String)> {
    let captures = route.pattern.matches(name).unwrap_or_default();
    let taken = |param: &str| {
        let text = route.pattern.param(param, &captures, name)?;
        Some((param.to_owned(), text.to_owned()))
    };
    route.pattern.capture_names().filter_map(taken).collect()
}
