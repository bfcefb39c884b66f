//! `on_init`: a command that runs once before a pool starts.

use super::process::CommandSpec;
use super::stderr::Stderr;
use std::io;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;
use tokio::process::Command;
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
    /// It ended badly.
    #[error("`on_init.command` failed: {0}")]
    Failed(std::process::ExitStatus),
}

/// Runs it to its end; what it says is in the log.
///
/// # Errors
/// It can't be started, took too long, or failed.
pub(crate) async fn run(init: &Init, handler: &Arc<str>) -> Result<(), InitError> {
    let spec = &init.command;
    let mut words = spec.command.iter();
    let mut command = Command::new(words.next().map_or("", String::as_str));
    command.args(words).envs(&spec.env);
    command.stdin(Stdio::null()).kill_on_drop(true);
    let (ours, theirs) = io::pipe()?;
    command.stdout(theirs.try_clone()?).stderr(theirs);
    if let Some(dir) = &spec.dir {
        command.current_dir(dir);
    }
    if let Some((user, group)) = spec.owner {
        command.uid(user).gid(group);
    }
    let mut child = command.spawn()?;
    // Our copies of the other end go with it.
    drop(command);
    let pid = child.id().unwrap_or_default();
    let said = Stderr::follow(ours.into(), Arc::clone(handler), pid)?;
    let ended = timeout(init.limit, child.wait()).await;
    let Ok(status) = ended else {
        child.kill().await?;
        return Err(InitError::Late(init.limit));
    };
    let status = status?;
    drop(said.last_words().await);
    match status.success() {
        true => Ok(()),
        false => Err(InitError::Failed(status)),
    }
}
