//! How fast connections are opened from one address.
//!
//! An address has a burst, and a rate beyond it. Who comes faster waits for its turn, for a while at most: so whoever
//! comes again and again comes as often as the rate allows, and costs a place and a timer meanwhile. Its place is one of
//! the address's connections, so they bound how many wait. Who is refused gives it back at once but is told so late, and
//! those who came together are told apart: they do not come again together. How many are to be told is bounded, too.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::time::{Instant, sleep, sleep_until};

use super::addresses::bounded_together;
use super::limits::{PACE_REFUSALS_MAX, PACE_WAIT, PACED_ADDRESSES};

/// The generic cell rate algorithm, for each address.
pub(crate) struct Pace {
    each: Duration,
    burst: Duration,
    paced: Mutex<Paced>,
    /// Counts those who were refused.
    refused: AtomicU32,
    /// Those who may still be told so late.
    late: Semaphore,
}

struct Paced {
    /// When the address would have opened all that it has opened, at the rate. Who has no debt need not be here.
    until: HashMap<IpAddr, Instant>,
    /// They are looked through for those when there are so many.
    look_at: usize,
}

impl Pace {
    /// Neither is 0.
    pub(crate) fn new(per_second: u32, burst: u32) -> Self {
        let each = Duration::from_secs(1) / per_second;
        let paced = Mutex::new(Paced { until: HashMap::new(), look_at: PACED_ADDRESSES });
        let (refused, late) = (AtomicU32::new(0), Semaphore::new(PACE_REFUSALS_MAX));
        Self { each, burst: each * burst, paced, refused, late }
    }

    /// Waits for the address's turn with the place that it has, and gives that back; `None` when the turn is too far away.
    pub(crate) async fn turn<P>(&self, address: IpAddr, place: P) -> Option<P> {
        let now = Instant::now();
        let Some(turn) = self.book(bounded_together(address), now) else {
            drop(place);
            // Told at once, it would come again at once; only when too many wait for that already, it has to be.
            if let Ok(_late) = self.late.try_acquire() {
                sleep(self.refusal_wait()).await;
            }
            return None;
        };
        if turn > now {
            sleep_until(turn).await;
        }
        Some(place)
    }

    /// Between [`PACE_WAIT`] and twice as long; however many there are one after another, they lie evenly between.
    fn refusal_wait(&self) -> Duration {
        // Steps of the golden ratio of the whole range.
        const STEP: u32 = 0x9e37_79b9;
        let at = self.refused.fetch_add(1, Ordering::Relaxed).wrapping_mul(STEP);
        PACE_WAIT + PACE_WAIT.mul_f64(f64::from(at) / f64::from(u32::MAX))
    }

    /// Takes the next turn.
    fn book(&self, address: IpAddr, now: Instant) -> Option<Instant> {
        let mut paced = self.paced.lock().unwrap_or_else(PoisonError::into_inner);
        if paced.until.len() >= paced.look_at {
            paced.until.retain(|_, until| *until > now);
            paced.look_at = PACED_ADDRESSES.max(2 * paced.until.len());
        }
        let until = paced.until.entry(address).or_insert(now);
        let next = (*until).max(now) + self.each;
        let turn = next.checked_sub(self.burst).unwrap_or(now).max(now);
        if turn > now + PACE_WAIT {
            return None;
        }
        *until = next;
        Some(turn)
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::pin::Pin;
    use std::sync::Arc;
    use std::task::Poll;

    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn a_burst_goes_at_once_and_the_rest_in_turn() {
        let (pace, now) = (Pace::new(10, 3), Instant::now());
        let (one, other) = (ip("192.0.2.1"), ip("192.0.2.2"));
        let wait = |at: Instant| pace.book(one, at).map(|turn| (turn - at).as_millis());
        for waits in [0, 0, 0, 100, 200, 300, 400, 500, 600, 700, 800, 900, 1000] {
            assert_eq!(wait(now), Some(waits));
        }
        assert_eq!(wait(now), None, "who is refused takes no turn");
        assert_eq!(wait(now + Duration::from_millis(200)), Some(900));
        assert_eq!(wait(now + Duration::from_secs(60)), Some(0));
        assert_eq!(pace.book(other, now), Some(now), "others are others");
    }

    /// Polls it once, with no time passing.
    async fn is_ready<F: Future + Unpin>(future: &mut F) -> bool {
        poll_fn(|context| Poll::Ready(Pin::new(&mut *future).poll(context).is_ready())).await
    }

    #[tokio::test(start_paused = true)]
    async fn who_waits_keeps_its_place_and_who_is_refused_gives_it_back_at_once() {
        let (pace, one) = (Pace::new(1, 1), ip("192.0.2.1"));
        let place = Arc::new(());
        let begun = Instant::now();
        let mut turns: Vec<_> = (0..4).map(|_| Box::pin(pace.turn(one, Arc::clone(&place)))).collect();
        for (turn, (ready, places)) in turns.iter_mut().zip([(true, 3), (false, 3), (false, 2), (false, 1)]) {
            assert_eq!((is_ready(turn).await, Arc::strong_count(&place) - 1), (ready, places));
        }
        let mut turns = turns.into_iter().skip(1);
        assert!(turns.next().unwrap().await.is_some());
        assert_eq!(begun.elapsed().as_secs(), 1);
        for turn in turns {
            assert!(turn.await.is_none());
            assert!((PACE_WAIT..=2 * PACE_WAIT).contains(&begun.elapsed()));
        }
        assert_eq!(pace.late.available_permits(), PACE_REFUSALS_MAX);
    }

    #[tokio::test(start_paused = true)]
    async fn no_more_than_so_many_wait_to_be_refused() {
        let (pace, one) = (Pace::new(1, 1), ip("192.0.2.1"));
        while pace.book(one, Instant::now()).is_some() {}
        let mut late: Vec<_> = (0..PACE_REFUSALS_MAX).map(|_| Box::pin(pace.turn(one, ()))).collect();
        for turn in &mut late {
            assert!(!is_ready(turn).await);
        }
        assert!(is_ready(&mut Box::pin(pace.turn(one, ()))).await);
        // One that gives up makes room.
        late.pop();
        assert!(!is_ready(&mut Box::pin(pace.turn(one, ()))).await);
    }

    #[test]
    fn those_who_are_refused_together_are_told_apart() {
        let pace = Pace::new(1, 1);
        let mut waits: Vec<Duration> = (0..1_000).map(|_| pace.refusal_wait()).collect();
        waits.sort_unstable();
        assert!(waits[0] >= PACE_WAIT && waits[999] <= 2 * PACE_WAIT);
        assert!(waits.windows(2).all(|pair| pair[1] - pair[0] < PACE_WAIT / 500));
    }

    #[test]
    fn who_has_no_debt_is_forgotten() {
        let (pace, now) = (Pace::new(1_000, 1), Instant::now());
        for n in 0..10 * u32::try_from(PACED_ADDRESSES).unwrap() {
            let at = now + Duration::from_millis(u64::from(n));
            assert_eq!(pace.book(IpAddr::from(n.to_be_bytes()), at), Some(at));
            assert!(pace.paced.lock().unwrap().until.len() <= PACED_ADDRESSES);
        }
    }
}
