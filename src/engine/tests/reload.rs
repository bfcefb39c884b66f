//! Routes, stages and limits that are replaced while events run.

use super::*;
use crate::config::{Config, fuzz_load};
use crate::config_routes::{Kept, assemble_again};
use crate::engine::limits::EngineLimits;
use crate::event::{EventKind, Rpc, StreamReply};
use crate::node::engine_config;
use crate::router::Route;
use tokio::runtime::Handle;

/// A router whose rpcs say its name, after the gate has opened if there is one.
fn named(name: &'static str, gate: Option<Arc<Notify>>) -> Router {
    Router::new().rpc("*", move || {
        let gate = gate.clone();
        async move {
            if let Some(gate) = gate {
                gate.notified().await;
            }
            RpcReply::data(&name)
        }
    })
}

fn said(answer: &TestAnswer<Rpc>) -> String {
    let data = answer.result().map(|result| result.data.clone());
    String::from_utf8(data.unwrap_or_default().to_vec()).unwrap()
}

/// Stages that are listed on the only core, by name.
fn listed(router: &TestRouter) -> Vec<String> {
    let stages = router.engine().shared.cores[0].roster.stages();
    let names = stages.iter().map(|(_, stage)| stage.name().to_owned());
    names.collect()
}

fn limits(router: &TestRouter, change: impl FnOnce(&mut EngineLimits)) {
    let mut limits = engine_config(&Config::default()).limits;
    change(&mut limits);
    router.engine().set_limits(&limits);
}

#[tokio::test(start_paused = true)]
async fn an_event_ends_under_the_routes_that_let_it_in_and_later_ones_meet_the_new() {
    let gate = Arc::new(Notify::new());
    let router = start(named("old", Some(Arc::clone(&gate)))).await;
    let early = launch(router.rpc(rpc("a", "1")));
    eventually("it is in flight", || router.engine().in_flight() == 1).await;
    router.engine().replace(named("new", None)).unwrap();
    assert_eq!(said(&router.rpc(rpc("a", "1")).await), "\"new\"");
    gate.notify_waiters();
    assert_eq!(said(&early.await.unwrap()), "\"old\"");
}

/// Publishes that write down their turn, under the name of their plan.
fn turns(name: &'static str, trace: &Trace) -> Router {
    let trace = trace.clone();
    Router::new().publish("*", move |Data(n): Data<u64>| {
        let trace = trace.clone();
        async move {
            trace.push(format!("start {n} {name}"));
            sleep(ms(10)).await;
            trace.push(format!("end {n}"));
            PublishReply::allow()
        }
    })
}

#[tokio::test(start_paused = true)]
async fn events_of_a_key_stay_in_order_and_never_overlap_when_its_handler_is_replaced() {
    let trace = Trace::default();
    let router = start(turns("p0", &trace)).await;
    let mut calls = Vec::new();
    for n in 0..30_u64 {
        calls.push(launch(router.publish(publish("chat:1", &n.to_string()))));
        tokio::task::yield_now().await;
        match n {
            9 => router.engine().replace(turns("p1", &trace)).unwrap(),
            19 => router.engine().replace(turns("p2", &trace)).unwrap(),
            _ => {}
        }
    }
    for call in calls {
        assert!(call.await.unwrap().result().is_some());
    }
    let expected: Vec<String> = (0..30)
        .flat_map(|n| [format!("start {n} p{}", n / 10), format!("end {n}")])
        .collect();
    assert_eq!(trace.take(), expected);
}

#[tokio::test(start_paused = true)]
async fn an_open_stream_outlives_its_route_and_ends_through_the_stages_that_it_came_by() {
    let trace = Trace::default();
    let before = Router::new()
        .intercept_all("old", trace.spy("old"))
        .stream("*", || async { StreamReply::silent() });
    let router = start(before).await;
    let mut stream = router.stream(subscribe("a")).await;
    assert!(stream.is_accepted());
    let after = Router::new().intercept_all("new", trace.spy("new"));
    router.engine().replace(after).unwrap();
    let refused = router.stream(subscribe("b")).await;
    assert!(!refused.is_accepted(), "its route is gone");
    assert_eq!(
        listed(&router),
        ["old", "new"],
        "the stream needs its stage"
    );
    assert_eq!(trace.take(), ["old>", "new>", "<new no_route"]);
    stream.cancel();
    eventually("the stream has ended", || trace.len() == 1).await;
    assert_eq!(trace.take(), ["<old stream_cancelled"]);
    eventually("its stage is gone", || listed(&router) == ["new"]).await;
}

#[tokio::test(start_paused = true)]
async fn a_stage_that_stays_keeps_its_actor_and_one_that_goes_ends_with_its_last_event() {
    let trace = Trace::default();
    let stay: Arc<dyn crate::interceptor::AnyInterceptor> = Arc::new(trace.spy("stay"));
    let gate = Arc::new(Notify::new());
    let router = |name: &'static str, gate| {
        named(name, gate).stage("stay".to_owned(), crate::On::All, Arc::clone(&stay))
    };
    let first = router("old", Some(Arc::clone(&gate)));
    let first = first.intercept(EventKind::Rpc, "go", trace.spy("go"));
    let second = router("new", None);
    let router = start(first).await;
    let plan = router.engine().shared.plan.load_full();
    let seats = [0, 1].map(|at| plan.chains[0].stages[at].stage().seat.occupant().unwrap());
    drop(plan);
    let early = launch(router.rpc(rpc("a", "1")));
    eventually("it is at its handler", || trace.len() == 2).await;
    router.engine().replace(second).unwrap();
    router.rpc(rpc("a", "1")).await;
    let plan = router.engine().shared.plan.load_full();
    let now = plan.chains[0].stages[0].stage().seat.occupant().unwrap();
    assert_eq!(now.get_id(), seats[0].get_id());
    assert_eq!(seats[1].get_status(), ractor::ActorStatus::Running);
    gate.notify_waiters();
    early.await.unwrap();
    eventually("the stage that nothing needs has stopped", || {
        seats[1].get_status() == ractor::ActorStatus::Stopped
    })
    .await;
    assert_eq!(seats[0].get_status(), ractor::ActorStatus::Running);
    let lines = trace.take();
    let expected = ["stay>", "go>", "stay>", "<stay ok", "<go ok", "<stay ok"];
    assert_eq!(lines, expected);
}

#[tokio::test]
async fn a_thousand_replacements_leave_no_actor_task_or_name_behind() {
    let trace = Trace::default();
    let plan = |n: u32| {
        let names = ["even", "odd"];
        let name = names[n as usize % 2];
        named(name, None)
            .intercept_all(format!("all {name}"), trace.spy("all"))
            .intercept(EventKind::Rpc, "rpc", trace.spy("rpc"))
    };
    let router = start(plan(0)).await;
    router.rpc(rpc("a", "1")).await;
    let tasks = || Handle::current().metrics().num_alive_tasks();
    let before = tasks();
    for n in 1..=1000 {
        router.engine().replace(plan(n)).unwrap();
        let expected = if n % 2 == 0 { "\"even\"" } else { "\"odd\"" };
        assert_eq!(said(&router.rpc(rpc("a", "1")).await), expected);
    }
    eventually("what was replaced has ended", || {
        listed(&router).len() == 2 && tasks() <= before
    })
    .await;
    let page = crate::metrics::page(router.engine(), None).unwrap();
    let routes = |line: &&str| line.starts_with("centripeta_events_total{kind=\"rpc\",route=\"*\"");
    // Both routers' handlers are one closure and have one name.
    let counts: Vec<&str> = page.lines().filter(routes).collect();
    assert_eq!(counts.len(), 1, "{counts:?}");
    assert!(counts[0].ends_with(" 1001"), "{counts:?}");
}

#[tokio::test(start_paused = true)]
async fn counters_go_on_where_they_were_and_those_of_routes_that_are_gone_stay() {
    let route = |name: &'static str| {
        let handler = move || async move { RpcReply::data(&name) };
        Router::new().route(Route::of::<Rpc, _, _>(handler).matching(name).named("says"))
    };
    let router = start(route("a")).await;
    let count = |route: &str| {
        let page = crate::metrics::page(router.engine(), None).unwrap();
        let start = format!(
            "centripeta_events_total{{kind=\"rpc\",route=\"{route}\",handler=\"says\",\
             outcome=\"ok\"}} "
        );
        let found = page.lines().find_map(|line| line.strip_prefix(&start));
        found.map(|count| count.parse::<u64>().unwrap())
    };
    router.rpc(rpc("a", "1")).await;
    assert_eq!((count("a"), count("b")), (Some(1), None));
    router.engine().replace(route("b")).unwrap();
    router.rpc(rpc("b", "1")).await;
    assert_eq!((count("a"), count("b")), (Some(1), Some(1)));
    router.engine().replace(route("a")).unwrap();
    router.rpc(rpc("a", "1")).await;
    assert_eq!((count("a"), count("b")), (Some(2), Some(1)));
}

#[tokio::test(start_paused = true)]
async fn a_lowered_limit_refuses_until_what_is_in_flight_is_below_it() {
    let gate = Arc::new(Notify::new());
    let router = start(named("held", Some(Arc::clone(&gate)))).await;
    let held: Vec<_> = (0..3).map(|_| launch(router.rpc(rpc("a", "1")))).collect();
    eventually("three are in flight", || router.engine().in_flight() == 3).await;
    limits(&router, |limits| limits.in_flight = 2);
    let refused = router.rpc(rpc("a", "1")).await;
    assert_eq!(refused.error().map(|error| error.code), Some(111));
    gate.notify_waiters();
    for call in held {
        assert_eq!(said(&call.await.unwrap()), "\"held\"");
    }
    router.engine().replace(named("free", None)).unwrap();
    assert_eq!(said(&router.rpc(rpc("a", "1")).await), "\"free\"");
}

#[tokio::test(start_paused = true)]
async fn changed_times_and_sizes_hold_for_the_next_event() {
    let never = || async { std::future::pending::<RpcReply>().await };
    let router = start(Router::new().rpc("*", never)).await;
    limits(&router, |limits| {
        limits.timeout = ms(70);
        limits.message_bytes = 200;
    });
    let begun = Instant::now();
    assert_eq!(
        router.rpc(rpc("a", "1")).await.status(),
        Code::DeadlineExceeded
    );
    assert!(begun.elapsed() < ms(80), "{:?}", begun.elapsed());
    let large = router.rpc(rpc("a", &"9".repeat(300))).await;
    assert_eq!(large.status(), Code::OutOfRange, "{large:?}");
}

#[tokio::test(start_paused = true)]
async fn a_router_that_contradicts_itself_is_refused_and_what_runs_stays() {
    let router = start(named("old", None)).await;
    let twice = named("one", None).merge(named("two", None));
    let trace = Trace::default();
    let why = router
        .engine()
        .replace(twice.intercept_all("new", trace.spy("new")))
        .unwrap_err();
    assert!(why.to_string().contains("rpc `*`"), "{why}");
    assert_eq!(said(&router.rpc(rpc("a", "1")).await), "\"old\"");
    assert!(listed(&router).is_empty() && trace.len() == 0);
}

#[tokio::test(start_paused = true)]
async fn a_supervisor_that_is_killed_starts_the_stages_of_the_plan_that_runs_now() {
    let trace = Trace::default();
    let router = start(named("old", None).intercept_all("old", trace.spy("old"))).await;
    let new = named("new", None).intercept_all("new", trace.spy("new"));
    router.engine().replace(new).unwrap();
    router.rpc(rpc("a", "1")).await;
    eventually("the old one is gone", || listed(&router) == ["new"]).await;
    let roster = Arc::clone(&router.engine().shared.cores[0].roster);
    let killed = roster.supervisor.occupant().unwrap();
    killed.kill();
    eventually("another supervisor sits there", || {
        let now = roster.supervisor.occupant();
        now.is_some_and(|now| now.get_id() != killed.get_id())
    })
    .await;
    // One more stage, for the new supervisor.
    let more = named("more", None).intercept_all("more", trace.spy("more"));
    router.engine().replace(more).unwrap();
    trace.take();
    assert_eq!(said(&router.rpc(rpc("a", "1")).await), "\"more\"");
    assert_eq!(trace.take(), ["more>", "<more ok"]);
    eventually("nothing else is left", || listed(&router) == ["more"]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn every_event_of_a_steady_load_is_answered_by_one_of_the_routers() {
    let trace = Trace::default();
    let plan = |n: usize| {
        let name = ["p0", "p1", "p2"][n % 3];
        let router = named(name, None);
        match n % 2 {
            0 => router.intercept_all("even", trace.spy("even")),
            _ => router.intercept_all(name, trace.spy("odd")),
        }
    };
    let router = start(plan(0)).await;
    let is_over = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let callers: Vec<_> = (0..8)
        .map(|_| {
            let (router, is_over) = (router.clone(), Arc::clone(&is_over));
            tokio::spawn(async move {
                let mut answered = 0;
                while !is_over.load(std::sync::atomic::Ordering::Relaxed) {
                    let answer = router.rpc(rpc("a", "1")).await;
                    let name = said(&answer);
                    assert!(
                        ["\"p0\"", "\"p1\"", "\"p2\""].contains(&&*name),
                        "{answer:?}"
                    );
                    answered += 1;
                }
                answered
            })
        })
        .collect();
    for n in 1..=300 {
        router.engine().replace(plan(n)).unwrap();
        let expected = format!("\"p{}\"", n % 3);
        assert_eq!(said(&router.rpc(rpc("a", "1")).await), expected, "{n}");
    }
    is_over.store(true, std::sync::atomic::Ordering::Relaxed);
    for caller in callers {
        assert!(caller.await.unwrap() > 0);
    }
    eventually("stages of old plans are gone", || {
        listed(&router).len() == 1
    })
    .await;
}

const LIMITED: &str = "[[interceptor]]\nname = \"slow\"\non = \"rpc\"\nkind = \"limit\"\n\
                       rate = 0.001\nburst = 2\n[[route]]\non = \"rpc\"\nhandler = \"echo\"\n";

#[tokio::test(start_paused = true)]
async fn a_limit_whose_settings_stay_keeps_its_buckets_and_a_changed_one_begins_anew() {
    let assembled = |toml: &str, before: &Kept| {
        let config = fuzz_load(toml.as_bytes()).unwrap().config;
        assemble_again(&config, Router::new().with_config_routes(), before).unwrap()
    };
    let (first, kept) = assembled(LIMITED, &Kept::default());
    let router = start(first).await;
    let is_let_in = async || router.rpc(rpc("a", "1")).await.result().is_some();
    assert!(is_let_in().await && is_let_in().await && !is_let_in().await);
    // Another line, another event, the same settings.
    let moved = format!(
        "\n{}",
        LIMITED.replace("on = \"rpc\"\nkind", "on = \"*\"\nkind")
    );
    let (second, kept) = assembled(&moved, &kept);
    router.engine().replace(second).unwrap();
    assert!(!is_let_in().await, "the bucket is as it was");
    let (third, _) = assembled(&LIMITED.replace("burst = 2", "burst = 1"), &kept);
    router.engine().replace(third).unwrap();
    assert!(is_let_in().await && !is_let_in().await, "a bucket of one");
}

#[tokio::test]
async fn a_pool_of_the_configuration_runs_its_handler_and_outlives_a_reload() {
    let toml = "[[route]]\non = \"rpc\"\nhandler = \"echo\"\npool = 1\n";
    let assembled = |before: &Kept| {
        let config = fuzz_load(toml.as_bytes()).unwrap().config;
        assemble_again(&config, Router::new().with_config_routes(), before).unwrap()
    };
    let (first, kept) = assembled(&Kept::default());
    let router = start(first).await;
    assert_eq!(said(&router.rpc(rpc("a", "1")).await), "1");
    let (second, kept) = assembled(&kept);
    drop(kept);
    router.engine().replace(second).unwrap();
    assert_eq!(said(&router.rpc(rpc("a", "2")).await), "2");
}
