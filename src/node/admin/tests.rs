//! The token as it is read.

use super::*;
use axum::http::HeaderValue;

#[test]
fn a_token_is_what_follows_the_scheme_in_any_case() {
    let of = |value: &'static str| {
        let mut headers = HeaderMap::new();
        headers.insert(header::AUTHORIZATION, HeaderValue::from_static(value));
        bearer(&headers).map(<[u8]>::to_vec)
    };
    assert_eq!(of("Bearer sesame"), Some(b"sesame".to_vec()));
    assert_eq!(of("bearer sesame"), Some(b"sesame".to_vec()));
    assert_eq!(of("Bearer "), Some(Vec::new()));
    for none in ["", "Bearer", "Bearersesame", "Basic sesame", "sesame"] {
        assert_eq!(of(none), None, "{none}");
    }
    assert_eq!(bearer(&HeaderMap::new()), None);
}
