//! A name with several addresses, as an orchestrator gives it to the nodes of a service: whoever dials
//! it goes on to the next address when one does not answer.

use std::net::{Ipv4Addr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

const QUERY: usize = 12;
const TYPE_A: u16 = 1;

/// A name server on loopback for one name; it ends with this.
pub(crate) struct Names {
    port: u16,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Names {
    /// Answers every question for an address with these, in this order.
    pub(crate) fn of(addresses: Vec<Ipv4Addr>) -> Self {
        let socket = UdpSocket::bind(("127.0.0.1", 0)).unwrap();
        socket
            .set_read_timeout(Some(Duration::from_millis(50)))
            .unwrap();
        let port = socket.local_addr().unwrap().port();
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            let mut buffer = [0; 512];
            while !stopped.load(Ordering::Relaxed) {
                let Ok((length, from)) = socket.recv_from(&mut buffer) else {
                    continue;
                };
                if let Some(answer) = answer(&buffer[..length], &addresses) {
                    // A resolver that does not get it asks again.
                    drop(socket.send_to(&answer, from));
                }
            }
        });
        Self {
            port,
            stop,
            thread: Some(thread),
        }
    }

    /// The target of a gRPC client for that name and this port.
    pub(crate) fn target(&self, port: u16) -> String {
        format!("dns://127.0.0.1:{}/nodes.example:{port}", self.port)
    }
}

impl Drop for Names {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}

/// The answer to a query of one question (RFC 1035, 4.1): the addresses, or none of another type.
fn answer(query: &[u8], addresses: &[Ipv4Addr]) -> Option<Vec<u8>> {
    let labels = query.get(QUERY..)?;
    let name = labels.iter().position(|byte| *byte == 0)? + 1;
    let question = query.get(QUERY..QUERY + name + 4)?;
    let kind = u16::from_be_bytes([question[name], question[name + 1]]);
    let addresses = if kind == TYPE_A { addresses } else { &[] };
    let mut answer = query[..2].to_vec();
    // A response, recursion desired and available, no error; one question.
    answer.extend([0x81, 0x80, 0, 1]);
    answer.extend(u16::try_from(addresses.len()).ok()?.to_be_bytes());
    answer.extend([0; 4]);
    answer.extend(question);
    for address in addresses {
        // The name of the question, type A, class IN, a minute to live, four bytes.
        answer.extend([0xc0, 0x0c, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4]);
        answer.extend(address.octets());
    }
    Some(answer)
}
