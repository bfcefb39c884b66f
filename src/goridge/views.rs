//! What the payload of a frame holds, as its options say.

use super::Frame;
use bytes::Bytes;

/// Why a frame is not what was due.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ViewError {
    /// The number of options is another one.
    #[error("{there} options, where there must be {due} ({what})")]
    Options {
        /// What was due.
        what: &'static str,
        /// As many as there must be.
        due: usize,
        /// As many as there are.
        there: usize,
    },
    /// The first part ends behind the payload.
    #[error("a {what} of {length} bytes in a payload of {payload}")]
    Beyond {
        /// The first part.
        what: &'static str,
        /// Its length.
        length: u32,
        /// Bytes that are there.
        payload: usize,
    },
    /// The name of a method is no text.
    #[error("a method name that is not UTF-8")]
    Name,
}

/// A request to a worker, or its answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Work {
    /// What is told about the body: JSON of the metadata in a request, mostly nothing in an answer.
    pub context: Bytes,
    /// The message.
    pub body: Bytes,
}

/// A call of the RPC server, or its answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Call {
    /// Its number, chosen by the caller.
    pub seq: u32,
    /// Service and method, such as `centrifuge.Publish`.
    pub method: String,
    /// Argument, result or text of an error.
    pub body: Bytes,
}

impl Frame {
    /// The frame as a request to a worker or as its answer.
    ///
    /// # Errors
    /// It does not have one option, or that is longer than the payload.
    pub fn as_work(&self) -> Result<Work, ViewError> {
        let &[length] = self.options.as_slice() else {
            return Err(self.wrong_options("the length of the context", 1));
        };
        let (context, body) = self.split("context", length)?;
        Ok(Work { context, body })
    }

    /// The frame as a call of the RPC server or as its answer.
    ///
    /// # Errors
    /// It does not have two options, the name is longer than the payload or no text.
    pub fn as_call(&self) -> Result<Call, ViewError> {
        let &[seq, length] = self.options.as_slice() else {
            return Err(self.wrong_options("a number and the length of the method", 2));
        };
        let (method, body) = self.split("method name", length)?;
        let method = str::from_utf8(&method).map_err(|_| ViewError::Name)?;
        let method = method.to_owned();
        Ok(Call { seq, method, body })
    }

    fn wrong_options(&self, what: &'static str, due: usize) -> ViewError {
        let there = self.options.as_slice().len();
        ViewError::Options { what, due, there }
    }

    fn split(&self, what: &'static str, length: u32) -> Result<(Bytes, Bytes), ViewError> {
        let payload = self.payload.len();
        match usize::try_from(length) {
            Ok(at) if at <= payload => Ok((self.payload.slice(..at), self.payload.slice(at..))),
            _ => Err(ViewError::Beyond {
                what,
                length,
                payload,
            }),
        }
    }
}
