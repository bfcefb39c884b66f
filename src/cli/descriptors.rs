//! File descriptors: whether the process may open as many as its limits lead it to need.

use crate::config::Config;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Those of the process itself: log, listeners, signals, files that are read, connections to
/// Centrifugo.
const OWN: u64 = 64;
/// Those of a core's runtime.
const PER_CORE: u64 = 8;

/// Descriptors that a node needs where each event comes over a connection of its own, as through
/// some proxies. Streams share connections.
fn needed(config: &Config, cores: u64) -> u64 {
    let events = u64::try_from(config.limits.in_flight.get()).unwrap_or(u64::MAX);
    events.saturating_add(OWN + PER_CORE * cores)
}

/// What is to be done about it.
#[derive(Debug, PartialEq, Eq)]
struct Plan {
    /// The soft limit to set.
    raise: Option<u64>,
    /// How many there will be, where that is too few.
    short: Option<u64>,
}

/// `None` is no limit, as the system has it.
fn plan(needed: u64, soft: Option<u64>, hard: Option<u64>) -> Plan {
    let reach = hard.map_or(needed, |hard| hard.min(needed));
    let soft = soft.unwrap_or(u64::MAX);
    Plan {
        raise: (soft < reach).then_some(reach),
        short: (soft.max(reach) < needed).then_some(reach),
    }
}

/// Raises the soft limit as far as the node needs it and the hard one lets it; warns in one line if
/// that is too little.
pub(super) fn provide(config: &Config) {
    let cores = config.runtime.cores.map_or_else(
        || std::thread::available_parallelism().map_or(1, |cores| cores.get() as u64),
        |cores| u64::try_from(cores.get()).unwrap_or(u64::MAX),
    );
    let needed = needed(config, cores);
    let limit = getrlimit(Resource::Nofile);
    let mut plan = plan(needed, limit.current, limit.maximum);
    if let Some(current) = plan.raise {
        let raised = Rlimit {
            current: Some(current),
            maximum: limit.maximum,
        };
        match setrlimit(Resource::Nofile, raised) {
            Ok(()) => tracing::debug!(from = limit.current, to = current, "descriptors"),
            Err(_) => plan.short = limit.current,
        }
    }
    if let Some(open) = plan.short {
        tracing::warn!(
            help = format!(
                "set LimitNOFILE={needed} in the unit, `ulimits: nofile` in compose or `ulimit -n \
                 {needed}` in the shell, or lower `limits.in_flight`"
            ),
            "`limits.in_flight = {}` events may come over as many connections, for which {needed} \
             file descriptors are needed; this process may open {open}",
            config.limits.in_flight
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_soft_limit_is_raised_as_far_as_needed_and_no_further() {
        let (raise, short) = (Some(4_176), None);
        assert_eq!(
            plan(4_176, Some(1_024), Some(1_048_576)),
            Plan { raise, short }
        );
        assert_eq!(plan(4_176, Some(1_024), None), Plan { raise, short });
        let (raise, short) = (None, None);
        assert_eq!(
            plan(4_176, Some(65_536), Some(65_536)),
            Plan { raise, short }
        );
        assert_eq!(plan(4_176, None, None), Plan { raise, short });
    }

    #[test]
    fn a_hard_limit_below_the_need_is_used_up_and_told() {
        let (raise, short) = (Some(2_048), Some(2_048));
        assert_eq!(plan(4_176, Some(1_024), Some(2_048)), Plan { raise, short });
        let (raise, short) = (None, Some(1_024));
        assert_eq!(plan(4_176, Some(1_024), Some(1_024)), Plan { raise, short });
    }

    #[test]
    fn the_need_follows_from_the_limits() {
        let mut config = Config::default();
        let before = needed(&config, 2);
        assert_eq!(before, 4_096 + OWN + 2 * PER_CORE);
        config.limits.streams = std::num::NonZero::<usize>::MAX;
        assert_eq!(needed(&config, 2), before);
        config.limits.in_flight = std::num::NonZero::<usize>::MAX;
        assert_eq!(needed(&config, 2), u64::MAX);
    }
}
