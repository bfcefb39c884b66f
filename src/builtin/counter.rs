//! `counter`: counts the events of its key.
//!
//! The count lives in the lane while the lane is in use, and with every event in the memory store of
//! the owner, from where it is read again after passivation or a crash of the shard. It travels with
//! planned moves; after the death or a new start of its owner it begins again at 1, until there is a
//! durable store. Handlers of this kind that meet in one key share its count.

use super::{internal, plain_yes};
use crate::cx::Cx;
use crate::event::{EventKind, RpcReply};
use crate::handler::{AnyHandler, HandlerFuture};
use crate::outcome::{Failure, Outcome, Overloaded, Unavailable};
use crate::region::{LaneState, LaneView, Values};
use crate::routing::key::LaneKey;
use centripeta_cluster::OwnerEpoch;
use centripeta_cluster::store::StoreError;
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
    let value = match before(kept, lane, values) {
        Ok(value) => value.saturating_add(1),
        Err(why) => return refused(&why),
    };
    let key = stored_key(&lane.key);
    let saved = values
        .store
        .put(lane.slot, lane.epoch, &key, &value.to_be_bytes());
    if let Err(why) = saved {
        return refused(&why);
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
fn before(kept: Option<LaneState>, lane: &LaneView, values: &Values) -> Result<u64, StoreError> {
    let kept = kept.and_then(|kept| kept.downcast::<Count>().ok());
    if let Some(kept) = kept.filter(|kept| kept.epoch == lane.epoch) {
        return Ok(kept.value);
    }
    let key = stored_key(&lane.key);
    let stored = values.store.get(lane.slot, lane.epoch, &key)?;
    let bytes = stored.and_then(|stored| <[u8; 8]>::try_from(&*stored.value).ok());
    Ok(bytes.map_or(0, u64::from_be_bytes))
}

/// A key in the store: names of several spaces share a slot.
fn stored_key(key: &LaneKey) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(1 + key.bytes().len());
    bytes.push(key.space() as u8);
    bytes.extend_from_slice(key.bytes());
    bytes
}

/// What the store's refusal means for the event.
fn refused(why: &StoreError) -> Outcome {
    match why {
        StoreError::Full { .. } => Failure::Overloaded(Overloaded::Memory).into(),
        StoreError::Fenced { .. } => Failure::Unavailable(Unavailable::Lost).into(),
        _ => internal("counter", why.to_string()),
    }
}
