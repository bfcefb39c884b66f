//! The parts of the load bench that other benches use.

pub(crate) mod client;
pub(crate) mod machine;
pub(crate) mod request;
pub(crate) mod stats;
pub(crate) mod window;
