//! Bad inputs and what is said about them, layers, references, secrets, prints.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::time::Duration;

use proptest::prelude::*;

mod cluster;
mod mistakes;

use super::*;
use crate::event::EventKind;

/// Loads `toml` with an environment, `--set`s and no file in reach.
fn load_with(toml: &str, env: &[(&str, &str)], sets: &[&str]) -> Result<Loaded, ConfigError> {
    let env = env
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .collect();
    let world = World {
        env: &env,
        dir: Path::new("."),
        read: &some_files,
    };
    let sets: Vec<String> = sets.iter().map(|set| (*set).to_owned()).collect();
    let mut problems = Vec::new();
    let path = PathBuf::from("node.toml");
    let root = layers::file(&path, toml.as_bytes(), &mut problems);
    finish(root, &sets, &world, problems, Some(path))
}

fn some_files(path: &Path) -> io::Result<Vec<u8>> {
    match path.to_str().unwrap().trim_start_matches("./") {
        "token" => Ok(b"  from-a-file\n".to_vec()),
        "empty" => Ok(b" \n".to_vec()),
        "binary" => Ok(vec![0xff, 0xfe]),
        "cluster.secret" => Ok(b"from-a-file-of-16-bytes\n".to_vec()),
        "cert.pem" | "key.pem" => Ok(b"-----BEGIN".to_vec()),
        _ => Err(io::ErrorKind::NotFound.into()),
    }
}

fn good(toml: &str) -> Loaded {
    load_with(toml, &[], &[]).unwrap_or_else(|why| panic!("{why}"))
}

fn said(toml: &str) -> String {
    load_with(toml, &[], &[]).unwrap_err().to_string()
}

#[test]
fn an_interceptor_runs_once_for_an_event_whatever_names_it() {
    let stage =
        |on: &str| format!("[[interceptor]]\nname = \"x\"\non = {on}\nkind = \"access-log\"\n");
    let route = "[[route]]\non = \"rpc\"\nhandler = \"allow\"\ninterceptors = [\"x\"]\n";
    for on in ["\"*\"", "[\"publish\", \"rpc\"]"] {
        assert!(
            said(&format!("{}{route}", stage(on))).contains("would see these twice"),
            "{on}"
        );
    }
    good(&format!("{}{route}", stage("\"route\"")));
    good(&format!("{}{route}", stage("\"publish\"")));
    let twice = format!("{}{}", stage("\"*\""), stage("\"rpc\""));
    assert!(said(&twice).contains(
        "interceptor.1.name = \"x\" (node.toml:6): is the name of another interceptor (node.toml:2)"
    ));
}

#[test]
fn all_problems_are_reported_at_once_whatever_their_source() {
    let toml = "[limits]\ntimeout = \"x\"\nstreams = 0\n[listen]\ngrpc = \"0.0.0.0:1\"\n[[route]]\non = \"rpc\"\nhandler = \"nobody\"\n";
    let env = [
        ("CENTRIPETA_LIMITS__LANE_QUEUE", "many"),
        ("CENTRIPETA_LIMITS__TIMEUOT", "1s"),
    ];
    let why = load_with(toml, &env, &["runtime.cores=-1", "nonsense"]).unwrap_err();
    let text = why.to_string();
    for part in [
        "limits.timeout = \"x\" (node.toml:2)",
        "limits.streams = 0 (node.toml:3)",
        "listen.grpc = \"0.0.0.0:1\" (node.toml:5)",
        "route.0.handler = \"nobody\" (node.toml:8)",
        "limits.lane_queue = \"many\" (CENTRIPETA_LIMITS__LANE_QUEUE)",
        "limits.timeuot (CENTRIPETA_LIMITS__TIMEUOT): is not a key",
        "did you mean CENTRIPETA_LIMITS__TIMEOUT?",
        "runtime.cores = -1 (--set)",
        "nonsense (--set): has no `=`",
    ] {
        assert!(text.contains(part), "{part} is not in\n{text}");
    }
    assert_eq!(why.problems.len(), 8);
    let json = serde_json::to_value(&why).unwrap();
    let queue = &json["problems"]
        .as_array()
        .unwrap()
        .iter()
        .find(|it| it["key"] == "limits.lane_queue")
        .unwrap();
    assert_eq!(queue["origin"]["source"], "env");
    assert_eq!(queue["origin"]["name"], "CENTRIPETA_LIMITS__LANE_QUEUE");
}

#[test]
fn the_file_yields_to_the_environment_and_both_to_set() {
    let toml = "[limits]\ntimeout = \"1s\"\nstreams = 1\nin_flight = 1\n";
    let env = [
        ("CENTRIPETA_LIMITS__STREAMS", "2_000"),
        ("CENTRIPETA_LIMITS__IN_FLIGHT", "2"),
    ];
    let loaded = load_with(toml, &env, &["limits.in_flight=3", "limits.in_flight=4"]).unwrap();
    let limits = &loaded.config.limits;
    assert_eq!(limits.timeout, Duration::from_secs(1));
    assert_eq!((limits.streams.get(), limits.in_flight.get()), (2000, 4));
    assert_eq!(limits.lane_queue.get(), 64);
    let print = print_effective(&loaded);
    for line in [
        "timeout = \"1s\"  # node.toml:2\n",
        "streams = 2000  # CENTRIPETA_LIMITS__STREAMS\n",
        "in_flight = 4  # --set limits.in_flight\n",
        "lane_queue = 64\n",
    ] {
        assert!(print.contains(line), "{line} is not in\n{print}");
    }
}

#[test]
fn environment_variables_reach_every_key_and_a_name_without_two_underscores_is_none() {
    let env = [
        ("CENTRIPETA_PORT", "tcp://10.0.0.1:80"),
        ("CENTRIPETA_SERVICE_HOST", "x"),
        ("OTHER__LIMITS__TIMEOUT", "x"),
        ("CENTRIPETA_NODE__NAME", "007"),
        (
            "CENTRIPETA_CENTRIFUGO__API",
            "[\"grpc://a:1\", \"grpc://[::1]:2\"]",
        ),
        ("CENTRIPETA_LISTEN__AUTH__METADATA", "X-Router-Key"),
        ("CENTRIPETA_LISTEN__AUTH__VALUE", "12345"),
        ("CENTRIPETA_HANDLER__STAFF_ONLY__ERROR__MESSAGE", "go away"),
        ("CENTRIPETA_ROUTE__0__TIMEOUT", "2s"),
        ("CENTRIPETA_ROUTE__1__ON", "[\"publish\"]"),
        ("CENTRIPETA_ROUTE__1__HANDLER", "deny"),
    ];
    let toml = "[handler.staff-only]\nkind = \"static\"\nerror = { code = 1403, message = \"m\" }\n\
                [[route]]\non = \"rpc\"\nhandler = \"staff-only\"\n";
    let config = load_with(toml, &env, &[]).unwrap().config;
    assert_eq!(config.node.name, "007");
    let api: Vec<_> = config
        .centrifugo
        .api
        .iter()
        .map(ToString::to_string)
        .collect();
    assert_eq!(api, ["grpc://a:1", "grpc://[::1]:2"]);
    let auth = config.listen.auth.unwrap();
    assert_eq!(
        (auth.metadata.as_str(), auth.value.expose()),
        ("x-router-key", "12345")
    );
    assert_eq!(config.routes[0].timeout, Some(Duration::from_secs(2)));
    assert_eq!(config.routes[1].on, [EventKind::Publish]);
    let answer = HandlerConfig::Static(StaticAnswer::Error {
        code: 1403,
        message: "go away".to_owned(),
        temporary: false,
    });
    assert_eq!(config.handlers["staff-only"], answer);
}

#[test]
fn set_takes_a_toml_value_or_else_text() {
    let sets = [
        "node.name=\"quoted\"",
        "limits.timeout=2s",
        "listen.allow_open=true",
        "handler.hi={ kind = \"static\", reply = { user = \"u\" } }",
        "handler.hi.reply.expire_in=15m",
        "handler.hi.reply.channels=[\"news\"]",
        "route.0={ on = \"connect\", handler = \"hi\" }",
    ];
    let config = load_with("", &[], &sets).unwrap().config;
    assert_eq!(config.node.name, "quoted");
    assert!(config.listen.allow_open);
    let reply = serde_json::json!({ "user": "u", "expire_in": "15m", "channels": ["news"] });
    assert_eq!(
        config.handlers["hi"],
        HandlerConfig::Static(StaticAnswer::Reply(reply))
    );
    assert_eq!(config.routes[0].handler, "hi");

    for (set, part) in [
        (
            "route.3.on=rpc",
            "route.3.on (--set): has no such entry: there are 0",
        ),
        ("limits..x=1", "is not a dotted key"),
        ("=1", "is not a dotted key"),
        ("limits.timeout.x=1", "limits.timeout"),
    ] {
        let text = load_with("[limits]\ntimeout = \"1s\"", &[], &[set])
            .unwrap_err()
            .to_string();
        assert!(text.contains(part), "{set}\n{text}");
    }
}

#[test]
fn references_are_replaced_in_every_string_and_only_where_they_are_written() {
    let toml = "[node]\nname = \"${HOST}-${ZONE:-eu}-${EMPTY:-1}\"\n[listen]\nadmin_token = \"file:${FILE}\"\n\
                [handler.x]\nkind = \"static\"\nreply = { user = \"${TRICK}\", info = [\"$${HOST} {client}\"] }\n";
    let env = [
        ("HOST", "a"),
        ("EMPTY", ""),
        ("FILE", "token"),
        ("TRICK", "file:token ${HOST}"),
    ];
    let config = load_with(toml, &env, &[]).unwrap().config;
    assert_eq!(config.node.name, "a-eu-1");
    assert_eq!(config.listen.admin_token.unwrap().expose(), "from-a-file");
    let reply = serde_json::json!({ "user": "file:token ${HOST}", "info": ["${HOST} {client}"] });
    assert_eq!(
        config.handlers["x"],
        HandlerConfig::Static(StaticAnswer::Reply(reply))
    );
}

#[test]
fn routes_interceptors_and_handlers_arrive_typed() {
    let toml = r#"
        [[interceptor]]
        name = "log"
        on = ["rpc", "connect"]
        kind = "access-log"
        level = "debug"
        fields = ["user"]
        [[interceptor]]
        name = "slow"
        on = "route"
        kind = "limit"
        rate = 0.5
        per = "{header.x-tenant}"
        [[interceptor]]
        name = "app"
        on = "*"
        kind = "header-auth"
        header = "X-App"
        value = "v"
        [[route]]
        on = ["rpc"]
        match = "seat.*"
        key = "showing:{data.showing}"
        handler = "counter"
        interceptors = ["slow"]
        pool = 2
        [handler.allow]
        kind = "allow"
        extend = "2h"
        [handler.bye]
        kind = "static"
        disconnect = { code = 4403 }
    "#;
    let loaded = good(toml);
    let config = &loaded.config;
    let kinds: Vec<_> = config
        .interceptors
        .iter()
        .map(|it| (it.on.clone(), it.kind.clone()))
        .collect();
    let log = InterceptorKind::AccessLog {
        level: tracing::Level::DEBUG,
        fields: vec!["user".to_owned()],
    };
    let limit = InterceptorKind::Limit {
        rate: 0.5,
        burst: std::num::NonZeroU32::MIN,
        per: Some("{header.x-tenant}".to_owned()),
    };
    let auth = InterceptorKind::HeaderAuth {
        header: "x-app".to_owned(),
        value: Secret::new("v"),
    };
    assert_eq!(
        kinds,
        [
            (On::Events(vec![EventKind::Rpc, EventKind::Connect]), log),
            (On::Route, limit),
            (On::All, auth),
        ]
    );
    let route = &config.routes[0];
    assert_eq!(route.pattern.as_deref(), Some("seat.*"));
    assert_eq!(route.key.as_deref(), Some("showing:{data.showing}"));
    assert_eq!(route.pool.unwrap().get(), 2);
    assert_eq!(route.origin.to_string(), "node.toml:20");
    let extend = Duration::from_secs(7200);
    assert_eq!(config.handlers["allow"], HandlerConfig::Allow { extend });
    let bye = StaticAnswer::Disconnect {
        code: 4403,
        reason: String::new(),
    };
    assert_eq!(config.handlers["bye"], HandlerConfig::Static(bye));
    let warned: Vec<_> = loaded.warnings.iter().map(ToString::to_string).collect();
    assert_eq!(
        warned,
        ["handler.bye (node.toml:30): no route names this handler"]
    );
}

#[test]
fn a_section_that_only_names_a_built_in_handler_changes_nothing() {
    let toml = "[handler.allow]\nkind = \"allow\"\n[handler.counter]\nkind = \"counter\"\n";
    assert_eq!(good(toml).config.handlers, Config::default().handlers);
}

#[test]
fn a_listener_beyond_loopback_needs_one_of_the_three_guards() {
    for guard in [
        "allow_open = true",
        "auth = { metadata = \"x-k\", value = \"v\" }",
        "tls = { cert = \"cert.pem\", key = \"key.pem\", client_ca = \"cert.pem\" }",
    ] {
        good(&format!(
            "[listen]\ngrpc = \"0.0.0.0:1\"\nadmin = \"[::]:2\"\nadmin_token = \"t\"\n{guard}"
        ));
    }
    let only_tls =
        "[listen]\ngrpc = \"0.0.0.0:1\"\ntls = { cert = \"cert.pem\", key = \"key.pem\" }";
    assert!(said(only_tls).contains("lets anyone beyond this machine"));
    for near in [
        "127.8.0.1:1",
        "[::1]:1",
        "[::ffff:127.0.0.1]:1",
        "localhost:1",
        "unix:///run/c.sock",
    ] {
        good(&format!("[listen]\ngrpc = \"{near}\""));
    }
}

#[test]
fn a_timeout_that_sdks_do_not_wait_for_is_warned_of() {
    let loaded = good(
        "[limits]\ntimeout = \"6s\"\n[[route]]\non = \"rpc\"\nhandler = \"echo\"\ntimeout = \"10s\"",
    );
    let keys: Vec<_> = loaded
        .warnings
        .iter()
        .map(|warning| warning.key.as_str())
        .collect();
    assert_eq!(keys, ["limits.timeout", "route.0.timeout"]);
    assert!(
        loaded.warnings[0]
            .as_warning()
            .starts_with("warning: limits.timeout = \"6s\" (node.toml:2): ")
    );
}

#[test]
fn no_output_ever_holds_a_secret() {
    let toml = r#"
        [listen]
        auth = { metadata = "x-k", value = "S3CRET" }
        admin_token = "${TOKEN}"
        [centrifugo]
        key = "file:token"
        [[interceptor]]
        name = "a"
        on = "*"
        kind = "header-auth"
        header = "x-h"
        value = "S3CRET"
        [cluster]
        secret = ["${TOKEN}-0123456789", "S3CRET-0123456789"]
        [handler.x]
        kind = "static"
        reply = { user = "${TOKEN}", data = { k = ["file:token"] } }
    "#;
    let env = [
        ("TOKEN", "S3CRET"),
        ("CENTRIPETA_LISTEN__AUTH__VALUE", "S3CRET-2"),
    ];
    let loaded = load_with(toml, &env, &["centrifugo.key=S3CRET"]).unwrap();
    let from_file = load_with(toml, &env, &[]).unwrap();
    assert_eq!(
        from_file.config.centrifugo.key.as_ref().unwrap().expose(),
        "from-a-file"
    );
    let secrets = ["S3CRET", "from-a-file"];
    for output in [
        print_effective(&loaded),
        print_effective(&from_file),
        effective_json(&loaded).to_string(),
        format!("{:?}", loaded.config.listen),
        format!("{:?}", loaded.config.centrifugo),
        format!("{:?}", loaded.config.interceptors),
        format!("{:?}", loaded.config.cluster),
        format!("{:?}", loaded.config.cluster.as_ref().unwrap().security()),
    ] {
        assert!(
            secrets.iter().all(|secret| !output.contains(secret)),
            "{output}"
        );
    }
    assert!(print_effective(&loaded).contains("user = \"${TOKEN}\""));

    let bad = "[listen]\nadmin_token = { a = \"S3CRET\" }\nadmin_tokn = \"S3CRET\"\ngrpc = \"${TOKEN}\"\nauth = \"S3CRET\"\n\
               [centrifugo]\nkey = \"S3CRET\\n\"\nclient = \"ws://me:S3CRET@host\"\napi = [\"grpc://me:S3CRET@h:1\", \"${TOKEN}\"]\n\
               [log]\nlevel = \"${TOKEN}\"\n[S3CRETS]\n[[interceptor]]\nname = \"x\"\non = \"${TOKEN}\"\nkind = \"limit\"\nrate = 1\nper = \"{${TOKEN}}\"\n\
               [node]\nname = \"S3CRET";
    let bad = bad.replace("[S3CRETS]\n", "");
    let sets = [
        "listen.admin_token:S3CRET",
        "centrifugo.key.x=S3CRET",
        "listen.auth.value=${S3CRET",
    ];
    let why = load_with(&bad, &env, &sets[..2]).unwrap_err();
    assert!(why.problems.len() > 8, "{why}");
    let unclosed = load_with("", &[], &sets[2..]).unwrap_err();
    let all = format!(
        "{why}{why:?}{}{unclosed}",
        serde_json::to_string(&why).unwrap()
    );
    assert!(!all.contains("S3CRET"), "{all}");
}

#[test]
fn every_key_of_the_schema_can_be_set_and_reaches_the_prints() {
    let loaded = good(
        "[listen]\nauth = { metadata = \"x\", value = \"v\" }\nadmin_token = \"t\"\n\
                       tls = { cert = \"cert.pem\", key = \"key.pem\", client_ca = \"cert.pem\" }\n\
                       [centrifugo]\ntls = { ca = \"cert.pem\", cert = \"cert.pem\", key = \"key.pem\" }\n\
                       [log]\notlp = \"https://[::1]:4317\"\nsampling = 1\nservice = \"chat\"\n\
                       otlp_headers = \"X-Key=a b, authorization=Bearer c=\"\notlp_ca = \"cert.pem\"\n\
                       [rpc]\nlisten = \"off\"\nfallback = \"tcp://127.0.0.1:6002\"\n\
                       [cluster]\ntls = { cert = \"cert.pem\", key = \"key.pem\", ca = \"cert.pem\" }\n",
    );
    let log = &loaded.config.log;
    let otlp = log.otlp.as_ref().unwrap();
    assert_eq!(otlp.collector.to_string(), "https://[::1]:4317");
    let headers = otlp.headers.iter();
    let headers: Vec<_> = headers
        .map(|(name, value)| (&**name, value.expose()))
        .collect();
    assert_eq!(headers, [("x-key", "a b"), ("authorization", "Bearer c=")]);
    assert_eq!((log.sampling, log.service.as_deref()), (1.0, Some("chat")));
    assert!(!print_effective(&loaded).contains("Bearer"));
    let json = effective_json(&loaded);
    for key in schema::KEYS
        .iter()
        .filter(|key| !key.path.contains(['[', 'N']))
    {
        let pointer = format!("/settings/{}", key.path.replace('.', "/"));
        assert!(json.pointer(&pointer).is_some(), "{}", key.path);
        assert!(print_docs().contains(key.meaning) && print_docs().contains(key.since));
    }
}

#[test]
fn a_line_that_is_not_toml_hides_nothing_else() {
    let text = said("[node]\nname = = 3\n[limits]\nstreams = 0\nx y\n");
    assert!(text.contains("node.toml:2: not TOML"), "{text}");
    assert!(text.contains("limits.streams = 0 (node.toml:4)"), "{text}");
    assert!(text.contains("node.toml:5: not TOML"), "{text}");
    assert!(!text.contains("node.name"), "{text}");
    assert!(
        fuzz_load(b"[node]\n\xff")
            .unwrap_err()
            .to_string()
            .contains("node.toml:2: not UTF-8")
    );
}

#[test]
fn deep_nesting_is_a_problem_and_not_an_overflow() {
    let deep = format!("a = {}{}", "[".repeat(100_000), "]".repeat(100_000));
    assert!(fuzz_load(deep.as_bytes()).is_err());
    let dotted = format!("{}b = 1", "a.".repeat(100_000));
    assert!(fuzz_load(dotted.as_bytes()).is_err());
    let env: BTreeMap<_, _> = [(
        format!("CENTRIPETA_A{}", "__A".repeat(50_000)),
        "1".to_owned(),
    )]
    .into();
    let options = LoadOptions {
        env,
        dir: PathBuf::from("/nonexistent"),
        ..LoadOptions::new([])
    };
    assert!(
        load(&options)
            .unwrap_err()
            .to_string()
            .contains("is not a dotted key")
    );
}

/// Lines that come near to what the loader knows, so that arbitrary files get past the parser.
fn line() -> impl Strategy<Value = String> {
    let keys: Vec<&str> = schema::KEYS.iter().map(schema::Key::name).collect();
    let headers = prop::sample::select(vec![
        "[node]",
        "[listen]",
        "[limits]",
        "[[route]]",
        "[[interceptor]]",
        "[handler.x]",
        "[log]",
        "[cluster]",
        "[cluster.lease]",
        "[route]",
    ]);
    let values = prop_oneof![
        any::<i64>().prop_map(|number| number.to_string()),
        any::<f64>().prop_map(|number| format!("{number:?}")),
        ".{0,12}".prop_map(|text| tree::quote(&text)),
        prop::sample::select(vec![
            "\"${A:-b}\"",
            "\"file:x\"",
            "[\"rpc\"]",
            "{ a = 1 }",
            "\"static\"",
            "\"limit\"",
            "\"1s\"",
            "\"allow\"",
            "true",
            "\"*\"",
            "1979-05-27",
            "\"{user}\"",
            "\"9999999999999999EiB\"",
        ])
        .prop_map(str::to_owned),
    ];
    prop_oneof![
        1 => headers.prop_map(str::to_owned),
        4 => (prop::sample::select(keys), values).prop_map(|(key, value)| format!("{key} = {value}")),
    ]
}

proptest! {
    #[test]
    fn arbitrary_bytes_never_panic_the_loader(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        let _ = fuzz_load(&bytes);
    }

    #[test]
    fn near_misses_never_panic_and_what_loads_prints_as_toml(lines in prop::collection::vec(line(), 0..12)) {
        match fuzz_load(lines.join("\n").as_bytes()) {
            Ok(loaded) => {
                let print = print_effective(&loaded);
                prop_assert!(print.parse::<toml::Table>().is_ok(), "{print}");
                let _ = effective_json(&loaded);
            }
            Err(why) => prop_assert!(!why.problems.is_empty() && why.to_string().starts_with("error: ")),
        }
    }

    #[test]
    fn arbitrary_overrides_never_panic(key in "[a-z.0-9_]{0,20}", value in ".{0,20}") {
        let _ = load_with("", &[(&format!("CENTRIPETA_{}", key.to_ascii_uppercase()), &value)], &[]);
        let _ = load_with("[[route]]\non = \"rpc\"\nhandler = \"echo\"", &[], &[&format!("{key}={value}")]);
    }
}

#[test]
fn workers_are_listened_to_where_it_is_said_and_by_default_only_where_there_are_pools() {
    let default = good("").config.rpc;
    assert_eq!(default.listens(false), None);
    let usual = default.listens(true).map(|address| address.to_string());
    assert_eq!(usual.as_deref(), Some("tcp://127.0.0.1:6001"));
    for (said, shown) in [
        ("off", None),
        ("tcp://localhost:7", Some("tcp://localhost:7")),
        ("127.8.0.1:0", Some("tcp://127.8.0.1:0")),
        ("tcp://[::1]:7", Some("tcp://[::1]:7")),
        ("unix:///run/rpc.sock", Some("unix:///run/rpc.sock")),
    ] {
        let rpc = good(&format!("[rpc]\nlisten = \"{said}\"")).config.rpc;
        let listens = rpc.listens(true).map(|address| address.to_string());
        assert_eq!(listens.as_deref(), shown);
    }
    for wrong in [
        "",
        "tcp://:6001",
        "tcp://a",
        "tcp://a:70000",
        "http://a:1",
        "unix://rpc",
    ] {
        let why = said(&format!("[rpc]\nlisten = \"{wrong}\""));
        assert!(why.contains("rpc.listen"), "{wrong}: {why}");
    }
}

#[test]
fn an_rpc_listener_beyond_loopback_is_refused_unless_the_network_is_said_to_be_closed() {
    for open in ["0.0.0.0", "[::]", "10.1.2.3", "php.internal"] {
        let toml = format!("[rpc]\nlisten = \"tcp://{open}:6001\"\n");
        let why = said(&toml);
        assert!(
            why.contains("lets anyone beyond this machine publish"),
            "{why}"
        );
        good(&format!("{toml}allow_open = true"));
    }
}

#[test]
fn a_fallback_that_is_the_own_rpc_listener_is_refused_however_it_is_spelled() {
    for (listen, fallback, is_round) in [
        ("tcp://127.0.0.1:1", "tcp://127.0.0.1:1", true),
        ("tcp://127.0.0.1:1", "localhost:1", true),
        ("tcp://localhost:1", "tcp://127.0.0.1:1", true),
        ("tcp://[::1]:1", "tcp://LOCALHOST:1", true),
        ("tcp://127.0.0.1:1", "tcp://0.0.0.0:1", true),
        ("tcp://0.0.0.0:1", "tcp://127.9.9.9:1", true),
        ("tcp://[::]:1", "tcp://127.0.0.1:1", true),
        ("tcp://[::1]:1", "tcp://[0:0::1]:1", true),
        ("tcp://127.0.0.1:1", "tcp://[::ffff:127.0.0.1]:1", true),
        ("tcp://php:1", "tcp://PHP:1", true),
        ("unix:///run/a.sock", "unix:///run/./a.sock", true),
        ("tcp://127.0.0.1:1", "tcp://127.0.0.1:2", false),
        ("tcp://127.0.0.1:1", "tcp://[::1]:1", false),
        ("tcp://127.0.0.1:1", "tcp://127.0.0.2:1", false),
        ("tcp://0.0.0.0:1", "tcp://10.1.2.3:1", false),
        ("tcp://127.0.0.1:1", "tcp://roadrunner:1", false),
        ("unix:///run/a.sock", "unix:///run/b.sock", false),
        ("off", "tcp://127.0.0.1:6001", false),
    ] {
        let toml =
            format!("[rpc]\nallow_open = true\nlisten = \"{listen}\"\nfallback = \"{fallback}\"");
        let found = load_with(&toml, &[], &[]).err().map(|why| why.to_string());
        let found = found.is_some_and(|it| it.contains("calls would come back for ever"));
        assert_eq!(found, is_round, "{listen} {fallback}");
    }
    // Nobody said where to listen, and pools make it 6001.
    let pool = format!("{POOL}[rpc]\nfallback = \"tcp://localhost:6001\"");
    assert!(said(&pool).contains("calls would come back for ever"));
    good("[rpc]\nfallback = \"tcp://localhost:6001\"");
}

/// A pool that a route names; `relay` follows.
const POOL: &str = "[[route]]\non = \"rpc\"\nhandler = \"a\"\n[handler.a]\nkind = \"roadrunner\"\ncommand = \"php\"\n";

#[test]
fn two_listeners_at_one_place_are_refused_with_both_keys_and_the_cure() {
    let pools = |a: &str, b: &str| {
        let second = POOL.replace("rpc", "publish").replace("\"a\"", "\"b\"");
        let second = second.replace("handler.a", "handler.b");
        format!("{POOL}relay = \"{a}\"\n{second}relay = \"{b}\"")
    };
    for (toml, here, there) in [
        (
            "[rpc]\nlisten = \"tcp://127.0.0.1:10001\"".to_owned(),
            "rpc.listen",
            "listen.grpc",
        ),
        (
            "[rpc]\nlisten = \"tcp://localhost:10003\"".to_owned(),
            "rpc.listen",
            "listen.admin",
        ),
        (
            format!("{POOL}relay = \"tcp://127.0.0.1:10003\""),
            "handler.a.relay",
            "listen.admin",
        ),
        (
            format!("{POOL}relay = \"tcp://localhost:6001\""),
            "handler.a.relay",
            "rpc.listen",
        ),
        // What was written is at fault, not what stands at its default.
        (
            "[listen]\ngrpc = \"127.0.0.1:10003\"".to_owned(),
            "listen.grpc",
            "listen.admin",
        ),
        (
            format!("[listen]\nallow_open = true\ngrpc = \"0.0.0.0:6001\"\n{POOL}"),
            "listen.grpc",
            "rpc.listen",
        ),
        (
            "[cluster]\nlisten = \"127.0.0.1:7946\"\n[rpc]\nlisten = \"tcp://127.0.0.1:7946\""
                .to_owned(),
            "rpc.listen",
            "cluster.listen",
        ),
        (
            "[rpc]\nallow_open = true\nlisten = \"tcp://[::]:10001\"".to_owned(),
            "rpc.listen",
            "listen.grpc",
        ),
        (
            "[listen]\ngrpc = \"unix:///run/a.sock\"\n[rpc]\nlisten = \"unix:///run/a.sock\""
                .to_owned(),
            "rpc.listen",
            "listen.grpc",
        ),
        (
            pools("tcp://127.0.0.1:7", "tcp://localhost:7"),
            "handler.b.relay",
            "handler.a.relay",
        ),
    ] {
        let why = load_with(&toml, &[], &[]).map(|_| ()).expect_err(&toml);
        let [problem] = &why.problems[..] else {
            panic!("{toml}\n{why}");
        };
        assert_eq!(problem.key, here, "{toml}\n{why}");
        assert!(problem.rule.contains(there), "{toml}\n{why}");
        assert!(problem.fix.contains("of its own"), "{toml}\n{why}");
    }
    for toml in [
        pools("tcp://127.0.0.1:7", "tcp://127.0.0.1:7"),
        pools("tcp://127.0.0.1:7", "tcp://127.0.0.1:8"),
        "[rpc]\nlisten = \"tcp://[::1]:10001\"".to_owned(),
        "[listen]\ngrpc = \"127.0.0.1:0\"\nadmin = \"127.0.0.1:0\"".to_owned(),
        // No route names it, so it never listens.
        "[handler.x]\nkind = \"roadrunner\"\ncommand = \"php\"\nrelay = \"tcp://127.0.0.1:10003\""
            .to_owned(),
        // There is no pool, so nothing is at 6001.
        "[listen]\ngrpc = \"127.0.0.1:6001\"".to_owned(),
        "[listen]\ngrpc = \"127.0.0.1:7946\"".to_owned(),
    ] {
        good(&toml);
    }
}
