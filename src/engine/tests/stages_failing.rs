//! Stages around failures, and failures of stages.

use super::*;
use crate::event::{EventKind, Rpc};

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
    assert_ne!((answer.status(), answer.is_empty()), (Code::Ok, true));
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
