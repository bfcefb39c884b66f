//! A node that stands still for a while, as a virtual machine does, finds calls that were cancelled
//! before it looked at them: the connection and the streams on it survive.

use crate::support::client::frame;
use crate::support::{Client, TestNode, actor, path, small_request, soon};
use centripeta::event::EventKind;
use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command, Stdio};
use std::time::Duration;
use tokio::net::TcpStream;

/// Makes this program the node, with so much in flight at most.
const CHILD: &str = "CENTRIPETA_TEST_STALLS";

#[test]
#[ignore = "the process of a test beside it"]
fn a_node_in_a_process_of_its_own() {
    let Ok(in_flight) = std::env::var(CHILD) else {
        return;
    };
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let node = runtime.block_on(TestNode::start_with(actor::router(), |config| {
        config.limits.in_flight = in_flight.parse().unwrap();
    }));
    println!("\nADDRESS {}", node.address());
    // The parent's end closes our input.
    let mut nothing = Vec::new();
    std::io::stdin().read_to_end(&mut nothing).unwrap();
}

/// Ends with the test.
struct Process(Child);

impl Process {
    fn start(in_flight: usize) -> (Self, std::net::SocketAddr) {
        let test = "conformance::stall::a_node_in_a_process_of_its_own";
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", test, "--ignored", "--nocapture"])
            .env(CHILD, in_flight.to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let address = lines.map(Result::unwrap).find_map(|line| {
            line.strip_prefix("ADDRESS ")
                .map(|address| address.parse().unwrap())
        });
        (Self(child), address.unwrap())
    }

    fn signal(&self, signal: &str) {
        let line = format!("kill -{signal} {}", self.0.id());
        assert!(
            Command::new("sh")
                .args(["-c", &line])
                .status()
                .unwrap()
                .success()
        );
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[tokio::test]
async fn calls_cancelled_while_the_node_stood_still_end_neither_the_connection_nor_its_streams() {
    let (process, address) = Process::start(600);
    let client = Client::new(TcpStream::connect(address).await.unwrap()).await;
    let mut stream = client.open(&path(EventKind::Stream), &[]).await.unwrap();
    let body = small_request(EventKind::Stream, "feed:1");
    stream.send(frame(false, &body), true).await;
    soon("the first message", stream.next()).await.unwrap();

    let body = small_request(EventKind::Rpc, "a");
    for _ in 0..3 {
        process.signal("STOP");
        for _ in 0..500 {
            let mut call = client.open(&path(EventKind::Rpc), &[]).await.unwrap();
            call.send(frame(false, &body), true).await;
            call.cancel();
        }
        process.signal("CONT");
        // On the very same connection.
        let reply = soon("an answer", client.call(&path(EventKind::Rpc), &[], &body)).await;
        assert_eq!(reply.status, Some(0), "{reply:?}");
    }
    let more = tokio::time::timeout(Duration::from_millis(50), stream.next()).await;
    assert!(more.is_err(), "the stream is open and silent: {more:?}");
}

#[tokio::test]
async fn more_cancelled_calls_than_may_be_in_flight_end_the_connection() {
    // The other bound: it is the configured number that the transport takes, none of its own.
    let (process, address) = Process::start(100);
    let client = Client::new(TcpStream::connect(address).await.unwrap()).await;
    let body = small_request(EventKind::Rpc, "a");
    for (cancelled, survives) in [(90, true), (500, false)] {
        process.signal("STOP");
        for _ in 0..cancelled {
            let mut call = client.open(&path(EventKind::Rpc), &[]).await.unwrap();
            call.send(frame(false, &body), true).await;
            call.cancel();
        }
        process.signal("CONT");
        let reply = soon("an answer", client.call(&path(EventKind::Rpc), &[], &body)).await;
        assert_eq!(reply.status == Some(0), survives, "{cancelled}: {reply:?}");
    }
}
