//! A program around a router: every command of the stock binary, by one call of `main`.
//!
//! ```no_run
//! use centripeta::{App, Json, Router};
//!
//! fn main() -> std::process::ExitCode {
//!     App::new(Router::new().rpc("ping", async || Json("pong")).with_state(()))
//!         .name("my-app")
//!         .about("Answers pings")
//!         .run()
//! }
//! ```

use crate::cli;
use crate::config::{Config, Problem};
use crate::router::Router;
use std::ffi::OsString;
use std::fmt;
use std::process::ExitCode;

type Requirement = Box<dyn Fn(&Config) -> Result<(), Refusal>>;

/// Runs a program with this router: its `main` in one call. See [`App`] for a name and conditions of
/// its own.
pub fn run(router: Router) -> ExitCode {
    App::new(router).run()
}

/// A program: a router, a name, and every command of the stock binary, `serve` first of all; `help`
/// lists them.
///
/// Exit codes: 0 done; 1 the thing asked for failed; 2 wrong usage; 3 invalid configuration; 4 an
/// address is taken, or what a client command talks to can't be reached; 70 internal.
pub struct App {
    pub(crate) name: String,
    pub(crate) about: Option<String>,
    pub(crate) router: Router,
    requirements: Vec<Requirement>,
}

impl fmt::Debug for App {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("App")
            .field("name", &self.name)
            .field("router", &self.router)
            .finish_non_exhaustive()
    }
}

impl App {
    /// A program with this router, called `centripeta` in its help.
    pub fn new(router: Router) -> Self {
        Self {
            name: "centripeta".to_owned(),
            about: None,
            router,
            requirements: Vec::new(),
        }
    }

    /// The name in help, errors and hints.
    #[must_use]
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = name.into();
        self
    }

    /// What the program is for, in its help.
    #[must_use]
    pub fn about(mut self, about: impl Into<String>) -> Self {
        self.about = Some(about.into());
        self
    }

    /// A condition of the program's own that the configuration must meet: `serve` and
    /// `check-config` refuse with exit code 3 otherwise.
    #[must_use]
    pub fn require<R: Into<Refusal>>(
        mut self,
        condition: impl Fn(&Config) -> Result<(), R> + 'static,
    ) -> Self {
        self.requirements.push(Box::new(move |config| {
            condition(config).map_err(Into::into)
        }));
        self
    }

    /// Runs with the arguments of this process.
    pub fn run(self) -> ExitCode {
        self.run_with(std::env::args_os())
    }

    /// Runs with these arguments, the first of which is the program's name.
    pub fn run_with<I>(self, args: I) -> ExitCode
    where
        I: IntoIterator<Item: Into<OsString> + Clone>,
    {
        cli::run(self, args)
    }

    /// The conditions that a configuration does not meet.
    pub(crate) fn unmet(&self, config: &Config) -> Vec<Problem> {
        let refused = |requirement: &Requirement| requirement(config).err();
        let refusals = self.requirements.iter().filter_map(refused);
        refusals
            .map(|refusal| refusal.into_problem(&self.name))
            .collect()
    }
}

/// Why a program refuses a configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    /// In words.
    Words(String),
    /// With key, value, rule and fix.
    Problem(Box<Problem>),
}

impl Refusal {
    fn into_problem(self, name: &str) -> Problem {
        match self {
            Self::Problem(problem) => *problem,
            Self::Words(rule) => Problem {
                key: name.to_owned(),
                value: None,
                rule,
                fix: "change the configuration so that this holds".to_owned(),
                origin: crate::config::Origin::Default,
            },
        }
    }
}

impl From<String> for Refusal {
    fn from(words: String) -> Self {
        Self::Words(words)
    }
}

impl From<&str> for Refusal {
    fn from(words: &str) -> Self {
        Self::Words(words.to_owned())
    }
}

impl From<Problem> for Refusal {
    fn from(problem: Problem) -> Self {
        Self::Problem(Box::new(problem))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn app() -> App {
        App::new(Router::new().with_state(())).name("probe")
    }

    #[test]
    fn an_unmet_condition_is_a_problem_that_names_the_program() {
        let app = app()
            .require(|_| Err::<(), _>("listens on loopback only"))
            .require(|_| Ok::<(), String>(()));
        let unmet = app.unmet(&Config::default());
        assert_eq!(unmet.len(), 1);
        assert_eq!(
            unmet[0].to_string(),
            "probe (default): listens on loopback only"
        );
    }

    #[test]
    fn run_with_answers_wrong_usage_and_an_unmet_condition_by_their_codes() {
        let code = app().run_with(["probe", "no-such-command"]);
        assert_eq!(code, ExitCode::from(2));
        let strict = app().require(|_| Err::<(), _>("never".to_owned()));
        let args = ["probe", "check-config", "--set", "node.name=z"];
        assert_eq!(strict.run_with(args), ExitCode::from(3));
    }
}
