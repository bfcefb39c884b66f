//! From the innermost stage to a shard: the key, its slot, the owner, the shard that runs it.

use crate::engine::flight::Flight;
use crate::engine::plan::Route;
use crate::engine::seat::Refused;
use crate::engine::shared::Shared;
use crate::outcome::{Failure, Overloaded, Unavailable};
use crate::region::{LaneView, Leg, Shard, ShardMessage, Values};
use crate::routing::key::{KeyError, LaneKey};
use centripeta_cluster::{OwnerEpoch, SlotId};
use std::sync::Arc;

/// How many more events have to wait on this core than on the calmest one before an event without
/// a key goes there: a hop costs less than waiting for that many handlers.
const SPREAD_ABOVE: usize = 4;

/// Sends an event that has passed its stages to the shard that runs its handler: of this node, or of
/// the one that owns its key or serves its kind.
pub(crate) fn dispatch(flight: Flight) {
    let Some(route) = flight.cx().matched().cloned() else {
        return flight.finish(Failure::NoRoute.into());
    };
    let key = match route.key.evaluate(flight.cx()) {
        Ok(key) => key,
        Err(why @ KeyError::BadData { .. }) => {
            return flight.finish(Failure::BadData(why.to_string()).into());
        }
    };
    if let Some(forward) = flight.shared().forward.clone() {
        return forward.dispatch(flight, route, key);
    }
    let place = match key {
        None => None,
        Some(key) => {
            let slot = key.slot();
            Some(Place {
                key,
                slot,
                leg: None,
            })
        }
    };
    run_here(flight, route, place);
}

/// Where an event with a key runs.
#[derive(Debug)]
pub(crate) struct Place {
    /// The key.
    pub(crate) key: LaneKey,
    /// Its slot.
    pub(crate) slot: SlotId,
    /// In a cluster, how it came here.
    pub(crate) leg: Option<Leg>,
}

/// Sends an event to the shard of this node that runs it.
pub(crate) fn run_here(mut flight: Flight, route: Arc<Route>, place: Option<Place>) {
    let shared = flight.shared();
    let shard = match &place {
        None => calm_shard(shared, flight.core().0),
        Some(place) => &shared.shards[usize::from(shared.layout.shard_of(place.slot).index())],
    };
    let Some(waiting) = shard.admit(flight.cx().raw().len(), shared) else {
        return flight.finish(Failure::Overloaded(Overloaded::Shard).into());
    };
    let shard = Arc::clone(shard);
    let values = route.handler.keeps_lane().then(|| Values {
        store: Arc::clone(&shared.store),
        node: Arc::clone(&shared.node),
    });
    let cx = flight.cx_mut();
    cx.lane = place.map(|Place { key, slot, leg }| LaneView {
        key,
        slot,
        // Set by the shard, which asks the gate of the slot where the event starts.
        epoch: OwnerEpoch::FIRST,
        leg,
        values,
    });
    cx.trace.waits();
    let (message, why) = match shard.seat.cast(ShardMessage::Run {
        flight,
        route,
        waiting,
    }) {
        Ok(()) => return,
        Err(Refused::Parked(message)) => (message, Unavailable::Parked),
        Err(Refused::Closed(message)) => (message, Unavailable::Draining),
    };
    if let ShardMessage::Run { flight, .. } = message {
        flight.refuse(why);
    }
}

/// A shard for an event without a key: of its own core, or of the calmest if that one is busy.
fn calm_shard(shared: &Shared, home: usize) -> &Arc<Shard> {
    let waiting = |core: usize| shared.cores[core].waiting.get();
    let mut core = home;
    for other in 0..shared.cores.len() {
        if waiting(other) + SPREAD_ABOVE < waiting(core) {
            core = other;
        }
    }
    let (cores, per_core) = (
        shared.cores.len(),
        usize::from(shared.layout.shards_per_core()),
    );
    let pick = fastrand::usize(..per_core);
    // Shards are dealt to the cores in turn (`ShardLayout::core_of`).
    &shared.shards[pick * cores + core]
}
