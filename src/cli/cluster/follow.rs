//! `cluster events`: the changes that a node remembers; with `-f` those to come, whoever tells them.

use super::super::admin::Target;
use super::super::error::CliError;
use super::super::output;
use super::show::event_text;
use super::{ask, pause, say_json};
use crate::proto::admin::{ClusterEvent, ListEventsRequest, ListEventsResponse};
use std::collections::BTreeSet;
use std::time::Duration;

/// How often `events -f` asks.
const FOLLOW: Duration = Duration::from_millis(500);
/// The kind of an event that is of the node that tells it, and of no version of the table.
const LEADER: &str = "leader";

pub(super) fn events(target: &Target, follow: bool, json: bool) -> Result<(), CliError> {
    let mut told = Told::default();
    let mut silent = false;
    loop {
        let after = told.after;
        let message = ListEventsRequest { after };
        let answer = match ask!(target, "cluster events", list_events, message) {
            Ok(answer) => answer,
            // Whoever follows watches nodes come and go, the one that is asked among them.
            Err(error) if follow && told.teller.is_some() => {
                if !silent {
                    eprintln!("no answer, it is asked on: {}", error.why());
                }
                silent = true;
                pause(FOLLOW)?;
                continue;
            }
            Err(error) => return Err(error),
        };
        silent = false;
        if json && !follow {
            return say_json(&answer);
        }
        let Some(fresh) = told.fresh(&answer) else {
            continue;
        };
        for event in fresh {
            if json {
                say_json(event)?;
            } else {
                output::say(&event_text(event));
            }
        }
        if !follow {
            return Ok(());
        }
        pause(FOLLOW)?;
    }
}

/// What was told so far. Each node numbers the changes that it saw by itself and stamps them with its
/// own clock; what all nodes have in common is the version of the table that a change led to.
#[derive(Debug, Default)]
pub(super) struct Told {
    /// Who tells them: a node in one of its lives.
    teller: Option<(u32, u64)>,
    /// Its number of the last one; 0 where it is to tell all that it remembers.
    after: u64,
    /// The latest version.
    version: u64,
    /// What was told of that version.
    latest: BTreeSet<(String, String)>,
}

impl Told {
    /// Those of an answer that were not told yet. `None` where another node has answered than before,
    /// which was asked by numbers that were not its own: it has to be asked for all of its events.
    pub(super) fn fresh<'a>(
        &mut self,
        answer: &'a ListEventsResponse,
    ) -> Option<Vec<&'a ClusterEvent>> {
        let id = answer.node.as_ref().map_or(0, |node| node.id);
        let teller = Some((id, answer.incarnation));
        let same = self.teller == teller;
        self.teller = teller;
        if !same && self.after != 0 {
            self.after = 0;
            return None;
        }
        let numbered = self.after != 0;
        self.after = answer.latest;
        let is_fresh = |event: &&ClusterEvent| {
            let words = || (event.kind.clone(), event.what.clone());
            event.version > self.version
                || (event.version == self.version && !self.latest.contains(&words()))
                || (numbered && event.kind == LEADER)
        };
        let fresh: Vec<_> = answer.events.iter().filter(is_fresh).collect();
        for event in &fresh {
            if event.version > self.version {
                self.version = event.version;
                self.latest.clear();
            }
            if event.version == self.version {
                self.latest.insert((event.kind.clone(), event.what.clone()));
            }
        }
        Some(fresh)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::proto::admin::Named;

    fn event(number: u64, version: u64, kind: &str, what: &str) -> ClusterEvent {
        ClusterEvent {
            number,
            version,
            kind: kind.to_owned(),
            what: what.to_owned(),
            // Clocks of nodes differ: nothing may depend on this.
            at_ms: 1_000_000 - number,
            ..ClusterEvent::default()
        }
    }

    fn answer(node: u32, latest: u64, events: Vec<ClusterEvent>) -> ListEventsResponse {
        let name = format!("n{node}");
        ListEventsResponse {
            node: Some(Named { id: node, name }),
            incarnation: 1,
            events,
            latest,
        }
    }

    fn words(told: &mut Told, answer: &ListEventsResponse) -> Vec<String> {
        let fresh = told.fresh(answer).unwrap();
        fresh.iter().map(|event| event.what.clone()).collect()
    }

    #[test]
    fn each_change_is_told_once_though_another_leader_tells_it_with_numbers_and_a_clock_of_its_own()
    {
        let mut told = Told::default();
        let first = answer(
            1,
            2,
            vec![
                event(1, 7, "node", "b has come"),
                event(2, 7, "node", "c has come"),
            ],
        );
        assert_eq!(words(&mut told, &first), ["b has come", "c has come"]);
        let more = answer(1, 3, vec![event(3, 8, "grant", "4 slots")]);
        assert_eq!(words(&mut told, &more), ["4 slots"]);

        // Another node answers; it was asked by numbers of the one before, so it is asked again.
        let other = answer(3, 95, vec![event(95, 9, "node", "a is dead")]);
        assert_eq!(told.fresh(&other), None);
        assert_eq!(told.after, 0);
        let all = answer(
            3,
            95,
            vec![
                event(91, 7, "node", "b has come"),
                event(92, 7, "node", "c has come"),
                event(93, 8, "grant", "4 slots"),
                event(94, 8, "leader", "c leads"),
                event(95, 9, "node", "a is dead"),
            ],
        );
        assert_eq!(words(&mut told, &all), ["c leads", "a is dead"]);
        let quiet = answer(3, 95, Vec::new());
        assert!(words(&mut told, &quiet).is_empty());
    }

    #[test]
    fn a_leader_that_comes_and_goes_at_one_version_is_told_each_time() {
        let mut told = Told::default();
        let at = |number, what| answer(1, number, vec![event(number, 7, "leader", what)]);
        for (number, what) in [(1, "a leads"), (2, "none is known"), (3, "a leads")] {
            assert_eq!(words(&mut told, &at(number, what)), [what]);
        }
    }
}
