//! What is done on the data directory of a node that does not run: founding a cluster, and making
//! the survivor of a lost majority its only voter.

use super::super::error::{CliError, Exit, warn};
use super::super::{Session, block_on, output};
use super::say_json;
use crate::config::{ClusterConfig, Config};
use centripeta_cluster::member::{
    self, Founding, InitOutcome, Joined, RecoverOutcome, Survey, peek,
};
use centripeta_cluster::peer::{ProbeError, probe};
use clap::Args;
use serde_json::{Value, json};
use std::path::Path;

#[derive(Debug, Args)]
#[command(after_help = "\
Only after more than half of the voters are lost for good. Run it, without --yes, on each survivor
that voted, compare what they print, and run it with --yes on the one whose log is longest: by
recovery, then term, then index. It becomes the only voter, every other node dead. What it does not
hold is gone. Never start the other old voters with their old data directories.

Example:
  centripeta cluster recover --config a.toml --yes")]
pub(super) struct RecoverArgs {
    /// Does it; without it, only says how far the log of this node goes
    #[arg(long)]
    yes: bool,
}

/// The configuration of a member.
fn of_member(session: &Session, what: &str) -> Result<(Config, ClusterConfig), CliError> {
    let loaded = session.load()?;
    warn(&loaded.warnings);
    let Some(cluster) = loaded.config.cluster.clone() else {
        return Err(CliError::new(
            Exit::Config,
            what,
            "this configuration has no [cluster]",
            "write [cluster] into it, or name another with --config FILE",
        ));
    };
    Ok((loaded.config, cluster))
}

pub(super) fn init(session: &Session, json: bool) -> Result<(), CliError> {
    const WHAT: &str = "cluster init";
    let (config, cluster) = of_member(session, WHAT)?;
    let dir = &config.node.data;
    // Told without a lock: the node may be running.
    let before = peek(dir).map_err(|error| unfit(WHAT, &error))?;
    if before.is_none() {
        ask_seeds(&config, &cluster)?;
    }
    match (member::init(dir, &founding(&config, &cluster)), before) {
        (Ok(InitOutcome::Already(joined)), _)
        | (Err(member::Error::InUse { .. }), Some(joined)) => already(joined, dir, json),
        (Err(error), _) => Err(unfit(WHAT, &error)),
        (Ok(InitOutcome::Founded(info)), _) => {
            let id = format!("{:032x}", info.id.0);
            if json {
                return say_json(&json!({ "founded": true, "cluster": id, "node": 1 }));
            }
            output::say(&format!(
                "founded cluster {id}: {} is its first node, id 1\n\
                 start it with `serve`; the others join by cluster.seeds",
                config.node.name
            ));
            Ok(())
        }
    }
}

fn already(joined: Joined, dir: &Path, json: bool) -> Result<(), CliError> {
    let id = format!("{:032x}", joined.cluster.0);
    let node = joined.node.0;
    if json {
        return say_json(&json!({ "founded": false, "cluster": id, "node": node }));
    }
    output::say(&format!(
        "nothing to do: {} is node {node} of cluster {id} already",
        dir.display()
    ));
    Ok(())
}

fn founding(config: &Config, cluster: &ClusterConfig) -> Founding {
    Founding {
        roles: config.node.roles,
        serves: config.node.serves.clone(),
        build: env!("CARGO_PKG_VERSION").to_owned(),
        voters: cluster.voters,
        lease_length: cluster.lease.length,
        drift_margin_permille: cluster.lease.drift_margin_permille,
        ..Founding::new(&config.node.name, vec![cluster.advertised(cluster.listen)])
    }
}

/// Founds nothing beside a cluster that is there.
fn ask_seeds(config: &Config, cluster: &ClusterConfig) -> Result<(), CliError> {
    block_on(async {
        for seed in &cluster.seeds {
            // A name that leads nowhere is one whose nodes are not there yet.
            let found = tokio::net::lookup_host(seed.as_str()).await;
            for addr in found.into_iter().flatten() {
                let security = cluster.security();
                let met = probe(&addr.to_string(), &config.node.name, security).await;
                judge(seed, met)?;
            }
        }
        Ok(())
    })
}

fn judge(
    seed: &str,
    met: Result<Option<centripeta_cluster::peer::Met>, ProbeError>,
) -> Result<(), CliError> {
    let what = format!("seed {seed}");
    match met {
        Ok(None) | Err(ProbeError::Nobody(_)) => Ok(()),
        Ok(Some(met)) => Err(CliError::new(
            Exit::Failed,
            what,
            format!(
                "answers as {} ({}) of cluster {:032x}: there is one already",
                met.name, met.node, met.cluster.0
            ),
            "start this node with `serve`, and it joins that cluster; to found another, remove the \
             seed",
        )),
        Err(ProbeError::Stranger(error)) => Err(CliError::new(
            Exit::Failed,
            what,
            format!("someone answers there, and not as a node of ours: {error}"),
            "correct cluster.seeds, cluster.secret or cluster.tls",
        )),
        Err(ProbeError::Security(error)) => Err(CliError::new(
            Exit::Config,
            "cluster",
            error,
            "correct cluster.secret or cluster.tls",
        )),
    }
}

pub(super) fn recover(session: &Session, args: &RecoverArgs, json: bool) -> Result<(), CliError> {
    const WHAT: &str = "cluster recover";
    let (config, _) = of_member(session, WHAT)?;
    let dir = &config.node.data;
    if !args.yes {
        let survey = member::survey(dir).map_err(|error| unfit(WHAT, &error))?;
        if json {
            say_json(&survey_json(&survey, "nothing"))?;
            return Err(CliError::Said(Exit::Failed));
        }
        output::say(&survey_text(&survey));
        return Err(CliError::new(
            Exit::Failed,
            WHAT,
            "nothing was changed, since --yes was not given",
            "compare this on every survivor; where recovery, term and index are highest, say --yes",
        ));
    }
    let (survey, done) = match member::recover(dir).map_err(|error| unfit(WHAT, &error))? {
        RecoverOutcome::Recovered(survey) => (survey, "recovered"),
        RecoverOutcome::Alone(survey) => (survey, "nothing"),
    };
    if json {
        return say_json(&survey_json(&survey, done));
    }
    let node = survey.joined.node.0;
    output::say(&match done {
        "recovered" => format!(
            "node {node} is the only voter now, every other node dead (recovery {})\n\
             start it with `serve`; old voters come back on empty data directories only",
            survey.joined.recovery
        ),
        _ => format!("nothing to do: node {node} is the only voter already; start it with `serve`"),
    });
    Ok(())
}

fn survey_text(survey: &Survey) -> String {
    let (recovery, last) = survey.reach();
    let last = last.map_or_else(
        || "empty".to_owned(),
        |last| format!("up to term {}, index {}", last.leader.term, last.index),
    );
    let voters: Vec<_> = survey
        .extent
        .voters
        .iter()
        .map(ToString::to_string)
        .collect();
    let votes = if survey.votes() {
        "yes"
    } else {
        "no, its log may lack a part"
    };
    format!(
        "cluster   {:032x}\nnode      {}\nrecovery  {recovery}\nlog       {last}\nvotes     {votes}\n\
         voters    {}",
        survey.joined.cluster.0,
        survey.joined.node,
        if voters.is_empty() {
            "none yet: it has never run".to_owned()
        } else {
            voters.join(", ")
        }
    )
}

fn survey_json(survey: &Survey, done: &str) -> Value {
    let (recovery, last) = survey.reach();
    json!({
        "done": done,
        "cluster": format!("{:032x}", survey.joined.cluster.0),
        "node": survey.joined.node.0,
        "recovery": recovery,
        "term": last.map(|last| last.leader.term),
        "index": last.map(|last| last.index),
        "votes": survey.votes(),
        "voters": survey.extent.voters.iter().map(|id| id.0).collect::<Vec<_>>(),
    })
}

/// A data directory that was refused; what it says names the cure.
fn unfit(what: &str, error: &member::Error) -> CliError {
    let text = error.to_string();
    let exit = match error {
        member::Error::Setting { .. } => Exit::Config,
        _ => Exit::Failed,
    };
    let (why, help) = match text.split_once("; ") {
        Some((why, help)) => (why.to_owned(), help.to_owned()),
        None => (text, "check node.data".to_owned()),
    };
    CliError::new(exit, what, why, help)
}
