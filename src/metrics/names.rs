//! Every metric there is: name, type, labels and meaning. What is exported and what
//! `docs/metrics.md` says follow from this table.

/// What a metric's numbers are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Only grows, from 0 at the start of the node.
    Counter,
    /// The value at the moment of the scrape.
    Gauge,
    /// Times or sizes in buckets, with their number and their sum.
    Histogram,
}

impl Kind {
    /// As the exposition format names it.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
        }
    }
}

/// One metric.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Metric {
    /// Its name, with the prefix and the unit.
    pub(super) name: &'static str,
    /// What its numbers are.
    pub(super) kind: Kind,
    /// Names of its labels, in the order in which their values are given.
    pub(super) labels: &'static [&'static str],
    /// What it says, in one line.
    pub(super) help: &'static str,
}

macro_rules! metrics {
    ($(#[$meta:meta])* $list:ident: $($ident:ident = $kind:ident $name:literal [$($label:literal),*] $help:literal;)*) => {
        $(
            #[doc = $help]
            pub(super) static $ident: Metric = Metric {
                name: $name,
                kind: Kind::$kind,
                labels: &[$($label),*],
                help: $help,
            };
        )*

        $(#[$meta])*
        pub(super) static $list: &[&Metric] = &[$(&$ident),*];
    };
}

metrics! {
    /// All of our own, in the order of the page.
    ALL:
    BUILD_INFO = Gauge "centripeta_build_info" ["version"]
        "Always 1; its label says which version runs.";
    START_TIME = Gauge "centripeta_start_time_seconds" []
        "When the node was started, in seconds since 1970.";
    READY = Gauge "centripeta_ready" []
        "1 while the node takes events and every shard and interceptor runs, as `/ready` says it; else 0.";
    EVENTS = Counter "centripeta_events_total" ["kind", "route", "handler", "outcome"]
        "Events answered, by how they ended. `route` is the route's pattern (`*` for everything); events without a route, and those refused before a route was looked for, have an empty `route` and `handler`.";
    DURATIONS = Histogram "centripeta_event_duration_seconds" ["kind", "route", "handler", "outcome"]
        "Time from the arrival of an event to its answer, of streams to their acceptance. Events that were refused on arrival took no time and are not here.";
    REFUSED = Counter "centripeta_refused_total" ["reason"]
        "Events that were refused, whatever their kind: by a limit (`in_flight`, `in_flight_bytes`, `streams`, `lane`, `shard`, `memory`, `rate`, `workers`: a full worker pool, `held`: too many wait for their slots, `peer`: too much waits for the node that would run them), since nobody can run them now (`draining`, `parked`, `crashed`, `no_owner`, `worker`: its process was lost, `upstream`: no address of it answers; among several nodes `lapsed`, `lost`, `cut`: the node's lease, the slot, or the time that a move gives was over before the answer could leave, `moving`: their slot did, `lost_peer`: the node that had them, `isolated`: this node has no quorum in reach, `no_server`: no node in reach serves their kind, `routes`: the node that has to run them has other routes), or as no proper request (`unauthenticated`, `undecodable`).";
    IN_FLIGHT = Gauge "centripeta_in_flight_events" []
        "Events being worked on.";
    IN_FLIGHT_BYTES = Gauge "centripeta_in_flight_bytes" []
        "Bytes of their requests.";
    LIMIT = Gauge "centripeta_limit" ["limit"]
        "The limits in force, by their key under `limits` in `node.toml`.";
    STAGE_EVENTS = Counter "centripeta_interceptor_events_total" ["interceptor", "half", "result"]
        "Events that passed an interceptor. In the half `before`: `next` went on inwards, `answered` got its answer from the interceptor; in the half `after`: `done`. `panicked`, `timeout` and `cancelled` say that the half did not end by itself.";
    STAGE_DURATIONS = Histogram "centripeta_interceptor_duration_seconds" ["interceptor", "half"]
        "Time that a half of an interceptor takes, with what it waits for. Measured on one event in 16 of each core, so its count is not the number of events.";
    LANES = Gauge "centripeta_lanes" ["core", "state"]
        "Lanes, that is keys in use: `busy` ones run something, `kept` ones are idle and hold the state of their handler.";
    LANE_QUEUED = Gauge "centripeta_lane_queued_events" ["core"]
        "Events that wait behind another one of their key.";
    SHARD_EVENTS = Gauge "centripeta_shard_waiting_events" ["core", "shard"]
        "Events that wait in a shard: in its mailbox, in its lanes, or for a thread of their handler's pool.";
    SHARD_BYTES = Gauge "centripeta_shard_waiting_bytes" ["core", "shard"]
        "Bytes of their requests.";
    SHARD_MAILBOX = Gauge "centripeta_shard_mailbox_events" ["core", "shard"]
        "Those of them that wait for the shard to look at them, or for a thread of a pool.";
    RESTARTS = Counter "centripeta_actor_restarts_total" ["child"]
        "Actors that failed and were restarted: shards, interceptors (one actor on each core), and the supervisors of a core's shards (`region`) and interceptors (`pipeline`).";
    PARKS = Counter "centripeta_actor_parks_total" ["child"]
        "Actors that failed too often and were parked until their next trial.";
    PARKED = Gauge "centripeta_actors_parked" ["child"]
        "Shards and interceptors that are parked now; their events are answered as unavailable.";
    STREAMS = Gauge "centripeta_open_streams" []
        "Accepted subscription streams that are open.";
    STREAM_ENDS = Counter "centripeta_stream_ends_total" ["kind", "reason"]
        "Accepted subscription streams that are over: `finished` or `failed` in the handler, `cancelled` by the client, `drained` by the end of the node, `moved` with their slot to another one.";
    WATCHDOG = Counter "centripeta_watchdog_findings_total" ["core"]
        "How often code held a core for longer than `runtime.watchdog`; the log names it.";
    CONNECTIONS = Gauge "centripeta_connections" ["core"]
        "Open connections of the event listener.";
    ACCEPTED = Counter "centripeta_connections_accepted_total" ["core"]
        "Connections that the event listener accepted.";
    CALLS = Counter "centripeta_publisher_calls_total" ["api", "result"]
        "Calls of handlers to Centrifugo's server API, by method (`Batch`: batches that a program made itself; `raw`: methods that it names itself, as one) and by how they ended.";
    CALL_DURATIONS = Histogram "centripeta_publisher_call_duration_seconds" ["api"]
        "Time from a call to its answer, the wait in the queue and all attempts with it, however it ended. Calls that were refused at once took no time and are not here.";
    COMMANDS = Histogram "centripeta_publisher_batch_commands" []
        "Commands in each gRPC call to Centrifugo: 1 for a call that left alone, more for those that left as one batch. Every attempt counts.";
    RETRIES = Counter "centripeta_publisher_retries_total" []
        "Attempts after the first of gRPC calls that had been sent.";
    QUEUED = Gauge "centripeta_publisher_queued_calls" []
        "Calls that wait for Centrifugo, on their way or for it.";
    QUEUED_BYTES = Gauge "centripeta_publisher_queued_bytes" []
        "Bytes of their requests.";
    PUBLISHER_LIMIT = Gauge "centripeta_publisher_limit" ["limit"]
        "The limits of the queue, by their key under `centrifugo` in `node.toml`.";
    ENDPOINT_UP = Gauge "centripeta_publisher_endpoint_up" ["endpoint"]
        "1 while calls go to this endpoint of `centrifugo.api`; 0 while it is unreachable or lets calls wait.";
    WORKERS = Gauge "centripeta_workers" ["handler", "state"]
        "Worker processes of `roadrunner` handlers, by their state.";
    WORKER_MEMORY = Gauge "centripeta_worker_memory_bytes" ["handler"]
        "Memory that the workers of a handler hold together (resident set).";
    WORKER_REQUESTS = Gauge "centripeta_worker_requests" ["handler"]
        "Requests in a handler's pool, those that wait and those at work.";
    WORKER_JOBS = Gauge "centripeta_worker_jobs" ["handler"]
        "Requests that the workers of now have been given since they were started.";
    WORKER_RESTARTS = Counter "centripeta_worker_restarts_total" ["handler"]
        "Workers that are gone while their pool runs, whatever the reason; another takes the place of each.";
    WORKER_LATE = Counter "centripeta_worker_late_answers_total" ["handler"]
        "Answers that came when the caller had its own already: its deadline was over, or it went away.";
    WORKER_DROPPED = Counter "centripeta_worker_dropped_requests_total" ["handler"]
        "Requests that a worker read and did not answer; known where requests are fenced.";
    WORKER_REFUSED = Counter "centripeta_worker_refused_total" ["handler", "reason"]
        "Requests that a pool refused: `queue_size`, there were `max_queue_size` in it; `no_free_workers`, none became free within `allocate_timeout`.";
    WORKER_FLAWS = Counter "centripeta_worker_flawed_answers_total" ["handler"]
        "Answers that crossed as they are though Centrifugo or an SDK would mishandle them; the log tells of each kind once.";
    FORWARD_EVENTS = Counter "centripeta_forward_events_total" ["place"]
        "In a cluster, events by where they ran: `local` on the node that they came to, `forwarded` sent to another (once more each time that they are sent again); `received` came from another. A node alone counts none.";
    FORWARD_BOUNCED = Counter "centripeta_forward_bounced_total" ["side", "reason"]
        "Events that came back unstarted, and are held or sent elsewhere, by what the node that they were sent to says: `wrong_owner`, `moving`, `lapsed` (its lease), `behind` (its table), `stale` (one before it in its slot came back). Side `ingress` counts what came back here, `owner` what this node sent back to others.";
    FORWARD_RESENT = Counter "centripeta_forward_resent_total" []
        "Times that an event was sent again, after it came back or its node was lost.";
    FORWARD_EXPIRED = Counter "centripeta_forward_expired_total" []
        "Events that were held until their deadline, or given up without a quorum, and answered as unavailable.";
    FORWARD_CANCELLED = Counter "centripeta_forward_cancelled_total" []
        "Events that another node had when their callers went away: it was told, and drops or ends them. They count as `cancelled` among the events, as those that ran here.";
    FORWARD_DROPPED = Counter "centripeta_forward_dropped_replies_total" []
        "Answers of nodes that the table calls dead: they are dropped.";
    FORWARD_HELD = Gauge "centripeta_forward_held_events" []
        "Events that wait for the owner of their slot.";
    FORWARD_HELD_BYTES = Gauge "centripeta_forward_held_bytes" []
        "Bytes of their requests.";
    UPSTREAM_CALLS = Counter "centripeta_upstream_calls_total" ["handler", "endpoint", "result"]
        "Attempts at an endpoint of a `grpc` handler, by how they ended: a gRPC status (streams that were accepted are `OK`); `not_sent`, which are tried elsewhere; `lost` after they were sent; `unreadable`, no proper answer; `timeout`; `cancelled`, since nobody waited any more.";
    UPSTREAM_DURATIONS = Histogram "centripeta_upstream_call_duration_seconds" ["handler", "endpoint"]
        "Time from an attempt to its status, connecting with it; of streams to their acceptance.";
    UPSTREAM_IN_FLIGHT = Gauge "centripeta_upstream_in_flight_calls" ["handler", "endpoint"]
        "Calls under way at an endpoint.";
    UPSTREAM_STREAMS = Gauge "centripeta_upstream_open_streams" ["handler", "endpoint"]
        "Subscription streams that are open at an endpoint, or being opened.";
    UPSTREAM_ADDRESSES = Gauge "centripeta_upstream_addresses" ["handler", "endpoint", "state"]
        "Addresses of an endpoint: `well`, or `ejected` for a while since they failed several times in a row. None at all: its name is not found.";
    UPSTREAM_EJECTIONS = Counter "centripeta_upstream_ejections_total" ["handler", "endpoint"]
        "How often an address of an endpoint was ejected.";
    UPSTREAM_RETRIES = Counter "centripeta_upstream_retries_total" ["handler", "reason"]
        "Attempts after the first: `not_sent`, what was provably not sent; `status`, what was sent and is sent again by `retry.on`.";
    UPSTREAM_FLAWS = Counter "centripeta_upstream_flawed_answers_total" ["handler"]
        "Answers that crossed as they are though Centrifugo or an SDK would mishandle them; the log tells of each kind once.";
    CLUSTER_LEASE = Gauge "centripeta_cluster_lease_remaining_seconds" []
        "How long this node may go on acting for its slots without hearing from the leader; 0: it acts for none. The metrics of the cluster are there on nodes with a `[cluster]` section.";
    CLUSTER_QUORUM = Gauge "centripeta_cluster_quorum" []
        "1 while the leader acknowledges this node's heartbeats, which proves a quorum; else 0.";
    CLUSTER_DEGRADED = Gauge "centripeta_cluster_degraded" []
        "1 while a core of this node, or its lease timer, makes too little progress: it gets no new slots, and its lease may run out; `/ready` says which. Else 0.";
    CLUSTER_MEMBERS = Gauge "centripeta_cluster_members" ["state"]
        "Nodes in the table by state, as this node knows it: `joining`, `up`, `draining`, `dead`.";
    CLUSTER_VERSION = Gauge "centripeta_cluster_table_version" []
        "The version of the table that this node goes by.";
    CLUSTER_LAG = Gauge "centripeta_cluster_table_lag_versions" []
        "By how many versions that is behind the latest one that the leader has spoken of.";
    CLUSTER_AGE = Gauge "centripeta_cluster_table_age_seconds" []
        "How long ago the table of this node was known to be the newest. From 2 s on the node is not ready.";
    CLUSTER_OWNED = Gauge "centripeta_cluster_owned_slots" []
        "Slots of the 4,096 that the table gives to this node.";
    CLUSTER_VACANT = Gauge "centripeta_cluster_vacant_slots" []
        "Slots without a living owner, in the whole cluster, as this node knows it: their events wait.";
    CLUSTER_SLOTS = Gauge "centripeta_cluster_slots" ["state"]
        "Slots at this node by the state of their gate: `open`, `opening` (given to it, and not yet ready), `closed` (for a move, until the table names the new owner).";
    CLUSTER_MOVES = Gauge "centripeta_cluster_moves" ["reason"]
        "Moves of slots that are open in the whole cluster, as this node knows it: for a `drain`, a `rebalance`, or an operator (`admin`).";
    CLUSTER_OUTGOING = Gauge "centripeta_cluster_outgoing_moves" ["step"]
        "Moves away from this node, by how far they are: `preparing` (the target is not ready), `waiting` (for their turn, or a long event), `finishing` (closed; started events run on), `sending` (values), `released` (the table does not say so yet).";
    CLUSTER_OLDEST = Gauge "centripeta_cluster_oldest_move_seconds" []
        "How long the oldest open move of the cluster has been open; 0 if there is none.";
    CLUSTER_STALL = Histogram "centripeta_cluster_move_stall_seconds" []
        "From the closing of a slot at this node, for a move, until the new owner says that it serves it, or until this node does again. The word of the new owner reaches nodes with the role `ingress`.";
    CLUSTER_TAKEOVER = Histogram "centripeta_cluster_takeover_seconds" []
        "From the moment that this node heard of the death of a slot's owner until the slot was open here. What the death took to be noticed is not in it.";
    CLUSTER_GATE = Counter "centripeta_cluster_gate_events_total" ["result"]
        "Events at the gates of this node's slots: `held` until a slot opened or the lease came back, `bounced` unstarted to whom they came from, `cut` since they ran longer than `cluster.moves.release_timeout` in a slot that drains, and fenced, that is not let out: `lost` with their slot, `lapsed` with the lease.";
    CLUSTER_LINK_UP = Gauge "centripeta_cluster_link_up" ["peer", "class", "direction"]
        "1 while a link to (`out`) or from (`in`) a node is open; 0 otherwise. `control` carries heartbeats and the table and is always to be up; `data` carries events and is closed after 300 s without any: an outgoing one that nobody has use for has no sample.";
    CLUSTER_LINK_SILENCE = Gauge "centripeta_cluster_link_silence_seconds" ["peer", "class", "direction"]
        "How long ago something was last heard on it; not there before anything was.";
    CLUSTER_LINK_CREDIT = Gauge "centripeta_cluster_link_credit_requests" ["peer", "class", "direction"]
        "Credit in use, in requests: those that were sent and not answered.";
    CLUSTER_LINK_CREDIT_BYTES = Gauge "centripeta_cluster_link_credit_bytes" ["peer", "class", "direction"]
        "Credit in use, in bytes.";
    CLUSTER_LINK_WAITING = Gauge "centripeta_cluster_link_waiting_requests" ["peer", "class", "direction"]
        "Requests that wait for credit.";
    CLUSTER_LINK_RECONNECTS = Counter "centripeta_cluster_link_reconnects_total" ["peer", "class", "direction"]
        "Links that were opened again after one had failed. They begin anew where a node comes back as another life.";
    CLUSTER_REFUSED = Counter "centripeta_cluster_refused_links_total" ["reason"]
        "Handshakes and links that this node refused, by reason.";
    CLUSTER_TERM = Gauge "centripeta_cluster_raft_term" []
        "The latest term of Raft that this node has seen; it grows by one or more with each election.";
    CLUSTER_LEADS = Gauge "centripeta_cluster_leads" []
        "1 on the node that leads, 0 on the others.";
    CLUSTER_COMMIT = Histogram "centripeta_cluster_commit_seconds" []
        "From a change that this node proposed, as the leader, until it was committed by a majority and applied here. Those that failed are not in it.";
    CLUSTER_FLUSH = Histogram "centripeta_cluster_flush_seconds" []
        "How long writes of the log and the vote to `meta.redb` took, fsync with them; nodes without a log have none.";
    TRACE_SPANS = Counter "centripeta_trace_spans_total" ["result"]
        "Spans of traces (`log.otlp`), by what became of them: `exported`; `dropped`, since the collector is slower than they come or the node ended; `failed`, since the collector was not there or did not take them.";
}

metrics! {
    /// Those that RoadRunner has of its pool, under its names (`metrics.roadrunner`).
    ROADRUNNER:
    RR_TOTAL_WORKERS = Gauge "rr_centrifugo_total_workers" []
        "Worker processes of all pools.";
    RR_WORKERS_MEMORY = Gauge "rr_centrifugo_workers_memory_bytes" []
        "Memory that they hold together (resident set).";
    RR_WORKER_STATE = Gauge "rr_centrifugo_worker_state" ["state", "pid"]
        "Always 0; its labels say in which state a worker is.";
    RR_WORKER_MEMORY = Gauge "rr_centrifugo_worker_memory_bytes" ["pid"]
        "Memory that a worker holds.";
    RR_WORKERS_READY = Gauge "rr_centrifugo_workers_ready" []
        "Workers that are idle.";
    RR_WORKERS_WORKING = Gauge "rr_centrifugo_workers_working" []
        "Workers that are at work.";
    RR_WORKERS_INVALID = Gauge "rr_centrifugo_workers_invalid" []
        "Workers in any other state.";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_follow_the_conventions_of_the_format() {
        for (index, metric) in ALL.iter().enumerate() {
            let Metric { name, kind, .. } = metric;
            assert!(name.starts_with("centripeta_"), "{name}");
            assert_eq!(*kind == Kind::Counter, name.ends_with("_total"), "{name}");
            if *kind == Kind::Histogram {
                let units = ["_seconds", "_commands"];
                assert!(units.iter().any(|unit| name.ends_with(unit)), "{name}");
            }
            let legal = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
            assert!(name.chars().all(legal), "{name}");
            assert!(metric.labels.iter().all(|label| label.chars().all(legal)));
            assert!(!metric.labels.contains(&"le"), "{name}");
            assert!(metric.help.ends_with('.'), "{name}");
            assert!(ALL[..index].iter().all(|other| other.name != *name));
        }
    }

    #[test]
    fn no_label_names_what_clients_choose() {
        for metric in ALL {
            for label in ["channel", "user", "client", "method", "key"] {
                assert!(!metric.labels.contains(&label), "{}", metric.name);
            }
        }
    }
}
