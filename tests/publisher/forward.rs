//! Requests that are passed on encoded, by the name of their method: what a worker's calls become.

use crate::double::Double;
use crate::raw;
use crate::{publication, publisher, publisher_with};
use bytes::{Bytes, BytesMut};
use centripeta::config::Endpoint;
use centripeta::egress::{Error, Publisher, Refusal};
use centripeta::proto::api;
use futures_util::future::join_all;
use prost::Message;

/// A field that no contract has: number 1000, three bytes.
const UNHEARD: &[u8] = b"\xc2\x3e\x03new";

/// A publisher towards a stand-in that answers bytes.
async fn towards(double: &raw::Double) -> Publisher {
    let endpoint = Endpoint {
        tls: false,
        host: double.address.ip().to_string(),
        port: double.address.port(),
    };
    publisher_with(vec![endpoint], |_| {}).await
}

#[tokio::test]
async fn publications_passed_on_keep_the_order_of_their_channel_and_share_calls() {
    let double = Double::start();
    let publisher = publisher(&double).await;
    let sent: Vec<Bytes> = (0..300).map(|at| Bytes::from(at.to_string())).collect();
    let calls = sent.iter().map(|data| {
        let request = publication("chat:a", str::from_utf8(data).unwrap());
        publisher.forward("Publish", request.encode_to_vec().into())
    });
    let answers = join_all(calls).await;
    for (answer, offset) in answers.into_iter().zip(1_u64..) {
        let response = api::PublishResponse::decode(answer.unwrap()).unwrap();
        assert_eq!(response.result.unwrap().offset, offset);
    }
    assert_eq!(double.state.of("chat:a"), sent);
    let batches = double.state.batches.lock().unwrap().len();
    assert!(
        (1..100).contains(&batches),
        "{batches} batches for 300 publications"
    );
}

#[tokio::test]
async fn an_error_of_centrifugos_is_in_the_response_passed_back_and_no_failure() {
    let double = Double::start();
    let publisher = publisher(&double).await;
    let request = publication("nosuch:a", "1").encode_to_vec();
    let answer = publisher.forward("Publish", request.into()).await.unwrap();
    let response = api::PublishResponse::decode(answer).unwrap();
    let error = response.error.unwrap();
    assert_eq!(
        (error.code, error.message.as_str()),
        (102, "unknown channel")
    );
    assert_eq!(response.result, None);
}

#[tokio::test]
async fn a_request_that_is_not_the_methods_message_is_refused_and_not_sent() {
    let double = raw::Double::plain().await;
    let publisher = towards(&double).await;
    let refused = publisher
        .forward("Publish", Bytes::from_static(b"\xff\xff"))
        .await;
    let malformed = |error: &Error| {
        matches!(
            error,
            Error::Refused {
                refusal: Refusal::Malformed(_),
                ..
            }
        )
    };
    assert!(refused.as_ref().is_err_and(malformed), "{refused:?}");
    let refused = publisher.forward("Pub/lish", Bytes::new()).await;
    let unnamed = |error: &Error| {
        matches!(
            error,
            Error::Refused {
                refusal: Refusal::BadMethod,
                ..
            }
        )
    };
    assert!(refused.as_ref().is_err_and(unnamed), "{refused:?}");
    assert!(double.requests("Publish").is_empty());
}

#[tokio::test]
async fn fields_that_nobody_here_knows_survive_both_ways() {
    let result = [b"\x08\x07".as_slice(), UNHEARD].concat();
    let answer = [&[0x12, 8][..], &result].concat();
    assert_eq!(result.len(), 8);
    let answer = Bytes::from(answer);
    let given = answer.clone();
    let double = raw::Double::start(move |_, _| Ok(given.clone())).await;
    let publisher = towards(&double).await;
    let mut request = BytesMut::from(&publication("a", "1").encode_to_vec()[..]);
    request.extend_from_slice(UNHEARD);
    let request = request.freeze();
    let back = publisher.forward("Publish", request.clone()).await.unwrap();
    assert_eq!(back, answer);
    assert_eq!(double.requests("Publish"), [request]);
}

#[tokio::test]
async fn a_method_that_nobody_here_knows_is_called_with_the_bytes_and_answers_its_own() {
    let double = raw::Double::start(|method, request| match method {
        "Brew" => Ok([request, b"!"].concat().into()),
        _ => Err((12, "unknown method")),
    })
    .await;
    let publisher = towards(&double).await;
    let back = publisher
        .forward("Brew", Bytes::from_static(b"\xff tea"))
        .await;
    assert_eq!(back.unwrap(), &b"\xff tea!"[..]);
    let absent = publisher.forward("BlockUser", Bytes::new()).await;
    let unsupported = |error: &Error| matches!(error, Error::Unsupported { .. });
    assert!(absent.as_ref().is_err_and(unsupported), "{absent:?}");
}
