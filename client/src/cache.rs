//! What is persisted, and when: writes gather into one transaction while another is under way.
//!
//! *Invariant:* what a transaction makes true for others (events, replies, acknowledgements, transmitting) is in
//! its `after` and happens only when the host said that the transaction is durable.

use bytes::Bytes;
use hongyan_protocol::{ConversationId, Pos, Seq};

use crate::defects::{self, Defect};
use crate::io::{Answer, ChatError, Event, RequestId, Ticket, Write};
use crate::limits::{SAVED_BYTES_TARGET, SAVED_CONVERSATIONS_MAX, SAVED_ENTRIES_MAX};
use crate::sorted::{SortedMap, SortedSet};

/// What happens once a transaction is durable, in its order.
pub(crate) enum After {
    /// Tell the application.
    Event(Event),
    /// Answer the application.
    Reply(RequestId, Result<Answer, ChatError>),
    /// The queue is durable up to here, in this life of the queue; so many entries are new.
    Durable { life: u64, pos: Pos, entries: u64 },
    /// This entry of the outbox may go on the wire.
    Queued(u64),
}

/// Writes and what follows from them.
#[derive(Default)]
pub(crate) struct Transaction {
    pub(crate) writes: Vec<Write>,
    pub(crate) after: Vec<After>,
    /// Conversations whose record changed: written once, told once.
    pub(crate) changed: SortedSet<ConversationId>,
    /// The record of cursor, epoch and device changed.
    pub(crate) meta: bool,
    /// Entries of the queue in it.
    pub(crate) entries: u64,
    /// Bytes of the messages and profiles in it.
    pub(crate) bytes: usize,
    /// It does not wait for more: somebody waits for something of it, or it has gathered for long enough.
    pub(crate) hurries: bool,
}

impl Transaction {
    pub(crate) fn is_empty(&self) -> bool {
        self.writes.is_empty() && self.after.is_empty() && self.changed.is_empty() && !self.meta
    }

    /// With so many entries more it is enough for one task of a page.
    pub(crate) fn is_full(&self, entries: u64) -> bool {
        self.entries + entries >= SAVED_ENTRIES_MAX
            || self.changed.len() >= SAVED_CONVERSATIONS_MAX
            || self.bytes >= SAVED_BYTES_TARGET
    }

    /// Whether it empties the cache.
    fn clears(&self) -> bool {
        self.writes.iter().any(|write| matches!(write, Write::Clear))
    }

    /// Whether it empties the cache of this conversation's messages.
    fn forgets(&self, of: &ConversationId) -> bool {
        self.writes.iter().any(|write| match write {
            Write::Clear => true,
            Write::MessagesBelow(conversation, Seq(u64::MAX)) => conversation == of,
            _ => false,
        })
    }

    /// Adds its messages of the range to `found`.
    fn messages(&self, of: &ConversationId, from: Seq, to: Seq, found: &mut SortedMap<u64, Bytes>) {
        for write in &self.writes {
            match write {
                Write::Message(conversation, seq, record)
                    if conversation == of && (from..=to).contains(seq) =>
                {
                    found.insert(seq.0, record.clone());
                }
                Write::MessagesBelow(conversation, bound) if conversation == of => {
                    found.retain(|seq, _| *seq >= bound.0);
                }
                _ => {}
            }
        }
    }
}

/// The one transaction under way, those that are full and wait for it, and the one that gathers.
#[derive(Default)]
pub(crate) struct Cache {
    pub(crate) gathering: Transaction,
    /// In their order; the records of what changed are in their writes by now.
    full: Vec<Transaction>,
    saving: Option<(Ticket, Transaction)>,
    tickets: u64,
    /// What gathers now is brought by the queue.
    pub(crate) is_applying: bool,
}

impl Cache {
    pub(crate) fn ticket(&mut self) -> Ticket {
        self.tickets += 1;
        Ticket(self.tickets)
    }

    /// Nothing is under way and nothing gathers.
    pub(crate) fn is_idle(&self) -> bool {
        self.saving.is_none() && !self.is_waiting()
    }

    /// There is something for a transaction to come.
    pub(crate) fn is_waiting(&self) -> bool {
        !self.full.is_empty() || !self.gathering.is_empty()
    }

    /// A transaction may begin, and there is something for it.
    pub(crate) fn is_due(&self) -> bool {
        self.saving.is_none() && self.is_waiting()
    }

    /// What is due was brought by so many entries of the queue, and nobody waits for it.
    pub(crate) fn unhurried(&self) -> Option<u64> {
        let Transaction { entries, hurries, .. } = self.gathering;
        (self.full.is_empty() && !hurries).then_some(entries)
    }

    /// This one is full: it waits for its turn, and the next gathers.
    pub(crate) fn push(&mut self, transaction: Transaction) {
        self.full.push(transaction);
    }

    /// The one whose turn it is of those that are full.
    pub(crate) fn pop(&mut self) -> Option<Transaction> {
        if self.full.is_empty() { None } else { Some(self.full.remove(0)) }
    }

    /// All that are not durable yet, in their order.
    fn unsaved(&self) -> Vec<&Transaction> {
        let mut unsaved = Vec::new();
        if let Some((_, saving)) = &self.saving {
            unsaved.push(saving);
        }
        unsaved.extend(&self.full);
        unsaved.push(&self.gathering);
        unsaved
    }

    /// Entries of the queue that are applied and not durable.
    pub(crate) fn entries_unsaved(&self) -> u64 {
        self.unsaved().into_iter().map(|transaction| transaction.entries).sum()
    }

    pub(crate) fn write(&mut self, write: Write) {
        if let Write::Message(_, _, record) | Write::Profile(_, record) = &write {
            self.gathering.bytes += record.len();
        }
        // A send that the queue confirms is waited for.
        self.gathering.hurries |= matches!(write, Write::OutboxGone(_));
        self.gathering.writes.push(write);
    }

    pub(crate) fn after(&mut self, after: After) {
        self.gathering.hurries |= !self.is_applying;
        self.gathering.after.push(after);
    }

    pub(crate) fn changed(&mut self, conversation: &ConversationId) {
        if !self.gathering.changed.contains(conversation) {
            self.gathering.changed.insert(conversation.clone());
        }
    }

    /// Empties the cache: what was gathered to be written before is not worth writing.
    pub(crate) fn clear(&mut self) {
        self.gathering.writes.clear();
        self.gathering.bytes = 0;
        self.gathering.changed.clear();
        if !defects::is_on(Defect::ResetKeepsCache) {
            self.gathering.writes.push(Write::Clear);
        }
    }

    /// The host's cache still holds, or may give, what is to go.
    pub(crate) fn clears(&self) -> bool {
        self.unsaved().into_iter().any(Transaction::clears)
    }

    /// The host's cache still holds, or may give, messages of a conversation that are to go.
    pub(crate) fn is_going(&self, of: &ConversationId) -> bool {
        self.unsaved().into_iter().any(|transaction| transaction.forgets(of))
    }

    /// Messages of the range that are not durable yet.
    pub(crate) fn unsaved_messages(&self, of: &ConversationId, from: Seq, to: Seq) -> SortedMap<u64, Bytes> {
        let mut found = SortedMap::new();
        for transaction in self.unsaved() {
            if transaction.clears() {
                // What was written before is to go.
                found = SortedMap::new();
            }
            transaction.messages(of, from, to, &mut found);
        }
        found
    }

    /// Starts the transaction; the records of what changed are in its writes by now.
    pub(crate) fn begin(&mut self, ticket: Ticket, transaction: Transaction) -> Vec<Write> {
        let writes = transaction.writes.clone();
        self.saving = Some((ticket, transaction));
        writes
    }

    /// Ends the transaction; `None` when the ticket is another one's.
    pub(crate) fn end(&mut self, ticket: Ticket) -> Option<Transaction> {
        self.saving.take_if(|(saving, _)| *saving == ticket).map(|(_, transaction)| transaction)
    }
}
