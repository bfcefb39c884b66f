//! What counts as a problem, and its cure. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::{Health, Known, Named, Problem, Vote};
use crate::NodeState;
use crate::allocation::HeldBack;

impl HeldBack {
    /// The reason in words.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Degraded => "degraded, it makes too little progress",
            Self::Quarantine => "in quarantine, it died too often of late",
        }
    }
}

impl Known<'_> {
    /// What is wrong, what makes the cluster unhealthy first.
    pub fn health(&self) -> Health {
        let mut problems = Vec::new();
        self.no_quorum(&mut problems);
        self.vacant_slots(&mut problems);
        self.nodes_in_trouble(&mut problems);
        self.stuck_moves(&mut problems);
        self.few_voters(&mut problems);
        self.differences(&mut problems);
        problems.sort_by_key(|problem| !problem.failing);
        Health {
            can_lose: self.can_lose(),
            voters: self.raft.members.voters().len(),
            problems,
        }
    }

    /// How many more voters can be lost before nothing can change any more.
    pub fn can_lose(&self) -> usize {
        let spare = |config: &BTreeSet<_>| {
            let living = config.iter().filter(|id| self.is_living(**id)).count();
            living.saturating_sub(config.len() / 2 + 1)
        };
        if !self.quorum {
            return 0;
        }
        let spares = self.raft.members.configs.iter().map(spare);
        spares.min().unwrap_or(0)
    }

    fn no_quorum(&self, problems: &mut Vec<Problem>) {
        if self.quorum {
            return;
        }
        let voters = words(&self.names(self.raft.members.voters()));
        let voters = if voters.is_empty() {
            "the voters".to_owned()
        } else {
            voters
        };
        problems.push(Problem {
            what: "no quorum in reach: nothing changes, leases run out, channel events are \
                   answered unavailable"
                .to_owned(),
            cure: format!(
                "start those of {voters} that do not run, and mend the network between them; if \
                 most are lost for good, `cluster recover --yes` on the survivor with the longest log"
            ),
            failing: true,
        });
    }

    fn vacant_slots(&self, problems: &mut Vec<Problem>) {
        let vacant = self.vacant();
        if vacant == 0 {
            return;
        }
        let takes =
            self.table.nodes().values().any(|node| {
                node.state == NodeState::Up && node.roles.region && node.serves.channel
            });
        let cure = if takes {
            "the leader grants them within a second where there is a quorum; if they stay vacant, \
             `cluster moves` says what it waits for"
        } else {
            "no node that is up may own slots: start one of role region that serves channel"
        };
        problems.push(Problem {
            what: format!(
                "{vacant} slots have no owner: their events wait for one, up to their deadline"
            ),
            cure: cure.to_owned(),
            failing: true,
        });
    }

    fn nodes_in_trouble(&self, problems: &mut Vec<Problem>) {
        for node in self.nodes() {
            let Named { name, .. } = &node.node;
            let named = &node.node;
            let mut push = |what: String, cure: String, failing| {
                problems.push(Problem {
                    what,
                    cure,
                    failing,
                });
            };
            if node.state == NodeState::Dead {
                let cure = if node.vote == Vote::Voter {
                    format!(
                        "start it again; lost for good, `cluster remove {name}` puts another node \
                         of role voter in its place"
                    )
                } else {
                    format!("start it again, or `cluster remove {name}`")
                };
                push(format!("{named} is dead"), cure, true);
            }
            match node.held_back {
                Some(HeldBack::Degraded) => push(
                    format!("{named} is degraded: it makes too little progress for new slots"),
                    "`centripeta health --ready` there names the core that is late, or says that \
                     the lease timer was; give the node more CPU, or find what blocks its cores"
                        .to_owned(),
                    true,
                ),
                Some(HeldBack::Quarantine) => push(
                    format!("{named} is in quarantine: it died three times within 10 min"),
                    format!(
                        "its log says why; then `cluster undrain {name}`, or wait until 10 min \
                         have passed"
                    ),
                    true,
                ),
                None => {}
            }
            if node.cut_off {
                push(
                    format!("{named} reaches the leader only through others, its slots move away"),
                    "mend the network between the two: see `cluster peers`".to_owned(),
                    false,
                );
            }
        }
    }

    fn stuck_moves(&self, problems: &mut Vec<Problem>) {
        let mut pairs: BTreeMap<_, (usize, Duration, &str)> = BTreeMap::new();
        let open = self.open().filter_map(|(slot, _)| self.move_view(slot));
        for stuck in open.filter(|open| open.stuck) {
            let pair = pairs.entry((stuck.from, stuck.to)).or_default();
            let age = stuck.age.unwrap_or_default();
            pair.0 += 1;
            if age >= pair.1 {
                (pair.1, pair.2) = (age, stuck.step.waits_for());
            }
        }
        for ((from, to), (count, age, waits_for)) in pairs {
            let from = from.map_or_else(|| "nobody".to_owned(), |from| from.to_string());
            problems.push(Problem {
                what: format!(
                    "{count} moves from {from} to {to} are stuck, the oldest for {} s: it waits \
                     for {waits_for}",
                    age.as_secs()
                ),
                cure: "see whether the two reach each other (`cluster peers`) and their logs; \
                       restarting the target aborts its moves"
                    .to_owned(),
                failing: true,
            });
        }
    }

    fn few_voters(&self, problems: &mut Vec<Problem>) {
        let voters = self.voters();
        if !self.quorum || voters.voters.is_empty() {
            return;
        }
        if voters.missing > 0 {
            problems.push(Problem {
                what: format!(
                    "{} voters are wanted, {} are there or to come",
                    voters.wanted,
                    usize::from(voters.wanted).saturating_sub(voters.missing)
                ),
                cure: format!("start {} more nodes of role voter", voters.missing),
                failing: false,
            });
        } else if self.can_lose() == 0 && voters.wanted > 1 {
            problems.push(Problem {
                what: "no voter can be lost".to_owned(),
                cure: "start dead voters again, or wait until new ones have caught up: see \
                       `cluster voters`"
                    .to_owned(),
                failing: false,
            });
        }
    }

    fn differences(&self, problems: &mut Vec<Problem>) {
        let nodes = self.nodes();
        let mut warn = |what: String, cure: &str| {
            problems.push(Problem {
                what,
                cure: cure.to_owned(),
                failing: false,
            });
        };
        let differ: Vec<_> = nodes
            .iter()
            .filter(|node| node.routes_differ)
            .map(|node| node.node.clone())
            .collect();
        if !differ.is_empty() {
            warn(
                format!(
                    "the routes of {} differ from those of most nodes",
                    words(&differ)
                ),
                "give every node the same routes, then `reload`",
            );
        }
        let builds: BTreeSet<_> = nodes
            .iter()
            .filter(|node| node.state == NodeState::Up)
            .map(|node| node.build.as_str())
            .collect();
        if builds.len() > 1 {
            let builds: Vec<_> = builds.into_iter().collect();
            warn(
                format!(
                    "builds {} are up: slots are not evened out",
                    builds.join(" and ")
                ),
                "upgrade the rest, or `cluster rebalance --across-builds`",
            );
        }
        if self.table.settings().moves_paused {
            warn("moves are paused".to_owned(), "`cluster resume-moves`");
        }
    }
}

/// Names in a row.
fn words(names: &[Named]) -> String {
    let names: Vec<_> = names.iter().map(Named::to_string).collect();
    names.join(", ")
}
