//! A publisher for tests that sends nothing: it keeps what was called, and answers as told.

use super::error::{Error, MethodName};
use super::methods::Request;
use crate::proto::api;
use bytes::Bytes;
use prost::Message;
use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// A call that a recorder has kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecordedCall {
    /// The method, as in the HTTP/2 path.
    pub method: MethodName,
    /// The encoded request.
    pub message: Bytes,
}

impl RecordedCall {
    /// The request, if the call was of this kind.
    pub fn request<R: Request>(&self) -> Option<R> {
        let is_it = self.method == R::NAME;
        is_it
            .then(|| R::decode(self.message.clone()).ok())
            .flatten()
    }
}

/// Keeps the calls of a publisher, in the order in which they were made. Each is answered at once:
/// as told by [`Recorder::answer`], else with an empty result.
#[derive(Debug, Default)]
pub struct Recorder {
    calls: Mutex<Vec<RecordedCall>>,
    answers: Mutex<HashMap<&'static str, VecDeque<Result<Bytes, Error>>>>,
}

impl Recorder {
    /// All calls.
    pub fn calls(&self) -> Vec<RecordedCall> {
        lock(&self.calls).clone()
    }

    /// The requests of one method.
    pub fn requests<R: Request>(&self) -> Vec<R> {
        lock(&self.calls)
            .iter()
            .filter_map(RecordedCall::request)
            .collect()
    }

    /// What was published, by `publish`.
    pub fn publications(&self) -> Vec<api::PublishRequest> {
        self.requests()
    }

    /// Forgets the calls.
    pub fn clear(&self) {
        lock(&self.calls).clear();
    }

    /// How the next call of a method is answered; repeated, the ones after it.
    pub fn answer<R: Request>(&self, answer: Result<R::Result, Error>) {
        let answer = answer.map(|result| result.encode_to_vec().into());
        let mut answers = lock(&self.answers);
        answers.entry(R::NAME).or_default().push_back(answer);
    }

    pub(super) fn record(&self, method: &MethodName, message: Bytes) -> Result<Bytes, Error> {
        let mut answers = lock(&self.answers);
        let told = answers
            .get_mut(method.as_ref())
            .and_then(VecDeque::pop_front);
        drop(answers);
        let answer = told.unwrap_or_else(|| Ok(plain_answer(method, &message)));
        let method = method.clone();
        lock(&self.calls).push(RecordedCall { method, message });
        answer
    }
}

/// An empty result, but with as many parts as there are channels or commands.
fn plain_answer(method: &str, message: &Bytes) -> Bytes {
    match method {
        "Broadcast" => {
            let request = api::BroadcastRequest::decode(message.clone()).unwrap_or_default();
            let response = api::PublishResponse {
                error: None,
                result: Some(api::PublishResult::default()),
            };
            let responses = vec![response; request.channels.len()];
            api::BroadcastResult { responses }.encode_to_vec().into()
        }
        "Batch" => {
            let request = api::BatchRequest::decode(message.clone()).unwrap_or_default();
            let replies = vec![api::Reply::default(); request.commands.len()];
            api::BatchResponse { replies }.encode_to_vec().into()
        }
        _ => Bytes::new(),
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
