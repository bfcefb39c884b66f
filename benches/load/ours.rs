//! Our node as the bench runs it: two interceptors with both halves, a sharded Rust handler.
//!
//! At the printed defaults, but for the addresses (free ports of the loopback) and what an option
//! asks for.

use centripeta::config::{Config, LoadOptions, load};
use centripeta::config_routes::assemble;
use centripeta::event::Rpc;
use centripeta::extract::Raw;
use centripeta::interceptor::AccessLog;
use centripeta::{
    Cx, Flow, Interceptor, Listeners, Node, Outcome, Request, Route, Router, StreamReply,
};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::burn::Burn;
use super::role::{ServerOptions, announce, parent_is_gone};

/// How long the node may take to end.
const GRACE: Duration = Duration::from_secs(1);

/// Binds a free loopback port, prints the address as one line on stdout, serves until stdin closes.
pub(crate) fn serve_ours(options: &ServerOptions) -> anyhow::Result<()> {
    let config = config(options)?;
    let router = assemble(&config, router(options)).map_err(|problems| {
        let problems = problems.iter().map(ToString::to_string).collect::<Vec<_>>();
        anyhow::anyhow!("{}", problems.join("; "))
    })?;
    // As a node writes its log: by a thread of its own, which ends with the guard.
    let mut log_writer = None;
    if options.access_log {
        let (writer, guard) = tracing_appender::non_blocking(std::io::stderr());
        log_writer = Some(guard);
        let lines = tracing_subscriber::fmt().json().flatten_event(true);
        let lines = lines.with_writer(writer);
        lines.with_max_level(tracing::Level::INFO).init();
    }
    let _log_writer = log_writer;
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?
        .block_on(async move {
            let listeners = Listeners::bind(&config).await?;
            let node = Node::start(&config, router, listeners).await?;
            let centripeta::GrpcAddress::Tcp(address) = node.addresses().grpc else {
                anyhow::bail!("the node listens on a path");
            };
            announce(address)?;
            // The sender may be gone, which is the end as well.
            drop(parent_is_gone().await);
            node.shutdown(GRACE).await;
            Ok(())
        })
}

fn config(asked: &ServerOptions) -> anyhow::Result<Config> {
    let mut options = LoadOptions::new(std::iter::empty());
    options.dir = std::env::temp_dir().join("centripeta-bench-has-no-config");
    options.sets = vec![
        "listen.grpc=127.0.0.1:0".into(),
        "listen.admin=127.0.0.1:0".into(),
        r#"route=[{on="rpc",match="bench.count",key="{data.room}",handler="counter"}]"#.into(),
        format!("metrics.enabled={}", !asked.no_metrics),
    ];
    if let Some(traces) = asked.traces {
        options.sets.extend([
            format!("log.otlp=http://{}", traces.collector),
            format!("log.sampling={}", f64::from(traces.percent) / 100.0),
        ]);
    }
    Ok(load(&options)?.config)
}

fn router(options: &ServerOptions) -> Router {
    let burn = options.burn;
    let echo = move |Request(request): Request<Rpc>| {
        let burn: Burn = burn;
        async move {
            burn.run();
            centripeta::RpcReply::bytes(request.data)
        }
    };
    let router = Router::new()
        .intercept_all("count", Count::default())
        .intercept_all("stamp", Stamp)
        .route(
            Route::of::<Rpc, _, _>(echo)
                .matching("bench.echo")
                .key("{data.room}")
                .named("echo"),
        )
        .stream("*", |_: Raw| async { StreamReply::silent() })
        .with_config_routes()
        .with_state(());
    match options.access_log {
        true => router.intercept_all("access-log", AccessLog::default()),
        false => router,
    }
}

/// Counts events on the way in and outcomes on the way out.
#[derive(Debug, Default)]
struct Count {
    entered: AtomicU64,
    left: AtomicU64,
}

impl Interceptor for Count {
    async fn before(&self, _: &mut Cx) -> Flow {
        self.entered.fetch_add(1, Ordering::Relaxed);
        Flow::Next
    }

    async fn after(&self, _: &Cx, _: &mut Outcome) {
        self.left.fetch_add(1, Ordering::Relaxed);
    }
}

/// Carries an attribute from its first half to its second.
#[derive(Debug)]
struct Stamp;

/// The attribute.
#[derive(Debug, Clone)]
struct Length(usize);

impl Interceptor for Stamp {
    async fn before(&self, cx: &mut Cx) -> Flow {
        let length = Length(cx.raw().len());
        cx.set_attribute(length);
        Flow::Next
    }

    async fn after(&self, cx: &Cx, outcome: &mut Outcome) {
        let Some(Length(length)) = cx.attribute() else {
            return;
        };
        assert_eq!(*length, cx.raw().len(), "{outcome:?}");
    }
}
