//! A user's read mark: moves forward only, and is told to all of the user's devices.

use hongyan_protocol::wire::{self, relay_frame::Event};
use hongyan_protocol::{Code, ConversationId, UserId};

use super::Caller;
use crate::core::batches::Change;
use crate::core::commit::{Effect, Mark, Pending};
use crate::core::defects::{self, Defect};
use crate::core::io::Verifier;
use crate::core::queue::rows::{Reference, Target};
use crate::core::records::{MembershipRecord, decode, encode, membership_key};
use crate::core::refusal::Refusal;
use crate::core::relay::Relay;
use crate::store::{Store, StoreError, Table};

pub(super) fn mark_read<S: Store, V: Verifier>(
    relay: &mut Relay<S, V>,
    caller: &Caller,
    body: wire::MarkRead,
) -> Result<(), Refusal> {
    relay.may_write()?;
    let id = ConversationId::new(&body.conversation)?;
    let user = &caller.user;
    let last = match relay.conversations.load(&relay.store, &id, user)? {
        Some(conversation) if conversation.has_reader(&relay.store, &id, user)? => conversation.durable,
        _ => return relay.refuse_outsider(caller, &id),
    };
    let (before, mark) = relay.membership(user, &id)?;
    let mut record = before.unwrap_or_default();
    let seq = body.seq.min(last.0);
    let moves = seq > record.read_seq || defects::is_on(Defect::ReadMarkMovesBack);
    record.read_seq = if moves { seq } else { record.read_seq };
    let answer =
        Event::MarkedRead(wire::MarkedRead { conversation: body.conversation.clone(), seq: record.read_seq });
    if !moves {
        relay.answer_at(mark, caller.connection, caller.request, answer);
        return Ok(());
    }
    relay.put_membership(user, &id, before, record);
    let read = wire::ReadMark { conversation: body.conversation, seq };
    let reference = Reference { conversation: id.clone(), target: Target::Read(seq), copy: None };
    relay.enqueue(user, &reference, &Change::Read(encode(&read)));
    relay.commits.then(Effect::Answer(caller.connection, caller.request, answer));
    if let Some(conversation) = relay.conversations.get_mut(&id) {
        conversation.commit = relay.commits.mark();
    }
    Ok(())
}

impl<S: Store, V: Verifier> Relay<S, V> {
    /// Who is no member is told so; who was removed with a commit that has not ended, when it has: were it lost, she
    /// would be told for good what is not true.
    pub(super) fn refuse_outsider(&mut self, caller: &Caller, id: &ConversationId) -> Result<(), Refusal> {
        let pending = self.commits.memberships.get(&(caller.user.clone(), id.clone()));
        let Some(removal) = pending.filter(|pending| pending.assigned.left > 0).map(|pending| pending.commit)
        else {
            return Err(Refusal::reject(Code::NOT_A_MEMBER));
        };
        let code = Code::NOT_A_MEMBER;
        let reject = wire::Reject { code: code.0.into(), reason: code.sentence().into(), retry_after_ms: 0 };
        self.answer_at(removal, caller.connection, caller.request, Event::Reject(reject));
        Ok(())
    }

    /// A membership as assigned, and what makes it durable.
    pub(in crate::core) fn membership(
        &self,
        user: &UserId,
        id: &ConversationId,
    ) -> Result<(Option<MembershipRecord>, Mark), StoreError> {
        if let Some(pending) = self.commits.memberships.get(&(user.clone(), id.clone())) {
            return Ok((Some(pending.assigned), pending.commit));
        }
        let record = self.store.get(Table::Memberships, &membership_key(user, id))?;
        let record = record.map(|record| decode(record, "memberships")).transpose()?;
        Ok((record, Mark::NONE))
    }

    /// Changes a membership from what [`Relay::membership`] gave.
    pub(in crate::core) fn put_membership(
        &mut self,
        user: &UserId,
        id: &ConversationId,
        before: Option<MembershipRecord>,
        record: MembershipRecord,
    ) {
        let commit = self.commits.mark();
        let key = (user.clone(), id.clone());
        let durable = match self.commits.memberships.get(&key) {
            Some(pending) => pending.durable,
            None => before,
        };
        self.commits.memberships.insert(key, Pending { durable, assigned: record, commit });
        self.commits.put(Table::Memberships, membership_key(user, id), encode(&record));
        self.commits.then(Effect::Membership(user.clone(), id.clone(), record));
    }
}
