//! Changes of messages: edits, recalls, reactions. What is changed comes with the whole message as it is then, which takes
//! the place of what is here.
//!
//! The queue tells them in their order. Of a group that comes by its log they come as its messages do: a push is a
//! hint, the next one is taken, and what is missing is pulled. One of a message that was not told yet waits for it, so no
//! older state of a message can come after a newer one.
//!
//! *Invariant:* `told` moves forward only, by one with each change, or over a gap that is told and after which nothing
//! older is kept.

use bytes::Bytes;
use hongyan_protocol::wire::client_frame::Verb;
use hongyan_protocol::wire::{self, MessageChangeKind};
use hongyan_protocol::{ChangeNumber, Code, ConversationId, Key, Seq, Time, UserId, limits};
use prost::Message as _;

use crate::cache::After;
use crate::client::{Client, content_bytes};
use crate::conversations::{self, Line};
use crate::defects::{self, Defect};
use crate::io::{Change, ChatError, Event, Now, RequestId, Write};
use crate::limits::CHANGES_EVENTS_MAX;
use crate::logs::Way;
use crate::view::ChangeKind;

/// How far the changes of a conversation's messages were told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct ChangeCursor {
    /// Changes up to here were told, or are in a gap that was.
    pub(crate) told: ChangeNumber,
    /// As far as a hint said.
    pub(crate) head: ChangeNumber,
    /// The next one is of this message, which was not told yet.
    awaits: Seq,
}

impl ChangeCursor {
    /// Everything that is here is of now.
    pub(crate) fn at(number: ChangeNumber) -> Self {
        Self { told: number, head: number, awaits: Seq::ZERO }
    }

    /// There are at least so many.
    pub(crate) fn hint(&mut self, number: ChangeNumber) {
        self.head = self.head.max(number);
    }

    /// There may be more than any hint said.
    pub(crate) fn doubt(&mut self) {
        self.hint(self.told.next());
    }

    /// There are more than were told.
    pub(crate) fn is_behind(&self) -> bool {
        self.head > self.told
    }

    fn is_far_behind(&self) -> bool {
        self.head.0 - self.told.0 > CHANGES_EVENTS_MAX
    }

    /// No hint says more than the log itself.
    fn give_up(&mut self) {
        self.head = self.told;
        self.awaits = Seq::ZERO;
    }
}

impl Line {
    /// Changes are to be pulled; messages are told up to `told`.
    pub(crate) fn pulls_changes(&self, told: Seq) -> bool {
        self.changes.is_far_behind() || (self.changes.is_behind() && self.changes.awaits <= told)
    }
}

impl Client {
    /// A message was changed.
    pub(crate) fn apply_change(&mut self, change: wire::MessageChange, way: Way) {
        let kind = change.kind();
        let Some(message) = change.message else { return };
        let Ok(id) = ConversationId::new(&message.conversation) else { return };
        let Some(line) = self.conversations.get_mut(&id) else { return };
        let (number, seq) = (ChangeNumber(change.number), Seq(message.seq));
        let is_told = number <= line.changes.told;
        if (is_told && !defects::is_on(Defect::ChangeToldTwice)) || (way == Way::Log && line.log.is_none()) {
            return;
        }
        let is_early = number > line.changes.told.next() && !defects::is_on(Defect::ChangesGapTaken);
        if let Some(log) = line.log
            && (is_early || seq > log.told)
        {
            if number == line.changes.told.next() {
                line.changes.awaits = seq;
            }
            line.changes.hint(number);
            return self.hint(&id, seq);
        }
        line.changes = ChangeCursor { told: number, head: line.changes.head.max(number), awaits: Seq::ZERO };
        if line.last.as_ref().map_or(line.last_seq.0, |last| last.seq) == message.seq {
            line.show(&message);
        }
        // As the relay does with the head's `called_all`: the call before is not known any more.
        if message.recalled > 0 && line.called == seq {
            line.called = Seq::ZERO;
        }
        let record: Bytes = message.encode_to_vec().into();
        self.cache.write(Write::Message(id.clone(), seq, record));
        self.cache.changed(&id);
        let view = conversations::view(&message);
        self.histories_changed(&id, &message);
        let kind = match kind {
            MessageChangeKind::Edited => ChangeKind::Edited,
            MessageChangeKind::Recalled => ChangeKind::Recalled,
            MessageChangeKind::Reacted => ChangeKind::Reacted,
            MessageChangeKind::Unreacted => ChangeKind::Unreacted,
            // A newer version's change: the message is shown as it is now, what happened has no name here.
            MessageChangeKind::Unspecified => return,
        };
        if let (Some(message), Ok(by)) = (view, UserId::new(&change.by)) {
            let reaction = (!change.reaction.is_empty()).then_some(change.reaction);
            let time = Time(change.time);
            self.cache.after(After::Event(Event::Change { kind, by, time, reaction, message }));
        }
    }

    /// New changes of a group's messages.
    pub(crate) fn log_changes(&mut self, now: Now, news: wire::LogChanges) {
        if self.queue.is_resetting() {
            // Of lines that are yet to come.
            let last = news.changes.last().map(|change| ChangeNumber(change.number));
            if let (Ok(id), Some(last)) = (ConversationId::new(&news.conversation), last) {
                self.queue.keep_hint(id, Seq::ZERO, last);
            }
            return;
        }
        for change in news.changes {
            self.apply_change(change, Way::Log);
        }
        self.session.brought();
        self.pump_pulls(now);
    }

    /// A page of changes came.
    ///
    /// `asked_at`: what was told when it was asked for.
    pub(crate) fn changes_pulled(
        &mut self,
        now: Now,
        id: &ConversationId,
        asked_at: ChangeNumber,
        page: wire::ChangePage,
    ) {
        let Some(line) = self.conversations.get_mut(id) else { return };
        line.changes.hint(ChangeNumber(page.last));
        // With so many missing they are let go of, also where this page is the first to say so.
        if !line.changes.is_far_behind() {
            let is_of_it = |change: &wire::MessageChange| {
                change.message.as_ref().is_some_and(|message| message.conversation == id.as_str())
            };
            for change in page.changes.into_iter().filter(is_of_it) {
                self.apply_change(change, Way::Log);
            }
            // Where nothing came, by this page or another way meanwhile, none is asked for again.
            if let Some(line) = self.conversations.get_mut(id)
                && line.changes.told == asked_at
                && line.changes.awaits == Seq::ZERO
            {
                line.changes.give_up();
            }
        }
        self.cache.changed(id);
        self.session.brought();
        self.pump_pulls(now);
    }

    /// Changes of this conversation are not to be had.
    pub(crate) fn changes_refused(&mut self, id: &ConversationId) {
        if let Some(line) = self.conversations.get_mut(id) {
            line.changes.give_up();
        }
    }

    /// Lets go of what is cached of a conversation when so much of it has changed that it is not worth telling; says
    /// whether it was so. Messages that were not told yet come before: a late push may bring one as it was, and what is
    /// passed over here would not mend it.
    pub(crate) fn skip_changes(&mut self, id: &ConversationId) -> bool {
        let is_told = |line: &&mut Line| line.log.is_none_or(|log| !log.has_more());
        let far_behind = self.conversations.get_mut(id).filter(|line| line.changes.is_far_behind());
        let Some(line) = far_behind.filter(is_told) else { return false };
        line.changes = ChangeCursor::at(line.changes.head);
        self.forget_messages(id);
        true
    }

    /// Nobody knows whether what is cached of a conversation is of now: it goes, and that is told.
    pub(crate) fn forget_messages(&mut self, id: &ConversationId) {
        let Some(line) = self.conversations.get_mut(id) else { return };
        line.last = None;
        if !defects::is_on(Defect::ChangesGapKeepsCache) {
            self.cache.write(Write::MessagesBelow(id.clone(), Seq(u64::MAX)));
        }
        self.cache.changed(id);
        self.cache.after(After::Event(Event::ChangesGap { conversation: id.clone() }));
        self.histories_forget(id);
    }

    /// Asks the relay to change a message; what becomes of it is told as it is of anybody's change.
    pub(crate) fn change(
        &mut self,
        now: Now,
        request: RequestId,
        conversation: &ConversationId,
        seq: Seq,
        key: Option<Key>,
        change: Change,
    ) {
        let checked = self.check_member(conversation).and_then(|()| match &change {
            _ if seq == Seq::ZERO => Err(Code::BAD_REQUEST),
            Change::Edit(content) if content.encoded_len() > self.session.content_bytes_max => {
                Err(Code::CONTENT_TOO_LARGE)
            }
            Change::React(reaction) | Change::Unreact(reaction)
                if reaction.is_empty() || reaction.len() > limits::REACTION_BYTES_MAX =>
            {
                Err(Code::BAD_REQUEST)
            }
            Change::Edit(_) | Change::Recall | Change::React(_) | Change::Unreact(_) => Ok(()),
        });
        if let Err(code) = checked {
            return self.reply(request, Err(ChatError::new(code)));
        }
        let mut verb = wire::ChangeMessage {
            conversation: conversation.as_str().into(),
            seq: seq.0,
            key: self.name_of(key),
            ..wire::ChangeMessage::default()
        };
        let kind = match change {
            Change::Edit(content) => {
                verb.content = content_bytes(&content);
                MessageChangeKind::Edited
            }
            Change::Recall => MessageChangeKind::Recalled,
            Change::React(reaction) => {
                verb.reaction = reaction;
                MessageChangeKind::Reacted
            }
            Change::Unreact(reaction) => {
                verb.reaction = reaction;
                MessageChangeKind::Unreacted
            }
        };
        verb.set_kind(kind);
        self.ask_verb(now, request, Verb::ChangeMessage(verb));
    }
}
