//! What a client may ask for: one table, and a file for each kind of verb.
//!
//! *How to add a verb:* its message in the `.proto`, a row here, its handler in a file beside this one.

mod changes;
mod devices;
mod groups;
mod hello;
mod history;
mod keys;
mod mark_read;
mod members;
mod presence;
mod profiles;
mod send;
mod session;
mod typing;

use hongyan_protocol::wire::{ClientFrame, client_frame::Verb};
use hongyan_protocol::{Code, DeviceId, UserId};

use super::io::{ConnectionId, Verifier};
use super::refusal::Refusal;
use super::relay::Relay;
use crate::store::Store;

/// Who asks, and for which request.
pub(super) struct Caller {
    pub(super) connection: ConnectionId,
    pub(super) request: u64,
    pub(super) user: UserId,
    pub(super) device: DeviceId,
}

/// To which of a user's rates a verb counts.
#[derive(Clone, Copy, PartialEq, Eq)]
enum RateClass {
    /// It costs next to nothing and is not counted.
    Free,
    Sends,
    Requests,
    /// Changes of the profile, which are told to many.
    Profiles,
}

macro_rules! verbs {
    ($($verb:ident, $rate:ident, $handler:path;)*) => {
        /// Every verb but hello: it needs a session.
        fn run<S: Store, V: Verifier>(
            relay: &mut Relay<S, V>,
            caller: &Caller,
            verb: Verb,
        ) -> Result<(), Refusal> {
            match verb {
                Verb::Hello(_) => Err(Refusal::end(Code::HELLO_EXPECTED)),
                $(Verb::$verb(body) => {
                    relay.take_from_rate(&caller.user, RateClass::$rate)?;
                    $handler(relay, caller, body)
                })*
            }
        }
    };
}

verbs! {
    // verb, rate, handler
    Renew, Requests, session::renew;
    Resume, Requests, session::resume;
    Ack, Free, session::ack;
    Ping, Requests, session::ping;
    Pong, Free, session::pong;
    Bye, Free, session::bye;
    Send, Sends, send::send;
    ChangeMessage, Sends, changes::change;
    Changes, Requests, changes::page;
    MarkRead, Requests, mark_read::mark_read;
    History, Requests, history::history;
    CreateGroup, Requests, groups::create;
    AddMembers, Requests, groups::add;
    RemoveMembers, Requests, groups::remove;
    RenameGroup, Requests, groups::rename;
    LeaveGroup, Requests, groups::leave;
    Members, Requests, members::members;
    SetAway, Free, presence::set_away;
    Watch, Requests, presence::watch;
    Unwatch, Requests, presence::unwatch;
    Typing, Requests, typing::typing;
    Devices, Requests, devices::list;
    SignOut, Requests, devices::sign_out;
    SetInvisible, Requests, presence::set_invisible;
    SetProfile, Profiles, profiles::set;
    GetProfiles, Requests, profiles::get;
}

/// Does what a frame asks for.
pub(super) fn dispatch<S: Store, V: Verifier>(
    relay: &mut Relay<S, V>,
    connection: ConnectionId,
    frame: ClientFrame,
) -> Result<(), Refusal> {
    let request = frame.request;
    let Some(session) = relay.session_mut(connection) else {
        return match frame.verb {
            Some(Verb::Hello(body)) => hello::hello(relay, connection, request, body),
            _ => Err(Refusal::end(Code::HELLO_EXPECTED)),
        };
    };
    let caller = Caller { connection, request, user: session.user.clone(), device: session.device.clone() };
    match frame.verb {
        Some(verb) => run(relay, &caller, verb),
        None => {
            relay.take_from_rate(&caller.user, RateClass::Requests)?;
            Err(Refusal::reject(Code::VERB_UNKNOWN))
        }
    }
}

impl<S: Store, V: Verifier> Relay<S, V> {
    fn take_from_rate(&mut self, user: &UserId, class: RateClass) -> Result<(), Refusal> {
        let Some(state) = self.users.get_mut(user) else { return Ok(()) };
        let taken = match class {
            RateClass::Free => Ok(()),
            RateClass::Sends => self.send_rate.take(&mut state.sends, self.now.moment),
            RateClass::Requests => self.request_rate.take(&mut state.requests, self.now.moment),
            RateClass::Profiles => self.profile_rate.take(&mut state.profiles, self.now.moment),
        };
        taken.map_err(Refusal::rate_limited)
    }
}
