//! The queues: rows without a gap, and references to what is there.

use bytes::Bytes;
use hongyan_protocol::{ConversationId, Pos, Seq, UserId, wire};

use super::{Check, Fault, decode, follows, numbered, words};
use crate::core::queue::rows::{Reference, Row, Target};
use crate::core::records::{message_key, profile_key};
use crate::store::{Store, Table};

impl<S: Store> Check<'_, S> {
    /// The older part comes first, and both together have no gap.
    pub(super) fn queues(&mut self) {
        for table in [Table::Overflow, Table::Queue] {
            let mut before: (String, u64) = Default::default();
            self.walk(table, &mut |check, key, value| {
                let (name, last) = numbered(key)?;
                let user = UserId::new(name).map_err(|_| "its user is no valid id")?;
                let row = Row::decode(Pos(last), Bytes::copy_from_slice(value));
                let row = row.map_err(|error| words(&error))?;
                if before.0 != name {
                    name.clone_into(&mut before.0);
                    // Where a queue begins depends on what was trimmed.
                    before.1 = match table {
                        Table::Queue => check.head(Table::Overflow, name)?,
                        _ => 0,
                    };
                }
                let first = row.first().0;
                let gap = if before.1 == 0 { Ok(()) } else { follows(&mut before, name, first) };
                before.1 = last;
                if table == Table::Overflow && check.head(Table::Queue, name)? <= last {
                    return Err("it is in the overflow, and nothing newer is in the queue".into());
                }
                for (pos, Reference { conversation, target, copy }) in row.numbered() {
                    check
                        .reference(&user, conversation, *target, copy.as_ref())
                        .map_err(|fault| format!("entry {pos}: {fault}"))?;
                }
                gap
            });
        }
    }

    fn reference(
        &mut self,
        user: &UserId,
        id: &ConversationId,
        target: Target,
        copy: Option<&Bytes>,
    ) -> Result<(), Fault> {
        if id.users().is_some_and(|(one, other)| *user != one && *user != other) {
            return Err("it points to a conversation of others".into());
        }
        if let Target::Profile(version) = target {
            let of = id.peer_of(user).ok_or("it points to nobody's profile")?;
            let profile = self.get(Table::Profiles, &profile_key(&of))?;
            let profile: wire::Profile = decode(&profile.ok_or("it points to a profile that is not there")?)?;
            if version == 0 || version > profile.version {
                return Err(format!("it points to version {version} of a profile, which is not there"));
            }
            if of == *user {
                return Ok(());
            }
        }
        if !self.is_listed(user, id)? {
            return Err("the conversation is missing in the user's own list".into());
        }
        match target {
            Target::Message(seq) if !self.is_in_log(id, seq)? => {
                Err(format!("it points to message {seq}, which is not there"))
            }
            Target::Message(seq) => match copy {
                Some(copy) if !self.is_copy(id, seq, copy)? => {
                    Err(format!("its copy of message {seq} is not what the log has"))
                }
                _ => Ok(()),
            },
            Target::Change(number) if number > self.head(Table::Changes, id.as_str())? => {
                Err(format!("it points to change {number} of a message, which is not there"))
            }
            Target::Read(seq) if seq > self.head(Table::Messages, id.as_str())? => {
                Err(format!("its read mark {seq} is beyond the log"))
            }
            Target::Group(version) if self.group(id)?.is_none_or(|last| version > last) => {
                Err(format!("it points to change {version} of the group, which is not there"))
            }
            Target::LogBegins(seq) | Target::LogEnds(seq)
                if seq > self.head(Table::Messages, id.as_str())? =>
            {
                Err(format!("its group changes over at {seq}, beyond the log"))
            }
            Target::Read(_)
            | Target::Group(_)
            | Target::Change(_)
            | Target::LogBegins(_)
            | Target::LogEnds(_)
            | Target::Profile(_) => Ok(()),
        }
    }

    /// Whether this is the message as it is, or as it was before it was changed.
    fn is_copy(&self, id: &ConversationId, seq: u64, copy: &Bytes) -> Result<bool, Fault> {
        let Some(stored) = self.get(Table::Messages, &message_key(id, Seq(seq)))? else { return Ok(false) };
        if stored == *copy {
            return Ok(true);
        }
        let (stored, copy): (wire::Message, wire::Message) = (decode(&stored)?, decode(copy)?);
        let is_changed = stored.edited > 0 || stored.recalled > 0 || !stored.reactions.is_empty();
        Ok(is_changed && (&stored.from, &stored.key, stored.time) == (&copy.from, &copy.key, copy.time))
    }
}
