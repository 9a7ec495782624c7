//! The connection: token, dial, hello, welcome, probe, renew, back-off.
//!
//! *Invariant:* one socket and one question to the token provider at most; a socket dies by its own end, by a
//! frame that ends it, or by an unanswered probe, never by a late timer alone.

use bytes::Bytes;
use hongyan_protocol::wire;
use hongyan_protocol::wire::client_frame::Verb;
use hongyan_protocol::{ChangeNumber, Class, Code, ConversationId, Seq, UserId, VERSION, limits};

use crate::client::Client;
use crate::defects::{self, Defect};
use crate::io::{ChatError, Generation, Moment, Now, Output, RequestId};
use crate::limits::{
    ANSWER_SLOW_MS, BACKOFF_FIRST_MS, BACKOFF_MAX_MS, DIAL_MS, HELLO_MS, HIDDEN_IDLE_MS, PROBE_MS,
    RENEW_BEFORE_MS, STABLE_MS, TOKEN_MS,
};
use crate::probe::Probe;
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
    /// A page of a log after what was told of it.
    Pull(ConversationId, Seq),
    /// A page of changes after those that were told.
    PullChanges(ConversationId, ChangeNumber),
    /// How these users are.
    Watch(Vec<UserId>),
    /// What these users show of themselves.
    Profiles(Vec<UserId>),
    /// Of this number among the application's requests.
    Ask(u64),
}

/// The connection's state.
pub(crate) struct Session {
    pub(crate) phase: Phase,
    /// The generation of the socket that exists, open or not.
    pub(crate) socket: Option<Generation>,
    generation: u64,
    pub(crate) requests: u64,
    pub(crate) pending: SortedMap<u64, (Pending, Moment)>,
    pub(crate) reason: Option<ChatError>,
    pub(crate) failures: u32,
    pub(crate) online_since: Moment,
    pub(crate) good: bool,
    pub(crate) token: Option<String>,
    token_asked: bool,
    /// The token served an earlier connection, so its refusal may only mean that it has become old.
    token_used: bool,
    token_ends: Option<Moment>,
    pub(crate) content_bytes_max: usize,
    pub(crate) silence_ms: u64,
    pub(crate) probe: Option<Probe>,
    /// Not before this moment, whatever the host says: the relay asked for it.
    not_before: Moment,
    pub(crate) waits_until: Option<Moment>,
    pub(crate) visible: bool,
    pub(crate) network: bool,
    pub(crate) hidden_since: Moment,
    /// The page left: no dialling until it wakes.
    pub(crate) left: bool,
    /// What this connection heard last of whether somebody looks.
    pub(crate) away_told: bool,
    /// For the beacon of this connection; empty when there is none.
    pub(crate) bye_ticket: Bytes,
    /// Orders this process among those of the device.
    pub(crate) term: u64,
    /// The user is shown to nobody, as the relay told last.
    pub(crate) invisible: bool,
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
            left: false,
            away_told: false,
            bye_ticket: Bytes::new(),
            term: 0,
            invisible: false,
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
    pub(crate) fn connect(&mut self, now: Now) {
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
            && !session.left
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
        let token = token.and_then(|token| match token.len() {
            1..=limits::TOKEN_BYTES_MAX => Ok(token),
            0 => Err("The token provider gave an empty token.".into()),
            _ => Err("The token is too long.".into()),
        });
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
        self.session.away_told = !self.session.visible;
        let hello = wire::Hello {
            version: VERSION,
            token: self.session.token.clone().unwrap_or_default(),
            user: self.user.as_str().into(),
            device: self.device.as_ref().map(|device| device.as_str().into()).unwrap_or_default(),
            device_kind: self.config.device_kind.into(),
            epoch: self.queue.epoch.clone(),
            cursor: self.queue.hello().0,
            agent: self.config.agent.clone(),
            tab: self.config.tab.clone(),
            term: self.session.term,
            dial: generation.0,
            away: self.session.away_told,
        };
        self.request(now, Pending::Hello, Verb::Hello(hello));
    }

    /// The token ends in so long: renew before. Zero is a relay that does not say.
    pub(crate) fn token_lives(&mut self, now: Now, expires_in_ms: u64) {
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

    pub(crate) fn renew_later(&mut self, now: Now) {
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
    pub(crate) fn ended(&mut self, now: Now, error: ChatError, retry_after_ms: u64) {
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
        if error.code == Code::LOGGED_OUT && !defects::is_on(Defect::SignedOutKeepsCache) {
            self.forget_everything(&error);
        }
        let class = if defects::is_on(Defect::ComesBackByItself) { Class::Reconnect } else { error.class() };
        self.lose(now, error, class, retry_after_ms);
    }

    /// Closes the socket from here.
    pub(crate) fn hang_up(&mut self, code: Code) {
        if let Some(generation) = self.session.socket.take() {
            self.output(Output::Hangup { generation, code });
        }
    }

    /// There is no connection any more: stop, or wait for the next.
    pub(crate) fn lose(&mut self, now: Now, error: ChatError, class: Class, retry_after_ms: u64) {
        self.disconnected(now);
        if class == Class::Stop {
            self.stop(now, error);
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
    pub(crate) fn disconnected(&mut self, now: Now) {
        let was_online = self.session.is_online();
        if was_online && (self.session.good || now.moment.since(self.session.online_since) >= STABLE_MS) {
            self.session.failures = 0;
        }
        self.session.phase = Phase::Waiting;
        self.session.good = false;
        self.session.probe = None;
        self.session.silence_ms = 0;
        self.session.pending.clear();
        self.session.bye_ticket.clear();
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
            Timer::Pulls,
            Timer::Watch,
            Timer::Refused,
            Timer::Profiles,
        ] {
            self.timers.clear(timer);
        }
        self.session.waits_until = None;
        self.outbox.disconnected();
        for (_, line) in self.conversations.iter_mut() {
            line.read_in_flight = false;
        }
        self.asks_disconnected(now);
        self.profiles.disconnected();
        self.presences_disconnected(now, was_online);
        self.typings_disconnected();
    }

    /// For good. What waits for the relay is refused; what is in the outbox stays there.
    pub(crate) fn stop(&mut self, now: Now, error: ChatError) {
        debug_assert!(self.session.socket.is_none());
        self.session.phase = Phase::Stopped;
        self.session.pending.clear();
        self.session.token = None;
        self.timers = crate::timers::Timers::default();
        self.asks_stopped(&error);
        self.presences_stopped(now);
        self.typings_disconnected();
        self.session.reason = Some(error);
    }

    pub(crate) fn stopped_by(&self) -> Option<ChatError> {
        self.session.reason.clone().filter(|_| self.session.phase == Phase::Stopped)
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
            Timer::Save => self.cache.gathering.hurries = !defects::is_on(Defect::GathersForEver),
            Timer::Ack => self.acknowledge(),
            Timer::Renew => self.renew(now),
            Timer::Requests => self.asks_due(now),
            Timer::Outbox => self.pump_outbox(now),
            Timer::Reads => self.pump_reads(now),
            Timer::Pulls => self.pump_pulls(now),
            Timer::Watch => self.pump_watch(now),
            Timer::Refused => self.ask_refused(now),
            Timer::Stale => self.presences_stale(now),
            Timer::Profiles => self.pump_profiles(now),
            Timer::Typing => self.typings_due(now),
        }
    }
}
