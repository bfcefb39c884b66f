//! The Admin service of `proto/admin.proto`: hands requests to whoever carries them out, and says
//! how the node is.

use super::cluster::Operators;
use super::{explain, readiness, workers};
use crate::control::{Control, Refused, Reloaded, Request as Asked, Wrong};
use crate::engine::Engine;
use crate::node::{Addresses, Membership};
use crate::proto::admin;
use crate::proto::admin::admin_server::Admin;
use crate::proto::admin::{
    add_worker_response, list_workers_response, reload_response, remove_worker_response,
    reset_workers_response, set_log_level_response,
};
use tokio::sync::oneshot;
use tokio::time::Instant;
use tonic::{Request, Response, Status};

/// One node's service.
#[derive(Debug)]
pub(super) struct AdminService {
    engine: Engine,
    node: String,
    addresses: Addresses,
    control: Option<Control>,
    operators: Operators,
    membership: Option<Membership>,
    started: Instant,
}

impl AdminService {
    /// The service of a node that has just started.
    pub(super) fn new(
        engine: Engine,
        node: String,
        addresses: Addresses,
        control: Option<Control>,
        operators: Operators,
        membership: Option<Membership>,
    ) -> Self {
        Self {
            engine,
            node,
            addresses,
            control,
            operators,
            membership,
            started: Instant::now(),
        }
    }

    async fn ask<T>(&self, request: impl FnOnce(oneshot::Sender<T>) -> Asked) -> Result<T, Status> {
        let control = self.control.as_ref().ok_or_else(|| {
            Status::failed_precondition("this node is part of a program that takes no requests")
        })?;
        let answer = control.ask(request).await;
        answer.ok_or_else(|| Status::unavailable("the node drains and carries out no requests"))
    }
}

#[tonic::async_trait]
impl Admin for AdminService {
    async fn reload(
        &self,
        _: Request<admin::ReloadRequest>,
    ) -> Result<Response<admin::ReloadResponse>, Status> {
        let outcome = match self.ask(Asked::Reload).await? {
            Ok(reloaded) => reload_response::Outcome::Reloaded(reloaded.into()),
            Err(refused) => reload_response::Outcome::Refused(refused.into()),
        };
        let outcome = Some(outcome);
        Ok(Response::new(admin::ReloadResponse { outcome }))
    }

    async fn get_log_level(
        &self,
        _: Request<admin::GetLogLevelRequest>,
    ) -> Result<Response<admin::GetLogLevelResponse>, Status> {
        let level = self.ask(Asked::Level).await?;
        Ok(Response::new(admin::GetLogLevelResponse { level }))
    }

    async fn set_log_level(
        &self,
        request: Request<admin::SetLogLevelRequest>,
    ) -> Result<Response<admin::SetLogLevelResponse>, Status> {
        let level = request.into_inner().level;
        let answer = self.ask(|reply| Asked::SetLevel(level, reply)).await?;
        let outcome = match answer {
            Ok(before) => set_log_level_response::Outcome::Set(admin::LogLevelSet { before }),
            Err(refused) => set_log_level_response::Outcome::Refused(refused.into()),
        };
        let outcome = Some(outcome);
        Ok(Response::new(admin::SetLogLevelResponse { outcome }))
    }

    async fn get_info(
        &self,
        _: Request<admin::GetInfoRequest>,
    ) -> Result<Response<admin::GetInfoResponse>, Status> {
        let ready = readiness(&self.engine, self.membership.as_ref());
        let uptime = self.started.elapsed().as_millis();
        Ok(Response::new(admin::GetInfoResponse {
            node: self.node.clone(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            uptime_ms: u64::try_from(uptime).unwrap_or(u64::MAX),
            grpc_address: self.addresses.grpc.to_string(),
            admin_address: self.addresses.admin.to_string(),
            routes: self.engine.route_count() as u64,
            ready: ready.is_ok(),
            reason: ready.err().unwrap_or_default(),
        }))
    }

    async fn explain(
        &self,
        request: Request<admin::ExplainRequest>,
    ) -> Result<Response<admin::ExplainResponse>, Status> {
        explain::answer(&self.engine, &self.node, request.into_inner()).await
    }

    async fn get_cluster_status(
        &self,
        _: Request<admin::GetClusterStatusRequest>,
    ) -> Result<Response<admin::ClusterStatus>, Status> {
        self.operators.status().await
    }

    async fn get_cluster_health(
        &self,
        _: Request<admin::GetClusterHealthRequest>,
    ) -> Result<Response<admin::ClusterHealth>, Status> {
        self.operators.health().await
    }

    async fn list_nodes(
        &self,
        _: Request<admin::ListNodesRequest>,
    ) -> Result<Response<admin::ListNodesResponse>, Status> {
        self.operators.nodes().await
    }

    async fn list_peers(
        &self,
        _: Request<admin::ListPeersRequest>,
    ) -> Result<Response<admin::ListPeersResponse>, Status> {
        self.operators.peers().await
    }

    async fn list_slots(
        &self,
        request: Request<admin::ListSlotsRequest>,
    ) -> Result<Response<admin::ListSlotsResponse>, Status> {
        self.operators.slots(request.into_inner()).await
    }

    async fn locate(
        &self,
        request: Request<admin::LocateRequest>,
    ) -> Result<Response<admin::LocateResponse>, Status> {
        self.operators.locate(request.into_inner()).await
    }

    async fn list_moves(
        &self,
        _: Request<admin::ListMovesRequest>,
    ) -> Result<Response<admin::ListMovesResponse>, Status> {
        self.operators.moves().await
    }

    async fn list_events(
        &self,
        request: Request<admin::ListEventsRequest>,
    ) -> Result<Response<admin::ListEventsResponse>, Status> {
        self.operators.events(request.into_inner()).await
    }

    async fn drain_node(
        &self,
        request: Request<admin::DrainNodeRequest>,
    ) -> Result<Response<admin::DrainNodeResponse>, Status> {
        self.operators.drain(request.into_inner()).await
    }

    async fn get_drain_result(
        &self,
        request: Request<admin::GetDrainResultRequest>,
    ) -> Result<Response<admin::DrainResult>, Status> {
        self.operators.drained(request.into_inner()).await
    }

    async fn undrain_node(
        &self,
        request: Request<admin::UndrainNodeRequest>,
    ) -> Result<Response<admin::UndrainNodeResponse>, Status> {
        self.operators.undrain(request.into_inner()).await
    }

    async fn move_slot(
        &self,
        request: Request<admin::MoveSlotRequest>,
    ) -> Result<Response<admin::MoveSlotResponse>, Status> {
        self.operators.move_slot(request.into_inner()).await
    }

    async fn rebalance(
        &self,
        request: Request<admin::RebalanceRequest>,
    ) -> Result<Response<admin::RebalanceResponse>, Status> {
        self.operators.rebalance(request.into_inner()).await
    }

    async fn pause_moves(
        &self,
        _: Request<admin::PauseMovesRequest>,
    ) -> Result<Response<admin::PauseMovesResponse>, Status> {
        self.operators.pause_moves().await
    }

    async fn resume_moves(
        &self,
        _: Request<admin::ResumeMovesRequest>,
    ) -> Result<Response<admin::ResumeMovesResponse>, Status> {
        self.operators.resume_moves().await
    }

    async fn set_voters(
        &self,
        request: Request<admin::SetVotersRequest>,
    ) -> Result<Response<admin::SetVotersResponse>, Status> {
        self.operators.voters(request.into_inner()).await
    }

    async fn remove_node(
        &self,
        request: Request<admin::RemoveNodeRequest>,
    ) -> Result<Response<admin::RemoveNodeResponse>, Status> {
        self.operators.remove(request.into_inner()).await
    }

    async fn list_workers(
        &self,
        request: Request<admin::ListWorkersRequest>,
    ) -> Result<Response<admin::ListWorkersResponse>, Status> {
        let handler = request.into_inner().handler;
        let answer = workers::list(&self.engine.shared.pools, &handler).await?;
        let outcome = match answer {
            Ok(done) => list_workers_response::Outcome::Pools(done),
            Err(refused) => list_workers_response::Outcome::Refused(refused.into()),
        };
        let outcome = Some(outcome);
        Ok(Response::new(admin::ListWorkersResponse { outcome }))
    }

    async fn reset_workers(
        &self,
        request: Request<admin::ResetWorkersRequest>,
    ) -> Result<Response<admin::ResetWorkersResponse>, Status> {
        let handler = request.into_inner().handler;
        let answer = workers::reset(&self.engine.shared.pools, &handler).await?;
        let outcome = match answer {
            Ok(done) => reset_workers_response::Outcome::Reset(done),
            Err(refused) => reset_workers_response::Outcome::Refused(refused.into()),
        };
        let outcome = Some(outcome);
        Ok(Response::new(admin::ResetWorkersResponse { outcome }))
    }

    async fn add_worker(
        &self,
        request: Request<admin::AddWorkerRequest>,
    ) -> Result<Response<admin::AddWorkerResponse>, Status> {
        let handler = request.into_inner().handler;
        let answer = workers::add(&self.engine.shared.pools, &handler).await?;
        let outcome = match answer {
            Ok(done) => add_worker_response::Outcome::Resized(done),
            Err(refused) => add_worker_response::Outcome::Refused(refused.into()),
        };
        let outcome = Some(outcome);
        Ok(Response::new(admin::AddWorkerResponse { outcome }))
    }

    async fn remove_worker(
        &self,
        request: Request<admin::RemoveWorkerRequest>,
    ) -> Result<Response<admin::RemoveWorkerResponse>, Status> {
        let handler = request.into_inner().handler;
        let answer = workers::remove(&self.engine.shared.pools, &handler).await?;
        let outcome = match answer {
            Ok(done) => remove_worker_response::Outcome::Resized(done),
            Err(refused) => remove_worker_response::Outcome::Refused(refused.into()),
        };
        let outcome = Some(outcome);
        Ok(Response::new(admin::RemoveWorkerResponse { outcome }))
    }
}

impl From<Reloaded> for admin::Reloaded {
    fn from(reloaded: Reloaded) -> Self {
        let Reloaded {
            changed,
            needs_restart,
        } = reloaded;
        Self {
            changed,
            needs_restart,
        }
    }
}

impl From<Refused> for admin::Refused {
    fn from(refused: Refused) -> Self {
        let problem = |Wrong { what, help }| admin::Problem { what, help };
        let problems = refused.problems.into_iter().map(problem).collect();
        Self { problems }
    }
}
