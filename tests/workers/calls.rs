//! What workers, or an operator's tool, ask of the node by RPC about the pools themselves.

use crate::node::{Node, Script, ask_data, handler, hex, is_alive, routes};
use crate::process::eventually;
use bytes::BytesMut;
use centripeta::goridge::{Decoder, Flags, Frame};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::block_in_place;

/// Calls by JSON; the error is the text that came back as one.
async fn call(node: &Node, method: &str, argument: Value) -> Result<Value, String> {
    let address = block_in_place(|| node.process.logs("workers can call back", "rpc"));
    let address = address.strip_prefix("tcp://").unwrap();
    let mut stream = TcpStream::connect(address).await.unwrap();
    let mut bytes = BytesMut::new();
    let body = argument.to_string();
    let frame = Frame::call(Flags::JSON, 3, method, body.as_bytes()).unwrap();
    frame.encode(&mut bytes).unwrap();
    stream.write_all(&bytes).await.unwrap();
    let (mut decoder, mut input) = (Decoder::new(1 << 20), BytesMut::new());
    let frame = loop {
        if let Some(frame) = decoder.next(&mut input).unwrap() {
            break frame;
        }
        assert_ne!(stream.read_buf(&mut input).await.unwrap(), 0, "no answer");
    };
    let answer = frame.as_call().unwrap();
    assert_eq!((answer.seq, answer.method.as_str()), (3, method));
    match frame.flags.has(Flags::ERROR) {
        true => Err(String::from_utf8(answer.body.to_vec()).unwrap()),
        false => Ok(serde_json::from_slice(&answer.body).unwrap()),
    }
}

async fn pids(node: &Node, plugin: &str) -> BTreeSet<u32> {
    let shown = call(node, "informer.Workers", json!(plugin)).await.unwrap();
    let workers = shown["workers"].as_array().unwrap().iter();
    let pid = |it: &Value| u32::try_from(it["pid"].as_u64().unwrap()).unwrap();
    workers.map(pid).collect()
}

async fn until_workers(node: &Node, plugin: &str, count: usize) {
    let limit = tokio::time::Instant::now() + crate::process::LIMIT;
    while pids(node, plugin).await.len() != count {
        assert!(tokio::time::Instant::now() < limit, "never {count} workers");
        tokio::task::yield_now().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn w66_w106_w107_pools_are_shown_grown_and_reset_by_the_plugins_name_and_each_by_its_own() {
    let other = handler(Script::Python, "", "num_workers = 1").replace("handler.app", "handler.o");
    let app = handler(Script::Python, "", "num_workers = 2");
    let route = "[[route]]\non = \"rpc\"\nmatch = \"other\"\nhandler = \"o\"\n";
    let node = Node::start(&format!("{app}{other}{}{route}", routes())).await;
    let client = node.client().await;
    ask_data(&client, "rpc-pid").await;
    until_workers(&node, "centrifuge", 3).await;
    let listed = call(&node, "informer.List", json!(true)).await;
    assert_eq!(listed, Ok(json!(["centrifuge"])));
    let (of_app, of_other) = (pids(&node, "app").await, pids(&node, "o").await);
    assert_eq!((of_app.len(), of_other.len()), (2, 1));
    assert_eq!(pids(&node, "centrifuge").await, &of_app | &of_other);
    let shown = call(&node, "informer.Workers", json!("app")).await.unwrap();
    let workers = shown["workers"].as_array().unwrap();
    for worker in workers {
        assert_eq!(
            (&worker["status"], &worker["statusStr"]),
            (&json!(1), &json!("ready"))
        );
        assert!(
            worker["memoryUsage"].as_u64().unwrap() > 1 << 20,
            "{worker}"
        );
        assert!(worker["created"].as_u64().unwrap() > 1 << 60, "{worker}");
    }
    let jobs = workers.iter().map(|it| it["numExecs"].as_u64().unwrap());
    assert_eq!(jobs.sum::<u64>(), 1);
    assert_eq!(
        call(&node, "informer.Workers", json!("nope")).await,
        Ok(json!({ "workers": null }))
    );

    assert!(
        call(&node, "informer.AddWorker", json!("app"))
            .await
            .is_ok()
    );
    until_workers(&node, "app", 3).await;
    assert_eq!(pids(&node, "o").await, of_other);
    assert!(
        call(&node, "informer.RemoveWorker", json!("app"))
            .await
            .is_ok()
    );
    until_workers(&node, "app", 2).await;
    // Never below one.
    assert!(
        call(&node, "informer.RemoveWorker", json!("o"))
            .await
            .is_ok()
    );
    assert_eq!(pids(&node, "o").await, of_other);

    let before = pids(&node, "app").await;
    assert_eq!(
        call(&node, "resetter.Reset", json!("app")).await,
        Ok(json!(true))
    );
    until_workers(&node, "app", 2).await;
    assert!(before.is_disjoint(&pids(&node, "app").await));
    assert_eq!(
        pids(&node, "o").await,
        of_other,
        "the other pool is left alone"
    );
    assert_eq!(
        call(&node, "resetter.Reset", json!("centrifuge")).await,
        Ok(json!(true))
    );
    block_in_place(|| {
        eventually("the other one was reset too", || {
            of_other.iter().all(|pid| !is_alive(*pid)).then_some(())
        });
    });
    let refused = call(&node, "resetter.Reset", json!("nope"))
        .await
        .unwrap_err();
    assert!(refused.ends_with("no such plugin: nope"), "{refused}");
    let ready = call(&node, "status.Ready", json!({ "plugin": "centrifuge" }))
        .await
        .unwrap();
    assert_eq!(ready["code"], 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lines_of_an_application_are_in_the_log_of_the_node() {
    let config = handler(Script::Python, "", "num_workers = 1") + &routes();
    let node = Node::start(&config).await;
    let done = call(&node, "app.Warning", json!("stock is low")).await;
    assert_eq!(done, Ok(json!(false)));
    let line = block_in_place(|| node.process.says("stock is low"));
    assert!(line.contains("WARN"), "{line}");
}

/// A server that answers its first call with this frame, under the number of the call.
async fn answering(mut frame: Vec<u8>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut asked = [0; 20];
        stream.read_exact(&mut asked).await.unwrap();
        frame[12..16].copy_from_slice(&asked[12..16]);
        stream.write_all(&frame).await.unwrap();
        // Open until the other side has gone.
        let mut rest = Vec::new();
        stream.read_to_end(&mut rest).await.unwrap();
    });
    format!("tcp://{address}")
}

/// A call of a method with an empty argument, by protobuf, in hexadecimal digits.
fn asked(method: &str) -> String {
    let mut bytes = BytesMut::new();
    let frame = Frame::call(Flags::PROTO, 9, method, b"").unwrap();
    frame.encode(&mut bytes).unwrap();
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn w94_an_error_answer_is_an_exception_of_the_worker_with_its_text_and_where_it_came_from() {
    let vectors = include_str!("../golden/goridge-vectors.txt").lines();
    let mut named = vectors.filter_map(|line| line.split_once(' '));
    let digits = named.find(|(name, _)| *name == "TV26").unwrap().1;
    let pairs = digits.as_bytes().chunks_exact(2);
    let recorded = pairs.map(|it| u8::from_str_radix(str::from_utf8(it).unwrap(), 16).unwrap());
    let recorded = answering(recorded.collect()).await;
    // The worker calls a server that answers as it was recorded, then ours: both are taken alike.
    let env = format!("env.RR_RPC = \"{recorded}\"");
    let node = Node::start(&(handler(Script::Python, &env, "num_workers = 1") + &routes())).await;
    let client = node.client().await;
    let directive = format!("rpc-throw:{}", asked("centrifuge.Channels"));
    let thrown = ask_data(&client, &directive).await;
    let text = "Error 'RoadRunner is not ready yet, try in a few seconds' on ";
    assert_eq!(thrown, format!("{text}{recorded}"));

    let gone = "[centrifugo]\napi = [\"grpc://127.0.0.1:1\"]\ntimeout = \"300ms\"\n";
    let app = handler(Script::Python, "", "num_workers = 1");
    let node = Node::start(&format!("{gone}{app}{}", routes())).await;
    let ours = block_in_place(|| node.process.logs("workers can call back", "rpc"));
    let thrown = ask_data(&node.client().await, &directive).await;
    let thrown = String::from_utf8(thrown.to_vec()).unwrap();
    assert!(
        thrown.starts_with("Error 'rpc error: code = ")
            && thrown.ends_with(&format!("' on {ours}")),
        "{thrown}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_that_resets_its_own_pool_in_an_event_is_answered_and_ends_behind_it() {
    let pool = "num_workers = 2\n[handler.app.pool.supervisor]\nexec_ttl = \"15s\"";
    let node = Node::start(&(handler(Script::Python, "", pool) + &routes())).await;
    let client = node.client().await;
    until_workers(&node, "app", 2).await;
    let before = pids(&node, "app").await;
    let mut call = BytesMut::new();
    let frame = Frame::call(Flags::JSON, 1, "resetter.Reset", b"\"app\"").unwrap();
    frame.encode(&mut call).unwrap();
    let back = ask_data(&client, &format!("rpc-call:{}", hex(&call))).await;
    let mut back = BytesMut::from(&back[..]);
    let back = Decoder::new(1 << 20).next(&mut back).unwrap().unwrap();
    assert!(!back.flags.has(Flags::ERROR), "{back:?}");
    assert_eq!(back.as_call().unwrap().body, "true");
    block_in_place(|| {
        eventually("the old ones are gone", || {
            before.iter().all(|pid| !is_alive(*pid)).then_some(())
        });
    });
    until_workers(&node, "app", 2).await;
    assert!(before.is_disjoint(&pids(&node, "app").await));
}
