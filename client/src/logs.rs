//! Groups that come by their logs: what the relay pushes of one is a hint that may be lost, and what is missing before
//! it is pulled as history. The application sees the same `Message` events, in the log's order and each once.
//!
//! The queue tells from which seq on a group comes by its log, and from which on by the queue again. In between,
//! whatever brings a message of the group (a push, a page, the queue where the message calls the user) comes through
//! [`Client::log_message`], which takes the next one and for any later one only learns that there is more.
//!
//! *Invariant:* `told` moves forward only, by one with each message told, or over a gap that is told.

use hongyan_protocol::wire::client_frame::Verb;
use hongyan_protocol::{ChangeNumber, Class, ConversationId, GroupVersion, Seq, wire};

use crate::cache::After;
use crate::client::Client;
use crate::conversations::{self, Line};
use crate::defects::{self, Defect};
use crate::io::{ChatError, Event, Now};
use crate::limits::{CHANGES_PAGE, LOG_EVENTS_MAX, LOG_NEWEST, LOG_PAGE, UNSAVED_ENTRIES_MAX};
use crate::sending::later;
use crate::session::Pending;
use crate::timers::Timer;

/// How far a group's log was told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct LogCursor {
    /// Messages up to here were told, or are in a gap that was.
    pub(crate) told: Seq,
    /// As far as a hint said.
    pub(crate) head: Seq,
    /// The messages after this one come by the queue again.
    pub(crate) ends: Option<Seq>,
    /// There may be more than any hint said: nobody told since the group came to be one by log.
    pub(crate) unsure: bool,
}

/// What brought a message of a group that comes by its log.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    Queue,
    Log,
}

impl LogCursor {
    /// After a snapshot, which was read after all hints.
    pub(crate) fn at(seq: Seq) -> Self {
        Self { told: seq, head: seq, ..Self::default() }
    }

    /// From what the queue told: hints may have come before it, when nobody knew what they were for.
    pub(crate) fn since(seq: Seq) -> Self {
        Self { unsure: true, ..Self::at(seq) }
    }

    /// Of a membership that begins after `head`, as the queue tells. Pages may have told more of it before.
    pub(crate) fn of_membership(before: Option<Self>, head: Seq, by_log: bool) -> Option<Self> {
        let told = before.map_or(head, |log| log.told.max(head));
        match by_log {
            true => Some(Self::since(told)),
            false => (told > head).then(|| Self { ends: Some(head), ..Self::at(told) }),
        }
    }

    /// What was not told of the time until the log ended for this user.
    pub(crate) fn missed(&self, id: &ConversationId, last: Seq) -> Option<Event> {
        (last > self.told).then(|| Event::LogGap {
            conversation: id.clone(),
            after: self.told,
            before: last.next(),
        })
    }

    /// There are messages that were not told.
    pub(crate) fn has_more(&self) -> bool {
        self.head > self.told || self.unsure
    }
}

impl Line {
    /// The log is at least so far.
    pub(crate) fn hint(&mut self, seq: Seq) {
        if let Some(log) = &mut self.log {
            log.head = log.head.max(seq);
            self.last_seq = self.last_seq.max(seq);
        }
    }
}

impl Client {
    /// The queue says that the group's messages come another way from here on.
    pub(crate) fn apply_diffusion(&mut self, change: &wire::Diffusion) {
        let Ok(id) = ConversationId::new(&change.conversation) else { return };
        let Some(line) = self.conversations.get_mut(&id) else { return };
        let seq = Seq(change.seq);
        // Changes of the time by the log may not have been told, or were when nobody knew what they were for.
        if line.log.is_some() || change.by_log {
            line.changes.doubt();
        }
        match (&mut line.log, change.by_log) {
            (None, true) => line.log = Some(LogCursor::since(seq)),
            (Some(log), true) => log.ends = None,
            (Some(log), false) => {
                log.ends = Some(seq);
                line.hint(seq);
            }
            (None, false) => {}
        }
        self.cache.changed(&id);
    }

    /// How far groups are that come by their logs.
    pub(crate) fn log_heads(&mut self, now: Now, heads: wire::LogHeads) {
        for head in heads.heads {
            self.log_head(head);
        }
        self.pump_pulls(now);
    }

    fn log_head(&mut self, head: wire::LogHead) {
        let Ok(id) = ConversationId::new(&head.conversation) else { return };
        let (seq, changes) = (Seq(head.last_seq), ChangeNumber(head.changes));
        if self.queue.is_resetting() {
            // Of lines that are yet to come.
            self.queue.keep_hint(id, seq, changes);
            return;
        }
        let Some(line) = self.conversations.get_mut(&id).filter(|line| line.log.is_some()) else { return };
        line.changes.hint(changes);
        if !line.own.contains(&head.called_all) {
            line.call(Seq(head.called_all));
        }
        let version = GroupVersion(head.version);
        if line.group.as_ref().is_none_or(|known| known.version < version) && version > GroupVersion::ZERO {
            line.group = conversations::group(head.title, &head.owner, head.member_count, head.version);
        }
        self.hint(&id, seq);
    }

    /// The log is at least so far.
    pub(crate) fn hint(&mut self, id: &ConversationId, seq: Seq) {
        let Some(line) = self.conversations.get_mut(id) else { return };
        let before = line.last_seq;
        line.hint(seq);
        let now_at = line.last_seq;
        self.trim(id, before, now_at);
        self.cache.changed(id);
    }

    /// New messages of a group's log.
    pub(crate) fn log_messages(&mut self, now: Now, news: wire::LogMessages) {
        if let Some(group) = news.group {
            self.log_head(group);
        }
        for message in news.messages {
            if self.queue.is_resetting() {
                if let Ok(id) = ConversationId::new(&message.conversation) {
                    self.queue.keep_hint(id, Seq(message.seq), ChangeNumber::ZERO);
                }
                continue;
            }
            self.log_message(message, Way::Log);
        }
        self.session.brought();
        self.pump_pulls(now);
    }

    /// A message of a group that comes by its log, whichever way it came here: the next one is told, one that was told
    /// is passed over, and of a later one it is only learned that there is more.
    pub(crate) fn log_message(&mut self, message: wire::Message, way: Way) {
        let Some(view) = conversations::view(&message) else { return };
        let (id, seq) = (view.conversation.clone(), Seq(message.seq));
        let Some(line) = self.conversations.get_mut(&id) else { return };
        let is_behind = line.changes.is_behind();
        let Some(log) = &mut line.log else { return };
        if seq <= log.told && !defects::is_on(Defect::LogToldTwice) {
            return;
        }
        if seq > log.told.next() && !defects::is_on(Defect::LogGapTaken) {
            if conversations::calls(&message, &self.user) {
                line.call(seq);
            }
            return self.hint(&id, seq);
        }
        log.told = log.told.max(seq);
        log.head = log.head.max(seq);
        // A page may have told more than the queue has brought, so only a message that is new here is the end of it.
        let is_over =
            way == Way::Queue && log.ends.is_some_and(|ends| seq > ends) && !log.has_more() && !is_behind;
        if is_over {
            line.log = None;
        }
        let own = view.from == self.user;
        self.note_message(&id, &message, own);
        self.cache.after(After::Event(Event::Message(view.clone())));
        if own {
            self.confirm_by_queue(&view);
        }
    }

    /// Asks for what is missing, one page at a time.
    pub(crate) fn pump_pulls(&mut self, now: Now) {
        if !self.session.is_online()
            || self.queue.is_resetting()
            || self.timers.get(Timer::Pulls).is_some()
            || self.cache.entries_unsaved() >= UNSAVED_ENTRIES_MAX / 2
        {
            return;
        }
        let is_pull = |pending: &Pending| matches!(pending, Pending::Pull(..) | Pending::PullChanges(..));
        if self.session.pending.values().any(|(pending, _)| is_pull(pending)) {
            return;
        }
        let (id, log, changes) = loop {
            let mut lines = self.conversations.iter().filter_map(|(id, line)| Some((id, line.log?, line)));
            let found = lines
                .find(|(_, log, line)| log.has_more() || line.pulls_changes(log.told))
                .map(|(id, log, line)| (id.clone(), log, line.changes));
            drop(lines);
            let Some(found) = found else { return };
            if !self.skip_changes(&found.0) {
                break found;
            }
        };
        if !log.has_more() {
            let page = wire::Changes {
                conversation: id.as_str().into(),
                after: changes.told.0,
                limit: CHANGES_PAGE,
            };
            self.request(now, Pending::PullChanges(id, changes.told), Verb::Changes(page));
            return;
        }
        let (behind, told) = (log.head.0 - log.told.0, log.told);
        // The wire has no "after nothing": the log's first message comes alone.
        let (before, limit) = match told {
            _ if behind > LOG_EVENTS_MAX => (0, LOG_NEWEST),
            Seq::ZERO => (2, 1),
            _ => (0, LOG_PAGE),
        };
        let after = if limit == LOG_PAGE { told.0 } else { 0 };
        let page = wire::History { conversation: id.as_str().into(), before, after, limit };
        self.request(now, Pending::Pull(id, told), Verb::History(page));
    }

    /// A page came.
    ///
    /// `asked_at`: what was told when it was asked for.
    pub(crate) fn pulled(&mut self, now: Now, id: &ConversationId, asked_at: Seq, page: wire::HistoryPage) {
        let Some(log) = self.conversations.get_mut(id).and_then(|line| line.log.as_mut()) else { return };
        let before = log.told;
        let first = page.messages.first().map(|message| Seq(message.seq));
        if let Some(first) = first.filter(|first| *first > before.next()) {
            let gap = Event::LogGap { conversation: id.clone(), after: before, before: first };
            log.told = first.previous();
            self.cache.after(After::Event(gap));
        }
        log.unsure = false;
        log.head = log.head.max(Seq(page.last_seq)).max(log.told);
        for message in page.messages.into_iter().filter(|message| message.conversation == id.as_str()) {
            self.log_message(message, Way::Log);
        }
        // Where nothing came, by this page or another way meanwhile, none is asked for again: no hint says more than the
        // log itself.
        if let Some(log) = self.conversations.get_mut(id).and_then(|line| line.log.as_mut())
            && log.told == asked_at
        {
            log.head = asked_at;
        }
        self.cache.changed(id);
        self.session.brought();
        self.pump_pulls(now);
    }

    /// Messages of this group are not to be had, or not now.
    pub(crate) fn pull_rejected(
        &mut self,
        now: Now,
        id: &ConversationId,
        error: &ChatError,
        retry_after_ms: u64,
    ) {
        if error.class() == Class::Stop
            && let Some(log) = self.conversations.get_mut(id).and_then(|line| line.log.as_mut())
        {
            // No member any more, as the queue is about to tell.
            log.head = log.told;
            log.unsure = false;
        }
        self.pull_changes_rejected(now, id, error, retry_after_ms);
    }

    /// Changes of this group's messages are not to be had, or not now.
    pub(crate) fn pull_changes_rejected(
        &mut self,
        now: Now,
        id: &ConversationId,
        error: &ChatError,
        retry_after_ms: u64,
    ) {
        if error.class() == Class::Stop {
            self.changes_refused(id);
            // Of its messages, or of another group, more may have been heard meanwhile.
            self.pump_pulls(now);
        } else {
            let until = later(&mut self.random, now, 2, retry_after_ms);
            self.timers.set(Timer::Pulls, until);
        }
    }
}
