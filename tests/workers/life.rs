//! Deadlines, load, and the life of pools: start, reload, reset, drain, crash.

use crate::node::{Node, Script, ask, ask_data, handler, hex, is_alive, routes};
use crate::process::eventually;
use crate::support::{Client, path};
use centripeta::event::EventKind;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;
use tokio::task::block_in_place;
use tokio::time::Instant;

/// The response of a plain yes to a subscribe.
const YES: &[u8] = &[0x0a, 0];

/// Asks again and again until told to stop; every answer has to be good. Answers how many there were.
async fn ask_on(client: Client, is_over: Arc<AtomicBool>, asked: Arc<AtomicU64>) {
    let directive = format!("sleep-hex:2.{}", hex(YES));
    while !is_over.load(Ordering::SeqCst) {
        let reply = ask(&client, EventKind::Subscribe, &directive).await;
        assert_eq!(reply.status, Some(0), "{reply:?}");
        asked.fetch_add(1, Ordering::SeqCst);
    }
}

struct Load {
    tasks: Vec<tokio::task::JoinHandle<()>>,
    is_over: Arc<AtomicBool>,
    asked: Arc<AtomicU64>,
}

impl Load {
    async fn on(node: &Node, clients: usize) -> Self {
        let (is_over, asked) = (
            Arc::new(AtomicBool::new(false)),
            Arc::new(AtomicU64::new(0)),
        );
        let mut tasks = Vec::new();
        for _ in 0..clients {
            let (over, asked) = (Arc::clone(&is_over), Arc::clone(&asked));
            tasks.push(tokio::spawn(ask_on(node.client().await, over, asked)));
        }
        Self {
            tasks,
            is_over,
            asked,
        }
    }

    /// Waits until so many more were answered.
    fn more(&self, count: u64) {
        let wanted = self.asked.load(Ordering::SeqCst) + count;
        eventually("more answers", || {
            (self.asked.load(Ordering::SeqCst) >= wanted).then_some(())
        });
    }

    async fn end(self) {
        self.is_over.store(true, Ordering::SeqCst);
        for task in self.tasks {
            task.await.unwrap();
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn eight_workers_answer_a_hundred_subscribes_to_one_channel_beside_each_other() {
    let config = handler(Script::Python, "", "num_workers = 8") + &routes();
    let node = Node::start(&config).await;
    let ready = "centripeta_workers{handler=\"app\",state=\"ready\"}";
    block_in_place(|| node.until_metric(ready, 8));
    let client = node.client().await;
    let directive = format!("sleep-hex:50.{}", hex(YES));
    // The best of five: other tests run beside this one.
    let mut best = Duration::MAX;
    for _ in 0..5 {
        let started = Instant::now();
        let calls = (0..100).map(|_| ask(&client, EventKind::Subscribe, &directive));
        let replies = futures_util::future::join_all(calls).await;
        best = best.min(started.elapsed());
        assert!(replies.iter().all(|reply| reply.status == Some(0)));
        if best < Duration::from_secs(1) {
            break;
        }
    }
    assert!(best < Duration::from_secs(1), "{best:?}");
    assert!(best > Duration::from_millis(600), "8 at a time: {best:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_callers_deadline_answers_the_caller_and_the_worker_runs_on() {
    let config = handler(Script::Python, "", "num_workers = 1") + &routes();
    let node = Node::start(&config).await;
    let client = node.client().await;
    let before = ask_data(&client, "rpc-pid").await;
    let message = crate::node::request_of(EventKind::Rpc, "sleep-hex:600.0a00");
    let headers = [("grpc-timeout", "200m")];
    let started = Instant::now();
    let reply = client.call(&path(EventKind::Rpc), &headers, &message).await;
    assert_eq!((reply.status, reply.messages.len()), (Some(4), 0));
    assert!(started.elapsed() < Duration::from_millis(550));
    // All workers are busy, and the node is ready all the same.
    assert_eq!(block_in_place(|| node.get("/ready")).0, 200);
    assert_eq!(ask_data(&client, "rpc-pid").await, before);
    let late = "centripeta_worker_late_answers_total{handler=\"app\"}";
    block_in_place(|| node.until_metric(late, 1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn exec_ttl_alone_kills_and_a_full_pool_is_overload() {
    let pool = "num_workers = 1\nmax_queue_size = 1\n[handler.app.pool.supervisor]\n\
                exec_ttl = \"1s\"";
    let config = handler(Script::Python, "", pool) + &routes();
    let node = Node::start(&config).await;
    let client = node.client().await;
    let before = ask_data(&client, "rpc-pid").await;
    let hung = {
        let client = client.clone();
        tokio::spawn(async move { ask(&client, EventKind::Rpc, "sleep-hex:60000.0a00").await })
    };
    let requests = "centripeta_worker_requests{handler=\"app\"}";
    block_in_place(|| node.until_metric(requests, 1));
    let full = ask(&client, EventKind::Rpc, "rpc-pid").await;
    let hung = hung.await.unwrap();
    assert_eq!(hung.status, Some(4), "{hung:?}");
    let json = crate::support::json(EventKind::Rpc, full.message());
    assert!(json.contains("111") && json.contains("temporary"), "{json}");
    block_in_place(|| {
        node.process.says("QueueSize: max queue size reached");
        node.process.says("ExecTTL");
    });
    let refused = "centripeta_worker_refused_total{handler=\"app\",reason=\"queue_size\"}";
    assert_eq!(block_in_place(|| node.metric(refused)), 1);
    assert_ne!(ask_data(&client, "rpc-pid").await, before);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reload_changes_a_pool_without_a_failed_event_and_a_broken_one_is_refused() {
    let config = |keys: &str| handler(Script::Python, keys, "num_workers = 2") + &routes();
    let mut node = Node::start(&config("")).await;
    let ready = "centripeta_workers{handler=\"app\",state=\"ready\"}";
    block_in_place(|| node.until_metric(ready, 2));
    let old = node.workers();
    let load = Load::on(&node, 4).await;
    block_in_place(|| {
        load.more(50);
        // What does not touch the pool leaves it as it is.
        let line = node.reload(&format!("[limits]\ntimeout = \"2s\"\n{}", config("")));
        assert_eq!(line["message"], "reloaded", "{line}");
        assert_eq!(node.workers(), old);
        let line = node.reload(&config("env = { FOO = \"new\" }"));
        assert!(
            line["changed"]
                .as_str()
                .unwrap()
                .contains("handler app: changed"),
            "{line}"
        );
        eventually("the old workers are gone", || {
            old.iter().all(|pid| !is_alive(*pid)).then_some(())
        });
        load.more(50);
        let kept = node.workers();
        let line = node.reload(&config("env = { STANDIN_START = \"exit\" }"));
        assert!(
            line["message"]
                .as_str()
                .unwrap()
                .starts_with("reload refused"),
            "{line}"
        );
        assert!(
            line["message"]
                .as_str()
                .unwrap()
                .contains("broken from the start"),
            "{line}"
        );
        load.more(50);
        assert!(kept.iter().all(|pid| is_alive(*pid)));
    });
    load.end().await;
    let line = block_in_place(|| node.reload("[[route]]\non = \"rpc\"\nhandler = \"echo\"\n"));
    assert_eq!(line["message"], "reloaded", "{line}");
    block_in_place(|| {
        eventually("no worker is left", || {
            node.workers().is_empty().then_some(())
        });
        assert_eq!(node.get("/ready").0, 200);
    });
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn w74_sigusr2_replaces_all_workers_under_load_without_a_failed_event() {
    let config = handler(Script::Python, "", "num_workers = 2") + &routes();
    let node = Node::start(&config).await;
    let ready = "centripeta_workers{handler=\"app\",state=\"ready\"}";
    block_in_place(|| node.until_metric(ready, 2));
    let old = node.workers();
    let load = Load::on(&node, 4).await;
    block_in_place(|| {
        load.more(20);
        node.process.signal("USR2");
        node.process.says("workers were reset");
        load.more(20);
        let new = node.workers();
        assert_eq!(new.len(), 2);
        assert!(new.iter().all(|pid| !old.contains(pid)), "{old:?} {new:?}");
    });
    load.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn w88_a_drain_under_load_answers_what_was_let_in_and_leaves_no_worker() {
    let config = handler(Script::Python, "", "num_workers = 4") + &routes();
    let mut node = Node::start(&config).await;
    let ready = "centripeta_workers{handler=\"app\",state=\"ready\"}";
    block_in_place(|| node.until_metric(ready, 4));
    let workers = node.workers();
    let client = node.client().await;
    let directive = format!("sleep-hex:400.{}", hex(YES));
    let calls: Vec<_> = (0..20)
        .map(|_| {
            let (client, directive) = (client.clone(), directive.clone());
            tokio::spawn(async move { ask(&client, EventKind::Subscribe, &directive).await })
        })
        .collect();
    let requests = "centripeta_worker_requests{handler=\"app\"}";
    block_in_place(|| node.until_metric(requests, 20));
    let started = Instant::now();
    node.process.signal("TERM");
    for call in calls {
        let reply = call.await.unwrap();
        assert_eq!(reply.message(), YES);
    }
    let status = block_in_place(|| node.process.end());
    assert!(status.success(), "{status}");
    assert!(started.elapsed() < Duration::from_secs(10));
    assert!(workers.iter().all(|pid| !is_alive(*pid)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn w32_no_worker_outlives_a_node_that_was_killed() {
    // These would go on for ever when their line is cut.
    let keys = "env = { STANDIN_EOF = \"spin\" }";
    let config = handler(Script::Python, keys, "num_workers = 2") + &routes();
    let mut node = Node::start(&config).await;
    let ready = "centripeta_workers{handler=\"app\",state=\"ready\"}";
    block_in_place(|| node.until_metric(ready, 2));
    let workers = node.workers();
    assert_eq!(workers.len(), 2);
    block_in_place(|| {
        node.process.signal("KILL");
        node.process.end();
        let started = Instant::now();
        eventually("the workers are gone", || {
            workers.iter().all(|pid| !is_alive(*pid)).then_some(())
        });
        assert!(started.elapsed() < Duration::from_secs(1));
    });
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn w68_a_pool_without_workers_is_named_by_ready_and_comes_back_with_its_script() {
    let dir = tempfile::tempdir().unwrap();
    let state = dir.path().join("state");
    std::fs::write(&state, "broken").unwrap();
    let keys = format!("env = {{ STANDIN_START = \"state:{}\" }}", state.display());
    let config = handler(Script::Python, &keys, "num_workers = 1") + &routes();
    let node = Node::start_unready(&config, &[]);
    block_in_place(|| {
        node.process.says("a worker did not come up");
        let (status, body) = node.get("/ready");
        assert_eq!(status, 503);
        assert!(body.contains("pools without workers: app"), "{body}");
        assert_eq!(node.get("/health").0, 200);
    });
    std::fs::write(&state, "mended").unwrap();
    node.until_ready().await;
    ask_data(&node.client().await, "rpc-pid").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_init_runs_once_before_the_workers_and_may_stop_the_start() {
    let dir = tempfile::tempdir().unwrap();
    let mark = dir.path().join("mark");
    let init = format!(
        "[handler.app.on_init]\ncommand = [\"touch\", \"{}\"]\n",
        mark.display()
    );
    let config = handler(Script::Python, "", "num_workers = 1") + &init + &routes();
    let node = Node::start(&config).await;
    assert!(mark.exists());
    drop(node);
    let init = "[handler.app.on_init]\ncommand = \"false\"\nexit_on_error = true\n";
    let folder = tempfile::tempdir().unwrap();
    let text = format!(
        "[listen]\ngrpc = \"127.0.0.1:0\"\nadmin = \"127.0.0.1:0\"\n{}{init}{}",
        handler(Script::Python, "", "num_workers = 1"),
        routes()
    );
    std::fs::write(folder.path().join("node.toml"), text).unwrap();
    let ended =
        block_in_place(|| crate::process::run(crate::process::stock(folder.path(), ["serve"])));
    assert_eq!(ended.code, 1, "{ended:?}");
    assert!(ended.err.contains("`on_init.command` failed"), "{ended:?}");
}
