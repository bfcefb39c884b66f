//! The configuration: read, checked as a whole, and turned into the one form that travels.
//!
//! Values come from the built-in defaults, then `node.toml`, then the environment, then
//! `--set KEY=VALUE`, each over the one before. Everything that is wrong is reported at once, each
//! [`Problem`] with key, value, rule, fix and origin; nothing is guessed. Keys, types, defaults and
//! documentation are one table (`config/schema.rs`), from which reading and printing follow.
//!
//! Secrets are [`Secret`]s and appear in no print; the value of an unknown key and the text of a
//! line that is not TOML are not repeated either, since they may be secrets mistyped.
//!
//! ```
//! use centripeta::config::{LoadOptions, load};
//!
//! let mut options = LoadOptions::new(std::iter::empty());
//! options.sets.push("limits.timeout=2s".to_owned());
//! let loaded = load(&options)?;
//! assert_eq!(loaded.config.limits.timeout.as_secs(), 2);
//! # Ok::<(), centripeta::config::ConfigError>(())
//! ```

mod build;
mod check;
mod cluster;
mod layers;
mod names;
mod print;
mod problem;
mod reference;
mod rules;
mod schema;
mod secret;
mod tree;
mod types;
mod values;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

pub(crate) use build::{AdminAccess, Partial};
pub use cluster::{
    ClusterConfig, ClusterLeaseConfig, ClusterMovesConfig, ClusterRaftConfig, ClusterSecret,
    ClusterTlsConfig,
};
pub use print::{EXAMPLE_MARK, effective_json, print_defaults, print_effective};
pub use problem::{ConfigError, Origin, Problem};
pub use reference::{keys, print_docs};
pub use schema::needs_restart;
pub use secret::{REDACTED, Secret};
pub use types::{
    AuthConfig, CentrifugoConfig, ChannelConfig, ClientTlsConfig, Collector, Config,
    DynamicAllocatorConfig, EjectConfig, Endpoint, HandlerConfig, InterceptorConfig,
    InterceptorKind, LimitsConfig, ListenAddr, ListenConfig, LogConfig, LogFormat, MetricsConfig,
    NodeConfig, On, OnInitConfig, OtlpConfig, RelayAddress, RetryConfig, RouteConfig, RpcAddress,
    RpcConfig, RpcListen, RuntimeConfig, StaticAnswer, TlsConfig, UpstreamConfig,
    UpstreamTlsConfig, Variables, WorkerPoolConfig, WorkersConfig,
};

use layers::{FILE_BYTES, World};
use tree::Node;

/// The file that is read if it exists and none is named.
pub const DEFAULT_FILE: &str = "node.toml";

/// Where a configuration comes from.
#[derive(Clone)]
pub struct LoadOptions {
    /// The file that was asked for, which must exist; `None` for [`DEFAULT_FILE`] in `dir` if it
    /// exists.
    pub file: Option<PathBuf>,
    /// `KEY=VALUE`s of the command line; a later one wins.
    pub sets: Vec<String>,
    /// The environment, by name: keys (`CENTRIPETA_…__…`) and what `${NAME}` stands for.
    pub env: BTreeMap<String, String>,
    /// What relative paths start from: the working directory, `.`, unless a test says otherwise.
    pub dir: PathBuf,
}

/// The environment and the values of `sets` may hold secrets and are left out.
impl fmt::Debug for LoadOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("LoadOptions");
        shown
            .field("file", &self.file)
            .field("dir", &self.dir)
            .finish_non_exhaustive()
    }
}

impl LoadOptions {
    /// The default file, nothing set, and this environment.
    pub fn new(env: impl IntoIterator<Item = (String, String)>) -> Self {
        Self {
            file: None,
            sets: Vec::new(),
            env: env.into_iter().collect(),
            dir: PathBuf::from("."),
        }
    }
}

/// The variables of this process; those that are not UTF-8 are left out.
pub fn process_env() -> impl Iterator<Item = (String, String)> {
    std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
}

/// A configuration that may run, with what was noticed on the way.
#[derive(Clone)]
pub struct Loaded {
    /// The configuration.
    pub config: Config,
    /// What is unwise but does not stop the start.
    pub warnings: Vec<Problem>,
    /// The file that was read, if any.
    pub file: Option<PathBuf>,
    settings: check::Settings,
}

impl fmt::Debug for Loaded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("Loaded");
        shown
            .field("config", &self.config)
            .field("warnings", &self.warnings);
        shown.field("file", &self.file).finish_non_exhaustive()
    }
}

/// Reads, layers, checks and builds the configuration. Blocks on the file system.
///
/// # Errors
///
/// Everything that is wrong with it, all at once.
pub fn load(options: &LoadOptions) -> Result<Loaded, ConfigError> {
    load_parts(options).map_err(|refused| refused.error)
}

/// What is wrong with the directives of a log level, as `log.level` takes them, and what to do about
/// it.
pub(crate) fn check_level(directives: &str) -> Result<(), (String, String)> {
    values::filter(directives).map_err(|fault| (fault.rule(false), fault.fix))
}

/// A configuration that does not start a node, and what can still be said of its routes.
pub(crate) struct Refused {
    /// What is wrong with it.
    pub(crate) error: ConfigError,
    /// How its node is administered, if that much is said; `None` where the text itself is torn.
    pub(crate) admin: Option<AdminAccess>,
    /// The routes that parsed; `None` where the text itself is torn, which shows nothing reliable.
    pub(crate) partial: Option<Partial>,
}

/// As [`load`], with what did parse beside the error.
pub(crate) fn load_parts(options: &LoadOptions) -> Result<Loaded, Box<Refused>> {
    let world = World {
        env: &options.env,
        dir: &options.dir,
        read: &read_file,
    };
    let mut problems = Vec::new();
    let file = find_file(options, &mut problems);
    let root = match &file {
        Some((path, bytes)) => layers::file(path, bytes, &mut problems),
        None => Node::empty_table(Origin::Default),
    };
    finish_parts(
        root,
        &options.sets,
        &world,
        problems,
        file.map(|(path, _)| path),
    )
}

/// Loads a configuration file from memory, with an empty environment and no other file in reach:
/// what a fuzz target calls. Whatever the bytes are, it returns.
///
/// # Errors
///
/// Everything that is wrong with it, all at once.
pub fn fuzz_load(bytes: &[u8]) -> Result<Loaded, ConfigError> {
    let env = BTreeMap::new();
    let world = World {
        env: &env,
        dir: Path::new("."),
        read: &no_file,
    };
    let mut problems = Vec::new();
    let path = PathBuf::from(DEFAULT_FILE);
    let root = layers::file(&path, bytes, &mut problems);
    finish(root, &[], &world, problems, Some(path))
}

impl Default for Config {
    /// The built-in defaults, as they are where no variable is set.
    fn default() -> Self {
        let loaded = fuzz_load(&[]);
        loaded
            .expect("the defaults of the schema obey its own rules, which a test shows")
            .config
    }
}

fn finish(
    root: Node,
    sets: &[String],
    world: &World<'_>,
    problems: Vec<Problem>,
    file: Option<PathBuf>,
) -> Result<Loaded, ConfigError> {
    finish_parts(root, sets, world, problems, file).map_err(|refused| refused.error)
}

fn finish_parts(
    mut root: Node,
    sets: &[String],
    world: &World<'_>,
    mut problems: Vec<Problem>,
    file: Option<PathBuf>,
) -> Result<Loaded, Box<Refused>> {
    let mut warnings = Vec::new();
    layers::environment(&mut root, world, &mut problems);
    layers::sets(&mut root, sets, &mut problems);
    let settings = check::check(&root, world, &mut problems);
    rules::check(&settings, world, &mut problems, &mut warnings);
    drop_echoes(&mut problems);
    if problems.is_empty() {
        match build::build(&settings, world.dir) {
            Some(config) => {
                return Ok(Loaded {
                    config,
                    warnings,
                    file,
                    settings,
                });
            }
            None => problems.push(Problem {
                key: String::new(),
                value: None,
                rule: "a value is missing though no check found it so".to_owned(),
                fix: "this is a mistake of ours: please report it with the configuration"
                    .to_owned(),
                origin: Origin::Default,
            }),
        }
    }
    let torn = problems.iter().any(|problem| problem.key.is_empty());
    let partial = if torn {
        None
    } else {
        build::partial(&settings)
    };
    let admin = if torn {
        None
    } else {
        build::admin_access(&settings)
    };
    let error = ConfigError { problems, warnings };
    Err(Box::new(Refused {
        error,
        admin,
        partial,
    }))
}

/// Leaves out what was found wrong with a line that is not even TOML; a torn key can be an empty one.
fn drop_echoes(problems: &mut Vec<Problem>) {
    let is_torn = |problem: &Problem| problem.key.is_empty() && problem.rule != check::NOT_A_KEY;
    let torn = problems.iter().filter(|problem| is_torn(problem));
    let torn: Vec<_> = torn.map(|problem| problem.origin.clone()).collect();
    problems.retain(|problem| is_torn(problem) || !torn.contains(&problem.origin));
}

/// The file to read and its content; one that was asked for and cannot be read is a problem.
fn find_file(options: &LoadOptions, problems: &mut Vec<Problem>) -> Option<(PathBuf, Vec<u8>)> {
    let path = options
        .file
        .clone()
        .unwrap_or_else(|| PathBuf::from(DEFAULT_FILE));
    match read_file(&options.dir.join(&path)) {
        Ok(bytes) => Some((path, bytes)),
        Err(why) if options.file.is_none() && why.kind() == io::ErrorKind::NotFound => None,
        Err(why) => {
            problems.push(Problem {
                key: String::new(),
                value: None,
                rule: format!("cannot be read: {why}"),
                fix: "name a readable file with --config, or put one there".to_owned(),
                origin: Origin::File { path, line: 0 },
            });
            None
        }
    }
}

fn read_file(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?
        .take(FILE_BYTES + 1)
        .read_to_end(&mut bytes)?;
    if bytes.len() as u64 > FILE_BYTES {
        return Err(io::Error::other("larger than 1 MiB"));
    }
    Ok(bytes)
}

fn no_file(_: &Path) -> io::Result<Vec<u8>> {
    Err(io::ErrorKind::NotFound.into())
}
