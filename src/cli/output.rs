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

/// A word as a shell reads it back, in quotes if it needs them.
pub(super) fn shell_word(word: &str) -> String {
    let plain = |letter: char| letter.is_ascii_alphanumeric() || "_-./:@%+=,".contains(letter);
    if !word.is_empty() && word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_quoted_where_a_shell_would_change_them() {
        assert_eq!(shell_word("target/debug/my-app"), "target/debug/my-app");
        assert_eq!(shell_word("chat:1"), "chat:1");
        assert_eq!(shell_word("[::1]:9000"), "'[::1]:9000'");
        assert_eq!(shell_word("it's"), r"'it'\''s'");
        assert_eq!(shell_word(""), "''");
    }

    #[test]
    fn times_are_in_the_unit_that_fits() {
        assert_eq!(time(Duration::from_micros(87)), "87 µs");
        assert_eq!(time(Duration::from_micros(1234)), "1.23 ms");
        assert_eq!(time(Duration::from_millis(2500)), "2.50 s");
        assert!((milliseconds(Duration::from_nanos(1_234_567)) - 1.235).abs() < 1e-9);
    }
}
