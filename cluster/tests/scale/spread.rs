//! How long one change of the table takes to all nodes, and what the leader pays for them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use centripeta_cluster::lease::Clock;
use centripeta_cluster::{Command, NodeChange, Now, Outcome};
use tokio::time::Instant;

use super::fleet::{Fleet, Time, VOTERS, clock, until};

/// What 99 of 100 nodes must stay below.
const TARGET: Duration = Duration::from_millis(200);
/// The same where the voter that they follow has just died.
const AFTER_A_DEATH: Duration = Duration::from_secs(2);

/// From the proposal of a change until each node shows it, sorted.
async fn spread(fleet: &Fleet, change: u64) -> Vec<Duration> {
    let leader = fleet.leader().unwrap();
    let table = Arc::clone(&leader.standing.shown().table);
    let last = fleet.nodes.last().unwrap().standing.me();
    let version = table.version() + 1;
    let began = Instant::now();
    let waiting: Vec<_> = fleet
        .nodes
        .iter()
        .map(|node| {
            let standing = Arc::clone(&node.standing);
            tokio::spawn(async move {
                standing.reached(version).await;
                began.elapsed()
            })
        })
        .collect();
    let proposed = leader.cluster.propose(Command::SetNode {
        member: last,
        boot: table.node(last.id).unwrap().boot,
        change: NodeChange::RoutesHash(change),
    });
    assert_eq!(proposed.await, Ok(Outcome::Done { changed: 1 }));
    let mut took = Vec::new();
    for each in waiting {
        let within = tokio::time::timeout(Duration::from_secs(20), each).await;
        took.push(within.expect("a node never hears of it").unwrap());
    }
    took.sort_unstable();
    took
}

/// Several changes in a row; prints and gives the time of 99 of 100 nodes.
async fn spreads(what: &str, fleet: &Fleet, changes: u64) -> Duration {
    static NEXT: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(1);
    let mut all = Vec::new();
    for _ in 0..changes {
        let change = NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        all.extend(spread(fleet, change).await);
        tokio::time::sleep(Duration::from_millis(37)).await;
    }
    all.sort_unstable();
    let at = |permille: usize| all[(all.len() - 1) * permille / 1000];
    println!(
        "{} nodes, {what}: p50 {:?}, p99 {:?}, last {:?} of {changes} changes",
        fleet.nodes.len(),
        at(500),
        at(990),
        at(1000)
    );
    at(990)
}

/// Changes with all there, and one right after one of three voters has died; in simulated time.
async fn tells_all(count: u32, changes: u64) -> Fleet {
    let now = clock();
    let mut fleet = Fleet::of(count, &now, Time::Simulated).await;
    let leader = fleet.leader().unwrap().number;
    assert!(spreads("all there", &fleet, changes).await < TARGET);
    let lost = (1..=VOTERS).find(|number| *number != leader).unwrap();
    fleet.kill(lost).await;
    // Those that followed it have to notice, and to ask another.
    assert!(spreads("a voter just died", &fleet, 1).await < AFTER_A_DEATH);
    fleet
}

#[tokio::test(start_paused = true)]
async fn a_change_reaches_110_nodes_soon_and_all_of_them_when_one_of_three_voters_dies() {
    tells_all(110, 8).await;
}

#[tokio::test(start_paused = true)]
#[ignore = "takes minutes: run it in release"]
async fn a_change_reaches_300_nodes_soon_with_and_without_one_of_three_voters() {
    let fleet = tells_all(300, 40).await;
    // Whoever followed the dead one follows another by now.
    tokio::time::sleep(Duration::from_secs(10)).await;
    assert!(spreads("one of three voters is dead", &fleet, 40).await < TARGET);
    let leader = fleet.leader().unwrap();
    let feeds = leader.cluster.links().peers().len();
    println!("the leader of 300 nodes has {feeds} links");
}

/// The threads of this process that nodes have for themselves, with their processor time.
fn threads() -> BTreeMap<String, Duration> {
    let tasks = std::fs::read_dir("/proc/self/task").unwrap();
    let time = tasks.filter_map(|task| {
        let path = task.ok()?.path();
        let is_it = std::fs::read_to_string(path.join("comm")).ok()?.trim() == "cluster";
        let text = std::fs::read_to_string(path.join("schedstat")).ok()?;
        let nanos: u64 = text.split(' ').next()?.parse().ok()?;
        is_it.then(|| (path.display().to_string(), Duration::from_nanos(nanos)))
    });
    time.collect()
}

/// In real time: each voter has a thread of its own, all others share some. The leader works most.
#[tokio::test]
#[ignore = "a measurement, of Linux, that wants the machine for itself: run it in release"]
async fn the_shell_of_a_leader_of_300_nodes_uses_less_than_a_tenth_of_a_core() {
    const SECONDS: u32 = 10;
    let count = std::env::var("SCALE_NODES").map_or(300, |count| count.parse().unwrap());
    let now: Now = Arc::new(Clock::read);
    let fleet = Fleet::of(count, &now, Time::Real).await;
    let share = async |what: &str, changes: bool| {
        let (before, began) = (threads(), Instant::now());
        let (mut change, mut turns) = (0, 0_u32);
        while began.elapsed() < Duration::from_secs(SECONDS.into()) {
            if changes {
                change += 1;
                spread(&fleet, 1_000_000 + change).await;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
            turns += 1;
        }
        let took = began.elapsed().as_secs_f64();
        let mut used: Vec<_> = threads()
            .iter()
            .map(|(thread, time)| (*time - before[thread]).as_secs_f64() / took * 100.0)
            .collect();
        used.sort_by(f64::total_cmp);
        assert_eq!(used.len(), VOTERS as usize, "a thread for each voter");
        println!(
            "the leader of {count} nodes, {what}: {:.2} % of a core ({change} changes; the other voters \
             {:.2} and {:.2} %; the test turned {turns} times in {took:.1} s)",
            used[2], used[1], used[0],
        );
        used[2]
    };
    let rest = share("at rest", false).await;
    let busy = share("with changes", true).await;
    until("it still leads", || fleet.leader().is_some()).await;
    assert!(rest < 10.0 && busy < 10.0, "more than 10 % of a core");
}
