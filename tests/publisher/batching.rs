//! Batches that form by themselves, and the limits of batches and the queue.

use crate::double::{Double, Fault};
use crate::{eventually, publication, publisher, publisher_with};
use bytes::Bytes;
use centripeta::config::CentrifugoConfig;
use centripeta::egress::{Error, Refusal};
use std::num::NonZeroUsize;
use std::time::Duration;

const SLOW: Fault = Fault::Slow(Duration::from_millis(50));

fn count(count: usize) -> NonZeroUsize {
    NonZeroUsize::new(count).unwrap()
}

#[tokio::test]
async fn a_call_on_an_idle_wire_leaves_alone_and_what_gathers_behind_it_as_one_batch() {
    let double = Double::start();
    let one = |config: &mut centripeta::config::CentrifugoConfig| config.flights = count(1);
    let publisher = publisher_with(vec![double.endpoint()], one).await;
    double.state.set(SLOW);
    let first = publisher.publish_json("chat:0", &0);
    eventually("the first has left", || {
        *double.state.singles.lock().unwrap() == 1
    })
    .await;
    let rest: Vec<_> = (1..100)
        .map(|at| publisher.publish_json(format!("chat:{at}"), &at))
        .collect();
    first.await.unwrap();
    for published in rest {
        published.await.unwrap();
    }
    assert_eq!(*double.state.batches.lock().unwrap(), [(99, true)]);
    let stats = publisher.stats();
    assert_eq!((stats.sent, stats.batches, stats.batched), (2, 1, 99));
    assert_eq!(
        (stats.answered, stats.queued, stats.queued_bytes),
        (100, 0, 0)
    );
}

#[tokio::test]
async fn a_batch_with_two_of_one_channel_runs_in_order() {
    let double = Double::start();
    let one = |config: &mut centripeta::config::CentrifugoConfig| config.flights = count(1);
    let publisher = publisher_with(vec![double.endpoint()], one).await;
    double.state.set(SLOW);
    let waiting: Vec<_> = (0..20)
        .map(|at| publisher.publish_json("chat:1", &at))
        .collect();
    for published in waiting {
        published.await.unwrap();
    }
    let batches = double.state.batches.lock().unwrap().clone();
    assert!(batches.iter().all(|(_, parallel)| !parallel), "{batches:?}");
    let data: Vec<String> = (0..20).map(|at| at.to_string()).collect();
    assert_eq!(double.state.of("chat:1"), data);
}

#[tokio::test]
async fn a_batch_is_bounded_by_number_and_by_bytes() {
    let double = Double::start();
    let publisher = publisher_with(vec![double.endpoint()], |config| {
        config.flights = count(1);
        config.batch = count(10);
        config.message_bytes = 4096;
    })
    .await;
    double.state.set(SLOW);
    let waiting: Vec<_> = (0..31)
        .map(|at| publisher.publish_json(format!("chat:{at}"), &at))
        .chain((0..6).map(|at| publisher.publish_json(format!("big:{at}"), &"x".repeat(1500))))
        .collect();
    for published in waiting {
        published.await.unwrap();
    }
    let batches = double.state.batches.lock().unwrap().clone();
    let sizes: Vec<usize> = batches.iter().map(|(size, _)| *size).collect();
    assert!(sizes.iter().all(|size| *size <= 10), "{sizes:?}");
    assert!(sizes.contains(&10) && sizes.contains(&2), "{sizes:?}");

    let answer = publisher.publish_json("big:1", &"x".repeat(5000)).await;
    let Err(Error::Refused {
        refusal: Refusal::TooLarge { limit: 4096, .. },
        ..
    }) = answer
    else {
        panic!("{answer:?}");
    };
}

#[tokio::test]
async fn a_full_queue_refuses_at_once() {
    let double = Double::start();
    let publisher = publisher_with(vec![double.endpoint()], |config| {
        config.queue = count(8);
        config.queue_bytes = 4096;
    })
    .await;
    double.state.set(SLOW);
    let big = publisher.publish_json("big:1", &"x".repeat(3000));
    let other = publisher.publish_json("big:2", &"x".repeat(3000)).await;
    let full = |limit| Error::Overloaded { limit };
    assert_eq!(other, Err(full("centrifugo.queue_bytes")));
    let waiting: Vec<_> = (0..7)
        .map(|at| publisher.publish_json("chat:1", &at))
        .collect();
    assert_eq!(
        publisher.publish_now("chat:1", &7),
        Err(full("centrifugo.queue"))
    );
    big.await.unwrap();
    for published in waiting {
        published.await.unwrap();
    }
    assert_eq!(publisher.stats().overloaded, 2);
    publisher.publish_now("chat:1", &8).unwrap();
    eventually("the cast arrives", || double.state.of("chat:1").len() == 8).await;
}

#[tokio::test]
async fn a_half_answered_batch_gives_errors_for_the_rest() {
    let double = Double::start();
    let one = |config: &mut centripeta::config::CentrifugoConfig| config.flights = count(1);
    let publisher = publisher_with(vec![double.endpoint()], one).await;
    double.state.set(SLOW);
    let first = publisher.publish_json("chat:0", &0);
    eventually("the first has left", || {
        *double.state.singles.lock().unwrap() == 1
    })
    .await;
    double.state.set(Fault::HalfBatch);
    let rest: Vec<_> = (1..5)
        .map(|at| publisher.publish(publication(&format!("chat:{at}"), "1")))
        .collect();
    first.await.unwrap();
    let mut answers = Vec::new();
    for published in rest {
        answers.push(published.await);
    }
    assert!(answers[..2].iter().all(Result::is_ok), "{answers:?}");
    for answer in &answers[2..] {
        let Err(error @ Error::Lost { why, .. }) = answer else {
            panic!("{answer:?}");
        };
        assert_eq!(why, "2 of 4 commands of its batch were answered");
        assert!(error.may_be_done());
    }
    let asked = vec![
        publication("chat:1", "1").into(),
        publication("chat:2", "1").into(),
    ];
    let answers = publisher.batch(asked, false).await.unwrap();
    assert!(
        answers[0].is_ok() && matches!(answers[1], Err(Error::Lost { .. })),
        "{answers:?}"
    );
}

#[tokio::test]
async fn calls_that_are_not_awaited_arrive_in_order_too() {
    let double = Double::start();
    let publisher = publisher(&double).await;
    for at in 0..500 {
        match at % 3 {
            0 => publisher.publish_now("chat:1", &at).unwrap(),
            1 => drop(publisher.publish_json("chat:1", &at)),
            _ => drop(publisher.broadcast_json(["chat:1", "chat:2"], &at)),
        }
    }
    assert_eq!(publisher.shutdown(Duration::from_secs(10)).await, 0);
    let data: Vec<String> = (0..500).map(|at| at.to_string()).collect();
    assert_eq!(double.state.of("chat:1"), data);
    assert_eq!(publisher.publish_now("chat:1", &0), Err(Error::Closed));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn to_a_centrifugo_without_batches_calls_go_one_by_one_in_order() {
    let double = Double::start();
    let numbers: Vec<Bytes> = (0..50).map(|at| at.to_string().into()).collect();
    // Known when it is connected, and found out in the middle: the first one keeps the lane busy.
    for (round, is_known) in [true, false].into_iter().enumerate() {
        let slow = format!("chat:slow{round}");
        let change = |config: &mut CentrifugoConfig| config.flights = count(1);
        let publisher = if is_known {
            double.state.set(Fault::NoBatch);
            publisher_with(vec![double.endpoint()], change).await
        } else {
            double.state.set(Fault::None);
            let publisher = publisher_with(vec![double.endpoint()], change).await;
            double.state.set(Fault::NoBatch);
            publisher
        };
        let of = |channel: usize| format!("chat:{round}-{channel}");
        let first = publisher.publish_json(&slow, &0);
        let waiting: Vec<_> = (0..200)
            .map(|at| publisher.publish_json(of(at % 4), &(at / 4)))
            .collect();
        let refused = publisher.publish_json("nosuch:1", &1);
        first.await.unwrap();
        for published in waiting {
            published.await.unwrap();
        }
        assert_eq!(refused.await.unwrap_err().code(), Some(102));
        for channel in 0..4 {
            assert_eq!(double.state.of(&of(channel)), numbers);
        }
        assert!(double.state.batches.lock().unwrap().is_empty());
        let stats = publisher.stats();
        assert_eq!(
            (stats.batches > 0, stats.failed),
            (!is_known, 1),
            "{stats:?}"
        );
    }
}
