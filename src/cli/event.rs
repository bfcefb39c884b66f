//! An event from the command line, as Centrifugo would send it: shared by `fire` and `explain`.

use super::error::CliError;
use crate::event::{EventKind, Subject};
use crate::json::request_from_json;
use bytes::Bytes;
use clap::Args;
use http::{HeaderMap, HeaderName, HeaderValue};
use serde_json::value::RawValue;
use std::collections::BTreeMap;
use std::fmt::Write;
use std::fs;

/// The largest file that `@FILE` reads, in bytes.
const FILE_BYTES: u64 = 64 << 20;
/// Metadata that gRPC itself uses; grpc-go drops these before they are sent.
const RESERVED: [&str; 8] = [
    "content-type",
    "user-agent",
    "te",
    "grpc-encoding",
    "grpc-message",
    "grpc-message-type",
    "grpc-status",
    "grpc-timeout",
];

/// The event asked for.
#[derive(Debug, Clone, Args)]
pub(super) struct EventArgs {
    /// connect, refresh, subscribe, sub_refresh, publish, rpc, stream, stream_bidirectional,
    /// map_publish, map_remove, shared_poll_refresh, cache_empty, channel_state or raw
    #[arg(value_name = "EVENT", value_parser = event_kind)]
    pub(super) kind: EventKind,
    /// The channel, with its namespace
    #[arg(long, value_name = "CHANNEL")]
    channel: Option<String>,
    /// The rpc method; for raw, the name of the gRPC method
    #[arg(long, value_name = "METHOD")]
    method: Option<String>,
    /// The user; without it the event is an anonymous user's
    #[arg(long, value_name = "USER")]
    user: Option<String>,
    /// The id of the client connection [default: a new one]
    #[arg(long, value_name = "ID")]
    client: Option<String>,
    /// The key of a map entry
    #[arg(long, value_name = "KEY")]
    key: Option<String>,
    /// What the client sends: JSON, or @FILE; publish sends {} without it
    #[arg(long, value_name = "JSON|@FILE")]
    data: Option<String>,
    /// The connection meta, a JSON object
    #[arg(long, value_name = "JSON")]
    meta: Option<String>,
    /// A metadata entry of the call, as Centrifugo forwards headers; may be repeated
    #[arg(long, value_name = "NAME=VALUE")]
    metadata: Vec<String>,
    /// Fields of the request message as JSON, over those of the other flags
    #[arg(long, value_name = "JSON")]
    request: Option<String>,
}

/// An event ready to be sent.
#[derive(Debug)]
pub(super) struct FiredEvent {
    /// The kind.
    pub(super) kind: EventKind,
    /// Of a raw event, the name of the gRPC method.
    pub(super) raw_method: String,
    /// The request message; of a bidirectional stream the message that opens it.
    pub(super) message: Bytes,
    /// The subscribe request within that message, else the same.
    pub(super) request: Bytes,
    /// What goes with the call.
    pub(super) metadata: HeaderMap,
}

fn event_kind(text: &str) -> Result<EventKind, String> {
    text.parse().map_err(|unknown: crate::event::UnknownEvent| {
        let names = EventKind::ALL.map(EventKind::name).join(", ");
        format!("{unknown}; there are {names}")
    })
}

/// A version 4 UUID, as Centrifugo gives every connection.
pub(super) fn new_client() -> String {
    let mut bytes: [u8; 16] = std::array::from_fn(|_| fastrand::u8(..));
    bytes[6] = bytes[6] & 0x0f | 0x40;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    let mut text = String::with_capacity(36);
    for (at, byte) in bytes.iter().enumerate() {
        if matches!(at, 4 | 6 | 8 | 10) {
            text.push('-');
        }
        // Writing to a string does not fail.
        let _ = write!(text, "{byte:02x}");
    }
    text
}

type Fields = BTreeMap<String, Box<RawValue>>;

impl EventArgs {
    /// Builds the request as Centrifugo would.
    ///
    /// # Errors
    /// A flag that the event has no use for, or one that it needs and that is missing; values that
    /// are not what they should be.
    pub(super) fn build(&self) -> Result<FiredEvent, CliError> {
        let kind = self.kind;
        let metadata = self.headers()?;
        if kind == EventKind::Raw {
            return self.build_raw(metadata);
        }
        let mut fields = self.fields()?;
        if let Some(more) = &self.request {
            let more: Fields = serde_json::from_str(more).map_err(|why| {
                CliError::usage("--request", why, "give a JSON object of request fields")
            })?;
            fields.extend(more);
        }
        let text = serde_json::to_string(&fields).map_err(CliError::internal)?;
        let encode = |kind, text: &str| {
            request_from_json(kind, text).map_err(|why| {
                CliError::usage(
                    format!("fields of {kind}"),
                    why,
                    "field names are those of proto/proxy.proto; drop or correct the field named",
                )
            })
        };
        let (request, message) = if kind == EventKind::StreamBidirectional {
            let opening = format!("{{\"subscribe_request\":{text}}}");
            (encode(EventKind::Stream, &text)?, encode(kind, &opening)?)
        } else {
            let message = encode(kind, &text)?;
            (message.clone(), message)
        };
        Ok(FiredEvent {
            kind,
            raw_method: String::new(),
            message,
            request,
            metadata,
        })
    }

    fn build_raw(&self, metadata: HeaderMap) -> Result<FiredEvent, CliError> {
        let lacking = "name the gRPC method with --method, such as --method NewThing";
        let raw_method = self
            .method
            .clone()
            .filter(|method| is_method(method))
            .ok_or_else(|| CliError::usage("raw", "needs the name of a gRPC method", lacking))?;
        if EventKind::from_method(&raw_method) != EventKind::Raw {
            let kind = EventKind::from_method(&raw_method);
            let help = format!("fire `{kind}` instead");
            return Err(CliError::usage(raw_method, "is no raw method", help));
        }
        let message = match (&self.data, &self.request) {
            (Some(data), _) if data.starts_with('@') => read(&data[1..])?.into(),
            (Some(text), _) | (None, Some(text)) => request_from_json(EventKind::Raw, text)
                .map_err(|why| {
                    let help = "give the message as --data @FILE or --request '{\"$hex\":\"…\"}'";
                    CliError::usage("raw", why, help)
                })?,
            (None, None) => Bytes::new(),
        };
        Ok(FiredEvent {
            kind: EventKind::Raw,
            raw_method,
            request: message.clone(),
            message,
            metadata,
        })
    }

    /// The fields that the flags stand for.
    fn fields(&self) -> Result<Fields, CliError> {
        let kind = self.kind;
        let mut fields = Fields::new();
        let mut text = |name: &str, value: &str| {
            let value = serde_json::value::to_raw_value(value).map_err(CliError::internal)?;
            fields.insert(name.to_owned(), value);
            Ok::<_, CliError>(())
        };
        if has_client(kind) {
            let client = self.client.clone().unwrap_or_else(new_client);
            text("client", &client)?;
            text("transport", "websocket")?;
            text("protocol", "json")?;
            text("encoding", "json")?;
        }
        let asked = |name: &str| {
            self.request
                .as_ref()
                .is_some_and(|text| text.contains(name))
        };
        for (flag, name, value, there) in [
            (
                "--user",
                "user",
                &self.user,
                has_client(kind) && kind != EventKind::Connect,
            ),
            ("--channel", "channel", &self.channel, kind.has_channel()),
            (
                "--method",
                "method",
                &self.method,
                kind.subject() == Subject::Method,
            ),
            ("--key", "key", &self.key, is_map(kind)),
        ] {
            match value {
                Some(_) if !there => return Err(no_use(kind, flag)),
                Some(value) => text(name, value)?,
                None if there && name == "channel" && !asked("\"channel\"") => {
                    let help = format!("name one, such as: fire {kind} --channel chat:lobby");
                    return Err(CliError::usage(kind.name(), "needs --channel", help));
                }
                None => {}
            }
        }
        if self.client.is_some() && !has_client(kind) {
            return Err(no_use(kind, "--client"));
        }
        let publishes = matches!(kind, EventKind::Publish | EventKind::MapPublish);
        let data = self
            .data
            .clone()
            .or_else(|| publishes.then(|| "{}".to_owned()));
        if let Some(data) = data {
            if !has_data(kind) {
                return Err(no_use(kind, "--data"));
            }
            fields.insert("data".to_owned(), payload(&data)?);
        }
        if let Some(meta) = &self.meta {
            if !has_client(kind) || kind == EventKind::Connect {
                return Err(no_use(kind, "--meta"));
            }
            let meta = raw("--meta", meta)?;
            if !meta.get().starts_with('{') {
                let help = "give an object, such as --meta '{\"plan\":\"pro\"}'";
                return Err(CliError::usage("--meta", "is not a JSON object", help));
            }
            fields.insert("meta".to_owned(), meta);
        }
        Ok(fields)
    }

    fn headers(&self) -> Result<HeaderMap, CliError> {
        let mut metadata = HeaderMap::new();
        for entry in &self.metadata {
            let wrong = |why: &str| {
                let name = entry.split('=').next().unwrap_or_default();
                let help = "write --metadata NAME=VALUE with a name of a-z, 0-9, `-`, `_`, `.` \
                            that gRPC does not use itself, and a value of visible ASCII";
                CliError::usage(format!("--metadata {name}"), why.to_owned(), help)
            };
            let (name, value) = entry.split_once('=').ok_or_else(|| wrong("has no `=`"))?;
            let name = HeaderName::from_bytes(name.to_ascii_lowercase().as_bytes())
                .map_err(|_| wrong("is not a metadata name"))?;
            if RESERVED.contains(&name.as_str()) || name.as_str().ends_with("-bin") {
                return Err(wrong("can't be forwarded by Centrifugo"));
            }
            if !value.bytes().all(|byte| (0x20..=0x7e).contains(&byte)) {
                return Err(wrong("has a value that gRPC can't carry"));
            }
            let value = HeaderValue::from_str(value).map_err(|_| wrong("has no fit value"))?;
            metadata.append(name, value);
        }
        Ok(metadata)
    }
}

fn no_use(kind: EventKind, flag: &str) -> CliError {
    let help = format!("leave {flag} out");
    CliError::usage(
        format!("{kind} {flag}"),
        "this event has no such field",
        help,
    )
}

const fn is_map(kind: EventKind) -> bool {
    matches!(kind, EventKind::MapPublish | EventKind::MapRemove)
}

/// Whether an event belongs to a client connection.
const fn has_client(kind: EventKind) -> bool {
    !matches!(
        kind,
        EventKind::SharedPollRefresh
            | EventKind::CacheEmpty
            | EventKind::ChannelState
            | EventKind::Raw
    )
}

const fn has_data(kind: EventKind) -> bool {
    matches!(
        kind,
        EventKind::Connect
            | EventKind::Subscribe
            | EventKind::Publish
            | EventKind::Rpc
            | EventKind::Stream
            | EventKind::StreamBidirectional
            | EventKind::MapPublish
    )
}

/// Whether a name can stand in the path of a call.
fn is_method(name: &str) -> bool {
    let letter = |byte: u8| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte);
    !name.is_empty() && name.bytes().all(letter)
}

/// JSON byte for byte as it was typed.
pub(super) fn raw(flag: &str, text: &str) -> Result<Box<RawValue>, CliError> {
    serde_json::from_str(text).map_err(|why| {
        let help = "quote it for the shell; a JSON string needs quotes of its own: '\"text\"'";
        CliError::usage(flag, format!("not JSON: {why}"), help)
    })
}

/// `JSON` or `@FILE`; a file that is not JSON goes as bytes.
fn payload(data: &str) -> Result<Box<RawValue>, CliError> {
    let Some(path) = data.strip_prefix('@') else {
        return raw("--data", data);
    };
    let bytes = read(path)?;
    if let Ok(json) = serde_json::from_slice(&bytes) {
        return Ok(json);
    }
    serde_json::value::to_raw_value(&crate::json::Hex::new(&bytes)).map_err(CliError::internal)
}

fn read(path: &str) -> Result<Vec<u8>, CliError> {
    let wrong = |why: &dyn std::fmt::Display| {
        CliError::usage(
            format!("--data @{path}"),
            why,
            "name a file that can be read",
        )
    };
    let size = fs::metadata(path).map_err(|why| wrong(&why))?.len();
    if size > FILE_BYTES {
        return Err(wrong(&"is larger than 64 MiB"));
    }
    fs::read(path).map_err(|why| wrong(&why))
}

mod template;
#[cfg(test)]
mod tests;
