//! The stock binary: every command, with the routes of `node.toml`.
//!
//! The life of `serve` is in `src/cli/serve.rs`: arguments, configuration, telemetry, bind, build,
//! run, signal, drain.

use centripeta::Router;
use std::process::ExitCode;

fn main() -> ExitCode {
    centripeta::run(Router::new().with_config_routes().with_state(()))
}
