//! The load: closed loops of rpc events whose method says what goes wrong.

use crate::load::client::{connect, send};
use crate::load::request::{Head, RPC_PATH, frame};
use anyhow::{Context, ensure};
use bytes::Bytes;
use centripeta::proto::proxy::{RpcRequest, RpcResponse};
use h2::client::SendRequest;
use prost::Message;
use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;
use tokio::time::{Instant, sleep, timeout};

/// Connections, and calls in flight on each.
const LOAD: (usize, usize) = (4, 16);
/// What the caller gives an event.
pub(crate) const DEADLINE: &str = "5S";
/// An answer after this time came too late: the deadline, and a second for the way of both messages.
pub(crate) const LATE: Duration = Duration::from_secs(6);
/// When an event counts as never answered.
const NEVER: Duration = Duration::from_secs(12);
/// How long a caller rests that was refused, or got nothing.
const REST: Duration = Duration::from_millis(20);
/// Centrifugo's code for a refusal.
const TOO_MANY_REQUESTS: u32 = 111;
/// The data of good answers.
const GOOD: &[u8] = b"{\"ok\":1}";

/// What goes wrong, and how often of ten thousand events.
const FAULTS: [(&str, u32); 20] = [
    ("die", 10),
    ("exit:3", 10),
    ("answer-and-exit", 10),
    ("sleep:3000", 4),
    ("grow:16", 20),
    ("noise", 10),
    ("print", 5),
    ("noise-and-answer", 10),
    ("crc", 5),
    ("cut", 5),
    ("no-options", 10),
    ("beyond", 5),
    ("twice", 10),
    ("drop", 20),
    ("soft", 50),
    ("replace", 3),
    ("stream:3", 10),
    ("stderr:20000", 20),
    ("grandchild", 2),
    ("grandchild-and-exit", 2),
];

/// What came of all events.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    good: u64,
    failed_good: u64,
    wrong_data: u64,
    never: u64,
    refused: u64,
    late: u64,
    longest: Duration,
    /// Answers by fault and gRPC status.
    others: BTreeMap<(&'static str, i32), u64>,
    took: Duration,
}

impl Tally {
    fn took_so_long(&mut self, took: Duration) {
        self.longest = self.longest.max(took);
        self.late += u64::from(took > LATE);
    }

    /// What may not be.
    pub(crate) fn wrong(&self) -> Vec<String> {
        let mut wrong = Vec::new();
        if self.never > 0 {
            wrong.push(format!("{} events were never answered", self.never));
        }
        if self.late > 0 {
            let (late, longest) = (self.late, self.longest);
            wrong.push(format!(
                "{late} events were answered after their deadline, one after {longest:?}"
            ));
        }
        if self.wrong_data > 0 {
            wrong.push(format!(
                "{} events got another one's answer",
                self.wrong_data
            ));
        }
        // An event that waits while no worker starts, or whose worker is killed, fails by rights.
        if self.good < 20 * self.failed_good.max(1) {
            let (good, failed) = (self.good, self.failed_good);
            wrong.push(format!("only {good} good events, and {failed} that failed"));
        }
        let tried = |name: &str| self.others.keys().any(|(fault, _)| *fault == name);
        let untried: Vec<_> = FAULTS
            .map(|it| it.0)
            .into_iter()
            .filter(|it| !tried(it))
            .collect();
        if !untried.is_empty() {
            wrong.push(format!("never tried: {}", untried.join(", ")));
        }
        wrong
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rate = self.good as f64 / self.took.as_secs_f64().max(1e-9);
        writeln!(
            f,
            "events   {} good ({rate:.0}/s), {} failed beside a fault, {} refused, {} never answered, {} late; \
             the longest took {:?}",
            self.good, self.failed_good, self.refused, self.never, self.late, self.longest
        )?;
        write!(f, "faults  ")?;
        for ((fault, status), count) in &self.others {
            write!(f, " {fault}→{status}: {count};")?;
        }
        Ok(())
    }
}

/// Drives until `end`, and waits for the last answers.
///
/// # Errors
/// The node takes no connection.
pub(crate) async fn run(address: SocketAddr, end: Instant) -> anyhow::Result<Tally> {
    let head = Rc::new(Head::new(address, RPC_PATH, Some(DEADLINE))?);
    let mut loops = Vec::new();
    for number in 0..LOAD.0 {
        let sender = connect(address).await?;
        for slot in 0..LOAD.1 {
            let seed = (number * LOAD.1 + slot) as u64;
            let one = caller(sender.clone(), Rc::clone(&head), end, seed);
            loops.push(tokio::task::spawn_local(one));
        }
    }
    let began = Instant::now();
    let mut sum = Tally::default();
    for one in loops {
        let part = one.await.context("a caller broke")?;
        sum.good += part.good;
        sum.failed_good += part.failed_good;
        sum.wrong_data += part.wrong_data;
        sum.never += part.never;
        sum.refused += part.refused;
        sum.late += part.late;
        sum.longest = sum.longest.max(part.longest);
        for (key, count) in part.others {
            *sum.others.entry(key).or_default() += count;
        }
    }
    sum.took = began.elapsed();
    Ok(sum)
}

async fn caller(sender: SendRequest<Bytes>, head: Rc<Head>, end: Instant, seed: u64) -> Tally {
    let mut random = fastrand::Rng::with_seed(seed);
    let mut tally = Tally::default();
    let mut number = 0_u64;
    while Instant::now() < end {
        number += 1;
        let mut dice = random.u32(0..10_000);
        let fault = FAULTS.iter().find(|(_, often)| {
            let hit = dice < *often;
            dice = dice.saturating_sub(*often);
            hit
        });
        // The answer names the event, so that another one's is seen.
        let own = format!("{}-{seed}-{number}", String::from_utf8_lossy(GOOD));
        let good = RpcResponse {
            result: Some(centripeta::proto::proxy::RpcResult {
                data: own.clone().into(),
                ..Default::default()
            }),
            ..Default::default()
        };
        let directive = match fault {
            Some((name, _)) => (*name).to_owned(),
            None => format!("hex:{}", hex(&good.encode_to_vec())),
        };
        let event = RpcRequest {
            client: "soak".into(),
            user: "u".into(),
            method: format!("do:{directive}"),
            ..RpcRequest::default()
        };
        let call = ask(sender.clone(), &head, frame(&event));
        let Some((name, _)) = fault else {
            let (outcome, took) = outcome(call, &own).await;
            tally.took_so_long(took);
            match outcome {
                Outcome::Good => tally.good += 1,
                Outcome::Failed => tally.failed_good += 1,
                Outcome::Foreign => tally.wrong_data += 1,
                Outcome::Never => {
                    tally.never += 1;
                    // A connection that is gone must not keep everybody busy.
                    sleep(REST).await;
                }
                Outcome::Refused => {
                    tally.refused += 1;
                    sleep(REST).await;
                }
            }
            continue;
        };
        let began = Instant::now();
        let answer = timeout(NEVER, call).await;
        tally.took_so_long(began.elapsed());
        match answer {
            Ok(Ok((status, _))) => *tally.others.entry((name, status)).or_default() += 1,
            _ => {
                tally.never += 1;
                sleep(REST).await;
            }
        }
    }
    tally
}

/// What became of a call whose answer is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// It was answered with its own data.
    Good,
    /// The pool had no room for it.
    Refused,
    /// It was answered with another failure.
    Failed,
    /// It was answered with something else.
    Foreign,
    /// It was not answered.
    Never,
}

/// Waits for a call that is to be answered with `own`; what became of it, and after what time.
pub(crate) async fn outcome(
    call: impl Future<Output = anyhow::Result<(i32, Bytes)>>,
    own: &str,
) -> (Outcome, Duration) {
    let began = Instant::now();
    let outcome = match timeout(NEVER, call).await {
        Err(_) | Ok(Err(_)) => Outcome::Never,
        Ok(Ok((0, data))) => match RpcResponse::decode(data) {
            Ok(RpcResponse {
                result: Some(result),
                ..
            }) if result.data == own.as_bytes() => Outcome::Good,
            // The failure's answer in words for the client.
            Ok(RpcResponse {
                error: Some(error), ..
            }) => match error.code {
                TOO_MANY_REQUESTS => Outcome::Refused,
                _ => Outcome::Failed,
            },
            _ => Outcome::Foreign,
        },
        Ok(Ok(_)) => Outcome::Failed,
    };
    (outcome, began.elapsed())
}

/// The status and message of an answer.
pub(crate) async fn ask(
    mut sender: SendRequest<Bytes>,
    head: &Head,
    message: Bytes,
) -> anyhow::Result<(i32, Bytes)> {
    let response = send(&mut sender, head, message).await?;
    let status = |headers: &http::HeaderMap| {
        let status = headers.get("grpc-status")?.to_str().ok()?;
        status.parse::<i32>().ok()
    };
    if let Some(status) = status(response.headers()) {
        return Ok((status, Bytes::new()));
    }
    let mut body = response.into_body();
    let mut message = Vec::new();
    while let Some(chunk) = body.data().await {
        let chunk = chunk?;
        body.flow_control().release_capacity(chunk.len())?;
        message.extend_from_slice(&chunk);
    }
    let trailers = body.trailers().await?.context("no trailers")?;
    let status = status(&trailers).context("no status")?;
    ensure!(message.len() >= 5 || status != 0, "no message");
    let message = message.get(5..).unwrap_or_default();
    Ok((status, Bytes::copy_from_slice(message)))
}

/// Bytes in hexadecimal digits.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
