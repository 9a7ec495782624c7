//! Sends and read marks: what the user did here and the relay has to learn.

use hongyan_protocol::wire::client_frame::Verb;
use hongyan_protocol::wire::{self, Content};
use hongyan_protocol::{Class, Code, ConversationId, ConversationKind, Key, Seq, Time, UserId, limits};
use prost::Message as _;

use crate::cache::After;
use crate::client::{Client, content_bytes};
use crate::conversations;
use crate::defects::{self, Defect};
use crate::io::{Answer, ChatError, Event, Moment, Now, RequestId, Write};
use crate::limits::{BACKOFF_FIRST_MS, BACKOFF_MAX_MS, OUTBOX_MAX, SENDS_IN_FLIGHT_MAX};
use crate::outbox::Entry;
use crate::session::Pending;
use crate::timers::Timer;
use crate::view::{Message, Status};

/// What a send says.
pub(crate) struct Draft {
    pub(crate) conversation: ConversationId,
    pub(crate) key: Option<Key>,
    pub(crate) content: Content,
    pub(crate) reply_to: Option<Seq>,
    pub(crate) mentions: Vec<UserId>,
}

impl Client {
    pub(crate) fn send(&mut self, now: Now, request: RequestId, draft: Draft) {
        if let Err(code) = self.check_draft(&draft) {
            self.reply(request, Err(ChatError::new(code)));
            return;
        }
        let mut waiters = vec![request];
        if let Some(order) = draft.key.as_ref().and_then(|key| self.outbox.find(key)) {
            match self.outbox.entries.get_mut(&order) {
                Some(entry) if entry.failed.is_none() => {
                    // The same message again: one is sent, both are answered.
                    entry.waiters.push(request);
                    return;
                }
                Some(_) | None => {}
            }
            if let Some(failed) = self.outbox.entries.remove(&order) {
                waiters.extend(failed.waiters);
            }
            self.cache.write(Write::OutboxGone(order));
        } else if self.outbox.entries.len() >= OUTBOX_MAX {
            let message = "Too many messages wait to be sent; try again when some are.".into();
            self.reply(request, Err(ChatError { code: Code::BUSY, message }));
            return;
        }
        let key = match draft.key.map_or_else(|| Key::new(&self.random.name()), Ok) {
            Ok(key) => key,
            Err(_) => return self.reply(request, Err(ChatError::new(Code::BAD_REQUEST))),
        };
        let entry = Entry {
            conversation: draft.conversation.clone(),
            key,
            content: content_bytes(&draft.content),
            reply_to: draft.reply_to,
            mentions: draft.mentions,
            time: now.time,
            failed: None,
            durable: defects::is_on(Defect::SendBeforeDurable),
            in_flight: false,
            waiters,
        };
        self.typing_begins_anew(&draft.conversation);
        let (record, view) = (entry.record(), entry.view(&self.user));
        let order = self.outbox.push(entry);
        self.conversations.entry(&draft.conversation, &mut self.cache.gathering.writes);
        self.cache.changed(&draft.conversation);
        self.cache.write(Write::Outbox(order, record));
        self.cache.after(After::Queued(order));
        self.event(Event::Outbox(view, None));
        if defects::is_on(Defect::SendBeforeDurable) {
            self.pump_outbox(now);
        }
        self.wanted(now);
    }

    /// The user may be in this conversation, for all that is known here.
    pub(crate) fn check_member(&self, id: &ConversationId) -> Result<(), Code> {
        if id.kind() == ConversationKind::Direct {
            id.users().ok_or(Code::BAD_REQUEST)?;
            id.peer_of(&self.user).ok_or(Code::NOT_A_MEMBER)?;
        }
        if self.conversations.get(id).is_some_and(|line| line.left) {
            return Err(Code::NOT_A_MEMBER);
        }
        Ok(())
    }

    fn check_draft(&self, draft: &Draft) -> Result<(), Code> {
        // Whether the user is in a group is the relay's to say: it may have been sent before she left, by a tab that asks the
        // next leader again.
        if draft.conversation.kind() == ConversationKind::Direct {
            self.check_member(&draft.conversation)?;
        }
        if draft.content.encoded_len() > self.session.content_bytes_max {
            return Err(Code::CONTENT_TOO_LARGE);
        }
        if draft.mentions.len() > limits::MENTIONS_MAX {
            return Err(Code::BAD_REQUEST);
        }
        Ok(())
    }

    /// Puts on the wire what may go there.
    pub(crate) fn pump_outbox(&mut self, now: Now) {
        if !self.session.is_online() || self.outbox.entries.is_empty() {
            return;
        }
        let room = SENDS_IN_FLIGHT_MAX.saturating_sub(self.outbox.in_flight());
        for order in self.outbox.ready(now.moment).into_iter().take(room) {
            if let Some(entry) = self.outbox.entries.get_mut(&order) {
                debug_assert!(entry.durable && !entry.in_flight && entry.failed.is_none());
                entry.in_flight = true;
                if defects::is_on(Defect::NewKeyOnRetry)
                    && let Ok(key) = Key::new(&self.random.name())
                {
                    entry.key = key;
                }
                let send = entry.send();
                self.request(now, Pending::Send(order), Verb::Send(send));
            }
        }
        self.timers.set_or_clear(Timer::Outbox, self.outbox.next(now.moment));
    }

    pub(crate) fn sent(&mut self, now: Now, pending: Option<Pending>, sent: &wire::Sent) {
        let Some(Pending::Send(order)) = pending else { return };
        self.session.brought();
        // The queue may have told it already.
        if self.outbox.entries.get(&order).is_some_and(|entry| entry.key.as_str() == sent.key) {
            self.confirm(order, Seq(sent.seq), Time(sent.time), None);
        }
        self.pump_outbox(now);
    }

    /// The message is in the log: out of the outbox and into the conversation, in one transaction.
    ///
    /// `told`: the log's own word of it, where that came; it may be newer than what was sent.
    pub(crate) fn confirm(&mut self, order: u64, seq: Seq, time: Time, told: Option<&Message>) {
        let Some(entry) = self.outbox.entries.remove(&order) else { return };
        let mut now = told.cloned();
        self.outbox.goes_on(&entry.conversation);
        self.cache.write(Write::OutboxGone(order));
        if now.is_none() {
            match self.conversations.get_mut(&entry.conversation) {
                // The first answer came again, and what was told meanwhile (a snapshot, a head) is newer than what was
                // sent: the message may have been changed since.
                Some(line) if seq <= line.last_seq => {
                    line.take_own(seq);
                    let last = line.last.as_ref().filter(|last| last.seq == seq.0);
                    now = last.and_then(conversations::view);
                    self.cache.changed(&entry.conversation);
                }
                _ => {
                    let message = entry.sent(&self.user, seq, time);
                    self.note_message(&entry.conversation, &message, true);
                }
            }
        }
        let view = now.unwrap_or_else(|| Message {
            seq: Some(seq),
            time,
            status: Status::Sent,
            ..entry.view(&self.user)
        });
        self.cache.after(After::Event(Event::Outbox(view.clone(), None)));
        for waiter in entry.waiters {
            self.cache.after(After::Reply(waiter, Ok(Answer::Sent(view.clone()))));
        }
    }

    pub(crate) fn send_rejected(&mut self, now: Now, order: u64, error: ChatError, retry_after_ms: u64) {
        let Some(entry) = self.outbox.entries.get_mut(&order) else { return };
        entry.in_flight = false;
        let conversation = entry.conversation.clone();
        if error.class() != Class::Stop {
            let until =
                later(&mut self.random, now, self.outbox.put_off_times(&conversation), retry_after_ms);
            self.outbox.put_off(&conversation, until);
            self.pump_outbox(now);
            return;
        }
        entry.failed = Some(error.clone());
        let waiters = core::mem::take(&mut entry.waiters);
        let (record, view) = (entry.record(), entry.view(&self.user));
        self.outbox.goes_on(&conversation);
        self.cache.write(Write::Outbox(order, record));
        self.cache.changed(&conversation);
        self.cache.after(After::Event(Event::Outbox(view, Some(error.clone()))));
        for waiter in waiters {
            self.cache.after(After::Reply(waiter, Err(error.clone())));
        }
        self.pump_outbox(now);
    }

    pub(crate) fn discard(&mut self, request: RequestId, key: &Key) {
        if let Some(order) = self.outbox.find(key) {
            if self.outbox.entries.get(&order).is_some_and(|entry| entry.failed.is_none()) {
                let message = "The message is being sent; only a failed one can be discarded.".into();
                self.reply(request, Err(ChatError { code: Code::BAD_REQUEST, message }));
                return;
            }
            if let Some(entry) = self.outbox.entries.remove(&order) {
                self.cache.changed(&entry.conversation);
            }
            self.cache.write(Write::OutboxGone(order));
        }
        self.cache.after(After::Reply(request, Ok(Answer::Done)));
    }

    pub(crate) fn mark_read(&mut self, now: Now, request: RequestId, id: &ConversationId, seq: Option<Seq>) {
        if let Some(line) = self.conversations.get_mut(id) {
            let seq = seq.unwrap_or(line.last_seq).min(line.last_seq);
            if line.read(seq) {
                line.read_pending = !line.left;
                self.cache.changed(id);
            }
        }
        self.cache.after(After::Reply(request, Ok(Answer::Done)));
        self.pump_reads(now);
        self.wanted(now);
    }

    pub(crate) fn has_read_pending(&self) -> bool {
        self.conversations.iter().any(|(_, line)| line.read_pending)
    }

    /// Tells the relay the read marks that it has not taken yet.
    pub(crate) fn pump_reads(&mut self, now: Now) {
        if !self.session.is_online() || self.timers.get(Timer::Reads).is_some() {
            return;
        }
        // Marks of another epoch's log would fall on other messages.
        if self.queue.is_resetting() && !defects::is_on(Defect::ReadAcrossEpochs) {
            return;
        }
        let room = SENDS_IN_FLIGHT_MAX.saturating_sub(
            self.session
                .pending
                .values()
                .filter(|(pending, _)| matches!(pending, Pending::MarkRead(_)))
                .count(),
        );
        let due: Vec<_> = self
            .conversations
            .iter_mut()
            .filter(|(_, line)| line.read_pending && !line.read_in_flight)
            .take(room)
            .map(|(id, line)| {
                line.read_in_flight = true;
                (id.clone(), line.read_seq.0)
            })
            .collect();
        for (id, seq) in due {
            let mark = wire::MarkRead { conversation: id.as_str().into(), seq };
            self.request(now, Pending::MarkRead(id), Verb::MarkRead(mark));
        }
    }

    pub(crate) fn marked_read(&mut self, now: Now, pending: Option<Pending>, marked: &wire::MarkedRead) {
        let Some(Pending::MarkRead(id)) = pending else { return };
        if let Some(line) = self.conversations.get_mut(&id) {
            line.read_in_flight = false;
            if Seq(marked.seq) >= line.read_seq {
                line.read_pending = false;
                line.read(Seq(marked.seq).min(line.last_seq));
                self.cache.changed(&id);
            }
        }
        self.pump_reads(now);
    }

    pub(crate) fn read_rejected(
        &mut self,
        now: Now,
        id: &ConversationId,
        error: &ChatError,
        retry_after_ms: u64,
    ) {
        if let Some(line) = self.conversations.get_mut(id) {
            line.read_in_flight = false;
            if error.class() == Class::Stop {
                line.read_pending = false;
                self.cache.changed(id);
            } else {
                let until = later(&mut self.random, now, 2, retry_after_ms);
                self.timers.set(Timer::Reads, until);
            }
        }
    }
}

/// When to try again: the relay's wish, and the back-off with full jitter on top.
pub(crate) fn later(random: &mut crate::random::Random, now: Now, times: u32, retry_after_ms: u64) -> Moment {
    let cap = BACKOFF_FIRST_MS.saturating_mul(1 << times.min(16)).min(BACKOFF_MAX_MS);
    now.moment.after_ms(retry_after_ms.saturating_add(random.up_to(cap)).max(1))
}
