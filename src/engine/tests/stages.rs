//! The order of stages and their halves, attributes, short circuits, and what a stage may change.

use super::*;
use crate::event::{EventKind, Rpc, SubscribeReply};
use crate::extract::Attribute;
use crate::proto::proxy::PublishResult;
use crate::reject::Reject;
use crate::reply::ReplyMessage;
use crate::router::Route;

#[tokio::test]
async fn stages_run_all_then_event_then_route_and_back_in_reverse_order() {
    let trace = Trace::default();
    let seen = trace.clone();
    let handler = move || {
        seen.push("handler");
        async { RpcReply::done() }
    };
    // Those on one event are named first: those on all are outermost all the same.
    let router = Router::new()
        .intercept(EventKind::Rpc, "ev1", trace.spy("ev1"))
        .intercept_all("all1", trace.spy("all1"))
        .intercept(EventKind::Publish, "other", trace.spy("other"))
        .intercept(EventKind::Rpc, "ev2", trace.spy("ev2"))
        .intercept_all("all2", trace.spy("all2"))
        .route(
            Route::of::<Rpc, _, _>(handler)
                .matching("a")
                .intercept("route", trace.spy("route")),
        );
    let router = start(router).await;
    let answer = router.rpc(rpc("a", "1")).await;
    assert!(answer.result().is_some(), "{answer:?}");
    let expected = [
        "all1>",
        "all2>",
        "ev1>",
        "ev2>",
        "route>",
        "handler",
        "<route ok",
        "<ev2 ok",
        "<ev1 ok",
        "<all2 ok",
        "<all1 ok",
    ];
    assert_eq!(trace.take(), expected);
}

struct Gatekeeper;

impl Interceptor for Gatekeeper {
    async fn before(&self, cx: &mut Cx) -> Flow {
        match cx.header("x-pass") {
            Some(_) => Flow::Next,
            None => Reject::error(401, "who are you").into(),
        }
    }

    async fn after(&self, _: &Cx, _: &mut Outcome) {
        panic!("a stage that has answered sees no outcome, and this one passes nothing on");
    }
}

#[tokio::test]
async fn a_stage_that_answers_ends_the_way_in_and_only_stages_outside_see_it() {
    let trace = Trace::default();
    let seen = trace.clone();
    let router = Router::new()
        .intercept_all("outside", trace.spy("outside"))
        .intercept_all("gate", Gatekeeper)
        .intercept_all("inside", trace.spy("inside"))
        .rpc("*", move || {
            seen.push("handler");
            async { RpcReply::done() }
        });
    let router = start(router).await;
    let refused = router.rpc(rpc("a", "1")).await;
    assert_eq!(refused.error().unwrap().code, 401);
    assert_eq!(trace.take(), ["outside>", "<outside rejected"]);
}

#[derive(Clone, PartialEq, Debug)]
struct Tenant(String);

struct SetsTenant(Trace);

impl Interceptor for SetsTenant {
    async fn before(&self, cx: &mut Cx) -> Flow {
        let tenant = cx.header("x-tenant").unwrap_or("none").to_owned();
        assert_eq!(cx.set_attribute(Tenant(tenant)), None);
        Flow::Next
    }

    async fn after(&self, cx: &Cx, _: &mut Outcome) {
        self.0.push(cx.attribute::<Tenant>().unwrap().0.clone());
    }
}

#[tokio::test]
async fn attributes_reach_inner_stages_the_handler_and_the_after_halves() {
    let trace = Trace::default();
    let router = Router::new()
        .intercept_all("tenant", SetsTenant(trace.clone()))
        .rpc(
            "*",
            |Attribute(Tenant(tenant)): Attribute<Tenant>| async move { RpcReply::data(&tenant) },
        );
    let router = start(router).await;
    let answer = router.rpc(rpc("a", "1")).metadata("x-tenant", "acme").await;
    assert_eq!(answer.result().unwrap().data, "\"acme\"");
    assert_eq!(trace.take(), ["acme"]);
}

#[tokio::test]
async fn an_attribute_that_no_stage_has_set_is_a_failure_of_ours() {
    let router = Router::new().rpc("*", |Attribute(Tenant(_)): Attribute<Tenant>| async {
        RpcReply::done()
    });
    let answer = start(router).await.rpc(rpc("a", "1")).await;
    assert_eq!(answer.status(), Code::Internal);
}

struct SlowOnDemand;

impl Interceptor for SlowOnDemand {
    async fn before(&self, cx: &mut Cx) -> Flow {
        if cx.header("x-slow-in").is_some() {
            sleep(ms(500)).await;
        }
        Flow::Next
    }

    async fn after(&self, cx: &Cx, _: &mut Outcome) {
        if cx.header("x-slow-out").is_some() {
            sleep(ms(500)).await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_slow_stage_holds_up_only_the_events_in_it() {
    let router = Router::new()
        .intercept_all("slow", SlowOnDemand)
        .rpc("*", || async { RpcReply::done() });
    let router = start(router).await;
    let begun = Instant::now();
    let slow_in = launch(router.rpc(rpc("a", "1")).metadata("x-slow-in", "1"));
    let slow_out = launch(router.rpc(rpc("a", "1")).metadata("x-slow-out", "1"));
    tokio::task::yield_now().await;
    for _ in 0..10 {
        assert!(router.rpc(rpc("a", "1")).await.result().is_some());
    }
    assert_eq!(begun.elapsed(), Duration::ZERO);
    for slow in [slow_in, slow_out] {
        assert!(slow.await.unwrap().result().is_some());
    }
    // Timers have a resolution of a millisecond.
    assert!(
        (ms(500)..ms(510)).contains(&begun.elapsed()),
        "{:?}",
        begun.elapsed()
    );
}

struct OneWay(Trace);

impl Interceptor for OneWay {
    const HAS_AFTER: bool = false;

    async fn before(&self, _: &mut Cx) -> Flow {
        self.0.push("one way");
        Flow::Next
    }

    async fn after(&self, _: &Cx, _: &mut Outcome) {
        self.0.push("never");
    }
}

#[tokio::test]
async fn a_stage_without_an_after_half_is_passed_by_on_the_way_out() {
    let trace = Trace::default();
    let router = Router::new()
        .intercept_all("outer", trace.spy("outer"))
        .intercept_all("one way", OneWay(trace.clone()))
        .rpc("*", || async { RpcReply::done() });
    let router = start(router).await;
    router.rpc(rpc("a", "1")).await;
    assert_eq!(trace.take(), ["outer>", "one way", "<outer ok"]);
}

struct Edits;

impl Interceptor for Edits {
    async fn before(&self, cx: &mut Cx) -> Flow {
        cx.edit::<crate::event::Publish>(|request| request.channel.push_str("-edited"))
            .unwrap();
        Flow::Next
    }

    async fn after(&self, _: &Cx, outcome: &mut Outcome) {
        if let Outcome::Reply(reply) = outcome
            && let ReplyMessage::Publish(result) = reply.message_mut()
        {
            result.skip_history = true;
        }
    }
}

#[tokio::test]
async fn a_stage_may_edit_the_request_and_the_reply() {
    let router = Router::new()
        .intercept(EventKind::Publish, "edits", Edits)
        .publish("chat:{room}", |Channel(channel): Channel| async move {
            PublishReply::replace(&channel)
        });
    let answer = start(router).await.publish(publish("chat:1", "1")).await;
    let expected = PublishResult {
        data: "\"chat:1-edited\"".into(),
        skip_history: true,
        ..Default::default()
    };
    assert_eq!(answer.result(), Some(&expected));
}

struct Replaces(fn() -> Outcome);

impl Interceptor for Replaces {
    async fn after(&self, _: &Cx, outcome: &mut Outcome) {
        *outcome = (self.0)();
    }
}

#[tokio::test]
async fn what_an_after_half_puts_in_is_checked_like_any_other_answer() {
    type Case = (fn() -> Outcome, Code, Option<u32>);
    let cases: [Case; 3] = [
        (|| Reject::error(409, "late no").into(), Code::Ok, Some(409)),
        (
            || Reject::error(0, "code 0 may not leave").into(),
            Code::Internal,
            None,
        ),
        (
            || crate::outcome::Failure::Deadline.into(),
            Code::DeadlineExceeded,
            None,
        ),
    ];
    for (outcome, status, error) in cases {
        let router = Router::new()
            .intercept_all("replaces", Replaces(outcome))
            .subscribe("*", || async { SubscribeReply::allow() });
        let answer = start(router).await.subscribe(subscribe("a")).await;
        assert_eq!(answer.status(), status, "{answer:?}");
        assert_eq!(answer.error().map(|error| error.code), error);
        assert!(answer.result().is_none() && !answer.is_empty());
    }
}
