//! `import`: what another program's file says, as a file of this one, and in words what has no
//! counterpart.
//!
//! The result goes to stdout, remarks to stderr; with `--json` both are one object. Nothing is
//! written to disk and no variable of the environment is read: `${NAME}` stays `${NAME}`.

mod centrifugo;
mod centrifugo_keys;
mod mistakes;
mod remark;
mod roadrunner;
mod source;
mod text;

use super::error::{CliError, Exit};
use super::{Session, output};
use clap::{Args, ValueEnum};
use remark::Remarks;
use serde_json::json;
use source::Source;
use std::path::PathBuf;

#[derive(Debug, Args)]
#[command(after_help = "\
From roadrunner: prints our node.toml. From centrifugo: prints a file for Centrifugo 6, made of the flat
keys of version 3 to 5. What has no counterpart, and mistakes that the files show, stand on stderr.

Examples:
  centripeta import roadrunner .rr.yaml > node.toml
  centripeta import centrifugo config.json --with .rr.yaml > config.v6.json")]
pub(super) struct ImportArgs {
    /// Whose file it is
    from: From,
    /// The file: YAML or JSON of RoadRunner; JSON, YAML or TOML of Centrifugo
    file: PathBuf,
    /// The file of the other program, to find where the two do not fit each other
    #[arg(long, value_name = "FILE")]
    with: Option<PathBuf>,
    /// Prints one object with the file and the remarks
    #[arg(long)]
    json: bool,
}

/// Whose file is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum From {
    /// A .rr.yaml of RoadRunner
    Roadrunner,
    /// A configuration of Centrifugo 3 to 5
    Centrifugo,
}

/// What was made of a file.
#[derive(Debug)]
struct Imported {
    /// The new file.
    text: String,
    /// What is to be known about it.
    remarks: Remarks,
}

pub(super) fn run(_: &Session, args: &ImportArgs) -> Result<(), CliError> {
    let main = source::read(&args.file)?;
    let other = args.with.as_deref().map(source::read).transpose()?;
    let mut imported = match args.from {
        From::Roadrunner => roadrunner::import(&main)?,
        From::Centrifugo => centrifugo::import(&main)?,
    };
    let (theirs, proxy) = match args.from {
        From::Roadrunner => (Some(&main), other.as_ref()),
        From::Centrifugo => (other.as_ref(), Some(&main)),
    };
    mistakes::look(theirs, proxy, &mut imported.remarks);
    if args.json {
        output::say_json(&json!({
            "config": imported.text,
            "remarks": imported.remarks.list,
        }));
    } else {
        output::say(imported.text.trim_end());
        imported.remarks.say();
    }
    Ok(())
}

/// A file that can't be made sense of.
fn refused(source: &Source, why: impl std::fmt::Display, help: &str) -> CliError {
    CliError::new(Exit::Failed, source.path.display().to_string(), why, help)
}

#[cfg(test)]
mod tests;
