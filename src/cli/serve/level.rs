//! The level of the log of a running node.

use crate::config::check_level;
use crate::control::{Refused, Wrong};
use crate::telemetry::{Telemetry, TelemetryError};

/// The longest directives, in bytes: each of them costs at every place that logs.
const LEVEL_BYTES: usize = 1024;

/// Changes which lines are logged; answers what was logged before.
pub(super) fn set(level: &str, telemetry: &Telemetry) -> Result<String, Refused> {
    let refused = |what: String, help: String| Refused {
        problems: vec![Wrong { what, help }],
    };
    if level.len() > LEVEL_BYTES {
        let what = format!("a level of {} bytes: at most {LEVEL_BYTES}", level.len());
        return Err(refused(what, "name fewer targets".to_owned()));
    }
    check_level(level)
        .map_err(|(rule, fix)| refused(format!("log level {level:?}: {rule}"), fix))?;
    let set = telemetry.set_level(level);
    let before = set.map_err(|error| refused(error.to_string(), help(&error).to_owned()))?;
    // Whatever the level is now, that it was changed is said wherever warnings are.
    tracing::warn!(now = level, before, "the log level was changed");
    Ok(before)
}

/// What to do about a level that can't be set.
pub(super) const fn help(error: &TelemetryError) -> &'static str {
    match error {
        TelemetryError::Level(_) => {
            "write a level, or level,target=level, as in info,centripeta=debug"
        }
        TelemetryError::Foreign => {
            "change the level where the program starts its log, and leave `log.level` as it was"
        }
    }
}
