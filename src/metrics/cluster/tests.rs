//! Every number of the cluster's part of the page, from a status, a table and counts that are known.

#![allow(clippy::unwrap_used, clippy::field_reassign_with_default)]

use super::*;
use crate::forward::{BOUNCES, Counts as Forwarded};
use crate::metrics::scrape::forwarding;
use centripeta_cluster::lease::Reading;
use centripeta_cluster::{
    BootId, ClusterId, ClusterInfo, Command, DataId, Entry, Grant, Incarnation, LeaderId, LogId,
    MoveStart, NodeChange, NodeId, Outcome, OwnerEpoch, Registration, Roles, Serves, Settings,
    raft,
};
use std::collections::BTreeSet;
use std::time::Duration;

/// The samples of a page by their series.
fn samples(page: Page) -> BTreeMap<String, f64> {
    let text = page.into_text();
    let samples = text.lines().filter(|line| !line.starts_with('#'));
    let split = samples.map(|line| line.rsplit_once(' ').unwrap());
    split
        .map(|(series, value)| (series.to_owned(), value.parse().unwrap()))
        .collect()
}

/// A table that a log has made.
struct Log {
    table: Table,
    index: u64,
}

const LEADER: LeaderId = LeaderId {
    term: 4,
    node: NodeId(1),
};

impl Log {
    fn commit(&mut self, command: &Command) -> Outcome {
        self.index += 1;
        let log = LogId {
            leader: LEADER,
            index: self.index,
        };
        let voters = &BTreeSet::new();
        let entry = Entry {
            log,
            voters,
            command,
        };
        self.table.apply(entry).outcome
    }

    fn join(&mut self, name: &str, state: NodeState) -> Member {
        let boot = BootId(u128::from(self.index));
        let node = Registration {
            name: name.to_owned(),
            data: DataId(u128::from(self.index)),
            incarnation: Incarnation(1),
            boot,
            addrs: vec![format!("{name}:1")],
            roles: Roles {
                voter: true,
                ingress: true,
                region: true,
            },
            serves: Serves {
                connect: true,
                channel: true,
                rpc: Vec::new(),
            },
            protocol: 1,
            build: "1".to_owned(),
            routes_hash: 1,
        };
        let outcome = self.commit(&Command::Register {
            node,
            leader: LEADER,
            grants: Vec::new(),
        });
        let Outcome::Registered(member) = outcome else {
            panic!("{outcome:?}")
        };
        for change in [NodeState::Up, state].map(NodeChange::State) {
            self.commit(&Command::SetNode {
                member,
                boot,
                change,
            });
        }
        member
    }

    fn give(&mut self, slots: std::ops::Range<u16>, to: Member) {
        let grants = slots.map(|slot| Grant {
            slot: SlotId::new(slot).unwrap(),
            expect_epoch: OwnerEpoch(0),
            to,
        });
        let grants = grants.collect();
        self.commit(&Command::Assign { grants });
    }

    fn begin(&mut self, slots: std::ops::Range<u16>, to: Member, reason: MoveReason) {
        let starts = slots.map(|slot| MoveStart {
            slot: SlotId::new(slot).unwrap(),
            expect_epoch: OwnerEpoch::FIRST,
            to,
        });
        let moves = starts.collect();
        self.commit(&Command::BeginMoves { moves, reason });
    }
}

/// Two nodes that are up, one that drains, one that is dead; ten, five, one and three slots, of which
/// seven move.
fn table() -> (Table, Member) {
    let mut log = Log {
        table: Table::new(ClusterInfo::new(ClusterId(7)), Settings::default()),
        index: 0,
    };
    let [a, b] = ["a", "b"].map(|name| log.join(name, NodeState::Up));
    let dead = log.join("d", NodeState::Up);
    log.give(0..10, a);
    log.give(10..15, b);
    log.give(15..18, dead);
    log.commit(&Command::DeclareDead {
        member: dead,
        why: "test".to_owned(),
        leader: LEADER,
        grants: Vec::new(),
    });
    log.join("c", NodeState::Draining);
    log.begin(0..1, b, MoveReason::Drain);
    log.begin(1..3, b, MoveReason::Rebalance);
    log.begin(3..7, b, MoveReason::Admin);
    (log.table, a)
}

fn link(peer: u32, class: Class, direction: Direction, state: LinkState) -> PeerView {
    PeerView {
        peer: NodeId(peer),
        class,
        direction,
        state,
        since: Duration::from_secs(1),
        heard: None,
        unanswered: 0,
        credit_envelopes: 0,
        credit_bytes: 0,
        waiting: 0,
        streams: 0,
        reconnects: 0,
        reason: None,
    }
}

/// The page of a status, with everything else as it was at the start.
fn page(status: Status, links: Vec<PeerView>) -> BTreeMap<String, f64> {
    let mut page = Page::default();
    let standing = Standing::new(Arc::new(|| Reading::of_one(Duration::ZERO)));
    show(
        &mut page,
        Seen {
            status,
            table: Arc::new(table().0),
            standing: &standing,
            gates: &GateCounts::default(),
            counts: &Counts::default(),
            links,
            refused: BTreeMap::new(),
        },
    );
    samples(page)
}

#[test]
fn lease_table_slots_moves_and_raft_are_shown_as_the_status_and_the_table_say() {
    let (table, me) = table();
    let standing = Standing::new(Arc::new(|| Reading::of_one(Duration::ZERO)));
    let gates = [
        (0..4, Gate::Open as fn(_) -> _),
        (4..6, Gate::Opening),
        (6..9, Gate::Shut),
    ];
    for (slots, gate) in gates {
        for slot in slots {
            standing.set_gate(SlotId::new(slot).unwrap(), gate(OwnerEpoch::FIRST));
        }
    }
    let mut raft = raft::Status::default();
    raft.term = 3;
    let mut status = Status::default();
    (status.me, status.leads, status.quorum) = (Some(me), true, true);
    (status.version, status.version_lag) = (41, 6);
    status.table_age = Some(Duration::from_millis(1500));
    status.lease_left = Duration::from_millis(900);
    status.degraded = Some(Some(1));
    status.oldest_move = Some(Duration::from_secs(7));
    status.steps = [(MoveStep::Waiting, 5), (MoveStep::Released, 2)].into();
    // A leader of a later term has made itself known.
    (status.raft, status.leader) = (Some(raft), Some(LEADER));
    let counts = Counts::default();
    for time in [20, 30] {
        counts.stall.record(Duration::from_millis(time));
    }
    counts.takeover.record(Duration::from_millis(1300));
    counts.commit.record(Duration::from_millis(2));
    let of_gates = GateCounts::default();
    for (cell, count) in [
        (&of_gates.held, 11),
        (&of_gates.bounced, 12),
        (&of_gates.cut, 13),
        (&of_gates.lost, 14),
        (&of_gates.lapsed, 15),
    ] {
        cell.store(count, Ordering::Relaxed);
    }
    let mut page = Page::default();
    show(
        &mut page,
        Seen {
            status,
            table: Arc::new(table),
            standing: &standing,
            gates: &of_gates,
            counts: &counts,
            links: Vec::new(),
            refused: [("wrong_secret", 2), ("tls", 1)].into(),
        },
    );
    let shown = samples(page);
    for (series, value) in [
        ("lease_remaining_seconds", 0.9),
        ("quorum", 1.0),
        ("degraded", 1.0),
        (r#"members{state="joining"}"#, 0.0),
        (r#"members{state="up"}"#, 2.0),
        (r#"members{state="draining"}"#, 1.0),
        (r#"members{state="dead"}"#, 1.0),
        ("table_version", 41.0),
        ("table_lag_versions", 6.0),
        ("table_age_seconds", 1.5),
        ("owned_slots", 10.0),
        ("vacant_slots", 4096.0 - 15.0),
        (r#"slots{state="open"}"#, 4.0),
        (r#"slots{state="opening"}"#, 2.0),
        (r#"slots{state="closed"}"#, 3.0),
        (r#"moves{reason="drain"}"#, 1.0),
        (r#"moves{reason="rebalance"}"#, 2.0),
        (r#"moves{reason="admin"}"#, 4.0),
        (r#"outgoing_moves{step="preparing"}"#, 0.0),
        (r#"outgoing_moves{step="waiting"}"#, 5.0),
        (r#"outgoing_moves{step="released"}"#, 2.0),
        ("oldest_move_seconds", 7.0),
        ("move_stall_seconds_count", 2.0),
        ("move_stall_seconds_sum", 0.05),
        ("takeover_seconds_count", 1.0),
        ("takeover_seconds_sum", 1.3),
        ("commit_seconds_count", 1.0),
        ("flush_seconds_count", 0.0),
        (r#"gate_events_total{result="held"}"#, 11.0),
        (r#"gate_events_total{result="bounced"}"#, 12.0),
        (r#"gate_events_total{result="cut"}"#, 13.0),
        (r#"gate_events_total{result="lost"}"#, 14.0),
        (r#"gate_events_total{result="lapsed"}"#, 15.0),
        ("raft_term", 4.0),
        ("leads", 1.0),
        (r#"refused_links_total{reason="wrong_secret"}"#, 2.0),
        (r#"refused_links_total{reason="tls"}"#, 1.0),
        (r#"refused_links_total{reason="malformed"}"#, 0.0),
    ] {
        let value_of = shown.get(&format!("centripeta_cluster_{series}"));
        assert_eq!(value_of, Some(&value), "{series}: {shown:#?}");
    }
}

#[test]
fn a_node_that_has_not_joined_shows_no_age_of_a_table_and_nothing_as_well() {
    let shown = page(Status::default(), Vec::new());
    let value = |name: &str| shown.get(&format!("centripeta_cluster_{name}")).copied();
    assert_eq!(value("table_age_seconds"), None, "it has none");
    for name in ["lease_remaining_seconds", "quorum", "owned_slots", "leads"] {
        assert_eq!(value(name), Some(0.0), "{name}");
    }
    assert_eq!(value("oldest_move_seconds"), Some(0.0));
}

#[test]
fn links_are_shown_by_peer_class_and_direction_and_one_without_use_is_neither_up_nor_silent() {
    let up = PeerView {
        heard: Some(Duration::from_millis(150)),
        credit_envelopes: 3,
        credit_bytes: 700,
        waiting: 2,
        reconnects: 5,
        ..link(1, Class::Control, Direction::Out, LinkState::Up)
    };
    let silent = PeerView {
        heard: Some(Duration::from_secs(2)),
        ..link(99, Class::Control, Direction::Out, LinkState::Silent)
    };
    let idle = PeerView {
        heard: Some(Duration::from_secs(400)),
        reconnects: 1,
        ..link(1, Class::Data, Direction::Out, LinkState::Idle)
    };
    let refused = link(99, Class::Data, Direction::In, LinkState::Down);
    let shown = page(Status::default(), vec![up, silent, idle, refused]);
    let value = |metric: &str, labels: &str| {
        let series = format!("centripeta_cluster_link_{metric}{{{labels}}}");
        shown.get(&series).copied()
    };
    let up = r#"peer="a/1",class="control",direction="out""#;
    assert_eq!(value("up", up), Some(1.0), "{shown:#?}");
    assert_eq!(value("silence_seconds", up), Some(0.15));
    assert_eq!(value("credit_requests", up), Some(3.0));
    assert_eq!(value("credit_bytes", up), Some(700.0));
    assert_eq!(value("waiting_requests", up), Some(2.0));
    assert_eq!(value("reconnects_total", up), Some(5.0));
    // One that the table does not know is named by its id.
    let silent = r#"peer="99",class="control",direction="out""#;
    assert_eq!(value("up", silent), Some(0.0));
    assert_eq!(value("silence_seconds", silent), Some(2.0));
    let idle = r#"peer="a/1",class="data",direction="out""#;
    assert_eq!(value("up", idle), None);
    assert_eq!(value("silence_seconds", idle), None);
    assert_eq!(
        value("reconnects_total", idle),
        Some(1.0),
        "what was counted stays"
    );
    let refused = r#"peer="99",class="data",direction="in""#;
    assert_eq!(value("up", refused), Some(0.0));
    assert_eq!(value("silence_seconds", refused), None, "never heard");
}

#[test]
fn events_between_nodes_are_shown_each_under_its_name() {
    let counts = Forwarded::default();
    let times = |counter: &crate::metrics::cells::Counter, count: usize| {
        (0..count).for_each(|_| counter.add_one());
    };
    for (at, counter) in [
        &counts.local,
        &counts.forwarded,
        &counts.received,
        &counts.resent,
        &counts.expired,
        &counts.cancelled,
        &counts.dropped,
    ]
    .into_iter()
    .enumerate()
    {
        times(counter, at + 1);
    }
    for at in 0..BOUNCES.len() {
        times(&counts.bounced[at], 10 + at);
        times(&counts.sent_back[at], 20 + at);
    }
    let mut page = Page::default();
    forwarding(&mut page, &counts, (30, 40));
    let shown = samples(page);
    let mut expected = vec![
        (r#"events_total{place="local"}"#.to_owned(), 1.0),
        (r#"events_total{place="forwarded"}"#.to_owned(), 2.0),
        (r#"events_total{place="received"}"#.to_owned(), 3.0),
        ("resent_total".to_owned(), 4.0),
        ("expired_total".to_owned(), 5.0),
        ("cancelled_total".to_owned(), 6.0),
        ("dropped_replies_total".to_owned(), 7.0),
        ("held_events".to_owned(), 30.0),
        ("held_bytes".to_owned(), 40.0),
    ];
    let reasons = ["wrong_owner", "moving", "lapsed", "behind", "stale"];
    for (at, reason) in reasons.into_iter().enumerate() {
        for (side, first) in [("ingress", 10.0), ("owner", 20.0)] {
            let series = format!(r#"bounced_total{{side="{side}",reason="{reason}"}}"#);
            expected.push((series, first + at as f64));
        }
    }
    assert_eq!(shown.len(), expected.len(), "{shown:#?}");
    for (series, value) in expected {
        let value_of = shown.get(&format!("centripeta_forward_{series}"));
        assert_eq!(value_of, Some(&value), "{series}: {shown:#?}");
    }
}
