//! What Raft keeps and sends: mirrors of its types, so that an upgrade of the library changes no
//! byte on disk or between nodes.

use std::collections::{BTreeMap, BTreeSet};

use super::command::Command;
use crate::codec::DecodeError;
use crate::codec::wire::{Seq, Text, Wire, mirror, read, write};
use crate::raft::types as here;

/// The bytes of a record of Raft's store, and back.
pub(crate) trait Record: Sized {
    /// As bytes.
    fn bytes(&self) -> Vec<u8>;
    /// From all of these bytes.
    fn from_bytes(bytes: &[u8]) -> Result<Self, DecodeError>;
}

macro_rules! records {
    ($($kind:ty => $wire:ty),+ $(,)?) => {$(
        impl Record for $kind {
            fn bytes(&self) -> Vec<u8> {
                write(&<$wire as Wire<$kind>>::of(self))
            }
            fn from_bytes(bytes: &[u8]) -> Result<Self, DecodeError> {
                read::<$wire>(bytes)?.back()
            }
        }
    )+};
}

records!(
    here::Vote => Vote,
    Option<here::LogId> => Option<LogId>,
    here::Entry => Entry,
    here::Kept => Kept,
    here::Identity => Identity,
    here::Request => Request,
    here::Response => Response,
);

impl Wire<here::Id> for u32 {
    fn of(value: &here::Id) -> Self {
        value.0
    }
    fn back(self) -> Result<here::Id, DecodeError> {
        Ok(here::Id(self))
    }
}

mirror!(
    LeaderId = here::LeaderId {
        term: u64,
        node_id: u32
    }
);
mirror!(
    LogId = here::LogId {
        leader_id: LeaderId,
        index: u64
    }
);
mirror!(
    Vote = here::Vote {
        leader_id: LeaderId,
        committed: bool
    }
);
mirror!(Place = here::Place { addrs: Seq<Text> });
mirror!(
    Identity = here::Identity {
        cluster: u128,
        node: u32,
        data: u128,
        incarnation: u64
    }
);
mirror!(SnapshotMeta = here::SnapshotMeta {
    last_log_id: Option<LogId>,
    last_membership: StoredMembership,
    snapshot_id: Text,
});
mirror!(Kept = here::Kept { meta: SnapshotMeta, table: Seq<u8> });
mirror!(
    Entry = here::Entry {
        log_id: LogId,
        payload: Payload
    }
);
mirror!(Append = here::Append {
    vote: Vote,
    prev_log_id: Option<LogId>,
    entries: Seq<Entry>,
    leader_commit: Option<LogId>,
});
mirror!(Ballot = here::Ballot { vote: Vote, last_log_id: Option<LogId> });
mirror!(Voted = here::Voted {
    vote: Vote,
    vote_granted: bool,
    last_log_id: Option<LogId>,
});

/// The voters of each configuration (two while they change), and every member's place.
#[derive(Debug, bincode::Encode, bincode::Decode)]
struct Membership {
    configs: Seq<Seq<u32>>,
    nodes: Seq<(u32, Place)>,
}

impl Wire<here::Membership> for Membership {
    fn of(value: &here::Membership) -> Self {
        let config = |ids: &BTreeSet<here::Id>| Seq(ids.iter().map(Wire::of).collect());
        let node = |(id, place): (&here::Id, &here::Place)| (Wire::of(id), Wire::of(place));
        Self {
            configs: Seq(value.get_joint_config().iter().map(config).collect()),
            nodes: Seq(value.nodes().map(node).collect()),
        }
    }

    fn back(self) -> Result<here::Membership, DecodeError> {
        let configs: Vec<Vec<here::Id>> = self.configs.back()?;
        let configs: Vec<BTreeSet<_>> = configs
            .into_iter()
            .map(|ids| ids.into_iter().collect())
            .collect();
        let nodes: Vec<(here::Id, here::Place)> = self.nodes.back()?;
        let nodes: BTreeMap<_, _> = nodes.into_iter().collect();
        if configs.iter().flatten().any(|id| !nodes.contains_key(id)) {
            return Err(DecodeError::Range {
                what: "voter without a place",
            });
        }
        Ok(here::Membership::new(configs, nodes))
    }
}

/// A membership and the entry that brought it.
#[derive(Debug, bincode::Encode, bincode::Decode)]
struct StoredMembership {
    log_id: Option<LogId>,
    membership: Membership,
}

impl Wire<here::StoredMembership> for StoredMembership {
    fn of(value: &here::StoredMembership) -> Self {
        Self {
            log_id: Wire::of(value.log_id()),
            membership: Wire::of(value.membership()),
        }
    }

    fn back(self) -> Result<here::StoredMembership, DecodeError> {
        let log_id = self.log_id.back()?;
        Ok(here::StoredMembership::new(log_id, self.membership.back()?))
    }
}

/// What an entry of the log holds.
#[derive(Debug, bincode::Encode, bincode::Decode)]
enum Payload {
    Blank,
    Command(Command),
    Membership(Membership),
}

impl Wire<here::Payload> for Payload {
    fn of(value: &here::Payload) -> Self {
        match value {
            here::Payload::Blank => Self::Blank,
            here::Payload::Normal(command) => Self::Command(Wire::of(command)),
            here::Payload::Membership(membership) => Self::Membership(Wire::of(membership)),
        }
    }

    fn back(self) -> Result<here::Payload, DecodeError> {
        Ok(match self {
            Self::Blank => here::Payload::Blank,
            Self::Command(command) => here::Payload::Normal(command.back()?),
            Self::Membership(membership) => {
                let membership: here::Membership = membership.back()?;
                let configs = membership.get_joint_config();
                if configs.is_empty() || configs.iter().any(BTreeSet::is_empty) {
                    return Err(DecodeError::Range { what: "voters" });
                }
                here::Payload::Membership(membership)
            }
        })
    }
}

/// A call.
#[derive(Debug, bincode::Encode, bincode::Decode)]
enum Request {
    Append(Append),
    Vote(Ballot),
    Snapshot { vote: Vote, kept: Kept },
}

impl Wire<here::Request> for Request {
    fn of(value: &here::Request) -> Self {
        match value {
            here::Request::Append(append) => Self::Append(Wire::of(append)),
            here::Request::Vote(ballot) => Self::Vote(Wire::of(ballot)),
            here::Request::Snapshot { vote, kept } => Self::Snapshot {
                vote: Wire::of(vote),
                kept: Wire::of(kept),
            },
        }
    }

    fn back(self) -> Result<here::Request, DecodeError> {
        Ok(match self {
            Self::Append(append) => here::Request::Append(append.back()?),
            Self::Vote(ballot) => here::Request::Vote(ballot.back()?),
            Self::Snapshot { vote, kept } => here::Request::Snapshot {
                vote: vote.back()?,
                kept: kept.back()?,
            },
        })
    }
}

/// What became of an append.
#[derive(Debug, bincode::Encode, bincode::Decode)]
enum Appended {
    Success,
    PartialSuccess(Option<LogId>),
    Conflict,
    HigherVote(Vote),
}

impl Wire<here::Appended> for Appended {
    fn of(value: &here::Appended) -> Self {
        match value {
            here::Appended::Success => Self::Success,
            here::Appended::PartialSuccess(log) => Self::PartialSuccess(Wire::of(log)),
            here::Appended::Conflict => Self::Conflict,
            here::Appended::HigherVote(vote) => Self::HigherVote(Wire::of(vote)),
        }
    }

    fn back(self) -> Result<here::Appended, DecodeError> {
        Ok(match self {
            Self::Success => here::Appended::Success,
            Self::PartialSuccess(log) => here::Appended::PartialSuccess(log.back()?),
            Self::Conflict => here::Appended::Conflict,
            Self::HigherVote(vote) => here::Appended::HigherVote(vote.back()?),
        })
    }
}

/// The answer to a call.
#[derive(Debug, bincode::Encode, bincode::Decode)]
enum Response {
    Append(Appended),
    Vote(Voted),
    Snapshot(Vote),
}

impl Wire<here::Response> for Response {
    fn of(value: &here::Response) -> Self {
        match value {
            here::Response::Append(appended) => Self::Append(Wire::of(appended)),
            here::Response::Vote(voted) => Self::Vote(Wire::of(voted)),
            here::Response::Snapshot { vote } => Self::Snapshot(Wire::of(vote)),
        }
    }

    fn back(self) -> Result<here::Response, DecodeError> {
        Ok(match self {
            Self::Append(appended) => here::Response::Append(appended.back()?),
            Self::Vote(voted) => here::Response::Vote(voted.back()?),
            Self::Snapshot(vote) => here::Response::Snapshot { vote: vote.back()? },
        })
    }
}
