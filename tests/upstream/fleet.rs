//! Several backends: balance, failures under load, ejection and return, names.

use crate::backend::{Answer, Backend};
use crate::front::{Front, handler, response};
use crate::support::{eventually, path, small_request};
use centripeta::event::EventKind;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;
use tokio::task::JoinSet;

/// Calls that never stop until told, several at once; how many were answered and how many not.
struct Load {
    stop: Arc<AtomicBool>,
    answered: Arc<AtomicUsize>,
    failed: Arc<AtomicUsize>,
    callers: JoinSet<()>,
}

impl Load {
    fn start(front: &Front) -> Self {
        let mut load = Self {
            stop: Arc::default(),
            answered: Arc::default(),
            failed: Arc::default(),
            callers: JoinSet::new(),
        };
        for _ in 0..8 {
            let (client, stop) = (front.client.clone(), Arc::clone(&load.stop));
            let (answered, failed) = (Arc::clone(&load.answered), Arc::clone(&load.failed));
            load.callers.spawn(async move {
                let (rpc, request) = (path(EventKind::Rpc), small_request(EventKind::Rpc, "a"));
                while !stop.load(Ordering::Relaxed) {
                    let reply = client.call(&rpc, &[], &request).await;
                    match reply.status {
                        Some(0) => answered.fetch_add(1, Ordering::Relaxed),
                        _ => failed.fetch_add(1, Ordering::Relaxed),
                    };
                }
            });
        }
        load
    }

    /// Waits until so many more were answered.
    async fn more(&self, count: usize) {
        let goal = self.answered.load(Ordering::Relaxed) + count;
        eventually("the load goes on", async || {
            self.answered.load(Ordering::Relaxed) >= goal
        })
        .await;
    }

    async fn end(mut self) -> usize {
        self.stop.store(true, Ordering::Relaxed);
        while let Some(ended) = self.callers.join_next().await {
            ended.unwrap();
        }
        self.failed.load(Ordering::Relaxed)
    }
}

/// How many addresses of a backend are in a state.
async fn addresses(front: &Front, backend: &Backend, state: &str) -> Option<f64> {
    let endpoint = backend.endpoint();
    let labels = format!("handler=\"b\",endpoint=\"{endpoint}\",state=\"{state}\"");
    let line = format!("centripeta_upstream_addresses{{{labels}}}");
    front.metric(&line).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_are_spread_over_all_backends() {
    let backends = [
        Backend::start(|_| Answer::Reply(response())).await,
        Backend::start(|_| Answer::Reply(response())).await,
    ];
    let front = Front::start(&[&backends[0], &backends[1]], "").await;
    let load = Load::start(&front);
    load.more(1000).await;
    assert_eq!(load.end().await, 0);
    let counts = backends.each_ref().map(Backend::count);
    assert!(counts.iter().all(|count| *count > 300), "{counts:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backend_that_lets_calls_wait_gets_few_of_them() {
    let slow = Backend::start(|_| Answer::Hang).await;
    let well = Backend::start(|_| Answer::Reply(response())).await;
    let keys = "eject = { failures = 0 }";
    let front = Front::start(&[&slow, &well], keys).await;
    let load = Load::start(&front);
    load.more(1000).await;
    load.end().await;
    assert!(slow.count() < 40, "{}", slow.count());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backend_that_leaves_by_the_rules_under_load_fails_no_event() {
    let leaving = Backend::start(|_| Answer::Reply(response())).await;
    let staying = Backend::start(|_| Answer::Reply(response())).await;
    let front = Front::start(&[&leaving, &staying], "").await;
    let load = Load::start(&front);
    load.more(300).await;
    assert!(leaving.count() > 0);
    leaving.leave();
    load.more(500).await;
    let before = leaving.count();
    load.more(500).await;
    assert_eq!(leaving.count(), before);
    assert_eq!(load.end().await, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backend_that_is_killed_under_load_is_ejected_and_returns() {
    let killed = Backend::start(|_| Answer::Reply(response())).await;
    let staying = Backend::start(|_| Answer::Reply(response())).await;
    // What was sent to the one that dies may be sent again here; what was not sent always is.
    let keys = "retry = { on = [\"UNAVAILABLE\"], budget = 1.0 }\n\
                eject = { failures = 3, time = \"300ms\", longest = \"600ms\" }";
    let front = Front::start(&[&killed, &staying], keys).await;
    let load = Load::start(&front);
    load.more(300).await;
    killed.kill();
    eventually("it is ejected", async || {
        addresses(&front, &killed, "ejected").await == Some(1.0)
    })
    .await;
    load.more(300).await;
    let address = killed.address;
    let again = Backend::start_at(address, None, |_| Answer::Reply(response())).await;
    eventually("it gets calls again", async || again.count() > 50).await;
    eventually("it is well", async || {
        addresses(&front, &again, "well").await == Some(1.0)
    })
    .await;
    assert_eq!(load.end().await, 0);
    let ejections = format!(
        "centripeta_upstream_ejections_total{{handler=\"b\",endpoint=\"{}\"}}",
        again.endpoint()
    );
    assert!(front.metric(&ejections).await.unwrap() >= 1.0);
    assert_eq!(addresses(&front, &staying, "ejected").await, Some(0.0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_retry_only_calls_that_were_on_their_way_to_a_killed_backend_fail() {
    let killed = Backend::start(|_| Answer::Reply(response())).await;
    let staying = Backend::start(|_| Answer::Reply(response())).await;
    let front = Front::start(&[&killed, &staying], "").await;
    let load = Load::start(&front);
    load.more(300).await;
    killed.kill();
    load.more(1000).await;
    // Each of the eight callers has one call under way at most.
    let failed = load.end().await;
    assert!(failed <= 8, "{failed}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_event_that_breaks_the_application_and_a_caller_in_a_hurry_eject_nobody() {
    // As servers in Go answer any error: UNKNOWN.
    let script = |seen: &crate::backend::Seen| match seen.header("x-is") {
        Some("poison") => Answer::Status(2),
        Some("slow") => Answer::Hang,
        _ => Answer::Reply(response()),
    };
    let backends = [Backend::start(script).await, Backend::start(script).await];
    let keys = "eject = { failures = 3, time = \"1m\", longest = \"1m\" }";
    let front = Front::start(&[&backends[0], &backends[1]], keys).await;
    let (rpc, request) = (path(EventKind::Rpc), small_request(EventKind::Rpc, "a"));
    for _ in 0..12 {
        let reply = front.client.call(&rpc, &[("x-is", "poison")], &request);
        assert_eq!(reply.await.status, Some(13));
        let hurry = [("x-is", "slow"), ("grpc-timeout", "30m")];
        let reply = front.client.call(&rpc, &hurry, &request).await;
        assert_eq!(reply.status, Some(4));
    }
    for backend in &backends {
        let ejected = addresses(&front, backend, "ejected").await;
        assert_eq!(ejected, Some(0.0));
    }
    let before = backends.each_ref().map(Backend::count);
    let load = Load::start(&front);
    load.more(400).await;
    assert_eq!(load.end().await, 0);
    for (backend, before) in backends.iter().zip(before) {
        assert!(backend.count() > before + 100, "both take part");
    }
}

#[tokio::test]
async fn nobody_there_is_unavailable_at_once_and_the_node_stays_ready() {
    let gone = Backend::start(|_| Answer::Reply(response())).await;
    gone.kill();
    let front = Front::start(&[&gone], "").await;
    for _ in 0..10 {
        let request = small_request(EventKind::Rpc, "a");
        let started = tokio::time::Instant::now();
        let reply = front.call(EventKind::Rpc, &request).await;
        assert_eq!((reply.status, reply.messages.len()), (Some(14), 0));
        assert!(started.elapsed() < Duration::from_secs(2));
    }
    assert_eq!(front.node.0.engine().ready(), Ok(()));
    // Though it is ejected, it is asked: there is no other.
    let address = gone.address;
    let back = Backend::start_at(address, None, |_| Answer::Reply(response())).await;
    eventually("it answers again", async || {
        let request = small_request(EventKind::Rpc, "a");
        front.call(EventKind::Rpc, &request).await.status == Some(0)
    })
    .await;
    assert!(back.count() > 0);
}

#[tokio::test]
async fn every_address_of_a_name_is_used_and_a_name_that_is_none_is_unavailable() {
    let backend = Backend::start(|_| Answer::Reply(response())).await;
    let port = backend.address.port();
    let named = format!("grpc://localhost:{port}");
    let front = Front::start_with(&handler(std::slice::from_ref(&named), "")).await;
    let request = small_request(EventKind::Rpc, "a");
    let reply = front.call(EventKind::Rpc, &request).await;
    assert_eq!(reply.message(), &response());
    let labels = format!("handler=\"b\",endpoint=\"{named}\",state=\"well\"");
    let line = format!("centripeta_upstream_addresses{{{labels}}}");
    assert!(front.metric(&line).await.unwrap() >= 1.0);
    let nowhere = "grpc://nowhere.invalid:1".to_owned();
    let front = Front::start_with(&handler(&[nowhere], "")).await;
    let reply = front.call(EventKind::Rpc, &request).await;
    assert!(matches!(reply.status, Some(14 | 4)), "{reply:?}");
    assert_eq!(front.node.0.engine().ready(), Ok(()));
}
