#![allow(clippy::unwrap_used)]

use proptest::prelude::*;

use super::*;

fn pattern(text: &str) -> Pattern {
    Pattern::parse(text, ":").unwrap()
}

fn taken<'n>(pattern: &Pattern, name: &'n str) -> Option<Vec<&'n str>> {
    let captures = pattern.matches(name)?;
    Some(
        (0..captures.len())
            .map(|index| &name[captures.get(index).unwrap()])
            .collect(),
    )
}

#[test]
fn patterns_of_the_surface_match_what_they_say() {
    let cases: [(&str, &str, Option<&[&str]>); 24] = [
        ("news", "news", Some(&[])),
        ("news", "news2", None),
        ("chat:{room}", "chat:42", Some(&["42"])),
        ("chat:{room}", "chat:", None),
        ("chat:{room}", "chat:a:b", None),
        ("chat:{room...}", "chat:a:b", Some(&["a:b"])),
        ("chat:{room...}", "chat:", None),
        ("chat:*", "chat:", Some(&[])),
        ("chat:*", "chat:a:b", Some(&[])),
        ("chat:*", "chat", None),
        ("*", "", Some(&[])),
        ("a.*", "a.b.c", Some(&[])),
        ("a.b", "a.b", Some(&[])),
        ("{a}.{b}", "x.y.z", Some(&["x", "y.z"])),
        ("{a}-{b}", "--x", Some(&["-", "x"])),
        ("{a}-{b}", "-x", None),
        ("{a}:{b}:*", "x:y:z:w", Some(&["x", "y"])),
        ("room:{{{id}}}", "room:{7}", Some(&["7"])),
        ("{{x}}", "{x}", Some(&[])),
        ("a}b", "a}b", Some(&[])),
        ("комната:{x}!", "комната:ж!", Some(&["ж"])),
        ("{x}", "ж", Some(&["ж"])),
        ("{a}aa{b}", "aaaa", Some(&["a", "a"])),
        ("{a}:{rest...}", "x:y:z", Some(&["x", "y:z"])),
    ];
    for (text, name, expected) in cases {
        assert_eq!(
            taken(&pattern(text), name).as_deref(),
            expected,
            "{text} on {name}"
        );
    }
}

#[test]
fn the_boundary_is_what_it_is_configured_to_be() {
    let slash = Pattern::parse("{a}", "/").unwrap();
    assert!(slash.matches("a:b").is_some() && slash.matches("a/b").is_none());
    let none = Pattern::parse("{a}", "").unwrap();
    assert!(none.matches("a:b/c").is_some());
    let two = Pattern::parse("{a}", "::").unwrap();
    assert!(two.matches("a:b").is_some() && two.matches("a::b").is_none());
}

#[test]
fn a_later_capture_is_kept_free_of_a_long_boundary_by_a_longer_earlier_one() {
    let pattern = Pattern::parse("{a}:{b}", "::").unwrap();
    assert_eq!(taken(&pattern, "p:::q"), Some(vec!["p:", ":q"]));
}

#[test]
fn wrong_patterns_are_refused_with_the_place_and_the_rule() {
    let long = "a".repeat(MAX_PATTERN_BYTES + 1);
    let many: String = ('a'..='i').map(|c| format!("{{{c}}}.")).collect();
    let cases: [(&str, usize, PatternRule); 14] = [
        ("", 1, PatternRule::Empty),
        (&long, 1, PatternRule::TooLong),
        ("chat:{room", 6, PatternRule::Unclosed),
        ("ж:{}", 3, PatternRule::NoName),
        ("{...}", 1, PatternRule::NoName),
        ("{a b}", 1, PatternRule::InvalidName("a b".into())),
        ("{1a}", 1, PatternRule::InvalidName("1a".into())),
        ("{a{b}", 1, PatternRule::InvalidName("a{b".into())),
        ("{a}.{a}", 5, PatternRule::DuplicateName("a".into())),
        ("{a}{b}", 4, PatternRule::Touching),
        ("{a}*", 4, PatternRule::Touching),
        ("{a...}.b", 1, PatternRule::RestNotLast("a".into())),
        ("a*b", 2, PatternRule::StarNotLast),
        (&many, 33, PatternRule::TooManyCaptures),
    ];
    for (text, position, rule) in cases {
        let error = Pattern::parse(text, ":").unwrap_err();
        assert_eq!((error.position, &error.rule), (position, &rule), "{text}");
    }
    let shown = Pattern::parse("a:{x...}b", ":").unwrap_err().to_string();
    assert_eq!(
        shown,
        "pattern `a:{x...}b`, character 3: `{x...}` takes the rest and must be last; \
         write `{x}`, or end the pattern here"
    );
}

#[test]
fn exact_beats_literal_characters_and_they_beat_everything() {
    let order = ["*", "{x}", "a*", "ж{x}в", "a.b.*", "a"].map(|text| pattern(text).specificity());
    assert!(order.is_sorted_by(|one, two| one < two), "{order:?}");
    assert_eq!(pattern("{{{x}").specificity(), Specificity::Literals(1));
    assert_eq!(pattern("ж*").specificity(), pattern("{x}b").specificity());
}

#[test]
fn parameters_are_found_by_name() {
    let pattern = pattern("chat:{room}:{user}");
    let captures = pattern.matches("chat:7:ann").unwrap();
    assert_eq!(pattern.param("user", &captures, "chat:7:ann"), Some("ann"));
    assert_eq!(pattern.param("other", &captures, "chat:7:ann"), None);
    assert_eq!(pattern.param("user", &captures, "ж"), None);
}

#[test]
fn a_mismatch_says_why() {
    let why = |text: &str, name: &str| pattern(text).mismatch(name);
    assert_eq!(why("a", "b"), Some(Mismatch::Other));
    assert_eq!(
        why("chat:{x}", "news:1"),
        Some(Mismatch::Begin("chat:".into()))
    );
    assert_eq!(why("{x}.log", "a.txt"), Some(Mismatch::End(".log".into())));
    assert_eq!(why("chat:{x}", "chat:"), Some(Mismatch::Between));
    assert_eq!(why("{x}.{y...}", "ab"), Some(Mismatch::Between));
    assert_eq!(
        why("chat:{x}", "chat:a:b"),
        Some(Mismatch::Boundary(":".into()))
    );
    assert_eq!(why("{x}", &"a".repeat(70_000)), Some(Mismatch::TooLong));
    assert_eq!(why("chat:{x}", "chat:1"), None);
}

#[test]
fn overlaps_are_shown_by_a_plain_example() {
    let common = |one: &str, two: &str| pattern(one).common_name(&pattern(two));
    assert_eq!(common("chat:{x}", "{y}:abcd"), Some("chat:abcd".into()));
    assert_eq!(common("chat:{x}", "chat:{y...}"), Some("chat:x".into()));
    assert_eq!(common("chat:{x}", "chat:{y}:z"), None);
    assert_eq!(common("{a}x", "{b}y"), None);
}

#[test]
fn a_pattern_may_be_covered_by_several_that_do_not_cover_it_alone() {
    let covered = |text: &str, others: &[&str]| {
        let others: Vec<Pattern> = others.iter().map(|text| pattern(text)).collect();
        pattern(text).covered_by(&others.iter().collect::<Vec<_>>())
    };
    assert!(covered("a*", &["a{x...}", "a"]));
    assert!(!covered("a*", &["a{x...}"]));
    assert!(!covered("a*", &["a"]));
    assert!(covered("a:{x}", &["a:{y...}"]));
    assert!(!covered("a:{x...}", &["a:{y}"]));
    assert!(!covered("a:{x...}", &["a:{y}", "a:{y}:{z...}"]));
    assert!(covered("a:{x}:b", &["{p}:{q}:{r}"]));
    assert!(!covered("*", &[]));
}

#[test]
fn contrived_patterns_cannot_hold_up_the_start() {
    let letters = "abcdefghijklmnopqrst";
    let others: Vec<Pattern> = letters
        .chars()
        .map(|c| pattern(&format!("{{x}}{c}{{y}}.{{z}}")))
        .collect();
    assert!(!pattern("{all...}").covered_by(&others.iter().collect::<Vec<_>>()));
}

#[test]
fn adversarial_names_cost_no_more_than_linear_time() {
    let hard = Pattern::parse("{a}a:{b}a:{c}a:{d}a:{e}a:{f}a:{g}a:{h}b", "::").unwrap();
    let name = "a:".repeat(MAX_CAPTURED_NAME_BYTES / 2 - 2) + "::b";
    let started = tokio::time::Instant::now();
    assert!(hard.matches(&name).is_none());
    assert!(started.elapsed().as_secs() < 5, "{:?}", started.elapsed());
}

/// What the documentation of the module says, said again by trying everything.
fn naive<'n>(pattern: &Pattern, name: &'n str) -> Option<Vec<&'n str>> {
    fn go<'n>(pattern: &Pattern, index: usize, rest: &'n str) -> Option<Vec<&'n str>> {
        let Some(capture) = pattern.captures.get(index) else {
            return (rest.is_empty() || pattern.tail == Tail::Anything).then(Vec::new);
        };
        let unbounded = pattern.tail == Tail::Rest && index + 1 == pattern.captures.len();
        let ends = rest.char_indices().map(|(at, c)| at + c.len_utf8());
        for end in ends {
            let (inside, after) = rest.split_at(end);
            let foul = !pattern.boundary.is_empty() && inside.contains(&*pattern.boundary);
            let Some(after) = after
                .strip_prefix(&*capture.after)
                .filter(|_| unbounded || !foul)
            else {
                continue;
            };
            if let Some(mut found) = go(pattern, index + 1, after) {
                found.insert(0, inside);
                return Some(found);
            }
        }
        None
    }
    go(pattern, 0, name.strip_prefix(&*pattern.head)?)
}

/// Patterns over `a`, `:` and `ж`, with every boundary that can be configured.
fn patterns() -> impl Strategy<Value = Pattern> {
    let literal = "[a:ж]{1,3}";
    let boundary = prop_oneof![Just(""), Just(":"), Just("::"), Just(":a")];
    let middle = proptest::collection::vec(literal, 0..4);
    ("[a:ж]{0,2}", middle, 0..4usize, boundary).prop_filter_map(
        "valid",
        |(head, middle, end, boundary)| {
            let mut text = head;
            for (index, literal) in middle.iter().enumerate() {
                text += &format!("{{c{index}}}{literal}");
            }
            text += ["", "*", "{last}", "{last...}"][end];
            Pattern::parse(&text, boundary).ok()
        },
    )
}

fn names() -> impl Strategy<Value = String> {
    "[a:ж]{0,9}"
}

/// Every name of up to `length` characters; `b` stands for the characters that no pattern has.
fn all_names(length: usize) -> Vec<String> {
    let mut names = vec![String::new()];
    let mut from = 0;
    for _ in 0..length {
        let longer: Vec<String> = names[from..]
            .iter()
            .flat_map(|name| ["a", ":", "ж", "b"].map(|c| name.clone() + c))
            .collect();
        from = names.len();
        names.extend(longer);
    }
    names
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn matching_agrees_with_trying_everything(pattern in patterns(), name in names()) {
        prop_assert_eq!(taken(&pattern, &name), naive(&pattern, &name), "{} on {}", pattern, name);
        prop_assert_eq!(pattern.mismatch(&name).is_none(), pattern.matches(&name).is_some());
    }

    #[test]
    fn a_printed_pattern_parses_to_itself(pattern in patterns()) {
        let again = Pattern::parse(&pattern.to_string(), &pattern.boundary).unwrap();
        prop_assert_eq!(again, pattern);
    }

    #[test]
    fn any_text_parses_and_prints_back_or_is_refused(text in "[a{}.*:x]{0,12}", name in ".{0,12}") {
        if let Ok(pattern) = Pattern::parse(&text, ":") {
            prop_assert_eq!(&Pattern::parse(&pattern.to_string(), ":").unwrap(), &pattern);
            let _ = pattern.matches(&name);
        }
    }

    #[test]
    fn literal_text_with_doubled_braces_matches_itself_alone(name in "[a-z{}:]{1,12}", other in names()) {
        let doubled = name.replace('{', "{{").replace('}', "}}");
        let exact = pattern(&doubled);
        prop_assert_eq!(exact.exact(), Some(&*name));
        prop_assert_eq!(exact.matches(&other).is_some(), other == name);
    }

    #[test]
    fn a_common_name_is_matched_by_both(one in patterns(), two in patterns()) {
        if let Some(name) = one.common_name(&two) {
            prop_assert!(one.matches(&name).is_some() && two.matches(&name).is_some(), "{}", name);
        }
        prop_assert_eq!(one.overlaps(&two), two.overlaps(&one));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]

    #[test]
    fn overlap_and_cover_agree_with_every_short_name(
        subject in patterns(), others in proptest::collection::vec(patterns(), 1..4),
    ) {
        let names: Vec<String> = all_names(6);
        let mine: Vec<&String> = names.iter().filter(|name| subject.matches(name).is_some()).collect();
        for other in &others {
            if mine.iter().any(|name| other.matches(name).is_some()) {
                prop_assert!(subject.overlaps(other), "{} and {}", subject, other);
            }
            if let Some(name) = subject.common_name(other) {
                // The shortest is short enough to be among the names, or none of them is common.
                let listed = names.iter().any(|short| subject.matches(short).is_some() && other.matches(short).is_some());
                prop_assert_eq!(listed, name.chars().count() <= 6);
            }
        }
        let refs: Vec<&Pattern> = others.iter().collect();
        let is_left = |name: &str| {
            subject.matches(name).is_some() && refs.iter().all(|other| other.matches(name).is_none())
        };
        match subject.name_left_by(&refs).unwrap() {
            None => prop_assert!(!mine.iter().any(|name| is_left(name))),
            Some(name) => prop_assert!(is_left(&name), "{} does not leave {}", subject, name),
        }
    }
}
