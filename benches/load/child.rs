//! A child process in a role, ended by closing its stdin and, if that fails, by its own id.

use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, bail};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};
use tokio::process::{Child, ChildStdin, Command};
use tokio::time::{Instant, timeout};

use super::role::{Role, ServerKind, ServerOptions};

const START_TIMEOUT: Duration = Duration::from_secs(10);
const STOP_TIMEOUT: Duration = Duration::from_secs(10);

/// A child that has printed its line. Dropping it closes its stdin, which ends it.
#[derive(Debug)]
pub(crate) struct RoleProcess {
    name: String,
    child: Child,
    stdin: ChildStdin,
    process: u32,
    line: String,
    ready_after: Duration,
}

impl RoleProcess {
    /// Starts this executable in the role and waits for its line.
    ///
    /// What a chatty role writes to stderr goes nowhere: the cost that counts is that of writing it.
    pub(crate) async fn start(role: &Role) -> anyhow::Result<Self> {
        let executable = std::env::current_exe().context("find this executable")?;
        let stderr = match role.is_chatty() {
            true => Stdio::null(),
            false => Stdio::inherit(),
        };
        let started = Instant::now();
        let mut child = Command::new(executable)
            .args(role.arguments())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(stderr)
            .spawn()
            .with_context(|| format!("start {role}"))?;
        let process = child.id().context("it has ended already")?;
        let stdin = child.stdin.take().context("no stdin")?;
        let mut stdout = BufReader::new(child.stdout.take().context("no stdout")?);
        let mut line = String::new();
        timeout(START_TIMEOUT, stdout.read_line(&mut line))
            .await
            .with_context(|| format!("{role} printed nothing in time"))??;
        let ready_after = started.elapsed();
        if line.is_empty() {
            bail!("{role} ended before it was ready");
        }
        tokio::spawn(async move {
            let mut sink = [0_u8; 4096];
            while matches!(stdout.read(&mut sink).await, Ok(read) if read > 0) {}
        });
        Ok(Self {
            name: role.to_string(),
            child,
            stdin,
            process,
            line: line.trim().to_owned(),
            ready_after,
        })
    }

    /// The server of that kind, on a free port of the loopback.
    pub(crate) async fn server(kind: ServerKind, options: ServerOptions) -> anyhow::Result<Self> {
        Self::start(&Role::Server(kind, options)).await
    }

    /// Its process id.
    pub(crate) fn process(&self) -> u32 {
        self.process
    }

    /// Time from before the spawn to its line.
    pub(crate) fn ready_after(&self) -> Duration {
        self.ready_after
    }

    /// What it printed: the address of a server, the process id that a guard watches.
    pub(crate) fn printed<T>(&self) -> anyhow::Result<T>
    where
        T: std::str::FromStr<Err: std::error::Error + Send + Sync + 'static>,
    {
        let Self { name, line, .. } = self;
        line.parse()
            .with_context(|| format!("{name} printed `{line}`"))
    }

    /// Closes its stdin and waits for a clean end.
    ///
    /// # Errors
    /// If it ends with a failure or has to be killed.
    pub(crate) async fn stop(mut self) -> anyhow::Result<()> {
        drop(self.stdin);
        let Ok(status) = timeout(STOP_TIMEOUT, self.child.wait()).await else {
            self.child.kill().await?;
            bail!("{} did not end in time and was killed", self.name);
        };
        let status = status?;
        if !status.success() {
            bail!("{} ended with {status}", self.name);
        }
        Ok(())
    }
}
