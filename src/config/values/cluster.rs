//! What nodes of a cluster share: secrets, the groups of events that each runs, where each is dialled.

use super::Scalar;
use super::addresses::host_and_port;
use super::lists::texts;
use super::text::secret;
use crate::config::cluster::ClusterSecret;
use crate::config::problem::{Fault, one_of};
use crate::config::tree::Value;
use centripeta_cluster::Serves;
use centripeta_cluster::peer::{SECRET_MIN, SECRETS_MAX};

/// One secret that nodes share, or a list of them.
pub(super) fn secrets(value: &Value) -> Result<Vec<ClusterSecret>, Fault> {
    let read = texts(value, "secrets")?;
    if read.len() > SECRETS_MAX {
        return Err(Fault::new(
            format!(
                "holds {} secrets, and at most {SECRETS_MAX} are known at once",
                read.len()
            ),
            "keep the one in use first, and those that it replaces or that replace it",
        ));
    }
    let one = |(at, text): (usize, &String)| {
        let text = text.trim();
        if text.len() < SECRET_MIN {
            return Err(Fault::new(
                format!(
                    "holds a secret (number {}) of {} bytes, and at least {SECRET_MIN} are needed",
                    at + 1,
                    text.len()
                ),
                "use 32 random bytes, such as `openssl rand -base64 32` prints",
            ));
        }
        match secret(text)? {
            Scalar::Secret(secret) => Ok(ClusterSecret::Text(secret)),
            _ => Err(Fault::new("is no secret", "write it as a string")),
        }
    };
    read.iter().enumerate().map(one).collect()
}

/// Groups of events that a node runs.
pub(super) fn serves(value: &Value) -> Result<Serves, Fault> {
    let mut serves = Serves::default();
    for group in texts(value, "groups of events")? {
        let twice = match group.as_str() {
            "connect" => std::mem::replace(&mut serves.connect, true),
            "channel" => std::mem::replace(&mut serves.channel, true),
            _ => {
                let pattern = method_pattern(&group)?;
                let twice = serves.rpc.contains(&pattern);
                serves.rpc.push(pattern);
                twice
            }
        };
        if twice {
            let rule = format!("names `{group}` twice");
            return Err(Fault::new(rule, "name each group once"));
        }
    }
    Ok(serves)
}

/// The pattern behind `rpc` (everything) or `rpc:PATTERN`: a method, `PREFIX.*` or `*`.
pub(super) fn method_pattern(group: &str) -> Result<String, Fault> {
    let words = ["connect", "rpc", "rpc:METHOD", "rpc:PREFIX.*", "channel"];
    let pattern = match group.strip_prefix("rpc") {
        Some("") => return Ok("*".to_owned()),
        Some(rest) => rest.strip_prefix(':'),
        None => None,
    };
    let Some(pattern) = pattern else {
        let fix = one_of(group, words);
        return Err(Fault::of_part(group, "is no group of events", fix));
    };
    let name = match pattern.strip_suffix('*') {
        Some(prefix) if prefix.is_empty() || prefix.len() > 1 && prefix.ends_with('.') => prefix,
        Some(_) => "*",
        None if pattern.is_empty() => "*",
        None => pattern,
    };
    if name.contains('*')
        || name
            .chars()
            .any(|letter| letter.is_whitespace() || letter.is_control())
    {
        return Err(Fault::of_part(
            group,
            "names no methods",
            "write rpc:a.b for one method, rpc:a.* for those that begin with a., rpc for all",
        ));
    }
    Ok(pattern.to_owned())
}

/// Where a node is dialled.
pub(super) fn peer(text: &str) -> Result<String, Fault> {
    match host_and_port(text) {
        Some((host, port)) => Ok(format!("{host}:{port}")),
        None => Err(Fault::of_part(
            text,
            "is not where a node can be dialled",
            "write HOST:PORT, such as 10.0.0.2:7946 or node-b:7946",
        )),
    }
}

pub(super) fn peers(value: &Value) -> Result<Vec<String>, Fault> {
    let read = texts(value, "addresses")?;
    read.iter().map(|text| peer(text)).collect()
}
