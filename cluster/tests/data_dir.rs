//! Data directories under real processes: two at once, and one killed amid its writes.

#![allow(clippy::unwrap_used)]

use std::io::{BufRead, BufReader, Lines, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};

use centripeta_cluster::Incarnation;
use centripeta_cluster::member::{DataDir, Error, Founding, InitOutcome, init};

const DIR: &str = "CENTRIPETA_TEST_DATA_DIR";
const SAYS: &str = "life ";
/// One test at a time: a process that one is just forking holds, until it runs its program, the
/// files that the other has open, a lock among them.
static TURN: Mutex<()> = Mutex::new(());

fn turn() -> MutexGuard<'static, ()> {
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A process that has the directory open and begins a life for each line that it is sent.
struct Other {
    child: Child,
    to: ChildStdin,
    from: Lines<BufReader<ChildStdout>>,
}

impl Other {
    fn start(dir: &Path) -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "the_other_process", "--ignored", "--nocapture"])
            .env(DIR, dir)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let to = child.stdin.take().unwrap();
        let from = BufReader::new(child.stdout.take().unwrap()).lines();
        Self { child, to, from }
    }

    fn ask(&mut self) {
        self.to.write_all(b"\n").unwrap();
        self.to.flush().unwrap();
    }

    /// The next life that it tells.
    fn told(&mut self) -> Option<Incarnation> {
        self.from.by_ref().find_map(|line| {
            let line = line.ok()?;
            let (_, life) = line.split_once(SAYS)?;
            Some(Incarnation(life.trim().parse().ok()?))
        })
    }

    /// Kills it, and says what it had told by then.
    fn kill(mut self) -> Option<Incarnation> {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        std::iter::from_fn(|| self.told()).last()
    }
}

fn founded(dir: &Path) {
    let outcome = init(dir, &Founding::new("a", vec!["a:7946".to_owned()])).unwrap();
    assert!(matches!(outcome, InitOutcome::Founded(_)), "{outcome:?}");
}

#[test]
#[ignore = "is no test but the other process of the tests here"]
fn the_other_process() {
    let Some(dir) = std::env::var_os(DIR) else {
        return;
    };
    let mut opened = DataDir::open(Path::new(&dir)).unwrap();
    println!("{SAYS}{}", opened.incarnation());
    for _ in std::io::stdin().lines() {
        println!("{SAYS}{}", opened.raise().unwrap());
    }
}

#[test]
fn a_directory_in_use_is_refused_until_its_process_is_killed() {
    let _turn = turn();
    let folder = tempfile::tempdir().unwrap();
    founded(folder.path());
    let mut other = Other::start(folder.path());
    assert_eq!(other.told(), Some(Incarnation(1)));
    for _ in 0..3 {
        let refused = DataDir::open(folder.path()).unwrap_err();
        assert!(matches!(refused, Error::InUse { .. }), "{refused}");
    }
    other.ask();
    assert_eq!(other.told(), Some(Incarnation(2)));
    other.kill();
    let opened = DataDir::open(folder.path()).unwrap();
    assert_eq!(opened.incarnation(), Incarnation(3));
}

#[test]
fn a_kill_amid_the_writes_of_a_life_leaves_a_directory_that_starts_with_a_life_of_its_own() {
    let _turn = turn();
    let folder = tempfile::tempdir().unwrap();
    founded(folder.path());
    let mut last = Incarnation(0);
    for round in 0..12 {
        let mut other = Other::start(folder.path());
        let first = other
            .told()
            .unwrap_or_else(|| panic!("round {round}: it starts"));
        assert!(first > last, "{first} after {last}");
        last = first;
        // It is killed somewhere on its way through these.
        for _ in 0..20 {
            other.ask();
        }
        for _ in 0..round {
            last = other.told().expect("it goes on");
        }
        last = other.kill().unwrap_or(last);
    }
    let opened = DataDir::open(folder.path()).unwrap();
    assert!(opened.incarnation() > last);
}
