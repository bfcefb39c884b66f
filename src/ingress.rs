//! Frontends: they turn calls into events and outcomes into answers.

pub(crate) mod auth;
pub(crate) mod codec;
pub(crate) mod deadline;
pub(crate) mod grpc;
pub(crate) mod listener;
pub(crate) mod session;
pub(crate) mod tls;
pub(crate) mod unary;
