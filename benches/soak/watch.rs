//! Looks at the node each second, and at the end for what it kept.

use super::drive::Load;
use super::node::Node;
use crate::eventually;
use anyhow::{Context, bail};
use std::fmt::Write;
use std::fs;
use std::time::Duration;
use tokio::time::Instant;

/// Memory may grow by this part of it from the warm-up to the end, or by [`GROWTH_BYTES`].
const GROWTH_PART: f64 = 0.05;
/// Memory may always grow by as much.
const GROWTH_BYTES: f64 = 4.0 * 1024.0 * 1024.0;
/// Until then memory may do as it likes: at most a quarter of the run.
const WARM_UP: Duration = Duration::from_secs(90);
/// A run shorter than this is too short to tell growth from noise.
const JUDGED: Duration = Duration::from_secs(180);

/// The node in one second.
#[derive(Debug, Clone, Copy, Default)]
struct Sample {
    at: Duration,
    resident: f64,
    descriptors: usize,
    threads: usize,
    in_flight: f64,
    lanes: f64,
    streams: f64,
    queued: f64,
}

/// What a row of the table tells of a sample.
type Figure = fn(&Sample) -> f64;

/// What has been seen.
pub(crate) struct Watch<'a> {
    node: &'a Node,
    begun: Instant,
    base: Sample,
    samples: Vec<Sample>,
}

impl<'a> Watch<'a> {
    pub(crate) fn new(node: &'a Node) -> Self {
        Self {
            node,
            begun: Instant::now(),
            base: Sample::default(),
            samples: Vec::new(),
        }
    }

    async fn look(&self) -> anyhow::Result<Sample> {
        let process = self.node.process();
        let status = fs::read_to_string(format!("/proc/{process}/status"))?;
        let field = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name))?;
            line.split_ascii_whitespace().next()?.parse::<usize>().ok()
        };
        let descriptors = fs::read_dir(format!("/proc/{process}/fd"))?.count();
        let page = self.node.metrics().await?;
        Ok(Sample {
            at: self.begun.elapsed(),
            resident: field("VmRSS:").context("no VmRSS")? as f64 * 1024.0,
            descriptors,
            threads: field("Threads:").context("no Threads")?,
            in_flight: sum(&page, "centripeta_in_flight_events"),
            lanes: sum(&page, "centripeta_lanes"),
            streams: sum(&page, "centripeta_open_streams"),
            queued: sum(&page, "centripeta_publisher_queued_calls"),
        })
    }

    /// Waits until nothing is under way and so many endpoints of the API are up.
    pub(crate) async fn at_rest(&self, endpoints: usize, limit: Duration) -> anyhow::Result<()> {
        let rests = eventually(limit, || async {
            let page = self.node.metrics().await?;
            let up = sum(&page, "centripeta_publisher_endpoint_up");
            Ok(up == endpoints as f64 && self.look().await?.is_at_rest())
        });
        if !rests.await? {
            bail!("not at rest after {limit:?}: {:?}", self.look().await?);
        }
        Ok(())
    }

    /// Remembers how the node is before the load.
    pub(crate) async fn baseline(&mut self) -> anyhow::Result<()> {
        self.base = self.look().await?;
        self.begun = Instant::now();
        Ok(())
    }

    /// Looks once.
    pub(crate) async fn sample(&mut self) -> anyhow::Result<()> {
        let sample = self.look().await?;
        self.samples.push(sample);
        Ok(())
    }

    /// Waits for the end of everything under way; what is left then is wrong.
    pub(crate) async fn rest(&mut self, limit: Duration) -> anyhow::Result<Vec<String>> {
        let base = self.base;
        let end = Instant::now() + limit;
        let last = loop {
            let last = self.look().await?;
            let page = self.node.metrics().await?;
            let up = sum(&page, "centripeta_publisher_endpoint_up");
            let is_small = last.descriptors <= base.descriptors && last.threads <= base.threads;
            let is_over = last.is_at_rest() && is_small && up == 2.0;
            if is_over || Instant::now() > end {
                self.samples.push(last);
                if is_over {
                    return Ok(never_full(&page));
                }
                break last;
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        };
        let mut wrong = Vec::new();
        if !last.is_at_rest() {
            wrong.push(format!(
                "at the end {} events in flight, {} streams, {} lanes, {} calls queued",
                last.in_flight, last.streams, last.lanes, last.queued
            ));
        }
        if last.descriptors > base.descriptors {
            let (before, after) = (base.descriptors, last.descriptors);
            wrong.push(format!("{before} descriptors became {after}"));
        }
        if last.threads > base.threads {
            wrong.push(format!("{} threads became {}", base.threads, last.threads));
        }
        if wrong.is_empty() {
            wrong.push("an endpoint that returned is not up again".to_owned());
        }
        Ok(wrong)
    }

    /// What is wrong with its memory.
    pub(crate) fn wrong(&self) -> Vec<String> {
        let (growth, allowed) = (self.growth(), self.allowed());
        let time = self.samples.last().map_or(Duration::ZERO, |last| last.at);
        if time < JUDGED || growth <= allowed {
            return Vec::new();
        }
        let (growth, allowed) = (mebibytes(growth), mebibytes(allowed));
        vec![format!(
            "memory grew by {growth:.1} MiB after the warm-up, {allowed:.1} MiB are allowed"
        )]
    }

    /// The samples after the warm-up, but for the last one, which is at rest.
    fn settled(&self) -> &[Sample] {
        let all = self.samples.split_last().map_or(&[][..], |(_, all)| all);
        let time = all.last().map_or(Duration::ZERO, |last| last.at);
        let from = all.partition_point(|sample| sample.at < WARM_UP.min(time / 4));
        &all[from..]
    }

    /// Bytes that memory grew by after the warm-up, by the line that fits the samples best.
    fn growth(&self) -> f64 {
        let settled = self.settled();
        let Some((first, last)) = settled.first().zip(settled.last()) else {
            return 0.0;
        };
        slope(settled) * (last.at - first.at).as_secs_f64()
    }

    fn allowed(&self) -> f64 {
        let settled = self.settled();
        let sum: f64 = settled.iter().map(|sample| sample.resident).sum();
        let mean = sum / settled.len().max(1) as f64;
        (mean * GROWTH_PART).max(GROWTH_BYTES)
    }

    /// The last sample in a line.
    pub(crate) fn line(&self, load: &Load) -> String {
        let last = self.samples.last().copied().unwrap_or_default();
        format!(
            "{:>5} s  {:>6.1} MiB  {} descriptors  {} threads  {} in flight  {} lanes  {} streams  \
             {} queued  {} answered",
            last.at.as_secs(),
            mebibytes(last.resident),
            last.descriptors,
            last.threads,
            last.in_flight,
            last.lanes,
            last.streams,
            last.queued,
            load.answered(),
        )
    }

    /// Before, in the middle, at the end, and the most of each.
    pub(crate) fn table(&self) -> String {
        let settled = self.settled();
        let middle = settled.get(settled.len() / 2).copied().unwrap_or_default();
        let end = self.samples.last().copied().unwrap_or_default();
        let first = settled.first().copied().unwrap_or_default();
        let most = |of: Figure| self.samples.iter().map(of).fold(0.0, f64::max);
        let rows: [(&str, Figure); 7] = [
            ("MiB resident", |it| mebibytes(it.resident)),
            ("descriptors", |it| it.descriptors as f64),
            ("threads", |it| it.threads as f64),
            ("in flight", |it| it.in_flight),
            ("lanes", |it| it.lanes),
            ("streams", |it| it.streams),
            ("queued calls", |it| it.queued),
        ];
        let mut text = format!(
            "{:<14}{:>10}{:>10}{:>10}{:>10}{:>10}\n",
            "", "before", "warm", "middle", "at rest", "most"
        );
        for (name, of) in rows {
            let _infallible = write!(text, "{name:<14}");
            for value in [of(&self.base), of(&first), of(&middle), of(&end), most(of)] {
                let _infallible = write!(text, "{value:>10.1}");
            }
            text.push('\n');
        }
        let _infallible = write!(
            text,
            "memory   {:+.2} MiB a minute after the warm-up, {:+.1} MiB in all ({:.1} allowed)",
            mebibytes(slope(settled)) * 60.0,
            mebibytes(self.growth()),
            mebibytes(self.allowed()),
        );
        text
    }
}

impl Sample {
    /// Whether nothing is under way.
    fn is_at_rest(&self) -> bool {
        self.in_flight + self.lanes + self.streams + self.queued == 0.0
    }
}

fn mebibytes(bytes: f64) -> f64 {
    bytes / (1024.0 * 1024.0)
}

/// Bytes a second, by least squares.
fn slope(samples: &[Sample]) -> f64 {
    let count = samples.len().max(1) as f64;
    let at = |sample: &Sample| sample.at.as_secs_f64();
    let mean_at = samples.iter().map(at).sum::<f64>() / count;
    let mean = samples.iter().map(|it| it.resident).sum::<f64>() / count;
    let spread: f64 = samples.iter().map(|it| (at(it) - mean_at).powi(2)).sum();
    let together = samples.iter();
    let together = together.map(|it| (at(it) - mean_at) * (it.resident - mean));
    if spread > 0.0 {
        together.sum::<f64>() / spread
    } else {
        0.0
    }
}

/// The queues that were meant to be full and never were.
fn never_full(page: &str) -> Vec<String> {
    let queues = [
        (
            "centripeta_refused_total",
            "reason=\"lane\"",
            "no lane ever",
        ),
        (
            "centripeta_refused_total",
            "reason=\"in_flight\"",
            "the node never",
        ),
        (
            "centripeta_publisher_calls_total",
            "result=\"overloaded\"",
            "the publisher's queue never",
        ),
    ];
    let mut wrong = Vec::new();
    for (metric, label, what) in queues {
        let lines = page.lines().filter(|line| line.contains(label));
        let lines: String = lines.map(|line| format!("{line}\n")).collect();
        if sum(&lines, metric) == 0.0 {
            wrong.push(format!("{what} was full: the load proves too little"));
        }
    }
    wrong
}

/// The sum of a metric's samples.
fn sum(page: &str, metric: &str) -> f64 {
    let of_metric = |line: &&str| line.split(['{', ' ']).next() == Some(metric);
    let number = |line: &str| line.rsplit(' ').next()?.parse::<f64>().ok();
    page.lines().filter(of_metric).filter_map(number).sum()
}
