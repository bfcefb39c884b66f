//! The file `identity`: a line that says what it is, then format byte, checksum and record. Written
//! whole beside the old one, fsynced, and put in its place.

use std::fs::File;
use std::io::{ErrorKind, Read, Write};
use std::path::Path;

use ring::rand::{SecureRandom, SystemRandom};

use super::Error;
use crate::codec::{decode_record, encode_record};
use crate::{ClusterId, DataId, DecodeError, Incarnation, NodeId};

const FILE: &str = "identity";
const FRESH: &str = "identity.new";
const FIRST_LINE: &[u8] = b"centripeta node identity\n";
/// Far more than an identity has; what is longer is none.
const LENGTH_LIMIT: u64 = 4096;

/// Which node of which cluster a data directory is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Joined {
    /// The cluster.
    pub cluster: ClusterId,
    /// How often it had been recovered when the node last registered or recovered it.
    pub recovery: u32,
    /// The node.
    pub node: NodeId,
}

/// What a data directory says of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Identity {
    /// The directory.
    pub(crate) data: DataId,
    /// The latest life; 0 before the first.
    pub(crate) incarnation: Incarnation,
    /// `None` until the first registration was answered.
    pub(crate) joined: Option<Joined>,
    /// Whether there is a `meta.redb`, so that its loss is noticed.
    pub(crate) keeps_log: bool,
}

impl Identity {
    /// That of a directory made just now.
    pub(super) fn draw() -> Result<Self, Error> {
        Ok(Self {
            data: DataId(random()?),
            incarnation: Incarnation(0),
            joined: None,
            keeps_log: false,
        })
    }

    /// The identity of this directory; `None` if there is none.
    pub(super) fn read(dir: &Path) -> Result<Option<Self>, Error> {
        let path = dir.join(FILE);
        let file = match File::open(&path) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            opened => opened.map_err(io(&path))?,
        };
        let mut bytes = Vec::new();
        file.take(LENGTH_LIMIT)
            .read_to_end(&mut bytes)
            .map_err(io(&path))?;
        let path = path.display().to_string();
        let Some(record) = bytes.strip_prefix(FIRST_LINE) else {
            return Err(Error::NoIdentityFile { path });
        };
        match decode_record(record) {
            Ok(identity) => Ok(Some(identity)),
            Err(DecodeError::Format(found)) => Err(Error::Format { path, found }),
            Err(source) => Err(Error::Damaged { path, source }),
        }
    }

    /// Puts this in the place of what was there: the old or the new one is on the disk whatever
    /// happens, and the new one once this returns.
    pub(super) fn write(&self, dir: &Path) -> Result<(), Error> {
        let (path, fresh) = (dir.join(FILE), dir.join(FRESH));
        let put = || {
            let mut file = File::create(&fresh)?;
            file.write_all(FIRST_LINE)?;
            file.write_all(&encode_record(self))?;
            file.sync_all()?;
            std::fs::rename(&fresh, &path)
        };
        put().map_err(io(&path))?;
        sync(dir)
    }
}

/// 128 random bits from the system, never 0: 0 stands for none.
pub(super) fn random() -> Result<u128, Error> {
    let mut bytes = [0; 16];
    SystemRandom::new()
        .fill(&mut bytes)
        .map_err(|_| Error::Random)?;
    Ok(u128::from_le_bytes(bytes).max(1))
}

/// Makes sure that the names in a directory are on the disk.
pub(super) fn sync(dir: &Path) -> Result<(), Error> {
    File::open(dir)
        .and_then(|dir| dir.sync_all())
        .map_err(io(dir))
}

pub(super) fn io(path: &Path) -> impl Fn(std::io::Error) -> Error {
    move |source| Error::Io {
        path: path.display().to_string(),
        source,
    }
}
