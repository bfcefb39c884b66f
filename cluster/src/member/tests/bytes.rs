//! The bytes of the two files: they never change by themselves, and what did change is refused.

use proptest::prelude::*;
use redb::ReadableTable;

use super::super::{DataDir, Error, Identity, Joined};
use super::{SEVEN, found, lies, seven};
use crate::codec::{decode_record, encode_record};
use crate::testing::Chance;
use crate::{ClusterId, DataId, Incarnation, NodeId};

const FIRST_LINE: &[u8] = b"centripeta node identity\n";

#[test]
fn the_bytes_of_an_identity_never_change() {
    let folder = tempfile::tempdir().unwrap();
    let identity = Identity {
        data: DataId(5),
        incarnation: Incarnation(300),
        joined: Some(Joined {
            cluster: ClusterId(193),
            recovery: 2,
            node: NodeId(7),
        }),
        keeps_log: true,
    };
    identity.write(folder.path()).unwrap();
    let bytes = std::fs::read(folder.path().join("identity")).unwrap();
    let record = bytes.strip_prefix(FIRST_LINE).unwrap();
    assert_eq!(record[0], 1);
    assert_eq!(record[9..], [5, 251, 44, 1, 1, 193, 2, 7, 1]);
    let unjoined = Identity {
        joined: None,
        keeps_log: false,
        ..identity
    };
    assert_eq!(encode_record(&unjoined)[9..], [5, 251, 44, 1, 0, 0]);
    assert_eq!(lies(folder.path()), identity);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn an_identity_comes_back_as_it_was(
        data: u128, life: u64, known: Option<(u128, u32, u32)>, keeps_log: bool,
    ) {
        let joined = known.map(|(cluster, recovery, node)| Joined {
            cluster: ClusterId(cluster),
            recovery,
            node: NodeId(node),
        });
        let (data, incarnation) = (DataId(data), Incarnation(life));
        let identity = Identity { data, incarnation, joined, keeps_log };
        prop_assert_eq!(decode_record(&encode_record(&identity)), Ok(identity));
    }

    #[test]
    fn any_other_byte_and_any_other_length_of_an_identity_is_refused(
        place: prop::sample::Index, flip in 1u8.., cut: prop::sample::Index,
        more in prop::collection::vec(any::<u8>(), 1..40),
    ) {
        let folder = tempfile::tempdir().unwrap();
        drop(seven(folder.path()));
        let path = folder.path().join("identity");
        let whole = std::fs::read(&path).unwrap();
        let place = place.index(whole.len());
        let mut flipped = whole.clone();
        flipped[place] ^= flip;
        let longer = [&whole[..], &more].concat();
        for bytes in [&flipped[..], &whole[..cut.index(whole.len())], &longer, &more] {
            std::fs::write(&path, bytes).unwrap();
            let refused = DataDir::open(folder.path()).map(drop);
            let told = matches!(
                refused,
                Err(Error::NoIdentityFile { .. } | Error::Damaged { .. } | Error::Format { .. })
            );
            prop_assert!(told, "{:?}", refused);
            prop_assert_eq!(std::fs::read(&path).unwrap(), bytes);
        }
        std::fs::write(&path, &whole).unwrap();
        prop_assert_eq!(DataDir::open(folder.path()).unwrap().known(), Some(SEVEN));
    }
}

#[test]
fn flipped_bits_in_the_log_are_refused_in_words_or_change_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path();
    let info = found(dir);
    drop(DataDir::open(dir).unwrap());
    let (log, identity) = (dir.join("meta.redb"), dir.join("identity"));
    let (whole, before) = (
        std::fs::read(&log).unwrap(),
        std::fs::read(&identity).unwrap(),
    );
    let mut chance = Chance::new(5);
    let mut refused = 0;
    for _ in 0..40 {
        let mut bytes = whole.clone();
        for _ in 0..8 {
            let at = usize::try_from(chance.below(bytes.len() as u64)).unwrap();
            bytes[at] ^= 1 << chance.below(8);
        }
        std::fs::write(&log, &bytes).unwrap();
        std::fs::write(&identity, &before).unwrap();
        match DataDir::open(dir) {
            Err(error) => {
                refused += 1;
                let line = error.to_string();
                assert!(line.starts_with(&*log.to_string_lossy()), "{line}");
                assert!(line.contains("is damaged"), "{line}");
                assert!(line.contains("empty data directory"), "{line}");
                assert_eq!(std::fs::read(&identity).unwrap(), before);
            }
            // The bits were in no page that is used.
            Ok(opened) => {
                assert_eq!(opened.known().unwrap().cluster, info.id);
                assert_eq!(opened.incarnation(), Incarnation(2));
                let table = opened.store().unwrap().genesis().unwrap();
                assert_eq!(*table.cluster(), info);
            }
        }
    }
    assert!(refused > 0, "no damage was noticed");
}

#[test]
fn a_log_that_was_cut_off_is_refused_and_not_made_anew() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path();
    found(dir);
    let log = dir.join("meta.redb");
    let whole = std::fs::read(&log).unwrap();
    for length in [0, 1, 4096, whole.len() / 2] {
        std::fs::write(&log, &whole[..length]).unwrap();
        let refused = DataDir::open(dir).unwrap_err().to_string();
        assert!(refused.contains("is damaged"), "{length} bytes: {refused}");
        assert_eq!(std::fs::metadata(&log).unwrap().len(), length as u64);
    }
}

/// Changes a byte of a record in the log, under pages that stay intact.
fn change_record(dir: &std::path::Path, key: &str, at: usize, byte: u8) {
    let records = redb::TableDefinition::<&str, &[u8]>::new("records");
    let log = redb::Database::open(dir.join("meta.redb")).unwrap();
    let write = log.begin_write().unwrap();
    {
        let mut records = write.open_table(records).unwrap();
        let mut bytes = records.get(key).unwrap().unwrap().value().to_vec();
        bytes[at] = byte;
        records.insert(key, bytes.as_slice()).unwrap();
    }
    write.commit().unwrap();
}

#[test]
fn a_log_of_another_format_names_it_and_one_with_a_changed_record_is_damaged() {
    for key in ["identity", "genesis"] {
        let folder = tempfile::tempdir().unwrap();
        let dir = folder.path();
        found(dir);
        change_record(dir, key, 0, 2);
        let refused = DataDir::open(dir).unwrap_err();
        assert!(
            matches!(refused, Error::Format { found: 2, .. }),
            "{refused}"
        );
        let line = refused.to_string();
        assert!(line.contains("meta.redb: is of format 2"), "{line}");
        change_record(dir, key, 0, 1);
        change_record(dir, key, 3, 77);
        let line = DataDir::open(dir).unwrap_err().to_string();
        assert!(line.starts_with(&*dir.to_string_lossy()), "{line}");
        assert!(line.contains(&format!("record {key}")), "{line}");
        assert!(
            line.contains("is damaged") && line.contains("empty data directory"),
            "{line}"
        );
    }
}
