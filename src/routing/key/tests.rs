#![allow(clippy::unwrap_used)]

use proptest::prelude::*;

use super::*;
use crate::event::EventKind;
use crate::routing::pattern::Pattern;

#[derive(Default)]
struct Source {
    user: &'static str,
    client: &'static str,
    channel: &'static str,
    method: &'static str,
    data: Option<Bytes>,
}

impl KeySource for Source {
    fn user(&self) -> &str {
        self.user
    }
    fn client(&self) -> &str {
        self.client
    }
    fn channel(&self) -> &str {
        self.channel
    }
    fn method(&self) -> &str {
        self.method
    }
    fn param(&self, name: &str) -> Option<&str> {
        (name == "room").then_some("r1")
    }
    fn data(&self) -> Option<Bytes> {
        self.data.clone()
    }
    fn header(&self, name: &str) -> Option<&str> {
        (name == "x-real-ip").then_some("10.0.0.1")
    }
}

fn source(data: &'static str) -> Source {
    let data = Some(Bytes::from_static(data.as_bytes()));
    Source {
        user: "ann",
        client: "c1",
        channel: "chat:1",
        method: "seat.hold",
        data,
    }
}

fn lane(key: &str, source: &Source) -> Result<String, String> {
    let spec = KeySpec::parse(key, KeyUse::Limit).or_else(|_| KeySpec::parse(key, KeyUse::Route));
    let lane = spec
        .unwrap()
        .evaluate(source)
        .map_err(|error| error.to_string())?;
    Ok(lane.map_or_else(|| "none".into(), |lane| lane.to_string()))
}

#[test]
fn every_form_of_key_leads_to_its_lane() {
    let source = source(r#"{"showing":7,"a":{"b":"x"}}"#);
    let cases = [
        ("none", "none"),
        ("user", "user ann"),
        ("client", "client c1"),
        ("channel", "channel chat:1"),
        ("all", "all"),
        ("showing:{data.showing}", "channel showing:7"),
        ("{data.a.b}/{data.showing}", "channel x/7"),
        ("{{{user}}}-{client}", "channel {ann}-c1"),
        ("{method}@{channel}", "channel seat.hold@chat:1"),
        ("room:{param.room}", "channel room:r1"),
        ("ip:{header.X-Real-IP}", "channel ip:10.0.0.1"),
    ];
    for (key, expected) in cases {
        assert_eq!(lane(key, &source).as_deref(), Ok(expected), "{key}");
    }
}

#[test]
fn the_user_falls_back_to_the_client() {
    let anonymous = Source {
        client: "c1",
        ..Source::default()
    };
    assert_eq!(lane("user", &anonymous).as_deref(), Ok("client c1"));
    assert_eq!(
        lane("cart:{user}", &anonymous).as_deref(),
        Ok("channel cart:c1")
    );
    assert_eq!(
        lane("user", &Source::default()),
        Err("key field `{client}` is missing".into())
    );
}

#[test]
fn users_clients_and_channels_have_lanes_of_their_own_and_templates_meet_channels() {
    let names =
        [Space::Channel, Space::User, Space::Client, Space::All].map(|s| LaneKey::new(s, "7"));
    for (index, one) in names.iter().enumerate() {
        assert!(
            names.iter().skip(index + 1).all(|other| one != other),
            "{one}"
        );
    }
    let template = KeySpec::parse("chat:{data.id}", KeyUse::Route).unwrap();
    let of_rpc = template.evaluate(&source(r#"{"id":"1"}"#)).unwrap();
    assert_eq!(of_rpc, KeySpec::Channel.evaluate(&source("")).unwrap());
}

#[test]
fn a_field_that_is_missing_or_no_text_is_bad_data_by_name() {
    let why = |data| lane("showing:{data.a.b}", &source(data)).unwrap_err();
    assert_eq!(why("{}"), "key field `{data.a.b}` is missing");
    assert_eq!(why(r#"{"a":[1]}"#), "key field `{data.a.b}` is missing");
    assert_eq!(why(r#"{"a":"b"}"#), "key field `{data.a.b}` is missing");
    for value in ["null", "true", "[1]", "{}"] {
        let data = Bytes::from(format!(r#"{{"a":{{"b":{value}}}}}"#));
        let error = lane(
            "{data.a.b}",
            &Source {
                data: Some(data),
                ..Source::default()
            },
        );
        assert_eq!(
            error.unwrap_err(),
            "key field `{data.a.b}` is neither a string nor a number"
        );
    }
    assert_eq!(
        why("\u{1}"),
        "key field `{data.a.b}` is wanted from data that is not JSON"
    );
    let binary = Source {
        data: None,
        ..source("")
    };
    assert!(lane("{data.a}", &binary).unwrap_err().contains("not JSON"));
    let long = Bytes::from(format!(r#"{{"a":"{}"}}"#, "x".repeat(MAX_FIELD_BYTES + 1)));
    let long = Source {
        data: Some(long),
        ..source("")
    };
    assert_eq!(
        lane("{data.a}", &long).unwrap_err(),
        "key field `{data.a}` has over 1024 bytes"
    );
    assert_eq!(
        lane("{method}", &Source::default()).unwrap_err(),
        "key field `{method}` is missing"
    );
}

#[test]
fn the_text_of_a_value_is_the_same_however_it_is_written() {
    let cases: [(&str, Result<&str, BadData>); 19] = [
        (r#"{"x":"7"}"#, Ok("7")),
        (r#"{"x":7}"#, Ok("7")),
        (r#"{"x":7.0}"#, Ok("7")),
        (r#"{"x":0.7e1}"#, Ok("7")),
        (r#"{"x":-0}"#, Ok("0")),
        (r#"{"x":-0.0}"#, Ok("0")),
        (r#"{"x":1.50}"#, Ok("1.5")),
        (
            r#"{"x":123456789012345678901234567890}"#,
            Ok("123456789012345678901234567890"),
        ),
        (r#"{"x":1e999}"#, Err(BadData::NotText)),
        (r#"{"x":"\u0436\n"}"#, Ok("ж\n")),
        (r#"{"\u0078":"escaped name"}"#, Ok("escaped name")),
        (r#"{"x":"first","x":"last"}"#, Ok("last")),
        (r#"{"x":"first","x":null}"#, Err(BadData::NotText)),
        (r#"{"y":{"x":1}}"#, Err(BadData::Missing)),
        (r#" {"x" : "" } "#, Ok("")),
        (r#"{"x":"\ud800"}"#, Err(BadData::NotJson)),
        (r#"{"x":1} trailing"#, Err(BadData::NotJson)),
        (r#"{"x":1"#, Err(BadData::NotJson)),
        ("[1,2]", Err(BadData::Missing)),
    ];
    for (json, expected) in cases {
        assert_eq!(
            find_text(json.as_bytes(), &["x"])
                .as_deref()
                .map_err(|why| *why),
            expected,
            "{json}"
        );
    }
    let twice = r#"{"a":{"b":1},"a":{"c":2}}"#;
    assert_eq!(
        find_text(twice.as_bytes(), &["a", "b"]),
        Err(BadData::Missing)
    );
    let invalid = b"{\"x\":\"\xff\"}";
    assert_eq!(find_text(invalid, &["x"]), Err(BadData::NotJson));
}

#[test]
fn data_nested_without_end_is_no_danger() {
    let deep = format!(
        r#"{{"y":{}{},"x":1}}"#,
        "[".repeat(200_000),
        "]".repeat(200_000)
    );
    assert_eq!(find_text(deep.as_bytes(), &["x"]).unwrap(), "1");
    assert_eq!(
        find_text("[".repeat(200_000).as_bytes(), &["x"]),
        Err(BadData::NotJson)
    );
    let objects = r#"{"x":"#.repeat(200_000);
    assert_eq!(
        find_text(objects.as_bytes(), &["x", "x"]),
        Err(BadData::NotJson)
    );
}

#[test]
fn wrong_keys_are_refused_with_key_value_rule_and_fix() {
    let rule = |text: &str, used| KeySpec::parse(text, used).unwrap_err().rule;
    for text in ["", "usr", "lobby", "{{user}}"] {
        assert_eq!(rule(text, KeyUse::Route), KeyRule::NoField, "{text}");
    }
    assert_eq!(rule("a:{user", KeyUse::Route), KeyRule::Unclosed);
    for field in ["usr", "", "user.name", "meta.x", "data"] {
        let expected = match field {
            "data" => KeyRule::Unnamed(field.into()),
            _ => KeyRule::UnknownField(field.into()),
        };
        assert_eq!(rule(&format!("{{{field}}}"), KeyUse::Route), expected);
    }
    for field in ["data.", "data.a..b", "data.a b", "param."] {
        assert_eq!(
            rule(&format!("{{{field}}}"), KeyUse::Route),
            KeyRule::Unnamed(field.into())
        );
    }
    assert_eq!(rule("{header.X}", KeyUse::Route), KeyRule::HeaderElsewhere);
    assert_eq!(rule("all", KeyUse::Route), KeyRule::WordElsewhere);
    assert_eq!(rule("none", KeyUse::Limit), KeyRule::WordElsewhere);
    assert_eq!(
        KeySpec::parse("{meta.x}", KeyUse::Route)
            .unwrap_err()
            .to_string(),
        "key = \"{meta.x}\": there is no field `{meta.x}`; fields are {user}, {client}, {channel}, \
         {method}, {param.X} and {data.X}"
    );
}

#[test]
fn a_key_is_checked_against_the_event_and_the_pattern() {
    let pattern = Pattern::parse("chat:{room}", ":").unwrap();
    let check = |key: &str, kind| {
        let spec = KeySpec::parse(key, KeyUse::Route).unwrap();
        spec.check(KeyUse::Route, kind, Some(&pattern))
            .map_err(|error| error.rule)
    };
    assert_eq!(
        check("channel", EventKind::Rpc),
        Err(KeyRule::NoChannel(EventKind::Rpc))
    );
    assert_eq!(
        check("x{channel}", EventKind::Connect),
        Err(KeyRule::NoChannel(EventKind::Connect))
    );
    assert_eq!(
        check("{method}", EventKind::Publish),
        Err(KeyRule::NoMethod(EventKind::Publish))
    );
    assert_eq!(
        check("user", EventKind::CacheEmpty),
        Err(KeyRule::NoClient(EventKind::CacheEmpty))
    );
    assert_eq!(
        check("{data.x}", EventKind::Refresh),
        Err(KeyRule::NoData(EventKind::Refresh))
    );
    assert_eq!(check("{method}-{data.x}", EventKind::Rpc), Ok(()));
    assert_eq!(check("{param.room}", EventKind::Subscribe), Ok(()));
    let spec = KeySpec::parse("{param.id}", KeyUse::Route).unwrap();
    assert_eq!(
        spec.check(KeyUse::Route, EventKind::Subscribe, Some(&pattern))
            .unwrap_err()
            .to_string(),
        "key = \"{param.id}\": `{param.id}` needs `{id}` in the route's `match`, which is `chat:{room}`"
    );
    assert!(spec.check(KeyUse::Route, EventKind::Connect, None).is_err());
    for kind in EventKind::ALL {
        assert_eq!(
            KeySpec::default_for(kind).check(KeyUse::Route, kind, None),
            Ok(()),
            "{kind}"
        );
    }
}

#[test]
fn a_lane_key_is_small_and_its_slot_is_that_of_its_text() {
    assert!(size_of::<LaneKey>() <= 32, "{}", size_of::<LaneKey>());
    let key = LaneKey::new(Space::Channel, "room:{42}:chat");
    assert_eq!(key.slot(), centripeta_cluster::slot_of(b"42"));
}

fn template() -> impl Strategy<Value = (String, String)> {
    let part = prop_oneof![
        "[a-z:{}ж]{1,4}".prop_map(|text| (text.replace('{', "{{").replace('}', "}}"), text)),
        Just(("{user}".to_owned(), "ann".to_owned())),
        Just(("{channel}".to_owned(), "chat:1".to_owned())),
        Just(("{param.room}".to_owned(), "r1".to_owned())),
        Just(("{data.a.b}".to_owned(), "x".to_owned())),
    ];
    proptest::collection::vec(part, 0..6).prop_map(|parts| {
        let (written, filled): (Vec<String>, Vec<String>) = parts.into_iter().unzip();
        (written.concat() + "{client}", filled.concat() + "c1")
    })
}

proptest! {
    #[test]
    fn a_template_fills_in_to_its_parts_and_prints_as_written((written, filled) in template()) {
        let spec = KeySpec::parse(&written, KeyUse::Route).unwrap();
        prop_assert_eq!(spec.to_string(), written);
        let lane = spec.evaluate(&source(r#"{"a":{"b":"x"}}"#)).unwrap().unwrap();
        prop_assert_eq!((lane.space(), lane.text()), (Space::Channel, &*filled));
    }

    #[test]
    fn lanes_are_equal_exactly_if_their_names_are(one in ".{0,30}", two in ".{0,30}") {
        let (a, b) = (LaneKey::new(Space::User, &one), LaneKey::new(Space::User, &two));
        prop_assert_eq!(a == b, one == two);
        prop_assert_eq!((a.text(), b.bytes()), (&*one, two.as_bytes()));
        let map: LaneMap<u8> = [(a.clone(), 1)].into_iter().collect();
        prop_assert_eq!(map.contains_key(&LaneKey::new(Space::User, &one)), true);
        prop_assert_eq!(map.contains_key(&b), one == two);
    }

    #[test]
    fn arbitrary_bytes_and_keys_never_panic(
        bytes in proptest::collection::vec(any::<u8>(), 0..64), json in r#"[{}\[\]",:a0-9.eE\\u-]{0,24}"#,
        key in r"[a-z{}.]{0,16}",
    ) {
        let _ = find_text(&bytes, &["a"]);
        let _ = find_text(json.as_bytes(), &["a", "a"]);
        let _ = KeySpec::parse(&key, KeyUse::Limit);
    }

    #[test]
    fn finding_agrees_with_a_full_parse(
        members in proptest::collection::vec(("[a-c]", r#""[a-z]{0,3}"|[1-9][0-9]{0,3}|null|\[1\]|\{"a":2\}"#), 0..6),
    ) {
        let members: Vec<String> = members.iter().map(|(name, value)| format!(r#""{name}":{value}"#)).collect();
        let json = format!("{{{}}}", members.join(","));
        let whole: serde_json::Value = serde_json::from_str(&json).unwrap();
        for path in [&["a"][..], &["b"], &["a", "a"]] {
            let value = path.iter().try_fold(&whole, |value, name| value.get(name));
            let expected = match value {
                None => Err(BadData::Missing),
                Some(serde_json::Value::String(text)) => Ok(text.clone()),
                Some(serde_json::Value::Number(number)) => Ok(number.to_string()),
                Some(_) => Err(BadData::NotText),
            };
            prop_assert_eq!(find_text(json.as_bytes(), path).map(|text| text.into_owned()), expected, "{}", json);
        }
    }
}
