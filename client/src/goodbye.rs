//! How a client goes: for a while with its page, or for good.
//!
//! *Invariant:* who goes on purpose says so before the socket is closed; after that nothing goes out on it. A page that
//! left does not dial, whatever comes, until it wakes.

use hongyan_protocol::wire::client_frame::Verb;
use hongyan_protocol::{Code, wire};
use prost::Message as _;

use crate::cache::After;
use crate::client::Client;
use crate::io::{Answer, ChatError, Now, Output, RequestId};
use crate::profiles::Profiles;
use crate::session::Phase;

impl Client {
    /// The page ends, or is put away: it may come back and may not.
    pub(crate) fn leave_page(&mut self, now: Now, bye: wire::Bye) {
        match self.session.phase {
            Phase::Waiting => self.wait_for_host(),
            Phase::Token | Phase::Dialling | Phase::Greeting | Phase::Online => {
                self.say_bye(bye);
                // The socket may be dropped before it sends what it was given last.
                let ticket = core::mem::take(&mut self.session.bye_ticket);
                if self.session.is_online() && !ticket.is_empty() {
                    let beacon = wire::Beacon { ticket, bye: Some(bye) };
                    self.output(Output::Beacon(beacon.encode_to_vec().into()));
                }
                self.hang_up(Code(1000));
                self.disconnected(now);
                self.session.reason = None;
            }
            Phase::Fresh | Phase::Stopped => {}
        }
    }

    /// Says goodbye where the relay knows, or is about to know, of this connection.
    fn say_bye(&mut self, bye: wire::Bye) {
        self.acknowledge();
        match self.session.phase {
            Phase::Greeting | Phase::Online => {
                self.transmit(0, Verb::Bye(bye));
            }
            Phase::Fresh | Phase::Waiting | Phase::Token | Phase::Dialling | Phase::Stopped => {}
        }
    }

    /// Says goodbye and stops; what was gathered is persisted first. The device does not come back by itself, so
    /// it is gone at once.
    pub(crate) fn close(&mut self, now: Now, request: RequestId) {
        self.say_bye(wire::Bye::default());
        self.hang_up(Code(1000));
        self.end_with(now, ChatError::new(Code::CLOSED));
        self.session.closing = Some(request);
    }

    pub(crate) fn log_out(&mut self, now: Now, request: RequestId, keep_cache: bool) {
        self.say_bye(wire::Bye { logout: true, ..wire::Bye::default() });
        self.hang_up(Code(1000));
        let error = ChatError::new(Code::LOGGED_OUT);
        if !keep_cache {
            self.forget_everything(&error);
        }
        self.end_with(now, error);
        self.session.closing = Some(request);
    }

    fn end_with(&mut self, now: Now, error: ChatError) {
        self.outbox.disconnected();
        self.refuse_senders(&error);
        self.stop(now, error);
    }

    /// Answers those who wait for a send; the messages stay in the outbox.
    pub(crate) fn refuse_senders(&mut self, error: &ChatError) {
        for entry in self.outbox.entries.values_mut() {
            for waiter in core::mem::take(&mut entry.waiters) {
                self.cache.after(After::Reply(waiter, Err(error.clone())));
            }
        }
    }

    /// The device is signed out: nothing of the user stays on it.
    pub(crate) fn forget_everything(&mut self, error: &ChatError) {
        let entries = core::mem::take(&mut self.outbox.entries);
        for waiter in entries.into_values().flat_map(|entry| entry.waiters) {
            self.cache.after(After::Reply(waiter, Err(error.clone())));
        }
        self.conversations.clear();
        self.profiles = Profiles::default();
        self.cache.clear();
        self.cache.gathering.meta = false;
    }

    /// Answers a close once everything is persisted.
    pub(crate) fn finish_closing(&mut self) {
        if self.session.phase == Phase::Stopped
            && self.cache.is_idle()
            && let Some(request) = self.session.closing.take()
        {
            self.reply(request, Ok(Answer::Done));
        }
    }
}
