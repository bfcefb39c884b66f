//! `centrifuge.*`: Centrifugo's server API, passed on.

use super::{Codec, argument};
use crate::egress::{Error, Publisher, Refusal};
use crate::proto::api;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use prost::Message;
use serde::de::DeserializeOwned;

/// Names of gRPC statuses by their number.
const STATUSES: [&str; 17] = [
    "OK",
    "Canceled",
    "Unknown",
    "InvalidArgument",
    "DeadlineExceeded",
    "NotFound",
    "AlreadyExists",
    "PermissionDenied",
    "ResourceExhausted",
    "FailedPrecondition",
    "Aborted",
    "OutOfRange",
    "Unimplemented",
    "Internal",
    "Unavailable",
    "DataLoss",
    "Unauthenticated",
];

/// One call; the method is written without `centrifuge.`.
pub(super) async fn call(
    publisher: &Publisher,
    method: &str,
    codec: Codec,
    body: Bytes,
) -> Result<Bytes, String> {
    match codec {
        Codec::Proto => forward(publisher, method, body).await,
        Codec::Json => json(publisher, method, &body).await,
        Codec::Raw => Err(argument::NO_BYTES.to_owned()),
        Codec::Msgpack | Codec::Gob => Err(argument::UNKNOWN_CODEC.to_owned()),
    }
}

/// Whether a method may exist: which ones do, Centrifugo knows. Names are capitalised.
pub(super) fn may_be(method: &str) -> bool {
    method.starts_with(|first: char| first.is_ascii_uppercase())
        && method.bytes().all(|byte| byte.is_ascii_alphanumeric())
}

/// The method that is meant: PHP's SDK before 2.4 sends the bytes of a disconnect as an unsubscribe.
/// They are told apart by the user, where a disconnect has its code and reason as a message of their
/// own, or nothing; an unsubscribe of the SDK always names one.
pub(super) fn meant<'m>(method: &'m str, body: &[u8]) -> &'m str {
    if method != "Unsubscribe" {
        return method;
    }
    let as_sent = api::UnsubscribeRequest::decode(body);
    let is_user = as_sent.is_ok_and(|it| {
        let first = it.user.bytes().next();
        // The keys of a code and of a reason.
        first.is_some_and(|first| first != 0x08 && first != 0x12)
    });
    let disconnect = api::DisconnectRequest::decode(body);
    match disconnect.is_ok_and(|it| !it.user.is_empty()) && !is_user {
        true => "Disconnect",
        false => method,
    }
}

async fn forward(publisher: &Publisher, method: &str, body: Bytes) -> Result<Bytes, String> {
    publisher
        .forward(method, body)
        .await
        .map_err(|why| text(method, &why))
}

/// The error of a call in the words of gRPC's Go client.
fn text(method: &str, why: &Error) -> String {
    let status = |number: usize, text: String| {
        let name = STATUSES.get(number).copied().unwrap_or("Unknown");
        format!("rpc error: code = {name} desc = {text}")
    };
    match why {
        Error::Refused {
            refusal: Refusal::Malformed(_),
            ..
        } => argument::MALFORMED.to_owned(),
        Error::Refused { .. } => status(8, why.to_string()),
        Error::Unsupported { .. } => status(12, format!("method {method} not implemented")),
        Error::Unauthenticated => status(16, why.to_string()),
        Error::Timeout { .. } => status(4, "context deadline exceeded".to_owned()),
        Error::Overloaded { .. } => status(8, why.to_string()),
        Error::Status {
            status: number,
            message,
            ..
        } => status(usize::try_from(*number).unwrap_or(2), message.clone()),
        other => status(14, other.to_string()),
    }
}

/// The methods that PHP's SDK has, as JSON; payloads, in brackets, are base64, as Go writes bytes.
async fn json(publisher: &Publisher, method: &str, body: &[u8]) -> Result<Bytes, String> {
    macro_rules! by_name {
        ($($name:literal: $request:ident [$($payload:ident),*] -> $response:ident $(, $show:ident)?;)*) => {
            match method {
                $($name => {
                    #[allow(unused_mut, reason = "some have no payloads")]
                    let mut request: api::$request = read(body)?;
                    $(request.$payload = plain(stringify!($payload), &request.$payload)?;)*
                    let bytes = request.encode_to_vec().into();
                    let response = forward(publisher, method, bytes).await?;
                    let response = api::$response::decode(response).map_err(|why| why.to_string())?;
                    $(let response = $show(response);)?
                    let text = serde_json::to_vec(&response).map_err(|why| why.to_string())?;
                    Ok(text.into())
                })*
                _ => Err(format!(
                    "centrifuge.{method} is not spoken as JSON; call it by the protobuf codec"
                )),
            }
        };
    }
    by_name! {
        "Publish": PublishRequest [data] -> PublishResponse;
        "Broadcast": BroadcastRequest [data] -> BroadcastResponse;
        "Subscribe": SubscribeRequest [info, data] -> SubscribeResponse;
        "Unsubscribe": UnsubscribeRequest [] -> UnsubscribeResponse;
        "Disconnect": DisconnectRequest [] -> DisconnectResponse;
        "Refresh": RefreshRequest [info] -> RefreshResponse;
        "Presence": PresenceRequest [] -> PresenceResponse, shown;
        "PresenceStats": PresenceStatsRequest [] -> PresenceStatsResponse;
        "Channels": ChannelsRequest [] -> ChannelsResponse;
        "BlockUser": BlockUserRequest [] -> BlockUserResponse;
        "UnblockUser": UnblockUserRequest [] -> UnblockUserResponse;
    }
}

/// A request; its payloads are the JSON values that stand there.
fn read<R: DeserializeOwned>(body: &[u8]) -> Result<R, String> {
    serde_json::from_slice(body).map_err(|why| wrong(&why))
}

fn wrong(why: &dyn std::fmt::Display) -> String {
    format!("goridge_read_request_body: json: {why}")
}

/// The bytes that a payload's value stands for: a text in base64, or `null` for none. They may be
/// anything: Centrifugo's API has bytes there, and clients of its binary protocol take them.
fn plain(name: &str, value: &Bytes) -> Result<Bytes, String> {
    if value.is_empty() {
        return Ok(Bytes::new());
    }
    let illegal = |why: &dyn std::fmt::Display| {
        wrong(&format_args!(
            "{name}: {why}; it must be its bytes in base64"
        ))
    };
    let text: Option<String> = serde_json::from_slice(value).map_err(|why| illegal(&why))?;
    let bytes = STANDARD.decode(text.unwrap_or_default());
    bytes.map(Bytes::from).map_err(|why| illegal(&why))
}

/// A response whose payloads have become texts in base64, whatever they hold.
fn shown(mut response: api::PresenceResponse) -> api::PresenceResponse {
    let text = |bytes: &mut Bytes| {
        if !bytes.is_empty() {
            // Nothing of base64 has to be escaped.
            *bytes = format!("\"{}\"", STANDARD.encode(&*bytes)).into();
        }
    };
    let clients = response.result.iter_mut();
    for client in clients.flat_map(|it| it.presence.values_mut()) {
        text(&mut client.conn_info);
        text(&mut client.chan_info);
    }
    response
}
