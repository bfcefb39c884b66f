//! How calls end: gRPC statuses as they stand in headers and trailers, and everything else that is no
//! answer.

use crate::answer::code_name;
use base64::Engine;
use base64::alphabet::STANDARD as ALPHABET;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, StatusCode};
use std::error::Error as StdError;
use tonic::Code;

/// Base64 with or without padding, as gRPC has it in metadata.
const METADATA: GeneralPurpose = GeneralPurpose::new(
    &ALPHABET,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// A gRPC status that is not OK.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct GrpcStatus {
    /// Its number.
    pub(crate) code: i32,
    /// Its text.
    pub(crate) message: String,
    /// `grpc-status-details-bin`.
    pub(crate) details: Option<Bytes>,
}

impl GrpcStatus {
    /// Its name, as gRPC writes it.
    pub(crate) fn name(&self) -> &'static str {
        code_name(Code::from_i32(self.code))
    }
}

/// Why a call has no answer.
#[derive(Debug)]
pub(crate) enum CallError {
    /// Nothing has reached the server, since there is no connection that works.
    NotSent(String),
    /// The server has said that it did not look at it: it ends the connection in good order, or takes
    /// no more calls at once.
    Refused(String),
    /// It was on its way; nobody knows what became of it.
    Lost(String),
    /// Something came back that is no answer.
    Unreadable(String),
    /// The server said so.
    Status(GrpcStatus),
}

impl CallError {
    /// What hyper says of a call that had been handed to the connection.
    pub(super) fn of(error: &hyper::Error) -> Self {
        match is_refused(error) {
            true => Self::Refused(chain(error)),
            false => Self::Lost(chain(error)),
        }
    }
}

/// Whether there is a status among headers or trailers, OK too.
pub(super) fn has_status(headers: &HeaderMap) -> bool {
    headers.contains_key("grpc-status")
}

/// The gRPC status among headers or trailers, if there is one and it is not OK.
pub(super) fn status_of(headers: &HeaderMap) -> Option<GrpcStatus> {
    let text = |name: &str| headers.get(name).map(HeaderValue::as_bytes);
    let code = std::str::from_utf8(text("grpc-status")?).ok();
    let code = code.and_then(|code| code.parse().ok()).unwrap_or(2);
    if code == 0 {
        return None;
    }
    let details = text("grpc-status-details-bin").and_then(|bytes| METADATA.decode(bytes).ok());
    Some(GrpcStatus {
        code,
        message: percent_decoded(text("grpc-message").unwrap_or_default()),
        details: details.map(Bytes::from),
    })
}

/// What the head of a response says before any message: a failed call may have no body, and its
/// status in the headers.
pub(super) fn refusal(status: StatusCode, headers: &HeaderMap) -> Option<GrpcStatus> {
    let of_http = || (status != StatusCode::OK).then(|| of_http(status));
    status_of(headers).or_else(of_http)
}

fn percent_decoded(text: &[u8]) -> String {
    let mut plain = Vec::with_capacity(text.len());
    let mut at = 0;
    while let Some(byte) = text.get(at) {
        let code = text.get(at + 1..at + 3).filter(|_| *byte == b'%');
        let code = code.and_then(|code| std::str::from_utf8(code).ok());
        match code.and_then(|code| u8::from_str_radix(code, 16).ok()) {
            Some(decoded) => {
                plain.push(decoded);
                at += 3;
            }
            None => {
                plain.push(*byte);
                at += 1;
            }
        }
    }
    String::from_utf8_lossy(&plain).into_owned()
}

/// What an HTTP status without a gRPC one means: something else than the service answered.
fn of_http(status: StatusCode) -> GrpcStatus {
    let code = match status.as_u16() {
        400 => 13,
        401 => 16,
        403 => 7,
        404 => 12,
        429 | 502 | 503 | 504 => 14,
        _ => 2,
    };
    GrpcStatus {
        code,
        message: format!("HTTP status {status} without a gRPC status"),
        details: None,
    }
}

/// Whether the peer says that it has not looked at the request.
fn is_refused(error: &hyper::Error) -> bool {
    let mut cause = error.source();
    while let Some(why) = cause {
        if let Some(why) = why.downcast_ref::<h2::Error>() {
            let reason = why.reason();
            let goes = why.is_go_away() && why.is_remote();
            return reason == Some(h2::Reason::REFUSED_STREAM)
                || goes && reason == Some(h2::Reason::NO_ERROR);
        }
        cause = why.source();
    }
    false
}

/// An error with its causes.
pub(super) fn chain(error: &(dyn StdError + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(why) = cause {
        text = format!("{text}: {why}");
        cause = why.source();
    }
    text
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn messages_of_statuses_are_decoded() {
        assert_eq!(percent_decoded(b"a%20b%C3%BC%"), "a bü%");
        assert_eq!(percent_decoded(b"100%zz"), "100%zz");
    }

    #[test]
    fn a_status_of_trailers_comes_with_its_details_padded_or_not() {
        let mut headers = HeaderMap::new();
        assert_eq!(status_of(&headers), None);
        headers.insert("grpc-status", "0".parse().unwrap());
        assert_eq!(status_of(&headers), None);
        headers.insert("grpc-status", "5".parse().unwrap());
        for details in ["YWI", "YWI="] {
            headers.insert("grpc-status-details-bin", details.parse().unwrap());
            let status = status_of(&headers).unwrap();
            assert_eq!((status.code, status.details), (5, Some("ab".into())));
        }
    }

    #[test]
    fn an_http_status_without_a_grpc_one_is_no_answer() {
        let none = HeaderMap::new();
        assert_eq!(refusal(StatusCode::OK, &none), None);
        let code = |status| refusal(status, &none).map(|status| status.code);
        assert_eq!(code(StatusCode::SERVICE_UNAVAILABLE), Some(14));
        assert_eq!(code(StatusCode::NOT_FOUND), Some(12));
        assert_eq!(code(StatusCode::FOUND), Some(2));
    }
}
