//! The metadata of a call to an upstream: the caller's, then what the configuration adds.

use crate::client::{GRPC_TIMEOUT, grpc_timeout};
use crate::config::Secret;
use crate::trace::TraceContext;
use http::{HeaderMap, HeaderName, HeaderValue};
use std::time::Duration;

/// What belongs to the caller's own connection, call or message and says nothing of ours. Of the
/// names that gRPC keeps for itself those of tracing go on.
const OWN: [&str; 16] = [
    "connection",
    "content-length",
    "content-type",
    "grpc-accept-encoding",
    "grpc-encoding",
    "grpc-message",
    "grpc-message-type",
    "grpc-previous-rpc-attempts",
    "grpc-status",
    "grpc-timeout",
    "host",
    "keep-alive",
    "proxy-connection",
    "te",
    "transfer-encoding",
    "upgrade",
];

/// Metadata that the configuration adds; it replaces what the caller sends under the same name, which
/// a client may have chosen.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Added(Vec<(HeaderName, HeaderValue)>);

impl Added {
    /// Names and values that the configuration was checked for; values are kept out of logs.
    pub(super) fn new(metadata: &[(String, Secret)]) -> Self {
        let pair = |(name, value): &(String, Secret)| {
            let name = HeaderName::from_bytes(name.as_bytes()).ok()?;
            let mut value = HeaderValue::from_str(value.expose()).ok()?;
            value.set_sensitive(true);
            Some((name, value))
        };
        Self(metadata.iter().filter_map(pair).collect())
    }

    /// The metadata of a call: the caller's, without what is its own; that of the configuration; the
    /// context of the trace.
    pub(super) fn onto(&self, caller: &HeaderMap, trace: &TraceContext) -> HeaderMap {
        // One name may have more values than a map has room for names.
        let mut metadata = HeaderMap::with_capacity(caller.keys_len() + self.0.len() + 6);
        for (name, value) in caller {
            if OWN.binary_search(&name.as_str()).is_err() {
                metadata.append(name.clone(), value.clone());
            }
        }
        for (name, value) in &self.0 {
            metadata.insert(name.clone(), value.clone());
        }
        if trace.is_some() {
            trace.write(&mut metadata);
        }
        metadata
    }
}

/// The same with the time that is left.
pub(super) fn timed(metadata: &HeaderMap, left: Duration) -> HeaderMap {
    let mut metadata = metadata.clone();
    metadata.insert(GRPC_TIMEOUT, grpc_timeout(left));
    metadata
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn own_names_are_in_the_order_in_which_they_are_looked_for() {
        assert!(OWN.is_sorted());
    }

    #[test]
    fn the_callers_metadata_goes_on_but_for_its_own_and_what_is_added_wins() {
        let mut caller = HeaderMap::new();
        for (name, value) in [
            ("x-user-header", "1"),
            ("x-user-header", "2"),
            ("x-key", "from a client"),
            ("te", "trailers"),
            ("grpc-timeout", "1S"),
            ("content-type", "application/grpc"),
            ("grpc-trace-bin", "AAA"),
            ("user-agent", "grpc-go/1.70"),
        ] {
            let name = HeaderName::from_static(name);
            caller.append(name, value.parse().unwrap());
        }
        let added = Added::new(&[("x-key".to_owned(), Secret::new("ours"))]);
        let metadata = added.onto(&caller, &TraceContext::default());
        let of = |name: &str| -> Vec<&str> {
            let values = metadata.get_all(name).iter();
            values.map(|value| value.to_str().unwrap()).collect()
        };
        assert_eq!(of("x-user-header"), ["1", "2"]);
        assert_eq!(of("x-key"), ["ours"]);
        assert_eq!(of("grpc-trace-bin"), ["AAA"]);
        assert_eq!(of("user-agent"), ["grpc-go/1.70"]);
        assert_eq!(metadata.len(), 5);
        let timed = timed(&metadata, Duration::from_millis(250));
        assert_eq!(timed.get("grpc-timeout").unwrap(), "250000u");
    }

    #[test]
    fn added_values_are_shown_to_nobody() {
        let added = Added::new(&[("x-key".to_owned(), Secret::new("hunter2"))]);
        assert!(!format!("{added:?}").contains("hunter2"));
    }
}
