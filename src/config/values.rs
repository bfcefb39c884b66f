//! What a single value must look like: from a TOML value and the kind of its key to a typed one.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use super::cluster::ClusterSecret;
use super::names;
use super::problem::{Fault, nearest, one_of};
use super::schema::{Kind, LEVELS, size, time};
use super::secret::Secret;
use super::tree::{Node, Value};
use super::types::{Collector, Endpoint, ListenAddr, On, RelayAddress, RpcAddress, RpcListen};
use crate::event::EventKind;
use centripeta_cluster::Serves;
use centripeta_cluster::peer::{SECRET_MIN, SECRETS_MAX};

/// A value of the type that its key promises.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Scalar {
    Text(String),
    Secret(Secret),
    Flag(bool),
    Count(u64),
    Rate(f64),
    Share(f64),
    Collector(Collector),
    Duration(Duration),
    Bytes(usize),
    Listen(ListenAddr),
    Tcp(SocketAddr),
    Endpoints(Vec<Endpoint>),
    RpcListen(RpcListen),
    RpcServer(RpcAddress),
    Relay(RelayAddress),
    Words(Vec<String>),
    Events(Vec<EventKind>),
    On(On),
    Object(serde_json::Value),
    Variables(BTreeMap<String, String>),
    Serves(Serves),
    Secrets(Vec<ClusterSecret>),
}

/// Reads a value in which `${NAME}` and `file:PATH` are already replaced.
pub(super) fn read(kind: &Kind, node: &Node) -> Result<Scalar, Fault> {
    match *kind {
        Kind::Flag => flag(&node.value),
        Kind::Count(from, to) => count(&node.value, from, to),
        Kind::Rate => rate(&node.value),
        Kind::Share => share(&node.value),
        Kind::Bytes(from, to) => bytes(&node.value, from, to),
        Kind::ErrorCode => error_code(&node.value),
        Kind::DisconnectCode => disconnect_code(&node.value),
        Kind::Object => object(node),
        Kind::Endpoints => {
            let read = texts(&node.value, "addresses")?;
            let read: Result<_, _> = read.iter().map(|text| endpoint(text)).collect();
            read.map(Scalar::Endpoints)
        }
        Kind::Command => command(&node.value).map(Scalar::Words),
        Kind::Variables => variables(&node.value).map(Scalar::Variables),
        Kind::Serves => serves(&node.value).map(Scalar::Serves),
        Kind::Peers => peers(&node.value).map(Scalar::Words),
        Kind::Secrets => secrets(&node.value).map(Scalar::Secrets),
        Kind::MetadataTable => metadata_table(&node.value).map(Scalar::Variables),
        Kind::Names => Ok(Scalar::Words(texts(&node.value, "names")?)),
        Kind::Words(words) => word_list(&node.value, words),
        Kind::Events => events(&node.value).map(Scalar::Events),
        Kind::On => on(&node.value).map(Scalar::On),
        _ => match &node.value {
            Value::Text(text) => read_text(kind, text),
            other => Err(wrong_type(other, "a string", "put it in double quotes")),
        },
    }
}

fn read_text(kind: &Kind, text: &str) -> Result<Scalar, Fault> {
    let owned = || Ok(Scalar::Text(text.to_owned()));
    match *kind {
        Kind::Name => names::check_name(text).and_then(|()| owned()),
        Kind::Secret => secret(text),
        Kind::Duration(from, to) => duration(text, from, to),
        Kind::Listen => listen(text).map(Scalar::Listen),
        Kind::Tcp => tcp(text).map(Scalar::Tcp),
        Kind::Choice(words) if words.contains(&text) => owned(),
        Kind::Choice(words) => Err(Fault::new(
            format!("must be one of {}", words.join(", ")),
            one_of(text, words.iter().copied()),
        )),
        Kind::Filter => filter(text).and_then(|()| owned()),
        Kind::Boundary if text.is_empty() || text.contains(['{', '}', '*']) => Err(Fault::new(
            "must be at least one character, without `{`, `}` and `*`",
            "use what Centrifugo's `channel.namespace_boundary` says, by default \":\"",
        )),
        Kind::SocketUrl => socket_url(text).and_then(|()| owned()),
        Kind::Collector => collector(text).map(Scalar::Collector),
        Kind::RpcListen if text == "off" => Ok(Scalar::RpcListen(RpcListen::Off)),
        Kind::RpcListen => {
            let address = rpc_address(
                text,
                true,
                "write tcp://127.0.0.1:6001, unix:///PATH or off",
            );
            address.map(|address| Scalar::RpcListen(RpcListen::At(address)))
        }
        Kind::Relay if text == "pipes" => Ok(Scalar::Relay(RelayAddress::Pipes)),
        Kind::Relay => {
            let fix = "write pipes, unix:///PATH or tcp://127.0.0.1:PORT";
            let address = rpc_address(text, false, fix)
                .map_err(|_| Fault::new("is no way to reach a worker", fix))?;
            if address.is_beyond_loopback() {
                let rule = "lets other machines pass for workers";
                return Err(Fault::new(rule, fix));
            }
            Ok(Scalar::Relay(RelayAddress::Socket(address)))
        }
        Kind::RpcServer => {
            let fix = "write tcp://HOST:PORT, such as tcp://127.0.0.1:6002, or unix:///PATH";
            rpc_address(text, false, fix).map(Scalar::RpcServer)
        }
        Kind::Metadata => metadata(text),
        Kind::Key => names::check_key(text).and_then(|()| owned()),
        Kind::Per => names::check_per(text).and_then(|()| owned()),
        Kind::Peer if text.is_empty() => owned(),
        Kind::Peer => peer(text).map(Scalar::Text),
        Kind::Reason if text.len() > 123 => Err(Fault::new(
            format!(
                "is {} bytes long, and a WebSocket closes with at most 123",
                text.len()
            ),
            "say it shorter",
        )),
        Kind::Text | Kind::File if text.is_empty() => Err(Fault::new(
            "must not be empty",
            "give it a value or remove the key",
        )),
        _ => owned(),
    }
}

fn wrong_type(found: &Value, wanted: &str, fix: &str) -> Fault {
    Fault::new(
        format!("must be {wanted}, and is {}", found.type_name()),
        fix,
    )
}

fn flag(value: &Value) -> Result<Scalar, Fault> {
    match value {
        Value::Bool(flag) => Ok(Scalar::Flag(*flag)),
        other => Err(wrong_type(
            other,
            "true or false",
            "write true or false, without quotes",
        )),
    }
}

fn count(value: &Value, from: u64, to: u64) -> Result<Scalar, Fault> {
    let range = || {
        Fault::new(
            format!("must be a whole number from {from} to {to}"),
            format!("write a number from {from} to {to}, without quotes"),
        )
    };
    match value {
        Value::Int(number) => match u64::try_from(*number) {
            Ok(number) if (from..=to).contains(&number) => Ok(Scalar::Count(number)),
            _ => Err(range()),
        },
        _ => Err(range()),
    }
}

fn rate(value: &Value) -> Result<Scalar, Fault> {
    #[expect(clippy::cast_precision_loss, reason = "rates are far below 2^52")]
    let rate = match value {
        Value::Int(number) => *number as f64,
        Value::Float(number) => *number,
        other => {
            return Err(wrong_type(
                other,
                "a number",
                "write how many a second, such as 20 or 0.5",
            ));
        }
    };
    if rate > 0.0 && rate <= 1_000_000.0 {
        return Ok(Scalar::Rate(rate));
    }
    Err(Fault::new(
        "must be above 0 and at most 1000000 events per second",
        "write how many a second, such as 20 or 0.5; to refuse everything, route to `deny`",
    ))
}

fn share(value: &Value) -> Result<Scalar, Fault> {
    let share = match value {
        Value::Int(number @ (0 | 1)) => f64::from(*number == 1),
        Value::Float(number) => *number,
        _ => f64::NAN,
    };
    if (0.0..=1.0).contains(&share) {
        return Ok(Scalar::Share(share));
    }
    Err(Fault::new(
        "must be a number from 0 to 1",
        "write a share, such as 0.01 for one in a hundred, without quotes",
    ))
}

fn duration(text: &str, from: u64, to: u64) -> Result<Scalar, Fault> {
    let example = || {
        format!(
            "write a number with a unit, such as 250ms, 2s, 10m or 1h, from {} to {}",
            time(from),
            time(to)
        )
    };
    let read =
        humantime::parse_duration(text).map_err(|_| Fault::new("is not a duration", example()))?;
    if read < Duration::from_millis(from) || read > Duration::from_millis(to) {
        return Err(Fault::new(
            format!("must be from {} to {}", time(from), time(to)),
            example(),
        ));
    }
    Ok(Scalar::Duration(read))
}

fn bytes(value: &Value, from: u64, to: u64) -> Result<Scalar, Fault> {
    let fix = || {
        format!(
            "write a size with a unit, such as 64KiB or 4MiB, from {} to {}",
            size(from),
            size(to)
        )
    };
    let read = match value {
        Value::Int(number) => u64::try_from(*number).ok(),
        Value::Text(text) => text
            .replace('_', "")
            .parse()
            .ok()
            .map(|size: bytesize::ByteSize| size.as_u64()),
        _ => None,
    };
    let read = read.ok_or_else(|| Fault::new("is not a size", fix()))?;
    match usize::try_from(read) {
        Ok(bytes) if (from..=to).contains(&read) => Ok(Scalar::Bytes(bytes)),
        _ => Err(Fault::new(
            format!("must be from {} to {}", size(from), size(to)),
            fix(),
        )),
    }
}

fn error_code(value: &Value) -> Result<Scalar, Fault> {
    match value {
        Value::Int(code @ (100..=113 | 400..=1999)) => Ok(Scalar::Count(code.unsigned_abs())),
        _ => Err(Fault::new(
            "is not an error code that may leave: 100 to 113 are Centrifugo's, 400 to 1999 an application's",
            "choose a code from 400 to 1999, such as 1403",
        )),
    }
}

fn disconnect_code(value: &Value) -> Result<Scalar, Fault> {
    match value {
        Value::Int(code @ 4000..=4999) => Ok(Scalar::Count(code.unsigned_abs())),
        _ => Err(Fault::new(
            "is not a disconnect code of an application, 4000 to 4999",
            "choose 4000 to 4499 if the client may come back, 4500 to 4999 if not",
        )),
    }
}

fn object(node: &Node) -> Result<Scalar, Fault> {
    if !matches!(node.value, Value::Table(_)) {
        return Err(wrong_type(
            &node.value,
            "a table",
            "write the fields of the result, as in { user = \"guest\" }",
        ));
    }
    node.to_json().map(Scalar::Object).ok_or_else(|| {
        Fault::new(
            "holds a number that JSON has no form for",
            "use finite numbers",
        )
    })
}

fn secret(text: &str) -> Result<Scalar, Fault> {
    if text.chars().any(char::is_control) {
        return Err(Fault::new(
            "holds a line end or another control character",
            "a credential is one line of printable characters",
        ));
    }
    Ok(Scalar::Secret(Secret::new(text)))
}

/// One secret that nodes share, or a list of them.
fn secrets(value: &Value) -> Result<Vec<ClusterSecret>, Fault> {
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
fn serves(value: &Value) -> Result<Serves, Fault> {
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
fn method_pattern(group: &str) -> Result<String, Fault> {
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
fn peer(text: &str) -> Result<String, Fault> {
    match host_and_port(text) {
        Some((host, port)) => Ok(format!("{host}:{port}")),
        None => Err(Fault::of_part(
            text,
            "is not where a node can be dialled",
            "write HOST:PORT, such as 10.0.0.2:7946 or node-b:7946",
        )),
    }
}

fn peers(value: &Value) -> Result<Vec<String>, Fault> {
    let read = texts(value, "addresses")?;
    read.iter().map(|text| peer(text)).collect()
}

/// One string or a list of them.
fn texts(value: &Value, what: &str) -> Result<Vec<String>, Fault> {
    let fix = format!("write a list of {what}, as in [\"…\", \"…\"]");
    match value {
        Value::Text(text) => Ok(vec![text.clone()]),
        Value::List(items) => {
            let one = |item: &Node| match &item.value {
                Value::Text(text) => Ok(text.clone()),
                other => Err(Fault::new(
                    format!("holds {} among the {what}", other.type_name()),
                    fix.clone(),
                )),
            };
            items.iter().map(one).collect()
        }
        other => Err(wrong_type(other, &format!("a list of {what}"), &fix)),
    }
}

/// A program and its arguments.
fn command(value: &Value) -> Result<Vec<String>, Fault> {
    let words: Vec<String> = match value {
        Value::Text(text) => text.split_whitespace().map(str::to_owned).collect(),
        other => texts(other, "words")?,
    };
    match words.first() {
        Some(program) if !program.is_empty() && !words.iter().any(|word| word.contains('\0')) => {
            Ok(words)
        }
        _ => Err(Fault::new(
            "names no program",
            "write the program and its arguments, as in [\"php\", \"app.php\"]",
        )),
    }
}

/// Environment variables; numbers and flags are written out, names in capitals.
fn variables(value: &Value) -> Result<BTreeMap<String, String>, Fault> {
    let fix = "write names and texts, as in { APP_ENV = \"prod\" }";
    let Value::Table(children) = value else {
        return Err(wrong_type(value, "a table of texts", fix));
    };
    let mut variables = BTreeMap::new();
    for (name, child) in children {
        let text = match &child.value {
            Value::Text(text) => text.clone(),
            Value::Int(number) => number.to_string(),
            Value::Bool(flag) => flag.to_string(),
            other => {
                let rule = format!("holds {} under a name", other.type_name());
                return Err(Fault::new(rule, fix));
            }
        };
        if name.is_empty() || name.contains(['=', '\0']) || text.contains('\0') {
            return Err(Fault::new("holds what no environment can", fix));
        }
        if variables.insert(name.to_uppercase(), text).is_some() {
            let rule = "holds a name twice, since names are written in capitals";
            return Err(Fault::new(rule, "give each name once"));
        }
    }
    Ok(variables)
}

/// Metadata of calls; names in lower case, values that gRPC carries.
fn metadata_table(value: &Value) -> Result<BTreeMap<String, String>, Fault> {
    let fix = "write names and texts, as in { x-api-key = \"${API_KEY}\" }";
    let Value::Table(children) = value else {
        return Err(wrong_type(value, "a table of texts", fix));
    };
    let mut pairs = BTreeMap::new();
    for (name, child) in children {
        let Value::Text(text) = &child.value else {
            let rule = format!("holds {} under a name", child.value.type_name());
            return Err(Fault::new(rule, fix));
        };
        let Scalar::Text(name) = metadata(name)? else {
            return Err(Fault::new("holds a name that is no metadata key", fix));
        };
        let is_plain = text.bytes().all(|byte| matches!(byte, b' '..=b'~'));
        if !is_plain || text.trim() != text {
            return Err(Fault::new(
                format!("holds under `{name}` what gRPC metadata can't carry"),
                "use visible ASCII characters, with spaces only between them",
            ));
        }
        if pairs.insert(name, text.clone()).is_some() {
            let rule = "holds a name twice, since names are written in lower case";
            return Err(Fault::new(rule, "give each name once"));
        }
    }
    Ok(pairs)
}

fn word_list(value: &Value, words: &'static [&'static str]) -> Result<Scalar, Fault> {
    let read = texts(value, "words")?;
    match read.iter().find(|word| !words.contains(&word.as_str())) {
        Some(word) => Err(Fault::of_part(
            word,
            "is none of its words",
            one_of(word, words.iter().copied()),
        )),
        None => Ok(Scalar::Words(read)),
    }
}

fn events(value: &Value) -> Result<Vec<EventKind>, Fault> {
    let read = texts(value, "events")?;
    if read.is_empty() {
        return Err(Fault::new(
            "names no event",
            "name one event, or a list of them",
        ));
    }
    let mut kinds = Vec::new();
    for name in read {
        let kind = name.parse::<EventKind>().map_err(|_| {
            Fault::of_part(
                &name,
                "is no event",
                one_of(&name, EventKind::ALL.map(EventKind::name)),
            )
        })?;
        if kinds.contains(&kind) {
            return Err(Fault::new(
                format!("names `{kind}` twice"),
                "name each event once",
            ));
        }
        kinds.push(kind);
    }
    Ok(kinds)
}

fn on(value: &Value) -> Result<On, Fault> {
    match value {
        Value::Text(text) if text == "*" => Ok(On::All),
        Value::Text(text) if text == "route" => Ok(On::Route),
        Value::List(items) if items.len() > 1 => {
            let word = |item: &&Node| matches!(&item.value, Value::Text(text) if text == "*" || text == "route");
            match items.iter().find(word) {
                Some(_) => Err(Fault::new(
                    "a list holds events only",
                    "write \"*\" or \"route\" by itself, not in a list",
                )),
                None => events(value).map(On::Events),
            }
        }
        Value::List(items) => match items.first() {
            Some(Node {
                value: inner @ Value::Text(_),
                ..
            }) => on(inner),
            _ => events(value).map(On::Events),
        },
        _ => events(value).map(On::Events),
    }
}

fn tcp(text: &str) -> Result<SocketAddr, Fault> {
    if let Some(port) = text
        .strip_prefix("localhost:")
        .and_then(|port| port.parse().ok())
    {
        return Ok(SocketAddr::from((Ipv4Addr::LOCALHOST, port)));
    }
    text.parse().map_err(|_| {
        let fix = match text.strip_prefix(':').or_else(|| text.strip_prefix("*:")) {
            Some(port) if port.parse::<u16>().is_ok() => {
                format!("for every address of the machine write 0.0.0.0:{port}")
            }
            _ => {
                "write an IP address and a port, such as 127.0.0.1:10001 or [::1]:10001".to_owned()
            }
        };
        Fault::new("is not an address to listen on", fix)
    })
}

fn listen(text: &str) -> Result<ListenAddr, Fault> {
    let Some(path) = text.strip_prefix("unix:") else {
        return tcp(text).map(ListenAddr::Tcp);
    };
    let path = path.strip_prefix("//").unwrap_or(path);
    if !path.starts_with('/') || path.len() > 107 || path.contains('\0') {
        return Err(Fault::new(
            "is not the absolute path of a socket of at most 107 bytes",
            "write three slashes, as in unix:///run/centripeta.sock",
        ));
    }
    Ok(ListenAddr::Unix(PathBuf::from(path)))
}

fn endpoint(text: &str) -> Result<Endpoint, Fault> {
    let fault = || {
        Fault::of_part(
            text,
            "is not a gRPC address",
            "write grpc://HOST:PORT, such as grpc://127.0.0.1:10000",
        )
    };
    let (tls, rest) = match text.strip_prefix("grpcs://") {
        Some(rest) => (true, Some(rest)),
        None => (false, text.strip_prefix("grpc://")),
    };
    let (host, port) = rest.and_then(host_and_port).ok_or_else(fault)?;
    Ok(Endpoint { tls, host, port })
}

fn collector(text: &str) -> Result<Collector, Fault> {
    let (tls, rest) = match text.strip_prefix("https://") {
        Some(rest) => (true, Some(rest)),
        None => (false, text.strip_prefix("http://")),
    };
    match rest.and_then(host_and_port) {
        Some((host, port)) => Ok(Collector { tls, host, port }),
        None if text.contains("/v1/") => Err(Fault::new(
            "is an address of OTLP over HTTP, and traces leave over gRPC",
            "write the collector's port for gRPC and no path, such as http://127.0.0.1:4317",
        )),
        None => Err(Fault::new(
            "is not the address of a collector",
            "write http://HOST:PORT or https://HOST:PORT, such as http://127.0.0.1:4317",
        )),
    }
}

/// `NAME=VALUE,…` as metadata; `None` where that can't be sent.
pub(super) fn header_list(text: &str) -> Option<Vec<(String, Secret)>> {
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

/// `tcp://HOST:PORT`, `unix:///PATH` or `HOST:PORT`; port 0 (any free one) only to listen on.
fn rpc_address(text: &str, listens: bool, fix: &str) -> Result<RpcAddress, Fault> {
    if text.starts_with("unix:") {
        return match listen(text)? {
            ListenAddr::Unix(path) => Ok(RpcAddress::Unix(path)),
            ListenAddr::Tcp(_) => Err(Fault::new("is not an address of a goridge RPC", fix)),
        };
    }
    let rest = text.strip_prefix("tcp://").unwrap_or(text);
    if let Some(host) = rest.strip_suffix(":0").filter(|_| listens) {
        let (host, _) = host_and_port(&format!("{host}:1"))
            .ok_or_else(|| Fault::new("is not an address of a goridge RPC", fix))?;
        return Ok(RpcAddress::Tcp { host, port: 0 });
    }
    match host_and_port(rest) {
        Some((host, port)) => Ok(RpcAddress::Tcp { host, port }),
        None => Err(Fault::new("is not an address of a goridge RPC", fix)),
    }
}

/// The parts of `HOST:PORT`, where a slash may follow.
fn host_and_port(text: &str) -> Option<(String, u16)> {
    let (host, port) = text.trim_end_matches('/').rsplit_once(':')?;
    let bare = host
        .strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'));
    let valid = match bare {
        Some(bare) => bare.parse::<std::net::Ipv6Addr>().is_ok(),
        None => {
            let letter =
                |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_');
            !host.is_empty() && host.bytes().all(letter)
        }
    };
    let port = port.parse::<u16>().ok()?;
    (valid && port > 0).then(|| (host.to_owned(), port))
}

fn socket_url(text: &str) -> Result<(), Fault> {
    let read = text.parse::<http::Uri>().ok();
    let scheme = read.as_ref().and_then(http::Uri::scheme_str);
    if matches!(scheme, Some("ws" | "wss")) && read.as_ref().is_some_and(is_plain_authority) {
        return Ok(());
    }
    Err(Fault::new(
        "is not a WebSocket address",
        "write ws://HOST:PORT/PATH, such as ws://127.0.0.1:8000/connection/websocket",
    ))
}

/// A host, and no credential before it, which every print would show.
fn is_plain_authority(uri: &http::Uri) -> bool {
    uri.authority()
        .is_some_and(|it| !it.host().is_empty() && !it.as_str().contains('@'))
}

fn metadata(text: &str) -> Result<Scalar, Fault> {
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
pub(super) fn filter(text: &str) -> Result<(), Fault> {
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
