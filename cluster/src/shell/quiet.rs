//! Lines of the log that would repeat: the first of a kind is written, the next ones are counted, and
//! the count is written with the next line after a while.

use std::collections::BTreeMap;
use std::time::Duration;

/// A line of the same kind is written so often at most.
const AGAIN: Duration = Duration::from_secs(60);
/// So many kinds are known at once: others choose where they come from.
const KINDS: usize = 256;

#[derive(Debug)]
struct Said {
    at: Duration,
    more: u64,
}

/// What was said lately, by whom it is about and why.
#[derive(Debug, Default)]
pub(super) struct Quiet {
    said: BTreeMap<(String, String), Said>,
}

impl Quiet {
    /// Whether a line is to be written now, and how many of its kind were not since the last one.
    pub(super) fn say(&mut self, whom: &str, why: &str, now: Duration) -> Option<u64> {
        let key = (whom.to_owned(), why.to_owned());
        if let Some(said) = self.said.get_mut(&key) {
            if now.saturating_sub(said.at) < AGAIN {
                said.more += 1;
                return None;
            }
            said.at = now;
            return Some(std::mem::take(&mut said.more));
        }
        if self.said.len() >= KINDS {
            let old = |said: &Said| now.saturating_sub(said.at) >= AGAIN;
            self.said.retain(|_, said| !old(said));
        }
        if self.said.len() >= KINDS {
            return None;
        }
        self.said.insert(key, Said { at: now, more: 0 });
        Some(0)
    }
}

/// The host of an address, without the port that differs each time.
pub(super) fn host(addr: &str) -> &str {
    addr.rsplit_once(':').map_or(addr, |(host, _)| host)
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn a_line_that_repeats_is_counted_and_told_with_the_next_one() {
        let mut quiet = Quiet::default();
        assert_eq!(quiet.say("a", "tls", at(0)), Some(0));
        assert_eq!(quiet.say("a", "tls", at(1)), None);
        assert_eq!(quiet.say("a", "tls", at(59)), None);
        assert_eq!(quiet.say("a", "io", at(2)), Some(0), "another reason");
        assert_eq!(quiet.say("b", "tls", at(2)), Some(0), "another peer");
        assert_eq!(quiet.say("a", "tls", at(60)), Some(2));
        assert_eq!(quiet.say("a", "tls", at(61)), None);
        assert_eq!(quiet.say("a", "tls", at(121)), Some(1));
    }

    #[test]
    fn strangers_from_everywhere_neither_flood_the_log_nor_the_memory() {
        let mut quiet = Quiet::default();
        let said = (0..10_000).filter(|peer| quiet.say(&peer.to_string(), "io", at(0)).is_some());
        assert_eq!(said.count(), KINDS);
        assert_eq!(quiet.say("new", "io", at(60)), Some(0));
        assert_eq!(quiet.said.len(), 1);
    }

    #[test]
    fn peers_are_told_apart_by_their_hosts() {
        assert_eq!(host("10.0.0.1:4711"), "10.0.0.1");
        assert_eq!(host("[::1]:4711"), "[::1]");
        assert_eq!(host("somewhere"), "somewhere");
    }
}
