//! A million channels: what is kept of them is nothing but the table.

use std::time::Instant;

use centripeta_cluster::route::{Kind, Route, Surroundings, route};
use centripeta_cluster::{
    BootId, ClusterId, ClusterInfo, Command, DataId, Entry, Grant, LeaderId, LogId, Member,
    NodeChange, NodeId, NodeState, Outcome, OwnerEpoch, Registration, Roles, Serves, Settings,
    SlotId, Table, slot_of,
};

const NODES: u32 = 300;
const CHANNELS: usize = 1_000_000;

/// A leader that is nobody in particular.
const LEADER: LeaderId = LeaderId {
    term: 1,
    node: NodeId(1),
};

struct Anywhere;

impl Surroundings for Anywhere {
    fn in_flight(&self, _: NodeId) -> u32 {
        0
    }

    fn is_reachable(&self, _: NodeId) -> bool {
        true
    }

    fn has_room(&self) -> bool {
        true
    }

    fn serves_stateless(&self) -> bool {
        true
    }
}

/// What is known of a node that registers.
pub(crate) fn registration(number: u32) -> Registration {
    Registration {
        name: format!("node-{number:03}"),
        data: DataId(number.into()),
        incarnation: centripeta_cluster::Incarnation(1),
        boot: BootId(number.into()),
        addrs: vec![format!("10.1.{}.{}:7946", number / 250, number % 250)],
        roles: Roles {
            voter: number <= 3,
            ingress: true,
            region: true,
        },
        serves: Serves {
            connect: true,
            channel: true,
            rpc: vec!["*".to_owned()],
        },
        protocol: 1,
        build: "0.1.0".to_owned(),
        routes_hash: 0x1234_5678_9abc_def0,
    }
}

fn commit(table: &mut Table, index: &mut u64, command: &Command) -> Outcome {
    *index += 1;
    let log = LogId {
        leader: LEADER,
        index: *index,
    };
    let voters = std::collections::BTreeSet::new();
    table
        .apply(Entry {
            log,
            voters: &voters,
            command,
        })
        .outcome
}

/// A table of so many nodes that are up, the slots dealt out in turn.
fn table(nodes: u32) -> Table {
    let mut table = Table::new(ClusterInfo::new(ClusterId(1)), Settings::default());
    let mut index = 0;
    let mut members: Vec<Member> = Vec::new();
    for number in 1..=nodes {
        let node = registration(number);
        let boot = node.boot;
        let register = Command::Register {
            node,
            leader: LEADER,
            grants: Vec::new(),
        };
        let Outcome::Registered(member) = commit(&mut table, &mut index, &register) else {
            panic!("node {number} is not registered");
        };
        let up = Command::SetNode {
            member,
            boot,
            change: NodeChange::State(NodeState::Up),
        };
        assert!(matches!(
            commit(&mut table, &mut index, &up),
            Outcome::Done { .. }
        ));
        members.push(member);
    }
    let grants = SlotId::all()
        .map(|slot| Grant {
            slot,
            expect_epoch: OwnerEpoch(0),
            to: members[usize::from(slot.index()) % members.len()],
        })
        .collect();
    commit(&mut table, &mut index, &Command::Assign { grants });
    table
}

#[test]
fn a_million_channels_on_300_nodes_need_a_table_below_150_kb_and_are_spread_evenly() {
    let table = table(NODES);
    let bytes = table.encode().len();
    let me = table.member(NodeId(1)).unwrap();
    let mut on_node = std::collections::BTreeMap::<NodeId, usize>::new();
    let mut on_slot = vec![0_usize; usize::from(centripeta_cluster::SLOT_COUNT)];
    let names: Vec<String> = (0..CHANNELS).map(|n| format!("chat:room-{n}")).collect();
    let began = Instant::now();
    for name in &names {
        let slot = slot_of(name.as_bytes());
        on_slot[usize::from(slot.index())] += 1;
        let node = match route(&table, me, Kind::Keyed(slot), &Anywhere, 0) {
            Route::Here(_) => me.id,
            Route::Node { member, .. } => member.id,
            Route::Unavailable(why) => panic!("{name}: {why:?}"),
        };
        *on_node.entry(node).or_default() += 1;
    }
    let each = began.elapsed() / u32::try_from(CHANNELS).unwrap();
    let (least, most) = (
        on_node.values().min().unwrap(),
        on_node.values().max().unwrap(),
    );
    let busiest = on_slot.iter().max().unwrap();
    println!(
        "{NODES} nodes, {CHANNELS} channels: table {bytes} bytes encoded; {least} to {most} channels a node, \
         at most {busiest} a slot; name to node {each:?}"
    );
    assert!(bytes < 150_000, "{bytes} bytes");
    assert_eq!(on_node.len(), NODES as usize, "every node has some");
    let mean = CHANNELS / NODES as usize;
    assert!(
        *most < mean * 3 / 2 && *least > mean / 2,
        "{least} to {most}"
    );
}
