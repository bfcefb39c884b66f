//! Answers in words.

use super::act::{rebalance_text, voters_text};
use super::show::*;
use super::table::{ranges, table};
use crate::proto::admin::*;

fn node(id: u32, name: &str) -> Named {
    Named {
        id,
        name: name.to_owned(),
    }
}

fn link(to: Named, control: &str, data: &str) -> PeerLink {
    PeerLink {
        to: Some(to),
        control: control.to_owned(),
        data: data.to_owned(),
    }
}

#[test]
fn columns_are_as_wide_as_their_widest_cell() {
    let rows = vec![
        vec!["a".to_owned(), "é1".to_owned()],
        vec!["long".to_owned(), String::new()],
    ];
    assert_eq!(table(&["X", "Y"], &rows), "X     Y\na     é1\nlong");
    assert_eq!(ranges(&[1, 2, 3, 7, 9, 10]), "1-3 7 9-10");
    assert_eq!(ranges(&[]), "");
}

#[test]
fn the_matrix_of_peers_shows_one_way_faults_and_who_did_not_say() {
    let (a, b) = (node(1, "a"), node(3, "b"));
    let rows = [
        PeerRow {
            from: Some(a.clone()),
            links: vec![
                link(b.clone(), "up", "down"),
                link(node(5, "c"), "up", "idle"),
            ],
            unknown: String::new(),
        },
        PeerRow {
            from: Some(b),
            links: vec![link(a, "silent", "up")],
            unknown: String::new(),
        },
        PeerRow {
            from: Some(node(5, "c")),
            links: Vec::new(),
            unknown: "no answer within 2 s".to_owned(),
        },
    ];
    let expected = "\
FROM \\ TO  a (1)   b (3)          c (5)
a (1)      -       up, data down  up
b (3)      silent  -              ?
c (5)      ?       ?              -
c (5): no answer within 2 s";
    assert_eq!(peers_text(&rows), expected);
}

#[test]
fn nodes_show_what_moves_and_what_is_to_be_noted() {
    let busy = ClusterNode {
        node: Some(node(1, "a")),
        state: "up".to_owned(),
        vote: "voter".to_owned(),
        leads: true,
        slots: 1366,
        arriving: 2,
        leaving: 3,
        roles: vec!["voter".to_owned(), "region".to_owned()],
        serves: vec!["rpc:chat.*".to_owned(), "channel".to_owned()],
        heard_ms: Some(120),
        build: "1.0.0".to_owned(),
        addrs: vec!["10.0.0.1:7946".to_owned()],
        held_back: "degraded".to_owned(),
        cut_off: true,
        routes_differ: true,
        ..ClusterNode::default()
    };
    let text = nodes_text(&[busy]);
    let line = text.lines().nth(1).unwrap_or_default();
    let expected = "a (1)  up     leader  1366 +2 -3  voter,region  rpc:chat.*,channel  120 ms  \
                    1.0.0  10.0.0.1:7946  degraded, cut off, other routes";
    assert_eq!(line, expected);
}

#[test]
fn moves_that_are_alike_are_one_line_with_the_oldest_age() {
    let open = |slot, age_ms, stuck| Move {
        slot,
        from: Some(node(1, "a")),
        to: Some(node(3, "b")),
        reason: "drain".to_owned(),
        age_ms,
        waits_for: "started events to finish".to_owned(),
        stuck,
        ..Move::default()
    };
    let moves = ListMovesResponse {
        open: vec![
            open(1, Some(400), false),
            open(2, Some(2500), false),
            open(3, Some(125_000), true),
        ],
        waits: vec!["b (3) is joining, waited for 10 s at most".to_owned()],
        paused: true,
    };
    let expected = "\
SLOTS  FROM   TO     WHY    OLDEST  WAITS FOR
2      a (1)  b (3)  drain  2 s     started events to finish
1      a (1)  b (3)  drain  2 min   STUCK: started events to finish
held back: moves are paused: resume-moves
held back: b (3) is joining, waited for 10 s at most";
    assert_eq!(moves_text(&moves), expected);
    assert_eq!(moves_text(&ListMovesResponse::default()), "no move is open");
}

#[test]
fn slots_are_counted_by_owner_and_told_one_by_one_for_a_node() {
    let slot = |slot, owner, moving_to| Slot {
        slot,
        owner,
        epoch: 1,
        moving_to,
    };
    let slots = [
        slot(0, Some(node(3, "b")), None),
        slot(1, Some(node(1, "a")), Some(node(3, "b"))),
        slot(2, Some(node(1, "a")), None),
        slot(3, None, None),
    ];
    let expected = "OWNER   SLOTS  LEAVING\na (1)   2      1\nb (3)   1      0\nnobody  1      0";
    assert_eq!(slots_text(&slots, false), expected);
    assert!(slots_text(&slots[1..3], true).ends_with("\n1-2"));
}

#[test]
fn where_a_channel_is_names_the_part_that_decides_and_a_vacant_slot() {
    let mut slot = Slot {
        slot: 7,
        owner: Some(node(1, "a")),
        epoch: 4,
        moving_to: Some(node(3, "b")),
    };
    let text = where_text("room:{42}", "42", &slot);
    let expected = "channel  room:{42}\nslot     7 by its part `42`\nowner    a (1) since epoch 4\n\
                    moving   to b (3)";
    assert_eq!(text, expected);
    (slot.owner, slot.moving_to) = (None, None);
    assert!(where_text("x", "x", &slot).contains("owner    nobody: its events wait for one"));
    slot.owner = Some(node(0, "alone"));
    assert!(where_text("x", "x", &slot).contains("owner    alone since"));
}

#[test]
fn health_voters_rebalance_and_events_are_told_in_words() {
    let health = ClusterHealth {
        healthy: false,
        can_lose: 0,
        voters: 3,
        problems: vec![ClusterProblem {
            what: "b (3) is dead".to_owned(),
            cure: "start it again".to_owned(),
            failing: true,
        }],
    };
    let expected =
        "unhealthy: can lose 0 of 3 voters\nfailing  b (3) is dead\n   cure  start it again";
    assert_eq!(health_text(&health), expected);
    let voters = SetVotersResponse {
        wanted: 3,
        voters: vec![node(1, "a")],
        missing: 2,
        ..SetVotersResponse::default()
    };
    let expected = "wanted      3\nvoters      a (1)\nlearners    none\ncandidates  none\n\
                    missing     start 2 more nodes of role voter";
    assert_eq!(voters_text(&voters), expected);
    let mut plan = RebalanceResponse {
        moves: vec![PlannedMoves {
            from: Some(node(1, "a")),
            to: Some(node(3, "b")),
            slots: 5,
        }],
        ..RebalanceResponse::default()
    };
    assert!(rebalance_text(&plan).starts_with("these would move:\n"));
    plan.begun = true;
    assert!(rebalance_text(&plan).starts_with("these move now:\n"));
    assert_eq!(
        rebalance_text(&RebalanceResponse::default()),
        "no slot has to move"
    );
    let paused = RebalanceResponse {
        waits: vec!["moves are paused: resume-moves".to_owned()],
        ..RebalanceResponse::default()
    };
    assert_eq!(
        rebalance_text(&paused),
        "no slot moves now\nheld back: moves are paused: resume-moves"
    );
    let event = ClusterEvent {
        at_ms: 1_700_000_000_123,
        kind: "node".to_owned(),
        what: "b (3) is dead".to_owned(),
        why: "its lease is over".to_owned(),
        ..ClusterEvent::default()
    };
    let expected = "2023-11-14T22:13:20.123Z  node            b (3) is dead (its lease is over)";
    assert_eq!(event_text(&event), expected);
}

#[test]
fn the_status_says_who_leads_or_that_nobody_is_known_to() {
    let mut status = ClusterStatus {
        cluster: "c1".to_owned(),
        answered_by: Some(node(3, "b")),
        leader: Some(node(1, "a")),
        term: 4,
        voters: vec![node(1, "a")],
        voters_wanted: 3,
        learners: vec![node(3, "b")],
        nodes: vec![NodeCount {
            state: "up".to_owned(),
            count: 2,
        }],
        moves_open: 1,
        moves_paused: true,
        slots_vacant: 9,
        ..ClusterStatus::default()
    };
    let text = status_text(&status);
    for line in [
        "leader    a (1), term 4",
        "nodes     2 up",
        "voters    a (1); 3 wanted, 0 can be lost",
        "learners  b (3)",
        "slots     9 have no owner",
        "moves     1 open, paused",
        "problems  none",
    ] {
        assert!(
            text.lines().any(|it| it == line),
            "{line} is not in\n{text}"
        );
    }
    status.leader = None;
    assert!(status_text(&status).contains("nobody is known to lead, term 4"));
}
