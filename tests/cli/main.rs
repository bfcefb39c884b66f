//! The command line as scripts meet it: real processes, their output and their exit codes.
#![allow(clippy::unwrap_used)]

mod centrifugo;
mod completion;
mod configuration;
mod load;
mod node;
#[path = "../support/outside.rs"]
mod outside;
#[path = "../support/process.rs"]
mod process;
mod program;

use process::{run, stock};

/// Not a test of its own: the program that other tests start from this executable. Without their
/// arguments it does nothing.
#[test]
fn probe() {
    if let Ok(args) = std::env::var("PROBE_ARGS") {
        program::run(args.lines());
    }
}

#[test]
fn alone_it_prints_help_and_every_command_tells_the_version() {
    let dir = tempfile::tempdir().unwrap();
    let alone = run(stock::<&str>(dir.path(), []));
    assert_eq!(alone.code, 0);
    for command in [
        "serve",
        "check-config",
        "print-config",
        "fire",
        "load",
        "explain",
        "centrifugo-config",
        "doctor",
        "health",
        "reload",
        "log-level",
        "cluster",
        "completion",
    ] {
        assert!(alone.out.contains(command), "{}", alone.out);
        let version = run(stock(dir.path(), [command, "--version"]));
        assert_eq!(version.code, 0);
        assert!(
            version.out.contains(env!("CARGO_PKG_VERSION")),
            "{version:?}"
        );
    }
}

#[test]
fn wrong_usage_ends_with_2_and_says_what_to_do() {
    let dir = tempfile::tempdir().unwrap();
    for args in [
        &["no-such-command"][..],
        &["serve", "--nope"],
        &["fire", "no-such-event"],
        &["fire", "subscribe"],
        &["fire", "rpc", "--data", "{"],
        &["fire", "stream", "--channel", "a", "--count", "2"],
        &["explain", "connect", "--channel", "a"],
        &["centrifugo-config", "--split", "nope=h:1"],
        &["cluster", "no-such-question"],
        &["cluster", "where"],
        &["cluster", "move", "1"],
        &["cluster", "voters", "many"],
        &["cluster", "drain", "b", "--timeout", "1s"],
        &["completion", "no-such-shell"],
        &["load", "connect"],
        &["load", "connect", "--rate", "1", "--concurrency", "1"],
        &["load", "connect", "--rate", "0"],
        &["load", "connect", "--concurrency", "0"],
        &["load", "connect", "--rate", "1", "--for", "2h"],
        &[
            "load",
            "connect",
            "--concurrency",
            "1",
            "--max-in-flight",
            "1",
        ],
        &["load", "subscribe", "--rate", "1"],
        &["load", "subscribe", "--rate", "1", "--channel", "a{n%0}"],
        &["load", "rpc", "--rate", "1", "--data", "@nowhere"],
    ] {
        let ended = run(stock(dir.path(), args));
        assert_eq!(ended.code, 2, "{args:?} {ended:?}");
        assert!(ended.err.starts_with("error: "), "{args:?} {ended:?}");
        assert!(ended.err.contains("\nhelp: "), "{args:?} {ended:?}");
        assert!(ended.out.is_empty(), "{args:?} {ended:?}");
    }
}
