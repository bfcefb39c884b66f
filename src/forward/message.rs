//! Events between nodes, as bytes: the one place where their form is written down.
//!
//! Protobuf, so that a node of the version before or after reads what it knows and skips the rest.
//! Numbers of fields and codes never change their meaning; the tests hold the bytes.

use bytes::Bytes;
use centripeta_cluster::peer::{NotHere, Reason};
use centripeta_cluster::{
    FIRST_KIND, Incarnation, Member, Move, MoveId, MoveReason, NodeId, OwnerEpoch,
};
use http::{HeaderMap, HeaderName, HeaderValue};
use prost::Message;
use prost::encoding::{WireType, encode_key, encode_varint, encoded_len_varint, key_len};

/// The kind of an event's request on data links.
pub(super) const EVENT: u8 = FIRST_KIND;
/// The kind of a question about an event, which does not run: an [`EventMessage`], answered with an
/// [`ExplainedMessage`]. A node that does not know it bounces it.
pub(super) const EXPLAIN: u8 = FIRST_KIND + 1;

/// A name and its value, as they came; read, they share the memory of the message.
#[derive(Clone, PartialEq, Eq, Message)]
pub(super) struct Entry {
    #[prost(bytes = "bytes", tag = "1")]
    pub(super) name: Bytes,
    #[prost(bytes = "bytes", tag = "2")]
    pub(super) value: Bytes,
}

/// An event on its way to the node that runs it.
#[derive(Clone, PartialEq, Eq, Message)]
pub(super) struct EventMessage {
    /// Its slot; without one it has no key.
    #[prost(uint32, optional, tag = "1")]
    pub(super) slot: Option<u32>,
    /// The version of the table that it was routed by.
    #[prost(uint64, tag = "2")]
    pub(super) version: u64,
    /// [`kind_code`] of its kind.
    #[prost(uint32, tag = "3")]
    pub(super) kind: u32,
    /// Of raw events, the method.
    #[prost(string, tag = "4")]
    pub(super) method: String,
    /// The request, bytes untouched.
    #[prost(bytes = "bytes", tag = "5")]
    pub(super) raw: Bytes,
    /// The caller's metadata.
    #[prost(message, repeated, tag = "6")]
    pub(super) metadata: Vec<Entry>,
    /// Registered attributes, by their names; values are JSON.
    #[prost(message, repeated, tag = "7")]
    pub(super) attributes: Vec<Entry>,
    /// The trace, as `traceparent` writes it, with the span that sends the event.
    #[prost(string, tag = "8")]
    pub(super) traceparent: String,
    /// What tracing systems have added.
    #[prost(string, tag = "9")]
    pub(super) tracestate: String,
    /// The ingress core's generation of the slot.
    #[prost(uint32, tag = "10")]
    pub(super) generation: u32,
    /// The ingress core.
    #[prost(uint32, tag = "11")]
    pub(super) core: u32,
    /// Whether it was held.
    #[prost(bool, tag = "12")]
    pub(super) held: bool,
    /// How often it has been sent on: 1, or it is refused.
    #[prost(uint32, tag = "13")]
    pub(super) hop: u32,
    /// How much of the link's time for it is for the way home, in ms.
    #[prost(uint32, tag = "14")]
    pub(super) way_home_ms: u32,
    /// The host that the caller named.
    #[prost(string, tag = "15")]
    pub(super) authority: String,
    /// Whether its request is a part of a batch that was split by owner.
    #[prost(bool, tag = "16")]
    pub(super) part: bool,
    /// For parts, every slot that is asked for.
    #[prost(uint32, repeated, tag = "17")]
    pub(super) slots: Vec<u32>,
}

/// The field of a message's metadata, on the wire.
const METADATA_TAG: u32 = 6;

impl EventMessage {
    /// Its bytes, with this metadata: written from where it stands, since every event has some.
    pub(super) fn encode_with(&self, metadata: &HeaderMap) -> Bytes {
        debug_assert!(self.metadata.is_empty(), "it is written once");
        // Two tags and three lengths, each of at most five bytes.
        const AROUND: usize = 17;
        let each = metadata.iter();
        let lengths = each.map(|(name, value)| name.as_str().len() + value.len() + AROUND);
        let mut bytes = Vec::with_capacity(self.encoded_len() + lengths.sum::<usize>());
        self.encode_raw(&mut bytes);
        for (name, value) in metadata {
            let (name, value) = (name.as_str().as_bytes(), value.as_bytes());
            let length = field_len(1, name.len()) + field_len(2, value.len());
            encode_key(METADATA_TAG, WireType::LengthDelimited, &mut bytes);
            encode_varint(length as u64, &mut bytes);
            for (tag, text) in [(1, name), (2, value)] {
                encode_key(tag, WireType::LengthDelimited, &mut bytes);
                encode_varint(text.len() as u64, &mut bytes);
                bytes.extend_from_slice(text);
            }
        }
        bytes.into()
    }
}

/// Room that is made at once for metadata of another node, whatever it says.
const ROOM: usize = 64;
/// Names in the metadata of one event. A map takes half as many again, and panics beyond: what is
/// added on the way to a handler has room.
const MOST_NAMES: usize = 16_384;

/// Metadata as it came from another node; entries that HTTP does not know are left out.
///
/// # Errors
/// It has more names than one call can carry.
pub(super) fn headers(entries: Vec<Entry>) -> Result<HeaderMap, String> {
    let count = entries.len();
    let mut metadata = HeaderMap::with_capacity(count.min(ROOM));
    for entry in entries {
        let name = HeaderName::from_bytes(&entry.name);
        if let (Ok(name), Ok(value)) = (name, HeaderValue::from_maybe_shared(entry.value)) {
            let fits = metadata.try_append(name, value).is_ok();
            if !fits || metadata.keys_len() > MOST_NAMES {
                return Err(format!(
                    "its {count} entries of metadata have more than {MOST_NAMES} names; lower \
                     `limits.header_bytes` of the node that sent it"
                ));
            }
        }
    }
    Ok(metadata)
}

fn field_len(tag: u32, length: usize) -> usize {
    key_len(tag) + encoded_len_varint(length as u64) + length
}

/// How an event ended at the node that ran it.
#[derive(Clone, PartialEq, Eq, Message)]
pub(super) struct OutcomeMessage {
    /// See `outcome.rs` for the codes.
    #[prost(uint32, tag = "1")]
    pub(super) code: u32,
    /// A finer code: of a refusal, of the message of a reply.
    #[prost(uint32, tag = "2")]
    pub(super) detail: u32,
    /// The encoded response.
    #[prost(bytes = "bytes", tag = "3")]
    pub(super) response: Bytes,
    /// What was said when the reply was built: 1 anonymous, 2 never expires, 4 null payloads, 8
    /// untouched.
    #[prost(uint32, tag = "4")]
    pub(super) intent: u32,
    /// A text: of a failure, an error, a disconnect.
    #[prost(string, tag = "5")]
    pub(super) text: String,
    /// Where it failed.
    #[prost(string, tag = "6")]
    pub(super) place: String,
    /// Whether an error is temporary.
    #[prost(bool, tag = "7")]
    pub(super) temporary: bool,
}

/// What a node says of an event that it would run.
#[derive(Clone, PartialEq, Eq, Message)]
pub(crate) struct ExplainedMessage {
    /// How its route is named.
    #[prost(string, tag = "1")]
    pub(crate) route: String,
    /// The handler of that route.
    #[prost(string, tag = "2")]
    pub(crate) handler: String,
    /// The pool that runs it; empty for the cores.
    #[prost(string, tag = "3")]
    pub(crate) pool: String,
    /// With a key, the shard of its slot.
    #[prost(uint32, optional, tag = "4")]
    pub(crate) shard: Option<u32>,
    /// The core of that shard.
    #[prost(uint32, optional, tag = "5")]
    pub(crate) core: Option<u32>,
    /// With a key, `open`, `opening`, `shut` or `foreign`.
    #[prost(string, tag = "6")]
    pub(crate) gate: String,
    /// The epoch of that gate.
    #[prost(uint64, tag = "7")]
    pub(crate) epoch: u64,
    /// How much of the lease is left, in ms.
    #[prost(uint64, optional, tag = "8")]
    pub(crate) lease_ms: Option<u64>,
    /// What keeps it from running the event.
    #[prost(string, tag = "9")]
    pub(crate) problem: String,
}

#[derive(Clone, Copy, PartialEq, Eq, Message)]
struct MemberMessage {
    #[prost(uint32, tag = "1")]
    id: u32,
    #[prost(uint64, tag = "2")]
    incarnation: u64,
}

/// Why an event did not start.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
struct NotHereMessage {
    #[prost(uint32, tag = "1")]
    reason: u32,
    #[prost(message, optional, tag = "2")]
    owner: Option<MemberMessage>,
    #[prost(uint64, tag = "3")]
    epoch: u64,
    #[prost(uint64, tag = "4")]
    version: u64,
    #[prost(uint64, tag = "5")]
    move_id: u64,
    #[prost(message, optional, tag = "6")]
    move_to: Option<MemberMessage>,
    #[prost(uint32, tag = "7")]
    move_reason: u32,
}

const WRONG_OWNER: u32 = 1;
const MOVING: u32 = 2;
const LAPSED: u32 = 3;
const BEHIND: u32 = 4;
const STALE: u32 = 5;

const fn of_member(member: Member) -> MemberMessage {
    MemberMessage {
        id: member.id.0,
        incarnation: member.incarnation.0,
    }
}

const fn member(message: MemberMessage) -> Member {
    Member {
        id: NodeId(message.id),
        incarnation: Incarnation(message.incarnation),
    }
}

/// The bytes of a `NotHere`.
pub(super) fn encode_not_here(why: &NotHere) -> Bytes {
    let (reason, moving) = match why.reason {
        Reason::WrongOwner => (WRONG_OWNER, None),
        Reason::Moving(moving) => (MOVING, Some(moving)),
        Reason::Lapsed => (LAPSED, None),
        Reason::Behind => (BEHIND, None),
        Reason::Stale => (STALE, None),
    };
    let message = NotHereMessage {
        reason,
        owner: why.owner.map(of_member),
        epoch: why.epoch.0,
        version: why.version,
        move_id: moving.map_or(0, |moving| moving.id.0),
        move_to: moving.map(|moving| of_member(moving.to)),
        move_reason: match moving.map(|moving| moving.reason) {
            None => 0,
            Some(MoveReason::Rebalance) => 1,
            Some(MoveReason::Drain) => 2,
            Some(MoveReason::Admin) => 3,
        },
    };
    message.encode_to_vec().into()
}

/// What a `NotHere` says; `None` for bytes that are none, or of a reason that is not known here.
pub(super) fn decode_not_here(bytes: Bytes) -> Option<NotHere> {
    let message = NotHereMessage::decode(bytes).ok()?;
    let reason = match message.reason {
        WRONG_OWNER => Reason::WrongOwner,
        MOVING => Reason::Moving(Move {
            id: MoveId(message.move_id),
            to: member(message.move_to?),
            reason: match message.move_reason {
                2 => MoveReason::Drain,
                3 => MoveReason::Admin,
                _ => MoveReason::Rebalance,
            },
        }),
        LAPSED => Reason::Lapsed,
        BEHIND => Reason::Behind,
        STALE => Reason::Stale,
        _ => return None,
    };
    Some(NotHere {
        reason,
        owner: message.owner.map(member),
        epoch: OwnerEpoch(message.epoch),
        version: message.version,
    })
}

macro_rules! kinds {
    ($($code:literal = $kind:ident),* $(,)?) => {
        /// The number of a kind between nodes.
        pub(super) const fn kind_code(kind: crate::event::EventKind) -> u32 {
            match kind { $(crate::event::EventKind::$kind => $code,)* }
        }

        /// The kind of a number, if it is known here.
        pub(super) const fn kind_of(code: u32) -> Option<crate::event::EventKind> {
            match code { $($code => Some(crate::event::EventKind::$kind),)* _ => None }
        }
    };
}

kinds! {
    1 = Connect, 2 = Refresh, 3 = Subscribe, 4 = SubRefresh, 5 = Publish, 6 = Rpc, 7 = Stream,
    8 = StreamBidirectional, 9 = MapPublish, 10 = MapRemove, 11 = SharedPollRefresh,
    12 = CacheEmpty, 13 = ChannelState, 14 = Raw,
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::event::EventKind;

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    fn entry(name: &str, value: &'static [u8]) -> Entry {
        Entry {
            name: Bytes::copy_from_slice(name.as_bytes()),
            value: Bytes::from_static(value),
        }
    }

    #[test]
    fn metadata_of_any_size_is_read_or_refused_in_words() {
        let blank = vec![Entry::default(); 24_577];
        assert_eq!(
            headers(blank),
            Ok(HeaderMap::new()),
            "no names, nothing to keep"
        );
        let named = |count: usize| {
            let name = |n: usize| entry(&format!("x-{n}"), b"1");
            headers((0..count).map(name).collect())
        };
        assert_eq!(named(MOST_NAMES).unwrap().len(), MOST_NAMES);
        for count in [MOST_NAMES + 1, 24_577, 40_000] {
            let why = named(count).unwrap_err();
            assert!(why.contains("more than 16384 names"), "{why}");
        }
        let values = vec![entry("x-a", b"1"); 40_000];
        assert_eq!(headers(values).unwrap().len(), 40_000);
    }

    fn event() -> EventMessage {
        EventMessage {
            slot: Some(0),
            version: 300,
            kind: kind_code(EventKind::Raw),
            method: "M".to_owned(),
            raw: Bytes::from_static(b"\x00\xff"),
            metadata: vec![entry("x-a", b"1")],
            attributes: vec![entry("t", b"{}")],
            traceparent: "00".to_owned(),
            tracestate: "k".to_owned(),
            generation: 2,
            core: 1,
            held: true,
            hop: 1,
            way_home_ms: 250,
            authority: "h".to_owned(),
            part: true,
            slots: vec![1, 4095],
        }
    }

    #[test]
    fn an_event_has_these_bytes_for_ever() {
        let golden = "080010ac02180e22014d2a0200ff32080a03782d611201313a070a0174\
                      12027b7d420230304a016b5002580160016801\
                      70fa017a0168800101\
                      8a010301ff1f";
        assert_eq!(hex(&event().encode_to_vec()), golden.replace(' ', ""));
        assert_eq!(
            EventMessage::decode(event().encode_to_vec().as_slice()).unwrap(),
            event()
        );
    }

    #[test]
    fn what_a_node_says_of_an_event_has_these_bytes_for_ever() {
        let said = ExplainedMessage {
            route: "r".to_owned(),
            handler: "h".to_owned(),
            pool: "p".to_owned(),
            shard: Some(0),
            core: Some(1),
            gate: "open".to_owned(),
            epoch: 4,
            lease_ms: Some(0),
            problem: "x".to_owned(),
        };
        let golden = "0a01721201681a017020002801 32046f70656e 3804 4000 4a0178";
        assert_eq!(hex(&said.encode_to_vec()), golden.replace(' ', ""));
        assert_eq!(
            ExplainedMessage::decode(said.encode_to_vec().as_slice()).unwrap(),
            said
        );
        assert_eq!((EVENT, EXPLAIN), (16, 17));
    }

    #[test]
    fn metadata_that_is_written_beside_the_message_is_read_as_a_part_of_it() {
        let mut headers = HeaderMap::new();
        headers.append("x-a", "1".parse().unwrap());
        headers.append("x-a", "2".parse().unwrap());
        headers.append("grpc-timeout", "x".repeat(300).parse().unwrap());
        let bare = EventMessage {
            metadata: Vec::new(),
            ..event()
        };
        let mut read = EventMessage::decode(bare.encode_with(&headers)).unwrap();
        let names: Vec<_> = read.metadata.iter().map(|it| it.name.clone()).collect();
        assert_eq!(names, ["x-a", "x-a", "grpc-timeout"]);
        assert_eq!(read.metadata[1].value, "2");
        assert_eq!(read.metadata[2].value.len(), 300);
        read.metadata.clear();
        assert_eq!(read, bare);
        assert_eq!(bare.encode_with(&HeaderMap::new()), bare.encode_to_vec());
    }

    #[test]
    fn fields_of_later_versions_are_skipped() {
        let mut bytes = event().encode_to_vec();
        // Field 99, three bytes.
        bytes.extend_from_slice(&[0x9a, 0x06, 0x03, 1, 2, 3]);
        assert_eq!(EventMessage::decode(bytes.as_slice()).unwrap(), event());
    }

    #[test]
    fn a_not_here_of_every_reason_comes_back_as_it_was_and_keeps_its_bytes() {
        let owner = Member {
            id: NodeId(3),
            incarnation: Incarnation(2),
        };
        let moving = Move {
            id: MoveId(77),
            to: owner,
            reason: MoveReason::Drain,
        };
        let goldens = [
            (Reason::WrongOwner, "080112040803100218092008"),
            (
                Reason::Moving(moving),
                "080212040803100218092008284d3204080310023802",
            ),
            (Reason::Lapsed, "080312040803100218092008"),
            (Reason::Behind, "080412040803100218092008"),
            (Reason::Stale, "080512040803100218092008"),
        ];
        for (reason, golden) in goldens {
            let why = NotHere {
                reason,
                owner: Some(owner),
                epoch: OwnerEpoch(9),
                version: 8,
            };
            let bytes = encode_not_here(&why);
            assert_eq!(hex(&bytes), golden);
            assert_eq!(decode_not_here(bytes), Some(why));
        }
        assert_eq!(decode_not_here(Bytes::new()), None);
        assert_eq!(decode_not_here(Bytes::from_static(&[8, 2])), None);
        assert_eq!(decode_not_here(Bytes::from_static(&[0xff])), None);
    }

    #[test]
    fn every_kind_has_a_number_of_its_own() {
        for kind in EventKind::ALL {
            assert_eq!(kind_of(kind_code(kind)), Some(kind));
        }
        assert_eq!(kind_of(0), None);
        assert_eq!(kind_of(15), None);
    }
}
