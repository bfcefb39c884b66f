//! Values of RoadRunner in our form: variables, durations, addresses.

use super::remark::Remarks;
use std::time::Duration;

/// A string with RoadRunner's variables as ours: `$A` and `${A}` become `${A}`, defaults stay. Two
/// quirks are told of and not copied: a default anywhere empties the whole value if another variable
/// has none, and `$$` is eaten.
pub(super) fn variables(key: &str, text: &str, remarks: &mut Remarks) -> String {
    let mut made = String::with_capacity(text.len());
    let mut rest = text;
    let (mut bare, mut defaults) = (Vec::new(), false);
    while let Some(at) = rest.find('$') {
        made.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        if let Some(inner) = rest.strip_prefix('{') {
            let Some((inside, after)) = inner.split_once('}') else {
                remarks.warn(key, "opens a `${` that nothing closes: RoadRunner drops it");
                rest = inner;
                continue;
            };
            rest = after;
            let (name, default) = match inside.split_once(":-") {
                Some((name, default)) => (name, Some(default)),
                None => (inside, None),
            };
            if !is_name(name) {
                remarks.warn(
                    key,
                    "holds a `${…}` without the name of a variable, which is dropped",
                );
                continue;
            }
            match default {
                Some(default) => {
                    defaults = true;
                    made.push_str(&format!("${{{name}:-{default}}}"));
                }
                None => {
                    bare.push(name);
                    made.push_str(&format!("${{{name}}}"));
                }
            }
            continue;
        }
        let length = rest
            .find(|letter: char| !(letter.is_ascii_alphanumeric() || letter == '_'))
            .unwrap_or(rest.len());
        let (name, after) = rest.split_at(length);
        if is_name(name) {
            bare.push(name);
            made.push_str(&format!("${{{name}}}"));
            rest = after;
        } else if let Some(after) = rest.strip_prefix('$') {
            remarks.warn(
                key,
                "holds `$$`, which RoadRunner eats (there is no escape), and so it is left out here; \
                 if the value is meant to have it, give it by a variable",
            );
            rest = after;
        } else if rest
            .starts_with(|letter: char| letter.is_ascii_digit() || "*#@!?-".contains(letter))
        {
            remarks.warn(
                key,
                "holds a `$` and a sign, which RoadRunner takes for an empty variable",
            );
            rest = &rest[1..];
        } else {
            made.push('$');
        }
    }
    made.push_str(rest);
    // RoadRunner looks for `:-` in the whole text, whether it belongs to a variable or not.
    if (defaults || text.contains(":-")) && !bare.is_empty() {
        remarks.warn(
            key,
            "has a variable without a default beside a `:-`: RoadRunner makes the whole value empty; \
             here each stands for itself",
        );
    }
    for name in bare {
        remarks.note(
            key,
            format!("${{{name}}} has no default: unset, it stops the start here; to RoadRunner it is empty"),
        );
    }
    if made.starts_with("file:") {
        remarks.warn(key, "starts with `file:`, which here reads that file");
    }
    made
}

fn is_name(name: &str) -> bool {
    name.starts_with(|first: char| first.is_ascii_alphabetic() || first == '_')
        && name
            .chars()
            .all(|letter| letter.is_ascii_alphanumeric() || letter == '_')
}

/// A time as Go writes it, such as `1m30s` or `1.5h`. A bare number is nanoseconds there.
pub(super) fn duration(text: &str) -> Option<Duration> {
    let text = text.trim();
    if let Ok(nanos) = text.parse::<u64>() {
        return Some(Duration::from_nanos(nanos));
    }
    let mut rest = text.strip_prefix('+').unwrap_or(text);
    let mut nanos = 0.0_f64;
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let digits = rest.find(|letter: char| !(letter.is_ascii_digit() || letter == '.'))?;
        let number: f64 = rest[..digits].parse().ok()?;
        rest = &rest[digits..];
        let end = rest
            .find(|letter: char| letter.is_ascii_digit() || letter == '.')
            .unwrap_or(rest.len());
        let unit = match &rest[..end] {
            "ns" => 1.0,
            "us" | "µs" | "μs" => 1e3,
            "ms" => 1e6,
            "s" => 1e9,
            "m" => 60e9,
            "h" => 3_600e9,
            _ => return None,
        };
        nanos += number * unit;
        rest = &rest[end..];
    }
    let seconds = nanos / 1e9;
    Duration::try_from_secs_f64(seconds).ok()
}

/// A time as `node.toml` has it: whole milliseconds, in hours, minutes, seconds and milliseconds.
pub(super) fn show(time: Duration) -> String {
    let mut left = time.as_millis();
    if left == 0 {
        return "0s".to_owned();
    }
    let mut text = String::new();
    for (unit, length) in [("h", 3_600_000), ("m", 60_000), ("s", 1000), ("ms", 1)] {
        if left >= length {
            text.push_str(&format!("{}{unit}", left / length));
            left %= length;
        }
    }
    text
}

/// An address without its scheme, also where the scheme is in a variable's default; `None` if it is
/// a path of a socket.
pub(super) fn host_and_port(address: &str) -> Option<String> {
    if address.contains("unix://") {
        return None;
    }
    Some(address.replace("tcp://", ""))
}

/// An address with its variables at their defaults, to see what it says.
pub(super) fn at_defaults(text: &str) -> String {
    let mut made = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("${") {
        made.push_str(before);
        let (inside, behind) = after.split_once('}').unwrap_or((after, ""));
        made.push_str(inside.split_once(":-").map_or("", |(_, default)| default));
        rest = behind;
    }
    made.push_str(rest);
    made
}

/// The host and the port of an address, without its scheme; the port is empty where there is none.
pub(super) fn split(address: &str) -> (String, String) {
    let address = at_defaults(address);
    let bare = address
        .split_once("://")
        .map_or(&*address, |(_, bare)| bare);
    match bare.rsplit_once(':') {
        Some((host, port)) => (host.trim_matches(['[', ']']).to_owned(), port.to_owned()),
        None => (bare.to_owned(), String::new()),
    }
}

/// The host and the port of an address as they are written, variables and all, without the scheme.
pub(super) fn split_raw(address: &str) -> (&str, &str) {
    let bare = address.strip_prefix("tcp://").unwrap_or(address);
    let mut depth = 0_usize;
    let mut colon = None;
    for (at, letter) in bare.char_indices() {
        match letter {
            '{' | '[' => depth += 1,
            '}' | ']' => depth = depth.saturating_sub(1),
            ':' if depth == 0 => colon = Some(at),
            _ => {}
        }
    }
    colon.map_or((bare, ""), |at| (&bare[..at], &bare[at + 1..]))
}

/// Whether a host is this machine alone.
pub(super) fn is_loopback(host: &str) -> bool {
    host == "localhost"
        || host
            .parse::<std::net::IpAddr>()
            .is_ok_and(|it| it.is_loopback())
}
