//! The sample project of `examples/roadrunner`, moved here as its page says, and a worker on the real
//! PHP SDK: a real Centrifugo with real clients in front, PHP behind, and PHP calling back.
//!
//! The project runs in plain PHP; with `CENTRIPETA_TEST_PHP_SDK`, a folder whose `autoload.php` finds
//! the packages of `roadrunner-php/centrifugo`, on that SDK too. `RR_BIN` names a RoadRunner that must
//! answer the same. What is missing is said loudly.
#![allow(clippy::unwrap_used)]

#[path = "support/outside.rs"]
mod outside;
#[path = "support/process.rs"]
mod process;
#[path = "php_sdk/sample.rs"]
mod sample;
#[path = "php_sdk/sdk.rs"]
mod sdk;
mod support;
#[allow(
    dead_code,
    reason = "nodes of the conformance list are not started here"
)]
#[path = "e2e/world.rs"]
mod world;

use std::path::PathBuf;

/// The folder of the real SDK.
fn php_sdk() -> Result<PathBuf, &'static str> {
    let named = std::env::var_os("CENTRIPETA_TEST_PHP_SDK").map(PathBuf::from);
    named
        .filter(|folder| folder.join("autoload.php").is_file())
        .ok_or("no PHP SDK: name a folder with its autoload.php in CENTRIPETA_TEST_PHP_SDK")
}

/// PHP itself.
fn php() -> Result<PathBuf, &'static str> {
    outside::on_path("php").ok_or("no php on PATH")
}
