//! Writes the text exposition format of Prometheus, version 0.0.4.

use super::cells::Totals;
use super::names::{Kind, Metric};
use std::fmt::{Display, Write};

/// The content type of a page.
pub(crate) const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// A page being written, one metric after the other.
#[derive(Debug, Default)]
pub(super) struct Page {
    text: String,
}

impl Page {
    /// Begins a metric; its samples follow at once. One that has none yet is not on the page: some
    /// readers refuse a type without samples.
    pub(super) fn metric(&mut self, metric: &'static Metric) -> Samples<'_> {
        Samples {
            text: &mut self.text,
            metric,
            has_head: false,
        }
    }

    /// The finished page.
    pub(super) fn into_text(self) -> String {
        self.text
    }
}

/// The samples of one metric.
#[derive(Debug)]
pub(super) struct Samples<'a> {
    text: &'a mut String,
    metric: &'static Metric,
    has_head: bool,
}

impl Samples<'_> {
    /// One number, under values for the metric's labels in their order.
    pub(super) fn value(&mut self, labels: &[&str], value: impl Display) -> &mut Self {
        self.sample("", labels, None, value)
    }

    /// The buckets, the sum and the count of a histogram.
    pub(super) fn histogram(&mut self, labels: &[&str], totals: &Totals) -> &mut Self {
        debug_assert_eq!(self.metric.kind, Kind::Histogram);
        for (bound, below) in totals.cumulative() {
            self.sample("_bucket", labels, Some(&bound), below);
        }
        let count = totals.count();
        self.sample("_bucket", labels, Some(&"+Inf"), count)
            .sample("_sum", labels, None, totals.sum())
            .sample("_count", labels, None, count)
    }

    /// What the metric is, once.
    fn head(&mut self) {
        if std::mem::replace(&mut self.has_head, true) {
            return;
        }
        let (name, kind) = (self.metric.name, self.metric.kind.name());
        write(self.text, format_args!("# HELP {name} "));
        escape(self.text, self.metric.help, false);
        write(self.text, format_args!("\n# TYPE {name} {kind}\n"));
    }

    fn sample(
        &mut self,
        suffix: &str,
        labels: &[&str],
        bound: Option<&dyn Display>,
        value: impl Display,
    ) -> &mut Self {
        debug_assert_eq!(labels.len(), self.metric.labels.len());
        self.head();
        let text = &mut *self.text;
        text.push_str(self.metric.name);
        text.push_str(suffix);
        let mut before = '{';
        for (name, value) in self.metric.labels.iter().zip(labels) {
            text.push(before);
            text.push_str(name);
            text.push_str("=\"");
            escape(text, value, true);
            text.push('"');
            before = ',';
        }
        if let Some(bound) = bound {
            write(text, format_args!("{before}le=\"{bound}\""));
            before = ',';
        }
        if before == ',' {
            text.push('}');
        }
        write(text, format_args!(" {value}\n"));
        self
    }
}

/// Writing into a string can't fail.
fn write(text: &mut String, arguments: std::fmt::Arguments<'_>) {
    let _infallible = text.write_fmt(arguments);
}

/// Escapes what would end a line, or, in a label's value, the value.
fn escape(text: &mut String, value: &str, is_label: bool) {
    for c in value.chars() {
        match c {
            '\\' => text.push_str("\\\\"),
            '\n' => text.push_str("\\n"),
            '"' if is_label => text.push_str("\\\""),
            c => text.push(c),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::cells::{HALF_BOUNDS, Histogram};
    use super::*;
    use std::time::Duration;

    static COUNT: Metric = Metric {
        name: "x_total",
        kind: Kind::Counter,
        labels: &["a", "b"],
        help: "Says \"x\" \\ y\nand z.",
    };
    static TIMES: Metric = Metric {
        name: "t_seconds",
        kind: Kind::Histogram,
        labels: &["a"],
        help: "Times.",
    };
    static PLAIN: Metric = Metric {
        name: "p",
        kind: Kind::Gauge,
        labels: &[],
        help: "Plain.",
    };

    #[test]
    fn help_and_label_values_are_escaped_and_a_metric_without_samples_is_left_out() {
        let mut page = Page::default();
        page.metric(&COUNT).value(&["q\"\\\n", ""], 7);
        let _empty = page.metric(&TIMES);
        page.metric(&PLAIN).value(&[], 0.5);
        assert_eq!(
            page.into_text(),
            "# HELP x_total Says \"x\" \\\\ y\\nand z.\n# TYPE x_total counter\n\
             x_total{a=\"q\\\"\\\\\\n\",b=\"\"} 7\n\
             # HELP p Plain.\n# TYPE p gauge\np 0.5\n"
        );
    }

    #[test]
    fn a_histogram_has_rising_buckets_the_open_one_its_sum_and_its_count() {
        let histogram = Histogram::new(&HALF_BOUNDS);
        for micros in [1, 2, 5_000_000] {
            histogram.record(Duration::from_micros(micros));
        }
        let mut totals = Totals::new(&HALF_BOUNDS);
        histogram.add_to(&mut totals);
        let mut page = Page::default();
        page.metric(&TIMES).histogram(&["v"], &totals);
        let text = page.into_text();
        let lines: Vec<&str> = text.lines().skip(2).collect();
        assert_eq!(lines.len(), HALF_BOUNDS.len() + 3);
        assert_eq!(lines[0], "t_seconds_bucket{a=\"v\",le=\"0.000001\"} 1");
        assert_eq!(lines[1], "t_seconds_bucket{a=\"v\",le=\"0.000002\"} 2");
        assert_eq!(lines[15], "t_seconds_bucket{a=\"v\",le=\"2.5\"} 2");
        assert_eq!(lines[16], "t_seconds_bucket{a=\"v\",le=\"+Inf\"} 3");
        assert_eq!(lines[17], "t_seconds_sum{a=\"v\"} 5.000003");
        assert_eq!(lines[18], "t_seconds_count{a=\"v\"} 3");
    }
}
