//! Keeps a foreign program from outliving the bench: it ends when the stdin of its guard closes.

use std::process::Stdio;

use anyhow::{Context, bail};
use tokio::process::Command;

use super::role::{parent_is_gone, print_line};

/// Starts the program, prints its process id as one line, and kills it by that id when stdin closes.
///
/// # Errors
/// If it can't be started or ends by itself.
pub(crate) fn run(command: &[String]) -> anyhow::Result<()> {
    let [program, arguments @ ..] = command else {
        bail!("guard: no program named");
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let mut child = Command::new(program)
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("start {program}"))?;
        print_line(&child.id().context("it has ended already")?)?;
        let parent_is_gone = parent_is_gone();
        tokio::select! {
            status = child.wait() => bail!("{program}: ended by itself with {}", status?),
            _ = parent_is_gone => child.kill().await.with_context(|| format!("kill {program}")),
        }
    })
}
