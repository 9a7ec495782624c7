//! What happens in a world, step by step: people write, read, join and leave, and faults come over them. Each step
//! draws from a stream of its own, so that a step which is left out does not change the others.

use std::collections::BTreeMap;

use bytes::Bytes;
use hongyan_client::{Answer, Command, HostEvent};
use hongyan_protocol::limits::HISTORY_PAGE_MESSAGES_MAX;
use hongyan_protocol::wire::{ClientFrame, Content, DeviceKind, Hello, client_frame::Verb};
use hongyan_protocol::{Code, ConversationId, ConversationKind, Seq, UserId, VERSION};
use hongyan_relay::core as relay;
use hongyan_relay::core::ConnectionId;

use crate::chance::Chance;
use crate::clock::BEGIN_MS;
use crate::device::Asked;
use crate::faults::Fault;
use crate::network::{Lane, Link};
use crate::presence::Telling;
use crate::scenario::STEPS_MAX;
use crate::tabs::Browser;
use crate::watch::Sending;
use crate::world::{Happening, World};

#[derive(Clone, Copy)]
enum Step {
    Write,
    Read,
    Page,
    CreateGroup,
    ChangeGroup,
    AskAsOutsider,
    Again,
    Fault(Fault),
}

const STEPS: &[(u64, Step)] = &[
    (70, Step::Write),
    (16, Step::Read),
    (10, Step::Page),
    (5, Step::CreateGroup),
    (12, Step::ChangeGroup),
    (4, Step::AskAsOutsider),
    (4, Step::Again),
    (10, Step::Fault(Fault::Cut)),
    (5, Step::Fault(Fault::SilentUp)),
    (5, Step::Fault(Fault::SilentDown)),
    (5, Step::Fault(Fault::SlowReader)),
    (6, Step::Fault(Fault::DeviceCrash)),
    (6, Step::Fault(Fault::CrashBetweenOutputs)),
    (3, Step::Fault(Fault::SaveFailed)),
    (1, Step::Fault(Fault::CacheWiped)),
    (3, Step::Fault(Fault::TimersLate)),
    (4, Step::Fault(Fault::LeaderChange)),
    (1, Step::Fault(Fault::Logout)),
    (3, Step::Fault(Fault::LongOffline)),
    (4, Step::Fault(Fault::NetworkFlag)),
    (3, Step::Fault(Fault::Hidden)),
    (6, Step::Fault(Fault::RelayCrash)),
    (2, Step::Fault(Fault::Drained)),
    (5, Step::Fault(Fault::CommitLate)),
    (2, Step::Fault(Fault::CommitFailed)),
    (1, Step::Fault(Fault::DiskFull)),
    (6, Step::Fault(Fault::ReadFailed)),
    (4, Step::Fault(Fault::Restored)),
    (2, Step::Fault(Fault::DeviceClock)),
    (3, Step::Fault(Fault::RelayClock)),
    (2, Step::Fault(Fault::Drift)),
    (3, Step::Fault(Fault::ProviderFailed)),
    (2, Step::Fault(Fault::TokenForged)),
];

impl World {
    /// Lives through the scenario and is judged.
    pub fn live(&mut self) {
        self.pass(300);
        let steps = self.scenario.steps.unwrap_or(STEPS_MAX).min(self.shape.steps);
        for step in 0..steps {
            if self.breach.is_some() {
                return;
            }
            let mut chance = Chance::new(self.scenario.seed, 10_000 + u64::from(step));
            let pause = chance.weighted(&[(6, 40), (3, 400), (1, 6_000)]);
            let pause = chance.between(0, pause);
            self.pass(pause);
            if !self.scenario.skip.contains(&step) && self.breach.is_none() {
                self.step(chance);
                self.presence_step(step);
                self.change_step(step);
                self.profile_step(step);
                self.ends_step(step);
                self.tabs_step(step);
                self.look_around();
                self.look_at_ends();
            }
        }
        self.heal();
        self.judge();
    }

    fn step(&mut self, mut chance: Chance) {
        let index = chance.index(self.devices.len());
        match chance.weighted(STEPS) {
            Step::Write => self.write(index, &mut chance),
            Step::Read => self.mark_read(index, &mut chance),
            Step::Page => self.read_page(index, &mut chance),
            Step::CreateGroup => self.create_group(index, &mut chance),
            Step::ChangeGroup => self.change_group(index, &mut chance),
            Step::AskAsOutsider => self.ask_as_outsider(&mut chance),
            Step::Again => self.again(index, &mut chance),
            Step::Fault(fault) if self.faulty && !self.scenario.without.contains(&fault) => {
                self.coverage.happened(fault);
                self.strike(fault, index, &mut chance);
            }
            Step::Fault(_) => {}
        }
    }

    // ------------------------------------------------------------ people

    pub(crate) fn conversation(&self, index: usize, chance: &mut Chance) -> ConversationId {
        if !self.groups.is_empty() && chance.percent(55) {
            return chance.pick(&self.groups).clone();
        }
        let peer = &chance.pick(&self.devices).user;
        ConversationId::direct(&self.devices[index].user, peer)
    }

    fn write(&mut self, index: usize, chance: &mut Chance) {
        let conversation = self.conversation(index, chance);
        // The outsider stays one.
        if self.devices[index].user.as_str() == "erin" && conversation.kind() == ConversationKind::Group {
            return;
        }
        let count = chance.weighted(&[(6, 1), (3, 3), (1, 12)]);
        for _ in 0..count {
            let device = &mut self.devices[index];
            if !device.can_write() {
                return;
            }
            device.texts += 1;
            let order = device.texts;
            let text = format!("d{index}-{order}.");
            // Some are long, so that buffers and frames fill.
            let padding = if chance.percent(10) { chance.index(1_500) } else { 0 };
            let json =
                if padding > 0 { format!("{{\"pad\":\"{}\"}}", "x".repeat(padding)) } else { String::new() };
            let content = Content { text: text.clone(), json, ..Content::default() };
            let sending = Sending {
                device: index,
                tab: 0,
                conversation: conversation.as_str().to_owned(),
                order,
                refused: false,
                acknowledged: false,
                unsure: false,
                lost: false,
            };
            self.note(|| format!("device {index} writes {text} in {conversation}"));
            self.watch.sends.insert(text.clone(), sending);
            let command = Command::Send {
                conversation: conversation.clone(),
                key: None,
                content,
                reply_to: None,
                mentions: self.mentions(index, &conversation, chance),
            };
            self.ask(index, command, Asked::Send(text));
        }
    }

    /// In a group that may come by its log somebody is called now and then, other than the writer.
    fn mentions(&self, index: usize, conversation: &ConversationId, chance: &mut Chance) -> Vec<UserId> {
        if !self.is_by_logs(conversation.as_str()) || !chance.percent(15) {
            return Vec::new();
        }
        let own = self.devices[index].user.clone();
        let others: Vec<_> = self.users().into_iter().filter(|user| *user != own).collect();
        vec![chance.pick(&others).clone()]
    }

    fn mark_read(&mut self, index: usize, chance: &mut Chance) {
        let Some(Ok(Answer::Conversations(list))) = self.now_list(index) else { return };
        if list.is_empty() {
            return;
        }
        let line = chance.pick(&list);
        let seq = if chance.percent(50) { None } else { Some(Seq(chance.between(0, line.last_seq.0))) };
        self.watch_marked(index, &line.id, seq.map_or(line.last_seq.0, |seq| seq.0));
        let command = Command::MarkRead { conversation: line.id.clone(), seq };
        self.ask(index, command, Asked::Other);
    }

    /// The list, which the core gives at once.
    fn now_list(&mut self, index: usize) -> Option<Result<Answer, hongyan_client::ChatError>> {
        self.devices[index].answer = None;
        self.ask(index, Command::Conversations { limit: 100, before: None }, Asked::Call)?;
        self.devices[index].answer.take()
    }

    fn read_page(&mut self, index: usize, chance: &mut Chance) {
        let conversation = self.conversation(index, chance);
        if self.devices[index].user.as_str() == "erin" && conversation.kind() == ConversationKind::Group {
            return;
        }
        let (before, after) = match chance.below(3) {
            0 => (None, None),
            1 => (Some(Seq(chance.between(1, 40))), None),
            _ => (None, Some(Seq(chance.between(0, 40)))),
        };
        let limit = chance.index(HISTORY_PAGE_MESSAGES_MAX) + 1;
        let asked = Asked::Page(conversation.clone());
        self.ask(index, Command::History { conversation, before, after, limit }, asked);
    }

    fn create_group(&mut self, index: usize, chance: &mut Chance) {
        if self.groups.len() >= 4 || self.devices[index].user.as_str() == "erin" {
            return;
        }
        let members = self.some_people(chance);
        self.ask(
            index,
            Command::CreateGroup { key: None, title: "Geese".into(), members },
            Asked::CreateGroup,
        );
    }

    fn some_people(&self, chance: &mut Chance) -> Vec<UserId> {
        let users = self.users().into_iter().filter(|user| user.as_str() != "erin");
        users.filter(|_| chance.percent(50)).collect()
    }

    fn change_group(&mut self, index: usize, chance: &mut Chance) {
        if self.groups.is_empty() || self.devices[index].user.as_str() == "erin" {
            return;
        }
        let group = chance.pick(&self.groups).clone();
        if self.is_by_logs(group.as_str()) && chance.percent(25) {
            return self.change_way(group, chance);
        }
        let users = self.some_people(chance);
        let command = match chance.below(7) {
            0..3 => Command::AddMembers(group, users),
            3..6 => Command::RemoveMembers(group, users.into_iter().take(2).collect()),
            _ => Command::LeaveGroup(group),
        };
        self.note(|| {
            let what = match &command {
                Command::AddMembers(group, users) => format!("adds {users:?} to {group}"),
                Command::RemoveMembers(group, users) => format!("removes {users:?} from {group}"),
                _ => "leaves a group".into(),
            };
            format!("device {index} {what}")
        });
        self.ask(index, command, Asked::Other);
    }

    /// Erin is in no group, and asks for one.
    fn ask_as_outsider(&mut self, chance: &mut Chance) {
        let erin = self.devices.iter().position(|device| device.user.as_str() == "erin");
        let (Some(erin), false) = (erin, self.groups.is_empty()) else { return };
        let conversation = chance.pick(&self.groups).clone();
        let command = match chance.below(3) {
            0 => Command::History { conversation, before: None, after: Some(Seq(1)), limit: 10 },
            1 => Command::Members { conversation, after: None, limit: 10 },
            _ => Command::AddMembers(conversation, vec![self.devices[erin].user.clone()]),
        };
        self.ask(erin, command, Asked::Outsider);
    }

    /// What was refused is discarded, or a conversation's members are asked for.
    fn again(&mut self, index: usize, chance: &mut Chance) {
        let conversation = self.conversation(index, chance);
        let command = Command::History { conversation, before: None, after: None, limit: 20 };
        self.devices[index].answer = None;
        if self.ask(index, command, Asked::Call).is_none() {
            return;
        }
        self.pass(15);
        let Some(Ok(Answer::History(page))) = self.devices[index].answer.take() else { return };
        let failed = page.into_iter().find(|message| message.status == hongyan_client::view::Status::Failed);
        let Some(failed) = failed else { return };
        // A tab that was not answered tries it again.
        if chance.percent(50) && self.devices[index].browser.is_none() {
            self.devices[index].discarded.insert(failed.content.text);
            self.ask(index, Command::Discard(failed.key), Asked::Other);
        } else {
            let text = failed.content.text.clone();
            self.is_newest(index, &text);
            let command = Command::Send {
                conversation: failed.conversation,
                key: Some(failed.key),
                content: failed.content,
                reply_to: None,
                mentions: Vec::new(),
            };
            self.ask(index, command, Asked::Send(text));
        }
    }

    /// What is tried again comes after what was written meanwhile.
    pub(crate) fn is_newest(&mut self, index: usize, text: &str) {
        self.devices[index].texts += 1;
        let order = self.devices[index].texts;
        if let Some(sending) = self.watch.sends.get_mut(text) {
            sending.order = order;
        }
    }

    // ------------------------------------------------------------ faults

    fn strike(&mut self, fault: Fault, index: usize, chance: &mut Chance) {
        self.note(|| format!("fault: {} (device {index})", fault.name()));
        let (now, life) = (self.now, (index, self.devices[index].life));
        match fault {
            Fault::Cut => self.cut(index),
            Fault::SilentUp | Fault::SilentDown => self.silence(index, fault),
            Fault::SlowReader => {
                let until = now + chance.between(500, 12_000);
                if let Some(link) = self.link_of(index).and_then(|id| self.links.get_mut(&id)) {
                    link.reads_at = until;
                }
            }
            Fault::DeviceCrash => self.device_crashes(index, 10, 6_000),
            Fault::CrashBetweenOutputs => self.devices[index].crash_after = Some(chance.below(4)),
            Fault::SaveFailed => self.devices[index].save_fails = true,
            Fault::CacheWiped => self.wipe(index),
            Fault::TimersLate => self.devices[index].throttled_until = now + chance.between(1_000, 60_000),
            Fault::LeaderChange => self.change_leader(index, chance),
            Fault::Logout => self.log_out(index),
            Fault::LongOffline => {
                self.device_ends(index, true);
                self.schedule(now + chance.between(20_000, 90_000), Happening::DeviceStarts(index));
            }
            Fault::NetworkFlag => {
                if self.devices[index].client.is_some() {
                    self.mattered(Fault::NetworkFlag);
                }
                if chance.percent(60) {
                    self.cut(index);
                }
                self.host(index, HostEvent::Network(false));
                self.schedule(
                    now + chance.between(100, 8_000),
                    Happening::Host(life, HostEvent::Network(true)),
                );
            }
            Fault::Hidden => {
                if self.devices[index].client.is_some() {
                    self.mattered(Fault::Hidden);
                }
                self.host(index, HostEvent::Visible(false));
                let wakes = now + chance.between(1_000, 90_000);
                self.schedule(wakes, Happening::Host(life, HostEvent::Visible(true)));
                self.schedule(wakes, Happening::Host(life, HostEvent::Wake));
            }
            Fault::RelayCrash => self.crash_relay(),
            Fault::Drained => self.drain_relay(),
            Fault::CommitLate => self.relay.commit_takes_ms = chance.between(500, 3_000),
            Fault::CommitFailed => self.relay.commit_fails = true,
            Fault::DiskFull => self.relay.disk_full_until = now + chance.between(500, 5_000),
            Fault::ReadFailed => {
                let after = chance.below(12);
                self.relay.store.fail_a_read(after);
            }
            Fault::Restored if self.relay.backup.is_none() || chance.percent(60) => self.take_backup(),
            Fault::Restored => self.restore_backup(),
            Fault::DeviceClock => {
                self.mattered(Fault::DeviceClock);
                self.devices[index].clock.offset_ms = jump(chance);
            }
            Fault::RelayClock => self.relay.clock.offset_ms = jump(chance),
            Fault::Drift => {
                self.mattered(Fault::Drift);
                let rate = chance.between(800, 1_250);
                if chance.percent(50) {
                    self.relay.clock.set_rate(now, rate);
                } else {
                    self.devices[index].clock.set_rate(now, rate);
                }
            }
            Fault::ProviderFailed => self.devices[index].provider_fails = 2,
            Fault::TokenForged => self.knock_as_stranger(chance),
            _ => {}
        }
    }

    /// The platform throws the cache away while pages are closed, or frozen.
    fn wipe(&mut self, index: usize) {
        match self.devices[index].browser {
            Some(_) => self.tabs_sleep(index),
            None => self.device_ends(index, true),
        }
        let device = &mut self.devices[index];
        device.disk = crate::cache::Cache::default();
        device.unused_ms += 3_600_000;
        (device.was_stale, device.goes_back) = (true, true);
        self.mattered(Fault::CacheWiped);
        self.watch_end(index);
        self.soon(50, 3_000, Happening::DeviceStarts(index));
    }

    /// The leading tab says goodbye or is gone, and another one takes over from the cache at once.
    fn change_leader(&mut self, index: usize, chance: &mut Chance) {
        if self.devices[index].client.is_none() {
            return;
        }
        self.mattered(Fault::LeaderChange);
        if let Some(leader) = self.devices[index].browser.as_ref().and_then(Browser::leader) {
            return self.tab_closes(index, leader);
        }
        if chance.percent(50) {
            self.ask(index, Command::Close, Asked::Other);
            self.pass(chance.between(0, 60));
        }
        self.device_ends(index, chance.percent(80));
        let at = self.now + chance.between(0, 200);
        self.schedule(at, Happening::DeviceStarts(index));
    }

    pub(crate) fn log_out(&mut self, index: usize) {
        if self.devices[index].client.is_none() {
            return;
        }
        self.mattered(Fault::Logout);
        let device = &mut self.devices[index];
        device.logging_out = true;
        self.ask(index, Command::Logout { keep_cache: false }, Asked::Other);
        self.pass(400);
        self.device_ends(index, true);
        let device = &mut self.devices[index];
        (device.logging_out, device.was_stale, device.goes_back) = (false, true, true);
        self.watch_end(index);
        self.soon(100, 2_000, Happening::DeviceStarts(index));
    }

    /// Somebody without a good token says hello as one of the users.
    fn knock_as_stranger(&mut self, chance: &mut Chance) {
        if !self.relay.is_up() {
            return;
        }
        let user = chance.pick(&self.devices).user.clone();
        let ends = BEGIN_MS + self.now + 1_000_000;
        let token = match chance.below(3) {
            0 => "forged".to_owned(),
            1 => format!("mallory@{ends}"),
            _ => format!("{user}@{}", 1_000),
        };
        let hello = Hello {
            version: VERSION,
            token,
            user: user.as_str().into(),
            device: "stranger".into(),
            device_kind: DeviceKind::Web.into(),
            ..Hello::default()
        };
        let frame = if chance.percent(70) {
            ClientFrame::of(1, Verb::Hello(hello)).to_bytes().unwrap_or_default()
        } else {
            Bytes::from(chance.seed().to_vec())
        };
        self.connections += 1;
        let id = ConnectionId(self.connections);
        let link = Link {
            device: None,
            generation: hongyan_client::Generation(0),
            up: Lane::default(),
            down: Lane::default(),
            at_relay: Some(self.relay.life),
            at_device: false,
            reads_at: 0,
            reset: None,
            window: (0, 0),
            changes: BTreeMap::new(),
            telling: Telling::default(),
        };
        self.links.insert(id, link);
        self.relay_input(relay::Input::Connected(id));
        self.send_up(id, Happening::Up(id, frame));
        self.soon(15_000, 20_000, Happening::DownClosed(id, Code(1006)));
    }
}

/// Somewhere between an hour ago and in an hour; often back to the truth.
fn jump(chance: &mut Chance) -> i64 {
    let hour = 3_600_000;
    if chance.percent(40) { 0 } else { i64::try_from(chance.between(0, 2 * hour)).unwrap_or(0) - 3_600_000 }
}
