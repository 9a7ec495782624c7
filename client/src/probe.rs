//! Whether the socket lives: asked when the host wakes, when the relay is silent, and when an answer is slow.

use hongyan_protocol::wire::{self, client_frame::Verb};
use hongyan_protocol::{Class, Code};

use crate::client::Client;
use crate::io::{ChatError, Moment, Now};
use crate::limits::{ANSWER_SLOW_MS, PROBE_MS};
use crate::timers::Timer;

/// A probe that is out.
pub(crate) struct Probe {
    pub(crate) nonce: u64,
    /// When the last frame came since.
    pub(crate) heard: Option<Moment>,
    /// A deadline that the host told much too late was forgiven; the next one is not.
    forgiven: bool,
}

impl Client {
    /// Asks whether the socket lives; one probe at a time.
    pub(crate) fn probe(&mut self, now: Now) {
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

    pub(crate) fn probe_ended(&mut self, now: Now, due: Moment) {
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
}
