//! Links are cut.

use super::drive::{Door, Failed};
use super::fleet::{Fleet, Spec, names};
use super::process::eventually;
use super::scene::Scene;
use super::stream::owned_by;
use serde_json::Value;
use std::time::{Duration, Instant};

/// From the cut until the others serve the slots of the node that is cut off.
const BAR: Duration = Duration::from_secs(3);
/// How long it may take to say no.
const AT_ONCE: Duration = Duration::from_millis(500);

/// A row of `cluster peers`, as a node is told it.
fn row(fleet: &Fleet, by: usize, from: usize) -> Option<Value> {
    let told = fleet.json(by, &["cluster", "peers"])?;
    let mut rows = told["rows"].as_array()?.iter();
    let found = rows.find(|row| row["from"]["name"] == fleet.name(from));
    found.cloned()
}

/// The state of a link for Raft, leases and moves, as its sender says.
fn link(fleet: &Fleet, by: usize, from: usize, to: usize) -> Option<String> {
    let row = row(fleet, by, from)?;
    let mut links = row["links"].as_array()?.iter();
    let found = links.find(|link| link["to"]["name"] == fleet.name(to))?;
    found["control"].as_str().map(str::to_owned)
}

/// What operators are told while a node is cut off and the others have taken over: the commands that
/// its alerts and the page of failures name are of use on either side.
fn the_cut_is_told_on_both_sides(scene: &Scene) {
    let (fleet, victim, [one, other]) = (&scene.fleet, scene.victim, scene.others);
    for to in [one, other] {
        let state = link(fleet, victim, victim, to).unwrap();
        assert_ne!(state, "up");
        let unknown = row(fleet, victim, to).unwrap()["unknown"].clone();
        assert!(
            unknown.as_str().is_some_and(|why| !why.is_empty()),
            "{unknown}"
        );
    }
    for command in ["moves", "voters", "slots", "events", "nodes", "status"] {
        let shown = fleet.run(victim, &["cluster", command]);
        assert!(shown.status.success(), "{command}: {shown:?}");
    }
    let health = fleet.run(victim, &["cluster", "health"]);
    let said = String::from_utf8(health.stdout).unwrap();
    assert!(said.contains("failing  no quorum in reach"), "{said}");
    let paused = fleet.run(victim, &["cluster", "pause-moves"]);
    assert_eq!(paused.status.code(), Some(1), "{paused:?}");

    fleet.taken_over(victim, one);
    let dead = row(fleet, one, victim).unwrap();
    assert_eq!(dead["unknown"], "dead", "{dead}");
    assert_ne!(link(fleet, other, one, victim).unwrap(), "up");
    assert_eq!(link(fleet, other, one, other).unwrap(), "up");
    let events = fleet.run(other, &["cluster", "events"]);
    let said = String::from_utf8(events.stdout).unwrap();
    let died = |line: &str| line.contains(fleet.name(victim)) && line.contains("dead");
    assert!(said.lines().any(died), "{said}");
    let slots = fleet.run(one, &["cluster", "slots"]);
    let said = String::from_utf8(slots.stdout).unwrap();
    assert!(
        !said.contains(&format!("{} (", fleet.name(victim))),
        "{said}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_is_cut_off_stops_acting_and_the_others_serve_its_slots() {
    let Some(scene) = Scene::alone("a node is cut off") else {
        return;
    };
    let (fleet, victim) = (&scene.fleet, scene.victim);
    let driver = scene.load(&[0, 1, 2]).await;
    fleet.net.isolate(victim);
    let cut = Instant::now();
    driver.through(&scene.others);
    driver.round().await;
    let served = cut.elapsed();
    // The minority side says no at once, says why it is not ready, and goes on with what has no key.
    let alone = Door::new(fleet.socket(victim));
    let asked = Instant::now();
    let refused = alone.count("user-1").await;
    let answered = asked.elapsed();
    assert!(matches!(refused, Err(Failed::Status(14, _))), "{refused:?}");
    let ready = fleet.run(victim, &["health", "--ready"]);
    assert_eq!(ready.status.code(), Some(1), "{ready:?}");
    let page = fleet.page(victim, "/ready");
    let why = "no lease: the leader, or a quorum, is out of reach";
    assert!(page.contains(" 503 ") && page.contains(why), "{page}");
    let echo = [
        "fire",
        "rpc",
        "--method",
        "echo",
        "--data",
        r#"{"n":7}"#,
        "--json",
    ];
    for event in [&["fire", "connect", "--json"][..], &echo] {
        let answered = fleet.run(victim, event);
        assert!(answered.status.success(), "{event:?}: {answered:?}");
        let said = String::from_utf8(answered.stdout).unwrap();
        assert!(
            said.contains("guest-") || said.contains("\"n\":7"),
            "{said}"
        );
    }
    the_cut_is_told_on_both_sides(&scene);
    fleet.net.heal(victim);
    fleet.settled(&[0, 1, 2]);
    driver.through(&[0, 1, 2]);
    driver.round().await;
    let what = format!("partition: served after {served:?}");
    driver.stop().await.is_sound(&what);
    assert!(served < BAR, "{served:?}");
    assert!(answered < AT_ONCE, "{answered:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_hears_nothing_but_is_heard_is_taken_over_as_well() {
    let Some(scene) = Scene::begin("one-way loss") else {
        return;
    };
    let (fleet, victim) = (&scene.fleet, scene.victim);
    let driver = scene.load(&scene.others).await;
    for other in scene.others {
        fleet.net.deafen(victim, other);
    }
    eventually("it is taken over", || {
        let counts = fleet.counts(scene.others[0])?;
        let (_, slots, _) = counts
            .iter()
            .find(|(name, ..)| name == fleet.name(victim))?;
        (*slots == 0).then_some(())
    });
    driver.round().await;
    fleet.net.heal(victim);
    fleet.settled(&[0, 1, 2]);
    driver.stop().await.is_sound("deaf node");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_hears_all_and_is_not_heard_is_taken_over_and_answers_nothing_by_then() {
    let Some(scene) = Scene::begin("a mute node") else {
        return;
    };
    let (fleet, victim) = (&scene.fleet, scene.victim);
    let driver = scene.load(&[0, 1, 2]).await;
    for other in scene.others {
        fleet.net.deafen(other, victim);
    }
    let muted = Instant::now();
    driver.through(&scene.others);
    driver.round().await;
    let served = muted.elapsed();
    fleet.taken_over(victim, scene.others[0]);
    let refused = Door::new(fleet.socket(victim)).count("user-1").await;
    assert!(matches!(refused, Err(Failed::Status(14, _))), "{refused:?}");
    scene.others.iter().for_each(|other| fleet.net.heal(*other));
    fleet.settled(&[0, 1, 2]);
    driver.through(&[0, 1, 2]);
    driver.round().await;
    let what = format!("mute node: served after {served:?}");
    driver.stop().await.is_sound(&what);
    assert!(served < BAR, "{served:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_without_its_link_to_the_leader_keeps_its_lease_through_others_and_gives_its_slots_away()
 {
    let Some(scene) = Scene::begin("the link to the leader is cut") else {
        return;
    };
    let (fleet, victim, leader) = (&scene.fleet, scene.victim, scene.leader);
    let third = scene.others.into_iter().find(|node| *node != leader);
    let third = third.unwrap();
    // Through the one that reaches both.
    let driver = scene.load(&[third]).await;
    let owned = |node| {
        let counts = fleet.counts(third)?;
        let found = counts
            .into_iter()
            .find(|(name, ..)| name == fleet.name(node));
        found.map(|(_, slots, state)| (slots, state))
    };
    let before = owned(victim).unwrap();
    fleet.net.cut(victim, leader);
    let cut = Instant::now();
    // Longer than a lease, and shorter than what a leader bears.
    tokio::time::sleep(Duration::from_secs(3)).await;
    driver.round().await;
    assert_eq!(owned(victim).unwrap(), before);
    eventually("its slots go to others", || {
        let (slots, state) = owned(victim)?;
        assert_eq!(state, "up", "it lives");
        (slots == 0).then_some(())
    });
    let gone = cut.elapsed();
    let health = fleet.run(third, &["cluster", "health"]);
    let said = String::from_utf8(health.stdout).unwrap();
    let why = "reaches the leader only through others";
    assert!(said.contains(why), "{said}");
    // The leader gathers the matrix, and can't ask the one that it does not reach.
    assert_ne!(link(fleet, third, leader, victim).unwrap(), "up");
    assert_eq!(link(fleet, third, third, victim).unwrap(), "up");
    let unknown = row(fleet, third, victim).unwrap()["unknown"].clone();
    assert_ne!(unknown, "");
    driver.round().await;
    scene.fleet.net.heal(victim);
    scene.fleet.net.heal(leader);
    fleet.settled(&[0, 1, 2]);
    driver.round().await;
    let what = format!("link to the leader cut: without slots after {gone:?}");
    driver.stop().await.is_sound(&what);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_is_not_to_serve_alone_refuses_every_event_without_a_quorum() {
    let Some(_turn) = super::turn("a node that does not serve alone") else {
        return;
    };
    let spec = |name: String| {
        let plain = Spec::plain(&name);
        Spec {
            guard: format!("{}\nserve_stateless_isolated = false", plain.guard),
            ..plain
        }
    };
    // Of two one votes, and the other is alone without it.
    let fleet = Fleet::of(names(2).map(spec).collect());
    let echo = ["fire", "rpc", "--method", "echo", "--json"];
    let events = [&["fire", "connect", "--json"][..], &echo];
    for event in events {
        let answered = fleet.run(1, event);
        assert!(answered.status.success(), "{event:?}: {answered:?}");
    }
    fleet.net.isolate(1);
    for event in events {
        let refused = eventually("it is refused", || {
            let out = fleet.run(1, event);
            (out.status.code() == Some(1)).then_some(out)
        });
        let said = String::from_utf8(refused.stdout).unwrap();
        assert!(said.contains("\"status\":\"UNAVAILABLE\""), "{said}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_without_a_quorum_that_is_asked_to_end_does_not_wait_for_its_whole_grace() {
    let Some(_turn) = super::alone("a node without a quorum ends") else {
        return;
    };
    // Of two one votes, and the other is alone without it.
    let mut fleet = Fleet::plain(2);
    fleet.net.isolate(1);
    eventually("it has no quorum", || {
        let page = fleet.page(1, "/ready");
        page.contains(" 503 ").then_some(())
    });
    let asked = Instant::now();
    let (code, said) = fleet.stop_saying(1);
    let took = asked.elapsed();
    assert_eq!(code, Some(0), "{said:?}");
    let why = "no quorum is in reach, so the slots of this node can't be given away";
    assert!(said.iter().any(|line| line.contains(why)), "{said:#?}");
    // What `docker stop` waits.
    assert!(took < Duration::from_secs(10), "{took:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_link_cut_between_two_nodes_that_are_not_the_leader_costs_no_owner() {
    let Some(scene) = Scene::begin("one link is cut") else {
        return;
    };
    let scene = scene.at_the_leader();
    let [one, other] = scene.others;
    let between = owned_by(&scene.fleet, "room", other).replace("room:", "");
    let driver = scene.load(&[scene.leader]).await;
    scene.fleet.net.cut(one, other);
    let long = super::lasting(Duration::from_secs(3), Duration::from_secs(30));
    tokio::time::sleep(long).await;
    driver.round().await;
    // What goes between the two waits, up to its deadline; the matrix says why.
    let link = link(&scene.fleet, scene.leader, one, other).unwrap();
    assert_ne!(link, "up");
    let refused = scene.doors[one].count(&between).await;
    assert!(
        matches!(refused, Err(Failed::Status(4 | 14, _))),
        "{refused:?}"
    );
    scene.fleet.net.heal(one);
    scene.fleet.net.heal(other);
    driver.round().await;
    driver.stop().await.is_intact("one link cut");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn random_loss_of_a_tenth_of_all_packets_breaks_no_rule() {
    let Some(scene) = Scene::begin("random loss") else {
        return;
    };
    let fleet = &scene.fleet;
    let shares: &[u32] = if super::long() { &[1, 10, 30] } else { &[10] };
    for share in shares {
        let driver = scene.load(&[0, 1, 2]).await;
        fleet.net.lose(scene.victim, *share);
        let long = super::lasting(Duration::from_secs(4), Duration::from_secs(30));
        tokio::time::sleep(long).await;
        fleet.net.heal(scene.victim);
        fleet.settled(&[0, 1, 2]);
        driver.round().await;
        driver.stop().await.is_sound(&format!("{share} % loss"));
    }
}
