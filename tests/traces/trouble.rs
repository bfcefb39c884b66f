//! Collectors that never answer, are not there, refuse, or speak TLS.

use crate::collector::{Collector, Manner};
use crate::support::{eventually, logs};
use crate::{PARENT, World, rpc};
use centripeta::config::{OtlpConfig, Secret};
use centripeta::event::EventKind;
use centripeta::trace::QUEUE_SPANS;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::Instant;
use tonic::Code;
use tonic::transport::Identity;

/// A sample of `/metrics`.
async fn spans(world: &World, result: &str) -> u64 {
    let address = world.node.0.addresses().admin;
    let mut socket = TcpStream::connect(address).await.unwrap();
    let ask = "GET /metrics HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n";
    socket.write_all(ask.as_bytes()).await.unwrap();
    let mut page = String::new();
    socket.read_to_string(&mut page).await.unwrap();
    let start = format!("centripeta_trace_spans_total{{result=\"{result}\"}} ");
    let line = page.lines().find_map(|line| line.strip_prefix(&start));
    line.unwrap().parse().unwrap()
}

fn towards(collector: &Collector) -> impl FnOnce(&mut centripeta::config::LogConfig) + use<> {
    let otlp = collector.config();
    |log| {
        log.otlp = Some(otlp);
        log.sampling = 1.0;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_collector_that_never_answers_costs_spans_and_no_event() {
    let collector = Collector::start();
    collector.set(Manner::NeverAnswers);
    let world = World::start(towards(&collector)).await;
    let path = crate::path(EventKind::Rpc);
    let message = rpc("say", "chat:1");
    let callers = (0..50).map(|_| {
        let (client, path, message) = (world.client.clone(), path.clone(), message.clone());
        tokio::spawn(async move {
            for _ in 0..100 {
                client.call(&path, &[], &message).await.message();
            }
        })
    });
    for caller in callers.collect::<Vec<_>>() {
        caller.await.unwrap();
    }
    eventually("every span has its end", async || {
        let dropped = spans(&world, "dropped").await;
        dropped == 5000 * 7 - QUEUE_SPANS as u64
    })
    .await;
    assert_eq!(spans(&world, "exported").await, 0);
    let started = Instant::now();
    assert_eq!(world.node.0.shutdown(Duration::from_secs(20)).await, (0, 0));
    assert!(
        started.elapsed() < Duration::from_secs(6),
        "{:?}",
        started.elapsed()
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_collector_that_is_not_there_gets_one_line_and_the_node_serves() {
    logs::keep();
    let gone = Collector::start().config();
    let address = gone.collector.to_string();
    let world = World::start(|log| {
        log.otlp = Some(gone);
        log.sampling = 1.0;
    })
    .await;
    world.rpc("say", &[]).await.message();
    eventually("its spans have failed", async || {
        spans(&world, "failed").await == 7
    })
    .await;
    world.rpc("say", &[]).await.message();
    eventually("so have those", async || {
        spans(&world, "failed").await == 14
    })
    .await;
    let lines = logs::with("traces can't be exported");
    let lines: Vec<_> = lines
        .iter()
        .filter(|line| line.contains(&address))
        .collect();
    assert_eq!(lines.len(), 1, "{lines:#?}");
    assert!(
        lines[0].contains("log.otlp") && lines[0].contains("refused"),
        "{}",
        lines[0]
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_collector_that_refuses_or_takes_a_part_is_counted_and_said_to() {
    logs::keep();
    let collector = Collector::start();
    collector.set(Manner::Refuses(Code::Unauthenticated));
    let world = World::start(towards(&collector)).await;
    world.rpc("say", &[]).await.message();
    eventually("its spans have failed", async || {
        spans(&world, "failed").await == 7
    })
    .await;
    assert_eq!(
        *collector.state.exports.lock().unwrap(),
        1,
        "trying again is no use"
    );
    let address = collector.config().collector.to_string();
    let lines = logs::with("log.otlp_headers");
    assert_eq!(
        lines.iter().filter(|line| line.contains(&address)).count(),
        1
    );
    collector.set(Manner::Rejects(2));
    world.rpc("say", &[]).await.message();
    eventually("two have failed", async || {
        spans(&world, "failed").await == 9
    })
    .await;
    assert_eq!(spans(&world, "exported").await, 5);
    collector.set(Manner::Takes);
    world.rpc("say", &[]).await.message();
    eventually("all are taken", async || {
        spans(&world, "exported").await == 12
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_batch_that_could_not_be_taken_just_now_is_sent_again() {
    let collector = Collector::start();
    collector.set(Manner::Refuses(Code::Unavailable));
    let world = World::start(towards(&collector)).await;
    world.rpc("say", &[]).await.message();
    let exports = || *collector.state.exports.lock().unwrap();
    eventually("it was sent once", async || exports() == 1).await;
    collector.set(Manner::Takes);
    collector.spans_once(7).await;
    assert_eq!(exports(), 2);
    assert_eq!(spans(&world, "failed").await, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_left_at_the_end_is_sent_before_the_node_is_gone() {
    let collector = Collector::start();
    let world = World::start(towards(&collector)).await;
    let message = rpc("panic", "chat:1");
    let path = crate::path(EventKind::Rpc);
    for _ in 0..20 {
        world
            .client
            .call(&path, &[("traceparent", PARENT)], &message)
            .await;
    }
    let World { node, client, .. } = world;
    drop(client);
    node.0.shutdown(Duration::from_secs(5)).await;
    assert_eq!(collector.spans().len(), 20 * 6);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_collector_with_tls_gets_what_it_asks_for() {
    let signed = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let (certificate, key) = (signed.cert.pem(), signed.signing_key.serialize_pem());
    let directory = tempfile::tempdir().unwrap();
    let ca = directory.path().join("ca.pem");
    std::fs::write(&ca, &certificate).unwrap();
    let collector = Collector::with(Some(Identity::from_pem(certificate, key)));
    let otlp = OtlpConfig {
        ca: Some(ca),
        headers: vec![("x-key".to_owned(), Secret::new("sesame"))],
        ..collector.config()
    };
    let world = World::start(|log| log.otlp = Some(otlp)).await;
    world.rpc("say", &[("traceparent", PARENT)]).await.message();
    collector.spans_once(7).await;
    let (_, metadata) = collector.state.last.lock().unwrap().clone();
    assert_eq!(metadata["x-key"], "sesame");
}
