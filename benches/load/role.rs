//! What a child does: the executable starts itself again as `role=bare`, `role=ours`, `role=collector`
//! or `role=guard`.
//!
//! A server binds a free port of the loopback, prints the address as the only line it owes to stdout,
//! and runs until its stdin closes, so that it can't outlive the process that started it. A guard does
//! the same for a program that knows nothing of this.

use std::fmt;
use std::io::{Read, Write};
use std::net::SocketAddr;
use std::str::FromStr;

use anyhow::{Context, bail};
use tokio::sync::oneshot;

use super::burn::Burn;
use super::{bare, collector, guard, ours};

/// What a server is told; the same for both kinds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct ServerOptions {
    /// Work of the handler for each rpc.
    pub(crate) burn: Burn,
    /// Whether the node writes its access log at info (on stderr); the bare server has none.
    pub(crate) access_log: bool,
    /// Whether the node counts nothing for `/metrics`; the bare server never does.
    pub(crate) no_metrics: bool,
    /// How the node exports traces, if it does; the bare server has none.
    pub(crate) traces: Option<Traces>,
}

/// Where traces go, and how many.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Traces {
    /// Of a hundred events, so many are recorded.
    pub(crate) percent: u8,
    /// The collector.
    pub(crate) collector: SocketAddr,
}

impl fmt::Display for Traces {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.percent, self.collector)
    }
}

impl FromStr for Traces {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> anyhow::Result<Self> {
        let (percent, collector) = text.split_once('@').context("no `@`")?;
        Ok(Self {
            percent: percent.parse()?,
            collector: collector.parse()?,
        })
    }
}

/// Which server a child runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ServerKind {
    /// The plain tonic echo server.
    Bare,
    /// Our node.
    Ours,
}

/// What a child does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    /// Serves events.
    Server(ServerKind, ServerOptions),
    /// Takes traces.
    Collector,
    /// Runs a program with its arguments, ended together with the guard.
    Guard(Vec<String>),
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Server(ServerKind::Bare, _) => "bare",
            Self::Server(ServerKind::Ours, _) => "ours",
            Self::Collector => "collector",
            Self::Guard(_) => "guard",
        })
    }
}

impl Role {
    /// The arguments that make a child take this role.
    pub(crate) fn arguments(&self) -> Vec<String> {
        let mut arguments = vec![format!("role={self}")];
        match self {
            Self::Server(_, options) => {
                arguments.extend([
                    format!("burn={}", options.burn.iterations),
                    format!("access-log={}", options.access_log),
                    format!("no-metrics={}", options.no_metrics),
                ]);
                let traces = options.traces.map(|traces| format!("traces={traces}"));
                arguments.extend(traces);
            }
            Self::Collector => {}
            Self::Guard(command) => arguments.extend_from_slice(command),
        }
        arguments
    }

    /// Whether what the child writes to stderr is only there to be written.
    pub(crate) fn is_chatty(&self) -> bool {
        matches!(self, Self::Server(_, options) if options.access_log)
    }

    /// Does it until stdin closes.
    pub(crate) fn run(self) -> anyhow::Result<()> {
        match self {
            Self::Server(ServerKind::Bare, options) => bare::serve_bare(&options),
            Self::Server(ServerKind::Ours, options) => ours::serve_ours(&options),
            Self::Collector => collector::serve(),
            Self::Guard(command) => guard::run(&command),
        }
    }
}

/// The role named by the arguments of this process, if they name one.
pub(crate) fn from_arguments() -> Option<anyhow::Result<Role>> {
    let mut arguments = std::env::args().skip(1);
    let name = arguments.next()?.strip_prefix("role=")?.to_owned();
    Some(match name.as_str() {
        "bare" => options(arguments).map(|options| Role::Server(ServerKind::Bare, options)),
        "ours" => options(arguments).map(|options| Role::Server(ServerKind::Ours, options)),
        "collector" => Ok(Role::Collector),
        "guard" => Ok(Role::Guard(arguments.collect())),
        other => Err(anyhow::anyhow!(
            "role `{other}`: must be bare, ours, collector or guard"
        )),
    })
}

fn options(arguments: impl Iterator<Item = String>) -> anyhow::Result<ServerOptions> {
    let mut options = ServerOptions::default();
    for argument in arguments {
        match argument.split_once('=') {
            Some(("burn", value)) => options.burn.iterations = value.parse()?,
            Some(("access-log", value)) => options.access_log = value.parse()?,
            Some(("no-metrics", value)) => options.no_metrics = value.parse()?,
            Some(("traces", value)) => options.traces = Some(value.parse()?),
            _ => bail!("role option `{argument}`: unknown"),
        }
    }
    Ok(options)
}

/// Tells the parent that the server accepts connections at `address`.
pub(crate) fn announce(address: SocketAddr) -> anyhow::Result<()> {
    print_line(&address)
}

/// Prints the line that the parent waits for.
pub(crate) fn print_line(line: &impl fmt::Display) -> anyhow::Result<()> {
    let mut stdout = std::io::stdout().lock();
    writeln!(stdout, "{line}").context("print to the parent")?;
    stdout.flush().context("print to the parent")
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
