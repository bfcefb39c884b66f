//! What the tests of several modules share: a seeded source of chance, tables, and a log that
//! applies random commands.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;

use crate::*;

/// A small seeded generator (splitmix64).
#[derive(Debug, Clone)]
pub(crate) struct Chance(u64);

impl Chance {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed ^ 0x9e37_79b9_7f4a_7c15)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Below `limit`, which is not 0.
    pub(crate) fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }

    pub(crate) fn between(&mut self, low: u64, high: u64) -> u64 {
        low + self.below(high - low + 1)
    }

    /// True this often of a thousand times.
    pub(crate) fn permille(&mut self, often: u64) -> bool {
        self.below(1000) < often
    }

    pub(crate) fn pick<'a, T>(&mut self, items: &'a [T]) -> Option<&'a T> {
        (!items.is_empty()).then(|| &items[self.below(items.len() as u64) as usize])
    }
}

pub(crate) fn slot(index: u16) -> SlotId {
    SlotId::new(index).unwrap()
}

pub(crate) fn member(id: u32, incarnation: u64) -> Member {
    Member {
        id: NodeId(id),
        incarnation: Incarnation(incarnation),
    }
}

pub(crate) fn leader(term: u64) -> LeaderId {
    LeaderId {
        term,
        node: NodeId(1),
    }
}

pub(crate) fn registration(name: &str, data: u128, incarnation: u64) -> Registration {
    Registration {
        name: name.to_owned(),
        data: DataId(data),
        incarnation: Incarnation(incarnation),
        boot: BootId(data * 1000 + u128::from(incarnation)),
        addrs: vec![format!("{name}:7946")],
        roles: Roles {
            voter: true,
            ingress: true,
            region: true,
        },
        serves: Serves {
            connect: true,
            channel: true,
            rpc: vec!["*".to_owned()],
        },
        protocol: 1,
        build: "1.0.0".to_owned(),
        routes_hash: 7,
    }
}

pub(crate) fn empty_table() -> Table {
    Table::new(ClusterInfo::new(ClusterId(0xc1)), Settings::default())
}

/// A table and the log that made it.
#[derive(Debug, Clone)]
pub(crate) struct Log {
    pub(crate) table: Table,
    pub(crate) index: u64,
    pub(crate) term: u64,
    pub(crate) voters: BTreeSet<NodeId>,
    pub(crate) rules: Rules,
}

impl Log {
    pub(crate) fn new() -> Self {
        Self {
            table: empty_table(),
            index: 0,
            term: 1,
            voters: BTreeSet::new(),
            rules: Rules::ALL,
        }
    }

    /// Nodes 1 to `count`, up, without slots.
    pub(crate) fn with_nodes(count: u32) -> Self {
        let mut log = Self::new();
        for id in 1..=count {
            log.join(&format!("n{id}"), u128::from(id));
        }
        log
    }

    /// A node registers and comes up.
    pub(crate) fn join(&mut self, name: &str, data: u128) -> Member {
        let node = registration(name, data, 1);
        let boot = node.boot;
        let Outcome::Registered(member) = self.register(node).outcome else {
            panic!("{name} is refused")
        };
        self.set(member, boot, NodeState::Up);
        member
    }

    pub(crate) fn register(&mut self, node: Registration) -> Applied {
        let leader = leader(self.term);
        self.commit(&Command::Register {
            node,
            leader,
            grants: Vec::new(),
        })
    }

    pub(crate) fn set(&mut self, member: Member, boot: BootId, state: NodeState) -> Applied {
        self.commit(&Command::SetNode {
            member,
            boot,
            change: NodeChange::State(state),
        })
    }

    /// Changes the state of a node by its own means.
    pub(crate) fn turn(&mut self, id: u32, state: NodeState) -> Applied {
        let member = self.table.member(NodeId(id)).unwrap();
        let boot = self.table.node(NodeId(id)).unwrap().boot;
        self.set(member, boot, state)
    }

    pub(crate) fn commit(&mut self, command: &Command) -> Applied {
        self.index += 1;
        let log = LogId {
            leader: leader(self.term),
            index: self.index,
        };
        self.table.apply_by(
            Entry {
                log,
                voters: &self.voters,
                command,
            },
            self.rules,
        )
    }

    pub(crate) fn kill(&mut self, id: u32, grants: Vec<Grant>) -> Applied {
        let member = self.table.member(NodeId(id)).unwrap();
        let leader = leader(self.term);
        self.commit(&Command::DeclareDead {
            member,
            why: "test".to_owned(),
            leader,
            grants,
        })
    }

    /// Grants one slot to the current life of a node.
    pub(crate) fn give(&mut self, index: u16, id: u32) -> Applied {
        let slot = slot(index);
        let grant = Grant {
            slot,
            expect_epoch: self.table.slot(slot).epoch,
            to: self.table.member(NodeId(id)).unwrap(),
        };
        self.commit(&Command::Assign {
            grants: vec![grant],
        })
    }

    /// Begins to move one slot to the current life of a node.
    pub(crate) fn begin(&mut self, index: u16, id: u32, reason: MoveReason) -> Applied {
        let slot = slot(index);
        let start = MoveStart {
            slot,
            expect_epoch: self.table.slot(slot).epoch,
            to: self.table.member(NodeId(id)).unwrap(),
        };
        self.commit(&Command::BeginMoves {
            moves: vec![start],
            reason,
        })
    }

    /// Completes the move that a slot is in.
    pub(crate) fn complete(&mut self, index: u16) -> Applied {
        let rec = self.table.slot(slot(index));
        let done = Completion {
            slot: slot(index),
            id: rec.moving.unwrap().id,
            epoch: rec.epoch,
        };
        self.commit(&Command::CompleteMoves { moves: vec![done] })
    }

    /// Aborts the move that a slot is in.
    pub(crate) fn abort(&mut self, index: u16) -> Applied {
        let id = self.table.slot(slot(index)).moving.unwrap().id;
        let moves = vec![MoveAbort {
            slot: slot(index),
            id,
        }];
        self.commit(&Command::AbortMoves {
            moves,
            why: "test".to_owned(),
        })
    }

    /// Some command, sensible or not.
    pub(crate) fn random(&self, chance: &mut Chance) -> Command {
        let ids: Vec<_> = self.table.nodes.keys().copied().collect();
        let any = |chance: &mut Chance| {
            let id = chance.pick(&ids).copied().unwrap_or(NodeId(99));
            let off = u64::from(chance.permille(100));
            let known = self.table.node(id).map_or(0, |node| node.incarnation.0);
            Member {
                id,
                incarnation: Incarnation(known + off),
            }
        };
        let spot = |chance: &mut Chance| slot(chance.below(12) as u16);
        let epoch = |slot: SlotId, chance: &mut Chance| {
            OwnerEpoch(self.table.slot(slot).epoch.0 + u64::from(chance.permille(100)))
        };
        let grants = |chance: &mut Chance| {
            (0..chance.below(6))
                .map(|_| {
                    let slot = spot(chance);
                    Grant {
                        slot,
                        expect_epoch: epoch(slot, chance),
                        to: any(chance),
                    }
                })
                .collect::<Vec<_>>()
        };
        let leader = leader(self.term - u64::from(chance.permille(100)).min(self.term));
        match chance.below(12) {
            0 => {
                let data = u128::from(chance.below(8));
                let name = format!("n{}", chance.below(6));
                let mut node = registration(&name, data, chance.below(5));
                node.boot = BootId(u128::from(chance.below(3)));
                Command::Register {
                    node,
                    leader,
                    grants: grants(chance),
                }
            }
            1..=3 => {
                let member = any(chance);
                let boot = self
                    .table
                    .node(member.id)
                    .map_or(BootId(1), |node| node.boot);
                let state = [
                    NodeState::Up,
                    NodeState::Up,
                    NodeState::Draining,
                    NodeState::Dead,
                ];
                let change = match chance.below(6) {
                    0 => NodeChange::RoutesHash(chance.below(3)),
                    1 => NodeChange::Addrs(vec![chance.below(3).to_string()]),
                    _ => NodeChange::State(*chance.pick(&state).unwrap()),
                };
                Command::SetNode {
                    member,
                    boot,
                    change,
                }
            }
            4 => Command::DeclareDead {
                member: any(chance),
                why: "lapsed".to_owned(),
                leader,
                grants: grants(chance),
            },
            5 if chance.permille(300) => Command::Remove { id: any(chance).id },
            5 | 6 => Command::Assign {
                grants: grants(chance),
            },
            7 | 8 => {
                let slot = spot(chance);
                let start = MoveStart {
                    slot,
                    expect_epoch: epoch(slot, chance),
                    to: any(chance),
                };
                Command::BeginMoves {
                    moves: vec![start],
                    reason: MoveReason::Rebalance,
                }
            }
            9 => {
                let slot = spot(chance);
                let id = self
                    .table
                    .slot(slot)
                    .moving
                    .map_or(MoveId(1), |moving| moving.id);
                let id = MoveId(id.0 - u64::from(chance.permille(100)).min(id.0));
                let epoch = epoch(slot, chance);
                Command::CompleteMoves {
                    moves: vec![Completion { slot, id, epoch }],
                }
            }
            10 => {
                let slot = spot(chance);
                let id = self
                    .table
                    .slot(slot)
                    .moving
                    .map_or(MoveId(1), |moving| moving.id);
                Command::AbortMoves {
                    moves: vec![MoveAbort { slot, id }],
                    why: String::new(),
                }
            }
            _ if chance.permille(500) => Command::SetSettings {
                settings: Settings {
                    version: chance.below(4),
                    voters: chance.below(6) as u8,
                    moves_paused: chance.permille(500),
                    protocol: chance.between(1, 2) as u16,
                },
            },
            _ => Command::Barrier {
                nonce: chance.next(),
            },
        }
    }
}
