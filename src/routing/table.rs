//! The routes of all events: which one takes an event, and which sets of them are refused.
//!
//! A table is built once and then only read. It refuses routes that could tie, routes that can never
//! take an event, and patterns that are none, all problems at once. Then the most specific route that
//! matches takes the event: an exact name by one look into a map, else the first pattern in order of
//! specificity. A look-up allocates nothing.

mod check;
mod explain;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

use xxhash_rust::xxh3::xxh3_64_with_seed;

pub use check::{CHANNEL_BYTES, NeverReason, RouteError};
pub use explain::{Candidate, Verdict};

use super::pattern::{Captures, Pattern};
use crate::event::EventKind;

/// A route as it was asked for, for one kind of event.
#[derive(Debug, Clone)]
pub struct RouteRule<T> {
    /// The event.
    pub kind: EventKind,
    /// The value of `match`; `None`: everything.
    pub pattern: Option<String>,
    /// What messages call it, such as ``route #2 (rpc `seat.*`)``.
    pub name: String,
    /// What the route leads to.
    pub payload: T,
}

/// A route of a table.
#[derive(Debug, Clone)]
pub struct Route<T> {
    kind: EventKind,
    pattern: Pattern,
    has_match: bool,
    name: String,
    payload: T,
}

impl<T> Route<T> {
    /// The event.
    pub fn kind(&self) -> EventKind {
        self.kind
    }

    /// The pattern of `match`; `None` if it was left out.
    pub fn pattern(&self) -> Option<&Pattern> {
        self.has_match.then_some(&self.pattern)
    }

    /// What messages call it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What the route leads to.
    pub fn payload(&self) -> &T {
        &self.payload
    }
}

/// The route that takes an event.
#[derive(Debug)]
pub struct RouteMatch<'t, T> {
    /// Its place among the rules that the table was built from.
    pub index: usize,
    /// What the captures of its pattern took.
    pub captures: Captures,
    /// The route itself.
    pub route: &'t Route<T>,
}

impl<'t, T> RouteMatch<'t, T> {
    /// What the route leads to.
    pub fn payload(&self) -> &'t T {
        &self.route.payload
    }

    /// The text that the capture called `param` took of `name`, the name that was looked up.
    pub fn param<'n>(&self, param: &str, name: &'n str) -> Option<&'n str> {
        self.route.pattern.param(param, &self.captures, name)
    }
}

/// The routes of all events.
#[derive(Debug, Clone)]
pub struct RouteTable<T> {
    routes: Vec<Route<T>>,
    kinds: [KindIndex; EventKind::ALL.len()],
}

/// Where the routes of one event are.
#[derive(Debug, Clone, Default)]
struct KindIndex {
    exact: HashMap<Box<str>, usize, BuildHasherDefault<NameHasher>>,
    /// The others, the most specific first.
    patterns: Vec<usize>,
}

impl<T> RouteTable<T> {
    /// Builds the table. `boundary` is the namespace boundary that captures stop at.
    ///
    /// # Errors
    /// Everything that is wrong with the rules, in their order.
    pub fn build(rules: Vec<RouteRule<T>>, boundary: &str) -> Result<Self, Vec<RouteError>> {
        let routes = check::check(rules, boundary)?;
        let mut kinds: [KindIndex; EventKind::ALL.len()] = Default::default();
        for (at, route) in routes.iter().enumerate() {
            let index = &mut kinds[route.kind as usize];
            match route.pattern.exact() {
                Some(name) => drop(index.exact.insert(name.into(), at)),
                None => index.patterns.push(at),
            }
        }
        for index in &mut kinds {
            index
                .patterns
                .sort_by_key(|at| std::cmp::Reverse(routes[*at].pattern.specificity()));
        }
        Ok(Self { routes, kinds })
    }

    /// The route that takes an event: the most specific that matches `name`, the event's channel or
    /// method; empty for events without one.
    pub fn find(&self, kind: EventKind, name: &str) -> Option<RouteMatch<'_, T>> {
        let index = &self.kinds[kind as usize];
        if let Some(at) = index.exact.get(name) {
            return self.matched(*at, Captures::default());
        }
        index.patterns.iter().find_map(|at| {
            let captures = self.routes.get(*at)?.pattern.matches(name)?;
            self.matched(*at, captures)
        })
    }

    /// All routes, in the order of the rules.
    pub fn routes(&self) -> &[Route<T>] {
        &self.routes
    }

    fn matched(&self, index: usize, captures: Captures) -> Option<RouteMatch<'_, T>> {
        Some(RouteMatch {
            index,
            captures,
            route: self.routes.get(index)?,
        })
    }
}

/// Hashes names of routes. They come from the configuration, so that nobody can choose them to
/// collide.
#[derive(Debug, Clone, Copy, Default)]
struct NameHasher(u64);

impl Hasher for NameHasher {
    fn write(&mut self, bytes: &[u8]) {
        self.0 = xxh3_64_with_seed(bytes, self.0);
    }

    /// The mark behind a `str`, which tells nothing here.
    fn write_u8(&mut self, _: u8) {}

    fn finish(&self) -> u64 {
        self.0
    }
}
