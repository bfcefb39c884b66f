//! What shells get to complete the command line.

use super::outside::{on_path, or_skip};
use super::process::{probe, run, stock};
use std::io::Write;
use std::process::{Command, Stdio};

const COMMANDS: [&str; 9] = [
    "serve",
    "check-config",
    "print-config",
    "fire",
    "load",
    "explain",
    "centrifugo-config",
    "health",
    "completion",
];

#[test]
fn every_shell_gets_a_script_that_knows_every_command() {
    let dir = tempfile::tempdir().unwrap();
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let ended = run(stock(dir.path(), ["completion", shell]));
        assert_eq!((ended.code, ended.err.as_str()), (0, ""), "{shell}");
        for command in COMMANDS {
            assert!(ended.out.contains(command), "{shell} lacks {command}");
        }
        assert!(ended.out.contains("concurrency"), "{shell}");
    }
}

#[test]
fn the_script_completes_the_program_by_its_own_name() {
    let dir = tempfile::tempdir().unwrap();
    let ended = run(probe(dir.path(), ["completion", "bash"]));
    assert!(ended.out.contains("complete -F _probe"), "{ended:?}");
    assert!(!ended.out.contains("centripeta"), "{ended:?}");
}

#[test]
fn bash_takes_its_script_and_completes_a_command_with_it() {
    let dir = tempfile::tempdir().unwrap();
    let Some(bash) = or_skip("completion", on_path("bash").ok_or("no bash on PATH")) else {
        return;
    };
    let script = run(stock(dir.path(), ["completion", "bash"])).out;
    let ask = "COMP_WORDS=(centripeta fi); COMP_CWORD=1; COMP_LINE='centripeta fi'; \
               _centripeta centripeta fi centripeta; printf '%s\\n' \"${COMPREPLY[@]}\"\n";
    let mut bash = Command::new(bash)
        .args(["--norc", "-s"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = bash.stdin.take().unwrap();
    input
        .write_all(format!("{script}\n{ask}").as_bytes())
        .unwrap();
    drop(input);
    let said = bash.wait_with_output().unwrap();
    assert_eq!(String::from_utf8(said.stderr).unwrap(), "");
    assert_eq!(String::from_utf8(said.stdout).unwrap(), "fire\n");
}
