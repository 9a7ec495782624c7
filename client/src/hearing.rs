//! What the relay says, and what it answers.

use bytes::Bytes;
use hongyan_protocol::wire::client_frame::Verb;
use hongyan_protocol::wire::{self, RelayFrame, relay_frame::Event as Heard};
use hongyan_protocol::{Class, Code, Pos, VERSION, VERSION_MIN, limits};

use crate::client::Client;
use crate::io::{ChatError, Generation, Now};
use crate::session::{Pending, Phase};
use crate::timers::Timer;

impl Client {
    /// Sends a request, and remembers what its answer is for. Gives the verb back.
    pub(crate) fn request(&mut self, now: Now, pending: Pending, verb: Verb) -> Option<Verb> {
        self.session.requests += 1;
        let request = self.session.requests;
        self.session.pending.insert(request, (pending, now.moment));
        self.transmit(request, verb)
    }

    /// Sends what wants no answer. It has a number all the same: a relay that refuses it (an older one does not know
    /// it) then refuses this, and not the connection.
    pub(crate) fn say(&mut self, verb: Verb) {
        self.session.requests += 1;
        self.transmit(self.session.requests, verb);
    }

    pub(crate) fn forget_resume(&mut self) {
        self.session.pending.retain(|_, (pending, _)| !matches!(pending, Pending::Resume));
    }

    pub(crate) fn frame_came(&mut self, now: Now, generation: Generation, bytes: Bytes) {
        if self.session.socket != Some(generation) {
            return;
        }
        match self.session.phase {
            Phase::Greeting | Phase::Online => {}
            Phase::Fresh | Phase::Waiting | Phase::Token | Phase::Dialling | Phase::Stopped => return,
        }
        let Ok(frame) = RelayFrame::from_bytes(bytes) else {
            self.hang_up(Code::BAD_FRAME);
            let error = ChatError {
                code: Code::BAD_FRAME,
                message: "The relay sent a frame that could not be read; the connection will be made again."
                    .into(),
            };
            self.lose(now, error, Class::Reconnect, 0);
            return;
        };
        if self.session.silence_ms > 0 {
            self.timers.set(Timer::Silence, now.moment.after_ms(self.session.silence_ms));
        }
        if let Some(probe) = &mut self.session.probe {
            probe.heard = Some(now.moment);
        }
        if let Some(heard) = frame.event {
            self.heard(now, frame.request, heard);
        }
    }

    /// One event of the relay. Before the welcome only what ends or begins a connection means something.
    fn heard(&mut self, now: Now, request: u64, heard: Heard) {
        match (heard, self.session.phase) {
            (Heard::Welcome(welcome), Phase::Greeting) => self.welcome(now, welcome),
            (Heard::Ping(ping), _) => {
                self.transmit(0, Verb::Pong(wire::Pong { nonce: ping.nonce }));
            }
            (Heard::Reject(reject), _) => self.rejected(now, request, reject),
            (Heard::Retire(retire), _) => {
                self.hang_up(Code(1000));
                self.lose(
                    now,
                    ChatError::new(Code::GOING_AWAY),
                    Class::Reconnect,
                    retire.retry_after_ms.into(),
                );
            }
            (_, phase) if phase != Phase::Online => {}
            (Heard::Pong(pong), _) => {
                if self.session.probe.as_ref().is_some_and(|probe| probe.nonce == pong.nonce) {
                    self.session.probe = None;
                    self.timers.clear(Timer::Probe);
                }
            }
            (Heard::Renewed(renewed), _) => {
                if self.answered(request).is_some() {
                    self.token_lives(now, renewed.token_expires_in_ms);
                }
            }
            (Heard::Reset(reset), _) => self.reset(reset),
            (Heard::Snapshot(snapshot), _) => self.snapshot(now, snapshot),
            (Heard::Batch(batch), _) => self.batch(now, batch),
            (Heard::LogHeads(heads), _) => self.log_heads(now, heads),
            (Heard::LogMessages(news), _) => self.log_messages(now, news),
            (Heard::LogChanges(news), _) => self.log_changes(now, news),
            (Heard::Sent(sent), _) => {
                let pending = self.answered(request);
                self.sent(now, pending, &sent);
            }
            (Heard::MarkedRead(marked), _) => {
                let pending = self.answered(request);
                self.marked_read(now, pending, &marked);
            }
            (
                heard @ (Heard::HistoryPage(_)
                | Heard::ChangePage(_)
                | Heard::MessageChanged(_)
                | Heard::GroupDone(_)
                | Heard::MemberPage(_)
                | Heard::DeviceList(_)
                | Heard::SignedOut(_)
                | Heard::ProfileSet(_)
                | Heard::Invisible(_)),
                _,
            ) => {
                // Also told when another device set it.
                if let Heard::Invisible(told) = &heard {
                    self.session.invisible = told.invisible;
                }
                match (self.answered(request), heard) {
                    (Some(Pending::Pull(id, asked_at)), Heard::HistoryPage(page)) => {
                        self.pulled(now, &id, asked_at, page);
                    }
                    (Some(Pending::PullChanges(id, asked_at)), Heard::ChangePage(page)) => {
                        self.changes_pulled(now, &id, asked_at, page);
                    }
                    (Some(Pending::Ask(ask)), heard) => self.ask_answered(now, ask, heard),
                    _ => {}
                }
            }
            (Heard::Watched(watched), _) => {
                if let Some(Pending::Watch(users)) = self.answered(request) {
                    self.watched(now, &users, watched);
                }
            }
            (Heard::ProfileList(list), _) => {
                if let Some(Pending::Profiles(users)) = self.answered(request) {
                    self.profiles_came(now, &users, list);
                }
            }
            (Heard::Presence(presence), _) => self.presence_came(presence),
            (Heard::Typed(typed), _) => self.typed(now, &typed),
            (Heard::Welcome(_), _) => {}
        }
    }

    /// Takes a request off the wire's list.
    fn answered(&mut self, request: u64) -> Option<Pending> {
        self.session.pending.remove(&request).map(|(pending, _)| pending)
    }

    fn welcome(&mut self, now: Now, welcome: wire::Welcome) {
        if !(VERSION_MIN..=VERSION).contains(&welcome.version) {
            self.hang_up(Code::VERSION_UNSUPPORTED);
            self.stop(now, ChatError::new(Code::VERSION_UNSUPPORTED));
            return;
        }
        self.timers.clear(Timer::Hello);
        self.session.pending.retain(|_, (pending, _)| !matches!(pending, Pending::Hello));
        self.session.phase = Phase::Online;
        self.session.reason = None;
        self.session.online_since = now.moment;
        self.session.good = false;
        self.session.content_bytes_max = match usize::try_from(welcome.content_bytes_max) {
            Ok(bytes @ 1..) => bytes.min(limits::CONTENT_BYTES_MAX),
            Ok(0) | Err(_) => limits::CONTENT_BYTES_MAX,
        };
        self.session.silence_ms = welcome.silence_ms.into();
        self.session.invisible = welcome.invisible;
        if welcome.bye_ticket.len() <= limits::BYE_TICKET_BYTES_MAX {
            self.session.bye_ticket = welcome.bye_ticket;
        }
        if self.session.silence_ms > 0 {
            self.timers.set(Timer::Silence, now.moment.after_ms(self.session.silence_ms));
        }
        self.token_lives(now, welcome.token_expires_in_ms);
        let fresh = self.queue.epoch != welcome.epoch;
        self.queue.welcome(welcome.epoch, Pos(welcome.head));
        if !fresh && self.queue.must_ask_for_reset() {
            self.resume(now);
        }
        if fresh {
            self.cache.gathering.meta = true;
        }
        self.tell_away();
        self.acknowledge();
        self.pump_outbox(now);
        self.pump_reads(now);
        self.pump_pulls(now);
        self.pump_asks(now);
        self.pump_watch(now);
        self.pump_profiles(now);
    }

    fn rejected(&mut self, now: Now, request: u64, reject: wire::Reject) {
        let code = Code(u16::try_from(reject.code).unwrap_or(0));
        let message = if reject.reason.is_empty() { code.sentence().into() } else { reject.reason };
        let error = ChatError { code, message };
        let retry_after_ms = u64::from(reject.retry_after_ms);
        let ends_session =
            [Code::SUPERSEDED, Code::TOKEN_REVOKED, Code::KICKED, Code::OUTDATED].contains(&code);
        let pending =
            if request == 0 || ends_session { Some(Pending::Hello) } else { self.answered(request) };
        // Who was already given up (a deadline passed) has nobody to tell.
        let Some(pending) = pending else { return };
        let ends_connection = match (&pending, code.class()) {
            (Pending::Hello, _) | (_, Class::Reconnect) => true,
            // The stream can't go on without it.
            (Pending::Resume, _) => true,
            (
                Pending::Renew
                | Pending::Send(_)
                | Pending::MarkRead(_)
                | Pending::Pull(..)
                | Pending::PullChanges(..)
                | Pending::Ask(_)
                | Pending::Watch(_)
                | Pending::Profiles(_),
                Class::Retry | Class::Stop,
            ) => false,
        };
        if ends_connection {
            self.hang_up(Code(1000));
            self.ended(now, error, retry_after_ms);
            return;
        }
        match pending {
            Pending::Send(order) => self.send_rejected(now, order, error, retry_after_ms),
            Pending::MarkRead(id) => self.read_rejected(now, &id, &error, retry_after_ms),
            Pending::Pull(id, _) => self.pull_rejected(now, &id, &error, retry_after_ms),
            Pending::PullChanges(id, _) => self.pull_changes_rejected(now, &id, &error, retry_after_ms),
            Pending::Watch(users) => self.watch_rejected(now, &users, &error, retry_after_ms),
            Pending::Profiles(users) => self.profiles_rejected(now, &users, error.class(), retry_after_ms),
            Pending::Ask(ask) => self.ask_rejected(now, ask, error, retry_after_ms),
            Pending::Renew => {
                // The open connection lives until its token ends; until then another one is tried.
                self.session.token = None;
                self.renew_later(now);
            }
            Pending::Hello | Pending::Resume => {}
        }
    }
}
