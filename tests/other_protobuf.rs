//! This crate's messages against another implementation of protobuf: `protoc`, where it is on `PATH`
//! (C02). For random content of every message of `proto/`, what `protoc` encodes decodes here and
//! encodes again to the same bytes, and what is encoded here reads the same in `protoc`.

#![allow(clippy::unwrap_used)]

#[path = "support/outside.rs"]
mod outside;

use centripeta::proto::proxy;
use outside::{on_path, or_skip};
use proptest::test_runner::TestRng;
use prost::Message;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::Write as _;
use std::process::{Command, Stdio};

const CONTRACT: &str = include_str!("../proto/proxy.proto");
const PACKAGE: &str = "centrifugal.centrifugo.proxy";

/// How many random contents each message gets; each costs two runs of `protoc`.
const ROUNDS: usize = 4;

/// Decodes and encodes again.
type Through = fn(&[u8]) -> Result<Vec<u8>, prost::DecodeError>;

fn through<M: Message + Default>(bytes: &[u8]) -> Result<Vec<u8>, prost::DecodeError> {
    Ok(M::decode(bytes)?.encode_to_vec())
}

macro_rules! messages {
    ($($name:literal => $message:ident),* $(,)?) => {
        BTreeMap::from([$(($name, through::<proxy::$message> as Through)),*])
    };
}

fn ours() -> BTreeMap<&'static str, Through> {
    messages! {
        "FilterNode" => FilterNode,
        "Disconnect" => Disconnect,
        "Error" => Error,
        "BoolValue" => BoolValue,
        "Int32Value" => Int32Value,
        "SubscribeOptionOverride" => SubscribeOptionOverride,
        "ChannelsCapability" => ChannelsCapability,
        "ConnectRequest" => ConnectRequest,
        "ConnectResponse" => ConnectResponse,
        "ConnectResult" => ConnectResult,
        "SubscribeOptions" => SubscribeOptions,
        "RefreshRequest" => RefreshRequest,
        "RefreshResponse" => RefreshResponse,
        "RefreshResult" => RefreshResult,
        "SubscribeRequest" => SubscribeRequest,
        "SubscribeResponse" => SubscribeResponse,
        "SubscribeResult" => SubscribeResult,
        "PublishRequest" => PublishRequest,
        "PublishResponse" => PublishResponse,
        "PublishResult" => PublishResult,
        "RPCRequest" => RpcRequest,
        "RPCResponse" => RpcResponse,
        "RPCResult" => RpcResult,
        "SubRefreshRequest" => SubRefreshRequest,
        "SubRefreshResponse" => SubRefreshResponse,
        "SubRefreshResult" => SubRefreshResult,
        "StreamSubscribeRequest" => StreamSubscribeRequest,
        "StreamSubscribeResponse" => StreamSubscribeResponse,
        "Publication" => Publication,
        "MapPublishRequest" => MapPublishRequest,
        "MapPublishResponse" => MapPublishResponse,
        "MapPublishResult" => MapPublishResult,
        "MapRemoveRequest" => MapRemoveRequest,
        "MapRemoveResponse" => MapRemoveResponse,
        "MapRemoveResult" => MapRemoveResult,
        "SharedPollRefreshRequest" => SharedPollRefreshRequest,
        "SharedPollRefreshItem" => SharedPollRefreshItem,
        "SharedPollRefreshResponse" => SharedPollRefreshResponse,
        "SharedPollRefreshResult" => SharedPollRefreshResult,
        "SharedPollRefreshResultItem" => SharedPollRefreshResultItem,
        "NotifyCacheEmptyRequest" => NotifyCacheEmptyRequest,
        "NotifyCacheEmptyResponse" => NotifyCacheEmptyResponse,
        "NotifyCacheEmptyResult" => NotifyCacheEmptyResult,
        "NotifyChannelStateRequest" => NotifyChannelStateRequest,
        "ChannelEvent" => ChannelEvent,
        "NotifyChannelStateResponse" => NotifyChannelStateResponse,
        "NotifyChannelStateResult" => NotifyChannelStateResult,
    }
}

/// A field of the contract: whether it is repeated, its type and its name.
struct Field {
    repeated: bool,
    of: String,
    name: String,
}

/// The messages of the contract by name, read from its text.
fn contract() -> BTreeMap<String, Vec<Field>> {
    let mut messages: BTreeMap<String, Vec<Field>> = BTreeMap::new();
    let mut open: Option<String> = None;
    for line in CONTRACT.lines().map(str::trim) {
        if let Some(name) = line.strip_prefix("message ") {
            let name = name.trim_end_matches('{').trim().to_owned();
            messages.insert(name.clone(), Vec::new());
            open = Some(name);
        } else if line == "}" {
            open = None;
        } else if let (Some(name), Some((declared, _))) = (&open, line.split_once(" = ")) {
            if line.starts_with("//") {
                continue;
            }
            let (of, field) = declared.rsplit_once(' ').unwrap();
            let repeated = of.strip_prefix("repeated ");
            messages.get_mut(name).unwrap().push(Field {
                repeated: repeated.is_some(),
                of: repeated.unwrap_or(of).to_owned(),
                name: field.to_owned(),
            });
        }
    }
    messages
}

/// Random content of a message in protobuf's text format. Maps get one entry: their order is free.
struct Random {
    rng: TestRng,
    contract: BTreeMap<String, Vec<Field>>,
}

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        use proptest::prelude::Rng;
        self.rng.next_u64() % limit
    }

    fn message(&mut self, name: &str, depth: u32) -> String {
        let fields: Vec<(bool, String, String)> = self.contract[name]
            .iter()
            .map(|field| (field.repeated, field.of.clone(), field.name.clone()))
            .collect();
        let mut text = String::new();
        for (repeated, of, field) in fields {
            let scalar = !self.contract.contains_key(&of) && !of.starts_with("map<");
            if self.below(4) == 0 || (!scalar && depth > 3) {
                continue;
            }
            let count = if repeated { 1 + self.below(3) } else { 1 };
            for _ in 0..count {
                let value = self.value(&of, depth);
                writeln!(text, "{field} {value}").unwrap();
            }
        }
        text
    }

    fn value(&mut self, of: &str, depth: u32) -> String {
        if let Some(entry) = of.strip_prefix("map<string, ") {
            let entry = entry.trim_end_matches('>').to_owned();
            let key = self.value("string", depth);
            let value = self.value(&entry, depth + 1);
            // A value that is an empty message may be left out on the wire, so it is never empty.
            let value = match self.contract.contains_key(&entry) {
                true if value.trim_matches(['{', '}', '\n', ' ']).is_empty() => {
                    "{ expire_at: 1 }".to_owned()
                }
                _ => value,
            };
            return format!("{{ key {key} value {value} }}");
        }
        if self.contract.contains_key(of) {
            return format!("{{ {} }}", self.message(of, depth + 1));
        }
        let bits = self.below(u64::MAX) >> self.below(64);
        match of {
            "string" => {
                const WORDS: [&str; 6] = ["a", "chat:42", "größe", "x\\ny", "日本", "\\\"q\\\""];
                format!(": \"{}\"", WORDS[bits as usize % WORDS.len()])
            }
            "bytes" => {
                let bytes = bits.to_be_bytes();
                let escaped = bytes.iter().fold(String::new(), |mut text, byte| {
                    write!(text, "\\x{byte:02x}").unwrap();
                    text
                });
                format!(": \"{escaped}\"")
            }
            "bool" => ": true".to_owned(),
            "uint32" => format!(": {}", (bits as u32).max(1)),
            "int32" => format!(": {}", (bits as i32).max(1)),
            "uint64" => format!(": {}", bits.max(1)),
            "int64" => format!(": -{}", (bits >> 1).max(1)),
            other => panic!("a type this test does not know: {other}"),
        }
    }
}

fn protoc(arguments: &[String], input: &[u8]) -> Vec<u8> {
    let mut child = Command::new("protoc")
        .arg(concat!(
            "--proto_path=",
            env!("CARGO_MANIFEST_DIR"),
            "/proto"
        ))
        .args(arguments)
        .arg("proxy.proto")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(input).unwrap();
    let output = child.wait_with_output().unwrap();
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{arguments:?}: {complaint}");
    output.stdout
}

#[test]
fn every_message_of_the_contract_is_compared() {
    let contract: Vec<String> = contract().into_keys().collect();
    let ours: Vec<&str> = ours().into_keys().collect();
    assert_eq!(contract, ours);
    assert_eq!(ours.len(), 47);
}

#[test]
fn random_messages_agree_with_protoc() {
    let protoc_there = on_path("protoc").ok_or("no protoc on PATH");
    if or_skip("random messages against protoc", protoc_there).is_none() {
        return;
    }
    let mut random = Random {
        rng: TestRng::deterministic_rng(proptest::test_runner::RngAlgorithm::ChaCha),
        contract: contract(),
    };
    for (name, through) in ours() {
        let encode = [format!("--encode={PACKAGE}.{name}")];
        let decode = [format!("--decode={PACKAGE}.{name}")];
        for _ in 0..ROUNDS {
            let text = random.message(name, 0);
            let theirs = protoc(&encode, text.as_bytes());
            let ours = through(&theirs).unwrap_or_else(|why| panic!("{name}: {why}\n{text}"));
            assert_eq!(ours, theirs, "{name}\n{text}");
            let read = protoc(&decode, &ours);
            assert_eq!(protoc(&encode, &read), theirs, "{name}\n{text}");
        }
    }
}
