//! Results on stdout.

use serde_json::Value;
use std::io::{self, Write};
use std::time::Duration;

/// Writes a result and a line end. Whoever closes the pipe early, such as `head`, has seen enough.
pub(super) fn say(text: &str) {
    let mut out = io::stdout().lock();
    drop(writeln!(out, "{text}").and_then(|()| out.flush()));
}

/// Writes a result as one line of JSON.
pub(super) fn say_json(value: &Value) {
    say(&value.to_string());
}

/// A time as a person reads it: three digits, in the unit that fits.
pub(super) fn time(took: Duration) -> String {
    let seconds = took.as_secs_f64();
    if seconds >= 1.0 {
        format!("{seconds:.2} s")
    } else if seconds >= 0.001 {
        format!("{:.2} ms", seconds * 1e3)
    } else {
        format!("{:.0} µs", seconds * 1e6)
    }
}

/// The same in milliseconds, to the microsecond, for JSON.
pub(super) fn milliseconds(took: Duration) -> f64 {
    (took.as_secs_f64() * 1e6).round() / 1e3
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_in_the_unit_that_fits() {
        assert_eq!(time(Duration::from_micros(87)), "87 µs");
        assert_eq!(time(Duration::from_micros(1234)), "1.23 ms");
        assert_eq!(time(Duration::from_millis(2500)), "2.50 s");
        assert!((milliseconds(Duration::from_nanos(1_234_567)) - 1.235).abs() < 1e-9);
    }
}
