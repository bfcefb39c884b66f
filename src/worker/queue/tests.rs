//! Workers that come back while they are sent away.
#![allow(clippy::unwrap_used)]

use super::super::info::WorkerInfo;
use super::super::link::Relay;
use super::super::tests::{listener, until};
use super::*;
use std::os::fd::OwnedFd;

/// The line of a worker that never was, and its other ends.
fn line(worker: Arc<WorkerInfo>) -> (Link, [OwnedFd; 2]) {
    let (read, their_write) = std::io::pipe().unwrap();
    let (their_read, write) = std::io::pipe().unwrap();
    let relay = Relay::Pipes(read.into(), Arc::new(write.into()));
    let link = Link::new(worker, relay, 1024).unwrap();
    (link, [their_read.into(), their_write.into()])
}

fn queue() -> Arc<Queue> {
    Arc::new(Queue::new(Rules {
        fence: None,
        max_queue_size: 0,
        allocate_timeout: Duration::from_secs(60),
        stream_timeout: Duration::from_secs(1),
        exec_ttl: Duration::ZERO,
        grows: false,
    }))
}

#[tokio::test]
async fn a_worker_that_comes_back_while_it_is_sent_away_does_not_become_idle() {
    let (actor, mut told) = listener().await;
    let queue = queue();
    let worker = Arc::new(WorkerInfo::new(1, 1, 0, actor));
    let (link, _theirs) = line(Arc::clone(&worker));
    worker.go(WorkerState::Ready);
    worker.begin();
    let back = {
        let state = queue.state();
        let returned = Arc::clone(&queue);
        let back = tokio::task::spawn_blocking(move || returned.give_back(link));
        let end = Instant::now() + Duration::from_secs(30);
        while worker.state() != WorkerState::Ready {
            assert!(Instant::now() < end, "it never comes back");
            std::thread::yield_now();
        }
        // It has become ready and is not idle yet: as who sends it away sees it, before and after.
        assert!(state.idle.is_empty());
        worker.go(WorkerState::Invalid);
        assert!(state.idle.is_empty());
        back
    };
    back.await.unwrap();
    assert!(queue.take_idle(Some(1)).is_none());
    let told = told.recv().await;
    assert!(matches!(told, Some(WorkerMessage::Retire(..))), "{told:?}");
}

#[tokio::test]
async fn a_worker_that_is_lent_to_a_caller_that_has_gone_comes_back() {
    let (actor, _told) = listener().await;
    let queue = queue();
    let waits = {
        let queue = Arc::clone(&queue);
        tokio::spawn(async move { queue.exec(b"{}", b"x", None).await })
    };
    until("it waits", || std::future::ready(queue.waiting() == 1)).await;
    waits.abort();
    assert!(waits.await.unwrap_err().is_cancelled());
    let worker = Arc::new(WorkerInfo::new(1, 1, 0, actor));
    let (link, _theirs) = line(Arc::clone(&worker));
    worker.go(WorkerState::Ready);
    queue.give_back(link);
    assert!(queue.take_idle(Some(1)).is_some());
}
