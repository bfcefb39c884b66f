//! What the node says on stderr: `tracing` as `[log]` asks for it.
//!
//! Lines are handed to a thread of their own, so that a slow reader of stderr stalls no event; beyond
//! 128,000 waiting lines the newest are dropped. Panics are logged like everything else, in one line.
//!
//! On a terminal a line for people, elsewhere one JSON object a line. Libraries below us stay at
//! `info` whatever the level of all is, since their details show headers; who wants them names their
//! target.
//!
//! The level changes at run time ([`Telemetry::set_level`]) for both forms alike.

use crate::config::{LogConfig, LogFormat};
use crate::engine::guard::panic_message;
use std::backtrace::{Backtrace, BacktraceStatus};
use std::fmt;
use std::io::{self, IsTerminal};
use std::sync::{Mutex, PoisonError};
use tracing_appender::non_blocking::WorkerGuard;
use tracing_subscriber::filter::EnvFilter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::registry::Registry;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, reload};

/// Libraries that show headers at `debug` and `trace`.
const LIBRARIES: [&str; 7] = [
    "h2",
    "hyper",
    "hyper_util",
    "rustls",
    "tonic",
    "tokio_util",
    "tower",
];

/// Why there is no log.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TelemetryError {
    /// The level is none.
    #[error("`log.level`: {0}")]
    Level(#[from] tracing_subscriber::filter::ParseError),
    /// The program had started a log of its own before.
    #[error("the program writes a log of its own, whose level is not ours to change")]
    Foreign,
}

/// The running log.
pub(crate) struct Telemetry {
    /// Whether lines are JSON.
    pub(crate) json: bool,
    /// Writes what waits when dropped.
    _writer: WorkerGuard,
    filter: reload::Handle<EnvFilter, Registry>,
    /// The directives in force, as they were given.
    level: Mutex<String>,
}

impl fmt::Debug for Telemetry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Telemetry")
            .field("json", &self.json)
            .finish_non_exhaustive()
    }
}

impl Telemetry {
    /// Starts logging for the process. Where somebody did so before, theirs stays.
    ///
    /// # Errors
    /// The level is none.
    pub(crate) fn start(config: &LogConfig) -> Result<Self, TelemetryError> {
        let terminal = io::stderr().is_terminal();
        let json = is_json(config.format, terminal);
        let (filter, handle) = reload::Layer::new(filter(&config.level)?);
        let (writer, guard) = tracing_appender::non_blocking(io::stderr());
        let layer = tracing_subscriber::fmt::layer().with_writer(writer);
        let layer = if json {
            layer.json().flatten_event(true).boxed()
        } else {
            layer.with_ansi(terminal).boxed()
        };
        // An embedder's own subscriber is no fault.
        drop(
            tracing_subscriber::registry()
                .with(filter)
                .with(layer)
                .try_init(),
        );
        std::panic::set_hook(Box::new(log_panic));
        Ok(Self {
            json,
            _writer: guard,
            filter: handle,
            level: Mutex::new(config.level.clone()),
        })
    }

    /// Which lines are logged, as it was given.
    pub(crate) fn level(&self) -> String {
        let level = self.level.lock().unwrap_or_else(PoisonError::into_inner);
        level.clone()
    }

    /// Changes which lines are logged while the node runs; answers what was logged before.
    ///
    /// # Errors
    /// The level is none, or the log is not ours; the one before stays.
    pub(crate) fn set_level(&self, level: &str) -> Result<String, TelemetryError> {
        let filter = filter(level)?;
        let mut current = self.level.lock().unwrap_or_else(PoisonError::into_inner);
        self.filter
            .reload(filter)
            .map_err(|_| TelemetryError::Foreign)?;
        Ok(std::mem::replace(&mut *current, level.to_owned()))
    }
}

/// One line for a panic: where, what, and the way there if `RUST_BACKTRACE` asks for it. What the
/// panic did to its event is another line.
fn log_panic(panic: &std::panic::PanicHookInfo<'_>) {
    let thread = std::thread::current();
    let thread = thread.name().unwrap_or("unnamed");
    let location = panic.location().map(ToString::to_string);
    let location = location.as_deref().unwrap_or("an unknown place");
    let message = panic_message(panic.payload());
    let backtrace = Backtrace::capture();
    match backtrace.status() {
        BacktraceStatus::Captured => {
            tracing::error!(thread, location, %backtrace, "panicked: {message}");
        }
        _ => tracing::error!(thread, location, "panicked: {message}"),
    }
}

fn is_json(format: LogFormat, terminal: bool) -> bool {
    match format {
        LogFormat::Json => true,
        LogFormat::Pretty => false,
        LogFormat::Auto => !terminal,
    }
}

fn filter(level: &str) -> Result<EnvFilter, TelemetryError> {
    Ok(EnvFilter::builder().parse(directives(level))?)
}

/// The directives of a level, with the libraries held back that it does not name itself. The spans
/// that ractor opens around every message tell nothing and cost on every event; openraft tells of each
/// step, and of each peer that is away as an error: what matters of it the cluster says itself.
fn directives(level: &str) -> String {
    let of_all = level.split(',').rfind(|part| !part.contains('='));
    let is = |words: &[&str]| {
        of_all.is_some_and(|level| words.iter().any(|word| level.eq_ignore_ascii_case(word)))
    };
    let named = |library: &str| {
        let targets = level.split(',').filter_map(|part| part.split_once('='));
        targets.map(|(target, _)| target).any(|it| it == library)
    };
    let mut directives = level.to_owned();
    if is(&["info", "debug", "trace"]) && !named("ractor") {
        directives.push_str(",ractor=warn");
    }
    if is(&["error", "warn", "info", "debug", "trace"]) && !named("openraft") {
        directives.push_str(",openraft=off");
    }
    if is(&["debug", "trace"]) {
        for library in LIBRARIES.into_iter().filter(|library| !named(library)) {
            directives.push_str(&format!(",{library}=info"));
        }
    }
    directives
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_is_for_machines_unless_the_format_is_named() {
        assert!(is_json(LogFormat::Auto, false) && !is_json(LogFormat::Auto, true));
        assert!(is_json(LogFormat::Json, true) && !is_json(LogFormat::Pretty, false));
    }

    #[test]
    fn libraries_that_show_headers_stay_quiet_unless_they_are_named() {
        assert!(directives("trace").contains("h2=info"));
        assert_eq!(directives("info"), "info,ractor=warn,openraft=off");
        assert_eq!(directives("error"), "error,openraft=off");
        assert_eq!(directives("off"), "off");
        assert_eq!(directives("warn,openraft=warn"), "warn,openraft=warn");
        let of_h2 = directives("info,h2=trace");
        assert_eq!(of_h2, "info,h2=trace,ractor=warn,openraft=off");
        let beside = directives("TRACE,centripeta::access=off");
        assert!(beside.starts_with("TRACE,centripeta::access=off,ractor=warn,openraft=off"));
        for library in LIBRARIES {
            assert!(beside.contains(&format!(",{library}=info")), "{beside}");
        }
        let named = directives("h2=trace,debug");
        assert!(!named.contains("h2=info") && named.contains("hyper=info"));
        // Without a level of all nothing is on that is not named.
        assert_eq!(directives("centripeta=trace"), "centripeta=trace");
        assert!(filter("debug").is_ok());
    }

    #[test]
    fn a_log_that_is_not_ours_is_not_changed() {
        let logging = |level: &str| LogConfig {
            format: LogFormat::Json,
            level: level.to_owned(),
            ..crate::config::Config::default().log
        };
        // The process has one log: whichever came first has it.
        let _first = Telemetry::start(&logging("info")).expect("a fit level");
        let second = Telemetry::start(&logging("warn")).expect("a fit level");
        assert!(matches!(
            second.set_level("debug"),
            Err(TelemetryError::Foreign)
        ));
        assert!(matches!(
            second.set_level("a=b=c"),
            Err(TelemetryError::Level(_))
        ));
        assert_eq!(second.level(), "warn");
    }
}
