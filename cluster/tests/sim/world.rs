//! A run: a cluster forms, faults come as the seed says, everything heals, and every slot must be
//! served again.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use centripeta_cluster::raft::genesis;
use centripeta_cluster::{
    BootId, ClusterId, ClusterInfo, DataId, Incarnation, MemoryHome, Registration, Roles,
    SLOT_COUNT, Serves, Settings,
};
use turmoil::Sim;

use crate::checker::{Checker, Line, Sums, What};
use crate::seat::{Commons, PORT, Seat, name};
use crate::store::Shared;

const NODES: usize = 3;
/// A step of simulated time.
const TICK: Duration = Duration::from_millis(2);
/// How long a cluster may take to form, in simulated time.
const FORMING: Duration = Duration::from_secs(20);
/// When faults begin, and how long they last, in milliseconds.
const FAULTS: u64 = 4000;
const LASTING: std::ops::Range<u64> = 100..2200;
/// What is on its way when everything is over ends in this time.
const TAIL: Duration = Duration::from_millis(2700);
/// How long it may take from the last fault until every slot is served.
const HEALING: Duration = Duration::from_secs(20);

/// What a run left behind.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Trace {
    pub(crate) lines: Vec<Line>,
    pub(crate) sums: Sums,
    /// Simulated.
    pub(crate) lasted: Duration,
}

/// Why a run failed, and how it ended.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) why: String,
    pub(crate) last: Vec<Line>,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.why)?;
        self.last
            .iter()
            .try_for_each(|line| writeln!(f, "  {line:?}"))
    }
}

#[derive(Debug, Clone, Copy)]
enum Fault {
    Cut(usize, usize),
    OneWay(usize, usize),
    Alone(usize),
    Crash(usize),
    SlowDisk(usize, u64),
    SlowLink(usize, usize, u64),
    Leave(usize),
}

/// When a fault begins and ends, since the cluster has formed.
#[derive(Debug)]
struct Planned {
    from: Duration,
    to: Duration,
    fault: Fault,
}

fn plan(seed: u64) -> Vec<Planned> {
    let mut dice = fastrand::Rng::with_seed(seed ^ 0x5eed);
    let ends = |dice: &mut fastrand::Rng| Duration::from_millis(dice.u64(LASTING));
    let count = dice.usize(3..7);
    (0..count)
        .map(|_| {
            let from = Duration::from_millis(dice.u64(0..FAULTS));
            let a = dice.usize(0..NODES);
            let b = (a + dice.usize(1..NODES)) % NODES;
            let fault = match dice.u32(0..8) {
                0 => Fault::Cut(a, b),
                1 => Fault::OneWay(a, b),
                2 => Fault::Alone(a),
                3 | 4 => Fault::Crash(a),
                5 => Fault::SlowDisk(a, dice.u64(10..300)),
                6 => Fault::SlowLink(a, b, dice.u64(20..200)),
                _ => Fault::Leave(a),
            };
            let to = from + ends(&mut dice);
            Planned { from, to, fault }
        })
        .collect()
}

pub(crate) fn settings() -> Settings {
    Settings {
        voters: 3,
        ..Settings::default()
    }
}

pub(crate) fn founder() -> Registration {
    Registration {
        name: name(0),
        data: DataId(1),
        incarnation: Incarnation(1),
        boot: BootId(1),
        addrs: vec![format!("{}:{PORT}", name(0))],
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
        protocol: 1,
        build: String::new(),
        routes_hash: 0,
    }
}

struct World<'a> {
    sim: Sim<'a>,
    seats: Vec<Arc<Seat>>,
    commons: Arc<Commons>,
    steps: u64,
    down: [bool; NODES],
}

/// Runs a seed.
pub(crate) fn run(seed: u64) -> Result<Trace, Failure> {
    fastrand::seed(seed);
    let mut world = World::new(seed);
    let ran = world.run(seed);
    let lasted = world.sim.elapsed();
    drop(world.sim);
    let (lines, sums) = world.commons.checker.end();
    match ran {
        Ok(()) => Ok(Trace {
            lines,
            sums,
            lasted,
        }),
        Err(why) => {
            let faults = lines.iter().filter(|line| {
                matches!(line.what, What::Fault(_) | What::Began(_) | What::Left(_))
            });
            let mut last: Vec<_> = faults.cloned().collect();
            last.extend(lines.iter().rev().take(30).rev().cloned());
            Err(Failure { why, last })
        }
    }
}

impl World<'_> {
    fn new(seed: u64) -> Self {
        let mut sim = turmoil::Builder::new()
            .rng_seed(seed)
            .enable_random_order()
            .tick_duration(TICK)
            .simulation_duration(Duration::from_secs(600))
            .min_message_latency(Duration::from_millis(1))
            .max_message_latency(Duration::from_millis(8))
            .tcp_capacity(4096)
            .build();
        let commons = Arc::new(Commons {
            checker: Checker::new(NODES),
            store: Shared::default(),
            clock: AtomicU64::new(1_000_000_000),
            events: AtomicU64::new(0),
            seeds: (0..NODES)
                .map(|it| format!("{}:{PORT}", name(it)))
                .collect(),
            quiet: AtomicBool::new(false),
        });
        let mut dice = fastrand::Rng::with_seed(seed);
        let table = genesis(ClusterInfo::new(ClusterId(0xc1)), settings(), &founder());
        let mut seats = Vec::new();
        for index in 0..NODES {
            let home = if index == 0 {
                MemoryHome::founder(DataId(1), &table)
            } else {
                MemoryHome::new(DataId(index as u128 + 1))
            };
            let rate = dice.u64(970..=1030);
            let seat = Arc::new(Seat::new(index, home, rate, &commons));
            let host = Arc::clone(&seat);
            sim.host(name(index), move || Arc::clone(&host).live());
            seats.push(seat);
        }
        Self {
            sim,
            seats,
            commons,
            steps: 0,
            down: [false; NODES],
        }
    }

    fn step(&mut self) -> Result<(), String> {
        let at = self.sim.elapsed();
        let clock = u64::try_from(at.as_nanos()).unwrap() + 1_000_000_000;
        self.commons.clock.store(clock, Ordering::Relaxed);
        self.commons.checker.time(clock / 1_000_000 - 1000);
        self.sim.step().map_err(|error| error.to_string())?;
        self.steps += 1;
        self.commons.checker.look(self.steps.is_multiple_of(50))?;
        for index in 0..NODES {
            if self.seats[index].left.swap(false, Ordering::Relaxed) {
                self.crash(index);
                self.restart(index);
            }
        }
        Ok(())
    }

    fn until(
        &mut self,
        what: &str,
        within: Duration,
        holds: impl Fn(&Self) -> bool,
    ) -> Result<(), String> {
        let end = self.sim.elapsed() + within;
        while self.sim.elapsed() < end {
            for _ in 0..10 {
                self.step()?;
            }
            if holds(self) {
                return Ok(());
            }
        }
        let status = self.seats.iter().map(|seat| {
            let cluster = seat.cluster.lock().unwrap();
            cluster.as_ref().map(centripeta_cluster::Cluster::status)
        });
        let status: Vec<_> = status.collect();
        Err(format!("not within {within:?}: {what}: {status:#?}"))
    }

    fn voters(&self) -> usize {
        let seats = self.seats.iter();
        seats
            .filter_map(|seat| {
                let cluster = seat.cluster.lock().unwrap();
                let raft = cluster.as_ref()?.status().raft?;
                let members = raft.members;
                (raft.leads && !members.is_joint()).then(|| members.voters().len())
            })
            .max()
            .unwrap_or(0)
    }

    fn served(&self) -> bool {
        self.commons.checker.served() == usize::from(SLOT_COUNT)
    }

    fn run(&mut self, seed: u64) -> Result<(), String> {
        self.until("three voters serve every slot", FORMING, |world| {
            world.voters() == NODES && world.served()
        })?;
        let began = self.sim.elapsed();
        let plan = plan(seed);
        let mut state = vec![0_u8; plan.len()];
        while state.iter().any(|state| *state < 2)
            || self.sim.elapsed() - began < Duration::from_millis(FAULTS)
        {
            let now = self.sim.elapsed() - began;
            for (planned, state) in plan.iter().zip(&mut state) {
                if *state == 0 && now >= planned.from {
                    *state = 1;
                    self.begin(planned.fault);
                }
                if *state == 1 && now >= planned.to {
                    *state = 2;
                    self.end(planned.fault);
                }
            }
            self.step()?;
        }
        self.commons
            .checker
            .note(0, What::Fault("healed".to_owned()));
        self.until("every slot is served again", HEALING, |world| {
            world.voters() == NODES && world.served()
        })?;
        // What is still on its way comes to its end.
        self.commons.quiet.store(true, Ordering::Relaxed);
        let end = self.sim.elapsed() + TAIL;
        while self.sim.elapsed() < end {
            self.step()?;
        }
        self.commons.checker.all_ended()?;
        // One that moves just now is closed for a moment.
        self.until("every slot is still served", HEALING, Self::served)
    }

    fn crash(&mut self, index: usize) {
        self.down[index] = true;
        let seat = Arc::clone(&self.seats[index]);
        // The last handle must go with the host, whose listener goes with it.
        drop(seat.cluster.lock().unwrap().take());
        seat.sockets.lock().unwrap().kill();
        self.sim.crash(seat.name.as_str());
        seat.leave.store(false, Ordering::Relaxed);
        seat.left.store(false, Ordering::Relaxed);
        seat.home.crashed();
        self.commons.checker.ends(index);
    }

    fn restart(&mut self, index: usize) {
        if std::mem::take(&mut self.down[index]) {
            self.sim.bounce(self.seats[index].name.as_str());
        }
    }

    fn begin(&mut self, fault: Fault) {
        let said = What::Fault(format!("{fault:?}"));
        self.commons.checker.note(0, said);
        match fault {
            Fault::Cut(a, b) => self.sim.partition(name(a), name(b)),
            Fault::OneWay(a, b) => self.sim.partition_oneway(name(a), name(b)),
            Fault::Alone(a) => {
                for b in (0..NODES).filter(|b| *b != a) {
                    self.sim.partition(name(a), name(b));
                }
            }
            Fault::Crash(a) => {
                if !self.down[a] {
                    self.crash(a);
                }
            }
            Fault::SlowDisk(a, ms) => self.seats[a].home.slow(Duration::from_millis(ms)),
            Fault::SlowLink(a, b, ms) => {
                let max = Duration::from_millis(ms);
                self.sim.set_link_max_message_latency(name(a), name(b), max);
            }
            Fault::Leave(a) => self.seats[a].leave.store(!self.down[a], Ordering::Relaxed),
        }
    }

    fn end(&mut self, fault: Fault) {
        let said = What::Fault(format!("no more {fault:?}"));
        self.commons.checker.note(0, said);
        match fault {
            Fault::Cut(a, b) => self.sim.repair(name(a), name(b)),
            Fault::OneWay(a, b) => self.sim.repair_oneway(name(a), name(b)),
            Fault::Alone(a) => {
                for b in (0..NODES).filter(|b| *b != a) {
                    self.sim.repair(name(a), name(b));
                }
            }
            Fault::Crash(a) => self.restart(a),
            Fault::SlowDisk(a, _) => self.seats[a].home.slow(Duration::ZERO),
            Fault::SlowLink(a, b, _) => {
                let max = Duration::from_millis(8);
                self.sim.set_link_max_message_latency(name(a), name(b), max);
            }
            Fault::Leave(_) => {}
        }
    }
}
