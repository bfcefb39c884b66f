//! The list of the conformance lines: every number once, every test that it names exists, and every
//! test that carries a number is on it, in whichever file it is.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

const LIST: &str = include_str!("../conformance.md");

/// The one test of all E lines; its `LINES` are the numbers that it asks for.
const REAL: &str = include_str!("../centrifugo.rs");

/// What a row says of the lines of that test.
const BY_REAL: &str = "E: `tests/centrifugo.rs`";

/// What a row says of a test that runs only when somebody asks for it.
const IGNORED: &str = " (ignored: a soak, by hand)";

/// What may stand in place of a test: one of which it is but a part, and what is not there yet.
const OTHERWISE: [&str; 3] = [
    BY_REAL,
    "later: the HTTP frontend",
    "later: the same over HTTP",
];

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
            let (place, may_be_ignored) = match place.strip_suffix(IGNORED) {
                Some(place) => (place, true),
                None => (place, false),
            };
            let Some((file, test)) = place.trim_matches('`').split_once("::") else {
                assert!(OTHERWISE.contains(&place), "C{number:02}: {place}");
                continue;
            };
            let text = files.entry(file).or_insert_with(|| {
                let read = std::fs::read_to_string(root.join(file));
                read.unwrap_or_else(|why| panic!("C{number:02}: {file}: {why}"))
            });
            let (before, _) = text
                .split_once(&format!("fn {test}("))
                .unwrap_or_else(|| panic!("C{number:02}: {file} has no test `{test}`"));
            // Its attributes are all that stands between it and an empty line.
            let attributes = before.rsplit("\n\n").next().unwrap();
            assert!(
                attributes.contains("#[test]") || attributes.contains("#[tokio::test"),
                "{place}"
            );
            assert_eq!(
                attributes.contains("#[ignore"),
                may_be_ignored,
                "{place}: is it ignored, and does its row say so?"
            );
            named += 1;
        }
    }
    assert!(named >= 60, "{named} tests are named");
}

#[test]
fn rows_that_name_the_real_centrifugo_are_the_lines_that_its_test_runs() {
    let (_, lines) = REAL.split_once("const LINES: &[u32] = &[").unwrap();
    let (lines, _) = lines.split_once("];").unwrap();
    let numbers = lines.split(',').map(str::trim).filter(|it| !it.is_empty());
    let asked: BTreeSet<u32> = numbers.map(|number| number.parse().unwrap()).collect();
    let named = rows().into_iter();
    let named = named.filter(|(_, places)| places.split("; ").any(|place| place == BY_REAL));
    let named: BTreeSet<u32> = named.map(|(number, _)| number).collect();
    assert_eq!(named, asked);
    assert!(named.len() >= 48, "{}", named.len());
}

/// The Rust files below a folder.
fn files_below(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files_below(&path, found);
        } else if path.extension().is_some_and(|it| it == "rs") {
            found.push(path);
        }
    }
}

/// The number that the name of a test begins with, such as `c86_all`.
fn number_of(name: &str) -> Option<usize> {
    let digits: String = name
        .strip_prefix('c')?
        .chars()
        .take_while(char::is_ascii_digit)
        .collect();
    let is_number = (2..=3).contains(&digits.len()) && name[1 + digits.len()..].starts_with('_');
    digits.parse().ok().filter(|_| is_number)
}

#[test]
fn tests_that_carry_a_number_are_on_the_list_under_it() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files = Vec::new();
    for folder in ["src", "tests"] {
        files_below(&root.join(folder), &mut files);
    }
    let rows = rows();
    let mut carried = 0;
    for file in files {
        let text = std::fs::read_to_string(&file).unwrap();
        let place = file.strip_prefix(root).unwrap().display();
        for name in text.split("fn ").skip(1) {
            let name = name.split('(').next().unwrap();
            let Some(number) = number_of(name) else {
                continue;
            };
            let (_, places) = rows[number - 1];
            assert!(
                places.contains(&format!("`{place}::{name}`")),
                "C{number:02} lacks {place}::{name}"
            );
            carried += 1;
        }
    }
    assert!(carried >= 60, "{carried} tests carry a number");
}
