//! Nodes whose events are answered by worker processes: real ones, with a stand-in in Python and a
//! worker in PHP. Numbers in names are those of the worker checklist.

#![allow(clippy::unwrap_used)]

#[path = "workers/answers.rs"]
mod answers;
#[path = "workers/first.rs"]
mod first;
#[path = "workers/life.rs"]
mod life;
#[path = "workers/node.rs"]
mod node;
#[path = "workers/operate.rs"]
mod operate;
#[path = "workers/owner.rs"]
mod owner;
#[path = "support/process.rs"]
mod process;
mod support;
