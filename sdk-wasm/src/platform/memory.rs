//! A cache that is gone with the page. It takes over where no other can be had.

use std::cell::RefCell;
use std::collections::BTreeMap;

use bytes::Bytes;
use hongyan_client::{Input, Restored, Storage, Ticket, Write};
use hongyan_protocol::{ConversationId, Seq};

use super::{Cache, Opened, Sink};

/// Only messages are ever read back; the core itself holds the rest while the page lives.
#[derive(Default)]
pub(crate) struct MemoryCache {
    messages: RefCell<BTreeMap<(ConversationId, Seq), Bytes>>,
}

impl MemoryCache {
    /// A new, empty one.
    pub(crate) fn open() -> Opened {
        Opened { cache: Box::new(Self::default()), restored: Restored::default() }
    }
}

impl Cache for MemoryCache {
    fn storage(&self) -> Storage {
        Storage::Memory
    }

    fn save(&self, ticket: Ticket, writes: Vec<Write>, sink: Sink) {
        let mut messages = self.messages.borrow_mut();
        for write in writes {
            match write {
                Write::Message(conversation, seq, bytes) => {
                    messages.insert((conversation, seq), bytes);
                }
                Write::MessagesBelow(conversation, bound) => {
                    messages.retain(|(of, seq), _| *of != conversation || *seq >= bound);
                }
                Write::ConversationGone(conversation) => messages.retain(|(of, _), _| *of != conversation),
                Write::Clear => messages.clear(),
                Write::Meta(_) | Write::Conversation(..) | Write::Outbox(..) | Write::OutboxGone(_) => {}
            }
        }
        drop(messages);
        sink(Input::Saved(ticket));
    }

    fn load(&self, ticket: Ticket, conversation: ConversationId, from: Seq, to: Seq, sink: Sink) {
        let found = if from <= to {
            let messages = self.messages.borrow();
            let range = (conversation.clone(), from)..=(conversation, to);
            messages.range(range).map(|((_, seq), bytes)| (*seq, bytes.clone())).collect()
        } else {
            Vec::new()
        };
        sink(Input::Loaded(ticket, found));
    }

    fn close(&self) {}
}
