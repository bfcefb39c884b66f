//! The server roles: the executable starts itself again as `role=bare` or `role=ours`.
//!
//! A server binds a free port of the loopback, prints the address as the only line it owes to stdout,
//! and runs until its stdin closes, so that it can't outlive the process that started it.

use std::fmt;
use std::io::{Read, Write};
use std::net::SocketAddr;

use anyhow::{Context, bail};
use tokio::sync::oneshot;

use super::bare;
use super::burn::Burn;
use super::ours;

/// What a server is told; the same for both roles.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct ServerOptions {
    /// Work of the handler for each rpc.
    pub(crate) burn: Burn,
    /// Whether the node writes its access log at info (on stderr); the bare server has none.
    pub(crate) access_log: bool,
}

/// Which server a child runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ServerKind {
    /// The plain tonic echo server.
    Bare,
    /// Our node.
    Ours,
}

impl fmt::Display for ServerKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Bare => "bare",
            Self::Ours => "ours",
        })
    }
}

/// A role with its options.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Role {
    /// The server to run.
    pub(crate) kind: ServerKind,
    /// What it is told.
    pub(crate) options: ServerOptions,
}

impl Role {
    /// The arguments that make a child take this role.
    pub(crate) fn arguments(&self) -> Vec<String> {
        vec![
            format!("role={}", self.kind),
            format!("burn={}", self.options.burn.iterations),
            format!("access-log={}", self.options.access_log),
        ]
    }

    /// Runs the server until stdin closes.
    pub(crate) fn serve(self) -> anyhow::Result<()> {
        match self.kind {
            ServerKind::Bare => bare::serve_bare(&self.options),
            ServerKind::Ours => ours::serve_ours(&self.options),
        }
    }
}

/// The role named by the arguments of this process, if they name one.
pub(crate) fn from_arguments() -> Option<anyhow::Result<Role>> {
    let mut arguments = std::env::args().skip(1);
    let kind = arguments.next()?.strip_prefix("role=")?.to_owned();
    Some(parse(&kind, arguments))
}

fn parse(kind: &str, arguments: impl Iterator<Item = String>) -> anyhow::Result<Role> {
    let kind = match kind {
        "bare" => ServerKind::Bare,
        "ours" => ServerKind::Ours,
        other => bail!("role `{other}`: must be bare or ours"),
    };
    let mut options = ServerOptions::default();
    for argument in arguments {
        match argument.split_once('=') {
            Some(("burn", value)) => options.burn.iterations = value.parse()?,
            Some(("access-log", value)) => options.access_log = value.parse()?,
            _ => bail!("role option `{argument}`: unknown"),
        }
    }
    Ok(Role { kind, options })
}

/// Tells the parent that the server accepts connections at `address`.
pub(crate) fn announce(address: SocketAddr) -> anyhow::Result<()> {
    let mut stdout = std::io::stdout().lock();
    writeln!(stdout, "{address}").context("print the address")?;
    stdout.flush().context("print the address")
}

/// Resolves when the parent closes our stdin or ends.
pub(crate) fn parent_is_gone() -> oneshot::Receiver<()> {
    let (sender, receiver) = oneshot::channel();
    std::thread::spawn(move || {
        let mut stdin = std::io::stdin().lock();
        let mut sink = [0_u8; 256];
        while matches!(stdin.read(&mut sink), Ok(read) if read > 0) {}
        let _receiver_may_be_gone = sender.send(());
    });
    receiver
}
