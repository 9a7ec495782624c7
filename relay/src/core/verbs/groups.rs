//! What members may ask of groups.

use std::collections::BTreeSet;

use hongyan_protocol::limits::GROUP_CHANGE_USERS_MAX;
use hongyan_protocol::wire::{self, GroupChangeKind, relay_frame::Event};
use hongyan_protocol::{Code, ConversationId, ConversationKind, GroupVersion, Key, UserId};

use super::Caller;
use super::keys::{Keyed, first_answer};
use crate::core::commit::Mark;
use crate::core::conversations::Group;
use crate::core::io::Verifier;
use crate::core::queries::is_title;
use crate::core::queue::Diffusion;
use crate::core::records::KeyRecord;
use crate::core::refusal::Refusal;
use crate::core::relay::Relay;
use crate::store::Store;

pub(super) fn create<S: Store, V: Verifier>(
    relay: &mut Relay<S, V>,
    caller: &Caller,
    body: wire::CreateGroup,
) -> Result<(), Refusal> {
    relay.may_write()?;
    let key = Key::new(&body.key)?;
    check_title(&body.title)?;
    let mut joining = users(&body.members)?;
    joining.insert(caller.user.clone());
    if relay.answer_known_key(caller, &key, Keyed::Group)? {
        return Ok(());
    }
    let id = relay.make_group(body.title, &caller.user, joining, Diffusion::Auto)?;
    let record =
        KeyRecord { conversation: id.as_str().to_owned(), time: relay.now.time.0, ..KeyRecord::default() };
    let answer = first_answer(&key, &record);
    relay.remember_key(caller, key, &record, answer);
    Ok(())
}

pub(super) fn add<S: Store, V: Verifier>(
    relay: &mut Relay<S, V>,
    caller: &Caller,
    body: wire::AddMembers,
) -> Result<(), Refusal> {
    relay.may_write()?;
    let id = group_id(&body.conversation)?;
    relay.owned_group(&id, &caller.user)?;
    let named = relay.among(&id, users(&body.users)?, false)?;
    let group = relay.owned_group(&id, &caller.user)?;
    let owner = group.facts.owner.clone();
    relay.change_for(caller, &id, GroupChangeKind::Added, named, owner)
}

pub(super) fn remove<S: Store, V: Verifier>(
    relay: &mut Relay<S, V>,
    caller: &Caller,
    body: wire::RemoveMembers,
) -> Result<(), Refusal> {
    relay.may_write()?;
    let id = group_id(&body.conversation)?;
    let named = users(&body.users)?;
    if named.contains(&caller.user) {
        return Err(Refusal::bad("To go yourself, leave the group."));
    }
    relay.owned_group(&id, &caller.user)?;
    let named = relay.among(&id, named, true)?;
    let group = relay.owned_group(&id, &caller.user)?;
    let owner = group.facts.owner.clone();
    relay.change_for(caller, &id, GroupChangeKind::Removed, named, owner)
}

pub(super) fn rename<S: Store, V: Verifier>(
    relay: &mut Relay<S, V>,
    caller: &Caller,
    body: wire::RenameGroup,
) -> Result<(), Refusal> {
    relay.may_write()?;
    let id = group_id(&body.conversation)?;
    check_title(&body.title)?;
    relay.owned_group(&id, &caller.user)?;
    let (version, mark) = relay.rename_group(&id, &caller.user, &body.title)?;
    relay.group_done(caller, &id, version, mark);
    Ok(())
}

pub(super) fn leave<S: Store, V: Verifier>(
    relay: &mut Relay<S, V>,
    caller: &Caller,
    body: wire::LeaveGroup,
) -> Result<(), Refusal> {
    relay.may_write()?;
    let id = group_id(&body.conversation)?;
    let group = match relay.group_of(&id, &caller.user) {
        Ok(group) => group,
        Err(Refusal::Reject(reject)) => {
            // A leave that is asked for again after its answer was lost.
            let (membership, mark) = relay.membership(&caller.user, &id)?;
            let left = membership.map_or(0, |record| record.left);
            if left == 0 {
                return Err(Refusal::Reject(reject));
            }
            relay.group_done(caller, &id, GroupVersion(left), mark);
            return Ok(());
        }
        Err(other) => return Err(other),
    };
    let mut owner = group.facts.owner.clone();
    if owner.as_ref() == Some(&caller.user) {
        owner = relay.heir(&id, &caller.user)?;
    }
    relay.change_for(caller, &id, GroupChangeKind::Left, BTreeSet::from([caller.user.clone()]), owner)
}

fn check_title(title: &str) -> Result<(), Refusal> {
    match is_title(title) {
        true => Ok(()),
        false => Err(Refusal::bad("A group's title is empty or too long.")),
    }
}

/// The users named in a request, each once.
fn users(named: &[String]) -> Result<BTreeSet<UserId>, Refusal> {
    if named.len() > GROUP_CHANGE_USERS_MAX {
        return Err(Refusal::bad("Too many users are named in one request."));
    }
    named.iter().map(|user| UserId::new(user).map_err(Refusal::from)).collect()
}

fn group_id(id: &str) -> Result<ConversationId, Refusal> {
    let id = ConversationId::new(id)?;
    match id.kind() {
        ConversationKind::Group => Ok(id),
        ConversationKind::Direct => Err(Refusal::bad("Only a group's members can change.")),
    }
}

impl<S: Store, V: Verifier> Relay<S, V> {
    /// The group, for its owner.
    fn owned_group(&mut self, id: &ConversationId, user: &UserId) -> Result<&Group, Refusal> {
        let group = self.group_of(id, user)?;
        if group.facts.owner.as_ref() != Some(user) {
            return Err(Refusal::reject(Code::NOT_PERMITTED));
        }
        Ok(group)
    }

    /// Makes a change, and answers when it is durable.
    fn change_for(
        &mut self,
        caller: &Caller,
        id: &ConversationId,
        kind: GroupChangeKind,
        concerned: BTreeSet<UserId>,
        owner: Option<UserId>,
    ) -> Result<(), Refusal> {
        let (version, mark) = self.change_group(id, &caller.user, kind, concerned, owner)?;
        self.group_done(caller, id, version, mark);
        Ok(())
    }

    fn group_done(&mut self, caller: &Caller, id: &ConversationId, version: GroupVersion, mark: Mark) {
        let done = wire::GroupDone { conversation: id.as_str().to_owned(), version: version.0 };
        self.answer_at(mark, caller.connection, caller.request, Event::GroupDone(done));
    }
}
