//! What a data directory says of itself, in its `identity`.

use super::raft::Record;
use crate::codec::DecodeError;
use crate::codec::wire::{Wire, mirror, read, write};
use crate::member as here;

mirror!(
    Joined = here::Joined {
        cluster: u128,
        recovery: u32,
        node: u32
    }
);
mirror!(Identity = here::Identity {
    data: u128,
    incarnation: u64,
    joined: Option<Joined>,
    keeps_log: bool,
});

impl Record for here::Identity {
    fn bytes(&self) -> Vec<u8> {
        write(&Identity::of(self))
    }

    fn from_bytes(bytes: &[u8]) -> Result<Self, DecodeError> {
        read::<Identity>(bytes)?.back()
    }
}
