//! `cluster`: what operators see of several nodes that act as one, and what they ask of them.
//!
//! `init` and `recover` work on the data directory of the configuration; everything else asks a
//! running node, any of them, on its admin listener.

mod act;
mod follow;
mod offline;
pub(super) mod show;
mod table;
#[cfg(test)]
mod tests;

use super::admin::Target;
use super::error::{CliError, Exit};
use super::{Session, output};
use clap::{Args, Subcommand};
use serde_json::json;
use std::time::Duration;

#[derive(Debug, Args)]
#[command(after_help = "\
All but init and recover ask the admin listener of the configuration (listen.admin,
listen.admin_token), which sends on to the leader what only that one knows or may do. Nodes are
named by name or id. Exit code 0 if it was done, 1 if it was refused (health: if something is
wrong), 3 if the configuration is invalid, 4 if the node can't be reached.

Examples:
  centripeta cluster init --config a.toml
  centripeta cluster health
  centripeta cluster drain b --wait")]
pub(super) struct ClusterArgs {
    #[command(subcommand)]
    command: ClusterCommand,
    /// Prints the answer, or why not, as JSON
    #[arg(long, global = true)]
    json: bool,
}

#[derive(Debug, Subcommand)]
enum ClusterCommand {
    /// Founds a cluster on the data directory of its first node; harmless to repeat
    Init,
    /// The cluster in a few lines
    Status,
    /// What is wrong, each with its cure, and how many voters can be lost
    Health,
    /// Every node: where it stands, what it has, what it serves
    Nodes,
    /// Who reaches whom
    Peers,
    /// How many slots each node owns, or which ones a node owns
    Slots(SlotsArgs),
    /// Where a channel has its owner
    Where(WhereArgs),
    /// The moves that are open, and what keeps others from beginning
    Moves,
    /// Recent changes with their reasons
    Events(EventsArgs),
    /// Makes a node give its slots away, so that it can be stopped
    Drain(act::DrainArgs),
    /// Lets a node take slots again: it drains no more, and is in quarantine no more
    Undrain(NodeArgs),
    /// Moves a slot, or that of a channel, to a node
    Move(act::MoveArgs),
    /// Evens out the slots now, or says how
    Rebalance(act::RebalanceArgs),
    /// Begins no move any more but those of drains
    PauseMoves,
    /// Begins moves again
    ResumeMoves,
    /// Who votes; with a number, how many are wanted from now on
    Voters(act::VotersArgs),
    /// Removes a node for good; a dead voter is replaced by another node of role voter
    Remove(NodeArgs),
    /// Makes this stopped node the only voter, after the majority was lost for good
    Recover(offline::RecoverArgs),
}

#[derive(Debug, Args)]
struct SlotsArgs {
    /// Only those of this node, each by its number
    #[arg(long, value_name = "NODE")]
    node: Option<String>,
}

#[derive(Debug, Args)]
struct WhereArgs {
    /// A channel, or another key as it is sent
    channel: String,
}

#[derive(Debug, Args)]
struct EventsArgs {
    /// Goes on printing what happens, until it is ended
    #[arg(short, long)]
    follow: bool,
}

#[derive(Debug, Args)]
struct NodeArgs {
    /// The node, by name or id
    node: String,
}

/// Makes one call of the Admin service.
macro_rules! ask {
    ($target:expr, $what:expr, $method:ident, $message:expr) => {
        $target.call($what, $message, async |mut client, request| {
            client.$method(request).await
        })
    };
}
use ask;

pub(super) fn run(session: &Session, args: &ClusterArgs) -> Result<(), CliError> {
    let done = dispatch(session, args);
    match done {
        Err(CliError::Plain {
            exit,
            what,
            why,
            help,
        }) if args.json => {
            let problem = json!({ "what": format!("{what}: {why}"), "help": help });
            output::say_json(&json!({ "problems": [problem] }));
            Err(CliError::Said(exit))
        }
        done => done,
    }
}

fn dispatch(session: &Session, args: &ClusterArgs) -> Result<(), CliError> {
    let json = args.json;
    let target = match &args.command {
        ClusterCommand::Init => return offline::init(session, json),
        ClusterCommand::Recover(args) => return offline::recover(session, args, json),
        _ => Target::of(session)?,
    };
    match &args.command {
        // Told above.
        ClusterCommand::Init | ClusterCommand::Recover(_) => Ok(()),
        ClusterCommand::Status => show::status(&target, json),
        ClusterCommand::Health => show::health(&target, json),
        ClusterCommand::Nodes => show::nodes(&target, json),
        ClusterCommand::Peers => show::peers(&target, json),
        ClusterCommand::Slots(args) => show::slots(&target, args.node.as_deref(), json),
        ClusterCommand::Where(args) => show::locate(&target, &args.channel, json),
        ClusterCommand::Moves => show::moves(&target, json),
        ClusterCommand::Events(args) => follow::events(&target, args.follow, json),
        ClusterCommand::Drain(args) => act::drain(&target, args, json),
        ClusterCommand::Undrain(args) => act::undrain(&target, &args.node, json),
        ClusterCommand::Move(args) => act::move_slot(&target, args, json),
        ClusterCommand::Rebalance(args) => act::rebalance(&target, args, json),
        ClusterCommand::PauseMoves => act::pause_moves(&target, json),
        ClusterCommand::ResumeMoves => act::resume_moves(&target, json),
        ClusterCommand::Voters(args) => act::voters(&target, args, json),
        ClusterCommand::Remove(args) => act::remove(&target, &args.node, json),
    }
}

/// Prints an answer as JSON.
fn say_json(answer: &impl serde::Serialize) -> Result<(), CliError> {
    let answer = serde_json::to_value(answer).map_err(CliError::internal)?;
    output::say_json(&answer);
    Ok(())
}

/// Waits a little before the node is asked again.
fn pause(time: Duration) -> Result<(), CliError> {
    super::block_on(async {
        tokio::time::sleep(time).await;
        Ok(())
    })
}

/// An answer without what it has to have.
fn incomplete(what: &str) -> CliError {
    let help = "use the program of the node's own version";
    CliError::new(Exit::Failed, what, "the node's answer is incomplete", help)
}
