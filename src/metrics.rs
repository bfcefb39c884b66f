//! What a node counts about itself, and the page that Prometheus reads (`/metrics`).
//!
//! Counting costs an event a few additions to cells of the core that brought it, and no more than
//! one look at the clock: nothing is allocated, locked or formatted before somebody asks. Label
//! values come from the configuration (routes, handlers, interceptors) and from fixed lists, so that
//! no client can make series. An event counts once, where its answer leaves (`engine::Entered`),
//! however it ended.
//!
//! To add a metric: a line in `names`, and its samples in `scrape`; then write `docs/metrics.md`
//! anew (`WRITE_DOCS=1 cargo test --test metrics`).

pub(crate) mod cells;
mod cluster;
mod labels;
mod names;
mod page;
mod register;
mod scrape;
pub(crate) mod stages;
#[cfg(test)]
mod tests;

pub(crate) use labels::End;
pub(crate) use page::CONTENT_TYPE;
pub(crate) use scrape::{page, roadrunner_page};

use crate::event::EventKind;
use crate::outcome::StreamEndReason;
use cells::{Counter, EventCounts};
use labels::{OUTCOMES, REASONS, STREAM_ENDS};
use register::Register;
use stages::StageCounts;
use std::fmt::Write;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// A route as the labels of its events.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RouteLabels {
    /// The kind of event.
    pub(crate) kind: EventKind,
    /// Its pattern as it is written, `*` for everything.
    pub(crate) route: String,
    /// The name of its handler.
    pub(crate) handler: String,
}

/// Actors that are restarted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ChildKind {
    /// A shard.
    Shard,
    /// An interceptor on one core.
    Interceptor,
    /// The supervisor of a core's shards.
    Region,
    /// The supervisor of a core's interceptors.
    Pipeline,
}

impl ChildKind {
    const ALL: [Self; 4] = [Self::Shard, Self::Interceptor, Self::Region, Self::Pipeline];

    const fn label(self) -> &'static str {
        match self {
            Self::Shard => "shard",
            Self::Interceptor => "interceptor",
            Self::Region => "region",
            Self::Pipeline => "pipeline",
        }
    }
}

/// The counts of an engine, but for those that its parts keep themselves.
#[derive(Debug)]
pub(crate) struct Metrics {
    /// The cells of routes and interceptors, by their labels: they live as long as the process, so
    /// that what comes back after a change goes on where it was.
    register: Register,
    /// By core; none if nothing is counted.
    cores: Vec<CoreCells>,
    restarts: [Counter; ChildKind::ALL.len()],
    parks: [Counter; ChildKind::ALL.len()],
    /// Seconds since 1970.
    started: f64,
}

/// The cells of one core, which writes them alone.
#[derive(Debug, Default)]
#[repr(align(128))]
struct CoreCells {
    /// By kind and outcome: events that were refused on arrival.
    turned_away: [[Counter; OUTCOMES.len()]; EventKind::ALL.len()],
    refused: [Counter; REASONS.len()],
    /// Of one-way and two-way streams.
    stream_ends: [[Counter; STREAM_ENDS.len()]; 2],
}

impl Metrics {
    /// With `enabled = false` events, streams and interceptors are not counted.
    pub(crate) fn new(enabled: bool, cores: usize) -> Self {
        let cores = if enabled { cores } else { 0 };
        let started = SystemTime::now().duration_since(UNIX_EPOCH);
        Self {
            register: Register::new(cores),
            cores: (0..cores).map(|_| CoreCells::default()).collect(),
            restarts: Default::default(),
            parks: Default::default(),
            // A clock from before 1970 has no better answer.
            started: started.map_or(0.0, |started| started.as_secs_f64()),
        }
    }

    /// Whether events are counted.
    pub(crate) const fn is_on(&self) -> bool {
        !self.cores.is_empty()
    }

    /// Where the events of a route count, by core; none if nothing is counted.
    pub(crate) fn of_route(&self, route: &RouteLabels) -> Vec<Arc<EventCounts>> {
        self.register.route(route)
    }

    /// Where a kind's events without a route count, by core; none if nothing is counted.
    pub(crate) fn of_unrouted(&self, kind: EventKind) -> &[Arc<EventCounts>] {
        self.register.unrouted(kind)
    }

    /// Where an interceptor counts, by core; none if nothing is counted.
    pub(crate) fn of_stage(&self, name: &str, has_after: bool) -> Vec<Arc<StageCounts>> {
        self.register.stage(name, has_after)
    }

    /// An event that was let in on a core has got its answer, after this time.
    pub(crate) fn ended(&self, core: usize, counts: &EventCounts, end: End, took: Duration) {
        counts.record(end, took);
        if let Some(cells) = self.cores.get(core) {
            cells.count_reason(end);
        }
    }

    /// An event was refused on arrival.
    pub(crate) fn turned_away(&self, core: usize, kind: EventKind, end: End) {
        if let Some(cells) = self.cores.get(core) {
            cells.turned_away[kind as usize][end.outcome].add_one();
            cells.count_reason(end);
        }
    }

    /// An accepted stream is over.
    pub(crate) fn stream_ended(&self, core: usize, kind: EventKind, reason: &StreamEndReason) {
        if let Some(cells) = self.cores.get(core) {
            let two_way = usize::from(kind == EventKind::StreamBidirectional);
            cells.stream_ends[two_way][labels::stream_end(reason)].add_one();
        }
    }

    /// An actor has failed and is restarted.
    pub(crate) fn restarted(&self, child: ChildKind) {
        self.restarts[child as usize].add_one();
    }

    /// An actor has failed too often and is parked.
    pub(crate) fn parked(&self, child: ChildKind) {
        self.parks[child as usize].add_one();
    }
}

impl CoreCells {
    fn count_reason(&self, end: End) {
        if let Some(reason) = end.reason {
            self.refused[reason].add_one();
        }
    }
}

/// The names of all metrics that a node exports, without the suffixes of histograms.
pub fn names() -> impl Iterator<Item = &'static str> {
    names::ALL.iter().map(|metric| metric.name)
}

/// The reference of all metrics as Markdown; `docs/metrics.md` is this text.
pub fn documentation() -> String {
    let mut text = String::from(
        "# Metrics\n\n\
         `GET /metrics` on the admin listener (`listen.admin`) answers in the text format of \
         Prometheus, version 0.0.4; where `listen.admin_token` is set it asks for it, like everything \
         there but `/health` and `/ready`. `metrics.enabled = false` switches it off.\n\n\
         Label values come from `node.toml` and from fixed lists, never from requests: no client can \
         make series. A counter starts at 0 with the node. `deploy/grafana.json` and \
         `deploy/alerts.yml` show what to look at. This page is written by the code; a test compares \
         them.\n\n\
         ```yaml\n\
         scrape_configs:\n\
         \x20 - job_name: centripeta\n\
         \x20   authorization: { credentials_file: /etc/prometheus/centripeta-token }\n\
         \x20   static_configs:\n\
         \x20     - targets: [\"127.0.0.1:10003\"]\n\
         ```\n\n\
         | Metric | Type | Labels | Says |\n|---|---|---|---|\n",
    );
    rows(&mut text, names::ALL);
    let list = |words: &[&str]| {
        let words: Vec<String> = words.iter().map(|it| format!("`{it}`")).collect();
        words.join(", ")
    };
    let kinds: Vec<&str> = EventKind::ALL.iter().map(|kind| kind.name()).collect();
    let results: Vec<&str> = crate::egress::tally::results().collect();
    let _infallible = write!(
        text,
        "\n## Values of labels\n\n\
         `kind` of an event: {}.\n\n\
         `result` of a call to Centrifugo: {}.\n\
         `error_…` are what Centrifugo refused, by its code; `invalid`, `fenced` and `overloaded` were \
         not sent; after `timeout`, `lost` and `status` a call may have been done.\n\n\
         `outcome`: {}. What a client sees in each is in the table of answers: `ok` and `rejected` \
         are what handlers and interceptors meant, the others are failures.\n\n\
         Series of `centripeta_events_total` are there from the start for each route with the \
         outcome `ok`, the others from the first such event.\n\n\
         ## RoadRunner's names\n\n\
         With `metrics.roadrunner = true` worker pools are shown under the names of RoadRunner's plugin \
         too, for dashboards that know those. `pid` makes new series with each new worker, so they are \
         off by default; they are read from the system at each scrape.\n\n\
         | Metric | Type | Labels | Says |\n|---|---|---|---|\n",
        list(&kinds),
        list(&results),
        list(&OUTCOMES),
    );
    rows(&mut text, names::ROADRUNNER);
    text
}

fn rows(text: &mut String, metrics: &[&names::Metric]) {
    for metric in metrics {
        let labels: Vec<String> = metric.labels.iter().map(|it| format!("`{it}`")).collect();
        let (name, kind, labels) = (metric.name, metric.kind.name(), labels.join(", "));
        let _infallible = writeln!(text, "| `{name}` | {kind} | {labels} | {} |", metric.help);
    }
}
