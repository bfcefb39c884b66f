//! The page's steps, as a reader would take them: its own commands, from a copy of what a clone has, in
//! a shell per terminal. Only ports are other ones, and the program is not built again.

use crate::outside::{self, Program, free_ports, or_skip};
use crate::{php, process};
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;
use tempfile::TempDir;

/// The blocks of commands of the page's section, each a list of its lines.
fn blocks() -> Vec<Vec<String>> {
    let page = include_str!("../../docs/coming-from-roadrunner.md");
    let (_, section) = page.split_once("\n## With the sample project\n").unwrap();
    let section = section.split("\n## ").next().unwrap();
    let mut blocks: Vec<Vec<String>> = Vec::new();
    let mut is_open = false;
    for line in section.lines().map(str::trim) {
        match (is_open, line) {
            (false, "```sh") => {
                is_open = true;
                blocks.push(Vec::new());
            }
            (true, "```") => is_open = false,
            (true, line) => blocks.last_mut().unwrap().push(line.to_owned()),
            (false, _) => assert!(!line.starts_with("```"), "a block of another kind: {line}"),
        }
    }
    blocks
}

/// A copy of what a clone has of this, and ports that nobody uses.
struct Clone {
    dir: TempDir,
    admin: u16,
    api: u16,
    variables: [(&'static str, String); 5],
}

impl Clone {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let [proxy, rpc, api, http, admin] = free_ports();
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let project = dir.path().join("examples/roadrunner");
        fs::create_dir_all(&project).unwrap();
        copy(&root.join("examples/roadrunner"), &project);
        let file = project.join("centrifugo.json");
        let config = fs::read_to_string(&file).unwrap();
        let config = config
            .replace("\"port\": 8000", &format!("\"port\": {http}"))
            .replace("\"port\": 10000", &format!("\"port\": {api}"))
            .replace(":30000", &format!(":{proxy}"));
        fs::write(&file, config).unwrap();
        let file = project.join(".rr.yaml");
        let yaml = fs::read_to_string(&file).unwrap();
        let yaml = yaml
            .replace("PROXY_PORT:-30000", &format!("PROXY_PORT:-{proxy}"))
            .replace("RPC_PORT:-6001", &format!("RPC_PORT:-{rpc}"))
            .replace("API_PORT:-10000", &format!("API_PORT:-{api}"));
        fs::write(&file, yaml).unwrap();
        let target = dir.path().join("target/release");
        fs::create_dir_all(&target).unwrap();
        let ours = env!("CARGO_BIN_EXE_centripeta");
        symlink(ours, target.join("centripeta")).unwrap();
        let variables = [
            ("CENTRIPETA_LISTEN__ADMIN", format!("127.0.0.1:{admin}")),
            ("PROXY_PORT", proxy.to_string()),
            ("RPC_PORT", rpc.to_string()),
            ("API_PORT", api.to_string()),
            ("PHP_SDK", String::new()),
        ];
        Self {
            dir,
            admin,
            api,
            variables,
        }
    }

    /// A shell that begins at the clone and ends at the first command that fails; the last one takes
    /// its place.
    fn shell(&self, lines: &[String]) -> Command {
        let (last, before) = lines.split_last().unwrap();
        let mut command = Command::new("bash");
        let script = format!("set -e\n{}\nexec {last}\n", before.join("\n"));
        command.args(["-c", &script]).current_dir(self.dir.path());
        command.envs(self.variables.clone());
        command
    }
}

fn copy(from: &Path, to: &Path) {
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let (from, to) = (entry.path(), to.join(entry.file_name()));
        match from.is_dir() {
            true => {
                fs::create_dir_all(&to).unwrap();
                copy(&from, &to);
            }
            // What somebody has made there by the same steps.
            false if from.ends_with("node.toml") => {}
            false => drop(fs::copy(&from, &to).unwrap()),
        }
    }
}

#[test]
fn the_steps_of_the_page_do_what_it_says_as_they_stand_there() {
    let what = "the steps of docs/coming-from-roadrunner.md";
    if or_skip(what, php()).is_none() {
        return;
    }
    let centrifugo: Option<PathBuf> = or_skip(what, outside::centrifugo());
    let blocks = blocks();
    let [program, import, serve, terminal, real, fire, workers] = &*blocks else {
        panic!("{blocks:#?}");
    };
    let clone = Clone::new();
    // It has been built.
    let (build, path) = program.split_first().unwrap();
    assert!(build.starts_with("cargo build --release"), "{build}");
    let first = [path, import.as_slice(), serve.as_slice()].concat();
    let mut node = Program::start("node", &mut clone.shell(&first), clone.dir.path());
    node.wait_ready(clone.admin, "/ready");
    let made = clone.dir.path().join("examples/roadrunner/node.toml");
    assert!(fs::read_to_string(made).unwrap().contains("[handler.php]"));

    let in_terminal = |line: &String| {
        let lines = [terminal.as_slice(), std::slice::from_ref(line)].concat();
        clone.shell(&lines)
    };
    let real = &real[0];
    assert!(real.starts_with("centrifugo "), "{real}");
    let _centrifugo = centrifugo.as_ref().map(|binary| {
        let mut command = in_terminal(real);
        // Wherever it is, under its own name.
        let links = clone.dir.path().join("bin");
        fs::create_dir(&links).unwrap();
        symlink(fs::canonicalize(binary).unwrap(), links.join("centrifugo")).unwrap();
        let path = std::env::var("PATH").unwrap();
        command.env("PATH", format!("{}:{path}", links.display()));
        let mut program = Program::start("centrifugo", &mut command, clone.dir.path());
        program.wait_listens(clone.api);
        program
    });
    let run = |line: &String| process::run(in_terminal(line));

    let [connect, subscribe, rpc] = fire.as_slice() else {
        panic!("{fire:?}");
    };
    let ended = run(connect);
    assert_eq!(ended.code, 0, "{ended:?}");
    assert_eq!(ended.json()["result"]["user"], "alice", "{ended:?}");
    let ended = run(subscribe);
    assert_eq!(ended.code, 0, "{ended:?}");
    assert_eq!(ended.json()["error"]["code"], 403, "{ended:?}");
    let ended = run(rpc);
    match centrifugo {
        Some(_) => {
            assert_eq!(ended.code, 0, "{ended:?}");
            assert!(ended.json().get("result").is_some(), "{ended:?}");
        }
        None => assert!(ended.out.contains("DEADLINE_EXCEEDED"), "{ended:?}"),
    }

    let [list, reset] = workers.as_slice() else {
        panic!("{workers:?}");
    };
    let pids = || {
        let ended = run(list);
        assert_eq!(ended.code, 0, "{ended:?}");
        assert!(ended.out.starts_with("php: 2 of 2 workers"), "{ended:?}");
        let rows = ended.out.lines().skip(2);
        let first = rows.filter_map(|row| row.split_whitespace().next()?.parse().ok());
        first.collect::<Vec<u32>>()
    };
    let before = pids();
    assert_eq!(before.len(), 2);
    let ended = run(reset);
    assert_eq!((ended.code, &*ended.out), (0, "php: 2 workers replaced\n"));
    let after = pids();
    assert!(after.iter().all(|pid| !before.contains(pid)), "{after:?}");
    // What came before the reset was done by those that are gone, what comes now by those that came.
    assert_eq!(run(connect).json()["result"]["user"], "alice");
    node.signal("TERM");
    process::eventually("the node ends", || (!node.is_alive()).then_some(()));
}
