//! A gRPC client over bytes, which calls a node as Centrifugo does.

use super::TargetArgs;
use crate::cli::error::{CliError, Exit};
use crate::cli::event::FiredEvent;
use crate::cli::health::reachable;
use crate::config::{Config, ListenAddr};
use crate::event::SERVICE_PATH;
use crate::ingress::codec::BytesCodec;
use bytes::Bytes;
use futures_util::Stream;
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderName, HeaderValue};
use std::error::Error;
use std::fs;
use std::path::Path;
use std::time::Duration;
use tokio::time::Instant;
use tonic::client::Grpc;
use tonic::codec::Streaming;
use tonic::metadata::MetadataMap;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity};
use tonic::{Request, Status};

/// How long dialling may take.
const DIAL_TIMEOUT: Duration = Duration::from_secs(3);
/// What grpc-go, and so Centrifugo, takes as a reply.
const REPLY_BYTES: usize = 4 * 1024 * 1024;
/// Whom Centrifugo says it is; our transport adds itself.
const USER_AGENT: &str = "grpc-go/1.82.0";

/// Whom to call and with which credential.
#[derive(Clone)]
pub(in crate::cli) struct Target {
    address: String,
    own: bool,
    endpoint: Endpoint,
    /// `listen.auth`, if it is set.
    pub(in crate::cli) auth: Option<(HeaderName, HeaderValue)>,
}

impl Target {
    /// Whom to call, as it was named.
    pub(in crate::cli) fn address(&self) -> &str {
        &self.address
    }

    /// Whether it is the listener of the configuration.
    pub(in crate::cli) const fn is_own(&self) -> bool {
        self.own
    }

    /// The node of a configuration, or whom the arguments name.
    pub(in crate::cli) fn of(config: &Config, args: &TargetArgs) -> Result<Self, CliError> {
        let own = args.to.is_none();
        let address = match &args.to {
            Some(address) => address.clone(),
            None => listener(config)?,
        };
        let (uri, tls) = uri(&address);
        let wrong = |why: &dyn std::fmt::Display| {
            let help = "write HOST:PORT, grpc://HOST:PORT, tls://HOST:PORT or unix:///PATH";
            CliError::usage(format!("--to {address}"), why, help)
        };
        let mut endpoint = Endpoint::from_shared(uri)
            .map_err(|why| wrong(&chain(&why)))?
            .user_agent(USER_AGENT)
            .map_err(CliError::internal)?
            .connect_timeout(DIAL_TIMEOUT);
        if tls {
            let trusted = config.listen.tls.as_ref().filter(|_| own);
            let ca = args
                .tls_ca
                .as_ref()
                .or_else(|| trusted.map(|tls| &tls.cert));
            let tls = tls_config(args, ca.map(std::path::PathBuf::as_path))?;
            endpoint = endpoint
                .tls_config(tls)
                .map_err(|why| wrong(&chain(&why)))?;
        }
        let auth = config.listen.auth.as_ref().map(|auth| {
            let name = HeaderName::from_bytes(auth.metadata.as_bytes());
            let mut value = HeaderValue::from_str(auth.value.expose()).map_err(|_| ());
            if let Ok(value) = &mut value {
                value.set_sensitive(true);
            }
            Ok((name.map_err(|_| ())?, value?))
        });
        let auth = auth.transpose().map_err(|()| {
            let help = "use a value of visible ASCII";
            CliError::new(
                Exit::Config,
                "listen.auth",
                "does not fit into metadata",
                help,
            )
        })?;
        Ok(Self {
            address,
            own,
            endpoint,
            auth,
        })
    }
}

impl Target {
    /// Whether it is this machine.
    pub(in crate::cli) fn is_local(&self) -> bool {
        let (uri, _) = uri(&self.address);
        if uri.starts_with("unix:") {
            return true;
        }
        let uri = uri.parse::<http::Uri>().ok();
        let host = uri.as_ref().and_then(http::Uri::host).unwrap_or_default();
        let host = host.trim_start_matches('[').trim_end_matches(']');
        let ip = host.parse::<std::net::IpAddr>();
        ip.map_or_else(|_| host == "localhost", |ip| ip.is_loopback())
    }
}

/// The address under which the node's own listener is reached.
fn listener(config: &Config) -> Result<String, CliError> {
    let scheme = if config.listen.tls.is_some() {
        "tls"
    } else {
        "grpc"
    };
    match &config.listen.grpc {
        ListenAddr::Tcp(address) if address.port() == 0 => Err(CliError::usage(
            "listen.grpc",
            "has port 0, so the node's port is not known",
            "name the address that `serve` printed with --to",
        )),
        ListenAddr::Tcp(address) => Ok(format!("{scheme}://{}", reachable(*address))),
        ListenAddr::Unix(path) if config.listen.tls.is_some() => Err(CliError::usage(
            format!("unix://{}", path.display()),
            "TLS over a unix socket is not spoken here",
            "name another address with --to",
        )),
        ListenAddr::Unix(path) => Ok(format!("unix://{}", path.display())),
    }
}

/// The address in the transport's form, and whether it is TLS.
fn uri(address: &str) -> (String, bool) {
    if address.starts_with("unix:") {
        return (address.to_owned(), false);
    }
    for scheme in ["tls://", "grpcs://", "https://"] {
        if let Some(rest) = address.strip_prefix(scheme) {
            return (format!("https://{rest}"), true);
        }
    }
    let rest = address.strip_prefix("grpc://").unwrap_or(address);
    let rest = rest.strip_prefix("http://").unwrap_or(rest);
    (format!("http://{rest}"), false)
}

fn tls_config(args: &TargetArgs, ca: Option<&Path>) -> Result<ClientTlsConfig, CliError> {
    let read = |flag: &str, path: &Path| {
        fs::read(path).map_err(|why| {
            let what = format!("{flag} {}", path.display());
            CliError::usage(what, why, "name a PEM file that can be read")
        })
    };
    let mut tls = ClientTlsConfig::new();
    let ca = ca.ok_or_else(|| {
        let help = "name the authority of the node's certificate with --tls-ca FILE";
        CliError::usage("--to", "TLS needs to know whom to trust", help)
    })?;
    tls = tls.ca_certificate(Certificate::from_pem(read("--tls-ca", ca)?));
    if let Some(name) = &args.tls_name {
        tls = tls.domain_name(name);
    }
    if let (Some(cert), Some(key)) = (&args.tls_cert, &args.tls_key) {
        let (cert, key) = (read("--tls-cert", cert)?, read("--tls-key", key)?);
        tls = tls.identity(Identity::from_pem(cert, key));
    }
    Ok(tls)
}

/// Why a call has no message.
pub(in crate::cli) enum Failed {
    /// The node, or the deadline, answered with a status.
    Status(Status),
    /// The connection broke, or never was one.
    Unreachable(CliError),
}

/// A connection to a node; clones share it.
#[derive(Clone)]
pub(in crate::cli) struct Client {
    address: String,
    channel: Channel,
    auth: Option<(HeaderName, HeaderValue)>,
}

impl Client {
    /// Dials.
    ///
    /// # Errors
    /// Nobody listens there.
    pub(in crate::cli) async fn connect(target: &Target) -> Result<Self, CliError> {
        let dialled = tokio::time::timeout(DIAL_TIMEOUT, target.endpoint.connect()).await;
        let channel = match dialled {
            Ok(Ok(channel)) => channel,
            Ok(Err(error)) => return Err(unreachable(&target.address, &error)),
            Err(_) => {
                let why = std::io::Error::other(format!("no answer within {DIAL_TIMEOUT:?}"));
                return Err(unreachable(&target.address, &why));
            }
        };
        Ok(Self {
            address: target.address.clone(),
            channel,
            auth: target.auth.clone(),
        })
    }

    /// The same connection with another credential, or none.
    pub(in crate::cli) fn with_auth(&self, auth: Option<(HeaderName, HeaderValue)>) -> Self {
        Self {
            auth,
            ..self.clone()
        }
    }

    /// The connection itself.
    pub(in crate::cli) fn channel(&self) -> Channel {
        self.channel.clone()
    }

    /// Whom it calls.
    pub(in crate::cli) fn address(&self) -> &str {
        &self.address
    }

    /// Sends one event and waits for its reply, as long as Centrifugo would.
    pub(in crate::cli) async fn call(
        &mut self,
        event: &FiredEvent,
        timeout: Duration,
    ) -> (Result<Bytes, Failed>, Duration) {
        let begun = Instant::now();
        let outcome = tokio::time::timeout(timeout, self.unary(event, timeout)).await;
        let outcome =
            outcome.unwrap_or_else(|_| Err(Status::deadline_exceeded("no reply in time")));
        let took = begun.elapsed();
        (outcome.map_err(|status| self.failed(status)), took)
    }

    async fn unary(&mut self, event: &FiredEvent, timeout: Duration) -> Result<Bytes, Status> {
        let mut request = Request::new(event.message.clone());
        *request.metadata_mut() = self.metadata(&event.metadata);
        request.set_timeout(timeout);
        let mut grpc = self.grpc();
        grpc.ready()
            .await
            .map_err(|error| Status::from_error(error.into()))?;
        let reply = grpc
            .unary(request, path(event)?, BytesCodec::unary())
            .await?;
        Ok(reply.into_inner())
    }

    /// Opens a stream; streams carry no `grpc-timeout`.
    pub(in crate::cli) async fn open(
        &mut self,
        event: &FiredEvent,
        messages: impl Stream<Item = Bytes> + Send + 'static,
    ) -> Result<Streaming<Bytes>, Status> {
        let mut request = Request::new(messages);
        *request.metadata_mut() = self.metadata(&event.metadata);
        let mut grpc = self.grpc();
        grpc.ready()
            .await
            .map_err(|error| Status::from_error(error.into()))?;
        let reply = grpc
            .streaming(request, path(event)?, BytesCodec::stream())
            .await?;
        Ok(reply.into_inner())
    }

    fn grpc(&self) -> Grpc<Channel> {
        Grpc::new(self.channel.clone())
            .accept_compressed(tonic::codec::CompressionEncoding::Gzip)
            .max_decoding_message_size(REPLY_BYTES)
    }

    /// The credential before everything else, as Centrifugo sends it.
    fn metadata(&self, of_event: &HeaderMap) -> MetadataMap {
        let mut headers = HeaderMap::new();
        if let Some((name, value)) = &self.auth {
            headers.append(name.clone(), value.clone());
        }
        for (name, value) in of_event {
            headers.append(name.clone(), value.clone());
        }
        MetadataMap::from_headers(headers)
    }

    /// Tells a status that the node sent from one that our own transport made up.
    pub(in crate::cli) fn failed(&self, status: Status) -> Failed {
        let mut cause = status.source();
        while let Some(error) = cause {
            if error.is::<tonic::TimeoutExpired>() {
                return Failed::Status(Status::deadline_exceeded("no reply in time"));
            }
            cause = error.source();
        }
        match status.source() {
            Some(error) => Failed::Unreachable(unreachable(&self.address, error)),
            None => Failed::Status(status),
        }
    }
}

fn path(event: &FiredEvent) -> Result<PathAndQuery, Status> {
    let method = match event.raw_method.as_str() {
        "" => event.kind.method(),
        raw => raw,
    };
    PathAndQuery::try_from(format!("{SERVICE_PATH}{method}"))
        .map_err(|error| Status::from_error(error.into()))
}

fn unreachable(address: &str, error: &(dyn Error + 'static)) -> CliError {
    let help = "start the node with `serve`, give its --config, or name its address with --to";
    CliError::new(Exit::Unreachable, address, chain(error), help)
}

/// An error and its causes, each once.
fn chain(error: &(dyn Error + 'static)) -> String {
    crate::answer::chain(error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_taken_in_every_form() {
        assert_eq!(uri("127.0.0.1:1"), ("http://127.0.0.1:1".to_owned(), false));
        assert_eq!(uri("grpc://h:1"), ("http://h:1".to_owned(), false));
        assert_eq!(uri("tls://h:1"), ("https://h:1".to_owned(), true));
        assert_eq!(uri("unix:///run/x"), ("unix:///run/x".to_owned(), false));
    }
}
