//! The load bench: what our node costs beside a bare tonic echo server of the same contract.
//!
//! The machine is taken to be small, shared and noisy, so nothing absolute is promised: every figure
//! is a ratio of two servers driven in turn within one round, and a shape reports the median and the
//! worst of its rounds. Both servers are children of this process (the executable starts itself again
//! in a role), the load comes from here, and every loop ends by time.
//!
//! `cargo bench --bench load -- --help` lists the shapes and modes.

mod load {
    pub(crate) mod bare;
    pub(crate) mod burn;
    pub(crate) mod centrifugo;
    pub(crate) mod child;
    pub(crate) mod cli;
    pub(crate) mod client;
    pub(crate) mod collector;
    pub(crate) mod contenders;
    pub(crate) mod guard;
    pub(crate) mod lanes;
    pub(crate) mod machine;
    pub(crate) mod ours;
    pub(crate) mod ratio;
    pub(crate) mod request;
    pub(crate) mod role;
    pub(crate) mod rounds;
    pub(crate) mod shapes;
    pub(crate) mod start;
    pub(crate) mod stats;
    pub(crate) mod streams;
    pub(crate) mod websocket;
    pub(crate) mod window;
}

use std::process::ExitCode;

fn main() -> ExitCode {
    let result = match load::role::from_arguments() {
        Some(role) => role.and_then(load::role::Role::run),
        None => load::cli::run(),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
