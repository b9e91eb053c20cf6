//! How long the bot waits before the next attempt. Pure.

use std::time::Duration;

/// The longest wait.
pub(crate) const LONGEST_WAIT: Duration = Duration::from_secs(30);

/// A wait that doubles with each failure.
pub(crate) struct Backoff {
    first: Duration,
    next: Duration,
}

impl Backoff {
    /// `first` is the wait after the first failure.
    pub(crate) fn new(first: Duration) -> Self {
        Self { first, next: first }
    }

    /// The wait before the next attempt; the one after it is twice as long, up to [`LONGEST_WAIT`].
    pub(crate) fn next_wait(&mut self) -> Duration {
        let wait = self.next.min(LONGEST_WAIT);
        self.next = wait * 2;
        wait
    }

    /// The server took the bot in: the next failure is a first one again.
    pub(crate) fn reset(&mut self) {
        self.next = self.first;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_wait_doubles_up_to_the_longest_and_is_reset() {
        let mut backoff = Backoff::new(Duration::from_secs(1));
        let waits: Vec<u64> = (0..8).map(|_| backoff.next_wait().as_secs()).collect();
        assert_eq!(waits, [1, 2, 4, 8, 16, 30, 30, 30]);
        backoff.reset();
        assert_eq!(backoff.next_wait(), Duration::from_secs(1));
    }
}
