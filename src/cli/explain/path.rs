//! The way of an event across the nodes of a cluster, as the running node tells it.

use super::super::admin::Target;
use super::super::cluster::show::named;
use super::super::error::CliError;
use super::super::event::FiredEvent;
use super::{Explanation, Place};
use crate::proto::admin::{ExplainRequest, ExplainResponse, ExplainedNode};
use http::HeaderMap;
use serde::Serialize;
use std::collections::HashMap;
use std::time::Duration;

/// What makes a node take an event otherwise than this configuration.
const OTHER_ROUTES: &str = "the node runs other routes than this configuration has";

/// How long the node may take: it asks another one.
const LIMIT: Duration = Duration::from_secs(5);

/// What the running node says, or why it does not.
#[derive(Debug, Serialize)]
#[serde(untagged)]
pub(super) enum Path {
    /// As the node has it.
    Told {
        /// The admin address that was asked.
        asked: String,
        #[serde(flatten)]
        told: Box<ExplainResponse>,
    },
    /// Nobody says.
    Unknown {
        /// Why.
        unknown: String,
    },
}

impl Path {
    /// Why nobody says, if so.
    pub(super) fn unknown(&self) -> Option<&str> {
        match self {
            Self::Told { .. } => None,
            Self::Unknown { unknown } => Some(unknown),
        }
    }
}

/// Asks the node of the configuration.
pub(super) fn ask(target: Result<Target, CliError>, event: &FiredEvent) -> Path {
    match target.map_err(|error| error.why()).and_then(|target| {
        let request = ExplainRequest {
            event: event.kind.name().to_owned(),
            method: event.raw_method.clone(),
            request: event.request.to_vec(),
            metadata: entries(&event.metadata),
        };
        let told = target.call_within(LIMIT, "explain", request, async |mut client, request| {
            client.explain(request).await
        });
        let asked = target.address().to_string();
        match told {
            Ok(told) => Ok((asked, Box::new(told))),
            Err(error) => Err(format!("{asked}: {}", error.why())),
        }
    }) {
        Ok((asked, told)) => Path::Told { asked, told },
        Err(unknown) => Path::Unknown { unknown },
    }
}

fn entries(metadata: &HeaderMap) -> HashMap<String, String> {
    let text = |(name, value): (&http::HeaderName, &http::HeaderValue)| {
        Some((name.as_str().to_owned(), value.to_str().ok()?.to_owned()))
    };
    metadata.iter().filter_map(text).collect()
}

impl Explanation {
    /// Takes the way across nodes up: what the owner says of its place replaces our own reckoning.
    pub(super) fn follow(&mut self, path: Path) {
        if let Path::Told { told, .. } = &path
            && let Some(route) = &mut self.route
            && let Place::Lane {
                slot,
                shard,
                core,
                owner,
                epoch,
                ..
            } = &mut route.place
        {
            let slot = told.slot.as_ref().filter(|of| of.slot == u32::from(*slot));
            *owner = slot.and_then(|slot| Some(slot.owner.as_ref()?.name.clone()));
            *epoch = slot.map(|slot| slot.epoch);
            if slot.is_some()
                && let [node] = told.nodes.as_slice()
                && let (Some(its_shard), Some(its_core)) = (node.shard, node.core)
            {
                let narrow = |place: u32| u16::try_from(place).unwrap_or(u16::MAX);
                (*shard, *core) = (narrow(its_shard), narrow(its_core));
            }
        }
        self.path = Some(path);
    }
}

impl Path {
    /// The owner of the slot: where it is, and whether it may act.
    pub(super) fn owner(&self) -> Option<String> {
        let told = match self {
            Self::Told { told, .. } => told,
            Self::Unknown { unknown } => return Some(format!("not known: {unknown}")),
        };
        let slot = told.slot.as_ref()?;
        if slot.owner.is_none() {
            return Some(format!("nobody, last epoch {}", slot.epoch));
        }
        let mut text = named(slot.owner.as_ref());
        let node = told.nodes.first();
        if let Some(node) = node.filter(|node| !node.addrs.is_empty()) {
            text.push_str(&format!(" at {}", node.addrs.join(", ")));
        }
        text.push_str(&format!(", epoch {}", slot.epoch));
        if let Some(node) = node {
            text.push_str(&standing(node));
        }
        if let Some(to) = &slot.moving_to {
            text.push_str(&format!(", moving to {}", named(Some(to))));
        }
        Some(text)
    }

    /// The lines behind the owner: title and text. Handler and lane are those of the configuration,
    /// empty without one.
    pub(super) fn lines(&self, (handler, lane): (&str, &str)) -> Vec<(&'static str, String)> {
        let told = match self {
            Self::Told { told, .. } => told,
            Self::Unknown { unknown } => {
                let help =
                    "start the node, or name its admin address with --set listen.admin=ADDRESS";
                return vec![
                    ("path", format!("not known: {unknown}")),
                    ("", help.to_owned()),
                ];
            }
        };
        let mut lines = vec![("path", way(told)), ("", told.why.clone())];
        if told.way != "refused" && told.key != lane {
            let name = named(told.ingress.as_ref());
            let key = match told.key.as_str() {
                "" => "it has no key".to_owned(),
                key => format!("its key is {key}"),
            };
            lines.push(("", format!("{name}: by its routes {key}: {OTHER_ROUTES}")));
        }
        for node in &told.nodes {
            let name = named(node.node.as_ref());
            let mut say = |text: String| lines.push(("", format!("{name}: {text}")));
            if !node.unknown.is_empty() {
                say(format!("what it would do is not known: {}", node.unknown));
            } else if !node.problem.is_empty() {
                say(node.problem.clone());
            }
            if !node.handler.is_empty() && handler != node.handler {
                say(format!(
                    "its handler is `{}` ({}), not the one of this configuration",
                    node.handler, node.route
                ));
            }
        }
        lines
    }
}

/// Whether a node may act for its slot now.
fn standing(node: &ExplainedNode) -> String {
    let lease = match node.lease_ms {
        Some(0) => ", its lease is over",
        Some(left) => return format!(", slot {}, lease for {left} ms more", node.gate),
        None if node.unknown.is_empty() => "",
        None => ", its lease is not known",
    };
    lease.to_owned()
}

/// From node to node, in one line.
fn way(told: &ExplainResponse) -> String {
    let mut steps = vec![format!("in at {}", named(told.ingress.as_ref()))];
    steps.extend(told.interceptors.iter().cloned());
    let names = || {
        let names: Vec<String> = told
            .nodes
            .iter()
            .map(|it| named(it.node.as_ref()))
            .collect();
        names.join(", ")
    };
    let handler = |node: &ExplainedNode| {
        let place = match (node.shard, node.core) {
            (Some(shard), Some(core)) => format!(" on shard {shard}, core {core}"),
            _ => String::new(),
        };
        (!node.handler.is_empty()).then(|| format!("handler {}{place}", node.handler))
    };
    match told.way.as_str() {
        "here" => {
            steps.push("stays there".to_owned());
            steps.extend(told.nodes.first().and_then(handler));
        }
        "forwarded" if told.nodes.len() == 1 => {
            steps.push(format!("forwarded once, to {}", names()));
            steps.extend(told.nodes.first().and_then(handler));
        }
        "forwarded" => {
            steps.push(format!("forwarded once, to one of {}", names()));
            steps.extend(told.nodes.first().and_then(handler));
        }
        "split" => steps.push(format!("split between {}", names())),
        "held" => steps.push("waits there".to_owned()),
        "unavailable" => steps.push("answered unavailable there".to_owned()),
        "refused" => steps.push("refused there".to_owned()),
        other => steps.push(other.to_owned()),
    }
    steps.join(" → ")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::proto::admin::{Named, Slot};

    fn name(id: u32, name: &str) -> Option<Named> {
        let name = name.to_owned();
        Some(Named { id, name })
    }

    fn told() -> ExplainResponse {
        ExplainResponse {
            ingress: name(1, "a"),
            interceptors: vec!["log".to_owned()],
            version: 12,
            key: "channel chat:42".to_owned(),
            slot: Some(Slot {
                slot: 3027,
                owner: name(3, "b"),
                epoch: 4,
                moving_to: None,
            }),
            way: "forwarded".to_owned(),
            why: "b (3) owns the slot".to_owned(),
            nodes: vec![ExplainedNode {
                node: name(3, "b"),
                addrs: vec!["10.0.0.2:7946".to_owned()],
                handler: "join".to_owned(),
                shard: Some(9),
                core: Some(1),
                gate: "open".to_owned(),
                epoch: 4,
                lease_ms: Some(900),
                ..ExplainedNode::default()
            }],
        }
    }

    fn path(told: ExplainResponse) -> Path {
        let asked = "127.0.0.1:10003".to_owned();
        let told = Box::new(told);
        Path::Told { asked, told }
    }

    #[test]
    fn the_path_names_owner_lease_and_both_nodes() {
        let path = path(told());
        assert_eq!(
            path.owner().unwrap(),
            "b (3) at 10.0.0.2:7946, epoch 4, slot open, lease for 900 ms more"
        );
        assert_eq!(
            path.lines(("join", "channel chat:42")),
            [
                (
                    "path",
                    "in at a (1) → log → forwarded once, to b (3) → handler join on shard 9, core 1"
                        .to_owned()
                ),
                ("", "b (3) owns the slot".to_owned()),
            ]
        );
    }

    #[test]
    fn what_the_owner_has_otherwise_and_what_nobody_says_is_told_in_words() {
        let mut other = told();
        other.nodes[0].lease_ms = Some(0);
        other.nodes[0].problem = "the slot is closed for a move".to_owned();
        let other = path(other);
        assert!(other.owner().unwrap().ends_with("its lease is over"));
        let lines = other.lines(("leave", "channel chat:42"));
        assert_eq!(lines[2].1, "b (3): the slot is closed for a move");
        assert!(lines[3].1.contains("its handler is `join`"), "{lines:?}");

        let mut silent = told();
        silent.nodes[0] = ExplainedNode {
            node: name(3, "b"),
            unknown: "no answer by the deadline".to_owned(),
            ..ExplainedNode::default()
        };
        let silent = path(silent);
        assert!(silent.owner().unwrap().ends_with("its lease is not known"));
        assert!(
            silent.lines(("join", "channel chat:42"))[2]
                .1
                .contains("no answer")
        );
        let lines = silent.lines(("join", "user ada"));
        assert!(
            lines[2].1.contains("its key is channel chat:42"),
            "{lines:?}"
        );

        let mut vacant = told();
        (vacant.way, vacant.nodes) = ("held".to_owned(), Vec::new());
        vacant.slot.as_mut().unwrap().owner = None;
        let vacant = path(vacant);
        assert_eq!(vacant.owner().unwrap(), "nobody, last epoch 4");
        assert!(vacant.lines(("join", ""))[0].1.ends_with("waits there"));
    }
}
