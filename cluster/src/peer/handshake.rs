//! How a link opens: two greetings and, where there is a secret, two proofs; all within 2 s.
//!
//! ```text
//! "CPP1" │ length u16 LE, at most 4096 │ body      dialler:  greeting ·          · proof
//!                                                  listener:          · greeting ·       · proof
//! ```
//!
//! Nothing but the greetings is decoded before the proofs have passed, and the listener proves
//! nothing to a stranger.

use std::time::Duration;

use rustls::pki_types::CertificateDer;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::timeout;

use super::hello::{Class, Hello, Identity, LinkError};
use super::secret::{Greetings, SecretError, SecretSource, SecretStore, Side};
use super::tls::{TlsError, TlsFiles, TlsStore, check_name};
use super::transport::{BoxStream, Connection};
use crate::NodeId;

/// How long a handshake may take.
pub const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(2);

const SECRET: &str = "secret";
const MAGIC: &[u8; 4] = b"CPP1";
const HEAD: usize = 6;
/// The largest body of a handshake's frame, in bytes.
pub(crate) const HANDSHAKE_LIMIT: usize = 4096;

/// How links are kept from strangers. With neither secret nor TLS only loopback is taken, unless
/// `insecure` says otherwise; with both, both must pass.
#[derive(Debug, Clone, Default)]
pub struct SecurityConfig {
    /// Shared secrets: the first proves, all are accepted.
    pub secrets: Vec<SecretSource>,
    /// Certificates.
    pub tls: Option<TlsFiles>,
    /// Plain links beyond loopback.
    pub insecure: bool,
}

/// Why links cannot be started.
#[derive(Debug, thiserror::Error)]
pub enum SecurityError {
    /// By the secrets.
    #[error(transparent)]
    Secret(#[from] SecretError),
    /// By the certificates.
    #[error(transparent)]
    Tls(#[from] TlsError),
}

/// The same, read.
#[derive(Debug)]
pub(crate) struct Security {
    secrets: Option<SecretStore>,
    tls: Option<TlsStore>,
    insecure: bool,
}

impl Security {
    pub(crate) fn new(config: SecurityConfig) -> Result<Self, SecurityError> {
        let secrets = if config.secrets.is_empty() {
            None
        } else {
            Some(SecretStore::new(config.secrets)?)
        };
        Ok(Self {
            secrets,
            tls: config.tls.map(TlsStore::new).transpose()?,
            insecure: config.insecure,
        })
    }

    /// Our greeting; it says whether a proof is wanted.
    fn greet(&self, identity: &Identity, class: Class, link: u64) -> Result<Vec<u8>, LinkError> {
        let mut hello = identity.hello(class, link, nonce()?);
        if self.secrets.is_some() {
            hello.features.push(SECRET.to_owned());
        }
        Ok(hello.encode())
    }

    fn check_proves(&self, hello: &Hello) -> Result<(), LinkError> {
        let proves = hello.features.iter().any(|feature| feature == SECRET);
        match (self.secrets.is_some(), proves) {
            (true, false) => Err(LinkError::NoSecret("this node, but not the peer,")),
            (false, true) => Err(LinkError::NoSecret("the peer, but not this node,")),
            _ => Ok(()),
        }
    }

    fn allow(&self, connection: &Connection) -> Result<(), LinkError> {
        let plain = self.secrets.is_none() && self.tls.is_none();
        if plain && !self.insecure && !connection.loopback {
            return Err(LinkError::Plain(connection.peer.clone()));
        }
        Ok(())
    }
}

/// A link whose ends know each other.
pub(crate) struct Shaken {
    pub(crate) stream: BoxStream,
    /// What the other side says of itself.
    pub(crate) hello: Hello,
    pub(crate) protocol: u16,
}

impl std::fmt::Debug for Shaken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Shaken").field(&self.hello).finish()
    }
}

fn nonce() -> Result<[u8; 32], LinkError> {
    let random: ring::rand::Random<[u8; 32]> =
        ring::rand::generate(&ring::rand::SystemRandom::new()).map_err(|_| {
            LinkError::Io(std::io::Error::other("the system gives no random bytes"))
        })?;
    Ok(random.expose())
}

/// The body of a handshake's frame from its start, and how many bytes it took.
///
/// # Errors
/// If it is no greeting's frame; `Ok(None)` while it is not whole.
pub(crate) fn parse(bytes: &[u8]) -> Result<Option<&[u8]>, LinkError> {
    let known = bytes.len().min(MAGIC.len());
    if bytes[..known] != MAGIC[..known] {
        return Err(LinkError::NotAPeer);
    }
    let Some(length) = bytes.get(4..HEAD) else {
        return Ok(None);
    };
    let length = usize::from(u16::from_le_bytes([length[0], length[1]]));
    if length > HANDSHAKE_LIMIT {
        return Err(LinkError::TooLong {
            length: length as u64,
            limit: HANDSHAKE_LIMIT as u64,
        });
    }
    Ok(bytes.get(HEAD..HEAD + length))
}

async fn receive<R: AsyncRead + Unpin>(from: &mut R) -> Result<Vec<u8>, LinkError> {
    let mut bytes = Vec::with_capacity(512);
    // The head byte by byte matters to nobody; the body at once.
    loop {
        if let Some(body) = parse(&bytes)? {
            return Ok(body.to_vec());
        }
        let wanted = match bytes.get(4..HEAD) {
            Some(length) => {
                HEAD + usize::from(u16::from_le_bytes([length[0], length[1]])) - bytes.len()
            }
            None => HEAD - bytes.len(),
        };
        let read = from.take(wanted as u64).read_buf(&mut bytes).await;
        match read {
            Ok(0) => return Err(LinkError::Closed),
            Ok(_) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

async fn send<W: AsyncWrite + Unpin>(to: &mut W, body: &[u8]) -> Result<(), LinkError> {
    let length = u16::try_from(body.len())
        .ok()
        .filter(|length| usize::from(*length) <= HANDSHAKE_LIMIT)
        .ok_or(LinkError::TooLong {
            length: body.len() as u64,
            limit: HANDSHAKE_LIMIT as u64,
        })?;
    let frame = [&MAGIC[..], &length.to_le_bytes(), body].concat();
    to.write_all(&frame).await?;
    to.flush().await?;
    Ok(())
}

async fn limited<T>(work: impl Future<Output = Result<T, LinkError>>) -> Result<T, LinkError> {
    timeout(HANDSHAKE_TIMEOUT, work)
        .await
        .unwrap_or(Err(LinkError::Slow(HANDSHAKE_TIMEOUT.as_millis())))
}

fn check_certificate(
    certificate: Option<&CertificateDer<'static>>,
    hello: &Hello,
) -> Result<(), LinkError> {
    certificate.map_or(Ok(()), |certificate| check_name(certificate, &hello.name))
}

/// The dialler's side: `meant` is the node that should answer, none where any may.
pub(crate) async fn dial(
    connection: Connection,
    identity: &Identity,
    security: &Security,
    class: Class,
    link: u64,
    meant: Option<NodeId>,
) -> Result<Shaken, LinkError> {
    security.allow(&connection)?;
    let Connection { mut stream, .. } = connection;
    limited(async {
        let mut certificate = None;
        if let Some(tls) = &security.tls {
            let (secured, leaf) = tls.dial(stream).await?;
            (stream, certificate) = (secured, Some(leaf));
        }
        let ours = security.greet(identity, class, link)?;
        send(&mut stream, &ours).await?;
        let theirs = receive(&mut stream).await?;
        let hello = Hello::decode(&theirs)?;
        let protocol = identity.check(&hello)?;
        security.check_proves(&hello)?;
        if hello.class != class {
            return Err(LinkError::Broken("it answers for another class of link"));
        }
        if let Some(wanted) = meant.filter(|wanted| *wanted != hello.node) {
            return Err(LinkError::WrongNode {
                wanted,
                found: hello.node,
            });
        }
        check_certificate(certificate.as_ref(), &hello)?;
        if let Some(secrets) = &security.secrets {
            let secrets = secrets.current();
            let both = Greetings {
                dial: &ours,
                listen: &theirs,
            };
            let proof = secrets
                .prove(0, Side::Dial, both)
                .ok_or(LinkError::Secret)?;
            send(&mut stream, &proof).await?;
            // A listener that does not know our secret closes without a proof of its own.
            let proof = receive(&mut stream).await.map_err(|error| match error {
                LinkError::Closed => LinkError::Secret,
                LinkError::Io(error) if error.kind() == std::io::ErrorKind::ConnectionReset => {
                    LinkError::Secret
                }
                other => other,
            })?;
            secrets
                .fitting(&proof, Side::Listen, both)
                .ok_or(LinkError::Secret)?;
        }
        Ok(Shaken {
            stream,
            hello,
            protocol,
        })
    })
    .await
}

/// The listener's side.
pub(crate) async fn listen(
    connection: Connection,
    identity: &Identity,
    security: &Security,
) -> Result<Shaken, LinkError> {
    security.allow(&connection)?;
    let Connection { mut stream, .. } = connection;
    limited(async {
        let mut certificate = None;
        if let Some(tls) = &security.tls {
            let (secured, leaf) = tls.listen(stream).await?;
            (stream, certificate) = (secured, Some(leaf));
        }
        let theirs = receive(&mut stream).await?;
        let hello = Hello::decode(&theirs)?;
        let ours = security.greet(identity, hello.class, 0)?;
        send(&mut stream, &ours).await?;
        // A mismatch is told by both sides, each from the other's greeting.
        let protocol = identity.check(&hello)?;
        security.check_proves(&hello)?;
        check_certificate(certificate.as_ref(), &hello)?;
        if let Some(secrets) = &security.secrets {
            let secrets = secrets.current();
            let both = Greetings {
                dial: &theirs,
                listen: &ours,
            };
            let proof = receive(&mut stream).await?;
            let place = secrets
                .fitting(&proof, Side::Dial, both)
                .ok_or(LinkError::Secret)?;
            let proof = secrets
                .prove(place, Side::Listen, both)
                .ok_or(LinkError::Secret)?;
            send(&mut stream, &proof).await?;
        }
        Ok(Shaken {
            stream,
            hello,
            protocol,
        })
    })
    .await
}

#[cfg(test)]
mod tests;
