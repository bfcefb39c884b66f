//! TLS towards servers that a node calls: the files, and what is made of them.

use crate::ingress::tls::{TlsError, certificates, file};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

use crate::config::ClientTlsConfig;

/// Where systems keep the authorities that they trust.
const SYSTEM: [&str; 4] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

/// How connections are secured.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ClientTls(ClientTlsConfig);

impl ClientTls {
    /// Secured by these files.
    pub(crate) const fn new(files: ClientTlsConfig) -> Self {
        Self(files)
    }

    /// Secures a connection to a host.
    pub(crate) async fn connect(
        &self,
        host: &str,
        socket: TcpStream,
    ) -> Result<TlsStream<TcpStream>, String> {
        let (config, name) = self.secure(host)?;
        tokio_rustls::TlsConnector::from(config)
            .connect(name, socket)
            .await
            .map_err(|why| why.to_string())
    }

    /// What secures a connection to a host: the files as they are now, and the name that the
    /// certificate has to have.
    ///
    /// # Errors
    /// As for [`ClientTls::config`], or nothing can be certified under this name.
    pub(crate) fn secure(
        &self,
        host: &str,
    ) -> Result<(Arc<ClientConfig>, ServerName<'static>), String> {
        let config = self.config().map_err(|why| why.to_string())?;
        let name = ServerName::try_from(host.to_owned()).map_err(|why| why.to_string())?;
        Ok((Arc::new(config), name))
    }

    /// Reads the files.
    ///
    /// # Errors
    /// One is missing, is not PEM, or does not fit the others.
    pub(crate) fn config(&self) -> Result<ClientConfig, TlsError> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|why| TlsError::Config(why.to_string()))?
            .with_root_certificates(self.roots()?);
        let mut config = match &self.0.identity {
            None => config.with_no_client_auth(),
            Some((cert, key)) => {
                let chain = certificates(cert)?;
                let private = PrivateKeyDer::from_pem_file(key).map_err(|why| file(key, &why))?;
                config
                    .with_client_auth_cert(chain, private)
                    .map_err(|why| TlsError::Config(format!("{}: {why}", cert.display())))?
            }
        };
        config.alpn_protocols = vec![b"h2".to_vec()];
        Ok(config)
    }

    /// The authorities of `tls.ca`, else those that the system trusts.
    ///
    /// # Errors
    /// The file is missing or is not PEM.
    pub(crate) fn roots(&self) -> Result<RootCertStore, TlsError> {
        let mut roots = RootCertStore::empty();
        if let Some(path) = &self.0.ca {
            for certificate in certificates(path)? {
                roots.add(certificate).map_err(|why| file(path, &why))?;
            }
            return Ok(roots);
        }
        let system = SYSTEM.iter().map(PathBuf::from).find(|path| path.is_file());
        let system = system.ok_or_else(|| {
            file(
                Path::new(SYSTEM[0]),
                &"the system has no list of authorities: name one (`centrifugo.tls.ca`, `log.otlp_ca`, `handler.NAME.tls.ca`)",
            )
        })?;
        // Systems trust some that are malformed to others.
        roots.add_parsable_certificates(certificates(&system)?);
        Ok(roots)
    }
}
