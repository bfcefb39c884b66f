//! The gate: a reply is checked, encoded once and kept; raw responses are checked as they are.

use super::rules::{self, Rules};
use crate::event::{Event, EventKind, Gated, Parts, Subscribe, with_event};
use crate::outcome::Failure;
use crate::proto::proxy;
use crate::reply::{FirstMessage, Intent, Reply, ReplyMessage, StreamOpen};
use bytes::{BufMut, Bytes, BytesMut};
use prost::encoding::{
    DecodeContext, decode_key, decode_varint, encode_varint, encoded_len_varint, skip_field,
};
use prost::{DecodeError, Message};

/// A field of every response, by its number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Part {
    Result = 1,
    Error = 2,
    Disconnect = 3,
}

/// Checks everything that may not leave, encodes the response message and keeps it with the reply.
/// A reply that has not changed since is answered with the same bytes. On streams the message is the
/// first one. Of a raw response that carries several of result, error and disconnect only the one
/// that Centrifugo heeds is kept; otherwise its bytes stay as they are, unknown fields too.
///
/// `json_client` says that the protocol of the client is JSON; it is false where there is no client.
///
/// # Errors
/// [`Failure::BadReply`] names the field, the rule and the fix.
pub fn seal(kind: EventKind, json_client: bool, reply: &mut Reply) -> Result<Bytes, Failure> {
    if let Some(sealed) = reply.sealed() {
        return Ok(sealed.clone());
    }
    let response = checked(kind, json_client, reply)?;
    reply.seal_with(response.clone());
    Ok(response)
}

/// [`seal`] for who needs the bytes later: they stay with the reply, as the only copy.
pub(super) fn close(kind: EventKind, json_client: bool, reply: &mut Reply) -> Result<(), Failure> {
    if reply.sealed().is_none() {
        let response = checked(kind, json_client, reply)?;
        reply.seal_with(response);
    }
    Ok(())
}

/// [`seal`] for the last who needs the reply.
pub(super) fn take(kind: EventKind, json_client: bool, mut reply: Reply) -> Result<Bytes, Failure> {
    match reply.take_sealed() {
        Some(sealed) => Ok(sealed),
        None => checked(kind, json_client, &reply),
    }
}

fn checked(kind: EventKind, json_client: bool, reply: &Reply) -> Result<Bytes, Failure> {
    let checked = with_event!(kind, E => check::<E>(json_client, reply));
    checked.map_err(Failure::BadReply)
}

fn check<E: Gated>(json_client: bool, reply: &Reply) -> Result<Bytes, String> {
    let intent = reply.intent();
    if let Some(flaw) = &intent.flaw {
        return Err(flaw.clone().into());
    }
    let rules = Rules::new(json_client, intent);
    let response = match reply.message() {
        ReplyMessage::Empty if E::KIND.is_stream() => framed(1, &[]),
        ReplyMessage::Empty => Bytes::new(),
        ReplyMessage::Raw(response) => {
            rules::size(response.len())?;
            match intent.untouched {
                true => decoded::<E>(response).map(|_| response.clone())?,
                false => raw::<E>(response, &rules)?,
            }
        }
        message => {
            let result = E::result(message)
                .ok_or_else(|| format!("it is not the result of a {} event", E::KIND))?;
            E::check(result, &rules)?;
            response_of(E::KIND, Part::Result, result)?
        }
    };
    rules::size(response.len())?;
    Ok(response)
}

/// What Centrifugo or an SDK would mishandle in an answer that crosses as it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Flaw {
    /// The code of the answer's error or disconnect; 0 without one.
    pub(super) code: u32,
    /// The rule, and behind a semicolon the cure.
    pub(super) text: String,
}

/// The reply of an application that speaks the contract itself: its bytes leave as they are, once they
/// decode as the event's response; what is doubtful about it comes beside.
///
/// # Errors
/// It is not the response of such an event, or too big for Centrifugo.
pub(super) fn foreign(
    kind: EventKind,
    json_client: bool,
    response: Bytes,
) -> Result<(Reply, Option<Flaw>), String> {
    rules::size(response.len())?;
    let flaw = with_event!(kind, E => doubt::<E>(json_client, &response))?;
    let intent = Intent {
        untouched: true,
        ..Intent::default()
    };
    let mut reply = Reply::with_intent(ReplyMessage::Raw(response.clone()), intent);
    reply.seal_with(response);
    Ok((reply, flaw))
}

/// What is doubtful about an encoded message of an open stream that crosses as it is.
///
/// # Errors
/// It is no such message, or too big for Centrifugo.
pub(super) fn foreign_publication(
    json_client: bool,
    message: &Bytes,
) -> Result<Option<String>, String> {
    rules::size(message.len())?;
    let message = proxy::StreamSubscribeResponse::decode(message.clone())
        .map_err(|why| format!("a message of a stream can't be read: {why}"))?;
    let Some(publication) = message.publication else {
        let text = "a message of an open stream has no publication, and does nothing; leave it out";
        return Ok(Some(text.to_owned()));
    };
    let rules = Rules::new(json_client, &Intent::default()).with_null_payloads();
    let checked = rules.payload("data", &publication.data, "", "");
    Ok(checked.err().map(|why| format!("publication: {why}")))
}

fn doubt<E: Gated>(json_client: bool, response: &Bytes) -> Result<Option<Flaw>, String> {
    let rules = Rules::new(json_client, &Intent::default());
    let mut code = 0;
    let parts = match E::parts(decoded::<E>(response)?) {
        Ok(parts) => parts,
        Err(text) => return Ok(Some(Flaw { code, text })),
    };
    if let Some(disconnect) = &parts.disconnect {
        code = disconnect.code;
    } else if let Some(error) = &parts.error {
        code = error.code;
    }
    if parts.result.is_none() && parts.error.is_none() && parts.disconnect.is_none() {
        let text = "it has neither result nor error nor disconnect, which Centrifugo reads as \
                    allowed for most events, as refused for connect and as expired for refresh; \
                    answer with one of them";
        let text = text.to_owned();
        return Ok(Some(Flaw { code, text }));
    }
    let several = several(&parts);
    Ok(match heeded::<E>(parts, &rules) {
        Err(text) => Some(Flaw { code, text }),
        Ok(part) if several => {
            let text = format!(
                "it has several of result, error and disconnect, of which Centrifugo heeds the \
                 {part:?}; answer with one"
            );
            Some(Flaw { code, text })
        }
        Ok(_) => None,
    })
}

fn decoded<E: Gated>(response: &Bytes) -> Result<<E as Event>::Response, String> {
    <E as Event>::Response::decode(response.clone()).map_err(|why| {
        format!(
            "the raw response is not the response of a {}: {why}",
            E::KIND
        )
    })
}

/// Checks an encoded response, and keeps of it what Centrifugo heeds.
fn raw<E: Gated>(response: &Bytes, rules: &Rules) -> Result<Bytes, String> {
    if E::KIND == EventKind::Raw {
        return Ok(response.clone());
    }
    let parts = E::parts(decoded::<E>(response)?)?;
    let several = several(&parts);
    let heeded = heeded::<E>(parts, rules)?;
    if several {
        return keep(response, heeded, E::KIND.is_stream())
            .map_err(|why| format!("the raw response can't be read: {why}"));
    }
    Ok(response.clone())
}

fn several<R>(parts: &Parts<R>) -> bool {
    let Parts {
        result,
        error,
        disconnect,
    } = parts;
    u8::from(result.is_some()) + u8::from(error.is_some()) + u8::from(disconnect.is_some()) > 1
}

/// The part that Centrifugo heeds, if it may leave.
fn heeded<E: Gated>(parts: Parts<E::Result>, rules: &Rules) -> Result<Part, String> {
    let Parts {
        result,
        error,
        disconnect,
    } = parts;
    if E::KIND.is_refresh() && (error.is_some() || disconnect.is_some()) {
        return Err(format!(
            "the raw response carries an error or a disconnect, which Centrifugo ignores for {}; \
             answer `expired: true`",
            E::KIND
        ));
    }
    Ok(match (result, error, disconnect) {
        (_, _, Some(disconnect)) => {
            rules::disconnect(E::KIND, &disconnect)?;
            Part::Disconnect
        }
        (_, Some(error), None) => {
            rules::error(&error)?;
            Part::Error
        }
        (Some(result), None, None) => {
            E::check(&result, rules)?;
            Part::Result
        }
        (None, None, None) => {
            return Err(
                "the raw response has neither result nor error nor disconnect; say \
                        `Reply::empty()` if that is meant"
                    .to_owned(),
            );
        }
    })
}

/// The response with one part and every field that is none; on streams inside `subscribe_response`.
fn keep(response: &[u8], part: Part, stream: bool) -> Result<Bytes, DecodeError> {
    let mut kept = BytesMut::with_capacity(response.len());
    let mut rest = response;
    while !rest.is_empty() {
        let field = rest;
        let (tag, wire_type) = decode_key(&mut rest)?;
        let mut value = rest;
        skip_field(wire_type, tag, &mut rest, DecodeContext::default())?;
        let whole = field.len() - rest.len();
        if stream && tag == 1 {
            decode_varint(&mut value)?;
            let inner = value.len() - rest.len();
            kept.put_slice(&framed(1, &keep(&value[..inner], part, false)?));
        } else if stream || !(1..=3).contains(&tag) || tag == part as u32 {
            kept.put_slice(&field[..whole]);
        }
    }
    Ok(kept.freeze())
}

/// Whether the encoded first message of a stream accepts it.
pub(crate) fn accepts(first: &Bytes) -> bool {
    let inner = proxy::StreamSubscribeResponse::decode(first.clone())
        .ok()
        .and_then(|message| message.subscribe_response);
    inner.is_some_and(|inner| inner.error.is_none() && inner.disconnect.is_none())
}

/// The first message of an accepted stream.
///
/// # Errors
/// [`Failure::BadReply`] as for [`seal`].
pub fn stream_first(json_client: bool, open: &StreamOpen) -> Result<Bytes, Failure> {
    let first = match &open.first {
        FirstMessage::Result(first) => first,
        FirstMessage::Encoded(first) => return Ok(first.clone()),
    };
    // Whether a `null` was meant has been asked when the stream was built.
    let rules = Rules::new(json_client, &Intent::default()).with_null_payloads();
    Subscribe::check(first, &rules)
        .and_then(|()| response_of(EventKind::Stream, Part::Result, first.as_ref()))
        .map_err(Failure::BadReply)
}

/// A message of an open stream with one publication.
///
/// # Errors
/// [`Failure::BadReply`] if the client's protocol is JSON and the data is not (Centrifugo would close
/// the client with 3506), or if the message is too big.
pub fn stream_publication(
    json_client: bool,
    publication: &proxy::Publication,
) -> Result<Bytes, Failure> {
    let rules = Rules::new(json_client, &Intent::default()).with_null_payloads();
    let message = rules
        .payload("data", &publication.data, "", "")
        .and_then(|()| {
            let length = publication.encoded_len();
            rules::size(length.saturating_add(8))?;
            let mut message = BytesMut::with_capacity(length + 8);
            put(&mut message, 2, publication);
            Ok(message.freeze())
        });
    message.map_err(|why| Failure::BadReply(format!("publication: {why}")))
}

/// The response with this part, if it is small enough to leave.
fn response_of<M: Message>(kind: EventKind, part: Part, message: &M) -> Result<Bytes, String> {
    // Before the copy: nothing of a size that can't leave is encoded.
    rules::size(message.encoded_len())?;
    let response = response(kind, part, message);
    rules::size(response.len())?;
    Ok(response)
}

/// The response with this part; of a stream, its first message.
pub(super) fn response<M: Message>(kind: EventKind, part: Part, message: &M) -> Bytes {
    // As long as it will be: what has room left over is kept by a counter of its own.
    let length = message.encoded_len();
    let mut response = BytesMut::with_capacity(1 + encoded_len_varint(length as u64) + length);
    put(&mut response, part as u8, message);
    match kind.is_stream() {
        true => framed(1, &response),
        false => response.freeze(),
    }
}

/// Appends a message field.
fn put<M: Message>(buf: &mut BytesMut, tag: u8, message: &M) {
    buf.put_u8(key(tag));
    encode_varint(message.encoded_len() as u64, buf);
    message.encode_raw(buf);
}

/// A message with one field, which holds an encoded message.
fn framed(tag: u8, inner: &[u8]) -> Bytes {
    let mut framed = BytesMut::with_capacity(inner.len() + 8);
    framed.put_u8(key(tag));
    encode_varint(inner.len() as u64, &mut framed);
    framed.put_slice(inner);
    framed.freeze()
}

/// The key of a length-delimited field with a small number.
const fn key(tag: u8) -> u8 {
    tag << 3 | 2
}
