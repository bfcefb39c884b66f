//! `print-config`: the effective settings, the defaults, or every key.

use super::error::{CliError, warn};
use super::{Session, output};
use crate::config::{effective_json, fuzz_load, print_defaults, print_docs, print_effective};
use clap::Args;

#[derive(Debug, Args)]
#[command(after_help = "\
Secrets are redacted. What --defaults prints is a node.toml that changes nothing.

Example:
  centripeta print-config --defaults > node.toml")]
pub(super) struct PrintConfigArgs {
    /// The built-in defaults, with documentation for each key
    #[arg(long, conflicts_with = "docs")]
    defaults: bool,
    /// Every key as a table in Markdown
    #[arg(long)]
    docs: bool,
    /// Settings and where they came from, as JSON
    #[arg(long, conflicts_with = "docs")]
    json: bool,
}

pub(super) fn run(session: &Session, args: &PrintConfigArgs) -> Result<(), CliError> {
    if args.docs {
        output::say(print_docs().trim_end());
        return Ok(());
    }
    if args.defaults && !args.json {
        output::say(print_defaults().trim_end());
        return Ok(());
    }
    let loaded = if args.defaults {
        fuzz_load(&[])?
    } else {
        session.load()?
    };
    warn(&loaded.warnings);
    if args.json {
        output::say_json(&effective_json(&loaded));
    } else {
        output::say(print_effective(&loaded).trim_end());
    }
    Ok(())
}
