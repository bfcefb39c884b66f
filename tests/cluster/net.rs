//! Hosts of their own on one machine: network namespaces on a bridge in a namespace of its own, and
//! what can go wrong between them. Nothing leaves these namespaces; they go with their `Net`, or with the
//! process that made them, however that ends.

use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

/// Tells the namespaces of tests apart that run at one time.
static NETS: AtomicU32 = AtomicU32::new(0);

/// Waits until nobody holds its input any more, then ends what runs in the namespaces that it is given and
/// removes these and the folder.
const SWEEP: &str = r#"
cat >/dev/null
folder=$1
shift
for host; do ip netns pids "$host" | xargs -r kill -KILL; done
for host; do ip netns del "$host"; done
rm -rf "$folder"
"#;

/// Hosts on a bridge.
#[derive(Debug)]
pub(crate) struct Net {
    name: String,
    sweep: Child,
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
    /// So many hosts that reach each other. The folder goes with them.
    pub(crate) fn new(hosts: usize, folder: &Path) -> Self {
        let number = NETS.fetch_add(1, Ordering::Relaxed);
        let name = format!("cp{}n{number}", std::process::id());
        let mut sweep = Command::new("sh");
        sweep.args(["-c", SWEEP, "sweep"]).arg(folder);
        sweep.args((0..hosts).map(|host| host_of(&name, host)));
        sweep.arg(hub_of(&name));
        // What is typed to end the tests is not for it.
        sweep.process_group(0).stdin(Stdio::piped());
        sweep.stdout(Stdio::null()).stderr(Stdio::null());
        let sweep = sweep.spawn().unwrap();
        let net = Self { name, sweep };
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
        hub_of(&self.name)
    }

    /// The namespace of a host.
    pub(crate) fn host(&self, host: usize) -> String {
        host_of(&self.name, host)
    }

    /// The address of a host.
    pub(crate) fn address(&self, host: usize) -> String {
        format!("10.77.0.{}", host + 1)
    }

    /// A command that runs on a host.
    pub(crate) fn on(&self, host: usize, program: &Path) -> Command {
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
        drop(self.sweep.stdin.take());
        drop(self.sweep.wait());
    }
}

fn hub_of(net: &str) -> String {
    format!("{net}hub")
}

fn host_of(net: &str, host: usize) -> String {
    format!("{net}h{host}")
}
