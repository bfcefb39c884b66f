//! `log-level`: what a running node logs, asked or changed.

use super::admin::{self, Target};
use super::error::{CliError, Exit};
use super::{Session, output};
use crate::proto::admin::set_log_level_response::Outcome;
use crate::proto::admin::{GetLogLevelRequest, SetLogLevelRequest};
use clap::Args;
use serde_json::json;

#[derive(Debug, Args)]
#[command(after_help = "\
Asks the admin listener of the configuration (listen.admin, listen.admin_token). A level is one of
off, error, warn, info, debug, trace, or such levels by target as log.level takes them. It holds
until the next reload or restart, which go by log.level again. Exit code 0 if it was done, 1 if it
was refused (the level before stays), 4 if the node can't be reached.

Example:
  centripeta log-level debug
  centripeta log-level info,centripeta::access=off")]
pub(super) struct LogLevelArgs {
    /// What to log from now on; without it, prints what is logged
    #[arg(value_name = "LEVEL")]
    level: Option<String>,
    /// Prints the answer as JSON
    #[arg(long)]
    json: bool,
}

pub(super) fn run(session: &Session, args: &LogLevelArgs) -> Result<(), CliError> {
    let target = Target::of(session)?;
    match &args.level {
        None => {
            let message = GetLogLevelRequest {};
            let answer = target.call("log-level", message, async |mut client, request| {
                client.get_log_level(request).await
            })?;
            if args.json {
                output::say_json(&json!({ "level": answer.level }));
            } else {
                output::say(&answer.level);
            }
            Ok(())
        }
        Some(level) => set(&target, level, args.json),
    }
}

fn set(target: &Target, level: &str, as_json: bool) -> Result<(), CliError> {
    let message = SetLogLevelRequest {
        level: level.to_owned(),
    };
    let answer = target.call("log-level", message, async |mut client, request| {
        client.set_log_level(request).await
    })?;
    match answer.outcome {
        Some(Outcome::Set(set)) if as_json => {
            output::say_json(&json!({ "level": level, "before": set.before }));
            Ok(())
        }
        Some(Outcome::Set(set)) => {
            output::say(&format!("{level} (before: {})", set.before));
            Ok(())
        }
        Some(Outcome::Refused(refused)) if as_json => {
            output::say_json(&json!({ "problems": admin::problems(&refused) }));
            Err(CliError::Said(Exit::Failed))
        }
        Some(Outcome::Refused(refused)) => Err(admin::refused("log-level", refused)),
        None => Err(admin::nothing_said("log-level")),
    }
}
