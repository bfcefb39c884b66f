//! The node: a child of this process, told to read its file again, and ended by its own id.

use crate::ROLE;
use anyhow::{Context, bail};
use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};
use tokio::sync::oneshot;
use tokio::time::timeout;

/// How long the node may take to start, to answer a scrape, or to end.
const LIMIT: Duration = Duration::from_secs(30);
/// Lines of its log that are kept.
const KEPT: usize = 20;

/// A running node.
#[derive(Debug)]
pub(crate) struct Node {
    child: Child,
    process: u32,
    grpc: String,
    admin: String,
    log: Arc<Mutex<VecDeque<String>>>,
}

impl Node {
    /// Starts one with this configuration.
    pub(crate) async fn start(config: PathBuf) -> anyhow::Result<Self> {
        let mut child = Command::new(std::env::current_exe()?)
            .args([ROLE, "serve", "--config"])
            .arg(config)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .context("start the node")?;
        let process = child.id().context("it has ended already")?;
        let mut lines = BufReader::new(child.stderr.take().context("no stderr")?).lines();
        let log = Arc::new(Mutex::new(VecDeque::new()));
        let (listening, addresses) = oneshot::channel();
        let kept = Arc::clone(&log);
        tokio::spawn(async move {
            let mut listening = Some(listening);
            while let Ok(Some(line)) = lines.next_line().await {
                if let Some(addresses) = listening_on(&line)
                    && let Some(listening) = listening.take()
                {
                    // Nobody waits any more.
                    drop(listening.send(addresses));
                }
                let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
                if kept.len() == KEPT {
                    kept.pop_front();
                }
                kept.push_back(line);
            }
        });
        let said = || {
            let log = log.lock().unwrap_or_else(PoisonError::into_inner);
            log.iter().cloned().collect::<Vec<_>>().join("\n")
        };
        let Ok(Ok((grpc, admin))) = timeout(LIMIT, addresses).await else {
            bail!("the node did not start: {}", said());
        };
        Ok(Self {
            child,
            process,
            grpc,
            admin,
            log,
        })
    }

    /// Its process id.
    pub(crate) const fn process(&self) -> u32 {
        self.process
    }

    /// Where it takes events.
    pub(crate) fn grpc(&self) -> &str {
        &self.grpc
    }

    /// Tells it to read its file again.
    pub(crate) async fn hang_up(&self) -> anyhow::Result<()> {
        self.signal("-HUP").await
    }

    async fn signal(&self, name: &str) -> anyhow::Result<()> {
        let process = self.process.to_string();
        let sent = Command::new("kill").args([name, &process]).status().await?;
        if !sent.success() {
            bail!("the node has ended: {}", self.said());
        }
        Ok(())
    }

    /// The page of its metrics.
    pub(crate) async fn metrics(&self) -> anyhow::Result<String> {
        let scrape = async {
            let mut socket = TcpStream::connect(&self.admin).await?;
            let request = "GET /metrics HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n";
            socket.write_all(request.as_bytes()).await?;
            let mut answer = String::new();
            socket.read_to_string(&mut answer).await?;
            anyhow::Ok(answer)
        };
        let answer = timeout(LIMIT, scrape).await.context("no answer in time")?;
        answer.with_context(|| format!("scrape the node, which said {}", self.said()))
    }

    fn said(&self) -> String {
        let log = self.log.lock().unwrap_or_else(PoisonError::into_inner);
        log.iter().cloned().collect::<Vec<_>>().join("\n")
    }

    /// Ends it, which has to be clean.
    pub(crate) async fn stop(mut self) -> anyhow::Result<()> {
        self.signal("-TERM").await?;
        let status = timeout(LIMIT, self.child.wait()).await;
        let status = status.context("the node did not end in time")??;
        if !status.success() {
            bail!("the node ended with {status}: {}", self.said());
        }
        Ok(())
    }
}

/// Whether the program takes a configuration.
pub(crate) async fn is_fine(config: &Path) -> anyhow::Result<bool> {
    let mut check = Command::new(std::env::current_exe()?);
    check.args([ROLE, "check-config", "--config"]).arg(config);
    let ended = check.stdin(Stdio::null()).output().await?;
    match ended.status.code() {
        Some(0) => Ok(true),
        Some(3) => Ok(false),
        _ => bail!("check-config: {ended:?}"),
    }
}

/// The addresses in the line that tells of them.
fn listening_on(line: &str) -> Option<(String, String)> {
    let line: serde_json::Value = serde_json::from_str(line).ok()?;
    let text = |field: &str| Some(line.get(field)?.as_str()?.to_owned());
    (text("message")? == "listening").then_some(())?;
    Some((text("grpc")?, text("admin")?))
}
