//! What is spoken at an address: told from its first bytes, so that a wrong scheme or a wrong port
//! is called by its name instead of by the error that follows from it.

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, RootCertStore};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// How long connecting may take.
const CONNECT: Duration = Duration::from_secs(2);
/// How long the first bytes may take.
const FIRST_BYTES: Duration = Duration::from_secs(1);
/// What an HTTP/2 client begins with: the preface and empty settings.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";

/// What is spoken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Speaks {
    /// Nobody is there; why.
    Nothing(String),
    /// TLS.
    Tls,
    /// HTTP/2 without TLS, as gRPC is.
    Http2,
    /// HTTP/1 without TLS.
    Http1,
    /// Somebody takes connections and says nothing that is known here.
    Unknown,
}

/// Connects to a host (IPv6 with or without brackets) and port and looks at what comes back.
pub(super) async fn sniff(host: &str, port: u16) -> Speaks {
    let host = host.trim_matches(['[', ']']);
    match dial(host, port).await {
        Err(why) => return Speaks::Nothing(why),
        Ok(socket) => {
            if is_tls(host, socket).await {
                return Speaks::Tls;
            }
        }
    }
    match dial(host, port).await {
        Err(why) => Speaks::Nothing(why),
        Ok(socket) => plain(socket).await,
    }
}

/// A TCP connection, or in words why there is none.
pub(super) async fn dial(host: &str, port: u16) -> Result<TcpStream, String> {
    let host = host.trim_matches(['[', ']']);
    match timeout(CONNECT, TcpStream::connect((host, port))).await {
        Ok(Ok(socket)) => Ok(socket),
        Ok(Err(why)) => Err(why.to_string()),
        Err(_) => Err(format!("no answer within {} s", CONNECT.as_secs())),
    }
}

/// Whether a TLS handshake is understood, be the certificate what it may.
async fn is_tls(host: &str, socket: TcpStream) -> bool {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let versions =
        ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let (Ok(builder), Ok(name)) = (versions, ServerName::try_from(host.to_owned())) else {
        return false;
    };
    let config = builder
        .with_root_certificates(RootCertStore::empty())
        .with_no_client_auth();
    let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
    match timeout(FIRST_BYTES, connector.connect(name, socket)).await {
        Err(_) => false,
        Ok(Ok(_)) => true,
        Ok(Err(why)) => match why.get_ref().and_then(|why| why.downcast_ref()) {
            Some(rustls::Error::InvalidMessage(_) | rustls::Error::InappropriateMessage { .. })
            | None => false,
            Some(_) => true,
        },
    }
}

async fn plain(mut socket: TcpStream) -> Speaks {
    let mut first = [0_u8; 5];
    let talk = async {
        socket.write_all(PREFACE).await?;
        socket.read_exact(&mut first).await
    };
    match timeout(FIRST_BYTES, talk).await {
        Ok(Ok(_)) if first.starts_with(b"HTTP/") => Speaks::Http1,
        // The first frame of a server is its settings.
        Ok(Ok(_)) if first[3] == 4 => Speaks::Http2,
        _ => Speaks::Unknown,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use tokio::net::TcpListener;

    /// A server that answers the first bytes of each connection with these.
    async fn answering(with: &'static [u8]) -> u16 {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        tokio::spawn(async move {
            while let Ok((mut socket, _)) = listener.accept().await {
                let mut some = [0; 512];
                drop(socket.read(&mut some).await);
                drop(socket.write_all(with).await);
            }
        });
        port
    }

    #[tokio::test]
    async fn protocols_are_told_by_their_first_bytes() {
        for (bytes, speaks) in [
            (&b"HTTP/1.1 400 Bad Request\r\n\r\n"[..], Speaks::Http1),
            (b"\0\0\0\x04\0\0\0\0\0", Speaks::Http2),
            // A fatal alert, handshake_failure.
            (b"\x15\x03\x03\0\x02\x02\x28", Speaks::Tls),
            (b"220 mail ready\r\n", Speaks::Unknown),
            (b"", Speaks::Unknown),
        ] {
            let port = answering(bytes).await;
            assert_eq!(sniff("127.0.0.1", port).await, speaks, "{bytes:?}");
        }
    }

    #[tokio::test]
    async fn where_nobody_listens_the_reason_is_told() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        drop(listener);
        let Speaks::Nothing(why) = sniff("127.0.0.1", port).await else {
            panic!("somebody is there");
        };
        assert!(why.contains("refused"), "{why}");
    }
}
