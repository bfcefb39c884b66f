//! The command line: what is typed, and what each way to end means.
//!
//! Results go to stdout, everything else to stderr, errors as `error: <what>: <why>` and
//! `help: <fix>`. Sibling commands look alike: arguments, `run`, a result in words or as JSON.

mod admin;
mod centrifugo_config;
mod check_config;
mod cluster;
mod completion;
mod descriptors;
mod dev_cluster;
mod doctor;
mod error;
mod event;
mod explain;
mod fire;
mod health;
mod import;
mod init;
mod load;
mod log_level;
mod meaning;
mod output;
mod print_config;
mod reload;
mod serve;
mod tally;
mod workers;

use crate::app::App;
use crate::config::{LoadOptions, Loaded, load, load_parts, process_env};
use crate::config_routes;
use crate::engine::compile::Compiled;
use crate::telemetry::Telemetry;
use crate::worker::process::{REEXEC, become_worker};
use clap::{Args, CommandFactory, FromArgMatches, Parser, Subcommand};
use error::{CliError, Exit};
use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

const AFTER_HELP: &str = "\
Exit codes: 0 done; 1 the thing asked for failed; 2 wrong usage; 3 invalid configuration;
4 an address is taken or can't be reached; 70 internal.

Example:
  centripeta serve --set listen.grpc=127.0.0.1:9000";

/// Routes the events of a Centrifugo to sharded handlers.
#[derive(Parser)]
#[command(
    version,
    propagate_version = true,
    disable_help_subcommand = true,
    after_help = AFTER_HELP
)]
struct Cli {
    #[command(flatten)]
    common: Common,
    #[command(subcommand)]
    command: Option<Command>,
}

/// What every command takes. It has no `Debug`, since values that are set may be secrets.
#[derive(Args)]
struct Common {
    /// The configuration [default: ./node.toml if it exists, else built-in defaults]
    #[arg(long, value_name = "FILE", global = true)]
    config: Option<PathBuf>,
    /// Sets a key of the configuration, such as limits.timeout=2s; may be repeated
    #[arg(long = "set", value_name = "KEY=VALUE", global = true)]
    sets: Vec<String>,
    /// The least important level logged, such as debug; the same as --set log.level=LEVEL
    #[arg(long, value_name = "LEVEL", global = true)]
    log: Option<String>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Runs a node until SIGTERM or Ctrl-C, then drains
    Serve(serve::ServeArgs),
    /// Says everything that is wrong with the configuration, at once
    CheckConfig(check_config::CheckConfigArgs),
    /// Prints the effective settings, the defaults, or every key
    PrintConfig(print_config::PrintConfigArgs),
    /// Sends events as Centrifugo would and says what Centrifugo would make of the reply
    Fire(Box<fire::FireArgs>),
    /// Sends events at a rate, or so many at once, and says how they fared
    Load(Box<load::LoadArgs>),
    /// Shows the way of an event through this configuration and, in a cluster, across its nodes
    Explain(Box<explain::ExplainArgs>),
    /// Prints a configuration of Centrifugo 6.9 that sends the routed events here
    CentrifugoConfig(centrifugo_config::CentrifugoConfigArgs),
    /// Looks at node, Centrifugo and the way between them, and says what is missing and the fix
    Doctor(Box<doctor::DoctorArgs>),
    /// Runs several nodes on loopback, to see how they act as one
    DevCluster(dev_cluster::DevClusterArgs),
    /// Makes our node.toml, or a file of Centrifugo 6, of an older file, and says what is left
    Import(import::ImportArgs),
    /// Asks a running node whether it is alive, or ready
    Health(health::HealthArgs),
    /// Has a running node read its configuration again
    Reload(reload::ReloadArgs),
    /// Founds a cluster, shows how it is, drains, moves, removes
    Cluster(cluster::ClusterArgs),
    /// Prints or changes what a running node logs
    LogLevel(log_level::LogLevelArgs),
    /// Shows the worker pools of a running node, resets them, adds or removes a worker
    Workers(workers::WorkersArgs),
    /// Prints what a shell needs to complete this command line
    Completion(completion::CompletionArgs),
}

/// A program and what every command takes.
struct Session {
    app: App,
    common: Common,
    /// How the program was started, for hints that can be typed as they stand.
    program: String,
}

/// Parses, runs one command, and says what went wrong.
pub(crate) fn run<I>(app: App, args: I) -> ExitCode
where
    I: IntoIterator<Item: Into<OsString> + Clone>,
{
    let args: Vec<OsString> = args.into_iter().map(Into::into).collect();
    if let [_, hidden, rest @ ..] = args.as_slice()
        && hidden == REEXEC
    {
        // Comes back only where the worker can't be started.
        let code = become_worker(rest);
        return u8::try_from(code).map_or(ExitCode::FAILURE, ExitCode::from);
    }
    let program = program(args.first(), &app.name);
    let mut command = Cli::command()
        .bin_name(&app.name)
        .display_name(app.name.as_str());
    if let Some(about) = &app.about {
        command = command.about(about.clone());
    }
    let parsed = command
        .try_get_matches_from_mut(args)
        .and_then(|matches| Cli::from_arg_matches(&matches));
    let cli = match parsed {
        Ok(cli) => cli,
        Err(error) => return error::clap(&error).into(),
    };
    let Some(chosen) = cli.command else {
        output::say(&command.render_long_help().to_string());
        return Exit::Done.into();
    };
    if matches!(chosen, Command::Serve(_))
        && let Some(code) = init::run_as_process_1()
    {
        return code;
    }
    let common = cli.common;
    let session = Session {
        app,
        common,
        program,
    };
    match dispatch(session, chosen) {
        Ok(()) => Exit::Done.into(),
        Err(error) => error.report().into(),
    }
}

/// The program as a shell finds it: by its path where it was started by one (as `cargo run` does),
/// else by its name.
fn program(started: Option<&OsString>, name: &str) -> String {
    match started.and_then(|started| started.to_str()) {
        Some(path) if path.contains(std::path::MAIN_SEPARATOR) => output::shell_word(path),
        _ => name.to_owned(),
    }
}

fn dispatch(session: Session, command: Command) -> Result<(), CliError> {
    // Commands that log of their own accord start their log themselves.
    if session.common.log.is_some() && !matches!(command, Command::Serve(_)) {
        match session.load() {
            Ok(loaded) => {
                Telemetry::start(&loaded.config.log).map_err(CliError::internal)?;
            }
            // It says what is wrong by itself, and more of it.
            Err(_) if matches!(command, Command::CheckConfig(_)) => {}
            Err(error) => return Err(error),
        }
    }
    match command {
        Command::Serve(args) => serve::run(session, &args),
        Command::CheckConfig(args) => check_config::run(session, &args),
        Command::PrintConfig(args) => print_config::run(&session, &args),
        Command::Fire(args) => fire::run(&session, &args),
        Command::Load(args) => load::run(&session, &args),
        Command::Explain(args) => explain::run(session, &args),
        Command::CentrifugoConfig(args) => centrifugo_config::run(session, &args),
        Command::Doctor(args) => doctor::run(session, &args),
        Command::DevCluster(args) => dev_cluster::run(&session, &args),
        Command::Import(args) => import::run(&session, &args),
        Command::Health(args) => health::run(&session, &args),
        Command::Reload(args) => reload::run(&session, &args),
        Command::Cluster(args) => cluster::run(&session, &args),
        Command::LogLevel(args) => log_level::run(&session, &args),
        Command::Workers(args) => workers::run(&session, &args),
        Command::Completion(args) => completion::run(&session, &args),
    }
}

impl Session {
    /// The configuration as the command line has it.
    fn load(&self) -> Result<Loaded, CliError> {
        Ok(load(&self.options())?)
    }

    /// The same, for commands that look at the routes: what is wrong with those is told too, be the
    /// rest as it may.
    fn load_with_routes(self) -> Result<(Loaded, Self), CliError> {
        match load_parts(&self.options()) {
            Ok(loaded) => Ok((loaded, self)),
            Err(refused) => {
                let mut error = refused.error;
                if let Some(partial) = &refused.partial {
                    config_routes::judge(partial, self.app.router, &mut error.problems);
                }
                Err(error.into())
            }
        }
    }

    fn options(&self) -> LoadOptions {
        let mut options = LoadOptions::new(process_env());
        options.file = self.common.config.clone();
        options.sets.clone_from(&self.common.sets);
        if let Some(level) = &self.common.log {
            options.sets.push(format!("log.level={level}"));
        }
        options
    }

    /// The configuration and its routes, checked as a whole.
    fn compile(self) -> Result<(Loaded, Compiled), CliError> {
        let (loaded, session) = self.load_with_routes()?;
        let router = config_routes::assemble(&loaded.config, session.app.router)
            .map_err(|problems| CliError::problems(problems, &loaded))?;
        let boundary = &loaded.config.channel.namespace_boundary;
        let compiled = Compiled::try_new(router, boundary)
            .map_err(|error| CliError::problems(error::route_problems(error, &loaded), &loaded))?;
        Ok((loaded, compiled))
    }
}

/// Runs a client command to its end.
fn block_on<T>(work: impl Future<Output = Result<T, CliError>>) -> Result<T, CliError> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(CliError::internal)?
        .block_on(work)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_command_has_an_example_in_its_help_and_takes_the_common_flags() {
        let mut command = Cli::command();
        command.build();
        for subcommand in command.get_subcommands_mut() {
            let name = subcommand.get_name().to_owned();
            let help = subcommand.render_long_help().to_string();
            for wanted in ["Example", "--config", "--set", "--log", "--version"] {
                assert!(help.contains(wanted), "{name} lacks {wanted}:\n{help}");
            }
        }
    }
}
