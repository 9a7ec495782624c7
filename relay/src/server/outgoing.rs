//! What is due to one connection, between the core's thread and the socket's task.

use std::mem;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use hongyan_protocol::Code;
use tokio::sync::Notify;

use crate::core::ConnectionId;

/// Frames to write, then perhaps an end. Its bytes are bounded by the core, which counts what it gave and what the
/// socket took.
#[derive(Default)]
pub(crate) struct Outgoing {
    due: Mutex<Due>,
    ready: Notify,
    ending: Notify,
    unreadable: AtomicBool,
}

#[derive(Default)]
struct Due {
    frames: Vec<Bytes>,
    /// Nothing is added after it.
    end: Option<Code>,
}

/// What [`Outgoing::take`] gives.
pub(crate) struct Taken {
    pub(crate) frames: Vec<Bytes>,
    /// The connection ends after these frames.
    pub(crate) end: Option<Code>,
}

impl Outgoing {
    fn due(&self) -> MutexGuard<'_, Due> {
        self.due.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a frame; the socket's task learns of it by [`Outgoing::wake`].
    pub(crate) fn push(&self, frame: Bytes) {
        let mut due = self.due();
        if due.end.is_none() {
            due.frames.push(frame);
        }
    }

    /// Ends the connection after what was pushed. The first code wins.
    pub(crate) fn end(&self, code: Code) {
        self.due().end.get_or_insert(code);
        self.ready.notify_one();
        self.ending.notify_one();
    }

    /// Lets the socket's task take what is due, once for all that was pushed in the core's turn.
    pub(crate) fn wake(&self) {
        self.ready.notify_one();
    }

    /// Waits until something is due, and takes all of it.
    pub(crate) async fn take(&self) -> Taken {
        loop {
            {
                let mut due = self.due();
                if !due.frames.is_empty() || due.end.is_some() {
                    return Taken { frames: mem::take(&mut due.frames), end: due.end };
                }
            }
            self.ready.notified().await;
        }
    }

    /// Nothing can be read from the peer any more, though it may still read.
    pub(crate) fn set_unreadable(&self) {
        self.unreadable.store(true, Ordering::Relaxed);
    }

    /// See [`Outgoing::set_unreadable`].
    pub(crate) fn is_unreadable(&self) -> bool {
        self.unreadable.load(Ordering::Relaxed)
    }

    /// Waits until the connection is to end, also while a write is stuck.
    pub(crate) async fn ending(&self) {
        self.ending.notified().await;
    }
}

/// Bytes that sockets took since the core last looked: one lock for a whole write, and no place in the line of
/// inputs, so that a flood of frames can't delay the news that a reader is not slow.
#[derive(Default)]
pub(crate) struct WrittenBoard {
    written: Mutex<Vec<(ConnectionId, usize)>>,
    news: Notify,
}

impl WrittenBoard {
    /// A socket took so many bytes. Its length is bounded by what the core let out and has not yet seen written.
    pub(crate) fn report(&self, connection: ConnectionId, bytes: usize) {
        self.written.lock().unwrap_or_else(PoisonError::into_inner).push((connection, bytes));
        self.news.notify_one();
    }

    /// What was reported since.
    pub(crate) fn take(&self) -> Vec<(ConnectionId, usize)> {
        mem::take(&mut self.written.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Waits for a report.
    pub(crate) async fn news(&self) {
        self.news.notified().await;
    }
}
