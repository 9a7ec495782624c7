//! What the app's own server asks of the core, and what it is answered: the same functions answer its users.
//!
//! *How to add a query:* a variant of [`Query`] and one of [`Answer`], an arm in [`Relay::query`], and a row in the
//! table of routes (`server/api/routes.rs`).

use hongyan_protocol::limits::WATCH_USERS_MAX;
use hongyan_protocol::{Code, ConversationId, DeviceId, Time, UserId, wire};

use super::commit::{Effect, Mark};
use super::counters::Counters;
use super::defects::{self, Defect};
pub use super::group_queries::{GroupQuery, GroupShown, is_title};
use super::io::Verifier;
use super::presence::Eyes;
use super::queue::Diffusion;
use super::refusal::Refusal;
use super::relay::Relay;
use crate::store::{Store, StoreError};

/// Names a query; never used again while the relay runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct QueryId(pub u64);

/// What the app's server wants.
pub enum Query {
    /// How these users are.
    Presence(Vec<UserId>),
    /// A user's devices.
    Devices(UserId),
    /// End the session of a device, also of one that is not connected.
    SignOut(UserId, DeviceId),
    /// End the connections of a user, or of one device of hers; she may come back.
    Kick(UserId, Option<DeviceId>),
    /// Take no token of this user any more that was issued up to now.
    RevokeTokens(UserId),
    /// Make a group.
    CreateGroup {
        /// Its title.
        title: String,
        /// Who may add and remove.
        owner: UserId,
        /// Besides the owner.
        members: Vec<UserId>,
        /// How its messages are to reach its members.
        mode: Diffusion,
    },
    /// Something of a group.
    Group(ConversationId, GroupQuery),
    /// What there is and what happened, for statistics; not for an app's server but for who runs the relay.
    Counters,
}

/// How a user is, as she sees it herself: the app's own server is told the truth.
pub struct UserPresence {
    /// What her own devices are shown.
    pub presence: wire::Presence,
    /// Others see her as offline.
    pub invisible: bool,
}

/// What it gets.
pub enum Answer {
    /// One for each user asked for, in that order.
    Presence(Vec<UserPresence>),
    /// The devices that are not signed out.
    Devices(Vec<wire::Device>),
    /// The device is signed out.
    SignedOut,
    /// The user has no such device.
    NoSuchDevice,
    /// So many connections were ended.
    Kicked(usize),
    /// Tokens issued up to then are revoked.
    TokensRevoked(Time),
    /// The group as it is now.
    Group(GroupShown),
    /// There is no such group.
    NoSuchGroup,
    /// Members of a group; the flag says that there are more.
    Members(Vec<UserId>, bool),
    /// The counters.
    Counters(Box<Counters>),
    /// It was not done.
    Refused(Code),
}

impl<S: Store, V: Verifier> Relay<S, V> {
    /// Answers at once, or when it is durable.
    pub(super) fn query(&mut self, id: QueryId, query: Query) {
        let answered = match query {
            Query::Counters => Ok(Some((Mark::NONE, Answer::Counters(Box::new(self.counters()))))),
            _ if self.has_failed() => Err(Refusal::reject(Code::STORAGE_FAILED)),
            Query::Presence(users) if users.len() > WATCH_USERS_MAX => {
                Err(Refusal::reject(Code::BAD_REQUEST))
            }
            Query::Presence(users) => {
                let presences: Result<Vec<_>, _> =
                    users.iter().map(|user| self.user_presence(user)).collect();
                presences
                    .map(|presences| Some((Mark::NONE, Answer::Presence(presences))))
                    .map_err(Refusal::from)
            }
            Query::Devices(user) => {
                self.devices(&user).map(|(devices, mark)| Some((mark, Answer::Devices(devices))))
            }
            Query::SignOut(user, device) => self
                .sign_out(&user, &device, Effect::Reply(id, Answer::SignedOut))
                .map(|known| (!known).then_some((Mark::NONE, Answer::NoSuchDevice))),
            Query::Kick(user, device) => {
                let count = self.close_sessions(&user, Code::KICKED, |session| {
                    defects::is_on(Defect::KickEndsAll)
                        || device.as_ref().is_none_or(|device| session.device == *device)
                });
                Ok(Some((Mark::NONE, Answer::Kicked(count))))
            }
            Query::RevokeTokens(user) => {
                self.revoke_tokens(&user).map(|(time, mark)| Some((mark, Answer::TokensRevoked(time))))
            }
            Query::CreateGroup { title, owner, members, mode } => {
                self.create_group_for_server(title, &owner, members, mode).map(Some)
            }
            Query::Group(group, query) => self.group_query(&group, query).map(Some),
        };
        match answered {
            Ok(Some((mark, answer))) => self.run_at(mark, Effect::Reply(id, answer)),
            Ok(None) => {}
            Err(refusal) => {
                let code = self.code_of(refusal);
                self.reply(id, Answer::Refused(code));
            }
        }
    }

    fn user_presence(&self, user: &UserId) -> Result<UserPresence, StoreError> {
        let presence = self.presence_of(user, Eyes::Own)?;
        Ok(UserPresence { presence, invisible: self.is_invisible(user)? })
    }

    fn code_of(&mut self, refusal: Refusal) -> Code {
        match refusal {
            Refusal::Reject(reject) | Refusal::End(reject) => reject.code,
            Refusal::Close(code) => code,
            Refusal::Fault(error) => {
                self.note_fault(&error);
                Code::STORAGE_FAILED
            }
        }
    }
}
