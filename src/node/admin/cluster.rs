//! What operators ask of a cluster: from the requests of the Admin service to
//! [`Operations`](centripeta_cluster::admin::Operations), and back.

mod alone;
mod wire;

use crate::control::HELP_METADATA;
use crate::proto::admin as proto;
use centripeta_cluster::admin::{Operations, Refused};
use std::sync::{Arc, OnceLock};
use tonic::metadata::{Ascii, MetadataKey, MetadataValue};
use tonic::{Code, Response, Status};

/// Where a node stands, in a word.
pub(super) fn state_name(state: centripeta_cluster::NodeState) -> String {
    centripeta_cluster::admin::state_word(state).to_owned()
}

/// Who carries out what an operator asks of the cluster. Clones share it.
#[derive(Debug, Clone)]
pub(crate) struct Operators {
    /// `node.name`
    name: String,
    /// Whether the node is to take part in a cluster.
    member: bool,
    operations: Arc<OnceLock<Arc<dyn Operations>>>,
}

/// The answer to a request.
type Answer<T> = Result<Response<T>, Status>;

impl Operators {
    /// Nobody yet: a node of this name, which takes part in a cluster or runs alone.
    pub(crate) fn new(name: &str, member: bool) -> Self {
        Self {
            name: name.to_owned(),
            member,
            operations: Arc::default(),
        }
    }

    /// From now on these; those that were there already stay.
    pub(crate) fn set(&self, operations: Arc<dyn Operations>) {
        drop(self.operations.set(operations));
    }

    /// The node's part in the cluster.
    fn operations(&self) -> Result<&dyn Operations, Status> {
        if let Some(operations) = self.operations.get() {
            return Ok(&**operations);
        }
        let refused = if self.member {
            Refused::Unavailable("this node does not take part in its cluster yet".to_owned())
        } else {
            Refused::no(
                "this node runs alone",
                "for a cluster write [cluster] into its configuration, run `cluster init` on the \
                 first node, and restart it",
            )
        };
        Err(status(&refused))
    }

    /// The name of a node that runs alone.
    fn alone(&self) -> Option<&str> {
        let alone = !self.member && self.operations.get().is_none();
        alone.then_some(&self.name)
    }

    pub(super) async fn status(&self) -> Answer<proto::ClusterStatus> {
        match self.alone() {
            Some(name) => Ok(Response::new(alone::status(name))),
            None => answer(self.operations()?.status().await),
        }
    }

    pub(super) async fn health(&self) -> Answer<proto::ClusterHealth> {
        answer(self.operations()?.health().await)
    }

    pub(super) async fn nodes(&self) -> Answer<proto::ListNodesResponse> {
        answer(self.operations()?.nodes().await)
    }

    pub(super) async fn peers(&self) -> Answer<proto::ListPeersResponse> {
        answer(self.operations()?.peers().await)
    }

    pub(super) async fn slots(
        &self,
        request: proto::ListSlotsRequest,
    ) -> Answer<proto::ListSlotsResponse> {
        let node = Some(request.node).filter(|node| !node.is_empty());
        match self.alone() {
            Some(name) => alone::slots(name, node.as_deref())
                .map(Response::new)
                .map_err(|refused| status(&refused)),
            None => answer(self.operations()?.slots(node).await),
        }
    }

    pub(super) async fn locate(
        &self,
        request: proto::LocateRequest,
    ) -> Answer<proto::LocateResponse> {
        match self.alone() {
            Some(name) => Ok(Response::new(alone::locate(name, &request.name))),
            None => answer(self.operations()?.locate(request.name).await),
        }
    }

    pub(super) async fn moves(&self) -> Answer<proto::ListMovesResponse> {
        answer(self.operations()?.moves().await)
    }

    pub(super) async fn events(
        &self,
        request: proto::ListEventsRequest,
    ) -> Answer<proto::ListEventsResponse> {
        answer(self.operations()?.events(request.after).await)
    }

    pub(super) async fn drain(
        &self,
        request: proto::DrainNodeRequest,
    ) -> Answer<proto::DrainNodeResponse> {
        let proto::DrainNodeRequest { node, force } = request;
        answer(self.operations()?.drain(node, force).await)
    }

    pub(super) async fn drained(
        &self,
        request: proto::GetDrainResultRequest,
    ) -> Answer<proto::DrainResult> {
        answer(self.operations()?.drained(request.node).await)
    }

    pub(super) async fn undrain(
        &self,
        request: proto::UndrainNodeRequest,
    ) -> Answer<proto::UndrainNodeResponse> {
        answer(self.operations()?.undrain(request.node).await)
    }

    pub(super) async fn move_slot(
        &self,
        request: proto::MoveSlotRequest,
    ) -> Answer<proto::MoveSlotResponse> {
        // A number that is none of a slot's is refused by whoever knows the slots.
        let slot = u16::try_from(request.slot).unwrap_or(u16::MAX);
        answer(self.operations()?.move_slot(slot, request.to).await)
    }

    pub(super) async fn rebalance(
        &self,
        request: proto::RebalanceRequest,
    ) -> Answer<proto::RebalanceResponse> {
        let proto::RebalanceRequest {
            plan,
            across_builds,
        } = request;
        answer(self.operations()?.rebalance(plan, across_builds).await)
    }

    pub(super) async fn pause_moves(&self) -> Answer<proto::PauseMovesResponse> {
        answer(self.operations()?.pause_moves().await)
    }

    pub(super) async fn resume_moves(&self) -> Answer<proto::ResumeMovesResponse> {
        answer(self.operations()?.resume_moves().await)
    }

    pub(super) async fn voters(
        &self,
        request: proto::SetVotersRequest,
    ) -> Answer<proto::SetVotersResponse> {
        let wanted = request
            .wanted
            .map(|wanted| u8::try_from(wanted).unwrap_or(u8::MAX));
        answer(self.operations()?.voters(wanted).await)
    }

    pub(super) async fn remove(
        &self,
        request: proto::RemoveNodeRequest,
    ) -> Answer<proto::RemoveNodeResponse> {
        answer(self.operations()?.remove(request.node).await)
    }
}

fn answer<T, P: From<T>>(result: Result<T, Refused>) -> Answer<P> {
    match result {
        Ok(view) => Ok(Response::new(view.into())),
        Err(refused) => Err(status(&refused)),
    }
}

/// A refusal as a status: why, and in the metadata what to do about it.
fn status(refused: &Refused) -> Status {
    let code = match refused {
        Refused::No { .. } => Code::FailedPrecondition,
        Refused::Unavailable(_) => Code::Unavailable,
    };
    let mut status = Status::new(code, refused.to_string());
    let key: MetadataKey<Ascii> = MetadataKey::from_static(HELP_METADATA);
    if let Ok(help) = MetadataValue::try_from(refused.cure()) {
        status.metadata_mut().insert(key, help);
    }
    status
}
