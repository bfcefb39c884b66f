//! The one envelope that carries every event: the raw request, its metadata and its deadline.
//!
//! The request's bytes are kept as they came and scanned once for the fields that routing needs;
//! the typed message is decoded on demand. So payloads and unknown fields reach the handler
//! untouched. A typed edit ([`Envelope::edit`]) re-encodes the message and drops what it does not
//! know.

mod fields;

pub(crate) use fields::scan_agrees_with_decoder;
pub use fields::{Field, ScanError};

use crate::event::{Event, EventKind, Subject};
use base64::Engine as _;
use bytes::Bytes;
use fields::Fields;
use http::HeaderMap;
use prost::Message;
use std::fmt;
use tokio::time::Instant;

/// One event on its way from a frontend to its handler. Its `Debug` shows no message and no
/// metadata, which may hold secrets.
pub struct Envelope {
    kind: EventKind,
    raw: Bytes,
    fields: Fields,
    metadata: HeaderMap,
    raw_method: Box<str>,
    deadline: Instant,
}

impl fmt::Debug for Envelope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Envelope")
            .field("kind", &self.kind)
            .field("subject", &self.subject())
            .field("bytes", &self.raw.len())
            .finish_non_exhaustive()
    }
}

impl Envelope {
    /// Wraps a request message. `metadata` is what came with the call, without the listener's own
    /// credential.
    ///
    /// # Errors
    /// The bytes are not the message of this kind; strings must be UTF-8.
    pub fn try_new(
        kind: EventKind,
        raw: Bytes,
        metadata: HeaderMap,
        deadline: Instant,
    ) -> Result<Self, ScanError> {
        let (envelope, wrong) = Self::scanned(kind, raw, metadata, deadline);
        wrong.map_or(Ok(envelope), Err)
    }

    /// The same for bytes that may not be the message of `kind`: stages see the failure pass by, with
    /// every field empty.
    #[inline]
    pub(crate) fn scanned(
        kind: EventKind,
        raw: Bytes,
        metadata: HeaderMap,
        deadline: Instant,
    ) -> (Self, Option<ScanError>) {
        let (fields, wrong) = match Fields::scan(kind, &raw) {
            Ok(fields) => (fields, None),
            Err(wrong) => (Fields::default(), Some(wrong)),
        };
        let envelope = Self {
            kind,
            raw,
            fields,
            metadata,
            raw_method: Box::default(),
            deadline,
        };
        (envelope, wrong)
    }

    /// The same for a method that is none of the thirteen; nothing of its bytes is looked at.
    pub fn unknown_method(
        method: &str,
        raw: Bytes,
        metadata: HeaderMap,
        deadline: Instant,
    ) -> Self {
        let fields = Fields::default();
        Self {
            kind: EventKind::Raw,
            raw,
            fields,
            metadata,
            raw_method: method.into(),
            deadline,
        }
    }

    /// The kind of event.
    pub const fn kind(&self) -> EventKind {
        self.kind
    }

    /// The request message as it came. For `stream_bidirectional` it is the subscribe request of
    /// the first message.
    pub const fn raw(&self) -> &Bytes {
        &self.raw
    }

    /// gRPC metadata: names in lower case, repeated values kept. What clients can set here depends
    /// on the header lists of the Centrifugo configuration.
    pub const fn metadata(&self) -> &HeaderMap {
        &self.metadata
    }

    /// First value of a metadata entry, if it is visible ASCII.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.metadata.get(name)?.to_str().ok()
    }

    /// The same envelope with another deadline.
    #[must_use]
    #[inline]
    pub(crate) const fn due(mut self, deadline: Instant) -> Self {
        self.deadline = deadline;
        self
    }

    /// When the answer is due.
    pub const fn deadline(&self) -> Instant {
        self.deadline
    }

    /// Id of the client connection; empty for events without one.
    pub fn client(&self) -> &str {
        self.text(Field::Client)
    }

    /// User id as authenticated at connect; empty for anonymous users and before connect.
    pub fn user(&self) -> &str {
        self.text(Field::User)
    }

    /// Transport of the client, such as `websocket`.
    pub fn transport(&self) -> &str {
        self.text(Field::Transport)
    }

    /// What the client speaks: `json` or `protobuf`.
    pub fn protocol(&self) -> &str {
        self.text(Field::Protocol)
    }

    /// How the proxy sends payloads: `json`, or `binary` for base64.
    pub fn encoding(&self) -> &str {
        self.text(Field::Encoding)
    }

    /// Full channel name; empty for events without one.
    pub fn channel(&self) -> &str {
        if self.kind.subject() == Subject::Channel {
            self.text(Field::Subject)
        } else {
            ""
        }
    }

    /// The rpc method, may be empty; for raw events the name of the gRPC method.
    pub fn method(&self) -> &str {
        match self.kind {
            EventKind::Rpc => self.text(Field::Subject),
            EventKind::Raw => &self.raw_method,
            _ => "",
        }
    }

    /// What routes match: channel or method.
    pub fn subject(&self) -> &str {
        match self.kind.subject() {
            Subject::Channel => self.channel(),
            Subject::Method => self.method(),
            Subject::Nothing => "",
        }
    }

    /// Whether the payloads of replies must be JSON: Centrifugo cuts a JSON client off otherwise.
    pub fn is_json_client(&self) -> bool {
        self.protocol() == "json"
    }

    /// The client's payload; base64 of the binary mode is decoded. `None` if there is none.
    ///
    /// # Errors
    /// The base64 of the binary mode is not padded standard base64.
    pub fn data(&self) -> Result<Option<Bytes>, base64::DecodeError> {
        let encoded = self.bytes(Field::B64Data);
        if encoded.is_empty() {
            let data = self.bytes(Field::Data);
            return Ok((!data.is_empty()).then_some(data));
        }
        let decoded = base64::engine::general_purpose::STANDARD.decode(&encoded)?;
        Ok(Some(decoded.into()))
    }

    /// Connection meta as JSON, if the proxy includes it.
    pub fn meta(&self) -> Option<Bytes> {
        let meta = self.bytes(Field::Meta);
        (!meta.is_empty()).then_some(meta)
    }

    /// Decodes the whole request.
    ///
    /// # Errors
    /// The event is of another kind, or (not after [`Envelope::try_new`]) the bytes are malformed.
    pub fn request<E: Event>(&self) -> Result<E::Request, prost::DecodeError> {
        E::Request::decode(self.raw.clone())
    }

    /// Replaces the request by an edited one; fields that the contract does not know are dropped.
    ///
    /// # Errors
    /// As for [`Envelope::try_new`].
    pub fn edit<E: Event>(&mut self, edit: impl FnOnce(&mut E::Request)) -> Result<(), ScanError> {
        if E::KIND != self.kind {
            return Err(ScanError::OtherKind {
                is: self.kind,
                asked: E::KIND,
            });
        }
        let mut request = self
            .request::<E>()
            .map_err(|why| ScanError::Malformed(why.to_string()))?;
        edit(&mut request);
        let raw = Bytes::from(request.encode_to_vec());
        self.fields = Fields::scan(self.kind, &raw)?;
        self.raw = raw;
        Ok(())
    }

    fn text(&self, field: Field) -> &str {
        std::str::from_utf8(self.fields.of(field, &self.raw)).unwrap_or_default()
    }

    fn bytes(&self, field: Field) -> Bytes {
        self.fields.slice(field, &self.raw)
    }
}

#[cfg(test)]
mod tests;
