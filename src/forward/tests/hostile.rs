//! Frames of a peer that no node of ours would send.

use super::net::publish;
use super::{Net, ms};
use crate::answer::fault;
use crate::event::{EventKind, PublishReply};
use crate::forward::message::{EVENT, Entry, EventMessage, kind_code};
use crate::forward::{Wire, outcome};
use crate::outcome::Outcome;
use crate::router::Router;
use centripeta_cluster::peer::Outcome as LinkOutcome;
use centripeta_cluster::slot_of;
use prost::Message;
use tokio::time::Instant;

fn router(_: usize) -> Router {
    Router::new().publish("*", || async { PublishReply::allow() })
}

#[tokio::test]
async fn an_event_with_more_metadata_than_fits_is_refused_and_the_link_goes_on() {
    let net = Net::of(2, router).await;
    let channel = net.channel(1);
    let event = |metadata: Vec<Entry>| EventMessage {
        slot: Some(slot_of(channel.as_bytes()).index().into()),
        version: net.table.version(),
        kind: kind_code(EventKind::Publish),
        hop: 1,
        raw: publish(&channel, "1").encode_to_vec().into(),
        metadata,
        ..EventMessage::default()
    };
    let ask = async |event: EventMessage| {
        let (to, payload) = (net.nodes[1].member.id, event.encode_to_vec().into());
        let deadline = Instant::now() + ms(20_000);
        let links: &dyn Wire = &net.nodes[0].links;
        let answer = links.request(to, EVENT, payload, deadline).unwrap();
        let reply = answer.wait().await.unwrap();
        assert_eq!(reply.outcome, LinkOutcome::Answered);
        outcome::decode(EventKind::Publish, reply.payload)
    };
    let named = |n: usize| Entry {
        name: format!("x-{n}").into(),
        value: "1".into(),
    };
    for _ in 0..3 {
        let refused = ask(event((0..24_577).map(named).collect())).await;
        let why = fault(&refused).unwrap_or_default();
        assert!(why.contains("more than 16384 names"), "{refused:?}");
        let blank = ask(event(vec![Entry::default(); 24_577])).await;
        assert!(matches!(blank, Outcome::Reply(_)), "{blank:?}");
        let fine = net.nodes[0].router.publish(publish(&channel, "1")).await;
        assert!(fine.result().is_some(), "{fine:?}");
    }
}
