//! The bodies of the fuzz targets as property tests, on random bytes and on mutations of real ones.

use centripeta::fuzzing;
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
