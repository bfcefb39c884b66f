//! The way of an event, as an operator asks for it: from the request of the Admin service to the
//! engine, and back.

use super::cluster::state_name;
use crate::engine::Engine;
use crate::event::EventKind;
use crate::forward::explain::{Explained, Question, Spot, explain};
use crate::proto::admin as proto;
use http::{HeaderMap, HeaderName, HeaderValue};
use tonic::{Response, Status};

/// Answers of a node whose name in a cluster is this; alone it has no id.
pub(super) async fn answer(
    engine: &Engine,
    node: &str,
    request: proto::ExplainRequest,
) -> Result<Response<proto::ExplainResponse>, Status> {
    let kind: EventKind = request
        .event
        .parse()
        .map_err(|why: crate::event::UnknownEvent| Status::invalid_argument(why.to_string()))?;
    let mut metadata = HeaderMap::new();
    for (name, value) in request.metadata {
        let name = HeaderName::try_from(&name)
            .map_err(|_| Status::invalid_argument(format!("{name:?} names no metadata")))?;
        let value = HeaderValue::try_from(value)
            .map_err(|_| Status::invalid_argument(format!("the value of {name} is not text")))?;
        metadata.try_append(name, value).map_err(|_| {
            Status::invalid_argument("there is more metadata than a call can carry")
        })?;
    }
    let question = Question {
        kind,
        method: request.method,
        raw: request.request.into(),
        metadata,
    };
    let explained = explain(&engine.shared, question).await;
    let mut response = proto::ExplainResponse::from(explained);
    if engine.shared.standing.is_alone() {
        let alone = proto::Named {
            id: 0,
            name: node.to_owned(),
        };
        let spots = response.nodes.iter_mut().filter_map(|it| it.node.as_mut());
        let owner = response.slot.as_mut().and_then(|slot| slot.owner.as_mut());
        for named in spots.chain(owner).chain(response.ingress.as_mut()) {
            named.clone_from(&alone);
        }
    }
    Ok(Response::new(response))
}

impl From<Explained> for proto::ExplainResponse {
    fn from(it: Explained) -> Self {
        Self {
            ingress: Some(it.ingress.into()),
            interceptors: it.stages,
            version: it.version,
            key: it.key,
            slot: it.slot.map(Into::into),
            way: it.way.as_str().to_owned(),
            why: it.why,
            nodes: it.spots.into_iter().map(Into::into).collect(),
        }
    }
}

impl From<Spot> for proto::ExplainedNode {
    fn from(it: Spot) -> Self {
        let (said, unknown) = match it.said {
            Ok(said) => (said, String::new()),
            Err(why) => (Default::default(), why),
        };
        Self {
            node: Some(it.node.into()),
            addrs: it.addrs,
            state: it.state.map(state_name).unwrap_or_default(),
            unknown,
            route: said.route,
            handler: said.handler,
            pool: said.pool,
            shard: said.shard,
            core: said.core,
            gate: said.gate,
            epoch: said.epoch,
            lease_ms: said.lease_ms,
            problem: said.problem,
        }
    }
}
