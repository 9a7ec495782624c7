//! Who types: told by members to members, and over by itself.

use std::collections::BTreeMap;

use hongyan_protocol::{ConversationId, UserId, wire};

use crate::faults::Fault;
use crate::truth;
use crate::world::World;

/// What a device knows of those who type: by conversation and user.
#[derive(Default)]
pub(crate) struct Typing {
    /// Until when what the relay told counts, at the latest.
    told: BTreeMap<(String, String), u64>,
    shown: BTreeMap<(String, String), ()>,
}

impl World {
    /// The relay tells a user that another one types.
    pub(crate) fn typing_told(&mut self, reader: &str, typed: &wire::Typed) {
        let (id, user) = (&typed.conversation, &typed.user);
        let expected =
            format!("{reader} is told of typing in {id} by another member who is visible and typed");
        let broke = |why: &str| format!("{user} {why}");
        let place = (id.clone(), user.clone());
        let direct = ConversationId::new(id).ok().and_then(|id| id.users());
        let is_member = |who: &str| match &direct {
            Some((one, other)) => one.as_str() == who || other.as_str() == who,
            None => self.relay.store.look(|tables| truth::is_member(tables, id, who)),
        };
        let why = if user == reader {
            "is the reader"
        } else if !is_member(user) {
            "is no member"
        } else if !is_member(reader) {
            "is a member, and the reader is not"
        } else if self.tellings.known.invisible.contains(user) {
            "is invisible"
        } else if !self.tellings.typed.contains(&place) {
            "typed nothing there"
        } else {
            return self.mattered(Fault::TypingTold);
        };
        let happened = broke(why);
        self.broke("typing", expected, happened);
    }

    /// An application says that its user types.
    pub(super) fn types(&mut self, user: &UserId, conversation: &ConversationId) {
        self.tellings.typed.insert((conversation.as_str().to_owned(), user.as_str().to_owned()));
    }

    /// A device is told that somebody types.
    pub(crate) fn typing_arrived(&mut self, index: usize, typed: &wire::Typed) {
        let place = (typed.conversation.clone(), typed.user.clone());
        // Its clock may be slow.
        let until = self.now + u64::from(typed.expires_in_ms) * 5 / 4 + 200;
        self.devices[index].app.typing.told.insert(place, until);
    }

    /// An application is told of typing.
    pub(crate) fn typing_shown(
        &mut self,
        index: usize,
        conversation: &ConversationId,
        user: &UserId,
        types: bool,
    ) {
        let place = (conversation.as_str().to_owned(), user.as_str().to_owned());
        let typing = &mut self.devices[index].app.typing;
        let (was_told, was_shown) = (typing.told.contains_key(&place), typing.shown.remove(&place).is_some());
        if types {
            typing.shown.insert(place, ());
        }
        if was_shown == types || !was_told {
            self.broke(
                "typing",
                format!(
                    "device {index} is told once that {user} types in {conversation}, and once that it ceased"
                ),
                format!("told: {was_told}, shown before: {was_shown}, now: {types}"),
            );
        }
    }

    /// Whoever types ceases by itself.
    pub(super) fn look_at_typing(&mut self, index: usize) {
        let (now, device) = (self.now, &self.devices[index]);
        if device.throttled_until > now {
            return;
        }
        let typing = &device.app.typing;
        let late = typing.shown.keys().find(|place| typing.told.get(*place).is_none_or(|until| *until < now));
        if let Some((conversation, user)) = late.cloned() {
            self.broke(
                "typing",
                format!("on device {index} {user} ceases to type in {conversation}"),
                "it goes on",
            );
        }
    }
}
