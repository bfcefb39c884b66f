//! TLS of a listener; certificates are read again when their files change.

mod expiry;

pub(crate) use expiry::Expired;

use arc_swap::ArcSwap;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::server::TlsStream;

/// How often the files are looked at.
const CHECK_INTERVAL: Duration = Duration::from_secs(2);

/// Where the certificates are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TlsFiles {
    /// PEM: our certificate and its chain.
    pub cert: PathBuf,
    /// PEM: its private key.
    pub key: PathBuf,
    /// PEM: who may call; without it anybody may open a connection.
    pub client_ca: Option<PathBuf>,
}

/// Why certificates can't be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file can't be read or is not PEM.
    #[error("{}: {cause}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        cause: String,
    },
    /// The files do not fit each other.
    #[error("{0}")]
    Config(String),
}

/// Accepts TLS connections with whatever certificates are current.
#[derive(Clone)]
pub(crate) struct TlsAcceptor {
    files: Arc<TlsFiles>,
    current: Arc<ArcSwap<ServerConfig>>,
}

impl fmt::Debug for TlsAcceptor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsAcceptor")
            .field("files", &self.files)
            .finish_non_exhaustive()
    }
}

impl TlsAcceptor {
    /// Reads the certificates.
    ///
    /// # Errors
    /// A file is missing, is not PEM, or does not fit the others.
    pub(crate) fn try_new(files: TlsFiles) -> Result<Self, TlsError> {
        let current = Arc::new(ArcSwap::from_pointee(read(&files)?));
        Ok(Self {
            files: Arc::new(files),
            current,
        })
    }

    /// Whether the certificate that the files hold now has expired.
    pub(crate) fn expired(&self) -> Option<Expired> {
        let path = &self.files.cert;
        let chain = certificates(path).ok()?;
        Expired::of(path, chain.first()?, SystemTime::now())
    }

    /// Says so in the log if the certificate has expired: callers will refuse it.
    pub(crate) fn warn_if_expired(&self) {
        if let Some(expired) = self.expired() {
            let help = expired.help();
            tracing::warn!(help, "`listen.tls`: {expired}");
        }
    }

    /// A handshake with the current certificates.
    pub(crate) async fn accept<S>(&self, socket: S) -> io::Result<TlsStream<S>>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        tokio_rustls::TlsAcceptor::from(self.current.load_full())
            .accept(socket)
            .await
    }

    /// Reads the files again whenever one has changed; files that do not fit are reported, and the
    /// certificates before them stay in use.
    pub(crate) async fn watch(self) {
        let mut seen = self.stamps();
        let mut tick = tokio::time::interval(CHECK_INTERVAL);
        loop {
            tick.tick().await;
            let now = self.stamps();
            if now == seen {
                continue;
            }
            seen = now;
            match read(&self.files) {
                Ok(config) => {
                    self.current.store(Arc::new(config));
                    tracing::info!(cert = %self.files.cert.display(), "certificates read again");
                    self.warn_if_expired();
                }
                Err(error) => tracing::error!(
                    %error,
                    help = "put PEM files that belong together where `listen.tls` names them: they \
                            are read when they change",
                    "changed certificates can't be used; those before them stay in use"
                ),
            }
        }
    }

    fn stamps(&self) -> Vec<Option<(SystemTime, u64)>> {
        let TlsFiles {
            cert,
            key,
            client_ca,
        } = &*self.files;
        let files = [Some(cert), Some(key), client_ca.as_ref()];
        files.iter().flatten().map(|path| stamp(path)).collect()
    }
}

/// How a file is, so that a change shows; `None` if it is not there.
pub(crate) fn stamp(path: &Path) -> Option<(SystemTime, u64)> {
    let metadata = std::fs::metadata(path).ok()?;
    Some((metadata.modified().ok()?, metadata.len()))
}

fn read(files: &TlsFiles) -> Result<ServerConfig, TlsError> {
    let chain = certificates(&files.cert)?;
    let key = PrivateKeyDer::from_pem_file(&files.key).map_err(|why| file(&files.key, &why))?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(|why| TlsError::Config(why.to_string()))?;
    let config = match &files.client_ca {
        None => config.with_no_client_auth(),
        Some(path) => {
            let mut roots = RootCertStore::empty();
            for certificate in certificates(path)? {
                roots.add(certificate).map_err(|why| file(path, &why))?;
            }
            let verifier = WebPkiClientVerifier::builder_with_provider(roots.into(), provider)
                .build()
                .map_err(|why| file(path, &why))?;
            config.with_client_cert_verifier(verifier)
        }
    };
    let mut config = config
        .with_single_cert(chain, key)
        .map_err(|why| TlsError::Config(format!("{}: {why}", files.cert.display())))?;
    config.alpn_protocols = vec![b"h2".to_vec()];
    Ok(config)
}

pub(crate) fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let read = CertificateDer::pem_file_iter(path).map_err(|why| file(path, &why))?;
    let chain: Vec<_> = read
        .collect::<Result<_, _>>()
        .map_err(|why| file(path, &why))?;
    if chain.is_empty() {
        return Err(file(path, &"no certificate in it"));
    }
    Ok(chain)
}

pub(crate) fn file(path: &Path, cause: &dyn fmt::Display) -> TlsError {
    TlsError::File {
        path: path.to_owned(),
        cause: cause.to_string(),
    }
}
