//! The connection: token, dial, hello, welcome, probe, renew, back-off.
//!
//! *Invariant:* one socket and one question to the token provider at most; a socket dies by its own end, by a
//! frame that ends it, or by an unanswered probe, never by a late timer alone.

use bytes::Bytes;
use hongyan_protocol::wire::client_frame::Verb;
use hongyan_protocol::wire::{self, RelayFrame, relay_frame::Event as Heard};
use hongyan_protocol::{Class, Code, ConversationId, Pos, VERSION, VERSION_MIN, limits};

use crate::client::Client;
use crate::io::{ChatError, Generation, HostEvent, Moment, Now, Output, RequestId};
use crate::limits::{
    ANSWER_SLOW_MS, BACKOFF_FIRST_MS, BACKOFF_MAX_MS, DIAL_MS, HELLO_MS, HIDDEN_IDLE_MS, PROBE_MS,
    RENEW_BEFORE_MS, STABLE_MS, TOKEN_MS,
};
use crate::sorted::SortedMap;
use crate::timers::Timer;
use crate::view::SessionStatus;

/// Where the connection is. `table` has what each input does in each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Before the cache was read.
    Fresh,
    /// Until the next try, or until the host says that it makes sense.
    Waiting,
    /// The provider was asked for a token.
    Token,
    /// The socket is not open yet.
    Dialling,
    /// The hello is out.
    Greeting,
    /// The relay said welcome.
    Online,
    /// For good.
    Stopped,
}

/// What a request on the wire is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Pending {
    Hello,
    Renew,
    Resume,
    /// Of this order in the outbox.
    Send(u64),
    MarkRead(ConversationId),
    /// Of this number among the application's requests.
    Ask(u64),
}

/// A probe that is out.
struct Probe {
    nonce: u64,
    /// When the last frame came since.
    heard: Option<Moment>,
    /// A deadline that the host told much too late was forgiven; the next one is not.
    forgiven: bool,
}

/// The connection's state.
pub(crate) struct Session {
    pub(crate) phase: Phase,
    /// The generation of the socket that exists, open or not.
    pub(crate) socket: Option<Generation>,
    generation: u64,
    requests: u64,
    pub(crate) pending: SortedMap<u64, (Pending, Moment)>,
    reason: Option<ChatError>,
    failures: u32,
    online_since: Moment,
    good: bool,
    token: Option<String>,
    token_asked: bool,
    /// The token served an earlier connection, so its refusal may only mean that it has become old.
    token_used: bool,
    token_ends: Option<Moment>,
    pub(crate) content_bytes_max: usize,
    silence_ms: u64,
    probe: Option<Probe>,
    /// Not before this moment, whatever the host says: the relay asked for it.
    not_before: Moment,
    waits_until: Option<Moment>,
    visible: bool,
    network: bool,
    hidden_since: Moment,
    pub(crate) closing: Option<RequestId>,
}

impl Default for Session {
    fn default() -> Self {
        Self {
            phase: Phase::Fresh,
            socket: None,
            generation: 0,
            requests: 0,
            pending: SortedMap::new(),
            reason: None,
            failures: 0,
            online_since: Moment(0),
            good: false,
            token: None,
            token_asked: false,
            token_used: false,
            token_ends: None,
            content_bytes_max: limits::CONTENT_BYTES_MAX,
            silence_ms: 0,
            probe: None,
            not_before: Moment(0),
            waits_until: None,
            visible: true,
            network: true,
            hidden_since: Moment(0),
            closing: None,
        }
    }
}

impl Session {
    pub(crate) fn is_online(&self) -> bool {
        self.phase == Phase::Online
    }

    pub(crate) fn status(&self) -> SessionStatus {
        match self.phase {
            Phase::Fresh | Phase::Token | Phase::Dialling | Phase::Greeting => SessionStatus::Connecting,
            Phase::Online => SessionStatus::Online,
            Phase::Waiting => SessionStatus::Offline,
            Phase::Stopped => SessionStatus::Stopped,
        }
    }

    pub(crate) fn reason(&self) -> Option<ChatError> {
        match self.phase {
            Phase::Waiting | Phase::Stopped => self.reason.clone(),
            Phase::Fresh | Phase::Token | Phase::Dialling | Phase::Greeting | Phase::Online => None,
        }
    }

    pub(crate) fn retry_at(&self) -> Option<Moment> {
        self.waits_until.filter(|_| self.phase == Phase::Waiting)
    }

    /// The connection brought something: it was a good one.
    pub(crate) fn brought(&mut self) {
        self.good = true;
    }

    /// Takes what the host tells of itself.
    pub(crate) fn note(&mut self, now: Moment, event: HostEvent) {
        match event {
            HostEvent::Visible(visible) => {
                if self.visible && !visible {
                    self.hidden_since = now;
                }
                self.visible = visible;
            }
            HostEvent::Network(network) => self.network = network,
            HostEvent::Wake => {}
        }
    }

    fn token_is_good(&self, now: Moment) -> bool {
        self.token.is_some() && self.token_ends.is_none_or(|ends| ends > now)
    }
}

impl Client {
    /// The cache was read.
    pub(crate) fn start(&mut self, now: Now) {
        self.session.phase = Phase::Waiting;
        self.connect(now);
    }

    /// A token, then a socket; or waiting for what the host lacks.
    fn connect(&mut self, now: Now) {
        if self.session.phase != Phase::Waiting {
            return;
        }
        self.timers.clear(Timer::Retry);
        self.session.waits_until = None;
        if !self.may_dial(now.moment) {
            return;
        }
        if self.session.not_before > now.moment {
            self.session.waits_until = Some(self.session.not_before);
            self.timers.set(Timer::Retry, self.session.not_before);
            return;
        }
        if self.session.token_is_good(now.moment) {
            self.dial(now);
            return;
        }
        self.session.phase = Phase::Token;
        self.timers.set(Timer::Token, now.moment.after_ms(TOKEN_MS));
        self.ask_token();
    }

    fn ask_token(&mut self) {
        if !self.session.token_asked {
            self.session.token_asked = true;
            self.output(Output::NeedToken);
        }
    }

    /// Somebody looks, or something waits; and the host does not know better.
    fn may_dial(&self, now: Moment) -> bool {
        let session = &self.session;
        let looked_at = session.visible || now.since(session.hidden_since) < HIDDEN_IDLE_MS;
        session.network
            && (looked_at || self.outbox.is_waiting() || !self.asks.is_empty() || self.has_read_pending())
    }

    /// Something new waits. A back-off goes on; a client that only waited to be looked at dials.
    pub(crate) fn wanted(&mut self, now: Now) {
        if self.session.phase == Phase::Waiting && self.session.waits_until.is_none() {
            self.connect(now);
        }
    }

    fn dial(&mut self, now: Now) {
        self.session.generation += 1;
        let generation = Generation(self.session.generation);
        self.session.phase = Phase::Dialling;
        self.session.socket = Some(generation);
        self.session.requests = 0;
        self.timers.set(Timer::Dial, now.moment.after_ms(DIAL_MS));
        self.output(Output::Dial(generation));
    }

    pub(crate) fn token_came(&mut self, now: Now, token: Result<String, String>) {
        if !self.session.token_asked {
            return;
        }
        self.session.token_asked = false;
        if let Ok(token) = &token {
            self.session.token = Some(token.clone());
            self.session.token_used = false;
            self.session.token_ends = None;
        }
        match (self.session.phase, token) {
            (Phase::Token, Ok(_)) => {
                self.timers.clear(Timer::Token);
                self.dial(now);
            }
            (Phase::Token, Err(words)) => {
                let error = ChatError { code: Code::TOKEN_EXPIRED, message: words };
                self.lose(now, error, Class::Reconnect, 0);
            }
            (Phase::Online, Ok(token)) => {
                self.timers.clear(Timer::Renew);
                self.request(now, Pending::Renew, Verb::Renew(wire::Renew { token }));
            }
            // The timer tries again until the token ends.
            (Phase::Online, Err(_)) => {}
            // Kept for the next hello, or no use any more.
            (Phase::Fresh | Phase::Waiting | Phase::Dialling | Phase::Greeting | Phase::Stopped, _) => {}
        }
    }

    pub(crate) fn opened(&mut self, now: Now, generation: Generation) {
        if self.session.socket != Some(generation) || self.session.phase != Phase::Dialling {
            return;
        }
        self.timers.clear(Timer::Dial);
        self.timers.set(Timer::Hello, now.moment.after_ms(HELLO_MS));
        self.session.phase = Phase::Greeting;
        let hello = wire::Hello {
            version: VERSION,
            token: self.session.token.clone().unwrap_or_default(),
            user: self.user.as_str().into(),
            device: self.device.as_ref().map(|device| device.as_str().into()).unwrap_or_default(),
            device_kind: self.config.device_kind.into(),
            epoch: self.queue.epoch.clone(),
            cursor: self.queue.received.0,
            agent: self.config.agent.clone(),
        };
        self.request(now, Pending::Hello, Verb::Hello(hello));
    }

    /// Sends a request, and remembers what its answer is for.
    pub(crate) fn request(&mut self, now: Now, pending: Pending, verb: Verb) {
        self.session.requests += 1;
        let request = self.session.requests;
        self.session.pending.insert(request, (pending, now.moment));
        self.transmit(request, verb);
    }

    pub(crate) fn forget_resume(&mut self) {
        self.session.pending.retain(|_, (pending, _)| *pending != Pending::Resume);
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
            (Heard::Ping(ping), _) => self.transmit(0, Verb::Pong(wire::Pong { nonce: ping.nonce })),
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
            (Heard::Snapshot(snapshot), _) => self.snapshot(snapshot),
            (Heard::Batch(batch), _) => self.batch(now, batch),
            (Heard::Sent(sent), _) => {
                let pending = self.answered(request);
                self.sent(now, pending, &sent);
            }
            (Heard::MarkedRead(marked), _) => {
                let pending = self.answered(request);
                self.marked_read(now, pending, &marked);
            }
            (heard @ (Heard::HistoryPage(_) | Heard::GroupDone(_) | Heard::MemberPage(_)), _) => {
                if let Some(Pending::Ask(ask)) = self.answered(request) {
                    self.ask_answered(now, ask, heard);
                }
            }
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
            self.stop(ChatError::new(Code::VERSION_UNSUPPORTED));
            return;
        }
        self.timers.clear(Timer::Hello);
        self.session.pending.retain(|_, (pending, _)| *pending != Pending::Hello);
        self.session.phase = Phase::Online;
        self.session.reason = None;
        self.session.online_since = now.moment;
        self.session.good = false;
        self.session.content_bytes_max = match usize::try_from(welcome.content_bytes_max) {
            Ok(bytes @ 1..) => bytes.min(limits::CONTENT_BYTES_MAX),
            Ok(0) | Err(_) => limits::CONTENT_BYTES_MAX,
        };
        self.session.silence_ms = welcome.silence_ms.into();
        if self.session.silence_ms > 0 {
            self.timers.set(Timer::Silence, now.moment.after_ms(self.session.silence_ms));
        }
        self.token_lives(now, welcome.token_expires_in_ms);
        let fresh = self.queue.epoch != welcome.epoch;
        self.queue.welcome(welcome.epoch, Pos(welcome.head));
        if fresh {
            self.cache.gathering.meta = true;
        }
        self.acknowledge();
        self.pump_outbox(now);
        self.pump_reads(now);
        self.pump_asks(now);
    }

    /// The token ends in so long: renew before. Zero is a relay that does not say.
    fn token_lives(&mut self, now: Now, expires_in_ms: u64) {
        self.session.token_used = true;
        if expires_in_ms == 0 {
            return;
        }
        self.session.token_ends = Some(now.moment.after_ms(expires_in_ms));
        let wait = (expires_in_ms / 2).max(expires_in_ms.saturating_sub(RENEW_BEFORE_MS));
        self.timers.set(Timer::Renew, now.moment.after_ms(wait));
    }

    fn renew(&mut self, now: Now) {
        self.ask_token();
        // In case the provider fails or the relay puts it off: again after half of what is left.
        if let Some(ends) = self.session.token_ends {
            let left = ends.since(now.moment);
            if left >= 2 {
                self.timers.set(Timer::Renew, now.moment.after_ms((left / 2).max(500)));
            }
        }
    }

    fn rejected(&mut self, now: Now, request: u64, reject: wire::Reject) {
        let code = Code(u16::try_from(reject.code).unwrap_or(0));
        let message = if reject.reason.is_empty() { code.sentence().into() } else { reject.reason };
        let error = ChatError { code, message };
        let retry_after_ms = u64::from(reject.retry_after_ms);
        let pending = if request == 0 { Some(Pending::Hello) } else { self.answered(request) };
        // Who was already given up (a deadline passed) has nobody to tell.
        let Some(pending) = pending else { return };
        let ends_connection = match (&pending, code.class()) {
            (Pending::Hello, _) | (_, Class::Reconnect) => true,
            // The stream can't go on without it.
            (Pending::Resume, _) => true,
            (
                Pending::Renew | Pending::Send(_) | Pending::MarkRead(_) | Pending::Ask(_),
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
            Pending::Ask(ask) => self.ask_rejected(now, ask, error, retry_after_ms),
            Pending::Renew => {
                // The open connection lives until its token ends; until then another one is tried.
                self.session.token = None;
                self.renew_later(now);
            }
            Pending::Hello | Pending::Resume => {}
        }
    }

    fn renew_later(&mut self, now: Now) {
        if let Some(ends) = self.session.token_ends {
            let left = ends.since(now.moment);
            self.timers.set(Timer::Renew, now.moment.after_ms((left / 2).max(500)));
        }
    }

    pub(crate) fn closed(&mut self, now: Now, generation: Generation, code: Code, reason: String) {
        if self.session.socket != Some(generation) {
            return;
        }
        self.session.socket = None;
        let message = if !reason.is_empty() {
            reason
        } else if code.class() == Class::Reconnect && !Code::ALL.contains(&code) {
            "The connection was lost; it will be made again.".into()
        } else {
            code.sentence().into()
        };
        self.ended(now, ChatError { code, message }, 0);
    }

    /// The relay ended the connection with this code: its class says what comes next.
    fn ended(&mut self, now: Now, error: ChatError, retry_after_ms: u64) {
        if error.code == Code::TOKEN_EXPIRED {
            self.session.token = None;
        }
        // A relay that has other keys now may refuse a token that was good before; a fresh one decides.
        if error.code == Code::TOKEN_INVALID && self.session.token_used {
            self.session.token = None;
            self.session.token_used = false;
            self.lose(now, error, Class::Reconnect, retry_after_ms);
            return;
        }
        if error.code == Code::LOGGED_OUT {
            self.forget_everything(&error);
        }
        let class = error.class();
        self.lose(now, error, class, retry_after_ms);
    }

    /// Closes the socket from here.
    pub(crate) fn hang_up(&mut self, code: Code) {
        if let Some(generation) = self.session.socket.take() {
            self.output(Output::Hangup { generation, code });
        }
    }

    /// There is no connection any more: stop, or wait for the next.
    fn lose(&mut self, now: Now, error: ChatError, class: Class, retry_after_ms: u64) {
        self.disconnected(now);
        if class == Class::Stop {
            self.stop(error);
            return;
        }
        self.session.reason = Some(error);
        let cap = BACKOFF_FIRST_MS.saturating_mul(1 << self.session.failures.min(16)).min(BACKOFF_MAX_MS);
        self.session.failures = self.session.failures.saturating_add(1);
        let wait = retry_after_ms.saturating_add(self.random.up_to(cap));
        self.session.not_before = now.moment.after_ms(retry_after_ms);
        if self.may_dial(now.moment) {
            let until = now.moment.after_ms(wait);
            self.session.waits_until = Some(until);
            self.timers.set(Timer::Retry, until);
        }
    }

    /// What belonged to the connection ends with it.
    fn disconnected(&mut self, now: Now) {
        if self.session.is_online()
            && (self.session.good || now.moment.since(self.session.online_since) >= STABLE_MS)
        {
            self.session.failures = 0;
        }
        self.session.phase = Phase::Waiting;
        self.session.good = false;
        self.session.probe = None;
        self.session.silence_ms = 0;
        self.session.pending.clear();
        for timer in [
            Timer::Dial,
            Timer::Hello,
            Timer::Token,
            Timer::Retry,
            Timer::Silence,
            Timer::Probe,
            Timer::Slow,
            Timer::Ack,
            Timer::Renew,
            Timer::Outbox,
            Timer::Reads,
        ] {
            self.timers.clear(timer);
        }
        self.session.waits_until = None;
        self.outbox.disconnected();
        for (_, line) in self.conversations.iter_mut() {
            line.read_in_flight = false;
        }
        self.asks_disconnected(now);
    }

    /// For good. What waits for the relay is refused; what is in the outbox stays there.
    pub(crate) fn stop(&mut self, error: ChatError) {
        debug_assert!(self.session.socket.is_none());
        self.session.phase = Phase::Stopped;
        self.session.pending.clear();
        self.session.token = None;
        self.timers = crate::timers::Timers::default();
        self.asks_stopped(&error);
        self.session.reason = Some(error);
    }

    pub(crate) fn stopped_by(&self) -> Option<ChatError> {
        self.session.reason.clone().filter(|_| self.session.phase == Phase::Stopped)
    }

    pub(crate) fn host(&mut self, now: Now, event: HostEvent) {
        self.session.note(now.moment, event);
        match event {
            HostEvent::Visible(true) | HostEvent::Network(true) | HostEvent::Wake => self.wake(now),
            HostEvent::Visible(false) => {}
            HostEvent::Network(false) => match self.session.phase {
                Phase::Waiting => {
                    self.timers.clear(Timer::Retry);
                    self.session.waits_until = None;
                }
                Phase::Token | Phase::Dialling | Phase::Greeting => {
                    self.hang_up(Code(1000));
                    self.lose(now, network_gone(), Class::Reconnect, 0);
                }
                // A browser errs here: the socket itself is asked.
                Phase::Online => self.probe(now),
                Phase::Fresh | Phase::Stopped => {}
            },
        }
    }

    /// The host woke: dial at once (the relay's own wish is still respected), or make sure that the socket lives.
    fn wake(&mut self, now: Now) {
        match self.session.phase {
            Phase::Waiting => {
                self.session.failures = 0;
                self.connect(now);
            }
            Phase::Online => self.probe(now),
            Phase::Fresh | Phase::Token | Phase::Dialling | Phase::Greeting | Phase::Stopped => {}
        }
    }

    /// Asks whether the socket lives; one probe at a time.
    fn probe(&mut self, now: Now) {
        if self.session.is_online() && self.session.probe.is_none() {
            self.send_probe(now, false);
        }
    }

    fn send_probe(&mut self, now: Now, forgiven: bool) {
        let nonce = self.random.next();
        self.session.probe = Some(Probe { nonce, heard: None, forgiven });
        self.timers.set(Timer::Probe, now.moment.after_ms(PROBE_MS));
        self.transmit(0, Verb::Ping(wire::Ping { nonce }));
    }

    fn probe_ended(&mut self, now: Now, due: Moment) {
        let Some(probe) = &self.session.probe else { return };
        // Frames still come: its answer is behind them.
        if let Some(heard) = probe.heard.filter(|heard| now.moment.since(*heard) < PROBE_MS) {
            self.timers.set(Timer::Probe, heard.after_ms(PROBE_MS));
            return;
        }
        // The host slept: its answer may wait in the socket.
        if now.moment.since(due) >= PROBE_MS && !probe.forgiven {
            self.send_probe(now, true);
            return;
        }
        self.hang_up(Code::SILENT);
        self.lose(now, ChatError::new(Code::SILENT), Class::Reconnect, 0);
    }

    /// Keeps the deadline of the oldest request on the wire.
    pub(crate) fn slow_deadline(&mut self) {
        let oldest = self.session.pending.values().map(|(_, at)| *at).min();
        let at = oldest.filter(|_| self.session.is_online()).map(|at| at.after_ms(ANSWER_SLOW_MS));
        self.timers.set_or_clear(Timer::Slow, at);
    }

    pub(crate) fn timer(&mut self, now: Now, timer: Timer, due: Moment) {
        match timer {
            Timer::Dial | Timer::Hello => {
                self.hang_up(Code(1000));
                let code = if timer == Timer::Dial { Code::TIMED_OUT } else { Code::HELLO_TIMED_OUT };
                self.lose(now, ChatError::new(code), Class::Reconnect, 0);
            }
            Timer::Token => {
                let message = "The token provider did not answer in time; it is still waited for.".into();
                self.lose(now, ChatError { code: Code::TIMED_OUT, message }, Class::Reconnect, 0);
            }
            Timer::Retry => self.connect(now),
            Timer::Silence => {
                self.probe(now);
                self.timers.set(Timer::Silence, now.moment.after_ms(self.session.silence_ms.max(PROBE_MS)));
            }
            Timer::Probe => self.probe_ended(now, due),
            Timer::Slow => {
                self.probe(now);
                // Asked about once: the next look is as far away.
                for (_, at) in self.session.pending.values_mut() {
                    if at.after_ms(ANSWER_SLOW_MS) <= now.moment {
                        *at = now.moment;
                    }
                }
            }
            Timer::Ack => self.acknowledge(),
            Timer::Renew => self.renew(now),
            Timer::Requests => self.asks_due(now),
            Timer::Outbox => self.pump_outbox(now),
            Timer::Reads => self.pump_reads(now),
        }
    }
}

/// What the host said of the network.
fn network_gone() -> ChatError {
    ChatError {
        code: Code::TIMED_OUT,
        message: "There is no network; the connection will be made when it is back.".into(),
    }
}
