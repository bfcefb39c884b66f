//! Single lines of text: credentials, metadata, levels of the log.

use super::Scalar;
use crate::config::problem::{Fault, nearest};
use crate::config::schema::LEVELS;
use crate::config::secret::Secret;

pub(super) fn secret(text: &str) -> Result<Scalar, Fault> {
    if text.chars().any(char::is_control) {
        return Err(Fault::new(
            "holds a line end or another control character",
            "a credential is one line of printable characters",
        ));
    }
    Ok(Scalar::Secret(Secret::new(text)))
}

/// `NAME=VALUE,…` as metadata; `None` where that can't be sent.
pub(in crate::config) fn header_list(text: &str) -> Option<Vec<(String, Secret)>> {
    let pairs = text.split(',').filter(|pair| !pair.trim().is_empty());
    let pair = |pair: &str| {
        let (name, value) = pair.split_once('=')?;
        let Ok(Scalar::Text(name)) = metadata(name.trim()) else {
            return None;
        };
        let value = value.trim();
        let is_plain = value.bytes().all(|byte| matches!(byte, b' '..=b'~'));
        is_plain.then(|| (name, Secret::new(value)))
    };
    pairs.map(pair).collect()
}

pub(super) fn metadata(text: &str) -> Result<Scalar, Fault> {
    let lower = text.to_ascii_lowercase();
    let letter = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_');
    if lower.is_empty() || lower.len() > 128 || !lower.bytes().all(letter) {
        return Err(Fault::new(
            "is not a metadata key",
            "use letters, digits, `-`, `_` and `.`, such as x-router-key",
        ));
    }
    if lower.starts_with("grpc-")
        || lower.ends_with("-bin")
        || lower == "te"
        || lower == "content-type"
    {
        return Err(Fault::new(
            "is a metadata key that gRPC keeps for itself",
            "choose another, such as x-router-key",
        ));
    }
    Ok(Scalar::Text(lower))
}

/// A level, or `level` and `target=level` separated by commas; a mistyped level would otherwise
/// pass as the name of a target.
pub(in crate::config) fn filter(text: &str) -> Result<(), Fault> {
    for part in text.split(',') {
        let (target, level) = part
            .split_once('=')
            .map_or((None, part), |(to, level)| (Some(to), level));
        let letter = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b':' | b'_' | b'-');
        if target.is_some_and(|target| target.is_empty() || !target.bytes().all(letter)) {
            return Err(Fault::new(
                "holds a target that is no path of a module",
                "write target=level, as in info,centripeta=debug",
            ));
        }
        let lower = level.to_ascii_lowercase();
        if !LEVELS.contains(&lower.as_str()) {
            let fix = match nearest(&lower, LEVELS.iter().copied()) {
                Some(near) => format!("did you mean `{near}`?"),
                None => format!("write one of {}, or info,target=debug", LEVELS.join(", ")),
            };
            return Err(Fault::new("names no log level", fix));
        }
    }
    Ok(())
}
