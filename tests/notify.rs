//! What a service manager hears from `serve`, on a socket of its own making.
#![allow(clippy::unwrap_used)]
#![allow(
    clippy::disallowed_methods,
    reason = "a handler that blocks its thread is what is tried"
)]

#[path = "support/process.rs"]
mod process;

use centripeta::{App, Data, Json, Router};
use process::{LIMIT, Running, eventually, probe as program, run, stock};
use std::io::ErrorKind;
use std::net::{TcpListener, TcpStream};
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

const FREE: [&str; 5] = [
    "serve",
    "--set",
    "listen.grpc=127.0.0.1:0",
    "--set",
    "listen.admin=127.0.0.1:0",
];

/// Not a test of its own: the program that others start from this executable.
#[test]
fn probe() {
    let Ok(args) = std::env::var("PROBE_ARGS") else {
        return;
    };
    let router = Router::new().rpc("hold", hold).with_state(());
    let args = std::iter::once("probe").chain(args.lines());
    let code = App::new(router).run_with(args.map(str::to_owned).collect::<Vec<_>>());
    std::process::exit(i32::from(code != std::process::ExitCode::SUCCESS));
}

/// Says that it has begun by one file, and holds its thread until there is another.
async fn hold(Data(gate): Data<String>) -> Json<&'static str> {
    std::fs::write(format!("{gate}.begun"), "").unwrap();
    while !Path::new(&gate).exists() {
        std::thread::sleep(Duration::from_millis(5));
    }
    Json("released")
}

/// A manager that listens at a path.
struct Manager {
    socket: UnixDatagram,
    path: PathBuf,
}

impl Manager {
    fn listen(dir: &Path) -> Self {
        let path = dir.join("notify");
        let socket = UnixDatagram::bind(&path).unwrap();
        Self { socket, path }
    }

    /// The next message, unless none comes for so long.
    fn hear(&self, within: Duration) -> Option<String> {
        self.socket.set_read_timeout(Some(within)).unwrap();
        let mut bytes = [0; 512];
        match self.socket.recv(&mut bytes) {
            Ok(read) => Some(String::from_utf8(bytes[..read].to_vec()).unwrap()),
            Err(error) if error.kind() == ErrorKind::WouldBlock => None,
            Err(error) => panic!("{error}"),
        }
    }
}

fn field<'a>(message: &'a str, name: &str) -> Option<&'a str> {
    let mut lines = message.lines();
    lines.find_map(|line| line.strip_prefix(name)?.strip_prefix('='))
}

fn started(mut command: Command, manager: &Manager) -> Running {
    command.env("NOTIFY_SOCKET", &manager.path);
    Running::start(command)
}

#[test]
fn ready_is_said_once_the_node_can_be_reached_and_stopping_when_it_drains() {
    let dir = tempfile::tempdir().unwrap();
    let manager = Manager::listen(dir.path());
    let sets = ["--set", "limits.shutdown_grace=7s"];
    let command = stock(dir.path(), [&FREE[..], &sets].concat());
    let mut node = started(command, &manager);
    let ready = manager.hear(LIMIT).unwrap();
    assert_eq!(field(&ready, "READY"), Some("1"), "{ready}");
    // It takes connections and says so itself, at the first try.
    let (grpc, admin) = (
        node.logs("listening", "grpc"),
        node.logs("listening", "admin"),
    );
    TcpStream::connect(&grpc).unwrap();
    let set = format!("listen.admin={admin}");
    let health = run(stock(dir.path(), ["health", "--ready", "--set", &set]));
    assert_eq!(health.code, 0, "{health:?}");
    let status = field(&ready, "STATUS").unwrap();
    assert!(
        status.contains(&grpc) && status.contains(&admin),
        "{status}"
    );

    node.signal("TERM");
    let stopping = manager.hear(LIMIT).unwrap();
    assert_eq!(field(&stopping, "STOPPING"), Some("1"), "{stopping}");
    let asked = field(&stopping, "EXTEND_TIMEOUT_USEC").unwrap();
    assert!(asked.parse::<u64>().unwrap() > 7_000_000, "{stopping}");
    assert_eq!(node.end().code(), Some(0));
}

#[test]
fn a_reload_is_told_with_its_end_whoever_asked_for_it() {
    let dir = tempfile::tempdir().unwrap();
    let manager = Manager::listen(dir.path());
    let node = started(stock(dir.path(), FREE), &manager);
    let ready = manager.hear(LIMIT).unwrap();
    assert!(field(&ready, "STATUS").unwrap().ends_with(" 0 routes"));
    let set = format!("listen.admin={}", node.logs("listening", "admin"));
    let file = dir.path().join("node.toml");
    let asks: [&dyn Fn(); 2] = [&|| node.signal("HUP"), &|| {
        let asked = run(stock(dir.path(), ["reload", "--set", &set]));
        assert_eq!(asked.code, 0, "{asked:?}");
    }];
    for (routes, events, ask) in [
        (1, r#""rpc""#, asks[0]),
        (2, r#"["rpc", "connect"]"#, asks[1]),
    ] {
        let deny = format!("[[route]]\non = {events}\nhandler = \"deny\"\n");
        std::fs::write(&file, deny).unwrap();
        ask();
        let reloading = manager.hear(LIMIT).unwrap();
        assert_eq!(field(&reloading, "RELOADING"), Some("1"), "{reloading}");
        assert!(field(&reloading, "MONOTONIC_USEC").is_some(), "{reloading}");
        let ready = manager.hear(LIMIT).unwrap();
        assert_eq!(field(&ready, "READY"), Some("1"), "{ready}");
        assert!(ready.ends_with(&format!(" {routes} routes")), "{ready}");
    }
}

#[test]
fn a_start_that_fails_never_says_ready() {
    let dir = tempfile::tempdir().unwrap();
    let manager = Manager::listen(dir.path());
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let admin = format!("listen.admin={}", taken.local_addr().unwrap());
    let command = stock(dir.path(), [&FREE[..], &["--set", &admin]].concat());
    assert_eq!(started(command, &manager).end().code(), Some(4));
    manager.socket.set_nonblocking(true).unwrap();
    let heard = manager.socket.recv(&mut [0; 512]);
    assert_eq!(heard.unwrap_err().kind(), ErrorKind::WouldBlock);
}

#[test]
fn keepalives_stop_while_code_holds_a_core_and_come_back_when_it_is_over() {
    let limit = Duration::from_secs(2);
    let dir = tempfile::tempdir().unwrap();
    let manager = Manager::listen(dir.path());
    let mut command = program(
        dir.path(),
        [&FREE[..], &["--set", "runtime.cores=2"]].concat(),
    );
    command.env("WATCHDOG_USEC", limit.as_micros().to_string());
    let mut node = started(command, &manager);
    assert!(manager.hear(LIMIT).unwrap().contains("READY=1"));
    for _ in 0..3 {
        assert_eq!(manager.hear(limit).as_deref(), Some("WATCHDOG=1"));
    }

    let gate = dir.path().join("gate").display().to_string();
    let data = serde_json::to_string(&gate).unwrap();
    let grpc = node.logs("listening", "grpc");
    let args = ["fire", "rpc", "--method", "hold", "--timeout", "60s"];
    let to = ["--to", grpc.as_str(), "--data", &data];
    let mut caller = Running::start(stock(dir.path(), [&args[..], &to].concat()));
    eventually("the core is held", || {
        Path::new(&format!("{gate}.begun")).exists().then_some(())
    });
    // What was on its way may still come; then there is silence for longer than the manager allows.
    let late = (0..10).take_while(|_| manager.hear(limit).is_some());
    assert!(late.count() <= 2, "a held core does not end the keepalives");

    std::fs::write(&gate, "").unwrap();
    assert_eq!(manager.hear(LIMIT).as_deref(), Some("WATCHDOG=1"));
    caller.end();
    node.signal("TERM");
    assert!(node.end().success());
}

#[test]
fn keepalives_for_another_process_are_not_sent() {
    let dir = tempfile::tempdir().unwrap();
    let manager = Manager::listen(dir.path());
    let mut command = stock(dir.path(), FREE);
    command
        .env("WATCHDOG_USEC", "20000")
        .env("WATCHDOG_PID", "1");
    let mut node = started(command, &manager);
    assert!(manager.hear(LIMIT).unwrap().contains("READY=1"));
    // Twenty would have come.
    assert_eq!(manager.hear(Duration::from_millis(400)), None);
    node.signal("INT");
    assert!(manager.hear(LIMIT).unwrap().contains("STOPPING=1"));
    assert_eq!(node.end().code(), Some(0));
}

#[test]
fn a_manager_that_is_not_there_is_one_warning_and_no_more() {
    let dir = tempfile::tempdir().unwrap();
    let nobody = dir.path().join("nobody").display().to_string();
    for socket in [nobody.as_str(), "@centripeta-nobody", "relative/path"] {
        let mut command = stock(dir.path(), FREE);
        command.env("NOTIFY_SOCKET", socket);
        let mut node = Running::start(command);
        node.says("listening");
        node.says("NOTIFY_SOCKET");
        node.signal("TERM");
        assert_eq!(node.end().code(), Some(0));
        let said = node.said();
        let warnings = said.iter().filter(|line| line.contains("\"WARN\""));
        let ours = warnings.filter(|line| line.contains("NOTIFY_SOCKET"));
        assert_eq!(ours.count(), 1, "{said:#?}");
    }
}

#[test]
fn the_status_follows_the_part_of_the_node_in_its_cluster() {
    let dir = tempfile::tempdir().unwrap();
    let manager = Manager::listen(dir.path());
    let config = "[cluster]\nlisten = \"127.0.0.1:0\"\nadvertise = \"127.0.0.1:1\"\n";
    std::fs::write(dir.path().join("node.toml"), config).unwrap();
    let init = run(stock(dir.path(), ["cluster", "init"]));
    assert_eq!(init.code, 0, "{init:?}");
    let mut node = started(stock(dir.path(), FREE), &manager);
    let ready = manager.hear(LIMIT).unwrap();
    assert_eq!(field(&ready, "READY"), Some("1"), "{ready}");
    let status = field(&ready, "STATUS").unwrap();
    assert!(status.contains("; cluster: "), "{status}");
    // It is told as it comes, and nothing else with it.
    let whole = "; cluster: up with 4096 slots, leads";
    if !status.ends_with(whole) {
        let last = eventually("it has all slots", || {
            let said = manager.hear(LIMIT)?;
            assert_eq!(field(&said, "READY"), None, "{said}");
            said.ends_with(whole).then_some(said)
        });
        assert!(
            field(&last, "STATUS").unwrap().contains("events on"),
            "{last}"
        );
    }
    node.signal("TERM");
    let stopping = manager.hear(LIMIT).unwrap();
    assert_eq!(field(&stopping, "STOPPING"), Some("1"), "{stopping}");
    assert_eq!(node.end().code(), Some(0));
}

/// Starts the stock binary in a shell that has set `ulimit` so.
fn limited(dir: &Path, ulimit: &str) -> Running {
    let mut shell = Command::new("sh");
    shell
        .args([
            "-c",
            &format!("{ulimit}; echo \"id $$\"; exec \"$@\""),
            "sh",
        ])
        .arg(env!("CARGO_BIN_EXE_centripeta"))
        .args(FREE)
        .current_dir(dir);
    Running::start(shell)
}

#[test]
fn too_few_descriptors_are_told_at_start_with_the_cure_and_a_soft_limit_is_raised() {
    let dir = tempfile::tempdir().unwrap();
    let mut node = limited(dir.path(), "ulimit -n 512");
    let warning = node.says("file descriptors");
    assert!(warning.contains("may open 512"), "{warning}");
    assert!(warning.contains("limits.in_flight = 4096"), "{warning}");
    assert!(warning.contains("LimitNOFILE="), "{warning}");
    node.says("listening");
    node.signal("TERM");
    assert_eq!(node.end().code(), Some(0));

    let mut node = limited(dir.path(), "ulimit -Sn 256");
    node.says("listening");
    let id = node.says("id ");
    let limits = format!("/proc/{}/limits", id.trim_start_matches("id "));
    let limits = std::fs::read_to_string(limits).unwrap();
    let files = limits
        .lines()
        .find(|line| line.starts_with("Max open files"));
    let soft = files.unwrap().split_whitespace().nth(3).unwrap().to_owned();
    node.signal("TERM");
    assert_eq!(node.end().code(), Some(0));
    assert!(
        soft.parse::<u64>().is_ok_and(|soft| soft > 4_096),
        "{limits}"
    );
    assert!(
        node.said()
            .iter()
            .all(|line| !line.contains("file descriptors"))
    );
}
