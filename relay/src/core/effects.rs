//! What is done when a commit has ended, or at once when there is none to wait for.

use hongyan_protocol::wire::{self, PresenceCause, relay_frame::Event};
use hongyan_protocol::{Code, DeviceId, UserId};

use super::commit::{Effect, Mark};
use super::defects::{self, Defect};
use super::io::{ConnectionId, Output, Verifier};
use super::queries::{Answer, QueryId};
use super::relay::Relay;
use crate::store::Store;

impl<S: Store, V: Verifier> Relay<S, V> {
    /// What is durable now is told.
    pub(super) fn run(&mut self, effect: Effect) {
        match effect {
            Effect::Answer(connection, request, event) => self.answer(connection, request, event),
            Effect::Reply(id, answer) => self.reply(id, answer),
            Effect::LoggedOut(user, device, connections) => self.logged_out(&user, &device, connections),
            Effect::SignedOut(user, device) => {
                self.end_device(&user, &device, PresenceCause::Kicked);
                if defects::is_on(Defect::SignedOutGoesOn) {
                    return;
                }
                self.close_sessions(&user, Code::LOGGED_OUT, |session| session.device == device);
            }
            Effect::User(user, record) => self.end_revoked(&user, record),
            Effect::Membership(user, id, record) if record.left > 0 => {
                self.unlisten(&user, &id);
                self.doubt_watches(&user, &id);
            }
            Effect::Membership(user, id, _) => self.listen_too(&user, &id),
            Effect::Group(id, _) => self.end_log(&id),
            Effect::Profile(user, _) => self.tell_profile(user),
            Effect::Tended(user, more) => self.tended(&user, more),
            Effect::Invisible(user, asker, invisible, set) => {
                self.show_or_hide(&user, invisible, set);
                let connections = self.users.get(&user).map(|user| user.connections.clone());
                for connection in connections.unwrap_or_default() {
                    if connection != asker {
                        self.push_event(connection, Event::Invisible(wire::Invisible { invisible }));
                    }
                }
            }
            Effect::Log(..) | Effect::Changed(..) | Effect::Key(..) | Effect::Device(..) => {}
        }
    }

    /// A device's own logout: its connections end, the first of which said so.
    fn logged_out(&mut self, user: &UserId, device: &DeviceId, connections: Vec<ConnectionId>) {
        let holders = self.lease_holders(user, device);
        // Otherwise it was logged in again meanwhile.
        if holders.iter().all(|holder| connections.contains(holder)) {
            self.end_device(user, device, PresenceCause::Logout);
        }
        let mut code = Code(1000);
        for connection in connections {
            self.close(connection, code);
            code = Code::LOGGED_OUT;
        }
    }

    /// What was assigned is durable now.
    pub(super) fn settle(&mut self, effect: &Effect) {
        match effect {
            Effect::Log(id, seq) => {
                if let Some(conversation) = self.conversations.get_mut(id) {
                    conversation.durable = conversation.durable.max(*seq);
                }
            }
            Effect::Changed(id, seq, message, number) => {
                if let Some(conversation) = self.conversations.get_mut(id) {
                    conversation.changes_durable = conversation.changes_durable.max(*number);
                }
                self.commits.settle_message(id, *seq, message);
            }
            Effect::Group(id, facts) => {
                let durable = self.commits.durable();
                if let Some(conversation) = self.conversations.get_mut(id)
                    && let Some(group) = &mut conversation.group
                {
                    group.durable = facts.clone();
                    group.members.settle(durable);
                }
            }
            Effect::Key(user, key) => {
                self.commits.keys.remove(&(user.clone(), key.clone()));
            }
            Effect::Membership(user, id, record) => self.commits.settle_membership(user, id, *record),
            Effect::Profile(user, profile) => self.commits.settle_profile(user, profile),
            Effect::Device(user, device) => self.settle_device(user, device),
            Effect::User(user, record) => self.settle_user(user, *record),
            Effect::SignedOut(user, device) => self.settle_sign_out(user, device),
            Effect::Answer(..)
            | Effect::LoggedOut(..)
            | Effect::Invisible(..)
            | Effect::Tended(..)
            | Effect::Reply(..) => {}
        }
    }

    /// An answer that may be given when `mark` is durable.
    pub(super) fn answer_at(&mut self, mark: Mark, connection: ConnectionId, request: u64, event: Event) {
        self.run_at(mark, Effect::Answer(connection, request, event));
    }

    /// Does what is to be done when `mark` is durable.
    pub(super) fn run_at(&mut self, mark: Mark, effect: Effect) {
        if self.commits.is_durable(mark) {
            self.run(effect);
        } else {
            self.commits.then_at(mark, effect);
        }
    }

    /// The answer to the app's server.
    pub(super) fn reply(&mut self, id: QueryId, answer: Answer) {
        self.outputs.push_back(Output::Answer(id, answer));
    }
}
