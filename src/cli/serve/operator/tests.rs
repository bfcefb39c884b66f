//! Requests as the loop of `serve` carries them out.

#![allow(clippy::unwrap_used)]

use super::*;
use crate::config::load;
use crate::control::{self, Requests};
use crate::node::Listeners;
use std::path::Path;

const FILE: &str = "[listen]\ngrpc = \"127.0.0.1:0\"\nadmin = \"127.0.0.1:0\"\n\
                    [runtime]\ncores = 1\n";

fn write(dir: &Path, rest: &str) {
    std::fs::write(dir.join("node.toml"), format!("{FILE}{rest}")).unwrap();
}

/// A node by the file in a folder, and what carries out requests to it.
async fn operator<'t>(dir: &Path, telemetry: &'t Telemetry) -> (Operator<'t>, Node) {
    let mut options = LoadOptions::new(std::iter::empty());
    options.dir = dir.to_owned();
    let config = load(&options).unwrap().config;
    let mut router = Router::new().with_config_routes();
    let (routes, kept) = assemble_again(&config, router.share(), &Kept::default()).unwrap();
    let listeners = Listeners::bind(&config).await.unwrap();
    let node = Node::start(&config, routes, listeners).await.unwrap();
    let operator = Operator {
        app: App::new(Router::new()),
        router,
        options,
        config,
        kept,
        warnings: Vec::new(),
        telemetry,
    };
    (operator, node)
}

fn telemetry() -> Telemetry {
    Telemetry::start(&Config::default().log).unwrap()
}

/// Carries out what is asked until nobody can ask any more.
async fn serve(mut operator: Operator<'_>, node: &Node, mut requests: Requests) -> Config {
    while let Some(request) = requests.recv().await {
        operator.carry_out(request, node).await;
    }
    operator.config
}

#[tokio::test]
async fn requests_at_once_are_carried_out_one_after_the_other_and_the_second_finds_nothing_to_do() {
    let (dir, telemetry) = (tempfile::tempdir().unwrap(), telemetry());
    write(dir.path(), "");
    let (operator, node) = operator(dir.path(), &telemetry).await;
    write(dir.path(), "[[route]]\non = \"rpc\"\nhandler = \"echo\"\n");
    let (control, requests) = control::channel();
    let asks = async move {
        tokio::join!(
            control.ask(Request::Reload),
            control.ask(Request::Reload),
            control.ask(Request::Reload)
        )
    };
    let (config, answers) = tokio::join!(serve(operator, &node, requests), asks);
    let changes = [answers.0, answers.1, answers.2].map(|answer| answer.unwrap().unwrap().changed);
    assert_eq!(changes.concat(), ["route rpc: new"]);
    assert_eq!(config.routes.len(), 1);
    node.shutdown(std::time::Duration::ZERO).await;
}

#[tokio::test]
async fn a_changed_boundary_waits_for_a_restart_and_routes_are_read_by_the_one_that_runs() {
    let (dir, telemetry) = (tempfile::tempdir().unwrap(), telemetry());
    write(dir.path(), "");
    let (mut operator, node) = operator(dir.path(), &telemetry).await;
    let route = "[[route]]\non = \"subscribe\"\nmatch = \"chat/{room}\"\nhandler = \"allow\"\n";
    write(
        dir.path(),
        &format!("[channel]\nnamespace_boundary = \"/\"\n{route}"),
    );
    let reloaded = operator.reload(&node).await.unwrap();
    assert_eq!(reloaded.needs_restart, ["channel.namespace_boundary"]);
    assert_eq!(reloaded.changed, ["route subscribe \"chat/{room}\": new"]);
    assert_eq!(operator.config.channel.namespace_boundary, ":");
    node.shutdown(std::time::Duration::ZERO).await;
}

#[tokio::test]
async fn a_file_that_appears_is_read_and_has_to_stay() {
    let (dir, telemetry) = (tempfile::tempdir().unwrap(), telemetry());
    write(dir.path(), "");
    let (mut operator, node) = operator(dir.path(), &telemetry).await;
    let (file, away) = (dir.path().join("node.toml"), dir.path().join("away"));
    write(dir.path(), "[[route]]\non = \"rpc\"\nhandler = \"echo\"\n");
    operator.reload(&node).await.unwrap();
    std::fs::rename(&file, &away).unwrap();
    let refused = operator.reload(&node).await.unwrap_err();
    assert!(refused.to_string().starts_with("node.toml: "), "{refused}");
    assert!(refused.problems[0].help.contains("or put one there"));
    assert_eq!(operator.config.routes.len(), 1);
    std::fs::rename(&away, &file).unwrap();
    assert_eq!(operator.reload(&node).await, Ok(Reloaded::default()));
    node.shutdown(std::time::Duration::ZERO).await;
}

#[tokio::test]
async fn a_draining_node_refuses_and_asks_for_another_start() {
    let (control, mut requests) = control::channel();
    let asks = control.ask(Request::Reload);
    let serves = async { refuse(requests.recv().await.unwrap()) };
    let (answer, ()) = tokio::join!(asks, serves);
    let refused = answer.unwrap().unwrap_err();
    assert!(refused.to_string().contains("draining"), "{refused}");
    assert!(refused.problems[0].help.contains("start"), "{refused}");
}
