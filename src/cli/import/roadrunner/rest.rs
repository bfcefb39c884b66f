//! Logs, traces, shutdown; and everything that has no counterpart.

use super::Draft;
use serde_json::Value;

impl Draft<'_> {
    /// `[log]`.
    pub(super) fn log(&mut self) {
        self.table("log");
        let mode = self.settled("logs.mode").unwrap_or_default().to_lowercase();
        let encoding = self.settled("logs.encoding").unwrap_or_default();
        let level = self.settled("logs.level").unwrap_or_default();
        let format = match (encoding.to_lowercase().as_str(), mode.as_str()) {
            ("json", _) | ("", "production") => "json",
            _ => "pretty",
        };
        let from = match (mode.as_str(), encoding.as_str()) {
            ("", "") => "RoadRunner's default",
            _ => "logs.mode, logs.encoding",
        };
        self.put("format", format, from);
        if mode == "raw" {
            self.remarks
                .left("logs.mode", "raw: lines have a time and a level here");
        }
        let off = matches!(mode.as_str(), "none" | "off");
        let level = level.to_lowercase();
        let level = match level.as_str() {
            _ if off => "off",
            "panic" | "fatal" | "dpanic" | "error" => "error",
            "warn" | "warning" => "warn",
            "info" => "info",
            "debug" => "info,centripeta=debug",
            "" => "info,centripeta=debug",
            _ => {
                self.remarks
                    .warn("logs.level", "is no level; info is written");
                "info"
            }
        };
        let from = match self.had("logs.level") || off {
            true => "logs",
            false => "RoadRunner's default is debug",
        };
        self.put("level", level, from);
        let gone =
            "logs go to stderr in this format; redirect them there, or let the service manager";
        for name in [
            "output",
            "err_output",
            "line_ending",
            "file_logger_options",
            "channels",
            "format",
            "time_format",
            "skip_line_ending",
        ] {
            self.list(&format!("logs.{name}"), gone);
        }
        self.traces();
    }

    fn traces(&mut self) {
        if !self.had("otel") {
            return;
        }
        let exporter = self.settled("otel.exporter");
        let client = self
            .settled("otel.client")
            .unwrap_or_else(|| "http".to_owned());
        let endpoint = self.settled("otel.endpoint");
        let insecure = self.flag("otel.insecure").unwrap_or_default();
        let service = self.settled("otel.resource.service_name");
        if exporter.as_deref().is_some_and(|it| it != "otlp") {
            self.remarks.left(
                "otel.exporter",
                "traces are exported over OTLP alone: set log.otlp to a collector",
            );
        } else if client != "grpc" {
            self.remarks.left(
                "otel",
                "is OTLP over HTTP, and here it is OTLP over gRPC: set log.otlp to the collector's gRPC \
                 port, as in http://127.0.0.1:4317",
            );
        } else if let Some(endpoint) = endpoint {
            let bare = endpoint
                .split_once("://")
                .map_or(&*endpoint, |(_, bare)| bare);
            let scheme = if insecure { "http" } else { "https" };
            self.put("otlp", &format!("{scheme}://{bare}"), "otel.endpoint");
            let service = service.unwrap_or_else(|| "RoadRunner".to_owned());
            self.put("service", &service, "otel.resource.service_name");
        }
        for name in [
            "compress",
            "custom_url",
            "headers",
            "service_name",
            "service_version",
            "resource",
        ] {
            self.list(
                &format!("otel.{name}"),
                "is not taken over: [log] has otlp, otlp_headers, otlp_ca, service and sampling",
            );
        }
        self.take("otel.insecure");
    }

    /// `[limits]`.
    pub(super) fn limits(&mut self) {
        self.table("limits");
        let key = "endure.grace_period";
        let grace = self.duration(key, 1, 3_600_000);
        let from = if grace.is_some() {
            key
        } else {
            "RoadRunner's default"
        };
        let grace = grace.unwrap_or_else(|| "30s".to_owned());
        self.put("shutdown_grace", &grace, from);
        for name in ["log_level", "print_graph", "watchdog_sec"] {
            self.list(&format!("endure.{name}"), "has no counterpart");
        }
    }

    /// What was not understood, by its path.
    pub(super) fn rest(&mut self) {
        for name in self.others.clone() {
            self.take(&name);
            self.remarks.left(
                &name,
                "is not ours: a RoadRunner has to go on running this section, from a file without \
                 `centrifuge`",
            );
        }
        self.list(
            "include",
            "the files in it were not read: import one file that holds everything",
        );
        self.list(
            "envfile",
            "is not read: give its variables to the process, by the service manager or the shell",
        );
        self.list(
            "status.unavailable_status_code",
            "/ready answers 503 until the node can take events",
        );
        self.list("status.check_timeout", "/health and /ready answer at once");
        if self.had("metrics.collect") {
            self.take("metrics.collect");
            self.remarks.left(
                "metrics.collect",
                "an application's own metrics are declared by it over RPC (service `metrics`)",
            );
        }
        let mut paths = Vec::new();
        leaves("", &self.left, &mut paths);
        for path in paths {
            self.remarks.left(&path, "is no key that is known here");
        }
    }
}

/// The paths of everything in a tree that is not an empty section.
fn leaves(path: &str, value: &Value, found: &mut Vec<String>) {
    match value {
        Value::Object(object) => {
            for (name, value) in object {
                let path = match path {
                    "" => name.clone(),
                    _ => format!("{path}.{name}"),
                };
                leaves(&path, value, found);
            }
        }
        Value::Null => {}
        _ if path.is_empty() => {}
        _ => found.push(path.to_owned()),
    }
}
