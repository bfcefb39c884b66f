//! The admin listener and those who talk to it: the token, both versions of HTTP on one port, the
//! Admin service, its commands, the level of the log, and what no log may show.
#![allow(clippy::unwrap_used)]

mod cluster;
mod fake;
mod level;
mod listener;
#[path = "../support/process.rs"]
mod process;
mod program;
mod reload;
mod scripted;
mod secrets;
#[path = "../support/mod.rs"]
mod support;

/// An address in the line that a node logs when it listens, in either form of the log:
/// `grpc=127.0.0.1:1` or `"grpc":"127.0.0.1:1"`.
fn address_in(line: &str, name: &str) -> String {
    let (_, rest) = line.split_once(name).unwrap();
    let rest = &rest[rest.find("127").unwrap()..];
    rest.split(['"', ' ']).next().unwrap().to_owned()
}

/// Not a test of its own: the program that other tests start from this executable. Without their
/// arguments it does nothing.
#[test]
fn probe() {
    if let Ok(args) = std::env::var("PROBE_ARGS") {
        program::run(args.lines());
    }
}
