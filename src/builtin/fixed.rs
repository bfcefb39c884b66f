//! `static`: a fixed answer, a reply with fields of the event in its strings, an error or a
//! disconnect.
//!
//! The reply is read and judged once, at the start; an event fills in the fields and the expiry,
//! and a reply without either is encoded once for all.

mod slots;
mod template;
#[cfg(test)]
mod tests;

use crate::answer::seal;
use crate::config::StaticAnswer;
use crate::cx::Cx;
use crate::event::{EventKind, StreamReply, SubscribeReply};
use crate::handler::{AnyHandler, HandlerFuture};
use crate::json;
use crate::outcome::{Failure, Outcome};
use crate::reject::Reject;
use crate::reply::{Reply, ReplyMessage};
use crate::routing::pattern::Pattern;
use std::future::ready;
use template::{Place, Template};

/// A fixed answer to one kind of event.
#[derive(Debug)]
pub(crate) struct Fixed(Answer);

#[derive(Debug)]
enum Answer {
    /// Sealed already, unless it may go to binary clients only.
    Same(Reply),
    Filled(Template),
    Error {
        code: u32,
        message: String,
        temporary: bool,
    },
    Disconnect {
        code: u32,
        reason: String,
    },
}

/// Why a fixed answer cannot be given to a kind of event.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum FixedError {
    /// The reply is not the event's result message.
    #[error("{0}")]
    Message(#[from] json::Error),
    /// Centrifugo or an SDK would mishandle the reply.
    #[error("{0}")]
    Unfit(String),
    /// A `{…}` that stands for nothing.
    #[error("`{{{0}}}` is no field of a static reply")]
    UnknownField(String),
    /// `{` without `}`.
    #[error("a `{{` in {0:?} is never closed")]
    Unclosed(String),
    /// The event has no such field.
    #[error("`{{{place}}}` is empty in every `{kind}` event")]
    NeverThere {
        /// As between the braces.
        place: String,
        /// The event.
        kind: EventKind,
    },
    /// The pattern captures nothing of that name.
    #[error("`{{param.{param}}}` needs `{{{param}}}` in the route's `match`, which is {pattern}")]
    NoParam {
        /// The name behind `param.`.
        param: String,
        /// The pattern in backquotes, or that there is none.
        pattern: String,
    },
    /// More fields than there are marks for, or a mark in the text itself.
    #[error(
        "its strings hold U+FDD0, which is no character, or over {} fields",
        template::FIELDS
    )]
    Marked,
}

impl FixedError {
    /// What to do about it.
    pub(crate) fn fix(&self) -> String {
        match self {
            Self::Message(_) => "write the event's result message, with the field names of the \
                                 proxy contract"
                .to_owned(),
            Self::Unfit(_) => "change the reply; what it has to hold is in the rule".to_owned(),
            Self::UnknownField(_) => "the fields are {client} {user} {channel} {method} \
                                      {param.NAME}; write {{ for the brace itself"
                .to_owned(),
            Self::Unclosed(_) => "close it with }, or write {{ for the brace itself".to_owned(),
            Self::NeverThere { kind, .. } if *kind == EventKind::Connect => {
                "use {client}, the one thing that is known of a client that connects".to_owned()
            }
            Self::NeverThere { kind, .. } => {
                format!("use another field, or give `{kind}` a handler of its own")
            }
            Self::NoParam { param, .. } => {
                format!("name {{{param}}} in match, or use another field")
            }
            Self::Marked => "remove them".to_owned(),
        }
    }
}

impl Fixed {
    /// An answer to one kind of event of a route.
    ///
    /// # Errors
    /// The reply does not fit the event, or names fields that the event or the pattern lacks.
    pub(crate) fn try_new(
        answer: &StaticAnswer,
        kind: EventKind,
        pattern: Option<&Pattern>,
    ) -> Result<Self, FixedError> {
        Ok(Self(match answer {
            StaticAnswer::Reply(reply) => {
                let template = Template::try_new(reply, kind, pattern)?;
                judge(kind, &mut template.sample())?;
                if template.is_fixed() {
                    let mut reply = template.into_reply();
                    // What may go to a JSON client may go to any; what may not is judged anew for
                    // every client.
                    let _ = seal(kind, true, &mut reply);
                    Answer::Same(reply)
                } else {
                    Answer::Filled(template)
                }
            }
            StaticAnswer::Error {
                code,
                message,
                temporary,
            } => Answer::Error {
                code: *code,
                message: message.clone(),
                temporary: *temporary,
            },
            StaticAnswer::Disconnect { code, reason } => Answer::Disconnect {
                code: *code,
                reason: reason.clone(),
            },
        }))
    }
}

/// Whether a reply may leave to anybody at all.
fn judge(kind: EventKind, sample: &mut Reply) -> Result<(), FixedError> {
    match seal(kind, false, sample) {
        Ok(_) => Ok(()),
        Err(Failure::BadReply(why)) => Err(FixedError::Unfit(why)),
        Err(other) => Err(FixedError::Unfit(other.to_string())),
    }
}

impl AnyHandler for Fixed {
    fn call(&self, cx: &mut Cx) -> HandlerFuture {
        let outcome = match &self.0 {
            Answer::Same(reply) => answered(cx.kind(), reply.clone()),
            Answer::Filled(template) => answered(cx.kind(), template.fill(|place| place.of(cx))),
            Answer::Error {
                code,
                message,
                temporary,
            } => {
                let error = Reject::error(*code, message.as_str());
                match temporary {
                    true => error.temporary().into(),
                    false => error.into(),
                }
            }
            Answer::Disconnect { code, reason } => {
                Reject::disconnect(*code, reason.as_str()).into()
            }
        };
        Box::pin(ready(outcome))
    }
}

/// A reply; on a stream its first message, after which the stream stays open and silent.
fn answered(kind: EventKind, reply: Reply) -> Outcome {
    match reply.message() {
        ReplyMessage::Subscribe(result) if kind.is_stream() => {
            let first = SubscribeReply {
                result: result.as_ref().clone(),
                intent: reply.intent().clone(),
            };
            StreamReply::silent().first(first).into()
        }
        _ => Outcome::Reply(reply),
    }
}

impl Place {
    /// What stands there in an event.
    fn of<'a>(&self, cx: &'a Cx) -> &'a str {
        match self {
            Self::Client => cx.client(),
            Self::User => cx.user(),
            Self::Channel => cx.channel(),
            Self::Method => cx.method(),
            Self::Param(name) => cx.param(name).unwrap_or_default(),
        }
    }
}
