//! The name of a lane: small, owned, hashed once.

use std::collections::HashMap;
use std::fmt;
use std::hash::{BuildHasher, Hash, Hasher, RandomState};
use std::sync::OnceLock;

use centripeta_cluster::{SlotId, slot_of};
use xxhash_rust::xxh3::xxh3_64_with_seed;

/// Names of up to this many bytes need no memory of their own.
const INLINE_BYTES: usize = 21;

/// Which names a name is one of: the user `7` and the channel `7` have different lanes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Space {
    /// Channels, and what templates fill in to.
    Channel,
    /// Users.
    User,
    /// Clients.
    Client,
    /// The one name of `all`.
    All,
}

impl Space {
    /// The name in logs and in `explain`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Channel => "channel",
            Self::User => "user",
            Self::Client => "client",
            Self::All => "all",
        }
    }
}

/// The name of a lane: a space and a text, 32 bytes. Equal names have equal hashes within a process
/// and differ between processes, so that clients cannot choose names that collide.
#[derive(Clone)]
pub struct LaneKey {
    hash: u64,
    name: Name,
}

#[derive(Clone)]
enum Name {
    Inline {
        space: Space,
        length: u8,
        bytes: [u8; INLINE_BYTES],
    },
    Heap {
        space: Space,
        text: Box<str>,
    },
}

impl LaneKey {
    /// The lane of this name in this space.
    pub fn new(space: Space, text: &str) -> Self {
        let hash = xxh3_64_with_seed(text.as_bytes(), process_seed() ^ space as u64);
        let mut bytes = [0; INLINE_BYTES];
        let name = match bytes.get_mut(..text.len()) {
            Some(room) => {
                room.copy_from_slice(text.as_bytes());
                Name::Inline {
                    space,
                    length: text.len() as u8,
                    bytes,
                }
            }
            None => Name::Heap {
                space,
                text: text.into(),
            },
        };
        Self { hash, name }
    }

    /// The space.
    pub fn space(&self) -> Space {
        match self.name {
            Name::Inline { space, .. } | Name::Heap { space, .. } => space,
        }
    }

    /// The text.
    pub fn text(&self) -> &str {
        std::str::from_utf8(self.bytes()).unwrap_or_default()
    }

    /// The text's bytes.
    pub fn bytes(&self) -> &[u8] {
        match &self.name {
            Name::Inline { length, bytes, .. } => &bytes[..usize::from(*length)],
            Name::Heap { text, .. } => text.as_bytes(),
        }
    }

    /// The slot that owns the lane; the same on every node.
    pub fn slot(&self) -> SlotId {
        slot_of(self.bytes())
    }
}

fn process_seed() -> u64 {
    static SEED: OnceLock<u64> = OnceLock::new();
    *SEED.get_or_init(|| RandomState::new().hash_one(0u8))
}

impl PartialEq for LaneKey {
    fn eq(&self, other: &Self) -> bool {
        self.hash == other.hash && self.space() == other.space() && self.bytes() == other.bytes()
    }
}

impl Eq for LaneKey {}

impl Hash for LaneKey {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.hash);
    }
}

impl fmt::Display for LaneKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.space() {
            Space::All => f.write_str("all"),
            space => write!(f, "{} {}", space.name(), self.text()),
        }
    }
}

impl fmt::Debug for LaneKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "LaneKey({self})")
    }
}

/// A map by lane, which takes the hash that the key carries.
pub type LaneMap<V> = HashMap<LaneKey, V, BuildLaneHasher>;

/// Makes [`LaneHasher`]s.
#[derive(Debug, Clone, Copy, Default)]
pub struct BuildLaneHasher;

impl BuildHasher for BuildLaneHasher {
    type Hasher = LaneHasher;

    fn build_hasher(&self) -> LaneHasher {
        LaneHasher(0)
    }
}

/// Passes on the hash that a [`LaneKey`] carries.
#[derive(Debug, Clone, Copy)]
pub struct LaneHasher(u64);

impl Hasher for LaneHasher {
    fn write(&mut self, bytes: &[u8]) {
        self.0 = xxh3_64_with_seed(bytes, self.0);
    }

    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }

    fn finish(&self) -> u64 {
        self.0
    }
}
