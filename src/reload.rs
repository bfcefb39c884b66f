//! A configuration that was read again, held against the one that runs: what changes now, what waits
//! for a restart, and what runs from then on. Pure; nothing is touched, no secret is shown.
//!
//! Every key is in one of the two lists: the sections are taken apart without a rest, so that a new
//! key does not compile before it is decided what a reload does with it.

mod routes;
#[cfg(test)]
mod tests;

use crate::config::{
    AuthConfig, CentrifugoConfig, ChannelConfig, ClientTlsConfig, ClusterConfig,
    ClusterLeaseConfig, ClusterMovesConfig, ClusterRaftConfig, ClusterTlsConfig, Config,
    LimitsConfig, ListenConfig, LogConfig, MetricsConfig, NodeConfig, OtlpConfig, RpcConfig,
    RuntimeConfig, TlsConfig,
};
use std::fmt::Display;
use std::time::Duration;

/// What a reload is about to do.
#[derive(Debug)]
pub(crate) struct Comparison {
    /// What runs from now on: the new configuration, but for the keys that wait for a restart.
    pub(crate) effective: Config,
    /// What runs otherwise then, one entry each; empty if nothing does.
    pub(crate) changed: Vec<String>,
    /// Keys whose new value waits for a restart.
    pub(crate) needs_restart: Vec<String>,
}

/// Holds a configuration against the one that runs. A program that does not take the routes of the
/// configuration (`takes_routes`) has no changes in them.
pub(crate) fn compare(running: &Config, read: &Config, takes_routes: bool) -> Comparison {
    let mut found = Found::default();
    found.restarts(running, read);
    found.centrifugo(&running.centrifugo, &read.centrifugo);
    found.limits(&running.limits, &read.limits);
    found.show("log.level", &running.log.level, &read.log.level, "");
    let (was, is) = (running.log.sampling, read.log.sampling);
    found.show("log.sampling", &was, &is, "");
    let age = |config: &Config| time(config.listen.max_connection_age);
    let (was, is) = (age(running), age(read));
    found.show("listen.max_connection_age", &was, &is, NEW_CONNECTIONS);
    if takes_routes {
        routes::compare(running, read, &mut found.changed);
    }
    let remark = match running.cluster {
        Some(_) => "",
        None => " (nothing by itself: this node runs alone)",
    };
    let (was, is) = (&running.node.serves, &read.node.serves);
    found.show("node.serves", was, is, remark);
    let effective = Config {
        node: NodeConfig {
            serves: read.node.serves.clone(),
            ..running.node.clone()
        },
        cluster: cluster(running.cluster.as_ref(), read.cluster.as_ref()),
        listen: ListenConfig {
            max_connection_age: read.listen.max_connection_age,
            ..running.listen.clone()
        },
        channel: running.channel.clone(),
        log: LogConfig {
            level: read.log.level.clone(),
            sampling: read.log.sampling,
            ..running.log.clone()
        },
        runtime: running.runtime.clone(),
        metrics: running.metrics.clone(),
        rpc: running.rpc.clone(),
        ..read.clone()
    };
    Comparison {
        effective,
        changed: found.changed,
        needs_restart: found.needs_restart,
    }
}

/// The cluster that runs from now on: as it ran, with the secrets and certificates that were read.
fn cluster(was: Option<&ClusterConfig>, is: Option<&ClusterConfig>) -> Option<ClusterConfig> {
    let was = was?.clone();
    Some(match is {
        Some(is) => ClusterConfig {
            secrets: is.secrets.clone(),
            tls: is.tls.clone(),
            ..was
        },
        None => was,
    })
}

/// What is fixed for a connection when it is opened.
const NEW_CONNECTIONS: &str = " (for connections that are opened from now on)";

#[derive(Debug, Default)]
struct Found {
    changed: Vec<String>,
    needs_restart: Vec<String>,
}

impl Found {
    /// A value that applies at once.
    fn show<T: PartialEq + Display>(&mut self, key: &str, was: &T, is: &T, remark: &str) {
        if was != is {
            self.changed.push(format!("{key}: {was} -> {is}{remark}"));
        }
    }

    /// A value that applies at once and is not shown.
    fn hide<T: PartialEq>(&mut self, key: &str, was: &T, is: &T) {
        if was != is {
            self.changed.push(format!("{key}: another one"));
        }
    }

    /// A value that waits for a restart.
    fn wait<T: PartialEq>(&mut self, key: &str, was: &T, is: &T) {
        if was != is {
            self.needs_restart.push(key.to_owned());
        }
    }

    fn restarts(&mut self, running: &Config, read: &Config) {
        let NodeConfig {
            name,
            data,
            roles,
            serves: _,
        } = &read.node;
        self.wait("node.name", &running.node.name, name);
        self.wait("node.data", &running.node.data, data);
        self.wait("node.roles", &running.node.roles, roles);
        match (&running.cluster, &read.cluster) {
            (Some(was), Some(is)) => self.cluster(was, is),
            (was, is) => self.wait("cluster", was, is),
        }
        self.listen(&running.listen, &read.listen);
        let ChannelConfig { namespace_boundary } = &read.channel;
        let was = &running.channel.namespace_boundary;
        self.wait("channel.namespace_boundary", was, namespace_boundary);
        let LogConfig {
            format,
            level: _,
            otlp,
            sampling: _,
            service,
        } = &read.log;
        self.wait("log.format", &running.log.format, format);
        self.otlp(running.log.otlp.as_ref(), otlp.as_ref());
        self.wait("log.service", &running.log.service, service);
        let RuntimeConfig {
            cores,
            shards_per_core,
            passivate_after,
            watchdog,
        } = &read.runtime;
        let was = &running.runtime;
        self.wait("runtime.cores", &was.cores, cores);
        let shards = "runtime.shards_per_core";
        self.wait(shards, &was.shards_per_core, shards_per_core);
        let passivate = "runtime.passivate_after";
        self.wait(passivate, &was.passivate_after, passivate_after);
        self.wait("runtime.watchdog", &was.watchdog, watchdog);
        let MetricsConfig {
            enabled,
            roadrunner,
        } = &read.metrics;
        self.wait("metrics.enabled", &running.metrics.enabled, enabled);
        let was = &running.metrics.roadrunner;
        self.wait("metrics.roadrunner", was, roadrunner);
        let RpcConfig {
            listen,
            allow_open,
            fallback,
            old_disconnect,
        } = &read.rpc;
        self.wait("rpc.listen", &running.rpc.listen, listen);
        self.wait("rpc.allow_open", &running.rpc.allow_open, allow_open);
        self.wait("rpc.fallback", &running.rpc.fallback, fallback);
        let was = &running.rpc.old_disconnect;
        self.wait("rpc.old_disconnect", was, old_disconnect);
    }

    fn cluster(&mut self, was: &ClusterConfig, is: &ClusterConfig) {
        let ClusterConfig {
            listen,
            advertise,
            seeds,
            secrets,
            tls,
            insecure,
            serve_stateless_isolated,
            voters,
            lease,
            raft,
            moves,
        } = is;
        self.hide("cluster.secret", &was.secrets, secrets);
        match (&was.tls, tls) {
            (Some(was), Some(ClusterTlsConfig { cert, key, ca })) => {
                self.hide("cluster.tls.cert", &was.cert, cert);
                self.hide("cluster.tls.key", &was.key, key);
                self.hide("cluster.tls.ca", &was.ca, ca);
            }
            (was, is) => self.hide("cluster.tls", was, is),
        }
        self.wait("cluster.listen", &was.listen, listen);
        self.wait("cluster.advertise", &was.advertise, advertise);
        self.wait("cluster.seeds", &was.seeds, seeds);
        self.wait("cluster.insecure", &was.insecure, insecure);
        let isolated = "cluster.serve_stateless_isolated";
        let stateless = &was.serve_stateless_isolated;
        self.wait(isolated, stateless, serve_stateless_isolated);
        self.wait("cluster.voters", &was.voters, voters);
        let ClusterLeaseConfig {
            length,
            heartbeat,
            drift_margin_permille,
        } = lease;
        let margin = &was.lease.drift_margin_permille;
        self.wait("cluster.lease.length", &was.lease.length, length);
        self.wait("cluster.lease.heartbeat", &was.lease.heartbeat, heartbeat);
        self.wait("cluster.lease.drift_margin", margin, drift_margin_permille);
        let ClusterRaftConfig {
            heartbeat,
            election,
        } = raft;
        self.wait("cluster.raft.heartbeat", &was.raft.heartbeat, heartbeat);
        self.wait("cluster.raft.election", &was.raft.election, election);
        self.moves(&was.moves, moves);
    }

    fn moves(&mut self, was: &ClusterMovesConfig, is: &ClusterMovesConfig) {
        let ClusterMovesConfig {
            open_limit,
            closed_per_node,
            prepare_timeout,
            release_timeout,
        } = is;
        let key = |name: &str| format!("cluster.moves.{name}");
        self.wait(&key("open_limit"), &was.open_limit, open_limit);
        let closed = &was.closed_per_node;
        self.wait(&key("closed_per_node"), closed, closed_per_node);
        let prepare = &was.prepare_timeout;
        self.wait(&key("prepare_timeout"), prepare, prepare_timeout);
        let release = &was.release_timeout;
        self.wait(&key("release_timeout"), release, release_timeout);
    }

    fn otlp(&mut self, was: Option<&OtlpConfig>, is: Option<&OtlpConfig>) {
        let (Some(was), Some(is)) = (was, is) else {
            return self.wait("log.otlp", &was, &is);
        };
        let OtlpConfig {
            collector,
            headers,
            ca,
        } = is;
        self.wait("log.otlp", &was.collector, collector);
        self.wait("log.otlp_headers", &was.headers, headers);
        self.wait("log.otlp_ca", &was.ca, ca);
    }

    fn listen(&mut self, was: &ListenConfig, is: &ListenConfig) {
        let ListenConfig {
            grpc,
            admin,
            auth,
            tls,
            admin_token,
            allow_open,
            max_connection_age: _,
        } = is;
        self.wait("listen.grpc", &was.grpc, grpc);
        self.wait("listen.admin", &was.admin, admin);
        match (&was.auth, auth) {
            (Some(was), Some(AuthConfig { metadata, value })) => {
                self.wait("listen.auth.metadata", &was.metadata, metadata);
                self.wait("listen.auth.value", &was.value, value);
            }
            (was, is) => self.wait("listen.auth", was, is),
        }
        match (&was.tls, tls) {
            (
                Some(was),
                Some(TlsConfig {
                    cert,
                    key,
                    client_ca,
                }),
            ) => {
                self.wait("listen.tls.cert", &was.cert, cert);
                self.wait("listen.tls.key", &was.key, key);
                self.wait("listen.tls.client_ca", &was.client_ca, client_ca);
            }
            (was, is) => self.wait("listen.tls", was, is),
        }
        self.wait("listen.admin_token", &was.admin_token, admin_token);
        self.wait("listen.allow_open", &was.allow_open, allow_open);
    }

    fn centrifugo(&mut self, was: &CentrifugoConfig, is: &CentrifugoConfig) {
        let CentrifugoConfig {
            api,
            key,
            timeout,
            queue,
            queue_bytes,
            batch,
            flights,
            message_bytes,
            tls: ClientTlsConfig { ca, identity },
            client,
        } = is;
        let list = |api: &[crate::config::Endpoint]| {
            let api: Vec<String> = api.iter().map(ToString::to_string).collect();
            format!("[{}]", api.join(", "))
        };
        self.show("centrifugo.api", &list(&was.api), &list(api), "");
        self.hide("centrifugo.key", &was.key, key);
        let timeouts = (time(was.timeout), time(*timeout));
        self.show("centrifugo.timeout", &timeouts.0, &timeouts.1, "");
        self.show("centrifugo.queue", &was.queue, queue, "");
        let sizes = (size(was.queue_bytes), size(*queue_bytes));
        self.show("centrifugo.queue_bytes", &sizes.0, &sizes.1, "");
        self.show("centrifugo.batch", &was.batch, batch, "");
        self.show("centrifugo.flights", &was.flights, flights, "");
        let sizes = (size(was.message_bytes), size(*message_bytes));
        self.show("centrifugo.message_bytes", &sizes.0, &sizes.1, "");
        self.hide("centrifugo.tls.ca", &was.tls.ca, ca);
        self.hide("centrifugo.tls.cert", &was.tls.identity, identity);
        self.show("centrifugo.client", &was.client, client, "");
    }

    fn limits(&mut self, was: &LimitsConfig, is: &LimitsConfig) {
        let LimitsConfig {
            in_flight,
            in_flight_bytes,
            streams,
            message_bytes,
            header_bytes,
            timeout,
            deadline_margin,
            lane_queue,
            shard_events,
            shard_bytes,
            shutdown_grace,
        } = is;
        self.show("limits.in_flight", &was.in_flight, in_flight, "");
        self.show("limits.streams", &was.streams, streams, "");
        self.show("limits.lane_queue", &was.lane_queue, lane_queue, "");
        self.show("limits.shard_events", &was.shard_events, shard_events, "");
        for (key, was, is, remark) in [
            (
                "limits.in_flight_bytes",
                was.in_flight_bytes,
                in_flight_bytes,
                "",
            ),
            ("limits.message_bytes", was.message_bytes, message_bytes, ""),
            (
                "limits.header_bytes",
                was.header_bytes,
                header_bytes,
                NEW_CONNECTIONS,
            ),
            ("limits.shard_bytes", was.shard_bytes, shard_bytes, ""),
        ] {
            self.show(key, &size(was), &size(*is), remark);
        }
        for (key, was, is) in [
            ("limits.timeout", was.timeout, timeout),
            (
                "limits.deadline_margin",
                was.deadline_margin,
                deadline_margin,
            ),
            ("limits.shutdown_grace", was.shutdown_grace, shutdown_grace),
        ] {
            self.show(key, &time(was), &time(*is), "");
        }
    }
}

/// A duration as `node.toml` has it.
fn time(time: Duration) -> String {
    humantime::format_duration(time).to_string()
}

/// A size as `node.toml` has it; exact, so that different ones look different.
fn size(bytes: usize) -> String {
    for (unit, name) in [(1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")] {
        if bytes >= unit && bytes.is_multiple_of(unit) {
            return format!("{}{name}", bytes / unit);
        }
    }
    format!("{bytes}B")
}
