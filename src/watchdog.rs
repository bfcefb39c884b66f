//! Names whoever holds a core: code that blocks or burns stalls every other event of its core.
//!
//! Each core says what it is doing in one atomic word; a thread of its own looks at these words and
//! warns when one has not moved for longer than `runtime.watchdog`.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::time::Instant;

/// Index of a name in [`Activities`]; 0 is *idle*.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Activity(u16);

/// The names of everything that can hold a core: handlers and stages.
#[derive(Debug, Default)]
pub(crate) struct Activities(Mutex<Vec<String>>);

impl Activities {
    /// Registers a name; one that is known keeps its place. Beyond 65,534 of them the rest have
    /// none.
    pub(crate) fn register(&self, name: String) -> Activity {
        let mut names = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let known = names.iter().position(|known| *known == name);
        if known.is_none() && names.len() < usize::from(u16::MAX) - 1 {
            names.push(name);
            return Activity(u16::try_from(names.len()).unwrap_or(u16::MAX));
        }
        let place = known.and_then(|at| u16::try_from(at + 1).ok());
        Activity(place.unwrap_or(u16::MAX))
    }

    fn name(&self, activity: u16) -> String {
        let names = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let index = usize::from(activity).saturating_sub(1);
        names
            .get(index)
            .cloned()
            .unwrap_or_else(|| "unknown code".to_owned())
    }
}

/// What a core is doing: a count of everything started, and the activity, in one word.
#[derive(Debug, Default)]
pub(crate) struct Beat(AtomicU64, AtomicBool);

impl Beat {
    /// Whether the watchdog has found the core held, and has not seen it released since.
    pub(crate) fn is_stuck(&self) -> bool {
        self.1.load(Ordering::Relaxed)
    }

    /// Says that the core is in `activity` until the guard is dropped.
    pub(crate) fn enter(&self, activity: Activity) -> Busy<'_> {
        let before = self.0.load(Ordering::Relaxed);
        let count = (before >> 16).wrapping_add(1);
        self.0
            .store((count << 16) | u64::from(activity.0), Ordering::Relaxed);
        Busy {
            beat: self,
            outer: before as u16,
        }
    }
}

/// Held while a core is in an activity.
#[derive(Debug)]
pub(crate) struct Busy<'a> {
    beat: &'a Beat,
    outer: u16,
}

impl Drop for Busy<'_> {
    fn drop(&mut self) {
        let count = self.beat.0.load(Ordering::Relaxed) >> 16;
        self.beat
            .0
            .store((count << 16) | u64::from(self.outer), Ordering::Relaxed);
    }
}

/// What the watchdog has to say about a core.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Finding {
    /// This code has held the core for longer than allowed.
    Stuck {
        core: usize,
        name: String,
        held: Duration,
    },
    /// It is over.
    Freed {
        core: usize,
        name: String,
        held: Duration,
    },
}

/// Looks at the beats, again and again; a pure state machine but for the clock that it is given.
#[derive(Debug)]
pub(crate) struct Watch {
    limit: Duration,
    cores: Vec<Seen>,
}

#[derive(Debug)]
struct Seen {
    beat: Arc<Beat>,
    word: u64,
    since: Instant,
    warned: bool,
}

impl Watch {
    /// Watches these cores.
    pub(crate) fn new(limit: Duration, beats: Vec<Arc<Beat>>, now: Instant) -> Self {
        let seen = |beat| Seen {
            beat,
            word: 0,
            since: now,
            warned: false,
        };
        Self {
            limit,
            cores: beats.into_iter().map(seen).collect(),
        }
    }

    /// One look at every core.
    pub(crate) fn look(&mut self, now: Instant, names: &Activities) -> Vec<Finding> {
        let mut findings = Vec::new();
        for (core, seen) in self.cores.iter_mut().enumerate() {
            let word = seen.beat.0.load(Ordering::Relaxed);
            let held = now.duration_since(seen.since);
            if word != seen.word {
                if seen.warned {
                    seen.beat.1.store(false, Ordering::Relaxed);
                    let name = names.name(seen.word as u16);
                    findings.push(Finding::Freed { core, name, held });
                }
                *seen = Seen {
                    beat: Arc::clone(&seen.beat),
                    word,
                    since: now,
                    warned: false,
                };
            } else if word as u16 != 0 && !seen.warned && held >= self.limit {
                seen.warned = true;
                seen.beat.1.store(true, Ordering::Relaxed);
                findings.push(Finding::Stuck {
                    core,
                    name: names.name(word as u16),
                    held,
                });
            }
        }
        findings
    }
}

/// Runs the watch on a thread of its own until `stop` is dropped; `stuck` hears of each core that is
/// held for too long.
pub(crate) fn spawn(
    limit: Duration,
    beats: Vec<Arc<Beat>>,
    names: Arc<Activities>,
    stuck: impl Fn(usize) + Send + 'static,
) -> std::io::Result<Stop> {
    let (stop, stopped) = std::sync::mpsc::channel::<()>();
    let pause = (limit / 4).max(Duration::from_millis(5));
    let thread = std::thread::Builder::new()
        .name("watchdog".to_owned())
        .spawn(move || {
            let mut watch = Watch::new(limit, beats, Instant::now());
            while stopped.recv_timeout(pause) == Err(std::sync::mpsc::RecvTimeoutError::Timeout) {
                for finding in watch.look(Instant::now(), &names) {
                    if let Finding::Stuck { core, .. } = &finding {
                        stuck(*core);
                    }
                    report(&finding);
                }
            }
        })?;
    Ok(Stop {
        _stop: stop,
        _thread: thread,
    })
}

/// Ends the watchdog's thread when dropped.
#[derive(Debug)]
pub(crate) struct Stop {
    _stop: std::sync::mpsc::Sender<()>,
    _thread: std::thread::JoinHandle<()>,
}

fn report(finding: &Finding) {
    match finding {
        Finding::Stuck { core, name, held } => tracing::warn!(
            core,
            name,
            held_ms = held.as_millis() as u64,
            "{name} holds core {core} and stalls its other events: it blocks or burns; run it on a \
             pool of its own (`on_pool`)"
        ),
        Finding::Freed { core, name, held } => tracing::info!(
            core,
            name,
            held_ms = held.as_millis() as u64,
            "{name} has released core {core}"
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_is_known_keeps_its_place() {
        let names = Activities::default();
        let first = names.register("a".to_owned());
        let other = names.register("b".to_owned());
        assert_ne!(first, other);
        assert_eq!(names.register("a".to_owned()), first);
        assert_eq!(names.name(other.0), "b");
    }

    #[test]
    fn names_the_code_that_holds_a_core_once_and_says_when_it_is_over() {
        let names = Activities::default();
        let slow = names.register("handler `slow`".to_owned());
        let beat = Arc::new(Beat::default());
        let start = Instant::now();
        let limit = Duration::from_millis(100);
        let mut watch = Watch::new(limit, vec![Arc::clone(&beat)], start);
        let busy = beat.enter(slow);
        assert_eq!(watch.look(start, &names), []);
        let late = start + limit;
        let name = "handler `slow`".to_owned();
        assert_eq!(
            watch.look(late, &names),
            [Finding::Stuck {
                core: 0,
                name: name.clone(),
                held: limit
            }]
        );
        assert_eq!(watch.look(late + limit, &names), []);
        assert!(beat.is_stuck());
        drop(busy);
        let over = late + 2 * limit;
        assert_eq!(
            watch.look(over, &names),
            [Finding::Freed {
                core: 0,
                name,
                held: 3 * limit
            }]
        );
    }

    #[test]
    fn a_core_that_moves_from_event_to_event_is_not_stuck() {
        let names = Activities::default();
        let quick = names.register("handler `quick`".to_owned());
        let beat = Arc::new(Beat::default());
        let start = Instant::now();
        let mut watch = Watch::new(Duration::from_millis(100), vec![Arc::clone(&beat)], start);
        for step in 0..10 {
            let _busy = beat.enter(quick);
            assert_eq!(
                watch.look(start + Duration::from_millis(90 * step), &names),
                []
            );
        }
    }

    #[test]
    fn an_idle_core_is_not_stuck() {
        let names = Activities::default();
        let start = Instant::now();
        let mut watch = Watch::new(
            Duration::from_millis(1),
            vec![Arc::new(Beat::default())],
            start,
        );
        assert_eq!(watch.look(start + Duration::from_secs(60), &names), []);
    }
}
