//! Every method of the server API: its name, its messages, its number in a batch.

use super::error::{Error, MethodName, Refusal};
use super::job::{LaneKeys, name};
use super::rules::{Ruled, Rules};
use super::{Pending, Publisher};
use crate::proto::api;
use bytes::Bytes;
use prost::{DecodeError, Message};

/// What is known of a method.
#[derive(Debug, Clone)]
pub(super) struct MethodInfo {
    /// As in the HTTP/2 path.
    pub(super) name: MethodName,
    /// Its number in `Command` and `Reply`; 0 if it can't be in a batch.
    pub(super) field: u32,
    /// Whether its response has `error` and `result`; else the whole response is the result.
    pub(super) has_result: bool,
    /// Whether it only reads.
    pub(super) is_read: bool,
    /// Whether its request has the channel under number 1.
    pub(super) channel_is_first: bool,
}

/// `Batch` itself.
pub(super) const BATCH: MethodInfo = MethodInfo {
    name: name("Batch"),
    field: 0,
    has_result: false,
    is_read: false,
    channel_is_first: false,
};

/// The request of a method of the server API.
#[allow(
    private_bounds,
    reason = "implemented for the requests of the contract only"
)]
pub trait Request: Ruled + Message + Default {
    /// The method's result.
    type Result: Message + Default;
    /// The method's name, as in the HTTP/2 path.
    const NAME: &'static str;

    #[doc(hidden)]
    #[allow(private_interfaces)]
    const INFO: MethodInfo;
}

macro_rules! methods {
    ($(
        $(#[doc = $doc:literal])+
        $method:ident: $name:literal = $field:literal, $request:ident -> $response:ident, $result:ident;
        $effect:ident, $first:ident, $rules:ident;
    )*) => {
        $(
            #[allow(private_interfaces)]
            impl Request for api::$request {
                type Result = api::$result;
                const NAME: &'static str = $name;
                const INFO: MethodInfo = MethodInfo {
                    name: name($name),
                    field: $field,
                    has_result: true,
                    is_read: methods!(@is $effect),
                    channel_is_first: methods!(@is $first),
                };
            }

            methods!(@$rules $request);

            impl From<api::$request> for api::Command {
                fn from(request: api::$request) -> Self {
                    Self {
                        $method: Some(Box::new(request)),
                        ..Self::default()
                    }
                }
            }
        )*

        /// One method for each of the API, named as in a batch. A call is queued at once; see
        /// [`Pending`] for its answer and [`Error`] for what may go wrong.
        impl Publisher {
            $(
                $(#[doc = $doc])+
                pub fn $method(&self, request: api::$request) -> Pending<api::$result> {
                    self.call(request)
                }
            )*
        }

        /// The names of all methods but `Batch`.
        pub(super) const NAMES: &[&str] = &[$($name),*];

        /// What has to be known of an encoded request to send it, if the method is one of these.
        pub(super) fn by_name(method: &str, message: &Bytes) -> Option<Result<Known, DecodeError>> {
            $(if method == $name {
                return Some(Known::of::<api::$request>(message));
            })*
            None
        }

        /// The method of a command; empty if none is set.
        pub(super) fn name_of(command: &api::Command) -> MethodName {
            $(if command.$method.is_some() {
                return name($name);
            })*
            name("Batch")
        }

        /// Whether a command may be sent twice.
        pub(super) fn is_safe(command: &mut api::Command) -> bool {
            $(if let Some(request) = &mut command.$method {
                return is_safe_request(&mut **request);
            })*
            true
        }

        /// Checks a command of a batch.
        pub(super) fn check(command: &api::Command, rules: &Rules<'_>) -> Result<(), Error> {
            $(if let Some(request) = &command.$method {
                let refused = |refusal: Refusal| Error::Refused {
                    method: name($name),
                    refusal,
                };
                request.check(rules).map_err(refused)?;
            })*
            Ok(())
        }

        /// Gives a command an idempotency key if it can have one and has none.
        pub(super) fn fill_key(command: &mut api::Command) {
            $(if let Some(request) = &mut command.$method {
                super::publisher::fill_key(&mut **request);
            })*
        }
    };
    (@is reads) => { true };
    (@is acts) => { false };
    (@is channel) => { true };
    (@is other) => { false };
    (@plain $request:ident) => {
        impl Ruled for api::$request {}
    };
    (@ruled $request:ident) => {};
}

/// What has to be known of an encoded request to send it.
#[derive(Debug)]
pub(super) struct Known {
    /// Its method.
    pub(super) info: MethodInfo,
    /// The lanes that it takes.
    pub(super) lanes: LaneKeys,
    /// Whether it may be sent twice.
    pub(super) is_safe: bool,
}

impl Known {
    fn of<R: Request>(message: &Bytes) -> Result<Self, DecodeError> {
        let mut request = R::decode(message.clone())?;
        Ok(Self {
            info: R::INFO,
            lanes: lanes_of(&request),
            is_safe: is_safe_request(&mut request),
        })
    }
}

/// Whether a request may be sent twice: it only reads, or has an idempotency key.
pub(super) fn is_safe_request<R: Request>(request: &mut R) -> bool {
    R::INFO.is_read || request.key().is_some_and(|key| !key.is_empty())
}

/// The lanes of a request.
pub(super) fn lanes_of<R: Request>(request: &R) -> LaneKeys {
    request.lanes()
}

methods! {
    /// A publication into one channel.
    publish: "Publish" = 4, PublishRequest -> PublishResponse, PublishResult; acts, channel, ruled;
    /// One payload into many channels, each with an answer of its own.
    broadcast: "Broadcast" = 5, BroadcastRequest -> BroadcastResponse, BroadcastResult; acts, other, ruled;
    /// Subscribes the current connections of a user to a channel, from the server side.
    subscribe: "Subscribe" = 6, SubscribeRequest -> SubscribeResponse, SubscribeResult; acts, channel, ruled;
    /// Ends subscriptions of a user to a channel.
    unsubscribe: "Unsubscribe" = 7, UnsubscribeRequest -> UnsubscribeResponse, UnsubscribeResult; acts, channel, ruled;
    /// Closes connections of a user.
    disconnect: "Disconnect" = 8, DisconnectRequest -> DisconnectResponse, DisconnectResult; acts, other, ruled;
    /// Who is in a channel.
    presence: "Presence" = 9, PresenceRequest -> PresenceResponse, PresenceResult; reads, channel, plain;
    /// How many are in a channel.
    presence_stats: "PresenceStats" = 10, PresenceStatsRequest -> PresenceStatsResponse, PresenceStatsResult; reads, channel, plain;
    /// Publications that a channel keeps.
    history: "History" = 11, HistoryRequest -> HistoryResponse, HistoryResult; reads, channel, plain;
    /// Forgets the publications of a channel.
    history_remove: "HistoryRemove" = 12, HistoryRemoveRequest -> HistoryRemoveResponse, HistoryRemoveResult; acts, channel, plain;
    /// The nodes of the installation.
    info: "Info" = 13, InfoRequest -> InfoResponse, InfoResult; reads, other, plain;
    /// An extension method compiled into the node.
    rpc: "RPC" = 14, RpcRequest -> RpcResponse, RpcResult; acts, other, plain;
    /// Sets or ends the expiry of connections.
    refresh: "Refresh" = 15, RefreshRequest -> RefreshResponse, RefreshResult; acts, other, ruled;
    /// Channels with subscribers; asks every node, so it is heavy.
    channels: "Channels" = 16, ChannelsRequest -> ChannelsResponse, ChannelsResult; reads, other, plain;
    /// Connections of a user (PRO).
    connections: "Connections" = 17, ConnectionsRequest -> ConnectionsResponse, ConnectionsResult; reads, other, plain;
    /// Reports users as active (PRO).
    update_user_status: "UpdateUserStatus" = 18, UpdateUserStatusRequest -> UpdateUserStatusResponse, UpdateUserStatusResult; acts, other, plain;
    /// When users were last active and online (PRO).
    get_user_status: "GetUserStatus" = 19, GetUserStatusRequest -> GetUserStatusResponse, GetUserStatusResult; reads, other, plain;
    /// Forgets the status of users (PRO).
    delete_user_status: "DeleteUserStatus" = 20, DeleteUserStatusRequest -> DeleteUserStatusResponse, DeleteUserStatusResult; acts, other, plain;
    /// Keeps a user from connecting (PRO).
    block_user: "BlockUser" = 21, BlockUserRequest -> BlockUserResponse, BlockUserResult; acts, other, plain;
    /// Lets a blocked user connect again (PRO).
    unblock_user: "UnblockUser" = 22, UnblockUserRequest -> UnblockUserResponse, UnblockUserResult; acts, other, plain;
    /// Makes one token invalid (PRO).
    revoke_token: "RevokeToken" = 23, RevokeTokenRequest -> RevokeTokenResponse, RevokeTokenResult; acts, other, plain;
    /// Makes the tokens of a user invalid (PRO).
    invalidate_user_tokens: "InvalidateUserTokens" = 24, InvalidateUserTokensRequest -> InvalidateUserTokensResponse, InvalidateUserTokensResult; acts, other, plain;
    /// Registers a device for push notifications (PRO).
    device_register: "DeviceRegister" = 25, DeviceRegisterRequest -> DeviceRegisterResponse, DeviceRegisterResult; acts, other, plain;
    /// Changes devices (PRO).
    device_update: "DeviceUpdate" = 26, DeviceUpdateRequest -> DeviceUpdateResponse, DeviceUpdateResult; acts, other, plain;
    /// Removes devices (PRO).
    device_remove: "DeviceRemove" = 27, DeviceRemoveRequest -> DeviceRemoveResponse, DeviceRemoveResult; acts, other, plain;
    /// Lists devices (PRO).
    device_list: "DeviceList" = 28, DeviceListRequest -> DeviceListResponse, DeviceListResult; reads, other, plain;
    /// Lists the topics of devices (PRO).
    device_topic_list: "DeviceTopicList" = 29, DeviceTopicListRequest -> DeviceTopicListResponse, DeviceTopicListResult; reads, other, plain;
    /// Changes the topics of a device (PRO).
    device_topic_update: "DeviceTopicUpdate" = 30, DeviceTopicUpdateRequest -> DeviceTopicUpdateResponse, DeviceTopicUpdateResult; acts, other, plain;
    /// Lists the topics of users (PRO).
    user_topic_list: "UserTopicList" = 31, UserTopicListRequest -> UserTopicListResponse, UserTopicListResult; reads, other, plain;
    /// Changes the topics of a user (PRO).
    user_topic_update: "UserTopicUpdate" = 32, UserTopicUpdateRequest -> UserTopicUpdateResponse, UserTopicUpdateResult; acts, other, plain;
    /// Sends a push notification (PRO).
    send_push_notification: "SendPushNotification" = 33, SendPushNotificationRequest -> SendPushNotificationResponse, SendPushNotificationResult; acts, other, plain;
    /// Reports what became of a push notification (PRO).
    update_push_status: "UpdatePushStatus" = 34, UpdatePushStatusRequest -> UpdatePushStatusResponse, UpdatePushStatusResult; acts, other, plain;
    /// Takes back a push notification that has not left yet (PRO).
    cancel_push: "CancelPush" = 35, CancelPushRequest -> CancelPushResponse, CancelPushResult; acts, other, plain;
    /// Sets an entry of a map channel.
    map_publish: "MapPublish" = 36, MapPublishRequest -> MapPublishResponse, MapPublishResult; acts, channel, ruled;
    /// Removes an entry of a map channel.
    map_remove: "MapRemove" = 37, MapRemoveRequest -> MapRemoveResponse, MapRemoveResult; acts, channel, ruled;
    /// Entries of a map channel as they are now.
    map_read_state: "MapReadState" = 38, MapReadStateRequest -> MapReadStateResponse, MapReadStateResult; reads, channel, plain;
    /// Changes of a map channel.
    map_read_stream: "MapReadStream" = 39, MapReadStreamRequest -> MapReadStreamResponse, MapReadStreamResult; reads, channel, plain;
    /// How many entries a map channel has.
    map_stats: "MapStats" = 40, MapStatsRequest -> MapStatsResponse, MapStatsResult; reads, channel, plain;
    /// Removes all entries of a map channel.
    map_clear: "MapClear" = 41, MapClearRequest -> MapClearResponse, MapClearResult; acts, channel, plain;
    /// A new value of a tracked key, without waiting for the next poll.
    shared_poll_publish: "SharedPollPublish" = 42, SharedPollPublishRequest -> SharedPollPublishResponse, SharedPollPublishResult; acts, channel, ruled;
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn every_call_of_the_contract_is_a_method() {
        let contract = include_str!("../../proto/api.proto");
        let calls = contract.lines().filter_map(|line| {
            let (name, _) = line.trim().strip_prefix("rpc ")?.split_once('(')?;
            Some(name)
        });
        let calls: Vec<&str> = calls.filter(|name| *name != "Batch").collect();
        assert_eq!(calls, NAMES);
        assert_eq!(calls.len(), 39);
    }

    #[test]
    fn the_number_of_a_method_is_that_of_its_command() {
        let command = api::Command::from(api::SharedPollPublishRequest::default());
        let encoded = command.encode_to_vec();
        let field = <api::SharedPollPublishRequest as Request>::INFO.field;
        let mut head = Vec::new();
        super::super::scan::put_head(field, 0, &mut head);
        assert_eq!(encoded, head);
        assert_eq!(name_of(&command), "SharedPollPublish");
    }
}
