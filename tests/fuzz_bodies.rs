//! The bodies of the fuzz targets as property tests, on random bytes and on mutations of real ones.

use bytes::BytesMut;
use centripeta::fuzzing;
use centripeta::goridge::Frame;
use proptest::prelude::*;

/// Inputs that get deep into each decoder.
fn seeds() -> Vec<Vec<u8>> {
    let mut seeds: Vec<Vec<u8>> = vec![
        b"\x00\x00\x00\x00\x03abc".to_vec(),
        br#"{"user":"u","subs":{"a:1":{"override":{"presence":{"value":true}}}},"expire_in":60}"#
            .to_vec(),
        br#"{"data":{"a":{"b":{"c":"x"}}},"showing":7}"#.to_vec(),
        b"chat:{room}.{x...}\nchat:a.b:c".to_vec(),
        b"[[route]]\non = \"rpc\"\nmatch = \"a.*\"\nhandler = \"echo\"\nkey = \"{data.x}\"\n"
            .to_vec(),
    ];
    let texts = [
        "99999999H",
        "250m",
        r#"{"name":"a","collector":{"type":"counter","labels":["x"]}}"#,
        r#"{"name":"a","value":1.5,"labels":["y"]}"#,
    ];
    seeds.extend(texts.map(|text| text.as_bytes().to_vec()));
    // Of a peer: an event with metadata and a traceparent, an outcome, a slot that moves away.
    seeds.extend(
        [
            "08031001180522044d65746f2a020a0032080a03782d6112013142026b76780168017a0161",
            "0801100220071a020a00",
            "08021204080110011805200928073204080210013802",
            "0a080a026331120275311206120122",
            "120412022222",
        ]
        .map(unhex),
    );
    // The pid that a worker answers with, in a control frame.
    let mut pid = BytesMut::new();
    if Frame::pid(7).encode(&mut pid).is_ok() {
        seeds.push(pid.to_vec());
    }
    let golden = include_str!("golden/centrifugo-grpc.jsonl");
    for line in golden.lines().step_by(9) {
        let line: serde_json::Value = serde_json::from_str(line).unwrap_or_default();
        for field in ["request_hex", "reply_hex"] {
            if let Some(hex) = line.get(field).and_then(serde_json::Value::as_str) {
                seeds.push(unhex(hex));
            }
        }
    }
    for line in include_str!("golden/goridge-vectors.txt").lines().skip(1) {
        seeds.extend(line.split_once(' ').map(|(_, hex)| unhex(hex)));
    }
    seeds
}

fn unhex(hex: &str) -> Vec<u8> {
    let digits = hex.as_bytes().chunks_exact(2);
    let byte = |pair: &[u8]| u8::from_str_radix(&String::from_utf8_lossy(pair), 16).unwrap_or(0);
    digits.map(byte).collect()
}

fn run_all(bytes: &[u8]) {
    for (_, body) in fuzzing::ALL {
        body(bytes);
    }
}

#[test]
fn every_decoder_keeps_its_promise_on_the_seeds() {
    seeds().iter().for_each(|seed| run_all(seed));
}

#[test]
fn every_body_has_a_fuzz_target_of_its_name() {
    let here = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz");
    let manifest = std::fs::read_to_string(here.join("Cargo.toml")).unwrap_or_default();
    for (name, _) in fuzzing::ALL {
        let target = here.join(format!("fuzz_targets/{name}.rs"));
        let target = std::fs::read_to_string(target).unwrap_or_default();
        assert!(
            target.contains(&format!("centripeta::fuzzing::{name}(")),
            "{name}"
        );
        assert!(manifest.contains(&format!("name = \"{name}\"")), "{name}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn every_decoder_keeps_its_promise_on_any_bytes(
        bytes in prop::collection::vec(any::<u8>(), 0..80)
    ) {
        run_all(&bytes);
    }

    #[test]
    fn every_decoder_keeps_its_promise_on_mutated_seeds(
        seed in any::<prop::sample::Index>(),
        cuts in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>(), 0_u8..3), 1..5),
    ) {
        let seeds = seeds();
        let mut bytes = seeds[seed.index(seeds.len())].clone();
        for (at, value, how) in cuts {
            if bytes.is_empty() {
                break;
            }
            let at = at.index(bytes.len());
            match how {
                0 => bytes[at] = value,
                1 => bytes.insert(at, value),
                _ => drop(bytes.remove(at)),
            }
        }
        run_all(&bytes);
    }
}
