//! `counter`: counts the events of its key.
//!
//! The count lives in the lane while the lane is in use, and with every event in the memory store of
//! the owner, from where it is read again after passivation or a crash of the shard. Handlers of
//! this kind that meet in one key share its count.

use super::{internal, plain_yes};
use crate::cx::Cx;
use crate::event::{EventKind, RpcReply};
use crate::handler::{AnyHandler, HandlerFuture};
use crate::outcome::{Failure, Outcome};
use crate::region::{LaneState, LaneView, Values};
use centripeta_cluster::OwnerEpoch;
use serde::Serialize;
use std::future::ready;
use std::time::Duration;

/// What refresh and sub_refresh extend by, as with `allow`.
const EXTEND: Duration = Duration::from_secs(3600);

/// Counts; answers a call with the count and every other event with its plain yes.
#[derive(Debug)]
pub(crate) struct Counter;

/// The count as the lane keeps it, good for one epoch of the owner.
#[derive(Debug, Clone, Copy)]
struct Count {
    value: u64,
    epoch: OwnerEpoch,
}

/// The answer to a call.
#[derive(Serialize)]
struct Counted<'a> {
    key: &'a str,
    count: u64,
    node: &'a str,
    epoch: u64,
}

impl AnyHandler for Counter {
    fn call(&self, cx: &mut Cx) -> HandlerFuture {
        Box::pin(ready(count(cx)))
    }

    fn keeps_lane(&self) -> bool {
        true
    }
}

fn count(cx: &mut Cx) -> Outcome {
    let kept = cx.lane_state.take();
    let Some((lane, values)) = lane_of(cx) else {
        let cause = "`counter` counts the events of a key, and this one has none; give the route \
                     a `key`, for instance key = \"user\"";
        return internal("counter", cause.to_owned());
    };
    let yes = match cx.kind() {
        EventKind::Rpc => None,
        kind => match plain_yes("counter", kind, EXTEND) {
            refused @ Outcome::Failure(_) => return refused,
            yes => Some(yes),
        },
    };
    let value = before(kept, lane, values).saturating_add(1);
    let saved = values
        .store
        .save(lane.slot, &lane.key, &value.to_be_bytes());
    if let Err(full) = saved {
        return Failure::Overloaded(full).into();
    }
    let outcome = yes.unwrap_or_else(|| {
        let counted = Counted {
            key: lane.key.text(),
            count: value,
            node: &values.node,
            epoch: lane.epoch.0,
        };
        Outcome::Reply(RpcReply::data(&counted).into())
    });
    let epoch = lane.epoch;
    cx.lane_state = Some(Box::new(Count { value, epoch }));
    outcome
}

fn lane_of(cx: &Cx) -> Option<(&LaneView, &Values)> {
    let lane = cx.lane.as_ref()?;
    Some((lane, lane.values.as_ref()?))
}

/// The count so far: of the lane if it is of this epoch, else of the store.
fn before(kept: Option<LaneState>, lane: &LaneView, values: &Values) -> u64 {
    let kept = kept.and_then(|kept| kept.downcast::<Count>().ok());
    if let Some(kept) = kept.filter(|kept| kept.epoch == lane.epoch) {
        return kept.value;
    }
    let stored = values.store.load(lane.slot, &lane.key);
    let bytes = stored.and_then(|stored| <[u8; 8]>::try_from(&*stored).ok());
    bytes.map_or(0, u64::from_be_bytes)
}
