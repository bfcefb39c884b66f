//! An explanation in words: one line for each step of the way.

use super::path::Path;
use super::{Explanation, Place, Route};
use std::fmt;

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let subject = match self.subject.as_str() {
            "" => String::new(),
            name => format!(" `{name}`"),
        };
        line(f, "event", &format!("{}{subject}", self.event))?;
        let tls = if self.listener.tls { ", TLS" } else { "" };
        let credential = match &self.listener.credential {
            Some(name) => format!(", credential in `{name}`"),
            None => ", no credential".to_owned(),
        };
        line(
            f,
            "listener",
            &format!("grpc {}{tls}{credential}", self.listener.grpc),
        )?;
        let stage = |stage: &super::Stage| format!("{} (on {})", stage.name, stage.on);
        let stages: Vec<String> = self.interceptors.iter().map(stage).collect();
        let stages = match stages.as_slice() {
            [] => "none".to_owned(),
            stages => stages.join(" → "),
        };
        line(f, "interceptors", &stages)?;
        match &self.route {
            Some(route) => {
                line(f, "route", &format!("{} takes it", route.name))?;
                for (name, value) in &route.params {
                    line(f, "", &format!("{name} = `{value}`"))?;
                }
            }
            None => line(f, "route", "none takes it")?,
        }
        for other in &self.others {
            line(f, "", &format!("not {}: {}", other.name, other.why))?;
        }
        if let Some(route) = &self.route {
            way(f, route, self.path.as_ref())?;
        }
        if let Some(path) = &self.path {
            for (title, text) in path.lines(self.here()) {
                line(f, title, &text)?;
            }
        }
        if let Some(refused) = &self.refused {
            line(f, "answer", &refused.answer)?;
            line(f, "client", &refused.client)?;
        }
        line(f, "deadline", &self.deadline_text())
    }
}

/// Handler, key and owner.
fn way(f: &mut fmt::Formatter<'_>, route: &Route, path: Option<&Path>) -> fmt::Result {
    let on = match &route.pool {
        Some(pool) => format!(", on pool `{pool}`"),
        None => String::new(),
    };
    let at = match route.endpoints.as_slice() {
        [] => String::new(),
        endpoints => format!(", an upstream at {}", endpoints.join(", ")),
    };
    line(f, "handler", &format!("{}{at}{on}", route.handler))?;
    match &route.place {
        Place::Lane {
            lane,
            slot,
            shard,
            core,
            owner,
            epoch,
        } => {
            line(f, "key", &format!("{} → lane {lane}", route.key))?;
            line(f, "slot", &format!("{slot} → shard {shard} on core {core}"))?;
            match (path.and_then(Path::owner), owner, epoch) {
                (Some(owner), ..) => line(f, "owner", &owner),
                (None, Some(owner), Some(epoch)) => {
                    line(f, "owner", &format!("{owner} alone, epoch {epoch}"))
                }
                (None, ..) => line(f, "owner", "not known: the nodes of the cluster say"),
            }
        }
        Place::Anywhere {} => line(f, "key", &format!("{}: any shard, in parallel", route.key)),
        Place::BadData { problem } => line(f, "key", &format!("{}: {problem}", route.key)),
    }
}

impl Explanation {
    /// Handler and lane by this configuration; empty without one.
    fn here(&self) -> (&str, &str) {
        match &self.route {
            None => ("", ""),
            Some(route) => match &route.place {
                Place::Lane { lane, .. } => (route.handler.as_str(), lane.as_str()),
                Place::Anywhere {} | Place::BadData { .. } => (route.handler.as_str(), ""),
            },
        }
    }

    fn deadline_text(&self) -> String {
        let deadline = &self.deadline;
        let margin = format!(
            "the caller's grpc-timeout less {} ms (at most 10 %)",
            deadline.margin_ms
        );
        match deadline.route_ms {
            Some(own) => format!("{own} ms, or {margin} if that is sooner"),
            None => format!("{margin}, else {} ms", deadline.default_ms),
        }
    }
}

fn line(f: &mut fmt::Formatter<'_>, title: &str, text: &str) -> fmt::Result {
    writeln!(f, "{title:<13}{text}")
}
