//! A credential that no print, log or error shows.

use std::fmt;

use serde::{Serialize, Serializer};
use subtle::ConstantTimeEq;

/// What stands in every print where a secret would be.
pub const REDACTED: &str = "<redacted>";

/// A credential. `Debug`, `Display` and serde show [`REDACTED`]; comparing takes the same time
/// wherever the two differ.
#[derive(Clone)]
pub struct Secret(Box<str>);

impl Secret {
    /// Wraps a credential.
    pub fn new(value: impl Into<Box<str>>) -> Self {
        Self(value.into())
    }

    /// The credential itself, for the one place that needs it.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// Whether nothing is in it.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether `other`, as a peer presented it, is this credential; in constant time for equal
    /// lengths.
    pub fn matches(&self, other: &[u8]) -> bool {
        self.0.as_bytes().ct_eq(other).into()
    }
}

impl PartialEq for Secret {
    fn eq(&self, other: &Self) -> bool {
        self.matches(other.0.as_bytes())
    }
}

impl Eq for Secret {}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(REDACTED)
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(REDACTED)
    }
}

impl Serialize for Secret {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(REDACTED)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_shows_itself_only_when_asked() {
        let secret = Secret::new("hunter2");
        assert_eq!(format!("{secret} {secret:?}"), "<redacted> <redacted>");
        assert_eq!(serde_json::to_value(&secret).ok(), Some(REDACTED.into()));
        assert_eq!(secret.expose(), "hunter2");
        assert!(secret.matches(b"hunter2") && !secret.matches(b"hunter") && !secret.is_empty());
    }
}
