//! What an operator asks of the running node, carried out one after the other.

use crate::config::check_level;
use crate::control::{Refused, Request, Requests, Wrong};
use crate::telemetry::Telemetry;
use std::convert::Infallible;

/// The longest directives, in bytes: each of them costs at every place that logs.
const LEVEL_BYTES: usize = 1024;

/// Carries out requests for as long as it is polled. Whoever has gone away does not mind: what was
/// asked is done all the same.
pub(super) async fn carry_out(requests: &mut Requests, telemetry: &Telemetry) -> Infallible {
    while let Some(request) = requests.recv().await {
        match request {
            // Nobody answers: the caller is told that it is not carried out.
            Request::Reload(reply) => drop(reply),
            Request::Level(reply) => drop(reply.send(telemetry.level())),
            Request::SetLevel(level, reply) => drop(reply.send(set_level(&level, telemetry))),
        }
    }
    std::future::pending().await
}

/// Changes which lines are logged; answers what was logged before.
fn set_level(level: &str, telemetry: &Telemetry) -> Result<String, Refused> {
    let refused = |what: String, help: String| Refused {
        problems: vec![Wrong { what, help }],
    };
    if level.len() > LEVEL_BYTES {
        let what = format!("a level of {} bytes: at most {LEVEL_BYTES}", level.len());
        return Err(refused(what, "name fewer targets".to_owned()));
    }
    check_level(level)
        .map_err(|(rule, fix)| refused(format!("log level {level:?}: {rule}"), fix))?;
    let before = telemetry.set_level(level).map_err(|error| {
        let help = "write a level, or level,target=level, as in info,centripeta=debug";
        refused(error.to_string(), help.to_owned())
    })?;
    // Whatever the level is now, that it was changed is said wherever warnings are.
    tracing::warn!(now = level, before, "the log level was changed");
    Ok(before)
}
