//! Pages of history: by arithmetic from the cache, and what is missing there from the relay.
//!
//! A log has no gaps, so the head and the bounds tell which seqs a page holds, and a page is complete when each of
//! them is there. What the relay told is put into the cache.

use bytes::Bytes;
use hongyan_protocol::wire::client_frame::Verb;
use hongyan_protocol::{Code, ConversationId, Seq, limits, wire};
use prost::Message as _;

use crate::client::Client;
use crate::conversations;
use crate::defects::{self, Defect};
use crate::io::{Answer, ChatError, Now, Output, RequestId, Ticket, Write};
use crate::limits::HISTORY_ROUNDS_MAX;
use crate::requests::What;
use crate::sorted::SortedMap;
use crate::view::SessionStatus;

/// Which end of the page is near: what is there without a gap from that end is worth showing.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Near {
    /// The newest page.
    Head,
    /// Below a bound.
    Before(Seq),
    /// Above a bound.
    After(Seq),
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// Before anything.
    New,
    /// The cache reads.
    Loading { ticket: Ticket, life: u64 },
    /// The relay is to be asked.
    Asking,
}

/// A page in the making.
pub(crate) struct Job {
    conversation: ConversationId,
    near: Near,
    limit: u64,
    /// The lowest and the highest seq of the page; `None` while the head is not known here.
    range: Option<(u64, u64)>,
    have: SortedMap<u64, wire::Message>,
    stage: Stage,
    rounds: u32,
}

impl Job {
    /// The seqs of the page, once the log's head is known.
    fn set_range(&mut self, head: Seq) {
        let (head, limit) = (head.0, self.limit);
        self.range = Some(match self.near {
            Near::Head => (head.saturating_sub(limit) + 1, head),
            Near::Before(before) => {
                let to = before.0.saturating_sub(1).min(head);
                (to.saturating_sub(limit) + 1, to)
            }
            Near::After(after) => (after.0.saturating_add(1), after.0.saturating_add(limit).min(head)),
        });
    }

    /// What is there without a gap from the near end, ascending.
    fn contiguous(&self) -> Vec<&wire::Message> {
        let Some((from, to)) = self.range else { return Vec::new() };
        if from > to {
            return Vec::new();
        }
        if let Near::After(_) = self.near {
            (from..=to).map_while(|seq| self.have.get(&seq)).collect()
        } else {
            let mut messages: Vec<_> = (from..=to).rev().map_while(|seq| self.have.get(&seq)).collect();
            messages.reverse();
            messages
        }
    }

    /// How many messages are missing.
    fn missing(&self) -> u64 {
        let Some((from, to)) = self.range else { return self.limit };
        let page = if from > to { 0 } else { (to - from).saturating_add(1) };
        page.saturating_sub(u64::try_from(self.contiguous().len()).unwrap_or(page))
    }

    /// The next question to the relay; `None` while the cache reads.
    pub(crate) fn verb(&self) -> Option<Verb> {
        if self.stage != Stage::Asking {
            return None;
        }
        let count = u64::try_from(self.contiguous().len()).unwrap_or(0);
        if self.near == Near::After(Seq::ZERO) && count == 0 {
            return Some(self.first_message());
        }
        let (before, after) = match (self.near, self.range) {
            (Near::After(after), _) => (0, after.0.saturating_add(count)),
            (Near::Head | Near::Before(_), Some((_, to))) => (to.saturating_add(1).saturating_sub(count), 0),
            (Near::Before(before), None) => (before.0, 0),
            (Near::Head, None) => (0, 0),
        };
        let limit = u32::try_from(self.missing()).unwrap_or(u32::MAX);
        Some(Verb::History(wire::History {
            conversation: self.conversation.as_str().into(),
            before,
            after,
            limit,
        }))
    }

    /// The wire has no "after nothing" (zero is no bound there): the log's first message comes alone, and the page
    /// goes on after it.
    fn first_message(&self) -> Verb {
        Verb::History(wire::History {
            conversation: self.conversation.as_str().into(),
            before: 2,
            after: 0,
            limit: 1,
        })
    }

    fn take(&mut self, message: wire::Message) {
        if message.conversation == self.conversation.as_str() {
            self.have.insert(message.seq, message);
        }
    }
}

impl Client {
    pub(crate) fn history(
        &mut self,
        now: Now,
        request: RequestId,
        conversation: ConversationId,
        before: Option<Seq>,
        after: Option<Seq>,
        limit: usize,
    ) {
        let near = match (before, after) {
            (None, None) => Near::Head,
            (Some(before), None) => Near::Before(before),
            (None, Some(after)) => Near::After(after),
            (Some(_), Some(_)) => {
                let message = "A page of history is before a message or after one, not both.".into();
                self.reply(request, Err(ChatError { code: Code::BAD_REQUEST, message }));
                return;
            }
        };
        let limit = u64::try_from(limit.clamp(1, limits::HISTORY_PAGE_MESSAGES_MAX)).unwrap_or(1);
        let stage = Stage::New;
        let job = Job { conversation, near, limit, range: None, have: SortedMap::new(), stage, rounds: 0 };
        self.ask(now, request, What::History(Box::new(job)));
    }

    /// The log is another one now: what pages hold of the one before is no part of them any more.
    pub(crate) fn histories_begin_anew(&mut self) {
        for ask in self.asks.waiting.values_mut() {
            if let What::History(job) = &mut ask.what {
                job.have.clear();
                job.range = None;
            }
        }
    }

    /// A message is another one now, whatever the cache still reads or gave.
    pub(crate) fn histories_changed(&mut self, of: &ConversationId, message: &wire::Message) {
        for ask in self.asks.waiting.values_mut() {
            if let What::History(job) = &mut ask.what
                && job.conversation == *of
            {
                job.take(message.clone());
            }
        }
    }

    /// What the cache has of a conversation is no part of any page any more.
    pub(crate) fn histories_forget(&mut self, of: &ConversationId) {
        for ask in self.asks.waiting.values_mut() {
            if let What::History(job) = &mut ask.what
                && job.conversation == *of
            {
                job.have.clear();
                if let Stage::Loading { life, .. } = &mut job.stage {
                    // Of no life at all.
                    *life = u64::MAX;
                }
            }
        }
    }

    fn job(&mut self, number: u64) -> Option<&mut Job> {
        match &mut self.asks.waiting.get_mut(&number)?.what {
            What::History(job) => Some(job),
            What::Verb(_) | What::Watch(_) | What::Profiles(_) => None,
        }
    }

    /// The page's bounds, and what the cache has of it.
    pub(crate) fn begin_history(&mut self, now: Now, number: u64) {
        let ticket = self.cache.ticket();
        let life = self.queue.life;
        let Some(What::History(job)) = self.asks.waiting.get_mut(&number).map(|ask| &mut ask.what) else {
            return;
        };
        let is_going = self.cache.is_going(&job.conversation);
        let head = self.conversations.get(&job.conversation).map_or(Seq::ZERO, |line| line.last_seq);
        if head > Seq::ZERO {
            job.set_range(head);
        }
        match job.range {
            Some((from, to)) if from <= to && !is_going => {
                job.stage = Stage::Loading { ticket, life };
                let conversation = job.conversation.clone();
                self.output(Output::Load { ticket, conversation, from: Seq(from), to: Seq(to) });
            }
            Some(_) | None => {
                self.overlay(number);
                self.go_on(now, number);
            }
        }
    }

    /// The cache read.
    pub(crate) fn loaded(&mut self, now: Now, ticket: Ticket, messages: Vec<(Seq, Bytes)>) {
        let found = self.asks.waiting.iter().find_map(|(number, ask)| match &ask.what {
            What::History(job) => match job.stage {
                Stage::Loading { ticket: loading, life } if loading == ticket => Some((*number, life)),
                Stage::New | Stage::Loading { .. } | Stage::Asking => None,
            },
            What::Verb(_) | What::Watch(_) | What::Profiles(_) => None,
        });
        let Some((number, life)) = found else { return };
        // After a reset the numbers may mean other messages.
        let trusted = life == self.queue.life;
        if let Some(job) = self.job(number) {
            for (seq, record) in messages {
                if trusted
                    && let Ok(message) = wire::Message::decode(record)
                    && message.seq == seq.0
                    // A change that came while the cache read is newer.
                    && !job.have.contains_key(&seq.0)
                {
                    job.take(message);
                }
            }
        }
        self.overlay(number);
        self.go_on(now, number);
    }

    /// Adds what is known here and not yet in the cache.
    fn overlay(&mut self, number: u64) {
        let Some(job) = self.job(number) else { return };
        let (conversation, range) = (job.conversation.clone(), job.range);
        let Some((from, to)) = range else { return };
        let unsaved = self.cache.unsaved_messages(&conversation, Seq(from), Seq(to));
        let last = self.conversations.get(&conversation).and_then(|line| line.last.clone());
        if let Some(job) = self.job(number) {
            for message in unsaved.into_values().filter_map(|record| wire::Message::decode(record).ok()) {
                job.take(message);
            }
            if let Some(last) = last {
                job.take(last);
            }
        }
    }

    /// Complete: answer. Else ask the relay, or make do with what is there.
    fn go_on(&mut self, now: Now, number: u64) {
        let online = self.session.is_online();
        let connecting = self.session.status() == SessionStatus::Connecting;
        let stopped = self.stopped_by();
        let Some(job) = self.job(number) else { return };
        job.stage = Stage::Asking;
        if job.range.is_some() && job.missing() == 0 {
            self.answer_history(number);
        } else if online {
            self.pump_asks(now);
        } else if let Some(error) = stopped {
            self.history_or_error(number, error);
        } else if !job.contiguous().is_empty() || (job.near == Near::Head && !connecting) {
            self.answer_history(number);
        }
        // Else it waits for the connection until its deadline; the newest page only while one is on its way.
    }

    /// The relay told a page.
    pub(crate) fn history_page(&mut self, now: Now, number: u64, page: wire::HistoryPage) {
        let Some(job) = self.job(number) else { return };
        let id = job.conversation.clone();
        if job.range.is_none() {
            job.set_range(Seq(page.last_seq));
        }
        job.rounds += 1;
        let end = page.messages.is_empty() || job.rounds >= HISTORY_ROUNDS_MAX;
        let line = self.conversations.get_mut(&id).filter(|line| line.last_seq > Seq::ZERO);
        let known = line.is_some();
        // Where what was known of the newest is gone, or older than this.
        if let (Some(line), Some(newest)) = (line, page.messages.last())
            && newest.conversation == id.as_str()
            && line.last.as_ref().map_or(line.last_seq.0, |last| last.seq) == newest.seq
        {
            line.show(newest);
            self.cache.changed(&id);
        }
        for message in &page.messages {
            if known && message.conversation == id.as_str() && message.seq > 0 {
                let record = message.encode_to_vec().into();
                self.cache.write(Write::Message(id.clone(), Seq(message.seq), record));
            }
        }
        let Some(job) = self.job(number) else { return };
        for message in page.messages {
            job.take(message);
        }
        if end || job.missing() == 0 {
            self.answer_history(number);
        } else {
            self.pump_asks(now);
        }
    }

    /// The relay refused: one who left still reads what the cache has, and what nobody wrote yet is empty.
    pub(crate) fn history_refused(&mut self, number: u64, error: ChatError) {
        let user = self.user.clone();
        let Some(job) = self.job(number) else { return };
        let (id, found) = (job.conversation.clone(), !job.contiguous().is_empty());
        let own = id.peer_of(&user).is_some();
        let left = self.conversations.get(&id).is_some_and(|line| line.left);
        if error.code == Code::NOT_A_MEMBER && (found || left || own) {
            self.answer_history(number);
        } else {
            self.end_ask(number, Err(error));
        }
    }

    /// Time or the connection ended: what is there is the answer, else the error.
    pub(crate) fn history_or_error(&mut self, number: u64, error: ChatError) {
        let found =
            self.job(number).is_some_and(|job| job.near == Near::Head || !job.contiguous().is_empty());
        if found && error.code != Code::CLOSED && error.code != Code::LOGGED_OUT {
            self.answer_history(number);
        } else {
            self.end_ask(number, Err(error));
        }
    }

    /// Without a connection the newest page is what is here.
    pub(crate) fn histories_disconnected(&mut self, now: Now) {
        let numbers: Vec<_> = self
            .asks
            .waiting
            .iter()
            .filter(|(_, ask)| matches!(&ask.what, What::History(job) if job.stage == Stage::Asking))
            .map(|(number, _)| *number)
            .collect();
        for number in numbers {
            self.go_on(now, number);
        }
    }

    fn answer_history(&mut self, number: u64) {
        let Some(job) = self.job(number) else { return };
        let mut messages: Vec<_> = job.contiguous().into_iter().filter_map(conversations::view).collect();
        if defects::is_on(Defect::SortByTime) {
            messages.sort_by_key(|message| message.time);
        }
        let Some(job) = self.job(number) else { return };
        if job.near == Near::Head {
            let id = job.conversation.clone();
            messages.extend(self.outbox.of(&id).map(|entry| entry.view(&self.user)));
        }
        self.end_ask(number, Ok(Answer::History(messages)));
    }
}
