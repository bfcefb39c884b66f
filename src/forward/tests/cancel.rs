//! Callers that go away while another node has their event.

use super::Net;
use super::net::{eventually, publish, rpc};
use crate::RpcReply;
use crate::event::PublishReply;
use crate::extract::Data;
use crate::metrics;
use crate::router::Router;
use centripeta_cluster::Serves;
use centripeta_cluster::peer::Class;
use std::future::IntoFuture;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::sync::Notify;
use tonic::Code;

/// What began, what was dropped before its end, what came to it.
#[derive(Debug, Clone, Default)]
struct Tally {
    begun: Arc<AtomicUsize>,
    dropped: Arc<AtomicUsize>,
    done: Arc<AtomicUsize>,
    go: Arc<Notify>,
}

struct Guard(Option<Tally>);

impl Drop for Guard {
    fn drop(&mut self) {
        if let Some(tally) = &self.0 {
            tally.dropped.fetch_add(1, Ordering::SeqCst);
        }
    }
}

impl Tally {
    fn begun(&self) -> usize {
        self.begun.load(Ordering::SeqCst)
    }

    fn dropped(&self) -> usize {
        self.dropped.load(Ordering::SeqCst)
    }

    fn done(&self) -> usize {
        self.done.load(Ordering::SeqCst)
    }

    /// 1 waits until it is told to go on; all else is done at once.
    async fn run<T>(self, what: u32, reply: T) -> T {
        self.begun.fetch_add(1, Ordering::SeqCst);
        let mut guard = Guard(Some(self.clone()));
        if what == 1 {
            self.go.notified().await;
        }
        guard.0 = None;
        self.done.fetch_add(1, Ordering::SeqCst);
        reply
    }

    fn router(&self) -> Router {
        let (one, two) = (self.clone(), self.clone());
        Router::new()
            .publish("*", move |Data(what): Data<u32>| {
                one.clone().run(what, PublishReply::allow())
            })
            .rpc("*", move |Data(what): Data<u32>| {
                two.clone().run(what, RpcReply::done())
            })
    }
}

/// How many events of this kind count as cancelled at a node.
fn cancelled(net: &Net, at: usize, kind: &str) -> u64 {
    let page = metrics::page(net.nodes[at].router.engine(), None).unwrap();
    let counts = page
        .lines()
        .filter(|line| line.starts_with("centripeta_events_total{"))
        .filter(|line| line.contains(&format!("\"{kind}\"")) && line.contains("\"cancelled\""))
        .map(|line| line.rsplit(' ').next().unwrap().parse::<u64>().unwrap());
    counts.sum()
}

#[tokio::test]
async fn the_owner_drops_what_runs_once_the_caller_has_gone_and_it_counts_as_it_would_here() {
    let tally = Tally::default();
    let net = Net::of(2, |_| tally.router()).await;
    for (owner, gone) in [(0, 1), (1, 2)] {
        let channel = net.channel(owner);
        let call = net.nodes[0].router.publish(publish(&channel, "1"));
        let call = tokio::spawn(call.into_future());
        eventually("it runs", || tally.begun() == gone).await;
        call.abort();
        eventually("it is dropped", || tally.dropped() == gone).await;
        let counted = || cancelled(&net, 0, "publish") == gone as u64;
        eventually("it is counted", counted).await;
    }
    assert_eq!(net.nodes[0].counts().cancelled.get(), 1);
    // The lane of the owner is free, and so is the place in the hold.
    let channel = net.channel(1);
    let next = net.nodes[0].router.publish(publish(&channel, "2")).await;
    assert_eq!(next.status(), Code::Ok);
    assert_eq!((tally.done(), net.nodes[0].held()), (1, 0));
    let member = net.nodes[1].member.id;
    assert_eq!(net.nodes[0].links.unanswered(member, Class::Data), 0);
}

#[tokio::test]
async fn what_waits_in_the_lane_of_its_owner_never_starts_once_its_caller_has_gone() {
    let tally = Tally::default();
    let net = Net::of(2, |_| tally.router()).await;
    let channel = net.channel(1);
    let (near, far) = (&net.nodes[0], net.nodes[1].member.id);
    let first = tokio::spawn(near.router.publish(publish(&channel, "1")).into_future());
    eventually("it runs", || tally.begun() == 1).await;
    let second = tokio::spawn(near.router.publish(publish(&channel, "2")).into_future());
    eventually("both came", || net.nodes[1].counts().received.get() == 2).await;
    second.abort();
    let one_left = || near.links.unanswered(far, Class::Data) == 1;
    eventually("the owner has heard of it", one_left).await;
    tally.go.notify_one();
    assert_eq!(first.await.unwrap().status(), Code::Ok);
    let third = near.router.publish(publish(&channel, "3")).await;
    assert_eq!(third.status(), Code::Ok);
    assert_eq!(
        (tally.begun(), tally.done()),
        (2, 2),
        "the second never ran"
    );
    // It was no bounce: nothing was held or sent again for it.
    let counts = near.counts();
    assert_eq!((counts.resent.get(), counts.cancelled.get()), (0, 1));
}

#[tokio::test]
async fn a_server_of_events_without_a_key_hears_of_it_too() {
    let tally = Tally::default();
    let router = |_| tally.router();
    let net = Net::with(2, router, |at, node| {
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
    let call = net.nodes[0].router.rpc(rpc("a", "1"));
    let call = tokio::spawn(call.into_future());
    eventually("it runs", || tally.begun() == 1).await;
    call.abort();
    eventually("it is dropped", || tally.dropped() == 1).await;
    assert_eq!(net.nodes[0].counts().cancelled.get(), 1);
    let counted = || cancelled(&net, 0, "rpc") == 1;
    eventually("it is counted", counted).await;
}
