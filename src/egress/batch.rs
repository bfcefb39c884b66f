//! What a batch looks like: commands into one message, its replies apart again.

use super::error::{self, Error};
use super::job::Job;
use super::scan::{self, Fields};
use crate::proto::api;
use bytes::{BufMut, Bytes, BytesMut};
use prost::Message;

/// `BatchRequest.commands`, `BatchResponse.replies`.
const ITEM: u32 = 1;
/// `BatchRequest.parallel = true`.
const PARALLEL: [u8; 2] = [0x10, 1];
/// `Reply.error`.
const REPLY_ERROR: u32 = 2;
/// `error` of every response but that of a batch.
const RESPONSE_ERROR: u32 = 1;
/// `result` of every response but that of a batch.
const RESPONSE_RESULT: u32 = 2;

/// Bytes that a command takes in a batch.
pub(super) fn command_len(field: u32, payload: usize) -> usize {
    scan::field_len(ITEM, scan::field_len(field, payload))
}

/// The `BatchRequest` of these jobs, in their order.
pub(super) fn encode<'a>(jobs: impl Iterator<Item = &'a Job> + Clone, parallel: bool) -> Bytes {
    let bytes: usize = jobs.clone().map(Job::batch_len).sum();
    let mut to = BytesMut::with_capacity(bytes + PARALLEL.len());
    for job in jobs {
        let payload = &job.payload;
        let command = scan::field_len(job.method.field, payload.len());
        scan::put_head(ITEM, command, &mut to);
        scan::put_head(job.method.field, payload.len(), &mut to);
        to.put_slice(payload);
    }
    if parallel {
        to.put_slice(&PARALLEL);
    }
    to.freeze()
}

/// The replies of a `BatchResponse`, in order. Where it is malformed the list ends.
pub(super) fn replies(response: Bytes) -> Vec<Bytes> {
    Fields::of(response)
        .map_while(Result::ok)
        .filter(|(number, _)| *number == ITEM)
        .map(|(_, reply)| reply)
        .collect()
}

/// The result of one command, out of its `Reply`.
pub(super) fn result_of_reply(job: &Job, reply: Bytes, boundary: &str) -> Result<Bytes, Error> {
    part(job, reply, REPLY_ERROR, job.method.field, boundary)
}

/// The result of a call by itself, out of its response.
pub(super) fn result_of_response(
    job: &Job,
    response: Bytes,
    boundary: &str,
) -> Result<Bytes, Error> {
    if !job.method.has_result {
        return Ok(response);
    }
    part(job, response, RESPONSE_ERROR, RESPONSE_RESULT, boundary)
}

fn part(
    job: &Job,
    message: Bytes,
    error: u32,
    result: u32,
    boundary: &str,
) -> Result<Bytes, Error> {
    let mut found = Bytes::new();
    for field in Fields::of(message) {
        let lost = || Error::Lost {
            method: job.name(),
            why: "its answer is malformed".to_owned(),
        };
        let (number, bytes) = field.map_err(|_| lost())?;
        if number == error {
            let error = api::Error::decode(bytes).map_err(|_| lost())?;
            return Err(error::refused(
                &job.name(),
                &error,
                job.channel().as_deref(),
                boundary,
            ));
        }
        if number == result {
            found = bytes;
        }
    }
    Ok(found)
}
