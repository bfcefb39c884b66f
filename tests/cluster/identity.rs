//! Who a node is: its name, its data directory and what becomes of both.

use super::drive::{Driver, Load, Report, doors};
use super::fleet::{Fleet, Spec, names};
use super::process::eventually;
use super::scene::Lent;
use std::fs;
use std::path::Path;
use std::time::Instant;

/// Copies the files of a data directory over those of another.
fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for file in fs::read_dir(from).unwrap() {
        let file = file.unwrap();
        fs::copy(file.path(), to.join(file.file_name())).unwrap();
    }
}

/// Eight bits of what the file holds are flipped, spread over all of it.
fn spoil(file: &Path, seed: usize) {
    let mut bytes = fs::read(file).unwrap();
    // What is empty is not in use.
    let used: Vec<_> = (0..bytes.len()).filter(|at| bytes[*at] != 0).collect();
    for bit in 0..8 {
        let at = used[(bit * used.len() / 8 + seed * 997) % used.len()];
        bytes[at] ^= 1 << bit;
    }
    fs::write(file, bytes).unwrap();
}

fn is_intact(report: &Report, what: &str) {
    report.is_intact(what);
}

/// Every one of these words is in one line of what was said.
fn tells(said: &str, words: &[&str]) {
    let is_there = |line: &str| words.iter().all(|word| line.contains(word));
    assert!(
        said.lines().any(is_there),
        "no line with {words:?} in\n{said}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn init_is_repeated_without_harm_and_a_directory_takes_one_process_only() {
    let Some(_turn) = super::turn("init is repeated") else {
        return;
    };
    let mut fleet = Fleet::prepare(vec![Spec::plain("a")], 1);
    fleet.init(0);
    let again = fleet.json(0, &["cluster", "init"]).unwrap();
    assert_eq!(again["founded"], false, "{again}");
    fleet.start(0);
    fleet.settled(&[0]);
    let running = fleet.run(0, &["cluster", "init"]);
    assert!(running.status.success(), "{running:?}");
    let said = String::from_utf8_lossy(&running.stdout);
    assert!(said.contains("nothing to do"), "{said}");
    // Another process, on its own addresses, but in the same directory.
    let second = fleet.add(Spec {
        data: Some(fleet.data(0)),
        ..Spec::plain("a")
    });
    let (code, said) = fleet.refused(second);
    assert_eq!(code, Some(1), "{said}");
    let dir = fleet.data(0).display().to_string();
    tells(&said, &["in use by another process", &dir]);
    fleet.settled(&[0]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_copied_directory_started_beside_the_original_displaces_nobody_and_ends() {
    let Some(_turn) = super::turn("a copied directory") else {
        return;
    };
    let mut fleet = Lent::take();
    let leader = fleet.leader(0);
    let victim = (leader + 1) % 3;
    let name = fleet.name(victim).to_owned();
    let copied = fleet.add(Spec::plain(&name));
    assert_eq!(fleet.stop(victim), Some(0));
    copy(&fleet.data(victim), &fleet.data(copied));
    fleet.start(victim);
    fleet.settled(&[0, 1, 2]);
    let doors = doors(&fleet, 3);
    let driver = Driver::start(&doors, &[0, 1, 2], Load::default());
    driver.round().await;
    // At the same life as the original, and at a later one.
    for _ in 0..2 {
        let (code, said) = fleet.refused(copied);
        assert_eq!(code, Some(70), "{said}");
        tells(&said, &["copy", "\"level\":\"ERROR\""]);
        driver.round().await;
    }
    fleet.settled(&[0, 1, 2]);
    is_intact(&driver.stop().await, "a copied directory");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_voter_whose_files_are_lost_damaged_or_old_is_refused_and_the_others_go_on() {
    let Some(_turn) = super::turn("a voter's files are lost") else {
        return;
    };
    let mut fleet = Lent::take();
    let leader = fleet.leader(0);
    let victim = (leader + 1) % 3;
    let others: Vec<usize> = (0..3).filter(|node| *node != victim).collect();
    let doors = doors(&fleet, 3);
    let driver = Driver::start(&doors, &others, Load::default());
    driver.round().await;
    assert_eq!(fleet.stop(victim), Some(0));
    let kept = fleet.dir.path().join("kept");
    let data = fleet.data(victim);
    copy(&data, &kept);
    let meta = data.join("meta.redb");

    fs::remove_file(&meta).unwrap();
    let (code, said) = fleet.refused(victim);
    assert_eq!(code, Some(1), "{said}");
    tells(&said, &["meta.redb is missing", "could vote twice"]);

    for seed in 0..5 {
        copy(&kept, &data);
        spoil(&meta, seed);
        let (code, said) = fleet.refused(victim);
        assert_eq!(code, Some(1), "{seed}: {said}");
        tells(&said, &["meta.redb", "\"level\":\"ERROR\""]);
        assert!(!said.contains("panicked"), "{seed}: {said}");
    }

    // Whole, it goes on; then all that it has is of before that life.
    copy(&kept, &data);
    fleet.start(victim);
    fleet.settled(&[0, 1, 2]);
    assert_eq!(fleet.stop(victim), Some(0));
    let newest = fleet.dir.path().join("newest");
    copy(&data, &newest);
    fs::copy(kept.join("meta.redb"), &meta).unwrap();
    let (code, said) = fleet.refused(victim);
    assert_eq!(code, Some(1), "{said}");
    tells(&said, &["an older meta.redb was put back"]);
    copy(&kept, &data);
    let (code, said) = fleet.refused(victim);
    assert_eq!(code, Some(70), "{said}");
    tells(&said, &["copy or an old backup", "\"level\":\"ERROR\""]);
    copy(&newest, &data);
    fleet.start(victim);
    fleet.settled(&[0, 1, 2]);
    driver.round().await;
    is_intact(&driver.stop().await, "files lost, damaged and old");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pod_with_an_empty_disk_takes_its_name_back_once_its_old_life_is_dead() {
    let Some(_turn) = super::turn("a pod with an empty disk") else {
        return;
    };
    let pod = || Spec {
        node: "roles = [\"ingress\", \"region\"]\n".to_owned(),
        ..Spec::plain("d")
    };
    let mut specs: Vec<_> = names(3).map(|name| Spec::plain(&name)).collect();
    specs.push(pod());
    let mut fleet = Fleet::prepare(specs, 1);
    fleet.init(0);
    (0..4).for_each(|node| fleet.start(node));
    fleet.settled(&[0, 1, 2, 3]);
    let second = fleet.add(pod());
    fleet.start(second);
    let said = fleet.process(second).says("this node is not registered");
    tells(&said, &["belongs to node", "another data directory"]);
    fleet.settled(&[0, 1, 2, 3]);
    fleet.kill(3);
    fleet.process(second).says("this node is in the cluster");
    fleet.settled(&[0, 1, 2, second]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_voter_lost_for_good_is_removed_and_another_node_votes_in_its_place() {
    let Some(_turn) = super::turn("a voter is lost for good") else {
        return;
    };
    let mut specs: Vec<_> = names(3).map(|name| Spec::plain(&name)).collect();
    specs.push(Spec::plain("d"));
    let mut fleet = Fleet::prepare(specs, 0);
    fleet.init(0);
    (0..3).for_each(|node| fleet.start(node));
    fleet.settled(&[0, 1, 2]);
    let voters = |fleet: &Fleet, node| -> Option<Vec<String>> {
        let status = fleet.json(node, &["cluster", "status"])?;
        let voters = status["voters"].as_array()?.iter();
        voters
            .map(|voter| Some(voter["name"].as_str()?.to_owned()))
            .collect()
    };
    eventually("three vote", || {
        (voters(&fleet, 0)?.len() == 3).then_some(())
    });
    fleet.start(3);
    fleet.settled(&[0, 1, 2, 3]);
    let leader = fleet.leader(0);
    let victim = (leader + 1) % 3;
    let name = fleet.name(victim).to_owned();
    let living = fleet.run(leader, &["cluster", "remove", &name]);
    assert_eq!(living.status.code(), Some(1), "{living:?}");
    fleet.kill(victim);
    fs::remove_dir_all(fleet.data(victim)).unwrap();
    // Its name is not given away by itself: it has a vote.
    fleet.start(victim);
    let said = fleet.process(victim).says("this node is not registered");
    tells(&said, &["belongs to node"]);
    eventually("its slots are taken over", || {
        let counts = fleet.counts(leader)?;
        let (_, slots, state) = counts.iter().find(|(node, ..)| *node == name)?;
        (*slots == 0 && state == "dead").then_some(())
    });
    let asked = Instant::now();
    let mut last = None;
    eventually("it is removed", || {
        let removed = fleet.run(leader, &["cluster", "remove", &name]);
        let done = removed.status.success();
        last = Some(removed);
        done.then_some(())
    });
    eventually("another votes", || {
        let voters = voters(&fleet, leader)?;
        voters.contains(&"d".to_owned()).then_some(())
    });
    let replaced = asked.elapsed();
    eprintln!("a voter lost for good: another votes {replaced:?} after `cluster remove`");
    // The empty directory may now have the name, as a new node.
    fleet.settled(&[0, 1, 2, 3]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_two_of_three_voters_are_lost_for_good_the_survivor_is_recovered_and_serves() {
    let Some(_turn) = super::turn("a majority is lost for good") else {
        return;
    };
    let mut fleet = Fleet::plain(3);
    let survivor = fleet.leader(0);
    let (one, other) = ((survivor + 1) % 3, (survivor + 2) % 3);
    fleet.kill(one);
    fleet.kill(other);
    let running = fleet.run(survivor, &["cluster", "recover", "--yes"]);
    assert_eq!(running.status.code(), Some(1), "{running:?}");
    fleet.kill(survivor);
    let asked = fleet.run(survivor, &["cluster", "recover"]);
    assert_eq!(asked.status.code(), Some(1), "{asked:?}");
    let began = Instant::now();
    let recovered = fleet.run(survivor, &["cluster", "recover", "--yes"]);
    assert!(recovered.status.success(), "{recovered:?}");
    fleet.start(survivor);
    // The table names its life of before until the lease of that one is waited out: what comes before
    // it is ready is answered unavailable.
    eventually("the survivor is ready", || {
        let page = fleet.page(survivor, "/ready");
        page.lines().next()?.contains(" 200").then_some(())
    });
    fleet.settled(&[survivor]);
    let doors = doors(&fleet, 3);
    let driver = Driver::start(&doors, &[survivor], Load::default());
    driver.round().await;
    let served = began.elapsed();
    eprintln!("a majority lost for good: served {served:?} after `cluster recover --yes`");
    // A voter of before with its log is refused, whatever it says.
    let (code, said) = fleet.refused(one);
    assert_eq!(code, Some(70), "{said}");
    tells(&said, &["recover", "\"level\":\"ERROR\""]);
    for node in [one, other] {
        fs::remove_dir_all(fleet.data(node)).unwrap();
        fleet.start(node);
    }
    fleet.settled(&[0, 1, 2]);
    driver.through(&[0, 1, 2]);
    driver.round().await;
    is_intact(&driver.stop().await, "after a recovery");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn voters_that_all_changed_their_address_find_each_other() {
    let Some(_turn) = super::turn("all voters change their address") else {
        return;
    };
    let mut fleet = Fleet::plain(3);
    let before = fleet.json(0, &["cluster", "status"]).unwrap();
    (0..3).for_each(|node| fleet.kill(node));
    (0..3).for_each(|node| fleet.respec(node, |spec| spec.port = 7950 + node as u16));
    (0..3).for_each(|node| fleet.write(node));
    (0..3).for_each(|node| fleet.start(node));
    let after = eventually("a status", || fleet.json(0, &["cluster", "status"]));
    assert_eq!(before["cluster"], after["cluster"]);
    eventually("the table has all new addresses", || {
        let nodes = fleet.json(0, &["cluster", "nodes"])?;
        let mut nodes = nodes["nodes"].as_array()?.iter();
        let moved = nodes.all(|node| node["addrs"].to_string().contains(":795"));
        moved.then_some(())
    });
    fleet.settled(&[0, 1, 2]);
    let doors = doors(&fleet, 3);
    let driver = Driver::start(&doors, &[0, 1, 2], Load::default());
    driver.round().await;
    is_intact(&driver.stop().await, "all addresses changed");
}
