//! The checklist itself: each of its lines is carried by a test that has its number in its name.

use std::collections::BTreeSet;
use std::path::Path;

/// Lines of the checklist.
const LINES: u32 = 122;
/// Those of a compatibility mode that there is not: health and log in RoadRunner's own form.
const LEFT_OUT: [u32; 3] = [117, 118, 121];

/// Numbers in the names of tests in a folder, as in `w09_…` or `w43_w44_…`.
fn numbers_in(folder: &Path, found: &mut BTreeSet<u32>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            if !path.ends_with("node_modules") {
                numbers_in(&path, found);
            }
            continue;
        }
        if path.extension().is_none_or(|it| it != "rs") {
            continue;
        }
        let text = std::fs::read_to_string(&path).unwrap();
        let names = text.lines().filter_map(|line| {
            let (before, name) = line.trim_start().split_once("fn w")?;
            matches!(before, "" | "async ").then_some(name)
        });
        for name in names {
            let name = name.split('(').next().unwrap();
            let mut words = name.split('_');
            let first: Option<u32> = words.next().and_then(|word| word.parse().ok());
            found.extend(first);
            let others = words.filter_map(|word| word.strip_prefix('w')?.parse::<u32>().ok());
            found.extend(others);
        }
    }
}

#[test]
fn every_line_of_the_checklist_has_a_test_with_its_number() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut found = BTreeSet::new();
    for folder in ["src", "tests"] {
        numbers_in(&root.join(folder), &mut found);
    }
    let missing: Vec<u32> = (1..=LINES)
        .filter(|line| !found.contains(line) && !LEFT_OUT.contains(line))
        .collect();
    assert!(missing.is_empty(), "without a test: {missing:?}");
}
