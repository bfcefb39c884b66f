#![allow(clippy::unwrap_used)]
//! Raft as it is run: over a network in memory that loses, delays and parts, on stores in memory
//! and in files. The clock is paused where no file is waited for.

mod bytes;
mod cluster;
mod disk;
mod net;
mod store;
mod succession;
mod voters;

use std::time::Duration;

use tokio::sync::watch;

use super::{Raft, Status};
use crate::testing::registration;
use crate::{
    BootId, ClusterId, ClusterInfo, Command, DataId, Incarnation, NodeId, Settings, Table,
};

pub(super) fn identity(node: u32) -> super::Identity {
    super::Identity {
        cluster: ClusterId(0xc1),
        node: NodeId(node),
        data: DataId(u128::from(node)),
        incarnation: Incarnation(1),
    }
}

pub(super) fn genesis() -> Table {
    let founder = registration("n1", 1, 1);
    super::genesis(
        ClusterInfo::new(ClusterId(0xc1)),
        Settings::default(),
        &founder,
    )
}

/// Waits until the status of a Raft is as wanted.
pub(super) async fn until(what: &str, raft: &Raft, wanted: impl Fn(&Status) -> bool) -> Status {
    let mut status: watch::Receiver<Status> = raft.status();
    let waited = tokio::time::timeout(Duration::from_secs(20), status.wait_for(wanted)).await;
    match waited {
        Ok(Ok(status)) => status.clone(),
        _ => panic!("node {}: {what}: {:?}", raft.id(), raft.status().borrow()),
    }
}

/// A command that changes the table, and its registration's boot id.
pub(super) fn register(raft: &Raft, name: &str, data: u128) -> (Command, BootId) {
    let node = registration(name, data, 1);
    let boot = node.boot;
    let leader = raft.leader().expect("it knows a leader");
    let grants = Vec::new();
    let command = Command::Register {
        node,
        leader,
        grants,
    };
    (command, boot)
}
