//! The services that workers call, beside Centrifugo's: who they work with, and the log.

use super::argument::{Given, json, message, plain, text, written};
use super::metrics::{Collectors, Declared, Sample};
use super::{Codec, centrifuge};
use crate::config::RpcAddress;
use crate::egress::Publisher;
use crate::worker::pool::{WorkerPool, WorkerReport};
use crate::worker::pools::Pools;
use arc_swap::ArcSwap;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use prost::Message;
use serde::Serialize;
use serde_json::Value;
use std::time::UNIX_EPOCH;

/// The name of all pools together, as RoadRunner's plugin is called.
const PLUGIN: &str = "centrifuge";
/// The RoadRunner whose answers these are.
pub(crate) const VERSION: &str = "2025.1.15";

/// Services and their methods; those of `centrifuge` are Centrifugo's.
const SERVICES: &[(&str, &[&str])] = &[
    (PLUGIN, &[]),
    ("rpc", &["Version", "Config"]),
    (
        "informer",
        &["List", "Workers", "Jobs", "AddWorker", "RemoveWorker"],
    ),
    ("resetter", &["List", "Reset"]),
    ("status", &["Status", "Ready"]),
    (
        "metrics",
        &["Declare", "Add", "Sub", "Set", "Observe", "Unregister"],
    ),
    (
        "app",
        &[
            "Error",
            "Warning",
            "Info",
            "Debug",
            "Log",
            "ErrorWithContext",
            "WarningWithContext",
            "InfoWithContext",
            "DebugWithContext",
            "LogWithContext",
        ],
    ),
];

/// What the services know.
#[derive(Debug)]
pub(crate) struct Services {
    /// Calls Centrifugo.
    pub(crate) publisher: Publisher,
    /// The pools of the node.
    pub(crate) pools: Pools,
    /// What applications count.
    pub(crate) collectors: Collectors,
    /// The settings as JSON, without secrets.
    pub(crate) config: ArcSwap<String>,
    /// Who answers calls of other services.
    pub(crate) fallback: Option<RpcAddress>,
    /// Whether an unsubscribe that is a disconnect of an old SDK is taken as one.
    pub(crate) old_disconnect: bool,
}

/// `status.Status` and `status.Ready`.
#[derive(Clone, PartialEq, Message)]
struct StatusRequest {
    #[prost(string, tag = "1")]
    plugin: String,
}

/// Their answer.
#[derive(Clone, PartialEq, Message, Serialize)]
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

/// A worker as `informer.Workers` shows it; fields in the order of RoadRunner's.
#[derive(Debug, Serialize)]
pub(super) struct Shown {
    pub(super) pid: u32,
    pub(super) status: u8,
    #[serde(rename = "numExecs")]
    pub(super) jobs: u64,
    pub(super) created: u64,
    #[serde(rename = "memoryUsage")]
    pub(super) memory: u64,
    #[serde(rename = "CPUPercent")]
    pub(super) cpu: f64,
    pub(super) command: &'static str,
    #[serde(rename = "statusStr")]
    pub(super) state: &'static str,
}

/// The answer of `informer.Workers`.
#[derive(Debug, Serialize)]
pub(super) struct Workers {
    pub(super) workers: Option<Vec<Shown>>,
}

impl From<WorkerReport> for Shown {
    fn from(it: WorkerReport) -> Self {
        let created = it.created.duration_since(UNIX_EPOCH).unwrap_or_default();
        Self {
            pid: it.pid,
            status: it.state as u8,
            jobs: it.jobs,
            created: u64::try_from(created.as_nanos()).unwrap_or(u64::MAX),
            memory: it.memory,
            cpu: it.cpu,
            command: "",
            state: it.state.name(),
        }
    }
}

impl Services {
    /// Where a call goes that is of a service not here, if there is such a place.
    pub(super) fn passes_on(&self, name: &str) -> Option<&RpcAddress> {
        let (service, _) = name.rsplit_once('.')?;
        let fallback = self.fallback.as_ref()?;
        methods(service).is_none().then_some(fallback)
    }

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
        let Some(methods) = methods(service) else {
            return Err(format!("rpc: can't find service {name}"));
        };
        let is_there = match service {
            PLUGIN => centrifuge::may_be(method),
            _ => methods.contains(&method),
        };
        if !is_there {
            return Err(format!("rpc: can't find method {name}"));
        }
        match service {
            PLUGIN => {
                let method = match self.old_disconnect && codec == Codec::Proto {
                    true => centrifuge::meant(method, &body),
                    false => method,
                };
                centrifuge::call(&self.publisher, method, codec, body).await
            }
            "rpc" => self.rpc(method, codec, &body),
            "informer" => self.informer(method, codec, &body).await,
            "resetter" => self.resetter(method, codec, &body).await,
            "status" => self.status(codec, &body),
            "metrics" => self.metrics(method, codec, &body),
            _ => log(method, codec, &body),
        }
    }

    fn rpc(&self, method: &str, codec: Codec, body: &[u8]) -> Result<Bytes, String> {
        let config = self.config.load();
        match (method, codec) {
            // The one method with bytes as its result; what it takes means nothing.
            ("Config", Codec::Raw) => return Ok(Bytes::from(config.as_bytes().to_vec())),
            _ => plain::<bool>(codec, body)?,
        };
        match method {
            "Config" => written(&STANDARD.encode(config.as_bytes())),
            _ => written(&VERSION),
        }
    }

    async fn informer(&self, method: &str, codec: Codec, body: &[u8]) -> Result<Bytes, String> {
        if method == "List" {
            return self.list(codec, body);
        }
        let plugin: String = plain(codec, body)?;
        match method {
            "Workers" => written(&self.workers(&plugin).await),
            "Jobs" => written(&Vec::<()>::new()),
            _ => {
                for pool in self.known(&plugin)? {
                    match method {
                        "AddWorker" => pool.add().await,
                        _ => pool.remove().await,
                    };
                }
                written(&false)
            }
        }
    }

    async fn resetter(&self, method: &str, codec: Codec, body: &[u8]) -> Result<Bytes, String> {
        if method == "List" {
            return self.list(codec, body);
        }
        let plugin: String = plain(codec, body)?;
        let pools = self.known(&plugin).map_err(|why| {
            format!("resetter_rpc_reset:\n\tresetter_plugin_reset_by_name: {why}")
        })?;
        for pool in pools {
            let reset = pool.reset().await;
            reset.map_err(|why| format!("resetter_rpc_reset:\n\t{why}"))?;
        }
        written(&true)
    }

    /// The plugins that have workers.
    fn list(&self, codec: Codec, body: &[u8]) -> Result<Bytes, String> {
        plain::<bool>(codec, body)?;
        match self.pools.is_empty() {
            true => written(&Vec::<&str>::new()),
            false => written(&[PLUGIN]),
        }
    }

    /// The pools of a name: all of them by the plugin's, or one by its own.
    fn named(&self, plugin: &str) -> Vec<WorkerPool> {
        let mut pools = self.pools.all();
        pools.retain(|pool| plugin == PLUGIN || pool.name() == plugin);
        pools
    }

    /// The same, where there has to be one.
    fn known(&self, plugin: &str) -> Result<Vec<WorkerPool>, String> {
        let pools = self.named(plugin);
        match pools.is_empty() {
            true => Err(format!("no such plugin: {plugin}")),
            false => Ok(pools),
        }
    }

    async fn workers(&self, plugin: &str) -> Workers {
        let pools = self.named(plugin);
        let mut workers = (!pools.is_empty()).then(Vec::new);
        for pool in pools {
            let reports = pool.workers().await;
            if let Some(workers) = &mut workers {
                workers.extend(reports.into_iter().map(Shown::from));
            }
        }
        Workers { workers }
    }

    fn status(&self, codec: Codec, body: &[u8]) -> Result<Bytes, String> {
        let plugin = match message::<StatusRequest>(codec, body)? {
            Given::Message(request) => request.plugin,
            Given::Object(object) => text(&object, "plugin"),
        };
        let pools = self.known(&plugin)?;
        let (code, message) = match pools.iter().all(WorkerPool::is_ready) {
            true => (200, String::new()),
            false => (503, "no workers".to_owned()),
        };
        let response = StatusResponse { code, message };
        match codec {
            Codec::Proto => Ok(response.encode_to_vec().into()),
            _ => written(&response),
        }
    }

    fn metrics(&self, method: &str, codec: Codec, body: &[u8]) -> Result<Bytes, String> {
        let done = match method {
            "Declare" => {
                let declared: Declared = json(codec, body, "metrics.NamedCollector")?;
                self.collectors.declare(declared)
            }
            "Unregister" => self.collectors.unregister(&plain::<String>(codec, body)?),
            _ => {
                let sample: Sample = json(codec, body, "metrics.Metric")?;
                self.collectors.record(method, sample)
            }
        };
        done.map_err(|why| format!("metrics_plugin_{}: {why}", method.to_lowercase()))?;
        written(&true)
    }
}

/// The methods of a service that is here.
fn methods(service: &str) -> Option<&'static [&'static str]> {
    let found = SERVICES.iter().find(|(name, _)| *name == service);
    found.map(|(_, methods)| *methods)
}

/// `app.*`: a line of the application's in our log.
fn log(method: &str, codec: Codec, body: &[u8]) -> Result<Bytes, String> {
    let plain_level = method.strip_suffix("WithContext");
    let line = match plain_level {
        Some(_) => match message::<LogEntry>(codec, body)? {
            Given::Message(entry) => {
                let attributes = entry.attributes.into_iter().map(|it| (it.key, it.value));
                line(entry.message, attributes)
            }
            Given::Object(object) => {
                let attributes = object.get("log_attrs").and_then(Value::as_array);
                let attributes = attributes.into_iter().flatten();
                let pairs = attributes.map(|it| (text(it, "key"), text(it, "value")));
                line(text(&object, "message"), pairs)
            }
        },
        None => plain::<String>(codec, body)?,
    };
    match plain_level.unwrap_or(method) {
        "Error" => tracing::error!(target: "centripeta::app", "{line}"),
        "Warning" => tracing::warn!(target: "centripeta::app", "{line}"),
        "Debug" => tracing::debug!(target: "centripeta::app", "{line}"),
        // `Log` too, which RoadRunner writes to stderr as it is.
        _ => tracing::info!(target: "centripeta::app", "{line}"),
    }
    match (plain_level, codec) {
        (Some(_), Codec::Proto) => Ok(Bytes::new()),
        (Some(_), _) => Ok(Bytes::from_static(b"{}")),
        (None, _) => written(&false),
    }
}

/// A message and what is told beside it.
fn line(message: String, attributes: impl Iterator<Item = (String, String)>) -> String {
    attributes.fold(message, |line, (key, value)| {
        format!("{line} {key}={value}")
    })
}
