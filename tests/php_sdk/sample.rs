//! The sample project: `rr serve` becomes `centripeta serve`, and clients see no difference.

use crate::outside::{Program, free_ports, named, or_skip};
use crate::world::{self, Programs};
use crate::{php, php_sdk};
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;
use tokio::time::Instant;

/// How long the clients may take.
const LIMIT: Duration = Duration::from_secs(120);
/// The steps that the clients take.
const STEPS: usize = 8;

fn project() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/roadrunner")
}

/// Who answers Centrifugo.
enum Host<'a> {
    Ours,
    RoadRunner(&'a Path),
}

/// Runs the project, with a real Centrifugo and clients in front of it.
fn try_project(programs: &Programs, host: &Host<'_>, sdk: Option<&Path>) {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let [proxy, rpc, api, http, admin] = free_ports();
    let variables = [
        ("PROXY_PORT", proxy.to_string()),
        ("RPC_PORT", rpc.to_string()),
        ("API_PORT", api.to_string()),
        ("SESSION_SECONDS", "2".to_owned()),
        (
            "PHP_SDK",
            sdk.map(|folder| folder.display().to_string())
                .unwrap_or_default(),
        ),
    ];
    let config = fs::read_to_string(project().join("centrifugo.json")).unwrap();
    let config = config
        .replace("\"port\": 8000", &format!("\"port\": {http}"))
        .replace("\"port\": 10000", &format!("\"port\": {api}"))
        .replace(":30000", &format!(":{proxy}"));
    let config = serde_json::from_str(&config).unwrap();
    let (_centrifugo, _) =
        world::start_centrifugo(&programs.centrifugo, "centrifugo", &config, dir);

    let file = project().join(".rr.yaml");
    let mut command = match host {
        Host::RoadRunner(binary) => {
            let mut command = Command::new(binary);
            command.args(["serve", "-c"]).arg(&file);
            command
        }
        Host::Ours => {
            let ours = env!("CARGO_BIN_EXE_centripeta");
            let mut import = Command::new(ours);
            import.args(["import", "roadrunner"]).arg(&file);
            let import = import.output().unwrap();
            let said = String::from_utf8_lossy(&import.stderr);
            assert!(import.status.success(), "{said}");
            fs::write(dir.join("node.toml"), import.stdout).unwrap();
            let listen = format!("listen.admin=127.0.0.1:{admin}");
            let with_file = |what| {
                let mut command = Command::new(ours);
                command.args([what, "--config", "node.toml", "--set", &listen]);
                command.envs(variables.clone()).current_dir(dir);
                command
            };
            let check = with_file("check-config").output().unwrap();
            let said = String::from_utf8_lossy(&check.stderr);
            assert!(check.status.success(), "{said}");
            with_file("serve")
        }
    };
    command.envs(variables.clone());
    let mut node = Program::start("node", &mut command, dir).asked_to_end();
    match host {
        Host::Ours => node.wait_ready(admin, "/ready"),
        Host::RoadRunner(_) => node.wait_listens(proxy),
    }
    drive(programs, http, dir, &node);
}

/// Runs the clients to their end.
fn drive(programs: &Programs, http: u16, dir: &Path, node: &Program) {
    // Modules are looked for beside the files that import them.
    let scripts = dir.join("e2e");
    fs::create_dir(&scripts).unwrap();
    for name in ["roadrunner.mjs", "world.mjs", "package.json"] {
        fs::copy(world::e2e_dir().join(name), scripts.join(name)).unwrap();
    }
    let modules = fs::canonicalize(&programs.node_modules).unwrap();
    symlink(modules, scripts.join("node_modules")).unwrap();
    let mut command = Command::new(&programs.node);
    command.arg(scripts.join("roadrunner.mjs"));
    command.arg(format!("ws://127.0.0.1:{http}/connection/websocket"));
    let mut driver = Program::start("driver", &mut command, dir);
    let started = Instant::now();
    while driver.is_alive() && started.elapsed() < LIMIT {
        std::thread::park_timeout(Duration::from_millis(20));
    }
    let said = fs::read_to_string(driver.log()).unwrap();
    let done = said.lines().filter(|line| line.starts_with("ok: ")).count();
    let node = || fs::read_to_string(node.log()).unwrap();
    assert!(
        done == STEPS && !said.contains("failed"),
        "{said}\n{}",
        node()
    );
}

fn programs(what: &str) -> Option<Programs> {
    or_skip(what, php())?;
    or_skip(what, Programs::find())
}

#[test]
fn the_sample_project_moves_from_roadrunner_in_plain_php_and_real_clients_see_its_answers() {
    if let Some(programs) = programs("the sample project in plain PHP") {
        try_project(&programs, &Host::Ours, None);
    }
}

#[test]
fn the_sample_project_moves_from_roadrunner_on_the_real_sdk_and_real_clients_see_its_answers() {
    let what = "the sample project on the real SDK";
    if let (Some(sdk), Some(programs)) = (or_skip(what, php_sdk()), programs(what)) {
        try_project(&programs, &Host::Ours, Some(&sdk));
    }
}

#[test]
fn a_real_roadrunner_gives_clients_of_the_sample_project_the_same_answers() {
    let what = "the sample project under RoadRunner";
    let binary = named("RR_BIN", "rr").ok_or("no RoadRunner: name its binary in RR_BIN");
    if let (Some(binary), Some(programs)) = (or_skip(what, binary), programs(what)) {
        try_project(
            &programs,
            &Host::RoadRunner(&binary),
            php_sdk().ok().as_deref(),
        );
    }
}
