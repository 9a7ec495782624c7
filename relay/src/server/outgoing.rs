//! What is due to one connection, between the core's thread and the socket's task.

use std::mem;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use hongyan_protocol::Code;
use tokio::sync::Notify;

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
    /// The socket's task found nothing due, and will not look again before it is woken.
    is_waiting: bool,
    /// It was woken, and has not come yet.
    is_woken: bool,
    /// It is to be woken with the rest of a crowd.
    is_in_line: bool,
}

/// What [`Outgoing::take`] gives.
pub(crate) struct Taken {
    pub(crate) frames: Vec<Bytes>,
    /// The connection ends after these frames.
    pub(crate) end: Option<Code>,
    /// It was [`Outgoing::wake`] that led to it.
    pub(crate) was_woken: bool,
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

    /// Lets the socket's task take what is due, once for all that was pushed in the core's turn. True when that is now
    /// to come; a task that is still writing, or has nothing to take, needs no waking.
    pub(crate) fn wake(&self) -> bool {
        let mut due = self.due();
        let wakes = due.is_waiting && !due.is_woken && !due.frames.is_empty();
        if wakes {
            due.is_woken = true;
            self.ready.notify_one();
        }
        wakes
    }

    /// It is to be woken later. False when that was said already.
    pub(crate) fn stand_in_line(&self) -> bool {
        !mem::replace(&mut self.due().is_in_line, true)
    }

    /// The later has come.
    pub(crate) fn leave_line(&self) {
        self.due().is_in_line = false;
    }

    /// The task is gone, and is woken no more. True when it was woken and will not come.
    pub(crate) fn retire(&self) -> bool {
        let mut due = self.due();
        due.is_waiting = false;
        mem::take(&mut due.is_woken)
    }

    /// Waits until something is due, and takes all of it.
    pub(crate) async fn take(&self) -> Taken {
        loop {
            {
                let mut due = self.due();
                due.is_waiting = due.frames.is_empty() && due.end.is_none();
                if !due.is_waiting {
                    let was_woken = mem::take(&mut due.is_woken);
                    return Taken { frames: mem::take(&mut due.frames), end: due.end, was_woken };
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
