//! Workers of another user: root alone can start them.

use crate::node::{Node, Script, ask_data, handler, routes};
use rustix::process::getuid;
use serde_json::Value;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

/// Whether this is root, and that user can run what is built here; says so loudly if not.
fn can_be(uid: u32) -> bool {
    if !getuid().is_root() {
        eprintln!("SKIPPED: not root: nothing is shown of workers of another user");
        return false;
    }
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/workers/standin.py");
    let mut read = Command::new("cat");
    read.arg(script).uid(uid).stdout(Stdio::null());
    let mut run = Command::new(env!("CARGO_BIN_EXE_centripeta"));
    run.arg("--version").uid(uid).stdout(Stdio::null());
    let reaches = [read, run]
        .iter_mut()
        .all(|it| it.status().is_ok_and(|it| it.success()));
    if !reaches {
        eprintln!("SKIPPED: nobody may not enter this folder: nothing is shown of other users");
    }
    reaches
}

fn id(of: &str, name: &str) -> u32 {
    let asked = Command::new("id").args([of, name]).output().unwrap();
    String::from_utf8(asked.stdout)
        .unwrap()
        .trim()
        .parse()
        .unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn workers_run_as_their_user_and_group_and_reach_the_socket_that_is_theirs() {
    let (uid, gid) = (id("-u", "nobody"), id("-g", "nobody"));
    if !can_be(uid) {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let open = std::fs::Permissions::from_mode(0o755);
    std::fs::set_permissions(dir.path(), open).unwrap();
    let socket = dir.path().join("relay.sock");
    let unix = format!("relay = \"unix://{}\"\n", socket.display());
    for (relay, group, wanted) in [
        ("", "", gid),
        (unix.as_str(), "group = \"daemon\"\n", id("-g", "daemon")),
    ] {
        // A folder that everybody may enter.
        let keys = format!("user = \"nobody\"\n{group}{relay}dir = \"/\"");
        let config = handler(Script::Python, &keys, "num_workers = 1") + &routes();
        let node = Node::start(&config).await;
        let owner = ask_data(&node.client().await, "rpc-owner").await;
        let owner: Value = serde_json::from_slice(&owner).unwrap();
        assert_eq!(
            (&owner["uid"], &owner["gid"]),
            (&uid.into(), &wanted.into())
        );
        // Nothing is kept of root's groups.
        let groups = owner["groups"].as_array().unwrap();
        assert!(groups.iter().all(|it| *it == wanted), "{owner}");
        if !relay.is_empty() {
            let file = std::fs::metadata(&socket).unwrap();
            assert_eq!(
                (file.uid(), file.gid(), file.mode() & 0o777),
                (uid, wanted, 0o600)
            );
        }
    }
}
