//! The checker while the world runs: every transaction and every event is held against what is durable; frames are in `frames.rs`.

use std::collections::{BTreeMap, BTreeSet};

use hongyan_client::view::{Message, SessionStatus, Status};
use hongyan_client::{Answer, ChatError, Event};
use hongyan_protocol::{Class, Code, ConversationId, ConversationKind, Seq};

use crate::changes::AppChange;
use crate::disk::Tables;
use crate::faults::Fault;
use crate::truth;
use crate::world::World;

/// What became of a text that an application gave to its client.
#[derive(Clone, Debug)]
pub(crate) struct Sending {
    pub(crate) device: usize,
    /// Of several that the device has.
    pub(crate) tab: u64,
    pub(crate) conversation: String,
    /// Counts what this device wrote.
    pub(crate) order: u32,
    /// The application was told that it is refused for good.
    pub(crate) refused: bool,
    /// The application was told where it is in the log.
    pub(crate) acknowledged: bool,
    /// Its device ended before it was durable there, or was signed out: nobody was promised anything.
    pub(crate) unsure: bool,
    /// A backup was restored that lacks it.
    pub(crate) lost: bool,
}

/// What the checker remembers.
#[derive(Default)]
pub(crate) struct Watch {
    pub(crate) sends: BTreeMap<String, Sending>,
    /// What was written under each key.
    pub(crate) written: BTreeMap<String, String>,
    /// What was answered to a user's key, in this epoch.
    pub(crate) answers: BTreeMap<(String, String), (String, u64, u64)>,
    /// Keys that reached the relay.
    pub(crate) keys: BTreeSet<(String, String)>,
    /// How far users marked conversations as read, by epoch, user and conversation.
    pub(crate) marked: BTreeMap<(String, String, String), u64>,
}

impl World {
    /// A device starts from its cache.
    pub(crate) fn watch_start(&mut self, index: usize) {
        let device = &mut self.devices[index];
        let meta = device.disk.meta();
        let goes_back = std::mem::take(&mut device.goes_back);
        let before = device.cursor_told.clone();
        if goes_back {
            device.cursor_told = (meta.epoch.clone(), meta.cursor);
        }
        device.told = crate::device::Told {
            epoch: meta.epoch.clone(),
            pos: meta.cursor,
            begun: vec![meta.epoch.clone()],
            received: meta.cursor,
            list_epoch: meta.epoch.clone(),
            logs: device.disk.logs(),
            changes: device.disk.changes(),
            profiles: device.disk.profiles(),
            ..Default::default()
        };
        if !goes_back && before.0 == meta.epoch && before.1 > meta.cursor {
            return self.broke(
                "R1",
                format!("device {index} starts from {} or later", before.1),
                format!("from {}", meta.cursor),
            );
        }
        self.watch_cache(index);
    }

    /// The cache holds what its cursor says.
    pub(crate) fn watch_cache(&mut self, index: usize) {
        let device = &self.devices[index];
        let (cache, user) = (device.cache(), device.user.as_str());
        let meta = cache.meta();
        let from = if cache.from.0 == meta.epoch { cache.from.1 } else { 0 };
        // Who left and came again keeps nothing of before if messages were changed meanwhile.
        let may_go = self.shape.logs.is_some() || self.scenario.changes;
        let missing = self.with_tables(&meta.epoch, |tables| {
            let mut queue = truth::queue(tables, user, from).take_while(|entry| entry.pos <= meta.cursor);
            queue.find(|entry| {
                let (Some(seq), Ok(id)) = (entry.message, ConversationId::new(&entry.conversation)) else {
                    return false;
                };
                // Of a group that comes by its log the queue only hints at it, and who leaves never pulls what is hinted.
                let is_hint = cache.log(&id).is_some_and(|told| told < seq);
                if is_hint || (may_go && truth::left_after(tables, id.as_str(), user, seq)) {
                    return false;
                }
                let kept = cache.message(&id, Seq(seq)).map(|message| message.key);
                kept != truth::message(tables, &entry.conversation, seq).map(|message| message.key)
            })
        });
        if let Some(Some(entry)) = missing {
            self.broke(
                "R2",
                format!("the cache of device {index} holds the queue up to its cursor {}", meta.cursor),
                format!("it lacks {:?} of {} at position {}", entry.message, entry.conversation, entry.pos),
            );
        }
    }

    /// A device has ended: what was not durable in its outbox was promised to nobody.
    pub(crate) fn watch_end(&mut self, index: usize) {
        let kept = self.devices[index].disk.outbox();
        for (text, sending) in &mut self.watch.sends {
            if sending.device == index && !sending.acknowledged && !sending.refused && !kept.contains(text) {
                sending.unsure = true;
            }
        }
    }

    /// A transaction became durable on a device.
    pub(crate) fn watch_saved(&mut self, index: usize, outbox_before: &BTreeSet<String>, begins_anew: bool) {
        let device = &mut self.devices[index];
        let meta = device.cache().meta();
        if begins_anew || device.cache().from.0 != meta.epoch {
            let gaps = device.told.began.iter().chain(&device.told.gaps);
            let gap = gaps.rev().find(|gap| gap.epoch == meta.epoch);
            let from = (meta.epoch.clone(), gap.map_or(0, |gap| gap.pos));
            match &mut device.memory {
                Some(memory) => memory.from = from,
                None => device.disk.from = from,
            }
        }
        if device.is_logged_out() {
            return;
        }
        let after = device.cache().outbox();
        let discarded = device.discarded.clone();
        for text in outbox_before.difference(&after).filter(|text| !discarded.contains(*text)) {
            let Some(sending) = self.watch.sends.get(text).cloned() else { continue };
            let is_there =
                |tables: &Tables| tables.states.values().flatten().any(|state| contains(state, text));
            if !sending.lost && !self.relay.store.look(is_there) && !self.archive.values().any(is_there) {
                return self.broke(
                    "R6",
                    format!("{text} of device {index} leaves the outbox when it is in the log"),
                    "it left, and no log has it",
                );
            }
        }
    }

    /// An application hears something.
    pub(crate) fn watch_event(&mut self, index: usize, event: Event) {
        match event {
            Event::Message(message) => self.watch_message(index, &message),
            Event::Outbox(message, error) => self.watch_outbox(index, &message, error),
            Event::Conversation(line) => {
                let told = &mut self.devices[index].told;
                let id = line.id.as_str().to_owned();
                let read = told.reads.insert(id.clone(), line.read_seq.0).unwrap_or(0);
                told.lines.insert(id.clone(), (line.unread, line.read_seq.0, line.last_seq.0));
                if read > line.read_seq.0 && told.gaps.is_empty() {
                    let now = line.read_seq;
                    self.broke(
                        "R1",
                        format!("device {index}'s read mark of {id} stays at {read} or grows"),
                        format!("{now}"),
                    );
                }
            }
            Event::Gap => {
                self.mattered(Fault::Reset);
                let told = &mut self.devices[index].told;
                told.reads.clear();
                told.logs.clear();
                told.changes.clear();
                told.lines.clear();
                match told.gaps.pop_front() {
                    Some(gap) => {
                        // Profiles are known on through a reset of the same life.
                        if !gap.is_same_queue && gap.epoch != told.epoch {
                            told.profiles.clear();
                        }
                        (told.epoch, told.pos) = (gap.epoch, gap.pos);
                    }
                    None => self.broke("R2", "a gap is told after a reset", "there was no reset"),
                }
            }
            Event::Change { kind, by, time, reaction, message } => {
                self.watch_change(index, &AppChange { kind, by, time, reaction, message });
            }
            Event::ChangesGap { conversation } => self.watch_changes_gap(index, conversation.as_str()),
            Event::LogGap { conversation, after, before } => {
                self.watch_log_gap(index, conversation.as_str(), after.0, before.0);
            }
            Event::State(state) => self.app_state(index, state.status == SessionStatus::Online),
            Event::Presence(presence) => self.app_sees(index, presence),
            Event::Profile(profile) => self.watch_profile(index, &profile),
            Event::Typing { conversation, user, typing } => {
                self.typing_shown(index, &conversation, &user, typing);
            }
            Event::Group(_) => {}
        }
    }

    /// Promise R2: the next message of the queue, and no other.
    fn watch_message(&mut self, index: usize, message: &Message) {
        if self.is_by_logs(message.conversation.as_str()) {
            return self.watch_group_message(index, message);
        }
        let device = &self.devices[index];
        let user = device.user.as_str();
        let pos = device.told.pos;
        let epochs = device.told.epochs((!device.is_logged_out()).then(|| device.cache().meta().epoch));
        let wanted = (message.conversation.as_str(), message.seq.map(|seq| seq.0));
        let mut next = None;
        for epoch in epochs {
            let entry = self.with_tables(&epoch, |tables| {
                let is_told = |entry: &truth::Entry| {
                    let Some(seq) = entry.message else { return false };
                    !self.is_by_logs(&entry.conversation)
                        && ((entry.conversation.as_str(), entry.message) == wanted
                            || !truth::is_withheld(tables, &entry.conversation, seq, user))
                };
                let entry = truth::queue(tables, user, pos).find(is_told)?;
                let said = truth::said(tables, &entry.conversation, entry.message?, &message.content.text);
                Some((entry, said))
            });
            let Some(Some((entry, is_said))) = entry else { continue };
            if (entry.conversation.as_str(), entry.message) == wanted && is_said {
                let told = &mut self.devices[index].told;
                (told.epoch, told.pos) = (epoch, entry.pos);
                return;
            }
            next = Some((entry, is_said));
        }
        self.broke(
            "R2",
            format!("after position {pos} device {index} of {user} is told {next:?}"),
            format!("it is told {wanted:?} {}", message.content.text),
        );
    }

    fn watch_outbox(&mut self, index: usize, message: &Message, error: Option<ChatError>) {
        // What was sent is shown as it is now, which may be something else than what was written.
        let text = self.watch.written.entry(message.key.as_str().to_owned());
        let text = &text.or_insert_with(|| message.content.text.clone()).clone();
        let sending = &mut self.devices[index].told.sending;
        if message.status == Status::Sending {
            sending.insert(text.clone());
        } else {
            sending.remove(text);
        }
        let Some(state) = self.watch.sends.get_mut(text) else { return };
        match (message.status, error) {
            // Also after a refusal: a frame of an older connection came in late, and the application learns of it.
            (Status::Sent, _) => (state.acknowledged, state.refused) = (true, false),
            (Status::Failed, error) => {
                state.refused = true;
                let code = error.map(|error| error.code);
                let is_group = message.conversation.kind() == ConversationKind::Group;
                if code != Some(Code::NOT_A_MEMBER) || !is_group {
                    return self.broke(
                        "R6",
                        format!("{text} is refused for good only because its sender is in the group no more"),
                        format!("in {} it is refused for good: {code:?}", message.conversation),
                    );
                }
                self.mattered(Fault::MemberGone);
            }
            // It was refused, and is tried again.
            (Status::Sending, _) => state.refused = false,
        }
    }

    /// Promise R4, as the application hears it.
    pub(crate) fn watch_send_answered(
        &mut self,
        index: usize,
        text: &str,
        answer: Result<Answer, ChatError>,
    ) {
        match answer {
            Ok(Answer::Sent(message)) => {
                let (id, seq) = (message.conversation.as_str(), message.seq.map_or(0, |seq| seq.0));
                let is_there = |tables: &Tables| truth::said(tables, id, seq, text);
                if !self.relay.store.look(is_there) && !self.archive.values().any(is_there) {
                    return self.broke(
                        "R4",
                        format!("{text}, acknowledged, is at {seq} of {id}"),
                        "it is not there",
                    );
                }
                if let Some(state) = self.watch.sends.get_mut(text) {
                    state.acknowledged = true;
                }
            }
            Ok(_) => {
                self.broke("R6", "a send is answered as sent", format!("{text} of device {index} was not"));
            }
            Err(error) if matches!(error.code, Code::CLOSED | Code::LOGGED_OUT) => {
                if let Some(state) = self.watch.sends.get_mut(text) {
                    state.unsure |= error.code == Code::LOGGED_OUT && !state.acknowledged;
                }
            }
            Err(error) => {
                if error.class() != Class::Stop && error.code != Code::BUSY {
                    return self.broke("R6", "a send fails for good only", format!("{text}: {error:?}"));
                }
                if let Some(state) = self.watch.sends.get_mut(text) {
                    state.refused = true;
                }
            }
        }
    }

    /// Promise R5, for a page in the middle of everything: it has no gaps, and is of one log.
    pub(crate) fn watch_page(&mut self, index: usize, conversation: &ConversationId, page: &[Message]) {
        let shown: Vec<_> =
            page.iter().filter_map(|message| Some((message.seq?.0, message.content.text.clone()))).collect();
        if shown.windows(2).any(|pair| pair[1].0 != pair[0].0 + 1) {
            return self.broke(
                "R5",
                format!("device {index} shows a page of {conversation} without gaps"),
                format!("{shown:?}"),
            );
        }
        let is_of = |tables: &Tables| {
            shown.iter().all(|(seq, text)| truth::said(tables, conversation.as_str(), *seq, text))
        };
        if !self.relay.store.look(is_of) && !self.archive.values().any(is_of) {
            self.broke(
                "R5",
                format!("device {index} shows a page of {conversation} as it is in one log"),
                format!("{shown:?}"),
            );
        }
    }

    /// A user marks a conversation as read.
    pub(crate) fn watch_marked(&mut self, index: usize, conversation: &ConversationId, seq: u64) {
        let device = &self.devices[index];
        let place = (
            device.told.list_epoch.clone(),
            device.user.as_str().to_owned(),
            conversation.as_str().to_owned(),
        );
        let marked = self.watch.marked.entry(place).or_default();
        *marked = (*marked).max(seq);
    }

    /// A backup took the place of the store; how many messages it lacks.
    pub(crate) fn watch_restored(&mut self, before: &Tables, backup: &Tables) -> u64 {
        self.watch.answers.clear();
        let kept: BTreeSet<String> = truth::logs(backup).values().flatten().map(truth::text).collect();
        let mut lost = 0;
        for message in truth::logs(before).values().flatten() {
            let text = truth::text(message);
            if !kept.contains(&text) {
                lost += 1;
                if let Some(sending) = self.watch.sends.get_mut(&text) {
                    sending.lost = true;
                }
            }
        }
        for user in self.users() {
            for (conversation, membership) in truth::memberships(backup, user.as_str()) {
                let place = (self.relay.epoch.clone(), user.as_str().to_owned(), conversation);
                self.watch.marked.insert(place, membership.read_seq);
            }
        }
        lost
    }
}

fn contains(bytes: &[u8], text: &str) -> bool {
    // A text ends with a full stop, so none is part of another.
    bytes.windows(text.len()).any(|window| window == text.as_bytes())
}
