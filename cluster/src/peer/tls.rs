//! TLS between nodes: mutual, by the cluster's own authority, each certificate made out to the name
//! of its node. Files are read again when a link opens, so that certificates can be renewed.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{verify_server_cert_signed_by_trust_anchor, verify_server_name};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::{ParsedCertificate, WebPkiClientVerifier};
use rustls::{
    ClientConfig, DigitallySignedStruct, RootCertStore, ServerConfig, SignatureScheme, version,
};
use tokio::time::Instant;
use tokio_rustls::{TlsAcceptor, TlsConnector};

use super::hello::LinkError;
use super::transport::BoxStream;

const REREAD: Duration = Duration::from_secs(1);

/// The files of a node's certificate, as PEM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsFiles {
    /// Its certificate, and what stands between it and the authority.
    pub cert: PathBuf,
    /// Its key.
    pub key: PathBuf,
    /// The authority that certificates of the cluster are signed by.
    pub ca: PathBuf,
}

/// Why certificates cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read or holds nothing of use.
    #[error("cluster.tls.{key}: {path}: {error}", path = path.display())]
    File {
        /// The key of the setting.
        key: &'static str,
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        error: String,
    },
    /// They do not go together.
    #[error("cluster.tls: {0}")]
    Unfit(String),
}

/// The two sides of a moment.
#[derive(Clone)]
struct Configs {
    listen: Arc<ServerConfig>,
    dial: Arc<ClientConfig>,
}

/// Certificates whose files are read again.
pub(crate) struct TlsStore {
    files: TlsFiles,
    read: Mutex<(Instant, Configs)>,
}

impl std::fmt::Debug for TlsStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("TlsStore").field(&self.files).finish()
    }
}

fn certificates(key: &'static str, path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let wrong = |error: String| TlsError::File {
        key,
        path: path.to_owned(),
        error,
    };
    let all: Result<Vec<_>, _> = CertificateDer::pem_file_iter(path)
        .map_err(|error| wrong(error.to_string()))?
        .collect();
    let all = all.map_err(|error| wrong(error.to_string()))?;
    if all.is_empty() {
        return Err(wrong("holds no certificate".to_owned()));
    }
    Ok(all)
}

fn load(files: &TlsFiles) -> Result<Configs, TlsError> {
    let unfit = |error: &dyn std::fmt::Display| TlsError::Unfit(error.to_string());
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut roots = RootCertStore::empty();
    for root in certificates("ca", &files.ca)? {
        roots.add(root).map_err(|error| unfit(&error))?;
    }
    let roots = Arc::new(roots);
    let chain = certificates("cert", &files.cert)?;
    let key = PrivateKeyDer::from_pem_file(&files.key).map_err(|error| TlsError::File {
        key: "key",
        path: files.key.clone(),
        error: error.to_string(),
    })?;
    let clients =
        WebPkiClientVerifier::builder_with_provider(Arc::clone(&roots), Arc::clone(&provider))
            .build()
            .map_err(|error| unfit(&error))?;
    let listen = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(&[&version::TLS13])
        .map_err(|error| unfit(&error))?
        .with_client_cert_verifier(clients)
        .with_single_cert(chain.clone(), key.clone_key())
        .map_err(|error| unfit(&error))?;
    let servers = Arc::new(ChainOnly {
        roots,
        provider: Arc::clone(&provider),
    });
    let dial = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&version::TLS13])
        .map_err(|error| unfit(&error))?
        .dangerous()
        .with_custom_certificate_verifier(servers)
        .with_client_auth_cert(chain, key)
        .map_err(|error| unfit(&error))?;
    Ok(Configs {
        listen: Arc::new(listen),
        dial: Arc::new(dial),
    })
}

impl TlsStore {
    /// Reads them.
    pub(crate) fn new(files: TlsFiles) -> Result<Self, TlsError> {
        let configs = load(&files)?;
        Ok(Self {
            files,
            read: Mutex::new((Instant::now(), configs)),
        })
    }

    fn current(&self) -> Configs {
        let mut read = self.read.lock().unwrap_or_else(PoisonError::into_inner);
        if read.0.elapsed() >= REREAD {
            read.0 = Instant::now();
            if let Ok(configs) = load(&self.files) {
                read.1 = configs;
            }
        }
        read.1.clone()
    }

    /// Opens TLS to a listener: the stream, and its certificate.
    pub(crate) async fn dial(
        &self,
        stream: BoxStream,
    ) -> Result<(BoxStream, CertificateDer<'static>), LinkError> {
        let connector = TlsConnector::from(self.current().dial);
        // Which name a certificate must have is known after the greeting.
        let any = ServerName::try_from("peer").map_err(|error| tls(&error))?;
        let stream = connector
            .connect(any, stream)
            .await
            .map_err(|error| tls(&error))?;
        let leaf = leaf(stream.get_ref().1.peer_certificates())?;
        Ok((Box::new(stream), leaf))
    }

    /// Lets a dialler open TLS.
    pub(crate) async fn listen(
        &self,
        stream: BoxStream,
    ) -> Result<(BoxStream, CertificateDer<'static>), LinkError> {
        let acceptor = TlsAcceptor::from(self.current().listen);
        let stream = acceptor.accept(stream).await.map_err(|error| tls(&error))?;
        let leaf = leaf(stream.get_ref().1.peer_certificates())?;
        Ok((Box::new(stream), leaf))
    }
}

fn tls(error: &dyn std::fmt::Display) -> LinkError {
    LinkError::Tls(error.to_string())
}

fn leaf(chain: Option<&[CertificateDer<'static>]>) -> Result<CertificateDer<'static>, LinkError> {
    chain
        .and_then(<[_]>::first)
        .cloned()
        .ok_or_else(|| LinkError::Tls("the peer shows no certificate".to_owned()))
}

/// Whether a certificate is made out to the node of this name.
pub(crate) fn check_name(
    certificate: &CertificateDer<'static>,
    name: &str,
) -> Result<(), LinkError> {
    let wrong = |error: &dyn std::fmt::Display| {
        LinkError::Tls(format!(
            "the certificate is not made out to node {name:?}: {error}"
        ))
    };
    let parsed = ParsedCertificate::try_from(certificate).map_err(|error| wrong(&error))?;
    let name = ServerName::try_from(name).map_err(|error| wrong(&error))?;
    verify_server_name(&parsed, &name).map_err(|error| wrong(&error))
}

/// Checks that a certificate is the cluster's and valid now; its name is checked after the greeting,
/// since a seed may be any node.
#[derive(Debug)]
struct ChainOnly {
    roots: Arc<RootCertStore>,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for ChainOnly {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        verify_server_cert_signed_by_trust_anchor(
            &ParsedCertificate::try_from(end_entity)?,
            &self.roots,
            intermediates,
            now,
            self.provider.signature_verification_algorithms.all,
        )?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, cert, dss, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, cert, dss, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        let algorithms = &self.provider.signature_verification_algorithms;
        algorithms.supported_schemes()
    }
}
