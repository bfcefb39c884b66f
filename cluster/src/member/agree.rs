//! Whether `identity` and `meta.redb` belong together, as a pure function.
//!
//! A life is written to `meta.redb` first, then to `identity`, so a crash leaves the first ahead by
//! one; what is behind by that is put right before the next life is written. A recovery likewise.
//! `meta.redb` is made before the identity says so. Any other difference was made by hand.

use super::{Identity, Joined};
use crate::raft::{self, FOUNDER};
use crate::{Incarnation, NodeId};

/// What `meta.redb` says of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct LogFacts {
    /// Whose it is.
    pub(super) identity: raft::Identity,
    /// Whether it has yet to begin.
    pub(super) is_new: bool,
    /// How often its cluster was recovered; `None` before it has begun.
    pub(super) recovery: Option<u32>,
}

/// What the two files make of a directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Neither is there.
    Empty,
    /// A node that has joined no cluster.
    Unjoined(Identity),
    /// A founding was cut short; this is what the identity must become.
    HalfFounded(Identity),
    /// A node of a cluster; this is what the identity must say, if it does not yet.
    Joined(Identity, Joined),
}

/// Why the two do not belong together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Discord {
    IdentityMissing,
    LogMissing(NodeId),
    LogOlder {
        what: &'static str,
        log: u64,
        identity: u64,
    },
    IdentityOlder {
        what: &'static str,
        log: u64,
        identity: u64,
    },
    Foreign {
        what: &'static str,
        log: String,
        identity: String,
    },
}

/// Judges what was found.
pub(super) fn judge(identity: Option<Identity>, log: Option<LogFacts>) -> Result<Verdict, Discord> {
    match (identity, log) {
        (None, None) => Ok(Verdict::Empty),
        (None, Some(_)) => Err(Discord::IdentityMissing),
        (Some(identity), None) => match identity.joined {
            None => Ok(Verdict::Unjoined(identity)),
            Some(joined) if identity.keeps_log => Err(Discord::LogMissing(joined.node)),
            Some(joined) => Ok(Verdict::Joined(identity, joined)),
        },
        (Some(identity), Some(log)) => {
            same(
                "data directory",
                hex(log.identity.data.0),
                hex(identity.data.0),
            )?;
            match identity.joined {
                None => founding(identity, log),
                Some(joined) => member(identity, joined, log),
            }
        }
    }
}

/// An identity without a cluster beside a log: only a founding leaves that, before any life.
fn founding(identity: Identity, log: LogFacts) -> Result<Verdict, Discord> {
    let unborn = Incarnation(0);
    let (lives, known) = (log.identity.incarnation, identity.incarnation);
    if log.is_new && log.identity.node == FOUNDER && lives == unborn && known == unborn {
        let joined = Joined {
            cluster: log.identity.cluster,
            recovery: 0,
            node: FOUNDER,
        };
        return Ok(Verdict::HalfFounded(Identity {
            joined: Some(joined),
            keeps_log: true,
            ..identity
        }));
    }
    Err(Discord::IdentityOlder {
        what: "incarnation",
        log: lives.0,
        identity: known.0,
    })
}

fn member(identity: Identity, joined: Joined, log: LogFacts) -> Result<Verdict, Discord> {
    let (theirs, ours) = (log.identity, joined);
    same("cluster", hex(theirs.cluster.0), hex(ours.cluster.0))?;
    same("node", theirs.node.to_string(), ours.node.to_string())?;
    let (lives, known) = (theirs.incarnation.0, identity.incarnation.0);
    let incarnation = step("incarnation", lives, known)?;
    let recovery = match log.recovery {
        Some(recovery) => step("recovery", recovery, joined.recovery)?,
        None => joined.recovery,
    };
    let joined = Joined { recovery, ..joined };
    let identity = Identity {
        incarnation: Incarnation(incarnation),
        joined: Some(joined),
        keeps_log: true,
        ..identity
    };
    Ok(Verdict::Joined(identity, joined))
}

/// What a crash between the two writes explains: the log may be ahead by one.
fn step<N: Copy + Into<u64>>(what: &'static str, log: N, identity: N) -> Result<N, Discord> {
    let (theirs, ours) = (log.into(), identity.into());
    match theirs.checked_sub(ours) {
        None => Err(Discord::LogOlder {
            what,
            log: theirs,
            identity: ours,
        }),
        Some(2..) => Err(Discord::IdentityOlder {
            what,
            log: theirs,
            identity: ours,
        }),
        Some(_) => Ok(log),
    }
}

fn same(what: &'static str, log: String, identity: String) -> Result<(), Discord> {
    if log == identity {
        return Ok(());
    }
    Err(Discord::Foreign {
        what,
        log,
        identity,
    })
}

/// As operators see it elsewhere.
pub(super) fn hex(id: u128) -> String {
    format!("{id:032x}")
}
