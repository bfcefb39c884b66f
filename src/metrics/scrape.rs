//! Gathers the counts of an engine into a page, one function for each part of the node.
//!
//! A part that counts for itself (such as the publisher) gets a function here, called by [`page`].

use super::cells::{COMMAND_BOUNDS, EVENT_BOUNDS, EventCounts, HALF_BOUNDS, Totals};
use super::labels::{OUTCOMES, REASONS, STREAM_ENDS};
use super::page::Page;
use super::register::StageSeries;
use super::stages::{Half, RESULTS, StageCounts};
use super::{ChildKind, Metrics, cluster, names};
use crate::egress::{Publisher, tally};
use crate::engine::Engine;
use crate::engine::shared::Shared;
use crate::event::EventKind;
use crate::forward::{BOUNCES, Counts};
use crate::node::Membership;
use crate::upstream::CALL_RESULTS;
use crate::worker::info::WorkerState;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Results that a half's series have from the start.
const USUAL: [&[&str]; 2] = [&["next", "answered"], &["done"]];

/// Everything, as Prometheus reads it; `None` if counting is switched off. A node without a cluster
/// has no part in one and says nothing of it.
pub(crate) fn page(engine: &Engine, membership: Option<&Membership>) -> Option<String> {
    let shared = &*engine.shared;
    if !shared.metrics.is_on() {
        return None;
    }
    let mut page = Page::default();
    node(&mut page, engine, membership);
    events(&mut page, &shared.metrics);
    admission(&mut page, shared);
    stages(&mut page, shared);
    shards(&mut page, shared);
    actors(&mut page, shared);
    streams(&mut page, shared);
    cores(&mut page, shared);
    publisher(&mut page, &shared.egress.publisher);
    workers(&mut page, shared);
    let forward = shared.forward.as_ref();
    match forward {
        Some(forward) => forwarding(&mut page, &forward.counts, forward.held()),
        // Without a cluster everything is 0.
        None => forwarding(&mut page, &Counts::default(), (0, 0)),
    }
    upstreams(&mut page, shared);
    if let Some(membership) = membership {
        cluster::write(&mut page, shared, membership.cluster());
    }
    traces(&mut page, shared);
    let mut text = page.into_text();
    shared.collectors.write(&mut text);
    Some(text)
}

/// The workers of all pools under RoadRunner's names, for dashboards that know those.
pub(crate) fn roadrunner_page(engine: &Engine) -> String {
    let pools = engine.shared.pools.all();
    let workers = pools.iter().flat_map(|pool| pool.roll().workers);
    let seen = workers.map(|worker| {
        let memory = worker.memory().unwrap_or_default();
        (worker.pid.to_string(), worker.state(), memory)
    });
    let seen: Vec<(String, WorkerState, u64)> = seen.collect();
    let of = |state: WorkerState| seen.iter().filter(|(_, it, _)| *it == state).count();
    let (ready, working) = (of(WorkerState::Ready), of(WorkerState::Working));
    let memory: u64 = seen.iter().map(|(.., memory)| memory).sum();
    let mut page = Page::default();
    let total = seen.len();
    page.metric(&names::RR_TOTAL_WORKERS).value(&[], total);
    page.metric(&names::RR_WORKERS_MEMORY).value(&[], memory);
    let mut samples = page.metric(&names::RR_WORKER_STATE);
    for (pid, state, _) in &seen {
        samples.value(&[state.name(), pid], 0);
    }
    let mut samples = page.metric(&names::RR_WORKER_MEMORY);
    for (pid, _, memory) in &seen {
        samples.value(&[pid], memory);
    }
    page.metric(&names::RR_WORKERS_READY).value(&[], ready);
    page.metric(&names::RR_WORKERS_WORKING).value(&[], working);
    let others = total - ready - working;
    page.metric(&names::RR_WORKERS_INVALID).value(&[], others);
    page.into_text()
}

fn node(page: &mut Page, engine: &Engine, membership: Option<&Membership>) {
    let version = env!("CARGO_PKG_VERSION");
    page.metric(&names::BUILD_INFO).value(&[version], 1);
    let started = engine.shared.metrics.started;
    page.metric(&names::START_TIME).value(&[], started);
    let part = membership.map_or(Ok(()), Membership::ready);
    let ready = u8::from(engine.ready().and(part).is_ok());
    page.metric(&names::READY).value(&[], ready);
}

/// A series of events without its outcome: its labels and its cells by core.
struct Series<'a> {
    kind: EventKind,
    route: &'a str,
    handler: &'a str,
    cores: &'a [Arc<EventCounts>],
    is_routed: bool,
}

impl Series<'_> {
    fn totals(&self, outcome: usize) -> Totals {
        let mut totals = Totals::new(&EVENT_BOUNDS);
        for core in self.cores {
            core.of(outcome).add_to(&mut totals);
        }
        totals
    }
}

fn events(page: &mut Page, metrics: &Metrics) {
    let routes = metrics.register.routes();
    let routed = routes.iter().map(|series| Series {
        kind: series.labels.kind,
        route: &series.labels.route,
        handler: &series.labels.handler,
        cores: &series.cores,
        is_routed: true,
    });
    let unrouted = EventKind::ALL.iter().map(|kind| Series {
        kind: *kind,
        route: "",
        handler: "",
        cores: metrics.of_unrouted(*kind),
        is_routed: false,
    });
    let all: Vec<Series<'_>> = routed.chain(unrouted).collect();
    let mut samples = page.metric(&names::EVENTS);
    for series in &all {
        for (at, outcome) in OUTCOMES.iter().enumerate() {
            let mut count = series.totals(at).count();
            if !series.is_routed {
                let kind = series.kind as usize;
                let cells = metrics.cores.iter().map(|core| &core.turned_away[kind][at]);
                count += cells.map(super::Counter::get).sum::<u64>();
            }
            if count > 0 || (series.is_routed && at == 0) {
                let kind = series.kind.name();
                samples.value(&[kind, series.route, series.handler, outcome], count);
            }
        }
    }
    let mut samples = page.metric(&names::DURATIONS);
    for series in &all {
        for (at, outcome) in OUTCOMES.iter().enumerate() {
            let totals = series.totals(at);
            if totals.count() > 0 {
                let kind = series.kind.name();
                samples.histogram(&[kind, series.route, series.handler, outcome], &totals);
            }
        }
    }
    let mut samples = page.metric(&names::REFUSED);
    for (at, reason) in REASONS.iter().enumerate() {
        let cells = metrics.cores.iter().map(|core| core.refused[at].get());
        samples.value(&[reason], cells.sum::<u64>());
    }
}

fn admission(page: &mut Page, shared: &Shared) {
    let events = shared.in_flight.events.get();
    page.metric(&names::IN_FLIGHT).value(&[], events);
    let bytes = shared.in_flight.bytes.get();
    page.metric(&names::IN_FLIGHT_BYTES).value(&[], bytes);
    let limits = &shared.limits;
    page.metric(&names::LIMIT)
        .value(&["in_flight"], limits.in_flight())
        .value(&["in_flight_bytes"], limits.in_flight_bytes())
        .value(&["streams"], limits.streams())
        .value(&["lane_queue"], limits.lane_queue())
        .value(&["shard_events"], limits.shard_events())
        .value(&["shard_bytes"], limits.shard_bytes());
}

/// An interceptor of all cores.
struct StageTotals {
    ended: [[u64; RESULTS.len()]; 2],
    took: [Totals; 2],
    has_after: bool,
}

impl StageTotals {
    fn add(&mut self, counts: &StageCounts) {
        for half in Half::ALL {
            let sums = &mut self.ended[half as usize];
            for (sum, count) in sums.iter_mut().zip(counts.ended(half)) {
                *sum += count;
            }
            counts.took(half).add_to(&mut self.took[half as usize]);
        }
    }
}

fn stages(page: &mut Page, shared: &Shared) {
    let all = shared.metrics.register.stages();
    let totals = |(name, series): (String, StageSeries)| {
        let mut totals = StageTotals {
            ended: Default::default(),
            took: [Totals::new(&HALF_BOUNDS), Totals::new(&HALF_BOUNDS)],
            has_after: series.has_after,
        };
        series.cores.iter().for_each(|counts| totals.add(counts));
        (name, totals)
    };
    let totals: Vec<(String, StageTotals)> = all.into_iter().map(totals).collect();
    let halves = |stage: &StageTotals| match stage.has_after {
        true => &Half::ALL[..],
        false => &Half::ALL[..1],
    };
    let mut samples = page.metric(&names::STAGE_EVENTS);
    for (name, stage) in &totals {
        for half in halves(stage) {
            for (result, count) in RESULTS.iter().zip(stage.ended[*half as usize]) {
                if count > 0 || USUAL[*half as usize].contains(result) {
                    samples.value(&[name, half.label(), result], count);
                }
            }
        }
    }
    let mut samples = page.metric(&names::STAGE_DURATIONS);
    for (name, stage) in &totals {
        for half in halves(stage) {
            samples.histogram(&[name, half.label()], &stage.took[*half as usize]);
        }
    }
}

fn shards(page: &mut Page, shared: &Shared) {
    let core_names: Vec<String> = (0..shared.cores.len()).map(|it| it.to_string()).collect();
    let of_core = |core: usize| {
        let loads = shared.shards.iter().filter(move |it| it.core() == core);
        loads.map(|shard| shard.load())
    };
    let mut samples = page.metric(&names::LANES);
    for (core, name) in core_names.iter().enumerate() {
        let busy: usize = of_core(core).map(|load| load.busy).sum();
        let kept: usize = of_core(core).map(|load| load.kept).sum();
        samples.value(&[name, "busy"], busy);
        samples.value(&[name, "kept"], kept);
    }
    let mut samples = page.metric(&names::LANE_QUEUED);
    for (core, name) in core_names.iter().enumerate() {
        samples.value(
            &[name],
            of_core(core).map(|load| load.queued).sum::<usize>(),
        );
    }
    let shards = shared.shards.iter().enumerate();
    let shards: Vec<_> = shards
        .map(|(index, shard)| (&*core_names[shard.core()], index.to_string(), shard.load()))
        .collect();
    let mut samples = page.metric(&names::SHARD_EVENTS);
    for (core, shard, load) in &shards {
        samples.value(&[core, shard], load.events);
    }
    let mut samples = page.metric(&names::SHARD_BYTES);
    for (core, shard, load) in &shards {
        samples.value(&[core, shard], load.bytes);
    }
    let mut samples = page.metric(&names::SHARD_MAILBOX);
    for (core, shard, load) in &shards {
        samples.value(&[core, shard], load.events.saturating_sub(load.queued));
    }
}

fn actors(page: &mut Page, shared: &Shared) {
    let metrics = &shared.metrics;
    let mut samples = page.metric(&names::RESTARTS);
    for child in ChildKind::ALL {
        samples.value(&[child.label()], metrics.restarts[child as usize].get());
    }
    let mut samples = page.metric(&names::PARKS);
    for child in ChildKind::ALL {
        samples.value(&[child.label()], metrics.parks[child as usize].get());
    }
    let shards = shared.shards.iter().filter(|it| it.seat.is_parked());
    let stages = shared.cores.iter().flat_map(|core| core.roster.stages());
    let stages = stages.filter(|(_, stage)| stage.seat.is_parked());
    page.metric(&names::PARKED)
        .value(&[ChildKind::Shard.label()], shards.count())
        .value(&[ChildKind::Interceptor.label()], stages.count());
}

fn streams(page: &mut Page, shared: &Shared) {
    let open = shared.streams.get();
    page.metric(&names::STREAMS).value(&[], open);
    let mut samples = page.metric(&names::STREAM_ENDS);
    let kinds = [EventKind::Stream, EventKind::StreamBidirectional];
    for (two_way, kind) in kinds.iter().enumerate() {
        for (at, reason) in STREAM_ENDS.iter().enumerate() {
            let cells = shared.metrics.cores.iter();
            let count: u64 = cells.map(|core| core.stream_ends[two_way][at].get()).sum();
            samples.value(&[kind.name(), reason], count);
        }
    }
}

fn workers(page: &mut Page, shared: &Shared) {
    let pools = shared.pools.all();
    let rolls: Vec<_> = pools
        .iter()
        .map(|pool| (pool, pool.roll().workers))
        .collect();
    let mut samples = page.metric(&names::WORKERS);
    for (pool, workers) in &rolls {
        for state in WorkerState::ALL {
            let of = workers.iter().filter(|worker| worker.state() == state);
            let count = of.count();
            if count > 0 || matches!(state, WorkerState::Ready | WorkerState::Working) {
                samples.value(&[pool.name(), state.name()], count);
            }
        }
    }
    let mut samples = page.metric(&names::WORKER_MEMORY);
    for (pool, workers) in &rolls {
        let memory = workers.iter().filter_map(|worker| worker.memory());
        samples.value(&[pool.name()], memory.sum::<u64>());
    }
    let mut samples = page.metric(&names::WORKER_REQUESTS);
    for pool in &pools {
        samples.value(&[pool.name()], pool.requests());
    }
    let mut samples = page.metric(&names::WORKER_JOBS);
    for (pool, workers) in &rolls {
        let jobs = workers.iter().map(|worker| worker.jobs());
        samples.value(&[pool.name()], jobs.sum::<u64>());
    }
    let mut samples = page.metric(&names::WORKER_RESTARTS);
    for pool in &pools {
        samples.value(&[pool.name()], pool.counts().restarts.get());
    }
    let mut samples = page.metric(&names::WORKER_LATE);
    for pool in &pools {
        samples.value(&[pool.name()], pool.counts().late.get());
    }
    let mut samples = page.metric(&names::WORKER_DROPPED);
    for pool in &pools {
        samples.value(&[pool.name()], pool.counts().dropped.get());
    }
    let mut samples = page.metric(&names::WORKER_REFUSED);
    for pool in &pools {
        let counts = pool.counts();
        samples.value(&[pool.name(), "queue_size"], counts.refused.get());
        samples.value(&[pool.name(), "no_free_workers"], counts.waited_out.get());
    }
    let mut samples = page.metric(&names::WORKER_FLAWS);
    for pool in &pools {
        samples.value(&[pool.name()], pool.flaws().count());
    }
}

/// Events between nodes; `held` are those that wait here, and their bytes.
pub(super) fn forwarding(page: &mut Page, counts: &Counts, held: (usize, usize)) {
    page.metric(&names::FORWARD_EVENTS)
        .value(&["local"], counts.local.get())
        .value(&["forwarded"], counts.forwarded.get())
        .value(&["received"], counts.received.get());
    let mut samples = page.metric(&names::FORWARD_BOUNCED);
    for (side, cells) in [("ingress", &counts.bounced), ("owner", &counts.sent_back)] {
        for (reason, count) in BOUNCES.iter().zip(cells) {
            samples.value(&[side, reason], count.get());
        }
    }
    page.metric(&names::FORWARD_RESENT)
        .value(&[], counts.resent.get());
    page.metric(&names::FORWARD_EXPIRED)
        .value(&[], counts.expired.get());
    page.metric(&names::FORWARD_CANCELLED)
        .value(&[], counts.cancelled.get());
    page.metric(&names::FORWARD_DROPPED)
        .value(&[], counts.dropped.get());
    let (events, bytes) = held;
    page.metric(&names::FORWARD_HELD).value(&[], events);
    page.metric(&names::FORWARD_HELD_BYTES).value(&[], bytes);
}

fn upstreams(page: &mut Page, shared: &Shared) {
    let upstreams = shared.upstreams.all();
    let standings: Vec<_> = upstreams.iter().map(|it| (it, it.standings())).collect();
    let each = || {
        standings.iter().flat_map(|(upstream, standings)| {
            let of = standings.iter().enumerate();
            of.map(|(at, standing)| (*upstream, at, standing))
        })
    };
    let mut samples = page.metric(&names::UPSTREAM_CALLS);
    for (upstream, _, standing) in each() {
        for (at, (result, count)) in CALL_RESULTS.iter().zip(standing.ended).enumerate() {
            if count > 0 || at == 0 {
                samples.value(&[upstream.name(), &standing.endpoint, result], count);
            }
        }
    }
    let mut samples = page.metric(&names::UPSTREAM_DURATIONS);
    for (upstream, at, standing) in each() {
        let mut totals = Totals::new(&EVENT_BOUNDS);
        upstream.add_times(at, &mut totals);
        samples.histogram(&[upstream.name(), &standing.endpoint], &totals);
    }
    let mut samples = page.metric(&names::UPSTREAM_IN_FLIGHT);
    for (upstream, _, standing) in each() {
        samples.value(&[upstream.name(), &standing.endpoint], standing.calls);
    }
    let mut samples = page.metric(&names::UPSTREAM_STREAMS);
    for (upstream, _, standing) in each() {
        samples.value(&[upstream.name(), &standing.endpoint], standing.streams);
    }
    let mut samples = page.metric(&names::UPSTREAM_ADDRESSES);
    for (upstream, _, standing) in each() {
        let (name, endpoint) = (upstream.name(), &*standing.endpoint);
        let well = standing.addresses - standing.ejected;
        samples.value(&[name, endpoint, "well"], well);
        samples.value(&[name, endpoint, "ejected"], standing.ejected);
    }
    let mut samples = page.metric(&names::UPSTREAM_EJECTIONS);
    for (upstream, _, standing) in each() {
        samples.value(&[upstream.name(), &standing.endpoint], standing.ejections);
    }
    let mut samples = page.metric(&names::UPSTREAM_RETRIES);
    for upstream in &*upstreams {
        let [unsent, sent] = upstream.retries();
        samples.value(&[upstream.name(), "not_sent"], unsent);
        samples.value(&[upstream.name(), "status"], sent);
    }
    let mut samples = page.metric(&names::UPSTREAM_FLAWS);
    for upstream in &*upstreams {
        samples.value(&[upstream.name()], upstream.flaws().count());
    }
}

fn traces(page: &mut Page, shared: &Shared) {
    let spans = shared.tracer.counts();
    page.metric(&names::TRACE_SPANS)
        .value(&["exported"], spans.exported)
        .value(&["dropped"], spans.dropped)
        .value(&["failed"], spans.failed);
}

fn cores(page: &mut Page, shared: &Shared) {
    let mut samples = page.metric(&names::WATCHDOG);
    for (index, core) in shared.cores.iter().enumerate() {
        samples.value(&[&index.to_string()], core.stuck.get());
    }
    let mut samples = page.metric(&names::CONNECTIONS);
    for (index, core) in shared.cores.iter().enumerate() {
        samples.value(&[&index.to_string()], core.connections.open());
    }
    let mut samples = page.metric(&names::ACCEPTED);
    for (index, core) in shared.cores.iter().enumerate() {
        samples.value(&[&index.to_string()], core.connections.accepted());
    }
}

fn publisher(page: &mut Page, publisher: &Publisher) {
    let calls = publisher.tally();
    let mut samples = page.metric(&names::CALLS);
    for (at, method) in tally::methods().enumerate() {
        let counts = calls.into_iter().flat_map(|calls| calls.of_method(at));
        for (result, count) in tally::results().zip(counts) {
            if count > 0 || (at == 0 && result == "ok") {
                samples.value(&[method, result], count);
            }
        }
    }
    let mut samples = page.metric(&names::CALL_DURATIONS);
    for (at, method) in tally::methods().enumerate() {
        let mut totals = Totals::new(&EVENT_BOUNDS);
        if let Some(took) = calls.and_then(|calls| calls.took(at)) {
            took.add_to(&mut totals);
        }
        if totals.count() > 0 || at == 0 {
            samples.histogram(&[method], &totals);
        }
    }
    let mut sizes = Totals::of_numbers(&COMMAND_BOUNDS);
    if let Some(calls) = calls {
        calls.sizes().add_to(&mut sizes);
    }
    page.metric(&names::COMMANDS).histogram(&[], &sizes);
    let stats = publisher.stats();
    page.metric(&names::RETRIES).value(&[], stats.retries);
    page.metric(&names::QUEUED).value(&[], stats.queued);
    let bytes = stats.queued_bytes;
    page.metric(&names::QUEUED_BYTES).value(&[], bytes);
    let (queue, queue_bytes) = publisher.limits();
    page.metric(&names::PUBLISHER_LIMIT)
        .value(&["queue"], queue)
        .value(&["queue_bytes"], queue_bytes);
    // An address may be listed twice, and a series only once.
    let mut endpoints: BTreeMap<String, bool> = BTreeMap::new();
    for endpoint in stats.endpoints {
        let is_up = endpoints
            .entry(endpoint.address.to_string())
            .or_insert(true);
        *is_up &= endpoint.is_up;
    }
    let mut samples = page.metric(&names::ENDPOINT_UP);
    for (address, is_up) in &endpoints {
        samples.value(&[address], u8::from(*is_up));
    }
}
