//! The goridge codec against recorded frames and the vectors of its reference (lines 1 to 14 of the
//! worker checklist).
#![allow(clippy::unwrap_used)]

use bytes::BytesMut;
use centripeta::goridge::{Decoder, Flags, Frame, FrameError, Options, Stream, ViewError};
use proptest::prelude::*;
use serde_json::Value;

const LIMIT: usize = 64 << 20;

fn unhex(hex: &str) -> Vec<u8> {
    let digits = hex.as_bytes().chunks_exact(2);
    digits
        .map(|pair| u8::from_str_radix(str::from_utf8(pair).unwrap(), 16).unwrap())
        .collect()
}

/// The vector of this name.
fn vector(id: &str) -> Vec<u8> {
    let lines = include_str!("golden/goridge-vectors.txt").lines();
    let mut found = lines.filter_map(|line| line.split_once(' '));
    unhex(found.find(|(name, _)| *name == id).unwrap().1)
}

fn decode(bytes: &[u8]) -> Result<Option<Frame>, FrameError> {
    let mut bytes = BytesMut::from(bytes);
    let frame = Decoder::new(LIMIT).next(&mut bytes);
    if matches!(frame, Ok(Some(_))) {
        assert!(bytes.is_empty(), "a byte is left unread");
    }
    frame
}

fn frame(id: &str) -> Frame {
    decode(&vector(id)).unwrap().unwrap()
}

fn encode(frame: &Frame) -> Vec<u8> {
    let mut out = BytesMut::new();
    frame.encode(&mut out).unwrap();
    assert_eq!(out.len(), frame.wire_len());
    out.to_vec()
}

fn work(flags: Flags, context: &str, body: &str) -> Frame {
    Frame::work(flags, context.as_bytes(), &unhex(body)).unwrap()
}

fn streamed(stream: Stream, body: &str) -> Frame {
    let frame = Frame::work(Flags::NONE, b"", body.as_bytes()).unwrap();
    Frame { stream, ..frame }
}

fn call(flags: Flags, seq: u32, method: &str, body: &[u8]) -> Frame {
    Frame::call(flags, seq, method, body).unwrap()
}

/// Every valid vector from its parts, as the reference names them.
fn built() -> Vec<(&'static str, Frame)> {
    let more = Stream::MORE;
    let ping = Stream(more.0 | Stream::PING.0);
    let connect = "0a0263311209776562736f636b65741a046a736f6e22046a736f6e";
    let answer = Flags::PROTO.and(Flags::ERROR);
    vec![
        ("TV01", Frame::pid(4242)),
        ("TV03", Frame::stop()),
        (
            "TV04",
            work(Flags::PROTO, r#"{"type":["connect"]}"#, connect),
        ),
        ("TV06", work(Flags::NONE, "", "0a040a023432")),
        ("TV09", Frame::error("soft boom")),
        ("TV10", work(Flags::NONE, r#"{"stop":true}"#, "")),
        ("TV11", work(Flags::NONE, "", "")),
        ("TV12", work(Flags::NONE, "header", "626f6479")),
        ("TV13", streamed(more, "part1")),
        ("TV14", streamed(ping, "part2")),
        ("TV15", Frame::pong()),
        ("TV16", Frame::stream_stop()),
        ("TV17", streamed(Stream::NONE, "end")),
        (
            "TV23",
            call(
                Flags::PROTO,
                1,
                "centrifuge.Publish",
                &unhex("0a046e657773120d7b2274657874223a226869227d2001"),
            ),
        ),
        (
            "TV26",
            call(
                answer,
                2,
                "centrifuge.Channels",
                b"RoadRunner is not ready yet, try in a few seconds",
            ),
        ),
        (
            "TV27",
            call(
                Flags::JSON.and(Flags::ERROR),
                4,
                "foo.Bar",
                b"rpc: can't find service foo.Bar",
            ),
        ),
        (
            "TV28",
            call(Flags::JSON, 11, "informer.Workers", br#""centrifuge""#),
        ),
        ("TV30", call(Flags::JSON, 7, "rpc.Version", b"true")),
    ]
}

#[test]
fn w01_the_first_byte_counts_the_options() {
    assert_eq!(encode(&Frame::pong())[0], 0x13);
    assert_eq!(encode(&work(Flags::NONE, "", ""))[0], 0x14);
    assert_eq!(encode(&call(Flags::RAW, 1, "a.B", b""))[0], 0x15);
}

#[test]
fn w02_every_vector_is_written_from_its_parts_byte_for_byte() {
    for (id, frame) in built() {
        assert_eq!(encode(&frame), vector(id), "{id}");
    }
}

#[test]
fn w03_every_vector_is_read_into_its_parts_and_written_as_it_was() {
    for (id, parts) in built() {
        assert_eq!(frame(id), parts, "{id}");
    }
    for number in 1..=32 {
        let id = format!("TV{number:02}");
        assert_eq!(encode(&frame(&id)), vector(&id), "{id}");
    }
    let error = frame("TV09");
    assert!(error.flags.has(Flags::ERROR) && error.payload == "soft boom");
    let call = frame("TV32").as_call().unwrap();
    assert_eq!(
        (call.seq, call.method.as_str()),
        (15, "centrifuge.Unsubscribe")
    );
    assert_eq!(call.body.len(), 46 - 22 - 2 + 2);
    let work = frame("TV12").as_work().unwrap();
    assert_eq!(
        (&*work.context, &*work.body),
        (&b"header"[..], &b"body"[..])
    );
}

#[test]
fn recorded_frames_are_read_as_they_were_decoded_and_written_as_they_were() {
    let mut seen = 0;
    for line in include_str!("golden/goridge.jsonl").lines() {
        let line: Value = serde_json::from_str(line).unwrap();
        let id = line["id"].as_str().unwrap();
        if line["kind"] == "dialogue" {
            for step in line["frames"].as_array().unwrap() {
                let noise = step["note"]
                    .as_str()
                    .is_some_and(|it| it.contains("not a valid"));
                if let (Some(hex), false) = (step["frame_hex"].as_str(), noise) {
                    let bytes = unhex(hex);
                    assert_eq!(encode(&decode(&bytes).unwrap().unwrap()), bytes, "{id}");
                }
            }
            continue;
        }
        let bytes = unhex(line["frame_hex"].as_str().unwrap());
        if line["kind"] == "noise" {
            assert!(matches!(decode(&bytes), Err(FrameError::Noise(_))), "{id}");
            continue;
        }
        seen += 1;
        let frame = decode(&bytes).unwrap().unwrap();
        if bytes[0] >> 4 == 1 {
            assert_eq!(encode(&frame), bytes, "{id}");
        }
        let decoded = &line["decoded"];
        let hex = |key: &str| u8::from_str_radix(decoded[key].as_str().unwrap(), 16).unwrap();
        assert_eq!(
            (frame.flags.0, frame.stream.0),
            (hex("flags"), hex("stream")),
            "{id}"
        );
        let options = frame.options.as_slice();
        assert_eq!(Value::from(options), decoded["options"], "{id}");
        // What is not what was due has no parts.
        if let Some(payload) = decoded["payload_hex"].as_str() {
            assert_eq!(frame.payload, unhex(payload), "{id}");
            continue;
        }
        let body = decoded["body_hex"].as_str().map(unhex);
        match options.len() {
            1 => {
                let work = frame.as_work().unwrap();
                assert_eq!(work.context, decoded["context"].as_str().unwrap(), "{id}");
                assert_eq!(work.body, body.unwrap(), "{id}");
            }
            2 => {
                let call = frame.as_call().unwrap();
                assert_eq!(call.method, decoded["method"].as_str().unwrap(), "{id}");
                assert_eq!(call.body, body.unwrap(), "{id}");
            }
            _ => assert_eq!(frame.payload, decoded["payload"].as_str().unwrap_or("")),
        }
    }
    assert_eq!(seen, 131);
}

#[test]
fn w04_checksums_are_those_of_the_reference() {
    for (head, sum) in [
        ("13090c000000", "5f0c4673"),
        ("13010c000000", "9e473643"),
        ("13090d000000", "3a6bfacb"),
        ("130000000000", "96d18034"),
        ("134009000000", "55c67b11"),
        ("140000000000", "2ee18529"),
        ("140006000000", "f2beee0c"),
        ("14802f000000", "d4ee3260"),
        ("158029000000", "ad62058e"),
        ("15c044000000", "3a15ba1f"),
    ] {
        let bytes = unhex(&format!("{head}{sum}0000"));
        // What follows is missing, so the header alone is judged.
        assert!(
            Decoder::new(LIMIT)
                .next(&mut BytesMut::from(&bytes[..]))
                .is_ok(),
            "{head}"
        );
    }
}

#[test]
fn w05_a_change_of_the_first_ten_bytes_fails_and_one_behind_them_does_not() {
    let good = vector("TV06");
    for at in 0..good.len() {
        for bit in 0..8 {
            let mut bytes = good.clone();
            bytes[at] ^= 1 << bit;
            let read = decode(&bytes);
            if at < 10 {
                assert!(matches!(read, Err(FrameError::Noise(_))), "byte {at}");
            } else {
                assert!(matches!(read, Ok(Some(_))), "byte {at}");
            }
        }
    }
    for id in ["NV01", "NV02"] {
        assert!(
            matches!(decode(&vector(id)), Err(FrameError::Noise(_))),
            "{id}"
        );
    }
}

#[test]
fn w06_impossible_header_lengths_are_refused_at_the_twelfth_byte() {
    for words in [0, 1, 2, 14, 15] {
        let mut head = [0x10 | words, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        let sum = crc32fast::hash(&head[..6]).to_le_bytes();
        head[6..10].copy_from_slice(&sum);
        assert_eq!(decode(&head), Err(FrameError::HeaderLength(words)));
    }
    assert_eq!(decode(&vector("NV08")), Err(FrameError::HeaderLength(14)));
    assert_eq!(decode(&vector("NV09")), Err(FrameError::HeaderLength(2)));
}

#[test]
fn w07_ten_options_are_read_and_eleven_do_not_exist() {
    let options = Options::new(&[1, 2, 3, 4, 5, 6, 7, 8, 9, 10]).unwrap();
    let frame = Frame {
        options,
        ..Frame::pong()
    };
    assert_eq!(encode(&frame)[0], 0x1d);
    assert_eq!(decode(&encode(&frame)), Ok(Some(frame)));
    assert_eq!(Options::new(&[0; 11]), None);
}

#[test]
fn w08_a_length_beyond_the_limit_is_refused_and_one_below_it_allocates_nothing_ahead() {
    let refused = FrameError::TooLong {
        length: u32::MAX,
        limit: LIMIT,
    };
    assert_eq!(decode(&vector("NV15")), Err(refused));
    let huge = Frame::work(Flags::NONE, b"", &vec![0; 60 << 20]).unwrap();
    let mut bytes = BytesMut::from(&encode(&huge)[..20]);
    let before = bytes.capacity();
    assert_eq!(Decoder::new(LIMIT).next(&mut bytes), Ok(None));
    assert!(bytes.capacity() <= before);
}

#[test]
fn w09_an_empty_payload_with_one_option_is_an_empty_context_and_an_empty_body() {
    let work = frame("TV11").as_work().unwrap();
    assert!(work.context.is_empty() && work.body.is_empty());
}

#[test]
fn w10_frames_come_in_any_pieces() {
    let both = [vector("TV06"), vector("TV02")].concat();
    let wanted = [frame("TV06"), frame("TV02")];
    for size in 1..=both.len() {
        let (mut decoder, mut bytes) = (Decoder::new(LIMIT), BytesMut::new());
        let mut read = Vec::new();
        for piece in both.chunks(size) {
            bytes.extend_from_slice(piece);
            while let Some(frame) = decoder.next(&mut bytes).unwrap() {
                read.push(frame);
            }
        }
        assert_eq!(read, wanted, "in pieces of {size}");
        assert_eq!(decoder.end(&bytes), Ok(()));
    }
}

#[test]
fn w11_another_version_is_taken_and_said() {
    let mut bytes = BytesMut::from(&vector("NV16")[..]);
    let mut decoder = Decoder::new(LIMIT);
    assert_eq!(decoder.odd_version(), None);
    assert_eq!(decoder.next(&mut bytes), Ok(Some(frame("TV06"))));
    assert_eq!(decoder.odd_version(), Some(2));
    bytes.extend_from_slice(&vector("TV06"));
    assert!(decoder.next(&mut bytes).unwrap().is_some());
    assert_eq!(decoder.odd_version(), None, "it is told once");
}

#[test]
fn w12_the_stream_byte_is_the_one_at_offset_ten() {
    let frame = frame("TV14");
    assert!(frame.stream.has(Stream::MORE) && frame.stream.has(Stream::PING));
    assert_eq!(frame.flags, Flags::NONE);
    // Bit 1 of the flags is a control frame, not a stream.
    assert_eq!(self::frame("TV02").stream, Stream::NONE);
}

#[test]
fn noise_is_kept_for_the_log_and_does_not_wait_for_what_it_promises() {
    let warning = "\nWarning: Undefined variable $x in /app/w.php on line 3\n";
    let error = decode(&vector("NV03")).unwrap_err();
    assert_eq!(error, FrameError::Noise(warning.as_bytes().to_vec().into()));
    assert!(error.to_string().contains("Undefined variable $x"));
    let missing = decode(&vector("NV04")).unwrap_err();
    assert_eq!(missing.to_string(), "Could not open input file: w.php");
    let long = vec![b'<'; 100_000];
    let Err(FrameError::Noise(kept)) = decode(&long) else {
        panic!("noise is no frame");
    };
    assert_eq!(kept.len(), 4096);
}

#[test]
fn a_stream_that_ends_within_a_frame_says_where() {
    let whole = vector("TV06");
    let end = |bytes: &[u8]| {
        let (mut decoder, mut bytes) = (Decoder::new(LIMIT), BytesMut::from(bytes));
        assert_eq!(decoder.next(&mut bytes), Ok(None));
        decoder.end(&bytes)
    };
    assert_eq!(end(b""), Ok(()));
    assert_eq!(end(&whole[..5]), Err(FrameError::Cut(5)));
    assert_eq!(end(&whole[..20]), Err(FrameError::Cut(20)));
    assert_eq!(end(b"oops\n"), Err(FrameError::Noise(b"oops\n"[..].into())));
}

#[test]
fn what_is_due_is_checked_before_it_is_believed() {
    let options = |id| frame(id).as_work().unwrap_err();
    assert!(matches!(
        options("NV05"),
        ViewError::Options {
            due: 1,
            there: 0,
            ..
        }
    ));
    assert!(matches!(
        options("NV06"),
        ViewError::Options {
            due: 1,
            there: 2,
            ..
        }
    ));
    let beyond = options("NV07").to_string();
    assert_eq!(beyond, "a context of 7 bytes in a payload of 6");
    let beyond = frame("NV10").as_call().unwrap_err().to_string();
    assert_eq!(beyond, "a method name of 200 bytes in a payload of 11");
    assert!(matches!(
        frame("NV11").as_call(),
        Err(ViewError::Options {
            due: 2,
            there: 1,
            ..
        })
    ));
    let no_text = Frame::work(Flags::RAW, b"", b"\xff\xff").unwrap();
    let options = Options::new(&[1, 2]).unwrap();
    assert_eq!(Frame { options, ..no_text }.as_call(), Err(ViewError::Name));
    // A number and a codec are not looked at here.
    assert_eq!(frame("NV12").as_call().unwrap().method, "rpc.Version");
}

proptest! {
    #[test]
    fn w14_whatever_is_written_is_read_again(
        flags in any::<u8>(),
        stream in any::<u8>(),
        options in prop::collection::vec(any::<u32>(), 0..=10),
        payload in prop::collection::vec(any::<u8>(), 0..300),
        cut in any::<prop::sample::Index>(),
    ) {
        let frame = Frame {
            flags: Flags(flags),
            stream: Stream(stream),
            options: Options::new(&options).unwrap(),
            payload: payload.into(),
        };
        let bytes = encode(&frame);
        let (first, second) = bytes.split_at(cut.index(bytes.len()));
        let (mut decoder, mut buffer) = (Decoder::new(300), BytesMut::from(first));
        prop_assert_eq!(decoder.next(&mut buffer), Ok(None));
        buffer.extend_from_slice(second);
        prop_assert_eq!(decoder.next(&mut buffer), Ok(Some(frame)));
        prop_assert!(buffer.is_empty());
    }
}
