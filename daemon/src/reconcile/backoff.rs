//! How soon one pass follows another. Pure.

use std::time::Duration;

use crate::report::outcome::Outcome;

/// How often the kernel is looked at when nothing was heard: there are changes that it does not announce.
const TICK: Duration = Duration::from_secs(30);

/// Notices come in crowds: a pass waits this long for the rest of one.
pub(crate) const GATHER: Duration = Duration::from_millis(5);

/// After the last change of a few peers that was made by itself, the pass that looks at everything comes after this time.
pub(crate) const VERIFY: Duration = Duration::from_secs(1);

/// The share of a core that passes may take for long is one of this many, so that a busy namespace of strangers costs a
/// tenth of a core and no more.
const SHARE: u32 = 10;

/// Passes of so much time are made at once before that share counts: after a quiet time the first damages are repaired
/// without delay, however long a pass takes.
const SAVED: Duration = Duration::from_millis(500);

/// The longest pause that notices have to wait.
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// After a pass that failed the next one comes after this long, doubled each time up to the second value.
const RETRY: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));

/// When the next pass comes: at once for a first damage, later and later where somebody undoes every repair or a pass
/// cannot succeed, and seldom where passes take much time.
#[derive(Debug)]
pub(crate) struct Pace {
    /// Passes in a row that had something to change.
    busy: u32,
    retry: Duration,
    /// The time that passes have taken, less the share of the time that has gone by.
    spent: Duration,
}

impl Default for Pace {
    fn default() -> Self {
        Self { busy: 0, retry: RETRY.0, spent: Duration::ZERO }
    }
}

impl Pace {
    /// How long notices have to wait after a pass, and how long the clock does. The pass took `took`, and ended `since`
    /// after the one before it.
    pub(crate) fn after(&mut self, outcome: &Outcome, took: Duration, since: Duration) -> (Duration, Duration) {
        let failed = !outcome.problems.is_empty();
        let changed = outcome.changes > 0;
        self.busy = if failed || changed { self.busy.saturating_add(1) } else { 0 };
        self.spent = self.spent.saturating_sub(since / SHARE).saturating_add(took);
        let for_share = self.spent.saturating_sub(SAVED).saturating_mul(SHARE);
        let for_peace = match self.busy {
            0 => GATHER,
            busy => GATHER * 2_u32.saturating_pow((busy - 1).min(16)),
        };
        let pause = for_share.max(for_peace).min(LONGEST_PAUSE);
        // Nobody hears of what this process has changed itself: that it has come to rest is looked at.
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

    fn calm() -> Outcome {
        Outcome::default()
    }

    fn busy() -> Outcome {
        Outcome { changes: 1, ..Outcome::default() }
    }

    #[test]
    fn a_first_damage_is_repaired_at_once_and_an_endless_one_ever_more_slowly() {
        let mut pace = Pace::default();
        let (took, since) = (Duration::from_micros(300), Duration::from_secs(1));
        assert_eq!(pace.after(&calm(), took, since), (GATHER, TICK));
        let pauses: Vec<_> = (0..12).map(|_| pace.after(&busy(), took, since)).collect();
        let expected = [5, 10, 20, 40, 80, 160, 320, 640, 1280, 2000, 2000, 2000].map(Duration::from_millis);
        // The next look comes by itself as well.
        assert_eq!(pauses, expected.map(|pause| (pause, pause)));
        assert_eq!(pace.after(&calm(), took, since), (GATHER, TICK));
    }

    #[test]
    fn passes_that_take_long_are_made_at_once_after_a_quiet_time_and_then_take_their_share_and_no_more() {
        let mut pace = Pace::default();
        let took = Duration::from_millis(100);
        // Notices without end: a pass is made whenever the pause is over.
        let mut pause = GATHER;
        let mut pauses = Vec::new();
        for _ in 0..10 {
            pause = pace.after(&calm(), took, pause + took).0;
            pauses.push(pause.as_millis());
        }
        assert_eq!(pauses[..5], [5; 5], "{pauses:?}");
        assert!(pauses[7..].iter().all(|pause| (895..=905).contains(pause)), "{pauses:?}");
        // Six quiet seconds are enough for six such passes at once.
        assert_eq!(pace.after(&calm(), took, Duration::from_secs(6)).0, GATHER);
        assert_eq!(pace.after(&calm(), Duration::from_secs(9), Duration::ZERO).0, LONGEST_PAUSE);
    }

    #[test]
    fn a_pass_that_failed_is_tried_again_soon_and_then_more_rarely() {
        let mut pace = Pace::default();
        let failed = Outcome { problems: vec!["no".into()], ..calm() };
        let mut after = |outcome: &Outcome| pace.after(outcome, Duration::ZERO, Duration::ZERO).1;
        let retries: Vec<_> = (0..8).map(|_| after(&failed).as_millis()).collect();
        assert_eq!(retries, [100, 200, 400, 800, 1600, 3200, 5000, 5000]);
        assert_eq!(after(&calm()), TICK);
        assert_eq!(after(&failed), RETRY.0);
    }
}
