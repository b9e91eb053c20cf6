//! How many refused packets were not logged, and when that is said: every ten seconds at most. Pure.

use std::time::{Duration, Instant};

/// From one time to the next.
const EVERY: Duration = Duration::from_secs(10);

/// What was not logged.
pub(super) struct Unlogged {
    /// The kernel's count of those that were too many, as far as it has been said.
    counted: u64,
    /// Those that this was too slow for, and that have not been said.
    lost: u64,
    /// When the count is looked at. While nothing is logged nothing is too much.
    due: Option<Instant>,
}

impl Unlogged {
    /// From this count on.
    pub(super) fn since(counted: u64) -> Self {
        Self { counted, lost: 0, due: None }
    }

    /// Packets were logged, before which so many were lost.
    pub(super) fn heard(&mut self, lost: u64, now: Instant) {
        self.lost += lost;
        self.due.get_or_insert(now + EVERY);
    }

    /// How long it is until the count is to be looked at; `None` where it need not be.
    pub(super) fn due(&self, now: Instant) -> Option<Duration> {
        self.due.map(|due| due.saturating_duration_since(now))
    }

    /// How many more there are, by this count, than have been said.
    pub(super) fn more(&mut self, counted: u64, now: Instant) -> u64 {
        // The count begins anew with the table.
        let before = if counted < self.counted { 0 } else { self.counted };
        let more = counted - before + std::mem::take(&mut self.lost);
        self.counted = counted;
        self.due = (more > 0).then(|| now + EVERY);
        more
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_too_much_is_said_every_ten_seconds_while_there_is_any_and_each_packet_once() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut unlogged = Unlogged::since(7);
        assert_eq!(unlogged.due(at(0)), None);
        unlogged.heard(0, at(0));
        unlogged.heard(2, at(4));
        assert_eq!((unlogged.due(at(4)), unlogged.due(at(11))), (Some(Duration::from_secs(6)), Some(Duration::ZERO)));
        assert_eq!(unlogged.more(107, at(10)), 102);
        assert_eq!(unlogged.due(at(10)), Some(EVERY));
        assert_eq!(unlogged.more(107, at(20)), 0);
        assert_eq!(unlogged.due(at(20)), None, "it is quiet");
        // The table was made anew.
        unlogged.heard(0, at(30));
        assert_eq!(unlogged.more(5, at(40)), 5);
    }
}
