//! The parts of the event path one by one: matching, keys, slots, encoding, stages, the hop to a shard.
//!
//! `cargo bench --bench micro`; figures to compare with an earlier run on the same machine.

use bytes::Bytes;
use centripeta::answer::seal;
use centripeta::event::{EventKind, Rpc};
use centripeta::proto::proxy::RpcRequest;
use centripeta::routing::key::{KeySource, KeySpec, KeyUse};
use centripeta::routing::table::{RouteRule, RouteTable};
use centripeta::testing::TestRouter;
use centripeta::{ConnectReply, Cx, Flow, Interceptor, Outcome, Reply, Request, Route, Router};
use centripeta::{RpcReply, reply::ReplyMessage};
use criterion::{Criterion, criterion_group, criterion_main};
use std::hint::black_box;

/// A table of 100 routes, and names that match the first, the last and none.
fn matching(criterion: &mut Criterion) {
    let rule = |at: usize| RouteRule {
        kind: EventKind::Subscribe,
        pattern: Some(match at % 2 {
            0 => format!("room{at}:{{id}}"),
            _ => format!("exact{at}:lobby"),
        }),
        name: format!("route {at}"),
        payload: at,
    };
    let Ok(table) = RouteTable::build((0..100).map(rule).collect(), ":") else {
        return;
    };
    let mut group = criterion.benchmark_group("matching");
    for (name, channel) in [
        ("exact", "exact99:lobby"),
        ("captures", "room98:42"),
        ("nothing", "elsewhere:42"),
    ] {
        group.bench_function(name, |bencher| {
            bencher.iter(|| black_box(table.find(EventKind::Subscribe, black_box(channel))));
        });
    }
    group.finish();
}

/// An event for keys.
struct Seat;

impl KeySource for Seat {
    fn user(&self) -> &str {
        "user-42"
    }
    fn client(&self) -> &str {
        "97603eb5-0425-40c5-b0e2-b6b5517cf681"
    }
    fn channel(&self) -> &str {
        "showing:7"
    }
    fn method(&self) -> &str {
        "seat.hold"
    }
    fn param(&self, _: &str) -> Option<&str> {
        None
    }
    fn data(&self) -> Option<Bytes> {
        Some(Bytes::from_static(
            br#"{"seats":["A1","A2"],"showing":7,"req":"1f"}"#,
        ))
    }
    fn header(&self, _: &str) -> Option<&str> {
        None
    }
}

fn keys(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("key");
    for (name, text) in [
        ("user", "user"),
        ("channel", "channel"),
        ("template over data", "showing:{data.showing}"),
    ] {
        let Ok(key) = KeySpec::parse(text, KeyUse::Route) else {
            return;
        };
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                let key = key.evaluate(&Seat).ok().flatten();
                black_box(key.map(|key| key.slot()))
            });
        });
    }
    group.finish();
}

/// The gate and the encoding of a reply.
fn encoding(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("encoding");
    let data = Bytes::from_static(br#"{"seats":["A1","A2"],"showing":7,"req":"1f"}"#);
    group.bench_function("rpc", |bencher| {
        bencher.iter(|| {
            let mut reply = Reply::from(RpcReply::bytes(data.clone()));
            black_box(seal(EventKind::Rpc, true, &mut reply))
        });
    });
    group.bench_function("connect", |bencher| {
        bencher.iter(|| {
            let mut reply = Reply::from(ConnectReply::user("42").channel("news"));
            black_box(matches!(reply.message(), ReplyMessage::Connect(_)));
            black_box(seal(EventKind::Connect, true, &mut reply))
        });
    });
    group.finish();
}

/// A stage with both halves.
struct Pass;

impl Interceptor for Pass {
    async fn before(&self, _: &mut Cx) -> Flow {
        Flow::Next
    }
    async fn after(&self, _: &Cx, _: &mut Outcome) {}
}

/// A whole event in process on one core, behind 0 to 4 stages: the difference of two is the cost of
/// stages, that with no stage is the hop to a shard and back.
fn pipeline(criterion: &mut Criterion) {
    let Ok(runtime) = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
    else {
        return;
    };
    let mut group = criterion.benchmark_group("pipeline");
    for stages in [0_usize, 1, 2, 4] {
        let echo = |Request(request): Request<Rpc>| async move { RpcReply::bytes(request.data) };
        let echo = Route::of::<Rpc, _, _>(echo)
            .matching("bench.echo")
            .key("user");
        let mut router = Router::new().route(echo).with_state(());
        for stage in 0..stages {
            router = router.intercept_all(format!("pass{stage}"), Pass);
        }
        let Ok(router) = runtime.block_on(TestRouter::new(router)) else {
            return;
        };
        let request = RpcRequest {
            client: "c".into(),
            protocol: "json".into(),
            user: "42".into(),
            method: "bench.echo".into(),
            data: Bytes::from_static(b"{}"),
            ..RpcRequest::default()
        };
        group.bench_function(format!("{stages} stages"), |bencher| {
            bencher.iter(|| runtime.block_on(async { router.rpc(request.clone()).await }));
        });
    }
    group.finish();
}

criterion_group!(benches, matching, keys, encoding, pipeline);
criterion_main!(benches);
