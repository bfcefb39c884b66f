//! What a data directory is, told without taking it from the process that uses it.

use std::path::Path;

use super::identity::Identity;
use super::{Error, Joined};

/// Which node of which cluster this directory is, as its identity says; `None` if it is of none yet,
/// or not there. Nothing is locked or compared: a node that runs in it is not disturbed.
///
/// # Errors
/// If the identity cannot be read or is damaged.
pub fn peek(dir: &Path) -> Result<Option<Joined>, Error> {
    Ok(Identity::read(dir)?.and_then(|identity| identity.joined))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::super::{DataDir, Founding, init};
    use super::*;

    #[test]
    fn a_directory_is_known_while_its_node_runs_and_none_is_made() {
        let dir = tempfile::tempdir().unwrap();
        let data = dir.path().join("data");
        assert_eq!(peek(&data).unwrap(), None);
        assert!(!data.exists());
        init(&data, &Founding::new("a", vec!["127.0.0.1:1".to_owned()])).unwrap();
        let running = DataDir::open(&data).unwrap();
        assert_eq!(peek(&data).unwrap(), running.known());
        assert!(peek(&data).unwrap().is_some());
        std::fs::write(data.join("identity"), "x").unwrap();
        assert!(peek(&data).is_err());
    }
}
