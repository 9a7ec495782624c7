//! Revoked tokens: from a moment on, none of a user's that was issued before opens anything.

use hongyan_protocol::{Code, Time, UserId};

use super::commit::Mark;
use super::defects::{self, Defect};
use super::io::{Identity, Verifier};
use super::records::UserRecord;
use super::refusal::Refusal;
use super::relay::Relay;
use crate::store::{Store, StoreError};

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
        Ok(self.durable_user_record(user)?.unwrap_or_default().revokes(issued))
    }

    /// Revokes the user's tokens issued up to now, with the commit that gathers.
    pub(super) fn revoke_tokens(&mut self, user: &UserId) -> Result<(Time, Mark), Refusal> {
        self.may_write()?;
        let mut record = self.user_record(user)?.unwrap_or_default();
        // The clock may have been set back.
        record.revoked_before = record.revoked_before.max(self.now.time.0);
        self.put_user_record(user, record)?;
        let mark = if defects::is_on(Defect::RevocationToldEarly) {
            Mark::NONE
        } else {
            self.user_record_mark(user)
        };
        Ok((Time(record.revoked_before), mark))
    }

    /// The record is durable: sessions whose token it revokes end.
    pub(super) fn end_revoked(&mut self, user: &UserId, record: UserRecord) {
        if defects::is_on(Defect::RevokedGoesOn) {
            return;
        }
        self.close_sessions(user, Code::TOKEN_REVOKED, |session| record.revokes(session.issued));
    }
}
