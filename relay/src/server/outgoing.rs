//! What is due to one connection, between the core's thread and the socket's task.

use std::future::poll_fn;
use std::mem;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use hongyan_protocol::Code;

/// Frames to write, then perhaps an end. Its bytes are bounded by the core, which counts what it gave and what the
/// socket took.
#[derive(Default)]
pub(crate) struct Outgoing {
    due: Mutex<Due>,
    unreadable: AtomicBool,
}

#[derive(Default)]
struct Due {
    frames: Vec<Bytes>,
    /// Nothing is added after it.
    end: Option<Code>,
    /// Of the socket's task, which waits for frames and for the end at once.
    waker: Option<Waker>,
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
        self.due().push(frame);
    }

    /// Adds a frame of which the task learns by [`Outgoing::wake_from_line`]. True when it stands in that line only now.
    pub(crate) fn push_for_later(&self, frame: Bytes) -> bool {
        let mut due = self.due();
        due.push(frame);
        due.stand_in_line()
    }

    /// Ends the connection after what was pushed. The first code wins.
    pub(crate) fn end(&self, code: Code) {
        let mut due = self.due();
        due.end.get_or_insert(code);
        let waker = due.waker.clone();
        drop(due);
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// Lets the socket's task take what is due, once for all that was pushed in the core's turn. True when that is now
    /// to come; a task that is still writing, or has nothing to take, needs no waking.
    pub(crate) fn wake(&self) -> bool {
        self.due().wake()
    }

    /// It is to be woken later. False when that was said already.
    pub(crate) fn stand_in_line(&self) -> bool {
        self.due().stand_in_line()
    }

    /// The later has come.
    pub(crate) fn wake_from_line(&self) -> bool {
        let mut due = self.due();
        due.is_in_line = false;
        due.wake()
    }

    /// The task is gone, and is woken no more. True when it was woken and will not come.
    pub(crate) fn retire(&self) -> bool {
        let mut due = self.due();
        due.is_waiting = false;
        mem::take(&mut due.is_woken)
    }

    /// Waits until something is due, and takes all of it.
    pub(crate) async fn take(&self) -> Taken {
        poll_fn(|context| {
            let mut due = self.due();
            due.is_waiting = due.frames.is_empty() && due.end.is_none();
            if due.is_waiting {
                due.listen(context);
                return Poll::Pending;
            }
            let was_woken = mem::take(&mut due.is_woken);
            Poll::Ready(Taken { frames: mem::take(&mut due.frames), end: due.end, was_woken })
        })
        .await
    }

    /// Nothing can be read from the peer any more, though it may still read.
    pub(crate) fn set_unreadable(&self) {
        self.unreadable.store(true, Ordering::Relaxed);
    }

    /// See [`Outgoing::set_unreadable`].
    pub(crate) fn is_unreadable(&self) -> bool {
        self.unreadable.load(Ordering::Relaxed)
    }

    /// Waits until the connection is to end, also while a write is stuck. Only the task that takes may wait for it.
    pub(crate) async fn ending(&self) {
        poll_fn(|context| {
            let mut due = self.due();
            if due.end.is_some() {
                return Poll::Ready(());
            }
            due.listen(context);
            Poll::Pending
        })
        .await;
    }
}

impl Due {
    fn push(&mut self, frame: Bytes) {
        if self.end.is_none() {
            self.frames.push(frame);
        }
    }

    fn stand_in_line(&mut self) -> bool {
        !mem::replace(&mut self.is_in_line, true)
    }

    fn wake(&mut self) -> bool {
        let wakes = self.is_waiting && !self.is_woken && !self.frames.is_empty();
        if wakes && let Some(waker) = &self.waker {
            self.is_woken = true;
            waker.wake_by_ref();
        }
        wakes
    }

    fn listen(&mut self, context: &Context<'_>) {
        if self.waker.as_ref().is_none_or(|waker| !waker.will_wake(context.waker())) {
            self.waker = Some(context.waker().clone());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::pin::pin;
    use std::sync::Arc;
    use std::sync::atomic::AtomicUsize;
    use std::task::Wake;

    #[derive(Default)]
    struct Task(AtomicUsize);

    impl Wake for Task {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn an_end_is_heard_by_the_task_that_waits_now() {
        let outgoing = Outgoing::default();
        let tasks: [Arc<Task>; 2] = Default::default();
        let mut ending = pin!(outgoing.ending());
        // At the door first, then among the workers.
        for task in &tasks {
            let waker = Waker::from(Arc::clone(task));
            assert!(ending.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
        }
        outgoing.push(Bytes::from_static(b"frame"));
        assert!(!outgoing.wake(), "it waits for the end only: it is still writing");
        outgoing.end(Code::BUSY);
        assert_eq!(tasks.each_ref().map(|task| task.0.load(Ordering::Relaxed)), [0, 1]);
        let waker = Waker::from(Arc::clone(&tasks[1]));
        assert!(ending.as_mut().poll(&mut Context::from_waker(&waker)).is_ready());
    }
}
