//! The checklist itself: each of its lines is carried by a test that has its number in its name, and
//! one that shows something on any machine.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// Lines of the checklist.
const LINES: u32 = 122;
/// Those of a compatibility mode that there is not: health and log in RoadRunner's own form.
const LEFT_OUT: [u32; 3] = [117, 118, 121];
/// Those whose every test needs what may be missing, and what that is: none. A line that a real SDK,
/// PHP or Centrifugo is asked about has a stand-in's test beside.
const NEED: &[(u32, &str)] = &[];

/// A test of the checklist.
struct Numbered {
    numbers: Vec<u32>,
    /// It may end without having shown anything: it needs PHP, its SDK or another program.
    may_skip: bool,
}

/// Tests with numbers in their names, as in `w09_…` or `w43_w44_…`, of the files in a folder.
fn tests_in(folder: &Path, found: &mut Vec<Numbered>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            if !path.ends_with("node_modules") {
                tests_in(&path, found);
            }
            continue;
        }
        if path.extension().is_some_and(|it| it == "rs") {
            let is_of_sdk = path.components().any(|it| it.as_os_str() == "php_sdk");
            let text = std::fs::read_to_string(&path).unwrap();
            found.extend(tests_of(&text).map(|test| Numbered {
                may_skip: test.may_skip || is_of_sdk,
                ..test
            }));
        }
    }
}

/// The numbered tests of a file.
fn tests_of(text: &str) -> impl Iterator<Item = Numbered> {
    let starts = text.match_indices("fn w").filter(|(at, _)| {
        let line = text[..*at].rsplit('\n').next().unwrap_or_default();
        matches!(line.trim_start(), "" | "async ")
    });
    starts.filter_map(|(at, _)| {
        let rest = &text[at + "fn w".len()..];
        let name = rest.split('(').next()?;
        let mut words = name.split('_');
        let first: u32 = words.next()?.parse().ok()?;
        let others = words.filter_map(|word| word.strip_prefix('w')?.parse().ok());
        // Functions of tests end where a line has their closing brace alone.
        let body = rest.split("\n}\n").next()?;
        Some(Numbered {
            numbers: std::iter::once(first).chain(others).collect(),
            may_skip: ["or_skip", "return;", "SKIPPED"]
                .iter()
                .any(|word| body.contains(word)),
        })
    })
}

/// All of them: by number, whether one of its tests always shows something.
fn numbers() -> BTreeMap<u32, bool> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut found = Vec::new();
    for folder in ["src", "tests"] {
        tests_in(&root.join(folder), &mut found);
    }
    let mut numbers = BTreeMap::new();
    for test in found {
        for number in test.numbers {
            *numbers.entry(number).or_default() |= !test.may_skip;
        }
    }
    numbers
}

#[test]
fn every_line_of_the_checklist_has_a_test_with_its_number() {
    let found = numbers();
    let missing: Vec<u32> = (1..=LINES)
        .filter(|line| !found.contains_key(line) && !LEFT_OUT.contains(line))
        .collect();
    assert!(missing.is_empty(), "without a test: {missing:?}");
}

#[test]
fn every_line_has_a_test_that_needs_nothing_from_outside_save_those_that_are_named() {
    let found = numbers();
    let bare = found.iter().filter(|(_, shows)| !**shows);
    let bare: BTreeSet<u32> = bare.map(|(number, _)| *number).collect();
    let named: BTreeSet<u32> = NEED.iter().map(|(number, _)| *number).collect();
    assert_eq!(
        bare, named,
        "their tests may all end without having shown anything"
    );
}

#[test]
fn a_test_that_may_end_early_is_told_from_one_that_shows_something() {
    let text = "\
        #[test]\nfn w1_w2_a() {\n    let Some(it) = or_skip(\"a\", found()) else {\n        return;\n    };\n}\n\n\
        #[tokio::test]\nasync fn w3_b() {\n    assert!(true);\n}\n\
        fn without_a_number() {\n    return;\n}\n// fn w4_in_a_comment\n";
    let found: Vec<_> = tests_of(text).map(|it| (it.numbers, it.may_skip)).collect();
    assert_eq!(found, [(vec![1, 2], true), (vec![3], false)]);
}
