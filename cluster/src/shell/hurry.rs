//! A drain whose time is half over: from then on nothing limits its moves, so that what runs long
//! still has its `release_timeout`. Only the node that drains knows how long it has, whoever leads:
//! it lifts its own limit, and tells the leader, and each new one, to lift the table's.

use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;

use super::core::Core;
use super::wire::HURRY;
use crate::peer::{Class, Request};
use crate::{LeaderId, Member, NodeState};

/// How long the leader may take to hear it; then it is told again.
const TOLD: Duration = Duration::from_secs(1);

/// How far that is.
#[derive(Debug, Default)]
pub(super) struct Hurry {
    /// Since when the table says that this node drains.
    since: Option<Duration>,
    /// Limits are lifted here.
    lifted: bool,
    /// Who was told, and when.
    told: Option<(LeaderId, Duration)>,
}

impl Core {
    /// Lifts the limits of this node's moves once half of the time for its drain is over; sets them
    /// again when it drains no more.
    pub(super) fn hurry(&mut self) {
        let now = self.clock();
        let rec = self
            .view
            .as_ref()
            .and_then(|view| view.table().node(self.me.id));
        let drains = rec.is_some_and(|rec| {
            rec.state == NodeState::Draining && rec.incarnation == self.me.incarnation
        });
        let time = self.leaving.time();
        let hurry = &mut self.leaving.hurry;
        if !drains {
            if std::mem::take(hurry).lifted
                && let Some(life) = &mut self.life
            {
                life.source.limit_closed(self.setup.handoff.closed_limit);
            }
            return;
        }
        let since = *hurry.since.get_or_insert(now);
        let long = now.saturating_sub(since) >= self.setup.lift_after;
        let half = time.is_some_and(|(began, grace)| now.saturating_sub(began) >= grace / 2);
        if !(hurry.lifted || long || half) {
            return;
        }
        if !std::mem::replace(&mut hurry.lifted, true)
            && let Some(life) = &mut self.life
        {
            life.source.limit_closed(usize::MAX);
        }
        let Some(leader) = self.leader else { return };
        let fresh =
            |(whom, at): (LeaderId, Duration)| whom == leader && now.saturating_sub(at) < TOLD;
        if !hurry.told.is_some_and(fresh) {
            hurry.told = Some((leader, now));
            self.tell_leader_to_hurry(leader);
        }
    }

    fn tell_leader_to_hurry(&mut self, leader: LeaderId) {
        if leader.node == self.me.id {
            self.hurry_at(self.me);
            return;
        }
        let deadline = Instant::now() + TOLD;
        let told = self
            .links
            .request(leader.node, Class::Control, HURRY, Bytes::new(), deadline);
        if let Ok(answer) = told {
            // It is kept for the link until it is answered.
            tokio::spawn(answer.wait());
        }
    }

    /// Another node says so of its drain.
    pub(super) fn hurry_told(&mut self, request: Request) {
        self.hurry_at(request.from().member);
        request.reply(Bytes::new());
    }

    fn hurry_at(&mut self, member: Member) {
        let now = self.reading();
        if let (Some(lead), Some(view)) = (&mut self.lead, &self.view) {
            let effects = lead.hurry(view.table(), member, now);
            self.led(effects);
        }
    }
}
