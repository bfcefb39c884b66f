//! TLS towards upstreams, both ways, and certificates that change while the node runs.

use crate::backend::{Answer, Backend};
use crate::front::{Front, handler, response};
use crate::support::{eventually, small_request};
use centripeta::event::EventKind;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use tempfile::TempDir;
use tokio_rustls::TlsAcceptor;

type Authority = CertifiedIssuer<'static, KeyPair>;

fn authority() -> Authority {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

/// A certificate and its key.
struct Identity(rcgen::Certificate, KeyPair);

impl Identity {
    fn new(name: &str, by: &Authority) -> Self {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new([name.to_owned()]).unwrap();
        Self(params.signed_by(&key, by).unwrap(), key)
    }

    fn write(&self, folder: &Path) {
        std::fs::write(folder.join("key.pem"), self.1.serialize_pem()).unwrap();
        std::fs::write(folder.join("cert.pem"), self.0.pem()).unwrap();
    }
}

/// A backend with this identity, which lets in whom the authority has certified.
async fn backend(own: &Identity, trusted: &Authority) -> Backend {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut roots = RootCertStore::empty();
    roots.add(trusted.der().clone()).unwrap();
    let verifier =
        WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider));
    let verifier = verifier.build().unwrap();
    let key = PrivateKeyDer::try_from(own.1.serialize_der()).unwrap();
    let chain: Vec<CertificateDer<'static>> = vec![own.0.der().clone()];
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_client_cert_verifier(verifier)
        .with_single_cert(chain, key)
        .unwrap();
    config.alpn_protocols = vec![b"h2".to_vec()];
    let any = SocketAddr::from(([127, 0, 0, 1], 0));
    let tls = TlsAcceptor::from(Arc::new(config));
    Backend::start_at(any, Some(tls), |_| Answer::Reply(response())).await
}

/// A folder with the authority that backends are certified by, and our identity.
fn folder(authority: &Authority, own: &Identity) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("ca.pem"), authority.pem()).unwrap();
    own.write(folder.path());
    folder
}

/// The keys of `tls` with the files of a folder.
fn keys(folder: &Path, more: &str) -> String {
    let file = |name: &str| folder.join(name).display().to_string();
    let (ca, cert, key) = (file("ca.pem"), file("cert.pem"), file("key.pem"));
    format!("tls = {{ ca = {ca:?}, cert = {cert:?}, key = {key:?}{more} }}")
}

async fn status(front: &Front) -> Option<i32> {
    let request = small_request(EventKind::Rpc, "a");
    front.call(EventKind::Rpc, &request).await.status
}

#[tokio::test]
async fn an_upstream_and_the_node_know_each_other_by_their_certificates() {
    let ours = authority();
    let own = Identity::new("router", &ours);
    let backend = backend(&Identity::new("127.0.0.1", &ours), &ours).await;
    let folder = folder(&ours, &own);
    // `tls` secures grpc:// too.
    let rest = handler(&[backend.endpoint()], &keys(folder.path(), ""));
    let front = Front::start_with(&rest).await;
    assert_eq!(status(&front).await, Some(0));
    let seen = backend.seen().pop().unwrap();
    assert_eq!(seen.certificate, Some(own.0.der().to_vec()));
}

#[tokio::test]
async fn strangers_on_either_side_are_unavailable() {
    let (ours, theirs) = (authority(), authority());
    let good = Identity::new("127.0.0.1", &ours);
    let known = Identity::new("router", &ours);
    let cases = [
        // Its certificate is of somebody else, or for somebody else.
        (
            backend(&Identity::new("127.0.0.1", &theirs), &ours).await,
            &known,
            "",
        ),
        (
            backend(&Identity::new("elsewhere", &ours), &ours).await,
            &known,
            "",
        ),
        // Ours is not one that it trusts.
        (backend(&good, &theirs).await, &known, ""),
        (
            backend(&good, &ours).await,
            &known,
            ", name = \"elsewhere\"",
        ),
    ];
    for (at, (backend, own, more)) in cases.iter().enumerate() {
        let folder = folder(&ours, own);
        let rest = handler(&[backend.endpoint()], &keys(folder.path(), more));
        let front = Front::start_with(&rest).await;
        assert_eq!(status(&front).await, Some(14), "case {at}");
        assert_eq!(backend.count(), 0, "case {at}");
    }
    let elsewhere = backend(&Identity::new("elsewhere", &ours), &ours).await;
    let folder = folder(&ours, &known);
    let keys = keys(folder.path(), ", name = \"elsewhere\"");
    let front = Front::start_with(&handler(&[elsewhere.endpoint()], &keys)).await;
    assert_eq!(status(&front).await, Some(0));
}

#[tokio::test]
async fn a_new_certificate_is_shown_once_its_files_have_changed() {
    let ours = authority();
    let first = Identity::new("router", &ours);
    let backend = backend(&Identity::new("127.0.0.1", &ours), &ours).await;
    let folder = folder(&ours, &first);
    let rest = handler(&[backend.endpoint()], &keys(folder.path(), ""));
    let front = Front::start_with(&rest).await;
    assert_eq!(status(&front).await, Some(0));
    // Files that do not belong together change nothing.
    std::fs::write(folder.path().join("key.pem"), "torn").unwrap();
    let second = Identity::new("the router again", &ours);
    second.write(folder.path());
    eventually("the new certificate is shown", async || {
        assert_eq!(status(&front).await, Some(0));
        let seen = backend.seen().pop().unwrap();
        seen.certificate == Some(second.0.der().to_vec())
    })
    .await;
}
