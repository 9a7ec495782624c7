//! A device of the world: the client core, its cache, and what its application saw.

use std::collections::BTreeMap;

use hongyan_client::view::{Message, SessionStatus};
use hongyan_client::{
    Answer, ChatError, Client, Config, Event, Generation, RequestId, Storage, Ticket, Write,
};
use hongyan_protocol::wire::{ClientFrame, DeviceKind, client_frame::Verb};
use hongyan_protocol::{ConversationId, Pos, Seq, UserId};
use hongyan_tests::{CacheStore as _, MemoryCache};

/// What an application asked for and did not hear of yet.
#[derive(Clone)]
pub(crate) enum Asked {
    /// A send, by its text; the transaction of this number has it in the outbox.
    Send(String, u64),
    CreateGroup,
    Other,
}

pub(crate) struct Device {
    pub(crate) user: UserId,
    /// `None` between a crash and the next start.
    pub(crate) client: Option<Client>,
    /// Counts the starts: what was under way for an older one is void.
    pub(crate) life: u32,
    pub(crate) cache: MemoryCache,
    /// The transaction under way: lost or kept when the device crashes.
    pub(crate) saving: Option<(Ticket, Vec<Write>)>,
    /// Transactions that began, and those that are durable, in this life.
    pub(crate) saves: (u64, u64),
    /// The socket of the moment.
    pub(crate) socket: Option<Generation>,
    pub(crate) requests: u64,
    pub(crate) asked: BTreeMap<RequestId, Asked>,
    pub(crate) answers: BTreeMap<RequestId, Result<Answer, ChatError>>,
    /// The message events, over all lives: where, and which text.
    pub(crate) seen: Vec<(ConversationId, Seq, String)>,
    /// A life ended after a transaction was durable and before the core heard of it: its application learns of those
    /// messages from the cache of the next life, not by events.
    pub(crate) may_skip: bool,
    /// Texts given to the core, in order.
    pub(crate) wrote: Vec<(ConversationId, String)>,
    /// Texts whose send resolved, with where.
    pub(crate) sent: Vec<(ConversationId, Seq, String)>,
    /// Texts refused for good.
    pub(crate) refused: Vec<String>,
    /// Texts that a crash took before they were in the durable outbox.
    pub(crate) unsure: Vec<String>,
    /// The highest cursor that this device acknowledged.
    acknowledged: Pos,
    pub(crate) gaps: u32,
}

impl Device {
    pub(crate) fn new(user: UserId) -> Self {
        Self {
            user,
            client: None,
            life: 0,
            cache: MemoryCache::default(),
            saving: None,
            saves: (0, 0),
            socket: None,
            requests: 0,
            asked: BTreeMap::new(),
            answers: BTreeMap::new(),
            seen: Vec::new(),
            may_skip: false,
            wrote: Vec::new(),
            sent: Vec::new(),
            refused: Vec::new(),
            unsure: Vec::new(),
            acknowledged: Pos::ZERO,
            gaps: 0,
        }
    }

    pub(crate) fn start(&mut self, seed: [u8; 32]) {
        assert!(self.client.is_none(), "a device starts once at a time");
        self.life += 1;
        self.client = Some(Client::new(Config {
            user: self.user.clone(),
            device_kind: DeviceKind::Server,
            agent: "world".into(),
            storage: Storage::Host,
            seed,
        }));
    }

    /// The process ends in the middle of whatever it did. The transaction under way is kept or lost.
    pub(crate) fn crash(&mut self, keep: bool) {
        self.client = None;
        self.socket = None;
        if let Some((_, writes)) = self.saving.take()
            && keep
        {
            self.cache.save(&writes).unwrap();
            self.saves.1 += 1;
            self.may_skip = true;
        }
        let (_, durable) = std::mem::take(&mut self.saves);
        for asked in std::mem::take(&mut self.asked).into_values() {
            if let Asked::Send(text, number) = asked
                && number > durable
            {
                self.unsure.push(text);
            }
        }
    }

    /// What the application hears.
    pub(crate) fn event(&mut self, event: Event) {
        match event {
            Event::Message(message) => {
                let seq = message.seq.expect("a message of the log has a seq");
                self.seen.push((message.conversation, seq, message.content.text));
            }
            Event::Outbox(Message { content, .. }, Some(_)) => {
                if !self.refused.contains(&content.text) {
                    self.refused.push(content.text);
                }
            }
            Event::Gap => self.gaps += 1,
            Event::Outbox(_, None) | Event::Conversation(_) | Event::State(_) | Event::Group(_) => {}
        }
    }

    /// Promise R1, as the relay sees it: what a device acknowledged it never takes back.
    pub(crate) fn check_cursor(&mut self, bytes: &bytes::Bytes) {
        let frame = ClientFrame::from_bytes(bytes.clone()).expect("a client's frame is well-formed");
        let cursor = match &frame.verb {
            Some(Verb::Hello(hello)) => hello.cursor,
            Some(Verb::Ack(ack)) => ack.cursor,
            Some(Verb::Resume(resume)) => resume.cursor,
            _ => return,
        };
        assert!(
            cursor >= self.acknowledged.0,
            "R1: cursor {cursor} after {} was acknowledged",
            self.acknowledged
        );
        if let Some(Verb::Ack(_)) = frame.verb {
            self.acknowledged = Pos(cursor);
        }
    }

    pub(crate) fn is_caught_up(&self) -> bool {
        self.client.as_ref().is_some_and(|client| {
            let state = client.state();
            state.status == SessionStatus::Online && state.caught_up
        })
    }
}
