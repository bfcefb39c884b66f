//! Start to ready: from before the spawn of the process to its address line.

use serde::Serialize;

use super::contenders::{Contender, contenders};
use super::role::ServerOptions;
use super::stats::median;

/// A server is to be ready within so many milliseconds.
const BAR_MS: f64 = 300.0;

/// Times of one server in milliseconds.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct StartReport {
    name: &'static str,
    starts: usize,
    median_ms: f64,
    worst_ms: f64,
}

impl StartReport {
    /// The report as a line of text.
    pub(crate) fn text(&self) -> String {
        let verdict = if self.median_ms < BAR_MS {
            "met"
        } else {
            "MISSED"
        };
        format!(
            "{}: start to ready {:.1} ms median, {:.1} ms worst of {}; bar {BAR_MS} ms {verdict}\n",
            self.name, self.median_ms, self.worst_ms, self.starts
        )
    }
}

/// Starts and ends each server `starts` times, in turn.
///
/// # Errors
/// If any start or clean end fails.
pub(crate) async fn measure(starts: usize) -> anyhow::Result<Vec<StartReport>> {
    let contenders = contenders(ServerOptions::default());
    let mut times = vec![Vec::with_capacity(starts); contenders.len()];
    for _ in 0..starts {
        for (contender, times) in contenders.iter().zip(&mut times) {
            let server = contender.start().await?;
            times.push(server.ready_after().as_secs_f64() * 1e3);
            server.stop().await?;
        }
    }
    let report = |(contender, times): (&Contender, &Vec<f64>)| StartReport {
        name: contender.name,
        starts,
        median_ms: median(times),
        worst_ms: times.iter().copied().fold(0.0, f64::max),
    };
    Ok(contenders.iter().zip(&times).map(report).collect())
}
