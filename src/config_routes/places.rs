//! From what is wrong with a router to the keys of the configuration.

use crate::config::{Config, Origin, Problem};
use crate::engine::compile::RouterProblem;
use crate::router::Route;
use crate::routing::table::RouteError;

/// Which route of a router is which `[[route]]`.
pub(super) struct Places<'c> {
    config: &'c Config,
    /// Titles of routes and their places in the configuration.
    routes: Vec<(String, usize)>,
}

impl<'c> Places<'c> {
    pub(super) const fn new(config: &'c Config) -> Self {
        Self {
            config,
            routes: Vec::new(),
        }
    }

    /// Remembers a route of the configuration.
    pub(super) fn add(&mut self, route: &Route, at: usize) {
        self.routes.push((route.title(), at));
    }

    fn find(&self, title: &str) -> Option<usize> {
        let known = self.routes.iter().find(|(known, _)| known == title);
        known.map(|(_, at)| *at)
    }

    /// The same problem with its key; one of the program's own router has the key `router`.
    pub(super) fn problem(&self, found: RouterProblem) -> Problem {
        let whole = found.to_string();
        let placed = match found {
            RouterProblem::SameName(name) => self.of_interceptor(&name, &whole),
            RouterProblem::NoStage { route, name } => {
                let rule = format!("no interceptor with on = \"route\" is called `{name}`");
                let fix = "add an [[interceptor]] of this name with on = \"route\"";
                self.of_route(&route, "interceptors", &rule, fix)
            }
            RouterProblem::Params { .. } | RouterProblem::Attributes(_) => None,
            RouterProblem::Key { route, source } => self.of_route(
                &route,
                "key",
                &source.rule.to_string(),
                "choose another key",
            ),
            RouterProblem::Route(error) => self.of_error(&error),
        };
        placed.unwrap_or_else(|| {
            let (rule, fix) = parted(&whole);
            let fix = fix.unwrap_or_else(|| "change the routes of the program".to_owned());
            problem("router".to_owned(), None, rule, &fix, &Origin::Default)
        })
    }

    fn of_error(&self, error: &RouteError) -> Option<Problem> {
        match error {
            RouteError::Pattern { route, source } => {
                let rule = format!("character {}: {}", source.position, source.rule);
                self.of_route(route, "match", &rule, "write another pattern")
            }
            RouteError::NothingToMatch { route, kind, .. } => {
                let rule = format!("the event `{kind}` has no name to match; leave `match` out");
                self.of_route(route, "match", &rule, "leave `match` out")
            }
            // A tie is told of the later one, unless only the earlier is of the configuration.
            RouteError::Tie { first, second, .. } => {
                let rule = error.to_string();
                self.of_route(second, "match", &rule, "remove one")
                    .or_else(|| self.of_route(first, "match", &rule, "remove one"))
            }
            RouteError::Never { route, reason } => {
                let rule = format!("can never match: {reason}");
                self.of_route(route, "match", &rule, "remove it")
            }
        }
    }

    /// `rule` may bring its fix along, behind a semicolon.
    fn of_route(&self, title: &str, key: &str, rule: &str, fix: &str) -> Option<Problem> {
        let at = self.find(title)?;
        let route = self.config.routes.get(at)?;
        let value = match key {
            "match" => route.pattern.as_deref(),
            "key" => route.key.as_deref(),
            _ => None,
        };
        let (rule, better) = parted(rule);
        let fix = better.as_deref().unwrap_or(fix);
        let key = format!("route.{at}.{key}");
        Some(problem(key, value, rule, fix, &route.origin))
    }

    fn of_interceptor(&self, name: &str, rule: &str) -> Option<Problem> {
        let interceptors = &self.config.interceptors;
        let at = interceptors.iter().rposition(|other| other.name == name)?;
        Some(problem(
            format!("interceptor.{at}.name"),
            Some(name),
            rule.to_owned(),
            "give each a name of its own",
            &interceptors.get(at)?.origin,
        ))
    }
}

/// A problem; the value is shown as TOML writes a string.
pub(super) fn problem(
    key: String,
    value: Option<&str>,
    rule: String,
    fix: &str,
    origin: &Origin,
) -> Problem {
    Problem {
        key,
        value: value.map(|value| toml::Value::from(value).to_string()),
        rule,
        fix: fix.to_owned(),
        origin: origin.clone(),
    }
}

/// A rule and the fix that stands behind it.
pub(super) fn parted(text: &str) -> (String, Option<String>) {
    match text.rsplit_once("; ") {
        Some((rule, fix)) => (rule.to_owned(), Some(fix.to_owned())),
        None => (text.to_owned(), None),
    }
}
