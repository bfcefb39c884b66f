//! Handlers: functions whose arguments are extractors and whose result is the event's answer.

use crate::cx::Cx;
use crate::event::Event;
use crate::extract::FromEvent;
use crate::outcome::{IntoOutcome, Outcome};
use std::future::{Future, ready};
use std::pin::Pin;
use std::sync::Arc;

/// A handler's work on one event.
pub type HandlerFuture = Pin<Box<dyn Future<Output = Outcome> + Send>>;

/// A function that can handle the event `E`: up to eight extractors in, an answer out.
///
/// Implemented for async functions and closures; the compiler's message about a function that does
/// not fit names what is missing.
#[diagnostic::on_unimplemented(
    message = "this function can't handle the event `{E}`",
    label = "not a handler of `{E}`",
    note = "a handler is an async function of at most eight extractors: `Data<T>` (T: Deserialize), \
            `Param<T>` (T: FromStr), `User`, `Client`, `Channel`, `Method`, `Meta<T>`, `State<T>`, \
            `Attribute<T>`, `Headers`, `Raw`, `Request<E>`, `Deadline`, `Publisher`, `TraceContext`, \
            on two-way streams `Inbound`, and `Option` of each",
    note = "it returns the reply of its own event (`ConnectReply`, `SubscribeReply`, `PublishReply`, \
            `RpcReply` or `Json<T>`, `RefreshReply`, `SubRefreshReply`, `StreamReply`, …), `Reply`, \
            `Reject`, or a `Result` of them; `()` is no answer: `Reply::empty()` says that an empty \
            reply is meant"
)]
pub trait Handler<E: Event, T, S>: Send + Sync + 'static {
    /// How many parameters of the pattern its `Param` extractors take.
    const PARAMS: usize;

    /// Extracts the arguments and starts the work.
    fn call(&self, cx: &mut Cx, state: &S) -> HandlerFuture;
}

/// A handler whose types are not known any more, with its state inside.
pub(crate) trait AnyHandler: Send + Sync + 'static {
    /// Starts the work; what it needs of the context it takes at once.
    fn call(&self, cx: &mut Cx) -> HandlerFuture;

    /// Whether its lane stays, with its state, when it is idle.
    fn keeps_lane(&self) -> bool {
        false
    }
}

/// A typed handler together with its state.
pub(crate) struct Bound<H, E, T, S> {
    handler: H,
    state: S,
    types: std::marker::PhantomData<fn(E, T)>,
}

impl<H, E, T, S> Bound<H, E, T, S>
where
    E: Event,
    H: Handler<E, T, S>,
    T: 'static,
    S: Send + Sync + 'static,
{
    /// Erases the types.
    pub(crate) fn erase(handler: H, state: S) -> Arc<dyn AnyHandler> {
        Arc::new(Self {
            handler,
            state,
            types: std::marker::PhantomData,
        })
    }
}

impl<H, E, T, S> AnyHandler for Bound<H, E, T, S>
where
    E: Event,
    H: Handler<E, T, S>,
    T: 'static,
    S: Send + Sync + 'static,
{
    fn call(&self, cx: &mut Cx) -> HandlerFuture {
        self.handler.call(cx, &self.state)
    }
}

macro_rules! handler {
    ($($argument:ident),*) => {
        impl<E, F, Fut, R, S, $($argument,)*> Handler<E, ($($argument,)*), S> for F
        where
            E: Event,
            F: Fn($($argument,)*) -> Fut + Send + Sync + 'static,
            Fut: Future<Output = R> + Send + 'static,
            R: IntoOutcome<E>,
            $($argument: FromEvent<E, S>,)*
        {
            const PARAMS: usize = 0 $(+ <$argument as FromEvent<E, S>>::PARAMS)*;

            #[allow(non_snake_case, unused_variables)]
            fn call(&self, cx: &mut Cx, state: &S) -> HandlerFuture {
                $(
                    let $argument = match <$argument as FromEvent<E, S>>::from_event(cx, state) {
                        Ok(argument) => argument,
                        Err(rejection) => return Box::pin(ready(rejection.into())),
                    };
                )*
                let work = self($($argument,)*);
                Box::pin(async move { work.await.into_outcome() })
            }
        }
    };
}

handler!();
handler!(A1);
handler!(A1, A2);
handler!(A1, A2, A3);
handler!(A1, A2, A3, A4);
handler!(A1, A2, A3, A4, A5);
handler!(A1, A2, A3, A4, A5, A6);
handler!(A1, A2, A3, A4, A5, A6, A7);
handler!(A1, A2, A3, A4, A5, A6, A7, A8);
