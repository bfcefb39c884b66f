//! The command `reload` against a stand-in for a node: exit codes and output.

use crate::fake::Fake;
use crate::process::{Ended, run, stock};
use centripeta::proto::admin::reload_response::Outcome;
use centripeta::proto::admin::{Problem, Refused, ReloadResponse, Reloaded};
use serde_json::json;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use tonic::Status;

fn reload(dir: &Path, admin: SocketAddr, more: &[&str]) -> Ended {
    let set = format!("listen.admin={admin}");
    run(stock(dir, [&["reload", "--set", &set][..], more].concat()))
}

fn answer(outcome: Outcome) -> Result<ReloadResponse, Status> {
    Ok(ReloadResponse {
        outcome: Some(outcome),
    })
}

fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

#[test]
fn what_was_applied_is_told_entry_by_entry() {
    let dir = tempfile::tempdir().unwrap();
    let node = Fake::start(answer(Outcome::Reloaded(Reloaded {
        changed: words(&["route rpc \"seat.*\": new", "log.level"]),
        needs_restart: words(&["listen.grpc"]),
    })));
    let told = reload(dir.path(), node.address, &[]);
    assert_eq!(told.code, 0, "{told:?}");
    let expected = "changed        route rpc \"seat.*\": new\nchanged        log.level\n\
                    needs restart  listen.grpc\n";
    assert_eq!((told.out.as_str(), told.err.as_str()), (expected, ""));
    let told = reload(dir.path(), node.address, &["--json"]);
    let expected = json!({
        "applied": true,
        "changed": ["route rpc \"seat.*\": new", "log.level"],
        "needs_restart": ["listen.grpc"],
    });
    assert_eq!((told.code, told.json()), (0, expected));
    assert_eq!(node.tokens(), ["", ""], "no token, none sent");

    let same = Fake::start(answer(Outcome::Reloaded(Reloaded::default())));
    let told = reload(dir.path(), same.address, &[]);
    assert_eq!(
        (told.code, told.out.trim()),
        (0, "nothing else runs than before")
    );
}

#[test]
fn a_refusal_ends_with_1_and_tells_every_problem_with_its_help() {
    let dir = tempfile::tempdir().unwrap();
    let problem = |what: &str, help: &str| Problem {
        what: what.to_owned(),
        help: help.to_owned(),
    };
    let node = Fake::start(answer(Outcome::Refused(Refused {
        problems: vec![
            problem("limits.timeout = \"2x\": is no time", "write 250ms or 2s"),
            problem("route.0.handler: there is no `a`", "did you mean `b`?"),
        ],
    })));
    let told = reload(dir.path(), node.address, &[]);
    assert_eq!((told.code, told.out.as_str()), (1, ""));
    let expected = "error: reload: limits.timeout = \"2x\": is no time\nhelp: write 250ms or 2s\n\
                    error: reload: route.0.handler: there is no `a`\nhelp: did you mean `b`?\n";
    assert_eq!(told.err, expected);
    let told = reload(dir.path(), node.address, &["--json"]);
    let expected = json!({ "applied": false, "problems": [
        { "what": "limits.timeout = \"2x\": is no time", "help": "write 250ms or 2s" },
        { "what": "route.0.handler: there is no `a`", "help": "did you mean `b`?" },
    ]});
    assert_eq!(
        (told.code, told.json(), told.err.as_str()),
        (1, expected, "")
    );
}

#[test]
fn a_node_that_fails_or_says_nothing_ends_with_1_and_a_way_out() {
    let dir = tempfile::tempdir().unwrap();
    for (answer, why, help) in [
        (
            Err(Status::unauthenticated("no")),
            "UNAUTHENTICATED: no",
            "listen.admin_token",
        ),
        (
            Err(Status::unavailable("it drains")),
            "UNAVAILABLE: it drains",
            "health --ready",
        ),
        (
            Err(Status::unimplemented("")),
            "UNIMPLEMENTED",
            "no node, or an older one",
        ),
        (
            Ok(ReloadResponse::default()),
            "neither",
            "the node's own version",
        ),
    ] {
        let node = Fake::start(answer);
        let told = reload(dir.path(), node.address, &[]);
        assert_eq!((told.code, told.out.as_str()), (1, ""), "{told:?}");
        let (error, cure) = told.err.split_once("\nhelp: ").unwrap();
        assert!(
            error.starts_with("error: reload: ") && error.contains(why),
            "{told:?}"
        );
        assert!(cure.contains(help), "{told:?}");
    }
}

#[test]
fn the_token_of_the_configuration_is_sent_and_never_shown() {
    let dir = tempfile::tempdir().unwrap();
    let node = Fake::start(Err(Status::unauthenticated("no")));
    let args = [
        "--set",
        "listen.admin_token=sesame-r",
        "--json",
        "--log",
        "trace",
    ];
    let told = reload(dir.path(), node.address, &args);
    assert_eq!(told.code, 1, "{told:?}");
    assert_eq!(node.tokens(), ["Bearer sesame-r"]);
    assert!(
        !told.err.contains("sesame-r") && !told.out.contains("sesame-r"),
        "{told:?}"
    );
}

#[test]
fn who_can_not_be_reached_or_speaks_no_grpc_ends_with_4() {
    let dir = tempfile::tempdir().unwrap();
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = nobody.local_addr().unwrap();
    drop(nobody);
    let told = reload(dir.path(), address, &["--json"]);
    assert_eq!((told.code, told.out.as_str()), (4, ""), "{told:?}");
    assert!(
        told.err.starts_with(&format!("error: {address}: ")),
        "{told:?}"
    );
    assert!(
        told.err.contains("help: start the node with `serve`"),
        "{told:?}"
    );

    let other = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = other.local_addr().unwrap();
    let answered = std::thread::spawn(move || {
        let (mut socket, _) = other.accept().unwrap();
        let mut request = [0; 24];
        socket.read_exact(&mut request).unwrap();
        socket
            .write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n")
            .unwrap();
    });
    let told = reload(dir.path(), address, &[]);
    assert_eq!(told.code, 4, "{told:?}");
    answered.join().unwrap();
}

#[test]
fn a_broken_configuration_still_finds_the_node_which_says_what_is_wrong() {
    let dir = tempfile::tempdir().unwrap();
    let refused = Refused {
        problems: vec![Problem {
            what: "limits.timeout".to_owned(),
            help: "mend it".to_owned(),
        }],
    };
    let node = Fake::start(answer(Outcome::Refused(refused)));
    let file = dir.path().join("node.toml");
    let listen = format!(
        "[listen]\nadmin = \"{}\"\nadmin_token = \"t-1\"\n",
        node.address
    );
    std::fs::write(&file, format!("{listen}[limits]\ntimeout = \"2x\"\n")).unwrap();
    let told = run(stock(dir.path(), ["reload"]));
    assert_eq!(told.code, 1, "{told:?}");
    assert!(
        told.err
            .contains("error: reload: limits.timeout\nhelp: mend it"),
        "{told:?}"
    );
    assert_eq!(node.tokens(), ["Bearer t-1"]);
    // Where not even the address can be read, nobody is asked.
    std::fs::write(&file, format!("{listen}[limits\n")).unwrap();
    let told = run(stock(dir.path(), ["reload"]));
    assert_eq!(told.code, 3, "{told:?}");
    std::fs::write(&file, "[listen]\nadmin = \"here\"\n").unwrap();
    let told = run(stock(dir.path(), ["reload"]));
    assert_eq!(told.code, 3, "{told:?}");
    assert_eq!(node.tokens().len(), 1);
    let told = run(stock(
        dir.path(),
        ["reload", "--set", "listen.admin=127.0.0.1:0"],
    ));
    assert_eq!(told.code, 2, "{told:?}");
}
