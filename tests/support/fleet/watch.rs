//! What nodes say of their cluster, and waiting until it has settled.
#![allow(
    clippy::disallowed_types,
    clippy::disallowed_methods,
    reason = "it waits for other processes, to which no paused clock applies"
)]

use super::super::process::{Running, eventually};
use super::{Fleet, Place};
use std::time::{Duration, Instant};

/// A plan that saves less than this is not worth its moves.
const EVEN: u64 = 14;
const SLOTS: u64 = 4096;
/// How long it may take: a pair of nodes whose moves failed rests for up to a minute.
const LIMIT: Duration = Duration::from_secs(90);
/// Between two looks at a cluster that settles, each of which is a process of its own.
const LOOK: Duration = Duration::from_millis(200);

/// Name, slots and state of a node, as another sees it.
pub(crate) type Seen = (String, u64, String);

impl<P: Place> Fleet<P> {
    /// Waits until these nodes are up, every slot has an owner among those that may, none moves, and
    /// they have about as many.
    pub(crate) fn settled(&self, nodes: &[usize]) {
        if let Err(why) = self.settles(nodes) {
            panic!("{why}");
        }
    }

    /// The same, where it may well not come to that.
    pub(crate) fn settles(&self, nodes: &[usize]) -> Result<(), String> {
        let mut last = None;
        let end = Instant::now() + LIMIT;
        while Instant::now() < end {
            last = self.counts(nodes[0]);
            if self.are_even(nodes, last.as_deref()) && self.moves(nodes[0]) == Some(0) {
                return Ok(());
            }
            std::thread::sleep(LOOK);
        }
        let running = self.nodes.iter().filter_map(|node| node.running.as_ref());
        let said: Vec<_> = running.map(Running::said).collect();
        Err(format!("not settled: {last:?}\n{said:#?}"))
    }

    fn are_even(&self, nodes: &[usize], seen: Option<&[Seen]>) -> bool {
        let names: Vec<_> = nodes.iter().map(|node| self.name(*node)).collect();
        let ours = |(name, ..): &&Seen| names.contains(&&**name);
        let ours: Vec<_> = seen.into_iter().flatten().filter(ours).collect();
        let owning = ours.iter().map(|(_, slots, _)| *slots);
        let owning: Vec<_> = owning.filter(|count| *count > 0).collect();
        let may = nodes
            .iter()
            .filter(|node| self.nodes[**node].spec.may_own());
        let spread = owning.iter().max().zip(owning.iter().min());
        ours.len() == nodes.len()
            && ours.iter().all(|(.., state)| state == "up")
            && owning.len() == may.count()
            && owning.iter().sum::<u64>() == SLOTS
            && spread.is_some_and(|(most, least)| most - least <= EVEN)
    }

    /// Name, slots and state of every node, as this one sees it.
    pub(crate) fn counts(&self, node: usize) -> Option<Vec<Seen>> {
        let nodes = self.json(node, &["cluster", "nodes"])?;
        let nodes = nodes["nodes"].as_array()?.iter().map(|node| {
            Some((
                node["node"]["name"].as_str()?.to_owned(),
                node["slots"].as_u64()?,
                node["state"].as_str()?.to_lowercase(),
            ))
        });
        nodes.collect()
    }

    /// Waits until a node has lost every slot and is said to be dead.
    pub(crate) fn taken_over(&self, victim: usize, by: usize) {
        eventually("its slots are taken over", || {
            let seen = self.counts(by)?;
            let dead = seen.iter().find(|(name, ..)| name == self.name(victim))?;
            (dead.2 == "dead" && dead.1 == 0).then_some(())
        });
    }

    /// How many moves are open, as this node sees it.
    pub(crate) fn moves(&self, node: usize) -> Option<usize> {
        let moves = self.json(node, &["cluster", "moves"])?;
        Some(moves["open"].as_array()?.len())
    }

    /// The node that leads, as this one sees it.
    pub(crate) fn leader(&self, node: usize) -> usize {
        eventually("a leader", || {
            let status = self.json(node, &["cluster", "status"])?;
            let name = status["leader"]["name"].as_str()?;
            (0..self.nodes.len()).find(|node| self.name(*node) == name)
        })
    }

    /// How often the lease of a node ran out: with all of them alive, the machine gave them too little
    /// time.
    pub(crate) fn lapsed(&self) -> usize {
        let running = self.nodes.iter().filter_map(|node| node.running.as_ref());
        self.lapsed + running.map(lapses).sum::<usize>()
    }
}

/// How often the lease of this node ran out.
pub(crate) fn lapses(node: &Running) -> usize {
    let said = node.said();
    let is_lapse = |line: &&String| line.contains("the lease is over");
    said.iter().filter(is_lapse).count()
}
