//! The list of the conformance lines: every number once, and every test that it names exists.

use std::collections::BTreeMap;
use std::path::Path;

const LIST: &str = include_str!("../conformance.md");

/// The rows `| C01 | kind | what | where |`, in their order: number and where.
fn rows() -> Vec<(u32, &'static str)> {
    let rows = LIST.lines().filter_map(|line| line.strip_prefix("| C"));
    rows.map(|row| {
        let mut cells = row.split('|').map(str::trim);
        let number = cells.next().unwrap().parse().unwrap();
        (number, cells.nth(2).unwrap())
    })
    .collect()
}

#[test]
fn every_number_from_1_to_110_is_listed_once_and_in_order() {
    let numbers: Vec<u32> = rows().into_iter().map(|(number, _)| number).collect();
    assert_eq!(numbers, (1..=110).collect::<Vec<_>>());
}

#[test]
fn every_test_that_the_list_names_exists_where_it_says() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files: BTreeMap<&str, String> = BTreeMap::new();
    let mut named = 0;
    for (number, places) in rows() {
        assert!(!places.is_empty(), "C{number:02}");
        for place in places.split("; ") {
            let Some((file, test)) = place.trim_matches('`').split_once("::") else {
                let known = ["E: `tests/centrifugo.rs`", "later: "];
                assert!(
                    known.iter().any(|known| place.starts_with(known)),
                    "C{number:02}: {place}"
                );
                continue;
            };
            let text = files.entry(file).or_insert_with(|| {
                let read = std::fs::read_to_string(root.join(file));
                read.unwrap_or_else(|why| panic!("C{number:02}: {file}: {why}"))
            });
            let (before, _) = text
                .split_once(&format!("fn {test}("))
                .unwrap_or_else(|| panic!("C{number:02}: {file} has no test `{test}`"));
            let attribute = before.rsplit("#[").next().unwrap();
            assert!(
                attribute.starts_with("test]") || attribute.starts_with("tokio::test"),
                "{place}"
            );
            named += 1;
        }
    }
    assert!(named >= 60, "{named} tests are named");
}

#[test]
fn tests_that_carry_a_number_are_on_the_list_under_it() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/conformance");
    for entry in std::fs::read_dir(root).unwrap() {
        let text = std::fs::read_to_string(entry.unwrap().path()).unwrap();
        for name in text.split("fn c").skip(1) {
            let name = name.split('(').next().unwrap();
            let Ok(number) = name.get(..2).unwrap_or_default().parse::<u32>() else {
                continue;
            };
            // Three digits only for 100 and above.
            let number = name
                .get(..3)
                .and_then(|text| text.parse().ok())
                .unwrap_or(number);
            let rows = rows();
            let (_, places) = rows[number as usize - 1];
            assert!(
                places.contains(&format!("::c{name}`")),
                "C{number:02} lacks c{name}"
            );
        }
    }
}
