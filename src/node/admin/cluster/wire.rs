//! What operators see, as messages of the Admin service.

use crate::proto::admin as proto;
use centripeta_cluster::admin::{
    DrainView, DrainedView, Event, EventsView, Health, MoveView, MovesView, Named, NodeView,
    PeerLink, PeerRow, PlannedMoves, Problem, RebalanceView, SlotView, Status, Vote, VotersView,
    Where, state_word,
};
use centripeta_cluster::allocation::HeldBack;
use centripeta_cluster::peer::LinkState;
use centripeta_cluster::{MoveReason, NodeState, Roles, Serves};
use std::time::Duration;

fn count(number: usize) -> u64 {
    u64::try_from(number).unwrap_or(u64::MAX)
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

fn all<T, P: From<T>>(items: Vec<T>) -> Vec<P> {
    items.into_iter().map(P::from).collect()
}

fn roles(roles: Roles) -> Vec<String> {
    let all = [
        (roles.voter, "voter"),
        (roles.ingress, "ingress"),
        (roles.region, "region"),
    ];
    let held = all.into_iter().filter(|(has, _)| *has);
    held.map(|(_, role)| role.to_owned()).collect()
}

/// As `node.serves` has them.
fn serves(serves: Serves) -> Vec<String> {
    let mut groups = Vec::new();
    if serves.connect {
        groups.push("connect".to_owned());
    }
    groups.extend(
        serves
            .rpc
            .into_iter()
            .map(|pattern| match pattern.as_str() {
                "*" => "rpc".to_owned(),
                pattern => format!("rpc:{pattern}"),
            }),
    );
    if serves.channel {
        groups.push("channel".to_owned());
    }
    groups
}

fn link(state: LinkState) -> String {
    let word = match state {
        LinkState::Idle => "idle",
        LinkState::Dialling => "dialling",
        LinkState::Up => "up",
        LinkState::Silent => "silent",
        LinkState::Down => "down",
    };
    word.to_owned()
}

impl From<Named> for proto::Named {
    fn from(named: Named) -> Self {
        Self {
            id: named.id.0,
            name: named.name,
        }
    }
}

impl From<Status> for proto::ClusterStatus {
    fn from(it: Status) -> Self {
        let node_count = |(state, number): (NodeState, usize)| proto::NodeCount {
            state: state_word(state).to_owned(),
            count: count(number),
        };
        Self {
            alone: false,
            cluster: it.cluster,
            recovery: it.recovery,
            answered_by: Some(it.answered_by.into()),
            leader: it.leader.map(Into::into),
            term: it.term,
            version: it.version,
            voters: all(it.voters),
            learners: all(it.learners),
            voters_wanted: it.voters_wanted.into(),
            nodes: it.nodes.into_iter().map(node_count).collect(),
            slots_vacant: count(it.slots_vacant),
            moves_open: count(it.moves_open),
            moves_paused: it.moves_paused,
            lease_ms: millis(it.lease),
            can_lose: count(it.can_lose),
            problems: count(it.problems),
        }
    }
}

impl From<Health> for proto::ClusterHealth {
    fn from(it: Health) -> Self {
        Self {
            healthy: it.is_healthy(),
            can_lose: count(it.can_lose),
            voters: count(it.voters),
            problems: all(it.problems),
        }
    }
}

impl From<Problem> for proto::ClusterProblem {
    fn from(it: Problem) -> Self {
        let Problem {
            what,
            cure,
            failing,
        } = it;
        Self {
            what,
            cure,
            failing,
        }
    }
}

impl From<Vec<NodeView>> for proto::ListNodesResponse {
    fn from(nodes: Vec<NodeView>) -> Self {
        Self { nodes: all(nodes) }
    }
}

impl From<NodeView> for proto::ClusterNode {
    fn from(it: NodeView) -> Self {
        let vote = match it.vote {
            Vote::Voter => "voter",
            Vote::Learner => "learner",
            Vote::None => "none",
        };
        let held_back = match it.held_back {
            Some(HeldBack::Degraded) => "degraded",
            Some(HeldBack::Quarantine) => "quarantine",
            None => "",
        };
        Self {
            node: Some(it.node.into()),
            state: state_word(it.state).to_owned(),
            incarnation: it.incarnation.0,
            addrs: it.addrs,
            roles: roles(it.roles),
            serves: serves(it.serves),
            vote: vote.to_owned(),
            leads: it.leads,
            slots: count(it.slots),
            arriving: count(it.arriving),
            leaving: count(it.leaving),
            build: it.build,
            protocol: it.protocol.into(),
            routes_differ: it.routes_differ,
            held_back: held_back.to_owned(),
            cut_off: it.cut_off,
            heard_ms: it.heard.map(millis),
        }
    }
}

impl From<Vec<PeerRow>> for proto::ListPeersResponse {
    fn from(rows: Vec<PeerRow>) -> Self {
        Self { rows: all(rows) }
    }
}

impl From<PeerRow> for proto::PeerRow {
    fn from(it: PeerRow) -> Self {
        Self {
            from: Some(it.from.into()),
            links: all(it.links),
            unknown: it.unknown.unwrap_or_default(),
        }
    }
}

impl From<PeerLink> for proto::PeerLink {
    fn from(it: PeerLink) -> Self {
        Self {
            to: Some(it.to.into()),
            control: link(it.control),
            data: link(it.data),
        }
    }
}

impl From<Vec<SlotView>> for proto::ListSlotsResponse {
    fn from(slots: Vec<SlotView>) -> Self {
        Self { slots: all(slots) }
    }
}

impl From<SlotView> for proto::Slot {
    fn from(it: SlotView) -> Self {
        Self {
            slot: it.slot.index().into(),
            owner: it.owner.map(Into::into),
            epoch: it.epoch.0,
            moving_to: it.moving_to.map(Into::into),
        }
    }
}

impl From<Where> for proto::LocateResponse {
    fn from(it: Where) -> Self {
        Self {
            tag: it.tag,
            slot: Some(it.slot.into()),
        }
    }
}

impl From<MovesView> for proto::ListMovesResponse {
    fn from(it: MovesView) -> Self {
        Self {
            open: all(it.open),
            waits: it.waits,
            paused: it.paused,
        }
    }
}

impl From<MoveView> for proto::Move {
    fn from(it: MoveView) -> Self {
        let reason = match it.reason {
            MoveReason::Rebalance => "rebalance",
            MoveReason::Drain => "drain",
            MoveReason::Admin => "admin",
        };
        Self {
            slot: it.slot.index().into(),
            id: it.id.0,
            from: it.from.map(Into::into),
            to: Some(it.to.into()),
            reason: reason.to_owned(),
            age_ms: it.age.map(millis),
            waits_for: it.step.waits_for().to_owned(),
            stuck: it.stuck,
        }
    }
}

impl From<MoveView> for proto::MoveSlotResponse {
    fn from(it: MoveView) -> Self {
        Self {
            r#move: Some(it.into()),
        }
    }
}

impl From<EventsView> for proto::ListEventsResponse {
    fn from(it: EventsView) -> Self {
        Self {
            node: Some(it.node.into()),
            incarnation: it.incarnation.0,
            events: all(it.events),
            latest: it.latest,
        }
    }
}

impl From<Event> for proto::ClusterEvent {
    fn from(it: Event) -> Self {
        Self {
            number: it.number,
            at_ms: millis(it.at),
            version: it.version,
            kind: it.kind.as_str().to_owned(),
            what: it.what,
            why: it.why,
        }
    }
}

impl From<DrainView> for proto::DrainNodeResponse {
    fn from(it: DrainView) -> Self {
        Self {
            node: Some(it.node.into()),
            slots: count(it.slots),
            forced: it.forced,
        }
    }
}

impl From<DrainedView> for proto::DrainResult {
    fn from(it: DrainedView) -> Self {
        Self {
            node: Some(it.node.into()),
            streams_ended: it.ended.streams,
            events_cut: it.ended.cut,
        }
    }
}

impl From<Named> for proto::UndrainNodeResponse {
    fn from(node: Named) -> Self {
        Self {
            node: Some(node.into()),
        }
    }
}

impl From<Named> for proto::RemoveNodeResponse {
    fn from(node: Named) -> Self {
        Self {
            node: Some(node.into()),
        }
    }
}

impl From<RebalanceView> for proto::RebalanceResponse {
    fn from(it: RebalanceView) -> Self {
        Self {
            moves: all(it.moves),
            waits: it.waits,
            begun: it.begun,
        }
    }
}

impl From<PlannedMoves> for proto::PlannedMoves {
    fn from(it: PlannedMoves) -> Self {
        Self {
            from: it.from.map(Into::into),
            to: Some(it.to.into()),
            slots: count(it.slots),
        }
    }
}

impl From<bool> for proto::PauseMovesResponse {
    fn from(before: bool) -> Self {
        Self { before }
    }
}

impl From<bool> for proto::ResumeMovesResponse {
    fn from(before: bool) -> Self {
        Self { before }
    }
}

impl From<VotersView> for proto::SetVotersResponse {
    fn from(it: VotersView) -> Self {
        Self {
            wanted: it.wanted.into(),
            voters: all(it.voters),
            learners: all(it.learners),
            candidates: all(it.candidates),
            missing: count(it.missing),
        }
    }
}
