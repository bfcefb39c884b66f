//! What the machines of a node want done.

use super::net::{Message, What, delay};
use super::world::{HOT, VOTERS, World};
use crate::handoff::{CoordinatorEffect, SourceEffect, TargetEffect};
use crate::lease::{GrantorEffect, HolderEffect, TenureEffect};
use crate::testing::slot;
use crate::*;

impl World {
    pub(super) fn granted(&mut self, index: usize, effects: Vec<GrantorEffect>) {
        let Some(leader) = self.nodes[index].lead.as_ref().map(|lead| lead.id) else {
            return;
        };
        for effect in effects {
            match effect {
                GrantorEffect::Barrier { nonce } => self.propose(index, Command::Barrier { nonce }),
                GrantorEffect::Round { id } => {
                    let after = delay(&mut self.chance).min(60_000);
                    self.at(after, What::RoundCheck(leader, id));
                }
                GrantorEffect::Ack { via, ack } => {
                    let to = self.index(via.unwrap_or(ack.member.id));
                    self.send(index, to, Message::Ack(ack));
                }
                GrantorEffect::TellDead { member } => {
                    let to = self.index(member.id);
                    self.send(index, to, Message::TellDead(member));
                }
                GrantorEffect::DeclareDead { member, why } => {
                    let grants = self.grants_for(index, member);
                    let why = why.to_owned();
                    self.propose(
                        index,
                        Command::DeclareDead {
                            member,
                            why,
                            leader,
                            grants,
                        },
                    );
                }
                GrantorEffect::Register { node, replaces } => {
                    let grants = replaces.map_or_else(Vec::new, |old| self.grants_for(index, old));
                    self.propose(
                        index,
                        Command::Register {
                            node,
                            leader,
                            grants,
                        },
                    );
                }
                GrantorEffect::RefuseProcess { .. } | GrantorEffect::RefuseRegister { .. } => {}
            }
        }
    }

    pub(super) fn held(&mut self, index: usize, effects: Vec<HolderEffect>) {
        for effect in effects {
            match effect {
                HolderEffect::Send { to, via, heartbeat } => {
                    let message = Message::Beat(heartbeat, None);
                    for to in std::iter::once(to).chain(via) {
                        let to = self.index(to);
                        self.send(index, to, message.clone());
                    }
                }
                HolderEffect::Valid | HolderEffect::Lapsed => {
                    let valid = effect == HolderEffect::Valid;
                    self.report.lapses += usize::from(!valid);
                    if let Some(life) = &mut self.nodes[index].life {
                        let effects = life.tenure.lease(valid);
                        self.tenured(index, effects);
                    }
                }
                HolderEffect::Behind { .. }
                    if index >= VOTERS && self.now >= self.nodes[index].next_ask =>
                {
                    self.nodes[index].next_ask = self.now + 1_000_000;
                    self.ask_table(index);
                }
                HolderEffect::Behind { .. }
                | HolderEffect::Dead
                | HolderEffect::Degraded { .. } => {}
            }
        }
    }

    pub(super) fn tenured(&mut self, index: usize, effects: Vec<TenureEffect>) {
        for effect in effects {
            match effect {
                TenureEffect::Fence { slot, epoch } => {
                    let after = delay(&mut self.chance).min(20_000);
                    let me = self.nodes[index].me;
                    self.at(after, What::FenceAsk(index, me, slot, epoch));
                }
                TenureEffect::Open { slot, epoch, via } => {
                    self.checker.opened(slot, epoch);
                    self.resumed(index, slot);
                    if let Some(life) = &mut self.nodes[index].life {
                        life.target.take(slot, via);
                    }
                }
                TenureEffect::Saw { slot, epoch } => self.nodes[index].view.saw(slot, epoch),
                TenureEffect::Resume => {
                    (0..HOT)
                        .map(slot)
                        .for_each(|slot| self.resumed(index, slot));
                }
                TenureEffect::Named { .. } | TenureEffect::Suspend | TenureEffect::Drop { .. } => {}
            }
        }
    }

    pub(super) fn sourced(&mut self, index: usize, effects: Vec<SourceEffect>) {
        let me = self.nodes[index].me;
        for effect in effects {
            match effect {
                SourceEffect::Close { slot, .. } => {
                    let started = usize::from(self.chance.permille(300));
                    let after = self.chance.below(2_000);
                    self.at(after, What::Closed(index, me, slot, started));
                }
                SourceEffect::SendValues { slot, to } => {
                    let target = self.index(to.to.id);
                    self.send(index, target, Message::Values(me, slot, to.id));
                }
                SourceEffect::Cut { slot } => self.at(100, What::Idle(index, me, slot)),
                SourceEffect::LetGo { slot, epoch } => {
                    if let Some(life) = &mut self.nodes[index].life {
                        life.tenure.release(slot, epoch);
                    }
                }
                SourceEffect::Release(all) => self.tell_leader(index, Message::Released(me, all)),
                SourceEffect::WantAbort(wanted) => {
                    self.tell_leader(index, Message::AbortWanted(me, wanted))
                }
                SourceEffect::Reopen { slot, epoch } => {
                    if let Some(life) = &mut self.nodes[index].life {
                        let effects = life.tenure.take_back(slot, epoch);
                        self.tenured(index, effects);
                        self.resumed(index, slot);
                    }
                }
                SourceEffect::Forget { .. } => {}
            }
        }
    }

    pub(super) fn targeted(&mut self, index: usize, effects: Vec<TargetEffect>) {
        let me = self.nodes[index].me;
        for effect in effects {
            match effect {
                TargetEffect::Prepared { to, step } => {
                    let to = self.index(to.id);
                    self.send(index, to, Message::Prepared(me, step));
                }
                TargetEffect::Received { to, step } => {
                    let to = self.index(to.id);
                    self.send(index, to, Message::Received(me, step));
                }
                TargetEffect::Keep { .. } | TargetEffect::Discard { .. } => {}
            }
        }
    }

    pub(super) fn coordinated(&mut self, index: usize, effects: Vec<CoordinatorEffect>) {
        for effect in effects {
            if let CoordinatorEffect::Propose(command) = effect {
                self.propose(index, command);
            }
        }
    }
}
