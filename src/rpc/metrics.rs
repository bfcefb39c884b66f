//! `metrics.*`: what applications count for themselves, for `/metrics`.
//!
//! Bounded, since whoever calls chooses names and label values: so many collectors, so many lines of
//! series. What does not fit is refused in words and counted nowhere.

use serde::Deserialize;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Collectors there can be.
const COLLECTORS: usize = 1000;
/// Lines of series there can be; one of a histogram takes one for each bucket and three more.
const SERIES: usize = 10_000;
/// Bytes of a metric's name.
const NAME_BYTES: usize = 200;
/// Bytes of a text for people.
const HELP_BYTES: usize = 1024;
/// Labels of a collector.
const LABELS: usize = 16;
/// Bytes of a label's value.
const VALUE_BYTES: usize = 512;
/// Buckets of a histogram.
const BUCKETS: usize = 64;
/// Names that are not an application's.
const TAKEN: [&str; 2] = ["centripeta_", "rr_"];
/// Buckets of a histogram that names none, in the usual seconds.
const USUAL: [f64; 11] = [
    0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0,
];

/// The argument of `metrics.Declare`.
#[derive(Debug, Deserialize)]
pub(super) struct Declared {
    #[serde(alias = "Name")]
    name: String,
    #[serde(alias = "Collector")]
    collector: Described,
}

/// What a collector is. The quantiles of a summary (`objectives`) are not computed: it exports sum
/// and count.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Described {
    namespace: Option<String>,
    subsystem: Option<String>,
    #[serde(rename = "type")]
    kind: String,
    help: Option<String>,
    labels: Option<Vec<String>>,
    buckets: Option<Vec<f64>>,
}

/// The argument of `metrics.Add`, `.Sub`, `.Set` and `.Observe`.
#[derive(Debug, Deserialize)]
pub(super) struct Sample {
    #[serde(alias = "Name")]
    name: String,
    #[serde(alias = "Value", default)]
    value: f64,
    #[serde(alias = "Labels", default)]
    labels: Option<Vec<String>>,
}

/// Why something is not counted.
#[derive(Debug, thiserror::Error)]
pub(super) enum Refused {
    #[error("undefined collector {0}, try first Declare the desired collector")]
    Undefined(String),
    #[error("tried to register existing collector with the name `{0}`")]
    Exists(String),
    #[error("`{0}` is not the name of a metric: letters, digits, `_` and `:`, at most 200 bytes")]
    Name(String),
    #[error("`{0}` begins like the metrics of the node itself; choose another name or namespace")]
    Reserved(String),
    #[error("`{0}` would stand twice on the page of metrics; choose another name or namespace")]
    Twice(String),
    #[error("`{0}` is no type of collector: counter, gauge, histogram and summary are")]
    Kind(String),
    #[error("`{0}` is not the name of a label, or stands there twice, or is taken by the type")]
    Label(String),
    #[error("{there} {what}, and at most {most} are taken")]
    TooMany {
        what: &'static str,
        there: usize,
        most: usize,
    },
    #[error("the help of `{0}` is longer than 1024 bytes")]
    Help(String),
    #[error("the buckets of `{0}` must be numbers that rise")]
    Buckets(String),
    #[error("{there} label values for `{name}`, which has {due}")]
    Values {
        name: String,
        due: usize,
        there: usize,
    },
    #[error("a label value of `{0}` is longer than 512 bytes")]
    LongValue(String),
    #[error("collector `{name}` is a {kind}, which has no `{method}`")]
    Method {
        name: String,
        kind: &'static str,
        method: String,
    },
    #[error("counter `{0}` can't go down")]
    Down(String),
    #[error("there are {COLLECTORS} collectors, and no more are taken; unregister some")]
    FullOfCollectors,
    #[error(
        "there are {SERIES} lines of series, and no more are taken: `{0}` needs another; use \
         labels with fewer values"
    )]
    FullOfSeries(String),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Counter,
    Gauge,
    Histogram,
    Summary,
}

impl Kind {
    const fn name(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
            Self::Summary => "summary",
        }
    }

    /// What the lines of such a collector end in.
    const fn suffixes(self) -> &'static [&'static str] {
        match self {
            Self::Counter | Self::Gauge => &[""],
            Self::Histogram => &["", "_bucket", "_sum", "_count"],
            Self::Summary => &["", "_sum", "_count"],
        }
    }
}

/// One series.
#[derive(Debug, Default)]
struct Series {
    /// The number, or the sum of what was observed.
    value: f64,
    /// How often something was observed.
    count: u64,
    /// The same by bucket.
    buckets: Vec<u64>,
}

#[derive(Debug)]
struct Collector {
    kind: Kind,
    full: String,
    help: String,
    labels: Vec<String>,
    bounds: Vec<f64>,
    series: BTreeMap<Vec<String>, Series>,
}

impl Collector {
    /// Lines that a series takes.
    fn lines(&self) -> usize {
        match self.kind {
            Kind::Counter | Kind::Gauge => 1,
            Kind::Summary => 2,
            Kind::Histogram => self.bounds.len() + 3,
        }
    }
}

#[derive(Debug, Default)]
struct Registry {
    collectors: BTreeMap<String, Collector>,
    lines: usize,
}

/// The collectors of a node. Clones share them.
#[derive(Debug, Clone, Default)]
pub(crate) struct Collectors(Arc<Mutex<Registry>>);

impl Collectors {
    fn lock(&self) -> MutexGuard<'_, Registry> {
        // Nothing in here leaves a half-done change behind.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Declares a collector.
    pub(super) fn declare(&self, declared: Declared) -> Result<(), Refused> {
        let Declared { name, collector } = declared;
        let mut registry = self.lock();
        if registry.collectors.contains_key(&name) {
            // Workers declare what they need when they start; their library knows this text.
            return Err(Refused::Exists(name));
        }
        if registry.collectors.len() >= COLLECTORS {
            return Err(Refused::FullOfCollectors);
        }
        let mut collector = described(&name, collector)?;
        for other in registry.collectors.values() {
            if let Some(twice) = meets(&collector, other) {
                return Err(Refused::Twice(twice));
            }
        }
        if collector.labels.is_empty() {
            // It is there at zero before anything is counted.
            registry.make_room(&collector, &name)?;
            let buckets = vec![0; collector.bounds.len()];
            let series = Series {
                buckets,
                ..Series::default()
            };
            collector.series.insert(Vec::new(), series);
        }
        registry.collectors.insert(name, collector);
        Ok(())
    }

    /// Takes a collector and its series out.
    pub(super) fn unregister(&self, name: &str) -> Result<(), Refused> {
        let mut registry = self.lock();
        let found = registry.collectors.remove(name);
        let collector = found.ok_or_else(|| Refused::Undefined(name.to_owned()))?;
        registry.lines -= collector.series.len() * collector.lines();
        Ok(())
    }

    /// `Add`, `Sub`, `Set` or `Observe`.
    pub(super) fn record(&self, method: &str, sample: Sample) -> Result<(), Refused> {
        let Sample {
            name,
            value,
            labels,
        } = sample;
        let labels = labels.unwrap_or_default();
        let mut registry = self.lock();
        let registry = &mut *registry;
        let Some(collector) = registry.collectors.get_mut(&name) else {
            return Err(Refused::Undefined(name));
        };
        let (due, there) = (collector.labels.len(), labels.len());
        if due != there {
            return Err(Refused::Values { name, due, there });
        }
        if labels.iter().any(|value| value.len() > VALUE_BYTES) {
            return Err(Refused::LongValue(name));
        }
        match (method, collector.kind) {
            ("Add", Kind::Counter) if value < 0.0 => return Err(Refused::Down(name)),
            ("Add", Kind::Counter | Kind::Gauge)
            | ("Sub" | "Set", Kind::Gauge)
            | ("Observe", Kind::Histogram | Kind::Summary) => {}
            (method, kind) => {
                return Err(Refused::Method {
                    name,
                    kind: kind.name(),
                    method: method.to_owned(),
                });
            }
        }
        if !collector.series.contains_key(&labels) {
            let lines = collector.lines();
            if registry.lines + lines > SERIES {
                return Err(Refused::FullOfSeries(name));
            }
            registry.lines += lines;
        }
        let bounds = &collector.bounds;
        let series = collector.series.entry(labels).or_insert_with(|| Series {
            buckets: vec![0; bounds.len()],
            ..Series::default()
        });
        match method {
            "Set" => series.value = value,
            "Sub" => series.value -= value,
            "Add" => series.value += value,
            _ => {
                series.value += value;
                series.count += 1;
                let bucket = bounds.iter().position(|bound| value <= *bound);
                if let Some(bucket) = bucket.and_then(|at| series.buckets.get_mut(at)) {
                    *bucket += 1;
                }
            }
        }
        Ok(())
    }

    /// Appends everything, as Prometheus reads it.
    pub(crate) fn write(&self, page: &mut String) {
        for collector in self.lock().collectors.values() {
            collector.write(page);
        }
    }
}

impl Registry {
    fn make_room(&mut self, collector: &Collector, name: &str) -> Result<(), Refused> {
        let lines = collector.lines();
        if self.lines + lines > SERIES {
            return Err(Refused::FullOfSeries(name.to_owned()));
        }
        self.lines += lines;
        Ok(())
    }
}

/// A collector as it was described, if that is possible.
fn described(name: &str, described: Described) -> Result<Collector, Refused> {
    let Described {
        namespace,
        subsystem,
        kind,
        help,
        labels,
        buckets,
    } = described;
    let kinds = [Kind::Counter, Kind::Gauge, Kind::Histogram, Kind::Summary];
    let found = kinds.into_iter().find(|it| it.name() == kind);
    let kind = found.ok_or(Refused::Kind(kind))?;
    let parts = [namespace.unwrap_or_default(), subsystem.unwrap_or_default()];
    let parts = parts.iter().map(String::as_str).chain([name]);
    let full = parts.filter(|part| !part.is_empty()).collect::<Vec<_>>();
    let full = full.join("_");
    if full.len() > NAME_BYTES || !is_name(&full, true) {
        return Err(Refused::Name(shortened(&full)));
    }
    if TAKEN.iter().any(|taken| full.starts_with(taken)) {
        return Err(Refused::Reserved(full));
    }
    let help = help.unwrap_or_default();
    if help.len() > HELP_BYTES {
        return Err(Refused::Help(full));
    }
    let labels = labels.unwrap_or_default();
    few("labels", labels.len(), LABELS)?;
    for (at, label) in labels.iter().enumerate() {
        let is_the_types = match kind {
            Kind::Histogram => label == "le",
            Kind::Summary => label == "quantile",
            Kind::Counter | Kind::Gauge => false,
        };
        let fits = is_name(label, false) && !label.starts_with("__") && label.len() <= NAME_BYTES;
        if !fits || is_the_types || labels[..at].contains(label) {
            return Err(Refused::Label(shortened(label)));
        }
    }
    let mut bounds = buckets.unwrap_or_default();
    few("buckets", bounds.len(), BUCKETS)?;
    if kind != Kind::Histogram {
        bounds.clear();
    } else if bounds.is_empty() {
        bounds = USUAL.to_vec();
    }
    let rise = bounds.windows(2).all(|pair| pair[0] < pair[1]);
    if !rise || bounds.iter().any(|bound| !bound.is_finite()) {
        return Err(Refused::Buckets(full));
    }
    Ok(Collector {
        kind,
        full,
        help,
        labels,
        bounds,
        series: BTreeMap::new(),
    })
}

const fn few(what: &'static str, there: usize, most: usize) -> Result<(), Refused> {
    match there <= most {
        true => Ok(()),
        false => Err(Refused::TooMany { what, there, most }),
    }
}

/// A name that two collectors would have on the page.
fn meets(one: &Collector, other: &Collector) -> Option<String> {
    let names = |it: &Collector| -> Vec<String> {
        let suffixes = it.kind.suffixes().iter();
        suffixes.map(|end| format!("{}{end}", it.full)).collect()
    };
    // Most differ before any suffix.
    if !one.full.starts_with(&other.full) && !other.full.starts_with(&one.full) {
        return None;
    }
    let others = names(other);
    names(one).into_iter().find(|name| others.contains(name))
}

/// Whether Prometheus takes it for a name; colons are for metrics alone.
fn is_name(name: &str, colon: bool) -> bool {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || colon && byte == b':';
    !name.is_empty() && name.bytes().all(fits) && !name.starts_with(|it: char| it.is_ascii_digit())
}

/// What an error shows of a name.
fn shortened(name: &str) -> String {
    name.chars().take(NAME_BYTES).collect()
}

impl Collector {
    fn write(&self, page: &mut String) {
        let name = &self.full;
        page.push_str(&format!("# HELP {name} "));
        escape(page, &self.help, false);
        page.push_str(&format!("\n# TYPE {name} {}\n", self.kind.name()));
        for (values, series) in &self.series {
            match self.kind {
                Kind::Counter | Kind::Gauge => self.line(page, "", values, None, series.value),
                Kind::Summary | Kind::Histogram => {
                    let mut below = 0;
                    for (bound, count) in self.bounds.iter().zip(&series.buckets) {
                        below += count;
                        self.line(page, "_bucket", values, Some(&bound.to_string()), below);
                    }
                    if self.kind == Kind::Histogram {
                        self.line(page, "_bucket", values, Some("+Inf"), series.count);
                    }
                    self.line(page, "_sum", values, None, series.value);
                    self.line(page, "_count", values, None, series.count);
                }
            }
        }
    }

    fn line(
        &self,
        page: &mut String,
        suffix: &str,
        values: &[String],
        bound: Option<&str>,
        value: impl std::fmt::Display,
    ) {
        page.push_str(&self.full);
        page.push_str(suffix);
        let mut before = '{';
        let pairs = self.labels.iter().map(String::as_str);
        let pairs = pairs.zip(values.iter().map(String::as_str));
        for (label, value) in pairs.chain(bound.map(|bound| ("le", bound))) {
            page.push(before);
            page.push_str(label);
            page.push_str("=\"");
            escape(page, value, true);
            page.push('"');
            before = ',';
        }
        if before == ',' {
            page.push('}');
        }
        page.push_str(&format!(" {value}\n"));
    }
}

fn escape(page: &mut String, text: &str, quotes: bool) {
    for character in text.chars() {
        match character {
            '\\' => page.push_str("\\\\"),
            '\n' => page.push_str("\\n"),
            '"' if quotes => page.push_str("\\\""),
            other => page.push(other),
        }
    }
}
