//! The wire contracts of `proto/`, compiled by `build.rs`.

/// Centrifugo's event proxy: Centrifugo calls, this node answers.
#[allow(missing_docs, unreachable_pub, clippy::all)]
pub mod proxy {
    tonic::include_proto!("centrifugal.centrifugo.proxy");
}

/// Centrifugo's server API: this node calls, Centrifugo answers.
#[allow(missing_docs, unreachable_pub, clippy::all)]
pub mod api {
    tonic::include_proto!("centrifugal.centrifugo.api");
}

/// What an operator asks of a running node: this node answers, on its admin listener.
#[allow(missing_docs, unreachable_pub, clippy::all)]
pub mod admin {
    tonic::include_proto!("centripeta.admin.v1");
}
