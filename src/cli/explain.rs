//! `explain`: the way of an event through this configuration, decided by the same code that runs it;
//! in a cluster also across its nodes, which the running node is asked for.

mod path;
mod text;

use super::admin::Target;
use super::error::{CliError, Exit};
use super::event::{EventArgs, FiredEvent};
use super::meaning;
use super::{Session, output};
use crate::answer::{Answer, answer};
use crate::config::{Config, HandlerConfig};
use crate::engine::compile::{Compiled, CompiledRoute};
use crate::envelope::Envelope;
use crate::event::EventKind;
use crate::event::setters::unix_after;
use crate::json::response_to_json;
use crate::outcome::Failure;
use crate::router::On;
use crate::routing::key::KeySource;
use crate::routing::table::Verdict;
use bytes::Bytes;
use centripeta_cluster::{OwnerEpoch, ShardLayout};
use clap::Args;
use serde::Serialize;
use std::collections::BTreeMap;
use std::time::Duration;
use tokio::time::Instant;

#[derive(Debug, Args)]
#[command(after_help = "\
No event is sent: listener, interceptors in their order, route and why, handler, key, slot, shard,
owner and deadline are worked out from the configuration and the program's own routes. With
[cluster], or --running, the node on listen.admin is asked for the rest: who owns the slot, and the
way there; what the owner itself says of its route, its lease and the slot is what counts. With
--offline no node is asked, so it works while none runs, and the owner stays unknown.

Examples:
  centripeta explain subscribe --channel chat:lobby
  centripeta explain rpc --method count --user ada --config b.toml --json
  centripeta explain rpc --method count --user ada --offline")]
pub(super) struct ExplainArgs {
    #[command(flatten)]
    event: EventArgs,
    /// Asks no node: in a cluster the owner stays unknown
    #[arg(long, conflicts_with = "running")]
    offline: bool,
    /// Asks the node on listen.admin, be there [cluster] in this configuration or not
    #[arg(long)]
    running: bool,
    /// Prints one JSON object
    #[arg(long)]
    json: bool,
}

/// The way of an event.
#[derive(Debug, Serialize)]
struct Explanation {
    event: &'static str,
    /// Channel or method.
    subject: String,
    listener: Listener,
    interceptors: Vec<Stage>,
    route: Option<Route>,
    /// Routes of the event that do not take it, the most specific first.
    others: Vec<Other>,
    /// What the caller and the client get where the event does not come to a handler.
    #[serde(skip_serializing_if = "Option::is_none")]
    refused: Option<Refused>,
    /// The way across nodes, where one was asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    path: Option<path::Path>,
    deadline: Deadline,
}

#[derive(Debug, Serialize)]
struct Listener {
    grpc: String,
    tls: bool,
    /// The metadata key of the credential that it asks for.
    #[serde(skip_serializing_if = "Option::is_none")]
    credential: Option<String>,
}

#[derive(Debug, Serialize)]
struct Stage {
    name: String,
    /// `*`, the events, or `route`.
    on: String,
}

#[derive(Debug, Serialize)]
struct Route {
    name: String,
    params: BTreeMap<String, String>,
    handler: String,
    /// Of an upstream, where it is.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    endpoints: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pool: Option<String>,
    key: String,
    place: Place,
}

/// Where the handler runs.
#[derive(Debug, Serialize)]
#[serde(untagged)]
enum Place {
    /// In the lane of a key.
    Lane {
        lane: String,
        slot: u16,
        shard: u16,
        core: u16,
        /// In a cluster, `None` while nobody has said.
        owner: Option<String>,
        epoch: Option<u64>,
    },
    /// No key: any shard, in parallel.
    Anywhere {},
    /// The key can't be told.
    BadData { problem: String },
}

#[derive(Debug, Serialize)]
struct Other {
    name: String,
    why: String,
}

#[derive(Debug, Serialize)]
struct Refused {
    /// The reply, or the gRPC status.
    answer: String,
    client: String,
}

#[derive(Debug, Serialize)]
struct Deadline {
    /// The route's own limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    route_ms: Option<u128>,
    /// Where the caller says nothing.
    default_ms: u128,
    /// What is kept back of the caller's time, at most a tenth.
    margin_ms: u128,
}

pub(super) fn run(session: Session, args: &ExplainArgs) -> Result<(), CliError> {
    let event = args.event.build()?;
    let target = Target::of(&session);
    let (loaded, compiled) = session.compile()?;
    let mut explanation = explain(&loaded.config, &compiled, &event)?;
    let mut unanswered = None;
    if (loaded.config.cluster.is_some() && !args.offline) || args.running {
        let path = path::ask(target, &event);
        unanswered = path.unknown().filter(|_| args.running).map(str::to_owned);
        explanation.follow(path);
    }
    if args.json {
        let value = serde_json::to_value(&explanation).map_err(CliError::internal)?;
        output::say_json(&value);
    } else {
        output::say(explanation.to_string().trim_end());
    }
    match unanswered {
        // What the configuration says is out; what was asked for is not.
        Some(why) => Err(CliError::new(
            Exit::Unreachable,
            "the running node was not asked",
            why,
            "start the node, or set listen.admin to where it listens; --offline explains without it",
        )),
        None => Ok(()),
    }
}

fn explain(
    config: &Config,
    compiled: &Compiled,
    event: &FiredEvent,
) -> Result<Explanation, CliError> {
    let kind = event.kind;
    let now = Instant::now();
    let (raw, metadata) = (event.request.clone(), event.metadata.clone());
    let envelope = match kind {
        EventKind::Raw => Envelope::unknown_method(&event.raw_method, raw, metadata, now),
        _ => Envelope::try_new(kind, raw, metadata, now).map_err(CliError::internal)?,
    };
    let boundary = &config.channel.namespace_boundary;
    let table = compiled.table(boundary).map_err(|errors| {
        let errors: Vec<String> = errors.iter().map(ToString::to_string).collect();
        CliError::internal(errors.join("; "))
    })?;
    let mut others = Vec::new();
    let mut taken = None;
    for candidate in table.explain(kind, envelope.subject()) {
        let name = candidate.route.name().to_owned();
        let why = match candidate.verdict {
            Verdict::Takes(params) => {
                taken = Some((candidate.index, params.into_iter().collect()));
                continue;
            }
            Verdict::LosesTo(winner) => {
                let winner = table.routes().get(winner).map_or("", |route| route.name());
                format!("matches too, but {winner} is more specific")
            }
            Verdict::Differs(why) => format!("`{}` {why}", envelope.subject()),
        };
        others.push(Other { name, why });
    }
    let stages = match &taken {
        Some((index, _)) => compiled.routes[*index].stages.clone(),
        None => compiled.unrouted(kind),
    };
    let timeout = taken
        .as_ref()
        .and_then(|(index, _)| compiled.routes[*index].route.timeout);
    let route = taken
        .map(|(index, params)| route(config, compiled, index, params, &envelope))
        .transpose()?;
    let failure = match &route {
        None => Some(Failure::NoRoute),
        Some(Route {
            place: Place::BadData { problem },
            ..
        }) => Some(Failure::BadData(problem.clone())),
        Some(_) => None,
    };
    Ok(Explanation {
        event: kind.name(),
        subject: envelope.subject().to_owned(),
        listener: listener(config),
        interceptors: stages.iter().map(|id| stage(compiled, *id)).collect(),
        route,
        others,
        refused: failure.map(|failure| refused(kind, failure)),
        path: None,
        deadline: Deadline {
            route_ms: timeout.map(|timeout| timeout.as_millis()),
            default_ms: config.limits.timeout.as_millis(),
            margin_ms: config.limits.deadline_margin.as_millis(),
        },
    })
}

fn listener(config: &Config) -> Listener {
    Listener {
        grpc: config.listen.grpc.to_string(),
        tls: config.listen.tls.is_some(),
        credential: config
            .listen
            .auth
            .as_ref()
            .map(|auth| auth.metadata.clone()),
    }
}

fn stage(compiled: &Compiled, id: usize) -> Stage {
    let stage = &compiled.stages[id];
    let on = match &stage.on {
        On::All => "*".to_owned(),
        On::Routes => "route".to_owned(),
        On::Kinds(kinds) => {
            let names: Vec<&str> = kinds.iter().map(|kind| kind.name()).collect();
            names.join(", ")
        }
    };
    Stage {
        name: stage.name.clone(),
        on,
    }
}

fn route(
    config: &Config,
    compiled: &Compiled,
    index: usize,
    params: BTreeMap<String, String>,
    envelope: &Envelope,
) -> Result<Route, CliError> {
    let info = compiled.info(index);
    let asked = Asked {
        envelope,
        params: &params,
    };
    let place = place(config, &compiled.routes[index], &asked)?;
    let endpoints = match config.handlers.get(&info.handler) {
        Some(HandlerConfig::Upstream(upstream)) => &upstream.endpoints[..],
        _ => &[],
    };
    Ok(Route {
        endpoints: endpoints.iter().map(ToString::to_string).collect(),
        name: info.name,
        handler: info.handler,
        pool: info.pool,
        key: info.key,
        place,
        params,
    })
}

/// Key → slot → shard → owner, as the dispatch of the engine does it.
fn place(config: &Config, route: &CompiledRoute, asked: &Asked<'_>) -> Result<Place, CliError> {
    let key = match route.key.evaluate(asked) {
        Ok(Some(key)) => key,
        Ok(None) => return Ok(Place::Anywhere {}),
        Err(why) => {
            let problem = why.to_string();
            return Ok(Place::BadData { problem });
        }
    };
    let cores = match config.runtime.cores {
        Some(cores) => cores.get(),
        None => std::thread::available_parallelism()
            .map_err(CliError::internal)?
            .get(),
    };
    let narrow = |count: usize| u16::try_from(count).unwrap_or(u16::MAX);
    let per_core = narrow(config.runtime.shards_per_core.get());
    let layout = ShardLayout::try_new(narrow(cores), per_core).map_err(CliError::internal)?;
    let slot = key.slot();
    let shard = layout.shard_of(slot);
    // A node alone owns every slot; who does in a cluster, its nodes say.
    let alone = config.cluster.is_none();
    Ok(Place::Lane {
        lane: key.to_string(),
        slot: slot.index(),
        shard: shard.index(),
        core: layout.core_of(shard),
        owner: alone.then(|| config.node.name.clone()),
        epoch: alone.then_some(OwnerEpoch::FIRST.0),
    })
}

fn refused(kind: EventKind, failure: Failure) -> Refused {
    match answer(kind, true, failure.into()) {
        Answer::Message(message) | Answer::Open(message) => {
            let text = response_to_json(kind, &message).unwrap_or_default();
            let value = serde_json::from_str(&text).unwrap_or_default();
            let client = meaning::of_message(kind, &value, unix_after(Duration::ZERO));
            Refused {
                answer: text,
                client,
            }
        }
        Answer::Status { code, message } => {
            let name = crate::answer::code_name(code);
            Refused {
                answer: format!("gRPC status {name}: {message}"),
                client: meaning::of_status(kind, code),
            }
        }
    }
}

/// The event as keys see it.
struct Asked<'a> {
    envelope: &'a Envelope,
    params: &'a BTreeMap<String, String>,
}

impl KeySource for Asked<'_> {
    fn user(&self) -> &str {
        self.envelope.user()
    }

    fn client(&self) -> &str {
        self.envelope.client()
    }

    fn channel(&self) -> &str {
        self.envelope.channel()
    }

    fn method(&self) -> &str {
        self.envelope.method()
    }

    fn param(&self, name: &str) -> Option<&str> {
        self.params.get(name).map(String::as_str)
    }

    fn data(&self) -> Option<Bytes> {
        self.envelope.data().ok().flatten()
    }

    fn header(&self, name: &str) -> Option<&str> {
        self.envelope.header(name)
    }
}

#[cfg(test)]
mod tests;
