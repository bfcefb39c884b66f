//! Answers of applications that speak the contract themselves: they cross as they are, though
//! Centrifugo or an SDK would mishandle some. Those are counted, and each is told of once; a handler
//! that is strict refuses them.

use super::seal::{Flaw, foreign, foreign_publication};
use crate::event::EventKind;
use crate::metrics::cells::Counter;
use crate::outcome::Failure;
use crate::reply::Reply;
use bytes::Bytes;
use std::collections::HashSet;
use std::sync::{Mutex, PoisonError};

/// Events and codes that are remembered; applications choose the codes.
const REMEMBERED: usize = 1000;

/// A publication of a stream has no code of its own to be told of once; no answer has this one.
const PUBLICATION: u32 = u32::MAX;

/// What was found in the answers of a handler.
#[derive(Debug, Default)]
pub(crate) struct Flaws {
    count: Counter,
    told: Mutex<HashSet<(EventKind, u32)>>,
}

impl Flaws {
    /// How many such answers there were.
    pub(crate) fn count(&self) -> u64 {
        self.count.get()
    }

    /// Counts one; whether it is the first of its event and code.
    fn is_new(&self, kind: EventKind, code: u32) -> bool {
        self.count.add_one();
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        told.len() < REMEMBERED && told.insert((kind, code))
    }

    /// The reply of an encoded response, of a stream its first message.
    ///
    /// # Errors
    /// It is not the response of such an event or too big; or it has a flaw, and `strict` is set.
    pub(crate) fn reply(
        &self,
        handler: &str,
        strict: bool,
        (kind, json_client): (EventKind, bool),
        response: Bytes,
    ) -> Result<Reply, Failure> {
        let (reply, flaw) = foreign(kind, json_client, response).map_err(|cause| {
            let place = format!("handler `{handler}`");
            Failure::Internal { place, cause }
        })?;
        match flaw {
            Some(flaw) => self.cross(handler, strict, kind, &flaw).map(|()| reply),
            None => Ok(reply),
        }
    }

    /// The same for an encoded message of an open stream, which crosses as it is.
    ///
    /// # Errors
    /// As for [`Flaws::reply`].
    pub(crate) fn publication(
        &self,
        handler: &str,
        strict: bool,
        (kind, json_client): (EventKind, bool),
        message: &Bytes,
    ) -> Result<(), Failure> {
        let flaw = foreign_publication(json_client, message).map_err(|cause| {
            let place = format!("handler `{handler}`");
            Failure::Internal { place, cause }
        })?;
        let flaw = flaw.map(|text| Flaw {
            code: PUBLICATION,
            text,
        });
        flaw.map_or(Ok(()), |flaw| self.cross(handler, strict, kind, &flaw))
    }

    /// Refuses a flaw, or counts it and tells of the first of each event and code.
    fn cross(
        &self,
        handler: &str,
        strict: bool,
        kind: EventKind,
        flaw: &Flaw,
    ) -> Result<(), Failure> {
        if strict {
            return Err(Failure::BadReply(format!(
                "handler `{handler}`: {}",
                flaw.text
            )));
        }
        if self.is_new(kind, flaw.code) {
            let (event, code) = (kind.name(), flaw.code);
            let code = Some(code).filter(|code| *code != PUBLICATION);
            tracing::warn!(
                handler,
                event,
                code,
                "an answer crosses that Centrifugo or an SDK would mishandle (told once): {}",
                flaw.text
            );
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_event_and_code_is_new_once_and_every_answer_counts() {
        let flaws = Flaws::default();
        assert!(flaws.is_new(EventKind::Rpc, 7));
        assert!(!flaws.is_new(EventKind::Rpc, 7));
        assert!(flaws.is_new(EventKind::Rpc, 8));
        assert!(flaws.is_new(EventKind::Connect, 7));
        assert_eq!(flaws.count(), 4);
        for code in 0..5000 {
            flaws.is_new(EventKind::Publish, code);
        }
        assert!(!flaws.is_new(EventKind::Publish, 6000), "it is bounded");
    }
}
