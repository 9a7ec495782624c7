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
        Some(conversation) if conversation.has_reader(&caller.user) => conversation,
        _ => return Err(Refusal::reject(Code::NOT_A_MEMBER)),
    };
    let (owner, version) = match &conversation.group {
        Some(group) => (group.facts.owner.as_ref(), group.facts.version),
        None => (None, GroupVersion::ZERO),
    };
    // As assigned, and told when that is durable: a page is of one version, never of two.
    let start = match &after {
        Some(after) => conversation.users.partition_point(|member| member <= after),
        None => 0,
    };
    let rest = conversation.users.get(start..).unwrap_or_default();
    let page = wire::MemberPage {
        conversation: body.conversation,
        members: rest
            .iter()
            .take(limit)
            .map(|user| {
                let role = if Some(user) == owner { Role::Owner } else { Role::Member };
                wire::Member { user: user.as_str().to_owned(), role: role.into() }
            })
            .collect(),
        more: rest.len() > limit,
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
