//! `check-config`: everything that is wrong, at once.

use super::error::{CliError, Exit, route_problems, warn};
use super::{Session, output};
use crate::app::App;
use crate::config::{Config, ConfigError, Loaded, Problem};
use crate::engine::build::Compiled;
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
    let (mut loaded, session) = session.load_with_routes()?;
    let ignored = crate::config_routes::ignored(&loaded.config, &session.app.router);
    loaded.warnings.extend(ignored);
    let router = judge(session.app, &loaded)?;
    let boundary = &loaded.config.channel.namespace_boundary;
    let compiled = Compiled::try_new(router, boundary)
        .map_err(|error| CliError::problems(route_problems(error, &loaded), &loaded))?;
    Ok((loaded, compiled.routes.len()))
}

/// The routes that a node would run, if the conditions of the program, the certificates and the
/// routes are in order; all that is not at once.
pub(super) fn judge(app: App, loaded: &Loaded) -> Result<Router, CliError> {
    let mut problems = app.unmet(&loaded.config);
    problems.extend(certificates(&loaded.config));
    match crate::config_routes::assemble(&loaded.config, app.router) {
        Ok(router) if problems.is_empty() => return Ok(router),
        Ok(_) => {}
        Err(more) => problems.extend(more),
    }
    Err(CliError::problems(problems, loaded))
}

/// Whether the certificates are some, and fit each other.
fn certificates(config: &Config) -> Option<Problem> {
    let tls = config.listen.tls.as_ref()?;
    let error = TlsAcceptor::try_new(tls_files(tls)).err()?;
    Some(Problem {
        key: "listen.tls".to_owned(),
        value: None,
        rule: error.to_string(),
        fix: "name PEM files that belong together".to_owned(),
        origin: crate::config::Origin::Default,
    })
}
