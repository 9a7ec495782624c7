//! All deadlines of a client, in one table with one [`Timers::next`].

use crate::io::Moment;

/// What a deadline is for. At most one of each runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Timer {
    /// The socket should be open.
    Dial,
    /// The relay should have said welcome.
    Hello,
    /// The token provider should have answered.
    Token,
    /// The next try to connect.
    Retry,
    /// The relay should have been heard.
    Silence,
    /// The probe should have been answered.
    Probe,
    /// The oldest request should have been answered.
    Slow,
    /// Entries of the queue have gathered for long enough.
    Save,
    /// Tell the relay what is durable.
    Ack,
    /// Get the next token for the open connection.
    Renew,
    /// The first deadline or next try of a waiting request.
    Requests,
    /// The next try of a conversation whose send was put off.
    Outbox,
    /// The next try to tell read marks.
    Reads,
    /// The next try to pull what is missing of logs.
    Pulls,
    /// The next request to watch users, after one that was put off.
    Watch,
    /// Users who were refused may be asked for again.
    Refused,
    /// What was heard of watched users on a connection that ended is too old to be shown.
    Stale,
    /// Profiles that are wanted are to be asked for.
    Profiles,
    /// The first who writes is to be heard of again.
    Typing,
}

impl Timer {
    const ALL: [Timer; 19] = [
        Timer::Dial,
        Timer::Hello,
        Timer::Token,
        Timer::Retry,
        Timer::Silence,
        Timer::Probe,
        Timer::Slow,
        Timer::Save,
        Timer::Ack,
        Timer::Renew,
        Timer::Requests,
        Timer::Outbox,
        Timer::Reads,
        Timer::Pulls,
        Timer::Watch,
        Timer::Refused,
        Timer::Stale,
        Timer::Profiles,
        Timer::Typing,
    ];

    const fn row(self) -> usize {
        self as usize
    }
}

/// The table.
#[derive(Default)]
pub(crate) struct Timers([Option<Moment>; Timer::ALL.len()]);

impl Timers {
    pub(crate) fn set(&mut self, timer: Timer, at: Moment) {
        self.0[timer.row()] = Some(at);
    }

    pub(crate) fn set_or_clear(&mut self, timer: Timer, at: Option<Moment>) {
        self.0[timer.row()] = at;
    }

    pub(crate) fn clear(&mut self, timer: Timer) {
        self.0[timer.row()] = None;
    }

    pub(crate) fn get(&self, timer: Timer) -> Option<Moment> {
        self.0[timer.row()]
    }

    /// The earliest deadline.
    pub(crate) fn next(&self) -> Option<Moment> {
        self.0.iter().flatten().min().copied()
    }

    /// Takes a deadline that has passed, the earliest first.
    pub(crate) fn expired(&mut self, now: Moment) -> Option<(Timer, Moment)> {
        let (timer, at) = Timer::ALL
            .into_iter()
            .filter_map(|timer| Some((timer, self.get(timer)?)))
            .filter(|(_, at)| *at <= now)
            .min_by_key(|(_, at)| *at)?;
        self.clear(timer);
        Some((timer, at))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_distinct_and_deadlines_come_in_their_order() {
        for (row, timer) in Timer::ALL.into_iter().enumerate() {
            assert_eq!(timer.row(), row);
        }
        let mut timers = Timers::default();
        timers.set(Timer::Ack, Moment(20));
        timers.set(Timer::Dial, Moment(30));
        timers.set(Timer::Reads, Moment(10));
        assert_eq!(timers.next(), Some(Moment(10)));
        assert_eq!(timers.expired(Moment(9)), None);
        assert_eq!(timers.expired(Moment(25)), Some((Timer::Reads, Moment(10))));
        assert_eq!(timers.expired(Moment(25)), Some((Timer::Ack, Moment(20))));
        assert_eq!(timers.expired(Moment(25)), None);
        assert_eq!(timers.next(), Some(Moment(30)));
    }
}
