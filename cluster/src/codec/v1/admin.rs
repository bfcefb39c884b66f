//! Questions of operators that are sent on to the leader, and their answers.

use super::{MoveReason, NodeState, Roles, Serves, Slot};
use crate::admin as here;
use crate::codec::DecodeError;
use crate::codec::wire::{Seq, Text, Wire, mirror, mirror_names, mirror_variants, read, write};
use crate::{allocation, peer};

pub(in crate::codec) fn ask(ask: &here::Ask) -> Vec<u8> {
    write(&Ask::of(ask))
}

pub(in crate::codec) fn read_ask(bytes: &[u8]) -> Result<here::Ask, DecodeError> {
    read::<Ask>(bytes)?.back()
}

pub(in crate::codec) fn told(told: &here::Told) -> Vec<u8> {
    write(&Told::of(told))
}

pub(in crate::codec) fn read_told(bytes: &[u8]) -> Result<here::Told, DecodeError> {
    read::<Told>(bytes)?.back()
}

/// An operation with what it takes.
#[derive(Debug, bincode::Encode, bincode::Decode)]
enum Ask {
    Status,
    Health,
    Nodes,
    Peers,
    Links,
    Slots(Option<Text>),
    Locate(Seq<u8>),
    Moves,
    Events(u64),
    Drain(Text, bool),
    Undrain(Text),
    MoveSlot(u16, Text),
    Rebalance(bool, bool),
    PauseMoves,
    ResumeMoves,
    Voters(Option<u8>),
    Remove(Text),
    Steps,
    Drained(Text),
    Ended,
}

impl Wire<here::Ask> for Ask {
    fn of(value: &here::Ask) -> Self {
        use here::Ask as From;
        match value {
            From::Status => Self::Status,
            From::Health => Self::Health,
            From::Nodes => Self::Nodes,
            From::Peers => Self::Peers,
            From::Links => Self::Links,
            From::Slots(node) => Self::Slots(Wire::of(node)),
            From::Locate(name) => Self::Locate(Wire::of(name)),
            From::Moves => Self::Moves,
            From::Events(after) => Self::Events(*after),
            From::Drain(node, force) => Self::Drain(Wire::of(node), *force),
            From::Undrain(node) => Self::Undrain(Wire::of(node)),
            From::MoveSlot(slot, to) => Self::MoveSlot(*slot, Wire::of(to)),
            From::Rebalance(plan, across) => Self::Rebalance(*plan, *across),
            From::PauseMoves => Self::PauseMoves,
            From::ResumeMoves => Self::ResumeMoves,
            From::Voters(wanted) => Self::Voters(*wanted),
            From::Remove(node) => Self::Remove(Wire::of(node)),
            From::Steps => Self::Steps,
            From::Drained(node) => Self::Drained(Wire::of(node)),
            From::Ended => Self::Ended,
        }
    }

    fn back(self) -> Result<here::Ask, DecodeError> {
        use here::Ask as To;
        Ok(match self {
            Self::Status => To::Status,
            Self::Health => To::Health,
            Self::Nodes => To::Nodes,
            Self::Peers => To::Peers,
            Self::Links => To::Links,
            Self::Slots(node) => To::Slots(node.back()?),
            Self::Locate(name) => To::Locate(name.back()?),
            Self::Moves => To::Moves,
            Self::Events(after) => To::Events(after),
            Self::Drain(node, force) => To::Drain(node.back()?, force),
            Self::Undrain(node) => To::Undrain(node.back()?),
            Self::MoveSlot(slot, to) => To::MoveSlot(slot, to.back()?),
            Self::Rebalance(plan, across) => To::Rebalance(plan, across),
            Self::PauseMoves => To::PauseMoves,
            Self::ResumeMoves => To::ResumeMoves,
            Self::Voters(wanted) => To::Voters(wanted),
            Self::Remove(node) => To::Remove(node.back()?),
            Self::Steps => To::Steps,
            Self::Drained(node) => To::Drained(node.back()?),
            Self::Ended => To::Ended,
        })
    }
}

mirror!(
    Named = here::Named {
        id: u32,
        name: Text
    }
);
mirror!(Status = here::Status {
    cluster: Text,
    recovery: u32,
    answered_by: Named,
    leader: Option<Named>,
    term: u64,
    version: u64,
    voters: Seq<Named>,
    learners: Seq<Named>,
    voters_wanted: u8,
    nodes: Seq<(NodeState, u64)>,
    slots_vacant: u64,
    moves_open: u64,
    moves_paused: bool,
    lease: u64,
    can_lose: u64,
    problems: u64,
});
mirror!(
    Problem = here::Problem {
        what: Text,
        cure: Text,
        failing: bool
    }
);
mirror!(
    Health = here::Health {
        can_lose: u64,
        voters: u64,
        problems: Seq<Problem>
    }
);
mirror_names!(
    Vote = here::Vote {
        Voter,
        Learner,
        None
    }
);
mirror_names!(
    HeldBack = allocation::HeldBack {
        Degraded,
        Quarantine
    }
);
mirror!(NodeView = here::NodeView {
    node: Named,
    state: NodeState,
    incarnation: u64,
    addrs: Seq<Text>,
    roles: Roles,
    serves: Serves,
    vote: Vote,
    leads: bool,
    slots: u64,
    arriving: u64,
    leaving: u64,
    build: Text,
    protocol: u16,
    routes_differ: bool,
    held_back: Option<HeldBack>,
    cut_off: bool,
    heard: Option<u64>,
});
mirror_names!(
    LinkState = peer::LinkState {
        Idle,
        Dialling,
        Up,
        Silent,
        Down
    }
);
mirror!(
    PeerLink = here::PeerLink {
        to: Named,
        control: LinkState,
        data: LinkState
    }
);
mirror!(
    PeerRow = here::PeerRow {
        from: Named,
        links: Seq<PeerLink>,
        unknown: Option<Text>
    }
);
mirror!(
    SlotView = here::SlotView {
        slot: Slot,
        owner: Option<Named>,
        epoch: u64,
        moving_to: Option<Named>
    }
);
mirror!(
    Where = here::Where {
        tag: Text,
        slot: SlotView
    }
);
mirror_names!(
    MoveStep = here::MoveStep {
        Unknown,
        Preparing,
        Waiting,
        Finishing,
        Sending,
        Released
    }
);
mirror!(MoveView = here::MoveView {
    slot: Slot,
    id: u64,
    from: Option<Named>,
    to: Named,
    reason: MoveReason,
    age: Option<u64>,
    step: MoveStep,
    stuck: bool,
});
mirror!(
    MovesView = here::MovesView {
        open: Seq<MoveView>,
        waits: Seq<Text>,
        paused: bool
    }
);
mirror_names!(
    EventKind = here::EventKind {
        Node,
        Grant,
        MoveBegan,
        MoveCompleted,
        MoveAborted,
        Settings,
        Leader,
        Gap
    }
);
mirror!(
    Event = here::Event {
        number: u64,
        at: u64,
        version: u64,
        kind: EventKind,
        what: Text,
        why: Text
    }
);
mirror!(
    EventsView = here::EventsView {
        node: Named,
        incarnation: u64,
        events: Seq<Event>,
        latest: u64
    }
);
mirror!(
    DrainView = here::DrainView {
        node: Named,
        slots: u64,
        forced: Seq<Text>
    }
);
mirror!(
    PlannedMoves = here::PlannedMoves {
        from: Option<Named>,
        to: Named,
        slots: u64
    }
);
mirror!(
    RebalanceView = here::RebalanceView {
        moves: Seq<PlannedMoves>,
        waits: Seq<Text>,
        begun: bool
    }
);
mirror!(VotersView = here::VotersView {
    wanted: u8,
    voters: Seq<Named>,
    learners: Seq<Named>,
    candidates: Seq<Named>,
    missing: u64,
});

/// Why an operation was not carried out.
#[derive(Debug, bincode::Encode, bincode::Decode)]
enum Refused {
    No(Text, Text),
    Unavailable(Text),
}

impl Wire<here::Refused> for Refused {
    fn of(value: &here::Refused) -> Self {
        match value {
            here::Refused::No { why, cure } => Self::No(Wire::of(why), Wire::of(cure)),
            here::Refused::Unavailable(why) => Self::Unavailable(Wire::of(why)),
        }
    }

    fn back(self) -> Result<here::Refused, DecodeError> {
        Ok(match self {
            Self::No(why, cure) => here::Refused::No {
                why: why.back()?,
                cure: cure.back()?,
            },
            Self::Unavailable(why) => here::Refused::Unavailable(why.back()?),
        })
    }
}

mirror!(
    Step = here::Step {
        slot: Slot,
        id: u64,
        step: MoveStep
    }
);

mirror!(
    Ended = crate::Ended {
        streams: u64,
        cut: u64
    }
);
mirror!(
    DrainedView = here::DrainedView {
        node: Named,
        ended: Ended
    }
);

mirror_variants!(Told = here::Told {
    Status(status: Status),
    Health(health: Health),
    Nodes(nodes: Seq<NodeView>),
    Peers(rows: Seq<PeerRow>),
    Links(links: Seq<PeerLink>),
    Slots(slots: Seq<SlotView>),
    Locate(place: Where),
    Moves(moves: MovesView),
    Events(events: EventsView),
    Drain(drain: DrainView),
    Node(node: Named),
    Move(moving: MoveView),
    Rebalance(rebalance: RebalanceView),
    Paused(before: bool),
    Voters(voters: VotersView),
    Refused(refused: Refused),
    Steps(steps: Seq<Step>),
    Drained(drained: DrainedView),
    Ended(ended: Ended),
});
