//! Clocks of nodes differ, and are set: the time of day while nodes run, the clocks that leases run on
//! from one life of a node to the next (that they drift apart is simulated: no process can have a rate of
//! its own).

use super::drive::{Driver, Load, doors};
use super::fleet::{Fleet, Spec, names};
use super::outside::{on_path, or_skip};
use super::process::eventually;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// The library that gives a process a time of day of its own, or why there is none.
fn library() -> Result<PathBuf, &'static str> {
    const NAME: &str = "faketime/libfaketimeMT.so.1";
    let named = std::env::var_os("LIBFAKETIME").map(PathBuf::from);
    let usual = ["x86_64-linux-gnu", "aarch64-linux-gnu"]
        .map(|of| Path::new("/usr/lib").join(of).join(NAME));
    let mut all = named.into_iter().chain(usual);
    all.find(|library| library.is_file())
        .ok_or("no libfaketime: install it or name libfaketimeMT.so.1 in LIBFAKETIME")
}

/// The day on which a node wrote the last line of its log, which it is made to write now.
fn today(fleet: &mut Fleet, node: usize) -> String {
    let before = fleet.process(node).said().len();
    fleet.signal(node, "HUP");
    let line = eventually("a line about the reload", || {
        let said = fleet.process(node).said();
        said.get(before..)?.last().cloned()
    });
    let line: serde_json::Value = serde_json::from_str(&line).unwrap();
    line["timestamp"].as_str().unwrap()[..10].to_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wall_clock_that_is_set_by_days_and_back_changes_nothing() {
    let Some(_turn) = super::turn("a wall clock is set") else {
        return;
    };
    let Some(library) = or_skip("a wall clock is set", library()) else {
        return;
    };
    let mut fleet = Fleet::prepare(names(3).map(|name| Spec::plain(&name)).collect(), 0);
    fleet.init(0);
    let clock = fleet.dir.path().join("clock");
    std::fs::write(&clock, "+0").unwrap();
    for node in [0, 1, 2] {
        let mut command = fleet.command(node, &["serve"]);
        if node != 2 {
            command
                .env("LD_PRELOAD", &library)
                .env("FAKETIME_TIMESTAMP_FILE", &clock)
                .env("FAKETIME_NO_CACHE", "1")
                .env("FAKETIME_DONT_FAKE_MONOTONIC", "1");
        }
        fleet.start_as(node, command);
    }
    fleet.settled(&[0, 1, 2]);
    let doors = doors(&fleet, 3);
    let driver = Driver::start(&doors, &[0, 1, 2], Load::default());
    driver.round().await;
    // Days ahead, days back, and a clock that gains time.
    for step in ["+2d", "-3d", "+0 x1.04"] {
        std::fs::write(&clock, step).unwrap();
        let long = super::lasting(Duration::from_secs(1), Duration::from_secs(10));
        tokio::time::sleep(long).await;
        driver.round().await;
        let days = [0, 1, 2].map(|node| today(&mut fleet, node));
        assert_eq!(days[0], days[1]);
        assert_eq!(days[0] != days[2], step.ends_with('d'), "{step}: {days:?}");
    }
    std::fs::write(&clock, "+0").unwrap();
    driver.round().await;
    driver.stop().await.is_intact("a wall clock that is set");
}

/// A node whose boot clock and monotonic clock are ahead of the machine's by so many seconds.
fn started_ahead(fleet: &Fleet, node: usize, [boot, monotonic]: [u32; 2]) -> Command {
    let mut command = fleet.net.on(node, "unshare".as_ref());
    command
        .arg("--time")
        .args(["--boottime".to_owned(), boot.to_string()])
        .args(["--monotonic".to_owned(), monotonic.to_string()])
        .arg(env!("CARGO_BIN_EXE_centripeta"))
        .arg("serve")
        .current_dir(fleet.home(node));
    command
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_whose_clocks_began_at_different_times_agree_also_after_one_is_set_back() {
    let what = "clocks that began at different times";
    let Some(_turn) = super::turn(what) else {
        return;
    };
    let unshare = on_path("unshare").ok_or("no unshare (util-linux) on PATH");
    let can = unshare.and_then(|unshare| {
        let tried = Command::new(unshare).args(["--time", "true"]).output();
        let may = tried.is_ok_and(|tried| tried.status.success());
        may.then_some(()).ok_or("no time namespaces here")
    });
    if or_skip(what, can).is_none() {
        return;
    }
    const DAY: u32 = 24 * 60 * 60;
    let mut fleet = Fleet::prepare(names(3).map(|name| Spec::plain(&name)).collect(), 0);
    fleet.init(0);
    fleet.start(0);
    // One that booted long ago, and one that was suspended for most of its time.
    for (node, ahead) in [(1, [30 * DAY, 30 * DAY]), (2, [10 * DAY, DAY])] {
        fleet.start_as(node, started_ahead(&fleet, node, ahead));
    }
    fleet.settled(&[0, 1, 2]);
    let doors = doors(&fleet, 3);
    let driver = Driver::start(&doors, &[0, 2], Load::default());
    driver.round().await;
    for ahead in [[0, 0], [60 * DAY, DAY]] {
        fleet.kill(1);
        driver.round().await;
        fleet.start_as(1, started_ahead(&fleet, 1, ahead));
        fleet.settled(&[0, 1, 2]);
        driver.round().await;
    }
    // Whoever leads, by its own clocks.
    let leader = fleet.leader(0);
    let others: Vec<usize> = (0..3).filter(|node| *node != leader).collect();
    driver.through(&others);
    fleet.kill(leader);
    driver.round().await;
    driver.stop().await.is_sound(what);
}
