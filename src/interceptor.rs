//! A stage of the pipeline: code before and after the handler of every event that passes it.
//!
//! Stages on `*` are outermost, then those on the event, then those of the route. Each stage is an
//! actor; its halves are polled once where they stand, and an event whose half has to wait is set
//! aside, so that the others pass. A stage that answers in `before` ends the way in: only the stages
//! outside of it see the outcome. At the deadline a waiting half is dropped and the stages outside
//! of it see [`Failure::Deadline`](crate::outcome::Failure).

mod access_log;
mod header_auth;
mod limit;

pub use access_log::{AccessLog, LogField, UnknownField};
pub use header_auth::HeaderAuth;
pub use limit::Limit;

use crate::cx::Cx;
use crate::forward::AttributeType;
use crate::outcome::{Failure, Outcome};
use crate::reject::Reject;
use crate::reply::Reply;
use std::future::{Future, ready};
use std::panic::AssertUnwindSafe;
use std::sync::Arc;

/// What the first half of a stage decides.
#[derive(Debug)]
pub enum Flow {
    /// The event goes on inwards.
    Next,
    /// The stage answers in the handler's place.
    Answer(Outcome),
}

impl From<Reply> for Flow {
    fn from(reply: Reply) -> Self {
        Self::Answer(Outcome::Reply(reply))
    }
}

impl From<Reject> for Flow {
    fn from(reject: Reject) -> Self {
        Self::Answer(Outcome::Reject(reject))
    }
}

impl From<Failure> for Flow {
    fn from(failure: Failure) -> Self {
        Self::Answer(Outcome::Failure(failure))
    }
}

impl<E: Into<Reject>> From<Result<(), E>> for Flow {
    fn from(result: Result<(), E>) -> Self {
        match result {
            Ok(()) => Self::Next,
            Err(refused) => Self::Answer(Outcome::Reject(refused.into())),
        }
    }
}

/// A stage of the pipeline.
///
/// ```
/// use centripeta::{Cx, Flow, Interceptor, Reject};
///
/// struct Members;
///
/// impl Interceptor for Members {
///     async fn before(&self, cx: &mut Cx) -> Flow {
///         if cx.user().is_empty() {
///             return Reject::permission_denied().into();
///         }
///         Flow::Next
///     }
/// }
/// ```
pub trait Interceptor: Send + Sync + 'static {
    /// Whether [`Interceptor::after`] does anything; a stage that says `false` costs no way back.
    const HAS_AFTER: bool = true;

    /// The types of attributes that it sets. A node of a cluster does not start, or reload, with a
    /// type among them that does not cross ([`Router::attribute`](crate::Router::attribute)); one that
    /// is not named here is found where an event that carries it has to be sent on.
    fn sets(&self) -> Vec<AttributeType> {
        Vec::new()
    }

    /// Runs on the way in. Attributes put into `cx` are seen by everything further in and by the
    /// `after` halves.
    fn before(&self, cx: &mut Cx) -> impl Future<Output = Flow> + Send {
        let _ = cx;
        ready(Flow::Next)
    }

    /// Runs on the way out, and may replace the outcome. A subscription stream that was accepted
    /// comes by once it has ended ([`Outcome::StreamEnd`]).
    fn after(&self, cx: &Cx, outcome: &mut Outcome) -> impl Future<Output = ()> + Send {
        let _ = (cx, outcome);
        ready(())
    }
}

/// A stage whose type is not known any more, as the pipeline holds it.
pub(crate) trait AnyInterceptor: Send + Sync + 'static {
    /// See [`Interceptor::HAS_AFTER`].
    fn has_after(&self) -> bool;

    /// See [`Interceptor::sets`].
    fn sets(&self) -> Vec<AttributeType>;

    /// Arms `slot` with the first half.
    fn before(self: Arc<Self>, flight: Flight, slot: &mut HalfSlot<Flow>);

    /// Arms `slot` with the second half.
    fn after(self: Arc<Self>, flight: Flight, slot: &mut HalfSlot<()>);
}

use crate::engine::flight::Flight;
use crate::engine::guard::{Ended, guarded};
use tokio_util::sync::ReusableBoxFuture;

/// A reusable allocation for the future of one half; it gives the event back with how it ended.
pub(crate) type HalfSlot<T> = ReusableBoxFuture<'static, (Flight, Ended<T>)>;

impl<I: Interceptor> AnyInterceptor for I {
    fn has_after(&self) -> bool {
        I::HAS_AFTER
    }

    fn sets(&self) -> Vec<AttributeType> {
        Interceptor::sets(self)
    }

    fn before(self: Arc<Self>, mut flight: Flight, slot: &mut HalfSlot<Flow>) {
        slot.set(async move {
            let (cx, call) = flight.parts();
            let half = AssertUnwindSafe(async { Interceptor::before(&*self, cx).await });
            let ended = guarded(half, call).await;
            (flight, ended)
        });
    }

    fn after(self: Arc<Self>, mut flight: Flight, slot: &mut HalfSlot<()>) {
        slot.set(async move {
            let mut outcome = flight.take_outcome();
            let (cx, mut limits) = flight.after_parts();
            let half =
                AssertUnwindSafe(async { Interceptor::after(&*self, cx, &mut outcome).await });
            let ended = guarded(half, &mut limits).await;
            flight.set_outcome(outcome);
            (flight, ended)
        });
    }
}
