//! Messages on control links.

use super::command::Command;
use super::{Completion, Delta, LeaderId, Member, Registration, Slot, Table};
use crate::codec::DecodeError;
use crate::codec::wire::{Seq, Text, Wire, mirror, mirror_names, mirror_variants, read, write};
use crate::handoff;
use crate::lease;
use crate::peer;

pub(in crate::codec) fn control(control: &peer::Control) -> Vec<u8> {
    write(&Control::of(control))
}

pub(in crate::codec) fn read_control(bytes: &[u8]) -> Result<peer::Control, DecodeError> {
    read::<Control>(bytes)?.back()
}

mirror!(
    Heartbeat = lease::Heartbeat {
        member: Member,
        boot: u128,
        seq: u64,
        version: u64,
        degraded: bool,
        closed: u16,
    }
);
mirror!(
    Ack = lease::Ack {
        member: Member,
        boot: u128,
        seq: u64,
        leader: LeaderId,
        version: u64
    }
);
mirror!(
    Prepared = handoff::Prepared {
        slot: Slot,
        id: u64,
        epoch: u64
    }
);
mirror!(
    Received = handoff::Received {
        slot: Slot,
        id: u64
    }
);
mirror_names!(
    GiveUp = handoff::GiveUp {
        NotPrepared,
        LongEvents,
        ClosedTooLong,
        SourceSilent,
        NotOpen,
        Refused
    }
);
mirror!(
    AbortWanted = handoff::AbortWanted {
        slot: Slot,
        id: u64,
        epoch: u64,
        why: GiveUp
    }
);
mirror_variants!(Control = peer::Control {
    Heartbeat(heartbeat: Heartbeat, via: Option<u32>),
    Ack(ack: Ack),
    Dead(member: Member),
    SecondProcess(member: Member, boot: u128),
    Leading(leader: LeaderId),
    Delta(delta: Delta),
    WantTable(version: u64),
    Table(table: Table),
    Register(node: Registration),
    Registered(member: Member),
    NotRegistered(boot: u128, why: Text),
    Propose(command: Command),
    Prepared(from: Member, step: Prepared),
    Received(from: Member, step: Received),
    Released(from: Member, steps: Seq<Completion>),
    AbortWanted(from: Member, wanted: Seq<AbortWanted>),
    Leaving(member: Member),
    Resumed(member: Member, slot: Slot),
});
