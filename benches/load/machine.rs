//! What the kernel counts for a process and for the machine, read from `/proc`.

use std::ops::{Add, Sub};
use std::time::Duration;

use anyhow::Context;

/// Length of a clock tick in `/proc`, fixed at 100 Hz for user space.
const TICK: Duration = Duration::from_millis(10);

/// Processor time used by all threads of the process so far, user and system.
pub(crate) fn cpu_time(process: u32) -> anyhow::Result<Duration> {
    let path = format!("/proc/{process}/stat");
    let text = std::fs::read_to_string(&path).with_context(|| format!("read {path}"))?;
    parse_cpu_time(&text).with_context(|| format!("{path}: unexpected form"))
}

fn parse_cpu_time(stat: &str) -> Option<Duration> {
    let (_, fields) = stat.rsplit_once(')')?;
    let mut fields = fields.split_ascii_whitespace().skip(11);
    let user: u32 = fields.next()?.parse().ok()?;
    let system: u32 = fields.next()?.parse().ok()?;
    Some(TICK * (user + system))
}

/// Processor time that anything used on this machine so far, the hypervisor's share included.
pub(crate) fn machine_busy_time() -> anyhow::Result<Duration> {
    let text = std::fs::read_to_string("/proc/stat").context("read /proc/stat")?;
    parse_busy_time(&text).context("/proc/stat: unexpected form")
}

fn parse_busy_time(stat: &str) -> Option<Duration> {
    let line = stat.lines().next()?.strip_prefix("cpu ")?;
    let values: Vec<u64> = line
        .split_ascii_whitespace()
        .map(str::parse)
        .collect::<Result<_, _>>()
        .ok()?;
    let [user, nice, system, _idle, _iowait, irq, softirq, steal, ..] = values[..] else {
        return None;
    };
    let ticks = user + nice + system + irq + softirq + steal;
    Some(Duration::from_millis(ticks * TICK.as_millis() as u64))
}

/// Resident memory of the process in bytes.
pub(crate) fn resident_bytes(process: u32) -> anyhow::Result<u64> {
    let path = format!("/proc/{process}/status");
    let text = std::fs::read_to_string(&path).with_context(|| format!("read {path}"))?;
    text.lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))
        .and_then(|rest| rest.trim().strip_suffix("kB"))
        .and_then(|number| number.trim().parse::<u64>().ok())
        .map(|kibibytes| kibibytes * 1024)
        .with_context(|| format!("{path}: no VmRSS"))
}

/// Processor time used by the parties of the bench and by the whole machine.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct CpuUse {
    /// The server.
    pub(crate) server: Duration,
    /// The Centrifugo in front of it, if there is one.
    pub(crate) centrifugo: Duration,
    /// This process.
    pub(crate) load: Duration,
    machine: Duration,
}

impl CpuUse {
    /// What was used up to now.
    pub(crate) fn so_far(server: u32, centrifugo: Option<u32>) -> anyhow::Result<Self> {
        Ok(Self {
            server: cpu_time(server)?,
            centrifugo: centrifugo.map(cpu_time).transpose()?.unwrap_or_default(),
            load: cpu_time(std::process::id())?,
            machine: machine_busy_time()?,
        })
    }

    /// What none of the parties used.
    pub(crate) fn others(&self) -> Duration {
        let parties = self.server + self.centrifugo + self.load;
        self.machine.saturating_sub(parties)
    }
}

impl Add for CpuUse {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            server: self.server + other.server,
            centrifugo: self.centrifugo + other.centrifugo,
            load: self.load + other.load,
            machine: self.machine + other.machine,
        }
    }
}

impl Sub for CpuUse {
    type Output = Self;

    fn sub(self, earlier: Self) -> Self {
        Self {
            server: self.server.saturating_sub(earlier.server),
            centrifugo: self.centrifugo.saturating_sub(earlier.centrifugo),
            load: self.load.saturating_sub(earlier.load),
            machine: self.machine.saturating_sub(earlier.machine),
        }
    }
}
