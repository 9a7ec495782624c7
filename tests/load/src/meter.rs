//! What the sockets of many clients went through, together.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use hongyan_protocol::Code;

use crate::histogram::Latencies;

/// Counts of all clients that share it.
#[derive(Default)]
pub struct Meter {
    received_bytes: AtomicU64,
    dials: AtomicU64,
    hellos: Mutex<Latencies>,
    refused: Mutex<BTreeMap<String, u64>>,
}

impl Meter {
    /// Bytes that came over the sockets, with the headers of their frames and without those of TCP.
    #[must_use]
    pub fn received_bytes(&self) -> u64 {
        self.received_bytes.load(Ordering::Relaxed)
    }

    /// How often a client dialled.
    #[must_use]
    pub fn dials(&self) -> u64 {
        self.dials.load(Ordering::Relaxed)
    }

    /// From dialling to the relay's welcome; empties it.
    #[must_use]
    pub fn take_hellos(&self) -> Latencies {
        std::mem::take(&mut *self.hellos.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// How often the relay refused or ended a connection, and in which words.
    #[must_use]
    pub fn refused(&self) -> BTreeMap<String, u64> {
        self.refused.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn count_dial(&self) {
        self.dials.fetch_add(1, Ordering::Relaxed);
    }

    /// A frame of a relay: RFC 6455, section 5.2, without a mask.
    pub(crate) fn count_frame(&self, payload_bytes: usize) {
        let header = match payload_bytes {
            0..=125 => 2,
            126..=0xffff => 4,
            _ => 10,
        };
        self.received_bytes.fetch_add((payload_bytes + header) as u64, Ordering::Relaxed);
    }

    pub(crate) fn count_hello(&self, time: Duration) {
        self.hellos.lock().unwrap_or_else(PoisonError::into_inner).record(time);
    }

    pub(crate) fn count_refusal(&self, words: String) {
        *self.refused.lock().unwrap_or_else(PoisonError::into_inner).entry(words).or_default() += 1;
    }

    /// An end that the relay chose, unless it only says that the relay stops.
    pub(crate) fn count_end(&self, code: Code) {
        if (4_000..5_000).contains(&code.0) && code != Code::GOING_AWAY {
            self.count_refusal(format!("closed with {code}"));
        }
    }
}
