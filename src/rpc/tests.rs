//! Frames that need a pool or another RoadRunner, and the collectors of applications.
#![allow(clippy::unwrap_used)]

use super::Codec;
use super::metrics::{Collectors, Declared, Sample};
use super::server::error;
use super::services::{Shown, Workers};
use crate::goridge::{Flags, Frame};
use bytes::BytesMut;
use serde_json::json;

fn vector(id: &str) -> String {
    let lines = include_str!("../../tests/golden/goridge-vectors.txt").lines();
    let mut found = lines.filter_map(|line| line.split_once(' '));
    found.find(|(name, _)| *name == id).unwrap().1.to_owned()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn an_error_answer_is_tv26() {
    let text = "RoadRunner is not ready yet, try in a few seconds";
    let bytes = error(Codec::Proto, 2, "centrifuge.Channels", text);
    assert_eq!(hex(&bytes), vector("TV26"));
}

#[test]
fn the_workers_of_a_pool_are_shown_as_tv29() {
    let shown = Shown {
        pid: 101,
        status: 1,
        jobs: 7,
        created: 1_700_000_000_000_000_000,
        memory: 31_457_280,
        cpu: 0.5,
        command: "",
        state: "ready",
    };
    let workers = Workers {
        workers: Some(vec![shown]),
    };
    let body = serde_json::to_vec(&workers).unwrap();
    let frame = Frame::call(Flags::JSON, 11, "informer.Workers", &body).unwrap();
    let mut bytes = BytesMut::new();
    frame.encode(&mut bytes).unwrap();
    assert_eq!(hex(&bytes), vector("TV29"));
}

#[test]
fn the_first_codec_of_proto_json_raw_msgpack_gob_counts_and_none_is_gob() {
    let order = [
        (Flags::PROTO, Codec::Proto),
        (Flags::JSON, Codec::Json),
        (Flags::RAW, Codec::Raw),
        (Flags::MSGPACK, Codec::Msgpack),
        (Flags::GOB, Codec::Gob),
    ];
    for (at, (_, codec)) in order.iter().enumerate() {
        let rest = order[at..].iter();
        let flags = rest.fold(Flags::ERROR, |all, (flag, _)| all.and(*flag));
        assert_eq!(Codec::of(flags), *codec);
    }
    assert_eq!(Codec::of(Flags::NONE), Codec::Gob);
}

#[allow(
    clippy::needless_pass_by_value,
    reason = "callers make it for this call"
)]
fn declare(to: &Collectors, name: &str, collector: serde_json::Value) -> Result<(), String> {
    let argument = json!({ "name": name, "collector": collector });
    let declared: Declared = serde_json::from_value(argument).unwrap();
    to.declare(declared).map_err(|why| why.to_string())
}

fn record(
    to: &Collectors,
    method: &str,
    name: &str,
    value: f64,
    labels: &[&str],
) -> Result<(), String> {
    let argument = json!({ "name": name, "value": value, "labels": labels });
    let sample: Sample = serde_json::from_value(argument).unwrap();
    to.record(method, sample).map_err(|why| why.to_string())
}

fn page(of: &Collectors) -> String {
    let mut page = String::new();
    of.write(&mut page);
    page
}

#[test]
fn what_applications_count_stands_on_the_page_as_prometheus_reads_it() {
    let collectors = Collectors::default();
    let counter =
        json!({ "namespace": "shop", "type": "counter", "help": "Or\nders.", "labels": ["kind"] });
    declare(&collectors, "orders", counter).unwrap();
    declare(&collectors, "idle", json!({ "type": "gauge" })).unwrap();
    let times = json!({ "type": "histogram", "buckets": [0.5, 1] });
    declare(&collectors, "took", times).unwrap();
    declare(
        &collectors,
        "size",
        json!({ "type": "summary", "objectives": [] }),
    )
    .unwrap();
    record(&collectors, "Add", "orders", 2.0, &["a\"b"]).unwrap();
    record(&collectors, "Add", "orders", 1.5, &["a\"b"]).unwrap();
    record(&collectors, "Set", "idle", 9.0, &[]).unwrap();
    record(&collectors, "Sub", "idle", 2.0, &[]).unwrap();
    for value in [0.5, 0.75, 3.0] {
        record(&collectors, "Observe", "took", value, &[]).unwrap();
    }
    assert_eq!(
        page(&collectors),
        "# HELP idle \n# TYPE idle gauge\nidle 7\n\
         # HELP shop_orders Or\\nders.\n# TYPE shop_orders counter\nshop_orders{kind=\"a\\\"b\"} 3.5\n\
         # HELP size \n# TYPE size summary\nsize_sum 0\nsize_count 0\n\
         # HELP took \n# TYPE took histogram\ntook_bucket{le=\"0.5\"} 1\ntook_bucket{le=\"1\"} 2\n\
         took_bucket{le=\"+Inf\"} 3\ntook_sum 4.25\ntook_count 3\n"
    );
    collectors.unregister("took").unwrap();
    assert!(!page(&collectors).contains("took"));
}

#[test]
fn what_can_not_be_counted_is_refused_in_words() {
    let collectors = Collectors::default();
    declare(
        &collectors,
        "hits",
        json!({ "type": "counter", "labels": ["a"] }),
    )
    .unwrap();
    declare(&collectors, "took", json!({ "type": "histogram" })).unwrap();
    let again = declare(&collectors, "hits", json!({ "type": "counter" })).unwrap_err();
    assert!(
        again.contains("tried to register existing collector"),
        "{again}"
    );
    let described = [
        (
            "x",
            json!({ "type": "meter" }),
            "`meter` is no type of collector",
        ),
        (
            "1x",
            json!({ "type": "gauge" }),
            "`1x` is not the name of a metric",
        ),
        (
            "x y",
            json!({ "type": "gauge" }),
            "`x y` is not the name of a metric",
        ),
        (
            "a",
            json!({ "type": "gauge", "namespace": "centripeta" }),
            "`centripeta_a` begins like",
        ),
        (
            "took_sum",
            json!({ "type": "gauge" }),
            "`took_sum` would stand twice",
        ),
        (
            "x",
            json!({ "type": "gauge", "labels": ["a", "a"] }),
            "`a` is not the name of a label",
        ),
        (
            "x",
            json!({ "type": "histogram", "labels": ["le"] }),
            "`le` is not the name of a label",
        ),
        (
            "x",
            json!({ "type": "gauge", "labels": ["__x"] }),
            "`__x` is not the name of a label",
        ),
        (
            "x",
            json!({ "type": "histogram", "buckets": [2, 1] }),
            "the buckets of `x` must be",
        ),
        (
            "x",
            json!({ "type": "gauge", "help": "h".repeat(1025) }),
            "the help of `x` is longer",
        ),
    ];
    for (name, collector, words) in described {
        let refused = declare(&collectors, name, collector).unwrap_err();
        assert!(refused.contains(words), "{refused}");
    }
    let long = "v".repeat(513);
    let recorded = [
        (
            "Add",
            "nope",
            1.0,
            vec![],
            "undefined collector nope, try first Declare the desired collector",
        ),
        (
            "Add",
            "hits",
            1.0,
            vec![],
            "0 label values for `hits`, which has 1",
        ),
        (
            "Add",
            "hits",
            -1.0,
            vec!["v"],
            "counter `hits` can't go down",
        ),
        (
            "Set",
            "hits",
            1.0,
            vec!["v"],
            "collector `hits` is a counter, which has no `Set`",
        ),
        (
            "Add",
            "took",
            1.0,
            vec![],
            "collector `took` is a histogram, which has no `Add`",
        ),
        (
            "Add",
            "hits",
            1.0,
            vec![long.as_str()],
            "a label value of `hits` is longer than 512 bytes",
        ),
    ];
    for (method, name, value, labels, words) in recorded {
        let refused = record(&collectors, method, name, value, &labels).unwrap_err();
        assert_eq!(refused, words);
    }
    assert!(!page(&collectors).contains("hits{"));
}

#[test]
fn collectors_and_series_are_bounded_and_unregistering_gives_room() {
    let collectors = Collectors::default();
    declare(
        &collectors,
        "wide",
        json!({ "type": "counter", "labels": ["n"] }),
    )
    .unwrap();
    for at in 0..10_000 {
        record(&collectors, "Add", "wide", 1.0, &[&at.to_string()]).unwrap();
    }
    let full = record(&collectors, "Add", "wide", 1.0, &["one more"]).unwrap_err();
    assert!(full.contains("10000 lines of series"), "{full}");
    // What is there already goes on.
    record(&collectors, "Add", "wide", 1.0, &["7"]).unwrap();
    let full = declare(&collectors, "other", json!({ "type": "gauge" })).unwrap_err();
    assert!(full.contains("`other` needs another"), "{full}");
    collectors.unregister("wide").unwrap();
    for at in 0..1000 {
        declare(&collectors, &format!("m{at}"), json!({ "type": "gauge" })).unwrap();
    }
    let full = declare(&collectors, "other", json!({ "type": "gauge" })).unwrap_err();
    assert!(full.contains("1000 collectors"), "{full}");
}
