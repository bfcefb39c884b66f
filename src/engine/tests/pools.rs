//! Handlers that would hold a core: pools, and the watchdog that names them.

use super::*;
use crate::event::{Publish, Rpc};
use crate::pool::Pool;
use crate::router::Route;
use crate::watchdog::{Finding, Watch};
use std::sync::{OnceLock, mpsc};

#[tokio::test]
async fn a_handler_on_a_pool_may_block_and_the_core_goes_on() {
    let (go_on, wait) = mpsc::channel::<()>();
    let wait = Mutex::new(wait);
    let pool = Pool::new("blocking", 1);
    let blocks = move || {
        // Blocks before its first await, the worst place.
        wait.lock().unwrap().recv().unwrap();
        async { RpcReply::data(std::thread::current().name().unwrap_or_default()) }
    };
    let router = Router::new()
        .route(
            Route::of::<Rpc, _, _>(blocks)
                .matching("blocks")
                .on_pool(&pool),
        )
        .rpc("quick", || async { RpcReply::done() });
    let router = start(router).await;
    let blocked = launch(router.rpc(rpc("blocks", "1")));
    for _ in 0..100 {
        assert!(router.rpc(rpc("quick", "1")).await.result().is_some());
    }
    assert!(!blocked.is_finished());
    go_on.send(()).unwrap();
    let answer = blocked.await.unwrap();
    assert_eq!(answer.result().unwrap().data, "\"pool-blocking\"");
}

#[tokio::test]
async fn a_pool_keeps_the_order_of_a_key_and_survives_panics() {
    let trace = Trace::default();
    let seen = trace.clone();
    let pool = Pool::new("ordered", 4);
    let handler = move |Data(n): Data<u64>| {
        let seen = seen.clone();
        async move {
            seen.push(format!("start {n}"));
            tokio::task::yield_now().await;
            assert_ne!(n, 7, "boom");
            seen.push(format!("end {n}"));
            PublishReply::allow()
        }
    };
    let router = Router::new().route(Route::of::<Publish, _, _>(handler).on_pool(&pool));
    let router = start(router).await;
    let calls: Vec<_> = (0..50)
        .map(|n| launch(router.publish(publish("a", &n.to_string()))))
        .collect();
    for (n, call) in calls.into_iter().enumerate() {
        let expected = if n == 7 { Code::Internal } else { Code::Ok };
        assert_eq!(call.await.unwrap().status(), expected, "{n}");
    }
    let expected: Vec<String> = (0..50)
        .flat_map(|n| [format!("start {n}"), format!("end {n}")])
        .filter(|line| line != "end 7")
        .collect();
    assert_eq!(trace.take(), expected);
}

#[tokio::test]
async fn the_watchdog_names_the_handler_that_holds_a_core_and_no_one_afterwards() {
    static ENGINE: OnceLock<crate::engine::Engine> = OnceLock::new();
    let look = || {
        let shared = &ENGINE.get().unwrap().shared;
        let beats = shared
            .cores
            .iter()
            .map(|core| Arc::clone(&core.beat))
            .collect();
        let now = Instant::now();
        let mut watch = Watch::new(ms(100), beats, now);
        watch.look(now, &shared.activities);
        watch.look(now + ms(100), &shared.activities)
    };
    let (found, findings) = mpsc::channel();
    let handler = move |Data(waits): Data<bool>| {
        let found = found.clone();
        async move {
            if waits {
                // Named in later polls as in the first one.
                tokio::task::yield_now().await;
            }
            found.send(look()).unwrap();
            RpcReply::done()
        }
    };
    let route = Route::of::<Rpc, _, _>(handler)
        .matching("burn.*")
        .named("burner");
    let router = start(Router::new().route(route)).await;
    ENGINE.set(router.engine().clone()).unwrap();
    for data in ["false", "true"] {
        assert!(router.rpc(rpc("burn.it", data)).await.result().is_some());
        let expected = Finding::Stuck {
            core: 0,
            name: "handler `burner` of rpc `burn.*`".to_owned(),
            held: ms(100),
        };
        assert_eq!(findings.recv().unwrap(), [expected], "{data}");
    }
    assert_eq!(look(), [], "an idle core is held by nobody");
}

/// Asks the engine of the test whether its core is in some activity just now.
fn is_watched(engine: &OnceLock<crate::engine::Engine>) -> bool {
    let shared = &engine.get().unwrap().shared;
    let now = Instant::now();
    let mut watch = Watch::new(ms(100), vec![Arc::clone(&shared.cores[0].beat)], now);
    watch.look(now, &shared.activities);
    !watch.look(now + ms(100), &shared.activities).is_empty()
}

struct Parks(
    Arc<Mutex<Vec<bool>>>,
    &'static OnceLock<crate::engine::Engine>,
);

impl Interceptor for Parks {
    async fn before(&self, _: &mut Cx) -> Flow {
        tokio::task::yield_now().await;
        self.0.lock().unwrap().push(is_watched(self.1));
        Flow::Next
    }

    async fn after(&self, _: &Cx, _: &mut Outcome) {
        tokio::task::yield_now().await;
        self.0.lock().unwrap().push(is_watched(self.1));
    }
}

#[tokio::test]
async fn the_watchdog_sees_stages_that_were_set_aside_and_the_sources_of_streams() {
    static ENGINE: OnceLock<crate::engine::Engine> = OnceLock::new();
    let seen = Arc::new(Mutex::new(Vec::new()));
    let of_source = Arc::clone(&seen);
    let router = Router::new()
        .intercept_all("parks", Parks(Arc::clone(&seen), &ENGINE))
        .stream("*", move || {
            let seen = Arc::clone(&of_source);
            let items = futures_util::stream::once(async move {
                seen.lock().unwrap().push(is_watched(&ENGINE));
                crate::proto::proxy::Publication::json(&1).unwrap()
            });
            async { crate::event::StreamReply::publications(items) }
        });
    let router = start(router).await;
    ENGINE.set(router.engine().clone()).unwrap();
    let mut open = router.stream(subscribe("a")).await;
    while open.next().await.is_some() {}
    eventually("both halves and the source", || {
        seen.lock().unwrap().len() == 3
    })
    .await;
    assert_eq!(*seen.lock().unwrap(), [true; 3]);
}

#[tokio::test]
async fn events_that_wait_for_a_pool_are_counted_and_run_no_more_once_they_are_dead() {
    let (go_on, wait) = mpsc::channel::<()>();
    let wait = Arc::new(Mutex::new(wait));
    let starts = Arc::new(Mutex::new(0));
    let pool = Pool::new("full", 1);
    let counted = Arc::clone(&starts);
    let blocks = move || {
        *counted.lock().unwrap() += 1;
        wait.lock().unwrap().recv().unwrap();
        async { RpcReply::done() }
    };
    let route = Route::of::<Rpc, _, _>(blocks)
        .on_pool(&pool)
        .timeout(ms(50));
    let router = start(Router::new().route(route)).await;
    let calls: Vec<_> = (0..40).map(|_| launch(router.rpc(rpc("x", "1")))).collect();
    let waiting = || router.engine().shared.cores[0].waiting.get();
    eventually("39 events wait for the pool", || waiting() == 39).await;
    for call in calls {
        assert_eq!(call.await.unwrap().status(), Code::DeadlineExceeded);
    }
    go_on.send(()).unwrap();
    eventually("the pool is through with them", || waiting() == 0).await;
    assert_eq!(*starts.lock().unwrap(), 1, "dead events were started");
}
