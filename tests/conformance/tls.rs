//! C98: TLS, certificates of callers, and certificates that change while the node runs.

use crate::support::{self, Client, TestNode, actor, path, small_request};
use centripeta::config::TlsConfig;
use centripeta::event::EventKind;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use std::path::Path;
use std::sync::Arc;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

type Authority = CertifiedIssuer<'static, KeyPair>;

fn authority() -> Authority {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

/// A certificate and its key.
struct Identity(rcgen::Certificate, KeyPair);

impl Identity {
    fn new(by: &Authority) -> Self {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(["localhost".to_owned()]).unwrap();
        Self(params.signed_by(&key, by).unwrap(), key)
    }

    fn write(&self, folder: &Path) {
        std::fs::write(folder.join("key.pem"), self.1.serialize_pem()).unwrap();
        std::fs::write(folder.join("cert.pem"), self.0.pem()).unwrap();
    }
}

/// A connection that trusts `trusted` and shows `shown`.
async fn connect(
    node: &TestNode,
    trusted: &Authority,
    shown: Option<&Identity>,
) -> Result<Client, String> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut roots = RootCertStore::empty();
    roots.add(trusted.der().clone()).unwrap();
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots);
    let mut config = match shown {
        None => config.with_no_client_auth(),
        Some(Identity(certificate, key)) => {
            let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
            let chain: Vec<CertificateDer<'static>> = vec![certificate.der().clone()];
            config.with_client_auth_cert(chain, key).unwrap()
        }
    };
    config.alpn_protocols = vec![b"h2".to_vec()];
    let socket = TcpStream::connect(node.address()).await.unwrap();
    let name = ServerName::try_from("localhost").unwrap();
    let socket = TlsConnector::from(Arc::new(config))
        .connect(name, socket)
        .await;
    let client = Client::try_new(socket.map_err(|why| why.to_string())?).await;
    let client = client.map_err(|why| why.to_string())?;
    // In TLS 1.3 a refusal of the caller's certificate comes after its handshake.
    let body = small_request(EventKind::Rpc, "a");
    let reply = client.call(&path(EventKind::Rpc), &[], &body).await;
    match reply.status {
        Some(0) => Ok(client),
        _ => Err(reply.text),
    }
}

async fn node(folder: &Path, client_ca: Option<&Authority>) -> TestNode {
    let client_ca = client_ca.map(|authority| {
        let path = folder.join("ca.pem");
        std::fs::write(&path, authority.pem()).unwrap();
        path
    });
    let tls = TlsConfig {
        cert: folder.join("cert.pem"),
        key: folder.join("key.pem"),
        client_ca,
    };
    TestNode::start_with(actor::router(), |config| config.listen.tls = Some(tls)).await
}

#[tokio::test]
async fn a_tls_listener_speaks_h2_and_nothing_in_plain() {
    let folder = tempfile::tempdir().unwrap();
    let (ours, other) = (authority(), authority());
    Identity::new(&ours).write(folder.path());
    let node = node(folder.path(), None).await;
    connect(&node, &ours, None).await.unwrap();
    assert!(
        connect(&node, &other, None).await.is_err(),
        "another authority"
    );
    let plain = TcpStream::connect(node.address()).await.unwrap();
    let plain = Client::try_new(plain).await;
    if let Ok(client) = plain {
        let reply = client.call(&path(EventKind::Rpc), &[], b"").await;
        assert_eq!((reply.status, reply.messages.len()), (None, 0));
    }
    connect(&node, &ours, None).await.unwrap();
}

#[tokio::test]
async fn c98_a_caller_without_a_certificate_of_the_authority_is_not_let_in() {
    let folder = tempfile::tempdir().unwrap();
    let (ours, callers, other) = (authority(), authority(), authority());
    Identity::new(&ours).write(folder.path());
    let node = node(folder.path(), Some(&callers)).await;
    assert!(connect(&node, &ours, None).await.is_err(), "no certificate");
    let foreign = Identity::new(&other);
    assert!(
        connect(&node, &ours, Some(&foreign)).await.is_err(),
        "another authority's"
    );
    let own = Identity::new(&callers);
    connect(&node, &ours, Some(&own)).await.unwrap();
    assert_eq!(node.in_flight(), 0);
}

#[tokio::test]
async fn certificates_are_read_again_when_their_files_change_and_broken_ones_are_not_used() {
    let folder = tempfile::tempdir().unwrap();
    let (before, after) = (authority(), authority());
    Identity::new(&before).write(folder.path());
    let node = node(folder.path(), None).await;
    let old = connect(&node, &before, None).await.unwrap();

    std::fs::write(folder.path().join("cert.pem"), "broken").unwrap();
    // Several looks at the files later the certificates before them are still in use.
    let watched = tokio::time::Instant::now();
    while watched.elapsed() < std::time::Duration::from_millis(2500) {
        connect(&node, &before, None).await.unwrap();
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    Identity::new(&after).write(folder.path());
    support::eventually("the new certificate is shown", async || {
        connect(&node, &after, None).await.is_ok()
    })
    .await;
    assert!(connect(&node, &before, None).await.is_err());
    let body = small_request(EventKind::Rpc, "a");
    let reply = old.call(&path(EventKind::Rpc), &[], &body).await;
    assert_eq!(reply.status, Some(0), "connections before it go on");
}
