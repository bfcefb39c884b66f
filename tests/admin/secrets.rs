//! What must not be in any log, however much is logged: a running node at `trace`, with secrets in
//! every place that holds or carries one.

use crate::address_in;
use crate::process::{Ended, Running, probe, run, stock};
use crate::support::{Client, client, path, request, soon};
use centripeta::config::{LoadOptions, load};
use centripeta::event::EventKind;
use centripeta::proto::api::centrifugo_api_server::{CentrifugoApi, CentrifugoApiServer};
use std::path::Path;
use std::process::Command;
use tokio::net::{TcpListener, TcpStream};

/// Every secret of these tests begins like this.
const MARK: &str = "s3cr3t";

/// Calls that bring secrets along, right and wrong ones, in every place that there is.
async fn fire_all(grpc: &str) {
    let socket = TcpStream::connect(grpc).await.unwrap();
    socket.set_nodelay(true).unwrap();
    let calls = Client::new(socket).await;
    let right = [
        ("x-router-key", "s3cr3t-router"),
        ("x-stage-key", "s3cr3t-stage"),
    ];
    let wrong_router = [("x-router-key", "s3cr3t-wrong-router")];
    let wrong_stage = [
        ("x-router-key", "s3cr3t-router"),
        ("x-stage-key", "s3cr3t-wrong-stage"),
    ];
    let carried = [
        ("authorization", "Bearer s3cr3t-authorization"),
        ("cookie", "sid=s3cr3t-cookie"),
        ("x-api-key", "s3cr3t-header"),
        ("x-binary-bin", "czNjcjN0"),
        ("traceparent", "00-s3cr3t-01"),
        ("grpc-timeout", "500m"),
    ];
    for headers in [&right[..], &wrong_router, &wrong_stage, &[]] {
        let headers = [headers, &carried].concat();
        for kind in EventKind::ALL {
            for fields in fields(kind) {
                let message = request(kind, &fields);
                if kind.is_stream() {
                    // Opened, spoken into where that goes, and left.
                    let mut call = calls.open(&path(kind), &headers).await.unwrap();
                    call.message(&message).await;
                    let opened = soon("the first message", call.next()).await;
                    if opened.is_some() && kind == EventKind::StreamBidirectional {
                        call.message(b"\x12\x0a\x22\x08s3cr3t-p").await;
                        call.message(b"\xff s3cr3t-torn").await;
                    }
                    call.cancel();
                    continue;
                }
                calls.call(&path(kind), &headers, &message).await;
            }
            // No message of this kind, and no message at all.
            calls
                .call(&path(kind), &headers, b"\x0a\x50s3cr3t-torn")
                .await;
            let torn = client::frame(true, b"s3cr3t-gzip");
            soon("an end", calls.exchange(&path(kind), &headers, torn)).await;
        }
    }
    // As much at once as a limit by header refuses.
    let headers = [&right[..], &carried].concat();
    let fields = r#"{"client":"c1","method":"number","data":"s3cr3t-data"}"#;
    for _ in 0..50 {
        let message = request(EventKind::Rpc, fields);
        calls.call(&path(EventKind::Rpc), &headers, &message).await;
    }
    let garbage = b"GET /?token=s3cr3t-query HTTP/1.1\r\nauthorization: s3cr3t-http\r\n\r\n";
    let mut socket = TcpStream::connect(grpc).await.unwrap();
    drop(tokio::io::AsyncWriteExt::write_all(&mut socket, garbage).await);
}

/// Requests of a kind with secrets in whatever a client or an application fills.
fn fields(kind: EventKind) -> Vec<String> {
    let meta = r#""client":"c1","user":"u1","protocol":"json","meta":{"token":"s3cr3t-meta"}"#;
    match kind {
        EventKind::ChannelState => vec!["{}".to_owned()],
        EventKind::Raw => vec![r#"{"$hex":"0a087333637233742d72"}"#.to_owned()],
        EventKind::Connect => vec![
            r#"{"client":"c1","protocol":"json","data":{"token":"s3cr3t-connect"}}"#.to_owned(),
        ],
        EventKind::Refresh => vec![format!("{{{meta}}}")],
        EventKind::Rpc => ["publish", "number", "boom", "late", "rejected", "failed", "none"]
            .map(|method| {
                format!(r#"{{{meta},"method":"{method}","data":"s3cr3t-data"}}"#)
            })
            .to_vec(),
        EventKind::Subscribe => ["chat:1", "none:1"]
            .map(|channel| {
                format!(
                    r#"{{{meta},"channel":"{channel}","token":"s3cr3t-token","data":"s3cr3t-data"}}"#
                )
            })
            .to_vec(),
        EventKind::StreamBidirectional => vec![format!(
            r#"{{"subscribe_request":{{{meta},"channel":"feed:1","data":"s3cr3t-data"}}}}"#
        )],
        EventKind::Stream => vec![format!(
            r#"{{{meta},"channel":"feed:1","data":"s3cr3t-data"}}"#
        )],
        EventKind::Publish | EventKind::MapPublish => vec![format!(
            r#"{{{meta},"channel":"chat:1","data":"s3cr3t-data"}}"#
        )],
        EventKind::SubRefresh => vec![format!(r#"{{{meta},"channel":"chat:1"}}"#)],
        EventKind::MapRemove => vec![format!(
            r#"{{{meta},"channel":"chat:1","key":"s3cr3t-key"}}"#
        )],
        EventKind::SharedPollRefresh => {
            vec![r#"{"channel":"chat:1","items":[{"key":"s3cr3t-item"}]}"#.to_owned()]
        }
        EventKind::CacheEmpty => vec![r#"{"channel":"chat:1"}"#.to_owned()],
    }
}

/// Calls of the admin listener, right and wrong ones.
async fn administer(admin: &str, dir: &Path) {
    let calls = Client::new(TcpStream::connect(admin).await.unwrap()).await;
    let service = "/centripeta.admin.v1.Admin/";
    for token in ["Bearer s3cr3t-admin", "Bearer s3cr3t-wrong-admin", "s3cr3t"] {
        let headers = [("authorization", token), ("cookie", "s3cr3t-cookie")];
        for method in ["GetInfo", "GetLogLevel", "Nothing"] {
            let reply = calls
                .call(&format!("{service}{method}"), &headers, b"")
                .await;
            let text = format!("{reply:?}");
            assert!(!text.contains(MARK), "{text}");
        }
    }
    for path in ["/metrics?token=s3cr3t-query", "/ready", "/none?s3cr3t"] {
        let request = format!(
            "GET {path} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer s3cr3t-admin\r\nconnection: close\r\n\r\n"
        );
        let mut socket = TcpStream::connect(admin).await.unwrap();
        tokio::io::AsyncWriteExt::write_all(&mut socket, request.as_bytes())
            .await
            .unwrap();
        let mut page = String::new();
        tokio::io::AsyncReadExt::read_to_string(&mut socket, &mut page)
            .await
            .unwrap();
        assert!(!page.contains(MARK), "{page}");
    }
    // The commands, with all of their own log.
    let admin = format!("listen.admin={admin}");
    for (token, code) in [("s3cr3t-admin", 0), ("s3cr3t-wrong-admin", 1)] {
        let token = format!("listen.admin_token={token}");
        for command in [
            &["log-level"][..],
            &["log-level", "--json"],
            &["log-level", "trace"],
        ] {
            // The variables of `node.toml` are not set here, which is nothing to these commands.
            let ended = run(stock(
                dir,
                [command, &["--set", &admin, "--set", &token]].concat(),
            ));
            assert_eq!(ended.code, code, "{command:?} {ended:?}");
            clean(&ended);
        }
        for command in [
            &["reload", "--json"][..],
            &["reload"],
            &["health", "--json"],
        ] {
            let sets = ["--set", &admin, "--set", &token, "--log", "trace"];
            let mut command = stock(dir, [command, &sets].concat());
            set_variables(&mut command);
            clean(&run(command));
        }
    }
}

fn set_variables(command: &mut Command) {
    command
        .env("ROUTER_KEY", "s3cr3t-router")
        .env("STAGE_KEY", "s3cr3t-stage");
}

fn clean(ended: &Ended) {
    assert!(
        !ended.out.contains(MARK) && !ended.err.contains(MARK),
        "{ended:?}"
    );
}

/// A server API that refuses everything.
struct Refusing;

#[tonic::async_trait]
impl CentrifugoApi for Refusing {}

/// Runs a node, does everything to it, ends it, and looks at each of its lines.
async fn nothing_is_logged_by(command: Command, dir: &Path) -> Vec<String> {
    let mut node = Running::start(command);
    let line = node.says("listening");
    fire_all(&address_in(&line, "grpc")).await;
    administer(&address_in(&line, "admin"), dir).await;
    node.signal("TERM");
    node.end();
    node.says("ended, ");
    let said = node.said();
    let told: Vec<&String> = said.iter().filter(|line| line.contains(MARK)).collect();
    assert!(told.is_empty(), "{told:#?}");
    said
}

const SETS: [&str; 12] = [
    "--log",
    "trace",
    "--set",
    "listen.grpc=127.0.0.1:0",
    "--set",
    "listen.admin=127.0.0.1:0",
    "--set",
    "listen.admin_token=s3cr3t-admin",
    "--set",
    "listen.auth.value=s3cr3t-router",
    "--set",
    "limits.shutdown_grace=1s",
];

fn has(said: &[String], words: &[&str]) {
    for word in words {
        assert!(
            said.iter().any(|line| line.contains(word)),
            "no line has {word:?}"
        );
    }
}

const CONFIG: &str = r#"
[listen]
auth = { metadata = "x-router-key", value = "${ROUTER_KEY}" }
[[interceptor]]
name = "log"
on = "*"
kind = "access-log"
[[interceptor]]
name = "stage"
on = "*"
kind = "header-auth"
header = "x-stage-key"
value = "${STAGE_KEY}"
[[interceptor]]
name = "slow"
on = "rpc"
kind = "limit"
rate = 1
per = "{header.x-api-key}"
[[route]]
on = "connect"
handler = "welcome"
[[route]]
on = ["refresh", "sub_refresh", "subscribe", "publish", "stream", "map_publish"]
handler = "allow"
[[route]]
on = "rpc"
match = "number"
key = "of:{data.token}"
handler = "echo"
[[route]]
on = "rpc"
match = "publish"
handler = "echo"
[handler.welcome]
kind = "static"
reply = { user = "guest" }
"#;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_secret_is_logged_at_trace_by_the_handlers_and_stages_of_node_toml() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("node.toml"), CONFIG).unwrap();
    for format in ["log.format=json", "log.format=pretty"] {
        let args = [
            &[
                "serve",
                "--set",
                format,
                "--set",
                "centrifugo.key=s3cr3t-api",
            ][..],
            &SETS,
        ];
        let mut command = stock(dir.path(), args.concat());
        set_variables(&mut command);
        let said = nothing_is_logged_by(command, dir.path()).await;
        // All of it was told of.
        has(
            &said,
            &[
                "centripeta::access",
                "the caller is not authenticated",
                "no_route",
                "rejected",
            ],
        );
        has(
            &said,
            &["overloaded", "undecodable", "the log level was changed"],
        );
    }
    // What is printed of the configuration.
    for args in [
        &["print-config"][..],
        &["print-config", "--json"],
        &["check-config", "--json"],
        &["explain", "rpc", "--method", "number", "--json"],
        &["centrifugo-config"],
    ] {
        let mut command = stock(dir.path(), [args, &SETS].concat());
        set_variables(&mut command);
        clean(&run(command));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_secret_is_logged_at_trace_by_handlers_that_fail_and_publish() {
    let dir = tempfile::tempdir().unwrap();
    let api = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("centrifugo.api=[\"grpc://{}\"]", api.local_addr().unwrap());
    let served = tonic::transport::server::TcpIncoming::from(api);
    let server = tonic::transport::Server::builder()
        .add_service(CentrifugoApiServer::new(Refusing))
        .serve_with_incoming(served);
    tokio::spawn(server);
    // One endpoint that refuses, and one that nobody listens on.
    for api in [address.as_str(), "centrifugo.api=[\"grpc://127.0.0.1:1\"]"] {
        let more = ["--set", api, "--set", "centrifugo.key=s3cr3t-api"];
        let auth = ["--set", "listen.auth.metadata=x-router-key"];
        let args = [&["serve"][..], &more, &auth, &SETS].concat();
        let mut command = probe(dir.path(), args);
        command.env("PROBE_STAGE_SECRET", "s3cr3t-stage");
        let said = nothing_is_logged_by(command, dir.path()).await;
        has(
            &said,
            &[
                "a seat fell over",
                "centripeta::access",
                "bad_data",
                "timeout",
            ],
        );
        has(
            &said,
            &[
                "the caller is not authenticated",
                "a publication that nobody waits for failed",
            ],
        );
    }
}

#[test]
fn the_debug_form_of_a_configuration_shows_no_secret() {
    let dir = tempfile::tempdir().unwrap();
    let mut options = LoadOptions::new([
        ("ROUTER_KEY".to_owned(), "s3cr3t-router".to_owned()),
        ("STAGE_KEY".to_owned(), "s3cr3t-stage".to_owned()),
        (
            "CENTRIPETA_CENTRIFUGO__KEY".to_owned(),
            "s3cr3t-api".to_owned(),
        ),
    ]);
    std::fs::write(dir.path().join("node.toml"), CONFIG).unwrap();
    options.dir = dir.path().to_owned();
    options
        .sets
        .push("listen.admin_token=s3cr3t-admin".to_owned());
    let loaded = load(&options).unwrap();
    let config = &loaded.config;
    // They are there …
    assert_eq!(
        config.centrifugo.key.as_ref().unwrap().expose(),
        "s3cr3t-api"
    );
    assert_eq!(
        config.listen.admin_token.as_ref().unwrap().expose(),
        "s3cr3t-admin"
    );
    // … and stay where they are.
    let shown = format!("{options:?} {loaded:?} {config:?}");
    assert!(
        shown.contains("<redacted>") && !shown.contains(MARK),
        "{shown}"
    );
}
