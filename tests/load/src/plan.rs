//! What a run is to do.

use std::time::Duration;

/// The options of a run; each scenario says which of them it heeds.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Clients, or pairs of them.
    pub clients: usize,
    /// Members of the group.
    pub members: usize,
    /// Clients that send at once.
    pub senders: usize,
    /// Sends (or changes) per second over all senders; `None` for as many as each sender's last answer allows.
    pub rate: Option<f64>,
    /// How long it measures.
    pub duration: Duration,
    /// Bytes of a message's text.
    pub text_bytes: usize,
    /// Messages that wait for who was absent.
    pub messages: u64,
    /// Receivers are connected.
    pub receivers_connected: bool,
    /// The connections end because the operator restarts the relay, not because the generator cuts them.
    pub awaits_restart: bool,
    /// Hears what the run is at.
    pub tell: fn(&str),
}

impl Default for Plan {
    fn default() -> Self {
        Self {
            clients: 100,
            members: 100,
            senders: 8,
            rate: None,
            duration: Duration::from_secs(10),
            text_bytes: 300,
            messages: 10_000,
            receivers_connected: true,
            awaits_restart: false,
            tell: |_| {},
        }
    }
}

impl Plan {
    /// What is done before it measures: caches fill, tables grow.
    #[must_use]
    pub fn warm_up(&self) -> Duration {
        (self.duration / 5).min(Duration::from_secs(3))
    }
}
