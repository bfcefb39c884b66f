//! What dies, what of it is tried again, what is answered instead, and what does not notice.

use super::*;
use crate::engine::seat::Seat;
use crate::engine::shared::Shared;
use crate::region::Shard;
use crate::routing::key::{LaneKey, Space};
use ractor::Message;

pub(super) fn shard_of<'a>(shared: &'a Shared, channel: &str) -> &'a Arc<Shard> {
    let slot = LaneKey::new(Space::Channel, channel).slot();
    &shared.shards[usize::from(shared.layout.shard_of(slot).index())]
}

/// A channel of another shard than `of`.
fn elsewhere(shared: &Shared, of: &str) -> String {
    let names = (0..).map(|n| format!("other:{n}"));
    let mut others =
        names.filter(|name| !Arc::ptr_eq(shard_of(shared, name), shard_of(shared, of)));
    others.next().unwrap()
}

pub(super) async fn kill<M: Message>(seat: &Seat<M>) {
    let actor = seat.occupant().unwrap();
    actor.kill();
    eventually("the supervisor has noticed", || {
        seat.occupant()
            .is_none_or(|now| now.get_id() != actor.get_id())
    })
    .await;
}

async fn kill_and_wait<M: Message>(seat: &Seat<M>) {
    kill(seat).await;
    eventually("another actor sits there", || seat.occupant().is_some()).await;
}

#[tokio::test(start_paused = true)]
async fn a_killed_shard_answers_what_had_started_resends_the_rest_and_touches_no_other() {
    let trace = Trace::default();
    let router = start(timed(&trace)).await;
    let shared = Arc::clone(&router.engine().shared);
    let other = elsewhere(&shared, "a");
    let call = |channel: &str, name: &str, millis: &str| {
        launch(
            router
                .publish(publish(channel, millis))
                .metadata("x-name", name),
        )
    };
    let started = call("a", "started", "1000");
    let untouched = call(&other, "untouched", "1000");
    eventually("both run", || trace.len() == 2).await;
    let queued: Vec<_> = ["q0", "q1", "q2"].map(|name| call("a", name, "1")).into();
    tokio::task::yield_now().await;
    trace.take();

    let begun = Instant::now();
    kill(&shard_of(&shared, "a").seat).await;
    let ended = started.await.unwrap();
    assert_eq!(ended.status(), Code::Unavailable);
    assert!(begun.elapsed() < ms(100), "at once, not at its deadline");
    for queued in queued {
        let answer = queued.await.unwrap();
        assert!(answer.result().is_some(), "{answer:?}");
    }
    assert!(untouched.await.unwrap().result().is_some());
    let expected = [
        "dropped started",
        "start q0",
        "end q0",
        "dropped q0",
        "start q1",
        "end q1",
        "dropped q1",
        "start q2",
        "end q2",
        "dropped q2",
        "end untouched",
        "dropped untouched",
    ];
    assert_eq!(trace.take(), expected);
    assert_eq!(router.engine().ready(), Ok(()));
}

#[tokio::test(start_paused = true)]
async fn events_in_the_mailbox_of_a_killed_shard_are_run_by_the_next_one_in_order() {
    let trace = Trace::default();
    let router = start(timed(&trace)).await;
    let shared = Arc::clone(&router.engine().shared);
    let mut calls = Vec::new();
    for n in 0..10 {
        let call = router
            .publish(publish("a", "1"))
            .metadata("x-name", &n.to_string());
        let mut call = call.into_future();
        // One poll hands the event in; the shard has no turn in between.
        assert!(
            futures_util::future::poll_immediate(&mut call)
                .await
                .is_none()
        );
        calls.push(call);
    }
    shard_of(&shared, "a").seat.occupant().unwrap().kill();
    for call in calls {
        assert!(call.await.result().is_some());
    }
    let started: Vec<String> = trace.take();
    let started: Vec<&String> = started
        .iter()
        .filter(|line| line.starts_with("start"))
        .collect();
    let expected: Vec<String> = (0..10).map(|n| format!("start {n}")).collect();
    assert_eq!(started, expected.iter().collect::<Vec<_>>());
}

#[tokio::test(start_paused = true)]
async fn an_event_survives_one_death_and_is_unavailable_after_the_second() {
    let trace = Trace::default();
    let router = start(timed(&trace)).await;
    let shared = Arc::clone(&router.engine().shared);
    let seat = &shard_of(&shared, "a").seat;
    let call = |name: &str| {
        let call = router.publish(publish("a", "1000"));
        launch(call.metadata("x-name", name))
    };
    let first = call("first");
    eventually("it runs", || trace.len() == 1).await;
    let (second, third) = (call("second"), call("third"));
    tokio::task::yield_now().await;
    kill_and_wait(seat).await;
    assert_eq!(first.await.unwrap().status(), Code::Unavailable);
    eventually("the second runs", || trace.len() == 3).await;
    kill_and_wait(seat).await;
    for call in [second, third] {
        assert_eq!(call.await.unwrap().status(), Code::Unavailable);
    }
    let expected = [
        "start first",
        "dropped first",
        "start second",
        "dropped second",
    ];
    assert_eq!(trace.take(), expected);
}

#[tokio::test(start_paused = true)]
async fn a_stale_end_of_a_former_shards_work_does_not_free_a_lane_of_its_successor() {
    let trace = Trace::default();
    let router = start(timed(&trace)).await;
    let shared = Arc::clone(&router.engine().shared);
    let seat = &shard_of(&shared, "a").seat;
    let old = launch(
        router
            .publish(publish("a", "500"))
            .metadata("x-name", "old"),
    );
    eventually("it runs", || trace.len() == 1).await;
    kill_and_wait(seat).await;
    assert_eq!(old.await.unwrap().status(), Code::Unavailable);
    let new = launch(
        router
            .publish(publish("a", "500"))
            .metadata("x-name", "new"),
    );
    eventually("it runs", || trace.len() == 3).await;
    let key = LaneKey::new(Space::Channel, "a");
    seat.cast(crate::region::ShardMessage::Ended(key, 0))
        .unwrap();
    let last = launch(router.publish(publish("a", "1")).metadata("x-name", "last"));
    assert!(new.await.unwrap().result().is_some());
    assert!(last.await.unwrap().result().is_some());
    let lines = trace.take();
    let place = |line: &str| lines.iter().position(|other| other == line).unwrap();
    assert!(place("end new") < place("start last"), "{lines:?}");
}

#[tokio::test(start_paused = true)]
async fn a_shard_that_dies_again_and_again_is_parked_and_comes_back() {
    let trace = Trace::default();
    let router = start(timed(&trace)).await;
    let shared = Arc::clone(&router.engine().shared);
    let other = elsewhere(&shared, "a");
    let seat = &shard_of(&shared, "a").seat;
    let mut pauses = Vec::new();
    for _ in 0..5 {
        let begun = Instant::now();
        kill_and_wait(seat).await;
        pauses.push(begun.elapsed());
        assert!(router.publish(publish("a", "0")).await.result().is_some());
    }
    for (pause, least) in pauses.iter().zip([10, 20, 40, 80, 160]) {
        assert!(*pause >= ms(least), "back-off doubles: {pauses:?}");
    }
    seat.occupant().unwrap().kill();
    eventually("it is parked", || seat.is_parked()).await;

    let begun = Instant::now();
    let parked = router.publish(publish("a", "0")).await;
    assert_eq!(parked.status(), Code::Unavailable);
    assert_eq!(begun.elapsed(), Duration::ZERO, "refused at once");
    assert!(
        router
            .publish(publish(&other, "0"))
            .await
            .result()
            .is_some()
    );
    assert_eq!(router.engine().ready(), Err("1 shards parked".to_owned()));

    sleep(Duration::from_secs(31)).await;
    assert_eq!(router.engine().ready(), Ok(()));
    assert!(router.publish(publish("a", "0")).await.result().is_some());
}

#[tokio::test(start_paused = true)]
async fn a_killed_stage_loses_no_event_and_is_restarted() {
    let trace = Trace::default();
    let router = timed(&Trace::default()).intercept_all("spy", trace.spy("spy"));
    let router = start(router).await;
    let shared = Arc::clone(&router.engine().shared);
    let plan = shared.plan.load_full();
    let stage = plan.chains[0].stages[0].stage();
    let mut calls = Vec::new();
    for _ in 0..10 {
        let mut call = router.publish(publish("a", "1")).into_future();
        assert!(
            futures_util::future::poll_immediate(&mut call)
                .await
                .is_none()
        );
        calls.push(call);
    }
    kill(&stage.seat).await;
    for call in calls {
        assert!(call.await.result().is_some());
    }
    let lines = trace.take();
    assert_eq!(lines.iter().filter(|line| *line == "spy>").count(), 10);
    assert_eq!(lines.iter().filter(|line| *line == "<spy ok").count(), 10);
}

#[tokio::test(start_paused = true)]
async fn a_parked_stage_refuses_on_the_way_in_and_is_passed_by_on_the_way_out() {
    let trace = Trace::default();
    let router = timed(&Trace::default()).intercept_all("spy", trace.spy("spy"));
    let router = start(router).await;
    let shared = Arc::clone(&router.engine().shared);
    let plan = shared.plan.load_full();
    let stage = plan.chains[0].stages[0].stage();
    let under_way = launch(router.publish(publish("a", "2000")));
    eventually("it has passed the stage", || trace.len() == 1).await;
    for _ in 0..5 {
        kill_and_wait(&stage.seat).await;
    }
    stage.seat.occupant().unwrap().kill();
    eventually("it is parked", || stage.seat.is_parked()).await;
    let refused = router.publish(publish("b", "0")).await;
    assert_eq!(refused.status(), Code::Unavailable);
    assert_eq!(
        router.engine().ready(),
        Err("interceptors parked: spy".to_owned())
    );
    assert!(under_way.await.unwrap().result().is_some());
    assert_eq!(trace.take(), ["spy>"]);
    sleep(Duration::from_secs(31)).await;
    assert_eq!(router.engine().ready(), Ok(()));
    assert!(router.publish(publish("b", "0")).await.result().is_some());
    assert_eq!(trace.take(), ["spy>", "<spy ok"]);
}
