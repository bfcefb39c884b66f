//! A DNS server on loopback in place of Docker's: a name that several containers have resolves to the
//! address of each, in an order that changes from one question to the next.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use tokio::net::UdpSocket;

/// `A`, in the class `IN`.
const ADDRESS: [u8; 4] = [0, 1, 0, 1];

/// Names, and the addresses behind each.
pub(crate) type Names = BTreeMap<&'static str, Vec<Ipv4Addr>>;

/// Answers until the runtime of the test ends; gives its port.
pub(crate) async fn serve(names: Names) -> u16 {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let port = socket.local_addr().unwrap().port();
    tokio::spawn(async move {
        let mut buffer = [0; 1024];
        let mut asked = 0;
        while let Ok((length, from)) = socket.recv_from(&mut buffer).await {
            if let Some(reply) = answer(&buffer[..length], &names, asked) {
                // Whoever has gone asks no more.
                drop(socket.send_to(&reply, from).await);
            }
            asked += 1;
        }
    });
    port
}

/// The answer to a query, turned by so many places; `None` for what is no query.
fn answer(query: &[u8], names: &Names, turn: usize) -> Option<Vec<u8>> {
    let mut labels = Vec::new();
    let mut at = 12;
    loop {
        let length = usize::from(*query.get(at)?);
        at += 1;
        if length == 0 {
            break;
        }
        labels.push(std::str::from_utf8(query.get(at..at + length)?).ok()?);
        at += length;
    }
    let kind = query.get(at..at + 4)?;
    let known = names.get(&*labels.join(".").to_lowercase());
    let mut addresses = known.cloned().unwrap_or_default();
    if kind != ADDRESS {
        addresses.clear();
    }
    if !addresses.is_empty() {
        let turn = turn % addresses.len();
        addresses.rotate_left(turn);
    }
    let count = u8::try_from(addresses.len()).ok()?;
    // A reply, recursion wanted and there; "no such name" where it is not one of ours.
    let code = if known.is_some() { 0 } else { 3 };
    let mut reply = query[..2].to_vec();
    reply.extend([0x81, 0x80 | code, 0, 1, 0, count, 0, 0, 0, 0]);
    reply.extend(&query[12..at + 4]);
    for address in addresses {
        // The name asked for, for a second.
        reply.extend([0xc0, 12]);
        reply.extend(ADDRESS);
        reply.extend([0, 0, 0, 1, 0, 4]);
        reply.extend(address.octets());
    }
    Some(reply)
}
