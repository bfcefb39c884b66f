//! The engine as a whole: stages, shards, lanes, limits, crashes and the end.

#![allow(clippy::unwrap_used)]

mod crashes;
mod gates;
mod lanes;
mod limits;
mod pools;
mod reload;
mod shutdown;
mod slots;
mod stages;
mod stages_failing;
mod streams;
mod traces;

use crate::config::Config;
use crate::cx::Cx;
use crate::event::{PublishReply, RpcReply};
use crate::extract::{Channel, Data, Headers};
use crate::interceptor::{Flow, Interceptor};
use crate::outcome::Outcome;
use crate::proto::proxy::{PublishRequest, RpcRequest, SubscribeRequest};
use crate::router::Router;
use crate::testing::{TestAnswer, TestCall, TestRouter};
use std::future::IntoFuture;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep};
use tonic::Code;

const fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

fn publish(channel: &str, data: &str) -> PublishRequest {
    PublishRequest {
        client: "c1".to_owned(),
        protocol: "json".to_owned(),
        user: "u1".to_owned(),
        channel: channel.to_owned(),
        data: data.to_owned().into(),
        ..Default::default()
    }
}

fn rpc(method: &str, data: &str) -> RpcRequest {
    RpcRequest {
        client: "c1".to_owned(),
        protocol: "json".to_owned(),
        user: "u1".to_owned(),
        method: method.to_owned(),
        data: data.to_owned().into(),
        ..Default::default()
    }
}

fn subscribe(channel: &str) -> SubscribeRequest {
    SubscribeRequest {
        client: "c1".to_owned(),
        protocol: "json".to_owned(),
        channel: channel.to_owned(),
        ..Default::default()
    }
}

async fn start(router: Router) -> TestRouter {
    TestRouter::new(router).await.unwrap()
}

async fn start_with(router: Router, change: impl FnOnce(&mut Config)) -> TestRouter {
    let mut config = Config::default();
    change(&mut config);
    TestRouter::with_config(router, &config).await.unwrap()
}

/// Starts a call now and lets it go on by itself.
fn launch<E: crate::event::Event>(call: TestCall<E>) -> tokio::task::JoinHandle<TestAnswer<E>>
where
    E::Result: Send,
{
    tokio::spawn(call.into_future())
}

/// Waits until a condition holds.
async fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    for _ in 0..10_000 {
        if holds() {
            return;
        }
        sleep(ms(1)).await;
    }
    panic!("not within the limit: {what}");
}

/// What happened, in order.
#[derive(Debug, Clone, Default)]
struct Trace(Arc<Mutex<Vec<String>>>);

impl Trace {
    fn push(&self, line: impl Into<String>) {
        self.0.lock().unwrap().push(line.into());
    }

    fn take(&self) -> Vec<String> {
        std::mem::take(&mut self.0.lock().unwrap())
    }

    fn len(&self) -> usize {
        self.0.lock().unwrap().len()
    }

    fn spy(&self, name: &'static str) -> Spy {
        Spy {
            name,
            trace: self.clone(),
        }
    }
}

/// A stage that writes down what passes: `name>` on the way in, `<name label` on the way out.
struct Spy {
    name: &'static str,
    trace: Trace,
}

impl Interceptor for Spy {
    async fn before(&self, _: &mut Cx) -> Flow {
        self.trace.push(format!("{}>", self.name));
        Flow::Next
    }

    async fn after(&self, _: &Cx, outcome: &mut Outcome) {
        self.trace
            .push(format!("<{} {}", self.name, outcome.label()));
    }
}

/// Says when it is dropped.
struct DropSpy(Trace, String);

impl Drop for DropSpy {
    fn drop(&mut self) {
        self.0.push(format!("dropped {}", self.1));
    }
}

/// A router whose publishes take as many milliseconds as their data says, and write down their
/// start and their end.
fn timed(trace: &Trace) -> Router {
    let trace = trace.clone();
    let handler = move |Channel(channel): Channel, Headers(headers): Headers, Data(millis)| {
        let trace = trace.clone();
        async move {
            let name = headers
                .get("x-name")
                .map(|name| name.to_str().unwrap().to_owned());
            let name = name.unwrap_or(channel);
            let _spy = DropSpy(trace.clone(), name.clone());
            trace.push(format!("start {name}"));
            if millis > 0 {
                sleep(ms(millis)).await;
            }
            trace.push(format!("end {name}"));
            PublishReply::allow()
        }
    };
    Router::new().publish("*", handler)
}
