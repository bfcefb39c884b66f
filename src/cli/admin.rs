//! A client of the Admin service: whom `reload`, `log-level` and `workers` ask.

use super::error::{CliError, Exit};
use super::health::reachable;
use super::{Session, block_on};
use crate::answer::chain;
use crate::answer::code_name;
use crate::config::{AdminAccess, load_parts};
use crate::control::HELP_METADATA;
use crate::proto::admin::admin_client::AdminClient;
use crate::proto::admin::{Problem, Refused};
use serde_json::{Value, json};
use std::error::Error;
use std::net::SocketAddr;
use std::time::Duration;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Response, Status};

/// What makes the calls.
pub(super) type Client = AdminClient<Channel>;

/// How long dialling may take.
const DIAL_TIMEOUT: Duration = Duration::from_secs(3);
/// How long the node may take to answer.
const TIMEOUT: Duration = Duration::from_secs(30);
/// The largest answer: a refusal names everything that is wrong with a configuration of 1 MiB.
const ANSWER_BYTES: usize = 64 * 1024 * 1024;

/// Where the node's admin listener is, and what it asks for.
pub(super) struct Target {
    address: SocketAddr,
    token: Option<MetadataValue<Ascii>>,
}

impl Target {
    /// The node of the configuration. What is wrong with the rest of it does not matter here: the
    /// node reads its own, and says so.
    pub(super) fn of(session: &Session) -> Result<Self, CliError> {
        match load_parts(&session.options()) {
            Ok(loaded) => {
                let listen = loaded.config.listen;
                Self::at(&AdminAccess {
                    address: listen.admin,
                    token: listen.admin_token,
                })
            }
            Err(refused) => match &refused.admin {
                Some(access) => Self::at(access),
                None => Err(refused.error.into()),
            },
        }
    }

    /// Where it asks.
    pub(super) const fn address(&self) -> SocketAddr {
        self.address
    }

    fn at(access: &AdminAccess) -> Result<Self, CliError> {
        if access.address.port() == 0 {
            return Err(CliError::usage(
                "listen.admin",
                "has port 0, so the node's port is not known",
                "name the address that `serve` printed with --set listen.admin=ADDRESS",
            ));
        }
        let token = access.token.as_ref().map(|token| {
            let mut value = MetadataValue::try_from(format!("Bearer {}", token.expose()))?;
            value.set_sensitive(true);
            Ok::<_, tonic::metadata::errors::InvalidMetadataValue>(value)
        });
        let token = token.transpose().map_err(|_| {
            let help = "use a token of visible ASCII";
            CliError::new(
                Exit::Config,
                "listen.admin_token",
                "does not fit into metadata",
                help,
            )
        })?;
        Ok(Self {
            address: reachable(access.address),
            token,
        })
    }

    /// Makes one call.
    pub(super) fn call<Q, A, F>(
        &self,
        what: &'static str,
        message: Q,
        call: impl FnOnce(AdminClient<Channel>, Request<Q>) -> F,
    ) -> Result<A, CliError>
    where
        F: Future<Output = Result<Response<A>, Status>>,
    {
        self.call_within(TIMEOUT, what, message, call)
    }

    /// The same, where the node may take longer.
    pub(super) fn call_within<Q, A, F>(
        &self,
        limit: Duration,
        what: &'static str,
        message: Q,
        call: impl FnOnce(AdminClient<Channel>, Request<Q>) -> F,
    ) -> Result<A, CliError>
    where
        F: Future<Output = Result<Response<A>, Status>>,
    {
        let mut request = Request::new(message);
        if let Some(token) = &self.token {
            request
                .metadata_mut()
                .insert("authorization", token.clone());
        }
        block_on(async {
            let endpoint = Endpoint::from_shared(format!("http://{}", self.address));
            let endpoint = endpoint.map_err(CliError::internal)?;
            let channel = endpoint.connect_timeout(DIAL_TIMEOUT).connect().await;
            let channel = channel.map_err(|error| self.unreachable(&chain(&error)))?;
            let client = AdminClient::new(channel).max_decoding_message_size(ANSWER_BYTES);
            match tokio::time::timeout(limit, call(client, request)).await {
                Ok(Ok(answer)) => Ok(answer.into_inner()),
                Ok(Err(status)) => Err(self.failed(what, &status)),
                Err(_) => {
                    let why = format!(
                        "no answer within {} s; it may still be carried out",
                        limit.as_secs()
                    );
                    Err(self.unreachable(&why))
                }
            }
        })
    }

    fn unreachable(&self, why: &str) -> CliError {
        let help = "start the node with `serve`, or name the admin address it runs with: \
                    --config FILE or --set listen.admin=ADDRESS";
        CliError::new(Exit::Unreachable, self.address.to_string(), why, help)
    }

    /// Tells a status that the node sent from one that our own transport made up.
    fn failed(&self, what: &str, status: &Status) -> CliError {
        if let Some(error) = status.source() {
            return self.unreachable(&chain(error));
        }
        let help = status.metadata().get(HELP_METADATA);
        if let Some(help) = help.and_then(|help| help.to_str().ok()) {
            return CliError::new(Exit::Failed, what, status.message(), help);
        }
        let help = match status.code() {
            Code::Unauthenticated => {
                "give the configuration that the node runs with, or the token it was started with: \
                 --set listen.admin_token=TOKEN"
            }
            Code::Unavailable => "ask again when the node runs: `health --ready` says so",
            Code::Unimplemented => "what listens there is no node, or an older one",
            Code::FailedPrecondition => "restart the program instead",
            _ => "the node's log says more",
        };
        let code = code_name(status.code());
        let why = format!("gRPC status {code}: {}", status.message());
        CliError::new(Exit::Failed, what, why, help)
    }
}

/// What the node refuses, as errors of a command.
pub(super) fn refused(what: &str, refused: Refused) -> CliError {
    let problem = |Problem { what: why, help }| CliError::new(Exit::Failed, what, why, help);
    let problems: Vec<CliError> = refused.problems.into_iter().map(problem).collect();
    if problems.is_empty() {
        return nothing_said(what);
    }
    CliError::Several(problems)
}

/// The same as JSON.
pub(super) fn problems(refused: &Refused) -> Value {
    let problem = |it: &Problem| json!({ "what": it.what, "help": it.help });
    refused.problems.iter().map(problem).collect()
}

/// An answer that says neither yes nor no.
pub(super) fn nothing_said(what: &str) -> CliError {
    let why = "the node's answer says neither that it was done nor why not";
    let help = "use the program of the node's own version";
    CliError::new(Exit::Failed, what, why, help)
}
