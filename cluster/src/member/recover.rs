//! The majority of the voters is lost for good: offline, on the data directories of those that are
//! left, [`survey`] says whose log is longest, and [`recover`] makes that one the only voter.

use std::path::Path;
use std::time::Duration;

use super::Error;
use super::agree::Verdict;
use super::files::{Files, readable};
use super::identity::{Identity, Joined};
use super::lock::Lock;
use crate::lease::Clock;
use crate::raft::{Extent, Store};
use crate::{Incarnation, LogId};

/// What a data directory knows of its cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Survey {
    /// Which node of which cluster it is.
    pub joined: Joined,
    /// Its latest life.
    pub incarnation: Incarnation,
    /// Its log. Whether it is longer than another's: [`reach`](Self::reach).
    pub extent: Extent,
}

impl Survey {
    /// What survivors are compared by: the recovery of the cluster, then the end of the log. The
    /// greatest one holds every change that the cluster has acknowledged and that any of them has.
    pub const fn reach(&self) -> (u32, Option<LogId>) {
        (self.joined.recovery, self.extent.last)
    }

    /// Whether the node votes, by its own log; one that does not may have only a part of it.
    pub fn votes(&self) -> bool {
        self.extent.voters.contains(&self.joined.node)
    }

    /// Whether it is the only voter, so that it needs nobody else to go on.
    pub fn is_alone(&self) -> bool {
        let others = self.extent.voters.iter().any(|id| *id != self.joined.node);
        self.votes() && !others && !self.extent.changing
    }
}

/// What came of a [`recover`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RecoverOutcome {
    /// The node is the only voter of a recovered cluster; this is its directory now.
    Recovered(Survey),
    /// It was the only voter already, by an earlier recovery or since it founded the cluster:
    /// nothing was changed. It needs no recovery to go on, only to be started.
    Alone(Survey),
}

/// How far the log of this data directory goes. Changes nothing but the lock. The node must not run.
///
/// # Errors
/// If the directory is not there, is in use, is of no voter, or what is in it does not belong
/// together.
pub fn survey(dir: &Path) -> Result<Survey, Error> {
    let files = Files::read(Lock::take(dir)?)?;
    look(&files, dir).map(|(survey, _, _)| survey)
}

/// Makes the node of this data directory the only voter of its cluster, after the majority was lost
/// for good: every other node is dead, the cluster's recovery one more, the table's version and
/// every epoch 2³² more. All that its log holds counts as committed. Whoever missed this is refused
/// and registers anew, a voter on an empty directory. The node must not run.
///
/// Run on more than one survivor this would make two clusters: run it on the one whose
/// [`Survey::reach`] is greatest, and never start the others with their old directories.
///
/// It takes as long as a lease and its margin, by both clocks: a node that lives on elsewhere may
/// act for its slots that long (R3), and the recovered cluster grants them at once.
///
/// # Errors
/// If the directory is not there, is in use, is of no voter, its log is empty, or what is in it does
/// not belong together.
pub fn recover(dir: &Path) -> Result<RecoverOutcome, Error> {
    let mut files = Files::read(Lock::take(dir)?)?;
    let (survey, identity, store) = look(&files, dir)?;
    // A recovery that was cut short is whole in `meta.redb`.
    files.settle(identity)?;
    if survey.extent.last.is_none() {
        let (dir, node) = (dir.display().to_string(), survey.joined.node);
        return Err(Error::EmptyLog { dir, node });
    }
    if survey.is_alone() {
        return Ok(RecoverOutcome::Alone(survey));
    }
    // The majority is lost, so that no lease begins any more; every one that had begun is over then.
    wait_out(survey.extent.table.cluster().grace());
    let recover = || {
        let table = store.recover()?;
        Ok((table.cluster().recovery, store.extent()?))
    };
    let (recovery, extent) = recover().map_err(|error| readable(&files.lock, error))?;
    let joined = Joined {
        recovery,
        ..survey.joined
    };
    files.settle(Identity {
        joined: Some(joined),
        ..identity
    })?;
    Ok(RecoverOutcome::Recovered(Survey {
        joined,
        extent,
        ..survey
    }))
}

/// Waits until so much has passed by the slower of both clocks.
fn wait_out(span: Duration) {
    let began = Clock::read();
    loop {
        let left = span.saturating_sub(Clock::read().shortest_since(began));
        if left.is_zero() {
            return;
        }
        std::thread::park_timeout(left);
    }
}

fn look(files: &Files, dir: &Path) -> Result<(Survey, Identity, Store), Error> {
    let dir = || dir.display().to_string();
    let (identity, joined) = match files.verdict {
        Verdict::Joined(identity, joined) => (identity, joined),
        Verdict::HalfFounded(_) => return Err(Error::HalfFounded { dir: dir() }),
        Verdict::Empty | Verdict::Unjoined(_) => return Err(Error::NotJoined { dir: dir() }),
    };
    let store = files.store.clone().ok_or_else(|| Error::KeepsNoLog {
        dir: dir(),
        node: joined.node,
    })?;
    let extent = store
        .extent()
        .map_err(|error| readable(&files.lock, error))?;
    let survey = Survey {
        joined,
        incarnation: identity.incarnation,
        extent,
    };
    Ok((survey, identity, store))
}
