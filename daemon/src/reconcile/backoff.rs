//! How soon one reconcile follows another. Pure.

use std::time::Duration;

use crate::report::outcome::Outcome;

/// How often the kernel is looked at when nothing was heard: some changes it does not announce.
const TICK: Duration = Duration::from_secs(30);

/// Notifications come in bursts: a full sync waits this long for the rest of one.
pub(crate) const GATHER: Duration = Duration::from_millis(5);

/// How long after the last incremental sync a full sync verifies it.
pub(crate) const VERIFY: Duration = Duration::from_secs(1);

/// In the long run full syncs take one part in this many of a core, so that other programs that change the network all the
/// time cost a tenth of a core and no more.
const SHARE: u32 = 10;

/// Full syncs may take this much time at once before that share counts: after a quiet time the first damage is repaired
/// without delay, however long a sync takes.
const SAVED: Duration = Duration::from_millis(500);

/// The longest pause after repairs that are undone again and again.
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// The longest pause for the share: only syncs of more than a second take more than their part.
const LONGEST_REST: Duration = Duration::from_secs(10);

/// After a full sync that failed the next one comes after this long, doubled each time up to the second value.
const RETRY: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));

/// When the next full sync comes: at once for a first damage, later and later where every repair is undone or a sync cannot
/// succeed, and seldom where syncs take much time.
#[derive(Debug)]
pub(crate) struct Backoff {
    /// Full syncs in a row that had something to change.
    busy: u32,
    retry: Duration,
    /// The time that syncs have taken, less their share of the time that has gone by.
    spent: Duration,
}

impl Default for Backoff {
    fn default() -> Self {
        Self { busy: 0, retry: RETRY.0, spent: Duration::ZERO }
    }
}

impl Backoff {
    /// The least delay until the next sync that notifications cause, and until the next periodic one. The sync
    /// took `took`, and ended `since` after the one before it.
    pub(crate) fn after(&mut self, outcome: &Outcome, took: Duration, since: Duration) -> (Duration, Duration) {
        let failed = !outcome.problems.is_empty();
        let changed = outcome.changes > 0;
        self.busy = if failed || changed { self.busy.saturating_add(1) } else { 0 };
        self.spent = self.spent.saturating_sub(since / SHARE).saturating_add(took);
        let for_share = self.spent.saturating_sub(SAVED).saturating_mul(SHARE).min(LONGEST_REST);
        let for_repairs = match self.busy {
            0 => GATHER,
            busy => (GATHER * 2_u32.saturating_pow((busy - 1).min(16))).min(LONGEST_PAUSE),
        };
        let pause = for_share.max(for_repairs);
        // What this process changes itself it gets no notification of: another look sees that it has settled.
        let next = if failed {
            self.retry
        } else if changed {
            pause
        } else {
            TICK
        };
        self.retry = if failed { (self.retry * 2).min(RETRY.1) } else { RETRY.0 };
        (pause, next)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::problem::{Problem, ProblemKind};

    fn quiet() -> Outcome {
        Outcome::default()
    }

    fn busy() -> Outcome {
        Outcome { changes: 1, ..Outcome::default() }
    }

    #[test]
    fn a_first_damage_is_repaired_at_once_and_a_recurring_one_ever_more_slowly() {
        let mut backoff = Backoff::default();
        let (took, since) = (Duration::from_micros(300), Duration::from_secs(1));
        assert_eq!(backoff.after(&quiet(), took, since), (GATHER, TICK));
        let pauses: Vec<_> = (0..12).map(|_| backoff.after(&busy(), took, since)).collect();
        let expected = [5, 10, 20, 40, 80, 160, 320, 640, 1280, 2000, 2000, 2000].map(Duration::from_millis);
        // The next look comes by itself as well.
        assert_eq!(pauses, expected.map(|pause| (pause, pause)));
        assert_eq!(backoff.after(&quiet(), took, since), (GATHER, TICK));
    }

    #[test]
    fn long_syncs_run_at_once_after_a_quiet_time_and_then_take_their_share_and_no_more() {
        let mut backoff = Backoff::default();
        let took = Duration::from_millis(100);
        // Notifications without end: a sync runs whenever the pause is over.
        let mut pause = GATHER;
        let mut pauses = Vec::new();
        for _ in 0..10 {
            pause = backoff.after(&quiet(), took, pause + took).0;
            pauses.push(pause.as_millis());
        }
        assert_eq!(pauses[..5], [5; 5], "{pauses:?}");
        assert!(pauses[7..].iter().all(|pause| (895..=905).contains(pause)), "{pauses:?}");
        // Six quiet seconds are enough for six such syncs at once.
        assert_eq!(backoff.after(&quiet(), took, Duration::from_secs(6)).0, GATHER);
        assert_eq!(backoff.after(&quiet(), Duration::from_secs(9), Duration::ZERO).0, LONGEST_REST);
    }

    #[test]
    fn a_failed_sync_is_retried_soon_and_then_more_rarely() {
        let mut backoff = Backoff::default();
        let failed = Outcome { problems: vec![Problem::general(ProblemKind::KernelRefused, "no")], ..quiet() };
        let mut after = |outcome: &Outcome| backoff.after(outcome, Duration::ZERO, Duration::ZERO).1;
        let retries: Vec<_> = (0..8).map(|_| after(&failed).as_millis()).collect();
        assert_eq!(retries, [100, 200, 400, 800, 1600, 3200, 5000, 5000]);
        assert_eq!(after(&quiet()), TICK);
        assert_eq!(after(&failed), RETRY.0);
    }
}
