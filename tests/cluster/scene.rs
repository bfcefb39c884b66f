//! How a scenario begins: its turn, a fleet of three that is whole, and the one of them that something
//! will happen to.
//!
//! Forming a cluster takes longer than most scenarios, so fleets are handed from one to the next: what
//! was changed is put right first. A fleet under which a scenario failed is not used again.

use super::drive::{Door, Driver, Load, doors};
use super::fleet::{Fleet, Spec, names};
use super::{Turn, turn};
use std::ops::{Deref, DerefMut};
use std::sync::{Mutex, PoisonError};

/// Nodes of a fleet that is handed on.
const NODES: usize = 3;
/// Hosts beside theirs.
const SPARE: usize = 1;

/// Fleets that nobody uses now; they end with this process (see `Net`).
static IDLE: Mutex<Vec<Fleet>> = Mutex::new(Vec::new());

fn idle() -> std::sync::MutexGuard<'static, Vec<Fleet>> {
    IDLE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A fleet of three plain nodes on loan.
pub(crate) struct Lent(Option<Fleet>);

impl Lent {
    /// One that is whole, and hosts for one node more.
    pub(crate) fn take() -> Self {
        let used = idle().pop();
        if let Some(mut fleet) = used {
            match mended(&mut fleet) {
                Ok(()) => return Self(Some(fleet)),
                Err(why) => eprintln!("a fleet is not used again: {why}"),
            }
        }
        let specs = names(NODES).map(|name| Spec::plain(&name));
        let mut fleet = Fleet::prepare(specs.collect(), SPARE);
        fleet.form();
        Self(Some(fleet))
    }
}

/// As it was when it was formed, but for the counts and who leads.
fn mended(fleet: &mut Fleet) -> Result<(), String> {
    fleet.shrink(NODES);
    for node in 0..NODES {
        fleet.net.heal(node);
        if !fleet.is_running(node) {
            fleet.start(node);
        }
    }
    fleet.settles(&[0, 1, 2])?;
    let names = names(NODES).collect::<Vec<_>>();
    // Three deaths in ten minutes would keep a node from its slots.
    let trust = names.iter().map(|name| vec!["cluster", "undrain", name]);
    for command in trust.chain([vec!["cluster", "resume-moves"]]) {
        let done = fleet.run(0, &command);
        if !done.status.success() {
            return Err(format!("{command:?}: {done:?}"));
        }
    }
    fleet.settles(&[0, 1, 2])
}

impl Drop for Lent {
    fn drop(&mut self) {
        if let Some(fleet) = self.0.take()
            && !std::thread::panicking()
        {
            idle().push(fleet);
        }
    }
}

impl Deref for Lent {
    type Target = Fleet;

    fn deref(&self) -> &Fleet {
        self.0.as_ref().unwrap()
    }
}

impl DerefMut for Lent {
    fn deref_mut(&mut self) -> &mut Fleet {
        self.0.as_mut().unwrap()
    }
}

/// A scenario on such a fleet.
pub(crate) struct Scene {
    pub(crate) fleet: Lent,
    pub(crate) leader: usize,
    /// The one that something happens to: it does not lead, unless [`Scene::at_the_leader`] said so.
    pub(crate) victim: usize,
    /// All but the victim.
    pub(crate) others: [usize; 2],
    pub(crate) doors: Vec<Door>,
    _turn: Turn,
}

impl Scene {
    /// A turn, if there can be hosts at all, and a fleet.
    pub(crate) fn begin(what: &str) -> Option<Self> {
        let turn = turn(what)?;
        Some(Self::of(turn))
    }

    /// The same for one that measures: nothing else runs meanwhile.
    pub(crate) fn alone(what: &str) -> Option<Self> {
        let turn = super::alone(what)?;
        Some(Self::of(turn))
    }

    fn of(turn: Turn) -> Self {
        let fleet = Lent::take();
        let leader = fleet.leader(0);
        let doors = doors(&fleet, NODES);
        let scene = Self {
            fleet,
            leader,
            victim: 0,
            others: [0; 2],
            doors,
            _turn: turn,
        };
        scene.at((leader + 1) % NODES)
    }

    /// It happens to the leader.
    pub(crate) fn at_the_leader(self) -> Self {
        let leader = self.leader;
        self.at(leader)
    }

    fn at(self, victim: usize) -> Self {
        Self {
            victim,
            others: [1, 2].map(|step| (victim + step) % NODES),
            ..self
        }
    }

    /// Callers at work through these nodes, each answered once.
    pub(crate) async fn load(&self, through: &[usize]) -> Driver {
        let driver = Driver::start(&self.doors, through, Load::default());
        driver.round().await;
        driver
    }
}
