//! Hosts of their own on one machine: network namespaces on a bridge in a namespace of its own, and
//! what can go wrong between them. Nothing leaves these namespaces; they go with their `Net`.

use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

/// Tells the namespaces of tests apart that run at one time.
static NETS: AtomicU32 = AtomicU32::new(0);

/// Hosts on a bridge.
#[derive(Debug)]
pub(crate) struct Net {
    name: String,
    hosts: usize,
}

/// Whether this process may make namespaces, or why not.
pub(crate) fn possible() -> Result<(), &'static str> {
    let probe = format!("cp{}probe", std::process::id());
    let made = Command::new("ip").args(["netns", "add", &probe]).output();
    let made = made.is_ok_and(|made| made.status.success());
    drop(Command::new("ip").args(["netns", "del", &probe]).output());
    if !made {
        return Err("no network namespaces: run as root with `ip` (iproute2) on PATH");
    }
    let iptables = Command::new("iptables").arg("--version").output();
    if iptables.is_ok_and(|out| out.status.success()) {
        Ok(())
    } else {
        Err("no `iptables` on PATH")
    }
}

fn done(mut command: Command) {
    let out = command.output().unwrap();
    let said = String::from_utf8_lossy(&out.stderr);
    assert!(out.status.success(), "{command:?}: {said}");
}

fn ip(arguments: &str) {
    let mut command = Command::new("ip");
    command.args(arguments.split(' '));
    done(command);
}

impl Net {
    /// So many hosts that reach each other.
    pub(crate) fn new(hosts: usize) -> Self {
        let number = NETS.fetch_add(1, Ordering::Relaxed);
        let name = format!("cp{}n{number}", std::process::id());
        let net = Self { name, hosts };
        let hub = net.hub();
        ip(&format!("netns add {hub}"));
        ip(&format!("-n {hub} link add br0 type bridge"));
        ip(&format!("-n {hub} link set br0 up"));
        for host in 0..hosts {
            let (name, address) = (net.host(host), net.address(host));
            ip(&format!("netns add {name}"));
            ip(&format!(
                "link add v{host} netns {hub} type veth peer name eth0 netns {name}"
            ));
            ip(&format!("-n {hub} link set v{host} master br0 up"));
            ip(&format!("-n {name} addr add {address}/24 dev eth0"));
            ip(&format!("-n {name} link set eth0 up"));
            ip(&format!("-n {name} link set lo up"));
        }
        net
    }

    fn hub(&self) -> String {
        format!("{}hub", self.name)
    }

    /// The namespace of a host.
    pub(crate) fn host(&self, host: usize) -> String {
        format!("{}h{host}", self.name)
    }

    /// The address of a host.
    pub(crate) fn address(&self, host: usize) -> String {
        format!("10.77.0.{}", host + 1)
    }

    /// A command that runs on a host.
    pub(crate) fn on(&self, host: usize, program: &std::path::Path) -> Command {
        let mut command = Command::new("ip");
        command
            .args(["netns", "exec", &self.host(host)])
            .arg(program);
        command
    }

    fn firewall(&self, host: usize, rule: &str) {
        let mut command = self.on(host, "iptables".as_ref());
        command.args(rule.split(' '));
        done(command);
    }

    /// Cuts a host off from all others, both ways.
    pub(crate) fn isolate(&self, host: usize) {
        ip(&format!("-n {} link set v{host} down", self.hub()));
    }

    /// Nothing from `from` reaches `to` any more.
    pub(crate) fn deafen(&self, to: usize, from: usize) {
        self.firewall(to, &format!("-A INPUT -s {} -j DROP", self.address(from)));
    }

    /// Cuts the link between two hosts, both ways.
    pub(crate) fn cut(&self, one: usize, other: usize) {
        self.deafen(one, other);
        self.deafen(other, one);
    }

    /// Of the packets that come to a host, this share is lost by chance.
    pub(crate) fn lose(&self, host: usize, percent: u32) {
        let share = f64::from(percent) / 100.0;
        self.firewall(
            host,
            &format!("-A INPUT -i eth0 -m statistic --mode random --probability {share} -j DROP"),
        );
    }

    /// A host sends no faster than this, such as `2mbit`.
    pub(crate) fn slow(&self, host: usize, rate: &str) {
        ip(&format!(
            "netns exec {} tc qdisc add dev eth0 root tbf rate {rate} burst 32kbit latency 400ms",
            self.host(host)
        ));
    }

    /// A host is as it was made.
    pub(crate) fn heal(&self, host: usize) {
        self.firewall(host, "-F");
        ip(&format!("-n {} link set v{host} up", self.hub()));
        let mut tc = self.on(host, "tc".as_ref());
        // There may be no such rule.
        drop(tc.args(["qdisc", "del", "dev", "eth0", "root"]).output());
    }
}

impl Drop for Net {
    fn drop(&mut self) {
        let hosts = (0..self.hosts).map(|host| self.host(host));
        for name in hosts.chain([self.hub()]) {
            drop(Command::new("ip").args(["netns", "del", &name]).output());
        }
    }
}
