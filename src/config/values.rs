//! What a single value must look like: from a TOML value and the kind of its key to a typed one.

mod addresses;
mod cluster;
mod lists;
mod numbers;
mod text;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use super::cluster::ClusterSecret;
use super::names;
use super::problem::{Fault, one_of};
use super::schema::Kind;
use super::secret::Secret;
use super::tree::{Node, Value};
use super::types::{Collector, Endpoint, ListenAddr, On, RelayAddress, RpcAddress, RpcListen};
use crate::event::EventKind;
use addresses::{collector, endpoint, listen, rpc_address, socket_url, tcp};
use centripeta_cluster::Serves;
use cluster::{peer, peers, secrets, serves};
use lists::{command, events, metadata_table, object, on, texts, variables, word_list};
use numbers::{bytes, count, disconnect_code, duration, error_code, flag, rate, share};
use text::{metadata, secret};

pub(super) use text::{filter, header_list};

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
            other => Err(wrong_type(other, "a string", quoted(kind))),
        },
    }
}

/// What to write in place of something that is no string.
const fn quoted(kind: &Kind) -> &'static str {
    match kind {
        Kind::Duration(..) => {
            "write a number and its unit in double quotes, such as \"3s\" or \"500ms\""
        }
        _ => "put it in double quotes",
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
