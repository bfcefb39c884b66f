//! `[cluster]`, and what of `[node]` is for it.

use super::*;
use crate::config::ClusterSecret;
use centripeta_cluster::handoff::HandoffConfig;
use centripeta_cluster::peer::SecretSource;
use centripeta_cluster::raft::Timing;
use centripeta_cluster::{ClusterId, ClusterInfo, Roles, Serves};

#[test]
fn without_the_section_a_node_runs_alone_and_no_print_shows_one() {
    let loaded = good("");
    assert_eq!(loaded.config.cluster, None);
    assert!(!print_effective(&loaded).contains("cluster"));
    assert!(
        effective_json(&loaded)
            .pointer("/settings/cluster")
            .is_none()
    );
    let node = &loaded.config.node;
    assert_eq!(node.data, PathBuf::from("./data"));
    let all = Roles {
        voter: true,
        ingress: true,
        region: true,
    };
    assert_eq!(node.roles, all);
    assert_eq!(node.serves.to_string(), "connect, rpc, channel");
    assert!(print_defaults().contains("\n# [cluster]\n"));
    assert!(print_defaults().contains("\n# lease.length = \"1200ms\"\n"));
}

#[test]
fn an_empty_section_holds_the_defaults_of_the_design() {
    let cluster = good("[cluster]\n").config.cluster.unwrap();
    assert_eq!(cluster.listen, "127.0.0.1:7946".parse().unwrap());
    assert_eq!(cluster.advertised(cluster.listen), "127.0.0.1:7946");
    assert_eq!(
        (cluster.seeds.len(), cluster.secrets.len(), cluster.voters),
        (0, 0, 3)
    );
    assert!(!cluster.insecure && cluster.serve_stateless_isolated);
    assert_eq!(cluster.timing(), Timing::default());
    assert_eq!(cluster.handoff(), HandoffConfig::default());
    assert_eq!(cluster.moves.open_limit, 512);
    let info = ClusterInfo::new(ClusterId(1));
    let leases = cluster.leases(&info);
    assert_eq!(
        (leases.length, leases.heartbeat),
        (cluster.lease.length, Duration::from_millis(200))
    );
    assert_eq!(cluster.lease.length, info.lease_length);
    assert_eq!(
        cluster.lease.drift_margin_permille,
        info.drift_margin_permille
    );
}

#[test]
fn every_value_arrives_in_the_terms_of_the_cluster() {
    let toml = r#"
        [node]
        data = "/var/lib/x"
        roles = ["ingress", "region"]
        serves = ["rpc:chat.*", "rpc:ping", "channel"]
        [cluster]
        listen = "0.0.0.0:0"
        advertise = "node-b:7947"
        seeds = ["node-a:7946", "[::1]:7948"]
        secret = ["file:cluster.secret", "another-of-16-bytes"]
        tls = { cert = "cert.pem", key = "key.pem", ca = "cert.pem" }
        insecure = true
        serve_stateless_isolated = false
        voters = 5
        lease = { length = "2s", heartbeat = "250ms", drift_margin = 0.125 }
        raft = { heartbeat = "50ms", election = "250ms" }
        moves = { open_limit = 64, closed_per_node = 4, prepare_timeout = "1s", release_timeout = "9s" }
        [limits]
        message_bytes = "2MiB"
    "#;
    let loaded = good(toml);
    assert!(loaded.warnings.is_empty(), "{:?}", loaded.warnings);
    let node = &loaded.config.node;
    assert_eq!(node.data, PathBuf::from("/var/lib/x"));
    assert_eq!(
        (node.roles.voter, node.roles.ingress, node.roles.region),
        (false, true, true)
    );
    let serves = Serves {
        connect: false,
        channel: true,
        rpc: vec!["chat.*".to_owned(), "ping".to_owned()],
    };
    assert_eq!(node.serves, serves);
    let cluster = loaded.config.cluster.as_ref().unwrap();
    assert_eq!(
        cluster.advertised("10.0.0.1:9".parse().unwrap()),
        "node-b:7947"
    );
    assert_eq!(cluster.seeds, ["node-a:7946", "[::1]:7948"]);
    let security = cluster.security();
    let path = PathBuf::from("./cluster.secret");
    assert_eq!(cluster.secrets[0], ClusterSecret::File(path.clone()));
    let text = SecretSource::Text("another-of-16-bytes".to_owned());
    assert_eq!(security.secrets, [SecretSource::File(path), text]);
    assert_eq!(security.tls.unwrap().key, PathBuf::from("key.pem"));
    assert!(security.insecure && !cluster.serve_stateless_isolated);
    assert_eq!(cluster.lease.drift_margin_permille, 125);
    assert_eq!(cluster.timing().election, Duration::from_millis(250));
    let handoff = cluster.handoff();
    assert_eq!(
        (handoff.closed_limit, handoff.release_timeout),
        (4, Duration::from_secs(9))
    );
    let links = cluster.links(loaded.config.limits.message_bytes);
    assert_eq!(
        (links.payload_limit, links.security.secrets.len()),
        (2 << 20, 2)
    );
}

#[test]
fn one_secret_or_a_list_comes_from_file_variable_or_environment() {
    let of = |toml: &str, env: &[(&str, &str)]| {
        let loaded = load_with(toml, env, &[]).unwrap_or_else(|why| panic!("{why}"));
        loaded.config.cluster.unwrap().secrets
    };
    let text = |text: &str| ClusterSecret::Text(Secret::new(text));
    let env = [("S", "0123456789abcdef")];
    assert_eq!(
        of("[cluster]\nsecret = \"${S}\"", &env),
        [text("0123456789abcdef")]
    );
    let file = ClusterSecret::File(PathBuf::from("./cluster.secret"));
    assert_eq!(
        of("[cluster]\nsecret = \"file:cluster.secret\"", &[]),
        std::slice::from_ref(&file)
    );
    let key = "CENTRIPETA_CLUSTER__SECRET";
    // What looks like a number is a secret all the same, and a list is a list.
    assert_eq!(
        of("", &[(key, "12345678901234567890")]),
        [text("12345678901234567890")]
    );
    let list = "[\"file:cluster.secret\", \"0123456789abcdef\"]";
    assert_eq!(of("", &[(key, list)]), [file, text("0123456789abcdef")]);
    assert_eq!(of("[cluster]\nsecret = []", &[]), []);
}

#[test]
fn beyond_loopback_each_of_secret_tls_and_insecure_will_do() {
    let beyond = "[cluster]\nlisten = \"0.0.0.0:7946\"\nadvertise = \"10.0.0.2:7946\"\n";
    for guard in [
        "secret = \"0123456789abcdef\"",
        "tls = { cert = \"cert.pem\", key = \"key.pem\", ca = \"cert.pem\" }",
        "insecure = true",
    ] {
        good(&format!("{beyond}{guard}"));
    }
    assert!(said(beyond).contains("reaches beyond this machine"));
    assert!(said(&format!("{beyond}secret = []")).contains("reaches beyond this machine"));
    good("[cluster]\nlisten = \"[::1]:7946\"\nseeds = [\"localhost:1\", \"127.1.2.3:4\"]");
}

#[test]
fn what_has_no_effect_is_warned_of() {
    let warned = |toml: &str| {
        let warnings = good(toml).warnings;
        let keys: Vec<_> = warnings.iter().map(|it| it.to_string()).collect();
        keys.join("; ")
    };
    assert!(warned("[node]\nserves = [\"rpc\"]").contains("does nothing without [cluster]"));
    assert!(warned("[node]\nroles = [\"voter\"]").contains("does nothing without [cluster]"));
    assert_eq!(
        warned("[node]\nserves = [\"connect\", \"rpc\", \"channel\"]"),
        ""
    );
    let member = |node: &str| warned(&format!("[node]\n{node}\n[cluster]\n"));
    assert!(member("serves = [\"rpc\"]").contains("lacks `channel`"));
    assert_eq!(
        member("serves = [\"rpc\"]\nroles = [\"voter\", \"ingress\"]"),
        ""
    );
    assert!(member("serves = [\"channel\"]\nroles = [\"voter\"]").contains("owns no slots"));
    assert_eq!(member("roles = [\"voter\"]"), "");
}

#[test]
fn the_worst_election_has_to_fit_into_the_lease_that_init_would_found() {
    for (voters, lease, fits) in [
        (1, 758, true),
        (1, 757, false),
        (3, 929, true),
        (3, 928, false),
    ] {
        let toml = format!(
            "[cluster]\nvoters = {voters}\nlease = {{ length = \"{lease}ms\", heartbeat = \"100ms\" }}"
        );
        let refused = load_with(&toml, &[], &[]).is_err();
        assert_eq!(refused, !fits, "{voters} {lease}");
    }
}
