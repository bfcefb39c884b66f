#![allow(clippy::unwrap_used)]

use super::*;
use proptest::prelude::*;

const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

fn parse(text: &str) -> Option<TraceContext> {
    TraceContext::parse(text, None)
}

#[test]
fn a_parent_is_read_and_written_as_it_came() {
    let context = parse(PARENT).unwrap();
    let ids = (
        context.trace_id().to_string(),
        context.span_id().to_string(),
    );
    assert_eq!(ids.0, "4bf92f3577b34da6a3ce929d0e0e4736");
    assert_eq!(ids.1, "00f067aa0ba902b7");
    assert!(context.is_sampled() && context.is_some());
    assert_eq!(context.traceparent().as_deref(), Some(PARENT));
    assert!(!parse(&PARENT.replace("-01", "-00")).unwrap().is_sampled());
}

#[test]
fn what_is_malformed_is_taken_for_absent() {
    for wrong in [
        "",
        "00",
        &PARENT[..54],
        &format!("{PARENT}-"),
        &format!("{PARENT}0"),
        &PARENT.to_uppercase(),
        &PARENT.replacen("00-", "ff-", 1),
        &PARENT.replacen("00-", "0x-", 1),
        &PARENT.replace("-01", "-0g"),
        &PARENT.replace("-01", "_01"),
        "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
        "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
        "00-4bf92f3577b34da6a3ce929d0e0e473-600f067aa0ba902b7-01",
    ] {
        assert_eq!(parse(wrong), None, "{wrong}");
    }
}

#[test]
fn a_later_version_is_read_by_the_fields_of_the_first_and_written_as_that() {
    let known = parse(PARENT).unwrap();
    let later = PARENT.replacen("00-", "cc-", 1);
    assert_eq!(parse(&later).as_ref(), Some(&known));
    assert_eq!(parse(&format!("{later}-what-else")).as_ref(), Some(&known));
    assert_eq!(parse(&format!("{later}x")), None);
    // Flags that we do not know are not passed on.
    let flags = parse(&PARENT.replace("-01", "-ff")).unwrap();
    assert!(flags.traceparent().unwrap().ends_with("-03"));
}

#[test]
fn the_state_of_other_systems_is_carried_within_its_bounds() {
    let state = |text: &str| {
        let context = TraceContext::parse(PARENT, Some(text)).unwrap();
        context.tracestate().map(str::to_owned)
    };
    assert_eq!(state("a=1,b=2").as_deref(), Some("a=1,b=2"));
    assert_eq!(state(" "), None);
    assert_eq!(state("a=\u{e9}"), None);
    let longest = format!("a={}", "x".repeat(510));
    assert_eq!(state(&longest).as_ref(), Some(&longest));
    assert_eq!(state(&format!("{longest}x")), None);
    assert_eq!(state(&["a=1"; 33].join(",")), None);
}

#[test]
fn headers_come_together_and_two_parents_are_none() {
    let mut headers = HeaderMap::new();
    assert_eq!(TraceContext::of_headers(&headers), None);
    headers.append(&TRACESTATE, HeaderValue::from_static("a=1"));
    headers.append(&TRACESTATE, HeaderValue::from_static("b=2"));
    assert_eq!(TraceContext::of_headers(&headers), None);
    headers.append(&TRACEPARENT, HeaderValue::from_static(PARENT));
    let context = TraceContext::of_headers(&headers).unwrap();
    assert_eq!(context.tracestate(), Some("a=1,b=2"));
    let mut written = HeaderMap::new();
    context.write(&mut written);
    assert_eq!(TraceContext::of_headers(&written), Some(context));
    headers.append(&TRACESTATE, HeaderValue::from_bytes(b"c=\xff").unwrap());
    let stateless = TraceContext::of_headers(&headers).unwrap();
    assert_eq!(stateless.tracestate(), None);
    headers.append(&TRACEPARENT, HeaderValue::from_static(PARENT));
    assert_eq!(TraceContext::of_headers(&headers), None);
}

#[test]
fn no_context_gives_no_headers() {
    let none = TraceContext::default();
    assert!(!none.is_some());
    assert_eq!((none.traceparent(), none.headers().count()), (None, 0));
}

proptest! {
    #[test]
    fn every_context_survives_its_headers(
        trace in 1_u128.., span in 1_u64.., flags in 0_u8..4, state in "[a-z]{1,8}=[ -+.-~]{0,20}[!-+.-~]",
    ) {
        let context = TraceContext {
            trace_id: TraceId(trace),
            span_id: SpanId(span),
            flags,
            state: Some(state.as_str().into()),
        };
        let parent = context.traceparent().unwrap();
        prop_assert_eq!(parent.len(), LENGTH);
        prop_assert_eq!(TraceContext::parse(&parent, Some(&state)), Some(context));
    }

    #[test]
    fn no_bytes_are_too_odd_to_be_looked_at(text in proptest::collection::vec(any::<u8>(), 0..80)) {
        let mut headers = HeaderMap::new();
        if let Ok(value) = HeaderValue::from_bytes(&text) {
            headers.insert(&TRACEPARENT, value.clone());
            headers.insert(&TRACESTATE, value);
        }
        let read = TraceContext::of_headers(&headers);
        prop_assert!(read.is_none_or(|read| read.is_some()));
    }

    #[test]
    fn one_wrong_letter_is_found(at in 0_usize..55, letter in "[^0-9a-f-]") {
        let mut text = PARENT.to_owned();
        if letter.len() == 1 {
            text.replace_range(at..=at, &letter);
            prop_assert_eq!(parse(&text), None);
        }
    }
}
