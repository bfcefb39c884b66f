//! What Centrifugo makes of a reply, in words: what the client is told and what its SDK does.
//!
//! Seen on Centrifugo 6.9 with the JS SDK; other SDKs follow the same rules.

use crate::event::EventKind;
use serde_json::Value;
use tonic::Code;

/// What becomes of a message in reply. `now` is in Unix seconds.
pub(super) fn of_message(kind: EventKind, reply: &Value, now: i64) -> String {
    let reply = match kind {
        EventKind::Stream | EventKind::StreamBidirectional => match reply.get("subscribe_response")
        {
            Some(response) => response,
            None => return of_status(kind, Code::Internal),
        },
        _ => reply,
    };
    let result = reply.get("result");
    match kind {
        EventKind::Refresh => return refresh(result, now),
        EventKind::SubRefresh => return sub_refresh(result, now),
        EventKind::Raw => return "whatever asked for this method decides".to_owned(),
        _ => {}
    }
    if let Some(disconnect) = reply.get("disconnect") {
        return disconnected(number(disconnect, "code"));
    }
    if let Some(error) = reply.get("error") {
        return refused(kind, number(error, "code"), flag(error, "temporary"));
    }
    accepted(kind, result, now)
}

/// What becomes of a call that ends with a status instead of a message, whatever the status.
pub(super) fn of_status(kind: EventKind, _: Code) -> String {
    match kind {
        EventKind::Connect => {
            "error 100 (temporary): the SDK reconnects with back-off; clients of one-way transports \
             are disconnected with 3004"
        }
        EventKind::Subscribe | EventKind::Stream | EventKind::StreamBidirectional => {
            "error 100 (temporary): the SDK subscribes again with back-off"
        }
        EventKind::Publish | EventKind::Rpc | EventKind::MapPublish | EventKind::MapRemove => {
            "error 100 to the caller; the SDK does not repeat the call"
        }
        EventKind::Refresh | EventKind::SubRefresh => {
            "nothing: the session lives on, and Centrifugo asks again in about 60 s"
        }
        EventKind::SharedPollRefresh => "nothing: Centrifugo polls again at the next interval",
        EventKind::CacheEmpty => "the subscription is rejected",
        EventKind::ChannelState => "nothing: Centrifugo sends the batch again with back-off",
        EventKind::Raw => "whatever asked for this method decides",
    }
    .to_owned()
}

/// What becomes of an open stream at its end; `None` is the clean one.
pub(super) fn of_stream_end(status: Option<Code>) -> &'static str {
    match status {
        None => "unsubscribe 2000: the client does not subscribe again by itself",
        Some(_) => "unsubscribe 2500: the SDK subscribes again at once",
    }
}

/// Whether a reply says no, for counting.
pub(super) fn is_refusal(kind: EventKind, reply: &Value) -> bool {
    if kind.is_refresh() {
        let expired = |result: &Value| flag(result, "expired");
        return reply.get("result").is_none_or(expired);
    }
    reply.get("error").is_some() || reply.get("disconnect").is_some()
}

fn number(of: &Value, key: &str) -> i64 {
    of.get(key).and_then(Value::as_i64).unwrap_or_default()
}

fn flag(of: &Value, key: &str) -> bool {
    of.get(key).and_then(Value::as_bool).unwrap_or_default()
}

fn disconnected(code: i64) -> String {
    match code {
        3001..=3499 | 4000..=4499 => format!("disconnect {code}: the SDK reconnects with back-off"),
        3500..=3999 | 4500..=4999 => {
            format!("disconnect {code}, terminal: the SDK does not come back")
        }
        _ => format!(
            "disconnect {code} does not fit into a close frame: the client sees 1006 and \
             reconnects for ever"
        ),
    }
}

fn refused(kind: EventKind, code: i64, temporary: bool) -> String {
    let retries = code < 100 || code == 109;
    match kind {
        EventKind::Connect if temporary || retries => {
            format!("error {code} (temporary): the SDK reconnects with back-off")
        }
        EventKind::Connect => {
            format!("error {code}: the connection ends, the SDK does not reconnect")
        }
        EventKind::Subscribe if temporary || retries => {
            format!("error {code} (temporary): the SDK subscribes again with back-off")
        }
        EventKind::Stream | EventKind::StreamBidirectional if temporary => format!(
            "error {code}: the subscription ends for good, since streams lose the temporary flag"
        ),
        EventKind::Subscribe | EventKind::Stream | EventKind::StreamBidirectional => {
            format!("error {code}: the subscription ends, the SDK does not subscribe again")
        }
        EventKind::SharedPollRefresh => {
            "nothing: this cycle is skipped, the error's message is logged".to_owned()
        }
        EventKind::ChannelState => "nothing: Centrifugo sends the batch again".to_owned(),
        EventKind::Publish => {
            format!("error {code} to the caller; nothing is published")
        }
        _ => format!("error {code} to the caller; the SDK does not repeat the call"),
    }
}

fn accepted(kind: EventKind, result: Option<&Value>, now: i64) -> String {
    let expire_at = result.map_or(0, |result| number(result, "expire_at"));
    let late = expire_at != 0 && expire_at <= now;
    let until = match expire_at {
        0 => String::new(),
        at => format!(", for {} s", at - now),
    };
    match (kind, result) {
        (EventKind::Connect, None) => {
            "disconnect 3501, terminal: the reply names no user (unless Centrifugo lets anonymous \
             clients in by itself)"
                .to_owned()
        }
        (EventKind::Connect | EventKind::Subscribe, _) if late => {
            "error 110 (expired): `expire_at` is in the past".to_owned()
        }
        (EventKind::Connect, Some(result)) => {
            match result.get("user").and_then(Value::as_str).unwrap_or("") {
                "" => format!("connected as an anonymous user{until}"),
                user => format!("connected as user `{user}`{until}"),
            }
        }
        (EventKind::Subscribe, _) => format!("subscribed{until}"),
        (EventKind::Stream | EventKind::StreamBidirectional, _) => {
            format!("subscribed{until}; publications of the stream go to this client alone")
        }
        (EventKind::Publish, Some(result)) if result.get("data").is_some() => {
            "the data of the reply is published in place of the client's".to_owned()
        }
        (EventKind::Publish, _) => "the client's data is published".to_owned(),
        (EventKind::Rpc, Some(result))
            if result.get("data").is_some() || result.get("b64data").is_some() =>
        {
            "the call succeeds with this data".to_owned()
        }
        (EventKind::Rpc, _) => "the call succeeds without data".to_owned(),
        (EventKind::MapPublish | EventKind::MapRemove, _) => {
            "done, and subscribers see it; Centrifugo 6.9 answers the caller with error 107 all the \
             same"
                .to_owned()
        }
        (EventKind::SharedPollRefresh, result) => {
            let items = result.and_then(|result| result.get("items"));
            let count = items.and_then(Value::as_array).map_or(0, Vec::len);
            format!("{count} keys are compared, and what has changed is pushed")
        }
        (EventKind::CacheEmpty, result) => {
            if result.is_some_and(|result| flag(result, "populated")) {
                "Centrifugo reads its cache once more".to_owned()
            } else {
                "the subscription goes on without a cached publication".to_owned()
            }
        }
        _ => "acknowledged".to_owned(),
    }
}

fn refresh(result: Option<&Value>, now: i64) -> String {
    let expire_at = result.map_or(0, |result| number(result, "expire_at"));
    if result.is_none_or(|result| flag(result, "expired")) || expire_at <= now {
        return "disconnect 3005 (expired): the SDK reconnects, which is a new connect".to_owned();
    }
    format!("the session goes on for {} s", expire_at - now)
}

fn sub_refresh(result: Option<&Value>, now: i64) -> String {
    let Some(result) = result else {
        return unsubscribed();
    };
    match number(result, "expire_at") {
        _ if flag(result, "expired") => unsubscribed(),
        0 => "the subscription never expires again".to_owned(),
        at if at <= now => unsubscribed(),
        at => format!("the subscription goes on for {} s", at - now),
    }
}

fn unsubscribed() -> String {
    "unsubscribe 2501 (expired): the SDK subscribes again, which is a new subscribe".to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use EventKind as E;
    use serde_json::json;

    #[test]
    fn every_reply_has_the_meaning_that_centrifugo_gives_it() {
        let error = |code: u32| json!({"error": {"code": code, "message": "m"}});
        let soft = json!({"error": {"code": 111, "message": "m", "temporary": true}});
        let end = |code: u32| json!({"disconnect": {"code": code, "reason": "r"}});
        let result = |result: Value| json!({ "result": result });
        let first = |response: Value| json!({ "subscribe_response": response });
        let cases = [
            (E::Connect, json!({}), "disconnect 3501"),
            (E::Connect, result(json!({})), "as an anonymous user"),
            (E::Connect, result(json!({"user": "u1"})), "as user `u1`"),
            (
                E::Connect,
                result(json!({"user": "u1", "expire_at": 1060})),
                "for 60 s",
            ),
            (
                E::Connect,
                result(json!({"user": "u1", "expire_at": 1000})),
                "error 110",
            ),
            (E::Connect, error(1403), "does not reconnect"),
            (E::Connect, soft.clone(), "reconnects with back-off"),
            (E::Connect, end(4400), "the SDK reconnects"),
            (E::Connect, end(4501), "terminal"),
            (E::Connect, end(5000), "1006"),
            (E::Refresh, json!({}), "disconnect 3005"),
            (E::Refresh, result(json!({})), "disconnect 3005"),
            (E::Refresh, error(1403), "disconnect 3005"),
            (
                E::Refresh,
                result(json!({"expired": true})),
                "disconnect 3005",
            ),
            (E::Refresh, result(json!({"expire_at": 4600})), "for 3600 s"),
            (E::Subscribe, json!({}), "subscribed"),
            (E::Subscribe, error(103), "does not subscribe again"),
            (E::Subscribe, error(109), "subscribes again"),
            (E::Publish, json!({}), "client's data is published"),
            (E::Publish, result(json!({"data": 1})), "in place of"),
            (E::Publish, error(1403), "nothing is published"),
            (E::Rpc, json!({}), "without data"),
            (E::Rpc, result(json!({"data": 1})), "with this data"),
            (E::Rpc, soft.clone(), "does not repeat"),
            (E::SubRefresh, json!({}), "unsubscribe 2501"),
            (E::SubRefresh, result(json!({})), "never expires"),
            (
                E::SubRefresh,
                result(json!({"expire_at": 999})),
                "unsubscribe 2501",
            ),
            (E::Stream, first(json!({})), "subscribed"),
            (E::Stream, first(soft), "lose the temporary flag"),
            (E::StreamBidirectional, first(end(4501)), "terminal"),
            (E::Stream, json!({"publication": {"data": 1}}), "error 100"),
            (E::MapPublish, json!({}), "error 107"),
            (
                E::SharedPollRefresh,
                result(json!({"items": [{"key": "a"}]})),
                "1 keys",
            ),
            (E::SharedPollRefresh, error(103), "skipped"),
            (
                E::CacheEmpty,
                result(json!({"populated": true})),
                "once more",
            ),
            (E::ChannelState, json!({}), "acknowledged"),
            (E::ChannelState, error(100), "sends the batch again"),
        ];
        for (kind, reply, wanted) in cases {
            let told = of_message(kind, &reply, 1000);
            assert!(told.contains(wanted), "{kind} {reply}: {told}");
        }
    }

    #[test]
    fn a_failed_call_ends_no_session() {
        let of = |kind| of_status(kind, Code::Unavailable);
        assert!(of(E::Connect).contains("error 100 (temporary)"));
        assert!(of(E::Rpc).contains("does not repeat"));
        assert!(of(E::Refresh).contains("lives on"));
        assert!(of_stream_end(None).contains("2000"));
        assert!(of_stream_end(Some(Code::Internal)).contains("2500"));
    }

    #[test]
    fn refusals_are_errors_disconnects_and_expiries() {
        assert!(is_refusal(E::Rpc, &json!({"error": {}})));
        assert!(is_refusal(
            E::Refresh,
            &json!({"result": {"expired": true}})
        ));
        assert!(!is_refusal(E::Rpc, &json!({})));
        assert!(!is_refusal(
            E::Refresh,
            &json!({"result": {"expire_at": 1}})
        ));
    }
}
