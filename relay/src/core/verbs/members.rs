//! Who is in a conversation, page by page.

use hongyan_protocol::limits::MEMBER_PAGE_MAX;
use hongyan_protocol::wire::{self, Role, relay_frame::Event};
use hongyan_protocol::{Code, ConversationId, GroupVersion, UserId};

use super::Caller;
use crate::core::commit::Mark;
use crate::core::io::Verifier;
use crate::core::refusal::Refusal;
use crate::core::relay::Relay;
use crate::store::Store;

pub(super) fn members<S: Store, V: Verifier>(
    relay: &mut Relay<S, V>,
    caller: &Caller,
    body: wire::Members,
) -> Result<(), Refusal> {
    let id = ConversationId::new(&body.conversation)?;
    let after = if body.after.is_empty() { None } else { Some(UserId::new(&body.after)?) };
    let limit = match usize::try_from(body.limit).unwrap_or(usize::MAX) {
        0 => MEMBER_PAGE_MAX,
        limit => limit.min(MEMBER_PAGE_MAX),
    };
    let conversation = match relay.conversations.load(&relay.store, &id, &caller.user)? {
        Some(conversation) if conversation.has_reader(&relay.store, &id, &caller.user)? => conversation,
        _ => return Err(Refusal::reject(Code::NOT_A_MEMBER)),
    };
    let (owner, version) = match &conversation.group {
        Some(group) => (group.facts.owner.as_ref(), group.facts.version),
        None => (None, GroupVersion::ZERO),
    };
    // As assigned, and told when that is durable: a page is of one version, never of two.
    let mut members: Vec<UserId> = match &conversation.group {
        Some(group) => {
            let page = group.members.page(&relay.store, &id, after.as_ref(), limit + 1)?;
            page.into_keys().collect()
        }
        None => conversation.users.iter().filter(|user| after.as_ref() < Some(user)).cloned().collect(),
    };
    let more = members.len() > limit;
    members.truncate(limit);
    let page = wire::MemberPage {
        conversation: body.conversation,
        members: members
            .iter()
            .map(|user| {
                let role = if Some(user) == owner { Role::Owner } else { Role::Member };
                wire::Member { user: user.as_str().to_owned(), role: role.into() }
            })
            .collect(),
        more,
        version: version.0,
    };
    let mark = conversation.group.as_ref().map_or(Mark::NONE, |group| group.commit);
    if !relay.commits.is_durable(mark) {
        // The page waits, and what waits is bounded.
        relay.may_write()?;
    }
    relay.answer_at(mark, caller.connection, caller.request, Event::MemberPage(page));
    Ok(())
}
