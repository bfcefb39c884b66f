//! No input makes an import panic, and all that is printed is of the form that it claims.
#![allow(clippy::unwrap_used)]

use super::{centrifugo, mistakes, roadrunner, source, text};
use proptest::prelude::*;
use std::path::Path;
use std::time::Duration;

/// Values that hurt: variables that are not closed, addresses without parts, numbers without end.
fn value() -> impl Strategy<Value = serde_json::Value> {
    let leaf = prop_oneof![
        any::<bool>().prop_map(Into::into),
        any::<u64>().prop_map(Into::into),
        Just(serde_json::Value::Null),
        "(\\$|\\{|\\}|:-|A|:|,|\\.| |1|s|µ|tcp://|unix://|\"|\n){0,8}".prop_map(Into::into),
        "\\PC{0,12}".prop_map(Into::into),
    ];
    let key = prop_oneof![
        Just("centrifuge"),
        Just("proxy_address"),
        Just("pool"),
        Just("server"),
        Just("command"),
        Just("env"),
        Just("rpc"),
        Just("listen"),
        Just("metrics.address"),
        Just("supervisor.ttl"),
        Just("num_workers"),
        Just("otel"),
        Just("logs"),
        Just("level"),
        Just("http"),
        Just("on_init"),
        Just("namespaces"),
        Just("proxies"),
        Just("name"),
        Just("proxy_connect_endpoint"),
        Just("proxy_rpc_timeout"),
        Just("presence"),
        Just("grpc_api"),
        Just("token_hmac_secret_key"),
        Just("rpc_namespaces"),
        Just("granular_proxy_mode"),
        Just("..a..b."),
        Just("tls"),
    ];
    leaf.prop_recursive(5, 40, 8, move |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..5).prop_map(Into::into),
            proptest::collection::btree_map(key.clone().prop_map(str::to_owned), inner, 0..8)
                .prop_map(|map| serde_json::Value::Object(map.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn no_tree_makes_an_import_panic_and_results_are_well_formed(
        mut root in value(), section in value(), command in value(),
    ) {
        if let Some(object) = root.as_object_mut() {
            object.insert("version".to_owned(), "3".into());
            object.insert("centrifuge".to_owned(), section);
            object.entry("server.command").or_insert(command);
        }
        let Ok(source) = source::parse(Path::new("x.json"), &root.to_string()) else {
            return Ok(());
        };
        if let Ok(mut made) = roadrunner::import(&source) {
            let read: Result<toml::Table, _> = toml::from_str(&made.text);
            prop_assert!(read.is_ok(), "{:?}\n{}", read, made.text);
            mistakes::look(Some(&source), Some(&source), &mut made.remarks);
        }
        let made = centrifugo::import(&source).unwrap();
        prop_assert!(serde_json::from_str::<serde_json::Value>(&made.text).is_ok());
    }

    #[test]
    fn no_text_makes_a_parser_panic(text in "\\PC{0,200}") {
        for name in ["a.json", "a.yaml", "a.toml"] {
            if let Ok(source) = source::parse(Path::new(name), &text) {
                drop(centrifugo::import(&source));
            }
        }
        let _ = text::duration(&text);
        text::variables("key", &text, &mut super::Remarks::default());
    }
}

#[test]
fn durations_are_read_as_go_writes_them() {
    for (said, millis, shown) in [
        ("1m30s", 90_000, "1m30s"),
        ("1.5h", 5_400_000, "1h30m"),
        ("500us", 0, "0s"),
        ("250ms", 250, "250ms"),
        ("0", 0, "0s"),
        ("5000000", 5, "5ms"),
    ] {
        let time = text::duration(said).unwrap();
        assert_eq!(time.as_millis(), millis, "{said}");
        assert_eq!(text::show(time), shown, "{said}");
    }
    for said in ["", "5x", "s", "1m30", "-1s", "1..2s"] {
        assert_eq!(text::duration(said), None, "{said}");
    }
    assert_eq!(text::duration("60"), Some(Duration::from_nanos(60)));
}
