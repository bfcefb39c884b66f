//! Where texts, payloads and times stand in the result messages. Every message is taken apart
//! completely, so that a new field of the contract does not go unnoticed.

use crate::proto::proxy::{
    ChannelsCapability, ConnectResult, FilterNode, MapPublishResult, MapRemoveResult,
    PublishResult, RefreshResult, RpcResult, SharedPollRefreshResult, SharedPollRefreshResultItem,
    SubRefreshResult, SubscribeOptions, SubscribeResult,
};
use crate::reply::ReplyMessage;
use bytes::Bytes;
use std::collections::HashMap;

/// What is done to each of them. Base64 texts are left out: nothing is filled in there.
pub(super) trait Fill {
    /// A text.
    fn text(&mut self, text: &mut String);
    /// A payload, which is JSON.
    fn json(&mut self, json: &mut Bytes);
    /// A moment in Unix seconds.
    fn time(&mut self, time: &mut i64);
}

/// Visits everything in a result message.
pub(super) fn fill(message: &mut ReplyMessage, with: &mut impl Fill) {
    match message {
        ReplyMessage::Connect(result) => connect(result, with),
        ReplyMessage::Refresh(result) => refresh(result, with),
        ReplyMessage::Subscribe(result) => subscribe(result, with),
        ReplyMessage::SubRefresh(result) => sub_refresh(result, with),
        ReplyMessage::Publish(result) => publish(result, with),
        ReplyMessage::Rpc(RpcResult { data, b64data: _ }) => with.json(data),
        ReplyMessage::MapPublish(result) => map_publish(result, with),
        ReplyMessage::MapRemove(result) => map_remove(result, with),
        ReplyMessage::SharedPollRefresh(result) => shared_poll_refresh(result, with),
        ReplyMessage::CacheEmpty(_)
        | ReplyMessage::ChannelState(_)
        | ReplyMessage::Raw(_)
        | ReplyMessage::Empty => {}
    }
}

fn connect(result: &mut ConnectResult, with: &mut impl Fill) {
    let ConnectResult {
        user,
        expire_at,
        info,
        b64info: _,
        data,
        b64data: _,
        channels,
        subs,
        meta,
        caps: capabilities,
        labels,
    } = result;
    with.text(user);
    with.time(expire_at);
    with.json(info);
    with.json(data);
    with.json(meta);
    channels.iter_mut().for_each(|channel| with.text(channel));
    caps(capabilities, with);
    map(labels, with, |value, with| with.text(value));
    map(subs, with, |options, with| {
        let SubscribeOptions {
            expire_at,
            info,
            b64info: _,
            data,
            b64data: _,
            r#override: _,
            server_tags_filter,
            cache_recover: _,
        } = options;
        with.time(expire_at);
        with.json(info);
        with.json(data);
        server_tags_filter
            .iter_mut()
            .for_each(|node| filter(node, with));
    });
}

fn refresh(result: &mut RefreshResult, with: &mut impl Fill) {
    let RefreshResult {
        expired: _,
        expire_at,
        info,
        b64info: _,
        meta,
        caps: capabilities,
    } = result;
    with.time(expire_at);
    with.json(info);
    with.json(meta);
    caps(capabilities, with);
}

fn subscribe(result: &mut SubscribeResult, with: &mut impl Fill) {
    let SubscribeResult {
        expire_at,
        info,
        b64info: _,
        data,
        b64data: _,
        r#override: _,
        allow,
        server_tags_filter,
    } = result;
    with.time(expire_at);
    with.json(info);
    with.json(data);
    allow.iter_mut().for_each(|action| with.text(action));
    server_tags_filter
        .iter_mut()
        .for_each(|node| filter(node, with));
}

fn sub_refresh(result: &mut SubRefreshResult, with: &mut impl Fill) {
    let SubRefreshResult {
        expired: _,
        expire_at,
        info,
        b64info: _,
    } = result;
    with.time(expire_at);
    with.json(info);
}

fn publish(result: &mut PublishResult, with: &mut impl Fill) {
    let PublishResult {
        data,
        b64data: _,
        skip_history: _,
        tags,
        idempotency_key,
        delta: _,
        version: _,
        version_epoch,
    } = result;
    with.json(data);
    map(tags, with, |value, with| with.text(value));
    with.text(idempotency_key);
    with.text(version_epoch);
}

fn map_publish(result: &mut MapPublishResult, with: &mut impl Fill) {
    let MapPublishResult {
        key,
        data,
        b64data: _,
        tags,
        score: _,
        key_mode,
        stream_data,
        b64stream_data: _,
        idempotency_key,
        delta: _,
        version: _,
        version_epoch,
    } = result;
    [key, key_mode, idempotency_key, version_epoch]
        .into_iter()
        .for_each(|text| with.text(text));
    with.json(data);
    with.json(stream_data);
    map(tags, with, |value, with| with.text(value));
}

fn map_remove(result: &mut MapRemoveResult, with: &mut impl Fill) {
    let MapRemoveResult {
        key,
        tags,
        idempotency_key,
    } = result;
    with.text(key);
    with.text(idempotency_key);
    map(tags, with, |value, with| with.text(value));
}

fn shared_poll_refresh(result: &mut SharedPollRefreshResult, with: &mut impl Fill) {
    let SharedPollRefreshResult { items, epoch } = result;
    with.text(epoch);
    for item in items {
        let SharedPollRefreshResultItem {
            key,
            data,
            version: _,
            removed: _,
            prev_data,
        } = item;
        with.text(key);
        with.json(data);
        with.json(prev_data);
    }
}

fn caps(caps: &mut [ChannelsCapability], with: &mut impl Fill) {
    for cap in caps {
        let ChannelsCapability {
            channels,
            allow,
            r#match,
        } = cap;
        channels
            .iter_mut()
            .chain(allow)
            .chain([r#match])
            .for_each(|text| with.text(text));
    }
}

fn filter(node: &mut FilterNode, with: &mut impl Fill) {
    let FilterNode {
        op,
        key,
        cmp,
        val,
        vals,
        nodes,
    } = node;
    [op, key, cmp, val]
        .into_iter()
        .chain(vals)
        .for_each(|text| with.text(text));
    nodes.iter_mut().for_each(|node| filter(node, with));
}

/// A map: its keys are texts too.
fn map<V, F: Fill>(
    entries: &mut HashMap<String, V>,
    with: &mut F,
    mut value: impl FnMut(&mut V, &mut F),
) {
    *entries = std::mem::take(entries)
        .into_iter()
        .map(|(mut name, mut entry)| {
            with.text(&mut name);
            value(&mut entry, with);
            (name, entry)
        })
        .collect();
}
