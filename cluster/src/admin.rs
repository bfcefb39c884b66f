//! What operators see of a cluster, and what they may ask of it.
//!
//! A node that takes part implements [`Operations`]: one method per command. What is shown is
//! computed by pure functions from [`Known`], what the leader knows beside the table; what is asked
//! is checked by pure functions that answer with the [`Command`](crate::Command) to propose, or say
//! why not ([`Refused`]). A node that does not lead sends an [`Ask`] to the one that does.
//!
//! | To change | Open |
//! |---|---|
//! | what is shown of nodes, slots, peers, moves | `admin/view.rs`, `admin/types.rs` |
//! | what counts as a problem, and its cure | `admin/health.rs` |
//! | which changes are told as events | `admin/events.rs` |
//! | what is refused to an operator | `admin/request.rs`; by the table or Raft: `admin/cure.rs` |
//! | what a question to the leader carries | `admin/ask.rs`, `codec/v1/admin.rs` |

mod ages;
mod ask;
mod cure;
mod events;
mod health;
mod request;
#[cfg(test)]
mod tests;
mod types;
mod view;

use std::fmt;
use std::future::Future;
use std::pin::Pin;

pub use ages::{MoveAges, STUCK};
pub use ask::{Ask, Step, Told};
pub use events::{EVENTS_KEPT, Events};
pub use request::Undrain;
pub use types::{
    DrainView, DrainedView, Event, EventKind, EventsView, Health, MoveStep, MoveView, MovesView,
    Named, NodeView, PeerLink, PeerRow, PlannedMoves, Problem, RebalanceView, SlotView, Status,
    Vote, VotersView, Where,
};
pub use view::{Known, find_node, name, state_word};

/// The longest that an operation may take before its answer is [`Refused::Unavailable`], in seconds.
pub const OPERATION_SECONDS: u64 = 10;

/// The answer to an operation, to be awaited. Dropping it does not take back what was proposed.
pub type Answer<'a, T> = Pin<Box<dyn Future<Output = Result<T, Refused>> + Send + 'a>>;

/// Why an operation was not carried out.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// It may not be, as things are.
    #[error("{why}")]
    No {
        /// Why, in words.
        why: String,
        /// What to do about it.
        cure: String,
    },
    /// Nobody who could carry it out can be reached in time. What was proposed may still take effect.
    #[error("{0}")]
    Unavailable(String),
}

impl Refused {
    /// Refused, and what to do about it.
    pub fn no(why: impl Into<String>, cure: impl Into<String>) -> Self {
        Self::No {
            why: why.into(),
            cure: cure.into(),
        }
    }

    /// What to do about it.
    pub fn cure(&self) -> &str {
        match self {
            Self::No { cure, .. } => cure,
            Self::Unavailable(_) => "see `cluster health`, and try again once there is a quorum",
        }
    }
}

/// What an operator may ask of a cluster, on any of its nodes. Nodes are named by name or by id.
///
/// Whoever implements it sends on to the leader what only the leader knows or may do, and answers
/// within [`OPERATION_SECONDS`]. Where no leader is in reach, what only shows is answered from what
/// this node knows and reaches itself; what changes anything is refused.
pub trait Operations: fmt::Debug + Send + Sync {
    /// The cluster in a few lines.
    fn status(&self) -> Answer<'_, Status>;

    /// What is wrong, each with its cure.
    fn health(&self) -> Answer<'_, Health>;

    /// Every node that was not removed, by id.
    fn nodes(&self) -> Answer<'_, Vec<NodeView>>;

    /// Who reaches whom: a row per living node, which it has told itself.
    fn peers(&self) -> Answer<'_, Vec<PeerRow>>;

    /// Every slot, or those that a node owns.
    fn slots(&self, node: Option<String>) -> Answer<'_, Vec<SlotView>>;

    /// Where a channel (or any other key, as it is sent) has its owner.
    fn locate(&self, name: Vec<u8>) -> Answer<'_, Where>;

    /// The moves that are open, and what keeps others from beginning.
    fn moves(&self) -> Answer<'_, MovesView>;

    /// Recent changes with a number above `after`, the oldest first; 0 for all that are kept.
    fn events(&self, after: u64) -> Answer<'_, EventsView>;

    /// Makes a node give its slots away. Answered once it has begun; whoever waits for its end asks
    /// [`nodes`](Self::nodes). `force` overrides the loss of quorum or of the last server of a group.
    fn drain(&self, node: String, force: bool) -> Answer<'_, DrainView>;

    /// What the drain of a node has ended so far: streams, and events that ran for too long. The node
    /// itself says it, so it has to run still.
    fn drained(&self, node: String) -> Answer<'_, DrainedView>;

    /// Lets a node take slots again: it drains no more, and is in quarantine no more.
    fn undrain(&self, node: String) -> Answer<'_, Named>;

    /// Begins to move a slot to a node.
    fn move_slot(&self, slot: u16, to: String) -> Answer<'_, MoveView>;

    /// Evens out the slots now, even `across_builds`; with `plan` it only says what it would do.
    fn rebalance(&self, plan: bool, across_builds: bool) -> Answer<'_, RebalanceView>;

    /// Begins no move any more but those of drains. Answers whether they were paused before.
    fn pause_moves(&self) -> Answer<'_, bool>;

    /// Begins moves again. Answers whether they were paused before.
    fn resume_moves(&self) -> Answer<'_, bool>;

    /// Who votes; with a number, how many are wanted from now on.
    fn voters(&self, wanted: Option<u8>) -> Answer<'_, VotersView>;

    /// Removes a node for good; a dead voter is replaced first.
    fn remove(&self, node: String) -> Answer<'_, Named>;
}
