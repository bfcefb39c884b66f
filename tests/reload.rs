//! A node that reads its configuration again: real processes, SIGHUP, and a load that never stops.

#![allow(clippy::unwrap_used)]

#[path = "traces/collector.rs"]
#[allow(dead_code, reason = "a part of it is needed here")]
mod collector;
#[path = "publisher/double.rs"]
#[allow(dead_code, reason = "a part of it is needed here")]
mod double;
#[path = "support/process.rs"]
mod process;
mod support;

use centripeta::event::EventKind;
use collector::Collector;
use double::Double;
use process::{Running, stock};
use std::fmt::Write;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use support::{Client, path, small_request, soon};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::block_in_place;

const START: &str = "[listen]\ngrpc = \"127.0.0.1:0\"\nadmin = \"127.0.0.1:0\"\n\
                     [runtime]\ncores = 2\n[log]\nformat = \"json\"\n";

/// A node and the folder with its `node.toml`.
struct Node {
    process: Running,
    dir: TempDir,
    grpc: String,
    /// Reloads that it has told of.
    told: usize,
}

impl Node {
    fn start(rest: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        write(dir.path(), rest);
        let process = Running::start(stock(dir.path(), ["serve"]));
        let grpc = process.logs("listening", "grpc");
        Self {
            process,
            dir,
            grpc,
            told: 0,
        }
    }

    async fn client(&self) -> Client {
        let socket = TcpStream::connect(&self.grpc).await.unwrap();
        socket.set_nodelay(true).unwrap();
        Client::new(socket).await
    }

    /// Sends SIGHUP and gives the next line about a reload.
    fn hup(&mut self) -> serde_json::Value {
        self.process.signal("HUP");
        let told = self.told;
        let line = process::eventually("a line about the reload", || {
            let said = self.process.said();
            let mut lines = said.into_iter().filter(|line| line.contains("\"reload"));
            lines.nth(told)
        });
        self.told += 1;
        serde_json::from_str(&line).unwrap()
    }

    /// The same with another configuration.
    fn reload(&mut self, rest: &str) -> serde_json::Value {
        write(self.dir.path(), rest);
        block_in_place(|| self.hup())
    }

    /// A number of `/proc/PID/status`.
    fn status(&self, name: &str) -> u64 {
        let file = format!("/proc/{}/status", self.process.id());
        let text = std::fs::read_to_string(file).unwrap();
        let line = text.lines().find_map(|line| line.strip_prefix(name));
        let number = line.unwrap().trim_start_matches(':').trim();
        number.split(' ').next().unwrap().parse().unwrap()
    }

    fn descriptors(&self) -> usize {
        let folder = format!("/proc/{}/fd", self.process.id());
        std::fs::read_dir(folder).unwrap().count()
    }
}

fn write(dir: &Path, rest: &str) {
    std::fs::write(dir.join("node.toml"), format!("{START}{rest}")).unwrap();
}

/// The routes of a version: an rpc that says which one, streams, and more of what comes and goes.
fn version(n: u64) -> String {
    let mut text = format!(
        "[handler.v{n}]\nkind = \"static\"\nreply = {{ data = {{ v = {n} }} }}\n\
         [[route]]\non = \"rpc\"\nmatch = \"which\"\nhandler = \"v{n}\"\nkey = \"user\"\n\
         interceptors = [\"own{}\"]\n\
         [[route]]\non = \"stream\"\nhandler = \"allow\"\n",
        n % 3
    );
    for (name, on) in [("all", "*"), (["even", "odd"][n as usize % 2], "rpc")] {
        write!(text, "[[interceptor]]\nname = \"{name}\"\non = \"{on}\"\n").unwrap();
        text.push_str("kind = \"limit\"\nrate = 1000000\n");
    }
    write!(
        text,
        "[[interceptor]]\nname = \"own{}\"\non = \"route\"\n",
        n % 3
    )
    .unwrap();
    text.push_str("kind = \"access-log\"\nlevel = \"trace\"\n");
    text
}

/// Asks which version answers.
async fn which(client: &Client) -> Result<u64, String> {
    let message = small_request(EventKind::Rpc, "which");
    let reply = client.call(&path(EventKind::Rpc), &[], &message).await;
    if reply.status != Some(0) || reply.messages.len() != 1 {
        return Err(format!("{reply:?}"));
    }
    let json = support::json(EventKind::Rpc, &reply.messages[0]);
    let number = json.split("\"v\":").nth(1);
    let number = number.and_then(|rest| rest.trim_start().split('}').next()?.trim().parse().ok());
    number.ok_or(json)
}

/// The version that is confirmed to run, and the newest one that may run.
#[derive(Default)]
struct Versions {
    confirmed: AtomicU64,
    written: AtomicU64,
    is_over: AtomicBool,
}

/// Asks again and again; every answer has to be of a version that ran meanwhile.
async fn ask_on(client: Client, versions: Arc<Versions>) -> u64 {
    let mut answered = 0;
    while !versions.is_over.load(Ordering::SeqCst) {
        let least = versions.confirmed.load(Ordering::SeqCst);
        let found = which(&client).await.unwrap();
        let most = versions.written.load(Ordering::SeqCst);
        assert!((least..=most).contains(&found), "{least} {found} {most}");
        answered += 1;
    }
    answered
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fifty_reloads_under_load_drop_no_event_misroute_none_and_leave_nothing_behind() {
    let mut node = block_in_place(|| Node::start(&version(0)));
    let versions = Arc::new(Versions::default());
    let mut callers = Vec::new();
    for _ in 0..4 {
        let client = node.client().await;
        callers.push(tokio::spawn(ask_on(client, Arc::clone(&versions))));
    }
    let client = node.client().await;
    let stream = small_request(EventKind::Stream, "news");
    let stream_path = path(EventKind::Stream);
    let mut streams = Vec::new();
    let mut before = (0, 0, 0);
    for n in 1..=50 {
        versions.written.store(n, Ordering::SeqCst);
        let line = node.reload(&version(n));
        assert_eq!(line["message"], "reloaded", "{line}");
        versions.confirmed.store(n, Ordering::SeqCst);
        assert_eq!(which(&client).await, Ok(n), "{line}");
        if n % 10 == 5 {
            let mut call = client.open(&stream_path, &[]).await.unwrap();
            call.send(support::client::frame(false, &stream), true)
                .await;
            let accepted = soon("the stream is accepted", call.next()).await;
            assert!(accepted.is_some());
            streams.push(call);
        }
        if n == 25 {
            before = (
                node.descriptors(),
                node.status("Threads"),
                node.status("VmRSS"),
            );
        }
    }
    // As many streams as there are more than at the measurement keep nothing but themselves.
    assert!(node.descriptors() <= before.0, "descriptors are left");
    assert!(node.status("Threads") <= before.1, "threads are left");
    let grown = node.status("VmRSS").saturating_sub(before.2);
    assert!(grown < 16 * 1024, "{grown} kB more after 25 reloads");
    versions.is_over.store(true, Ordering::SeqCst);
    for caller in callers {
        assert!(caller.await.unwrap() > 0);
    }
    for mut call in streams {
        let next = futures_util::future::poll_immediate(std::pin::pin!(call.next())).await;
        assert!(next.is_none(), "a stream has ended: {next:?}");
        call.cancel();
    }
    node.process.signal("TERM");
    block_in_place(|| node.process.says("nothing was cut"));
    assert_eq!(block_in_place(|| node.process.end()).code(), Some(0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_changes_is_said_in_one_line_and_what_does_not_is_told_to_be_the_same() {
    let mut node = block_in_place(|| Node::start(&version(0)));
    let client = node.client().await;
    let line = node.reload(&version(0));
    assert_eq!(line["message"], "reloaded: nothing changed");
    let large = small_request(EventKind::Rpc, &"a".repeat(2000));
    let size_of = async || client.call(&path(EventKind::Rpc), &[], &large).await.status;
    assert_eq!(size_of().await, Some(0), "no route, which is an answer");
    let more = "[limits]\nmessage_bytes = \"1KiB\"\nin_flight = 7\n[node]\nname = \"b\"\n\
                [metrics]\nenabled = false\n";
    let line = node.reload(&[&version(0), more].concat());
    assert_eq!(line["message"], "reloaded in part", "{line}");
    assert_eq!(line["level"], "WARN");
    assert_eq!(line["needs_restart"], "node.name, metrics.enabled");
    assert_eq!(
        line["changed"],
        "limits.in_flight: 4096 -> 7; limits.message_bytes: 4MiB -> 1KiB"
    );
    assert!(line["help"].as_str().unwrap().contains("restart"));
    assert_eq!(size_of().await, Some(11), "out of range");
    assert_eq!(which(&client).await, Ok(0));
    // What waits for a restart is told again as long as it waits.
    let line = block_in_place(|| node.hup());
    assert_eq!(line["needs_restart"], "node.name, metrics.enabled");
    assert_eq!(line["changed"], "");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_level_of_the_log_changes_with_the_next_line() {
    let mut node = block_in_place(|| Node::start(&version(0)));
    let client = node.client().await;
    let traced = "\"level\":\"TRACE\"";
    which(&client).await.unwrap();
    assert!(
        node.process
            .said()
            .iter()
            .all(|line| !line.contains(traced))
    );
    // The access log of the route is at `trace`; the last table of the start is `[log]`.
    let line = node.reload(&format!("level = \"trace\"\n{}", version(0)));
    assert_eq!(line["changed"], "log.level: info -> trace");
    which(&client).await.unwrap();
    block_in_place(|| node.process.says(traced));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_configuration_with_a_mistake_is_refused_as_a_whole_with_its_fix() {
    let mut node = block_in_place(|| Node::start(&version(1)));
    let client = node.client().await;
    let key = node.dir.path().join("key");
    std::fs::write(&key, "secret-of-ours").unwrap();
    let keyed = format!("[centrifugo]\nkey = \"file:{}\"\n", key.display());
    let line = node.reload(&[&version(1), &*keyed].concat());
    assert_eq!(line["changed"], "centrifugo.key: another one");

    let tied = "[[route]]\non = \"rpc\"\nmatch = \"which\"\nhandler = \"echo\"\n";
    for (rest, words) in [
        ("[[route]\n", "node.toml"),
        ("[limits]\nin_flight = 0\n", "limits.in_flight"),
        (tied, "route."),
        (
            "[[route]]\non = \"rpc\"\nmatch = \"b\"\nhandler = \"none\"\n",
            "no handler has this name",
        ),
    ] {
        let line = node.reload(&[&version(2), rest].concat());
        let message = line["message"].as_str().unwrap();
        assert!(
            message.starts_with("reload refused, what runs stays: "),
            "{line}"
        );
        assert!(message.contains(words), "{line}");
        assert_eq!(line["level"], "ERROR");
        assert!(!line["help"].as_str().unwrap().is_empty(), "{line}");
        assert_eq!(which(&client).await, Ok(1), "{line}");
    }

    std::fs::remove_file(&key).unwrap();
    let line = node.reload(&[&version(2), &*keyed].concat());
    let message = line["message"].as_str().unwrap();
    assert!(message.contains("centrifugo.key"), "{line}");
    assert_eq!(which(&client).await, Ok(1));
    assert!(!node.process.said().concat().contains("secret-of-ours"));

    let line = node.reload(&version(3));
    assert_eq!(line["message"], "reloaded", "{line}");
    assert_eq!(which(&client).await, Ok(3));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_configuration_that_is_gone_is_refused_though_nobody_named_it_at_the_start() {
    let mut node = block_in_place(|| Node::start(&version(1)));
    let client = node.client().await;
    std::fs::remove_file(node.dir.path().join("node.toml")).unwrap();
    let line = block_in_place(|| node.hup());
    let message = line["message"].as_str().unwrap();
    let refused = "reload refused, what runs stays: node.toml: cannot be read";
    assert!(message.starts_with(refused), "{line}");
    let help = line["help"].as_str().unwrap();
    assert!(help.contains("or put one there"), "{line}");
    assert_eq!(which(&client).await, Ok(1));
    let line = node.reload(&version(2));
    assert_eq!(line["message"], "reloaded", "{line}");
    assert_eq!(which(&client).await, Ok(2));
}

/// Writes a certificate that was good until this year, and the settings that name it.
fn certificate(dir: &Path, until: i32) -> String {
    let mut params = rcgen::CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    params.not_before = rcgen::date_time_ymd(2001, 1, 1);
    params.not_after = rcgen::date_time_ymd(until, 1, 1);
    let key = rcgen::KeyPair::generate().unwrap();
    let certificate = params.self_signed(&key).unwrap();
    std::fs::write(dir.join("cert.pem"), certificate.pem()).unwrap();
    std::fs::write(dir.join("key.pem"), key.serialize_pem()).unwrap();
    "[listen.tls]\ncert = \"cert.pem\"\nkey = \"key.pem\"\n".to_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_expired_certificate_is_said_at_the_start_and_at_a_reload_which_applies_all_the_same() {
    let dir = tempfile::tempdir().unwrap();
    let tls = certificate(dir.path(), 2002);
    write(dir.path(), &[tls.clone(), version(1)].concat());
    let process = Running::start(stock(dir.path(), ["serve"]));
    let warning = block_in_place(|| process.says("has expired at 2002-01-01T00:00:00Z"));
    assert!(warning.contains("\"level\":\"WARN\""), "{warning}");
    assert!(warning.contains("renewed certificate"), "{warning}");
    let grpc = block_in_place(|| process.logs("listening", "grpc"));
    let mut node = Node {
        process,
        dir,
        grpc,
        told: 0,
    };
    let expired = |node: &Node| {
        let said = node.process.said();
        let warnings = said
            .iter()
            .filter(|line| line.contains("has expired") && line.contains("renewed certificate"));
        warnings.count()
    };
    assert_eq!(expired(&node), 1);
    let line = node.reload(&[tls.clone(), version(2)].concat());
    assert_eq!(line["message"], "reloaded", "{line}");
    assert_eq!(expired(&node), 2);
    certificate(node.dir.path(), 2090);
    let line = block_in_place(|| node.hup());
    assert_eq!(line["message"], "reloaded: nothing changed", "{line}");
    assert_eq!(expired(&node), 2);
    std::fs::write(node.dir.path().join("cert.pem"), "no certificate").unwrap();
    let line = block_in_place(|| node.hup());
    let message = line["message"].as_str().unwrap();
    assert!(message.starts_with("reload refused"), "{line}");
    assert!(message.contains("cert.pem"), "{line}");
    let line = block_in_place(|| node.process.says("changed certificates can't be used"));
    assert!(line.contains("they are read when they change"), "{line}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_draining_node_refuses_a_reload_in_words() {
    let mut node = block_in_place(|| Node::start(&version(1)));
    let client = node.client().await;
    let stream = small_request(EventKind::Stream, "news");
    // What has begun and does not end keeps the node draining.
    let mut held = client.open(&path(EventKind::Rpc), &[]).await.unwrap();
    held.send(support::client::frame(false, &stream).slice(..4), false)
        .await;
    node.process.signal("TERM");
    block_in_place(|| node.process.says("\"message\":\"draining\""));
    let line = block_in_place(|| node.hup());
    let message = line["message"].as_str().unwrap();
    assert!(message.contains("the node is draining"), "{line}");
}

/// `/metrics` of a node.
async fn page(admin: &str) -> String {
    let mut socket = TcpStream::connect(admin).await.unwrap();
    let ask = "GET /metrics HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n";
    socket.write_all(ask.as_bytes()).await.unwrap();
    let mut page = String::new();
    socket.read_to_string(&mut page).await.unwrap();
    page
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sampling_and_the_endpoints_of_centrifugo_change_while_the_node_runs() {
    let collector = Collector::start();
    let (first, second) = (Double::start(), Double::start());
    let settings = |sampling: u32, api: &Double| {
        let (otlp, api) = (&collector.config().collector, api.address());
        format!(
            "otlp = \"{otlp}\"\nsampling = {sampling}\n[centrifugo]\napi = [\"grpc://{api}\"]\n{}",
            version(1)
        )
    };
    let mut node = block_in_place(|| Node::start(&settings(0, &first)));
    let admin = node.process.logs("listening", "admin");
    let client = node.client().await;
    assert_eq!(which(&client).await, Ok(1));
    let line = node.reload(&settings(1, &second));
    let changed = line["changed"].as_str().unwrap();
    assert!(changed.contains("log.sampling: 0 -> 1"), "{line}");
    assert!(
        line.get("needs_restart").is_none_or(|it| it == ""),
        "{line}"
    );
    assert_eq!(which(&client).await, Ok(1));
    // Whatever the first one had left would have come before.
    let spans = collector.spans_once(1).await;
    let listeners = spans.iter().filter(|span| span.name == "listener rpc");
    assert_eq!(listeners.count(), 1, "{spans:?}");
    support::eventually("it is connected to the other one", async || {
        let page = page(&admin).await;
        let up = |double: &Double| {
            let mut lines = page
                .lines()
                .filter(|it| it.starts_with("centripeta_publisher_"));
            lines.any(|it| it.contains(&double.address().to_string()) && it.ends_with(" 1"))
        };
        up(&second) && !up(&first)
    })
    .await;
}
