//! The names of endpoints: looked up at the start, every ten seconds, and when somebody fails.
//!
//! A name that is not found keeps the addresses that it had.

use super::fleet::{Fleet, literal};
use super::stats::Target;
use futures_util::future::{BoxFuture, join_all};
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, sleep_until, timeout};

/// How often names are looked up.
const INTERVAL: Duration = Duration::from_secs(10);
/// How often at most, where somebody fails.
const PAUSE: Duration = Duration::from_secs(1);
/// The longest look-up.
const LIMIT: Duration = Duration::from_secs(5);

type Lookup = dyn Fn(String, u16) -> BoxFuture<'static, io::Result<Vec<SocketAddr>>> + Send + Sync;

/// Who looks names up.
#[derive(Clone)]
pub(super) struct Resolver(Arc<Lookup>);

impl fmt::Debug for Resolver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Resolver").finish_non_exhaustive()
    }
}

impl Resolver {
    /// The system's.
    pub(super) fn system() -> Self {
        Self(Arc::new(|host, port| {
            Box::pin(async move {
                let found = tokio::net::lookup_host((host, port)).await?;
                Ok(found.collect())
            })
        }))
    }

    /// Another one.
    #[cfg(test)]
    pub(super) fn new(
        lookup: impl Fn(String, u16) -> BoxFuture<'static, io::Result<Vec<SocketAddr>>>
        + Send
        + Sync
        + 'static,
    ) -> Self {
        Self(Arc::new(lookup))
    }

    /// Every address of a name, each once, in an order that does not change by itself.
    async fn addresses(&self, target: &Target) -> Result<Vec<SocketAddr>, String> {
        let endpoint = &target.address;
        let host = endpoint.bare_host().to_owned();
        let looked_up = timeout(LIMIT, (self.0)(host, endpoint.port)).await;
        let looked_up =
            looked_up.map_err(|_| format!("{}: no answer within {LIMIT:?}", target.label));
        let found = looked_up?.map_err(|why| format!("{}: {why}", target.label));
        let mut found = found?;
        found.sort_unstable();
        found.dedup();
        match found.is_empty() {
            true => Err(format!("{}: the name has no address", target.label)),
            false => Ok(found),
        }
    }
}

/// Looks names up, for ever.
pub(super) async fn keep(fleet: Arc<Fleet>, resolver: Resolver, handler: Arc<str>) {
    let is_name = |target: &&Arc<Target>| literal(target).is_none();
    let names: Vec<Arc<Target>> = fleet.targets.iter().filter(is_name).cloned().collect();
    if names.is_empty() {
        return;
    }
    loop {
        let started = Instant::now();
        let looked_up = names.iter().map(|target| resolver.addresses(target));
        for (target, found) in names.iter().zip(join_all(looked_up).await) {
            found_out(&fleet, target, found, &handler);
        }
        fleet.looked_up.send_modify(|count| *count += 1);
        let next = started + INTERVAL;
        tokio::select! {
            () = sleep_until(next) => {}
            () = fleet.doubt.notified() => sleep_until(started + PAUSE).await,
        }
    }
}

fn found_out(
    fleet: &Fleet,
    target: &Arc<Target>,
    found: Result<Vec<SocketAddr>, String>,
    handler: &str,
) {
    let endpoint = &target.label;
    match found {
        Ok(addresses) => {
            target.resolved(None);
            if fleet.assign(target, &addresses) {
                tracing::info!(handler, endpoint, ?addresses, "an upstream's addresses");
            }
        }
        Err(why) => {
            if target.resolved(Some(why.clone())) {
                tracing::warn!(
                    handler,
                    endpoint,
                    why,
                    "an upstream's name was not found, and is looked up again; addresses that it \
                     had stay in use"
                );
            }
        }
    }
}
