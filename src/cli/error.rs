//! How a command ends: an exit code, and what stands on stderr.

use crate::config::{ConfigError, Loaded, Origin, Problem};
use crate::engine::BuildError;
use std::fmt;
use std::process::ExitCode;

/// The exit codes, which scripts lean on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Exit {
    /// Done.
    Done = 0,
    /// The thing asked for failed.
    Failed = 1,
    /// Wrong usage.
    Usage = 2,
    /// Invalid configuration.
    Config = 3,
    /// An address is taken, or what a client command talks to can't be reached.
    Unreachable = 4,
    /// A mistake of ours, or a system out of its resources.
    Internal = 70,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// Why a command did not do what was asked.
#[derive(Debug)]
pub(super) enum CliError {
    /// The configuration is invalid.
    Config(ConfigError),
    /// Anything else.
    Plain {
        /// The code.
        exit: Exit,
        /// What was attempted.
        what: String,
        /// Why it failed.
        why: String,
        /// What to do about it.
        help: String,
    },
    /// Several of one kind at once; never empty.
    Several(Vec<CliError>),
    /// The command has said it all.
    Said(Exit),
}

impl CliError {
    pub(super) fn new(
        exit: Exit,
        what: impl Into<String>,
        why: impl fmt::Display,
        help: impl Into<String>,
    ) -> Self {
        Self::Plain {
            exit,
            what: what.into(),
            why: why.to_string(),
            help: help.into(),
        }
    }

    /// Wrong usage of a flag or argument.
    pub(super) fn usage(
        what: impl Into<String>,
        why: impl fmt::Display,
        help: impl Into<String>,
    ) -> Self {
        Self::new(Exit::Usage, what, why, help)
    }

    /// What should not happen.
    pub(super) fn internal(why: impl fmt::Display) -> Self {
        let help = "the system is out of something, or this is a mistake of ours: please report it";
        Self::new(Exit::Internal, "internal", why, help)
    }

    /// Problems with the routes, beside the warnings of the rest.
    pub(super) fn problems(problems: Vec<Problem>, loaded: &Loaded) -> Self {
        let warnings = loaded.warnings.clone();
        Self::Config(ConfigError { problems, warnings })
    }

    /// The code.
    pub(super) fn exit(&self) -> Exit {
        match self {
            Self::Several(errors) => errors.first().map_or(Exit::Internal, Self::exit),
            Self::Config(_) => Exit::Config,
            Self::Plain { exit, .. } | Self::Said(exit) => *exit,
        }
    }

    /// Why, in words, without the fix.
    pub(super) fn why(&self) -> String {
        match self {
            Self::Plain { why, .. } => why.clone(),
            Self::Config(error) => error.to_string(),
            Self::Several(errors) => errors.first().map(Self::why).unwrap_or_default(),
            Self::Said(_) => String::new(),
        }
    }

    /// Says it on stderr.
    pub(super) fn report(&self) -> Exit {
        match self {
            Self::Config(error) => {
                warn(&error.warnings);
                eprintln!("{error}");
            }
            Self::Plain {
                what, why, help, ..
            } => {
                eprintln!("error: {what}: {why}");
                if !help.is_empty() {
                    eprintln!("help: {help}");
                }
            }
            Self::Several(errors) => errors.iter().for_each(|error| {
                error.report();
            }),
            Self::Said(_) => {}
        }
        self.exit()
    }
}

impl From<ConfigError> for CliError {
    fn from(error: ConfigError) -> Self {
        Self::Config(error)
    }
}

/// Warnings of the configuration, on stderr.
pub(super) fn warn(warnings: &[Problem]) {
    for warning in warnings {
        eprintln!("{}", warning.as_warning());
    }
}

/// What is wrong with routes, as problems of the configuration.
pub(super) fn route_problems(error: BuildError, loaded: &Loaded) -> Vec<Problem> {
    let origin = loaded
        .file
        .clone()
        .map_or(Origin::Default, |path| Origin::File { path, line: 0 });
    let problem = |rule: String| Problem {
        key: "route".to_owned(),
        value: None,
        rule,
        fix: "change the routes named, here or in the program".to_owned(),
        origin: origin.clone(),
    };
    error.problems.into_iter().map(problem).collect()
}

/// Help and version on stdout; wrong usage on stderr.
pub(super) fn clap(error: &clap::Error) -> Exit {
    let text = error.to_string();
    if !error.use_stderr() {
        super::output::say(text.trim_end());
        return Exit::Done;
    }
    let text = text.trim_end();
    let told = text.strip_suffix("For more information, try '--help'.");
    eprintln!("{}\nhelp: try --help", told.unwrap_or(text).trim_end());
    Exit::Usage
}
