//! Routes of the configuration, what is said about wrong ones, and stages in their order.
#![allow(clippy::unwrap_used)]

use super::*;
use crate::builtin::tests::{Running, config, said};
use crate::config::{LoadOptions, load};
use crate::cx::Cx;
use crate::engine::compile::Compiled;
use crate::event::{RpcReply, SubscribeReply};
use crate::interceptor::{Flow, Interceptor};
use serde_json::json;
use std::path::Path;

/// What is wrong with the routes of a configuration, a line each, with its fix.
fn problems_with(router: Router, toml: &str) -> Vec<String> {
    let problems = assemble(&config(toml), router.with_config_routes()).err();
    let problems = problems.unwrap_or_default();
    problems
        .iter()
        .map(|why| format!("{why}; {}", why.fix))
        .collect()
}

fn problems(toml: &str) -> Vec<String> {
    problems_with(Router::new(), toml)
}

#[test]
fn the_shipped_configuration_is_without_a_problem_and_takes_its_events() {
    let mut options = LoadOptions::new([]);
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    options.file = Some(root.join("node.toml"));
    let config = load(&options).unwrap().config;
    let router = assemble(&config, Router::new().with_config_routes()).unwrap();
    let boundary = &config.channel.namespace_boundary;
    let compiled = Compiled::try_new(router, boundary).unwrap();
    let table = compiled.table(boundary).unwrap();
    for (kind, name, handler) in [
        (EventKind::Connect, "", "welcome"),
        (EventKind::SubRefresh, "chat:1", "allow"),
        (EventKind::Subscribe, "chat:lobby", "allow"),
        (EventKind::Publish, "chat:staff", "staff-only"),
        (EventKind::Rpc, "count", "counter"),
    ] {
        let at = *table.find(kind, name).unwrap().payload();
        assert_eq!(compiled.info(at).handler, handler, "{kind} {name}");
    }
    let echo = *table.find(EventKind::Rpc, "echo").unwrap().payload();
    assert_eq!(compiled.info(echo).stages, ["log", "per-user"]);
}

#[test]
fn everything_wrong_with_routes_is_said_at_once_each_with_key_value_rule_and_fix() {
    let toml = r#"
[[interceptor]]
name = "by-channel"
on = "*"
kind = "limit"
rate = 1
per = "channel"
[[route]]
on = ["subscribe", "publish"]
match = "chat:{}"
handler = "allow"
[[route]]
on = "rpc"
match = "a.{x}"
handler = "allow"
[[route]]
on = "rpc"
match = "{y}.a"
handler = "allow"
[[route]]
on = "rpc"
match = "count"
handler = "counter"
[[route]]
on = "rpc"
match = "count2"
key = "user"
pool = 2
handler = "counter"
[[route]]
on = ["connect", "refresh"]
handler = "hello"
[handler.hello]
kind = "static"
reply = { usr = "x" }
"#;
    let problems = problems(toml);
    let expected = [
        (
            "route.0.match = \"chat:{}\" (",
            "character 6: a capture needs a name; write for example",
        ),
        (
            "route.2.match = \"{y}.a\" (",
            "are equally specific and both match `a.a`; remove one",
        ),
        (
            "route.3.key (",
            "`counter` counts the events of a key, and `rpc` has none here; give the route",
        ),
        (
            "route.4.pool (",
            "`counter` keeps its count in the shard, and runs there; remove pool",
        ),
        (
            "route.5.handler = \"hello\" (",
            "`hello` cannot answer `connect`: connect result `usr`: unknown field",
        ),
        (
            "route.5.handler = \"hello\" (",
            "`hello` cannot answer `refresh`: refresh result `usr`: unknown field",
        ),
        (
            "interceptor.0.per = \"channel\" (",
            "the event `rpc` has no channel; and it stands before rpc",
        ),
    ];
    for (key, why) in expected {
        assert!(
            problems
                .iter()
                .any(|said| said.starts_with(key) && said.contains(why)),
            "{key}{why}\n{problems:#?}"
        );
    }
    let once = problems
        .iter()
        .filter(|said| said.starts_with("route.0."))
        .count();
    assert_eq!(once, 1, "not for each of its events: {problems:#?}");
}

#[test]
fn keys_and_fields_are_held_against_the_pattern_of_the_route() {
    let toml = |more: &str| {
        format!(
            "[[route]]\non = \"rpc\"\nhandler = \"it\"\n{more}[handler.it]\nkind = \"static\"\n"
        )
    };
    let said =
        problems(&(toml("match = \"seat.{id}\"\n") + "reply = { data = \"{param.seat}\" }\n"));
    assert_eq!(said.len(), 1, "{said:#?}");
    assert!(
        said[0]
            .contains("needs `{seat}` in the route's `match`, which is `seat.{id}`; name {seat}")
    );
    let said = problems(&(toml("match = \"seat.{\"\n") + "reply = { data = \"{param.seat}\" }\n"));
    assert_eq!(said.len(), 1, "the pattern alone is to blame: {said:#?}");
    assert!(said[0].starts_with("route.0.match"));
}

#[test]
fn a_route_that_ties_with_one_of_the_program_is_told_apart_by_its_place() {
    let router = Router::new()
        .rpc("a.{x}", async || RpcReply::done())
        .with_state(());
    let toml = "[[route]]\non = \"rpc\"\nmatch = \"{y}.a\"\nhandler = \"allow\"\n";
    let said = problems_with(router, toml);
    assert_eq!(said.len(), 1, "{said:#?}");
    assert!(
        said[0].starts_with("route.0.match = \"{y}.a\""),
        "{said:#?}"
    );
    assert!(
        said[0].contains("rpc `a.{x}` and rpc `{y}.a` ("),
        "{said:#?}"
    );
}

#[test]
fn problems_of_the_programs_own_routes_are_said_too() {
    let twice = || Router::new().rpc("a", async || RpcReply::done());
    let router = twice().merge(twice()).with_state(());
    let why = assemble(&config(""), router).unwrap_err();
    assert_eq!(why.len(), 1);
    assert_eq!(why[0].key, "router");
    assert!(why[0].rule.contains("both match `a`"), "{}", why[0]);
}

#[test]
fn a_program_that_does_not_ask_for_them_gets_no_routes_of_the_configuration() {
    let config = config("[[route]]\non = \"rpc\"\nhandler = \"echo\"\n");
    let router = || {
        Router::new()
            .subscribe("x", async || SubscribeReply::allow())
            .with_state(())
    };
    let warning = ignored(&config, &router()).unwrap();
    assert!(warning.fix.contains("with_config_routes"));
    assert_eq!(assemble(&config, router()).unwrap().routes.len(), 1);
    let asks = router().with_config_routes();
    assert_eq!(ignored(&config, &asks), None);
    assert_eq!(assemble(&config, asks).unwrap().routes.len(), 2);
    assert_eq!(ignored(&Config::default(), &router()), None);
}

#[tokio::test(start_paused = true)]
async fn a_limit_refuses_what_comes_too_fast_and_lets_it_pass_a_little_later() {
    let toml = r#"
[[interceptor]]
name = "slow"
on = "route"
kind = "limit"
rate = 2
[[route]]
on = ["rpc", "refresh"]
handler = "allow"
interceptors = ["slow"]
"#;
    let running = Running::of(toml).await;
    let call = json!({"client": "c", "user": "ann", "protocol": "json", "method": "m"});
    let other = json!({"client": "d", "user": "bob", "protocol": "json", "method": "m"});
    let limited = r#"{"error":{"code":111,"message":"too many requests","temporary":true}}"#;
    let rpc = EventKind::Rpc;
    assert_eq!(running.ask(rpc, &call).await, r#"{"result":{}}"#);
    assert_eq!(running.ask(rpc, &call).await, r#"{"result":{}}"#);
    assert_eq!(running.ask(rpc, &call).await, limited);
    let refresh = json!({"client": "c", "user": "ann"});
    assert_eq!(
        running.ask(EventKind::Refresh, &refresh).await,
        "Unavailable"
    );
    assert_eq!(running.ask(rpc, &other).await, r#"{"result":{}}"#);
    tokio::time::advance(std::time::Duration::from_millis(500)).await;
    assert_eq!(running.ask(rpc, &call).await, r#"{"result":{}}"#);
    assert_eq!(running.ask(rpc, &call).await, limited);
}

#[tokio::test]
async fn stages_on_everything_come_before_those_on_the_event_and_those_of_the_route_last() {
    let auth = |name: &str, on: &str| {
        format!(
            "[[interceptor]]\nname = \"{name}\"\non = \"{on}\"\nkind = \"header-auth\"\nheader = \"x-{name}\"\nvalue = \"v\"\n"
        )
    };
    // The order of the file is the other way round, and a route's own stage is a limit of one call.
    let toml = format!(
        "[[interceptor]]\nname = \"limit\"\non = \"route\"\nkind = \"limit\"\nrate = 0.001\nburst = 1\n{}{}\
         [[route]]\non = \"rpc\"\nhandler = \"echo\"\ninterceptors = [\"limit\"]\n\
         [[route]]\non = [\"connect\", \"refresh\"]\nhandler = \"deny\"\n",
        auth("event", "rpc"),
        auth("all", "*")
    );
    let running = Running::of(&toml).await;
    let call = json!({"client": "c", "user": "u", "protocol": "json", "method": "m"});
    let ask = |metadata: &'static [(&str, &str)]| {
        let (running, call) = (&running, &call);
        async move {
            said(
                EventKind::Rpc,
                &running.ask_with(EventKind::Rpc, call, metadata).await,
            )
        }
    };
    let denied = r#"{"error":{"code":103,"message":"permission denied"}}"#;
    assert_eq!(ask(&[("x-all", "v")]).await, denied);
    assert_eq!(ask(&[("x-event", "v")]).await, denied);
    assert_eq!(ask(&[("x-event", "v"), ("x-all", "w")]).await, denied);
    // None of these has come as far as the limit.
    let both = &[("x-event", "v"), ("x-all", "v")];
    assert_eq!(ask(both).await, r#"{"result":{}}"#);
    assert!(ask(both).await.contains("\"code\":111"));
    let connect = EventKind::Connect;
    assert_eq!(
        running.ask(connect, &json!({"client": "c"})).await,
        r#"{"disconnect":{"code":4403,"reason":"forbidden"}}"#
    );
}

struct Refuse;

impl Interceptor for Refuse {
    async fn before(&self, _: &mut Cx) -> Flow {
        crate::Reject::error(1999, "outermost").into()
    }
}

#[test]
fn stages_of_the_program_stand_outside_of_those_of_the_configuration() {
    let toml = "[[interceptor]]\nname = \"log\"\non = \"*\"\nkind = \"access-log\"\n\
                [[route]]\non = \"rpc\"\npool = 2\ntimeout = \"1s\"\nhandler = \"echo\"\n";
    let router = Router::new()
        .intercept_all("own", Refuse)
        .with_config_routes();
    let router = assemble(&config(toml), router).unwrap();
    let compiled = Compiled::try_new(router, ":").unwrap();
    let info = compiled.info(0);
    assert_eq!(info.stages, ["own", "log"]);
    assert_eq!(info.pool.as_deref(), Some("route.0"));
    assert_eq!(info.timeout, Some(std::time::Duration::from_secs(1)));
    let router = Router::new().intercept_all("log", Refuse);
    let said = problems_with(router, toml);
    assert!(
        said[0].starts_with("interceptor.0.name = \"log\""),
        "{said:#?}"
    );
}

#[tokio::test]
async fn an_event_that_lacks_what_a_limit_counts_by_is_bad_data_unless_nothing_takes_it() {
    let toml = "[[interceptor]]\nname = \"ip\"\non = \"*\"\nkind = \"limit\"\nrate = 1\nper = \"{header.x-real-ip}\"\n\
                [[route]]\non = \"rpc\"\nmatch = \"m\"\nhandler = \"echo\"\n";
    let running = Running::of(toml).await;
    let ask = |method: &str| {
        let call = json!({"client": "c", "protocol": "json", "method": method});
        let running = &running;
        async move { running.ask(EventKind::Rpc, &call).await }
    };
    assert!(ask("m").await.contains("\"code\":107"));
    assert!(ask("other").await.contains("\"code\":104"));
}
