//! Nodes that are reloaded one after the other.

use super::Net;
use super::net::{eventually, publish, rpc};
use crate::RpcReply;
use crate::event::{Publish, PublishReply};
use crate::router::{Route, Router};
use centripeta_cluster::Serves;
use std::future::IntoFuture;
use tonic::Code;

async fn allow() -> PublishReply {
    PublishReply::allow()
}

async fn done() -> RpcReply {
    RpcReply::done()
}

fn new() -> Router {
    Router::new().publish("*", allow)
}

/// What came back to node 0 as behind.
fn behind(net: &Net) -> u64 {
    net.nodes[0].counts().bounced[3].get()
}

#[tokio::test]
async fn an_event_waits_until_its_owner_has_the_route_or_the_key_that_its_ingress_has() {
    let old: [fn() -> Router; 2] = [
        || Router::new().route(Route::of::<Publish, _, _>(allow).key("user")),
        || Router::new().rpc("*", done),
    ];
    for old in old {
        let net = Net::of(2, |at| if at == 0 { new() } else { old() }).await;
        let channel = net.channel(1);
        let call = net.nodes[0].router.publish(publish(&channel, "1"));
        let call = tokio::spawn(call.into_future());
        eventually("it came back", || behind(&net) > 0).await;
        assert!(!call.is_finished());
        net.nodes[1].router.engine().replace(new()).unwrap();
        assert_eq!(call.await.unwrap().status(), Code::Ok);
    }
}

#[tokio::test]
async fn an_event_without_a_key_goes_to_a_server_that_has_its_route() {
    let served = |at: usize| match at {
        0 | 2 => Router::new().rpc("*", done),
        _ => new(),
    };
    let net = Net::with(3, served, |at, node| {
        node.serves = Serves {
            connect: true,
            channel: true,
            rpc: if at == 0 {
                Vec::new()
            } else {
                vec!["*".to_owned()]
            },
        };
    })
    .await;
    for _ in 0..20 {
        let answer = net.nodes[0].router.rpc(rpc("a", "1")).await;
        assert_eq!(answer.status(), Code::Ok);
    }
}
