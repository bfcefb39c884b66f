//! The services that workers call, beside Centrifugo's: who they work with, and the log.

use super::{Codec, centrifuge};
use crate::egress::Publisher;
use crate::worker::pool::WorkerPool;
use crate::worker::pools::Pools;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use prost::Message;
use serde_json::{Value, json};
use std::time::UNIX_EPOCH;

/// The name of all pools together, as RoadRunner's plugin is called.
const PLUGIN: &str = "centrifuge";
/// The RoadRunner whose answers these are.
pub(crate) const VERSION: &str = "2025.1.15";
/// What a call by a codec that is not spoken is told.
const UNKNOWN_CODEC: &str = "goridge_read_request_body: unknown decoder used in frame";

/// What the services know.
#[derive(Debug)]
pub(crate) struct Services {
    /// Calls Centrifugo.
    pub(crate) publisher: Publisher,
    /// The pools of the node.
    pub(crate) pools: Pools,
    /// The settings as JSON, without secrets.
    pub(crate) config: String,
}

/// `status.Status` and `status.Ready`.
#[derive(Clone, PartialEq, Message)]
struct StatusRequest {
    #[prost(string, tag = "1")]
    plugin: String,
}

/// Their answer.
#[derive(Clone, PartialEq, Message)]
struct StatusResponse {
    #[prost(int64, tag = "1")]
    code: i64,
    #[prost(string, tag = "2")]
    message: String,
}

/// `app.*WithContext`.
#[derive(Clone, PartialEq, Message)]
struct LogEntry {
    #[prost(string, tag = "1")]
    message: String,
    #[prost(message, repeated, tag = "2")]
    attributes: Vec<LogAttribute>,
}

/// What is told beside a message.
#[derive(Clone, PartialEq, Message)]
struct LogAttribute {
    #[prost(string, tag = "1")]
    key: String,
    #[prost(string, tag = "2")]
    value: String,
}

impl Services {
    /// One call; the error is the text that the caller gets.
    pub(super) async fn call(
        &self,
        name: &str,
        codec: Codec,
        body: Bytes,
    ) -> Result<Bytes, String> {
        let Some((service, method)) = name.rsplit_once('.') else {
            return Err(format!("rpc: service/method request ill-formed: {name}"));
        };
        if matches!(codec, Codec::Gob | Codec::Msgpack) {
            return Err(UNKNOWN_CODEC.to_owned());
        }
        match (service, method) {
            ("centrifuge", method) => centrifuge::call(&self.publisher, method, codec, body).await,
            ("status", "Status" | "Ready") => self.status(codec, &body),
            ("app", method) => log(method, codec, &body),
            ("rpc" | "informer" | "resetter" | "status", _) => {
                let argument = argument(codec, &body)?;
                let answer = self.plain(service, method, &argument, codec).await?;
                written(codec, answer)
            }
            _ => Err(format!("rpc: can't find service {name}")),
        }
    }

    async fn plain(
        &self,
        service: &str,
        method: &str,
        argument: &Value,
        codec: Codec,
    ) -> Result<Value, String> {
        let plugin = argument.as_str().unwrap_or_default();
        Ok(match (service, method) {
            ("rpc", "Version") => json!(VERSION),
            ("rpc", "Config") => match codec {
                Codec::Raw => json!(self.config),
                _ => json!(STANDARD.encode(&self.config)),
            },
            ("informer" | "resetter", "List") => match self.pools.is_empty() {
                true => json!([]),
                false => json!([PLUGIN]),
            },
            ("informer", "Workers") => self.workers(plugin).await,
            ("informer", "Jobs") => json!([]),
            ("informer", "AddWorker") => {
                for pool in self.named(plugin) {
                    pool.add().await;
                }
                json!(false)
            }
            ("informer", "RemoveWorker") => {
                for pool in self.named(plugin) {
                    pool.remove().await;
                }
                json!(false)
            }
            ("resetter", "Reset") => {
                let pools = self.named(plugin);
                if pools.is_empty() {
                    return Err(format!(
                        "resetter_rpc_reset:\n\tresetter_plugin_reset_by_name: no such plugin: {plugin}"
                    ));
                }
                for pool in pools {
                    let reset = pool.reset().await;
                    reset.map_err(|why| format!("resetter_rpc_reset:\n\t{why}"))?;
                }
                json!(true)
            }
            _ => return Err(format!("rpc: can't find method {service}.{method}")),
        })
    }

    /// The pools of a name: all of them by the plugin's, or one by its own.
    fn named(&self, plugin: &str) -> Vec<WorkerPool> {
        let mut pools = self.pools.all();
        pools.retain(|pool| plugin == PLUGIN || pool.name() == plugin);
        pools
    }

    async fn workers(&self, plugin: &str) -> Value {
        let pools = self.named(plugin);
        if pools.is_empty() {
            return json!({ "workers": null });
        }
        let mut workers = Vec::new();
        for pool in pools {
            for worker in pool.workers().await {
                let created = worker
                    .created
                    .duration_since(UNIX_EPOCH)
                    .unwrap_or_default();
                workers.push(json!({
                    "pid": worker.pid,
                    "status": worker.state as u8,
                    "numExecs": worker.jobs,
                    "created": u64::try_from(created.as_nanos()).unwrap_or(u64::MAX),
                    "memoryUsage": worker.memory,
                    "CPUPercent": 0.0,
                    "command": "",
                    "statusStr": worker.state.name(),
                }));
            }
        }
        json!({ "workers": workers })
    }

    fn status(&self, codec: Codec, body: &[u8]) -> Result<Bytes, String> {
        let plugin = match codec {
            Codec::Proto => {
                let request = StatusRequest::decode(body).map_err(|why| malformed(&why))?;
                request.plugin
            }
            _ => {
                let argument = argument(codec, body)?;
                let plugin = argument.get("plugin").and_then(Value::as_str);
                plugin.unwrap_or_default().to_owned()
            }
        };
        let pools = self.named(&plugin);
        if pools.is_empty() {
            return Err(format!("no such plugin: {plugin}"));
        }
        let ready = pools.iter().all(WorkerPool::is_ready);
        let (code, message) = match ready {
            true => (200, String::new()),
            false => (503, "no workers".to_owned()),
        };
        match codec {
            Codec::Proto => Ok(StatusResponse { code, message }.encode_to_vec().into()),
            codec => written(codec, json!({ "code": code, "message": message })),
        }
    }
}

fn malformed(why: &prost::DecodeError) -> String {
    format!("goridge_read_request_body: proto: cannot parse invalid wire-format data: {why}")
}

/// The argument of a method that takes a plain value.
fn argument(codec: Codec, body: &[u8]) -> Result<Value, String> {
    match codec {
        Codec::Proto => Err("goridge_read_request_body: message type is not a proto".to_owned()),
        Codec::Raw => Ok(Value::String(String::from_utf8_lossy(body).into_owned())),
        _ => serde_json::from_slice(body)
            .map_err(|why| format!("goridge_read_request_body: json: {why}")),
    }
}

/// The result of a method that answers a plain value.
fn written(codec: Codec, value: Value) -> Result<Bytes, String> {
    match (codec, value) {
        (Codec::Raw, Value::String(text)) => Ok(text.into()),
        (Codec::Raw, _) => Err("unknown Raw payload type".to_owned()),
        (_, value) => Ok(value.to_string().into()),
    }
}

/// `app.*`: a line of the application's in our log.
fn log(method: &str, codec: Codec, body: &[u8]) -> Result<Bytes, String> {
    let (level, with_context) = match method.strip_suffix("WithContext") {
        Some(level) => (level, true),
        None => (method, false),
    };
    let (message, attributes) = if with_context {
        let entry = match codec {
            Codec::Proto => LogEntry::decode(body).map_err(|why| malformed(&why))?,
            _ => return Err("goridge_read_request_body: a log entry is protobuf".to_owned()),
        };
        let attributes = entry.attributes.iter();
        let attributes = attributes.map(|it| format!(" {}={}", it.key, it.value));
        (entry.message, attributes.collect::<String>())
    } else {
        let argument = argument(codec, body)?;
        let message = argument.as_str().map(str::to_owned);
        (
            message.unwrap_or_else(|| argument.to_string()),
            String::new(),
        )
    };
    match level {
        "Error" => tracing::error!(target: "centripeta::app", "{message}{attributes}"),
        "Warning" => tracing::warn!(target: "centripeta::app", "{message}{attributes}"),
        "Info" => tracing::info!(target: "centripeta::app", "{message}{attributes}"),
        "Debug" => tracing::debug!(target: "centripeta::app", "{message}{attributes}"),
        // RoadRunner writes these as they are.
        "Log" => tracing::info!(target: "centripeta::app", "{message}{attributes}"),
        _ => return Err(format!("rpc: can't find method app.{method}")),
    }
    match with_context {
        true => Ok(Bytes::new()),
        false => written(codec, json!(false)),
    }
}
