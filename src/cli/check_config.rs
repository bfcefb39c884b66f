//! `check-config`: everything that is wrong, at once.

use super::error::{CliError, Exit, route_problems, warn};
use super::{Session, output};
use crate::app::App;
use crate::config::{Config, ConfigError, Loaded, Problem};
use crate::config_routes::{Kept, assemble_again};
use crate::egress::Publisher;
use crate::engine::compile::Compiled;
use crate::ingress::tls::TlsAcceptor;
use crate::node::tls_files;
use crate::router::Router;
use clap::Args;
use serde_json::json;

#[derive(Debug, Args)]
#[command(after_help = "\
Settings, certificates and routes are checked as `serve` would; nothing is started. Exit code 0 if a
node would start with them, 3 if not.

Example:
  centripeta check-config --config node.toml --set limits.timeout=2s")]
pub(super) struct CheckConfigArgs {
    /// Prints what was found as JSON
    #[arg(long)]
    json: bool,
}

pub(super) fn run(session: Session, args: &CheckConfigArgs) -> Result<(), CliError> {
    let checked = check(session);
    if args.json {
        return say_json(checked);
    }
    let (loaded, routes) = checked?;
    warn(&loaded.warnings);
    let file = file(&loaded);
    output::say(&format!("{file}: fine, {routes} routes"));
    Ok(())
}

fn say_json(checked: Result<(Loaded, usize), CliError>) -> Result<(), CliError> {
    match checked {
        Ok((loaded, routes)) => {
            let file = loaded.file.as_ref().map(|path| path.to_string_lossy());
            output::say_json(&json!({
                "valid": true, "file": file, "routes": routes,
                "problems": [], "warnings": loaded.warnings,
            }));
            Ok(())
        }
        Err(CliError::Config(ConfigError { problems, warnings })) => {
            output::say_json(&json!({
                "valid": false, "problems": problems, "warnings": warnings,
            }));
            Err(CliError::Said(Exit::Config))
        }
        Err(other) => Err(other),
    }
}

fn file(loaded: &Loaded) -> String {
    match &loaded.file {
        Some(path) => path.display().to_string(),
        None => "built-in defaults".to_owned(),
    }
}

/// The configuration and the number of its routes.
fn check(session: Session) -> Result<(Loaded, usize), CliError> {
    let (mut loaded, mut session) = session.load_with_routes()?;
    let ignored = crate::config_routes::ignored(&loaded.config, &session.app.router);
    loaded.warnings.extend(ignored);
    loaded.warnings.extend(expired(&loaded.config));
    let router = session.app.router.share();
    let (router, _) = judge(&session.app, router, &loaded.config, &Kept::default())
        .map_err(|problems| CliError::problems(problems, &loaded))?;
    let boundary = &loaded.config.channel.namespace_boundary;
    let compiled = Compiled::try_new(router, boundary)
        .map_err(|error| CliError::problems(route_problems(error, &loaded), &loaded))?;
    Ok((loaded, compiled.routes.len()))
}

/// The routes that a node would run, if the conditions of the program, the certificates and the
/// routes are in order; all that is not at once. `router` is the program's own, `before` what is kept
/// of a configuration that runs.
pub(super) fn judge(
    app: &App,
    router: Router,
    config: &Config,
    before: &Kept,
) -> Result<(Router, Kept), Vec<Problem>> {
    let mut problems = app.unmet(config);
    problems.extend(certificates(config));
    match assemble_again(config, router, before) {
        Ok(assembled) if problems.is_empty() => return Ok(assembled),
        Ok(_) => {}
        Err(more) => problems.extend(more),
    }
    Err(problems)
}

/// Whether the certificates are some, and fit each other; on both sides.
fn certificates(config: &Config) -> Vec<Problem> {
    let listener = config.listen.tls.as_ref();
    let listener = listener.and_then(|tls| TlsAcceptor::try_new(tls_files(tls)).err());
    let fix = "name PEM files that belong together";
    let listener = listener.map(|error| of_file("listen.tls", error.to_string(), fix.to_owned()));
    let publisher = Publisher::check(&config.centrifugo).err();
    let publisher = publisher.map(|error| {
        let fix = "name PEM files that can be read and belong together";
        of_file("centrifugo.tls", error.to_string(), fix.to_owned())
    });
    listener.into_iter().chain(publisher).collect()
}

/// A certificate whose time is over: a node starts with it, and says so.
pub(super) fn expired(config: &Config) -> Option<Problem> {
    let tls = config.listen.tls.as_ref()?;
    let expired = TlsAcceptor::try_new(tls_files(tls)).ok()?.expired()?;
    let fix = expired.help();
    Some(of_file("listen.tls", expired.to_string(), fix))
}

fn of_file(key: &str, rule: String, fix: String) -> Problem {
    Problem {
        key: key.to_owned(),
        value: None,
        rule,
        fix,
        origin: crate::config::Origin::Default,
    }
}
