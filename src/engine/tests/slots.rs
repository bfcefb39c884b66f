//! What belongs to a slot and goes with it: streams, publishers, counts, bounced generations; and what
//! the cluster's shell hears.

use super::crashes::{kill, shard_of};
use super::gates::{Member, moving, settle, slot, starts};
use super::*;
use crate::builtin::Counter;
use crate::egress::Publisher;
use crate::event::{EventKind, StreamReply};
use crate::outcome::StreamEndReason;
use crate::proto::proxy::Publication;
use crate::region::{LaneView, Leg, ShardMessage, stream_end, tie};
use crate::reply::{StreamOpen, StreamSource};
use crate::router::Route;
use crate::routing::key::{LaneKey, Space};
use centripeta_cluster::hold::Sender;
use centripeta_cluster::peer::Reason;
use centripeta_cluster::{BootId, Gate, Incarnation, MoveReason, OwnerEpoch, Report, Shown};
use futures_util::StreamExt;
use futures_util::stream::{pending, unfold};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

/// Where a test says what the streams of a router publish.
type Source = Arc<Mutex<Vec<UnboundedSender<u64>>>>;

fn streaming(trace: &Trace) -> (Router, Source) {
    let source = Source::default();
    let opened = Arc::clone(&source);
    let router = timed(trace).stream("*", move || {
        let (to, from) = unbounded_channel();
        opened.lock().unwrap().push(to);
        let next = |mut from: UnboundedReceiver<u64>| async move {
            let number = from.recv().await?;
            Some((Publication::json(&number).unwrap(), from))
        };
        async move { StreamReply::publications(unfold(from, next)) }
    });
    (router, source)
}

#[tokio::test(start_paused = true)]
async fn streams_of_a_slot_end_as_unavailable_when_it_closes_and_no_others_do() {
    for reason in [MoveReason::Admin, MoveReason::Drain] {
        let (router, source) = streaming(&Trace::default());
        let mut node = Member::start(router).await;
        let mut open = node.router.stream(subscribe("a")).await;
        let mut other = node.router.stream(subscribe("b")).await;
        source.lock().unwrap()[0].send(1).unwrap();
        assert_eq!(open.next().await.unwrap().data, "1");
        assert!(!node.region.load(slot("a")).empty);
        node.close("a", moving(7, reason));
        let started = 0;
        let report = node.report().await;
        assert!(matches!(report, Report::Closed { started: now, .. } if now == started));
        assert_eq!(open.ended().await, Code::Unavailable);
        source.lock().unwrap()[1].send(2).unwrap();
        assert_eq!(other.next().await.unwrap().data, "2");
        eventually("one is over", || node.router.engine().open_streams() == 1).await;
        assert!(node.region.load(slot("a")).empty);
    }
}

#[tokio::test(start_paused = true)]
async fn a_stream_publishes_nothing_while_the_lease_is_over_nor_after_its_slot_was_lost() {
    let (router, source) = streaming(&Trace::default());
    let node = Member::start(router).await;
    let mut open = node.router.stream(subscribe("a")).await;
    node.lapse(ms(500));
    source.lock().unwrap()[0].send(1).unwrap();
    let waited = tokio::time::timeout(ms(200), open.next()).await;
    assert!(waited.is_err(), "{waited:?}");
    node.resume();
    assert_eq!(open.next().await.unwrap().data, "1", "nothing was lost");
    // The gate alone, before the region is told.
    node.standing.set_gate(slot("a"), Gate::Foreign);
    source.lock().unwrap()[0].send(2).unwrap();
    assert!(open.next().await.is_none());
    assert_eq!(open.status(), Some(Code::Unavailable));
}

#[tokio::test(start_paused = true)]
async fn a_stream_of_a_lost_slot_ends_at_once_though_its_handler_says_that_it_is_done() {
    let (router, source) = streaming(&Trace::default());
    let node = Member::start(router).await;
    let mut open = node.router.stream(subscribe("a")).await;
    let mut done = node.router.stream(subscribe("b")).await;
    node.lose("a");
    assert_eq!(open.ended().await, Code::Unavailable);
    node.standing.set_gate(slot("b"), Gate::Foreign);
    source.lock().unwrap().clear();
    assert_eq!(done.ended().await, Code::Unavailable, "never a clean end");
}

#[tokio::test(start_paused = true)]
async fn a_quiet_stream_whose_slot_was_lost_as_it_was_accepted_ends_at_once() {
    let node = Member::start(timed(&Trace::default())).await;
    let shared = &node.router.engine().shared;
    let lane = LaneView {
        key: LaneKey::new(Space::Channel, "a"),
        slot: slot("a"),
        epoch: OwnerEpoch(3),
        leg: None,
        values: None,
    };
    let quiet = || StreamOpen::new(Default::default(), Box::pin(pending()));
    let next = async |open: StreamOpen| {
        let StreamSource::Publications(mut rest) = open.rest else {
            panic!("not publications")
        };
        let next = tokio::time::timeout(ms(1), rest.next()).await;
        next.map(|item| stream_end(&item.unwrap().unwrap_err()))
    };
    assert!(next(tie(quiet(), &lane, shared)).await.is_err(), "it lives");
    // Its outcome might leave; then the streams of the slot ended, and now it is tied.
    node.lose("a");
    let ended = next(tie(quiet(), &lane, shared)).await;
    assert_eq!(ended, Ok(StreamEndReason::Moved));
    assert_eq!(node.region.ended().streams, 1);
    // The same once the slot is this node's again.
    node.open("a", 4);
    let ended = next(tie(quiet(), &lane, shared)).await;
    assert_eq!(ended, Ok(StreamEndReason::Moved));
}

#[tokio::test(start_paused = true)]
async fn a_publisher_is_refused_while_its_owner_may_not_act() {
    let kept = Arc::new(Mutex::new(None::<Publisher>));
    let keeps = Arc::clone(&kept);
    let router = Router::new().publish("*", move |publisher: Publisher| {
        *keeps.lock().unwrap() = Some(publisher);
        async { PublishReply::allow() }
    });
    let node = Member::start(router).await;
    node.router.publish(publish("a", "1")).await;
    let publisher = kept.lock().unwrap().take().unwrap();
    let mut said = Vec::new();
    let mut publish = async |name| {
        if publisher.publish_json("a", &name).await.is_ok() {
            said.push(name);
        }
    };
    publish("owner").await;
    node.lapse(ms(1));
    publish("lapsed").await;
    node.resume();
    publish("resumed").await;
    let gate = |gate| node.standing.set_gate(slot("a"), gate);
    gate(Gate::Shut(OwnerEpoch(3)));
    publish("closing").await;
    gate(Gate::Open(OwnerEpoch(4)));
    publish("newer epoch").await;
    gate(Gate::Foreign);
    publish("lost").await;
    gate(Gate::Open(OwnerEpoch(3)));
    let mut shown = Shown::clone(&node.standing.shown());
    shown.me.incarnation = Incarnation(2);
    node.standing.show(shown);
    publish("another life").await;
    assert_eq!(said, ["owner", "resumed", "closing"]);
    assert_eq!(node.recorder.publications().len(), 3);
}

fn counting() -> Router {
    let handler = Arc::new(Counter);
    let route = Route::configured(EventKind::Rpc, "counter".to_owned(), handler);
    Router::new().route(route.key("user"))
}

/// The count that a call is answered with, and its epoch.
async fn count(node: &Member) -> (u64, u64) {
    let answer = node.router.rpc(rpc("count", "{}")).await;
    let data = &answer.result().unwrap().data;
    let counted: serde_json::Value = serde_json::from_slice(data).unwrap();
    let number = |key: &str| counted[key].as_u64().unwrap();
    (number("count"), number("epoch"))
}

#[tokio::test(start_paused = true)]
async fn a_count_goes_on_through_a_planned_move_and_its_abort_and_begins_again_after_a_takeover() {
    let from = Member::start(counting()).await;
    let to = Member::start(counting()).await;
    for expected in 1..=3 {
        assert_eq!(count(&from).await, (expected, 3));
    }
    let key = slot("u1");
    from.close("u1", moving(7, MoveReason::Admin));
    let store = from.router.engine().store();
    let values = store.export(key, OwnerEpoch(3)).await.unwrap();
    from.reopen("u1");
    assert_eq!(count(&from).await, (4, 3), "an abort goes on with its own");
    to.standing.set_gate(key, Gate::Opening(OwnerEpoch(4)));
    let store = to.router.engine().store();
    store.fence(key, OwnerEpoch(4)).await.unwrap();
    store.import(key, OwnerEpoch(4), values).await.unwrap();
    to.open("u1", 4);
    assert_eq!(count(&to).await, (4, 4));
    assert!(!to.region.load(key).empty);
    // A takeover: nothing is imported, and what the lane still has is of an older epoch.
    store.fence(key, OwnerEpoch(9)).await.unwrap();
    to.open("u1", 9);
    assert_eq!(count(&to).await, (1, 9));
    // An owner that has not heard of the newer epoch yet writes nothing.
    to.standing.set_gate(key, Gate::Open(OwnerEpoch(8)));
    let stale = to.router.rpc(rpc("count", "{}")).await;
    assert_eq!(stale.status(), Code::Unavailable);
    to.open("u1", 9);
    assert_eq!(count(&to).await, (2, 9));
}

/// Sends publishes to the shard as an ingress core's, each under its generation.
async fn send(node: &Member, channel: &str, all: &[(&str, u16, u32)]) {
    let shared = Arc::clone(&node.router.engine().shared);
    let seat = &shard_of(&shared, channel).seat;
    let actor = seat.occupant().unwrap();
    for (name, core, generation) in all {
        seat.vacate();
        drop(node.call(channel, name, 0));
        settle().await;
        let messages = seat.park();
        seat.seat(actor.clone());
        for mut message in messages {
            if let ShardMessage::Run { flight, .. } = &mut message {
                let boot = BootId(5);
                let core = *core;
                let leg = Leg {
                    sender: Sender { boot, core },
                    generation: *generation,
                    held: false,
                };
                flight.cx_mut().lane.as_mut().unwrap().leg = Some(leg);
            }
            seat.cast(message).unwrap();
        }
        settle().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_generation_that_was_bounced_and_older_ones_never_run_not_even_after_a_crash() {
    let trace = Trace::default();
    let node = Member::start(timed(&trace)).await;
    send(&node, "a", &[("first", 0, 2)]).await;
    let to = moving(7, MoveReason::Admin);
    node.close("a", to);
    send(&node, "a", &[("moving", 0, 2)]).await;
    node.reopen("a");
    send(&node, "a", &[("stale", 0, 2), ("older", 0, 1)]).await;
    send(&node, "a", &[("newer", 0, 3), ("another core", 1, 0)]).await;
    assert_eq!(starts(&trace), ["first", "newer", "another core"]);
    let stale = Reason::Stale;
    assert_eq!(node.bounced(), [Reason::Moving(to), stale, stale]);
    let shared = Arc::clone(&node.router.engine().shared);
    kill(&shard_of(&shared, "a").seat).await;
    let seat = &shard_of(&shared, "a").seat;
    eventually("another actor sits there", || seat.occupant().is_some()).await;
    send(&node, "a", &[("after the crash", 0, 2), ("runs", 0, 3)]).await;
    assert_eq!(node.bounced(), [stale]);
    shard_of(&shared, "a")
        .memory
        .bars()
        .keep(|boot| boot != BootId(5));
    send(&node, "a", &[("of a new process", 0, 1)]).await;
    let expected = ["first", "newer", "another core", "runs", "of a new process"];
    assert_eq!(starts(&trace), expected);
}

#[tokio::test(start_paused = true)]
async fn an_event_behind_another_is_asked_again_where_it_would_start() {
    let trace = Trace::default();
    let node = Member::start(timed(&trace)).await;
    let running = node.call("a", "running", 50);
    settle().await;
    send(&node, "a", &[("queued", 0, 3)]).await;
    node.lapse(ms(200));
    // The later one goes back, and bars its generation: the earlier one must not run before it.
    send(&node, "a", &[("later", 0, 3)]).await;
    node.resume();
    assert!(running.await.unwrap().result().is_some());
    settle().await;
    assert_eq!(node.bounced(), [Reason::Lapsed, Reason::Stale]);
    assert_eq!(starts(&trace), ["running"]);
}

#[tokio::test(start_paused = true)]
async fn the_load_of_a_slot_says_what_runs_there_and_for_how_long() {
    let trace = Trace::default();
    let node = Member::start(timed(&trace)).await;
    let load = || node.region.load(slot("a"));
    assert!(load().empty && load().longest == Duration::ZERO);
    let running = node.call("a", "long", 500);
    sleep(ms(100)).await;
    let next = node.call("a", "next", 0);
    sleep(ms(100)).await;
    assert!(!load().empty);
    assert_eq!(load().longest, ms(200));
    assert!(node.region.load(slot("b")).empty);
    running.await.unwrap();
    next.await.unwrap();
    settle().await;
    assert!(load().empty && load().longest == Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn the_shell_hears_of_progress_and_of_a_shard_that_is_parked_and_runs_again() {
    let mut node = Member::start(timed(&Trace::default())).await;
    sleep(ms(1_050)).await;
    let mut worked = 0;
    while let Ok(report) = node.reports.try_recv() {
        assert_eq!(report, Report::Worked { core: 0 });
        worked += 1;
    }
    assert_eq!(worked, 5);
    let shared = Arc::clone(&node.router.engine().shared);
    let shard = shard_of(&shared, "a");
    for _ in 0..5 {
        kill(&shard.seat).await;
        eventually("another actor sits there", || {
            shard.seat.occupant().is_some()
        })
        .await;
    }
    shard.seat.occupant().unwrap().kill();
    let Report::Parked {
        slot: first,
        parked,
    } = node.report().await
    else {
        panic!("not parked")
    };
    assert!(parked);
    assert_eq!(
        shared.layout.shard_of(first),
        shared.layout.shard_of(slot("a"))
    );
    // A closed slot of a parked shard has nothing left to wait for.
    let to = moving(7, MoveReason::Drain);
    node.close("a", to);
    let report = node.report().await;
    assert!(
        matches!(report, Report::Closed { started: 0, .. }),
        "{report:?}"
    );
    let parked = false;
    assert_eq!(
        node.report().await,
        Report::Parked {
            slot: first,
            parked
        }
    );
}

#[tokio::test]
async fn an_event_for_a_pool_asks_the_gate_again_when_a_thread_is_there_for_it() {
    let (go_on, wait) = std::sync::mpsc::channel::<()>();
    let wait = Mutex::new(wait);
    let trace = Trace::default();
    let seen = trace.clone();
    let pool = crate::Pool::new("one", 1);
    let handler = move |Channel(channel): Channel| {
        seen.push(channel.clone());
        if channel == "blocks" {
            wait.lock().unwrap().recv().unwrap();
        }
        async { PublishReply::allow() }
    };
    let route = Route::of::<crate::event::Publish, _, _>(handler).on_pool(&pool);
    let mut node = Member::start(Router::new().route(route)).await;
    let blocks = launch(node.router.publish(publish("blocks", "1")));
    eventually("it runs", || trace.len() == 1).await;
    let waits = launch(node.router.publish(publish("waits", "1")));
    eventually("it waits for the thread", || {
        !node.region.load(slot("waits")).empty
    })
    .await;
    let to = moving(7, MoveReason::Admin);
    node.close("waits", to);
    let report = node.report().await;
    assert!(
        matches!(report, Report::Closed { started: 1, .. }),
        "{report:?}"
    );
    go_on.send(()).unwrap();
    assert_eq!(waits.await.unwrap().status(), Code::Unavailable);
    assert!(matches!(node.report().await, Report::Idle { .. }));
    assert_eq!(node.bounced(), [Reason::Moving(to)]);
    assert!(blocks.await.unwrap().result().is_some());
    assert_eq!(trace.take(), ["blocks"]);
}
