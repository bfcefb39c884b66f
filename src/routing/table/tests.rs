#![allow(clippy::unwrap_used)]

use proptest::prelude::*;

use super::*;
use crate::routing::pattern::{Mismatch, PatternRule, Specificity};

fn rules(routes: &[(EventKind, &str)]) -> Vec<RouteRule<usize>> {
    let rule = |(payload, (kind, pattern)): (usize, &(EventKind, &str))| RouteRule {
        kind: *kind,
        pattern: Some((*pattern).to_owned()).filter(|text| text != "-"),
        name: format!("route #{} ({kind} `{pattern}`)", payload + 1),
        payload,
    };
    routes.iter().enumerate().map(rule).collect()
}

fn table(routes: &[(EventKind, &str)]) -> RouteTable<usize> {
    RouteTable::build(rules(routes), ":").unwrap()
}

fn errors(routes: &[(EventKind, &str)]) -> Vec<String> {
    let errors = RouteTable::build(rules(routes), ":").unwrap_err();
    errors.iter().map(ToString::to_string).collect()
}

use EventKind::{Connect, Publish, Rpc, Subscribe};

#[test]
fn the_most_specific_route_of_the_event_takes_it() {
    let table = table(&[
        (Rpc, "-"),
        (Rpc, "seat.*"),
        (Rpc, "seat.hold"),
        (Subscribe, "chat:{room}"),
        (Connect, "-"),
        (Subscribe, "chat:vip-{room}"),
    ]);
    let found = |kind, name| table.find(kind, name).map(|found| *found.payload());
    assert_eq!(found(Rpc, "seat.hold"), Some(2));
    assert_eq!(found(Rpc, "seat.free"), Some(1));
    assert_eq!(found(Rpc, ""), Some(0));
    assert_eq!(found(Subscribe, "chat:1"), Some(3));
    assert_eq!(found(Subscribe, "chat:vip-1"), Some(5));
    assert_eq!(found(Subscribe, "news"), None);
    assert_eq!(found(Publish, "chat:1"), None);
    assert_eq!(found(Connect, ""), Some(4));
    let vip = table.find(Subscribe, "chat:vip-1").unwrap();
    assert_eq!((vip.index, vip.param("room", "chat:vip-1")), (5, Some("1")));
    assert_eq!(
        vip.route.pattern().map(ToString::to_string).as_deref(),
        Some("chat:vip-{room}")
    );
    assert!(table.routes()[0].pattern().is_none());
}

#[test]
fn routes_that_could_tie_are_both_named_with_an_example() {
    assert_eq!(
        errors(&[
            (Subscribe, "chat:{a}"),
            (Subscribe, "{b}:abcd"),
            (Subscribe, "chat:*")
        ]),
        [
            "route #1 (subscribe `chat:{a}`) and route #2 (subscribe `{b}:abcd`) are equally specific \
             and both match `chat:abcd`; remove one, or give one more literal text",
            "route #1 (subscribe `chat:{a}`) and route #3 (subscribe `chat:*`) are equally specific \
             and both match `chat:x`; remove one, or give one more literal text",
            "route #2 (subscribe `{b}:abcd`) and route #3 (subscribe `chat:*`) are equally specific \
             and both match `chat:abcd`; remove one, or give one more literal text",
        ]
    );
    assert!(errors(&[(Rpc, "a.b"), (Rpc, "a.b")])[0].contains("both match `a.b`;"));
    assert!(
        errors(&[(Connect, "-"), (Connect, "-")])[0].contains("both match every connect event")
    );
    assert!(errors(&[(Rpc, "*"), (Rpc, "-")])[0].contains("both match every rpc event"));
    table(&[
        (Subscribe, "chat:{a}"),
        (Publish, "chat:{a}"),
        (Subscribe, "news:{a}"),
    ]);
}

#[test]
fn routes_that_can_never_match_are_named_with_the_reason() {
    assert_eq!(
        errors(&[(Subscribe, "-"), (Subscribe, "{x...}")]),
        [
            "route #1 (subscribe `-`) can never match: all that it matches goes to route #2 \
          (subscribe `{x...}`), which is more specific; remove one of the two"
        ]
    );
    // Names with the boundary are left, or the empty method.
    table(&[(Subscribe, "*"), (Subscribe, "{x}")]);
    table(&[(Rpc, "*"), (Rpc, "{x...}")]);
    let unbounded = RouteTable::build(rules(&[(Subscribe, "*"), (Subscribe, "{x}")]), "");
    assert!(matches!(
        &unbounded.unwrap_err()[..],
        [RouteError::Never { .. }]
    ));
    let long = "c".repeat(255) + "{x}";
    assert!(errors(&[(Publish, &long)])[0].contains("a channel would need 256 bytes"));
}

#[test]
fn all_problems_are_told_at_once() {
    let long = "c".repeat(256);
    let told = RouteTable::build(
        rules(&[
            (Connect, "x"),
            (Subscribe, "{"),
            (Subscribe, &long),
            (Rpc, &long),
            (Rpc, "a"),
            (Rpc, "a"),
        ]),
        ":",
    )
    .unwrap_err();
    assert!(
        matches!(&told[0], RouteError::NothingToMatch { kind: Connect, .. }),
        "{told:?}"
    );
    assert!(
        matches!(&told[1], RouteError::Pattern { source, .. } if source.rule == PatternRule::Unclosed)
    );
    assert!(matches!(
        &told[2],
        RouteError::Never {
            reason: NeverReason::TooLong(256),
            ..
        }
    ));
    assert!(matches!(&told[3], RouteError::Tie { .. }));
    assert_eq!(told.len(), 4);
}

#[test]
fn an_explanation_names_every_candidate_and_its_fate() {
    let table = table(&[
        (Subscribe, "-"),
        (Subscribe, "chat:{room}"),
        (Subscribe, "news"),
        (Rpc, "-"),
    ]);
    let told: Vec<_> = table
        .explain(Subscribe, "chat:7")
        .into_iter()
        .map(|candidate| (candidate.index, candidate.specificity, candidate.verdict))
        .collect();
    assert_eq!(
        told,
        [
            (2, Specificity::Exact, Verdict::Differs(Mismatch::Other)),
            (
                1,
                Specificity::Literals(5),
                Verdict::Takes(vec![("room".into(), "7".into())])
            ),
            (0, Specificity::Everything, Verdict::LosesTo(1)),
        ]
    );
}

fn pattern_text() -> impl Strategy<Value = String> {
    let piece = prop_oneof![Just("a"), Just("b"), Just(":"), Just("ab:")];
    (proptest::collection::vec(piece, 0..3), 0..5usize).prop_map(|(pieces, form)| {
        let text = pieces.concat();
        match form {
            0 if !text.is_empty() => text,
            1 => text + "{x}",
            2 => text + "{x...}",
            3 => format!("{{x}}{text}"),
            _ => text + "*",
        }
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn a_table_that_starts_has_one_most_specific_route_for_every_name(
        texts in proptest::collection::vec(pattern_text(), 1..6),
        names in proptest::collection::vec("[ab:c]{0,6}", 24),
    ) {
        let routes: Vec<(EventKind, &str)> = texts.iter().map(|text| (Rpc, &**text)).collect();
        let patterns: Vec<Pattern> = texts.iter().map(|text| Pattern::parse(text, ":").unwrap()).collect();
        let Ok(table) = RouteTable::build(rules(&routes), ":") else { return Ok(()) };
        for name in &names {
            let mut matching: Vec<usize> =
                (0..patterns.len()).filter(|at| patterns[*at].matches(name).is_some()).collect();
            matching.sort_by_key(|at| std::cmp::Reverse(patterns[*at].specificity()));
            let found = table.find(Rpc, name);
            prop_assert_eq!(found.as_ref().map(|found| found.index), matching.first().copied());
            if let [first, second, ..] = matching[..] {
                prop_assert!(patterns[first].specificity() > patterns[second].specificity());
            }
            let told = table.explain(Rpc, name);
            let takes = told.iter().find(|candidate| matches!(candidate.verdict, Verdict::Takes(_)));
            prop_assert_eq!(takes.map(|candidate| candidate.index), matching.first().copied());
        }
    }

    #[test]
    fn routes_are_refused_exactly_if_two_tie(texts in proptest::collection::vec(pattern_text(), 2..5)) {
        let routes: Vec<(EventKind, &str)> = texts.iter().map(|text| (Rpc, &**text)).collect();
        let patterns: Vec<Pattern> = texts.iter().map(|text| Pattern::parse(text, ":").unwrap()).collect();
        let mut tie = false;
        for (at, one) in patterns.iter().enumerate() {
            let rivals = patterns[..at].iter().filter(|two| one.specificity() == two.specificity());
            tie |= rivals.into_iter().any(|two| one.overlaps(two));
            // Why nothing but routes of everything is looked at for being covered.
            let above = patterns.iter().filter(|other| other.specificity() > one.specificity());
            prop_assert!(!one.covered_by(&above.collect::<Vec<_>>()), "{}", one);
        }
        prop_assert_eq!(RouteTable::build(rules(&routes), ":").is_err(), tie);
    }
}
