#![allow(clippy::unwrap_used)]

use std::path::Path;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use tokio::io::{DuplexStream, duplex};

use super::*;
use crate::{BootId, ClusterId, Incarnation, Member};

const OLD: &str = "the old secret of the cluster";
const NEW: &str = "the new secret of the cluster";

fn node(id: u32) -> Identity {
    let member = Member {
        id: NodeId(id),
        incarnation: Incarnation(1),
    };
    let boot = BootId(1000 + u128::from(id));
    Identity::new(ClusterId(7), member, boot, &format!("node-{id}"))
}

fn secret(texts: &[&str]) -> Security {
    let secrets = texts
        .iter()
        .map(|text| SecretSource::Text((*text).to_owned()));
    Security::new(SecurityConfig {
        secrets: secrets.collect(),
        ..SecurityConfig::default()
    })
    .unwrap()
}

fn over(stream: DuplexStream, loopback: bool) -> Connection {
    Connection {
        stream: Box::new(stream),
        peer: "10.0.0.9:7946".to_owned(),
        loopback,
    }
}

type Shakes = (Result<Shaken, LinkError>, Result<Shaken, LinkError>);

async fn shake(dialler: (&Identity, &Security), listener: (&Identity, &Security)) -> Shakes {
    let (near, far) = duplex(64 * 1024);
    let meant = Some(NodeId(2));
    tokio::join!(
        dial(
            over(near, true),
            dialler.0,
            dialler.1,
            Class::Data,
            5,
            meant
        ),
        listen(over(far, true), listener.0, listener.1),
    )
}

fn texts(shakes: Shakes) -> [String; 2] {
    [shakes.0, shakes.1].map(|side| side.map_or_else(|why| why.to_string(), |_| "open".to_owned()))
}

#[tokio::test(start_paused = true)]
async fn two_nodes_of_a_cluster_learn_who_the_other_is() {
    let security = secret(&[OLD]);
    let (dialler, listener) = shake((&node(1), &security), (&node(2), &security)).await;
    let (dialler, listener) = (dialler.unwrap(), listener.unwrap());
    assert_eq!((dialler.protocol, listener.protocol), (1, 1));
    assert_eq!(dialler.hello.member(), node(2).member);
    assert_eq!(listener.hello.member(), node(1).member);
    assert_eq!(
        (listener.hello.class, listener.hello.link),
        (Class::Data, 5)
    );
}

#[tokio::test(start_paused = true)]
async fn the_highest_version_that_both_speak_is_taken() {
    let (security, mut newer, mut older) = (secret(&[]), node(1), node(2));
    (newer.protocols, older.protocols) = (2..=4, 1..=3);
    let (dialler, listener) = shake((&newer, &security), (&older, &security)).await;
    assert_eq!(
        (dialler.unwrap().protocol, listener.unwrap().protocol),
        (3, 3)
    );
}

#[tokio::test(start_paused = true)]
async fn each_mismatch_is_refused_by_both_sides_with_both_values() {
    let plain = secret(&[]);
    let change = |what: fn(&mut Identity)| {
        let mut changed = node(2);
        what(&mut changed);
        changed
    };
    let table: [(Identity, &str); 6] = [
        (
            change(|node| node.protocols = 2..=3),
            "protocol: this node speaks 1 to 1, the peer 2 to 3",
        ),
        (
            change(|node| node.cluster = ClusterId(8)),
            "cluster: this node is of 00000000000000000000000000000007, the peer of \
             00000000000000000000000000000008",
        ),
        (
            change(|node| node.member.id = NodeId(3)),
            "node 2 was dialled and node 3 answered",
        ),
        (
            change(|node| node.boot = BootId(1001)),
            "the peer is this process itself",
        ),
        (
            change(|node| node.member.id = NodeId(0)),
            "a node that has not joined may only ask",
        ),
        (
            change(|node| (node.member.id, node.boot) = (NodeId(1), BootId(5))),
            "node 1 at incarnation 1 is process 000000000000000000000000000003e9",
        ),
    ];
    for (listener, expected) in table {
        let [dialler, _] = texts(shake((&node(1), &plain), (&listener, &plain)).await);
        assert!(dialler.starts_with(expected), "{dialler}");
    }
    // The listener tells its own side of it.
    let stranger = change(|node| node.cluster = ClusterId(8));
    let [_, listener] = texts(shake((&node(1), &plain), (&stranger, &plain)).await);
    assert!(listener.starts_with("cluster: this node is of 00000000000000000000000000000008"));
}

#[tokio::test(start_paused = true)]
async fn a_node_that_missed_a_recovery_is_refused() {
    let (plain, mut recovered) = (secret(&[]), node(1));
    recovered.recovery = 1;
    let [dialler, _] = texts(shake((&recovered, &plain), (&node(2), &plain)).await);
    assert!(dialler.starts_with("recovery: this node is at 1, the peer at 0"));
}

#[tokio::test(start_paused = true)]
async fn a_wrong_secret_and_one_only_on_one_side_are_refused() {
    let (ours, other, none) = (secret(&[OLD]), secret(&[NEW]), secret(&[]));
    let sides = texts(shake((&node(1), &ours), (&node(2), &other)).await);
    for side in sides {
        assert!(side.starts_with("wrong secret"), "{side}");
    }
    let [dialler, listener] = texts(shake((&node(1), &ours), (&node(2), &none)).await);
    assert_eq!(
        dialler,
        "this node, but not the peer, has cluster.secret set; set it on both"
    );
    assert_eq!(
        listener,
        "the peer, but not this node, has cluster.secret set; set it on both"
    );
}

#[tokio::test(start_paused = true)]
async fn links_open_in_both_directions_at_every_step_of_a_rotation() {
    let steps: [&[&str]; 4] = [&[OLD], &[OLD, NEW], &[NEW, OLD], &[NEW]];
    for pair in steps.windows(2) {
        for (from, to) in [(pair[0], pair[1]), (pair[1], pair[0])] {
            let (from, to) = (secret(from), secret(to));
            let shakes = shake((&node(1), &from), (&node(2), &to)).await;
            assert_eq!(texts(shakes), ["open", "open"]);
        }
    }
    let shakes = shake((&node(1), &secret(&[OLD])), (&node(2), &secret(&[NEW]))).await;
    assert_ne!(texts(shakes)[0], "open", "the first and the last do not");
}

/// What a listener says to these frames, which are all that its peer ever sends.
async fn say(frames: &[Vec<u8>], security: &Security) -> LinkError {
    let (mut near, far) = duplex(64 * 1024);
    let listener = node(2);
    let listening = listen(over(far, true), &listener, security);
    let saying = async {
        for frame in frames {
            near.write_all(frame).await.unwrap();
        }
        near.shutdown().await.unwrap();
        let mut rest = Vec::new();
        let _ = near.read_to_end(&mut rest).await;
        rest
    };
    let (listened, _) = tokio::join!(listening, saying);
    listened.unwrap_err()
}

fn framed(body: &[u8]) -> Vec<u8> {
    let length = (body.len() as u16).to_le_bytes();
    [&MAGIC[..], &length, body].concat()
}

#[tokio::test(start_paused = true)]
async fn a_recorded_handshake_does_not_pass_again() {
    let security = secret(&[OLD]);
    // Someone in the middle writes down what the dialler says.
    let (near, mut tap) = duplex(64 * 1024);
    let (mut onward, far) = duplex(64 * 1024);
    let (dialler, listener) = (node(1), node(2));
    let middle = async {
        let hello = receive(&mut tap).await.unwrap();
        send(&mut onward, &hello).await.unwrap();
        let answer = receive(&mut onward).await.unwrap();
        send(&mut tap, &answer).await.unwrap();
        let proof = receive(&mut tap).await.unwrap();
        send(&mut onward, &proof).await.unwrap();
        let answer = receive(&mut onward).await.unwrap();
        send(&mut tap, &answer).await.unwrap();
        [framed(&hello), framed(&proof)]
    };
    let meant = Some(NodeId(2));
    let (dialled, listened, recorded) = tokio::join!(
        dial(
            over(near, true),
            &dialler,
            &security,
            Class::Control,
            1,
            meant
        ),
        listen(over(far, true), &listener, &security),
        middle,
    );
    assert!(
        dialled.is_ok() && listened.is_ok(),
        "passed on unchanged, it passes"
    );
    assert!(matches!(say(&recorded, &security).await, LinkError::Secret));
}

#[tokio::test(start_paused = true)]
async fn a_reflected_greeting_and_a_reflected_proof_are_refused() {
    let security = secret(&[OLD]);
    let dialler = node(1);
    // The far end sends everything back.
    for pretend in [false, true] {
        let (near, mut mirror) = duplex(64 * 1024);
        let reflecting = async {
            let mut hello = Hello::decode(&receive(&mut mirror).await.unwrap()).unwrap();
            if pretend {
                (hello.node, hello.boot) = (NodeId(2), BootId(9));
            }
            send(&mut mirror, &hello.encode()).await.unwrap();
            while let Ok(body) = receive(&mut mirror).await {
                send(&mut mirror, &body).await.unwrap();
            }
        };
        let dialling = dial(
            over(near, true),
            &dialler,
            &security,
            Class::Control,
            1,
            Some(NodeId(2)),
        );
        let dialled = tokio::select! {
            dialled = dialling => dialled,
            () = reflecting => panic!("the dialler hangs up first"),
        };
        let error = dialled.unwrap_err();
        if pretend {
            assert!(matches!(error, LinkError::Secret), "{error}");
        } else {
            assert!(matches!(error, LinkError::Reflected), "{error}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_changed_identity_in_the_middle_breaks_the_proof() {
    let security = secret(&[OLD]);
    let (near, mut tap) = duplex(64 * 1024);
    let (mut onward, far) = duplex(64 * 1024);
    let (dialler, listener) = (node(1), node(2));
    let middle = async {
        let mut hello = Hello::decode(&receive(&mut tap).await.unwrap()).unwrap();
        hello.node = NodeId(3);
        send(&mut onward, &hello.encode()).await.unwrap();
        let answer = receive(&mut onward).await.unwrap();
        send(&mut tap, &answer).await.unwrap();
        let proof = receive(&mut tap).await.unwrap();
        send(&mut onward, &proof).await.unwrap();
        drop((tap, receive(&mut onward).await));
    };
    let (dialled, listened, ()) = tokio::join!(
        dial(
            over(near, true),
            &dialler,
            &security,
            Class::Control,
            1,
            None
        ),
        listen(over(far, true), &listener, &security),
        middle,
    );
    assert!(matches!(dialled.unwrap_err(), LinkError::Secret));
    assert!(matches!(listened.unwrap_err(), LinkError::Secret));
}

#[tokio::test(start_paused = true)]
async fn garbage_lies_about_length_and_half_a_greeting_are_refused_with_one_error_each() {
    let security = secret(&[OLD]);
    let error = say(&[b"GET / HTTP/1.1\r\n\r\n".to_vec()], &security).await;
    assert!(matches!(error, LinkError::NotAPeer), "{error}");
    let lie = [&MAGIC[..], &4097u16.to_le_bytes()].concat();
    let error = say(&[lie], &security).await;
    assert_eq!(
        error.to_string(),
        "a frame of 4097 bytes was announced: at most 4096 are taken"
    );
    let error = say(&[framed(&[0xff; 300])], &security).await;
    assert!(matches!(error, LinkError::Decode(_)), "{error}");
    let hello = framed(&node(1).hello(Class::Data, 1, [1; 32]).encode());
    let error = say(&[hello[..hello.len() / 2].to_vec()], &security).await;
    assert!(matches!(error, LinkError::Closed), "{error}");
}

#[tokio::test(start_paused = true)]
async fn whoever_says_nothing_is_left_after_two_seconds() {
    let security = secret(&[OLD]);
    let (_near, far) = duplex(1024);
    let begun = tokio::time::Instant::now();
    let error = listen(over(far, true), &node(2), &security)
        .await
        .unwrap_err();
    assert!(matches!(error, LinkError::Slow(2000)));
    assert_eq!(begun.elapsed(), HANDSHAKE_TIMEOUT);
}

#[tokio::test(start_paused = true)]
async fn plain_links_stay_on_loopback_unless_the_operator_says_otherwise() {
    let plain = secret(&[]);
    let (_near, far) = duplex(1024);
    let error = listen(over(far, false), &node(2), &plain)
        .await
        .unwrap_err();
    assert_eq!(
        error.to_string(),
        "10.0.0.9:7946 is beyond loopback: set cluster.secret or cluster.tls, or \
         cluster.insecure = true"
    );
    let insecure = Security::new(SecurityConfig {
        insecure: true,
        ..SecurityConfig::default()
    });
    let (_near, far) = duplex(1024);
    let error = listen(over(far, false), &node(2), &insecure.unwrap()).await;
    assert!(matches!(error, Err(LinkError::Slow(_))), "it was let in");
}

fn authority() -> CertifiedIssuer<'static, KeyPair> {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

fn write(
    dir: &Path,
    trusted: &CertifiedIssuer<'static, KeyPair>,
    issuer: &CertifiedIssuer<'static, KeyPair>,
    name: &str,
    expired: bool,
) -> TlsFiles {
    let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
    if expired {
        params.not_before = rcgen::date_time_ymd(2020, 1, 1);
        params.not_after = rcgen::date_time_ymd(2021, 1, 1);
    }
    let key = KeyPair::generate().unwrap();
    let cert = params.signed_by(&key, issuer).unwrap();
    let file = |kind: &str, pem: String| {
        let path = dir.join(format!("{name}-{kind}.pem"));
        std::fs::write(&path, pem).unwrap();
        path
    };
    TlsFiles {
        cert: file("cert", cert.pem()),
        key: file("key", key.serialize_pem()),
        ca: file("ca", trusted.pem()),
    }
}

fn tls(files: TlsFiles, secrets: &[&str]) -> Security {
    let secrets = secrets
        .iter()
        .map(|text| SecretSource::Text((*text).to_owned()));
    Security::new(SecurityConfig {
        secrets: secrets.collect(),
        tls: Some(files),
        insecure: false,
    })
    .unwrap()
}

#[tokio::test]
async fn certificates_of_the_cluster_open_a_link_and_others_do_not() {
    let dir = tempfile::tempdir().unwrap();
    let (ours, other) = (authority(), authority());
    let good = |name| write(dir.path(), &ours, &ours, name, false);
    let listener = tls(good("node-2"), &[]);
    let table = [
        ("node-1", &ours, false, None),
        ("node-1", &other, false, Some("badsignature")),
        ("node-1", &ours, true, Some("expired")),
        (
            "node-9",
            &ours,
            false,
            Some("not made out to node \"node-1\""),
        ),
    ];
    for (name, issuer, expired, expected) in table {
        let files = write(dir.path(), &ours, issuer, name, expired);
        let dialler = tls(files, &[]);
        let (dialled, listened) = shake((&node(1), &dialler), (&node(2), &listener)).await;
        match expected {
            None => {
                assert!(
                    dialled.is_ok() && listened.is_ok(),
                    "{dialled:?} {listened:?}"
                );
            }
            Some(expected) => {
                let error = listened.unwrap_err().to_string().to_lowercase();
                assert!(
                    error.starts_with("tls: ") && error.contains(expected),
                    "{error}"
                );
            }
        }
    }
    // And the dialler trusts no other authority either, nor a certificate of another node.
    let dialler = tls(good("node-1"), &[]);
    let stranger = tls(write(dir.path(), &ours, &other, "node-2", false), &[]);
    let (dialled, _) = shake((&node(1), &dialler), (&node(2), &stranger)).await;
    assert!(matches!(dialled.unwrap_err(), LinkError::Tls(_)));
    let posing = tls(good("node-3"), &[]);
    let (dialled, _) = shake((&node(1), &dialler), (&node(2), &posing)).await;
    let error = dialled.unwrap_err().to_string();
    assert!(error.contains("not made out to node \"node-2\""), "{error}");
}

#[tokio::test]
async fn with_both_set_certificates_and_secret_must_pass() {
    let dir = tempfile::tempdir().unwrap();
    let ours = authority();
    let files = |name| write(dir.path(), &ours, &ours, name, false);
    let (one, two) = (tls(files("node-1"), &[OLD]), tls(files("node-2"), &[OLD]));
    let shakes = shake((&node(1), &one), (&node(2), &two)).await;
    assert_eq!(texts(shakes), ["open", "open"]);
    let wrong = tls(files("node-1"), &[NEW]);
    let (dialled, listened) = shake((&node(1), &wrong), (&node(2), &two)).await;
    assert!(dialled.is_err());
    assert!(matches!(listened.unwrap_err(), LinkError::Secret));
    // Whoever speaks no TLS gets no further.
    let (dialled, listened) = shake((&node(1), &secret(&[OLD])), (&node(2), &two)).await;
    assert!(dialled.is_err());
    assert!(matches!(listened.unwrap_err(), LinkError::Tls(_)));
}

#[test]
fn files_that_hold_no_certificate_are_named() {
    let dir = tempfile::tempdir().unwrap();
    let ours = authority();
    let mut files = write(dir.path(), &ours, &ours, "node-1", false);
    files.ca = dir.path().join("gone.pem");
    let error = Security::new(SecurityConfig {
        tls: Some(files),
        ..SecurityConfig::default()
    });
    let error = error.unwrap_err().to_string();
    assert!(
        error.starts_with("cluster.tls.ca: ") && error.contains("gone.pem"),
        "{error}"
    );
}
