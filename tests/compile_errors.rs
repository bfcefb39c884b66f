//! What the compiler says to somebody whose handler does not fit: in the words of this crate.

#![allow(clippy::unwrap_used)]

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::SystemTime;

/// The library as the tests are linked with it.
fn library(deps: &Path) -> PathBuf {
    let entries = deps.read_dir().unwrap().map(|entry| entry.unwrap());
    let ours = entries.filter(|entry| {
        let name = entry.file_name().to_string_lossy().into_owned();
        name.starts_with("libcentripeta-") && name.ends_with(".rlib")
    });
    let age = |entry: &std::fs::DirEntry| {
        let modified = entry.metadata().and_then(|metadata| metadata.modified());
        modified.unwrap_or(SystemTime::UNIX_EPOCH)
    };
    ours.max_by_key(age)
        .expect("cargo has built the library for this test")
        .path()
}

/// What the compiler says to a file of `tests/compile_errors`; empty if it compiles.
fn compile(name: &str) -> String {
    let deps = std::env::current_exe()
        .unwrap()
        .parent()
        .unwrap()
        .to_owned();
    let source = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/compile_errors")
        .join(name);
    let out = tempfile::tempdir().unwrap();
    let compiler = std::env::var("RUSTC").unwrap_or_else(|_| "rustc".to_owned());
    let run = Command::new(compiler)
        .args([
            "--edition",
            "2024",
            "--crate-type",
            "lib",
            "--emit",
            "metadata",
            "--out-dir",
        ])
        .arg(out.path())
        .arg("-L")
        .arg(format!("dependency={}", deps.display()))
        .arg("--extern")
        .arg(format!("centripeta={}", library(&deps).display()))
        .arg(source)
        .output()
        .unwrap();
    let said = String::from_utf8(run.stderr).unwrap();
    assert_eq!(run.status.success(), !said.contains("error"), "{said}");
    said
}

fn says(name: &str, expected: &[&str]) {
    let said = compile(name);
    for text in expected {
        assert!(
            said.contains(text),
            "{name}: `{text}` is missing in\n{said}"
        );
    }
}

#[test]
fn handlers_that_fit_compile() {
    assert_eq!(compile("right.rs"), "");
}

#[test]
fn a_handler_that_answers_nothing_is_told_to_say_so_in_words() {
    says(
        "unit_answer.rs",
        &[
            "this function can't handle the event `",
            "::Publish`",
            "`()` is no answer: `Reply::empty()`",
        ],
    );
}

#[test]
fn a_handler_with_the_reply_of_another_event_is_told_which_replies_there_are() {
    says(
        "wrong_reply.rs",
        &[
            "can't handle the event `",
            "::Subscribe`",
            "the reply of its own event",
            "`SubscribeReply`",
        ],
    );
}

#[test]
fn an_argument_that_is_no_extractor_brings_the_list_of_extractors() {
    says(
        "no_extractor.rs",
        &[
            "can't handle the event `",
            "::Rpc`",
            "`Data<T>` (T: Deserialize)",
        ],
    );
}

#[test]
fn the_clients_publications_are_refused_outside_of_two_way_streams() {
    says(
        "inbound_elsewhere.rs",
        &["can't handle the event `", "on two-way streams `Inbound`"],
    );
}
