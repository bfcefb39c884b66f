//! A node as process 1 of its world, as in a container, and one whose first pool comes by a reload.

use crate::node::{Script, ask, ask_data, children_of, handler, is_alive, routes};
use crate::process::{Running, eventually};
use crate::support::Client;
use centripeta::event::EventKind;
use std::path::Path;
use std::process::{Command, Stdio};
use tokio::net::UnixStream;
use tokio::task::block_in_place;

/// The node's own program, started by `unshare` with these arguments, then by this line of shell.
fn apart(dir: &Path, unshare: &[&str], line: &str) -> Option<Running> {
    let can = Command::new("unshare")
        .args(unshare)
        .args(["sh", "-c", &line.replace("exec \"$0\" serve", "true")])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    if !can.is_ok_and(|it| it.success()) {
        eprintln!(
            "SKIPPED: `unshare {}` is not possible here",
            unshare.join(" ")
        );
        return None;
    }
    let mut command = Command::new("unshare");
    command.args(unshare).args(["sh", "-c", line]);
    command
        .arg(env!("CARGO_BIN_EXE_centripeta"))
        .current_dir(dir);
    Some(Running::start(command))
}

fn write(dir: &Path, rest: &str) {
    let socket = dir.join("grpc.sock");
    let text = format!(
        "[listen]\ngrpc = \"unix://{}\"\nadmin = \"127.0.0.1:0\"\n[runtime]\ncores = 2\n\
         [log]\nformat = \"json\"\n{rest}",
        socket.display()
    );
    std::fs::write(dir.join("node.toml"), text).unwrap();
}

async fn client(dir: &Path) -> Client {
    Client::new(UnixStream::connect(dir.join("grpc.sock")).await.unwrap()).await
}

/// State and parent of every process.
fn processes() -> Vec<(u32, char, u32)> {
    let entries = std::fs::read_dir("/proc").unwrap();
    let pids = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    let read = |pid: u32| {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        let mut fields = stat.rsplit_once(") ")?.1.split(' ');
        let state = fields.next()?.chars().next()?;
        Some((pid, state, fields.next()?.parse().ok()?))
    };
    pids.filter_map(read).collect()
}

/// Children of a process, zombies among them.
fn all_children_of(parent: u32) -> Vec<(u32, char)> {
    let all = processes().into_iter();
    all.filter(|it| it.2 == parent)
        .map(|it| (it.0, it.1))
        .collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn w60_a_node_that_is_process_1_leaves_no_zombie_drains_on_sigterm_and_ends_with_0() {
    let dir = tempfile::tempdir().unwrap();
    let rpc = "[rpc]\nlisten = \"tcp://127.0.0.1:0\"\n";
    let log = dir.path().join("log");
    let env = format!("env = {{ STANDIN_LOG = \"{}\" }}", log.display());
    let rest = handler(Script::Python, &env, "num_workers = 2\nmax_jobs = 3") + &routes();
    write(dir.path(), &format!("{rpc}{rest}"));
    let args = ["--pid", "--fork", "--mount-proc"];
    let Some(mut process) = apart(dir.path(), &args, "exec \"$0\" serve") else {
        return;
    };
    block_in_place(|| process.says("\"message\":\"listening\""));
    let client = client(dir.path()).await;
    assert_eq!(ask_data(&client, "rpc-orphan:1").await, "left");
    let first = children_of(process.id());
    assert_eq!(first.len(), 1, "process 1 of that world");
    let first = first[0];
    block_in_place(|| {
        let node = all_children_of(first);
        assert!(!node.is_empty());
        eventually("the orphan is handed to process 1", || {
            (all_children_of(first).len() == 2).then_some(())
        });
        eventually("its end is waited for", || {
            let children = all_children_of(first);
            (children.len() == 1 && children[0].1 != 'Z').then_some(())
        });
    });
    // Workers are waited for by the node itself, and how they end is known.
    for _ in 0..12 {
        ask_data(&client, "rpc-pid").await;
    }
    let node = all_children_of(first)[0].0;
    block_in_place(|| {
        eventually("no worker is a zombie", || {
            let workers = all_children_of(node);
            (workers.len() == 2 && workers.iter().all(|it| it.1 != 'Z')).then_some(())
        });
        assert!(
            !process
                .said()
                .iter()
                .any(|line| line.contains("its end is not known"))
        );
    });
    let slow =
        tokio::spawn(async move { ask(&client, EventKind::Subscribe, "sleep-hex:900.0a00").await });
    block_in_place(|| {
        eventually("it is at work", || {
            let log = std::fs::read_to_string(&log).ok()?;
            log.contains("got sleep-hex").then_some(())
        });
        let sent = Command::new("kill")
            .args(["-TERM", &first.to_string()])
            .status();
        assert!(sent.unwrap().success());
        process.says("\"draining\"");
    });
    assert_eq!(
        slow.await.unwrap().status,
        Some(0),
        "what was let in is answered"
    );
    let status = block_in_place(|| process.end());
    assert_eq!(status.code(), Some(0), "{:#?}", process.said());
    assert!(
        process
            .said()
            .iter()
            .any(|line| line.contains("ended, nothing was cut"))
    );
    assert!(!is_alive(first) && !is_alive(node));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_first_pool_that_comes_by_a_reload_can_call_back() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), "[[route]]\non = \"rpc\"\nhandler = \"echo\"\n");
    // A world of its own has the default port free.
    let line = "ip link set lo up && exec \"$0\" serve";
    let Some(process) = apart(dir.path(), &["--net"], line) else {
        return;
    };
    block_in_place(|| {
        process.says("\"message\":\"listening\"");
        let rest = handler(Script::Python, "", "num_workers = 1") + &routes();
        write(dir.path(), &rest);
        process.signal("HUP");
        process.says("\"message\":\"reloaded\"");
        process.says("workers can call back");
    });
    let client = client(dir.path()).await;
    let env = ask_data(&client, "rpc-env").await;
    let env: serde_json::Value = serde_json::from_slice(&env).unwrap();
    assert_eq!(env["RR_RPC"], "tcp://127.0.0.1:6001");
    // rpc.Version, and its answer.
    let call = "15080f0000001c69ca8a0000070000000b0000007270632e56657273696f6e74727565";
    let answer = ask_data(&client, &format!("rpc-call:{call}")).await;
    assert!(answer.ends_with(b"rpc.Version\"2025.1.15\""), "{answer:?}");
    // A second reload finds it there.
    block_in_place(|| {
        let rest = handler(Script::Python, "env = { FOO = \"2\" }", "num_workers = 1") + &routes();
        write(dir.path(), &rest);
        process.signal("HUP");
        eventually("the second reload is told of", || {
            let said = process.said();
            let told = said
                .iter()
                .filter(|line| line.contains("\"message\":\"reloaded\""));
            (told.count() == 2).then_some(())
        });
    });
    let answer = ask_data(&client, &format!("rpc-call:{call}")).await;
    assert!(answer.ends_with(b"rpc.Version\"2025.1.15\""), "{answer:?}");
}
