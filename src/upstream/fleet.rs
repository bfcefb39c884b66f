//! Every address of every endpoint, and which one takes the next call.

use super::health::Rule;
use super::member::{Dialing, Kind, Member};
use super::stats::{Standing, Target};
use arc_swap::ArcSwap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use tokio::sync::{Notify, watch};
use tokio::time::Instant;

/// The addresses of an upstream.
#[derive(Debug)]
pub(super) struct Fleet {
    /// The endpoints of the configuration.
    pub(super) targets: Vec<Arc<Target>>,
    members: ArcSwap<Vec<Arc<Member>>>,
    dialing: Arc<Dialing>,
    /// When somebody is ejected.
    pub(super) rule: Rule,
    /// Grows when names were looked up.
    pub(super) looked_up: watch::Sender<u64>,
    /// Somebody failed: names may mean something else by now.
    pub(super) doubt: Notify,
}

impl Fleet {
    /// The endpoints; those that are addresses already have a member.
    pub(super) fn new(targets: Vec<Arc<Target>>, dialing: Dialing, rule: Rule) -> Self {
        let fleet = Self {
            targets,
            members: ArcSwap::default(),
            dialing: Arc::new(dialing),
            rule,
            looked_up: watch::Sender::new(0),
            doubt: Notify::new(),
        };
        for target in &fleet.targets {
            if let Some(address) = literal(target) {
                fleet.assign(target, &[address]);
            }
        }
        fleet
    }

    /// These are an endpoint's addresses from now on; one that it had keeps what is known of it. What
    /// is under way at the others is answered. Whether anything is new.
    pub(super) fn assign(&self, target: &Arc<Target>, addresses: &[SocketAddr]) -> bool {
        let known = self.members.load();
        let is_of = |member: &&Arc<Member>| Arc::ptr_eq(&member.target, target);
        let before: Vec<&Arc<Member>> = known.iter().filter(is_of).collect();
        let member = |address: &SocketAddr| {
            let known = before.iter().find(|member| member.address == *address);
            let new = || Arc::new(Member::new(*address, target, &self.dialing));
            known.map_or_else(new, |known| Arc::clone(known))
        };
        let now: Vec<Arc<Member>> = addresses.iter().map(member).collect();
        let is_new = now.len() != before.len()
            || now
                .iter()
                .any(|new| before.iter().all(|known| !Arc::ptr_eq(known, new)));
        if is_new {
            let others = known.iter().filter(|member| !is_of(member)).cloned();
            let members = others.chain(now).collect();
            self.members.store(Arc::new(members));
        }
        is_new
    }

    /// Who takes the next call: of two that were taken at random the one with less under way, among
    /// those that are not ejected and were not tried before; where all were, one that was.
    ///
    /// Where fewer than half are left, what they fail of is more likely an event or something behind
    /// them all than each of them, and the few would have to bear it: then the ejected ones take part
    /// too, save those that can't be reached at all, if any can. `None` without any address.
    pub(super) fn pick(&self, kind: Kind, tried: &[Arc<Member>]) -> Option<Arc<Member>> {
        let members = self.members.load();
        let now = Instant::now();
        let is_well = |member: &Arc<Member>| member.ejected_until(now).is_none();
        let is_there = |member: &Arc<Member>| is_well(member) || !member.is_unreachable();
        let well = members.iter().filter(|it| is_well(it));
        if well.clone().count() * 2 >= members.len() {
            return among(&well, kind, tried);
        }
        let there = members.iter().filter(|it| is_there(it));
        among(&there, kind, tried).or_else(|| among(&members.iter(), kind, tried))
    }

    /// How many addresses there are.
    pub(super) fn len(&self) -> usize {
        self.members.load().len()
    }

    /// Why there is no address.
    pub(super) fn why_empty(&self) -> String {
        let whys = self.targets.iter().filter_map(|it| it.why_unresolved());
        let whys: Vec<String> = whys.collect();
        match whys.is_empty() {
            true => "no name has been looked up yet".to_owned(),
            false => whys.join("; "),
        }
    }

    /// How each endpoint stands.
    pub(super) fn standings(&self) -> Vec<Standing> {
        let (members, now) = (self.members.load(), Instant::now());
        let standing = |target: &Arc<Target>| {
            let mut standing = Standing {
                endpoint: target.label.clone(),
                ejections: target.ejections.get(),
                ended: target.ended(),
                ..Standing::default()
            };
            let own = |member: &&Arc<Member>| Arc::ptr_eq(&member.target, target);
            for member in members.iter().filter(own) {
                let under_way = |kind| member.under_way(kind).load(Ordering::Relaxed);
                standing.addresses += 1;
                standing.ejected += usize::from(member.ejected_until(now).is_some());
                standing.calls += under_way(Kind::Call);
                standing.streams += under_way(Kind::Stream);
            }
            standing
        };
        self.targets.iter().map(standing).collect()
    }
}

/// The address of an endpoint that needs no looking up.
pub(super) fn literal(target: &Target) -> Option<SocketAddr> {
    let endpoint = &target.address;
    let ip = endpoint.bare_host().parse::<IpAddr>().ok()?;
    Some(SocketAddr::new(ip, endpoint.port))
}

/// One of these, rather one that was not tried before.
fn among<'m>(
    members: &(impl Iterator<Item = &'m Arc<Member>> + Clone),
    kind: Kind,
    tried: &[Arc<Member>],
) -> Option<Arc<Member>> {
    let is_fresh = |member: &&Arc<Member>| !tried.iter().any(|it| Arc::ptr_eq(it, member));
    let fresh = members.clone().filter(is_fresh);
    two(&fresh, kind).or_else(|| two(members, kind)).cloned()
}

/// The power of two choices.
fn two<'m>(
    members: &(impl Iterator<Item = &'m Arc<Member>> + Clone),
    kind: Kind,
) -> Option<&'m Arc<Member>> {
    let count = members.clone().count();
    if count < 2 {
        return members.clone().next();
    }
    let one = fastrand::usize(..count);
    // Another one: any but the first.
    let other = (one + 1 + fastrand::usize(..count - 1)) % count;
    let (one, other) = (members.clone().nth(one)?, members.clone().nth(other)?);
    let under_way = |member: &Member| member.under_way(kind).load(Ordering::Relaxed);
    Some(match under_way(other) < under_way(one) {
        true => other,
        false => one,
    })
}
