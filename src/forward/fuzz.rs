//! What must hold for any bytes of a peer: the body of a fuzz target and of property tests.

#![allow(clippy::expect_used, reason = "a broken promise has to stop the run")]

use super::message::{self, EventMessage, ExplainedMessage, OutcomeMessage};
use super::outcome;
use crate::answer;
use crate::envelope::Envelope;
use crate::event::EventKind;
use crate::outcome::Outcome;
use crate::trace::TraceContext;
use bytes::Bytes;
use http::uri::Authority;
use prost::Message;
use tokio::time::Instant;

/// Reads the bytes as every message that crosses between nodes, and does with it what its receiver
/// does before anything runs.
pub(crate) fn peer_messages(bytes: &[u8]) {
    let bytes = Bytes::copy_from_slice(bytes);
    if let Ok(event) = EventMessage::decode(bytes.clone()) {
        event_message(event);
    }
    for kind in EventKind::ALL {
        let read = outcome::decode(kind, bytes.clone());
        if OutcomeMessage::decode(bytes.clone()).is_err() {
            assert!(matches!(read, Outcome::Failure(_)), "{kind}: {read:?}");
        }
        let again = outcome::decode(kind, outcome::encode(&read));
        assert_eq!(
            answer::client_code(kind, &read),
            answer::client_code(kind, &again),
            "{kind}"
        );
        answer::answer(kind, true, read);
    }
    if let Some(why) = message::decode_not_here(bytes.clone()) {
        let again = message::decode_not_here(message::encode_not_here(&why));
        assert_eq!(again, Some(why));
    }
    if let Ok(said) = ExplainedMessage::decode(bytes) {
        assert_eq!(
            ExplainedMessage::decode(said.encode_to_vec().as_slice()),
            Ok(said)
        );
    }
}

fn event_message(mut event: EventMessage) {
    let copy = EventMessage::decode(event.encode_to_vec().as_slice());
    assert_eq!(copy.as_ref(), Ok(&event));
    let Ok(metadata) = message::headers(std::mem::take(&mut event.metadata)) else {
        return;
    };
    let again = EventMessage::decode(event.encode_with(&metadata));
    let again = again.expect("what is written can be read");
    assert_eq!(message::headers(again.metadata).as_ref(), Ok(&metadata));
    let state = Some(event.tracestate.as_str()).filter(|state| !state.is_empty());
    TraceContext::parse(&event.traceparent, state);
    // Either answer is fine, as long as there is one.
    drop(event.authority.parse::<Authority>());
    match message::kind_of(event.kind) {
        Some(EventKind::Raw) => {
            Envelope::unknown_method(&event.method, event.raw, metadata, Instant::now());
        }
        Some(kind) => {
            let (envelope, _) = Envelope::scanned(kind, event.raw, metadata, Instant::now());
            let (subject, method) = (envelope.subject(), envelope.method());
            assert!(subject.len() + method.len() < usize::MAX, "both are there");
        }
        None => {}
    }
}
