//! The caller's deadline, as gRPC writes it.

use http::HeaderMap;
use std::time::Duration;

/// A caller can't make us keep anything for longer than this, whatever it sends.
const LONGEST: Duration = Duration::from_secs(3600);

/// A `grpc-timeout` that is not of the form "at most eight digits and one of `HMSmun`".
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`grpc-timeout: {0}` is not one to eight digits and one of H, M, S, m, u, n")]
pub(crate) struct InvalidTimeout(String);

/// The time that the caller allows; `None` if it does not say. Capped at an hour.
///
/// # Errors
/// The header is there and malformed.
pub(crate) fn of(metadata: &HeaderMap) -> Result<Option<Duration>, InvalidTimeout> {
    let Some(value) = metadata.get("grpc-timeout") else {
        return Ok(None);
    };
    match parse(value.as_bytes()) {
        Some(timeout) => Ok(Some(timeout.min(LONGEST))),
        None => {
            let text: String = String::from_utf8_lossy(value.as_bytes())
                .chars()
                .take(32)
                .collect();
            Err(InvalidTimeout(text))
        }
    }
}

/// One `grpc-timeout` value.
fn parse(value: &[u8]) -> Option<Duration> {
    let (unit, digits) = value.split_last()?;
    if digits.is_empty() || digits.len() > 8 || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let count = digits
        .iter()
        .fold(0_u64, |sum, digit| sum * 10 + u64::from(digit - b'0'));
    match unit {
        b'H' => Some(Duration::from_secs(count * 3600)),
        b'M' => Some(Duration::from_secs(count * 60)),
        b'S' => Some(Duration::from_secs(count)),
        b'm' => Some(Duration::from_millis(count)),
        b'u' => Some(Duration::from_micros(count)),
        b'n' => Some(Duration::from_nanos(count)),
        _ => None,
    }
}

/// For fuzzing: a `grpc-timeout` of any bytes is read as it is written, or refused with its text.
pub(crate) fn fuzz(bytes: &[u8]) {
    let Ok(value) = http::HeaderValue::from_bytes(bytes) else {
        return;
    };
    let mut metadata = HeaderMap::new();
    metadata.insert("grpc-timeout", value);
    let well_formed = bytes.split_last().is_some_and(|(unit, digits)| {
        b"HMSmun".contains(unit)
            && (1..=8).contains(&digits.len())
            && digits.iter().all(u8::is_ascii_digit)
    });
    match of(&metadata) {
        Ok(Some(timeout)) => assert!(well_formed && timeout <= LONGEST, "{timeout:?}"),
        Ok(None) => panic!("it is there"),
        Err(InvalidTimeout(text)) => assert!(!well_formed && text.chars().count() <= 32),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn c07_reads_every_unit() {
        let cases: [(&str, u64); 6] = [
            ("999000u", 999_000_000),
            ("1S", 1_000_000_000),
            ("500m", 500_000_000),
            ("100000n", 100_000),
            ("2M", 120_000_000_000),
            ("3H", 10_800_000_000_000),
        ];
        for (text, nanos) in cases {
            assert_eq!(
                parse(text.as_bytes()),
                Some(Duration::from_nanos(nanos)),
                "{text}"
            );
        }
    }

    #[test]
    fn refuses_what_is_no_timeout() {
        for text in [
            "",
            "u",
            "1",
            "-1S",
            "123456789u",
            "1.5S",
            "1s",
            "999999999999999999H",
        ] {
            assert_eq!(parse(text.as_bytes()), None, "{text}");
        }
    }

    #[test]
    fn an_absurd_deadline_is_cut_to_an_hour() {
        let mut metadata = HeaderMap::new();
        metadata.insert("grpc-timeout", http::HeaderValue::from_static("99999999H"));
        assert_eq!(of(&metadata), Ok(Some(LONGEST)));
    }
}
