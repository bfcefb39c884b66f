//! What is checked of a call before it is sent: payloads, users, and calls that would wait for
//! themselves.

use super::error::Refusal;
use super::job::LaneKeys;
use crate::proto::api;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde::de::IgnoredAny;
use std::sync::Arc;

/// What a publisher allows, and from inside of which event it is used.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rules<'a> {
    /// Payloads may be anything.
    pub(super) binary: bool,
    /// An empty user means anonymous connections.
    pub(super) anonymous: bool,
    /// The subscribe whose handler calls.
    pub(super) inside: Option<&'a Inside>,
}

/// The subscribe whose handler calls.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Inside {
    pub(super) client: String,
    pub(super) user: String,
    pub(super) channel: String,
}

/// A request that may be refused before it is sent.
pub(super) trait Ruled {
    /// Checks the request.
    fn check(&self, _: &Rules<'_>) -> Result<(), Refusal> {
        Ok(())
    }

    /// Whose order it keeps.
    fn lanes(&self) -> LaneKeys {
        LaneKeys::None
    }

    /// Its idempotency key, if the method has one.
    fn key(&mut self) -> Option<&mut String> {
        None
    }
}

impl Rules<'_> {
    fn payload(&self, field: &'static str, bytes: &Bytes) -> Result<(), Refusal> {
        if self.binary || bytes.is_empty() || is_json(bytes) {
            Ok(())
        } else {
            Err(Refusal::NotJson { field })
        }
    }

    /// A payload that base64 may stand for, and then wins.
    fn either(
        &self,
        (field, bytes): (&'static str, &Bytes),
        (b64field, base64): (&'static str, &str),
    ) -> Result<(), Refusal> {
        if base64.is_empty() {
            return self.payload(field, bytes);
        }
        let decoded = STANDARD.decode(base64);
        let decoded = decoded.map_err(|_| Refusal::NotBase64 { field: b64field })?;
        self.payload(b64field, &decoded.into())
    }

    /// A publication has to have data, unless namespaces take anything.
    fn publication(&self, data: &Bytes, base64: &str) -> Result<(), Refusal> {
        if !self.binary && data.is_empty() && base64.is_empty() {
            return Err(Refusal::NotJson { field: "data" });
        }
        self.either(("data", data), ("b64data", base64))
    }

    fn user(&self, user: &str, is_for_others: bool) -> Result<(), Refusal> {
        if self.anonymous || is_for_others || !user.is_empty() {
            Ok(())
        } else {
            Err(Refusal::AnonymousUser)
        }
    }
}

fn is_json(bytes: &[u8]) -> bool {
    std::str::from_utf8(bytes).is_ok_and(|text| serde_json::from_str::<IgnoredAny>(text).is_ok())
}

impl Ruled for api::PublishRequest {
    fn check(&self, rules: &Rules<'_>) -> Result<(), Refusal> {
        rules.publication(&self.data, &self.b64data)
    }

    fn lanes(&self) -> LaneKeys {
        LaneKeys::of(&self.channel)
    }

    fn key(&mut self) -> Option<&mut String> {
        Some(&mut self.idempotency_key)
    }
}

impl Ruled for api::BroadcastRequest {
    fn check(&self, rules: &Rules<'_>) -> Result<(), Refusal> {
        rules.publication(&self.data, &self.b64data)
    }

    fn lanes(&self) -> LaneKeys {
        LaneKeys::of_all(self.channels.iter().map(String::as_str))
    }

    fn key(&mut self) -> Option<&mut String> {
        Some(&mut self.idempotency_key)
    }
}

impl Ruled for api::MapPublishRequest {
    fn check(&self, rules: &Rules<'_>) -> Result<(), Refusal> {
        rules.either(("data", &self.data), ("b64data", &self.b64data))?;
        rules.either(
            ("stream_data", &self.stream_data),
            ("b64stream_data", &self.b64stream_data),
        )
    }

    fn lanes(&self) -> LaneKeys {
        LaneKeys::of(&self.channel)
    }

    fn key(&mut self) -> Option<&mut String> {
        Some(&mut self.idempotency_key)
    }
}

impl Ruled for api::MapRemoveRequest {
    fn lanes(&self) -> LaneKeys {
        LaneKeys::of(&self.channel)
    }

    fn key(&mut self) -> Option<&mut String> {
        Some(&mut self.idempotency_key)
    }
}

impl Ruled for api::SharedPollPublishRequest {
    fn check(&self, rules: &Rules<'_>) -> Result<(), Refusal> {
        rules.either(("data", &self.data), ("b64data", &self.b64data))
    }

    fn lanes(&self) -> LaneKeys {
        LaneKeys::of(&self.channel)
    }
}

impl Ruled for api::SubscribeRequest {
    fn check(&self, rules: &Rules<'_>) -> Result<(), Refusal> {
        rules.user(&self.user, self.all_users)?;
        rules.either(("data", &self.data), ("b64data", &self.b64data))?;
        rules.either(("info", &self.info), ("b64info", &self.b64info))
    }
}

impl Ruled for api::UnsubscribeRequest {
    fn check(&self, rules: &Rules<'_>) -> Result<(), Refusal> {
        rules.user(&self.user, self.all_users)?;
        match rules.inside {
            Some(inside) if inside.is_hit_by(self) => Err(Refusal::OwnSubscribe {
                channel: inside.channel.clone(),
            }),
            _ => Ok(()),
        }
    }
}

impl Inside {
    /// Whether an unsubscribe is for the subscription that is being made. A session can't be told
    /// from ours, and counts as ours.
    fn is_hit_by(&self, request: &api::UnsubscribeRequest) -> bool {
        let client = request.client.is_empty() || request.client == self.client;
        let user = request.all_users || request.user == self.user;
        client && user && request.channel == self.channel
    }

    /// The subscribe that a handler works on, if it is one.
    pub(super) fn of(cx: &crate::Cx) -> Option<Arc<Self>> {
        use crate::EventKind::{Stream, StreamBidirectional, Subscribe};
        matches!(cx.kind(), Subscribe | Stream | StreamBidirectional).then(|| {
            Arc::new(Self {
                client: cx.client().to_owned(),
                user: cx.user().to_owned(),
                channel: cx.channel().to_owned(),
            })
        })
    }
}

impl Ruled for api::DisconnectRequest {
    fn check(&self, rules: &Rules<'_>) -> Result<(), Refusal> {
        rules.user(&self.user, self.all_users)
    }
}

impl Ruled for api::RefreshRequest {
    fn check(&self, rules: &Rules<'_>) -> Result<(), Refusal> {
        rules.user(&self.user, self.all_users)?;
        rules.payload("info", &self.info)
    }
}
