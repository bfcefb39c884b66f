//! What the node says on stderr: `tracing` as `[log]` asks for it.
//!
//! Lines are handed to a thread of their own, so that a slow reader of stderr stalls no event; beyond
//! 128,000 waiting lines the newest are dropped. Panics are logged like everything else, in one line.
//!
//! On a terminal a line for people, elsewhere one JSON object a line. Where a level alone is given,
//! the libraries below us stay at `info`, since their details show headers; who wants them names
//! their target.

use crate::config::{LogConfig, LogFormat};
use crate::engine::guard::panic_message;
use std::backtrace::{Backtrace, BacktraceStatus};
use std::fmt;
use std::io::{self, IsTerminal};
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
}

/// The running log.
pub(crate) struct Telemetry {
    /// Whether lines are JSON.
    pub(crate) json: bool,
    /// Writes what waits when dropped.
    _writer: WorkerGuard,
    #[allow(
        dead_code,
        reason = "what a running node reads again changes the level"
    )]
    filter: reload::Handle<EnvFilter, Registry>,
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
        })
    }

    /// Changes the level while the node runs.
    ///
    /// # Errors
    /// The level is none; the one before stays.
    #[allow(
        dead_code,
        reason = "what a running node reads again changes the level"
    )]
    pub(crate) fn set_level(&self, level: &str) -> Result<(), TelemetryError> {
        let filter = filter(level)?;
        // It is gone only when the process is.
        drop(self.filter.reload(filter));
        Ok(())
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

/// The directives of a level, with the libraries held back unless some target is named. The spans
/// that ractor opens around every message tell nothing and cost on every event.
fn directives(level: &str) -> String {
    let is = |words: &[&str]| words.iter().any(|word| level.eq_ignore_ascii_case(word));
    let held = LIBRARIES.map(|library| format!(",{library}=info")).concat();
    if is(&["debug", "trace"]) {
        format!("{level},ractor=warn{held}")
    } else if is(&["info"]) {
        format!("{level},ractor=warn")
    } else {
        level.to_owned()
    }
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
    fn a_bare_level_keeps_libraries_that_show_headers_quiet() {
        assert!(directives("trace").contains("h2=info"));
        assert_eq!(directives("info"), "info,ractor=warn");
        assert_eq!(directives("error"), "error");
        assert_eq!(directives("info,h2=trace"), "info,h2=trace");
        assert!(filter("debug").is_ok());
    }

    #[test]
    fn a_level_that_is_none_is_refused_and_the_one_before_stays() {
        let config = LogConfig {
            format: LogFormat::Json,
            ..crate::config::Config::default().log
        };
        let telemetry = Telemetry::start(&config).expect("a fit level");
        assert!(telemetry.set_level("debug").is_ok());
        assert!(telemetry.set_level("a=b=c").is_err());
    }
}
