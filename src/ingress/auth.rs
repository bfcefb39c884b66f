//! Who may call: the listener's own credential in the metadata of every call.

use http::{HeaderMap, HeaderName};
use std::fmt;
use subtle::ConstantTimeEq;

/// The credential that callers send (`grpc.credentials_key` of Centrifugo).
#[derive(Clone)]
pub(crate) struct CallerAuth {
    name: HeaderName,
    value: Vec<u8>,
}

impl CallerAuth {
    /// Callers have to send `value` under `name`.
    pub(crate) const fn new(name: HeaderName, value: Vec<u8>) -> Self {
        Self { name, value }
    }

    /// Checks a call and removes the credential from its metadata. Every value under the name has
    /// to be right: one that a client smuggled in beside ours fails the call. The time taken does
    /// not depend on how much of a wrong value is right.
    pub(crate) fn admit(&self, metadata: &mut HeaderMap) -> bool {
        let mut found = false;
        let mut right = true;
        for value in metadata.get_all(&self.name) {
            found = true;
            right &= bool::from(self.value.as_slice().ct_eq(value.as_bytes()));
        }
        metadata.remove(&self.name);
        found && right
    }
}

impl fmt::Debug for CallerAuth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CallerAuth")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    fn admit(values: &[&'static str]) -> (bool, HeaderMap) {
        let name = HeaderName::from_static("x-router-key");
        let auth = CallerAuth::new(name.clone(), b"right".to_vec());
        let mut metadata = HeaderMap::new();
        for value in values {
            metadata.append(name.clone(), HeaderValue::from_static(value));
        }
        (auth.admit(&mut metadata), metadata)
    }

    #[test]
    fn c97_admits_the_right_value_and_takes_it_out_of_the_metadata() {
        let (admitted, metadata) = admit(&["right"]);
        assert!(admitted);
        assert!(metadata.is_empty());
    }

    #[test]
    fn c97_refuses_a_missing_a_wrong_and_a_second_wrong_value() {
        for values in [
            &[][..],
            &["wrong"],
            &["right", "wrong"],
            &["wrong", "right"],
            &["righ"],
        ] {
            assert!(!admit(values).0, "{values:?}");
        }
    }

    #[test]
    fn debug_output_does_not_show_the_value() {
        let auth = CallerAuth::new(HeaderName::from_static("x"), b"sesame".to_vec());
        assert!(!format!("{auth:?}").contains("sesame"));
    }
}
