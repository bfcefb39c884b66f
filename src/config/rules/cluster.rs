//! Rules of a cluster: what a member must not be started with.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use centripeta_cluster::peer::PAYLOAD_MAX;
use centripeta_cluster::raft::Timing;

use crate::config::check::Settings;
use crate::config::problem::Problem;
use crate::config::types::is_beyond_loopback;

/// The least that a leader waits beyond a lease, as a share of it: clocks may be slewed by so much.
const LEAST_MARGIN: f64 = 0.09;

pub(super) fn check(it: &Settings, problems: &mut Vec<Problem>, warnings: &mut Vec<Problem>) {
    roles(it, problems, warnings);
    if !it.is_written("cluster") {
        return;
    }
    addresses(it, problems);
    strangers(it, problems);
    times(it, problems);
    if let Some(voters) = it.count("cluster.voters")
        && !matches!(voters, 1 | 3 | 5)
    {
        problems.push(it.problem(
            "cluster.voters",
            "must be 1, 3 or 5",
            "an even number is less available than one less: write 1, 3 or 5",
        ));
    }
    if it
        .bytes("limits.message_bytes")
        .is_some_and(|bytes| bytes > PAYLOAD_MAX)
    {
        problems.push(it.problem(
            "limits.message_bytes",
            "is more than 63 MiB, which is the most that one node sends on to another",
            "lower it, or run the node without [cluster]",
        ));
    }
}

fn roles(it: &Settings, problems: &mut Vec<Problem>, warnings: &mut Vec<Problem>) {
    let Some(roles) = it.words("node.roles") else {
        return;
    };
    if roles.is_empty() {
        problems.push(it.problem(
            "node.roles",
            "names no role",
            "name one of voter, ingress, region, or leave the key out for all of them",
        ));
    }
    for (at, role) in roles.iter().enumerate() {
        if roles[..at].contains(role) {
            let rule = format!("names `{role}` twice");
            problems.push(it.problem("node.roles", rule, "name each role once"));
        }
    }
    let Some(serves) = it.serves("node.serves") else {
        return;
    };
    if !it.is_written("cluster") {
        let all = roles.len() == 3 && serves.connect && serves.channel;
        for (key, differs) in [("node.roles", roles.len() != 3), ("node.serves", !all)] {
            if differs && it.is_written(key) {
                let rule = "does nothing without [cluster]: a node alone runs everything";
                warnings.push(it.problem(key, rule, "write [cluster] too, or remove it"));
            }
        }
        return;
    }
    let region = roles.iter().any(|role| role == "region");
    if region && !serves.channel {
        warnings.push(it.problem(
            "node.serves",
            "lacks `channel`, without which the role `region` has no effect",
            "add channel, or leave region out of node.roles",
        ));
    }
    if !region && serves.channel && it.is_written("node.serves") {
        warnings.push(it.problem(
            "node.serves",
            "names `channel`, and without the role `region` the node owns no slots: it only runs \
             events without a key",
            "add region to node.roles, or leave channel out",
        ));
    }
}

fn addresses(it: &Settings, problems: &mut Vec<Problem>) {
    let Some(listen) = it.tcp("cluster.listen") else {
        return;
    };
    let advertise = it.text("cluster.advertise");
    if listen.ip().is_unspecified() && advertise.as_deref() == Some("") {
        problems.push(it.problem(
            "cluster.listen",
            "is every address of the machine, so that the others do not know which one to dial",
            "set cluster.advertise to what they dial, such as 10.0.0.2:7946, or listen on one address",
        ));
    }
    if let Some(Ok(dial)) = advertise.map(|dial| dial.parse::<SocketAddr>())
        && dial.ip().is_unspecified()
    {
        problems.push(it.problem(
            "cluster.advertise",
            "is a wildcard, which nobody can dial",
            "write the address or name that the others reach this node at",
        ));
    }
}

/// Beyond loopback nodes have to know each other.
fn strangers(it: &Settings, problems: &mut Vec<Problem>) {
    let secret = match it.secrets("cluster.secret") {
        Some(secrets) => !secrets.is_empty(),
        // What is wrong with it is told already.
        None => true,
    };
    let open = it.flag("cluster.insecure") != Some(false);
    if secret || open || it.is_written("cluster.tls") {
        return;
    }
    let seeds = it.words("cluster.seeds").unwrap_or_default();
    let listen = it.tcp("cluster.listen");
    let advertise = it.text("cluster.advertise").unwrap_or_default();
    let beyond = [
        (
            "cluster.listen",
            listen.is_some_and(|at| is_beyond_loopback(&at)),
        ),
        (
            "cluster.advertise",
            !advertise.is_empty() && is_elsewhere(&advertise),
        ),
        ("cluster.seeds", seeds.iter().any(|seed| is_elsewhere(seed))),
    ];
    if let Some((key, _)) = beyond.into_iter().find(|(_, beyond)| *beyond) {
        problems.push(it.problem(
            key,
            "reaches beyond this machine, and nothing tells a node of the cluster from a stranger",
            "set cluster.secret, for instance to \"file:/etc/centripeta/cluster.secret\", or \
             cluster.tls; or say cluster.insecure = true if the network keeps strangers out",
        ));
    }
}

/// Whether `HOST:PORT` names another machine, as far as can be told without asking anyone.
pub(in crate::config) fn is_elsewhere(dial: &str) -> bool {
    let host = dial.rsplit_once(':').map_or(dial, |(host, _)| host);
    let host = host.trim_start_matches('[').trim_end_matches(']');
    match host.parse::<IpAddr>() {
        Ok(ip) => !ip.to_canonical().is_loopback(),
        Err(_) => host != "localhost",
    }
}

fn times(it: &Settings, problems: &mut Vec<Problem>) {
    let length = it.duration("cluster.lease.length");
    let heartbeat = it.duration("cluster.lease.heartbeat");
    if let (Some(length), Some(heartbeat)) = (length, heartbeat)
        && length < heartbeat.saturating_mul(4)
    {
        problems.push(it.problem(
            "cluster.lease.length",
            format!(
                "is less than four heartbeats of {} ms, so that a lost one or two would end a lease",
                heartbeat.as_millis()
            ),
            "raise it, or lower cluster.lease.heartbeat",
        ));
    }
    if it
        .share("cluster.lease.drift_margin")
        .is_some_and(|margin| margin < LEAST_MARGIN)
    {
        problems.push(it.problem(
            "cluster.lease.drift_margin",
            "is less than 0.09, and time daemons slew clocks by up to 0.083",
            "write at least 0.09; 0.10 is the default",
        ));
    }
    let raft = (
        it.duration("cluster.raft.heartbeat"),
        it.duration("cluster.raft.election"),
    );
    let (Some(heartbeat), Some(election)) = raft else {
        return;
    };
    if election <= heartbeat {
        problems.push(it.problem(
            "cluster.raft.election",
            "is not above cluster.raft.heartbeat, so that a living leader would be voted out",
            "raise it to three heartbeats or more",
        ));
        return;
    }
    let voters = it
        .count("cluster.voters")
        .and_then(|count| u32::try_from(count).ok());
    let (Some(length), Some(voters)) = (length, voters) else {
        return;
    };
    let timing = Timing {
        heartbeat,
        election,
        ..Timing::default()
    };
    let worst = timing.worst_election(voters);
    if worst > seven_tenths(length) {
        problems.push(it.problem(
            "cluster.raft.election",
            format!(
                "makes the worst election among {voters} voters {} ms, more than 0.7 of the lease \
                 of {} ms: leases would end before a new leader renews them",
                worst.as_millis(),
                length.as_millis()
            ),
            "lower it or cluster.raft.heartbeat, or raise cluster.lease.length",
        ));
    }
}

fn seven_tenths(length: Duration) -> Duration {
    length.saturating_mul(7) / 10
}
