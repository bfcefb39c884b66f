//! The secret that nodes of a cluster share, and the proofs of it.
//!
//! A proof is made over both greetings whole, under a label for each side: fresh nonces stop a
//! replay, the label a reflection, the whole greetings a changed identity or version. Comparison is
//! in constant time. The first secret proves, any is accepted, and the listener answers with the one
//! that fitted: that lets secrets be rotated on a living cluster.

use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use ring::hmac;
use tokio::time::Instant;

/// The shortest secret, in bytes.
pub const SECRET_MIN: usize = 16;
/// How many secrets may be known at once.
pub const SECRETS_MAX: usize = 4;

const REREAD: Duration = Duration::from_secs(1);
const FILE_LIMIT: u64 = 64 * 1024;

/// Where a secret comes from.
#[derive(Clone, PartialEq, Eq)]
pub enum SecretSource {
    /// It is this text, trimmed.
    Text(String),
    /// It is what this file holds, trimmed; read again when a link opens.
    File(PathBuf),
}

impl fmt::Debug for SecretSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(_) => f.write_str("Text(redacted)"),
            Self::File(path) => f.debug_tuple("File").field(path).finish(),
        }
    }
}

/// Why secrets cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    /// One is too short.
    #[error(
        "cluster.secret: entry {entry} has {length} bytes; at least {SECRET_MIN} are needed, 32 random ones are good"
    )]
    Short {
        /// Which one, from 1.
        entry: usize,
        /// Its length in bytes.
        length: usize,
    },
    /// There are too many.
    #[error("cluster.secret: {0} entries; at most {SECRETS_MAX} are known at once")]
    Many(usize),
    /// A file cannot be read.
    #[error("cluster.secret: {path}: {error}", path = path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        error: std::io::Error,
    },
}

/// The secrets of a moment, in order.
pub(crate) struct Secrets(Vec<hmac::Key>);

impl fmt::Debug for Secrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Secrets({})", self.0.len())
    }
}

/// Which side makes a proof.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Side {
    Dial,
    Listen,
}

/// Both greetings, as they were sent.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Greetings<'a> {
    pub(crate) dial: &'a [u8],
    pub(crate) listen: &'a [u8],
}

impl Greetings<'_> {
    fn signed(self, side: Side) -> Vec<u8> {
        let label: &[u8] = match side {
            Side::Dial => b"centripeta peer 1 dial",
            Side::Listen => b"centripeta peer 1 listen",
        };
        let mut bytes = label.to_vec();
        for greeting in [self.dial, self.listen] {
            bytes.extend_from_slice(&(greeting.len() as u64).to_le_bytes());
            bytes.extend_from_slice(greeting);
        }
        bytes
    }
}

impl Secrets {
    pub(crate) fn new<S: AsRef<[u8]>>(texts: &[S]) -> Result<Self, SecretError> {
        if texts.len() > SECRETS_MAX {
            return Err(SecretError::Many(texts.len()));
        }
        let key = |(index, text): (usize, &S)| {
            let text = text.as_ref().trim_ascii();
            if text.len() < SECRET_MIN {
                return Err(SecretError::Short {
                    entry: index + 1,
                    length: text.len(),
                });
            }
            Ok(hmac::Key::new(hmac::HMAC_SHA256, text))
        };
        let keys: Result<_, _> = texts.iter().enumerate().map(key).collect();
        keys.map(Self)
    }

    /// A proof by the secret of this place; none if there is no such secret.
    pub(crate) fn prove(
        &self,
        place: usize,
        side: Side,
        greetings: Greetings<'_>,
    ) -> Option<Vec<u8>> {
        let tag = hmac::sign(self.0.get(place)?, &greetings.signed(side));
        Some(tag.as_ref().to_vec())
    }

    /// The place of the secret that this is a proof of. Every secret is tried.
    pub(crate) fn fitting(
        &self,
        proof: &[u8],
        side: Side,
        greetings: Greetings<'_>,
    ) -> Option<usize> {
        let signed = greetings.signed(side);
        let fits = |key| hmac::verify(key, &signed, proof).is_ok();
        self.0
            .iter()
            .enumerate()
            .fold(None, |found, (place, key)| match (fits(key), found) {
                (true, None) => Some(place),
                (_, found) => found,
            })
    }
}

/// Secrets whose files are read again when they change.
#[derive(Debug)]
pub(crate) struct SecretStore {
    sources: Vec<SecretSource>,
    read: Mutex<(Instant, Arc<Secrets>)>,
}

impl SecretStore {
    /// Reads them.
    pub(crate) fn new(sources: Vec<SecretSource>) -> Result<Self, SecretError> {
        let secrets = Self::load(&sources)?;
        Ok(Self {
            sources,
            read: Mutex::new((Instant::now(), Arc::new(secrets))),
        })
    }

    fn load(sources: &[SecretSource]) -> Result<Secrets, SecretError> {
        let texts: Result<Vec<_>, _> = sources.iter().map(Self::text).collect();
        Secrets::new(&texts?)
    }

    fn text(source: &SecretSource) -> Result<Vec<u8>, SecretError> {
        use std::io::Read;
        match source {
            SecretSource::Text(text) => Ok(text.clone().into_bytes()),
            SecretSource::File(path) => {
                let mut text = Vec::new();
                std::fs::File::open(path)
                    .and_then(|file| file.take(FILE_LIMIT).read_to_end(&mut text))
                    .map_err(|error| SecretError::File {
                        path: path.clone(),
                        error,
                    })?;
                Ok(text)
            }
        }
    }

    /// The secrets of now. Where a file cannot be read or is no secret, the last good ones stay.
    pub(crate) fn current(&self) -> Arc<Secrets> {
        let mut read = self.read.lock().unwrap_or_else(PoisonError::into_inner);
        let files = self
            .sources
            .iter()
            .any(|source| matches!(source, SecretSource::File(_)));
        if files && read.0.elapsed() >= REREAD {
            read.0 = Instant::now();
            if let Ok(secrets) = Self::load(&self.sources) {
                read.1 = Arc::new(secrets);
            }
        }
        Arc::clone(&read.1)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    const BOTH: Greetings<'_> = Greetings {
        dial: b"a",
        listen: b"b",
    };

    fn secrets(texts: &[&str]) -> Secrets {
        let long: Vec<_> = texts.iter().map(|text| text.repeat(16)).collect();
        Secrets::new(&long).unwrap()
    }

    #[test]
    fn a_proof_holds_for_its_side_its_greetings_and_its_secret_only() {
        let (ours, other) = (secrets(&["x"]), secrets(&["y"]));
        let proof = ours.prove(0, Side::Dial, BOTH).unwrap();
        assert_eq!(ours.fitting(&proof, Side::Dial, BOTH), Some(0));
        assert_eq!(ours.fitting(&proof, Side::Listen, BOTH), None, "reflected");
        assert_eq!(other.fitting(&proof, Side::Dial, BOTH), None);
        // The border between the greetings is signed as well.
        let shifted = Greetings {
            dial: b"ab",
            listen: b"",
        };
        assert_eq!(ours.fitting(&proof, Side::Dial, shifted), None);
        assert_eq!(ours.fitting(&proof[..31], Side::Dial, BOTH), None);
        assert_eq!(ours.fitting(&[], Side::Dial, BOTH), None);
    }

    #[test]
    fn each_step_of_a_rotation_understands_the_step_before_and_after() {
        let steps = [
            secrets(&["o"]),
            secrets(&["o", "n"]),
            secrets(&["n", "o"]),
            secrets(&["n"]),
        ];
        for (earlier, later) in steps.iter().zip(&steps[1..]) {
            for (from, to) in [(earlier, later), (later, earlier)] {
                let proof = from.prove(0, Side::Dial, BOTH).unwrap();
                let place = to.fitting(&proof, Side::Dial, BOTH).unwrap();
                let back = to.prove(place, Side::Listen, BOTH).unwrap();
                assert!(from.fitting(&back, Side::Listen, BOTH).is_some());
            }
        }
        let proof = steps[0].prove(0, Side::Dial, BOTH).unwrap();
        assert_eq!(steps[3].fitting(&proof, Side::Dial, BOTH), None);
    }

    #[test]
    fn short_secrets_and_too_many_are_refused_and_none_is_printed() {
        let error = Secrets::new(&["0123456789abcdef", "  short  "]).unwrap_err();
        assert!(matches!(
            error,
            SecretError::Short {
                entry: 2,
                length: 5
            }
        ));
        assert!(matches!(
            Secrets::new(&["0123456789abcdef"; 5]),
            Err(SecretError::Many(5))
        ));
        let source = SecretSource::Text("0123456789abcdef".to_owned());
        assert!(!format!("{source:?}").contains("0123"));
    }

    #[tokio::test(start_paused = true)]
    async fn a_file_that_changes_is_read_again_and_one_that_breaks_is_not_used() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("secret");
        std::fs::write(&path, "first secret, long enough\n").unwrap();
        let store = SecretStore::new(vec![SecretSource::File(path.clone())]).unwrap();
        let proof = |store: &SecretStore| store.current().prove(0, Side::Dial, BOTH).unwrap();
        let first = proof(&store);
        std::fs::write(&path, "second secret, long enough").unwrap();
        tokio::time::advance(REREAD).await;
        let second = proof(&store);
        assert_ne!(first, second);
        std::fs::write(&path, "short").unwrap();
        tokio::time::advance(REREAD).await;
        assert_eq!(proof(&store), second);
    }
}
