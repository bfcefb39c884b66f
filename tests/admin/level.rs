//! The level of the log, asked and changed while a node runs.

use crate::address_in;
use crate::process::{Ended, Running, run, stock};
use std::path::Path;

/// An access log at this level, and something to call.
fn configuration(level: &str) -> String {
    format!(
        "[[interceptor]]\nname = \"log\"\non = \"*\"\nkind = \"access-log\"\nlevel = \"{level}\"\n\
         [[route]]\non = \"rpc\"\nhandler = \"echo\"\n"
    )
}

/// A node and where it listens.
struct Node {
    process: Running,
    grpc: String,
    admin: String,
}

impl Node {
    fn start(dir: &Path, access: &str, format: &str) -> Self {
        std::fs::write(dir.join("node.toml"), configuration(access)).unwrap();
        let format = format!("log.format={format}");
        let args = ["serve", "--set", "listen.grpc=127.0.0.1:0", "--set"];
        let more = ["listen.admin=127.0.0.1:0", "--set", &format];
        let process = Running::start(stock(dir, [&args[..], &more].concat()));
        let line = process.says("listening");
        let (grpc, admin) = (address_in(&line, "grpc"), address_in(&line, "admin"));
        Self {
            process,
            grpc,
            admin,
        }
    }

    fn fire(&self, dir: &Path, method: &str) {
        let args = ["fire", "rpc", "--method", method, "--to", &self.grpc];
        let fired = run(stock(dir, args));
        assert_eq!(fired.code, 0, "{fired:?}");
    }

    fn level(&self, dir: &Path, args: &[&str]) -> Ended {
        let set = format!("listen.admin={}", self.admin);
        run(stock(
            dir,
            [&["log-level", "--set", &set][..], args].concat(),
        ))
    }

    fn reload(&self, dir: &Path) -> Ended {
        let set = format!("listen.admin={}", self.admin);
        run(stock(dir, ["reload", "--json", "--set", &set]))
    }

    /// Whether a call of this method is in the log.
    fn shows(&self, method: &str) -> bool {
        self.process.said().iter().any(|line| line.contains(method))
    }
}

#[test]
fn a_level_set_at_run_time_holds_until_it_is_set_back_in_both_forms_of_the_log() {
    for format in ["json", "pretty"] {
        let dir = tempfile::tempdir().unwrap();
        let node = Node::start(dir.path(), "debug", format);
        assert_eq!(node.level(dir.path(), &[]).out.trim(), "info");
        node.fire(dir.path(), "quiet-1");
        let set = node.level(dir.path(), &["debug"]);
        assert_eq!((set.code, set.out.trim()), (0, "debug (before: info)"));
        node.fire(dir.path(), "loud-1");
        node.process.says("loud-1");
        assert_eq!(node.level(dir.path(), &["--json"]).json()["level"], "debug");
        let back = node.level(dir.path(), &["info", "--json"]);
        assert_eq!(back.code, 0, "{back:?}");
        assert_eq!(
            back.json(),
            serde_json::json!({"level": "info", "before": "debug"})
        );
        node.fire(dir.path(), "quiet-2");
        // What is logged later stands later: this comes behind all that the call could have left.
        node.level(dir.path(), &["trace"]);
        node.fire(dir.path(), "loud-2");
        node.process.says("loud-2");
        assert!(
            !node.shows("quiet-1") && !node.shows("quiet-2"),
            "{:#?}",
            node.process.said()
        );
        let said = node.process.said();
        let told = said
            .iter()
            .filter(|line| line.contains("the log level was changed"));
        assert_eq!(told.count(), 3, "{said:#?}");
        // The configuration says `info` all along, which a reload brings back.
        let reloaded = node.reload(dir.path());
        assert_eq!(reloaded.code, 0, "{reloaded:?}");
        let changed = &reloaded.json()["changed"];
        assert_eq!(*changed, serde_json::json!(["log.level: trace -> info"]));
        assert_eq!(node.level(dir.path(), &[]).out.trim(), "info");
        let again = node.reload(dir.path()).json();
        assert_eq!(again["changed"], serde_json::json!([]));
    }
}

#[test]
fn a_level_that_is_none_is_refused_in_words_and_the_one_before_stays() {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::start(dir.path(), "debug", "json");
    assert_eq!(
        node.level(dir.path(), &["info,centripeta::access=debug"])
            .code,
        0
    );
    for (level, why, help) in [
        ("debgu", "names no log level", "did you mean `debug`?"),
        ("", "names no log level", "write one of off, error"),
        (
            "info,centripeta=",
            "names no log level",
            "write one of off, error",
        ),
        ("info,=debug", "holds a target", "write target=level"),
        ("info,[span]=debug", "holds a target", "write target=level"),
        (&"a=info,".repeat(400), "2800 bytes", "name fewer targets"),
    ] {
        let refused = node.level(dir.path(), &[level]);
        assert_eq!(
            (refused.code, refused.out.as_str()),
            (1, ""),
            "{level} {refused:?}"
        );
        let (error, cure) = refused.err.split_once("\nhelp: ").unwrap();
        assert!(
            error.starts_with("error: log-level: ") && error.contains(why),
            "{refused:?}"
        );
        assert!(cure.contains(help), "{refused:?}");
    }
    let refused = node.level(dir.path(), &["loud", "--json"]);
    assert_eq!((refused.code, refused.err.as_str()), (1, ""));
    assert!(
        refused.json()["problems"][0]["help"].is_string(),
        "{refused:?}"
    );
    assert_eq!(
        node.level(dir.path(), &[]).out.trim(),
        "info,centripeta::access=debug"
    );
    node.fire(dir.path(), "still-shown");
    node.process.says("still-shown");
}

#[test]
fn directives_switch_one_target_off_and_leave_the_others() {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::start(dir.path(), "info", "json");
    node.fire(dir.path(), "seen-1");
    node.process.says("seen-1");
    let set = node.level(dir.path(), &["info,centripeta::access=off"]);
    assert_eq!(set.code, 0, "{set:?}");
    node.fire(dir.path(), "unseen");
    node.level(dir.path(), &["info"]);
    node.fire(dir.path(), "seen-2");
    node.process.says("seen-2");
    assert!(!node.shows("unseen"), "{:#?}", node.process.said());
    // The line about the change itself is another target's.
    node.process.says("info,centripeta::access=off");
}

#[test]
fn a_node_that_drains_carries_out_no_requests() {
    let dir = tempfile::tempdir().unwrap();
    let mut node = Node::start(dir.path(), "info", "json");
    node.process.signal("TERM");
    node.process.says("\"message\":\"draining\"");
    // It may be gone already, or say so.
    let late = node.level(dir.path(), &["debug"]);
    assert!(matches!(late.code, 1 | 4), "{late:?}");
    assert_eq!(node.process.end().code(), Some(0));
}
