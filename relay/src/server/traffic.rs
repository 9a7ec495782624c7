//! The traffic from the core to the sockets: whose task is woken when, and what sockets took.
//!
//! A message to a thousand members wakes a thousand tasks. Woken at once, they would stand before everybody who is due
//! something a moment later. So of a crowd only some are woken at a time, and the others as those come to their turn;
//! everybody else is woken at once, before the rest of a crowd. A crowd are those who get the same frame, one after
//! another, and those whom one turn of the core concerns when they are many.

use std::collections::VecDeque;
use std::mem;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use tokio::sync::Notify;

use super::limits::{CROWD_MIN, WAKES_AT_ONCE_MAX, WAKES_LOW};
use super::outgoing::Outgoing;
use crate::core::ConnectionId;

/// What the sockets' tasks tell the core's thread, without a place in its lines: so a flood of frames can't delay the
/// news that a reader is not slow.
pub(crate) struct Traffic {
    written: Mutex<Written>,
    /// So many bytes that the core has not heard of are worth its turn.
    news_bytes: usize,
    news: Notify,
    /// Tasks that were woken and have not come yet.
    woken: AtomicUsize,
    /// More are to be woken when these have come.
    is_crowded: AtomicBool,
}

#[derive(Default)]
struct Written {
    /// Bounded by what the core let out and has not yet seen written.
    reports: Vec<(ConnectionId, usize)>,
    bytes: usize,
}

impl Traffic {
    /// The core is told at once of `news_bytes` that were written, and of less with whatever else it has to do. It
    /// must wait for nothing that less would change.
    pub(crate) fn new(news_bytes: usize) -> Self {
        Self {
            written: Mutex::default(),
            news_bytes,
            news: Notify::new(),
            woken: AtomicUsize::new(0),
            is_crowded: AtomicBool::new(false),
        }
    }

    /// A socket took so many bytes.
    pub(crate) fn report(&self, connection: ConnectionId, bytes: usize) {
        let mut written = self.written.lock().unwrap_or_else(PoisonError::into_inner);
        written.reports.push((connection, bytes));
        written.bytes += bytes;
        let is_news = written.bytes >= self.news_bytes;
        drop(written);
        if is_news {
            self.news.notify_one();
        }
    }

    /// What was reported since.
    pub(crate) fn take_written(&self) -> Vec<(ConnectionId, usize)> {
        mem::take(&mut *self.written.lock().unwrap_or_else(PoisonError::into_inner)).reports
    }

    /// A task that was woken has come, or is gone.
    pub(crate) fn came(&self) {
        let before = self.woken.fetch_sub(1, Ordering::AcqRel);
        if before == WAKES_LOW && self.is_crowded.load(Ordering::Acquire) {
            self.news.notify_one();
        }
    }

    /// Waits for something that the core's thread should look at.
    pub(crate) async fn news(&self) {
        self.news.notified().await;
    }
}

/// Whom the core's thread has to wake.
#[derive(Default)]
pub(crate) struct Wakes {
    /// In this turn; one may be there twice.
    touched: Vec<Arc<Outgoing>>,
    /// The rest of crowds; nobody is there twice.
    late: VecDeque<Arc<Outgoing>>,
    /// Where the last frame that was pushed lies, and its length. Only compared: it may be gone.
    last: (usize, usize),
    /// How often it was pushed, one time after another.
    same: usize,
}

impl Wakes {
    /// Gives a connection a frame; its task is woken when its time comes.
    pub(crate) fn give(&mut self, outgoing: &Arc<Outgoing>, frame: Bytes) {
        let at = (frame.as_ptr().addr(), frame.len());
        self.same = if mem::replace(&mut self.last, at) == at { self.same + 1 } else { 1 };
        if self.same >= CROWD_MIN {
            if outgoing.push_for_later(frame) {
                self.late.push_back(Arc::clone(outgoing));
            }
            return;
        }
        outgoing.push(frame);
        if self.touched.last().is_none_or(|last| !Arc::ptr_eq(last, outgoing)) {
            self.touched.push(Arc::clone(outgoing));
        }
    }

    /// At the end of a turn: wakes those whose time it is.
    pub(crate) fn wake(&mut self, traffic: &Traffic) {
        // Said before the count is looked at, so that the last of those who come sees one or the other.
        let is_crowd = self.touched.len() > WAKES_AT_ONCE_MAX;
        traffic.is_crowded.store(is_crowd || !self.late.is_empty(), Ordering::Release);
        for outgoing in mem::take(&mut self.touched) {
            if !is_crowd {
                wake(traffic, || outgoing.wake());
            } else if outgoing.stand_in_line() {
                self.late.push_back(outgoing);
            }
        }
        while traffic.woken.load(Ordering::Acquire) < WAKES_AT_ONCE_MAX
            && let Some(outgoing) = self.late.pop_front()
        {
            wake(traffic, || outgoing.wake_from_line());
        }
    }
}

fn wake(traffic: &Traffic, wake: impl FnOnce() -> bool) {
    // Counted before: it may come before this function goes on.
    traffic.woken.fetch_add(1, Ordering::AcqRel);
    if !wake() {
        traffic.woken.fetch_sub(1, Ordering::AcqRel);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use futures_util::FutureExt as _;

    /// So many connections whose tasks wait, with a frame due to each.
    fn crowd(count: usize, wakes: &mut Wakes) -> Vec<Arc<Outgoing>> {
        let crowd: Vec<Arc<Outgoing>> = (0..count).map(|_| Arc::default()).collect();
        for outgoing in &crowd {
            assert!(outgoing.take().now_or_never().is_none());
            wakes.give(outgoing, Bytes::copy_from_slice(b"frame"));
        }
        crowd
    }

    fn is_woken(outgoing: &Outgoing) -> bool {
        outgoing.take().now_or_never().is_some_and(|taken| taken.was_woken)
    }

    #[test]
    fn a_crowd_is_woken_as_it_comes_and_others_before_its_rest() {
        let (traffic, mut wakes) = (Traffic::new(1), Wakes::default());
        let many = crowd(3 * WAKES_AT_ONCE_MAX, &mut wakes);
        wakes.wake(&traffic);
        assert_eq!(traffic.woken.load(Ordering::Relaxed), WAKES_AT_ONCE_MAX);
        let few = crowd(2, &mut wakes);
        wakes.wake(&traffic);
        assert!(few.iter().all(|outgoing| is_woken(outgoing)));
        few.iter().for_each(|_| traffic.came());

        for portion in many.chunks(WAKES_AT_ONCE_MAX) {
            for outgoing in portion {
                assert!(is_woken(outgoing), "in the order in which they were touched");
                traffic.came();
            }
            assert!(traffic.news().now_or_never().is_some(), "the core hears of it");
            wakes.wake(&traffic);
        }
        assert_eq!(traffic.woken.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn those_who_get_the_same_frame_are_a_crowd_however_few_a_turn_concerns() {
        let (traffic, mut wakes) = (Traffic::new(1), Wakes::default());
        let many = crowd(2 * WAKES_AT_ONCE_MAX, &mut wakes);
        wakes.touched.clear();
        let frame = Bytes::from_static(b"to all");
        wakes.give(&Arc::default(), frame.clone());
        for (turn, outgoing) in many.iter().enumerate() {
            // Twice, as when it gets another before it is woken.
            wakes.give(outgoing, frame.clone());
            wakes.give(outgoing, frame.clone());
            wakes.wake(&traffic);
            assert_eq!(traffic.woken.load(Ordering::Relaxed), WAKES_AT_ONCE_MAX.min(turn + 1));
        }
        assert_eq!(wakes.late.len(), WAKES_AT_ONCE_MAX);
        let few = crowd(1, &mut wakes);
        wakes.wake(&traffic);
        assert!(is_woken(&few[0]), "others go before it");
    }

    #[test]
    fn a_user_s_devices_go_before_the_rest_of_a_crowd() {
        let (traffic, mut wakes) = (Traffic::new(1), Wakes::default());
        crowd(3 * WAKES_AT_ONCE_MAX, &mut wakes);
        wakes.wake(&traffic);
        let devices: [Arc<Outgoing>; 2] = Default::default();
        let frame = Bytes::from_static(b"to both");
        for device in &devices {
            assert!(device.take().now_or_never().is_none());
            wakes.give(device, frame.clone());
        }
        wakes.wake(&traffic);
        assert!(devices.iter().all(|device| is_woken(device)));
    }

    #[test]
    fn who_is_gone_or_busy_holds_up_nobody() {
        let (traffic, mut wakes) = (Traffic::new(1), Wakes::default());
        // These write and do not wait.
        for _ in 0..2 * WAKES_AT_ONCE_MAX {
            let outgoing = Arc::<Outgoing>::default();
            wakes.give(&outgoing, Bytes::copy_from_slice(b"frame"));
        }
        // These wait, and one goes before it is woken, one after.
        let waiting = crowd(2, &mut wakes);
        assert!(!waiting[0].retire());
        wakes.wake(&traffic);
        assert_eq!(traffic.woken.load(Ordering::Relaxed), 1);
        assert!(waiting[1].retire());
    }

    #[test]
    fn little_that_was_written_is_no_news() {
        let traffic = Traffic::new(10);
        traffic.report(ConnectionId(1), 9);
        assert!(traffic.news().now_or_never().is_none());
        traffic.report(ConnectionId(2), 1);
        assert!(traffic.news().now_or_never().is_some());
        assert_eq!(traffic.take_written(), [(ConnectionId(1), 9), (ConnectionId(2), 1)]);
    }
}
