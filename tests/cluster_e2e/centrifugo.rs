//! A real Centrifugo before the nodes.

use super::fleet::{Fleet, NODES, ip};
use super::names::Names;
use super::outside::{Program, free_ports};
use super::process::run;
use super::world::{self, Programs};
use serde_json::{Value, json};
use std::fs;

/// What stands in a configuration of Centrifugo for a name of all nodes.
const EVERYWHERE: &str = "grpc://every.node:1";

/// A Centrifugo; it ends with this.
pub(crate) struct Centrifugo {
    program: Program,
    _names: Option<Names>,
    pub(crate) url: String,
}

impl Centrifugo {
    /// What it says of calls that failed.
    pub(crate) fn complaints(&self) -> String {
        let said = fs::read_to_string(self.program.log()).unwrap_or_default();
        let complaints = said.lines().filter(|line| line.contains("\"error\""));
        complaints.collect::<Vec<_>>().join("\n")
    }
}

/// Where a Centrifugo sends events.
pub(crate) enum To<'a> {
    /// To this node.
    Node(usize),
    /// To these nodes, by event.
    Split(&'a [(&'a str, usize)]),
    /// To the first node that answers, from this one on.
    From(usize),
}

impl Fleet {
    /// A Centrifugo that sends events there; `change` is made to what `centrifugo-config` prints.
    pub(crate) fn centrifugo(
        &self,
        programs: &Programs,
        name: &str,
        to: &To<'_>,
        change: impl FnOnce(&mut Value),
    ) -> Centrifugo {
        let splits: Vec<String> = match to {
            To::Split(splits) => splits
                .iter()
                .map(|(event, node)| format!("--split={event}={}", self.address(*node)))
                .collect(),
            To::Node(_) | To::From(_) => Vec::new(),
        };
        let own = match to {
            To::Node(node) => format!("grpc://{}", self.address(*node)),
            To::Split(_) => format!("grpc://{}", self.address(0)),
            To::From(_) => EVERYWHERE.to_owned(),
        };
        let mut arguments = vec!["centrifugo-config", "--to", &own];
        arguments.extend(splits.iter().map(String::as_str));
        let printed = run(self.net.program(&self.home(0), &arguments));
        let start = printed
            .out
            .find('{')
            .unwrap_or_else(|| panic!("{printed:?}"));
        let names = match to {
            To::From(first) => {
                let turned = (0..NODES.len()).map(|node| ip((first + node) % NODES.len()));
                Some(Names::of(turned.collect()))
            }
            To::Node(_) | To::Split(_) => None,
        };
        let mut text = printed.out[start..].to_owned();
        if let Some(names) = &names {
            text = text.replace(EVERYWHERE, &names.target(self.net.port));
        }
        let mut stream = serde_json::Deserializer::from_str(&text).into_iter::<Value>();
        let mut config = stream.next().unwrap().unwrap();
        let [port] = free_ports();
        config["http_server"] = json!({ "address": "127.0.0.1", "port": port });
        config["health"] = json!({ "enabled": true });
        config["grpc_api"] = json!({ "enabled": false });
        // Without it none starts that has polls.
        config["shared_poll"]["hmac_secret_key"] = json!("not-a-secret");
        change(&mut config);
        let binary = &programs.centrifugo;
        let (program, _) = world::start_centrifugo(binary, name, &config, self.dir.path());
        Centrifugo {
            program,
            _names: names,
            url: format!("ws://127.0.0.1:{port}/connection/websocket"),
        }
    }
}
