//! Hosts that fail in part: they stop for a while, their links are slow, their disks stall or fill up.

use super::drive::{Driver, Load, Report, doors};
use super::fleet::{Fleet, Spec, names};
use super::outside::{on_path, or_skip};
use super::process::eventually;
use super::relay::Relay;
use super::scene::Scene;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

/// From the death of a leader amid moves until all keys are served: what moved is decided anew after
/// the takeover, whose own bar is in `takeover.rs`.
const BAR: Duration = Duration::from_secs(6);

fn others(node: usize) -> Vec<usize> {
    (0..3).filter(|other| *other != node).collect()
}

fn unharmed(report: &Report, what: &str) {
    report.is_intact(what);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_stops_for_any_time_and_goes_on_breaks_no_rule() {
    let Some(scene) = Scene::begin("pauses") else {
        return;
    };
    let pauses: &[u64] = if super::long() {
        &[500, 1000, 1500, 2000, 3000, 5000, 10_000, 30_000]
    } else {
        &[900, 1500, 4000]
    };
    let (fleet, doors) = (&scene.fleet, &scene.doors);
    for pause in pauses.iter().copied().map(Duration::from_millis) {
        // Leaders and others take turns.
        let victim = fleet.leader(0);
        let driver = Driver::start(doors, &others(victim), Load::default());
        driver.round().await;
        fleet.signal(victim, "STOP");
        tokio::time::sleep(pause).await;
        fleet.signal(victim, "CONT");
        driver.round().await;
        fleet.settled(&[0, 1, 2]);
        driver.through(&[0, 1, 2]);
        driver.round().await;
        let report = driver.stop().await;
        eprintln!("the leader stops for {pause:?}: {}", report.line());
        report.check(true);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_killed_amid_moves_leaves_every_key_with_one_owner() {
    let Some(_turn) = super::alone("the leader is killed amid moves") else {
        return;
    };
    let specs = names(3).map(|name| Spec::plain(&name)).collect();
    let mut fleet = Fleet::prepare(specs, 1);
    fleet.init(0);
    (0..3).for_each(|node| fleet.start(node));
    fleet.settled(&[0, 1, 2]);
    let fourth = fleet.add(Spec::plain("d"));
    let doors = doors(&fleet, 4);
    let leader = fleet.leader(0);
    let living = others(leader);
    let load = Load {
        keys: 256,
        ..Load::default()
    };
    let driver = Driver::start(&doors, &living, load);
    driver.round().await;
    fleet.start(fourth);
    eventually("moves are under way", || {
        fleet.moves(living[0]).filter(|open| *open > 0)
    });
    fleet.kill(leader);
    let died = Instant::now();
    driver.round().await;
    let served = died.elapsed();
    fleet.settled(&[living[0], living[1], fourth]);
    driver.through(&[living[0], living[1], fourth]);
    driver.round().await;
    let report = driver.stop().await;
    eprintln!(
        "leader killed amid moves: served after {served:?}; {}",
        report.line()
    );
    report.check(true);
    assert!(served < BAR, "{served:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_link_of_two_megabits_costs_no_event() {
    let Some(scene) = Scene::begin("a slow link") else {
        return;
    };
    let (fleet, victim) = (&scene.fleet, scene.victim);
    let driver = scene.load(&[0, 1, 2]).await;
    fleet.net.slow(victim, "2mbit");
    tokio::time::sleep(Duration::from_secs(if super::long() { 30 } else { 3 })).await;
    driver.round().await;
    fleet.net.heal(victim);
    driver.round().await;
    unharmed(&driver.stop().await, "a link of 2 Mbit/s");
}

/// Nodes whose links all pass relays that take their time, each way.
async fn delayed(delay: Duration, timing: &str) {
    let specs = names(3).enumerate().map(|(node, name)| {
        let plain = Spec::plain(&name);
        Spec {
            advertise: format!("10.77.0.{}:7950", node + 1),
            guard: format!("{}\n{timing}", plain.guard),
            ..plain
        }
    });
    let mut fleet = Fleet::prepare(specs.collect(), 0);
    let relay = |node| {
        let address = fleet.net.address(node);
        let (before, behind) = (format!("{address}:7950"), format!("{address}:7946"));
        Relay::start(&fleet, node, &before, &behind, delay)
    };
    let _relays: Vec<_> = (0..3).map(relay).collect();
    fleet.init(0);
    (0..3).for_each(|node| fleet.start(node));
    fleet.settled(&[0, 1, 2]);
    let doors = doors(&fleet, 3);
    let driver = Driver::start(&doors, &[0, 1, 2], Load::default());
    driver.round().await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    driver.round().await;
    unharmed(&driver.stop().await, &format!("{delay:?} more each way"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn links_with_delay_cost_time_and_no_event() {
    let Some(_turn) = super::turn("links with delay") else {
        return;
    };
    delayed(Duration::from_millis(10), "").await;
    if super::long() {
        let timing = "raft = { heartbeat = \"600ms\", election = \"800ms\" }\n\
                      lease = { length = \"4s\", heartbeat = \"500ms\" }";
        for delay in [20, 50, 100] {
            delayed(Duration::from_millis(delay), timing).await;
        }
    }
}

/// A file system of its own for one node; it is unmounted with this.
struct Disk(PathBuf);

impl Disk {
    fn mount(at: PathBuf, arguments: &[&str]) -> Result<Self, String> {
        std::fs::create_dir_all(&at).unwrap();
        let out = Command::new("mount").args(arguments).arg(&at).output();
        let out = out.map_err(|why| format!("no mount: {why}"))?;
        if out.status.success() {
            return Ok(Self(at));
        }
        Err(format!("mount: {}", String::from_utf8_lossy(&out.stderr)))
    }

    /// An ext4 in a file, which can be frozen.
    fn ext4(at: PathBuf) -> Result<Self, String> {
        let image = at.with_extension("img");
        let file = std::fs::File::create(&image).unwrap();
        file.set_len(64 << 20).unwrap();
        let mut make = Command::new("mkfs.ext4");
        let made = make.arg("-q").arg(&image).output();
        if !made.is_ok_and(|made| made.status.success()) {
            return Err("no mkfs.ext4 (e2fsprogs)".to_owned());
        }
        Self::mount(at, &["-o", "loop", &image.display().to_string()])
    }

    /// Nothing is written any more, or again.
    fn freeze(&self, on: bool) {
        let flag = if on { "-f" } else { "-u" };
        let done = Command::new("fsfreeze").arg(flag).arg(&self.0).status();
        assert!(done.unwrap().success());
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // It may be frozen, or not; those that write to it are gone, or their files stay.
        drop(Command::new("fsfreeze").arg("-u").arg(&self.0).output());
        drop(Command::new("umount").arg("-l").arg(&self.0).output());
    }
}

/// Three nodes, of which each has its data on a disk of its own in this folder.
fn on_disks(dir: &Path) -> Fleet {
    let specs = names(3).map(|name| Spec {
        data: Some(dir.join(&name).join("data")),
        ..Spec::plain(&name)
    });
    Fleet::of(specs.collect())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_disk_that_stalls_stops_no_event_of_a_follower_and_costs_a_leader_its_lead_at_most() {
    let Some(_turn) = super::turn("a stalled disk") else {
        return;
    };
    let freeze = on_path("fsfreeze").ok_or("no fsfreeze (util-linux) on PATH");
    if or_skip("a stalled disk", freeze).is_none() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let disks: Result<Vec<_>, _> = names(3)
        .map(|name| Disk::ext4(dir.path().join(name)))
        .collect();
    let Some(disks) = or_skip("a stalled disk", disks) else {
        return;
    };
    let fleet = on_disks(dir.path());
    let doors = doors(&fleet, 3);
    let leader = fleet.leader(0);
    for victim in [(leader + 1) % 3, leader] {
        let driver = Driver::start(&doors, &others(victim), Load::default());
        driver.round().await;
        disks[victim].freeze(true);
        let stalled = Instant::now();
        tokio::time::sleep(Duration::from_secs(2)).await;
        driver.round().await;
        let served = stalled.elapsed();
        disks[victim].freeze(false);
        fleet.settled(&[0, 1, 2]);
        driver.through(&[0, 1, 2]);
        driver.round().await;
        let report = driver.stop().await;
        let leads = victim == leader;
        eprintln!(
            "disk stalled, leader {leads}: {served:?}; {}",
            report.line()
        );
        report.check(true);
        if !leads {
            assert_eq!(report.failed().len(), 0, "{:?}", report.failed());
        }
    }
    drop(fleet);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_voter_whose_disk_is_full_ends_with_a_line_and_the_others_serve() {
    let Some(_turn) = super::turn("a full disk") else {
        return;
    };
    let dir = tempfile::tempdir().unwrap();
    let tmpfs = ["-t", "tmpfs", "-o", "size=24m", "tmpfs"];
    let disks: Result<Vec<_>, _> = names(3)
        .map(|name| Disk::mount(dir.path().join(name), &tmpfs))
        .collect();
    let Some(disks) = or_skip("a full disk", disks) else {
        return;
    };
    let mut fleet = on_disks(dir.path());
    let doors = doors(&fleet, 3);
    let victim = (fleet.leader(0) + 1) % 3;
    let driver = Driver::start(&doors, &others(victim), Load::default());
    driver.round().await;
    let filler = disks[victim].0.join("filler");
    fill(&filler);
    // What the table is told of has to be written down: a drain is told slot by slot.
    let [one, other] = others(victim)[..] else {
        unreachable!("two are left of three");
    };
    let drained = fleet.name(other).to_owned();
    let ended = eventually("the node with the full disk ends", || {
        for command in ["drain", "undrain"] {
            drop(fleet.run(one, &["cluster", command, &drained]));
        }
        fill(&filler);
        fleet.process(victim).ended()
    });
    let said = fleet.process(victim).said().join("\n");
    assert_eq!(ended.code(), Some(70), "{said}");
    let line = said
        .lines()
        .find(|line| line.contains("the node cannot go on"));
    let line = line.unwrap_or_else(|| panic!("no line in {said}"));
    assert!(
        line.contains("meta.redb") || line.contains("space"),
        "{line}"
    );
    assert!(!said.contains("panicked"), "{said}");
    driver.round().await;
    std::fs::remove_file(&filler).unwrap();
    fleet.start(victim);
    fleet.settled(&[0, 1, 2]);
    driver.through(&[0, 1, 2]);
    driver.round().await;
    let report = driver.stop().await;
    eprintln!("a full disk: {}", report.line());
    report.check(true);
    drop(fleet);
}

/// Takes what room is left.
fn fill(file: &Path) {
    use std::io::Write;
    let mut file = std::fs::File::options()
        .create(true)
        .append(true)
        .open(file)
        .unwrap();
    for block in [&[0u8; 1 << 16][..], &[0u8; 512], &[0u8; 1]] {
        while file.write_all(block).is_ok() {}
    }
}
