//! `access-log`: a line for every event at its end; for an accepted stream when it is over.
//!
//! It shows names and outcomes, and the trace that the event belongs to (`trace_id`), if it does; never
//! payloads, metadata or tokens. With its level switched off it
//! costs a look at one flag.

use crate::answer::client_code;
use crate::cx::Cx;
use crate::interceptor::{Flow, Interceptor};
use crate::outcome::Outcome;
use std::str::FromStr;
use std::time::Duration;
use tokio::time::Instant;
use tracing::Level;

/// Longer texts are cut in a line, in bytes.
const TEXT_BYTES: usize = 256;

/// Something that a line may show.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogField {
    /// The kind of event.
    Event,
    /// The client.
    Client,
    /// The user.
    User,
    /// The channel.
    Channel,
    /// The method.
    Method,
    /// The route.
    Route,
    /// The handler.
    Handler,
    /// The key under which it was serialised.
    Key,
    /// How it ended, in a word.
    Outcome,
    /// The error or disconnect code that the client gets.
    Code,
    /// How long it took, as `took_ms`.
    Took,
}

impl LogField {
    /// All of them, with their names in `node.toml`.
    const NAMED: [(&'static str, Self); 11] = [
        ("event", Self::Event),
        ("client", Self::Client),
        ("user", Self::User),
        ("channel", Self::Channel),
        ("method", Self::Method),
        ("route", Self::Route),
        ("handler", Self::Handler),
        ("key", Self::Key),
        ("outcome", Self::Outcome),
        ("code", Self::Code),
        ("took", Self::Took),
    ];
}

/// A name that no field has.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("an access log has no field `{0}`")]
pub struct UnknownField(pub String);

impl FromStr for LogField {
    type Err = UnknownField;

    fn from_str(name: &str) -> Result<Self, UnknownField> {
        let known = Self::NAMED.iter().find(|(known, _)| *known == name);
        known
            .map(|(_, field)| *field)
            .ok_or_else(|| UnknownField(name.to_owned()))
    }
}

/// Writes the lines, with the target `centripeta::access`. A field without a value is left out.
#[derive(Debug, Clone)]
pub struct AccessLog {
    level: Level,
    fields: u16,
}

impl Default for AccessLog {
    /// Lines at info with the fields that `node.toml` shows by default.
    fn default() -> Self {
        use LogField::{Channel, Client, Code, Event, Method, Outcome, Route, Took, User};
        Self::new(
            Level::INFO,
            [
                Event, Client, User, Channel, Method, Route, Outcome, Code, Took,
            ],
        )
    }
}

/// When the outermost access log saw the event.
#[derive(Debug, Clone, Copy)]
struct Seen(Instant);

impl AccessLog {
    /// Lines of this level with these fields; their order is fixed.
    pub fn new(level: Level, fields: impl IntoIterator<Item = LogField>) -> Self {
        let fields = fields
            .into_iter()
            .fold(0, |set, field| set | 1 << field as u16);
        Self { level, fields }
    }

    /// The value, if the line shows this field.
    fn show<T>(&self, field: LogField, value: impl FnOnce() -> Option<T>) -> Option<T> {
        match self.fields & 1 << field as u16 {
            0 => None,
            _ => value(),
        }
    }
}

/// The level has to be known where a line is written.
macro_rules! at_level {
    ($level:expr, $with:ident) => {
        match $level {
            Level::ERROR => $with!(Level::ERROR),
            Level::WARN => $with!(Level::WARN),
            Level::INFO => $with!(Level::INFO),
            Level::DEBUG => $with!(Level::DEBUG),
            Level::TRACE => $with!(Level::TRACE),
        }
    };
}

macro_rules! enabled {
    ($level:expr) => {
        tracing::enabled!(target: "centripeta::access", $level)
    };
}

impl Interceptor for AccessLog {
    async fn before(&self, cx: &mut Cx) -> Flow {
        if at_level!(self.level, enabled) && cx.attribute::<Seen>().is_none() {
            cx.keep(Seen(Instant::now()));
        }
        Flow::Next
    }

    async fn after(&self, cx: &Cx, outcome: &mut Outcome) {
        if let Some(Seen(at)) = cx.attribute::<Seen>()
            && at_level!(self.level, enabled)
        {
            self.line(cx, outcome, at.elapsed());
        }
    }
}

impl AccessLog {
    fn line(&self, cx: &Cx, outcome: &Outcome, took: Duration) {
        use LogField::{
            Channel, Client, Code, Event, Handler, Key, Method, Outcome as Label, Route, Took, User,
        };
        let text = |field, text| self.show(field, || present(text));
        let event = self.show(Event, || Some(cx.kind().name()));
        let client = text(Client, cx.client());
        let user = text(User, cx.user());
        let channel = text(Channel, cx.channel());
        let method = text(Method, cx.method());
        let route = self.show(Route, || cx.route().map(|route| route.name.as_str()));
        let handler = self.show(Handler, || cx.route().map(|route| route.handler.as_str()));
        let key = self.show(Key, || cx.lane.as_ref().map(|lane| lane.key.to_string()));
        let key = key.as_deref().and_then(present);
        let label = self.show(Label, || Some(outcome.label()));
        let code = self.show(Code, || client_code(cx.kind(), outcome));
        let took_ms = self.show(Took, || Some(took.as_micros() as f64 / 1000.0));
        let trace = cx.trace_context();
        let trace_id = trace.is_some().then(|| trace.trace_id().to_string());
        macro_rules! write {
            ($level:expr) => {
                tracing::event!(
                    target: "centripeta::access",
                    $level,
                    event,
                    client,
                    user,
                    channel,
                    method,
                    route,
                    handler,
                    key,
                    outcome = label,
                    code,
                    took_ms,
                    trace_id,
                    "access"
                )
            };
        }
        at_level!(self.level, write);
    }
}

/// The beginning of a text; `None` if there is none.
fn present(text: &str) -> Option<&str> {
    let mut end = text.len().min(TEXT_BYTES);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.get(..end).filter(|text| !text.is_empty())
}

#[cfg(test)]
mod tests;
