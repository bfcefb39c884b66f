//! What opens a link, and what travels on it. Payloads are borrowed from the frame that they came in.

use bincode::de::{BorrowDecode, BorrowDecoder};
use bincode::error::DecodeError as Bad;
use bytes::Bytes;

use crate::codec::wire::{
    Seq, Text, Wire, append, mirror, mirror_names, read, read_borrowed, write,
};
use crate::codec::{BATCH_LIMIT, DecodeError};
use crate::peer;

pub(in crate::codec) fn hello(hello: &peer::Hello) -> Vec<u8> {
    write(&Hello::of(hello))
}

pub(in crate::codec) fn read_hello(bytes: &[u8]) -> Result<peer::Hello, DecodeError> {
    read::<Hello>(bytes)?.back()
}

pub(in crate::codec) fn batch(batch: &[peer::Envelope], to: &mut Vec<u8>) {
    append(&Batch(batch.iter().map(Envelope::of).collect()), to);
}

pub(in crate::codec) fn read_batch(bytes: &Bytes) -> Result<Vec<peer::Envelope>, DecodeError> {
    let batch: Batch<'_> = read_borrowed(bytes)?;
    Ok(batch.0.into_iter().map(|item| item.back(bytes)).collect())
}

mirror_names!(Class = peer::Class { Control, Data, Ask });
mirror!(Hello = peer::Hello {
    cluster: u128,
    recovery: u32,
    node: u32,
    name: Text,
    incarnation: u64,
    boot: u128,
    class: Class,
    link: u64,
    protocol_min: u16,
    protocol_max: u16,
    features: Seq<Text>,
    slot_count: u16,
    hash_id: Text,
    routes_hash: u64,
    build: Text,
    addrs: Seq<Text>,
    nonce: Nonce,
});

/// 32 random bytes.
#[derive(Debug, bincode::Encode, bincode::Decode)]
struct Nonce([u8; 32]);

impl Wire<[u8; 32]> for Nonce {
    fn of(value: &[u8; 32]) -> Self {
        Self(*value)
    }
    fn back(self) -> Result<[u8; 32], DecodeError> {
        Ok(self.0)
    }
}

/// The envelopes of a frame: their number, then each.
#[derive(Debug)]
struct Batch<'a>(Vec<Envelope<'a>>);

impl bincode::Encode for Batch<'_> {
    fn encode<E: bincode::enc::Encoder>(
        &self,
        encoder: &mut E,
    ) -> Result<(), bincode::error::EncodeError> {
        (self.0.len() as u64).encode(encoder)?;
        self.0.iter().try_for_each(|item| item.encode(encoder))
    }
}

impl<'de: 'a, 'a, C> BorrowDecode<'de, C> for Batch<'a> {
    fn borrow_decode<D: BorrowDecoder<'de, Context = C>>(decoder: &mut D) -> Result<Self, Bad> {
        let length = <u64 as bincode::Decode<C>>::decode(decoder)?;
        if length > BATCH_LIMIT as u64 {
            return Err(Bad::Other("more envelopes than a frame holds"));
        }
        let mut items = Vec::new();
        for _ in 0..length {
            items.push(Envelope::borrow_decode(decoder)?);
        }
        Ok(Self(items))
    }
}

/// Ids, with their number before them.
#[derive(Debug, bincode::Encode, bincode::BorrowDecode)]
enum Envelope<'a> {
    Request {
        id: u64,
        deadline_ms: u32,
        kind: u8,
        stream: bool,
        payload: &'a [u8],
    },
    Cast {
        kind: u8,
        payload: &'a [u8],
    },
    Reply {
        id: u64,
        outcome: u8,
        load: u32,
        payload: &'a [u8],
    },
    Accepted {
        id: u64,
    },
    Welcome {
        protocol: u16,
        started: Seq<u64>,
    },
    Refused {
        why: &'a str,
    },
    Confirm {
        ids: Seq<u64>,
    },
    Ping,
    Bye,
    StreamOpened {
        id: u64,
        load: u32,
        payload: &'a [u8],
    },
    StreamData {
        id: u64,
        payload: &'a [u8],
    },
    StreamCredit {
        id: u64,
        messages: u32,
        bytes: u64,
    },
    StreamEnd {
        id: u64,
        payload: &'a [u8],
    },
    StreamDropped {
        id: u64,
    },
    StreamCancelled {
        id: u64,
    },
    Cancelled {
        id: u64,
    },
}

impl<'a> Envelope<'a> {
    fn of(value: &'a peer::Envelope) -> Self {
        type Here = peer::Envelope;
        match value {
            Here::Request {
                id,
                deadline_ms,
                kind,
                stream,
                payload,
            } => Self::Request {
                id: *id,
                deadline_ms: *deadline_ms,
                kind: *kind,
                stream: *stream,
                payload,
            },
            Here::Cast { kind, payload } => Self::Cast {
                kind: *kind,
                payload,
            },
            Here::Reply {
                id,
                outcome,
                load,
                payload,
            } => Self::Reply {
                id: *id,
                outcome: *outcome,
                load: *load,
                payload,
            },
            Here::Accepted { id } => Self::Accepted { id: *id },
            Here::Welcome { protocol, started } => Self::Welcome {
                protocol: *protocol,
                started: Seq(started.clone()),
            },
            Here::Refused { why } => Self::Refused { why },
            Here::Confirm { ids } => Self::Confirm {
                ids: Seq(ids.clone()),
            },
            Here::Ping => Self::Ping,
            Here::Bye => Self::Bye,
            Here::StreamOpened { id, load, payload } => Self::StreamOpened {
                id: *id,
                load: *load,
                payload,
            },
            Here::StreamData { id, payload } => Self::StreamData { id: *id, payload },
            Here::StreamCredit {
                id,
                messages,
                bytes,
            } => Self::StreamCredit {
                id: *id,
                messages: *messages,
                bytes: *bytes,
            },
            Here::StreamEnd { id, payload } => Self::StreamEnd { id: *id, payload },
            Here::StreamDropped { id } => Self::StreamDropped { id: *id },
            Here::StreamCancelled { id } => Self::StreamCancelled { id: *id },
            Here::Cancelled { id } => Self::Cancelled { id: *id },
        }
    }

    fn back(self, frame: &Bytes) -> peer::Envelope {
        type Here = peer::Envelope;
        match self {
            Self::Request {
                id,
                deadline_ms,
                kind,
                stream,
                payload,
            } => Here::Request {
                id,
                deadline_ms,
                kind,
                stream,
                payload: frame.slice_ref(payload),
            },
            Self::Cast { kind, payload } => Here::Cast {
                kind,
                payload: frame.slice_ref(payload),
            },
            Self::Reply {
                id,
                outcome,
                load,
                payload,
            } => Here::Reply {
                id,
                outcome,
                load,
                payload: frame.slice_ref(payload),
            },
            Self::Accepted { id } => Here::Accepted { id },
            Self::Welcome { protocol, started } => Here::Welcome {
                protocol,
                started: started.0,
            },
            Self::Refused { why } => Here::Refused {
                why: why.to_owned(),
            },
            Self::Confirm { ids } => Here::Confirm { ids: ids.0 },
            Self::Ping => Here::Ping,
            Self::Bye => Here::Bye,
            Self::StreamOpened { id, load, payload } => Here::StreamOpened {
                id,
                load,
                payload: frame.slice_ref(payload),
            },
            Self::StreamData { id, payload } => Here::StreamData {
                id,
                payload: frame.slice_ref(payload),
            },
            Self::StreamCredit {
                id,
                messages,
                bytes,
            } => Here::StreamCredit {
                id,
                messages,
                bytes,
            },
            Self::StreamEnd { id, payload } => Here::StreamEnd {
                id,
                payload: frame.slice_ref(payload),
            },
            Self::StreamDropped { id } => Here::StreamDropped { id },
            Self::StreamCancelled { id } => Here::StreamCancelled { id },
            Self::Cancelled { id } => Here::Cancelled { id },
        }
    }
}
