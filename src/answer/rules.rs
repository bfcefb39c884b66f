//! What may not leave: codes, reasons, `null`s, payload encodings and sizes.

use crate::event::EventKind;
use crate::proto::proxy;
use crate::reject::{Reject, RejectView, disconnect_code};
use crate::reply::Intent;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::de::IgnoredAny;
use std::borrow::Cow;
use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};
use tracing::warn;

/// The largest response or stream message that leaves, in bytes: what Centrifugo's gRPC client takes.
pub const MAX_REPLY_BYTES: usize = 4 * 1024 * 1024;

/// From this size on a client is closed by Centrifugo with 3008, at its default queue size.
const SLOW_REPLY_BYTES: usize = 1024 * 1024;

/// Longest reason that fits into a WebSocket close frame.
const MAX_REASON_BYTES: usize = 123;

/// Longest reason that Centrifugo's documentation allows.
const DOCUMENTED_REASON_BYTES: usize = 32;

/// By what a reply is judged: the client it goes to, and what its handler said in words.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rules {
    /// The client's protocol is JSON.
    pub(crate) json_client: bool,
    /// A connect result without a user is meant.
    pub(crate) anonymous: bool,
    /// A sub_refresh result that removes the expiry is meant.
    pub(crate) never_expires: bool,
    /// Payloads that are `null` are meant.
    pub(crate) null_payloads: bool,
}

impl Rules {
    pub(crate) const fn new(json_client: bool, intent: &Intent) -> Self {
        Self {
            json_client,
            anonymous: intent.anonymous,
            never_expires: intent.never_expires,
            null_payloads: intent.null_payloads,
        }
    }

    /// The same, with `null` taken for a value like any other.
    pub(crate) const fn with_null_payloads(self) -> Self {
        Self {
            null_payloads: true,
            ..self
        }
    }

    /// A payload in its two forms, of which Centrifugo takes one.
    pub(crate) fn payload(
        &self,
        name: &str,
        plain: &[u8],
        b64_name: &str,
        b64: &str,
    ) -> Result<(), String> {
        self.bytes(name, plain)?;
        if b64.is_empty() {
            return Ok(());
        }
        let decoded = STANDARD.decode(b64).map_err(|why| {
            format!("`{b64_name}` is not base64 ({why}); use the standard alphabet with padding")
        })?;
        self.bytes(b64_name, &decoded)
    }

    /// The same where Centrifugo prefers the plain form, so that the other would be lost.
    pub(crate) fn one_payload(
        &self,
        name: &str,
        plain: &[u8],
        b64_name: &str,
        b64: &str,
    ) -> Result<(), String> {
        if !plain.is_empty() && !b64.is_empty() {
            return Err(format!(
                "both `{name}` and `{b64_name}` are set; set one of them"
            ));
        }
        self.payload(name, plain, b64_name, b64)
    }

    fn bytes(&self, name: &str, payload: &[u8]) -> Result<(), String> {
        if payload.is_empty() {
            return Ok(());
        }
        if !self.null_payloads && payload.trim_ascii() == b"null" {
            return Err(format!(
                "`{name}` is `null`; leave it out, or say `null_payloads()` if it is meant"
            ));
        }
        if self.json_client && !is_json(payload) {
            return Err(format!(
                "`{name}` is not JSON, and the client's protocol is JSON (Centrifugo would close \
                 it with 3506); send JSON"
            ));
        }
        Ok(())
    }

    /// Connection meta: a JSON object, whatever the client speaks.
    pub(crate) fn meta(&self, meta: &[u8]) -> Result<(), String> {
        let object = meta.trim_ascii_start().first() == Some(&b'{') && is_json(meta);
        if meta.is_empty() || object {
            return Ok(());
        }
        Err("`meta` is not a JSON object; send an object or leave it out".to_owned())
    }
}

fn is_json(bytes: &[u8]) -> bool {
    std::str::from_utf8(bytes).is_ok_and(|text| serde_json::from_str::<IgnoredAny>(text).is_ok())
}

/// The rule of sizes, with a warning where Centrifugo would take a message and lose the client.
pub(crate) fn size(bytes: usize) -> Result<(), String> {
    if bytes > MAX_REPLY_BYTES {
        return Err(format!(
            "it has {bytes} bytes, and Centrifugo takes {MAX_REPLY_BYTES}; send less"
        ));
    }
    if bytes > SLOW_REPLY_BYTES && first_time(Topic::Size, 0) {
        warn!(
            bytes,
            "a reply above 1 MiB: Centrifugo may close the client as too slow (3008)"
        );
    }
    Ok(())
}

/// The rule of codes and reasons for a refusal.
pub(crate) fn reject(kind: EventKind, reject: &Reject) -> Result<(), String> {
    match reject.view() {
        RejectView::Error { code, .. } => error_code(code),
        RejectView::Disconnect { code, reason } => disconnect_parts(kind, code, reason),
        RejectView::Internal(_) => Ok(()),
    }
}

/// The rule of error codes.
pub(crate) fn error(error: &proxy::Error) -> Result<(), String> {
    error_code(error.code)
}

/// The rule of disconnect codes and reasons.
pub(crate) fn disconnect(kind: EventKind, disconnect: &proxy::Disconnect) -> Result<(), String> {
    disconnect_parts(kind, disconnect.code, &disconnect.reason)
}

fn error_code(code: u32) -> Result<(), String> {
    match code {
        100..=113 | 400..=1999 => Ok(()),
        _ => Err(format!(
            "error code {code} is not an application's; use 400 to 1999, or one of Centrifugo's \
             own (100 to 113)"
        )),
    }
}

fn disconnect_parts(kind: EventKind, code: u32, reason: &str) -> Result<(), String> {
    if !matches!(code, 4000..=4999) && !disconnect_code::is_known(code) {
        return Err(format!(
            "disconnect code {code} is not an application's; use 4000 to 4999 (from 4500 on \
             without reconnect)"
        ));
    }
    if reason.len() > MAX_REASON_BYTES {
        return Err(format!(
            "the disconnect reason has {} bytes, and more than {MAX_REASON_BYTES} lose the code; \
             shorten it",
            reason.len()
        ));
    }
    if let Some(doubt) = doubtful_reason(reason)
        && first_time(Topic::Reason, code)
    {
        warn!(event = %kind, code, "the disconnect reason {doubt}");
    }
    Ok(())
}

/// What is doubtful about a reason that may leave all the same.
fn doubtful_reason(reason: &str) -> Option<Cow<'static, str>> {
    if reason.len() > DOCUMENTED_REASON_BYTES || !reason.is_ascii() {
        return Some(Cow::Owned(format!(
            "should have at most {DOCUMENTED_REASON_BYTES} ASCII bytes"
        )));
    }
    let json = !reason.is_empty() && is_json(reason.as_bytes());
    json.then_some(Cow::Borrowed(
        "reads as JSON, and the JS SDK loses such reasons",
    ))
}

/// What is warned about once per code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Topic {
    Size,
    Reason,
}

/// Whether this is the first time for a topic and a code that may leave, of which there are few.
fn first_time(topic: Topic, code: u32) -> bool {
    static SEEN: Mutex<BTreeSet<(Topic, u32)>> = Mutex::new(BTreeSet::new());
    let mut seen = SEEN.lock().unwrap_or_else(PoisonError::into_inner);
    seen.insert((topic, code))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn warnings_come_once_per_code() {
        assert!(first_time(Topic::Reason, 4990));
        assert!(!first_time(Topic::Reason, 4990));
        assert!(first_time(Topic::Reason, 4991));
    }

    #[test]
    fn reasons_that_sdks_lose_are_doubtful() {
        assert_eq!(doubtful_reason("go away"), None);
        assert_eq!(doubtful_reason(""), None);
        assert_eq!(doubtful_reason(&"x".repeat(32)), None);
        assert!(doubtful_reason(&"x".repeat(33)).is_some());
        assert!(doubtful_reason("verlaß uns").is_some());
        assert!(doubtful_reason("{}").is_some());
    }

    #[test]
    fn json_is_judged_as_centrifugo_judges_it() {
        for good in ["{}", " 1 ", "\"\\ud800\"", "[null]", "1e400", "\n[1,\n2]"] {
            assert!(is_json(good.as_bytes()), "{good}");
        }
        for bad in [
            &b"hello"[..],
            b"{} {}",
            b"\"\xff\"",
            b"{\"a\":}",
            b"01",
            b"\"\n\"",
        ] {
            assert!(!is_json(bad), "{bad:?}");
        }
        let deep = [vec![b'['; 5000], vec![b']'; 5000]].concat();
        assert!(is_json(&deep), "depth is the client's business");
    }
}
