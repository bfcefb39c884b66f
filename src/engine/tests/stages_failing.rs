//! Stages around failures, and failures of stages.

use super::*;
use crate::event::{EventKind, Rpc};
use futures_util::StreamExt;

#[tokio::test(start_paused = true)]
async fn stages_on_all_see_no_route_torn_bytes_bad_data_panics_and_deadlines() {
    let trace = Trace::default();
    let router = Router::new()
        .intercept_all("all", trace.spy("all"))
        .rpc("data", |Data(_): Data<u32>| async { RpcReply::done() })
        .rpc("panics", || async {
            if Instant::now().elapsed() < Duration::MAX {
                panic!("boom");
            }
            RpcReply::done()
        })
        .rpc("hangs", || async {
            std::future::pending::<()>().await;
            RpcReply::done()
        });
    let router = start(router).await;

    let unknown = router.rpc(rpc("nothing", "1")).await;
    assert_eq!(unknown.error().unwrap().code, 104);
    assert_eq!(trace.take(), ["all>", "<all no_route"]);

    let torn = router.encoded::<Rpc>(&b"\x5a\xff"[..]).await;
    assert_eq!(torn.status(), Code::InvalidArgument);
    assert_eq!(trace.take(), ["all>", "<all undecodable"]);

    let bad = router.rpc(rpc("data", "\"text\"")).await;
    assert_eq!(bad.error().unwrap().code, 107);
    assert_eq!(trace.take(), ["all>", "<all bad_data"]);

    let panic = router.rpc(rpc("panics", "1")).await;
    assert_eq!(panic.status(), Code::Internal);
    assert_eq!(
        panic.status_message(),
        "internal error",
        "and no word of the cause"
    );
    assert_eq!(trace.take(), ["all>", "<all panic"]);

    let late = router.rpc(rpc("hangs", "1")).timeout(ms(200)).await;
    assert_eq!(late.status(), Code::DeadlineExceeded);
    assert_eq!(trace.take(), ["all>", "<all timeout"]);

    let raw = router.raw("Whatever", bytes::Bytes::new()).await;
    assert_eq!(raw.status(), Code::Unimplemented);
    assert_eq!(trace.take(), ["all>", "<all no_route"]);
}

struct Panics {
    waits: bool,
    after: bool,
}

impl Interceptor for Panics {
    async fn before(&self, cx: &mut Cx) -> Flow {
        if !self.after && cx.header("x-panic").is_some() {
            if self.waits {
                sleep(ms(1)).await;
            }
            panic!("in before");
        }
        Flow::Next
    }

    async fn after(&self, cx: &Cx, _: &mut Outcome) {
        if self.after && cx.header("x-panic").is_some() {
            if self.waits {
                sleep(ms(1)).await;
            }
            panic!("in after");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_panic_in_either_half_is_one_internal_answer_and_the_stage_goes_on() {
    for after in [false, true] {
        for waits in [false, true] {
            let trace = Trace::default();
            let router = Router::new()
                .intercept_all("outer", trace.spy("outer"))
                .intercept_all("panics", Panics { waits, after })
                .rpc("*", || async { RpcReply::done() });
            let router = start(router).await;
            for _ in 0..10 {
                let panic = router.rpc(rpc("a", "1")).metadata("x-panic", "1").await;
                assert_eq!(panic.status(), Code::Internal);
                assert_eq!(trace.take(), ["outer>", "<outer panic"]);
                let next = router.rpc(rpc("a", "1")).await;
                assert!(next.result().is_some(), "{next:?}");
                trace.take();
            }
            assert_eq!(router.engine().ready(), Ok(()));
        }
    }
}

struct Hangs {
    after: bool,
    trace: Trace,
}

impl Interceptor for Hangs {
    async fn before(&self, _: &mut Cx) -> Flow {
        if !self.after {
            let _spy = DropSpy(self.trace.clone(), "before".to_owned());
            std::future::pending::<()>().await;
        }
        Flow::Next
    }

    async fn after(&self, _: &Cx, _: &mut Outcome) {
        if self.after {
            let _spy = DropSpy(self.trace.clone(), "after".to_owned());
            std::future::pending::<()>().await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn at_the_deadline_a_waiting_before_half_is_dropped_and_stages_outside_see_it() {
    let trace = Trace::default();
    let hangs = Hangs {
        after: false,
        trace: trace.clone(),
    };
    let router = Router::new()
        .intercept_all("outer", trace.spy("outer"))
        .intercept_all("hangs", hangs)
        .rpc("*", || async { RpcReply::done() });
    let router = start(router).await;
    let late = router.rpc(rpc("a", "1")).timeout(ms(100)).await;
    assert_eq!(late.status(), Code::DeadlineExceeded);
    assert_eq!(trace.take(), ["outer>", "dropped before", "<outer timeout"]);
}

#[tokio::test(start_paused = true)]
async fn an_after_half_that_hangs_is_dropped_and_the_event_is_answered_by_its_deadline() {
    let trace = Trace::default();
    let hangs = Hangs {
        after: true,
        trace: trace.clone(),
    };
    let router = Router::new()
        .intercept_all("hangs", hangs)
        .rpc("*", || async { RpcReply::done() });
    let router = start(router).await;
    let begun = Instant::now();
    let answer = router.rpc(rpc("a", "1")).timeout(ms(1000)).await;
    assert!(begun.elapsed() <= ms(1000), "{:?}", begun.elapsed());
    assert_eq!(answer.status(), Code::DeadlineExceeded);
    eventually("the half is dropped", || trace.len() == 1).await;
    assert_eq!(trace.take(), ["dropped after"]);
}

struct PanicsWhenDropped;

impl Drop for PanicsWhenDropped {
    fn drop(&mut self) {
        panic!("in drop");
    }
}

struct HoldsABomb;

impl Interceptor for HoldsABomb {
    async fn before(&self, cx: &mut Cx) -> Flow {
        if cx.header("x-bomb").is_some() {
            let _bomb = PanicsWhenDropped;
            std::future::pending::<()>().await;
        }
        Flow::Next
    }
}

#[tokio::test(start_paused = true)]
async fn a_half_that_panics_while_it_is_dropped_at_the_deadline_is_a_deadline() {
    let router = Router::new()
        .intercept(EventKind::Rpc, "bomb", HoldsABomb)
        .rpc("*", || async { RpcReply::done() });
    let router = start(router).await;
    let bomb = router.rpc(rpc("a", "1")).metadata("x-bomb", "1");
    assert_eq!(bomb.timeout(ms(100)).await.status(), Code::DeadlineExceeded);
    assert!(router.rpc(rpc("a", "1")).await.result().is_some());
    assert_eq!(router.engine().in_flight(), 0);
}

/// Takes the outcome out, puts a plain yes in its place, and never comes to the veto.
struct HangsWithAPlaceholder;

impl Interceptor for HangsWithAPlaceholder {
    async fn after(&self, _: &Cx, outcome: &mut Outcome) {
        let taken = std::mem::replace(outcome, Outcome::Reply(crate::Reply::empty()));
        std::future::pending::<()>().await;
        *outcome = taken;
    }
}

#[tokio::test(start_paused = true)]
async fn what_an_after_half_leaves_that_was_dropped_half_way_reaches_nobody() {
    for limit in [20, 100, 1000, 5000] {
        let trace = Trace::default();
        let router = Router::new()
            .intercept_all("outer", trace.spy("outer"))
            .intercept_all("hangs", HangsWithAPlaceholder)
            .rpc("*", || async { RpcReply::done() });
        let router = start(router).await;
        let answer = router.rpc(rpc("a", "1")).timeout(ms(limit)).await;
        assert_eq!(answer.status(), Code::DeadlineExceeded, "{limit} ms");
        eventually("the stage outside has seen it", || trace.len() == 2).await;
        assert_eq!(trace.take(), ["outer>", "<outer timeout"], "{limit} ms");
    }
}

/// An error of an application that can't even say what it is.
#[derive(Debug)]
struct PanicsInWords;

impl std::fmt::Display for PanicsInWords {
    fn fmt(&self, _: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        panic!("in words");
    }
}

impl std::error::Error for PanicsInWords {}

/// An error of an application that panics when it is dropped.
#[derive(Debug)]
struct PanicsAsItGoes(#[expect(dead_code, reason = "it is there to be dropped")] Bomb);

impl std::fmt::Display for PanicsAsItGoes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("goes")
    }
}

impl std::error::Error for PanicsAsItGoes {}

/// Shared by clones: the last of them panics.
#[derive(Debug, Clone)]
struct Bomb(#[expect(dead_code, reason = "it is there to be dropped")] Arc<Fuse>);

#[derive(Debug)]
struct Fuse;

impl Drop for Fuse {
    fn drop(&mut self) {
        panic!("in drop");
    }
}

fn bomb() -> Bomb {
    Bomb(Arc::new(Fuse))
}

/// Leaves a bomb among the attributes.
struct SetsABomb;

impl Interceptor for SetsABomb {
    async fn before(&self, cx: &mut Cx) -> Flow {
        if cx.header("x-attribute").is_some() {
            cx.set_attribute(bomb());
        }
        Flow::Next
    }
}

fn explosive() -> Router {
    Router::new()
        .intercept_all("sets", SetsABomb)
        .subscribe("*", || async { crate::event::SubscribeReply::allow() })
        .publish("words", || async {
            Err::<PublishReply, _>(crate::Reject::internal(PanicsInWords))
        })
        .publish("drop", || async {
            Err::<PublishReply, _>(crate::Reject::internal(PanicsAsItGoes(bomb())))
        })
        .publish("stream", || async {
            let held = bomb();
            let items = futures_util::stream::pending().map(move |item| {
                let _ = &held;
                item
            });
            // Of an event that opens none.
            Outcome::Stream(crate::reply::StreamOpen::new(
                Default::default(),
                items.boxed(),
            ))
        })
        .publish("*", || async { PublishReply::allow() })
}

#[tokio::test(start_paused = true)]
async fn errors_attributes_and_streams_that_panic_by_themselves_cost_their_event_and_no_shard() {
    use crate::engine::tests::crashes::shard_of;
    let router = start(explosive()).await;
    let shared = Arc::clone(&router.engine().shared);
    let lives = || {
        let shards = ["words", "drop", "stream", "fine"];
        shards.map(|name| {
            shard_of(&shared, name)
                .seat
                .occupant()
                .map(|it| it.get_id())
        })
    };
    let before = lives();
    assert!(before.iter().all(Option::is_some));
    for _ in 0..3 {
        for channel in ["words", "drop", "stream"] {
            let answer = router.publish(publish(channel, "1")).await;
            assert_eq!(answer.status(), Code::Internal, "{channel}");
            assert_eq!(lives(), before, "{channel}");
        }
        let call = router.publish(publish("fine", "1"));
        let answer = call.metadata("x-attribute", "1").await;
        assert!(answer.result().is_some(), "{answer:?}");
        assert_eq!(lives(), before, "an attribute");
    }
    assert_eq!(router.engine().ready(), Ok(()));
    assert_eq!(router.engine().in_flight(), 0);
}

/// Edits what a worker or an upstream has answered, as the event asks.
struct Edits;

impl Interceptor for Edits {
    async fn after(&self, cx: &Cx, outcome: &mut Outcome) {
        use crate::reply::ReplyMessage;
        let Outcome::Reply(reply) = outcome else {
            return;
        };
        let edited: &[u8] = match cx.header("x-edit") {
            Some("empty") => b"",
            // The errors 5000 and 400.
            Some("code") => b"\x12\x06\x08\x88\x27\x12\x01x",
            Some("good") => b"\x12\x06\x08\x90\x03\x12\x01x",
            _ => return,
        };
        *reply.message_mut() = ReplyMessage::Raw(bytes::Bytes::from_static(edited));
    }
}

#[tokio::test(start_paused = true)]
async fn an_interceptor_that_edits_a_foreign_reply_passes_the_gate_like_any_other() {
    let router = Router::new()
        .intercept_all("edits", Edits)
        .publish("*", || async {
            let flaws = crate::answer::Flaws::default();
            let to = (EventKind::Publish, true);
            // What is doubtful about it is the application's own, as long as nobody changes it.
            let doubtful = bytes::Bytes::from_static(b"\x12\x06\x08\x88\x27\x12\x01x");
            flaws
                .reply("h", false, to, doubtful)
                .map_or_else(Outcome::Failure, Outcome::Reply)
        });
    let router = start(router).await;
    let untouched = router.publish(publish("a", "1")).await;
    assert_eq!(untouched.error().unwrap().code, 5000);
    for edit in ["empty", "code"] {
        let edited = router.publish(publish("a", "1")).metadata("x-edit", edit);
        let edited = edited.await;
        assert_eq!(edited.status(), Code::Internal, "{edit}: {edited:?}");
    }
    let good = router.publish(publish("a", "1")).metadata("x-edit", "good");
    assert_eq!(good.await.error().unwrap().code, 400);
}
