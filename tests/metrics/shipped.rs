//! What the reference, the dashboard and the alerts say of metrics.

use super::exposition::Kind;
use super::world::World;
use super::{LIMIT, file, parse};
use centripeta::metrics;
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

#[test]
fn the_reference_is_what_the_code_says() {
    if std::env::var_os("WRITE_DOCS").is_some() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/metrics.md");
        fs::write(path, metrics::documentation()).unwrap();
    }
    assert_eq!(
        file("docs/metrics.md"),
        metrics::documentation(),
        "write it anew with WRITE_DOCS=1"
    );
}

/// Expressions of the dashboard and of the alerts, with the place of each.
pub(super) fn expressions() -> Vec<(String, String)> {
    fn collect(value: &serde_json::Value, found: &mut Vec<(String, String)>) {
        match value {
            serde_json::Value::Object(fields) => {
                for key in ["expr", "query", "definition"] {
                    if let Some(text) = fields.get(key).and_then(|it| it.as_str()) {
                        found.push(("deploy/grafana.json".to_owned(), text.to_owned()));
                    }
                }
                fields.values().for_each(|field| collect(field, found));
            }
            serde_json::Value::Array(items) => items.iter().for_each(|item| collect(item, found)),
            _ => {}
        }
    }
    let mut found = Vec::new();
    let dashboard: serde_json::Value = serde_json::from_str(&file("deploy/grafana.json")).unwrap();
    collect(&dashboard, &mut found);
    assert!(found.len() > 20, "the dashboard has panels");
    let alerts = file("deploy/alerts.yml");
    let names = alerts
        .lines()
        .filter(|line| line.contains("- alert: "))
        .count();
    let lines = alerts
        .lines()
        .filter_map(|line| line.trim().strip_prefix("expr: "));
    let before = found.len();
    found.extend(lines.map(|expr| ("deploy/alerts.yml".to_owned(), expr.to_owned())));
    assert!(names > 10, "there are alerts");
    assert_eq!(
        found.len() - before,
        names,
        "each alert has its expression on one line"
    );
    found
}

/// The words of an expression, but for those inside of quotes.
pub(super) fn words(expression: &str) -> Vec<&str> {
    let outside = expression.split('"').step_by(2);
    let is_word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    outside
        .flat_map(|part| part.split(move |c| !is_word(c)))
        .filter(|word| !word.is_empty())
        .collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dashboard_alerts_and_reference_name_the_metrics_that_a_run_exports() {
    let world = World::start(&[]).await;
    world.fire().await;
    let page = parse(&world.page().await);
    let exported: BTreeSet<&str> = page.keys().map(String::as_str).collect();
    // A run without worker processes and upstreams has nothing to say of them; `tests/workers` and
    // `tests/upstream` have some. Nor has one alone of a cluster; `cluster` has one that is not.
    let is_elsewhere = |name: &&str| {
        [
            "centripeta_worker",
            "centripeta_upstream",
            "centripeta_cluster_",
        ]
        .iter()
        .any(|part| name.starts_with(part))
    };
    let documented = metrics::names().filter(|it| !is_elsewhere(it));
    let documented: BTreeSet<&str> = documented.collect();
    assert_eq!(exported, documented);
    let reference = file("docs/metrics.md");
    for (name, family) in &page {
        assert!(reference.contains(&format!("| `{name}` |")), "{name}");
        let has_some = family.labels().next().is_some();
        assert!(has_some, "{name} has no sample");
        assert!(!family.help.is_empty(), "{name}");
    }

    let mut used = BTreeSet::new();
    for (place, expression) in expressions() {
        // What Prometheus adds, and the labels of the metrics in the expression.
        let mut known: BTreeSet<String> = ["instance", "job", "le"].map(str::to_owned).into();
        for word in words(&expression) {
            if !word.starts_with("centripeta_") {
                continue;
            }
            if is_elsewhere(&word) {
                let name = word.strip_suffix("_bucket").unwrap_or(word);
                let is_there = metrics::names().any(|it| it == name);
                assert!(is_there, "{place}: no {word}: {expression}");
                let labels = [
                    "handler",
                    "state",
                    "reason",
                    "code",
                    "kind",
                    "step",
                    "result",
                    "peer",
                    "endpoint",
                    "class",
                    "direction",
                ];
                known.extend(labels.map(str::to_owned));
                continue;
            }
            let of_histogram = ["_bucket", "_sum", "_count"]
                .iter()
                .filter_map(|suffix| word.strip_suffix(suffix))
                .find(|name| {
                    let family = page.get(*name);
                    family.is_some_and(|it| it.kind == Kind::Histogram)
                });
            let name = of_histogram.unwrap_or(word);
            let family = page.get(name);
            let family = family.unwrap_or_else(|| panic!("{place}: no {word}: {expression}"));
            if family.kind == Kind::Histogram {
                assert!(of_histogram.is_some(), "{place}: a part of {word} is meant");
            }
            known.extend(family.labels().flat_map(|labels| labels.keys().cloned()));
            used.insert(name.to_owned());
        }
        for label in labels_of(&expression) {
            assert!(
                known.contains(label),
                "{place}: no label {label}: {expression}"
            );
        }
    }
    let unused: Vec<_> = exported
        .iter()
        .filter(|name| !used.contains(**name))
        .collect();
    assert!(unused.is_empty(), "neither shown nor watched: {unused:?}");
    world.node.shutdown(LIMIT).await;
}

#[test]
fn links_of_events_which_close_while_nobody_needs_them_raise_no_alert_and_are_not_counted_as_lost()
{
    let up: Vec<_> = expressions()
        .into_iter()
        .filter(|(_, expression)| words(expression).contains(&"centripeta_cluster_link_up"))
        .collect();
    assert!(up.iter().any(|(place, _)| place.ends_with("alerts.yml")));
    for (place, expression) in up {
        assert!(
            expression.contains("class=\"control\""),
            "{place}: {expression}"
        );
    }
}

/// Labels that an expression groups by, joins on or selects.
fn labels_of(expression: &str) -> Vec<&str> {
    let mut found = Vec::new();
    for opening in ["by (", "on (", "ignoring (", "group_left ("] {
        for after in expression.split(opening).skip(1) {
            let inside = after.split(')').next().unwrap();
            found.extend(inside.split(',').map(str::trim).filter(|it| !it.is_empty()));
        }
    }
    for after in expression.split('{').skip(1) {
        let inside = after.split('}').next().unwrap();
        let selectors = inside
            .split("\",")
            .filter_map(|it| it.split(['=', '!']).next());
        found.extend(selectors.map(str::trim).filter(|it| !it.is_empty()));
    }
    found
}
