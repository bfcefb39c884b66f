//! Gates of slots and the lease: what starts, what waits, what goes back, what leaves.

use super::crashes::shard_of;
use super::*;
use crate::config::Config;
use crate::outcome::Unavailable;
use crate::testing::TestCall;
use centripeta_cluster::lease::{DropReason, Reading};
use centripeta_cluster::peer::Reason;
use centripeta_cluster::{
    Gate, Move, MoveId, MoveReason, OwnerEpoch, Region, Report, Shown, SlotId, Standing, slot_of,
};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio::task::JoinHandle;

/// How long a lease lasts here.
const LEASE: Duration = Duration::from_millis(1200);

/// A node of a cluster whose gates and clock a test sets, and what its region reports.
pub(super) struct Member {
    pub(super) standing: Arc<Standing>,
    pub(super) router: TestRouter,
    pub(super) region: Arc<dyn Region>,
    clock: Arc<Mutex<Duration>>,
    pub(super) reports: UnboundedReceiver<Report>,
    pub(super) recorder: Arc<crate::egress::Recorder>,
}

pub(super) fn slot(channel: &str) -> SlotId {
    slot_of(channel.as_bytes())
}

/// A move away from this node.
pub(super) fn moving(id: u64, reason: MoveReason) -> Move {
    Move {
        id: MoveId(id),
        to: centripeta_cluster::Member {
            id: centripeta_cluster::NodeId(3),
            incarnation: centripeta_cluster::Incarnation(1),
        },
        reason,
    }
}

impl Member {
    /// With a valid lease, and every slot open at epoch 3.
    pub(super) async fn start(router: Router) -> Self {
        let clock = Arc::new(Mutex::new(ms(10_000)));
        let read = Arc::clone(&clock);
        let now = move || Reading::of_one(*read.lock().unwrap());
        let standing = Arc::new(Standing::new(Arc::new(now)));
        // It is node 1 of a table that names it for every slot.
        standing.show(Shown::clone(&Standing::alone("a").shown()));
        for slot in SlotId::all() {
            standing.set_gate(slot, Gate::Open(OwnerEpoch(3)));
        }
        let settings = crate::node::engine_config(&Config::default());
        let recorder = Arc::default();
        let publisher = crate::egress::Publisher::recording(Arc::clone(&recorder));
        let given = Arc::clone(&standing);
        let router = TestRouter::with_settings(router, settings, publisher, given);
        let router = router.await.unwrap();
        let region = router.engine().region();
        let (to, reports) = unbounded_channel();
        region.reports(to);
        let member = Self {
            standing,
            router,
            region,
            clock,
            reports,
            recorder,
        };
        member.renew();
        member
    }

    pub(super) fn renew(&self) {
        let now = *self.clock.lock().unwrap();
        self.standing.renew(Reading::of_one(now), LEASE);
    }

    /// The lease, renewed just now, has been over for so long.
    pub(super) fn lapse(&self, over: Duration) {
        *self.clock.lock().unwrap() += LEASE + over;
    }

    pub(super) fn resume(&self) {
        self.renew();
        self.region.resume();
    }

    pub(super) fn close(&self, channel: &str, to: Move) {
        let slot = slot(channel);
        self.standing.set_gate(slot, Gate::Shut(OwnerEpoch(3)));
        self.region.close(slot, to);
    }

    pub(super) fn lose(&self, channel: &str) {
        let slot = slot(channel);
        self.standing.set_gate(slot, Gate::Foreign);
        self.region.lose(slot, OwnerEpoch(3), DropReason::Table);
    }

    pub(super) fn open(&self, channel: &str, epoch: u64) {
        let epoch = OwnerEpoch(epoch);
        self.standing.set_gate(slot(channel), Gate::Open(epoch));
        self.region.open(slot(channel), epoch);
    }

    pub(super) fn reopen(&self, channel: &str) {
        let epoch = OwnerEpoch(3);
        self.standing.set_gate(slot(channel), Gate::Open(epoch));
        self.region.reopen(slot(channel), epoch);
    }

    /// A publish that takes so many milliseconds, under way.
    pub(super) fn call(
        &self,
        channel: &str,
        name: &str,
        millis: u64,
    ) -> JoinHandle<TestAnswer<crate::event::Publish>> {
        launch(self.named(channel, name, millis))
    }

    fn named(&self, channel: &str, name: &str, millis: u64) -> TestCall<crate::event::Publish> {
        let call = self.router.publish(publish(channel, &millis.to_string()));
        call.metadata("x-name", name)
    }

    pub(super) fn bounced(&self) -> Vec<Reason> {
        let mut all = self.router.engine().shared.slots.bounced.lock().unwrap();
        std::mem::take(&mut *all)
            .into_iter()
            .map(|(_, not_here)| not_here.reason)
            .collect()
    }

    /// The next report but those of progress.
    pub(super) async fn report(&mut self) -> Report {
        loop {
            match self.reports.recv().await.unwrap() {
                Report::Worked { .. } => {}
                report => return report,
            }
        }
    }
}

pub(super) async fn settle() {
    for _ in 0..20 {
        tokio::task::yield_now().await;
    }
}

pub(super) fn starts(trace: &Trace) -> Vec<String> {
    let lines = trace.0.lock().unwrap();
    let starts = lines.iter().filter_map(|line| line.strip_prefix("start "));
    starts.map(str::to_owned).collect()
}

#[tokio::test(start_paused = true)]
async fn a_foreign_slot_sends_events_back_with_its_owner_and_an_open_one_runs_them() {
    let trace = Trace::default();
    let node = Member::start(timed(&trace)).await;
    assert!(node.call("a", "runs", 0).await.unwrap().result().is_some());
    node.lose("a");
    let back = node.call("a", "back", 0).await.unwrap();
    assert_eq!(back.status(), Code::Unavailable);
    assert_eq!(node.bounced(), [Reason::WrongOwner]);
    assert_eq!(starts(&trace), ["runs"]);
    let other = node.call("b", "other", 0).await.unwrap();
    assert!(other.result().is_some(), "another slot does not notice");
}

#[tokio::test(start_paused = true)]
async fn events_of_a_slot_that_opens_wait_and_run_in_order_under_its_epoch() {
    let trace = Trace::default();
    let node = Member::start(timed(&trace)).await;
    node.standing
        .set_gate(slot("a"), Gate::Opening(OwnerEpoch(4)));
    let mut calls: Vec<_> = Vec::new();
    for name in ["0", "1", "2", "3"] {
        calls.push(node.call("a", name, 1));
        settle().await;
    }
    let late = launch(node.named("a", "late", 0).timeout(ms(300)));
    sleep(ms(500)).await;
    assert_eq!(late.await.unwrap().status(), Code::DeadlineExceeded);
    assert!(starts(&trace).is_empty());
    node.open("a", 4);
    for call in calls {
        assert!(call.await.unwrap().result().is_some());
    }
    assert_eq!(starts(&trace), ["0", "1", "2", "3"]);
    assert!(node.bounced().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_closed_slot_sends_back_what_has_not_started_and_reports_what_still_runs() {
    let trace = Trace::default();
    let mut node = Member::start(timed(&trace)).await;
    let started = node.call("a", "started", 100);
    settle().await;
    let queued: Vec<_> = ["q0", "q1"].map(|name| node.call("a", name, 0)).into();
    settle().await;
    let to = moving(7, MoveReason::Rebalance);
    node.close("a", to);
    let slot = slot("a");
    let (id, running) = (to.id, 1);
    let closed = Report::Closed {
        slot,
        id,
        started: running,
    };
    assert_eq!(node.report().await, closed);
    let late = node.call("a", "late", 0).await.unwrap();
    assert_eq!(late.status(), Code::Unavailable);
    for queued in queued {
        assert_eq!(queued.await.unwrap().status(), Code::Unavailable);
    }
    assert_eq!(node.bounced(), [Reason::Moving(to); 3]);
    assert!(started.await.unwrap().result().is_some(), "it may finish");
    assert_eq!(node.report().await, Report::Idle { slot, id });
    node.reopen("a");
    assert!(node.call("a", "again", 0).await.unwrap().result().is_some());
    assert_eq!(starts(&trace), ["started", "again"]);
}

#[tokio::test(start_paused = true)]
async fn a_slot_in_which_nothing_runs_closes_at_once_and_goes_idle_only_once() {
    let trace = Trace::default();
    let mut node = Member::start(timed(&trace)).await;
    let to = moving(7, MoveReason::Admin);
    node.close("a", to);
    let (slot, id) = (slot("a"), to.id);
    let closed = |id, started| Report::Closed { slot, id, started };
    assert_eq!(node.report().await, closed(id, 0));
    node.reopen("a");
    let running = node.call("a", "x", 50);
    settle().await;
    let again = moving(9, MoveReason::Admin);
    node.close("a", again);
    assert_eq!(node.report().await, closed(again.id, 1));
    running.await.unwrap();
    let id = again.id;
    assert_eq!(node.report().await, Report::Idle { slot, id });
    settle().await;
    let more = std::iter::from_fn(|| node.reports.try_recv().ok());
    let more: Vec<_> = more
        .filter(|report| !matches!(report, Report::Worked { .. }))
        .collect();
    assert_eq!(more, []);
}

#[tokio::test(start_paused = true)]
async fn events_keep_their_order_when_a_slot_is_closed_and_opened_again_around_them() {
    let trace = Trace::default();
    let node = Member::start(timed(&trace)).await;
    let first = node.call("a", "first", 50);
    settle().await;
    let back = node.call("a", "back", 0);
    settle().await;
    // Closed and opened before the shard has a turn: nothing has to go back, nothing is overtaken.
    node.close("a", moving(7, MoveReason::Admin));
    node.reopen("a");
    let last = node.call("a", "last", 0);
    for call in [first, back, last] {
        assert!(call.await.unwrap().result().is_some());
    }
    assert_eq!(starts(&trace), ["first", "back", "last"]);
}

#[tokio::test(start_paused = true)]
async fn what_is_cut_is_dropped_answered_unavailable_and_counted_apart() {
    let trace = Trace::default();
    let mut node = Member::start(timed(&trace)).await;
    let long = node.call("a", "long", 1500);
    let other = node.call("b", "other", 1500);
    settle().await;
    let to = moving(7, MoveReason::Drain);
    node.close("a", to);
    assert!(matches!(
        node.report().await,
        Report::Closed { started: 1, .. }
    ));
    let begun = Instant::now();
    node.region.cut(slot("a"));
    assert_eq!(long.await.unwrap().status(), Code::Unavailable);
    assert_eq!(begun.elapsed(), Duration::ZERO);
    assert!(matches!(node.report().await, Report::Idle { .. }));
    let counts = &node.router.engine().shared.slots.counts;
    let cut = counts.cut.load(std::sync::atomic::Ordering::Relaxed);
    assert_eq!(cut, 1);
    assert!(trace.take().contains(&"dropped long".to_owned()));
    assert!(other.await.unwrap().result().is_some());
    assert!(Unavailable::Cut.to_string().contains("release_timeout"));
}

#[tokio::test(start_paused = true)]
async fn a_short_lapse_lets_events_wait_and_they_run_in_order_when_the_lease_is_back() {
    let trace = Trace::default();
    let node = Member::start(timed(&trace)).await;
    let running = node.call("a", "running", 20);
    settle().await;
    let mut calls = vec![node.call("a", "queued", 1)];
    settle().await;
    node.lapse(ms(50));
    for name in ["0", "1", "2"] {
        calls.push(node.call("a", name, 1));
        settle().await;
    }
    sleep(ms(60)).await;
    assert_eq!(
        starts(&trace),
        ["running"],
        "even what had been queued waits"
    );
    node.resume();
    assert!(running.await.unwrap().result().is_some());
    for call in calls {
        assert!(call.await.unwrap().result().is_some());
    }
    assert_eq!(starts(&trace), ["running", "queued", "0", "1", "2"]);
    assert!(node.bounced().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_lapse_costs_no_event_its_place_in_a_lane() {
    let trace = Trace::default();
    let node = Member::start(timed(&trace)).await;
    node.lapse(ms(1));
    let mut calls = Vec::new();
    for n in 0..200 {
        calls.push(node.call("a", &n.to_string(), 1));
        settle().await;
    }
    node.resume();
    for call in calls {
        assert!(call.await.unwrap().result().is_some());
    }
    let expected: Vec<_> = (0..200).map(|n| n.to_string()).collect();
    assert_eq!(starts(&trace), expected);
}

#[tokio::test(start_paused = true)]
async fn a_lapse_that_nobody_announced_as_over_is_noticed_all_the_same() {
    let trace = Trace::default();
    let node = Member::start(timed(&trace)).await;
    node.lapse(ms(1));
    let waits = node.call("a", "waits", 0);
    settle().await;
    node.renew();
    assert!(waits.await.unwrap().result().is_some());
}

#[tokio::test(start_paused = true)]
async fn a_lapse_of_a_hundred_milliseconds_sends_back_what_waits_in_order() {
    let trace = Trace::default();
    let node = Member::start(timed(&trace)).await;
    node.lapse(ms(0));
    let waiting = [node.call("a", "0", 0), node.call("a", "1", 0)];
    settle().await;
    assert!(node.bounced().is_empty());
    *node.clock.lock().unwrap() += ms(99);
    sleep(ms(30)).await;
    assert!(node.bounced().is_empty());
    *node.clock.lock().unwrap() += ms(1);
    for call in waiting {
        assert_eq!(call.await.unwrap().status(), Code::Unavailable);
    }
    let at_once = node.call("a", "2", 0).await.unwrap();
    assert_eq!(at_once.status(), Code::Unavailable);
    assert_eq!(node.bounced(), [Reason::Lapsed; 3]);
    assert!(starts(&trace).is_empty());
}

#[tokio::test(start_paused = true)]
async fn an_answer_waits_for_the_lease_and_leaves_when_it_is_back_or_never() {
    let trace = Trace::default();
    let node = Member::start(timed(&trace)).await;
    let resumed = node.call("a", "resumed", 20);
    let late = launch(node.named("b", "late", 20).timeout(ms(500)));
    settle().await;
    node.lapse(ms(500));
    sleep(ms(200)).await;
    assert_eq!(
        trace
            .take()
            .iter()
            .filter(|line| line.starts_with("end"))
            .count(),
        2
    );
    assert!(!resumed.is_finished() && !late.is_finished());
    assert_eq!(
        late.await.unwrap().status(),
        Code::Unavailable,
        "not a timeout: it ran"
    );
    assert!(!resumed.is_finished());
    node.resume();
    assert!(resumed.await.unwrap().result().is_some());
}

#[tokio::test(start_paused = true)]
async fn the_answer_of_a_handler_that_never_waited_is_held_as_well() {
    let trace = Trace::default();
    let lapses = Arc::new(Mutex::new(None::<Arc<Mutex<Duration>>>));
    let (clock, seen) = (Arc::clone(&lapses), trace.clone());
    let router = timed(&Trace::default()).subscribe("*", move || {
        // The lease ends while the handler runs.
        let clock = clock.lock().unwrap().clone().unwrap();
        *clock.lock().unwrap() += ms(2000);
        seen.push("ran");
        async { crate::event::SubscribeReply::allow() }
    });
    let node = Member::start(router).await;
    *lapses.lock().unwrap() = Some(Arc::clone(&node.clock));
    let held = launch(node.router.subscribe(subscribe("a")));
    eventually("it ran", || trace.len() == 1).await;
    sleep(ms(50)).await;
    assert!(!held.is_finished());
    node.resume();
    assert!(held.await.unwrap().result().is_some());
}

#[tokio::test(start_paused = true)]
async fn a_lost_slot_drops_what_runs_sends_back_what_waits_and_no_late_answer_leaves() {
    let trace = Trace::default();
    let node = Member::start(timed(&trace)).await;
    let started = node.call("a", "started", 1000);
    settle().await;
    let queued = node.call("a", "queued", 0);
    settle().await;
    let begun = Instant::now();
    node.lose("a");
    assert_eq!(started.await.unwrap().status(), Code::Unavailable);
    assert_eq!(queued.await.unwrap().status(), Code::Unavailable);
    assert_eq!(begun.elapsed(), Duration::ZERO);
    assert_eq!(node.bounced(), [Reason::WrongOwner]);
    assert_eq!(trace.take(), ["start started", "dropped started"]);
    // The gate alone, before the region is told: the answer does not leave either.
    let late = node.call("b", "late", 50);
    settle().await;
    node.standing.set_gate(slot("b"), Gate::Foreign);
    assert_eq!(late.await.unwrap().status(), Code::Unavailable);
    assert!(trace.take().contains(&"end late".to_owned()));
    // Nor under a newer epoch of the same node.
    let late = node.call("c", "late", 50);
    settle().await;
    node.standing.set_gate(slot("c"), Gate::Open(OwnerEpoch(5)));
    assert_eq!(late.await.unwrap().status(), Code::Unavailable);
    node.open("a", 9);
    assert!(node.call("a", "again", 0).await.unwrap().result().is_some());
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_waits_for_the_lease_does_not_leave_once_the_slot_is_lost() {
    let trace = Trace::default();
    let node = Member::start(timed(&trace)).await;
    let held = node.call("a", "held", 20);
    settle().await;
    node.lapse(ms(10));
    sleep(ms(50)).await;
    assert!(!held.is_finished());
    node.lose("a");
    node.renew();
    assert_eq!(held.await.unwrap().status(), Code::Unavailable);
}

#[tokio::test(start_paused = true)]
async fn a_shard_that_crashes_while_a_slot_is_closed_keeps_it_closed_and_says_what_it_had_to_say() {
    let trace = Trace::default();
    let mut node = Member::start(timed(&trace)).await;
    let shared = Arc::clone(&node.router.engine().shared);
    let started = node.call("a", "started", 1000);
    settle().await;
    let to = moving(7, MoveReason::Rebalance);
    let (slot, id) = (slot("a"), to.id);
    // The order dies in the mailbox, with the actor.
    shard_of(&shared, "a").seat.occupant().unwrap().kill();
    node.close("a", to);
    assert_eq!(started.await.unwrap().status(), Code::Unavailable);
    let started = 0;
    assert_eq!(node.report().await, Report::Closed { slot, id, started });
    let late = node.call("a", "late", 0).await.unwrap();
    assert_eq!(late.status(), Code::Unavailable);
    assert_eq!(node.bounced(), [Reason::Moving(to)]);
    node.reopen("a");
    assert!(node.call("a", "again", 0).await.unwrap().result().is_some());
}
