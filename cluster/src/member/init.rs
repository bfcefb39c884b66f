//! `cluster init`: the founding of a cluster, on the data directory of its first node.
//!
//! Whether a seed answers with a cluster is the caller's to ask before it calls this: nothing here
//! knows the network.

use std::path::Path;
use std::time::Duration;

use super::Error;
use super::agree::Verdict;
use super::files::{Files, log_path, readable};
use super::identity::{Identity, Joined, random};
use super::lock::Lock;
use crate::peer::PROTOCOLS;
use crate::raft::{self, FOUNDER, Store, genesis};
use crate::{BootId, ClusterId, ClusterInfo, Incarnation, Registration, Roles, Serves, Settings};

/// The least margin that covers two clocks which drift apart by 4 % each, in thousandths.
const MARGIN_MIN: u16 = 90;

/// What a cluster is founded with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Founding {
    /// The name of the first node.
    pub name: String,
    /// Where others will dial it.
    pub addrs: Vec<String>,
    /// What it is there for; `voter` among it.
    pub roles: Roles,
    /// Which events it runs.
    pub serves: Serves,
    /// Its build, for example `1.4.0+3f2a`.
    pub build: String,
    /// How many voters are wanted: 1, 3 or 5.
    pub voters: u8,
    /// How long a lease lasts. Never changes.
    pub lease_length: Duration,
    /// How much longer its grantor waits, in thousandths of it; 90 at least. Never changes.
    pub drift_margin_permille: u16,
}

impl Founding {
    /// By a node of all roles that runs all events, with the default lease and three voters.
    pub fn new(name: &str, addrs: Vec<String>) -> Self {
        let info = ClusterInfo::new(ClusterId(0));
        Self {
            name: name.to_owned(),
            addrs,
            roles: Roles {
                voter: true,
                ingress: true,
                region: true,
            },
            serves: Serves {
                connect: true,
                channel: true,
                rpc: vec!["*".to_owned()],
            },
            build: env!("CARGO_PKG_VERSION").to_owned(),
            voters: Settings::default().voters,
            lease_length: info.lease_length,
            drift_margin_permille: info.drift_margin_permille,
        }
    }

    fn check(&self) -> Result<(), Error> {
        let unless = |holds: bool, key, value: String, rule| match holds {
            true => Ok(()),
            false => Err(Error::Setting { key, value, rule }),
        };
        let voters = self.voters;
        unless(
            matches!(voters, 1 | 3 | 5),
            "cluster.voters",
            voters.to_string(),
            "must be 1, 3 or 5",
        )?;
        let (length, margin) = (self.lease_length, self.drift_margin_permille);
        unless(
            !length.is_zero(),
            "cluster.lease.length",
            format!("{length:?}"),
            "must be more than nothing",
        )?;
        unless(
            (MARGIN_MIN..=1000).contains(&margin),
            "cluster.lease.drift_margin",
            format!("{}.{:03}", margin / 1000, margin % 1000),
            "must be 0.09 to 1",
        )?;
        unless(
            !self.name.is_empty(),
            "node.name",
            "\"\"".to_owned(),
            "must be set",
        )?;
        unless(
            self.roles.voter,
            "node.roles",
            "without voter".to_owned(),
            "who founds a cluster votes in it: add \"voter\"",
        )
    }

    /// The record of a node that has yet to live.
    fn registration(&self, identity: Identity) -> Registration {
        Registration {
            name: self.name.clone(),
            data: identity.data,
            incarnation: identity.incarnation,
            boot: BootId(0),
            addrs: self.addrs.clone(),
            roles: self.roles,
            serves: self.serves.clone(),
            protocol: *PROTOCOLS.end(),
            build: self.build.clone(),
            routes_hash: 0,
        }
    }
}

/// What came of an [`init`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum InitOutcome {
    /// A cluster was founded, by this call or by one that was cut short and that this one has
    /// finished: what that one was given holds.
    Founded(ClusterInfo),
    /// The directory is of a node of a cluster already. Nothing was changed.
    Already(Joined),
}

/// Founds a cluster on this data directory, which is made if it is not there: its first node is node
/// 1, the only voter. On one that is a node of a cluster it changes nothing and says so. The node
/// founds the log when it first starts ([`DataDir::founds`](super::DataDir::founds)).
///
/// It knows nothing of other nodes: ask the seeds first, and found nothing where one answers with a
/// cluster.
///
/// # Errors
/// If a setting is out of range, another process uses the directory, or what is in it does not
/// belong together.
pub fn init(dir: &Path, founding: &Founding) -> Result<InitOutcome, Error> {
    founding.check()?;
    let mut files = Files::read(Lock::make(dir)?)?;
    match files.verdict {
        Verdict::Joined(_, joined) => Ok(InitOutcome::Already(joined)),
        Verdict::HalfFounded(identity) => {
            files.settle(identity)?;
            let store = files.store.as_ref();
            let table = store.map(Store::genesis).transpose();
            let table = table.map_err(|error| readable(&files.lock, error))?;
            let table = table.ok_or_else(|| Error::IdentityMissing {
                dir: dir.display().to_string(),
            })?;
            Ok(InitOutcome::Founded(table.cluster().clone()))
        }
        // Drawn anew even if there is one: the old one may be registered with another cluster.
        Verdict::Empty | Verdict::Unjoined(_) => found(files, founding),
    }
}

fn found(mut files: Files, founding: &Founding) -> Result<InitOutcome, Error> {
    let identity = Identity::draw()?;
    files.settle(identity)?;
    let info = ClusterInfo {
        lease_length: founding.lease_length,
        drift_margin_permille: founding.drift_margin_permille,
        ..ClusterInfo::new(ClusterId(random()?))
    };
    let settings = Settings {
        voters: founding.voters,
        ..Settings::default()
    };
    let table = genesis(info.clone(), settings, &founding.registration(identity));
    let owner = raft::Identity {
        cluster: info.id,
        node: FOUNDER,
        data: identity.data,
        incarnation: Incarnation(0),
    };
    Store::create(&log_path(&files.lock), owner, &table)
        .map_err(|error| readable(&files.lock, error))?;
    let joined = Joined {
        cluster: info.id,
        recovery: info.recovery,
        node: FOUNDER,
    };
    files.settle(Identity {
        joined: Some(joined),
        keeps_log: true,
        ..identity
    })?;
    Ok(InitOutcome::Founded(info))
}
