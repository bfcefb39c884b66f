//! What is asked of the cluster and changes nothing, in words.

use super::super::admin::Target;
use super::super::error::{CliError, Exit};
use super::super::output;
use super::table::{ranges, table};
use super::{ask, incomplete, say_json};
use crate::proto::admin::{
    ClusterEvent, ClusterHealth, ClusterNode, ClusterStatus, GetClusterHealthRequest,
    GetClusterStatusRequest, ListMovesRequest, ListMovesResponse, ListNodesRequest,
    ListPeersRequest, ListSlotsRequest, LocateRequest, Move, Named, PeerLink, PeerRow, Slot,
};
use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

/// A node by name and id; by name alone if it runs alone.
pub(in crate::cli) fn named(node: Option<&Named>) -> String {
    match node {
        None => "nobody".to_owned(),
        Some(node) if node.id == 0 => node.name.clone(),
        Some(node) if node.name.is_empty() => format!("node {}", node.id),
        Some(node) => format!("{} ({})", node.name, node.id),
    }
}

pub(super) fn names(nodes: &[Named]) -> String {
    if nodes.is_empty() {
        return "none".to_owned();
    }
    let all = nodes.iter().map(|node| named(Some(node)));
    all.collect::<Vec<_>>().join(", ")
}

pub(super) fn status(target: &Target, json: bool) -> Result<(), CliError> {
    let message = GetClusterStatusRequest {};
    let answer = ask!(target, "cluster status", get_cluster_status, message)?;
    if json {
        return say_json(&answer);
    }
    output::say(&status_text(&answer));
    Ok(())
}

pub(super) fn status_text(it: &ClusterStatus) -> String {
    let by = named(it.answered_by.as_ref());
    if it.alone {
        return format!("{by} runs alone and owns every slot");
    }
    let leader = match &it.leader {
        Some(leader) => format!("{}, term {}", named(Some(leader)), it.term),
        None => format!("nobody is known to lead, term {}", it.term),
    };
    let nodes = it
        .nodes
        .iter()
        .map(|node| format!("{} {}", node.count, node.state));
    let voters = format!(
        "{}; {} wanted, {} can be lost",
        names(&it.voters),
        it.voters_wanted,
        it.can_lose
    );
    let slots = match it.slots_vacant {
        0 => "all have an owner".to_owned(),
        vacant => format!("{vacant} have no owner"),
    };
    let paused = if it.moves_paused { ", paused" } else { "" };
    let problems = match it.problems {
        0 => "none".to_owned(),
        count => format!("{count}: see `cluster health`"),
    };
    let recovered = match it.recovery {
        0 => String::new(),
        times => format!(", recovered {times} times"),
    };
    let mut lines = vec![
        ("cluster", format!("{}{recovered}", it.cluster)),
        ("leader", leader),
        ("nodes", nodes.collect::<Vec<_>>().join(", ")),
        ("voters", voters),
        ("slots", slots),
        ("moves", format!("{} open{paused}", it.moves_open)),
        ("lease", format!("{} ms", it.lease_ms)),
        ("table", format!("version {}, as {by} sees it", it.version)),
        ("problems", problems),
    ];
    if !it.learners.is_empty() {
        lines.insert(4, ("learners", names(&it.learners)));
    }
    let lines = lines.iter().map(|(key, value)| format!("{key:<9} {value}"));
    lines.collect::<Vec<_>>().join("\n")
}

pub(super) fn health(target: &Target, json: bool) -> Result<(), CliError> {
    let message = GetClusterHealthRequest {};
    let answer = ask!(target, "cluster health", get_cluster_health, message)?;
    if json {
        say_json(&answer)?;
    } else {
        output::say(&health_text(&answer));
    }
    if answer.healthy {
        return Ok(());
    }
    Err(CliError::Said(Exit::Failed))
}

pub(super) fn health_text(it: &ClusterHealth) -> String {
    let word = if it.healthy { "healthy" } else { "unhealthy" };
    let mut text = format!("{word}: can lose {} of {} voters", it.can_lose, it.voters);
    for problem in &it.problems {
        let kind = if problem.failing {
            "failing"
        } else {
            "warning"
        };
        text.push_str(&format!(
            "\n{kind}  {}\n   cure  {}",
            problem.what, problem.cure
        ));
    }
    text
}

pub(super) fn nodes(target: &Target, json: bool) -> Result<(), CliError> {
    let answer = ask!(target, "cluster nodes", list_nodes, ListNodesRequest {})?;
    if json {
        return say_json(&answer);
    }
    output::say(&nodes_text(&answer.nodes));
    Ok(())
}

pub(super) fn nodes_text(nodes: &[ClusterNode]) -> String {
    const HEAD: &[&str] = &[
        "NODE", "STATE", "VOTE", "SLOTS", "ROLES", "SERVES", "HEARD", "BUILD", "ADDRESS", "NOTES",
    ];
    let row = |it: &ClusterNode| {
        let moving = match (it.arriving, it.leaving) {
            (0, 0) => String::new(),
            (arriving, leaving) => format!(" +{arriving} -{leaving}"),
        };
        let vote = if it.leads { "leader" } else { &it.vote };
        vec![
            named(it.node.as_ref()),
            it.state.clone(),
            vote.to_owned(),
            format!("{}{moving}", it.slots),
            it.roles.join(","),
            it.serves.join(","),
            it.heard_ms.map_or_else(|| "-".to_owned(), age),
            it.build.clone(),
            it.addrs.join(","),
            notes(it),
        ]
    };
    table(HEAD, &nodes.iter().map(row).collect::<Vec<_>>())
}

fn notes(it: &ClusterNode) -> String {
    let mut notes = Vec::new();
    if !it.held_back.is_empty() {
        notes.push(it.held_back.clone());
    }
    if it.cut_off {
        notes.push("cut off".to_owned());
    }
    if it.routes_differ {
        notes.push("other routes".to_owned());
    }
    notes.join(", ")
}

/// A time in milliseconds, short.
fn age(ms: u64) -> String {
    match ms {
        0..1000 => format!("{ms} ms"),
        1000..120_000 => format!("{} s", ms / 1000),
        _ => format!("{} min", ms / 60_000),
    }
}

pub(super) fn peers(target: &Target, json: bool) -> Result<(), CliError> {
    let answer = ask!(target, "cluster peers", list_peers, ListPeersRequest {})?;
    if json {
        return say_json(&answer);
    }
    output::say(&peers_text(&answer.rows));
    Ok(())
}

/// Who reaches whom: a row per node that sends, a column per node that is sent to.
pub(super) fn peers_text(rows: &[PeerRow]) -> String {
    let id = |node: Option<&Named>| node.map_or(0, |node| node.id);
    let mut columns: Vec<Named> = rows.iter().filter_map(|row| row.from.clone()).collect();
    for link in rows.iter().flat_map(|row| &row.links) {
        if let Some(to) = &link.to
            && columns.iter().all(|node| node.id != to.id)
        {
            columns.push(to.clone());
        }
    }
    let cell = |row: &PeerRow, to: &Named| {
        if id(row.from.as_ref()) == to.id {
            return "-".to_owned();
        }
        if !row.unknown.is_empty() {
            return "?".to_owned();
        }
        let link = row.links.iter().find(|link| id(link.to.as_ref()) == to.id);
        link.map_or_else(|| "?".to_owned(), link_text)
    };
    let line = |row: &PeerRow| {
        let cells = columns.iter().map(|to| cell(row, to));
        std::iter::once(named(row.from.as_ref()))
            .chain(cells)
            .collect()
    };
    let head: Vec<String> = columns.iter().map(|to| named(Some(to))).collect();
    let head: Vec<&str> = std::iter::once("FROM \\ TO")
        .chain(head.iter().map(String::as_str))
        .collect();
    let mut text = table(&head, &rows.iter().map(line).collect::<Vec<Vec<_>>>());
    for row in rows.iter().filter(|row| !row.unknown.is_empty()) {
        text.push_str(&format!("\n{}: {}", named(row.from.as_ref()), row.unknown));
    }
    text
}

/// A link in few words: that for events is only told where something is wrong with it.
fn link_text(link: &PeerLink) -> String {
    match link.data.as_str() {
        "up" | "idle" | "dialling" => link.control.clone(),
        data => format!("{}, data {data}", link.control),
    }
}

pub(super) fn slots(target: &Target, node: Option<&str>, json: bool) -> Result<(), CliError> {
    let message = ListSlotsRequest {
        node: node.unwrap_or_default().to_owned(),
    };
    let answer = ask!(target, "cluster slots", list_slots, message)?;
    if json {
        return say_json(&answer);
    }
    output::say(&slots_text(&answer.slots, node.is_some()));
    Ok(())
}

/// How many slots each owner has; for a single node which ones.
pub(super) fn slots_text(slots: &[Slot], each: bool) -> String {
    let mut owners: BTreeMap<(u32, String), (Vec<u32>, usize)> = BTreeMap::new();
    for slot in slots {
        let id = slot.owner.as_ref().map_or(u32::MAX, |owner| owner.id);
        let owner = owners.entry((id, named(slot.owner.as_ref()))).or_default();
        owner.0.push(slot.slot);
        owner.1 += usize::from(slot.moving_to.is_some());
    }
    let row = |((_, name), (slots, leaving)): (&(u32, String), &(Vec<u32>, usize))| {
        vec![name.clone(), slots.len().to_string(), leaving.to_string()]
    };
    let rows: Vec<_> = owners.iter().map(row).collect();
    let mut text = table(&["OWNER", "SLOTS", "LEAVING"], &rows);
    if each {
        for (numbers, _) in owners.values() {
            text.push_str(&format!("\n{}", ranges(numbers)));
        }
    }
    text
}

pub(super) fn locate(target: &Target, channel: &str, json: bool) -> Result<(), CliError> {
    let message = LocateRequest {
        name: channel.as_bytes().to_vec(),
    };
    let answer = ask!(target, "cluster where", locate, message)?;
    if json {
        return say_json(&answer);
    }
    let slot = answer.slot.ok_or_else(|| incomplete("cluster where"))?;
    output::say(&where_text(channel, &answer.tag, &slot));
    Ok(())
}

pub(super) fn where_text(channel: &str, tag: &str, slot: &Slot) -> String {
    let by = if tag == channel {
        String::new()
    } else {
        format!(" by its part `{tag}`")
    };
    let owner = match &slot.owner {
        Some(owner) => format!("{} since epoch {}", named(Some(owner)), slot.epoch),
        None => format!(
            "nobody: its events wait for one, up to their deadline (epoch {})",
            slot.epoch
        ),
    };
    let moving = match &slot.moving_to {
        Some(to) => format!("\nmoving   to {}", named(Some(to))),
        None => String::new(),
    };
    format!(
        "channel  {channel}\nslot     {}{by}\nowner    {owner}{moving}",
        slot.slot
    )
}

pub(super) fn moves(target: &Target, json: bool) -> Result<(), CliError> {
    let answer = ask!(target, "cluster moves", list_moves, ListMovesRequest {})?;
    if json {
        return say_json(&answer);
    }
    output::say(&moves_text(&answer));
    Ok(())
}

/// Moves that are alike are one line.
pub(super) fn moves_text(it: &ListMovesResponse) -> String {
    type Alike<'a> = (String, String, &'a str, &'a str, bool);
    let mut alike: BTreeMap<Alike<'_>, (usize, Option<u64>)> = BTreeMap::new();
    for open in &it.open {
        let Move {
            from,
            to,
            reason,
            waits_for,
            stuck,
            ..
        } = open;
        let key = (
            named(from.as_ref()),
            named(to.as_ref()),
            &**reason,
            &**waits_for,
            *stuck,
        );
        let group = alike.entry(key).or_default();
        group.0 += 1;
        group.1 = group.1.max(open.age_ms);
    }
    let row = |((from, to, reason, waits_for, stuck), (count, oldest)): (&Alike<'_>, &_)| {
        let count: &usize = count;
        let oldest: &Option<u64> = oldest;
        let waits_for = match stuck {
            true => format!("STUCK: {waits_for}"),
            false => (*waits_for).to_owned(),
        };
        vec![
            count.to_string(),
            from.clone(),
            to.clone(),
            (*reason).to_owned(),
            oldest.map_or_else(|| "-".to_owned(), age),
            waits_for,
        ]
    };
    let rows: Vec<_> = alike.iter().map(row).collect();
    let head = &["SLOTS", "FROM", "TO", "WHY", "OLDEST", "WAITS FOR"];
    let mut text = match rows.is_empty() {
        true => "no move is open".to_owned(),
        false => table(head, &rows),
    };
    if it.paused && !it.waits.iter().any(|wait| wait.contains("paused")) {
        text.push_str("\nheld back: moves are paused: resume-moves");
    }
    for wait in &it.waits {
        text.push_str(&format!("\nheld back: {wait}"));
    }
    text
}

pub(super) fn event_text(event: &ClusterEvent) -> String {
    let at = SystemTime::UNIX_EPOCH.checked_add(Duration::from_millis(event.at_ms));
    let at = at.map_or_else(String::new, |at| {
        humantime::format_rfc3339_millis(at).to_string()
    });
    let why = match event.why.as_str() {
        "" => String::new(),
        why => format!(" ({why})"),
    };
    format!("{at}  {:<14}  {}{why}", event.kind, event.what)
}
