//! The router: which handler gets which event, behind which stages.
//!
//! ```
//! use centripeta::{ConnectReply, Data, Json, Reject, Router, User};
//! use serde::{Deserialize, Serialize};
//!
//! #[derive(Deserialize)]
//! struct Hello { name: String }
//!
//! #[derive(Serialize)]
//! struct Greeting { text: String }
//!
//! let router: Router = Router::new()
//!     .connect(|Data(hello): Data<Hello>| async move {
//!         Ok::<_, Reject>(ConnectReply::user(hello.name))
//!     })
//!     .rpc("greet", |User(user): User| async move {
//!         Json(Greeting { text: format!("hello, {user}") })
//!     })
//!     .with_state(());
//! ```

use crate::event::{
    CacheEmpty, ChannelState, Connect, Event, EventKind, MapPublish, MapRemove, Publish, Raw,
    Refresh, Rpc, SharedPollRefresh, Stream, StreamBidirectional, SubRefresh, Subscribe,
};
use crate::forward::Attributes;
use crate::handler::{AnyHandler, Bound, Handler};
use crate::interceptor::{AnyInterceptor, Interceptor};
use crate::pool::Pool;
use crate::upstream::handler::Upstream;
use crate::worker::handler::Workers;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// Which events a stage sees.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum On {
    /// Every event; outermost.
    All,
    /// Events of these kinds.
    Kinds(Vec<EventKind>),
    /// Only routes that name the stage.
    Routes,
}

impl From<EventKind> for On {
    fn from(kind: EventKind) -> Self {
        Self::Kinds(vec![kind])
    }
}

/// A stage and the events that it sees.
#[derive(Clone)]
pub(crate) struct StageSpec {
    pub(crate) name: String,
    pub(crate) on: On,
    pub(crate) interceptor: Arc<dyn AnyInterceptor>,
}

impl fmt::Debug for StageSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StageSpec")
            .field("name", &self.name)
            .field("on", &self.on)
            .finish()
    }
}

type Bind<S> = Box<dyn FnOnce(S) -> Arc<dyn AnyHandler> + Send>;

enum HandlerEntry<S> {
    Unbound(Bind<S>),
    Bound(Arc<dyn AnyHandler>),
}

/// One route: an event, what it matches, its handler, and how it is run.
pub struct Route<S = ()> {
    pub(crate) kind: EventKind,
    pub(crate) pattern: Option<String>,
    pub(crate) key: Option<String>,
    pub(crate) timeout: Option<Duration>,
    pub(crate) retry_safe: bool,
    pub(crate) handler_name: String,
    pub(crate) stage_names: Vec<String>,
    pub(crate) stages: Vec<StageSpec>,
    pub(crate) pool: Option<Pool>,
    pub(crate) params: usize,
    pub(crate) origin: Option<String>,
    handler: HandlerEntry<S>,
}

impl<S> fmt::Debug for Route<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Route")
            .field("kind", &self.kind)
            .field("pattern", &self.pattern)
            .field("handler", &self.handler_name)
            .finish_non_exhaustive()
    }
}

impl<S: Clone + Send + Sync + 'static> Route<S> {
    /// A route of the event `E` for everything; narrow it with [`Route::matching`].
    pub fn of<E, T, H>(handler: H) -> Self
    where
        E: Event,
        T: 'static,
        H: Handler<E, T, S>,
    {
        let bind: Bind<S> = Box::new(move |state| Bound::<H, E, T, S>::erase(handler, state));
        let name = short_type_name::<H>();
        Self::with_entry(E::KIND, name, H::PARAMS, HandlerEntry::Unbound(bind))
    }

    /// What the route matches: a channel pattern such as `chat:{room}`, an rpc method, a prefix
    /// such as `seat.*`.
    #[must_use]
    pub fn matching(mut self, pattern: impl Into<String>) -> Self {
        self.pattern = Some(pattern.into());
        self
    }

    /// What is serialised: `none`, `user`, `client`, `channel`, or a template such as
    /// `showing:{data.showing}`. By default the channel, and nothing for events without one.
    #[must_use]
    pub fn key(mut self, key: impl Into<String>) -> Self {
        self.key = Some(key.into());
        self
    }

    /// The route's own time limit; the caller's counts where it is nearer.
    #[must_use]
    pub const fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    /// Says that running an event of this route twice does no harm. In a cluster an event that may
    /// have run at a node which was lost is then run once more at another node, instead of being
    /// answered as unavailable. Connect, refresh, subscribe and sub_refresh are so by themselves.
    #[must_use]
    pub const fn retry_safe(mut self) -> Self {
        self.retry_safe = true;
        self
    }

    /// The name of the handler in `explain`, logs and metrics; by default its type's.
    #[must_use]
    pub fn named(mut self, name: impl Into<String>) -> Self {
        self.handler_name = name.into();
        self
    }

    /// A stage of this route alone, inside of all others.
    #[must_use]
    pub fn intercept(mut self, name: impl Into<String>, interceptor: impl Interceptor) -> Self {
        let interceptor = Arc::new(interceptor);
        self.stages.push(StageSpec {
            name: name.into(),
            on: On::Routes,
            interceptor,
        });
        self
    }

    /// Runs the handler on threads of its own: for code that blocks or computes for long.
    #[must_use]
    pub fn on_pool(mut self, pool: &Pool) -> Self {
        self.pool = Some(pool.clone());
        self
    }
}

impl<S> Route<S> {
    /// A route of the configuration.
    pub(crate) fn configured(
        kind: EventKind,
        handler_name: String,
        handler: Arc<dyn AnyHandler>,
    ) -> Self {
        Self::with_entry(kind, handler_name, 0, HandlerEntry::Bound(handler))
    }

    fn with_entry(
        kind: EventKind,
        handler_name: String,
        params: usize,
        handler: HandlerEntry<S>,
    ) -> Self {
        Self {
            kind,
            pattern: None,
            key: None,
            timeout: None,
            retry_safe: false,
            handler_name,
            stage_names: Vec::new(),
            stages: Vec::new(),
            pool: None,
            params,
            origin: None,
            handler,
        }
    }

    /// How the route is named in messages.
    pub(crate) fn title(&self) -> String {
        let kind = self.kind;
        match (&self.pattern, &self.origin) {
            (Some(pattern), None) => format!("{kind} `{pattern}`"),
            (Some(pattern), Some(origin)) => format!("{kind} `{pattern}` ({origin})"),
            (None, None) => format!("{kind} (everything)"),
            (None, Some(origin)) => format!("{kind} (everything, {origin})"),
        }
    }
}

impl Route<()> {
    /// The handler, once its state is bound.
    pub(crate) fn handler(&mut self) -> Arc<dyn AnyHandler> {
        let entry = std::mem::replace(&mut self.handler, HandlerEntry::Bound(Arc::new(Nothing)));
        let handler = match entry {
            HandlerEntry::Bound(handler) => handler,
            HandlerEntry::Unbound(bind) => bind(()),
        };
        self.handler = HandlerEntry::Bound(Arc::clone(&handler));
        handler
    }
}

impl Router<()> {
    /// The same routes and stages once more: handlers, stages and pools are shared, not made anew.
    pub(crate) fn share(&mut self) -> Self {
        let route = |route: &mut Route| Route {
            kind: route.kind,
            pattern: route.pattern.clone(),
            key: route.key.clone(),
            timeout: route.timeout,
            retry_safe: route.retry_safe,
            handler_name: route.handler_name.clone(),
            stage_names: route.stage_names.clone(),
            stages: route.stages.clone(),
            pool: route.pool.clone(),
            params: route.params,
            origin: route.origin.clone(),
            handler: HandlerEntry::Bound(route.handler()),
        };
        Self {
            routes: self.routes.iter_mut().map(route).collect(),
            stages: self.stages.clone(),
            workers: self.workers.clone(),
            upstreams: self.upstreams.clone(),
            config_routes: self.config_routes,
            attributes: self.attributes.clone(),
        }
    }
}

/// Stands in for a handler while it is taken out.
struct Nothing;

impl AnyHandler for Nothing {
    fn call(&self, _: &mut crate::cx::Cx) -> crate::handler::HandlerFuture {
        Box::pin(std::future::ready(crate::outcome::Failure::NoRoute.into()))
    }
}

/// Routes and stages of an application; `S` is the state that its handlers still lack.
#[derive(Debug)]
pub struct Router<S = ()> {
    pub(crate) routes: Vec<Route<S>>,
    pub(crate) stages: Vec<StageSpec>,
    /// Workers of the configuration that routes name, to be started with the node.
    pub(crate) workers: Vec<Arc<Workers>>,
    /// Upstreams of its handlers.
    pub(crate) upstreams: Vec<Arc<Upstream>>,
    pub(crate) config_routes: bool,
    /// Types of attributes that cross between nodes.
    pub(crate) attributes: Attributes,
}

impl<S> Default for Router<S> {
    fn default() -> Self {
        Self {
            routes: Vec::new(),
            stages: Vec::new(),
            workers: Vec::new(),
            upstreams: Vec::new(),
            config_routes: false,
            attributes: Attributes::default(),
        }
    }
}

macro_rules! by_pattern {
    ($($(#[$doc:meta])* $method:ident: $event:ty;)*) => {
        $(
            $(#[$doc])*
            #[must_use]
            pub fn $method<T, H>(self, pattern: impl Into<String>, handler: H) -> Self
            where
                T: 'static,
                H: Handler<$event, T, S>,
            {
                self.route(Route::of::<$event, T, H>(handler).matching(pattern))
            }
        )*
    };
}

macro_rules! by_event {
    ($($(#[$doc:meta])* $method:ident: $event:ty;)*) => {
        $(
            $(#[$doc])*
            #[must_use]
            pub fn $method<T, H>(self, handler: H) -> Self
            where
                T: 'static,
                H: Handler<$event, T, S>,
            {
                self.route(Route::of::<$event, T, H>(handler))
            }
        )*
    };
}

impl<S: Clone + Send + Sync + 'static> Router<S> {
    /// A router without routes: it refuses every event.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a route with options: a key, a timeout, stages, a pool.
    #[must_use]
    pub fn route(mut self, route: Route<S>) -> Self {
        self.routes.push(route);
        self
    }

    by_event! {
        /// Handles connects.
        connect: Connect;
        /// Handles refreshes of connections.
        refresh: Refresh;
        /// Handles batches of occupied and vacated channels (PRO).
        channel_state: ChannelState;
    }

    by_pattern! {
        /// Handles subscribes to channels of a pattern such as `chat:{room}`.
        subscribe: Subscribe;
        /// Handles refreshes of subscriptions.
        sub_refresh: SubRefresh;
        /// Handles publishes into channels of a pattern, before they are published.
        publish: Publish;
        /// Handles rpc methods: exact (`a.b`), by prefix (`a.*`), all (`*`).
        rpc: Rpc;
        /// Handles subscriptions as streams of publications.
        stream: Stream;
        /// The same with the client's publications as [`Inbound`](crate::extract::Inbound).
        stream_bidirectional: StreamBidirectional;
        /// Handles entries published into map channels.
        map_publish: MapPublish;
        /// Handles entries removed from map channels.
        map_remove: MapRemove;
        /// Handles polls for tracked keys.
        shared_poll_refresh: SharedPollRefresh;
        /// Handles cache recoveries that found nothing (PRO).
        cache_empty: CacheEmpty;
        /// Handles unary methods that are none of the thirteen, by the method's name.
        raw: Raw;
    }

    /// A stage around every event, outermost, in the order of the calls.
    #[must_use]
    pub fn intercept_all(self, name: impl Into<String>, interceptor: impl Interceptor) -> Self {
        self.stage(name.into(), On::All, Arc::new(interceptor))
    }

    /// A stage around the events of one kind, inside of those around all.
    #[must_use]
    pub fn intercept(
        self,
        on: impl Into<On>,
        name: impl Into<String>,
        interceptor: impl Interceptor,
    ) -> Self {
        self.stage(name.into(), on.into(), Arc::new(interceptor))
    }

    /// Takes the routes, interceptors and handlers of the configuration too, which a program with
    /// its own router otherwise ignores.
    #[must_use]
    pub const fn with_config_routes(mut self) -> Self {
        self.config_routes = true;
        self
    }

    /// Lets attributes of a type that stages set ([`Cx::set_attribute`](crate::Cx::set_attribute))
    /// cross between the nodes of a cluster, as JSON under this name. An event that carries an
    /// attribute of another type can run on the node that it came to, and nowhere else: where it has
    /// to be sent on it is answered with an internal error, and the log names the type.
    ///
    /// ```
    /// use centripeta::Router;
    /// use serde::{Deserialize, Serialize};
    ///
    /// #[derive(Clone, Serialize, Deserialize)]
    /// struct Tenant(String);
    ///
    /// let router: Router = Router::new().attribute::<Tenant>("tenant");
    /// ```
    #[must_use]
    pub fn attribute<T>(mut self, name: impl Into<String>) -> Self
    where
        T: Serialize + DeserializeOwned + Clone + Send + Sync + 'static,
    {
        self.attributes.register::<T>(name.into());
        self
    }

    /// Adds the routes and stages of another router behind these.
    #[must_use]
    pub fn merge(mut self, other: Self) -> Self {
        self.routes.extend(other.routes);
        self.stages.extend(other.stages);
        self.workers.extend(other.workers);
        self.upstreams.extend(other.upstreams);
        self.config_routes |= other.config_routes;
        self.attributes.merge(other.attributes);
        self
    }

    /// Gives the handlers their state; they take it by `State<T>`.
    pub fn with_state(self, state: S) -> Router<()> {
        let bind = |route: Route<S>| {
            let handler = match route.handler {
                HandlerEntry::Bound(handler) => handler,
                HandlerEntry::Unbound(bind) => bind(state.clone()),
            };
            Route {
                kind: route.kind,
                pattern: route.pattern,
                key: route.key,
                timeout: route.timeout,
                retry_safe: route.retry_safe,
                handler_name: route.handler_name,
                stage_names: route.stage_names,
                stages: route.stages,
                pool: route.pool,
                params: route.params,
                origin: route.origin,
                handler: HandlerEntry::Bound(handler),
            }
        };
        Router {
            routes: self.routes.into_iter().map(bind).collect(),
            stages: self.stages,
            workers: self.workers,
            upstreams: self.upstreams,
            config_routes: self.config_routes,
            attributes: self.attributes,
        }
    }

    pub(crate) fn stage(
        mut self,
        name: String,
        on: On,
        interceptor: Arc<dyn AnyInterceptor>,
    ) -> Self {
        self.stages.push(StageSpec {
            name,
            on,
            interceptor,
        });
        self
    }
}

/// The last part of a type's path; closures are named after the function around them.
fn short_type_name<T>() -> String {
    let path = std::any::type_name::<T>();
    let path = path.split('<').next().unwrap_or(path);
    let mut parts = path.rsplit("::").filter(|part| !part.starts_with('{'));
    let name = parts.next().unwrap_or(path);
    if path.ends_with("{{closure}}") {
        format!("closure in {name}")
    } else {
        name.to_owned()
    }
}
