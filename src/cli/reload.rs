//! `reload`: the running node reads its configuration again.

use super::admin::{self, Target};
use super::error::{CliError, Exit};
use super::{Session, output};
use crate::proto::admin::reload_response::Outcome;
use crate::proto::admin::{ReloadRequest, Reloaded};
use clap::Args;
use serde_json::json;

#[derive(Debug, Args)]
#[command(after_help = "\
Asks the admin listener of the configuration (listen.admin, listen.admin_token). The node reads its
own configuration again, as it was started, and applies all of it or nothing. Exit code 0 if it was
applied, 1 if it was refused, 4 if the node can't be reached within 3 s or does not answer within 30.

A changed listen.admin waits for a restart: until then name the one the node listens on with --set.

Example:
  centripeta reload --config node.toml")]
pub(super) struct ReloadArgs {
    /// Prints what was done, or why not, as JSON
    #[arg(long)]
    json: bool,
}

pub(super) fn run(session: &Session, args: &ReloadArgs) -> Result<(), CliError> {
    let target = Target::of(session)?;
    let answer = target.call("reload", ReloadRequest {}, async |mut client, request| {
        client.reload(request).await
    })?;
    match answer.outcome {
        Some(Outcome::Reloaded(reloaded)) => {
            say(&reloaded, args.json);
            Ok(())
        }
        Some(Outcome::Refused(refused)) if args.json => {
            let problems = admin::problems(&refused);
            output::say_json(&json!({ "applied": false, "problems": problems }));
            Err(CliError::Said(Exit::Failed))
        }
        Some(Outcome::Refused(refused)) => Err(admin::refused("reload", refused)),
        None => Err(admin::nothing_said("reload")),
    }
}

fn say(reloaded: &Reloaded, as_json: bool) {
    let Reloaded {
        changed,
        needs_restart,
    } = reloaded;
    if as_json {
        return output::say_json(&json!({
            "applied": true,
            "changed": changed,
            "needs_restart": needs_restart,
        }));
    }
    if changed.is_empty() {
        output::say("nothing else runs than before");
    }
    for entry in changed {
        output::say(&format!("changed        {entry}"));
    }
    for key in needs_restart {
        output::say(&format!("needs restart  {key}"));
    }
}
