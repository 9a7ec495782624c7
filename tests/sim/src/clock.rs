//! Clocks of machines: each has an origin, a rate, and a wall clock that may be wrong.

/// The wall clock's true time when a world begins, milliseconds since 1970.
pub(crate) const BEGIN_MS: u64 = 1_790_000_000_000;

/// One machine's clocks.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    origin: u64,
    started: u64,
    /// Thousandths of the true rate.
    pub(crate) rate: u64,
    /// What the wall clock is off.
    pub(crate) offset_ms: i64,
}

impl Clock {
    /// A clock that starts now.
    #[must_use]
    pub(crate) fn new(now: u64, origin: u64, rate: u64, offset_ms: i64) -> Self {
        Self { origin, started: now, rate, offset_ms }
    }

    /// The clock that never jumps.
    #[must_use]
    pub(crate) fn moment(&self, now: u64) -> u64 {
        self.origin + now.saturating_sub(self.started) * self.rate / 1_000
    }

    /// The true time at which that clock shows `moment`.
    #[must_use]
    pub(crate) fn when(&self, moment: u64) -> u64 {
        self.started + (moment.saturating_sub(self.origin) * 1_000).div_ceil(self.rate)
    }

    /// The wall clock.
    #[must_use]
    pub(crate) fn time(&self, now: u64) -> u64 {
        (BEGIN_MS + now).saturating_add_signed(self.offset_ms)
    }

    /// From now on the rate is another; the moment goes on from where it is.
    pub(crate) fn set_rate(&mut self, now: u64, rate: u64) {
        *self = Self { origin: self.moment(now), started: now, rate, ..*self };
    }
}
