//! How many connect events the node has answered, and how: read from its metrics before and after
//! a connection through Centrifugo.

use super::finding::Finding;
use crate::cli::health::{ask, reachable};
use crate::config::{Config, Secret};
use http::StatusCode;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::time::{Instant, sleep, timeout};

/// How long the node may take to answer.
const ASK: Duration = Duration::from_secs(2);
/// How long an event may take from its answer into the metrics.
const SETTLE: Duration = Duration::from_millis(500);
const PAUSE: Duration = Duration::from_millis(25);

/// Connect events by outcome, such as `ok`, `rejected` or `timeout`.
pub(super) type Connects = BTreeMap<String, u64>;

/// The admin listener of the node.
#[derive(Debug)]
pub(super) struct Counter {
    address: SocketAddr,
    token: Option<Secret>,
}

impl Counter {
    /// Of the node with this configuration.
    pub(super) fn new(config: &Config) -> Self {
        Self {
            address: reachable(config.listen.admin),
            token: config.listen.admin_token.clone(),
        }
    }

    /// What the node has counted so far, or in words why that can't be told.
    pub(super) async fn connects(&self) -> Result<Connects, String> {
        let asked = timeout(ASK, ask(self.address, "/metrics", self.token.as_ref())).await;
        match asked {
            Ok(Ok((StatusCode::OK, page))) => Ok(parse(&String::from_utf8_lossy(&page))),
            Ok(Ok((StatusCode::UNAUTHORIZED, _))) => {
                Err("its metrics ask for another `listen.admin_token`".to_owned())
            }
            Ok(Ok((StatusCode::NOT_FOUND, _))) => {
                Err("it counts nothing: `metrics.enabled` is false".to_owned())
            }
            Ok(Ok((status, _))) => Err(format!("its metrics are answered with HTTP {status}")),
            Ok(Err(why)) => Err(format!("its metrics {why}")),
            Err(_) => Err(format!("its metrics take longer than {} s", ASK.as_secs())),
        }
    }

    /// What was added since; an event may still be on its way into the metrics, so it is waited for.
    pub(super) async fn since(&self, before: &Connects) -> Result<Connects, String> {
        let end = Instant::now() + SETTLE;
        loop {
            let added = added(before, &self.connects().await?);
            if !added.is_empty() || Instant::now() >= end {
                return Ok(added);
            }
            sleep(PAUSE).await;
        }
    }
}

/// The connect events of a page.
fn parse(page: &str) -> Connects {
    let mut connects = Connects::new();
    for line in page.lines() {
        let Some(rest) = line.strip_prefix("centripeta_events_total{") else {
            continue;
        };
        if !rest.contains("kind=\"connect\"") {
            continue;
        }
        let outcome = rest.split("outcome=\"").nth(1);
        let outcome = outcome.and_then(|rest| rest.split('"').next());
        let value = rest.rsplit(' ').next();
        let value = value.and_then(|value| value.parse::<u64>().ok());
        if let (Some(outcome), Some(value)) = (outcome, value) {
            *connects.entry(outcome.to_owned()).or_default() += value;
        }
    }
    connects
}

fn added(before: &Connects, after: &Connects) -> Connects {
    let grown = after.iter().filter_map(|(outcome, count)| {
        let was = before.get(outcome).copied().unwrap_or_default();
        let more = count.saturating_sub(was);
        (more > 0).then(|| (outcome.clone(), more))
    });
    grown.collect()
}

/// That nobody can tell whether it was this node.
pub(super) fn blind(url: &str, why: &str) -> Finding {
    Finding::note(
        "client.unknown",
        url,
        format!("whether Centrifugo asked this node can't be told: {why}"),
    )
    .fix("see what is said of the admin listener")
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: &str = "\
# TYPE centripeta_events_total counter
centripeta_events_total{kind=\"connect\",route=\"*\",handler=\"welcome\",outcome=\"ok\"} 3
centripeta_events_total{kind=\"connect\",route=\"\",handler=\"\",outcome=\"unauthenticated\"} 2
centripeta_events_total{kind=\"rpc\",route=\"*\",handler=\"echo\",outcome=\"ok\"} 9
";

    #[test]
    fn connects_are_added_up_by_outcome_and_nothing_else_is() {
        let before = parse(PAGE);
        assert_eq!(before.get("ok"), Some(&3));
        assert_eq!(before.values().sum::<u64>(), 5);
        let after = parse(&PAGE.replace("} 2", "} 4"));
        let added = added(&before, &after);
        assert_eq!(added.len(), 1);
        assert_eq!(added.get("unauthenticated"), Some(&2));
    }
}
