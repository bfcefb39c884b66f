//! Seeds as they are dialled: those that are names are looked up, anew at each try.

use std::fmt;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::time::Duration;

use tokio::time::timeout;

/// How long a name may take to be resolved.
const RESOLVE: Duration = Duration::from_secs(1);

/// The addresses of a name, once they are known.
pub type LookingUp<'a> = Pin<Box<dyn Future<Output = io::Result<Vec<SocketAddr>>> + Send + 'a>>;

/// Looks up DNS names.
pub trait Names: Send + Sync + fmt::Debug {
    /// Every address of a name with a port; an address with a port leads to itself.
    ///
    /// # Errors
    /// If the name leads nowhere, or nobody can say.
    fn look_up<'a>(&'a self, name: &'a str) -> LookingUp<'a>;
}

/// Names as the system knows them.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemNames;

impl Names for SystemNames {
    fn look_up<'a>(&'a self, name: &'a str) -> LookingUp<'a> {
        Box::pin(async move { Ok(tokio::net::lookup_host(name).await?.collect()) })
    }
}

/// All addresses of a seed; none if it leads nowhere, or nobody says so in time.
pub(super) async fn resolved(names: &dyn Names, seed: &str) -> Vec<String> {
    match timeout(RESOLVE, names.look_up(seed)).await {
        Ok(Ok(addrs)) => addrs.iter().map(SocketAddr::to_string).collect(),
        Ok(Err(why)) => {
            tracing::warn!(%seed, %why, "a seed cannot be resolved");
            Vec::new()
        }
        Err(_) => {
            tracing::warn!(%seed, "a seed is not resolved in time");
            Vec::new()
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use tokio::time::Instant;

    use super::*;

    #[derive(Debug)]
    struct Silent;

    impl Names for Silent {
        fn look_up<'a>(&'a self, _: &'a str) -> LookingUp<'a> {
            Box::pin(std::future::pending())
        }
    }

    #[tokio::test]
    async fn an_address_leads_to_itself_and_what_is_no_name_nowhere() {
        assert_eq!(
            resolved(&SystemNames, "127.0.0.1:80").await,
            ["127.0.0.1:80"]
        );
        assert_eq!(resolved(&SystemNames, "[::1]:80").await, ["[::1]:80"]);
        assert!(resolved(&SystemNames, "no port").await.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn a_name_that_nobody_answers_for_is_given_up_after_a_second() {
        let began = Instant::now();
        assert!(resolved(&Silent, "seed.test:7946").await.is_empty());
        assert_eq!(began.elapsed(), RESOLVE);
    }
}
