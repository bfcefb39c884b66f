//! `serve`: the life of a node, from the configuration to the drain.

use super::error::{CliError, Exit};
use super::{Session, block_on};
use crate::config::{Config, Loaded};
use crate::engine::EngineError;
use crate::event::EventKind;
use crate::node::{Addresses, BindError, GrpcAddress, Listeners, Node, NodeError};
use crate::router::Router;
use crate::telemetry::Telemetry;
use clap::Args;
use std::fmt::Write;
use std::io;
use tokio::signal::unix::{Signal, SignalKind, signal};

#[derive(Debug, Args)]
#[command(after_help = "\
Runs until SIGTERM or Ctrl-C, then refuses what is new and finishes what it has within
limits.shutdown_grace; a second signal ends it at once. It never waits for Centrifugo.

Example:
  centripeta serve --set listen.grpc=127.0.0.1:9000")]
pub(super) struct ServeArgs {}

pub(super) fn run(session: Session, _: &ServeArgs) -> Result<(), CliError> {
    let loaded = session.load()?;
    let unmet = session.app.unmet(&loaded.config);
    if !unmet.is_empty() {
        return Err(CliError::problems(unmet, &loaded));
    }
    let telemetry = Telemetry::start(&loaded.config.log).map_err(CliError::internal)?;
    for warning in &loaded.warnings {
        tracing::warn!(help = warning.fix, "{warning}");
    }
    let life = live(session, &loaded, &telemetry);
    block_on(life).inspect_err(|error| log_refusal(error, &telemetry))
}

/// Bind, build, run, drain.
async fn live(session: Session, loaded: &Loaded, telemetry: &Telemetry) -> Result<(), CliError> {
    let config = &loaded.config;
    let mut signals = Signals::listen().map_err(CliError::internal)?;
    let listeners = Listeners::bind(config)
        .await
        .map_err(|error| taken(&error))?;
    let name = session.app.name;
    let router = crate::config_routes::assemble(config, session.app.router)
        .map_err(|problems| CliError::problems(problems, loaded))?;
    let tries = tries(&name, &router);
    let routes = router.routes.len();
    let node = Node::start(config, router, listeners)
        .await
        .map_err(|error| refused(error, loaded))?;
    announce(node.addresses(), loaded, routes);
    if !telemetry.json {
        eprint!(
            "{}",
            welcome(&name, node.addresses(), config, routes, &tries)
        );
    }
    let first = signals.next().await;
    let (events, streams) = (node.engine().in_flight(), node.engine().open_streams());
    let grace = config.limits.shutdown_grace;
    tracing::info!(signal = first, events, streams, ?grace, "draining");
    tokio::select! {
        cut = node.shutdown(grace) => {
            match cut {
                (0, 0) => tracing::info!("ended, nothing was cut"),
                (events, streams) => tracing::warn!(
                    events, streams, "ended; `limits.shutdown_grace` was over before these were"
                ),
            }
            Ok(())
        }
        second = signals.next() => Err(CliError::new(
            Exit::Failed,
            "drain",
            format!("ended at once by {second}, before what was in flight had finished"),
            "send one signal, and leave the node `limits.shutdown_grace` to finish",
        )),
    }
}

/// SIGTERM and SIGINT.
struct Signals {
    term: Signal,
    int: Signal,
}

impl Signals {
    fn listen() -> io::Result<Self> {
        Ok(Self {
            term: signal(SignalKind::terminate())?,
            int: signal(SignalKind::interrupt())?,
        })
    }

    /// The name of the next one.
    async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.term.recv() => "SIGTERM",
            _ = self.int.recv() => "SIGINT",
        }
    }
}

fn taken(error: &BindError) -> CliError {
    CliError::new(Exit::Unreachable, "listen", error, error.help())
}

fn refused(error: NodeError, loaded: &Loaded) -> CliError {
    match error {
        NodeError::Engine(EngineError::Routes(error)) => {
            CliError::problems(super::error::route_problems(error, loaded), loaded)
        }
        NodeError::Engine(EngineError::Layout(error)) => CliError::new(
            Exit::Config,
            "runtime",
            error,
            "lower `runtime.cores` or `runtime.shards_per_core`",
        ),
        NodeError::Tls(error) => CliError::new(
            Exit::Config,
            "listen.tls",
            error,
            "name PEM files that belong together",
        ),
        other => CliError::internal(other),
    }
}

/// A refused start is a line of JSON too, where the log is read by machines.
fn log_refusal(error: &CliError, telemetry: &Telemetry) {
    if !telemetry.json {
        return;
    }
    match error {
        CliError::Config(error) => {
            for problem in &error.problems {
                tracing::error!(help = problem.fix, "start refused: {problem}");
            }
        }
        CliError::Plain {
            what, why, help, ..
        } => tracing::error!(help, "{what}: {why}"),
        CliError::Said(_) => {}
    }
}

fn announce(addresses: &Addresses, loaded: &Loaded, routes: usize) {
    let file = loaded.file.as_ref().map(|path| path.display().to_string());
    tracing::info!(
        node = loaded.config.node.name,
        version = env!("CARGO_PKG_VERSION"),
        grpc = %addresses.grpc,
        admin = %addresses.admin,
        routes,
        config = file.as_deref().unwrap_or("built-in defaults"),
        "listening"
    );
}

/// Commands that get an answer from these routes: one for each of the commonest kinds.
fn tries(name: &str, router: &Router) -> Vec<String> {
    let kinds = [
        EventKind::Connect,
        EventKind::Subscribe,
        EventKind::Publish,
        EventKind::Rpc,
    ];
    let example = |kind: EventKind| {
        let route = router.routes.iter().find(|route| route.kind == kind)?;
        let subject = sample(route.pattern.as_deref().unwrap_or("*"));
        Some(match kind {
            EventKind::Connect => format!("{name} fire connect"),
            EventKind::Rpc => format!("{name} fire rpc --method '{subject}' --data '{{\"n\":1}}'"),
            _ => format!("{name} fire {kind} --channel '{subject}'"),
        })
    };
    let mut tries: Vec<String> = kinds.into_iter().filter_map(example).collect();
    if tries.is_empty() {
        tries.push(format!(
            "{name} print-config --defaults   # then add a [[route]]"
        ));
    }
    tries
}

/// A name that a pattern matches, good enough for a hint.
fn sample(pattern: &str) -> String {
    let mut text = String::new();
    let mut inside = false;
    for letter in pattern.chars() {
        match letter {
            '{' => inside = true,
            '}' => {
                inside = false;
                text.push('1');
            }
            '*' => text.push('1'),
            _ if inside => {}
            other => text.push(other),
        }
    }
    text
}

/// What a person at a terminal sees.
fn welcome(
    name: &str,
    addresses: &Addresses,
    config: &Config,
    routes: usize,
    tries: &[String],
) -> String {
    let mut text = String::new();
    let scheme = match addresses.grpc {
        GrpcAddress::Tcp(_) => "grpc://",
        GrpcAddress::Unix(_) => "",
    };
    // Writing to a string does not fail.
    let _ = write!(
        text,
        "\n{name} {}, node {}, {routes} routes\n\
         \x20 events  {scheme}{}   (for Centrifugo's proxies)\n\
         \x20 health  http://{}/health\n\ntry\n",
        env!("CARGO_PKG_VERSION"),
        config.node.name,
        addresses.grpc,
        addresses.admin,
    );
    for line in tries {
        let _ = writeln!(text, "  {line}");
    }
    let _ = write!(
        text,
        "  {name} centrifugo-config > config.json && centrifugo -c config.json\n\n\
         Ctrl-C drains and ends\n\n"
    );
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hints_name_something_that_the_routes_take() {
        assert_eq!(sample("chat:{room}"), "chat:1");
        assert_eq!(sample("seat.*"), "seat.1");
        let router = Router::new()
            .rpc("seat.*", async || crate::Json(1))
            .connect(async || crate::ConnectReply::user("u1"))
            .with_state(());
        let tries = tries("my-app", &router);
        assert_eq!(
            tries,
            [
                "my-app fire connect",
                "my-app fire rpc --method 'seat.1' --data '{\"n\":1}'"
            ]
        );
        let nothing = super::tries("my-app", &Router::new().with_state(()));
        assert!(nothing[0].contains("--defaults"));
    }
}
