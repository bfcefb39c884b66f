//! The sample project of `examples/roadrunner`, moved here as its page says, and a worker on the real
//! PHP SDK or in raw goridge: a real Centrifugo with real clients in front, PHP behind, and PHP calling
//! back. The page's own commands are run too.
//!
//! The project runs in plain PHP; with `CENTRIPETA_TEST_PHP_SDK`, a folder whose `autoload.php` finds
//! the packages of `roadrunner-php/centrifugo`, on that SDK too; several versions stand beside each
//! other as in `PATH`. `RR_BIN` names a RoadRunner that must
//! answer the same. What is missing is said loudly.
#![allow(clippy::unwrap_used)]

#[path = "support/outside.rs"]
mod outside;
#[path = "support/process.rs"]
mod process;
#[path = "php_sdk/raw.rs"]
mod raw;
#[path = "php_sdk/sample.rs"]
mod sample;
#[path = "php_sdk/sdk.rs"]
mod sdk;
#[path = "php_sdk/steps.rs"]
mod steps;
mod support;
#[allow(
    dead_code,
    reason = "nodes of the conformance list are not started here"
)]
#[path = "e2e/world.rs"]
mod world;

use std::path::PathBuf;

/// The folders of real SDKs, of as many versions as are named, as in `PATH`.
fn php_sdks() -> Result<Vec<PathBuf>, &'static str> {
    let missing = "no PHP SDK: name a folder with its autoload.php in CENTRIPETA_TEST_PHP_SDK";
    let named = std::env::var_os("CENTRIPETA_TEST_PHP_SDK").ok_or(missing)?;
    let folders: Vec<PathBuf> = std::env::split_paths(&named).collect();
    let is_one = |folder: &PathBuf| folder.join("autoload.php").is_file();
    // A mistyped one among several must not go unseen.
    match !folders.is_empty() && folders.iter().all(is_one) {
        true => Ok(folders),
        false => Err(missing),
    }
}

/// The first of them.
fn php_sdk() -> Result<PathBuf, &'static str> {
    php_sdks().map(|mut folders| folders.swap_remove(0))
}

/// PHP itself.
fn php() -> Result<PathBuf, &'static str> {
    outside::on_path("php").ok_or("no php on PATH")
}
