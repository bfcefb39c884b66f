//! TLS towards upstreams: files are read again when they change, and connections made with the old
//! ones get no more calls.

use crate::client::ClientTls;
use crate::config::UpstreamTlsConfig;
use crate::ingress::tls::{TlsError, stamp};
use arc_swap::ArcSwap;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};
use tokio::task::spawn_blocking;

/// How often the files are looked at.
const CHECK_INTERVAL: Duration = Duration::from_secs(2);

/// What secures connections now.
#[derive(Debug)]
pub(super) struct Tls {
    files: ClientTls,
    watched: Vec<PathBuf>,
    /// The name that certificates have to have, instead of the endpoint's host.
    name: Option<String>,
    current: ArcSwap<ClientConfig>,
    /// Counts what was read.
    generation: AtomicU64,
}

/// The files at one moment.
type Stamps = Vec<Option<(SystemTime, u64)>>;

impl Tls {
    /// Reads the files.
    ///
    /// # Errors
    /// One is missing, is not PEM, or does not fit the others.
    pub(super) fn try_new(config: &UpstreamTlsConfig) -> Result<Self, TlsError> {
        let files = ClientTls::new(config.files.clone());
        let identity = config.files.identity.iter();
        let identity = identity.flat_map(|(cert, key)| [cert, key]);
        let watched = config.files.ca.iter().chain(identity);
        let current = ArcSwap::from_pointee(files.config()?);
        Ok(Self {
            watched: watched.cloned().collect(),
            name: config.name.clone(),
            files,
            current,
            generation: AtomicU64::new(0),
        })
    }

    /// What a connection to a host is secured by.
    ///
    /// # Errors
    /// Nothing can be certified under this name.
    pub(super) fn secure(
        &self,
        host: &str,
    ) -> Result<(Arc<ClientConfig>, ServerName<'static>), String> {
        let name = self.name.as_deref().unwrap_or(host).to_owned();
        let name = ServerName::try_from(name).map_err(|why| why.to_string())?;
        Ok((self.current.load_full(), name))
    }

    /// Grows whenever files were read.
    pub(super) fn generation(&self) -> u64 {
        self.generation.load(Ordering::Relaxed)
    }

    /// Reads the files again whenever one has changed, for ever; files that do not fit are reported,
    /// and those before them stay in use.
    pub(super) async fn watch(self: Arc<Self>, handler: Arc<str>) {
        let mut seen = self.look(None).await;
        let mut tick = tokio::time::interval(CHECK_INTERVAL);
        loop {
            tick.tick().await;
            seen = self.look(Some((seen, Arc::clone(&handler)))).await;
        }
    }

    /// How the files are; read again where that is not how they were. Disks may be slow: another
    /// thread looks.
    async fn look(self: &Arc<Self>, before: Option<(Stamps, Arc<str>)>) -> Stamps {
        let this = Arc::clone(self);
        let looked = spawn_blocking(move || {
            let now: Stamps = this.watched.iter().map(|path| stamp(path)).collect();
            if let Some((_, handler)) = before.filter(|(seen, _)| *seen != now) {
                this.read_again(&handler);
            }
            now
        });
        looked.await.unwrap_or_default()
    }

    fn read_again(&self, handler: &str) {
        match self.files.config() {
            Ok(config) => {
                self.current.store(Arc::new(config));
                self.generation.fetch_add(1, Ordering::Relaxed);
                tracing::info!(handler, "certificates of an upstream read again");
            }
            Err(error) => tracing::error!(
                handler,
                %error,
                help = "put PEM files that belong together where the handler's `tls` names them: \
                        they are read when they change",
                "changed certificates can't be used; those before them stay in use"
            ),
        }
    }
}
