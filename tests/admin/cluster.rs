//! The commands `cluster …` against a node whose part in a cluster is scripted, and those that work
//! on a data directory.

use crate::process::{Ended, Running, run, stock};
use crate::scripted::{Member, no};
use crate::support::TestNode;
use centripeta::Router;
use centripeta_cluster::admin::{
    Ask, DrainView, DrainedView, Event, EventKind, EventsView, Health, MoveStep, MoveView,
    MovesView, Named, NodeView, PeerLink, PeerRow, PlannedMoves, Problem, RebalanceView, Refused,
    SlotView, Status, Told, Vote, VotersView, Where,
};
use centripeta_cluster::member::DataDir;
use centripeta_cluster::peer::{
    Handler, LinkConfig, LinkEvent, LinkState, Links, Remote, Request, Tcp,
};
use centripeta_cluster::{
    Incarnation, MoveId, MoveReason, NodeId, NodeState, OwnerEpoch, Roles, Serves, SlotId,
};
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

fn named(id: u32, name: &str) -> Named {
    Named {
        id: NodeId(id),
        name: name.to_owned(),
    }
}

fn slot_view(slot: u16) -> SlotView {
    SlotView {
        slot: SlotId::new(slot).unwrap(),
        owner: Some(named(1, "a")),
        epoch: OwnerEpoch(3),
        moving_to: None,
    }
}

fn node_view(id: u32, name: &str, state: NodeState, slots: usize) -> NodeView {
    NodeView {
        node: named(id, name),
        state,
        incarnation: Incarnation(2),
        addrs: vec!["127.0.0.1:7946".to_owned()],
        roles: Roles {
            voter: true,
            ingress: true,
            region: true,
        },
        serves: Serves {
            connect: true,
            channel: true,
            rpc: vec!["*".to_owned(), "chat.*".to_owned()],
        },
        vote: Vote::Voter,
        leads: id == 1,
        slots,
        arriving: 0,
        leaving: 0,
        build: "1.0.0".to_owned(),
        protocol: 1,
        routes_differ: false,
        held_back: None,
        cut_off: false,
        heard: Some(Duration::from_millis(90)),
    }
}

fn move_view(slot: u16) -> MoveView {
    MoveView {
        slot: SlotId::new(slot).unwrap(),
        id: MoveId(9),
        from: Some(named(1, "a")),
        to: named(3, "b"),
        reason: MoveReason::Admin,
        age: Some(Duration::from_millis(1500)),
        step: MoveStep::Preparing,
        stuck: false,
    }
}

/// A cluster in order.
fn calm(ask: &Ask) -> Told {
    match ask {
        Ask::Status => Told::Status(Status {
            cluster: "c1".to_owned(),
            recovery: 0,
            answered_by: named(3, "b"),
            leader: Some(named(1, "a")),
            term: 2,
            version: 40,
            voters: vec![named(1, "a")],
            learners: Vec::new(),
            voters_wanted: 1,
            nodes: vec![(NodeState::Up, 2)],
            slots_vacant: 0,
            moves_open: 0,
            moves_paused: false,
            lease: Duration::from_millis(1200),
            can_lose: 0,
            problems: 0,
        }),
        Ask::Health => Told::Health(Health {
            can_lose: 1,
            voters: 3,
            problems: vec![Problem {
                what: "moves are paused".to_owned(),
                cure: "`cluster resume-moves`".to_owned(),
                failing: false,
            }],
        }),
        Ask::Nodes => Told::Nodes(vec![node_view(1, "a", NodeState::Up, 4096)]),
        Ask::Peers => Told::Peers(vec![PeerRow {
            from: named(1, "a"),
            links: vec![PeerLink {
                to: named(3, "b"),
                control: LinkState::Silent,
                data: LinkState::Idle,
            }],
            unknown: None,
        }]),
        Ask::Slots(_) => Told::Slots(vec![slot_view(7), slot_view(8)]),
        Ask::Locate(_) => Told::Locate(Where {
            tag: "42".to_owned(),
            slot: slot_view(7),
        }),
        Ask::Moves => Told::Moves(MovesView {
            open: vec![move_view(7)],
            waits: vec!["the leader is younger than 3 s".to_owned()],
            paused: false,
        }),
        Ask::Events(after) => Told::Events(EventsView {
            node: named(1, "a"),
            incarnation: Incarnation(1),
            events: (after + 1..=2).map(event).collect(),
            latest: 2,
        }),
        Ask::Drain(..) => Told::Drain(DrainView {
            node: named(3, "b"),
            slots: 341,
            forced: vec!["b (3) is the last node that serves connect".to_owned()],
        }),
        Ask::Undrain(_) | Ask::Remove(_) => Told::Node(named(3, "b")),
        Ask::MoveSlot(slot, _) => Told::Move(move_view(*slot)),
        Ask::Rebalance(plan, _) => Told::Rebalance(RebalanceView {
            moves: vec![PlannedMoves {
                from: Some(named(1, "a")),
                to: named(3, "b"),
                slots: 12,
            }],
            waits: Vec::new(),
            begun: !plan,
        }),
        Ask::PauseMoves | Ask::ResumeMoves => Told::Paused(false),
        Ask::Voters(wanted) => Told::Voters(VotersView {
            wanted: wanted.unwrap_or(3),
            voters: vec![named(1, "a")],
            learners: Vec::new(),
            candidates: vec![named(3, "b")],
            missing: 1,
        }),
        Ask::Drained(_) => Told::Drained(DrainedView {
            node: named(3, "b"),
            ended: centripeta_cluster::Ended {
                streams: 12,
                cut: 1,
            },
        }),
        Ask::Ended => Told::Ended(centripeta_cluster::Ended::default()),
        Ask::Steps => Told::Steps(Vec::new()),
        Ask::Links => no("not asked here", ""),
    }
}

fn event(number: u64) -> Event {
    Event {
        number,
        at: Duration::from_secs(number),
        version: number,
        kind: EventKind::Node,
        what: format!("change {number}"),
        why: "because".to_owned(),
    }
}

/// Runs `cluster …` against an admin listener.
async fn cluster(admin: SocketAddr, args: &[&str]) -> Ended {
    let set = format!("listen.admin={admin}");
    let args: Vec<String> = [&["cluster"][..], args, &["--set", &set]]
        .concat()
        .iter()
        .map(|arg| (*arg).to_owned())
        .collect();
    let ran = tokio::task::spawn_blocking(move || {
        let dir = tempfile::tempdir().unwrap();
        run(stock(dir.path(), args))
    });
    ran.await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_question_is_answered_in_words_and_as_json() {
    let member = Member::start(calm).await;
    let shown: &[(&[&str], &str, &str, Value)] = &[
        (
            &["status"],
            "leader    a (1), term 2",
            "/leader/name",
            json!("a"),
        ),
        (
            &["health"],
            "healthy: can lose 1 of 3 voters",
            "/healthy",
            json!(true),
        ),
        (
            &["nodes"],
            "connect,rpc,rpc:chat.*,channel",
            "/nodes/0/heard_ms",
            json!(90),
        ),
        (
            &["peers"],
            "silent",
            "/rows/0/links/0/control",
            json!("silent"),
        ),
        (&["slots"], "a (1)  2      0", "/slots/1/slot", json!(8)),
        (&["slots", "--node", "a"], "7-8", "/slots/0/epoch", json!(3)),
        (
            &["where", "room:{42}"],
            "7 by its part `42`",
            "/slot/owner/id",
            json!(1),
        ),
        (
            &["moves"],
            "its target to be ready",
            "/open/0/age_ms",
            json!(1500),
        ),
        (
            &["events"],
            "change 2 (because)",
            "/events/1/number",
            json!(2),
        ),
        (
            &["drain", "b"],
            "b (3) drains: 341 slots",
            "/slots",
            json!(341),
        ),
        (
            &["undrain", "b"],
            "b (3) may take slots again",
            "/node/id",
            json!(3),
        ),
        (
            &["move", "12", "--to", "b"],
            "slot 12 begins to move from a (1) to b (3)",
            "/move/slot",
            json!(12),
        ),
        (
            &["move", "42", "--to", "b", "--channel"],
            "slot 7 begins to move",
            "/move/slot",
            json!(7),
        ),
        (
            &["move", "room:1", "--to", "b"],
            "slot 7 begins to move",
            "/move/waits_for",
            json!("its target to be ready"),
        ),
        (
            &["rebalance", "--plan"],
            "these would move",
            "/begun",
            json!(false),
        ),
        (
            &["rebalance"],
            "these move now",
            "/moves/0/slots",
            json!(12),
        ),
        (
            &["pause-moves"],
            "moves are paused",
            "/before",
            json!(false),
        ),
        (
            &["resume-moves"],
            "moves were not paused",
            "/before",
            json!(false),
        ),
        (&["voters"], "start 1 more", "/missing", json!(1)),
        (&["voters", "5"], "wanted      5", "/wanted", json!(5)),
        (
            &["remove", "b"],
            "b (3) is removed for good",
            "/node/name",
            json!("b"),
        ),
    ];
    for (args, words, pointer, value) in shown {
        let told = cluster(member.admin, args).await;
        assert_eq!(told.code, 0, "{args:?} {told:?}");
        assert!(told.out.contains(words), "{args:?} {told:?}");
        let told = cluster(member.admin, &[args, &["--json"][..]].concat()).await;
        assert_eq!((told.code, told.err.as_str()), (0, ""), "{args:?} {told:?}");
        assert_eq!(
            told.json().pointer(pointer),
            Some(value),
            "{args:?} {told:?}"
        );
    }
    let asked = member.asked();
    for expected in [
        Ask::Slots(None),
        Ask::Slots(Some("a".to_owned())),
        Ask::Locate(b"room:{42}".to_vec()),
        Ask::Locate(b"42".to_vec()),
        Ask::Drain("b".to_owned(), false),
        Ask::MoveSlot(7, "b".to_owned()),
        Ask::Rebalance(true, false),
        Ask::Voters(None),
        Ask::Voters(Some(5)),
    ] {
        assert!(asked.contains(&expected), "{expected:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unhealthy_cluster_ends_with_1_and_names_each_cure() {
    let member = Member::start(|_| {
        Told::Health(Health {
            can_lose: 0,
            voters: 3,
            problems: vec![Problem {
                what: "b (3) is dead".to_owned(),
                cure: "start it again".to_owned(),
                failing: true,
            }],
        })
    })
    .await;
    let told = cluster(member.admin, &["health"]).await;
    assert_eq!(told.code, 1, "{told:?}");
    let expected =
        "unhealthy: can lose 0 of 3 voters\nfailing  b (3) is dead\n   cure  start it again\n";
    assert_eq!((told.out.as_str(), told.err.as_str()), (expected, ""));
    let told = cluster(member.admin, &["health", "--json"]).await;
    assert_eq!((told.code, &told.json()["healthy"]), (1, &json!(false)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_says_why_and_what_to_do_and_ends_with_1() {
    let member = Member::start(|ask| match ask {
        Ask::Drain(..) => no("the quorum would go", "say --force"),
        _ => Told::Refused(Refused::Unavailable("no leader in reach".to_owned())),
    })
    .await;
    let told = cluster(member.admin, &["drain", "a"]).await;
    assert_eq!(told.code, 1);
    let expected = "error: cluster drain: the quorum would go\nhelp: say --force\n";
    assert_eq!((told.out.as_str(), told.err.as_str()), ("", expected));
    let told = cluster(member.admin, &["drain", "a", "--json"]).await;
    let problem = json!({ "what": "cluster drain: the quorum would go", "help": "say --force" });
    assert_eq!(
        (told.code, told.json()),
        (1, json!({ "problems": [problem] }))
    );
    let told = cluster(member.admin, &["pause-moves"]).await;
    assert_eq!(told.code, 1, "{told:?}");
    assert!(
        told.err
            .contains("cluster pause-moves: no leader in reach\nhelp: see `cluster health`")
    );
    let told = cluster(member.admin, &["drain", "b", "--force"]).await;
    assert_eq!(told.code, 1);
    assert_eq!(
        member.asked().last(),
        Some(&Ask::Drain("b".to_owned(), true))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn drain_waits_until_the_node_owns_no_slot() {
    let looks = AtomicUsize::new(0);
    let member = Member::start(move |ask| match ask {
        // It is not said for a moment, as while another leader is elected.
        Ask::Nodes => match looks.fetch_add(1, Ordering::Relaxed) {
            0 => Told::Nodes(vec![node_view(3, "b", NodeState::Draining, 2)]),
            1 => Told::Refused(Refused::Unavailable("no leader in reach".to_owned())),
            _ => Told::Nodes(vec![node_view(3, "b", NodeState::Draining, 0)]),
        },
        ask => calm(ask),
    })
    .await;
    let told = cluster(member.admin, &["drain", "b", "--wait"]).await;
    assert_eq!(told.code, 0, "{told:?}");
    assert!(
        told.out.contains("forced, though b (3) is the last node"),
        "{told:?}"
    );
    assert!(
        told.out.ends_with(
            "it owns no slot any more; 12 streams were ended, their clients open them anew; 1 event \
             was cut, since it ran for longer than moves.release_timeout\n"
        ),
        "{told:?}"
    );
    assert_eq!(told.err, "2 slots left\n");
    let told = cluster(member.admin, &["drain", "b", "--wait", "--json"]).await;
    assert_eq!(
        (told.code, &told.json()["slots"]),
        (0, &json!(0)),
        "{told:?}"
    );
    assert_eq!(told.json()["streams_ended"], 12);
    assert_eq!(told.json()["events_cut"], 1);
    // One that has ended meanwhile says nothing any more.
    let gone = Member::start(|ask| match ask {
        Ask::Nodes => Told::Nodes(vec![node_view(3, "b", NodeState::Draining, 0)]),
        Ask::Drained(_) => {
            Told::Refused(Refused::Unavailable("b (3): the peer is gone".to_owned()))
        }
        ask => calm(ask),
    })
    .await;
    let told = cluster(gone.admin, &["drain", "b", "--wait"]).await;
    assert_eq!(told.code, 0, "{told:?}");
    assert!(told.out.contains("does not say what was ended"), "{told:?}");
    let told = cluster(gone.admin, &["drain", "b", "--wait", "--json"]).await;
    assert!(told.json()["streams_ended"].is_null(), "{told:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drain_that_does_not_end_is_given_up_on_but_goes_on() {
    let state = |state| {
        move |ask: &Ask| match ask {
            Ask::Nodes => Told::Nodes(vec![node_view(3, "b", state, 5)]),
            ask => calm(ask),
        }
    };
    let member = Member::start(state(NodeState::Draining)).await;
    let told = cluster(member.admin, &["drain", "b", "--wait", "--timeout", "1ms"]).await;
    assert_eq!(told.code, 1, "{told:?}");
    assert!(told.err.contains("5 slots left after"), "{told:?}");
    assert!(
        told.err.contains("`cluster undrain` takes it back"),
        "{told:?}"
    );
    for (is, words) in [
        (NodeState::Dead, "b (3) died meanwhile"),
        (NodeState::Up, "b (3) is up and drains no more"),
    ] {
        let member = Member::start(state(is)).await;
        let told = cluster(member.admin, &["drain", "b", "--wait"]).await;
        assert_eq!(told.code, 1, "{told:?}");
        assert!(told.err.contains(words), "{told:?}");
    }
    let told = cluster(member.admin, &["drain", "b", "--timeout", "1s"]).await;
    assert_eq!(told.code, 2, "a limit of nothing: {told:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn events_are_followed_across_a_silence_and_a_change_of_the_node_that_tells_them() {
    let asked = AtomicUsize::new(0);
    let member = Member::start(move |ask| {
        let Ask::Events(after) = ask else {
            return calm(ask);
        };
        let before = asked.fetch_add(1, Ordering::Relaxed);
        if before == 1 {
            return Told::Refused(Refused::Unavailable("this node starts".to_owned()));
        }
        // The second leader has seen the same changes under other numbers, and one more.
        let second = before > 1;
        let seen = if second { 3 } else { 2 };
        let events = (1..=seen).map(|at| Event {
            number: if second { at + 100 } else { at },
            ..event(at)
        });
        Told::Events(EventsView {
            node: if second { named(3, "b") } else { named(1, "a") },
            incarnation: Incarnation(1),
            events: events.filter(|event| event.number > *after).collect(),
            latest: if second { 103 } else { 2 },
        })
    })
    .await;
    let set = format!("listen.admin={}", member.admin);
    let followed = tokio::task::spawn_blocking(move || {
        let dir = tempfile::tempdir().unwrap();
        let args = ["cluster", "events", "-f", "--set", &set];
        let running = Running::start(stock(dir.path(), args));
        running.says("change 3");
        running.said()
    });
    let said = followed.await.unwrap();
    let changes: Vec<_> = said
        .iter()
        .filter_map(|line| line.split_once("  node            "))
        .map(|(_, what)| what)
        .collect();
    assert_eq!(
        changes,
        [
            "change 1 (because)",
            "change 2 (because)",
            "change 3 (because)"
        ]
    );
    let silences = said.iter().filter(|line| line.contains("no answer"));
    assert_eq!(silences.count(), 1, "{said:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drain_that_gets_no_further_says_once_what_it_waits_for() {
    let member = Member::start(|ask| match ask {
        Ask::Nodes => Told::Nodes(vec![node_view(3, "b", NodeState::Draining, 5)]),
        Ask::Moves => Told::Moves(MovesView {
            open: Vec::new(),
            waits: vec!["no node may take them".to_owned()],
            paused: false,
        }),
        ask => calm(ask),
    })
    .await;
    let args = ["drain", "b", "--force", "--wait", "--timeout", "12s"];
    let told = cluster(member.admin, &args).await;
    assert_eq!(told.code, 1, "{told:?}");
    let waits =
        "5 slots have not gone for 10 s:\nno move is open\nheld back: no node may take them";
    assert_eq!(told.err.matches(waits).count(), 1, "{told:?}");
    assert_eq!(told.err.matches("5 slots left\n").count(), 1, "{told:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_alone_tells_of_itself_and_refuses_the_rest() {
    let node =
        TestNode::start_with(Router::new(), |config| config.node.name = "solo".to_owned()).await;
    let admin = node.0.addresses().admin;
    let told = cluster(admin, &["status"]).await;
    assert_eq!(
        (told.code, told.out.as_str()),
        (0, "solo runs alone and owns every slot\n")
    );
    let told = cluster(admin, &["where", "chat:1"]).await;
    assert!(
        told.code == 0 && told.out.contains("owner    solo since epoch 1"),
        "{told:?}"
    );
    let told = cluster(admin, &["slots"]).await;
    assert_eq!(told.out, "OWNER  SLOTS  LEAVING\nsolo   4096   0\n");
    assert_eq!(cluster(admin, &["slots", "--node", "solo"]).await.code, 0);
    for args in [
        &["health"][..],
        &["nodes"],
        &["peers"],
        &["moves"],
        &["events"],
        &["drain", "solo"],
        &["undrain", "solo"],
        &["move", "1", "--to", "solo"],
        &["rebalance"],
        &["pause-moves"],
        &["resume-moves"],
        &["voters"],
        &["remove", "solo"],
    ] {
        let told = cluster(admin, args).await;
        assert_eq!(told.code, 1, "{args:?} {told:?}");
        let what = format!(
            "error: cluster {}: this node runs alone\nhelp: for a cluster",
            args[0]
        );
        assert!(told.err.starts_with(&what), "{args:?} {told:?}");
    }
    let told = cluster(admin, &["slots", "--node", "b"]).await;
    assert!(
        told.code == 1 && told.err.contains("there is no node \"b\""),
        "{told:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_that_has_not_joined_yet_and_no_node_at_all_are_told_apart() {
    let clustered = centripeta::config::fuzz_load(b"[cluster]\nlisten = \"127.0.0.1:0\"\n")
        .unwrap()
        .config
        .cluster;
    let home = tempfile::tempdir().unwrap();
    let node = TestNode::start_with(Router::new(), |config| {
        config.cluster = clustered;
        config.node.data = home.path().join("data");
    })
    .await;
    let admin = node.0.addresses().admin;
    for (args, why) in [
        (&["status"][..], "has not joined yet"),
        (&["where", "x"], "has not joined yet"),
        (&["drain", "a"], "no leader is in reach"),
    ] {
        let told = cluster(admin, args).await;
        assert_eq!(told.code, 1, "{told:?}");
        assert!(told.err.contains(why), "{told:?}");
    }
    let told = cluster(SocketAddr::from(([127, 0, 0, 1], 1)), &["status"]).await;
    assert_eq!(told.code, 4, "{told:?}");
    let told = cluster(SocketAddr::from(([127, 0, 0, 1], 1)), &["status", "--json"]).await;
    assert_eq!(told.code, 4, "{told:?}");
    assert!(
        told.json()["problems"][0]["help"]
            .as_str()
            .unwrap()
            .contains("start the node")
    );
}

/// Runs `cluster …` on a data directory.
fn offline(dir: &Path, toml: &str, args: &[&str]) -> Ended {
    std::fs::write(dir.join("node.toml"), toml).unwrap();
    run(stock(dir, [&["cluster"][..], args].concat()))
}

const MEMBER: &str = "[node]\nname = \"a\"\n[cluster]\nvoters = 1\n";

#[test]
fn init_founds_once_and_says_so_ever_after_even_while_the_node_runs() {
    let dir = tempfile::tempdir().unwrap();
    let told = offline(dir.path(), MEMBER, &["init"]);
    assert_eq!(told.code, 0, "{told:?}");
    assert!(told.out.contains("a is its first node, id 1"), "{told:?}");
    let again = offline(dir.path(), MEMBER, &["init"]);
    assert_eq!(again.code, 0, "{again:?}");
    assert!(again.out.contains("is node 1 of cluster"), "{again:?}");
    let data = dir.path().join("data");
    let running = DataDir::open(&data).unwrap();
    let known = running.known().unwrap();
    let third = offline(dir.path(), MEMBER, &["init", "--json"]);
    assert_eq!(third.code, 0, "{third:?}");
    let cluster = format!("{:032x}", known.cluster.0);
    assert_eq!(
        third.json(),
        json!({ "founded": false, "cluster": cluster, "node": 1 })
    );
}

#[test]
fn init_refuses_what_cannot_found() {
    let dir = tempfile::tempdir().unwrap();
    let told = offline(dir.path(), "[node]\nname = \"a\"\n", &["init"]);
    assert_eq!(told.code, 3, "{told:?}");
    assert!(told.err.contains("has no [cluster]"), "{told:?}");
    let told = offline(
        dir.path(),
        "[node]\nroles = [\"region\"]\n[cluster]\n",
        &["init"],
    );
    assert_eq!(told.code, 3, "{told:?}");
    assert!(
        told.err.contains("who founds a cluster votes in it"),
        "{told:?}"
    );
    assert!(!dir.path().join("data").exists());
    std::fs::write(dir.path().join("data"), "no folder").unwrap();
    let told = offline(dir.path(), MEMBER, &["init"]);
    assert_eq!(told.code, 1, "{told:?}");
}

#[test]
fn a_damaged_identity_refuses_the_start_with_one_line_and_the_cure_and_stays_as_it_is() {
    let dir = tempfile::tempdir().unwrap();
    let told = offline(dir.path(), MEMBER, &["init"]);
    assert_eq!(told.code, 0, "{told:?}");
    let path = dir.path().join("data").join("identity");
    let whole = std::fs::read(&path).unwrap();
    let mut flipped = whole.clone();
    *flipped.last_mut().unwrap() ^= 1;
    let free =
        ["listen.grpc", "listen.admin", "cluster.listen"].map(|key| format!("{key}=127.0.0.1:0"));
    let mut args = vec!["serve".to_owned()];
    args.extend(free.into_iter().flat_map(|set| ["--set".to_owned(), set]));
    for (bytes, why) in [
        (&b""[..], "is no identity of a node, or is damaged"),
        (&b"\0\0\0\0"[..], "is no identity of a node, or is damaged"),
        (&whole[..whole.len() - 3], "is damaged"),
        (&flipped[..], "is damaged"),
    ] {
        std::fs::write(&path, bytes).unwrap();
        let told = run(stock(dir.path(), &args));
        assert_eq!(told.code, 1, "{told:?}");
        let lines = |begin: &str| {
            let of = told.err.lines().filter(|line| line.starts_with(begin));
            of.map(str::to_owned).collect::<Vec<_>>()
        };
        let (errors, helps) = (lines("error: "), lines("help: "));
        assert!(errors.len() == 1 && helps.len() == 1, "{told:?}");
        assert!(
            errors[0].contains("data/identity: ") && errors[0].contains(why),
            "{told:?}"
        );
        assert!(
            helps[0].contains("start the node on an empty one"),
            "{told:?}"
        );
        assert_eq!(
            std::fs::read(&path).unwrap(),
            bytes,
            "nothing is mended by force"
        );
    }
}

struct Deaf;

impl Handler for Deaf {
    fn request(&self, _: &Remote, _: Request) {}
    fn cast(&self, _: &Remote, _: u8, _: bytes::Bytes) {}
    fn event(&self, _: LinkEvent) {}
}

#[tokio::test(flavor = "multi_thread")]
async fn init_founds_nothing_beside_a_cluster_that_a_seed_belongs_to() {
    let dir = tempfile::tempdir().unwrap();
    // The first node of a cluster answers at an address.
    let there = dir.path().join("there");
    let founding = centripeta_cluster::member::Founding::new("b", vec!["127.0.0.1:1".to_owned()]);
    centripeta_cluster::member::init(&there, &founding).unwrap();
    let identity = DataDir::open(&there).unwrap().greeting("b");
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let seed = listener.local_addr().unwrap();
    let config = LinkConfig::default();
    let links = Links::start(
        config,
        identity,
        Arc::new(Tcp::new(listener)),
        Arc::new(Deaf),
    );
    let links = links.unwrap();
    let toml = format!("{MEMBER}seeds = [\"127.0.0.1:1\", \"{seed}\"]\n");
    let here = dir.path().to_owned();
    let told = tokio::task::spawn_blocking(move || offline(&here, &toml, &["init"]));
    let told = told.await.unwrap();
    assert_eq!(told.code, 1, "{told:?}");
    assert!(told.err.contains("answers as b (1) of cluster"), "{told:?}");
    assert!(
        told.err.contains("start this node with `serve`"),
        "{told:?}"
    );
    assert!(!dir.path().join("data").exists());
    drop(links);
}

#[test]
fn recover_says_how_far_the_log_goes_and_acts_with_yes_only() {
    let dir = tempfile::tempdir().unwrap();
    let told = offline(dir.path(), MEMBER, &["recover", "--yes"]);
    assert_eq!(told.code, 1, "no directory: {told:?}");
    assert_eq!(offline(dir.path(), MEMBER, &["init"]).code, 0);
    let told = offline(dir.path(), MEMBER, &["recover"]);
    assert_eq!(told.code, 1, "{told:?}");
    assert!(
        told.out.contains("\nnode      1\nrecovery  0\nlog       "),
        "{told:?}"
    );
    assert!(told.err.contains("--yes was not given"), "{told:?}");
    assert!(
        told.out.ends_with("voters    none yet: it has never run\n"),
        "{told:?}"
    );
    let told = offline(dir.path(), MEMBER, &["recover", "--yes", "--json"]);
    assert_eq!(told.code, 1, "it has nothing to recover: {told:?}");
    let what = told.json()["problems"][0]["what"]
        .as_str()
        .unwrap()
        .to_owned();
    assert!(what.contains("the log of node 1 is empty"), "{what}");
    let data = DataDir::open(&dir.path().join("data")).unwrap();
    let told = offline(dir.path(), MEMBER, &["recover", "--yes"]);
    assert_eq!(told.code, 1, "{told:?}");
    assert!(told.err.contains("in use by another process"), "{told:?}");
    drop(data);
}
