//! The parts of the table, each on nodes of its own.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::table::{Table, ms, quantile};
use crate::drive::{Call, Door, Driver, Load, Report, doors};
use crate::fleet::{Fleet, Spec};
use crate::forward::measure::{self, Plan, SHAPES};
use crate::forward::pair::Pair;
use crate::process::eventually;

const ALL: [usize; 3] = [0, 1, 2];

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

/// What no run may show; the checker ends the bench where it does.
fn checked(table: &mut Table, what: &str, report: &Report, restarts: bool) {
    report.check(restarts);
    let what = format!("{what}: double owners, double answers, empty OKs");
    table.none(&what, 0);
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
        began.elapsed(),
        Duration::from_secs(15),
    );
    driver.through(&[0, 1, 3]);
    driver.round().await;
    let began = Instant::now();
    assert_eq!(fleet.stop(2), Some(0));
    table.time(
        "drain of one of four by SIGTERM, to its end",
        began.elapsed(),
        Duration::from_secs(20),
    );
    doors[2].lost().await;
    driver.round().await;
    let report = driver.stop().await;
    table.none("join and drain: failed events", report.failed().len());
    checked(table, "join and drain", &report, false);
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
    let key = "room:user-0";
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
    let what = format!("planned move of one slot under load, {count} times");
    table.none(&format!("{what}: failed events"), report.failed().len());
    table.time(
        &format!("{what}: longest wait of a move, p50"),
        quantile(&mut stalls, 0.5),
        millis(30),
    );
    table.time(
        &format!("{what}: longest wait of a move, p99"),
        quantile(&mut stalls, 0.99),
        millis(100),
    );
    checked(table, "planned moves", &report, false);
    at_once(table, &fleet, &doors).await;
}

async fn at_once(table: &mut Table, fleet: &Fleet, doors: &[Door]) {
    const SLOTS: usize = 256;
    const ASKING: usize = 4;
    let driver = Driver::start(doors, &ALL, load(256, 10));
    driver.round().await;
    let calm = Instant::now();
    tokio::time::sleep(Duration::from_secs(2)).await;
    let slots = slots_of(fleet, "a");
    let began = Instant::now();
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
    let ended = Instant::now();
    driver.round().await;
    let report = driver.stop().await;
    let (before, during) = (rate(&report, calm, began), rate(&report, began, ended));
    let what = "256 slots move, one command each";
    table.none(&format!("{what}: failed events"), report.failed().len());
    table.time(
        &format!("{what}: until all have"),
        ended - began,
        Duration::from_secs(3),
    );
    let dip = 100.0 * (1.0 - during / before);
    table.row(
        &format!("{what}: dip of the throughput"),
        format!("{dip:.1} %"),
        "< 10 %",
        dip < 10.0,
    );
    checked(table, "256 moves", &report, false);
}

/// What a death showed.
struct Death {
    served: Duration,
    /// The longest wait under a key that another node owned.
    bystanders: Duration,
    failed_bystanders: usize,
}

/// Kills a node under load that goes through the others, and starts it again.
async fn kill(fleet: &mut Fleet, doors: &[Door], victim: usize) -> Death {
    let left = others(victim);
    let driver = Driver::start(doors, &left, load(128, 10));
    driver.round().await;
    fleet.kill(victim);
    let died = Instant::now();
    driver.round().await;
    let served = died.elapsed();
    doors[victim].lost().await;
    let report = driver.stop().await;
    report.check(true);
    let name = fleet.name(victim).to_owned();
    let mut owner: BTreeMap<usize, String> = BTreeMap::new();
    // One that was under way then may have been answered by the next owner.
    let before = |call: &&Call| call.began + call.took < died;
    for call in report.calls.iter().filter(before) {
        if let Ok(count) = &call.result {
            owner.insert(call.key, count.node.clone());
        }
    }
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
    }
}

/// Owners die; then owners that lead.
pub(crate) async fn takeover(table: &mut Table, count: usize) {
    let mut fleet = Fleet::plain(3);
    let doors = doors(&fleet, 3);
    for leads in [false, true] {
        let mut deaths = Vec::new();
        for _ in 0..count {
            let leader = fleet.leader(0);
            let victim = if leads { leader } else { (leader + 1) % 3 };
            deaths.push(kill(&mut fleet, &doors, victim).await);
        }
        let mut served: Vec<_> = deaths.iter().map(|death| death.served).collect();
        let (what, p50, p99) = match leads {
            false => ("an owner dies", 1400, 2000),
            true => ("an owner that leads dies", 2200, 3000),
        };
        table.time(
            &format!("{what}, {count} times: all its keys are served, p50"),
            quantile(&mut served, 0.5),
            millis(p50),
        );
        table.time(
            &format!("{what}: the longest of them (bar 3 s)"),
            quantile(&mut served, 1.0),
            millis(p99),
        );
        let failed = deaths.iter().map(|death| death.failed_bystanders).sum();
        table.none(&format!("{what}: failed events of other owners"), failed);
        let longest = deaths.iter().map(|death| death.bystanders).max();
        table.time(
            &format!("{what}: longest wait of other owners' keys"),
            longest.unwrap_or_default(),
            millis(700),
        );
    }
    table.none("takeovers: double owners, double answers, empty OKs", 0);
}

/// An owner stands still until others have taken over, and wakes under load.
pub(crate) async fn pause(table: &mut Table) {
    let fleet = Fleet::plain(3);
    let leader = fleet.leader(0);
    let victim = (leader + 1) % 3;
    let left = others(victim);
    let doors = doors(&fleet, 3);
    let driver = Driver::start(&doors, &ALL, load(128, 10));
    driver.round().await;
    fleet.signal(victim, "STOP");
    let began = Instant::now();
    driver.through(&left);
    eventually("its slots are taken over", || {
        let counts = fleet.counts(left[0])?;
        let dead = counts
            .iter()
            .find(|(name, ..)| name == fleet.name(victim))?;
        (dead.2 == "dead" && dead.1 == 0).then_some(())
    });
    table.time(
        "an owner stands still: taken over",
        began.elapsed(),
        Duration::from_secs(3),
    );
    fleet.signal(victim, "CONT");
    driver.through(&ALL);
    fleet.settled(&ALL);
    driver.round().await;
    let report = driver.stop().await;
    checked(table, "it wakes; stale commits", &report, true);
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
    table.none("rolling restart: failed events", report.failed().len());
    table.time(
        "rolling restart: longest drain, 1,365 slots and more",
        quantile(&mut drains, 1.0),
        Duration::from_secs(20),
    );
    checked(table, "rolling restart", &report, false);
    let memory = ALL.map(|node| resident(fleet.process(node).id()));
    let most = memory.iter().copied().fold(0.0, f64::max);
    table.row(
        "rolling restart: memory of a node after it",
        format!("{most:.0} MiB"),
        "(no target)",
        true,
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
    table.row(
        "forwarded against local event, processor time of both nodes",
        format!("{ratio:.2} x"),
        "<= 1.5 x, bar 2.0 x",
        ratio <= 2.0,
    );
    let (local, forwarded) = report.p50_us();
    table.row(
        "forwarded against local event, p50 of the wait",
        format!(
            "{} / {}",
            ms(Duration::from_secs_f64(forwarded / 1e6)),
            ms(Duration::from_secs_f64(local / 1e6))
        ),
        "(no target)",
        true,
    );
    pair.stop();
}
