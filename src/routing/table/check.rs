//! What makes a set of routes refuse to start.

use std::collections::HashMap;

use super::{Route, RouteRule};
use crate::event::{EventKind, Subject};
use crate::routing::pattern::{Pattern, PatternError, Specificity};

/// The most bytes that Centrifugo lets a channel have, unless `channel.max_length` says otherwise.
pub const CHANNEL_BYTES: usize = 255;

/// Something wrong with a route.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RouteError {
    /// Its `match` is no pattern.
    #[error("{route}: match: {source}")]
    Pattern {
        /// The route.
        route: String,
        /// The rule that it breaks.
        source: PatternError,
    },
    /// It has a `match` where there is nothing to match.
    #[error(
        "{route}: match = \"{pattern}\": the event `{kind}` has no name to match; leave `match` out"
    )]
    NothingToMatch {
        /// The route.
        route: String,
        /// As it was written.
        pattern: String,
        /// The event.
        kind: EventKind,
    },
    /// Neither of two routes is the more specific for some name.
    #[error(
        "{first} and {second} are equally specific and both match {example}; remove one, or give \
         one more literal text"
    )]
    Tie {
        /// The earlier route.
        first: String,
        /// The later route.
        second: String,
        /// A name that both match, in backquotes, or in words that it is every event.
        example: String,
    },
    /// It takes no event, ever.
    #[error("{route} can never match: {reason}")]
    Never {
        /// The route.
        route: String,
        /// Why not.
        reason: NeverReason,
    },
}

/// Why a route takes no event.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NeverReason {
    /// A more specific route takes all that it matches.
    #[error("all that it matches goes to {0}, which is more specific; remove one of the two")]
    Covered(String),
    /// No channel is that long.
    #[error(
        "a channel would need {0} bytes and Centrifugo allows {CHANNEL_BYTES} (channel.max_length); \
         shorten it"
    )]
    TooLong(usize),
}

/// Parses the rules and holds them against each other.
pub(super) fn check<T>(
    rules: Vec<RouteRule<T>>,
    boundary: &str,
) -> Result<Vec<Route<T>>, Vec<RouteError>> {
    let mut errors = Vec::new();
    let mut routes = Vec::with_capacity(rules.len());
    for rule in rules {
        match parse(rule, boundary) {
            Ok(route) => routes.push(route),
            Err(error) => errors.push(error),
        }
    }
    for kind in EventKind::ALL {
        let of_kind: Vec<&Route<T>> = routes.iter().filter(|route| route.kind == kind).collect();
        find_ties(&of_kind, &mut errors);
        errors.extend(of_kind.iter().filter_map(|route| covered(route, &of_kind)));
    }
    if errors.is_empty() {
        Ok(routes)
    } else {
        Err(errors)
    }
}

fn parse<T>(rule: RouteRule<T>, boundary: &str) -> Result<Route<T>, RouteError> {
    let RouteRule {
        kind,
        pattern: text,
        name,
        payload,
    } = rule;
    let has_match = text.is_some();
    let pattern = match text {
        None => Pattern::everything(),
        Some(pattern) if kind.subject() == Subject::Nothing => {
            return Err(RouteError::NothingToMatch {
                route: name,
                pattern,
                kind,
            });
        }
        Some(text) => match Pattern::parse(&text, boundary) {
            Ok(pattern) => pattern,
            Err(source) => {
                return Err(RouteError::Pattern {
                    route: name,
                    source,
                });
            }
        },
    };
    if kind.subject() == Subject::Channel && pattern.min_bytes() > CHANNEL_BYTES {
        let reason = NeverReason::TooLong(pattern.min_bytes());
        return Err(RouteError::Never {
            route: name,
            reason,
        });
    }
    Ok(Route {
        kind,
        pattern,
        has_match,
        name,
        payload,
    })
}

/// Names every two routes of one event that are equally specific and match one name.
fn find_ties<T>(routes: &[&Route<T>], errors: &mut Vec<RouteError>) {
    let mut exact: HashMap<&str, &Route<T>> = HashMap::new();
    let mut others: HashMap<Specificity, Vec<&Route<T>>> = HashMap::new();
    for route in routes {
        if let Some(name) = route.pattern.exact() {
            match exact.get(name) {
                Some(first) => errors.push(tie(first, route, format!("`{name}`"))),
                None => drop(exact.insert(name, route)),
            }
            continue;
        }
        let specificity = route.pattern.specificity();
        let equals = others.entry(specificity).or_default();
        errors.extend(equals.iter().filter_map(|first| {
            let common = first.pattern.common_name(&route.pattern)?;
            let example = match specificity {
                Specificity::Everything => format!("every {} event", route.kind),
                _ => format!("`{common}`"),
            };
            Some(tie(first, route, example))
        }));
        equals.push(route);
    }
}

fn tie<T>(first: &Route<T>, second: &Route<T>, example: String) -> RouteError {
    RouteError::Tie {
        first: first.name.clone(),
        second: second.name.clone(),
        example,
    }
}

/// The problem of a route whose names all go to more specific ones.
///
/// With at least one literal character that cannot be: put a character that no pattern has in the
/// place of each capture and `*`, and what matches that name has no more literal characters than the
/// route itself. So it remains to look at what takes everything: behind `{x...}` it is left with
/// the empty name, which a method can have and a channel cannot.
fn covered<T>(route: &Route<T>, routes: &[&Route<T>]) -> Option<RouteError> {
    if route.pattern.specificity() != Specificity::Everything {
        return None;
    }
    let names = match route.kind.subject() {
        Subject::Channel => Pattern::not_empty(),
        Subject::Method | Subject::Nothing => route.pattern.clone(),
    };
    let above = routes
        .iter()
        .filter(|other| other.pattern.specificity() == Specificity::Literals(0));
    let mut covers = above.filter(|other| names.covered_by(&[&other.pattern]));
    let reason = NeverReason::Covered(covers.next()?.name.clone());
    Some(RouteError::Never {
        route: route.name.clone(),
        reason,
    })
}
