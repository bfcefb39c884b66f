//! Publishing back: a client of Centrifugo's server API.
//!
//! ```
//! use centripeta::egress::Publisher;
//! use centripeta::proto::api::DisconnectRequest;
//! use centripeta::{Json, Reject, User};
//! use serde_json::{Value, json};
//!
//! /// A handler takes the publisher like any other argument.
//! async fn hold(User(user): User, publisher: Publisher) -> Result<Json<Value>, Reject> {
//!     // Awaited: the offset in the channel's history, or why not.
//!     let published = publisher.publish_json("seats:7", &json!({ "held_by": user })).await?;
//!     // Not awaited: sent in the same order; a failure is logged.
//!     publisher.cast(DisconnectRequest { user, ..Default::default() })?;
//!     Ok(Json(json!({ "offset": published.offset })))
//! }
//! ```
//!
//! What it promises:
//!
//! * **Never in the way.** A call is checked, encoded and queued; it is sent by a task of its own, on
//!   the runtime that started the publisher. The queue is bounded (`centrifugo.queue`,
//!   `centrifugo.queue_bytes`): beyond it the answer is [`Error::Overloaded`], at once.
//! * **Order per channel.** `publish`, `broadcast`, `map_publish`, `map_remove` and
//!   `shared_poll_publish` of one channel arrive in the order in which they were called, whichever
//!   endpoint takes them. At most one flight per channel is on the wire. Other methods leave at once;
//!   await one to have it before another. A call whose answer was lost may still take effect after
//!   the next one.
//! * **Batches by themselves.** While the wire is free a call leaves alone and at once; what gathers
//!   behind calls under way leaves as one batch. Each call has its own answer. To a Centrifugo that is
//!   too old for batches calls go one by one.
//! * **Failover.** Endpoints that are lost or let calls wait get no more calls while another one is
//!   well. A call that was not sent goes elsewhere; one that was sent is sent again only if it reads
//!   or has an idempotency key (see [`Publisher::idempotent`]), a bounded number of times. Keys work
//!   across Centrifugo nodes only if these share their broker.
//! * **Owners only.** The publisher of a keyed event is bound to its slot and owner epoch: once the
//!   slot has another owner, its calls are [`Error::Fenced`]. While the lease of the node has lapsed
//!   and the slot is still its own, they wait, as the answer of the event does, up to their own limit
//!   of time; then they are fenced too, and nothing was sent.
//!
//! It refuses what does harm: payloads that are not JSON ([`Publisher::binary`]), an empty user
//! ([`Publisher::anonymous`]), an unsubscribe that waits for the handler which makes it
//! ([`Publisher::detached`]).

mod batch;
mod bound;
mod dispatcher;
pub mod error;
mod flight;
mod forward;
mod job;
mod lanes;
mod live;
mod methods;
mod pending;
mod publisher;
mod recorder;
mod rules;
mod scan;
mod stats;
pub(crate) mod tally;
mod upstream;
mod wire;

pub use error::{Error, MethodName, Refusal};
pub use methods::Request;
pub use pending::Pending;
pub use publisher::Publisher;
pub use recorder::{RecordedCall, Recorder};
pub use stats::{EndpointStats, Stats};

pub(crate) use bound::Egress;
pub(crate) use publisher::Reconfigured;
