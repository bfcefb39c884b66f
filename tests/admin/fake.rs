//! A stand-in for a node's Admin service, which answers as it is told.

use centripeta::proto::admin;
use centripeta::proto::admin::admin_server::{Admin, AdminServer};
use centripeta::proto::admin::{
    GetInfoRequest, GetInfoResponse, GetLogLevelRequest, GetLogLevelResponse, ReloadRequest,
    ReloadResponse, SetLogLevelRequest, SetLogLevelResponse,
};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status};

type Answer = Result<ReloadResponse, Status>;

#[derive(Clone)]
struct Service {
    answer: Answer,
    tokens: Arc<Mutex<Vec<String>>>,
}

#[tonic::async_trait]
impl Admin for Service {
    async fn reload(
        &self,
        request: Request<ReloadRequest>,
    ) -> Result<Response<ReloadResponse>, Status> {
        let token = request.metadata().get("authorization");
        let token = token.map_or("", |token| token.to_str().unwrap());
        self.tokens.lock().unwrap().push(token.to_owned());
        self.answer.clone().map(Response::new)
    }

    async fn get_log_level(
        &self,
        _: Request<GetLogLevelRequest>,
    ) -> Result<Response<GetLogLevelResponse>, Status> {
        Err(Status::unimplemented("not here"))
    }

    async fn set_log_level(
        &self,
        _: Request<SetLogLevelRequest>,
    ) -> Result<Response<SetLogLevelResponse>, Status> {
        Err(Status::unimplemented("not here"))
    }

    async fn get_info(
        &self,
        _: Request<GetInfoRequest>,
    ) -> Result<Response<GetInfoResponse>, Status> {
        Err(Status::unimplemented("not here"))
    }

    async fn list_workers(
        &self,
        _: Request<admin::ListWorkersRequest>,
    ) -> Result<Response<admin::ListWorkersResponse>, Status> {
        Err(Status::unimplemented("not here"))
    }

    async fn reset_workers(
        &self,
        _: Request<admin::ResetWorkersRequest>,
    ) -> Result<Response<admin::ResetWorkersResponse>, Status> {
        Err(Status::unimplemented("not here"))
    }

    async fn add_worker(
        &self,
        _: Request<admin::AddWorkerRequest>,
    ) -> Result<Response<admin::AddWorkerResponse>, Status> {
        Err(Status::unimplemented("not here"))
    }

    async fn remove_worker(
        &self,
        _: Request<admin::RemoveWorkerRequest>,
    ) -> Result<Response<admin::RemoveWorkerResponse>, Status> {
        Err(Status::unimplemented("not here"))
    }
}

/// A stand-in that runs on a thread of its own until it is dropped.
pub(crate) struct Fake {
    pub(crate) address: SocketAddr,
    tokens: Arc<Mutex<Vec<String>>>,
    end: CancellationToken,
}

impl Fake {
    /// Answers every reload like this.
    pub(crate) fn start(answer: Answer) -> Self {
        let tokens = Arc::default();
        let service = Service {
            answer,
            tokens: Arc::clone(&tokens),
        };
        let end = CancellationToken::new();
        let ended = end.clone();
        let (bound, address) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            runtime.block_on(async {
                let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
                bound.send(listener.local_addr().unwrap()).unwrap();
                let served = tonic::transport::server::TcpIncoming::from(listener);
                let server = tonic::transport::Server::builder()
                    .add_service(AdminServer::new(service))
                    .serve_with_incoming_shutdown(served, ended.cancelled());
                server.await.unwrap();
            });
        });
        Self {
            address: address.recv().unwrap(),
            tokens,
            end,
        }
    }

    /// What came as `authorization`, call by call.
    pub(crate) fn tokens(&self) -> Vec<String> {
        self.tokens.lock().unwrap().clone()
    }
}

impl Drop for Fake {
    fn drop(&mut self) {
        self.end.cancel();
    }
}
