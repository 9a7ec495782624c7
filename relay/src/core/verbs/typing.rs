//! Somebody types: told to the members who are connected, and forgotten.

use hongyan_protocol::wire::{self, RelayFrame, relay_frame::Event};
use hongyan_protocol::{Code, ConversationId};

use super::Caller;
use crate::core::defects::{self, Defect};
use crate::core::io::Verifier;
use crate::core::limits::{TYPING_MEMBERS_MAX, TYPING_MS};
use crate::core::refusal::Refusal;
use crate::core::relay::Relay;
use crate::store::Store;

pub(super) fn typing<S: Store, V: Verifier>(
    relay: &mut Relay<S, V>,
    caller: &Caller,
    body: wire::Typing,
) -> Result<(), Refusal> {
    let id = ConversationId::new(&body.conversation)?;
    let user = &caller.user;
    let store = &relay.store;
    let conversation = match relay.conversations.load(store, &id, user)? {
        Some(conversation) if conversation.has_reader(store, &id, user)? => conversation,
        _ => return Err(Refusal::reject(Code::NOT_A_MEMBER)),
    };
    // Members as they durably are: who is being added knows nothing of the conversation yet.
    if conversation.users.len() > TYPING_MEMBERS_MAX {
        return Ok(());
    }
    let mut members = Vec::new();
    for member in conversation.users.iter().filter(|member| *member != user) {
        if conversation.has_reader(store, &id, member)? {
            members.push(member.clone());
        }
    }
    let is_hidden = relay.is_invisible(user)? && !defects::is_on(Defect::InvisibleStillTypes);
    if is_hidden || !relay.may_tell_typing(caller.connection) {
        return Ok(());
    }
    let typed = wire::Typed {
        conversation: body.conversation,
        user: user.as_str().to_owned(),
        expires_in_ms: TYPING_MS,
    };
    let Ok(frame) = RelayFrame::push(Event::Typed(typed)).to_bytes() else { return Ok(()) };
    for member in members {
        let connections = relay.users.get(&member).map(|member| member.connections.clone());
        for connection in connections.unwrap_or_default() {
            if relay.has_room_for_news(connection) {
                relay.transmit(connection, frame.clone());
            }
        }
    }
    Ok(())
}
