//! The servers that take turns in every round.

use anyhow::Context;

use super::role::{Role, ServerKind, ServerOptions};
use super::server::ServerProcess;

/// A server with the name that the report gives it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Contender {
    /// Name in the report.
    pub(crate) name: &'static str,
    /// How to run it.
    pub(crate) role: Role,
}

/// The bare server first, since the ratios are over it; then ours; then ours with its access log.
pub(crate) fn contenders(options: ServerOptions) -> Vec<Contender> {
    let quiet = ServerOptions {
        access_log: false,
        ..options
    };
    let contender = |name, kind, options| Contender {
        name,
        role: Role { kind, options },
    };
    let mut contenders = vec![
        contender("bare", ServerKind::Bare, quiet),
        contender("ours", ServerKind::Ours, quiet),
    ];
    if options.access_log {
        contenders.push(contender("ours+log", ServerKind::Ours, options));
    }
    contenders
}

/// Starts all of them.
pub(crate) async fn start(contenders: &[Contender]) -> anyhow::Result<Vec<ServerProcess>> {
    let mut servers = Vec::with_capacity(contenders.len());
    for contender in contenders {
        let server = ServerProcess::start(contender.role)
            .await
            .with_context(|| format!("server {}", contender.name))?;
        servers.push(server);
    }
    Ok(servers)
}

/// Ends all of them.
pub(crate) async fn stop(servers: Vec<ServerProcess>) -> anyhow::Result<()> {
    for server in servers {
        server.stop().await?;
    }
    Ok(())
}

/// Who is driven in which order in a round: each round turns the order of the one before round.
pub(crate) fn order(round: usize, contenders: usize) -> Vec<usize> {
    let forward = 0..contenders;
    match round % 2 {
        0 => forward.collect(),
        _ => forward.rev().collect(),
    }
}
