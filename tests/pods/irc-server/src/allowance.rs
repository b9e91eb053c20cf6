//! How much a client may send (RFC 1459 section 8.10, flood control): a supply of bytes that fills up with time. No
//! clock is read here, and nobody waits.

use std::time::Duration;

/// How many bytes a client that was silent may send at once: some 120 of the longest lines, and a fraction of what may
/// wait for another client, to which one line may be sent on four times.
const MOST_AT_ONCE: usize = 64 * 1024;
/// How many bytes a second a client may send for ever.
const EACH_SECOND: usize = 32 * 1024;
/// How many bytes a line costs beside its own: what is sent on of a JOIN is many times longer than the JOIN.
const EACH_LINE: usize = 32;
const NANOSECONDS: u64 = 1_000_000_000;

/// The supply of one client.
#[derive(Debug)]
pub(crate) struct Allowance {
    /// The time at which the supply is full again, counted like `now` in [`Allowance::take`].
    full_at: Duration,
}

impl Allowance {
    /// A full supply.
    pub(crate) fn full() -> Self {
        Self { full_at: Duration::ZERO }
    }

    /// Takes the bytes that were read at `now`, the time since the connection began, and the lines that they ended, and
    /// gives how long nothing more should be read. Waiting makes the client's own sending wait; nothing is lost.
    pub(crate) fn take(&mut self, now: Duration, bytes: usize, lines: usize) -> Duration {
        self.full_at = self.full_at.max(now) + time_for(bytes + lines * EACH_LINE);
        self.full_at.saturating_sub(now + time_for(MOST_AT_ONCE))
    }
}

/// How long it takes until so many bytes are allowed again.
fn time_for(bytes: usize) -> Duration {
    Duration::from_nanos((bytes as u64).saturating_mul(NANOSECONDS) / EACH_SECOND as u64)
}

#[cfg(test)]
mod tests {
    use super::{Allowance, EACH_SECOND, MOST_AT_ONCE};
    use std::time::Duration;

    #[test]
    fn a_burst_passes_and_what_follows_waits() {
        let mut allowance = Allowance::full();
        let now = Duration::from_secs(100);
        assert_eq!(allowance.take(now, MOST_AT_ONCE, 0), Duration::ZERO);
        assert_eq!(allowance.take(now, EACH_SECOND, 0), Duration::from_secs(1));
    }

    #[test]
    fn whoever_keeps_to_the_rate_never_waits() {
        let mut allowance = Allowance::full();
        for second in 0..1000 {
            assert_eq!(allowance.take(Duration::from_secs(second), EACH_SECOND, 0), Duration::ZERO);
        }
    }

    #[test]
    fn a_short_line_costs_more_than_its_bytes() {
        let mut allowance = Allowance::full();
        let (bytes, lines) = (MOST_AT_ONCE / 10, MOST_AT_ONCE / 32);
        assert_eq!(allowance.take(Duration::ZERO, bytes, 10), Duration::ZERO);
        assert!(allowance.take(Duration::ZERO, bytes, lines) > Duration::ZERO);
    }

    #[test]
    fn silence_saves_no_more_than_one_burst() {
        let mut allowance = Allowance::full();
        allowance.take(Duration::ZERO, MOST_AT_ONCE, 0);
        let later = Duration::from_secs(3600);
        assert_eq!(allowance.take(later, MOST_AT_ONCE, 0), Duration::ZERO);
        assert!(allowance.take(later, 1, 0) > Duration::ZERO);
    }
}
