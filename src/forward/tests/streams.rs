//! Streams that another node runs.

use super::Net;
use super::net::eventually;
use crate::StreamReply;
use crate::extract::{Channel, Inbound};
use crate::proto::proxy::{Publication, SubscribeRequest};
use crate::router::Router;
use futures_util::{StreamExt, stream};
use tonic::Code;

fn subscribe(channel: &str) -> SubscribeRequest {
    SubscribeRequest {
        client: "c1".to_owned(),
        protocol: "json".to_owned(),
        channel: channel.to_owned(),
        ..Default::default()
    }
}

fn router(at: usize) -> Router {
    let items = |count: u32| stream::iter((0..count).map(|n| Publication::json(&n).unwrap()));
    Router::new()
        .stream("ends{x...}", move || async move {
            StreamReply::publications(items(300))
        })
        .stream("fails{x...}", || async {
            let broken = [Ok(Publication::json(&1).unwrap()), Err("broken")];
            StreamReply::try_publications(stream::iter(broken))
        })
        .stream("silent{x...}", || async { StreamReply::silent() })
        .stream_bidirectional(
            "echo{x...}",
            move |Channel(_): Channel, inbound: Inbound| async move {
                let echo = inbound.map(move |publication| {
                    let data = String::from_utf8(publication.data.to_vec()).unwrap();
                    Publication::json(&format!("{at}:{data}")).unwrap()
                });
                StreamReply::publications(echo)
            },
        )
}

#[tokio::test]
async fn a_stream_of_another_node_brings_its_publications_and_its_end() {
    let net = Net::of(2, router).await;
    let near = &net.nodes[0];
    for (prefix, count, status) in [("ends", 300, Code::Ok), ("fails", 1, Code::Internal)] {
        let channel = net.channel_in(1, prefix);
        let mut open = near.router.stream(subscribe(&channel)).await;
        let mut seen = Vec::new();
        while let Some(publication) = open.next().await {
            seen.push(publication);
        }
        assert_eq!(seen.len(), count, "{prefix}");
        if prefix == "ends" {
            let numbers = (0..300).map(|n: u32| n.to_string());
            let got = seen
                .iter()
                .map(|it| String::from_utf8(it.data.to_vec()).unwrap());
            assert!(got.eq(numbers));
        }
        assert_eq!(open.status(), Some(status), "{prefix}");
    }
    eventually("both nodes have let the streams go", || {
        net.nodes
            .iter()
            .all(|node| node.router.engine().open_streams() == 0)
    })
    .await;
}

#[tokio::test]
async fn what_a_client_publishes_reaches_the_node_that_runs_its_stream() {
    let net = Net::of(2, router).await;
    let channel = net.channel_in(1, "echo");
    let near = &net.nodes[0].router;
    let mut open = near.stream_bidirectional(subscribe(&channel)).await;
    for n in 0..100 {
        open.publish(n.to_string());
        let echo = open.next().await.unwrap();
        assert_eq!(echo.data, format!("\"1:{n}\"").into_bytes());
    }
    drop(open);
    eventually("the far node lets the stream go with its client", || {
        net.nodes[1].router.engine().open_streams() == 0
    })
    .await;
}

#[tokio::test]
async fn a_stream_whose_node_is_lost_or_drains_ends_as_unavailable() {
    let net = Net::of(2, router).await;
    let channel = net.channel_in(1, "silent");
    let near = &net.nodes[0];
    let mut lost = near.router.stream(subscribe(&channel)).await;
    near.links.forget_peer(net.nodes[1].member.id);
    assert!(lost.next().await.is_none());
    assert_eq!(lost.status(), Some(Code::Unavailable));

    let net = Net::of(2, router).await;
    let channel = net.channel_in(1, "silent");
    let mut drained = net.nodes[0].router.stream(subscribe(&channel)).await;
    let far = net.nodes[1].router.clone();
    let shutdown = tokio::spawn(async move { far.shutdown(super::ms(5000)).await });
    assert!(drained.next().await.is_none());
    assert_eq!(drained.status(), Some(Code::Unavailable));
    assert_eq!(shutdown.await.unwrap(), (0, 0), "nothing was cut");
}
