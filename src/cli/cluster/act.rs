//! What operators change.

use super::super::admin::Target;
use super::super::error::{CliError, Exit};
use super::super::output;
use super::show::{moves_text, named, names};
use super::table::table;
use super::{ask, incomplete, pause, say_json};
use crate::proto::admin::{
    ClusterNode, DrainNodeRequest, DrainResult, GetDrainResultRequest, ListMovesRequest,
    ListMovesResponse, ListNodesRequest, LocateRequest, MoveSlotRequest, PauseMovesRequest,
    RebalanceRequest, RebalanceResponse, RemoveNodeRequest, ResumeMovesRequest, SetVotersRequest,
    SetVotersResponse, UndrainNodeRequest,
};
use clap::Args;
use serde_json::json;
use std::time::Duration;
use tokio::time::Instant;

/// How often `drain --wait` looks.
const LOOK: Duration = Duration::from_millis(300);
/// After so long without a slot that has gone `drain --wait` says what they wait for.
const STILL: Duration = Duration::from_secs(10);
/// For how long `drain --wait` goes on while nobody answers.
const SILENCE: Duration = Duration::from_secs(15);

#[derive(Debug, Args)]
#[command(after_help = "\
Refused where the quorum, or the last node that serves a group of events, would go with it. Its
slots move to the others without a failed event; streams end and are opened anew by the clients.
With --wait it says at the end how many streams it has ended, and how many events were cut since
they ran for longer than cluster.moves.release_timeout. The node goes on running, without slots and
not ready: stop it then, or let it take slots again by `cluster undrain`.

Example:
  centripeta cluster drain b --wait")]
pub(super) struct DrainArgs {
    /// The node, by name or id
    node: String,
    /// Waits until it owns no slot
    #[arg(long)]
    wait: bool,
    /// With --wait: for how long at most, such as 60s
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration, requires = "wait")]
    timeout: Option<Duration>,
    /// Drains it whatever is lost with it
    #[arg(long)]
    force: bool,
}

#[derive(Debug, Args)]
pub(super) struct MoveArgs {
    /// A slot (0 to 4095), or a channel, whose slot is moved with all that is in it
    #[arg(value_name = "SLOT|CHANNEL")]
    what: String,
    /// Takes a number for the name of a channel
    #[arg(long)]
    channel: bool,
    /// The node that gets it, by name or id
    #[arg(long, value_name = "NODE")]
    to: String,
}

#[derive(Debug, Args)]
pub(super) struct RebalanceArgs {
    /// Only says what it would do
    #[arg(long)]
    plan: bool,
    /// Even where two builds are up
    #[arg(long)]
    across_builds: bool,
}

#[derive(Debug, Args)]
pub(super) struct VotersArgs {
    /// How many voters are wanted from now on: 1, 3 or 5
    wanted: Option<u32>,
}

pub(super) fn drain(target: &Target, args: &DrainArgs, json: bool) -> Result<(), CliError> {
    let message = DrainNodeRequest {
        node: args.node.clone(),
        force: args.force,
    };
    let answer = ask!(target, "cluster drain", drain_node, message)?;
    if !json {
        let name = named(answer.node.as_ref());
        output::say(&format!(
            "{name} drains: {} slots to give away",
            answer.slots
        ));
        for lost in &answer.forced {
            output::say(&format!("forced, though {lost}"));
        }
    }
    if args.wait {
        let id = answer.node.as_ref().map_or(0, |node| node.id);
        wait_for_drain(target, id, args.timeout, json)?;
        // It may have ended by now: then it can't say.
        let message = GetDrainResultRequest {
            node: id.to_string(),
        };
        let ended = ask!(target, "cluster drain", get_drain_result, message).ok();
        if json {
            return say_json(&json!({
                "node": answer.node,
                "slots": 0,
                "forced": answer.forced,
                "streams_ended": ended.as_ref().map(|ended| ended.streams_ended),
                "events_cut": ended.as_ref().map(|ended| ended.events_cut),
            }));
        }
        output::say(&drained_text(ended.as_ref()));
        return Ok(());
    }
    if json { say_json(&answer) } else { Ok(()) }
}

/// The closing words of a drain: what it has ended, apart from failed events.
pub(super) fn drained_text(ended: Option<&DrainResult>) -> String {
    let Some(ended) = ended else {
        return "it owns no slot any more, and does not say what was ended with them".to_owned();
    };
    let streams = match ended.streams_ended {
        0 => "no stream was ended".to_owned(),
        1 => "1 stream was ended, its client opens it anew".to_owned(),
        more => format!("{more} streams were ended, their clients open them anew"),
    };
    let cut = match ended.events_cut {
        0 => "no event was cut".to_owned(),
        1 => "1 event was cut, since it ran for longer than moves.release_timeout".to_owned(),
        more => {
            format!("{more} events were cut, since they ran for longer than moves.release_timeout")
        }
    };
    format!("it owns no slot any more; {streams}; {cut}")
}

/// Looks until the node owns no slot.
fn wait_for_drain(
    target: &Target,
    id: u32,
    timeout: Option<Duration>,
    quiet: bool,
) -> Result<(), CliError> {
    const WHAT: &str = "cluster drain";
    let begun = Instant::now();
    let mut heard = begun;
    let mut told = None;
    let mut still = Some(begun);
    loop {
        match ask!(target, WHAT, list_nodes, ListNodesRequest {}) {
            Ok(answer) => {
                heard = Instant::now();
                let of = |node: &&ClusterNode| node.node.as_ref().is_some_and(|it| it.id == id);
                let slots = match answer.nodes.iter().find(of) {
                    Some(node) => still_drains(node)?,
                    None => 0,
                };
                if slots == 0 {
                    return Ok(());
                }
                if told != Some(slots) {
                    still = Some(heard);
                    if !quiet {
                        eprintln!("{slots} slots left");
                    }
                }
                told = Some(slots);
                // Once, until some have gone.
                if still.is_some_and(|since| heard.duration_since(since) >= STILL) {
                    still = None;
                    if let Ok(moves) = ask!(target, WHAT, list_moves, ListMovesRequest {}) {
                        eprintln!("{}", waits_text(&moves, slots));
                    }
                }
            }
            // A leader may be about to follow another.
            Err(error) if heard.elapsed() > SILENCE => return Err(error),
            Err(_) => {}
        }
        if timeout.is_some_and(|timeout| begun.elapsed() >= timeout) {
            let left =
                told.map_or_else(|| "its slots".to_owned(), |slots| format!("{slots} slots"));
            let why = format!("{left} left after {:?}; the drain goes on", begun.elapsed());
            let help = "`cluster moves` says what they wait for; `cluster undrain` takes it back";
            return Err(CliError::new(Exit::Failed, WHAT, why, help));
        }
        pause(LOOK)?;
    }
}

/// What a drain waits for that gets no further.
pub(super) fn waits_text(moves: &ListMovesResponse, slots: u64) -> String {
    format!(
        "{slots} slots have not gone for {} s:\n{}",
        STILL.as_secs(),
        moves_text(moves)
    )
}

/// How many slots a node still has, if it still gives them away.
fn still_drains(node: &ClusterNode) -> Result<u64, CliError> {
    let name = named(node.node.as_ref());
    match node.state.as_str() {
        "draining" => Ok(node.slots),
        "dead" => Err(CliError::new(
            Exit::Failed,
            "cluster drain",
            format!("{name} died meanwhile: its slots were taken over, not moved"),
            "its log says why",
        )),
        // It has left and come back, or somebody took the drain back.
        state => Err(CliError::new(
            Exit::Failed,
            "cluster drain",
            format!("{name} is {state} and drains no more"),
            "see `cluster events`",
        )),
    }
}

pub(super) fn undrain(target: &Target, node: &str, json: bool) -> Result<(), CliError> {
    let message = UndrainNodeRequest {
        node: node.to_owned(),
    };
    let answer = ask!(target, "cluster undrain", undrain_node, message)?;
    if json {
        return say_json(&answer);
    }
    let name = named(answer.node.as_ref());
    output::say(&format!("{name} may take slots again"));
    Ok(())
}

pub(super) fn move_slot(target: &Target, args: &MoveArgs, json: bool) -> Result<(), CliError> {
    let number = args.what.parse().ok().filter(|_| !args.channel);
    let slot = match number {
        Some(slot) => slot,
        None => {
            let name = args.what.as_bytes().to_vec();
            let answer = ask!(target, "cluster move", locate, LocateRequest { name })?;
            answer.slot.ok_or_else(|| incomplete("cluster move"))?.slot
        }
    };
    let message = MoveSlotRequest {
        slot,
        to: args.to.clone(),
    };
    let answer = ask!(target, "cluster move", move_slot, message)?;
    if json {
        return say_json(&answer);
    }
    let begun = answer.r#move.ok_or_else(|| incomplete("cluster move"))?;
    let (from, to) = (named(begun.from.as_ref()), named(begun.to.as_ref()));
    output::say(&format!(
        "slot {} begins to move from {from} to {to}",
        begun.slot
    ));
    Ok(())
}

pub(super) fn rebalance(target: &Target, args: &RebalanceArgs, json: bool) -> Result<(), CliError> {
    let message = RebalanceRequest {
        plan: args.plan,
        across_builds: args.across_builds,
    };
    let answer = ask!(target, "cluster rebalance", rebalance, message)?;
    if json {
        return say_json(&answer);
    }
    output::say(&rebalance_text(&answer));
    Ok(())
}

pub(super) fn rebalance_text(it: &RebalanceResponse) -> String {
    let row = |planned: &crate::proto::admin::PlannedMoves| {
        vec![
            planned.slots.to_string(),
            named(planned.from.as_ref()),
            named(planned.to.as_ref()),
        ]
    };
    let rows: Vec<_> = it.moves.iter().map(row).collect();
    let mut text = match (rows.is_empty(), it.waits.is_empty()) {
        (true, true) => "no slot has to move".to_owned(),
        // Whether one would have to, the plan does not say while it is held back.
        (true, false) => "no slot moves now".to_owned(),
        (false, _) => {
            let word = if it.begun {
                "these move now"
            } else {
                "these would move"
            };
            format!("{word}:\n{}", table(&["SLOTS", "FROM", "TO"], &rows))
        }
    };
    for wait in &it.waits {
        text.push_str(&format!("\nheld back: {wait}"));
    }
    text
}

pub(super) fn pause_moves(target: &Target, json: bool) -> Result<(), CliError> {
    let answer = ask!(
        target,
        "cluster pause-moves",
        pause_moves,
        PauseMovesRequest {}
    )?;
    if json {
        return say_json(&answer);
    }
    output::say(match answer.before {
        true => "moves were paused already; drains go on",
        false => "moves are paused; drains go on",
    });
    Ok(())
}

pub(super) fn resume_moves(target: &Target, json: bool) -> Result<(), CliError> {
    let message = ResumeMovesRequest {};
    let answer = ask!(target, "cluster resume-moves", resume_moves, message)?;
    if json {
        return say_json(&answer);
    }
    output::say(match answer.before {
        true => "moves go on",
        false => "moves were not paused",
    });
    Ok(())
}

pub(super) fn voters(target: &Target, args: &VotersArgs, json: bool) -> Result<(), CliError> {
    let message = SetVotersRequest {
        wanted: args.wanted,
    };
    let answer = ask!(target, "cluster voters", set_voters, message)?;
    if json {
        return say_json(&answer);
    }
    output::say(&voters_text(&answer));
    Ok(())
}

pub(super) fn voters_text(it: &SetVotersResponse) -> String {
    let mut text = format!(
        "wanted      {}\nvoters      {}\nlearners    {}\ncandidates  {}",
        it.wanted,
        names(&it.voters),
        names(&it.learners),
        names(&it.candidates)
    );
    if it.missing > 0 {
        text.push_str(&format!(
            "\nmissing     start {} more nodes of role voter",
            it.missing
        ));
    }
    text
}

pub(super) fn remove(target: &Target, node: &str, json: bool) -> Result<(), CliError> {
    let message = RemoveNodeRequest {
        node: node.to_owned(),
    };
    let answer = ask!(target, "cluster remove", remove_node, message)?;
    if json {
        return say_json(&answer);
    }
    let name = named(answer.node.as_ref());
    output::say(&format!(
        "{name} is removed for good; its data directory is of no use any more"
    ));
    Ok(())
}
