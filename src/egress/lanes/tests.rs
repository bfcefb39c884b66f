#![allow(clippy::unwrap_used)]

use super::*;
use crate::egress::job::{LaneKeys, Place};
use crate::egress::methods::Request;
use crate::egress::stats::Counters;
use crate::proto::api;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// A call in the lanes of some channels, with its number as payload.
fn job(channels: &[&str], number: u32) -> Job {
    let timeout = Duration::from_secs(2);
    Job {
        method: <api::BroadcastRequest as Request>::INFO,
        payload: number.to_be_bytes().to_vec().into(),
        lanes: LaneKeys::of_all(channels.iter().copied()),
        timeout,
        deadline: Instant::now() + timeout,
        is_safe: false,
        transport_errors: false,
        fence: None,
        trace: None,
        reply: None,
        place: Place {
            counters: Arc::new(Counters::default()),
            bytes: 0,
        },
    }
}

fn number(job: &Job) -> u32 {
    u32::from_be_bytes(job.payload[..].try_into().unwrap())
}

fn numbers(flight: &Flight) -> Vec<u32> {
    flight.jobs.iter().map(number).collect()
}

fn lanes(jobs: &[&[&str]]) -> Lanes {
    let mut lanes = Lanes::default();
    for (number, channels) in (0..).zip(jobs) {
        lanes.push(job(channels, number));
    }
    lanes
}

const ALL: usize = usize::MAX;

#[test]
fn calls_of_one_channel_go_together_in_order() {
    let mut lanes = lanes(&[&["a"], &["a"], &["b"], &["a"]]);
    let flight = lanes.take(ALL, ALL).unwrap();
    let mut of_a = numbers(&flight);
    of_a.retain(|number| *number != 2);
    assert_eq!(of_a, [0, 1, 3]);
    assert!(!flight.is_unordered);
    assert_eq!(lanes.len(), 0);
}

#[test]
fn calls_of_different_channels_need_no_order() {
    let mut lanes = lanes(&[&["a"], &["b"], &["c"]]);
    let flight = lanes.take(ALL, ALL).unwrap();
    assert_eq!(numbers(&flight), [0, 1, 2]);
    assert!(flight.is_unordered);
}

#[test]
fn a_channel_has_one_flight_at_a_time() {
    let mut lanes = lanes(&[&["a"], &["a"], &["b"]]);
    let first = lanes.take(1, ALL).unwrap();
    assert_eq!(numbers(&first), [0]);
    let second = lanes.take(ALL, ALL).unwrap();
    assert_eq!(numbers(&second), [2], "1 waits for the landing of 0");
    assert!(lanes.take(ALL, ALL).is_none());
    lanes.release(&second.held);
    assert!(lanes.take(ALL, ALL).is_none());
    lanes.release(&first.held);
    assert_eq!(numbers(&lanes.take(ALL, ALL).unwrap()), [1]);
}

#[test]
fn a_call_for_several_channels_waits_for_all_of_them() {
    let mut lanes = lanes(&[&["a"], &["a", "b"], &["b"], &["c"]]);
    let first = lanes.take(1, ALL).unwrap();
    assert_eq!(numbers(&first), [0]);
    let second = lanes.take(ALL, ALL).unwrap();
    assert_eq!(numbers(&second), [3], "2 may not overtake 1 in b");
    lanes.release(&first.held);
    assert_eq!(numbers(&lanes.take(ALL, ALL).unwrap()), [1, 2]);
}

#[test]
fn a_flight_ends_at_its_bytes_but_takes_at_least_one_call() {
    let mut lanes = lanes(&[&["a"], &["b"], &["c"]]);
    let length = job(&["a"], 0).batch_len();
    assert_eq!(numbers(&lanes.take(ALL, length * 2).unwrap()), [0, 1]);
    assert_eq!(numbers(&lanes.take(ALL, 0).unwrap()), [2]);
}

#[test]
fn calls_whose_time_is_over_leave_and_let_others_go() {
    let mut lanes = Lanes::default();
    let late = |mut job: Job| {
        job.deadline = Instant::now();
        job
    };
    lanes.push(late(job(&["a", "b"], 0)));
    lanes.push(job(&["a"], 1));
    lanes.push(late(job(&["a"], 2)));
    lanes.push(job(&["b"], 3));
    let over: Vec<u32> = lanes.expire(Instant::now()).iter().map(number).collect();
    assert_eq!(over, [0, 2]);
    assert_eq!(numbers(&lanes.take(ALL, ALL).unwrap()), [1, 3]);
}

#[test]
fn any_mix_of_calls_and_landings_keeps_the_order_of_every_channel() {
    let names = ["a", "b", "c", "d", "e"];
    for seed in 0..200 {
        let mut random = fastrand::Rng::with_seed(seed);
        let mut lanes = Lanes::default();
        let (mut next, mut flying) = (0, Vec::new());
        let mut channels_of = BTreeMap::new();
        let mut arrived: Vec<u32> = Vec::new();
        for _ in 0..400 {
            match random.u8(..4) {
                0 | 1 => {
                    let some: Vec<&str> = (0..random.usize(1..4))
                        .map(|_| names[random.usize(..names.len())])
                        .collect();
                    lanes.push(job(&some, next));
                    channels_of.insert(next, some);
                    next += 1;
                }
                2 => flying.extend(lanes.take(random.usize(1..4), ALL)),
                _ if flying.is_empty() => {}
                _ => {
                    let landed: Flight = flying.swap_remove(random.usize(..flying.len()));
                    arrived.extend(numbers(&landed));
                    lanes.release(&landed.held);
                }
            }
        }
        loop {
            for landed in flying.drain(..) {
                arrived.extend(numbers(&landed));
                lanes.release(&landed.held);
            }
            match lanes.take(3, ALL) {
                Some(flight) => flying.push(flight),
                None => break,
            }
        }
        assert_eq!(arrived.len(), channels_of.len(), "seed {seed}: all arrive");
        for name in names {
            let of = arrived
                .iter()
                .filter(|number| channels_of[number].contains(&name));
            let of: Vec<_> = of.collect();
            assert!(of.is_sorted(), "seed {seed}: {name}: {of:?}");
        }
        assert!(
            lanes.lanes.is_empty(),
            "seed {seed}: no lane is left behind"
        );
    }
}
