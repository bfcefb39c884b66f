//! The one call of a program's `main`: a stand-in that serves and knows nothing else.

use crate::config::{Config, LoadOptions, load, process_env};
use crate::node::{Listeners, Node};
use crate::router::Router;
use std::fmt;
use std::process::ExitCode;
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::EnvFilter;

type Rule = Box<dyn Fn(&Config) -> Result<(), String>>;

/// A program around a router.
pub struct App {
    router: Router,
    name: String,
    rules: Vec<Rule>,
}

impl fmt::Debug for App {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("App").finish_non_exhaustive()
    }
}

impl App {
    /// A program that serves this router.
    pub fn new(router: Router) -> Self {
        let name = "centripeta".to_owned();
        Self {
            router,
            name,
            rules: Vec::new(),
        }
    }

    /// The program's name.
    #[must_use]
    pub fn name(mut self, name: &str) -> Self {
        name.clone_into(&mut self.name);
        self
    }

    /// What the program is for.
    #[must_use]
    pub fn about(self, _: &str) -> Self {
        self
    }

    /// A rule of the program's own that the configuration must obey.
    #[must_use]
    pub fn require(mut self, rule: impl Fn(&Config) -> Result<(), String> + 'static) -> Self {
        self.rules.push(Box::new(rule));
        self
    }

    /// Serves until SIGTERM or SIGINT.
    pub fn run(self) -> ExitCode {
        let mut options = LoadOptions::new(process_env());
        let args: Vec<String> = std::env::args().collect();
        let sets = args.windows(2).filter(|pair| pair[0] == "--set");
        options.sets = sets.map(|pair| pair[1].clone()).collect();
        let config = match load(&options) {
            Ok(loaded) => loaded.config,
            Err(why) => return refuse(3, &why),
        };
        if let Some(why) = self.rules.iter().find_map(|rule| rule(&config).err()) {
            return refuse(3, &why);
        }
        tracing_subscriber::fmt()
            .json()
            .with_env_filter(EnvFilter::new(&config.log.level))
            .with_writer(std::io::stderr)
            .init();
        let runtime = match tokio::runtime::Runtime::new() {
            Ok(runtime) => runtime,
            Err(why) => return refuse(70, &why),
        };
        runtime.block_on(serve(self, config))
    }
}

async fn serve(app: App, config: Config) -> ExitCode {
    let listeners = match Listeners::bind(&config).await {
        Ok(listeners) => listeners,
        Err(why) => return refuse(4, &why),
    };
    let node = match Node::start(&config, app.router, listeners).await {
        Ok(node) => node,
        Err(why) => return refuse(3, &why),
    };
    println!("{} listens on {}", app.name, node.addresses().grpc);
    let (Ok(mut term), Ok(mut int)) = (
        signal(SignalKind::terminate()),
        signal(SignalKind::interrupt()),
    ) else {
        return refuse(70, &"no signals");
    };
    tokio::select! {
        _ = term.recv() => {}
        _ = int.recv() => {}
    }
    node.shutdown(config.limits.shutdown_grace).await;
    ExitCode::SUCCESS
}

fn refuse(code: u8, why: &dyn fmt::Display) -> ExitCode {
    eprintln!("error: {why}");
    ExitCode::from(code)
}
