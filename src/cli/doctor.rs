//! `doctor`: looks at the node, at Centrifugo, and at both directions between them, and says for
//! each thing how it is and what to do about it.
//!
//! Nothing is changed and no handler is called but the one for connect, once, by a real client
//! connection. Everything that waits has a time limit of its own.

mod api;
mod client;
mod counter;
mod file;
mod finding;
mod node;
mod sniff;
mod verdict;

use super::error::{CliError, Exit};
use super::fire::TargetArgs;
use super::fire::client::Target;
use super::{Session, block_on};
use crate::config::Config;
use crate::engine::compile::Compiled;
use crate::event::EventKind;
use clap::Args;
use client::Door;
use counter::Counter;
use finding::{Finding, Severity};
use std::path::PathBuf;
use std::time::Duration;
use tokio::time::timeout;
use verdict::Case;

/// How long each of the things that are asked side by side may take; their steps have less.
const SIDE_BY_SIDE: Duration = Duration::from_secs(9);
/// How long the client connection after that may take.
const CONNECTION: Duration = Duration::from_secs(10);
/// What says that the node itself is not there.
const NODE_LOST: [&str; 2] = ["router.unreachable", "admin.unreachable"];

#[derive(Debug, Args)]
#[command(after_help = "\
Looked at: the node's event listener, as Centrifugo reaches it, and who gets in; its admin listener;
every endpoint of centrifugo.api, with centrifugo.key; a client connection to centrifugo.client,
without a token, and whether Centrifugo asked this node about it; and the settings of a Centrifugo
file, if one is given. Finding nobody there is a finding; it takes at most 20 s. Secrets are never
printed. With --json, an array of { id, severity, looked_at, found, fix }; ids are stable, and
severities are ok, note, warn and error.

Exit code 0 if nothing is an error; 4 if the only errors are that the node can't be reached; else 1.

Examples:
  centripeta doctor
  centripeta doctor --centrifugo-config /etc/centrifugo/config.json --origin https://shop.example")]
pub(super) struct DoctorArgs {
    /// A configuration of Centrifugo to look at: .json, .yaml, .yml or .toml
    #[arg(long, value_name = "FILE")]
    centrifugo_config: Option<PathBuf>,
    /// The origin of a page that clients connect from; without it the client is not a browser
    #[arg(long, value_name = "ORIGIN")]
    origin: Option<String>,
    #[command(flatten)]
    target: TargetArgs,
    /// Prints the findings as JSON
    #[arg(long)]
    json: bool,
}

pub(super) fn run(session: Session, args: &DoctorArgs) -> Result<(), CliError> {
    let (loaded, compiled) = session.compile()?;
    let config = &loaded.config;
    let target = Target::of(config, &args.target)?;
    let mut findings = node::access(&config.listen);
    findings.extend(block_on(async {
        Ok(look(config, &compiled, args, &target).await)
    })?);
    if let Some(path) = &args.centrifugo_config {
        let own = args.target.to.as_deref();
        findings.extend(file::look(path, config, &compiled, own));
    }
    finding::say(&findings, args.json);
    match exit(&findings) {
        Exit::Done => Ok(()),
        other => Err(CliError::Said(other)),
    }
}

/// What has to be asked: everything but the connection at once, since that one is compared with the
/// node's metrics.
async fn look(
    config: &Config,
    compiled: &Compiled,
    args: &DoctorArgs,
    target: &Target,
) -> Vec<Finding> {
    let shows_certificate = args.target.tls_cert.is_some();
    let (listener, admin, mut api) = tokio::join!(
        within(
            SIDE_BY_SIDE,
            "listen.grpc",
            node::listener(config, target, shows_certificate)
        ),
        within(SIDE_BY_SIDE, "listen.admin", node::admin(config)),
        within(SIDE_BY_SIDE, "centrifugo.api", api::endpoints(config)),
    );
    let client = connection(config, compiled, args.origin.as_deref());
    let mut client = within(CONNECTION, "centrifugo.client", client).await;
    let lost = ["client.unreachable", "client.address", "doctor.timeout"];
    let are_served = client.iter().all(|it| !lost.contains(&it.id));
    api::reconsider(&mut api, are_served);
    if listener.iter().any(|it| it.id == NODE_LOST[0]) {
        client.iter_mut().for_each(verdict::expect);
    }
    [listener, admin, api, client].concat()
}

/// What was found, or that it took too long.
async fn within(
    limit: Duration,
    what: &str,
    look: impl Future<Output = Vec<Finding>>,
) -> Vec<Finding> {
    timeout(limit, look).await.unwrap_or_else(|_| {
        let found = format!("was not looked at to the end within {} s", limit.as_secs());
        let fix = "try again; who is asked there, or the way there, is very slow";
        vec![Finding::error("doctor.timeout", what, found, fix)]
    })
}

/// A client's way through Centrifugo to this node and back.
async fn connection(config: &Config, compiled: &Compiled, origin: Option<&str>) -> Vec<Finding> {
    let counter = Counter::new(config);
    let before = counter.connects().await;
    let door = Door {
        url: &config.centrifugo.client,
        origin,
        tls: &config.centrifugo.tls,
    };
    let (answer, took) = match door.knock().await {
        Ok(answered) => answered,
        Err(finding) => return vec![finding],
    };
    let seen = match before {
        Ok(before) => counter.since(&before).await,
        Err(why) => Err(why),
    };
    let routes = compiled.routes.iter();
    let case = Case {
        at: &client::shown(door.url),
        answer,
        took,
        seen,
        is_routed: routes
            .into_iter()
            .any(|it| it.route.kind == EventKind::Connect),
    };
    let mut findings = case.judge();
    if origin.is_none() {
        let found = "no Origin was sent, so whether browsers may connect was not tried";
        let tried = Finding::note("client.origin", case.at, found);
        findings.push(tried.fix("name the page's origin with --origin https://HOST"));
    }
    findings
}

fn exit(findings: &[Finding]) -> Exit {
    let errors = || findings.iter().filter(|it| it.severity == Severity::Error);
    if errors().next().is_none() {
        Exit::Done
    } else if errors().all(|it| NODE_LOST.contains(&it.id)) {
        Exit::Unreachable
    } else {
        Exit::Failed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_exit_code_says_whether_only_the_node_is_missing() {
        let error = |id| Finding::error(id, "", "", "");
        assert_eq!(exit(&[Finding::ok("a", "", "")]), Exit::Done);
        assert_eq!(exit(&[Finding::warn("a", "", "", "")]), Exit::Done);
        let lost = [error("router.unreachable"), error("admin.unreachable")];
        assert_eq!(exit(&lost), Exit::Unreachable);
        assert_eq!(
            exit(&[error("router.unreachable"), error("api.key")]),
            Exit::Failed
        );
    }
}
