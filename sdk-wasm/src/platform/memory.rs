//! A cache that is gone with the page. It takes over where no other can be had.

use std::cell::RefCell;

use bytes::Bytes;
use hongyan_client::sorted::SortedMap;
use hongyan_client::{Input, Restored, Storage, Ticket, Write};
use hongyan_protocol::{ConversationId, Seq};

use super::{Cache, Opened, Save, SaveEnd, Saved, Sink};

/// Only messages are ever read back; the core itself holds the rest while the page lives.
#[derive(Default)]
pub(crate) struct MemoryCache {
    messages: RefCell<SortedMap<ConversationId, SortedMap<Seq, Bytes>>>,
}

impl MemoryCache {
    /// A new, empty one.
    pub(crate) fn open() -> Opened {
        Opened { cache: Box::new(Self::default()), restored: Restored::default(), kept: Vec::new() }
    }
}

impl Cache for MemoryCache {
    fn storage(&self) -> Storage {
        Storage::Memory
    }

    fn save(&self, save: Save, end: SaveEnd) {
        let mut messages = self.messages.borrow_mut();
        for write in save.writes {
            match write {
                Write::Message(conversation, seq, bytes) => {
                    messages.get_or_insert_with(conversation, SortedMap::new).insert(seq, bytes);
                }
                Write::MessagesBelow(conversation, bound) => {
                    if let Some(log) = messages.get_mut(&conversation) {
                        log.retain(|seq, _| *seq >= bound);
                    }
                }
                Write::ConversationGone(conversation) => drop(messages.remove(&conversation)),
                Write::Clear => messages.clear(),
                Write::Meta(_)
                | Write::Conversation(..)
                | Write::Profile(..)
                | Write::ProfileGone(_)
                | Write::Outbox(..)
                | Write::OutboxGone(_) => {}
            }
        }
        drop(messages);
        end(Saved::Durable);
    }

    fn load(&self, ticket: Ticket, conversation: ConversationId, from: Seq, to: Seq, sink: Sink) {
        let found = self.messages.borrow().get(&conversation).map_or_else(Vec::new, |log| {
            let wanted = log.iter().filter(|(seq, _)| (from..=to).contains(*seq));
            wanted.map(|(seq, bytes)| (*seq, bytes.clone())).collect()
        });
        sink(Input::Loaded(ticket, found));
    }

    fn close(&self) {}
}
