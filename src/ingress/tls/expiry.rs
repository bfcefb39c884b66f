//! Until when a certificate is good, read from its DER form.
//!
//! Only the way to `notAfter` is read (RFC 5280, section 4.1): TLS itself checks the rest, and its
//! peers check the time. Whatever the bytes are, nothing panics; what is no certificate has no end.

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

const SEQUENCE: u8 = 0x30;
const INTEGER: u8 = 0x02;
const VERSION: u8 = 0xA0;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;

/// A certificate whose time is over; peers that check it refuse to talk to us.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the certificate in {} has expired at {}", path.display(), self.at())]
pub(crate) struct Expired {
    path: PathBuf,
    end: SystemTime,
}

impl Expired {
    /// Says so of a certificate in this file, if its time is over.
    pub(super) fn of(path: &Path, der: &[u8], now: SystemTime) -> Option<Self> {
        let end = not_after(der).filter(|end| *end < now)?;
        let path = path.to_owned();
        Some(Self { path, end })
    }

    /// How to mend it.
    pub(crate) fn help(&self) -> String {
        let path = self.path.display();
        format!(
            "put a renewed certificate and its key in place of {path}: they are read when they change"
        )
    }

    fn at(&self) -> impl fmt::Display {
        humantime::format_rfc3339_seconds(self.end)
    }
}

/// The end of a certificate's validity.
fn not_after(der: &[u8]) -> Option<SystemTime> {
    let (certificate, _) = inside(der, SEQUENCE)?;
    let (body, _) = inside(certificate, SEQUENCE)?;
    // The version is left out where it is the first.
    let body = inside(body, VERSION).map_or(body, |(_, rest)| rest);
    let (_, body) = inside(body, INTEGER)?;
    let (_, body) = inside(body, SEQUENCE)?;
    let (_, body) = inside(body, SEQUENCE)?;
    let (validity, _) = inside(body, SEQUENCE)?;
    let (_, _, after) = element(validity)?;
    let (tag, time, _) = element(after)?;
    let text = std::str::from_utf8(time).ok()?;
    match tag {
        UTC_TIME => {
            let year = number(text, 0..2)?;
            let century = if year < 50 { 2000 } else { 1900 };
            moment(century + year, text.get(2..)?)
        }
        GENERALIZED_TIME => moment(number(text, 0..4)?, text.get(4..)?),
        _ => None,
    }
}

/// What stands in an element with this tag, and what follows it.
fn inside(der: &[u8], wanted: u8) -> Option<(&[u8], &[u8])> {
    let (tag, content, rest) = element(der)?;
    (tag == wanted).then_some((content, rest))
}

/// The first element: its tag, its content, and what follows it.
fn element(der: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (tag, rest) = der.split_first()?;
    let (first, rest) = rest.split_first()?;
    let (length, rest) = match *first {
        short @ 0..0x80 => (usize::from(short), rest),
        long => {
            let count = usize::from(long & 0x7F);
            let bytes = rest.get(..count).filter(|_| count <= 4)?;
            let length = bytes
                .iter()
                .fold(0_usize, |sum, byte| sum << 8 | usize::from(*byte));
            (length, &rest[count..])
        }
    };
    Some((*tag, rest.get(..length)?, &rest[length..]))
}

fn number(text: &str, at: std::ops::Range<usize>) -> Option<u64> {
    text.get(at)?.parse().ok()
}

/// A moment of a year from `MMDDHHMMSSZ`.
fn moment(year: u64, rest: &str) -> Option<SystemTime> {
    let part = |at: usize| number(rest, at..at + 2);
    let (month, day) = (part(0)?, part(2)?);
    let (hour, minute, second) = (part(4)?, part(6)?, part(8)?);
    let is_whole = (1..=12).contains(&month) && (1..=31).contains(&day) && year >= 1970;
    let days = is_whole.then(|| days_since_1970(year, month, day))?;
    let seconds = ((days * 24 + hour) * 60 + minute) * 60 + second;
    UNIX_EPOCH.checked_add(Duration::from_secs(seconds))
}

/// Days since the first of January 1970. A year is taken to begin in March, so that the leap day is
/// its last.
const fn days_since_1970(year: u64, month: u64, day: u64) -> u64 {
    let year = if month <= 2 { year - 1 } else { year };
    let month = (month + 9) % 12;
    let leaps = year / 4 - year / 100 + year / 400;
    // 719,468 days lie between the first of March of the year 0 and 1970.
    year * 365 + leaps + (month * 153 + 2) / 5 + day - 1 - 719_468
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn certificate(year: i32) -> Vec<u8> {
        let mut params = rcgen::CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        params.not_before = rcgen::date_time_ymd(1999, 1, 1);
        params.not_after = rcgen::date_time_ymd(year, 2, 28);
        let key = rcgen::KeyPair::generate().unwrap();
        params.self_signed(&key).unwrap().der().to_vec()
    }

    fn at(text: &str) -> SystemTime {
        humantime::parse_rfc3339(text).unwrap()
    }

    #[test]
    fn the_end_of_a_certificate_is_read_in_both_of_its_forms() {
        for (year, end) in [
            (2024, "2024-02-28T00:00:00Z"),
            (2049, "2049-02-28T00:00:00Z"),
            (2100, "2100-02-28T00:00:00Z"),
        ] {
            assert_eq!(not_after(&certificate(year)), Some(at(end)), "{year}");
        }
    }

    #[test]
    fn a_certificate_has_expired_after_its_end_and_not_before() {
        let (der, path) = (certificate(2024), Path::new("a.pem"));
        assert_eq!(Expired::of(path, &der, at("2024-02-27T23:59:59Z")), None);
        let expired = Expired::of(path, &der, at("2024-02-28T00:00:01Z")).unwrap();
        assert_eq!(
            expired.to_string(),
            "the certificate in a.pem has expired at 2024-02-28T00:00:00Z"
        );
        assert!(expired.help().contains("a.pem"));
    }

    #[test]
    fn dates_around_leap_days_are_counted_right() {
        for (moment_of, expected) in [
            ((1970, "0101000000Z"), "1970-01-01T00:00:00Z"),
            ((2000, "0229123456Z"), "2000-02-29T12:34:56Z"),
            ((2000, "0301000000Z"), "2000-03-01T00:00:00Z"),
            ((2023, "1231235959Z"), "2023-12-31T23:59:59Z"),
        ] {
            assert_eq!(moment(moment_of.0, moment_of.1), Some(at(expected)));
        }
    }

    #[test]
    fn what_is_no_certificate_has_no_end_and_never_panics() {
        let whole = certificate(2024);
        for length in 0..whole.len() {
            let _ = not_after(&whole[..length]);
        }
        for at in 0..whole.len().min(200) {
            for value in [0x00, 0x7F, 0x80, 0x84, 0xFF] {
                let mut torn = whole.clone();
                torn[at] = value;
                let _ = not_after(&torn);
            }
        }
        assert_eq!(moment(2024, "1340000000Z"), None);
        assert_eq!(moment(2024, "01"), None);
    }
}
