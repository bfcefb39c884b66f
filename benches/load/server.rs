//! A server under test: a child process in a role, ended by its own id.

use std::net::SocketAddr;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, bail};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};
use tokio::process::{Child, ChildStdin, Command};
use tokio::time::{Instant, timeout};

use super::role::Role;

const START_TIMEOUT: Duration = Duration::from_secs(10);
const STOP_TIMEOUT: Duration = Duration::from_secs(10);

/// A running child. Dropping it kills it; `stop` lets it end by itself first.
#[derive(Debug)]
pub(crate) struct ServerProcess {
    child: Child,
    stdin: ChildStdin,
    process: u32,
    address: SocketAddr,
    ready_after: Duration,
}

impl ServerProcess {
    /// Starts this executable in the role and waits for its address.
    ///
    /// With the access log on, stderr goes nowhere: the cost that counts is that of writing it.
    pub(crate) async fn start(role: Role) -> anyhow::Result<Self> {
        let executable = std::env::current_exe().context("find this executable")?;
        let stderr = match role.options.access_log {
            true => Stdio::null(),
            false => Stdio::inherit(),
        };
        let started = Instant::now();
        let mut child = Command::new(executable)
            .args(role.arguments())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(stderr)
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("start the {} server", role.kind))?;
        let process = child.id().context("the server has ended")?;
        let stdin = child.stdin.take().context("no stdin")?;
        let mut stdout = BufReader::new(child.stdout.take().context("no stdout")?);
        let mut line = String::new();
        timeout(START_TIMEOUT, stdout.read_line(&mut line))
            .await
            .with_context(|| format!("the {} server printed no address in time", role.kind))??;
        let ready_after = started.elapsed();
        let address = line
            .trim()
            .parse()
            .with_context(|| format!("the {} server printed `{}`", role.kind, line.trim()))?;
        tokio::spawn(async move {
            let mut sink = [0_u8; 4096];
            while matches!(stdout.read(&mut sink).await, Ok(read) if read > 0) {}
        });
        Ok(Self {
            child,
            stdin,
            process,
            address,
            ready_after,
        })
    }

    /// Where it accepts connections.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its process id.
    pub(crate) fn process(&self) -> u32 {
        self.process
    }

    /// Time from before the spawn to the address line.
    pub(crate) fn ready_after(&self) -> Duration {
        self.ready_after
    }

    /// Closes its stdin and waits for a clean end.
    ///
    /// # Errors
    /// If it ends with a failure or has to be killed.
    pub(crate) async fn stop(mut self) -> anyhow::Result<()> {
        drop(self.stdin);
        match timeout(STOP_TIMEOUT, self.child.wait()).await {
            Ok(status) => {
                let status = status?;
                if !status.success() {
                    bail!("server {}: ended with {status}", self.process);
                }
                Ok(())
            }
            Err(_) => {
                self.child.kill().await?;
                bail!("server {}: did not end in time", self.process);
            }
        }
    }
}
