//! `completion`: what a shell needs to complete the command line of this program.

use super::error::CliError;
use super::{Cli, Session, output};
use clap::{Args, CommandFactory};
use clap_complete::{Shell, generate};

#[derive(Debug, Args)]
#[command(after_help = "\
Prints a script for the shell, under this program's own name.

Examples:
  centripeta completion bash > /etc/bash_completion.d/centripeta
  centripeta completion zsh > ~/.zfunc/_centripeta
  centripeta completion fish > ~/.config/fish/completions/centripeta.fish")]
pub(super) struct CompletionArgs {
    /// The shell
    #[arg(value_name = "SHELL")]
    shell: Shell,
}

pub(super) fn run(session: &Session, args: &CompletionArgs) -> Result<(), CliError> {
    let mut script = Vec::new();
    generate(
        args.shell,
        &mut Cli::command(),
        &session.app.name,
        &mut script,
    );
    let script = String::from_utf8(script).map_err(CliError::internal)?;
    output::say(script.trim_end());
    Ok(())
}
