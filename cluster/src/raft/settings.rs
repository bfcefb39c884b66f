//! Raft's timers and how much it keeps.

use std::time::Duration;

use openraft::{Config, SnapshotPolicy};

/// What an election timer is drawn from is this wide.
const SPREAD: Duration = Duration::from_millis(20);
/// How much later each voter stands for election than the one before it, so that one wins at once.
const PER_RANK: Duration = Duration::from_millis(30);

/// When Raft does what.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timing {
    /// How often a leader is heard.
    pub heartbeat: Duration,
    /// How long the first voter waits for one before it stands for election.
    pub election: Duration,
    /// How many entries are applied between two snapshots.
    pub snapshot_every: u64,
    /// How many entries before a snapshot are kept, for those who lag a little.
    pub keep: u64,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            heartbeat: Duration::from_millis(60),
            election: Duration::from_millis(200),
            snapshot_every: 2000,
            keep: 500,
        }
    }
}

impl Timing {
    /// The longest that an election takes if one candidate fails first, among so many voters.
    pub fn worst_election(&self, voters: u32) -> Duration {
        let last = self.latest(voters.saturating_sub(1));
        last.saturating_mul(2)
            .saturating_add(self.heartbeat.saturating_mul(3) / 2)
    }

    fn earliest(&self, rank: u32) -> Duration {
        self.election.saturating_add(PER_RANK.saturating_mul(rank))
    }

    fn latest(&self, rank: u32) -> Duration {
        self.earliest(rank).saturating_add(SPREAD)
    }

    /// The same for openraft, for the voter of this rank.
    pub(crate) fn config(&self, rank: u32) -> Result<Config, String> {
        let config = Config {
            cluster_name: "centripeta".to_owned(),
            heartbeat_interval: millis(self.heartbeat),
            election_timeout_min: millis(self.earliest(rank)),
            election_timeout_max: millis(self.latest(rank)),
            install_snapshot_timeout: 5000,
            snapshot_policy: SnapshotPolicy::LogsSinceLast(self.snapshot_every),
            max_in_snapshot_log_to_keep: self.keep,
            replication_lag_threshold: self.snapshot_every,
            ..Config::default()
        };
        config.validate().map_err(|error| error.to_string())
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
