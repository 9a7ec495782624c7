//! The checker while the world runs: every frame, every transaction and every event is held against what is durable.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use hongyan_client::view::{Message, SessionStatus, Status};
use hongyan_client::{Answer, ChatError, Event};
use hongyan_protocol::wire::{
    self, ClientFrame, RelayFrame, ResetCause, client_frame::Verb, entry::Change, relay_frame,
};
use hongyan_protocol::{Class, Code, ConversationId, ConversationKind, Seq};
use hongyan_relay::core::ConnectionId;

use crate::device::Gap;
use crate::disk::Tables;
use crate::faults::Fault;
use crate::lines;
use crate::truth;
use crate::world::World;

/// What became of a text that an application gave to its client.
#[derive(Clone, Debug)]
pub(crate) struct Sending {
    pub(crate) device: usize,
    pub(crate) conversation: String,
    /// Counts what this device wrote.
    pub(crate) order: u32,
    /// The application was told that it is refused for good.
    pub(crate) refused: bool,
    /// The application was told where it is in the log.
    pub(crate) acknowledged: bool,
    /// Its device ended before it was durable there: nobody was promised anything.
    pub(crate) unsure: bool,
    /// A backup was restored that lacks it.
    pub(crate) lost: bool,
}

/// What the checker remembers.
#[derive(Default)]
pub(crate) struct Watch {
    pub(crate) sends: BTreeMap<String, Sending>,
    /// What was answered to a user's key, in this epoch.
    answers: BTreeMap<(String, String), (String, u64, u64)>,
    /// Keys that reached the relay.
    keys: BTreeSet<(String, String)>,
    /// How far users marked conversations as read, by epoch, user and conversation.
    pub(crate) marked: BTreeMap<(String, String, String), u64>,
}

impl World {
    fn user_of(&self, link: ConnectionId) -> Option<String> {
        let (device, _) = self.links.get(&link)?.device?;
        Some(self.devices[device].user.as_str().to_owned())
    }

    // ------------------------------------------------------------ frames

    /// The relay gets a frame.
    pub(crate) fn watch_up(&mut self, id: ConnectionId, bytes: &Bytes) {
        let Ok(frame) = ClientFrame::from_bytes(bytes.clone()) else { return };
        let user = self.user_of(id);
        let Some(link) = self.links.get_mut(&id) else { return };
        match frame.verb {
            Some(Verb::Hello(hello)) => {
                link.window = (hello.cursor, hello.cursor);
                self.presence_hello(id, &hello);
            }
            Some(Verb::Bye(bye)) => self.presence_bye(id, &bye),
            Some(Verb::Unwatch(body)) => {
                link.telling.forget(&body.users);
            }
            Some(Verb::SetInvisible(_)) => self.presence_hides(id),
            Some(Verb::SetAway(body)) => self.presence_away(id, body.away),
            Some(Verb::Resume(resume)) => link.window = (resume.cursor, resume.cursor),
            Some(Verb::Ack(ack)) => link.window.1 = link.window.1.max(ack.cursor),
            Some(Verb::Send(send)) => {
                let is_new = self.watch.keys.insert((user.unwrap_or_default(), send.key));
                if !is_new {
                    self.mattered(Fault::SendRepeated);
                }
            }
            _ => {}
        }
    }

    /// The relay tells somebody something: all of it must be durable, and for him.
    pub(crate) fn watch_told(&mut self, id: ConnectionId, bytes: &Bytes) {
        let Ok(frame) = RelayFrame::from_bytes(bytes.clone()) else {
            return self.broke("R9", "the relay's frames are well-formed", "one is not");
        };
        let Some(event) = frame.event else { return };
        let Some(user) = self.user_of(id) else {
            match event {
                relay_frame::Event::Reject(_) => self.mattered(Fault::TokenForged),
                // Everybody is told to come back later.
                relay_frame::Event::Retire(_) => {}
                _ => self.broke("R8", "a forged token opens nothing", "a stranger was told something"),
            }
            return;
        };
        if !matches!(event, relay_frame::Event::Ping(_) | relay_frame::Event::Pong(_)) {
            self.note(|| format!("connection {}: {user} is told {}", id.0, lines::told(&event)));
        }
        match event {
            relay_frame::Event::Sent(sent) => self.watch_told_sent(&user, sent),
            relay_frame::Event::Batch(batch) => self.watch_told_batch(id, &user, &batch),
            relay_frame::Event::HistoryPage(page) => self.watch_told_page(&user, &page),
            relay_frame::Event::LogMessages(news) => self.watch_told_log(&user, &news.messages),
            relay_frame::Event::Welcome(welcome) => {
                self.presence_welcome(id);
                let head = self.relay.store.look(|tables| truth::head(tables, &user));
                if welcome.head > head {
                    self.broke(
                        "R4",
                        format!("{user} is told the durable head {head}"),
                        format!("{}", welcome.head),
                    );
                }
            }
            relay_frame::Event::Reset(reset) => self.watch_reset(id, &user, &reset),
            relay_frame::Event::Reject(reject) => match u16::try_from(reject.code).map(Code) {
                Ok(Code::RATE_LIMITED) => self.mattered(Fault::RateLimited),
                Ok(Code::TOKEN_EXPIRED) => self.mattered(Fault::TokenExpired),
                Ok(code) => self.presence_rejected(id, code),
                Err(_) => {}
            },
            relay_frame::Event::Watched(watched) => {
                for presence in watched.presences {
                    self.presence_told(id, &user, presence);
                }
            }
            relay_frame::Event::Presence(presence) => self.presence_told(id, &user, presence),
            relay_frame::Event::Typed(typed) => self.typing_told(&user, &typed),
            relay_frame::Event::Renewed(_) => self.mattered(Fault::TokenRenewed),
            _ => {}
        }
    }

    fn watch_told_sent(&mut self, user: &str, sent: wire::Sent) {
        let found = self.relay.store.look(|tables| truth::message(tables, &sent.conversation, sent.seq));
        if !found.as_ref().is_some_and(|message| message.key == sent.key && message.from == user) {
            return self.broke(
                "R4",
                format!(
                    "what {user} is told to be sent is on the disk at {} of {}",
                    sent.seq, sent.conversation
                ),
                found.map_or("nothing is there".into(), |message| {
                    format!("{} is there", truth::text(&message))
                }),
            );
        }
        let told = (sent.conversation, sent.seq, sent.time);
        let first =
            self.watch.answers.entry((user.to_owned(), sent.key)).or_insert_with(|| told.clone()).clone();
        if first != told {
            self.broke("R4", format!("a key is always answered alike: {first:?}"), format!("{told:?}"));
        }
    }

    fn watch_told_batch(&mut self, id: ConnectionId, user: &str, batch: &wire::Batch) {
        let Some(first) = batch.entries.first() else { return };
        let count = batch.entries.len();
        let durable: Vec<_> = self
            .relay
            .store
            .look(|tables| truth::queue(tables, user, first.pos.saturating_sub(1)).take(count).collect());
        for (at, entry) in batch.entries.iter().enumerate() {
            let told = match &entry.change {
                Some(Change::Message(message)) => (message.conversation.clone(), Some(message.seq)),
                Some(Change::Read(read)) => (read.conversation.clone(), None),
                Some(Change::Group(group)) => (group.conversation.clone(), None),
                Some(Change::Diffusion(change)) => {
                    self.coverage.mattered(if change.by_log { Fault::LogBegan } else { Fault::LogEnded });
                    (change.conversation.clone(), None)
                }
                None => continue,
            };
            let durable = durable.get(at).map(|entry| (entry.pos, entry.conversation.clone(), entry.message));
            if durable != Some((entry.pos, told.0.clone(), told.1)) {
                return self.broke(
                    "R4",
                    format!("{user} is told what is durable in the queue, {durable:?}"),
                    format!("{} {told:?}", entry.pos),
                );
            }
        }
        for entry in &batch.entries {
            if let Some(Change::Message(message)) = &entry.change
                && message.mentions.iter().any(|called| called == user)
                && !self.has_queued(message)
            {
                self.mattered(Fault::Called);
            }
        }
        let window_max = self.relay.config.unacknowledged_max;
        let Some(link) = self.links.get_mut(&id) else { return };
        link.window.0 = link.window.0.max(first.pos + count as u64 - 1);
        let (told, acknowledged) = link.window;
        if told.saturating_sub(acknowledged) > window_max {
            self.broke(
                "R7",
                format!("at most {window_max} entries are told beyond what the device acknowledged"),
                format!("{user} was told {told} with {acknowledged} acknowledged"),
            );
        }
    }

    fn watch_told_page(&mut self, user: &str, page: &wire::HistoryPage) {
        let is_group =
            ConversationId::new(&page.conversation).is_ok_and(|id| id.kind() == ConversationKind::Group);
        if is_group && !self.relay.store.look(|tables| truth::is_member(tables, &page.conversation, user)) {
            self.broke(
                "R8",
                "only members read a group",
                format!("{user} got a page of {}", page.conversation),
            );
        }
        for message in &page.messages {
            if self
                .relay
                .store
                .look(|tables| truth::message(tables, &page.conversation, message.seq))
                .as_ref()
                != Some(message)
            {
                let told = (message.seq, truth::text(message));
                return self.broke("R4", "a page of history is durable", format!("{user} was told {told:?}"));
            }
        }
    }

    /// A device gets a frame.
    pub(crate) fn watch_down(&mut self, id: ConnectionId, index: usize, bytes: &Bytes) {
        let Ok(frame) = RelayFrame::from_bytes(bytes.clone()) else { return };
        let device = &mut self.devices[index];
        let Some(link) = self.links.get_mut(&id) else { return };
        match frame.event {
            Some(relay_frame::Event::Welcome(welcome)) => {
                if device.told.list_epoch.is_empty() {
                    device.told.list_epoch.clone_from(&welcome.epoch);
                }
                let behind = device.cache().meta();
                if behind.epoch == welcome.epoch && welcome.head > behind.cursor + 20 {
                    self.coverage.mattered(Fault::LongOffline);
                }
                device.told.begun.push(welcome.epoch);
            }
            Some(relay_frame::Event::Reset(reset)) => {
                let may_be_quiet = reset.cause() == ResetCause::NewDevice;
                let is_same_queue = reset.cause() == ResetCause::CursorExpired;
                link.reset = Some(Gap { epoch: reset.epoch, pos: reset.pos, may_be_quiet, is_same_queue });
            }
            Some(relay_frame::Event::Batch(batch)) if link.reset.is_none() => {
                for entry in batch.entries {
                    if entry.pos == device.told.received + 1 {
                        device.told.received = entry.pos;
                    }
                }
            }
            Some(relay_frame::Event::Snapshot(wire::Snapshot { done: true, .. })) => {
                if let Some(gap) = link.reset.take() {
                    device.told.list_epoch.clone_from(&gap.epoch);
                    if gap.may_be_quiet && device.told.received == 0 {
                        (device.told.epoch, device.told.pos) = (gap.epoch.clone(), gap.pos);
                        device.told.began = Some(gap.clone());
                    } else {
                        device.told.gaps.push_back(gap.clone());
                    }
                    device.told.received = gap.pos;
                }
            }
            Some(relay_frame::Event::LogMessages(news)) => self.watch_log_came(index, &news.messages),
            Some(relay_frame::Event::HistoryPage(page)) => self.watch_page_came(index, &page),
            Some(relay_frame::Event::Watched(watched)) => self.app_arrives(index, &watched.presences),
            Some(relay_frame::Event::Presence(presence)) => self.app_arrives(index, &[presence]),
            Some(relay_frame::Event::Typed(typed)) => self.typing_arrived(index, &typed),
            _ => {}
        }
    }

    /// A device sends a frame.
    pub(crate) fn watch_sent(&mut self, index: usize, bytes: &Bytes) {
        let Ok(frame) = ClientFrame::from_bytes(bytes.clone()) else {
            return self.broke("R9", "a client's frames are well-formed", "one is not");
        };
        if let Some(line) = frame.verb.as_ref().and_then(lines::said) {
            self.note(|| format!("device {index} says {line}"));
        }
        let device = &mut self.devices[index];
        let meta = device.cache().meta();
        let told = match frame.verb {
            Some(Verb::Hello(hello)) => (hello.epoch, hello.cursor),
            Some(Verb::Ack(ack)) => (meta.epoch.clone(), ack.cursor),
            Some(Verb::Send(send)) => {
                let content: wire::Content = prost::Message::decode(send.content).unwrap_or_default();
                if !device.cache().outbox().contains(&content.text) {
                    self.broke(
                        "R6",
                        "what goes on the wire is durable in the outbox",
                        format!("{} of device {index} is not", content.text),
                    );
                }
                return;
            }
            _ => return,
        };
        if told.0 == meta.epoch && told.1 > meta.cursor {
            return self.broke(
                "R1",
                format!("device {index} tells the cursor that it durably has, {}", meta.cursor),
                format!("it tells {}", told.1),
            );
        }
        if device.cursor_told.0 == told.0 && told.1 < device.cursor_told.1 {
            let before = device.cursor_told.1;
            return self.broke(
                "R1",
                format!("device {index}'s cursor stays at {before} or grows"),
                format!("{}", told.1),
            );
        }
        device.cursor_told = told;
    }

    // ------------------------------------------------------------ devices

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
        let by_logs = self.shape.logs.is_some();
        let missing = self.with_tables(&meta.epoch, |tables| {
            let mut queue = truth::queue(tables, user, from).take_while(|entry| entry.pos <= meta.cursor);
            queue.find(|entry| {
                let (Some(seq), Ok(id)) = (entry.message, ConversationId::new(&entry.conversation)) else {
                    return false;
                };
                // Of a group that comes by its log the queue only hints at it, and who leaves never pulls what is hinted.
                let is_hint = cache.log(&id).is_some_and(|told| told < seq);
                if is_hint || (by_logs && truth::left_after(tables, id.as_str(), user, seq)) {
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
            let is_there = |tables: &Tables| {
                tables
                    .get(&hongyan_relay::store::Table::Messages)
                    .is_some_and(|rows| rows.values().any(|row| contains(row, text)))
            };
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
                told.lines.clear();
                match told.gaps.pop_front() {
                    Some(gap) => (told.epoch, told.pos) = (gap.epoch, gap.pos),
                    None => self.broke("R2", "a gap is told after a reset", "there was no reset"),
                }
            }
            Event::LogGap { conversation, after, before } => {
                self.watch_log_gap(index, conversation.as_str(), after.0, before.0);
            }
            Event::State(state) => self.app_state(index, state.status == SessionStatus::Online),
            Event::Presence(presence) => self.app_sees(index, presence),
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
        // What is told is durable, so the cache says of which epoch it is; what was told before a gap is older.
        let epochs: Vec<String> = if pos > 0 {
            vec![device.told.epoch.clone()]
        } else if device.told.gaps.is_empty() && !device.is_logged_out() {
            vec![device.cache().meta().epoch]
        } else {
            let may_be = |gap: &Gap, epoch: &String| gap.epoch != *epoch || gap.is_same_queue;
            let is_older = |epoch: &&String| device.told.gaps.iter().all(|gap| may_be(gap, epoch));
            device.told.begun.iter().filter(is_older).cloned().collect()
        };
        let wanted = (message.conversation.as_str(), message.seq.map(|seq| seq.0));
        let mut next = None;
        for epoch in epochs {
            let entry = self.with_tables(&epoch, |tables| {
                let is_told =
                    |entry: &truth::Entry| entry.message.is_some() && !self.is_by_logs(&entry.conversation);
                let entry = truth::queue(tables, user, pos).find(is_told)?;
                let stored = truth::message(tables, &entry.conversation, entry.message?)?;
                Some((entry, truth::text(&stored)))
            });
            let Some(Some((entry, text))) = entry else { continue };
            if (entry.conversation.as_str(), entry.message) == wanted && text == message.content.text {
                let told = &mut self.devices[index].told;
                (told.epoch, told.pos) = (epoch, entry.pos);
                return;
            }
            next = Some((entry, text));
        }
        self.broke(
            "R2",
            format!("after position {pos} device {index} of {user} is told {next:?}"),
            format!("it is told {wanted:?} {}", message.content.text),
        );
    }

    fn watch_outbox(&mut self, index: usize, message: &Message, error: Option<ChatError>) {
        let text = &message.content.text;
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
                let is_there = |tables: &Tables| {
                    truth::message(tables, id, seq).is_some_and(|message| truth::text(&message) == text)
                };
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
            Err(error) if matches!(error.code, Code::CLOSED | Code::LOGGED_OUT) => {}
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
            shown.iter().all(|(seq, text)| {
                truth::message(tables, conversation.as_str(), *seq)
                    .is_some_and(|message| truth::text(&message) == *text)
            })
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
