//! What an operator asks of pools and sees of them: `workers` of the command line, RoadRunner's names
//! in the metrics.

use crate::node::{Node, Script, ask, ask_data, handler, hex, is_alive, routes};
use crate::process::{Ended, eventually, run, stock};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::BytesMut;
use centripeta::event::EventKind;
use centripeta::goridge::{Decoder, Flags, Frame};
use serde_json::Value;
use tokio::task::block_in_place;

const READY: &str = "centripeta_workers{handler=\"app\",state=\"ready\"}";

fn workers(node: &Node, args: &[&str]) -> Ended {
    let set = format!("listen.admin={}", node.admin);
    let all = [&["workers"], args, &["--set", &set]].concat();
    run(stock(node.dir.path(), all))
}

fn pids(pool: &Value) -> Vec<u64> {
    let workers = pool["workers"].as_array().unwrap().iter();
    let mut pids: Vec<u64> = workers.map(|it| it["pid"].as_u64().unwrap()).collect();
    pids.sort_unstable();
    pids
}

/// The one pool, once it has so many workers.
fn pool_of(node: &Node, count: usize) -> Value {
    eventually(&format!("{count} workers are listed"), || {
        let listed = workers(node, &["list", "--json"]).json();
        let pool = listed["pools"][0].clone();
        (pool["workers"].as_array()?.len() == count).then_some(pool)
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn workers_are_listed_added_removed_and_reset_and_refusals_say_why() {
    let config = handler(Script::Python, "", "num_workers = 2") + &routes();
    let node = Node::start(&config).await;
    let client = node.client().await;
    ask_data(&client, "rpc-pid").await;
    block_in_place(|| {
        let pool = pool_of(&node, 2);
        assert_eq!(pool["handler"], "app");
        assert_eq!((&pool["wanted"], &pool["ready"]), (&2.into(), &true.into()));
        let jobs = pool["workers"].as_array().unwrap().iter();
        assert_eq!(jobs.map(|it| it["jobs"].as_u64().unwrap()).sum::<u64>(), 1);
        for worker in pool["workers"].as_array().unwrap() {
            assert_eq!(worker["state"], "ready");
            assert!(worker["memory_bytes"].as_u64().unwrap() > 1 << 20);
            // It has read a script, for which it needed the processor.
            assert!(worker["cpu_percent"].as_f64().unwrap() > 0.0, "{worker}");
            let age = std::time::SystemTime::UNIX_EPOCH
                .elapsed()
                .unwrap()
                .as_millis()
                - u128::from(worker["created_ms"].as_u64().unwrap());
            assert!(age < 60_000, "{age}");
        }
        let text = workers(&node, &["list", "app"]);
        assert_eq!(text.code, 0, "{text:?}");
        assert!(
            text.out
                .starts_with("app: 2 of 2 workers, 0 requests in it, ready\n")
        );
        for pid in pids(&pool) {
            assert!(
                text.out.contains(&format!(" {pid}  ready ")),
                "{}",
                text.out
            );
        }

        let added = workers(&node, &["add"]);
        assert_eq!((added.code, added.out.trim()), (0, "app: 3 workers wanted"));
        pool_of(&node, 3);
        for wanted in [2, 1] {
            let removed = workers(&node, &["remove", "app", "--json"]);
            assert_eq!(
                removed.json(),
                serde_json::json!({ "handler": "app", "workers": wanted })
            );
        }
        let old = pids(&pool_of(&node, 1));
        let last = workers(&node, &["remove"]);
        assert_eq!(last.code, 1, "{last:?}");
        assert!(last.err.contains("the last is never removed") && last.err.contains("help: "));
        assert_eq!(pids(&pool_of(&node, 1)), old);

        let reset = workers(&node, &["reset"]);
        assert_eq!(
            (reset.code, reset.out.trim()),
            (0, "app: 1 workers replaced")
        );
        let new = pids(&pool_of(&node, 1));
        assert_ne!(new, old);
        assert!(!is_alive(u32::try_from(old[0]).unwrap()));

        for action in ["list", "reset", "add", "remove"] {
            let unknown = workers(&node, &[action, "php"]);
            assert_eq!(unknown.code, 1, "{unknown:?}");
            assert!(
                unknown.err.contains("no handler `php` has workers"),
                "{unknown:?}"
            );
            assert!(
                unknown.err.contains("help: name one of: app"),
                "{unknown:?}"
            );
        }
        let json = workers(&node, &["reset", "php", "--json"]);
        assert_eq!(json.code, 1);
        assert_eq!(
            json.json()["problems"][0]["what"],
            "no handler `php` has workers"
        );
    });
    ask_data(&client, "rpc-pid").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broken_script_fails_the_reset_a_node_without_pools_has_none_and_a_node_that_is_gone_is_code_4()
 {
    let dir = tempfile::tempdir().unwrap();
    let state = dir.path().join("state");
    std::fs::write(&state, "good").unwrap();
    let keys = format!("env = {{ STANDIN_START = \"state:{}\" }}", state.display());
    let config = handler(Script::Python, &keys, "num_workers = 1") + &routes();
    let mut node = Node::start(&config).await;
    block_in_place(|| {
        let old = pids(&pool_of(&node, 1));
        std::fs::write(&state, "broken").unwrap();
        let broken = workers(&node, &["reset", "app"]);
        assert_eq!(broken.code, 1, "{broken:?}");
        assert!(
            broken
                .err
                .contains("the workers of `app` were not all replaced"),
            "{broken:?}"
        );
        assert_eq!(pids(&pool_of(&node, 1)), old, "the old ones go on");
        node.reload("[[route]]\non = \"rpc\"\nhandler = \"echo\"\n");
        let none = workers(&node, &["list"]);
        assert_eq!(
            (none.code, none.out.trim()),
            (0, "no handler of this node has workers")
        );
        assert_eq!(
            workers(&node, &["list", "--json"]).json()["pools"],
            serde_json::json!([])
        );
        let reset = workers(&node, &["reset"]);
        assert!(reset.code == 1 && reset.err.contains("no handler of this node has workers"));
        node.process.signal("TERM");
        node.process.end();
        assert_eq!(workers(&node, &["list"]).code, 4);
        assert_eq!(workers(&node, &["scale"]).code, 2);
    });
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn w116_roadrunners_seven_series_are_there_if_asked_for() {
    let config = handler(Script::Python, "", "num_workers = 2") + &routes();
    let node = Node::start(&config).await;
    assert!(
        !block_in_place(|| node.get("/metrics"))
            .1
            .contains("rr_centrifugo_")
    );
    drop(node);
    let node = Node::start(&format!("[metrics]\nroadrunner = true\n{config}")).await;
    block_in_place(|| node.until_metric(READY, 2));
    let client = node.client().await;
    let busy = tokio::spawn(async move {
        ask(
            &client,
            EventKind::Rpc,
            &format!("sleep-hex:1500.{}", hex(&[10, 0])),
        )
        .await
    });
    block_in_place(|| {
        node.until_metric("rr_centrifugo_workers_working", 1);
        let (_, page) = node.get("/metrics");
        let of = |series: &str| {
            let line = page.lines().find_map(|line| line.strip_prefix(series));
            line.unwrap_or_else(|| panic!("no {series}"))
                .trim()
                .parse::<u64>()
                .unwrap()
        };
        assert_eq!(of("rr_centrifugo_total_workers "), 2);
        assert_eq!(of("rr_centrifugo_workers_ready "), 1);
        assert_eq!(of("rr_centrifugo_workers_invalid "), 0);
        let pids = node.workers();
        let memory = pids.iter().map(|pid| {
            let states = page.lines().filter(|line| {
                line.starts_with("rr_centrifugo_worker_state{")
                    && line.contains(&format!("pid=\"{pid}\""))
            });
            let states: Vec<&str> = states.collect();
            assert!(states.len() == 1 && states[0].ends_with(" 0"), "{states:?}");
            of(&format!(
                "rr_centrifugo_worker_memory_bytes{{pid=\"{pid}\"}} "
            ))
        });
        let memory: u64 = memory.sum();
        assert!(memory > 2 << 20);
        assert_eq!(of("rr_centrifugo_workers_memory_bytes "), memory);
        assert_eq!(page.matches("# TYPE rr_centrifugo_").count(), 7);
    });
    busy.await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn w119_w120_a_draining_node_is_not_ready_while_calls_finish_and_a_second_signal_ends_it() {
    let config = handler(Script::Python, "", "num_workers = 1") + &routes();
    for is_patient in [true, false] {
        let mut node = Node::start(&config).await;
        let client = node.client().await;
        let slow = tokio::spawn(async move {
            ask(
                &client,
                EventKind::Rpc,
                &format!("sleep-hex:2000.{}", hex(&[10, 0])),
            )
            .await
        });
        let requests = "centripeta_worker_requests{handler=\"app\"}";
        block_in_place(|| {
            node.until_metric(requests, 1);
            let workers = node.workers();
            node.process.signal("TERM");
            node.process.says("\"draining\"");
            eventually("it says that it is not ready", || {
                (node.get("/ready").0 == 503).then_some(())
            });
            assert_eq!(node.metric(requests), 1, "the call goes on");
            if !is_patient {
                node.process.signal("TERM");
            }
            let code = node.process.end().code();
            assert_eq!(code, Some(i32::from(!is_patient)));
            eventually("no worker is left", || {
                workers.iter().all(|pid| !is_alive(*pid)).then_some(())
            });
        });
        if is_patient {
            assert_eq!(slow.await.unwrap().status, Some(0));
        } else {
            slow.abort();
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn w108_workers_may_read_the_settings_and_find_no_secret_there() {
    let secret = "[centrifugo]\nkey = \"very-hush\"\n";
    let keys = "env = { PASSWORD = \"very-hush\" }";
    let config = format!(
        "{secret}{}{}",
        handler(Script::Python, keys, "num_workers = 1"),
        routes()
    );
    let node = Node::start(&config).await;
    let client = node.client().await;
    let mut texts = Vec::new();
    for (codec, argument) in [(Flags::RAW, ""), (Flags::JSON, "true")] {
        let mut call = BytesMut::new();
        let frame = Frame::call(codec, 1, "rpc.Config", argument.as_bytes()).unwrap();
        frame.encode(&mut call).unwrap();
        let back = ask_data(&client, &format!("rpc-call:{}", hex(&call))).await;
        let mut back = BytesMut::from(&back[..]);
        let back = Decoder::new(1 << 20).next(&mut back).unwrap().unwrap();
        texts.push(back.as_call().unwrap().body);
    }
    let settings: Value = serde_json::from_slice(&texts[0]).unwrap();
    assert!(settings.is_object() && texts[0].len() > 100, "{settings}");
    let shown = String::from_utf8_lossy(&texts[0]);
    assert!(shown.contains("centrifugo") && !shown.contains("very-hush"));
    let quoted: String = serde_json::from_slice(&texts[1]).unwrap();
    assert_eq!(STANDARD.decode(quoted).unwrap(), texts[0]);
}
