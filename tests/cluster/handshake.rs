//! Strangers at the peer port: each is refused with one clear line, and the cluster goes on.

use super::drive::{Driver, Load, doors};
use super::fleet::{Fleet, SECRET, Spec, names};
use super::process::eventually;
use super::relay::Relay;
use super::scene::Scene;
use centripeta_cluster::HASH_ID;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

const NO_DELAY: Duration = Duration::ZERO;

/// A greeting, written byte by byte: what goes over the wire, without the code that is tested.
struct Greeting {
    cluster: u128,
    protocol: u8,
    secret: bool,
}

impl Greeting {
    fn bytes(&self) -> Vec<u8> {
        let text = |text: &str| [&[text.len() as u8][..], text.as_bytes()].concat();
        let slots = [&[251][..], &4096u16.to_le_bytes()].concat();
        let features = match self.secret {
            true => [vec![1], text("secret")].concat(),
            false => vec![0],
        };
        let cluster = [&[254][..], &self.cluster.to_le_bytes()].concat();
        [
            cluster,
            // Recovery, node, name, incarnation, boot, class, link.
            vec![0, 77],
            text("stranger"),
            vec![1, 99, 0, 1],
            vec![self.protocol, self.protocol],
            features,
            slots,
            text(HASH_ID),
            // The hash of its routes, build, no address.
            vec![0],
            text("0.0.0"),
            vec![0],
            vec![7; 32],
        ]
        .concat()
    }
}

/// A frame of the handshake.
fn frame(body: &[u8]) -> Vec<u8> {
    let length = u16::try_from(body.len()).unwrap();
    [b"CPP1", &length.to_le_bytes()[..], body].concat()
}

/// Sends these bytes to the node behind a relay, and reads until it hangs up. Gives what came back.
fn knock(door: &Path, bytes: &[u8]) -> Vec<u8> {
    let mut stream = UnixStream::connect(door).unwrap();
    stream
        .set_read_timeout(Some(Duration::from_secs(5)))
        .unwrap();
    // It may hang up before it has read all.
    drop(stream.write_all(bytes));
    let mut back = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        match stream.read(&mut buffer) {
            Ok(0) => break,
            Ok(read) => back.extend_from_slice(&buffer[..read]),
            Err(why) if why.kind() == std::io::ErrorKind::ConnectionReset => break,
            Err(why) => panic!("it does not hang up: {why}"),
        }
    }
    back
}

fn refusals(fleet: &mut Fleet, node: usize, part: &str) -> usize {
    let said = fleet.process(node).said();
    let of = |line: &&String| line.contains("a link is refused") && line.contains(part);
    said.iter().filter(of).count()
}

/// How many links a node has refused: lines of the log that repeat are not written again.
fn refused(fleet: &Fleet, node: usize) -> u64 {
    let page = fleet.page(node, "/metrics");
    let of = page
        .lines()
        .filter(|line| line.starts_with("centripeta_cluster_refused_links_total{"));
    let counts = of.filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok());
    counts.sum()
}

/// What is done is counted once, and there is a line that says why.
fn refused_once(fleet: &mut Fleet, node: usize, part: &str, act: impl FnOnce()) {
    let before = refused(fleet, node);
    act();
    eventually(&format!("a refusal with {part:?}"), || {
        (refused(fleet, node) > before).then_some(())
    });
    assert_eq!(refused(fleet, node), before + 1, "{part}");
    eventually(&format!("a line with {part:?}"), || {
        (refusals(fleet, node, part) > 0).then_some(())
    });
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn strangers_at_the_peer_port_are_refused_with_a_line_each_and_no_event_fails() {
    let Some(mut scene) = Scene::begin("strangers at the peer port") else {
        return;
    };
    let driver = scene.load(&[0, 1, 2]).await;
    let fleet = &mut *scene.fleet;
    let cluster = fleet.json(0, &["cluster", "status"]).unwrap();
    let cluster = u128::from_str_radix(cluster["cluster"].as_str().unwrap(), 16).unwrap();
    let door = fleet.dir.path().join("door.sock");
    let listen = format!("unix:{}", door.display());
    let _relay = Relay::start(
        fleet,
        0,
        &listen,
        &format!("{}:7946", fleet.net.address(0)),
        NO_DELAY,
    );

    refused_once(fleet, 0, "no greeting of a node", || {
        knock(&door, b"GET / HTTP/1.1\r\nhost: a\r\n\r\n");
    });
    let noise: Vec<u8> = (0..8192u32).map(|n| (n * 31 % 251) as u8).collect();
    refused_once(fleet, 0, "no greeting of a node", || {
        knock(&door, &noise);
    });
    refused_once(fleet, 0, "a frame of 65535 bytes was announced", || {
        knock(&door, b"CPP1\xff\xff");
    });
    refused_once(fleet, 0, "not understood", || {
        knock(&door, &frame(&[0xff; 300]));
    });
    // One that says nothing further is not waited for.
    refused_once(fleet, 0, "handshake not over in 2000 ms", || {
        knock(&door, b"CPP1\x40\x00half");
    });
    let good = Greeting {
        cluster,
        protocol: 1,
        secret: true,
    };
    let old = Greeting {
        protocol: 0,
        ..good
    };
    let spoken = "this node speaks 1 to 1, the peer 0 to 0";
    refused_once(fleet, 0, spoken, || {
        knock(&door, &frame(&old.bytes()));
    });
    let foreign = Greeting {
        cluster: u128::MAX,
        ..good
    };
    let other = format!("the peer of {:032x}", u128::MAX);
    refused_once(fleet, 0, &other, || {
        knock(&door, &frame(&foreign.bytes()));
    });
    let plain = Greeting {
        secret: false,
        ..good
    };
    refused_once(fleet, 0, "cluster.secret set; set it on both", || {
        knock(&door, &frame(&plain.bytes()));
    });
    // A proof of nothing.
    let unproved = [frame(&good.bytes()), frame(&[5; 32])].concat();
    let mut back = Vec::new();
    refused_once(fleet, 0, "wrong secret", || {
        back = knock(&door, &unproved);
    });
    // The stranger got a greeting and no proof.
    let greeting = usize::from(u16::from_le_bytes([back[4], back[5]]));
    assert_eq!(back.len(), 6 + greeting, "a stranger was given a proof");
    // Its own greeting, sent back to it.
    refused_once(fleet, 0, "sends its greeting back", || {
        knock(&door, &back);
    });
    driver.round().await;
    driver.stop().await.is_intact("strangers");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_recorded_handshake_opens_nothing_and_a_spoiled_frame_ends_its_link_without_a_loss() {
    let Some(_turn) = super::turn("a handshake is replayed") else {
        return;
    };
    let (mut fleet, relays) = relayed(|_| format!("secret = \"{SECRET}\""), |_| {});
    let relay = &relays[0];
    let doors = doors(&fleet, 3);
    let driver = Driver::start(&doors, &[0, 1, 2], Load::default());
    driver.round().await;

    let door = fleet.dir.path().join("door.sock");
    let listen = format!("unix:{}", door.display());
    let behind = format!("{}:7946", fleet.net.address(0));
    let _door = Relay::start(&fleet, 1, &listen, &behind, NO_DELAY);
    let recorded = relay.recorded();
    let whole = recorded.iter().filter(|bytes| bytes.starts_with(b"CPP1"));
    let longest = whole.max_by_key(|bytes| bytes.len()).unwrap();
    refused_once(&mut fleet, 0, "wrong secret", || {
        knock(&door, longest);
    });
    for _ in 0..3 {
        let was = refused(&fleet, 0);
        relay.spoil();
        eventually("the link with the spoiled frame is refused", || {
            (refused(&fleet, 0) > was).then_some(())
        });
        driver.round().await;
    }
    fleet.settled(&[0, 1, 2]);
    driver
        .stop()
        .await
        .is_intact("a replay and three spoiled frames");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_with_another_secret_neither_joins_nor_founds_and_both_sides_say_so() {
    let Some(_turn) = super::turn("another secret") else {
        return;
    };
    let mut fleet = Fleet::prepare(names(1).map(|name| Spec::plain(&name)).collect(), 1);
    fleet.init(0);
    fleet.start(0);
    fleet.settled(&[0]);
    let stranger = fleet.add(Spec {
        guard: "secret = \"not the secret of the others\"".to_owned(),
        ..Spec::plain("b")
    });
    let init = fleet.run(stranger, &["cluster", "init"]);
    assert_eq!(init.status.code(), Some(1), "{init:?}");
    let said = String::from_utf8_lossy(&init.stderr);
    assert!(said.contains("wrong secret"), "{said}");
    fleet.start(stranger);
    eventually("a refusal", || {
        (refusals(&mut fleet, 0, "wrong secret") > 0).then_some(())
    });
    let said = fleet
        .process(stranger)
        .says("no node has registered this one yet");
    assert!(said.contains("wrong secret"), "{said}");
    fleet.settled(&[0]);
}

/// A fleet whose links all pass relays.
fn relayed(guard: impl Fn(&str) -> String, prepare: impl Fn(&Fleet)) -> (Fleet, Vec<Relay>) {
    let specs = names(3).enumerate().map(|(node, name)| Spec {
        advertise: format!("10.77.0.{}:7950", node + 1),
        guard: guard(&name),
        ..Spec::plain(&name)
    });
    let mut fleet = Fleet::prepare(specs.collect(), 0);
    let relay = |node| {
        let address = fleet.net.address(node);
        let (before, behind) = (format!("{address}:7950"), format!("{address}:7946"));
        Relay::start(&fleet, node, &before, &behind, NO_DELAY)
    };
    let relays = (0..3).map(relay).collect();
    prepare(&fleet);
    fleet.init(0);
    (0..3).for_each(|node| fleet.start(node));
    fleet.settled(&[0, 1, 2]);
    (fleet, relays)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn secrets_in_files_are_rotated_on_the_living_cluster_without_a_failed_event() {
    let Some(_turn) = super::turn("secrets are rotated") else {
        return;
    };
    let new = "another secret of sixteen bytes and more";
    let guard = |_: &str| "secret = [\"file:one\", \"file:two\"]".to_owned();
    let set = |fleet: &Fleet, node, first: &str, second: &str| {
        std::fs::write(fleet.home(node).join("one"), first).unwrap();
        std::fs::write(fleet.home(node).join("two"), second).unwrap();
    };
    let (mut fleet, relays) = relayed(guard, |fleet| {
        (0..3).for_each(|node| set(fleet, node, SECRET, SECRET));
    });
    let doors = doors(&fleet, 3);
    let driver = Driver::start(&doors, &[0, 1, 2], Load::default());
    driver.round().await;
    for (first, second) in [(SECRET, new), (new, SECRET), (new, new)] {
        for (node, relay) in relays.iter().enumerate() {
            set(&fleet, node, first, second);
            // Files are read when a link opens, and at most once a second.
            tokio::time::sleep(Duration::from_millis(1100)).await;
            relay.cut();
            driver.round().await;
        }
    }
    fleet.settled(&[0, 1, 2]);
    driver.stop().await.is_intact("secrets rotated");
    // The old one opens nothing any more.
    set(&fleet, 2, SECRET, SECRET);
    assert_eq!(fleet.stop(2), Some(0));
    fleet.start(2);
    fleet.process(2).says("wrong secret");
}

type Authority = CertifiedIssuer<'static, KeyPair>;

/// An authority of a cluster's own.
fn authority() -> Authority {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

/// The authorities that a node trusts.
fn trust(authorities: &[&Authority], folder: &Path) {
    let all: Vec<String> = authorities.iter().map(|it| it.pem()).collect();
    std::fs::write(folder.join("ca.pem"), all.concat()).unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn certificates_of_another_authority_replace_the_old_on_the_living_cluster_without_a_failed_event()
 {
    let Some(_turn) = super::turn("certificates are renewed") else {
        return;
    };
    let (old, new) = (authority(), authority());
    let (mut fleet, relays) = relayed(
        |_| CERTIFICATES.to_owned(),
        |fleet| (0..3).for_each(|node| certify(&old, fleet.name(node), &fleet.home(node))),
    );
    let doors = doors(&fleet, 3);
    let driver = Driver::start(&doors, &[0, 1, 2], Load::default());
    driver.round().await;
    for step in 0..3 {
        for (node, relay) in relays.iter().enumerate() {
            let home = fleet.home(node);
            match step {
                0 => trust(&[&old, &new], &home),
                1 => {
                    certify(&new, fleet.name(node), &home);
                    trust(&[&old, &new], &home);
                }
                _ => trust(&[&new], &home),
            }
            // Links that are open do not mind.
            driver.round().await;
            // Files are read when a link opens, and at most once a second.
            tokio::time::sleep(Duration::from_millis(1100)).await;
            relay.cut();
            driver.round().await;
        }
    }
    fleet.settled(&[0, 1, 2]);
    let report = driver.stop().await;
    eprintln!("certificates renewed: {}", report.line());
    report.check(false);
    assert_eq!(report.failed().len(), 0, "{:?}", report.failed());
    // The old one opens nothing any more.
    certify(&old, fleet.name(2), &fleet.home(2));
    let before = refused(&fleet, 0) + refused(&fleet, 1);
    assert_eq!(fleet.stop(2), Some(0));
    fleet.start(2);
    eventually("the old certificate is refused", || {
        (refused(&fleet, 0) + refused(&fleet, 1) > before).then_some(())
    });
}

const CERTIFICATES: &str = "tls = { cert = \"cert.pem\", key = \"key.pem\", ca = \"ca.pem\" }";

/// A node's certificate from an authority, in a folder, and the authority as the one that it trusts.
fn certify(by: &Authority, name: &str, folder: &Path) {
    let key = KeyPair::generate().unwrap();
    let params = CertificateParams::new([name.to_owned()]).unwrap();
    let certificate = params.signed_by(&key, by).unwrap();
    std::fs::write(folder.join("cert.pem"), certificate.pem()).unwrap();
    std::fs::write(folder.join("key.pem"), key.serialize_pem()).unwrap();
    std::fs::write(folder.join("ca.pem"), by.pem()).unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn links_by_certificates_take_events_and_refuse_a_certificate_of_another_name() {
    let Some(_turn) = super::turn("links by certificates") else {
        return;
    };
    let authority = authority();
    let spec = |name: String| Spec {
        guard: CERTIFICATES.to_owned(),
        ..Spec::plain(&name)
    };
    let mut fleet = Fleet::prepare(names(3).map(spec).collect(), 1);
    for node in 0..3 {
        certify(&authority, fleet.name(node), &fleet.home(node));
    }
    fleet.init(0);
    (0..3).for_each(|node| fleet.start(node));
    fleet.settled(&[0, 1, 2]);
    let doors = doors(&fleet, 3);
    let driver = Driver::start(&doors, &[0, 1, 2], Load::default());
    driver.round().await;
    let stranger = fleet.add(spec("d".to_owned()));
    certify(&authority, "somebody-else", &fleet.home(stranger));
    fleet.start(stranger);
    eventually("the certificate is refused", || {
        (0..3).find(|node| {
            refusals(&mut fleet, *node, "somebody-else") > 0
                || refusals(&mut fleet, *node, "certificate") > 0
        })
    });
    driver.round().await;
    driver.stop().await.is_intact("links by certificates");
}
