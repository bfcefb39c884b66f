//! The servers that take turns in every round.

use std::net::SocketAddr;

use anyhow::Context;

use super::child::RoleProcess;
use super::role::{ServerKind, ServerOptions, Traces};

/// A server with the name that the report gives it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Contender {
    /// Name in the report.
    pub(crate) name: &'static str,
    /// The place of the one that it is compared with.
    pub(crate) base: usize,
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
/// asked for; then ours with its access log, and with traces. Each is compared with the one before
/// it, those with traces with ours.
pub(crate) fn contenders(options: ServerOptions) -> Vec<Contender> {
    let quiet = ServerOptions {
        access_log: false,
        no_metrics: false,
        traces: None,
        ..options
    };
    let contender = |base, name, kind, options| Contender {
        name,
        base,
        kind,
        options,
    };
    let mut contenders = vec![contender(0, "bare", ServerKind::Bare, quiet)];
    if options.no_metrics {
        let uncounted = ServerOptions {
            no_metrics: true,
            ..quiet
        };
        contenders.push(contender(0, "unmetered", ServerKind::Ours, uncounted));
    }
    let ours = contenders.len();
    contenders.push(contender(ours - 1, "ours", ServerKind::Ours, quiet));
    if options.access_log {
        let logging = ServerOptions {
            access_log: true,
            ..quiet
        };
        contenders.push(contender(ours, "ours+log", ServerKind::Ours, logging));
    }
    if let Some(traces) = options.traces {
        for (name, percent) in [("traced 0%", 0), ("traced 1%", 1), ("traced 100%", 100)] {
            let traced = ServerOptions {
                traces: Some(Traces { percent, ..traces }),
                ..quiet
            };
            contenders.push(contender(ours, name, ServerKind::Ours, traced));
        }
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
