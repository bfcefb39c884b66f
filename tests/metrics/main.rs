//! `/metrics` of a whole node: well-formed, right for the events fired, and what the reference, the
//! dashboard and the alerts name.
#![allow(clippy::unwrap_used)]

mod cluster;
#[allow(dead_code, reason = "other tests need the rest of it")]
#[path = "../publisher/double.rs"]
mod double;
mod exposition;
mod publisher;
mod shipped;
mod world;

use centripeta::event::EventKind;
use centripeta::proto::proxy::StreamSubscribeRequest;
use exposition::{Kind, Page};
use prom_text_format_parser::Scrape;
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::time::Duration;
use tonic::Code;
use world::World;

/// How long anything here may take.
const LIMIT: Duration = Duration::from_secs(20);

/// What every request holds in its client, user, channel and method; no label may.
const HUSH: &str = "hush";

/// Read by a library, which has to find every line, and by rules of our own that are stricter.
fn parse(text: &str) -> Page {
    let read = Scrape::parse(text).unwrap_or_else(|why| panic!("{why:?}\n{text}"));
    assert_eq!(read.to_string(), text, "what the library read of the page");
    exposition::parse(text).unwrap_or_else(|why| panic!("{why}\n{text}"))
}

/// The one number under these labels; 0 without such a sample.
fn number(page: &Page, metric: &str, wanted: &[(&str, &str)]) -> f64 {
    let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
    let wanted: BTreeMap<String, String> = wanted.iter().map(owned).collect();
    let family = &page[metric];
    assert_ne!(family.kind, Kind::Histogram, "{metric} is not one number");
    let mut numbers = family.numbers.iter();
    let found = numbers.find(|(labels, _)| *labels == wanted);
    found.map_or(0.0, |(_, number)| *number)
}

/// The counts of events by kind, route, handler and outcome, but for those that are 0.
fn events(page: &Page) -> BTreeMap<[String; 4], u64> {
    let family = &page["centripeta_events_total"];
    assert_eq!(family.kind, Kind::Counter);
    let counts = family.numbers.iter().map(|(labels, count)| {
        let key = ["kind", "route", "handler", "outcome"].map(|name| labels[name].clone());
        (key, *count as u64)
    });
    counts.filter(|(_, count)| *count > 0).collect()
}

fn file(path: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    fs::read_to_string(&path).unwrap_or_else(|why| panic!("{}: {why}", path.display()))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_page_of_a_run_is_well_formed_and_says_what_happened() {
    let world = World::start(&[]).await;
    world.fire().await;
    let text = world.page().await;
    let page = parse(&text);

    let fired = [
        ["rpc", "ok.*", "yes", "ok"],
        ["rpc", "no.*", "no", "rejected"],
        ["rpc", "", "", "no_route"],
        ["rpc", "slow.*", "slow", "timeout"],
        ["rpc", "panic.*", "panics", "panic"],
        ["rpc", "once.*", "yes", "ok"],
        ["rpc", "once.*", "yes", "overloaded"],
        ["publish", "chat:{room}", "hold", "ok"],
        ["publish", "chat:{room}", "hold", "overloaded"],
        ["rpc", "", "", "unauthenticated"],
        ["connect", "", "", "undecodable"],
        ["stream", "feed:{name...}", "feed", "stream_open"],
    ];
    let counts = [3, 2, 1, 1, 1, 1, 1, 2, 1, 1, 1, 1];
    let fired = fired.map(|labels| labels.map(str::to_owned));
    let expected: BTreeMap<_, _> = fired.into_iter().zip(counts).collect();
    assert_eq!(events(&page), expected, "{text}");

    let refused = |reason| number(&page, "centripeta_refused_total", &[("reason", reason)]);
    for reason in ["rate", "lane", "unauthenticated", "undecodable"] {
        assert_eq!(refused(reason), 1.0, "{reason}");
    }
    for reason in ["in_flight", "streams", "shard", "draining", "parked"] {
        assert_eq!(refused(reason), 0.0, "{reason}");
    }
    for gauge in ["centripeta_in_flight_events", "centripeta_open_streams"] {
        assert_eq!(number(&page, gauge, &[]), 0.0, "{gauge}");
    }
    let passed = [
        ("interceptor", "watch"),
        ("half", "before"),
        ("result", "next"),
    ];
    // All but the unauthenticated one.
    assert_eq!(
        number(&page, "centripeta_interceptor_events_total", &passed),
        15.0
    );
    let answered = [
        ("interceptor", "once"),
        ("half", "before"),
        ("result", "answered"),
    ];
    assert_eq!(
        number(&page, "centripeta_interceptor_events_total", &answered),
        1.0
    );
    let connections = ["0", "1"].map(|core| {
        let core = [("core", core)];
        number(&page, "centripeta_connections_accepted_total", &core)
    });
    assert_eq!(connections, [1.0, 1.0]);
    assert_eq!(number(&page, "centripeta_ready", &[]), 1.0);
    assert!(!text.contains(HUSH), "{text}");
    world.node.shutdown(LIMIT).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_without_room_for_its_message_counts_as_overloaded() {
    // A two-way stream is charged 64 KiB until its first message is there.
    let world = World::start(&["limits.message_bytes=16KiB", "limits.in_flight_bytes=32KiB"]).await;
    let refusal = world.two_way(Vec::new()).await.unwrap_err();
    assert_eq!(refusal.code(), Code::Unavailable);
    let page = parse(&world.page().await);
    let key = ["stream_bidirectional", "", "", "overloaded"].map(str::to_owned);
    assert_eq!(events(&page), BTreeMap::from([(key, 1)]));
    let reason = [("reason", "in_flight_bytes")];
    assert_eq!(number(&page, "centripeta_refused_total", &reason), 1.0);
    world.node.shutdown(LIMIT).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_two_way_stream_without_a_request_in_its_first_message_counts_as_undecodable() {
    let world = World::start(&[]).await;
    for messages in [Vec::new(), vec![StreamSubscribeRequest::default()]] {
        let refusal = world.two_way(messages).await.unwrap_err();
        assert_eq!(refusal.code(), Code::InvalidArgument);
    }
    let page = parse(&world.page().await);
    let key = ["stream_bidirectional", "", "", "undecodable"].map(str::to_owned);
    assert_eq!(events(&page), BTreeMap::from([(key, 2)]));
    let reason = [("reason", "undecodable")];
    assert_eq!(number(&page, "centripeta_refused_total", &reason), 2.0);
    world.node.shutdown(LIMIT).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_beyond_the_limit_counts_as_overloaded_and_not_as_open() {
    let world = World::start(&["limits.streams=1"]).await;
    let mut open = world.stream().await.unwrap();
    assert!(open.message().await.unwrap().is_some());
    let refusal = world.stream().await.unwrap_err();
    assert_eq!(refusal.code(), Code::Unavailable);
    let page = parse(&world.page().await);
    let key = |outcome| ["stream", "feed:{name...}", "feed", outcome].map(str::to_owned);
    let expected = [(key("stream_open"), 1), (key("overloaded"), 1)];
    assert_eq!(events(&page), BTreeMap::from(expected));
    let reason = [("reason", "streams")];
    assert_eq!(number(&page, "centripeta_refused_total", &reason), 1.0);
    assert_eq!(number(&page, "centripeta_open_streams", &[]), 1.0);
    drop(open);
    world.node.shutdown(LIMIT).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn times_of_events_are_in_the_buckets_where_they_belong() {
    let world = World::start(&[]).await;
    world.fire().await;
    let page = parse(&world.page().await);
    let mut times = BTreeMap::new();
    for (name, family) in &page {
        for (labels, histogram) in &family.histograms {
            // The buckets have been checked by the one who read the page.
            let (count, sum) = (histogram.count.unwrap(), histogram.sum.unwrap());
            assert_eq!(sum > 0.0, count > 0.0, "{name}: {sum} s of {count}");
            if name == "centripeta_event_duration_seconds" {
                let key = ["handler", "outcome"].map(|label| labels[label].clone());
                times.insert(key, histogram.clone());
            }
        }
    }
    let times = |handler: &str, outcome: &str| times.get(&[handler, outcome].map(str::to_owned));
    let slow = times("slow", "timeout").unwrap();
    let below = |bound: f64| {
        let bucket = slow.buckets.iter().find(|(upper, _)| *upper == bound);
        bucket.unwrap().1
    };
    assert_eq!(below(0.025), 0.0, "it ran for 50 ms");
    assert_eq!(below(f64::INFINITY), 1.0);
    // Who is refused on arrival has no time.
    assert!(times("", "unauthenticated").is_none());
    assert!(times("", "undecodable").is_some());
    world.node.shutdown(LIMIT).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_scrape_needs_the_token_and_has_no_page_where_metrics_are_off() {
    let world = World::start(&["metrics.enabled=false"]).await;
    assert!(world.rpc("ok").await.unwrap().error.is_none());
    for token in [None, Some("wrong")] {
        let (head, body) = world.get("/metrics", token).await;
        assert!(head.starts_with("HTTP/1.1 401"), "{head}");
        assert!(!body.contains("centripeta_"));
    }
    let (head, body) = world.get("/metrics", Some("sesame")).await;
    assert!(head.starts_with("HTTP/1.1 404"), "{head}");
    assert!(body.contains("metrics.enabled"), "{body}");
    world.node.shutdown(LIMIT).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn messages_that_never_arrive_count_as_timeouts() {
    let world = World::start(&[]).await;
    for kind in [EventKind::Rpc, EventKind::StreamBidirectional] {
        // Four bytes of the five before a message.
        let head = world
            .by_hand(kind, &[("grpc-timeout", "50m")], &[0; 4], false)
            .await;
        assert_eq!(head["grpc-status"], "4", "{kind}");
    }
    let page = parse(&world.page().await);
    let late = |kind: EventKind| ([kind.name(), "", "", "timeout"].map(str::to_owned), 1);
    let expected = [late(EventKind::Rpc), late(EventKind::StreamBidirectional)];
    assert_eq!(events(&page), BTreeMap::from(expected));
    world.node.shutdown(LIMIT).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn messages_that_cannot_be_decompressed_count_as_undecodable() {
    let world = World::start(&[]).await;
    let kinds = [
        EventKind::Rpc,
        EventKind::Stream,
        EventKind::StreamBidirectional,
    ];
    let mut garbage = vec![1, 0, 0, 0, 9];
    garbage.extend(b"not gzip!");
    for kind in kinds {
        for encoding in ["gzip", "br"] {
            let head = world
                .by_hand(kind, &[("grpc-encoding", encoding)], &garbage, true)
                .await;
            assert_ne!(head["grpc-status"], "0", "{kind} {encoding}");
        }
    }
    let page = parse(&world.page().await);
    let two = kinds.map(|kind| ([kind.name(), "", "", "undecodable"].map(str::to_owned), 2));
    assert_eq!(events(&page), BTreeMap::from(two));
    let reason = [("reason", "undecodable")];
    assert_eq!(number(&page, "centripeta_refused_total", &reason), 6.0);
    world.node.shutdown(LIMIT).await;
}
