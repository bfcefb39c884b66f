//! Reads the text exposition format of Prometheus, version 0.0.4, and is strict about it: what
//! Prometheus would refuse or misread is an error here.

use std::collections::{BTreeMap, BTreeSet};

/// What a metric is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Only grows.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Buckets, their sum and their count.
    Histogram,
}

/// The labels of a sample.
pub(crate) type Labels = BTreeMap<String, String>;

/// The buckets of a histogram by their upper bounds, in the order of the page.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Histogram {
    /// Upper bounds and how many were not above them.
    pub(crate) buckets: Vec<(f64, f64)>,
    /// All together.
    pub(crate) sum: Option<f64>,
    /// How many there are.
    pub(crate) count: Option<f64>,
}

/// A metric with its samples.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Family {
    /// What it is.
    pub(crate) kind: Kind,
    /// What it says.
    pub(crate) help: String,
    /// Of counters and gauges.
    pub(crate) numbers: Vec<(Labels, f64)>,
    /// Of histograms.
    pub(crate) histograms: Vec<(Labels, Histogram)>,
}

impl Family {
    /// The labels of each sample, those of a histogram's buckets but for `le`.
    pub(crate) fn labels(&self) -> impl Iterator<Item = &Labels> {
        let numbers = self.numbers.iter().map(|(labels, _)| labels);
        numbers.chain(self.histograms.iter().map(|(labels, _)| labels))
    }
}

/// All metrics of a page by their names.
pub(crate) type Page = BTreeMap<String, Family>;

/// Reads a page: each metric has its `HELP`, its `TYPE` and then all its samples, no series comes
/// twice, counters are not negative, and histograms are whole and rise.
///
/// # Errors
/// The line that breaks a rule, or the metric, and the rule.
pub(crate) fn parse(text: &str) -> Result<Page, String> {
    if !text.is_empty() && !text.ends_with('\n') {
        return Err("the last line does not end".to_owned());
    }
    let mut page = Page::new();
    let mut series = BTreeSet::new();
    let (mut helped, mut current) = (None, None);
    for line in text.lines() {
        let wrong = |why: &str| format!("{why}: {line}");
        if let Some(rest) = line.strip_prefix("# HELP ") {
            let (name, help) = rest.split_once(' ').ok_or_else(|| wrong("no help"))?;
            let help = unescaped(help, false).ok_or_else(|| wrong("an escape"))?;
            helped = Some((name, help));
            current = None;
        } else if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').ok_or_else(|| wrong("no type"))?;
            let kind = kind_of(kind).ok_or_else(|| wrong("an unknown type"))?;
            let (of, help) = helped.take().ok_or_else(|| wrong("a type without help"))?;
            if of != name || !is_name(name, true) {
                return Err(wrong("not the name of the help, or no name"));
            }
            let family = Family {
                kind,
                help,
                numbers: Vec::new(),
                histograms: Vec::new(),
            };
            if page.insert(name.to_owned(), family).is_some() {
                return Err(wrong("a metric that was there"));
            }
            current = Some(name);
        } else {
            let (name, labels, number) = sample(line).ok_or_else(|| wrong("no sample"))?;
            if !series.insert((name.to_owned(), labels.clone())) {
                return Err(wrong("a series that was there"));
            }
            let of = current.ok_or_else(|| wrong("a sample of no metric"))?;
            let family = page.get_mut(of).ok_or_else(|| wrong("no such metric"))?;
            let suffix = name.strip_prefix(of);
            let suffix = suffix.ok_or_else(|| wrong("a sample of another metric"))?;
            add(family, suffix, labels, number).map_err(|why| wrong(&why))?;
        }
    }
    for (name, family) in &page {
        for (labels, histogram) in &family.histograms {
            check(histogram).map_err(|why| format!("{name} {labels:?}: {why}"))?;
        }
    }
    Ok(page)
}

fn add(family: &mut Family, suffix: &str, mut labels: Labels, number: f64) -> Result<(), String> {
    if family.kind != Kind::Histogram {
        if !suffix.is_empty() {
            return Err("a sample of another metric".to_owned());
        }
        if family.kind == Kind::Counter && (number.is_nan() || number < 0.0) {
            return Err("a counter below 0".to_owned());
        }
        family.numbers.push((labels, number));
        return Ok(());
    }
    let bound = labels.remove("le");
    let known = family.histograms.iter().position(|(of, _)| *of == labels);
    let at = known.unwrap_or_else(|| {
        family.histograms.push((labels, Histogram::default()));
        family.histograms.len() - 1
    });
    let histogram = &mut family.histograms[at].1;
    match (suffix, bound) {
        ("_bucket", Some(bound)) => {
            let bound = number_of(&bound).ok_or("a bound that is no number")?;
            histogram.buckets.push((bound, number));
        }
        ("_sum", None) => histogram.sum = Some(number),
        ("_count", None) => histogram.count = Some(number),
        _ => return Err("no part of a histogram".to_owned()),
    }
    Ok(())
}

fn check(histogram: &Histogram) -> Result<(), &'static str> {
    let (bounds, counts): (Vec<f64>, Vec<f64>) = histogram.buckets.iter().copied().unzip();
    if !bounds.is_sorted_by(|a, b| a < b) {
        return Err("its bounds do not rise");
    }
    if !counts.is_sorted() {
        return Err("its counts fall");
    }
    if bounds.last() != Some(&f64::INFINITY) {
        return Err("it has no open bucket");
    }
    if histogram.count.is_none() || counts.last().copied() != histogram.count {
        return Err("its count is not that of the open bucket");
    }
    if histogram.sum.is_none() {
        return Err("it has no sum");
    }
    Ok(())
}

fn kind_of(word: &str) -> Option<Kind> {
    match word {
        "counter" => Some(Kind::Counter),
        "gauge" => Some(Kind::Gauge),
        "histogram" => Some(Kind::Histogram),
        _ => None,
    }
}

/// Names of metrics may hold colons, those of labels may not.
fn is_name(name: &str, of_metric: bool) -> bool {
    let legal = |c: char| c.is_ascii_alphanumeric() || c == '_' || (of_metric && c == ':');
    !name.starts_with(|c: char| c.is_ascii_digit()) && !name.is_empty() && name.chars().all(legal)
}

/// As the format writes numbers, which is not all that Rust reads.
fn number_of(text: &str) -> Option<f64> {
    match text {
        "+Inf" => Some(f64::INFINITY),
        "-Inf" => Some(f64::NEG_INFINITY),
        "NaN" => Some(f64::NAN),
        _ if text.contains(|c: char| c.is_ascii_digit()) => text.parse().ok(),
        _ => None,
    }
}

fn unescaped(text: &str, is_label: bool) -> Option<String> {
    let mut plain = String::new();
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        plain.push(match c {
            '\\' => match chars.next()? {
                '\\' => '\\',
                'n' => '\n',
                '"' if is_label => '"',
                _ => return None,
            },
            c => c,
        });
    }
    Some(plain)
}

/// A line with a sample, without a time of its own: name, labels, number.
fn sample(line: &str) -> Option<(&str, Labels, f64)> {
    let end = line.find(['{', ' '])?;
    let (name, mut rest) = line.split_at(end);
    let mut labels = Labels::new();
    if let Some(inside) = rest.strip_prefix('{') {
        rest = inside;
        loop {
            let (label, value) = rest.split_once("=\"")?;
            let end = closing_quote(value)?;
            let text = unescaped(&value[..end], true)?;
            if !is_name(label, false) || labels.insert(label.to_owned(), text).is_some() {
                return None;
            }
            rest = &value[end + 1..];
            match rest.strip_prefix(',') {
                Some(more) => rest = more,
                None => break,
            }
        }
        rest = rest.strip_prefix('}')?;
    }
    let number = number_of(rest.strip_prefix(' ')?)?;
    is_name(name, true).then_some((name, labels, number))
}

/// Where a value ends: at the first quote that is not escaped.
fn closing_quote(value: &str) -> Option<usize> {
    let mut escaped = false;
    value.bytes().position(|byte| {
        let ends = byte == b'"' && !escaped;
        escaped = byte == b'\\' && !escaped;
        ends
    })
}

#[test]
fn a_page_is_read_with_its_escapes_and_its_histograms() {
    let text = "# HELP a_total Says \\\\ and\\nmore.\n# TYPE a_total counter\n\
                a_total{x=\"q\\\"}, \\\\\",y=\"\"} 7\n\
                # HELP h Times.\n# TYPE h histogram\n\
                h_bucket{x=\"v\",le=\"0.5\"} 1\nh_bucket{x=\"v\",le=\"+Inf\"} 2\n\
                h_sum{x=\"v\"} 1.5\nh_count{x=\"v\"} 2\n";
    let page = parse(text).unwrap();
    assert_eq!(page["a_total"].help, "Says \\ and\nmore.");
    let (labels, number) = &page["a_total"].numbers[0];
    assert_eq!((labels["x"].as_str(), *number), ("q\"}, \\", 7.0));
    let (_, histogram) = &page["h"].histograms[0];
    assert_eq!(histogram.buckets, [(0.5, 1.0), (f64::INFINITY, 2.0)]);
    assert_eq!((histogram.sum, histogram.count), (Some(1.5), Some(2.0)));
}

#[test]
fn pages_that_break_a_rule_of_the_format_are_refused() {
    let head = "# HELP a A.\n# TYPE a gauge\n";
    let times = "# HELP h H.\n# TYPE h histogram\n";
    let whole = "h_bucket{le=\"1\"} 1\nh_bucket{le=\"+Inf\"} 2\nh_sum 3\nh_count 2\n";
    assert!(parse(&format!("{head}a 1\n{times}{whole}")).is_ok());
    let broken = [
        ("a 1\n".to_owned(), "a sample of no metric"),
        (format!("{head}a 1"), "the last line does not end"),
        (format!("{head}a 1\na 2\n"), "a series that was there"),
        (format!("{head}{head}"), "a metric that was there"),
        (format!("{head}b 1\n"), "a sample of another metric"),
        (format!("{head}a_sum 1\n"), "a sample of another metric"),
        ("# TYPE a gauge\n".to_owned(), "a type without help"),
        (head.replace("gauge", "guage"), "an unknown type"),
        (
            head.replace("gauge", "counter") + "a -1\n",
            "a counter below 0",
        ),
        (head.replace("A.", "A\\."), "an escape"),
        (
            format!("{times}{}", whole.replace("le=\"1\"", "le=\"+Inf\"")),
            "a series",
        ),
        (
            format!("{times}{}", whole.replace("\"} 1", "\"} 5")),
            "its counts fall",
        ),
        (
            format!("{times}{}", whole.replace("+Inf", "9")),
            "it has no open bucket",
        ),
        (
            format!("{times}{}", whole.replace("h_count 2", "h_count 3")),
            "its count is not",
        ),
        (
            format!("{times}{}", whole.replace("h_sum 3\n", "")),
            "it has no sum",
        ),
        (format!("{times}h 1\n"), "no part of a histogram"),
    ];
    for (text, why) in broken {
        let error = parse(&text).unwrap_err();
        assert!(error.contains(why), "{error}\n{text}");
    }
    for line in [
        "a",
        "a x",
        "a  1",
        "a inf",
        "a{} 1",
        "a{x=1} 1",
        "a{x=\"1} 1",
        "a{1=\"x\"} 1",
        "a{x=\"\\d\"} 1",
        "a{x=\"1\",x=\"2\"} 1",
        "a 1 ",
    ] {
        let error = parse(&format!("{head}{line}\n")).unwrap_err();
        assert!(error.contains("no sample"), "{error}");
    }
}
