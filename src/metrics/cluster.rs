//! A node's part in its cluster, on the page: what the table says, the lease, the gates of slots,
//! moves, links and Raft.

use super::cells::Totals;
use super::names;
use super::page::Page;
use crate::engine::shared::Shared;
use crate::region::GateCounts;
use centripeta_cluster::admin::MoveStep;
use centripeta_cluster::peer::{Class, Direction, LinkState, PeerView};
use centripeta_cluster::{
    Cluster, Counts, Gate, Member, MoveReason, NodeState, SlotId, Standing, Status, TIME_BOUNDS,
    Table, Times,
};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// Reasons of refusals that have a series from the start.
const USUAL: [&str; 5] = [
    "malformed",
    "not_joined",
    "other_cluster",
    "protocol_version",
    "wrong_secret",
];

/// What the page is made of.
struct Seen<'a> {
    status: Status,
    table: Arc<Table>,
    standing: &'a Standing,
    gates: &'a GateCounts,
    counts: &'a Counts,
    links: Vec<PeerView>,
    refused: BTreeMap<&'static str, u64>,
}

/// Everything about the cluster.
pub(super) fn write(page: &mut Page, shared: &Shared, cluster: &Cluster) {
    show(
        page,
        Seen {
            status: cluster.status(),
            table: Arc::clone(&shared.standing.shown().table),
            standing: &shared.standing,
            gates: &shared.slots.counts,
            counts: cluster.counts(),
            links: cluster.links().peers(),
            refused: cluster.links().refused(),
        },
    );
}

fn show(page: &mut Page, seen: Seen<'_>) {
    let (status, table) = (&seen.status, &*seen.table);
    lease(page, status);
    members(page, table, status);
    slots(page, seen.standing, table, status.me);
    moves(page, table, status);
    page.metric(&names::CLUSTER_STALL)
        .histogram(&[], &totals(Some(&seen.counts.stall)));
    page.metric(&names::CLUSTER_TAKEOVER)
        .histogram(&[], &totals(Some(&seen.counts.takeover)));
    gates(page, seen.gates);
    let term = status.raft.as_ref().map(|raft| raft.term);
    let heard = status.leader.map(|leader| leader.term);
    page.metric(&names::CLUSTER_TERM)
        .value(&[], term.max(heard).unwrap_or(0));
    page.metric(&names::CLUSTER_LEADS)
        .value(&[], u8::from(status.leads));
    page.metric(&names::CLUSTER_COMMIT)
        .histogram(&[], &totals(Some(&seen.counts.commit)));
    page.metric(&names::CLUSTER_FLUSH)
        .histogram(&[], &totals(seen.counts.flush()));
    links(page, seen.links, table);
    refused(page, &seen.refused);
}

fn totals(times: Option<&Times>) -> Totals {
    times.map_or_else(
        || Totals::new(&TIME_BOUNDS),
        |times| Totals::counted(&TIME_BOUNDS, times.buckets(), times.sum()),
    )
}

fn gates(page: &mut Page, counts: &GateCounts) {
    let mut samples = page.metric(&names::CLUSTER_GATE);
    for (result, count) in [
        ("held", &counts.held),
        ("bounced", &counts.bounced),
        ("cut", &counts.cut),
        ("lost", &counts.lost),
        ("lapsed", &counts.lapsed),
    ] {
        samples.value(&[result], count.load(Ordering::Relaxed));
    }
}

fn lease(page: &mut Page, status: &Status) {
    page.metric(&names::CLUSTER_LEASE)
        .value(&[], status.lease_left.as_secs_f64());
    page.metric(&names::CLUSTER_QUORUM)
        .value(&[], u8::from(status.quorum));
    page.metric(&names::CLUSTER_DEGRADED)
        .value(&[], u8::from(status.degraded.is_some()));
}

fn members(page: &mut Page, table: &Table, status: &Status) {
    let mut samples = page.metric(&names::CLUSTER_MEMBERS);
    for (state, label) in [
        (NodeState::Joining, "joining"),
        (NodeState::Up, "up"),
        (NodeState::Draining, "draining"),
        (NodeState::Dead, "dead"),
    ] {
        let of = table.nodes().values().filter(|node| node.state == state);
        samples.value(&[label], of.count());
    }
    page.metric(&names::CLUSTER_VERSION)
        .value(&[], status.version);
    page.metric(&names::CLUSTER_LAG)
        .value(&[], status.version_lag);
    let mut samples = page.metric(&names::CLUSTER_AGE);
    if let Some(age) = status.table_age {
        samples.value(&[], age.as_secs_f64());
    }
}

fn slots(page: &mut Page, standing: &Standing, table: &Table, me: Option<Member>) {
    let owned = table
        .slots()
        .filter(|(_, rec)| rec.owner.is_some() && rec.owner == me);
    page.metric(&names::CLUSTER_OWNED).value(&[], owned.count());
    let vacant = SlotId::all().filter(|slot| table.is_orphan(*slot));
    page.metric(&names::CLUSTER_VACANT)
        .value(&[], vacant.count());
    let (mut open, mut opening, mut closed) = (0_u32, 0_u32, 0_u32);
    for slot in SlotId::all() {
        match standing.gate(slot) {
            Gate::Open(_) => open += 1,
            Gate::Opening(_) => opening += 1,
            Gate::Shut(_) => closed += 1,
            Gate::Foreign => {}
        }
    }
    page.metric(&names::CLUSTER_SLOTS)
        .value(&["open"], open)
        .value(&["opening"], opening)
        .value(&["closed"], closed);
}

fn moves(page: &mut Page, table: &Table, status: &Status) {
    let mut samples = page.metric(&names::CLUSTER_MOVES);
    for (reason, label) in [
        (MoveReason::Drain, "drain"),
        (MoveReason::Rebalance, "rebalance"),
        (MoveReason::Admin, "admin"),
    ] {
        let of = table
            .slots()
            .filter(|(_, rec)| rec.moving.is_some_and(|to| to.reason == reason));
        samples.value(&[label], of.count());
    }
    let mut samples = page.metric(&names::CLUSTER_OUTGOING);
    for step in MoveStep::ALL {
        let count = status.steps.get(&step).copied().unwrap_or(0);
        samples.value(&[step.label()], count);
    }
    page.metric(&names::CLUSTER_OLDEST)
        .value(&[], status.oldest_move.unwrap_or_default().as_secs_f64());
}

/// A link, and the labels of its series.
struct Series {
    peer: String,
    view: PeerView,
}

impl Series {
    fn labels(&self) -> [&str; 3] {
        let class = match self.view.class {
            Class::Control => "control",
            Class::Data => "data",
            Class::Ask => "ask",
        };
        let direction = match self.view.direction {
            Direction::Out => "out",
            Direction::In => "in",
        };
        [&self.peer, class, direction]
    }
}

fn links(page: &mut Page, views: Vec<PeerView>, table: &Table) {
    let named = |view: PeerView| Series {
        // Names are not unique for ever: one that is gone may have had this one's.
        peer: table.node(view.peer).map_or_else(
            || view.peer.to_string(),
            |node| format!("{}/{}", node.name, view.peer),
        ),
        view,
    };
    let views: Vec<Series> = views.into_iter().map(named).collect();
    // One that nobody has use for was closed, and is neither up nor down.
    let in_use = || {
        let has_use = |it: &&Series| it.view.state != LinkState::Idle;
        views.iter().filter(has_use)
    };
    let mut samples = page.metric(&names::CLUSTER_LINK_UP);
    for it in in_use() {
        samples.value(&it.labels(), u8::from(it.view.state == LinkState::Up));
    }
    let mut samples = page.metric(&names::CLUSTER_LINK_SILENCE);
    for it in in_use() {
        if let Some(heard) = it.view.heard {
            samples.value(&it.labels(), heard.as_secs_f64());
        }
    }
    let mut samples = page.metric(&names::CLUSTER_LINK_CREDIT);
    for it in &views {
        samples.value(&it.labels(), it.view.credit_envelopes);
    }
    let mut samples = page.metric(&names::CLUSTER_LINK_CREDIT_BYTES);
    for it in &views {
        samples.value(&it.labels(), it.view.credit_bytes);
    }
    let mut samples = page.metric(&names::CLUSTER_LINK_WAITING);
    for it in &views {
        samples.value(&it.labels(), it.view.waiting);
    }
    let mut samples = page.metric(&names::CLUSTER_LINK_RECONNECTS);
    for it in &views {
        samples.value(&it.labels(), it.view.reconnects);
    }
}

fn refused(page: &mut Page, refused: &BTreeMap<&'static str, u64>) {
    let mut samples = page.metric(&names::CLUSTER_REFUSED);
    for reason in USUAL {
        samples.value(&[reason], refused.get(reason).copied().unwrap_or(0));
    }
    for (reason, count) in refused.iter().filter(|(it, _)| !USUAL.contains(it)) {
        samples.value(&[reason], count);
    }
}

#[cfg(test)]
mod tests;
