//! A relay on a host of the test: it stands before a peer port and delays, records, or spoils what
//! passes. It runs as a process of its own in the namespace of that host (this test executable, by
//! `probe` in `main.rs`), takes connections on TCP or on a unix socket, and ends with its [`Relay`].

use super::fleet::Fleet;
use super::process::{Running, eventually, probe};
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, mpsc};
use std::thread;
use std::time::{Duration, Instant};

/// A relay that runs.
pub(crate) struct Relay {
    _process: Running,
    dir: PathBuf,
}

impl Relay {
    /// On a host, from `listen` (`unix:PATH` or an address) to an address; its delay is each way's, by
    /// chance up to a quarter more or less.
    pub(crate) fn start(
        fleet: &Fleet,
        host: usize,
        listen: &str,
        to: &str,
        delay: Duration,
    ) -> Self {
        let name = format!("relay-{host}-{}", listen.replace('/', "_"));
        let dir = fleet.dir.path().join(name);
        std::fs::create_dir_all(&dir).unwrap();
        let millis = delay.as_millis().to_string();
        let folder = dir.display().to_string();
        let bare = probe(&dir, [listen, to, &millis, &folder]);
        let mut command = fleet.net.on(host, bare.get_program().as_ref());
        command.args(bare.get_args());
        for (name, value) in bare.get_envs() {
            command.env(name, value.unwrap());
        }
        let process = Running::start(command);
        process.says("relay is there");
        Self {
            _process: process,
            dir,
        }
    }

    /// The next bytes that pass towards the node get one bit wrong.
    pub(crate) fn spoil(&self) {
        let file = self.dir.join("spoil");
        std::fs::write(&file, b"").unwrap();
        eventually("the relay spoils a frame", || {
            (!file.exists()).then_some(())
        });
    }

    /// Ends every connection that passes now; callers dial anew.
    pub(crate) fn cut(&self) {
        let file = self.dir.join("cut");
        std::fs::write(&file, b"").unwrap();
        eventually("the relay cuts", || (!file.exists()).then_some(()));
    }

    /// What callers have sent over each connection so far, in full.
    pub(crate) fn recorded(&self) -> Vec<Vec<u8>> {
        let files = std::fs::read_dir(&self.dir).unwrap();
        let records = files.filter_map(|file| {
            let path = file.unwrap().path();
            let is_record = path.extension().is_some_and(|end| end == "sent");
            is_record.then(|| std::fs::read(path).unwrap())
        });
        records.collect()
    }
}

/// One end of a relayed connection.
trait End: Read + Write + Send + Sized + 'static {
    fn twin(&self) -> Self;
    fn close(&self);
}

impl End for TcpStream {
    fn twin(&self) -> Self {
        self.set_nodelay(true).unwrap();
        self.try_clone().unwrap()
    }
    fn close(&self) {
        drop(self.shutdown(Shutdown::Both));
    }
}

impl End for UnixStream {
    fn twin(&self) -> Self {
        self.try_clone().unwrap()
    }
    fn close(&self) {
        drop(self.shutdown(Shutdown::Both));
    }
}

/// What the process does; its arguments as [`Relay::start`] gives them.
pub(crate) fn run(arguments: &[&str]) {
    let [listen, to, millis, dir] = arguments else {
        panic!("not a relay: {arguments:?}");
    };
    let delay = Duration::from_millis(millis.parse().unwrap());
    let dir = Path::new(dir);
    let passed = Passed::default();
    cut_when_told(dir.join("cut"), Arc::clone(&passed));
    let up = || println!("relay is there");
    match listen.strip_prefix("unix:") {
        Some(path) => {
            let listener = UnixListener::bind(path).unwrap();
            up();
            for (number, taken) in listener.incoming().enumerate() {
                pass(taken.unwrap(), to, delay, dir, number, &passed);
            }
        }
        None => {
            let listener = TcpListener::bind(listen).unwrap();
            up();
            for (number, taken) in listener.incoming().enumerate() {
                pass(taken.unwrap(), to, delay, dir, number, &passed);
            }
        }
    }
}

/// Where the node of each connection that was passed on is.
type Passed = Arc<Mutex<Vec<TcpStream>>>;

/// Waits for the word to cut, which is a file.
fn cut_when_told(file: PathBuf, passed: Passed) {
    thread::spawn(move || {
        loop {
            thread::sleep(Duration::from_millis(10));
            if file.exists() {
                for node in passed.lock().unwrap().drain(..) {
                    node.close();
                }
                std::fs::remove_file(&file).unwrap();
            }
        }
    });
}

fn pass<E: End>(caller: E, to: &str, delay: Duration, dir: &Path, number: usize, passed: &Passed) {
    let Ok(node) = TcpStream::connect(to) else {
        return caller.close();
    };
    passed.lock().unwrap().push(node.twin());
    let record = std::fs::File::create(dir.join(format!("{number}.sent"))).unwrap();
    let spoil = dir.join("spoil");
    carry(caller.twin(), node.twin(), delay, Some((record, spoil)));
    carry(node, caller, delay, None);
}

/// Carries bytes one way: what was read goes on after the delay, however much is read meanwhile.
fn carry<F: End, T: End>(
    mut from: F,
    mut to: T,
    delay: Duration,
    mut record: Option<(std::fs::File, PathBuf)>,
) {
    let (send, arrive) = mpsc::channel::<(Instant, Vec<u8>)>();
    thread::spawn(move || {
        let mut buffer = vec![0; 64 * 1024];
        loop {
            let read = match from.read(&mut buffer) {
                Ok(0) => break,
                Ok(read) => read,
                Err(why) if why.kind() == ErrorKind::Interrupted => continue,
                Err(_) => break,
            };
            let mut bytes = buffer[..read].to_vec();
            if let Some((file, spoil)) = &mut record {
                file.write_all(&bytes).unwrap();
                if spoil.exists() && std::fs::remove_file(spoil).is_ok() {
                    bytes[0] ^= 0x40;
                }
            }
            if send.send((Instant::now(), bytes)).is_err() {
                break;
            }
        }
    });
    thread::spawn(move || {
        for (came, bytes) in arrive {
            let due = came + delay.mul_f64(0.75 + fastrand::f64() / 2.0);
            thread::sleep(due.saturating_duration_since(Instant::now()));
            if to.write_all(&bytes).is_err() {
                break;
            }
        }
        to.close();
    });
}
