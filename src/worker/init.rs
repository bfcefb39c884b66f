//! `on_init`: a command that runs once before a pool starts.

use super::process::{self, CommandSpec, Process};
use super::stderr::Stderr;
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::process::Child;
use tokio::time::timeout;

/// What is run, and for how long.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Init {
    /// The command; of the pool's it takes nothing but the folder.
    pub(crate) command: CommandSpec,
    /// How long it may take.
    pub(crate) limit: Duration,
    /// Whether the pool does not start where it fails.
    pub(crate) is_needed: bool,
}

/// Why it failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum InitError {
    /// The system can't start it.
    #[error("`on_init.command` can't be started: {0}")]
    Start(#[from] io::Error),
    /// It took too long.
    #[error("`on_init.command` was killed after {0:?} (`on_init.exec_timeout`)")]
    Late(Duration),
    /// It ended badly: how, and the last that it said.
    #[error("`on_init.command` failed: {0}{1}")]
    Failed(std::process::ExitStatus, String),
}

/// The command while it runs: it goes with all that it has started if nobody waits for it any more, or
/// when this process dies.
#[derive(Debug)]
struct Run(Child);

impl Drop for Run {
    fn drop(&mut self) {
        // Nothing once it has ended: what it has left behind on purpose stays.
        process::kill_group(&self.0);
    }
}

/// Runs it to its end; what it says is in the log.
///
/// # Errors
/// It can't be started, took too long, or failed.
pub(crate) async fn run(init: &Init, handler: &Arc<str>) -> Result<(), InitError> {
    // No pipes: it reads nothing, and all that it says is log.
    let command = CommandSpec {
        has_socket: true,
        ..init.command.clone()
    };
    let Process {
        child, pid, stderr, ..
    } = process::start(command).await?;
    let mut run = Run(child);
    let said = Stderr::follow(stderr, Arc::clone(handler), pid)?;
    let Ok(ended) = timeout(init.limit, run.0.wait()).await else {
        return Err(InitError::Late(init.limit));
    };
    let status = ended?;
    let words = match said.last_words().await {
        words if words.is_empty() => words,
        words => format!("; it said: {words}"),
    };
    match status.success() {
        true => Ok(()),
        false => Err(InitError::Failed(status, words)),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::super::tests::{until, until_dead};
    use super::*;

    fn shell(line: &str, limit: Duration) -> Init {
        let command = ["sh", "-c", line].map(str::to_owned).to_vec();
        Init {
            command: CommandSpec {
                command,
                ..CommandSpec::default()
            },
            limit,
            is_needed: true,
        }
    }

    #[tokio::test]
    async fn a_command_that_is_late_is_killed_with_what_it_has_started() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("pid");
        let line = format!("sleep 3600 & echo $! > {}; wait", file.display());
        let init = shell(&line, Duration::from_secs(2));
        let running = tokio::spawn(async move { run(&init, &"app".into()).await });
        let mut child = 0;
        until("it has a child", || {
            let text = std::fs::read_to_string(&file).unwrap_or_default();
            child = text.trim().parse().unwrap_or_default();
            std::future::ready(child > 0)
        })
        .await;
        let why = running.await.unwrap().unwrap_err().to_string();
        assert!(why.contains("on_init.exec_timeout"), "{why}");
        until_dead(child).await;
    }

    #[tokio::test]
    async fn a_command_that_fails_is_quoted_with_its_last_words() {
        let init = shell("echo no database; exit 7", Duration::from_secs(60));
        let why = run(&init, &"app".into()).await.unwrap_err().to_string();
        assert_eq!(
            why,
            "`on_init.command` failed: exit status: 7; it said: no database"
        );
        let none = Init {
            command: CommandSpec {
                command: vec!["/no/such/program".to_owned()],
                ..CommandSpec::default()
            },
            ..init
        };
        let why = run(&none, &"app".into()).await.unwrap_err().to_string();
        assert!(
            why.contains("can't be started: exec /no/such/program"),
            "{why}"
        );
    }
}
