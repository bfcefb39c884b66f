//! Name → tag → slot → shard → core.
//!
//! The first two steps are the same on every node for ever: they are written down when a cluster is
//! founded ([`HASH_ID`], [`SLOT_COUNT`]), and the golden values in the tests hold them still. The
//! last two are a node's own affair and may differ from node to node.

use std::fmt;

use xxhash_rust::xxh3::xxh3_64;

/// How many slots there are.
pub const SLOT_COUNT: u16 = 4096;

/// Names the way from a name to its slot; nodes that differ in it refuse each other.
pub const HASH_ID: &str = "xxh3-64/1";

/// One of the [`SLOT_COUNT`] parts of the key space: the unit of ownership.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SlotId(u16);

impl SlotId {
    /// The slot with this index; `None` from [`SLOT_COUNT`] up.
    pub const fn new(index: u16) -> Option<Self> {
        if index < SLOT_COUNT {
            Some(Self(index))
        } else {
            None
        }
    }

    /// The index, below [`SLOT_COUNT`].
    pub const fn index(self) -> u16 {
        self.0
    }

    /// Every slot, in order.
    pub fn all() -> impl Iterator<Item = Self> {
        (0..SLOT_COUNT).map(Self)
    }
}

impl fmt::Display for SlotId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The slot of a name, bytes as sent: XXH3 (64 bits, seed 0) of its tag, the lowest twelve bits.
pub fn slot_of(name: &[u8]) -> SlotId {
    let low = xxh3_64(tag_of(name)) & u64::from(SLOT_COUNT - 1);
    SlotId(low as u16)
}

/// The part of a name that decides its slot: what stands between the first `{` and the next `}` if
/// that is not empty, else the whole name. So `room:{42}:chat` and `room:{42}:seats` share a slot.
pub fn tag_of(name: &[u8]) -> &[u8] {
    let inside = || {
        let open = name.iter().position(|byte| *byte == b'{')?;
        let rest = name.get(open + 1..)?;
        let close = rest.iter().position(|byte| *byte == b'}')?;
        rest.get(..close).filter(|tag| !tag.is_empty())
    };
    inside().unwrap_or(name)
}

/// A shard of this node: the actor that runs the lanes of its slots.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ShardId(u16);

impl ShardId {
    /// The index, below [`ShardLayout::shards`].
    pub const fn index(self) -> u16 {
        self.0
    }
}

impl fmt::Display for ShardId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A layout that cannot be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LayoutError {
    /// There would be no shard.
    #[error("{cores} cores × {shards_per_core} shards: each must be at least 1")]
    Empty {
        /// Cores asked for.
        cores: u16,
        /// Shards per core asked for.
        shards_per_core: u16,
    },
    /// Some shards would never get a slot.
    #[error(
        "{cores} cores × {shards_per_core} shards: at most {SLOT_COUNT} shards, one per slot; \
         lower the shards per core"
    )]
    TooMany {
        /// Cores asked for.
        cores: u16,
        /// Shards per core asked for.
        shards_per_core: u16,
    },
}

/// How a node spreads the slots over its shards and the shards over its cores.
///
/// Shards differ by at most one slot, cores have the same number of shards, and neighbouring slots
/// go to different cores where there are several.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ShardLayout {
    cores: u16,
    shards_per_core: u16,
}

impl ShardLayout {
    /// A layout of this many cores with this many shards each.
    ///
    /// # Errors
    /// If there would be no shard, or more shards than slots.
    pub const fn try_new(cores: u16, shards_per_core: u16) -> Result<Self, LayoutError> {
        if cores == 0 || shards_per_core == 0 {
            return Err(LayoutError::Empty {
                cores,
                shards_per_core,
            });
        }
        if cores as u32 * shards_per_core as u32 > SLOT_COUNT as u32 {
            return Err(LayoutError::TooMany {
                cores,
                shards_per_core,
            });
        }
        Ok(Self {
            cores,
            shards_per_core,
        })
    }

    /// How many cores run shards.
    pub const fn cores(self) -> u16 {
        self.cores
    }

    /// How many shards each of them runs.
    pub const fn shards_per_core(self) -> u16 {
        self.shards_per_core
    }

    /// How many shards there are.
    pub const fn shards(self) -> u16 {
        self.cores * self.shards_per_core
    }

    /// The shard with this index; `None` from [`ShardLayout::shards`] up.
    pub const fn shard(self, index: u16) -> Option<ShardId> {
        if index < self.shards() {
            Some(ShardId(index))
        } else {
            None
        }
    }

    /// The shard that runs a slot.
    pub const fn shard_of(self, slot: SlotId) -> ShardId {
        ShardId(slot.0 % self.shards())
    }

    /// The core that runs a shard, below [`ShardLayout::cores`].
    pub const fn core_of(self, shard: ShardId) -> u16 {
        shard.0 % self.cores
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use proptest::prelude::*;

    use super::*;

    /// The values were taken from another implementation of the hash.
    #[test]
    fn the_slots_of_known_names_never_change() {
        let golden: [(&str, u16); 9] = [
            ("", 1218),
            ("a", 3615),
            ("news", 292),
            ("chat:1", 1695),
            ("chat:42", 3027),
            ("showing:7", 1248),
            ("room:{42}:chat", 401),
            ("personal:u_0011aabb", 249),
            ("комната:7", 3574),
        ];
        let now = golden.map(|(name, _)| (name, slot_of(name.as_bytes()).index()));
        assert_eq!(now, golden);
        // Long names take other branches of the hash.
        for (length, slot) in [(16, 3807), (129, 2012), (255, 3485)] {
            assert_eq!(
                slot_of("x".repeat(length).as_bytes()).index(),
                slot,
                "{length}"
            );
        }
        assert_eq!((HASH_ID, SLOT_COUNT), ("xxh3-64/1", 4096));
    }

    #[test]
    fn a_tag_is_what_stands_between_the_first_braces() {
        let cases: [(&str, &str); 10] = [
            ("room:{42}:chat", "42"),
            ("{a}{b}", "a"),
            ("{{a}}", "{a"),
            ("x{}y{b}", "x{}y{b}"),
            ("x{a", "x{a"),
            ("x}a{", "x}a{"),
            ("}a{b}", "b"),
            ("{a:b}", "a:b"),
            ("plain", "plain"),
            ("", ""),
        ];
        for (name, tag) in cases {
            assert_eq!(tag_of(name.as_bytes()), tag.as_bytes(), "{name}");
        }
    }

    #[test]
    fn refuses_layouts_without_shards_or_with_more_shards_than_slots() {
        assert!(matches!(
            ShardLayout::try_new(0, 8),
            Err(LayoutError::Empty { .. })
        ));
        assert!(matches!(
            ShardLayout::try_new(8, 0),
            Err(LayoutError::Empty { .. })
        ));
        assert!(matches!(
            ShardLayout::try_new(65, 64),
            Err(LayoutError::TooMany { .. })
        ));
        assert!(matches!(
            ShardLayout::try_new(u16::MAX, u16::MAX),
            Err(LayoutError::TooMany { .. })
        ));
        assert_eq!(
            ShardLayout::try_new(64, 64).map(ShardLayout::shards),
            Ok(4096)
        );
    }

    proptest! {
        #[test]
        fn names_with_one_tag_share_the_slot_of_the_tag(
            tag in "[^{}]{1,12}", before in "[^{}]{0,6}", after in ".{0,6}",
        ) {
            let name = format!("{before}{{{tag}}}{after}");
            prop_assert_eq!(slot_of(name.as_bytes()), slot_of(tag.as_bytes()));
        }

        #[test]
        fn every_name_has_a_slot_below_the_count(name in proptest::collection::vec(any::<u8>(), 0..64)) {
            prop_assert!(slot_of(&name).index() < SLOT_COUNT);
        }

        #[test]
        fn a_layout_spreads_slots_and_shards_evenly(cores in 1u16..=64, per_core in 1u16..=64) {
            let layout = ShardLayout::try_new(cores, per_core).unwrap();
            let mut slots = vec![0u16; usize::from(layout.shards())];
            let mut shards = vec![0u16; usize::from(cores)];
            for slot in SlotId::all() {
                slots[usize::from(layout.shard_of(slot).index())] += 1;
            }
            for shard in (0..layout.shards()).map(|index| layout.shard(index).unwrap()) {
                shards[usize::from(layout.core_of(shard))] += 1;
            }
            let (least, most) = (slots.iter().min().unwrap(), slots.iter().max().unwrap());
            prop_assert!(*least >= 1 && most - least <= 1);
            prop_assert!(shards.iter().all(|count| *count == per_core));
        }
    }
}
