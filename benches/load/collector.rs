//! A collector of traces that reads what it is sent and answers at once, in a process of its own, so
//! that its work does not count as the node's.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::ensure;
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{
    TraceService, TraceServiceServer,
};
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use tokio::net::TcpListener;
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;
use tonic::{Request, Response, Status};

use super::role::{announce, parent_is_gone};

#[derive(Debug, Default)]
struct Counting(Arc<AtomicUsize>);

#[tonic::async_trait]
impl TraceService for Counting {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        let resources = request.get_ref().resource_spans.iter();
        let scopes = resources.flat_map(|resource| &resource.scope_spans);
        let spans: usize = scopes.map(|scope| scope.spans.len()).sum();
        self.0.fetch_add(spans, Ordering::Relaxed);
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

/// Serves on a free port of the loopback until stdin closes.
///
/// # Errors
/// Nothing was sent: what was measured were no traces.
pub(crate) fn serve() -> anyhow::Result<()> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?
        .block_on(async {
            let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
            let address = listener.local_addr()?;
            let count = Arc::<AtomicUsize>::default();
            let service = TraceServiceServer::new(Counting(Arc::clone(&count)));
            let incoming = TcpIncoming::from(listener).with_nodelay(Some(true));
            let server = Server::builder().add_service(service);
            let server = tokio::spawn(server.serve_with_incoming(incoming));
            announce(address)?;
            // The sender may be gone, which is the end as well.
            drop(parent_is_gone().await);
            server.abort();
            ensure!(count.load(Ordering::Relaxed) > 0, "no span was exported");
            Ok(())
        })
}
