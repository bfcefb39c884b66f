//! Who is at an address: what is asked before a cluster is founded, so that none is founded beside
//! one that is there.

use std::time::Duration;

use tokio::net::TcpStream;
use tokio::time::timeout;

use super::handshake::{self, Security, SecurityConfig, SecurityError};
use super::hello::{Class, Identity, LinkError};
use super::transport::connection;
use crate::{BootId, ClusterId, Incarnation, Member, NodeId};

/// How long an address may take to be reached.
const DIAL: Duration = Duration::from_secs(2);

/// A node of a cluster that was met at an address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Met {
    /// Its cluster.
    pub cluster: ClusterId,
    /// Its id.
    pub node: NodeId,
    /// Its name.
    pub name: String,
}

/// Why nobody can say who is at an address.
#[derive(Debug, thiserror::Error)]
pub enum ProbeError {
    /// Nobody answers there.
    #[error("{0}")]
    Nobody(std::io::Error),
    /// Someone is there who is not a node that knows us.
    #[error(transparent)]
    Stranger(#[from] LinkError),
    /// Our own secrets or certificates cannot be used.
    #[error(transparent)]
    Security(#[from] SecurityError),
}

/// Shakes hands with whoever is at `addr` (`host:port`), in the name of a node that has not joined,
/// and hangs up. `None` is a node that has not joined either.
///
/// # Errors
/// If nobody answers within 2 s, or who does is no node that shares our secret and version.
pub async fn probe(
    addr: &str,
    name: &str,
    security: SecurityConfig,
) -> Result<Option<Met>, ProbeError> {
    let security = Security::new(security)?;
    let nobody = Member {
        id: NodeId(0),
        incarnation: Incarnation(0),
    };
    let boot = (u128::from(fastrand::u64(..)) << 64) | u128::from(fastrand::u64(..));
    let identity = Identity::new(ClusterId(0), nobody, BootId(boot), name);
    let dialled = match timeout(DIAL, TcpStream::connect(addr)).await {
        Ok(dialled) => dialled.and_then(connection),
        Err(_) => Err(std::io::ErrorKind::TimedOut.into()),
    };
    let connection = dialled.map_err(ProbeError::Nobody)?;
    let shaken = handshake::dial(connection, &identity, &security, Class::Ask, 1, None).await?;
    let hello = shaken.hello;
    Ok((hello.node != NodeId(0)).then_some(Met {
        cluster: hello.cluster,
        node: hello.node,
        name: hello.name,
    }))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::sync::Arc;

    use bytes::Bytes;
    use tokio::net::TcpListener;

    use super::super::{Handler, LinkConfig, LinkEvent, Links, Remote, Request, SecretSource, Tcp};
    use super::*;

    struct Deaf;

    impl Handler for Deaf {
        fn request(&self, _: &Remote, _: Request) {}
        fn cast(&self, _: &Remote, _: u8, _: Bytes) {}
        fn event(&self, _: LinkEvent) {}
    }

    fn secret(text: &str) -> SecurityConfig {
        SecurityConfig {
            secrets: vec![SecretSource::Text(text.repeat(16))],
            ..SecurityConfig::default()
        }
    }

    /// A node at an address of its own; node 0 has not joined.
    async fn node(id: u32) -> (Links, String) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap().to_string();
        let member = Member {
            id: NodeId(id),
            incarnation: Incarnation(u64::from(id)),
        };
        let cluster = ClusterId(if id == 0 { 0 } else { 7 });
        let identity = Identity::new(cluster, member, BootId(1), "a");
        let config = LinkConfig {
            security: secret("x"),
            ..LinkConfig::default()
        };
        let transport = Arc::new(Tcp::new(listener));
        let links = Links::start(config, identity, transport, Arc::new(Deaf)).unwrap();
        (links, addr)
    }

    #[tokio::test]
    async fn a_member_says_its_cluster_and_one_that_has_not_joined_none() {
        let (_member, at) = node(3).await;
        let met = probe(&at, "new", secret("x")).await.unwrap().unwrap();
        assert_eq!(
            (met.cluster, met.node, &*met.name),
            (ClusterId(7), NodeId(3), "a")
        );
        let (_fresh, at) = node(0).await;
        assert_eq!(probe(&at, "new", secret("x")).await.unwrap(), None);
    }

    #[tokio::test]
    async fn nobody_is_told_apart_from_a_stranger() {
        let gone = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let at = gone.local_addr().unwrap().to_string();
        drop(gone);
        let nobody = probe(&at, "new", secret("x")).await.unwrap_err();
        assert!(matches!(nobody, ProbeError::Nobody(_)), "{nobody}");
        let (_member, at) = node(3).await;
        let stranger = probe(&at, "new", secret("y")).await.unwrap_err();
        assert!(
            matches!(stranger, ProbeError::Stranger(LinkError::Secret)),
            "{stranger}"
        );
        let short = SecurityConfig {
            secrets: vec![SecretSource::Text("short".to_owned())],
            ..SecurityConfig::default()
        };
        assert!(matches!(
            probe(&at, "new", short).await,
            Err(ProbeError::Security(_))
        ));
    }
}
