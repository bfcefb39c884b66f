//! `header-auth`: events without a header of the right value are refused as by `deny`.

use crate::builtin::plain_no;
use crate::config::Secret;
use crate::cx::Cx;
use crate::interceptor::{Flow, Interceptor};
use http::{HeaderMap, HeaderName};

/// Lets events pass whose metadata has a header, as Centrifugo forwards it, with one value; where
/// the header is repeated every value has to be it. Comparing takes the same time wherever two
/// values of one length differ.
///
/// Others get the event's plain no: error 103, `expired: true` for refresh and sub_refresh,
/// disconnect 4403 for connect.
#[derive(Debug)]
pub struct HeaderAuth {
    header: HeaderName,
    value: Secret,
}

impl HeaderAuth {
    /// Asks for this value of this header.
    pub const fn new(header: HeaderName, value: Secret) -> Self {
        Self { header, value }
    }

    fn admits(&self, metadata: &HeaderMap) -> bool {
        let mut values = 0_usize;
        let mut right = true;
        for value in metadata.get_all(&self.header) {
            values += 1;
            right &= self.value.matches(value.as_bytes());
        }
        values > 0 && right && !self.value.is_empty()
    }
}

impl Interceptor for HeaderAuth {
    const HAS_AFTER: bool = false;

    async fn before(&self, cx: &mut Cx) -> Flow {
        if self.admits(cx.metadata()) {
            Flow::Next
        } else {
            Flow::Answer(plain_no(cx.kind()))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    fn admits(values: &[&'static str]) -> bool {
        let name = HeaderName::from_static("x-app-key");
        let mut metadata = HeaderMap::new();
        for value in values {
            metadata.append(&name, HeaderValue::from_static(value));
        }
        HeaderAuth::new(name, Secret::new("right")).admits(&metadata)
    }

    #[test]
    fn every_value_of_the_header_has_to_be_the_right_one() {
        assert!(admits(&["right"]));
        assert!(admits(&["right", "right"]));
        for wrong in [
            &[][..],
            &[""],
            &["Right"],
            &["righ"],
            &["right "],
            &["right", "wrong"],
            &["wrong", "right"],
        ] {
            assert!(!admits(wrong), "{wrong:?}");
        }
    }

    #[test]
    fn an_empty_secret_admits_nobody() {
        let name = HeaderName::from_static("x-app-key");
        let metadata = HeaderMap::from_iter([(name.clone(), HeaderValue::from_static(""))]);
        assert!(!HeaderAuth::new(name, Secret::new("")).admits(&metadata));
    }
}
