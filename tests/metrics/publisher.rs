//! Calls to Centrifugo's server API on the page, against a stand-in of it.

use super::double::{Double, Fault};
use super::exposition::{Histogram, Page};
use super::world::World;
use super::{HUSH, LIMIT, number, parse};
use centripeta::egress::Error;
use centripeta::proto::api;
use prost::Message;
use std::collections::BTreeMap;
use std::net::TcpListener;
use std::time::Duration;

fn publication(namespace: &str) -> api::PublishRequest {
    api::PublishRequest {
        channel: format!("{namespace}:{HUSH}"),
        data: "{}".into(),
        ..Default::default()
    }
}

/// The counts of calls by method and result, but for those that are 0.
fn calls(page: &Page) -> BTreeMap<(String, String), u64> {
    let family = &page["centripeta_publisher_calls_total"];
    let counts = family.numbers.iter().map(|(labels, count)| {
        let key = (labels["api"].clone(), labels["result"].clone());
        (key, *count as u64)
    });
    counts.filter(|(_, count)| *count > 0).collect()
}

fn histogram<'a>(page: &'a Page, metric: &str, api: Option<&str>) -> &'a Histogram {
    let wanted = api.map(|api| ("api".to_owned(), api.to_owned()));
    let wanted: BTreeMap<String, String> = wanted.into_iter().collect();
    let mut all = page[metric].histograms.iter();
    &all.find(|(labels, _)| *labels == wanted).unwrap().1
}

/// Of those in a histogram, how many are not above the bound.
fn below(histogram: &Histogram, bound: f64) -> f64 {
    let mut buckets = histogram.buckets.iter();
    buckets.find(|(upper, _)| *upper == bound).unwrap().1
}

/// A node towards a stand-in that is up and an endpoint where nobody listens.
async fn world() -> (World, Double, [String; 2]) {
    let double = Double::start();
    let closed = TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoints = [
        double.endpoint().to_string(),
        format!("grpc://{}", closed.local_addr().unwrap()),
    ];
    drop(closed);
    let api = format!(
        "centrifugo.api=[\"{}\", \"{}\"]",
        endpoints[0], endpoints[1]
    );
    let world = World::start(&[&api, "centrifugo.queue=8", "centrifugo.timeout=10s"]).await;
    let up = [("endpoint", endpoints[0].as_str())];
    world
        .eventually("the stand-in is up", |page| {
            number(page, "centripeta_publisher_endpoint_up", &up) == 1.0
        })
        .await;
    (world, double, endpoints)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_to_centrifugo_count_by_method_and_by_how_they_ended() {
    let (world, double, endpoints) = world().await;
    let publisher = world.node.publisher();
    for _ in 0..3 {
        publisher.publish(publication("chat")).await.unwrap();
    }
    let unknown = publisher.publish(publication("nosuch")).await.unwrap_err();
    assert_eq!(unknown.code(), Some(102));
    let presence = api::PresenceRequest {
        channel: format!("plain:{HUSH}"),
    };
    assert_eq!(
        publisher.presence(presence).await.unwrap_err().code(),
        Some(108)
    );
    let everyone = publisher.disconnect(api::DisconnectRequest::default());
    assert!(matches!(everyone.await, Err(Error::Refused { .. })));
    let raw = publication("chat").encode_to_vec();
    publisher.raw("Publish", raw).await.unwrap();
    assert!(publisher.raw(&format!("{HUSH}!"), "").await.is_err());
    double.state.set(Fault::Slow(LIMIT));
    let hasty = publisher.timeout(Duration::from_millis(50));
    let late = hasty.publish(publication("late")).await;
    assert!(matches!(late, Err(Error::Timeout { .. })));
    double.state.set(Fault::None);

    let up = [("endpoint", endpoints[0].as_str())];
    let text = world
        .eventually("no doubt about the stand-in is left", |page| {
            number(page, "centripeta_publisher_endpoint_up", &up) == 1.0
        })
        .await;
    let page = parse(&text);
    let expected = [
        (("Publish", "ok"), 3),
        (("Publish", "error_102"), 1),
        (("Publish", "timeout"), 1),
        (("Presence", "error_108"), 1),
        (("Disconnect", "invalid"), 1),
        (("raw", "ok"), 1),
        (("raw", "invalid"), 1),
    ];
    let expected = expected.map(|((api, result), count)| {
        let key = (api.to_owned(), result.to_owned());
        (key, count)
    });
    assert_eq!(calls(&page), BTreeMap::from(expected), "{text}");
    let times = "centripeta_publisher_call_duration_seconds";
    let publish = histogram(&page, times, Some("Publish"));
    assert_eq!(publish.count, Some(5.0));
    assert!(below(publish, 0.025) < 5.0, "one had 50 ms: {publish:?}");
    assert!(
        !page[times]
            .labels()
            .any(|labels| labels["api"] == "Disconnect"),
        "it was refused at once"
    );
    let down = [("endpoint", endpoints[1].as_str())];
    let down = number(&page, "centripeta_publisher_endpoint_up", &down);
    assert_eq!(down, 0.0, "{text}");
    assert!(!text.contains(HUSH), "{text}");
    drop(double);
    world.node.shutdown(Duration::ZERO).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_queue_its_limit_and_the_sizes_of_batches_are_on_the_page() {
    let (world, double, _) = world().await;
    let publisher = world.node.publisher();
    double.state.set(Fault::Slow(Duration::from_millis(300)));
    // What is there leaves at once, the rest of eight gathers, and there is no room for the others.
    let all: Vec<_> = (0..20)
        .map(|_| publisher.publish(publication("chat")))
        .collect();
    let page = parse(&world.page().await);
    assert_eq!(number(&page, "centripeta_publisher_queued_calls", &[]), 8.0);
    assert!(number(&page, "centripeta_publisher_queued_bytes", &[]) > 8.0);
    let limit = [("limit", "queue")];
    assert_eq!(number(&page, "centripeta_publisher_limit", &limit), 8.0);
    let (mut done, mut overloaded) = (0, 0);
    for call in all {
        match call.await {
            Ok(_) => done += 1,
            Err(Error::Overloaded { .. }) => overloaded += 1,
            Err(other) => panic!("{other}"),
        }
    }
    assert_eq!((done, overloaded), (8, 12));
    let text = world
        .eventually("the queue is empty", |page| {
            number(page, "centripeta_publisher_queued_calls", &[]) == 0.0
        })
        .await;
    let page = parse(&text);
    let publish = |result: &str| calls(&page)[&("Publish".to_owned(), result.to_owned())];
    assert_eq!((publish("ok"), publish("overloaded")), (8, 12));
    let sizes = histogram(&page, "centripeta_publisher_batch_commands", None);
    let flights = sizes.count.unwrap();
    assert_eq!(sizes.sum, Some(8.0));
    assert!((1.0..=2.0).contains(&flights), "{sizes:?}");
    assert!(below(sizes, 3.0) < flights, "{sizes:?}");
    assert_eq!(below(sizes, 8.0), flights);
    world.node.shutdown(LIMIT).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_that_are_sent_again_count_as_retries_and_an_endpoint_that_is_lost_is_down() {
    let (world, mut double, endpoints) = world().await;
    double.state.set(Fault::Unavailable);
    let again = world.node.publisher().idempotent();
    assert!(again.publish(publication("chat")).await.is_err());
    let page = parse(&world.page().await);
    let retries = number(&page, "centripeta_publisher_retries_total", &[]);
    assert_eq!(retries, 2.0, "three attempts");
    double.kill();
    let down = [("endpoint", endpoints[0].as_str())];
    world
        .eventually("the endpoint is down", |page| {
            number(page, "centripeta_publisher_endpoint_up", &down) == 0.0
        })
        .await;
    world.node.shutdown(Duration::ZERO).await;
}
