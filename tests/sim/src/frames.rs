//! The checker of frames: what the relay tells is durable and for whom it is; what a client says it durably has.

use bytes::Bytes;
use hongyan_protocol::wire::{
    self, ClientFrame, RelayFrame, ResetCause, client_frame::Verb, entry::Change, relay_frame,
};
use hongyan_protocol::{Code, ConversationId, ConversationKind};
use hongyan_relay::core::ConnectionId;

use crate::device::Gap;
use crate::faults::Fault;
use crate::lines;
use crate::truth;
use crate::world::World;

impl World {
    pub(crate) fn user_of(&self, link: ConnectionId) -> Option<String> {
        let (device, _) = self.links.get(&link)?.device?;
        Some(self.devices[device].user.as_str().to_owned())
    }

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
            Some(Verb::SetProfile(set)) => {
                let is_new = self.watch.keys.insert((user.unwrap_or_default(), set.key));
                if !is_new {
                    self.mattered(Fault::ProfileRepeated);
                }
            }
            Some(Verb::ChangeMessage(change)) => {
                let is_new = self.watch.keys.insert((user.unwrap_or_default(), change.key));
                if !is_new {
                    self.mattered(Fault::ChangeRepeated);
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
            relay_frame::Event::LogMessages(news) => self.watch_told_log(id, &user, &news.messages),
            relay_frame::Event::LogChanges(news) => {
                if let (Some(last), Some(link)) = (news.changes.last(), self.links.get_mut(&id)) {
                    link.changes.insert(news.conversation.clone(), last.number);
                }
                self.watch_told_changes(&user, &news.conversation, &news.changes, false);
            }
            relay_frame::Event::ChangePage(page) => {
                self.watch_told_changes(&user, &page.conversation, &page.changes, true);
            }
            relay_frame::Event::Welcome(welcome) => {
                self.presence_welcome(id);
                self.ends_welcome(id);
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
                Ok(code) => {
                    self.presence_rejected(id, code);
                    self.ends_rejected(id, code);
                }
                Err(_) => {}
            },
            relay_frame::Event::ProfileList(list) => self.watch_told_profiles(&user, &list),
            relay_frame::Event::ProfileSet(set) => {
                // Who shows nothing and changes nothing is told so.
                let profiles = set.profile.into_iter().filter(|it| it.version > 0).collect();
                let list = wire::ProfileList { profiles };
                self.watch_told_profiles(&user, &list);
            }
            relay_frame::Event::Watched(watched) => {
                for presence in watched.presences {
                    self.presence_told(id, &user, presence);
                }
            }
            relay_frame::Event::Presence(presence) => self.presence_told(id, &user, presence),
            relay_frame::Event::Typed(typed) => self.typing_told(&user, &typed),
            relay_frame::Event::Renewed(_) => {
                self.mattered(Fault::TokenRenewed);
                self.ends_renewed(id);
            }
            relay_frame::Event::SignedOut(told) => self.ends_signed_out(&user, &told.device),
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
                Some(Change::Message(message)) => (message.conversation.clone(), Some(message.seq), None),
                Some(Change::Read(read)) => (read.conversation.clone(), None, None),
                Some(Change::Group(group)) => (group.conversation.clone(), None, None),
                Some(Change::Diffusion(change)) => {
                    self.coverage.mattered(if change.by_log { Fault::LogBegan } else { Fault::LogEnded });
                    (change.conversation.clone(), None, None)
                }
                Some(Change::MessageChange(change)) => {
                    let of = change.message.as_ref().map(|message| message.conversation.clone());
                    (of.unwrap_or_default(), None, Some(change.number))
                }
                Some(Change::Profile(profile)) => {
                    let made_for = durable.get(at).and_then(|entry| entry.profile);
                    self.watch_told_entry_profile(user, profile, made_for);
                    continue;
                }
                None => continue,
            };
            let durable = durable.get(at);
            let durable =
                durable.map(|entry| (entry.pos, entry.conversation.clone(), entry.message, entry.change));
            if durable != Some((entry.pos, told.0.clone(), told.1, told.2)) {
                return self.broke(
                    "R4",
                    format!("{user} is told what is durable in the queue, {durable:?}"),
                    format!("{} {told:?}", entry.pos),
                );
            }
        }
        self.watch_told_entries(user, batch);
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
            if message.conversation != page.conversation || !self.is_as_now(message) {
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
                // Of a queue that it began with, a device may have what it has not saved yet.
                let is_same_queue =
                    matches!(reset.cause(), ResetCause::CursorExpired | ResetCause::NewDevice);
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
                        // The list says which changes it holds.
                        device.told.changes.clear();
                    } else {
                        device.told.gaps.push_back(gap.clone());
                    }
                    device.told.received = gap.pos;
                }
            }
            Some(relay_frame::Event::LogMessages(news)) => self.watch_log_came(index, &news.messages),
            Some(relay_frame::Event::HistoryPage(page)) => self.watch_page_came(index, &page),
            Some(relay_frame::Event::ChangePage(page)) if !page.changes.is_empty() => {
                self.mattered(Fault::ChangePulled);
            }
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
}
