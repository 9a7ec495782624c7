//! What the host tells of itself: whether somebody looks, the network, waking, leaving.

use hongyan_protocol::wire::client_frame::Verb;
use hongyan_protocol::{Class, Code, wire};

use crate::client::Client;
use crate::defects::{self, Defect};
use crate::io::{ChatError, HostEvent, Moment, Now};
use crate::session::{Phase, Session};
use crate::timers::Timer;

impl Session {
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
            HostEvent::Wake => {
                // A hidden page that resumes is to catch up, however long it was hidden before.
                if self.left {
                    self.hidden_since = now;
                }
                self.left = false;
            }
            HostEvent::Leave { .. } => self.left = true,
        }
    }
}

impl Client {
    pub(crate) fn host(&mut self, now: Now, event: HostEvent) {
        self.session.note(now.moment, event);
        match event {
            HostEvent::Visible(visible) => {
                self.tell_away();
                if visible {
                    self.wake(now);
                }
            }
            HostEvent::Network(true) | HostEvent::Wake => self.wake(now),
            HostEvent::Network(false) => match self.session.phase {
                Phase::Waiting => self.wait_for_host(),
                Phase::Token | Phase::Dialling | Phase::Greeting => {
                    self.hang_up(Code(1000));
                    self.lose(now, network_gone(), Class::Reconnect, 0);
                }
                // A browser errs here: the socket itself is asked.
                Phase::Online => self.probe(now),
                Phase::Fresh | Phase::Stopped => {}
            },
            HostEvent::Leave { returns_in_ms, returns } => {
                self.leave_page(now, wire::Bye { logout: false, returns_in_ms, returns });
            }
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

    /// No next try until the host says that it makes sense.
    pub(crate) fn wait_for_host(&mut self) {
        self.timers.clear(Timer::Retry);
        self.session.waits_until = None;
    }

    /// Tells the relay whether somebody looks, if that is not what it heard last on this connection.
    pub(crate) fn tell_away(&mut self) {
        let away = !self.session.visible;
        if self.session.is_online() && self.session.away_told != away && !defects::is_on(Defect::AwayNotTold)
        {
            self.session.away_told = away;
            self.say(Verb::SetAway(wire::SetAway { away }));
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
