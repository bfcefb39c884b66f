//! A node that runs alone, seen as a cluster of one: it owns every slot.

use crate::proto::admin as proto;
use centripeta_cluster::admin::Refused;
use centripeta_cluster::{OwnerEpoch, SlotId, slot_of, tag_of};

pub(super) fn status(name: &str) -> proto::ClusterStatus {
    proto::ClusterStatus {
        alone: true,
        answered_by: Some(named(name)),
        ..proto::ClusterStatus::default()
    }
}

pub(super) fn slots(name: &str, node: Option<&str>) -> Result<proto::ListSlotsResponse, Refused> {
    if let Some(node) = node.filter(|node| *node != name) {
        return Err(Refused::no(
            format!("there is no node {node:?}: {name} runs alone"),
            "leave --node out",
        ));
    }
    let slots = SlotId::all().map(|id| slot(name, id)).collect();
    Ok(proto::ListSlotsResponse { slots })
}

pub(super) fn locate(name: &str, key: &[u8]) -> proto::LocateResponse {
    proto::LocateResponse {
        tag: String::from_utf8_lossy(tag_of(key)).into_owned(),
        slot: Some(slot(name, slot_of(key))),
    }
}

fn named(name: &str) -> proto::Named {
    proto::Named {
        id: 0,
        name: name.to_owned(),
    }
}

fn slot(name: &str, slot: SlotId) -> proto::Slot {
    proto::Slot {
        slot: slot.index().into(),
        owner: Some(named(name)),
        epoch: OwnerEpoch::FIRST.0,
        moving_to: None,
    }
}
