//! Lines of the access log, written by a running engine.
#![allow(clippy::unwrap_used)]

use super::present;
use crate::builtin::tests::Running;
use crate::event::EventKind;
use serde_json::{Value, json};
use std::io::{self, Write};
use std::sync::{Arc, Mutex};
use tracing::Level;
use tracing::subscriber::DefaultGuard;

/// Keeps what is written.
#[derive(Clone, Default)]
struct Kept(Arc<Mutex<Vec<u8>>>);

impl Write for Kept {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Kept {
    /// Takes what this thread logs down to a level.
    fn up_to(level: Level) -> (Self, DefaultGuard) {
        let kept = Self::default();
        let writer = kept.clone();
        let lines = tracing_subscriber::fmt()
            .json()
            .flatten_event(true)
            .with_max_level(level)
            .with_writer(move || writer.clone())
            .finish();
        (kept, tracing::subscriber::set_default(lines))
    }

    /// The lines of the access log.
    fn lines(&self) -> Vec<Value> {
        let text = String::from_utf8(self.0.lock().unwrap().clone()).unwrap();
        let lines = text.lines().map(|line| serde_json::from_str(line).unwrap());
        let ours = |line: &Value| line["target"] == "centripeta::access";
        lines.filter(ours).collect()
    }
}

const LOGGED: &str = "[[interceptor]]\nname = \"log\"\non = \"*\"\nkind = \"access-log\"\n";

fn with_routes(log: &str) -> String {
    format!(
        "{LOGGED}{log}\n[[route]]\non = \"rpc\"\nmatch = \"seat.*\"\nkey = \"user\"\nhandler = \"echo\"\n\
         [[route]]\non = \"subscribe\"\nhandler = \"no\"\n\
         [handler.no]\nkind = \"static\"\nerror = {{ code = 1403, message = \"no\" }}\n"
    )
}

#[tokio::test]
async fn every_event_leaves_one_line_with_its_names_and_its_end_and_no_payload() {
    let (kept, _guard) = Kept::up_to(Level::INFO);
    let running = Running::of(&with_routes("")).await;
    let call = json!({"client": "c1", "user": "ann", "method": "seat.hold", "data": "s3cret"});
    running
        .ask_with(EventKind::Rpc, &call, &[("cookie", "s3cret")])
        .await;
    let subscribe =
        json!({"client": "c1", "user": "ann", "channel": "chat:\n7", "token": "s3cret"});
    running.ask(EventKind::Subscribe, &subscribe).await;
    running
        .ask(EventKind::Publish, &json!({"client": "c1", "channel": "x"}))
        .await;
    let lines = kept.lines();
    assert_eq!(lines.len(), 3);
    let shown = |line: &Value, name: &str| line[name].as_str().unwrap_or("-").to_owned();
    let names = ["event", "client", "user", "channel", "method", "outcome"];
    let shown: Vec<String> = lines
        .iter()
        .map(|line| names.map(|name| shown(line, name)).join(" "))
        .collect();
    assert_eq!(
        shown,
        [
            "rpc c1 ann - seat.hold ok",
            "subscribe c1 ann chat:\n7 - rejected",
            "publish c1 - x - no_route",
        ]
    );
    let codes: Vec<&Value> = lines.iter().map(|line| &line["code"]).collect();
    assert_eq!(codes, [&Value::Null, &json!(1403), &json!(103)]);
    assert!(
        lines[0]["route"]
            .as_str()
            .unwrap()
            .starts_with("rpc `seat.*`")
    );
    assert!(lines.iter().all(|line| line["took_ms"].as_f64().is_some()));
    assert!(lines.iter().all(|line| line["level"] == "INFO"));
    let text = String::from_utf8(kept.0.lock().unwrap().clone()).unwrap();
    assert!(!text.contains("s3cret"), "{text}");
}

#[tokio::test]
async fn a_line_names_the_trace_of_an_event_that_has_one() {
    let (kept, _guard) = Kept::up_to(Level::INFO);
    let running = Running::of(&with_routes("")).await;
    let call = json!({"client": "c1", "user": "ann", "method": "seat.hold"});
    let parent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    running
        .ask_with(EventKind::Rpc, &call, &[("traceparent", parent)])
        .await;
    running.ask(EventKind::Rpc, &call).await;
    let lines = kept.lines();
    assert_eq!(lines[0]["trace_id"], "4bf92f3577b34da6a3ce929d0e0e4736");
    assert_eq!(lines[1].get("trace_id"), None);
}

#[tokio::test]
async fn a_line_shows_the_fields_that_were_asked_for_and_no_others() {
    let (kept, _guard) = Kept::up_to(Level::WARN);
    let log = "level = \"warn\"\nfields = [\"key\", \"handler\", \"outcome\"]\n";
    let running = Running::of(&with_routes(log)).await;
    let call = json!({"client": "c1", "user": "ann", "method": "seat.hold"});
    running.ask(EventKind::Rpc, &call).await;
    let line = kept.lines().remove(0);
    let names: Vec<&str> = line
        .as_object()
        .unwrap()
        .keys()
        .map(String::as_str)
        .collect();
    let expected = [
        "handler",
        "key",
        "level",
        "message",
        "outcome",
        "target",
        "timestamp",
    ];
    assert_eq!(names, expected);
    assert_eq!(
        (&line["key"], &line["handler"]),
        (&json!("user ann"), &json!("echo"))
    );
}

#[tokio::test]
async fn nothing_is_written_above_the_level_that_is_shown() {
    let (kept, _guard) = Kept::up_to(Level::INFO);
    let running = Running::of(&with_routes("level = \"debug\"")).await;
    running
        .ask(EventKind::Rpc, &json!({"client": "c", "method": "seat.x"}))
        .await;
    assert!(kept.lines().is_empty());
}

#[tokio::test]
async fn a_stream_leaves_its_line_when_it_is_over_and_not_when_it_opens() {
    let (kept, _guard) = Kept::up_to(Level::INFO);
    let stream = "[[route]]\non = \"stream\"\nhandler = \"allow\"\n";
    let running = Running::of(&format!("{LOGGED}{stream}")).await;
    let subscribe = json!({"client": "c1", "user": "ann", "channel": "feed:1"});
    assert!(
        running
            .ask(EventKind::Stream, &subscribe)
            .await
            .starts_with("open")
    );
    // Behind the end of the stream in the mailbox of the stage.
    running.ask(EventKind::Rpc, &json!({"client": "c1"})).await;
    let lines = kept.lines();
    let ends: Vec<_> = lines
        .iter()
        .map(|line| (&line["event"], &line["outcome"]))
        .collect();
    let json = |text: &str| json!(text);
    assert_eq!(
        ends,
        [
            (&json("stream"), &json("stream_cancelled")),
            (&json("rpc"), &json("no_route")),
        ]
    );
}

#[test]
fn long_names_are_cut_between_characters() {
    assert_eq!(present(""), None);
    assert_eq!(present("short"), Some("short"));
    let long = format!("{}ж{}", "x".repeat(255), "y".repeat(300));
    assert_eq!(present(&long).unwrap().len(), 255);
}
