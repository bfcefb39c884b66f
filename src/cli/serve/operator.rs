//! Carries out what an operator asks of the running node: reloads and the level of the log, one after
//! the other. A reload is checked as a start would be before anything is touched, and then applied as
//! a whole.

use super::super::check_config::{expired, judge};
use super::level;
use crate::app::App;
use crate::config::{Config, LoadOptions, Loaded, Problem, effective_json, load_parts};
use crate::config_routes::{self, Kept, assemble_again};
use crate::control::{Refused, Reloaded, Request, Wrong};
use crate::node::{BindError, Node, NodeError};
use crate::reload::compare;
use crate::router::Router;
use crate::telemetry::{Telemetry, TelemetryError};

/// What a reload starts from.
pub(super) struct Operator<'t> {
    pub(super) app: App,
    /// The program's own routes, without those of the configuration.
    pub(super) router: Router,
    /// Where the configuration comes from. A file that was found once has to be there from then on:
    /// without it a reload would run the defaults, which route nothing.
    pub(super) options: LoadOptions,
    /// The configuration that runs.
    pub(super) config: Config,
    /// What was made of it.
    pub(super) kept: Kept,
    /// What has been warned of.
    pub(super) warnings: Vec<Problem>,
    pub(super) telemetry: &'t Telemetry,
}

impl Operator<'_> {
    /// Carries out a request and answers it.
    pub(super) async fn carry_out(&mut self, request: Request, node: &Node) {
        // Whoever asked may have gone; what was asked is done all the same.
        match request {
            Request::Reload(reply) => drop(reply.send(self.reload(node).await)),
            Request::Level(reply) => drop(reply.send(self.telemetry.level())),
            Request::SetLevel(level, reply) => drop(reply.send(level::set(&level, self.telemetry))),
        }
    }

    /// Reads the configuration again, applies it, and says so in the log.
    ///
    /// # Errors
    /// Everything that is wrong with it; what runs is as it was.
    pub(super) async fn reload(&mut self, node: &Node) -> Result<Reloaded, Refused> {
        let reloaded = self.try_reload(node).await;
        match &reloaded {
            Ok(reloaded) => log(reloaded),
            Err(refused) => log_refusal(refused),
        }
        reloaded
    }

    async fn try_reload(&mut self, node: &Node) -> Result<Reloaded, Refused> {
        let loaded = self.load().await?;
        let comparison = compare(&self.config, &loaded.config, self.router.config_routes);
        let (router, kept) = self.assemble(&loaded.config, &comparison.effective)?;
        let change = node.prepare(&comparison.effective, router).await;
        let change = change.map_err(|error| of_node(&error))?;
        let started = change.start_workers().await;
        started.map_err(|error| of_node(&error))?;
        let effective = comparison.effective;
        let level = self.telemetry.level();
        if effective.log.level != level {
            let set = self.telemetry.set_level(&effective.log.level);
            set.map_err(|error| no_level(&error))?;
        }
        // From here on nothing can fail.
        change.apply();
        node.show_config(effective_json(&loaded)["settings"].to_string());
        self.config = effective;
        self.kept = kept;
        if self.options.file.is_none() {
            self.options.file = loaded.file;
        }
        for warning in &loaded.warnings {
            if !self.warnings.contains(warning) {
                tracing::warn!(help = warning.fix, "{warning}");
            }
        }
        self.warnings = loaded.warnings;
        // As at the start it is no reason to refuse, but one to say so again.
        if let Some(expired) = expired(&loaded.config) {
            tracing::warn!(help = expired.fix, "{expired}");
        }
        let mut changed = comparison.changed;
        if self.config.log.level != level && !changed.iter().any(|it| it.starts_with("log.level")) {
            changed.push(format!("log.level: {level} -> {}", self.config.log.level));
        }
        Ok(Reloaded {
            changed,
            needs_restart: comparison.needs_restart,
        })
    }

    /// Reads the sources that the start had. Files are read by another thread: nothing waits for a
    /// slow disk.
    async fn load(&mut self) -> Result<Loaded, Refused> {
        let options = self.options.clone();
        let reading = tokio::task::spawn_blocking(move || load_parts(&options));
        let read = reading.await.map_err(|gone| Refused {
            problems: vec![Wrong {
                what: format!("the configuration could not be read: {gone}"),
                help: "try again".to_owned(),
            }],
        })?;
        read.map_err(|refused| {
            let mut problems = refused.error.problems;
            if let Some(partial) = &refused.partial {
                config_routes::judge(partial, self.router.share(), &mut problems);
            }
            of_problems(problems)
        })
    }

    /// The routes to run. The configuration as it was read has to be one that would start a node,
    /// and what of it applies now has to fit what stays.
    fn assemble(&mut self, read: &Config, effective: &Config) -> Result<(Router, Kept), Refused> {
        let judged = judge(&self.app, self.router.share(), read, &self.kept);
        let assembled = judged.map_err(of_problems)?;
        if read.channel == effective.channel {
            return Ok(assembled);
        }
        let again = assemble_again(effective, self.router.share(), &self.kept);
        again.map_err(of_problems)
    }
}

/// Refuses a request while the node drains.
pub(super) fn refuse(request: Request) {
    let refused = Refused {
        problems: vec![Wrong {
            what: "the node is draining, and changes nothing any more".to_owned(),
            help: "start a node with the new configuration".to_owned(),
        }],
    };
    match request {
        Request::Reload(reply) => {
            log_refusal(&refused);
            drop(reply.send(Err(refused)));
        }
        // Nobody is told a level that is about to end.
        Request::Level(reply) => drop(reply),
        Request::SetLevel(_, reply) => drop(reply.send(Err(refused))),
    }
}

fn of_problems(problems: Vec<Problem>) -> Refused {
    let wrong = |problem: Problem| Wrong {
        what: problem.to_string(),
        help: problem.fix,
    };
    Refused {
        problems: problems.into_iter().map(wrong).collect(),
    }
}

fn of_node(error: &NodeError) -> Refused {
    let help = match error {
        NodeError::Engine(_) => "change the routes named, here or in the program",
        NodeError::Tls(_) | NodeError::Centrifugo(_) | NodeError::Collector(_) => {
            "name PEM files that can be read and belong together"
        }
        NodeError::Workers(_) => "mend the command of the handler named; its old workers go on",
        NodeError::Links(_) => {
            "name files that can be read: the secrets and certificates of now stay"
        }
        NodeError::Cluster(_) => {
            "restart the node: a reload does not touch its part in the cluster"
        }
        NodeError::CallBack(error) => return of_bind(error),
        NodeError::Threads(_) => "let the process have more threads",
        NodeError::Auth { .. } => "correct `listen.auth`",
    };
    let (what, help) = (error.to_string(), help.to_owned());
    Refused {
        problems: vec![Wrong { what, help }],
    }
}

fn of_bind(error: &BindError) -> Refused {
    let (what, help) = (error.to_string(), error.help());
    Refused {
        problems: vec![Wrong { what, help }],
    }
}

fn no_level(error: &TelemetryError) -> Refused {
    Refused {
        problems: vec![Wrong {
            what: error.to_string(),
            help: level::help(error).to_owned(),
        }],
    }
}

/// One line for a reload that was applied.
fn log(reloaded: &Reloaded) {
    let changed = reloaded.changed.join("; ");
    let needs_restart = reloaded.needs_restart.join(", ");
    match (changed.is_empty(), needs_restart.is_empty()) {
        (true, true) => tracing::info!("reloaded: nothing changed"),
        (_, true) => tracing::info!(changed, "reloaded"),
        (_, false) => tracing::warn!(
            changed,
            needs_restart,
            help = "restart the node for the keys in `needs_restart`",
            "reloaded in part"
        ),
    }
}

/// One line for each reason.
fn log_refusal(refused: &Refused) {
    for Wrong { what, help } in &refused.problems {
        tracing::error!(help, "reload refused, what runs stays: {what}");
    }
}

#[cfg(test)]
mod tests;
