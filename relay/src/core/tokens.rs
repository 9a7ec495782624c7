//! Revoked tokens: from a moment on, none of a user's that was issued before opens anything.

use hongyan_protocol::{Code, Time, UserId};

use super::commit::{Effect, Mark, Pending};
use super::io::{Identity, Verifier};
use super::records::{UserRecord, decode, encode, user_key};
use super::refusal::Refusal;
use super::relay::Relay;
use crate::store::{Store, StoreError, Table};

impl Identity {
    /// When the token was issued; before everything when it does not say.
    pub(super) fn issued(&self) -> Time {
        self.issued.unwrap_or(Time::ZERO)
    }
}

impl UserRecord {
    /// Whether a token issued then is revoked.
    fn revokes(self, issued: Time) -> bool {
        self.revoked_before > 0 && issued.0 <= self.revoked_before
    }
}

impl<S: Store, V: Verifier> Relay<S, V> {
    /// Whether a token of the user's, issued then, is revoked for good. One whose revocation still waits for its
    /// commit is taken, and its session ends with that.
    pub(super) fn is_revoked(&self, user: &UserId, issued: Time) -> Result<bool, StoreError> {
        let (durable, _) = self.user_record(user)?;
        Ok(durable.unwrap_or_default().revokes(issued))
    }

    /// Revokes the user's tokens issued up to now, with the commit that gathers.
    pub(super) fn revoke_tokens(&mut self, user: &UserId) -> Result<(Time, Mark), Refusal> {
        self.may_write()?;
        let (durable, mut record) = self.user_record(user)?;
        // The clock may have been set back.
        record.revoked_before = record.revoked_before.max(self.now.time.0);
        let commit = self.commits.mark();
        self.commits.users.insert(user.clone(), Pending { durable, assigned: record, commit });
        self.commits.put(Table::Users, user_key(user), encode(&record));
        self.commits.then(Effect::User(user.clone(), record));
        Ok((Time(record.revoked_before), commit))
    }

    /// The record is durable: sessions whose token it revokes end.
    pub(super) fn end_revoked(&mut self, user: &UserId, record: UserRecord) {
        self.close_sessions(user, Code::TOKEN_REVOKED, |session| record.revokes(session.issued));
    }

    /// A user's record, as it is durable and as it is assigned.
    fn user_record(&self, user: &UserId) -> Result<(Option<UserRecord>, UserRecord), StoreError> {
        if let Some(pending) = self.commits.users.get(user) {
            return Ok((pending.durable, pending.assigned));
        }
        let record = self.store.get(Table::Users, &user_key(user))?;
        let record = record.map(|record| decode::<UserRecord>(record, "users")).transpose()?;
        Ok((record, record.unwrap_or_default()))
    }
}
