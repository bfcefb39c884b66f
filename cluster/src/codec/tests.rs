#![allow(clippy::unwrap_used)]

mod link;

use proptest::prelude::*;

use super::*;
use crate::handoff::{AbortWanted, GiveUp, Prepared, Received};
use crate::lease::{Ack, Heartbeat};
use crate::testing::{Chance, Log, empty_table, leader, member, registration, slot};
use crate::{BootId, MoveId, NodeId, OwnerEpoch};

fn some_table(seed: u64) -> (Table, Vec<Command>, Vec<Delta>) {
    let mut chance = Chance::new(seed);
    let mut log = Log::new();
    let (mut commands, mut deltas) = (Vec::new(), Vec::new());
    for _ in 0..60 {
        let command = log.random(&mut chance);
        deltas.extend(log.commit(&command).delta);
        commands.push(command);
    }
    (log.table, commands, deltas)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    #[test]
    fn tables_commands_and_deltas_come_back_as_they_were(seed: u64) {
        let (table, commands, deltas) = some_table(seed);
        prop_assert_eq!(Table::decode(&table.encode()), Ok(table));
        for command in commands {
            prop_assert_eq!(Command::decode(&command.encode()), Ok(command));
        }
        for delta in deltas {
            prop_assert_eq!(Delta::decode(&delta.encode()), Ok(delta));
        }
    }

    #[test]
    fn a_changed_byte_or_a_lost_end_is_noticed(seed: u64, at: prop::sample::Index, bit in 0u8..8) {
        let bytes = some_table(seed).0.encode();
        let mut changed = bytes.clone();
        let spot = at.index(bytes.len());
        changed[spot] ^= 1 << bit;
        prop_assert!(Table::decode(&changed).is_err());
        prop_assert!(Table::decode(&bytes[..spot]).is_err());
    }

    #[test]
    fn bytes_with_a_right_checksum_and_anything_behind_it_never_panic(
        seed: u64, at: prop::sample::Index, junk in prop::collection::vec(any::<u8>(), 0..64),
    ) {
        let (table, commands, deltas) = some_table(seed);
        for bytes in [table.encode(), commands[0].encode(), deltas.first().map_or_else(Vec::new, Delta::encode)] {
            let mut body = bytes.get(HEAD..).unwrap_or_default().to_vec();
            if !body.is_empty() {
                let spot = at.index(body.len());
                let end = (spot + junk.len()).min(body.len());
                body[spot..end].copy_from_slice(&junk[..end - spot]);
            }
            for body in [&body, &junk] {
                let _ = Control::decode(body);
                let sealed = seal(body);
                // Whatever comes out can be used: it was checked, or was refused.
                if let Ok(table) = Table::decode(&sealed) {
                    prop_assert_eq!(table.check(), Ok(()));
                }
                let _ = (Command::decode(&sealed), Delta::decode(&sealed));
            }
        }
    }
}

/// One message of each kind.
fn messages() -> Vec<Control> {
    let (table, commands, deltas) = some_table(3);
    let (member, boot, slot) = (member(3, 2), BootId(1 << 100), slot(4095));
    let (id, epoch) = (MoveId(77), OwnerEpoch(1 << 40));
    let (seq, version, degraded, closed) = (5, 9, true, 8);
    vec![
        Control::Heartbeat(
            Heartbeat {
                member,
                boot,
                seq,
                version,
                degraded,
                closed,
            },
            Some(NodeId(7)),
        ),
        Control::Ack(Ack {
            member,
            boot,
            seq,
            leader: leader(4),
            version,
        }),
        Control::Dead(member),
        Control::SecondProcess(member, boot),
        Control::Leading(leader(9)),
        Control::Delta(deltas[0].clone()),
        Control::WantTable(300),
        Control::Table(table),
        Control::Register(registration("n1", 1, 2)),
        Control::Registered(member),
        Control::NotRegistered(boot, "it lives".to_owned()),
        Control::Propose(commands[0].clone()),
        Control::Prepared(member, Prepared { slot, id, epoch }),
        Control::Received(member, Received { slot, id }),
        Control::Released(member, vec![crate::Completion { slot, id, epoch }; 3]),
        Control::AbortWanted(
            member,
            vec![AbortWanted {
                slot,
                id,
                epoch,
                why: GiveUp::LongEvents,
            }],
        ),
        Control::Leaving(member),
        Control::Resumed(member, slot),
    ]
}

#[test]
fn messages_come_back_as_they_were_and_their_kinds_keep_their_numbers() {
    for (kind, message) in messages().into_iter().enumerate() {
        let bytes = message.encode();
        assert_eq!(usize::from(bytes[0]), kind);
        assert_eq!(Control::decode(&bytes).as_ref(), Ok(&message));
        assert_eq!(
            Control::decode(&[&bytes[..], b"x"].concat()),
            Err(DecodeError::Trailing(1))
        );
        for cut in (0..bytes.len()).step_by(1 + bytes.len() / 64) {
            assert!(
                Control::decode(&bytes[..cut]).is_err(),
                "{kind} cut at {cut}"
            );
        }
    }
    assert!(Control::decode(&[18]).is_err());
    let beyond = Control::decode(&[17, 3, 2, 251, 0, 16]);
    assert_eq!(beyond, Err(DecodeError::Range { what: "slot" }));
}

#[test]
fn the_bytes_of_messages_never_change() {
    let all: Vec<_> = messages().iter().map(Control::encode).collect();
    assert_eq!(
        all[0],
        [
            0, 3, 2, 254, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 16, 0, 0, 0, 5, 9, 1, 8, 1, 7,
        ]
    );
    assert_eq!(
        all[12],
        [12, 3, 2, 251, 255, 15, 77, 253, 0, 0, 0, 0, 0, 1, 0, 0]
    );
    assert_eq!(
        all[15],
        [
            15, 3, 2, 1, 251, 255, 15, 77, 253, 0, 0, 0, 0, 0, 1, 0, 0, 1
        ]
    );
}

#[test]
fn the_bytes_of_a_table_never_change() {
    let mut log = Log::with_nodes(2);
    log.give(5, 1);
    log.begin(5, 3, crate::MoveReason::Drain);
    let bytes = log.table.encode();
    let sum = u64::from_le_bytes(bytes[1..9].try_into().unwrap());
    assert_eq!((bytes.len(), bytes[0], sum), GOLDEN, "{bytes:?}");
    assert_eq!(Table::decode(&bytes), Ok(log.table));
}

#[test]
fn the_bytes_of_a_command_never_change() {
    let command = Command::AbortMoves {
        moves: vec![crate::MoveAbort {
            slot: crate::slot_of(b"chat:42"),
            id: crate::MoveId(300),
        }],
        why: "not ready".to_owned(),
    };
    assert_eq!(
        command.encode()[HEAD..],
        *b"\x07\x01\xfb\xd3\x0b\xfb\x2c\x01\x09not ready"
    );
}

#[test]
fn a_length_that_lies_reserves_nothing() {
    // 2^40 and 60 million of something, then nothing: both end at the end of the bytes.
    for lie in [&b"\xfd\0\0\0\0\0\x01\0\0"[..], b"\xfc\0\x87\x93\x03"] {
        let body = [&[4u8][..], lie].concat();
        let refused = Command::decode(&seal(&body));
        assert!(
            matches!(refused, Err(DecodeError::Malformed(_))),
            "{refused:?}"
        );
    }
    let seq: Result<wire::Seq<(u64, u64)>, _> = wire::read(b"\xfc\xff\xff\xff\xff\x01\x01");
    assert!(seq.is_err());
}

#[test]
fn another_format_is_named() {
    let mut bytes = empty_table().encode();
    bytes[0] = 9;
    assert_eq!(Table::decode(&bytes), Err(DecodeError::Format(9)));
    assert_eq!(Table::decode(&[]), Err(DecodeError::CutShort(0)));
    assert_eq!(Table::decode(&[1, 2]), Err(DecodeError::CutShort(2)));
}

const GOLDEN: (usize, u8, u64) = (20_595, 1, 3_756_701_193_246_395_747);
