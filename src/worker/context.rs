//! What a worker is told beside the message: JSON of the call's metadata, and the event's type.
//!
//! Each key has an array of strings, in the order of the keys, as RoadRunner writes it. `type` is
//! set, never added to: a client whose header of that name is forwarded can't choose the handler.

use crate::event::EventKind;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use http::HeaderMap;
use std::borrow::Cow;

/// Metadata of the transport that no application is told.
const HIDDEN: [&str; 4] = ["te", "grpc-timeout", "grpc-encoding", "type"];
/// Bytes that the context of an event with few headers takes.
const CONTEXT: usize = 512;
/// Where HTTP/2 has the name of the host that was called.
const AUTHORITY: &str = ":authority";

/// The value of `type` for an event; `None` for events that no worker takes.
pub(crate) const fn type_of(kind: EventKind) -> Option<&'static str> {
    Some(match kind {
        EventKind::Connect => "connect",
        EventKind::Refresh => "refresh",
        EventKind::Subscribe => "subscribe",
        EventKind::Publish => "publish",
        EventKind::Rpc => "rpc",
        EventKind::SubRefresh => "subrefresh",
        EventKind::CacheEmpty => "notifycacheempty",
        EventKind::ChannelState => "notifychannelstate",
        EventKind::MapPublish => "mappublish",
        EventKind::MapRemove => "mapremove",
        EventKind::SharedPollRefresh => "sharedpollrefresh",
        EventKind::Stream | EventKind::StreamBidirectional | EventKind::Raw => return None,
    })
}

/// The context of an event.
pub(crate) fn of(type_name: &str, authority: Option<&str>, metadata: &HeaderMap) -> Vec<u8> {
    let mut entries: Vec<(&str, Cow<'_, str>)> = Vec::with_capacity(metadata.len() + 2);
    for (name, value) in metadata {
        let name = name.as_str();
        if !HIDDEN.contains(&name) {
            entries.push((name, text(name, value.as_bytes())));
        }
    }
    entries.extend(authority.map(|authority| (AUTHORITY, Cow::Borrowed(authority))));
    entries.push(("type", Cow::Borrowed(type_name)));
    // Values of one name stay in the order in which they came.
    entries.sort_by_key(|(name, _)| *name);
    let mut json = Vec::with_capacity(CONTEXT);
    for (at, (name, value)) in entries.iter().enumerate() {
        let is_next = at > 0 && entries[at - 1].0 == *name;
        let before: &[u8] = match (at, is_next) {
            (0, _) => b"{",
            (_, true) => b",",
            (_, false) => b"],",
        };
        json.extend_from_slice(before);
        if !is_next {
            put(&mut json, name);
            json.extend_from_slice(b":[");
        }
        put(&mut json, value);
    }
    json.extend_from_slice(b"]}");
    json
}

/// A value as text. gRPC carries bytes under some names as base64, with padding or without.
fn text<'v>(name: &str, value: &'v [u8]) -> Cow<'v, str> {
    if name.ends_with("-bin") {
        let padding = value.iter().rev().take_while(|it| **it == b'=').count();
        if let Ok(bytes) = STANDARD_NO_PAD.decode(&value[..value.len() - padding]) {
            return Cow::Owned(String::from_utf8_lossy(&bytes).into_owned());
        }
    }
    String::from_utf8_lossy(value)
}

/// Appends a JSON string.
fn put(json: &mut Vec<u8>, text: &str) {
    // Strings can always be written to memory.
    drop(serde_json::to_writer(json, text));
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use http::{HeaderName, HeaderValue};

    fn metadata(entries: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut map = HeaderMap::new();
        for (name, value) in entries {
            map.append(
                HeaderName::from_static(name),
                HeaderValue::from_static(value),
            );
        }
        map
    }

    fn text(type_name: &str, metadata: &HeaderMap) -> String {
        String::from_utf8(of(type_name, Some("127.0.0.1:30000"), metadata)).unwrap()
    }

    #[test]
    fn w77_every_key_is_an_array_and_there_is_one_type() {
        let metadata = metadata(&[
            ("user-agent", "grpc-go/1.75.0"),
            ("content-type", "application/grpc"),
            ("te", "trailers"),
            ("grpc-timeout", "1S"),
            ("x-real-ip", "1.2.3.4"),
            ("x-real-ip", "5.6.7.8"),
            ("authorization", "Bearer t"),
        ]);
        assert_eq!(
            text("rpc", &metadata),
            r#"{":authority":["127.0.0.1:30000"],"authorization":["Bearer t"],"content-type":["application/grpc"],"type":["rpc"],"user-agent":["grpc-go/1.75.0"],"x-real-ip":["1.2.3.4","5.6.7.8"]}"#
        );
    }

    #[test]
    fn w78_a_forwarded_header_called_type_chooses_nothing() {
        let metadata = metadata(&[("type", "connect"), ("type", "evil")]);
        assert_eq!(
            text("publish", &metadata),
            r#"{":authority":["127.0.0.1:30000"],"type":["publish"]}"#
        );
    }

    #[test]
    fn w79_types_are_those_of_the_plugin() {
        let types: Vec<&str> = EventKind::ALL.into_iter().filter_map(type_of).collect();
        let mut sorted = types.clone();
        sorted.sort_unstable();
        assert_eq!(
            sorted,
            [
                "connect",
                "mappublish",
                "mapremove",
                "notifycacheempty",
                "notifychannelstate",
                "publish",
                "refresh",
                "rpc",
                "sharedpollrefresh",
                "subrefresh",
                "subscribe"
            ]
        );
        assert_eq!(type_of(EventKind::Stream), None);
    }

    #[test]
    fn values_that_are_bytes_are_decoded_as_grpc_says() {
        let metadata = metadata(&[("x-id-bin", "aGk="), ("y-id-bin", "aGk"), ("z-bin", "?")]);
        let text = text("rpc", &metadata);
        assert!(
            text.contains(r#""x-id-bin":["hi"],"y-id-bin":["hi"],"z-bin":["?"]"#),
            "{text}"
        );
    }
}
