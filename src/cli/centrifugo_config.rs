//! `centrifugo-config`: a `config.json` of Centrifugo 6.9 that sends the routed events here.
//!
//! Every event has a default proxy object of its own there, so splitting them over several nodes
//! needs no named proxies. A real Centrifugo takes the result without a warning.

pub(super) mod namespaces;
pub(super) mod proxy;

use super::error::CliError;
use super::{Session, output};
use crate::config::{CentrifugoConfig, Config, InterceptorKind, Secret};
use crate::engine::compile::Compiled;
use crate::event::EventKind;
use clap::Args;
use namespaces::{Explicit, Namespaces, Space};
use proxy::{Proxies, Split};
use serde_json::{Map, Value, json};

const CONCURRENCY: &str = "`client.concurrency` is left off: Centrifugo then handles the commands of \
    a connection one after the other, so a slow handler holds up that client. Turned on (such as 8) \
    they overlap, and two publishes of one client may swap";

#[derive(Debug, Args)]
#[command(after_help = "\
The configuration goes to stdout, what to know about it to stderr. Secrets are left to environment
variables of Centrifugo, which are listed, unless --with-secrets writes them in.

Examples:
  centripeta centrifugo-config > config.json && centrifugo -c config.json
  centripeta centrifugo-config --split rpc=10.0.0.2:10001 --namespaces chat,feed=stream,board=map")]
pub(super) struct CentrifugoConfigArgs {
    /// Sends an event elsewhere; several by comma, may be repeated
    #[arg(long, value_name = "EVENT=ADDRESS", value_delimiter = ',', value_parser = Split::parse)]
    split: Vec<Split>,
    /// The namespaces, each NAME or NAME=TYPE with TYPE stream, bidirectional, map or shared-poll
    /// [default: those in the routes]
    #[arg(long, value_name = "LIST", value_delimiter = ',', value_parser = Explicit::parse)]
    namespaces: Vec<Explicit>,
    /// Where Centrifugo reaches this node [default: listen.grpc]
    #[arg(long, value_name = "ADDRESS", value_parser = proxy::endpoint)]
    to: Option<String>,
    /// An origin that browsers may connect from; may be repeated
    #[arg(long, value_name = "ORIGIN", default_value = "http://localhost:3000")]
    allowed_origin: Vec<String>,
    /// Writes secrets into the configuration
    #[arg(long)]
    with_secrets: bool,
    /// Changes nothing: the result is JSON anyway
    #[arg(long)]
    json: bool,
}

pub(super) fn run(session: Session, args: &CentrifugoConfigArgs) -> Result<(), CliError> {
    let (loaded, compiled) = session.compile()?;
    let draft = Draft::new(&loaded.config, &compiled, args)?;
    let text = serde_json::to_string_pretty(&draft.root).map_err(CliError::internal)?;
    output::say(&text);
    for note in &draft.notes {
        eprintln!("note: {note}");
    }
    if args.with_secrets {
        return Ok(());
    }
    if !draft.secrets.is_empty() {
        eprintln!("note: set these in the environment of Centrifugo before it starts:");
    }
    for secret in &draft.secrets {
        eprintln!("  {}  {}", env_name(&secret.path), secret.source);
    }
    Ok(())
}

/// The name of the environment variable for a path of Centrifugo's configuration.
pub(super) fn env_name(path: &[&str]) -> String {
    format!("CENTRIFUGO_{}", path.join("_").to_ascii_uppercase())
}

/// A secret that Centrifugo needs.
struct Needed {
    /// Where it stands in Centrifugo's configuration.
    path: Vec<&'static str>,
    /// Which of our keys has it, or what it is.
    source: &'static str,
}

/// The configuration while it grows.
struct Draft {
    root: Value,
    notes: Vec<String>,
    secrets: Vec<Needed>,
    with_secrets: bool,
}

impl Draft {
    fn new(
        config: &Config,
        compiled: &Compiled,
        args: &CentrifugoConfigArgs,
    ) -> Result<Self, CliError> {
        let boundary = config.channel.namespace_boundary.as_str();
        let mut namespaces = Namespaces::of_routes(compiled, boundary);
        if !args.namespaces.is_empty() {
            namespaces.replace(&args.namespaces);
        }
        let split = args.split.iter().map(|split| split.kind);
        namespaces.add_split(split);
        let mut draft = Self {
            root: json!({ "client": { "allowed_origins": args.allowed_origin } }),
            notes: vec![CONCURRENCY.to_owned()],
            secrets: Vec::new(),
            with_secrets: args.with_secrets,
        };
        if boundary != ":" {
            draft.set(&["channel", "namespace_boundary"], json!(boundary));
        }
        let mut kinds = draft.add_namespaces(&mut namespaces);
        let alone = [EventKind::Connect, EventKind::Refresh];
        kinds.extend(alone.into_iter().filter(|kind| namespaces.has(*kind)));
        if !kinds.contains(&EventKind::Connect) {
            draft.note("no route takes connect, so clients need a token that Centrifugo accepts");
        }
        let proxies = Proxies::new(config, compiled, args.to.as_deref(), &args.split)?;
        draft.add_proxies(&kinds, &proxies, config);
        draft.add_servers(&config.centrifugo);
        draft.note_headers(config, compiled, &kinds);
        draft.notes.append(&mut namespaces.notes);
        if kinds.contains(&EventKind::SharedPollRefresh) {
            draft.add_poll_secret()?;
        }
        Ok(draft)
    }

    fn note(&mut self, text: impl Into<String>) {
        self.notes.push(text.into());
    }

    /// Puts a value at a path, making objects on the way.
    fn set(&mut self, path: &[&str], value: Value) {
        let mut at = &mut self.root;
        for key in path {
            if !at.is_object() {
                *at = Value::Object(Map::new());
            }
            at = &mut at[*key];
        }
        *at = value;
    }

    /// A secret: written in if that was asked for, else left to the environment.
    fn secret(&mut self, path: Vec<&'static str>, source: &'static str, value: Option<&Secret>) {
        match value {
            Some(value) if self.with_secrets => self.set(&path, json!(value.expose())),
            _ => self.secrets.push(Needed { path, source }),
        }
    }

    /// The namespaces; answers the kinds of event that they send.
    fn add_namespaces(&mut self, namespaces: &mut Namespaces) -> Vec<EventKind> {
        let mut sent = Vec::new();
        let (options, kinds) = namespaces.options(&Space::Without);
        if !options.is_empty() {
            self.set(&["channel", "without_namespace"], Value::Object(options));
        }
        sent.extend(kinds);
        let mut list = Vec::new();
        for name in namespaces.names() {
            let (mut options, kinds) = namespaces.options(&Space::Named(name.clone()));
            if !options.is_empty() {
                options.insert("name".to_owned(), json!(name));
                list.push(Value::Object(options));
                sent.extend(kinds);
            }
        }
        if !list.is_empty() {
            self.set(&["channel", "namespaces"], Value::Array(list));
        }
        if namespaces.has(EventKind::Rpc) {
            self.set(&["rpc", "without_namespace", "proxy_enabled"], json!(true));
            let named = namespaces.rpc_names();
            let named: Vec<Value> = named
                .map(|name| json!({ "name": name, "proxy_enabled": true }))
                .collect();
            if !named.is_empty() {
                self.set(&["rpc", "namespaces"], Value::Array(named));
            }
            sent.push(EventKind::Rpc);
        }
        sent.sort_unstable();
        sent.dedup();
        sent
    }

    fn add_proxies(&mut self, kinds: &[EventKind], proxies: &Proxies, config: &Config) {
        let mut added: Vec<Vec<&'static str>> = Vec::new();
        for kind in kinds {
            let path = proxy::path(*kind);
            if path.is_empty() || added.contains(&path) {
                continue;
            }
            let object = proxies.object(*kind);
            self.set(&path, object.value);
            self.notes.extend(object.notes);
            let below = |key: &[&'static str]| [path.as_slice(), key].concat();
            if let Some(auth) = &config.listen.auth {
                let at = below(&["grpc", "credentials_value"]);
                self.secret(at, "listen.auth.value", Some(&auth.value));
            }
            if object.wants_certificate {
                for (key, source) in [
                    (
                        "cert_pem",
                        "a certificate of listen.tls.client_ca, PEM or its path",
                    ),
                    ("key_pem", "its private key, PEM or its path"),
                ] {
                    self.secret(below(&["grpc", "tls", key]), source, None);
                }
            }
            added.push(path);
        }
        self.notes.extend(proxies.notes.iter().cloned());
    }

    /// Where Centrifugo listens, as our own configuration expects it.
    fn add_servers(&mut self, centrifugo: &CentrifugoConfig) {
        if let Some((address, port)) = proxy::client_listener(&centrifugo.client) {
            self.set(&["http_server", "port"], json!(port));
            if let Some(address) = address {
                self.set(&["http_server", "address"], json!(address));
            }
        }
        let Some(api) = centrifugo.api.first() else {
            return;
        };
        let loopback = proxy::loopback(&api.host);
        if centrifugo.key.is_none() && loopback.is_none() {
            self.note(
                "the gRPC server API is left off, since `centrifugo.key` is not set and anyone who \
                 reaches it could publish",
            );
            return;
        }
        self.set(&["grpc_api", "enabled"], json!(true));
        self.set(&["grpc_api", "port"], json!(api.port));
        if let Some(address) = loopback {
            self.set(&["grpc_api", "address"], json!(address));
        }
        match &centrifugo.key {
            Some(key) => self.secret(vec!["grpc_api", "key"], "centrifugo.key", Some(key)),
            None => self.note(format!(
                "the gRPC server API asks for no key, since `centrifugo.key` is not set; it is on \
                 loopback only ({api})"
            )),
        }
    }

    /// Says which headers of clients the interceptors see.
    fn note_headers(&mut self, config: &Config, compiled: &Compiled, kinds: &[EventKind]) {
        let headers = headers(config, compiled);
        if headers.is_empty() {
            return;
        }
        for kind in kinds {
            let path = proxy::path(*kind);
            if !path.is_empty() && *kind != EventKind::SharedPollRefresh {
                self.set(
                    &[path.as_slice(), &["http_headers"]].concat(),
                    json!(headers),
                );
            }
        }
        self.note(format!(
            "headers of the client's connection that interceptors look at are forwarded: {}",
            headers.join(", ")
        ));
    }

    /// Centrifugo does not start a shared poll namespace without it.
    fn add_poll_secret(&mut self) -> Result<(), CliError> {
        let path = vec!["shared_poll", "hmac_secret_key"];
        let source = "a new secret; the application signs the keys that clients track with it";
        if !self.with_secrets {
            self.secret(path, source, None);
            return Ok(());
        }
        let mut bytes = [0_u8; 24];
        let provider = rustls::crypto::ring::default_provider();
        provider
            .secure_random
            .fill(&mut bytes)
            .map_err(|_| CliError::internal("the system gives no random numbers"))?;
        let secret: Vec<String> = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        self.set(&path, json!(secret.concat()));
        self.note("`shared_poll.hmac_secret_key` is new: the application signs keys with it");
        Ok(())
    }
}

/// Headers that interceptors of the configuration look at.
pub(super) fn headers(config: &Config, compiled: &Compiled) -> Vec<String> {
    let mut headers = Vec::new();
    let running = |name: &str| compiled.stages.iter().any(|stage| stage.name == name);
    for interceptor in config.interceptors.iter().filter(|it| running(&it.name)) {
        match &interceptor.kind {
            InterceptorKind::HeaderAuth { header, .. } => headers.push(header.clone()),
            InterceptorKind::Limit { per: Some(per), .. } => {
                let named = per.split("{header.").skip(1);
                let names = named.filter_map(|rest| Some(rest.split_once('}')?.0.to_owned()));
                headers.extend(names);
            }
            InterceptorKind::Limit { per: None, .. } | InterceptorKind::AccessLog { .. } => {}
        }
    }
    headers.sort_unstable();
    headers.dedup();
    headers
}

#[cfg(test)]
mod tests;
