//! A connection to Centrifugo's API, and calls of its methods.

use crate::client::{self, ClientTls, Windows, grpc_timeout};
use crate::config::Endpoint;
use crate::trace::TraceContext;
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, header};
use std::time::Duration;
use tokio::task::JoinHandle;

pub(super) use crate::client::{CallError, GrpcStatus};

/// Where the methods of the API are.
const SERVICE: &str = "/centrifugal.centrifugo.api.CentrifugoApi/";
/// The largest answer read; a long history is the largest.
const ANSWER_BYTES: usize = 64 << 20;
/// Flow control of a connection: many answers at once.
const WINDOWS: Windows = Windows {
    stream: 1 << 20,
    connection: 4 << 20,
};
const ERROR_MODE: HeaderName = HeaderName::from_static("x-centrifugo-error-mode");

/// A connection to an endpoint. Clones share it.
#[derive(Debug, Clone)]
pub(super) struct Connection {
    connection: client::Connection,
    authorization: Option<HeaderValue>,
}

/// How connections are made.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Dialer {
    /// Certificates of `grpcs://` endpoints; read at every connection, so that new ones are used from
    /// the next one on.
    pub(super) tls: ClientTls,
    /// `apikey KEY`, marked as sensitive.
    pub(super) authorization: Option<HeaderValue>,
}

impl Dialer {
    /// Connects. The handle ends when the connection does.
    pub(super) async fn dial(&self, to: &Endpoint) -> Result<(Connection, JoinHandle<()>), String> {
        let fail = |why: String| format!("{to}: {why}");
        let tls = to.tls.then(|| self.tls.secure(to.bare_host())).transpose();
        let tls = tls.map_err(fail)?;
        let address = (to.bare_host(), to.port);
        let dialled = client::dial(address, &to.authority(), tls, WINDOWS).await;
        let (connection, driver) = dialled.map_err(fail)?;
        let connection = Connection {
            connection,
            authorization: self.authorization.clone(),
        };
        Ok((connection, driver))
    }
}

impl Connection {
    /// `HOST:PORT` of the endpoint.
    pub(super) fn authority(&self) -> &str {
        self.connection.authority()
    }

    /// Calls a method with an encoded message; answers the encoded response. The caller keeps the
    /// time; the server is told of it, and of the trace if the call belongs to one.
    pub(super) async fn call(
        &self,
        method: &str,
        message: &[u8],
        timeout: Duration,
        transport_errors: bool,
        trace: Option<&TraceContext>,
    ) -> Result<Bytes, CallError> {
        let mut metadata = HeaderMap::new();
        metadata.insert(client::GRPC_TIMEOUT, grpc_timeout(timeout));
        if let Some(key) = &self.authorization {
            metadata.insert(header::AUTHORIZATION, key.clone());
        }
        if transport_errors {
            metadata.insert(ERROR_MODE, HeaderValue::from_static("transport"));
        }
        if let Some(trace) = trace {
            trace.write(&mut metadata);
        }
        let path = format!("{SERVICE}{method}");
        let call = self.connection.call(&path, metadata, message, ANSWER_BYTES);
        call.await
    }
}
