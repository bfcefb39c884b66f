//! The bytes of Raft's records and calls: they come back, never change, and junk does no harm.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::identity;
use crate::codec::{decode_record, decode_rpc, encode_record, encode_rpc};
use crate::raft::types::{
    Append, Appended, Ballot, Entry, Id, Identity, Kept, LeaderId, LogId, Membership, Payload,
    Place, Request, Response, SnapshotMeta, StoredMembership, Vote, Voted,
};
use crate::{Command, NodeId};

fn log(index: u64) -> LogId {
    LogId {
        leader_id: LeaderId::new(3, Id(2)),
        index,
    }
}

fn membership() -> Membership {
    let place = |name: &str| Place {
        addrs: vec![name.to_owned()],
    };
    let configs = vec![BTreeSet::from([Id(1)]), BTreeSet::from([Id(1), Id(7)])];
    let nodes = BTreeMap::from([
        (Id(1), place("a:1")),
        (Id(7), place("b:1")),
        (Id(9), place("c")),
    ]);
    Membership::new(configs, nodes)
}

fn entries() -> Vec<Entry> {
    let command = Command::Remove { id: NodeId(300) };
    let payloads = [
        Payload::Blank,
        Payload::Normal(command),
        Payload::Membership(membership()),
    ];
    (4..)
        .zip(payloads)
        .map(|(index, payload)| Entry {
            log_id: log(index),
            payload,
        })
        .collect()
}

fn kept() -> Kept {
    Kept {
        meta: SnapshotMeta {
            last_log_id: Some(log(9)),
            last_membership: StoredMembership::new(Some(log(6)), membership()),
            snapshot_id: "s".to_owned(),
        },
        table: vec![1, 2, 255],
    }
}

fn requests() -> Vec<Request> {
    let vote = Vote::new_committed(3, Id(2));
    vec![
        Request::Append(Append {
            vote,
            prev_log_id: Some(log(3)),
            entries: entries(),
            leader_commit: None,
        }),
        Request::Vote(Ballot::new(Vote::new(4, Id(300)), Some(log(3)))),
        Request::Snapshot { vote, kept: kept() },
    ]
}

fn responses() -> Vec<Response> {
    let vote = Vote::new(4, Id(1));
    vec![
        Response::Append(Appended::Success),
        Response::Append(Appended::PartialSuccess(Some(log(8)))),
        Response::Append(Appended::Conflict),
        Response::Append(Appended::HigherVote(vote)),
        Response::Vote(Voted::new(vote, None, true)),
        Response::Snapshot { vote },
    ]
}

#[test]
fn records_come_back_as_they_were() {
    for entry in entries() {
        assert_eq!(decode_record(&encode_record(&entry)), Ok(entry));
    }
    assert_eq!(decode_record(&encode_record(&kept())), Ok(kept()));
    assert_eq!(decode_record(&encode_record(&identity(7))), Ok(identity(7)));
    for response in responses() {
        let bytes = encode_rpc(&response);
        assert_eq!(decode_rpc(&bytes), Ok(response));
    }
    for request in requests() {
        let bytes = encode_rpc(&request);
        let back: Request = decode_rpc(&bytes).unwrap();
        assert_eq!(encode_rpc(&back), bytes);
        for cut in 0..bytes.len() {
            assert!(
                decode_rpc::<Request>(&bytes[..cut]).is_err(),
                "cut at {cut}"
            );
        }
    }
}

#[test]
fn the_bytes_of_records_and_calls_never_change() {
    let bare = |bytes: Vec<u8>| bytes[9..].to_vec();
    let [blank, command, members] = &entries()[..] else {
        panic!("three kinds of entries")
    };
    assert_eq!(bare(encode_record(blank)), [3, 2, 4, 0]);
    assert_eq!(bare(encode_record(command)), [3, 2, 5, 1, 3, 251, 44, 1]);
    assert_eq!(
        bare(encode_record(members)),
        *b"\x03\x02\x06\x02\x02\x01\x01\x02\x01\x07\x03\x01\x01\x03a:1\x07\x01\x03b:1\x09\x01\x01c"
    );
    assert_eq!(
        bare(encode_record(&Vote::new_committed(3, Id(2)))),
        [3, 2, 1]
    );
    assert_eq!(bare(encode_record(&Some(log(3)))), [1, 3, 2, 3]);
    assert_eq!(bare(encode_record(&identity(7))), [193, 7, 7, 1]);
    assert_eq!(
        encode_rpc(&requests()[1]),
        [1, 4, 251, 44, 1, 0, 1, 3, 2, 3]
    );
    let heads: Vec<_> = responses().iter().map(encode_rpc).collect();
    assert_eq!(heads[1], [0, 1, 1, 3, 2, 8]);
    assert_eq!(heads[3], [0, 3, 4, 1, 0]);
    assert_eq!(heads[4], [1, 4, 1, 0, 1, 0]);
    assert_eq!(heads[5], [2, 4, 1, 0]);
}

#[test]
fn an_entry_that_leaves_no_voter_is_refused() {
    for configs in [&[0][..], &[1, 0], &[2, 1, 1, 0]] {
        let bytes = [&[3, 2, 6, 2], configs, &[1, 1, 0]].concat();
        assert!(decode_rpc::<Entry>(&bytes).is_err(), "{configs:?}");
    }
    // Nor is one with a voter that has no place.
    assert!(decode_rpc::<Entry>(&[3, 2, 6, 2, 1, 1, 5, 1, 1, 0]).is_err());
    assert!(decode_rpc::<Entry>(&[3, 2, 6, 2, 1, 1, 1, 1, 1, 0]).is_ok());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn junk_never_panics(
        junk in prop::collection::vec(any::<u8>(), 0..96), which in 0usize..3, at: prop::sample::Index,
    ) {
        let mut bytes = encode_rpc(&requests()[which]);
        let spot = at.index(bytes.len());
        bytes.truncate(spot);
        bytes.extend(&junk);
        for bytes in [&bytes, &junk] {
            let _ = decode_rpc::<Request>(bytes);
            let _ = decode_rpc::<Response>(bytes);
            let _ = (decode_rpc::<Entry>(bytes), decode_rpc::<Kept>(bytes));
            let _ = (decode_rpc::<Vote>(bytes), decode_rpc::<Identity>(bytes));
        }
    }
}
