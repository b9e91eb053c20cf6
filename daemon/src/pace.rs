//! How soon one pass follows another. Pure.

use std::time::Duration;

use crate::pass::Outcome;

/// How often the kernel is looked at when nothing was heard: there are changes that it does not announce.
const TICK: Duration = Duration::from_secs(30);

/// Notices come in crowds: a pass waits this long for the rest of one.
pub(crate) const GATHER: Duration = Duration::from_millis(5);

/// How many times longer than a pass the pause is after one for which there was no need, so that a busy namespace of
/// strangers costs a tenth of a core and no more.
const PAUSE_FOR_PASS: u32 = 10;

/// The longest pause that notices have to wait.
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// After a pass that failed the next one comes after this long, doubled each time up to the second value.
const RETRY: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));

/// When the next pass comes: at once for a first damage, later and later where somebody undoes every repair or a pass
/// cannot succeed.
#[derive(Debug)]
pub(crate) struct Pace {
    /// Passes in a row that had something to change.
    busy: u32,
    retry: Duration,
}

impl Default for Pace {
    fn default() -> Self {
        Self { busy: 0, retry: RETRY.0 }
    }
}

impl Pace {
    /// How long notices have to wait, and how long the clock does.
    pub(crate) fn after(&mut self, outcome: &Outcome, took: Duration) -> (Duration, Duration) {
        let failed = !outcome.problems.is_empty();
        self.busy = if failed || outcome.changes > 0 { self.busy.saturating_add(1) } else { 0 };
        let pause = match self.busy {
            0 => took * PAUSE_FOR_PASS,
            busy => GATHER * 2_u32.saturating_pow((busy - 1).min(16)),
        };
        let next = if failed { self.retry } else { TICK };
        self.retry = if failed { (self.retry * 2).min(RETRY.1) } else { RETRY.0 };
        (pause.clamp(GATHER, LONGEST_PAUSE), next)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_first_damage_is_repaired_at_once_and_an_endless_one_ever_more_slowly() {
        let mut pace = Pace::default();
        let (calm, busy) = (Outcome::default(), Outcome { changes: 1, ..Outcome::default() });
        let took = Duration::from_micros(300);
        assert_eq!(pace.after(&calm, took), (GATHER, TICK));
        let pauses: Vec<_> = (0..12).map(|_| pace.after(&busy, took).0.as_millis()).collect();
        assert_eq!(pauses, [5, 10, 20, 40, 80, 160, 320, 640, 1280, 2000, 2000, 2000]);
        assert_eq!(pace.after(&calm, took), (GATHER, TICK));
        // A pass that takes long and changes nothing is not made for every stranger's notice.
        assert_eq!(pace.after(&calm, Duration::from_millis(130)).0, Duration::from_millis(1300));
    }

    #[test]
    fn a_pass_that_failed_is_tried_again_soon_and_then_more_rarely() {
        let mut pace = Pace::default();
        let failed = Outcome { problems: vec!["no".into()], ..Outcome::default() };
        let retries: Vec<_> = (0..8).map(|_| pace.after(&failed, Duration::ZERO).1.as_millis()).collect();
        assert_eq!(retries, [100, 200, 400, 800, 1600, 3200, 5000, 5000]);
        assert_eq!(pace.after(&Outcome::default(), Duration::ZERO).1, TICK);
        assert_eq!(pace.after(&failed, Duration::ZERO).1, RETRY.0);
    }
}
