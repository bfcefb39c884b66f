//! The servers that take turns in every round.

use std::net::SocketAddr;

use anyhow::Context;

use super::child::RoleProcess;
use super::role::{ServerKind, ServerOptions};

/// A server with the name that the report gives it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Contender {
    /// Name in the report.
    pub(crate) name: &'static str,
    kind: ServerKind,
    options: ServerOptions,
}

impl Contender {
    /// Starts it.
    pub(crate) async fn start(&self) -> anyhow::Result<RoleProcess> {
        RoleProcess::server(self.kind, self.options)
            .await
            .with_context(|| format!("server {}", self.name))
    }
}

/// The bare server first, since the ratios are over it; then ours, without metrics before if that is
/// asked for; then ours with its access log.
pub(crate) fn contenders(options: ServerOptions) -> Vec<Contender> {
    let quiet = ServerOptions {
        access_log: false,
        no_metrics: false,
        ..options
    };
    let contender = |name, kind, options| Contender {
        name,
        kind,
        options,
    };
    let mut contenders = vec![contender("bare", ServerKind::Bare, quiet)];
    if options.no_metrics {
        let uncounted = ServerOptions {
            no_metrics: true,
            ..quiet
        };
        contenders.push(contender("unmetered", ServerKind::Ours, uncounted));
    }
    contenders.push(contender("ours", ServerKind::Ours, quiet));
    if options.access_log {
        let logging = ServerOptions {
            access_log: true,
            ..quiet
        };
        contenders.push(contender("ours+log", ServerKind::Ours, logging));
    }
    contenders
}

/// The contenders at work.
#[derive(Debug)]
pub(crate) struct Running {
    servers: Vec<(Contender, RoleProcess)>,
}

impl Running {
    /// Starts all of them.
    pub(crate) async fn start(contenders: &[Contender]) -> anyhow::Result<Self> {
        let mut servers = Vec::new();
        for contender in contenders {
            servers.push((*contender, contender.start().await?));
        }
        Ok(Self { servers })
    }

    /// How many they are.
    pub(crate) fn count(&self) -> usize {
        self.servers.len()
    }

    /// Who is driven in which order in a round: each round reverses the order of the one before.
    pub(crate) fn order(&self, round: usize) -> Vec<usize> {
        let forward = 0..self.servers.len();
        match round % 2 {
            0 => forward.collect(),
            _ => forward.rev().collect(),
        }
    }

    /// Name, process id and address of one of them.
    pub(crate) fn target(&self, index: usize) -> anyhow::Result<Target> {
        let (contender, server) = &self.servers[index];
        Ok(Target {
            name: contender.name,
            process: server.process(),
            address: server.printed()?,
        })
    }

    /// Ends all of them.
    pub(crate) async fn stop(self) -> anyhow::Result<()> {
        for (contender, server) in self.servers {
            server.stop().await.context(contender.name)?;
        }
        Ok(())
    }
}

/// A running server as the load sees it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Target {
    /// Name in the report.
    pub(crate) name: &'static str,
    /// Process id.
    pub(crate) process: u32,
    /// Where it accepts connections.
    pub(crate) address: SocketAddr,
}
