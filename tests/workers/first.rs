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
    apart_with(dir, unshare, line, line)
}

/// The same where another line says whether it can be done.
fn apart_with(dir: &Path, unshare: &[&str], trial: &str, line: &str) -> Option<Running> {
    let can = Command::new("unshare")
        .args(unshare)
        .args(["sh", "-c", &trial.replace("exec \"$0\" serve", "true")])
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

/// What a worker leaves behind is handed to process 1, and waited for when it ends.
async fn orphans_are_waited_for(client: &Client, first: u32) {
    assert_eq!(ask_data(client, "rpc-orphan:1").await, "left");
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
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn w60_a_node_that_is_process_1_leaves_no_zombie_drains_on_sigterm_and_ends_with_0() {
    let dir = tempfile::tempdir().unwrap();
    let rpc = "[rpc]\nlisten = \"tcp://127.0.0.1:0\"\n";
    let log = dir.path().join("log");
    let env = format!("env = {{ STANDIN_LOG = \"{}\" }}", log.display());
    let rest = handler(Script::Python, &env, "num_workers = 2\nmax_jobs = 3") + &routes();
    write(dir.path(), &format!("{rpc}{rest}"));
    let args = ["--pid", "--fork", "--kill-child", "--mount-proc"];
    let Some(mut process) = apart(dir.path(), &args, "exec \"$0\" serve") else {
        return;
    };
    block_in_place(|| process.says("\"message\":\"listening\""));
    let client = client(dir.path()).await;
    let first = children_of(process.id());
    assert_eq!(first.len(), 1, "process 1 of that world");
    let first = first[0];
    orphans_are_waited_for(&client, first).await;
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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reload_whose_first_pool_finds_the_rpc_port_taken_is_refused_and_the_old_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), "[[route]]\non = \"rpc\"\nhandler = \"echo\"\n");
    let (held, go) = (dir.path().join("held"), dir.path().join("go"));
    let holder = format!(
        "import os, socket, time; s = socket.create_server((\"127.0.0.1\", 6001)); \
         open(\"{}\", \"w\").close(); \
         [time.sleep(0.01) for _ in range(6000) if not os.path.exists(\"{}\")]",
        held.display(),
        go.display()
    );
    let script = dir.path().join("hold.py");
    std::fs::write(&script, holder).unwrap();
    let line = format!(
        "ip link set lo up && {{ python3 {} & exec \"$0\" serve; }}",
        script.display()
    );
    let can = "ip link set lo up && exec \"$0\" serve";
    let Some(process) = apart_with(dir.path(), &["--net"], can, &line) else {
        return;
    };
    block_in_place(|| {
        process.says("\"message\":\"listening\"");
        eventually("the port is taken", || held.exists().then_some(()));
        let rest = handler(Script::Python, "", "num_workers = 1") + &routes();
        write(dir.path(), &rest);
        process.signal("HUP");
        let refused = process.says("reload refused");
        assert!(
            refused.contains("127.0.0.1:6001") && refused.contains("in use"),
            "{refused}"
        );
        assert!(refused.contains("rpc.listen"), "{refused}");
    });
    // What ran goes on, and no worker was left.
    let client = client(dir.path()).await;
    let data = ask(&client, EventKind::Rpc, "anything").await;
    assert_eq!(data.status, Some(0), "{data:?}");
    let python = children_of(process.id()).len();
    assert_eq!(python, 1, "the holder alone");
    block_in_place(|| {
        std::fs::write(&go, "").unwrap();
        eventually("the port is free", || {
            children_of(process.id()).is_empty().then_some(())
        });
        process.signal("HUP");
        process.says("\"message\":\"reloaded\"");
    });
    let env = ask_data(&client, "rpc-env").await;
    let env: serde_json::Value = serde_json::from_slice(&env).unwrap();
    assert_eq!(env["RR_RPC"], "tcp://127.0.0.1:6001");
}

/// How many workers are replaced under process 1.
const REPLACEMENTS: u64 = 1000;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn w60_no_zombie_is_left_after_a_thousand_replacements_though_the_node_is_process_1() {
    if !Script::all().contains(&Script::Php) {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let rpc = "[rpc]\nlisten = \"tcp://127.0.0.1:0\"\n";
    let rest = handler(Script::Php, "", "num_workers = 4\nmax_jobs = 1") + &routes();
    write(dir.path(), &format!("{rpc}{rest}"));
    let args = ["--pid", "--fork", "--kill-child", "--mount-proc"];
    let Some(mut process) = apart(dir.path(), &args, "exec \"$0\" serve") else {
        return;
    };
    block_in_place(|| process.says("\"message\":\"listening\""));
    let first = children_of(process.id())[0];
    let node = block_in_place(|| {
        eventually("the node is under process 1", || {
            all_children_of(first).first().map(|it| it.0)
        })
    });
    let client = client(dir.path()).await;
    let mut seen = std::collections::BTreeSet::new();
    let one = async || {
        let mut pids = Vec::new();
        for _ in 0..REPLACEMENTS / 4 {
            pids.push(ask_data(&client, "rpc-pid").await);
        }
        pids
    };
    for pids in futures_util::future::join_all([one(), one(), one(), one()]).await {
        seen.extend(pids);
    }
    assert_eq!(seen.len(), usize::try_from(REPLACEMENTS).unwrap());
    block_in_place(|| {
        eventually("all that have left were waited for", || {
            let workers = all_children_of(node);
            let is_well = workers.len() == 4 && workers.iter().all(|it| it.1 != 'Z');
            let orphans = all_children_of(first);
            (is_well && orphans.len() == 1).then_some(())
        });
        // A node that is killed takes everything along, and the code says so.
        let killed = Command::new("kill")
            .args(["-KILL", &node.to_string()])
            .status();
        assert!(killed.unwrap().success());
        assert_eq!(process.end().code(), Some(128 + 9));
        assert!(!is_alive(first));
    });
}

/// Copies a program into a root, with the libraries that it needs.
fn copy_into(root: &Path, program: &str) -> Option<()> {
    let real = std::fs::canonicalize(program).ok()?;
    let listed = Command::new("ldd").arg(&real).output().ok()?;
    let listed = String::from_utf8(listed.stdout).ok()?;
    let words = listed.split_whitespace();
    let libraries = words.filter(|word| word.starts_with('/'));
    for file in libraries.map(Path::new) {
        let to = root.join(file.strip_prefix("/").ok()?);
        std::fs::create_dir_all(to.parent()?).ok()?;
        std::fs::copy(file, to).ok()?;
    }
    let to = root.join(program.strip_prefix('/')?);
    std::fs::create_dir_all(to.parent()?).ok()?;
    std::fs::copy(real, to).ok().map(|_| ())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_static_program_is_process_1_of_a_root_that_holds_php_and_nothing_else() {
    let Some(program) = std::env::var_os("CENTRIPETA_TEST_STATIC") else {
        eprintln!(
            "SKIPPED: CENTRIPETA_TEST_STATIC names no static program: none is tried as an image"
        );
        return;
    };
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path();
    for inside in ["proc", "tmp", "app", "etc", "dev"] {
        std::fs::create_dir(root.join(inside)).unwrap();
    }
    // A shell reads from it where nobody else does.
    std::fs::write(root.join("dev/null"), "").unwrap();
    for needed in ["/usr/bin/php", "/bin/sh", "/bin/sleep"] {
        copy_into(root, needed).unwrap_or_else(|| panic!("no {needed}"));
    }
    std::fs::copy(program, root.join("centripeta")).unwrap();
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/workers/raw.php");
    std::fs::copy(script, root.join("app/app.php")).unwrap();
    let text = format!(
        "[listen]\ngrpc = \"unix:///app/grpc.sock\"\nadmin = \"127.0.0.1:0\"\n[runtime]\ncores = 2\n\
         [log]\nformat = \"json\"\n[rpc]\nlisten = \"unix:///app/rpc.sock\"\n\
         [handler.app]\nkind = \"roadrunner\"\ncommand = [\"php\", \"-n\", \"-d\", \"display_errors=stderr\", \"app.php\"]\n\
         env = {{ STANDIN_LOG = \"/app/log\" }}\n\
         [handler.app.pool]\nnum_workers = 2\nmax_jobs = 5\n{}",
        routes()
    );
    std::fs::write(root.join("app/node.toml"), text).unwrap();
    let mut command = Command::new("unshare");
    // Of the new root, in which it is mounted.
    command.args(["--pid", "--fork", "--kill-child", "--mount-proc"]);
    command.arg(format!("--root={}", root.display()));
    command.args(["--wd=/app", "/centripeta", "serve"]);
    command.env("PATH", "/usr/bin:/bin");
    let mut process = Running::start(command);
    block_in_place(|| process.says("\"message\":\"listening\""));
    let first = children_of(process.id())[0];
    let client = client(&root.join("app")).await;
    // The other side of the pipes is PHP, and there are more of them than two.
    let mut seen = std::collections::BTreeSet::new();
    for _ in 0..40 {
        seen.insert(ask_data(&client, "rpc-pid").await);
    }
    assert!(seen.len() >= 6, "{seen:?}");
    orphans_are_waited_for(&client, first).await;
    let node = all_children_of(first)[0].0;
    block_in_place(|| {
        eventually("no worker is a zombie", || {
            let workers = all_children_of(node);
            (workers.len() == 2 && workers.iter().all(|it| it.1 != 'Z')).then_some(())
        });
    });
    let workers = children_of(node);
    let slow =
        tokio::spawn(async move { ask(&client, EventKind::Subscribe, "sleep-hex:900.0a00").await });
    block_in_place(|| {
        eventually("it is at work", || {
            let log = std::fs::read_to_string(root.join("app/log")).ok()?;
            log.contains("got sleep-hex").then_some(())
        });
        let sent = Command::new("kill")
            .args(["-TERM", &first.to_string()])
            .status();
        assert!(sent.unwrap().success());
        process.says("\"draining\"");
    });
    let answered = slow.await.unwrap();
    assert_eq!(answered.status, Some(0), "{answered:?}");
    let status = block_in_place(|| process.end());
    assert_eq!(status.code(), Some(0), "{:#?}", process.said());
    assert!(!is_alive(first) && !is_alive(node));
    assert!(workers.iter().all(|pid| !is_alive(*pid)));
}
