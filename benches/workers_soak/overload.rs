//! Overload: for some seconds more calls than the pool has room for, sent whether or not earlier ones
//! were answered. The queue fills up to its bound and no further, and what does not fit is told at once.

use super::drive::{Outcome, ask, hex, outcome};
use super::node::Node;
use crate::load::client::connect;
use crate::load::request::{Head, RPC_PATH, frame};
use anyhow::Context;
use centripeta::proto::proxy::{RpcRequest, RpcResponse, RpcResult};
use prost::Message;
use std::fmt;
use std::rc::Rc;
use std::time::Duration;
use tokio::task::JoinSet;
use tokio::time::{Instant, interval};

/// How long one takes.
const FOR: Duration = Duration::from_secs(3);
/// A call each so often: five times of what four workers take on.
const EVERY: Duration = Duration::from_micros(2500);
/// How long a worker has with each call, in milliseconds.
const WORK: u32 = 50;
/// How often the queue is looked at meanwhile.
const LOOK: Duration = Duration::from_millis(50);
/// A refusal within this time came since the queue was full, and a later one since no worker was free.
const AT_ONCE: Duration = Duration::from_secs(1);

/// What came of one overload, or of several.
#[derive(Debug, Default)]
pub(crate) struct Overload {
    times: usize,
    good: u64,
    refused: u64,
    waited_out: u64,
    failed: u64,
    lost: u64,
    late: u64,
    longest: Duration,
    /// The most requests in the pool that were seen.
    pub(crate) deepest: usize,
    /// Times in which nothing was refused.
    gentle: usize,
}

impl Overload {
    /// Adds another one.
    pub(crate) fn add(&mut self, other: &Self) {
        self.times += other.times;
        self.good += other.good;
        self.refused += other.refused;
        self.failed += other.failed;
        self.lost += other.lost;
        self.late += other.late;
        self.gentle += other.gentle;
        self.longest = self.longest.max(other.longest);
        self.waited_out += other.waited_out;
        self.deepest = self.deepest.max(other.deepest);
    }

    /// What may not be, where the queue takes `room` requests.
    pub(crate) fn wrong(&self, room: usize) -> Vec<String> {
        let mut wrong = Vec::new();
        let mut unless = |is_right: bool, text: String| {
            if !is_right {
                wrong.push(text);
            }
        };
        let Self { lost, late, .. } = self;
        unless(self.times > 0, "there was no overload".to_owned());
        unless(*lost == 0, format!("overload: {lost} without an answer"));
        unless(
            *late == 0,
            format!("overload: {late} answered after their deadline"),
        );
        unless(
            self.gentle == 0,
            format!(
                "{} overloads were none: nothing was refused at once",
                self.gentle
            ),
        );
        unless(
            self.good > 0,
            "overload: no call had a good answer".to_owned(),
        );
        let deepest = self.deepest;
        unless(
            deepest <= room,
            format!("{deepest} requests in a pool that takes {room}"),
        );
        unless(
            deepest * 10 >= room * 9,
            format!("the queue was never full: {deepest} of {room}"),
        );
        wrong
    }
}

impl fmt::Display for Overload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "overload {} times: {} good, {} refused at once, {} after they had waited, {} failed otherwise, {} \
             without an answer, {} late; the longest took {:?}; at most {} requests in the pool",
            self.times,
            self.good,
            self.refused,
            self.waited_out,
            self.failed,
            self.lost,
            self.late,
            self.longest,
            self.deepest
        )
    }
}

/// One overload, to its last answer.
///
/// # Errors
/// The node takes no connection, or does not show its gauge.
pub(crate) async fn run(node: Rc<Node>) -> anyhow::Result<Overload> {
    let head = Rc::new(Head::new(
        node.address(),
        RPC_PATH,
        Some(super::drive::DEADLINE),
    )?);
    let senders = [
        connect(node.address()).await?,
        connect(node.address()).await?,
    ];
    let (mut calls, mut sum) = (JoinSet::new(), Overload::default());
    let (mut next, mut look) = (interval(EVERY), interval(LOOK));
    let end = Instant::now() + FOR;
    let mut number = 0_usize;
    while Instant::now() < end {
        tokio::select! {
            _ = next.tick() => {
                let data = format!("overload-{number}");
                let sender = senders[number % senders.len()].clone();
                number += 1;
                let (head, message) = (Rc::clone(&head), slow(&data));
                calls.spawn_local(async move { outcome(ask(sender, &head, message), &data).await });
            }
            _ = look.tick() => sum.deepest = sum.deepest.max(node.requests().await?),
        }
    }
    while let Some(ended) = calls.join_next().await {
        let (outcome, took) = ended.context("a call broke")?;
        match outcome {
            Outcome::Good => sum.good += 1,
            Outcome::Refused if took <= AT_ONCE => sum.refused += 1,
            Outcome::Refused => sum.waited_out += 1,
            Outcome::Failed => sum.failed += 1,
            Outcome::Foreign | Outcome::Never => sum.lost += 1,
        }
        sum.longest = sum.longest.max(took);
        sum.late += u64::from(took > super::drive::LATE);
    }
    sum.times = 1;
    sum.gentle = usize::from(sum.refused == 0);
    Ok(sum)
}

/// A call whose worker takes its time and answers with this.
fn slow(data: &str) -> bytes::Bytes {
    let answer = RpcResponse {
        result: Some(RpcResult {
            data: data.to_owned().into(),
            ..RpcResult::default()
        }),
        ..RpcResponse::default()
    };
    frame(&RpcRequest {
        client: "soak".into(),
        user: "u".into(),
        method: format!("do:sleep-hex:{WORK}.{}", hex(&answer.encode_to_vec())),
        ..RpcRequest::default()
    })
}
