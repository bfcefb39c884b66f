//! Calls of others, passed on by name: a worker's calls of the server API.

use super::error::{Error, Refusal};
use super::methods::{self, Known};
use super::{Publisher, scan};
use crate::proto::api;
use bytes::Bytes;
use prost::Message;
use tokio::sync::oneshot;

/// The field of a response that holds its error.
const ERROR: u32 = 1;
/// The field of a response that holds its result.
const RESULT: u32 = 2;

impl Publisher {
    /// Passes on an encoded request of a method by its name, such as `"Publish"`, with the order and
    /// the batching that the method has; the answer is the encoded response, which may hold
    /// Centrifugo's error. Bytes that the contract does not know survive both ways, and so do
    /// methods of it that are not known here.
    ///
    /// # Errors
    /// The request is not the method's message, or there is no answer of Centrifugo's.
    pub async fn forward(&self, method: &str, message: Bytes) -> Result<Bytes, Error> {
        let Some(known) = methods::by_name(method, &message) else {
            return self.raw(method, message).await;
        };
        let Known {
            info,
            lanes,
            is_safe,
        } = known.map_err(|why| Error::Refused {
            method: method.to_owned().into(),
            refusal: Refusal::Malformed(why.to_string()),
        })?;
        let (reply, answer) = oneshot::channel();
        self.send(info, message, lanes, is_safe, Some(reply))?;
        match answer.await.unwrap_or(Err(Error::Closed)) {
            Ok(result) => Ok(field(RESULT, &result)),
            Err(Error::Api { code, message, .. }) => {
                let error = api::Error { code, message };
                Ok(field(ERROR, &error.encode_to_vec()))
            }
            Err(other) => Err(other),
        }
    }
}

/// A message with one field, which holds an encoded message.
fn field(number: u32, inner: &[u8]) -> Bytes {
    let mut message = Vec::with_capacity(inner.len() + 8);
    scan::put_head(number, inner.len(), &mut message);
    message.extend_from_slice(inner);
    message.into()
}
