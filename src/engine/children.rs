//! What the root supervisor of an engine keeps running: regions with their shards, pipelines with
//! their stages.

use crate::engine::shared::Shared;
use crate::metrics::ChildKind;
use crate::pipeline::{Roster, Stage, StageActor, StageArgs};
use crate::region::{Shard, ShardActor, ShardArgs, shard_parked};
use crate::supervision::{Child, ChildId, Supervisor};
use ractor::{Actor, ActorCell, SpawnErr};
use std::sync::Arc;
use std::time::Duration;
use tokio::runtime::Handle;

/// The supervisor of a core's shards.
pub(super) fn region(
    id: ChildId,
    core: usize,
    handle: Handle,
    shared: &Arc<Shared>,
    passivate_after: Duration,
) -> Child {
    let counted = Arc::clone(shared);
    let shared = Arc::clone(shared);
    let children = move || {
        let of_core = shared
            .shards
            .iter()
            .enumerate()
            .filter(|(_, shard)| shard.core() == core);
        let child = |(index, shard): (usize, &Arc<Shard>)| {
            let (seat, shared) = (Arc::clone(shard), Arc::clone(&shared));
            let (vacate, park) = (Arc::clone(shard), Arc::clone(shard));
            let (restarts, parks) = (Arc::clone(&shared), Arc::clone(&shared));
            Child {
                id: index as ChildId,
                name: format!("shard {index}"),
                start: Box::new(move |supervisor| {
                    let shard = Arc::clone(&seat);
                    let shared = Arc::clone(&shared);
                    Box::pin(async move {
                        let args = ShardArgs {
                            shard: Arc::clone(&shard),
                            shared: Arc::clone(&shared),
                            passivate_after,
                        };
                        let spawned = Actor::spawn_linked(None, ShardActor, args, supervisor);
                        let (actor, _) = spawned.await?;
                        shard.seat.seat(actor.clone());
                        shard_parked(&shared, &shard, false);
                        Ok(actor.get_cell())
                    })
                }),
                vacate: Box::new(move || {
                    restarts.metrics.restarted(ChildKind::Shard);
                    vacate.seat.vacate();
                }),
                park: Box::new(move || {
                    parks.metrics.parked(ChildKind::Shard);
                    drop(park.seat.park());
                    shard_parked(&parks, &park, true);
                }),
            }
        };
        of_core.map(child).collect()
    };
    let name = format!("region of core {core}");
    supervisor(id, ChildKind::Region, name, handle, counted, children, None)
}

/// The supervisor of a core's stages.
pub(super) fn pipeline(id: ChildId, core: usize, handle: Handle, shared: &Arc<Shared>) -> Child {
    let counted = Arc::clone(shared);
    let shared = Arc::clone(shared);
    let children = move || {
        let listed = shared.cores[core].roster.stages();
        let child = |(id, stage): &(ChildId, Arc<Stage>)| stage_child(core, *id, stage, &shared);
        listed.iter().map(child).collect()
    };
    let name = format!("pipeline of core {core}");
    let seat = Some(Arc::clone(&counted.cores[core].roster));
    supervisor(
        id,
        ChildKind::Pipeline,
        name,
        handle,
        counted,
        children,
        seat,
    )
}

/// A stage as a child of its core's supervisor.
pub(super) fn stage_child(
    core: usize,
    id: ChildId,
    stage: &Arc<Stage>,
    shared: &Arc<Shared>,
) -> Child {
    let beat = Arc::clone(&shared.cores[core].beat);
    let seat = Arc::clone(stage);
    let (vacate, park) = (Arc::clone(stage), Arc::clone(stage));
    let (restarts, parks) = (Arc::clone(shared), Arc::clone(shared));
    let shared = Arc::clone(shared);
    Child {
        id,
        name: format!("interceptor `{}` on core {core}", stage.name()),
        start: Box::new(move |supervisor| {
            let stage = Arc::clone(&seat);
            let beat = Arc::clone(&beat);
            let shared = Arc::clone(&shared);
            Box::pin(async move {
                let args = StageArgs {
                    stage: Arc::clone(&stage),
                    beat,
                    shared,
                };
                let spawned = Actor::spawn_linked(None, StageActor, args, supervisor);
                let (actor, _) = spawned.await?;
                stage.seat.seat(actor.clone());
                Ok(actor.get_cell())
            })
        }),
        vacate: Box::new(move || {
            restarts.metrics.restarted(ChildKind::Interceptor);
            vacate.seat.vacate();
        }),
        park: Box::new(move || {
            parks.metrics.parked(ChildKind::Interceptor);
            drop(park.seat.park());
        }),
    }
}

/// A supervisor on the runtime of a core; its children are made anew when it is restarted.
fn supervisor(
    id: ChildId,
    kind: ChildKind,
    name: String,
    handle: Handle,
    shared: Arc<Shared>,
    children: impl Fn() -> Vec<Child> + Send + Sync + 'static,
    seat: Option<Arc<Roster>>,
) -> Child {
    let seated = seat.clone();
    let start = move |parent: ActorCell| {
        let (handle, children, seat) = (handle.clone(), children(), seated.clone());
        let spawned = handle.spawn(async move {
            let (actor, _) = Actor::spawn_linked(None, Supervisor, children, parent).await?;
            let cell = actor.get_cell();
            if let Some(roster) = seat {
                roster.supervisor.seat(actor);
            }
            Ok(cell)
        });
        let joined = async move {
            match spawned.await {
                Ok(started) => started,
                Err(gone) => Err(SpawnErr::StartupFailed(Box::new(gone))),
            }
        };
        Box::pin(joined) as std::pin::Pin<Box<dyn Future<Output = _> + Send>>
    };
    let counted = Arc::clone(&shared);
    let parked = seat.clone();
    Child {
        id,
        name,
        start: Box::new(start),
        vacate: Box::new(move || {
            shared.metrics.restarted(kind);
            if let Some(roster) = &seat {
                roster.supervisor.vacate();
            }
        }),
        park: Box::new(move || {
            counted.metrics.parked(kind);
            if let Some(roster) = &parked {
                // What it would start it finds listed when it is tried again.
                drop(roster.supervisor.park());
            }
        }),
    }
}
