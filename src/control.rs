//! What an operator asks of a running node, and how it gets there: the Admin service and SIGHUP
//! hand requests over, the loop of `serve` carries them out, one after the other.

use std::fmt;
use tokio::sync::{mpsc, oneshot};

/// The metadata in which the Admin service says what to do about a refusal.
pub(crate) const HELP_METADATA: &str = "centripeta-help";

/// Requests that may wait for the loop.
const WAITING: usize = 16;

/// A request with the way back of its answer.
#[derive(Debug)]
pub(crate) enum Request {
    /// Read the configuration again and apply it.
    Reload(oneshot::Sender<Result<Reloaded, Refused>>),
    /// Say which lines are logged.
    Level(oneshot::Sender<String>),
    /// Log these lines from now on (a level, or directives as `log.level` takes them); answers what
    /// was logged before.
    SetLevel(String, oneshot::Sender<Result<String, Refused>>),
}

/// What a reload did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Reloaded {
    /// What runs otherwise now, one entry each, such as `route rpc "seat.*": new`.
    pub(crate) changed: Vec<String>,
    /// Keys whose new value waits for a restart.
    pub(crate) needs_restart: Vec<String>,
}

/// Why nothing was changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Refused {
    /// Everything that is wrong.
    pub(crate) problems: Vec<Wrong>,
}

/// One thing that is wrong, and its cure.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Wrong {
    /// Where and why.
    pub(crate) what: String,
    /// What to do.
    pub(crate) help: String,
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, problem) in self.problems.iter().enumerate() {
            let before = if at == 0 { "" } else { "; " };
            write!(f, "{before}{}", problem.what)?;
        }
        Ok(())
    }
}

/// Hands requests to the loop of `serve`. Clones share it.
#[derive(Debug, Clone)]
pub(crate) struct Control(mpsc::Sender<Request>);

/// The loop's end.
pub(crate) type Requests = mpsc::Receiver<Request>;

/// A control and the requests made by it.
pub(crate) fn channel() -> (Control, Requests) {
    let (sender, requests) = mpsc::channel(WAITING);
    (Control(sender), requests)
}

impl Control {
    /// Asks and waits for the answer; `None` if nobody carries requests out (the node drains, or a
    /// program embeds it without a loop).
    pub(crate) async fn ask<T>(
        &self,
        request: impl FnOnce(oneshot::Sender<T>) -> Request,
    ) -> Option<T> {
        let (reply, answer) = oneshot::channel();
        self.0.send(request(reply)).await.ok()?;
        answer.await.ok()
    }
}
