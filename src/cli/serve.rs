//! `serve`: the life of a node, from the configuration to the drain.

mod level;
mod operator;

use super::check_config::judge;
use super::error::{CliError, Exit};
use super::health::reachable;
use super::output::shell_word;
use super::{Session, block_on};
use crate::config::{Config, ListenAddr, Loaded, effective_json};
use crate::config_routes::{Kept, ignored};
use crate::control::{self, Request, Requests};
use crate::engine::EngineError;
use crate::event::EventKind;
use crate::node::{Addresses, BindError, ClusterError, GrpcAddress, Listeners, Node, NodeError};
use crate::notify::Notify;
use crate::router::Router;
use crate::telemetry::Telemetry;
use crate::worker::process;
use clap::Args;
use operator::Operator;
use std::convert::Infallible;
use std::fmt::Write;
use std::io;
use std::path::PathBuf;
use std::time::Duration;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::oneshot;
use tokio::time::MissedTickBehavior;

/// How often the service manager is told of a change of the node's part in its cluster.
const STATUS: Duration = Duration::from_secs(1);

#[derive(Debug, Args)]
#[command(after_help = "\
Runs until SIGTERM or Ctrl-C, then refuses what is new and finishes what it has within
limits.shutdown_grace; a second signal ends it at once. It never waits for Centrifugo. SIGHUP reads
the configuration again: what can change does, or all of it is refused; the log says which. SIGUSR2
replaces the workers of all pools, a few at a time.

Example:
  centripeta serve --set listen.grpc=127.0.0.1:9000")]
pub(super) struct ServeArgs {}

pub(super) fn run(session: Session, _: &ServeArgs) -> Result<(), CliError> {
    let (loaded, session) = session.load_with_routes()?;
    let telemetry = Telemetry::start(&loaded.config.log).map_err(CliError::internal)?;
    for warning in &loaded.warnings {
        tracing::warn!(help = warning.fix, "{warning}");
    }
    super::descriptors::provide(&loaded.config);
    reexec();
    let life = live(session, &loaded, &telemetry);
    block_on(life).inspect_err(|error| log_refusal(error, &telemetry))
}

/// Workers are started through this program, so that they end with it.
fn reexec() {
    match std::env::current_exe() {
        Ok(ourselves) => process::reexec_by(ourselves),
        Err(why) => tracing::warn!("workers may outlive a crash of the node: {why}"),
    }
}

/// Check, bind, build, run, drain.
async fn live(session: Session, loaded: &Loaded, telemetry: &Telemetry) -> Result<(), CliError> {
    let config = &loaded.config;
    let Signals {
        mut ends,
        mut hup,
        mut usr2,
    } = Signals::listen().map_err(CliError::internal)?;
    let mut options = session.options();
    options.file.clone_from(&loaded.file);
    let Session {
        mut app,
        common,
        program,
    } = session;
    let name = app.name.clone();
    let mut own = std::mem::take(&mut app.router);
    if let Some(warning) = ignored(config, &own) {
        tracing::warn!("{warning}; {}", warning.fix);
    }
    // What is wrong with the configuration does not depend on who has the ports.
    let judged = judge(&app, own.share(), config, &Kept::default());
    let (router, kept) = judged.map_err(|problems| CliError::problems(problems, loaded))?;
    let listeners = Listeners::bind(config).await.map_err(|errors| {
        let errors = errors.0.iter().map(taken);
        CliError::Several(errors.collect())
    })?;
    let events = examples(&router);
    let routes = router.routes.len();
    let (control, mut requests) = control::channel();
    // A program's traces carry its name, unless they are told another.
    let mut started = config.clone();
    started.log.service.get_or_insert_with(|| name.clone());
    let node = Node::start_with(&started, router, listeners, Some(control))
        .await
        .map_err(|error| refused(error, loaded))?;
    node.show_config(effective_json(loaded)["settings"].to_string());
    let mut operator = Operator {
        app,
        router: own,
        options,
        config: config.clone(),
        kept,
        warnings: loaded.warnings.clone(),
        telemetry,
    };
    announce(node.addresses(), loaded, routes);
    if !telemetry.json {
        let hint = Hint {
            program,
            config: common.config,
            to: destination(node.addresses(), config),
        };
        eprint!(
            "{}",
            welcome(
                &name,
                node.addresses(),
                config,
                routes,
                &hint.tries(&events)
            )
        );
    }
    let notify = Notify::from_env();
    let mut shown = status(&node, routes);
    notify.ready(&shown).await;
    // The part in a cluster changes by itself.
    let changes = notify.is_heard() && node.cluster_summary().is_some();
    let mut look = tokio::time::interval(STATUS);
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let _alive = notify.keep_alive(&node);
    let first = loop {
        let request = tokio::select! {
            signal = ends.next() => break signal,
            Some(()) = hup.recv() => {
                // What it says is in the log.
                let (reply, _nobody) = oneshot::channel();
                Request::Reload(reply)
            }
            Some(()) = usr2.recv() => {
                node.reset_workers();
                continue;
            }
            Some(request) = requests.recv() => request,
            _ = look.tick(), if changes => {
                let now = status(&node, node.engine().route_count());
                if now != shown {
                    notify.status(&now).await;
                    shown = now;
                }
                continue;
            }
            why = node.fatal() => {
                return Err(CliError::new(
                    Exit::Internal,
                    "cluster",
                    why,
                    "see to the disk or the folder that is named, then start the node again",
                ));
            }
        };
        let is_reload = matches!(request, Request::Reload(_));
        if is_reload {
            notify.reloading().await;
        }
        tokio::select! {
            () = operator.carry_out(request, &node) => {}
            // It may wait for new workers; nothing of it has been applied then.
            signal = ends.next() => break signal,
        }
        if is_reload {
            shown = status(&node, node.engine().route_count());
            notify.ready(&shown).await;
        }
    };
    let (events, streams) = (node.engine().in_flight(), node.engine().open_streams());
    let grace = operator.config.limits.shutdown_grace;
    tracing::info!(signal = first, events, streams, ?grace, "draining");
    let last = format!("draining, in flight: events {events}, streams {streams}");
    notify.stopping(&last, grace).await;
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
        second = ends.next() => Err(CliError::new(
            Exit::Failed,
            "drain",
            format!("ended at once by {second}, before what was in flight had finished"),
            "send one signal, and leave the node `limits.shutdown_grace` to finish",
        )),
        never = refuse_all(&mut hup, &mut requests) => match never {},
    }
}

/// Refuses what an operator asks of a node that drains.
async fn refuse_all(hup: &mut Signal, requests: &mut Requests) -> Infallible {
    loop {
        tokio::select! {
            Some(()) = hup.recv() => {
                let (reply, _nobody) = oneshot::channel();
                operator::refuse(Request::Reload(reply));
            }
            Some(request) = requests.recv() => operator::refuse(request),
            else => std::future::pending().await,
        }
    }
}

/// The signals that a node listens to.
struct Signals {
    ends: Ends,
    /// SIGHUP: read the configuration again.
    hup: Signal,
    /// SIGUSR2: replace all workers.
    usr2: Signal,
}

/// SIGTERM and SIGINT.
struct Ends {
    term: Signal,
    int: Signal,
}

impl Signals {
    fn listen() -> io::Result<Self> {
        Ok(Self {
            ends: Ends {
                term: signal(SignalKind::terminate())?,
                int: signal(SignalKind::interrupt())?,
            },
            hup: signal(SignalKind::hangup())?,
            usr2: signal(SignalKind::user_defined2())?,
        })
    }
}

impl Ends {
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
        NodeError::Collector(error) => CliError::new(
            Exit::Config,
            "log.otlp",
            error,
            "name a PEM file of the authority that signed the collector's certificate in `log.otlp_ca`",
        ),
        NodeError::Cluster(ClusterError::Home(error)) => {
            CliError::new(Exit::Failed, "cluster", &error, error.cure())
        }
        NodeError::Cluster(error) => CliError::new(
            Exit::Failed,
            "cluster",
            error,
            "`cluster init` founds one, once; the others join it by `cluster.seeds`",
        ),
        NodeError::CallBack(error) => taken(&error),
        NodeError::Workers(why) => CliError::new(
            Exit::Failed,
            "workers",
            why,
            "mend the command, or say `on_init.exit_on_error = false`",
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
        CliError::Several(errors) => {
            for error in errors {
                log_refusal(error, telemetry);
            }
        }
        CliError::Said(_) => {}
    }
}

/// What the service manager shows of a node.
fn status(node: &Node, routes: usize) -> String {
    let Addresses { grpc, admin } = node.addresses();
    let mut status = format!("events on {grpc}, admin on {admin}, {routes} routes");
    if let Some(part) = node.cluster_summary() {
        status.push_str(&format!("; cluster: {part}"));
    }
    status
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

/// What `fire` needs for an answer from these routes: one event of each of the commonest kinds.
fn examples(router: &Router) -> Vec<String> {
    let kinds = [
        EventKind::Connect,
        EventKind::Subscribe,
        EventKind::Publish,
        EventKind::Rpc,
    ];
    let example = |kind: EventKind| {
        let route = router.routes.iter().find(|route| route.kind == kind)?;
        let subject = shell_word(&sample(route.pattern.as_deref().unwrap_or("*")));
        Some(match kind {
            EventKind::Connect => "connect".to_owned(),
            EventKind::Rpc => format!("rpc --method {subject} --data '{{\"n\":1}}'"),
            _ => format!("{kind} --channel {subject}"),
        })
    };
    kinds.into_iter().filter_map(example).collect()
}

/// Where clients find this node, if it is not where they look by themselves.
fn destination(addresses: &Addresses, config: &Config) -> Option<String> {
    match &addresses.grpc {
        GrpcAddress::Unix(_) => Some(addresses.grpc.to_string()),
        GrpcAddress::Tcp(address) => {
            if Config::default().listen.grpc == ListenAddr::Tcp(*address) {
                return None;
            }
            let scheme = match &config.listen.tls {
                Some(_) => "tls://",
                None => "",
            };
            Some(format!("{scheme}{}", reachable(*address)))
        }
    }
}

/// How the other commands are started so that they mean this node.
struct Hint {
    program: String,
    config: Option<PathBuf>,
    to: Option<String>,
}

impl Hint {
    /// Lines that can be typed as they stand.
    fn tries(&self, events: &[String]) -> Vec<String> {
        let program = &self.program;
        let config = self.config.as_ref().map(|file| {
            let file = shell_word(&file.to_string_lossy());
            format!(" --config {file}")
        });
        let to = self.to.as_deref();
        let to = to.map(|to| format!(" --to {}", shell_word(to)));
        let rest = format!("{}{}", config.unwrap_or_default(), to.unwrap_or_default());
        let fire = |event: &String| format!("{program} fire {event}{rest}");
        let mut tries: Vec<String> = events.iter().map(fire).collect();
        if tries.is_empty() {
            tries.push(format!(
                "{program} print-config --defaults   # then add a [[route]]"
            ));
        }
        tries.push(format!(
            "{program} centrifugo-config{rest} > config.json && centrifugo -c config.json"
        ));
        tries
    }
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
    text.push_str("\nCtrl-C drains and ends\n\n");
    text
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn hints_name_something_that_the_routes_take() {
        assert_eq!(sample("chat:{room}"), "chat:1");
        assert_eq!(sample("seat.*"), "seat.1");
        let router = Router::new()
            .rpc("seat.*", async || crate::Json(1))
            .connect(async || crate::ConnectReply::user("u1"))
            .with_state(());
        let hint = Hint {
            program: "target/debug/my-app".to_owned(),
            config: None,
            to: None,
        };
        let tries = hint.tries(&examples(&router));
        assert_eq!(
            tries,
            [
                "target/debug/my-app fire connect",
                "target/debug/my-app fire rpc --method seat.1 --data '{\"n\":1}'",
                "target/debug/my-app centrifugo-config > config.json && centrifugo -c config.json",
            ]
        );
        let nothing = hint.tries(&examples(&Router::new().with_state(())));
        assert!(nothing[0].contains("--defaults"));
    }

    #[test]
    fn hints_name_the_address_wherever_it_is_not_the_default_one() {
        let config = Config::default();
        let at = |grpc: &str| {
            let addresses = Addresses {
                grpc: GrpcAddress::Tcp(grpc.parse().unwrap()),
                admin: config.listen.admin,
            };
            destination(&addresses, &config)
        };
        assert_eq!(at("127.0.0.1:10001"), None);
        assert_eq!(at("127.0.0.1:9000").as_deref(), Some("127.0.0.1:9000"));
        assert_eq!(at("0.0.0.0:9000").as_deref(), Some("127.0.0.1:9000"));
        let hint = Hint {
            program: "my-app".to_owned(),
            config: Some("my node.toml".into()),
            to: at("127.0.0.1:9000"),
        };
        assert_eq!(
            hint.tries(&["connect".to_owned()])[0],
            "my-app fire connect --config 'my node.toml' --to 127.0.0.1:9000"
        );
    }
}
