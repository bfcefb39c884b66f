//! `[cluster]`: how a node takes part in a cluster, and the same in the terms of the cluster crate.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use centripeta_cluster::ClusterInfo;
use centripeta_cluster::handoff::HandoffConfig;
use centripeta_cluster::lease::LeaseConfig;
use centripeta_cluster::peer::{LinkConfig, SecretSource, SecurityConfig, TlsFiles};
use centripeta_cluster::raft::Timing;

use super::check::Settings;
use super::secret::Secret;

/// `[cluster]`: several nodes as one.
#[derive(Debug, Clone, PartialEq)]
pub struct ClusterConfig {
    /// Where the other nodes reach this one; port 0 takes any free one.
    pub listen: SocketAddr,
    /// What the others dial, `HOST:PORT`; `None` for `listen`, which then is no wildcard.
    pub advertise: Option<String>,
    /// Nodes to join through, `HOST:PORT` each.
    pub seeds: Vec<String>,
    /// What the nodes share to know each other, at most four: the first proves, all are accepted.
    pub secrets: Vec<ClusterSecret>,
    /// Certificates of links.
    pub tls: Option<ClusterTlsConfig>,
    /// Whether links beyond loopback may do without secret and TLS.
    pub insecure: bool,
    /// Whether connects and calls without a key go on without a quorum.
    pub serve_stateless_isolated: bool,
    /// How many voters are wanted: 1, 3 or 5; read by `cluster init` only.
    pub voters: u8,
    /// How leases are kept.
    pub lease: ClusterLeaseConfig,
    /// When Raft does what.
    pub raft: ClusterRaftConfig,
    /// How slots move.
    pub moves: ClusterMovesConfig,
}

/// A secret that nodes share; at least 16 bytes when it was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ClusterSecret {
    /// It is this text.
    Text(Secret),
    /// It is what this file holds, trimmed; read again when it changes.
    File(PathBuf),
}

/// `cluster.tls`: files in PEM form, which were there at the start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClusterTlsConfig {
    /// The node's certificate chain.
    pub cert: PathBuf,
    /// Its private key.
    pub key: PathBuf,
    /// The authority of the cluster.
    pub ca: PathBuf,
}

/// `cluster.lease`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClusterLeaseConfig {
    /// How long a lease lasts; read by `cluster init` only.
    pub length: Duration,
    /// How often a node asks for it to be renewed.
    pub heartbeat: Duration,
    /// How much longer the leader waits, in thousandths of it; read by `cluster init` only.
    pub drift_margin_permille: u16,
}

/// `cluster.raft`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClusterRaftConfig {
    /// How often a leader is heard.
    pub heartbeat: Duration,
    /// How long the first voter waits for one.
    pub election: Duration,
}

/// `cluster.moves`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClusterMovesConfig {
    /// Moves that are open at once.
    pub open_limit: usize,
    /// Slots that a node keeps closed at once, but for empty ones.
    pub closed_per_node: usize,
    /// How long a move waits for its target and for long events.
    pub prepare_timeout: Duration,
    /// How long a drain lets an event run once its slot is closed.
    pub release_timeout: Duration,
}

impl ClusterConfig {
    /// Where the others dial this node, given where it listens in fact (a port of 0 has become one).
    pub fn advertised(&self, bound: SocketAddr) -> String {
        self.advertise.clone().unwrap_or_else(|| bound.to_string())
    }

    /// How strangers are kept out.
    pub fn security(&self) -> SecurityConfig {
        let source = |secret: &ClusterSecret| match secret {
            ClusterSecret::Text(secret) => SecretSource::Text(secret.expose().to_owned()),
            ClusterSecret::File(path) => SecretSource::File(path.clone()),
        };
        let files = |tls: &ClusterTlsConfig| TlsFiles {
            cert: tls.cert.clone(),
            key: tls.key.clone(),
            ca: tls.ca.clone(),
        };
        SecurityConfig {
            secrets: self.secrets.iter().map(source).collect(),
            tls: self.tls.as_ref().map(files),
            insecure: self.insecure,
        }
    }

    /// What holds for links; `message_bytes` is `limits.message_bytes`, at most 63 MiB here.
    pub fn links(&self, message_bytes: usize) -> LinkConfig {
        LinkConfig {
            security: self.security(),
            payload_limit: message_bytes,
            ..LinkConfig::default()
        }
    }

    /// When Raft does what.
    pub fn timing(&self) -> Timing {
        Timing {
            heartbeat: self.raft.heartbeat,
            election: self.raft.election,
            ..Timing::default()
        }
    }

    /// How leases are kept: length and margin are those that the cluster was founded with.
    pub fn leases(&self, cluster: &ClusterInfo) -> LeaseConfig {
        LeaseConfig::new(cluster, self.lease.heartbeat)
    }

    /// Limits of moves.
    pub fn handoff(&self) -> HandoffConfig {
        HandoffConfig {
            closed_limit: self.moves.closed_per_node,
            prepare_timeout: self.moves.prepare_timeout,
            release_timeout: self.moves.release_timeout,
            ..HandoffConfig::default()
        }
    }
}

/// Builds the section. `None` if a key has no fit value, `Some(None)` if nobody wrote it.
pub(super) fn build(
    it: &Settings,
    file: &dyn Fn(&str) -> Option<PathBuf>,
) -> Option<Option<ClusterConfig>> {
    if !it.is_written("cluster") {
        return Some(None);
    }
    let count = |key: &str| it.count(key).and_then(|count| usize::try_from(count).ok());
    let tls = match file("cluster.tls.cert") {
        Some(cert) => Some(ClusterTlsConfig {
            cert,
            key: file("cluster.tls.key")?,
            ca: file("cluster.tls.ca")?,
        }),
        None => None,
    };
    Some(Some(ClusterConfig {
        listen: it.tcp("cluster.listen")?,
        advertise: Some(it.text("cluster.advertise")?).filter(|dial| !dial.is_empty()),
        seeds: it.words("cluster.seeds")?,
        secrets: it.secrets("cluster.secret")?,
        tls,
        insecure: it.flag("cluster.insecure")?,
        serve_stateless_isolated: it.flag("cluster.serve_stateless_isolated")?,
        voters: u8::try_from(it.count("cluster.voters")?).ok()?,
        lease: ClusterLeaseConfig {
            length: it.duration("cluster.lease.length")?,
            heartbeat: it.duration("cluster.lease.heartbeat")?,
            drift_margin_permille: permille(it.share("cluster.lease.drift_margin")?),
        },
        raft: ClusterRaftConfig {
            heartbeat: it.duration("cluster.raft.heartbeat")?,
            election: it.duration("cluster.raft.election")?,
        },
        moves: ClusterMovesConfig {
            open_limit: count("cluster.moves.open_limit")?,
            closed_per_node: count("cluster.moves.closed_per_node")?,
            prepare_timeout: it.duration("cluster.moves.prepare_timeout")?,
            release_timeout: it.duration("cluster.moves.release_timeout")?,
        },
    }))
}

/// A share in thousandths.
fn permille(share: f64) -> u16 {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a share is from 0 to 1"
    )]
    let permille = (share * 1000.0).round() as u16;
    permille
}
