//! Who writes something right now: told and heard, never stored.
//!
//! *Invariant:* whoever was told to be writing is told to have ceased: when that expires, when a message of that user
//! is told, or when the connection ends. At most `TYPING_MAX` are known.

use hongyan_protocol::wire::client_frame::Verb;
use hongyan_protocol::{ConversationId, ConversationKind, UserId, wire};

use crate::client::Client;
use crate::defects::{self, Defect};
use crate::io::{Event, Moment, Now};
use crate::limits::{TYPING_EVERY_MS, TYPING_EXPIRES_MAX_MS, TYPING_MAX};
use crate::sorted::SortedMap;
use crate::timers::Timer;

/// Someone who writes.
struct Writing {
    conversation: ConversationId,
    user: UserId,
    until: Moment,
}

/// Everybody who writes.
#[derive(Default)]
pub(crate) struct Typings {
    /// The one who began first is first.
    writing: Vec<Writing>,
    /// When the relay was told that this user writes, by conversation.
    told: SortedMap<ConversationId, Moment>,
}

impl Client {
    /// The user writes something. Nobody waits for this, so it is told when it can be, or not at all.
    pub(crate) fn tell_typing(&mut self, now: Now, conversation: ConversationId) {
        self.typings.told.retain(|_, at| now.moment.since(*at) < TYPING_EVERY_MS);
        let is_left = self.conversations.get(&conversation).is_some_and(|line| line.left);
        if !self.session.is_online()
            || is_left
            || !self.is_of(&conversation, &self.user)
            || self.typings.told.contains_key(&conversation)
            || self.typings.told.len() >= TYPING_MAX
        {
            return;
        }
        self.say(Verb::Typing(wire::Typing { conversation: conversation.as_str().into() }));
        self.typings.told.insert(conversation, now.moment);
    }

    /// What was written is sent: what is written next is told at once.
    pub(crate) fn typing_begins_anew(&mut self, conversation: &ConversationId) {
        self.typings.told.remove(conversation);
    }

    /// Whether the user can be in the conversation, as far as its id tells.
    fn is_of(&self, conversation: &ConversationId, user: &UserId) -> bool {
        match conversation.kind() {
            ConversationKind::Direct => {
                conversation.peer_of(&self.user).is_some_and(|peer| *user == self.user || *user == peer)
            }
            ConversationKind::Group => true,
        }
    }

    /// The relay told that someone writes.
    pub(crate) fn typed(&mut self, now: Now, typed: &wire::Typed) {
        let (Ok(conversation), Ok(user)) =
            (ConversationId::new(&typed.conversation), UserId::new(&typed.user))
        else {
            return;
        };
        // The user's own other devices are no news.
        if user == self.user || !self.is_of(&conversation, &user) {
            return;
        }
        let expires_in_ms = u64::from(typed.expires_in_ms).min(TYPING_EXPIRES_MAX_MS);
        if expires_in_ms == 0 {
            self.typing_ceased(&conversation, &user);
            return;
        }
        let until = now.moment.after_ms(expires_in_ms);
        let mut writing = self.typings.writing.iter_mut();
        if let Some(known) = writing.find(|one| one.conversation == conversation && one.user == user) {
            known.until = until;
        } else {
            if self.typings.writing.len() >= TYPING_MAX {
                let oldest = self.typings.writing.remove(0);
                self.event(typing(oldest, false));
            }
            let one = Writing { conversation, user, until };
            self.event(Event::Typing {
                conversation: one.conversation.clone(),
                user: one.user.clone(),
                typing: true,
            });
            self.typings.writing.push(one);
        }
        self.typing_deadline();
    }

    /// A message of the user came: that is what was written.
    pub(crate) fn typing_ceased(&mut self, conversation: &ConversationId, user: &UserId) {
        let mut writing = self.typings.writing.iter();
        if let Some(at) = writing.position(|one| one.user == *user && one.conversation == *conversation) {
            let ceased = self.typings.writing.remove(at);
            self.event(typing(ceased, false));
            self.typing_deadline();
        }
    }

    /// Time passed.
    pub(crate) fn typings_due(&mut self, now: Now) {
        self.typings_end(now.moment);
    }

    /// The connection ended: nobody would tell that they ceased.
    pub(crate) fn typings_disconnected(&mut self) {
        self.typings_end(Moment(u64::MAX));
    }

    fn typings_end(&mut self, moment: Moment) {
        let ended: Vec<_> = self.typings.writing.extract_if(.., |one| one.until <= moment).collect();
        for one in ended {
            self.event(typing(one, false));
        }
        self.typing_deadline();
    }

    fn typing_deadline(&mut self) {
        let next = self.typings.writing.iter().map(|one| one.until).min();
        let next = next.filter(|_| !defects::is_on(Defect::TypingNeverEnds));
        self.timers.set_or_clear(Timer::Typing, next);
    }
}

fn typing(Writing { conversation, user, .. }: Writing, typing: bool) -> Event {
    Event::Typing { conversation, user, typing }
}
