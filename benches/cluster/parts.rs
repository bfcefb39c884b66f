//! The parts of the table, each on nodes of its own.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use super::table::{Table, ms, quantile};
use crate::drive::{Door, Driver, Kind, Load, Report, Wrong, doors};
use crate::fleet::{Fleet, Spec};
use crate::forward::measure::{self, Plan, SHAPES};
use crate::forward::pair::Pair;
use crate::process::eventually;

const ALL: [usize; 3] = [0, 1, 2];

/// How long a takeover may take at all.
const TAKEOVER_BAR: Duration = Duration::from_secs(3);
/// How long anyone may wait for a planned move, but one of a hundred.
const STALL_BAR: Duration = Duration::from_millis(100);

const fn millis(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

fn load(keys: usize, rest: u64) -> Load {
    Load {
        keys,
        rest: millis(rest),
        ..Load::default()
    }
}

fn others(of: usize) -> Vec<usize> {
    ALL.into_iter().filter(|node| *node != of).collect()
}

/// What must never be, over one report or several.
#[derive(Debug, Default)]
struct Checked {
    calls: usize,
    owners: usize,
    twice: usize,
    empty: usize,
    anew: usize,
}

impl Checked {
    fn add(&mut self, report: &Report, restarts: bool) {
        self.calls += report.calls.len();
        let wrongs = report.wrongs(restarts);
        for Wrong { what, .. } in wrongs.iter().take(5) {
            eprintln!("WRONG: {what}");
        }
        for wrong in wrongs {
            match wrong.kind {
                Kind::Owners => self.owners += 1,
                Kind::Twice => self.twice += 1,
                Kind::Empty => self.empty += 1,
                Kind::Anew => self.anew += 1,
            }
        }
    }

    fn tell(&self, table: &mut Table, what: &str) {
        let found = [self.owners, self.twice, self.empty, self.anew];
        table.barred(
            &format!("{what}: two owners, done twice, empty OKs, counts lost"),
            self.calls,
            found.map(|count| count.to_string()).join(", "),
            "bar 0 each",
            [found == [0; 4]; 2],
        );
    }
}

fn checked(table: &mut Table, what: &str, report: &Report) {
    let mut checked = Checked::default();
    checked.add(report, false);
    checked.tell(table, what);
}

/// Calls that failed where none may.
fn none_failed(table: &mut Table, what: &str, report: &Report) {
    let what = format!("{what}: failed events");
    table.none(&what, report.calls.len(), report.failed().len());
}

/// Answers a second between two times.
fn rate(report: &Report, from: Instant, to: Instant) -> f64 {
    let ends = report.calls.iter().filter(|call| call.result.is_ok());
    let ends = ends.map(|call| call.began + call.took);
    let count = ends.filter(|end| (from..to).contains(end)).count();
    count as f64 / to.duration_since(from).as_secs_f64()
}

/// The first spread, a fourth node, a drain.
pub(crate) async fn join(table: &mut Table) {
    let mut fleet = Fleet::prepare(["a", "b", "c"].map(Spec::plain).to_vec(), 1);
    fleet.init(0);
    fleet.start(0);
    fleet.settled(&[0]);
    let began = Instant::now();
    fleet.start(1);
    fleet.start(2);
    fleet.settled(&ALL);
    table.time(
        "first spread after two nodes join one, their start included",
        1,
        began.elapsed(),
        Duration::from_secs(5),
    );
    let fourth = fleet.add(Spec::plain("d"));
    let doors = doors(&fleet, 4);
    let driver = Driver::start(&doors, &ALL, load(256, 10));
    driver.round().await;
    let began = Instant::now();
    fleet.start(fourth);
    fleet.settled(&[0, 1, 2, 3]);
    table.time(
        "join of a fourth node under load: 1,024 slots",
        1,
        began.elapsed(),
        Duration::from_secs(15),
    );
    driver.through(&[0, 1, 3]);
    driver.round().await;
    let began = Instant::now();
    assert_eq!(fleet.stop(2), Some(0));
    table.time(
        "drain of one of four by SIGTERM, to its end",
        1,
        began.elapsed(),
        Duration::from_secs(20),
    );
    doors[2].lost().await;
    driver.round().await;
    let report = driver.stop().await;
    none_failed(table, "join and drain", &report);
    checked(table, "join and drain", &report);
}

fn ok(fleet: &Fleet, arguments: &[&str]) {
    let out = fleet.run(0, arguments);
    assert!(out.status.success(), "{arguments:?}: {out:?}");
}

/// The owner of a slot, as a question to a node names it.
fn owner_of(fleet: &Fleet, key: &str) -> Option<String> {
    let place = fleet.json(0, &["cluster", "where", key])?;
    Some(place["slot"]["owner"]["name"].as_str()?.to_owned())
}

/// Slots that a node owns.
fn slots_of(fleet: &Fleet, name: &str) -> Vec<String> {
    eventually("its slots are told", || {
        let slots = fleet.json(0, &["cluster", "slots", "--node", name])?;
        let all = slots["slots"].as_array()?;
        let id = |slot: &serde_json::Value| Some(slot["slot"].as_u64()?.to_string());
        all.iter().map(id).collect()
    })
}

/// Single slots, then 256 at once.
pub(crate) async fn moves(table: &mut Table, count: usize) {
    let fleet = Fleet::plain(3);
    let doors = doors(&fleet, 3);
    ok(&fleet, &["cluster", "pause-moves"]);
    let busy = Load {
        keys: 1,
        callers_per_key: 4,
        rest: millis(1),
    };
    let driver = Driver::start(&doors, &ALL, busy);
    driver.round().await;
    let key = &*format!("room:{}", driver.user(0));
    let mut windows = Vec::new();
    for _ in 0..count {
        let owner = eventually("an owner", || owner_of(&fleet, key));
        let to = ["a", "b", "c"].into_iter().find(|name| *name != owner);
        let began = Instant::now();
        ok(&fleet, &["cluster", "move", key, "--to", to.unwrap()]);
        eventually("it has moved", || {
            (owner_of(&fleet, key)? == to.unwrap()).then_some(())
        });
        driver.round().await;
        windows.push((began, Instant::now()));
    }
    let report = driver.stop().await;
    let stall = |(from, to): &(Instant, Instant)| {
        let calls = report.calls.iter();
        let within = calls.filter(|call| call.began < *to && call.began + call.took > *from);
        within.map(|call| call.took).max().unwrap_or_default()
    };
    let mut stalls: Vec<_> = windows.iter().map(stall).collect();
    let what = "planned move of one slot under load";
    none_failed(table, what, &report);
    table.time(
        &format!("{what}: longest wait of a move, p50"),
        count,
        quantile(&mut stalls, 0.5),
        millis(30),
    );
    table.time_with_bar(
        &format!("{what}: longest wait of a move, p99"),
        count,
        quantile(&mut stalls, 0.99),
        [STALL_BAR; 2],
    );
    checked(table, what, &report);
    rebalance(table, &fleet, &doors).await;
}

/// The slots that one command evens out.
const SLOTS: usize = 256;

/// Whoever owns the slot of each key of a driver, by the answers that came before this time.
fn owners(report: &Report, before: Instant) -> BTreeMap<usize, &str> {
    let calls = report.calls.iter();
    let early = calls.filter(|call| call.began + call.took < before);
    early
        .filter_map(|call| Some((call.key, &*call.result.as_ref().ok()?.node)))
        .collect()
}

/// One node has 256 slots less than its share, as many as can be with keys in use: `cluster rebalance`
/// gives them back.
async fn rebalance(table: &mut Table, fleet: &Fleet, doors: &[Door]) {
    const ASKING: usize = 4;
    let driver = Driver::start(doors, &ALL, load(512, 20));
    driver.round().await;
    let mut slots = slots_of(fleet, "a");
    let busy: BTreeSet<_> = (0..512)
        .map(|key| slot_of(&format!("room:{}", driver.user(key))))
        .collect();
    slots.sort_by_key(|slot| !busy.contains(slot));
    tokio::task::block_in_place(|| {
        std::thread::scope(|scope| {
            for part in slots[..SLOTS].chunks(SLOTS / ASKING) {
                scope.spawn(move || {
                    for slot in part {
                        ok(fleet, &["cluster", "move", slot, "--to", "b"]);
                    }
                });
            }
        });
    });
    eventually("they have moved", || (fleet.moves(0)? == 0).then_some(()));
    driver.round().await;
    let calm = Instant::now();
    tokio::time::sleep(Duration::from_secs(3)).await;
    // By itself the leader would see to it within two seconds: it is the command that begins.
    ok(fleet, &["cluster", "resume-moves"]);
    let began = Instant::now();
    let plan = fleet.json(0, &["cluster", "rebalance"]).unwrap();
    let moving = plan["moves"].as_array().into_iter().flatten();
    let moving: u64 = moving.filter_map(|pair| pair["slots"].as_u64()).sum();
    eventually("all have moved", || {
        let counts = fleet.counts(0)?;
        let (_, slots, _) = counts.iter().find(|(name, ..)| name == "a")?;
        (*slots >= 1365 && fleet.moves(0)? == 0).then_some(())
    });
    let ended = Instant::now();
    driver.round().await;
    let report = driver.stop().await;
    let (before, during) = (rate(&report, calm, began), rate(&report, began, ended));
    let (old, new) = (owners(&report, began), owners(&report, Instant::now()));
    let moved = new.iter().filter(|(key, node)| old[key] != **node).count();
    let what = "rebalance by one command";
    none_failed(table, what, &report);
    table.figure(
        &format!("{what}: slots that move, keys in use that move with them"),
        1,
        format!("{moving}, {moved}"),
    );
    table.time(
        &format!("{what}: until all have moved"),
        moving as usize,
        ended - began,
        Duration::from_secs(3),
    );
    let dip = 100.0 * (1.0 - during / before);
    table.target(
        &format!("{what}: dip of the throughput"),
        moving as usize,
        format!("{dip:.1} %"),
        "< 10 %",
        dip < 10.0,
    );
    checked(table, what, &report);
}

/// The slot of a channel, as commands name it.
fn slot_of(channel: &str) -> String {
    centripeta_cluster::slot_of(channel.as_bytes()).to_string()
}

/// What a death showed.
struct Death {
    served: Duration,
    /// The longest wait under a key that another node owned.
    bystanders: Duration,
    failed_bystanders: usize,
    calls_bystanders: usize,
}

/// Kills a node under load that goes through the others, and starts it again.
async fn kill(fleet: &mut Fleet, doors: &[Door], victim: usize, checked: &mut Checked) -> Death {
    let left = others(victim);
    let driver = Driver::start(doors, &left, load(128, 10));
    driver.round().await;
    fleet.kill(victim);
    let died = Instant::now();
    driver.round().await;
    let served = died.elapsed();
    doors[victim].lost().await;
    let report = driver.stop().await;
    checked.add(&report, true);
    let name = fleet.name(victim).to_owned();
    // One that was under way then may have been answered by the next owner.
    let owner = owners(&report, died);
    let elsewhere = |key: &usize| owner.get(key).is_some_and(|owner| *owner != name);
    let bystanders: Vec<_> = report
        .calls
        .iter()
        .filter(|call| call.began + call.took > died && elsewhere(&call.key))
        .collect();
    let failed = report.failed();
    let failed = failed.iter().filter(|call| elsewhere(&call.key)).count();
    fleet.start(victim);
    // Three deaths in ten minutes would keep it from its slots.
    eventually("it is trusted again", || {
        let done = fleet.run(left[0], &["cluster", "undrain", &name]);
        done.status.success().then_some(())
    });
    fleet.settled(&[left[0], left[1], victim]);
    Death {
        served,
        bystanders: bystanders
            .iter()
            .map(|call| call.took)
            .max()
            .unwrap_or_default(),
        failed_bystanders: failed,
        calls_bystanders: bystanders.len(),
    }
}

/// Owners die; then owners that lead.
pub(crate) async fn takeover(table: &mut Table, count: usize) {
    let mut fleet = Fleet::plain(3);
    let doors = doors(&fleet, 3);
    let mut checked = Checked::default();
    for leads in [false, true] {
        let mut deaths = Vec::new();
        for _ in 0..count {
            let leader = fleet.leader(0);
            let victim = if leads { leader } else { (leader + 1) % 3 };
            deaths.push(kill(&mut fleet, &doors, victim, &mut checked).await);
        }
        let mut served: Vec<_> = deaths.iter().map(|death| death.served).collect();
        let (what, p50, p99) = match leads {
            false => ("an owner dies", 1400, 2000),
            true => ("an owner that leads dies", 2200, 3000),
        };
        table.time(
            &format!("{what}: all its keys are served, p50"),
            count,
            quantile(&mut served, 0.5),
            millis(p50),
        );
        table.time_with_bar(
            &format!("{what}: the longest of them"),
            count,
            quantile(&mut served, 1.0),
            [millis(p99), TAKEOVER_BAR],
        );
        let failed: usize = deaths.iter().map(|death| death.failed_bystanders).sum();
        let calls = deaths.iter().map(|death| death.calls_bystanders).sum();
        table.target(
            &format!("{what}: failed events of other owners"),
            calls,
            failed.to_string(),
            "0",
            failed == 0,
        );
        let longest = deaths.iter().map(|death| death.bystanders).max();
        table.time(
            &format!("{what}: longest wait of other owners' keys"),
            calls,
            longest.unwrap_or_default(),
            millis(700),
        );
    }
    checked.tell(table, "takeovers");
}

/// An owner stands still until others have taken over, and wakes under load.
pub(crate) async fn pause(table: &mut Table, count: usize) {
    let fleet = Fleet::plain(3);
    let doors = doors(&fleet, 3);
    let (mut checked, mut taken, mut stale) = (Checked::default(), Vec::new(), 0);
    for _ in 0..count {
        let leader = fleet.leader(0);
        let victim = (leader + 1) % 3;
        let left = others(victim);
        // Of the callers of a key one may wait inside the node that stands still, the other goes on.
        let load = Load {
            callers_per_key: 2,
            ..load(128, 20)
        };
        let driver = Driver::start(&doors, &ALL, load);
        driver.round().await;
        fleet.signal(victim, "STOP");
        let began = Instant::now();
        driver.through(&left);
        fleet.taken_over(victim, left[0]);
        taken.push(began.elapsed());
        driver.half_a_round().await;
        fleet.signal(victim, "CONT");
        driver.round().await;
        driver.through(&ALL);
        let name = fleet.name(victim).to_owned();
        // Three deaths in ten minutes would keep it from its slots. A voter that wakes may stand for
        // election first.
        eventually("it may have slots again", || {
            let undrained = fleet.run(0, &["cluster", "undrain", &name]);
            undrained.status.success().then_some(())
        });
        fleet.settled(&ALL);
        driver.round().await;
        let report = driver.stop().await;
        checked.add(&report, true);
        stale += report.stale();
    }
    table.time_with_bar(
        "an owner stands still: taken over, the longest",
        count,
        quantile(&mut taken, 1.0),
        [TAKEOVER_BAR; 2],
    );
    table.figure(
        "it wakes: stale answers (allowed where it stopped while it answered)",
        checked.calls,
        stale.to_string(),
    );
    checked.tell(table, "it wakes");
}

/// Every node is restarted in turn, the leader last.
pub(crate) async fn rolling(table: &mut Table) {
    let mut fleet = Fleet::plain(3);
    let doors = doors(&fleet, 3);
    let driver = Driver::start(&doors, &ALL, load(128, 10));
    driver.round().await;
    let leader = fleet.leader(0);
    let mut order = others(leader);
    order.push(leader);
    let mut drains = Vec::new();
    for node in order {
        let left = others(node);
        driver.through(&left);
        driver.round().await;
        let began = Instant::now();
        assert_eq!(fleet.stop(node), Some(0));
        drains.push(began.elapsed());
        doors[node].lost().await;
        fleet.start(node);
        fleet.settled(&[left[0], left[1], node]);
        driver.through(&ALL);
        driver.round().await;
    }
    let report = driver.stop().await;
    none_failed(table, "rolling restart", &report);
    table.time(
        "rolling restart: longest drain, 1,365 slots and more",
        drains.len(),
        quantile(&mut drains, 1.0),
        Duration::from_secs(20),
    );
    checked(table, "rolling restart", &report);
    let memory = ALL.map(|node| resident(fleet.process(node).id()));
    let most = memory.iter().copied().fold(0.0, f64::max);
    table.figure(
        "rolling restart: memory of a node after it, the most",
        memory.len(),
        format!("{most:.0} MiB"),
    );
}

/// Resident memory of a process in MiB; of `ip netns exec` nothing is left, it becomes the program.
fn resident(process: u32) -> f64 {
    let bytes = crate::load::machine::resident_bytes(process).unwrap_or_default();
    bytes as f64 / f64::from(1 << 20)
}

/// Forwarded events beside local ones.
pub(crate) fn forward(table: &mut Table) {
    let pair = Pair::start().unwrap();
    let plan = Plan {
        rounds: 3,
        slices: 4,
        seconds: 2.0,
        threads: 1,
    };
    let report = measure::measure(&pair, SHAPES[0], &plan).unwrap();
    let ratio = report.cpu_ratio();
    table.barred(
        "forwarded against local event, processor time of both nodes",
        plan.rounds,
        format!("{ratio:.2} x"),
        "<= 1.5 x, bar 2.0 x",
        [ratio <= 1.5, ratio <= 2.0],
    );
    let (local, forwarded) = report.p50_us();
    table.figure(
        "forwarded against local event, p50 of the wait",
        plan.rounds,
        format!(
            "{} / {}",
            ms(Duration::from_secs_f64(forwarded / 1e6)),
            ms(Duration::from_secs_f64(local / 1e6))
        ),
    );
    pair.stop();
}
