//! Certificates that are renewed while links are open: those stay, new ones use the new.

use std::path::Path;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};

use super::*;
use crate::peer::{SecurityConfig, TlsFiles};

type Authority = CertifiedIssuer<'static, KeyPair>;

/// Longer than files that were read are believed.
const REREAD: Duration = Duration::from_millis(1100);

fn authority() -> Authority {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

/// The files of a node, in a folder of its name.
fn files(dir: &Path, node: u32) -> TlsFiles {
    let dir = dir.join(format!("node-{node}"));
    std::fs::create_dir_all(&dir).unwrap();
    TlsFiles {
        cert: dir.join("cert.pem"),
        key: dir.join("key.pem"),
        ca: dir.join("ca.pem"),
    }
}

fn certify(by: &Authority, node: u32, files: &TlsFiles) {
    let key = KeyPair::generate().unwrap();
    let params = CertificateParams::new([format!("node-{node}")]).unwrap();
    let certificate = params.signed_by(&key, by).unwrap();
    std::fs::write(&files.cert, certificate.pem()).unwrap();
    std::fs::write(&files.key, key.serialize_pem()).unwrap();
}

fn trust(authorities: &[&Authority], files: &TlsFiles) {
    let all: Vec<String> = authorities.iter().map(|it| it.pem()).collect();
    std::fs::write(&files.ca, all.concat()).unwrap();
}

fn node(net: &Arc<Net>, dir: &Path, id: u32) -> Node {
    let config = LinkConfig {
        security: SecurityConfig {
            tls: Some(files(dir, id)),
            ..SecurityConfig::default()
        },
        ..LinkConfig::default()
    };
    Node::with(net, identity(id, 1, 1000 + u128::from(id)), config)
}

/// A request goes through on a link of this class, and is answered.
async fn passes(from: &Node, to: u32, at: &mut Node, class: Class) {
    let answer = from.send(to, class, b"x").unwrap();
    let request = timeout(LONG, at.requests.recv()).await.unwrap().unwrap();
    request.reply(Bytes::new());
    assert!(answer.wait().await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn certificates_are_renewed_under_open_links_and_new_links_use_the_new_ones() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let (old, new) = (authority(), authority());
    for id in 1..=3 {
        certify(&old, id, &files(dir, id));
        trust(&[&old], &files(dir, id));
    }
    let net = Net::new();
    let (one, mut two) = (node(&net, dir, 1), node(&net, dir, 2));
    let held = one.send(2, Class::Data, b"held").unwrap();
    let request = two.requests.recv().await.unwrap();
    // All trust both, then show the new, then trust it alone.
    for id in 1..=2 {
        trust(&[&old, &new], &files(dir, id));
    }
    tokio::time::sleep(REREAD).await;
    for id in 1..=2 {
        certify(&new, id, &files(dir, id));
    }
    tokio::time::sleep(REREAD).await;
    for id in 1..=2 {
        trust(&[&new], &files(dir, id));
    }
    tokio::time::sleep(REREAD).await;
    // A link of either direction opens: each side shows what the other side trusts now.
    passes(&one, 2, &mut two, Class::Control).await;
    let mut one = one;
    passes(&two, 1, &mut one, Class::Control).await;
    // The link of before has gone on all along.
    request.reply(Bytes::from("held"));
    assert_eq!(held.wait().await.unwrap().payload, "held");
    let view = one.view(2, Class::Data, Direction::Out);
    assert_eq!((view.state, view.reconnects), (LinkState::Up, 0));
    // Who still shows the old one is refused, whatever it trusts.
    trust(&[&old, &new], &files(dir, 3));
    let mut three = node(&net, dir, 3);
    let _waits = three.send(2, Class::Control, b"x").unwrap();
    three.refusal().await;
    until("the other side has noticed", || {
        two.links
            .refused()
            .get("tls")
            .is_some_and(|count| *count > 0)
    })
    .await;
    certify(&new, 3, &files(dir, 3));
    tokio::time::sleep(REREAD).await;
    let answer = three.send(2, Class::Data, b"y").unwrap();
    let served = async {
        loop {
            let request = two.requests.recv().await.unwrap();
            if request.payload() == "y" {
                return request.reply(Bytes::new());
            }
        }
    };
    timeout(Duration::from_secs(60), served).await.unwrap();
    assert!(answer.wait().await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_renewal_that_is_half_written_leaves_the_certificate_of_before_in_use() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let authority = authority();
    for id in 1..=2 {
        certify(&authority, id, &files(dir, id));
        trust(&[&authority], &files(dir, id));
    }
    let net = Net::new();
    let (one, mut two) = (node(&net, dir, 1), node(&net, dir, 2));
    let kept = files(dir, 2);
    let key = std::fs::read(&kept.key).unwrap();
    for torn in [&b""[..], b"-----BEGIN PRIVATE KEY-----\nMII", &key[..40]] {
        std::fs::write(&kept.key, torn).unwrap();
        tokio::time::sleep(REREAD).await;
        net.cut();
        passes(&one, 2, &mut two, Class::Control).await;
    }
    std::fs::remove_file(&kept.cert).unwrap();
    tokio::time::sleep(REREAD).await;
    net.cut();
    passes(&one, 2, &mut two, Class::Control).await;
}
