//! The unit for systemd.

use super::{file, found, humantime};
use crate::process::run;
use centripeta::config::Config;
use std::process::Command;
use std::time::Duration;

#[test]
fn the_unit_waits_for_ready_leaves_the_drain_its_time_and_loops_on_no_bad_configuration() {
    let text = file("deploy/centripeta.service");
    let setting = |name: &str| {
        let line = text
            .lines()
            .find(|line| line.split_once('=').is_some_and(|it| it.0 == name));
        line.unwrap_or_else(|| panic!("no {name}"))[name.len() + 1..].to_owned()
    };
    assert_eq!(setting("Type"), "notify");
    assert_eq!(setting("Restart"), "on-failure");
    assert_eq!(setting("RestartPreventExitStatus"), "2 3");
    let stop = humantime(&setting("TimeoutStopSec"));
    let grace = Config::default().limits.shutdown_grace;
    assert!(stop >= grace + Duration::from_secs(10));
    assert_eq!(setting("ExecStart"), "/usr/bin/centripeta serve");
    assert_eq!(setting("CapabilityBoundingSet"), "");
    // What a member of a cluster keeps goes where the node may write.
    let data = format!(
        "CENTRIPETA_NODE__DATA=/var/lib/{}",
        setting("StateDirectory")
    );
    assert_eq!(setting("Environment"), data);

    let Some(analyze) = found("systemd-analyze", "SYSTEMD_ANALYZE_BIN") else {
        return;
    };
    // It wants the program to be there.
    let dir = tempfile::tempdir().unwrap();
    let unit = dir.path().join("centripeta.service");
    let program = env!("CARGO_BIN_EXE_centripeta");
    std::fs::write(&unit, text.replace("/usr/bin/centripeta", program)).unwrap();
    let mut verify = Command::new(analyze);
    verify.arg("verify").arg(&unit);
    let ended = run(verify);
    assert_eq!(ended.code, 0, "{ended:?}");
    let about = ended
        .err
        .lines()
        .filter(|line| line.contains("centripeta.service"));
    assert_eq!(about.count(), 0, "{ended:?}");
}
