//! The yardstick: the generated service on tonic's plain server and tokio's default runtime.

use std::net::{Ipv4Addr, SocketAddr};
use std::pin::Pin;

use centripeta::proto::proxy::centrifugo_proxy_server::{CentrifugoProxy, CentrifugoProxyServer};
use centripeta::proto::proxy::{
    ConnectRequest, ConnectResponse, MapPublishRequest, MapPublishResponse, MapRemoveRequest,
    MapRemoveResponse, NotifyCacheEmptyRequest, NotifyCacheEmptyResponse,
    NotifyChannelStateRequest, NotifyChannelStateResponse, PublishRequest, PublishResponse,
    RefreshRequest, RefreshResponse, RpcRequest, RpcResponse, RpcResult, SharedPollRefreshRequest,
    SharedPollRefreshResponse, StreamSubscribeRequest, StreamSubscribeResponse, SubRefreshRequest,
    SubRefreshResponse, SubscribeRequest, SubscribeResponse, SubscribeResult,
};
use futures_util::stream::{self, Stream, StreamExt};
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;
use tonic::{Request, Response, Status, Streaming};

use super::burn::Burn;
use super::role::{ServerOptions, announce, parent_is_gone};

/// Serves the echo until stdin closes.
pub(crate) fn serve_bare(options: &ServerOptions) -> anyhow::Result<()> {
    let echo = Echo { burn: options.burn };
    tokio::runtime::Runtime::new()?.block_on(async move {
        let incoming =
            TcpIncoming::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))?.with_nodelay(Some(true));
        announce(incoming.local_addr()?)?;
        let server = Server::builder()
            .add_service(CentrifugoProxyServer::new(echo))
            .serve_with_incoming(incoming);
        tokio::select! {
            served = server => served?,
            _ = parent_is_gone() => {}
        }
        Ok(())
    })
}

/// Gives the data of an rpc back, accepts a stream and stays silent; knows no other event.
#[derive(Debug)]
struct Echo {
    burn: Burn,
}

type ReplyStream<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;
type Answer<T> = Result<Response<T>, Status>;

fn unknown<T>() -> Answer<T> {
    Err(Status::unimplemented("the echo server answers rpc only"))
}

#[tonic::async_trait]
impl CentrifugoProxy for Echo {
    async fn rpc(&self, request: Request<RpcRequest>) -> Answer<RpcResponse> {
        self.burn.run();
        Ok(Response::new(RpcResponse {
            result: Some(RpcResult {
                data: request.into_inner().data,
                ..RpcResult::default()
            }),
            ..RpcResponse::default()
        }))
    }

    type SubscribeUnidirectionalStream = ReplyStream<StreamSubscribeResponse>;

    async fn subscribe_unidirectional(
        &self,
        _: Request<SubscribeRequest>,
    ) -> Answer<Self::SubscribeUnidirectionalStream> {
        let accept = StreamSubscribeResponse {
            subscribe_response: Some(SubscribeResponse {
                result: Some(SubscribeResult::default()),
                ..SubscribeResponse::default()
            }),
            ..StreamSubscribeResponse::default()
        };
        let silent = stream::iter([Ok(accept)]).chain(stream::pending());
        Ok(Response::new(Box::pin(silent)))
    }

    type SubscribeBidirectionalStream = ReplyStream<StreamSubscribeResponse>;

    async fn subscribe_bidirectional(
        &self,
        _: Request<Streaming<StreamSubscribeRequest>>,
    ) -> Answer<Self::SubscribeBidirectionalStream> {
        unknown()
    }

    async fn connect(&self, _: Request<ConnectRequest>) -> Answer<ConnectResponse> {
        unknown()
    }

    async fn refresh(&self, _: Request<RefreshRequest>) -> Answer<RefreshResponse> {
        unknown()
    }

    async fn subscribe(&self, _: Request<SubscribeRequest>) -> Answer<SubscribeResponse> {
        unknown()
    }

    async fn publish(&self, _: Request<PublishRequest>) -> Answer<PublishResponse> {
        unknown()
    }

    async fn sub_refresh(&self, _: Request<SubRefreshRequest>) -> Answer<SubRefreshResponse> {
        unknown()
    }

    async fn notify_cache_empty(
        &self,
        _: Request<NotifyCacheEmptyRequest>,
    ) -> Answer<NotifyCacheEmptyResponse> {
        unknown()
    }

    async fn notify_channel_state(
        &self,
        _: Request<NotifyChannelStateRequest>,
    ) -> Answer<NotifyChannelStateResponse> {
        unknown()
    }

    async fn map_publish(&self, _: Request<MapPublishRequest>) -> Answer<MapPublishResponse> {
        unknown()
    }

    async fn map_remove(&self, _: Request<MapRemoveRequest>) -> Answer<MapRemoveResponse> {
        unknown()
    }

    async fn shared_poll_refresh(
        &self,
        _: Request<SharedPollRefreshRequest>,
    ) -> Answer<SharedPollRefreshResponse> {
        unknown()
    }
}
