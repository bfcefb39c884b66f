//! The wire lines of the conformance list, each under its number, against a node on a real port.
//! `tests/conformance.md` says where every number is tested.

#![allow(clippy::unwrap_used)]

mod support;

mod conformance {
    mod concurrency;
    mod events;
    mod golden;
    mod hostile;
    mod list;
    mod map;
    mod protocol;
    mod security;
    mod stall;
    mod streams;
    mod tls;
    mod transport;
}
