//! What is due after a change that may refuse connections that were allowed: the fast path forgets them, at most every so often, and
//! tracked connections are judged. The fast path forgets them once more when they are cut.
//!
//! What may not live here: how the kernel is told.

use std::time::{Duration, Instant};

use crate::policy::restricted::Restricted;

/// While the fast path forgets it remembers nothing for 20 ms: it is told at most this often.
const EVERY: Duration = Duration::from_millis(50);

/// A pod that is attached has hardly any connections, those to an earlier one of its addresses: they are judged after this time, together
/// with those of others that come meanwhile, when its ADD needs the processor no more. One that gets other labels can wait as long.
const GATHER: Duration = Duration::from_millis(50);

/// Connections that peers have left behind are used once another pod has their address, which takes longer than this as a rule.
const UNUSED: Duration = Duration::from_secs(1);

/// And after so many times as long as the last list took: where pods come and go all the time, and connections are many, lists take a tenth
/// of the time.
const RESTS: u32 = 10;

/// What is due.
#[derive(Debug, Default)]
pub(super) struct Cutting {
    /// When the fast path was told last.
    forgot: Option<Instant>,
    forget: bool,
    /// The connections to be judged beside those that are cut, and when; nothing: none.
    judge: Option<(Restricted, Instant)>,
    /// Those that peers have left behind, and when.
    left_behind: Option<(Restricted, Instant)>,
    /// When such ones began to be listed that still are, and how long it took the last time.
    began: Option<Instant>,
    took: Duration,
}

/// How soon connections are judged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Soon {
    /// At once.
    Now,
    /// After [`GATHER`].
    Gathered,
}

impl Cutting {
    /// These may be refused now.
    pub(super) fn restrict(&mut self, restricted: Restricted, soon: Soon, now: Instant) {
        self.forget = true;
        self.judge(restricted, soon, now);
    }

    /// Some have been cut. Since the fast path was told it may have begun to remember them again.
    pub(super) fn cut(&mut self) {
        self.forget = true;
    }

    /// These are to be judged, with those that are cut: something may be allowed again.
    pub(super) fn judge(&mut self, restricted: Restricted, soon: Soon, now: Instant) {
        let due = match soon {
            Soon::Now => now,
            Soon::Gathered => now + GATHER,
        };
        add(&mut self.judge, restricted, due);
    }

    /// Peers have gone that have left these behind.
    pub(super) fn leave_behind(&mut self, restricted: Restricted, now: Instant) {
        add(&mut self.left_behind, restricted, now + UNUSED.max(self.took * RESTS));
    }

    /// Whether the fast path is to be told now. It is asked for once.
    pub(super) fn forgets(&mut self, now: Instant) -> bool {
        let due = self.forget && self.left(now).is_zero();
        if due {
            (self.forget, self.forgot) = (false, Some(now));
        }
        due
    }

    /// How long it is until the fast path is to be told; `None` where it need not be.
    pub(super) fn forget_due(&self, now: Instant) -> Option<Duration> {
        self.forget.then(|| self.left(now))
    }

    /// How long it is until connections are to be judged; `None` where none are.
    pub(super) fn judge_due(&self, now: Instant) -> Option<Duration> {
        let due = self.judge.iter().chain(&self.left_behind).map(|(_, due)| due.saturating_duration_since(now));
        due.min()
    }

    /// The connections that are to be judged now beside those that are cut. It is asked for once.
    pub(super) fn judges(&mut self, now: Instant) -> Option<Restricted> {
        let is_due = |(_, due): &mut (Restricted, Instant)| *due <= now;
        let judge = self.judge.take_if(is_due).map(|(restricted, _)| restricted);
        // They are taken along where a list has to be made, and not where only those are looked for that are cut.
        let are_listed = judge.as_ref().is_some_and(|restricted| !restricted.is_empty());
        let left_behind = self.left_behind.take_if(|left| are_listed || is_due(left)).map(|(restricted, _)| restricted);
        if left_behind.is_some() {
            self.began = Some(now);
        }
        match (judge, left_behind) {
            (Some(judge), Some(left_behind)) => Some(judge.and(left_behind)),
            (judge, left_behind) => judge.or(left_behind),
        }
    }

    /// They have been listed to the end.
    pub(super) fn listed(&mut self, now: Instant) {
        self.took = self.began.take().map_or(self.took, |began| now.saturating_duration_since(began));
    }

    fn left(&self, now: Instant) -> Duration {
        self.forgot.map_or(Duration::ZERO, |forgot| (forgot + EVERY).saturating_duration_since(now))
    }
}

fn add(to: &mut Option<(Restricted, Instant)>, restricted: Restricted, due: Instant) {
    *to = Some(match to.take() {
        Some((others, before)) => (others.and(restricted), before.min(due)),
        None => (restricted, due),
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fast_path_is_told_at_once_and_then_not_more_often_than_every_50_ms() {
        let start = Instant::now();
        let at = |milliseconds| start + Duration::from_millis(milliseconds);
        let mut cutting = Cutting::default();
        assert!(!cutting.forgets(at(0)) && cutting.forget_due(at(0)).is_none());
        cutting.restrict(Restricted::Any, Soon::Now, at(0));
        assert!(cutting.judges(at(0)).is_some());
        assert!(cutting.forgets(at(0)));
        assert!(!cutting.forgets(at(60)), "once for each change");
        let restrict = |cutting: &mut Cutting, now| {
            cutting.restrict(Restricted::Any, Soon::Now, now);
            cutting.judges(now);
        };
        restrict(&mut cutting, at(60));
        assert!(cutting.forgets(at(60)));
        // Several changes within the time are told of together, at its end.
        restrict(&mut cutting, at(70));
        restrict(&mut cutting, at(80));
        assert!(!cutting.forgets(at(80)));
        assert_eq!(cutting.forget_due(at(80)), Some(Duration::from_millis(30)));
        assert!(cutting.forgets(at(110)));
        assert_eq!(cutting.forget_due(at(110)), None);
    }

    #[test]
    fn what_peers_have_left_behind_is_judged_after_a_second_or_with_others() {
        let of = |address: &str| Restricted::with([address.parse().unwrap()]);
        let start = Instant::now();
        let at = |milliseconds| start + Duration::from_millis(milliseconds);
        let mut cutting = Cutting::default();
        cutting.leave_behind(of("10.0.0.1"), at(0));
        cutting.leave_behind(of("10.0.0.2"), at(900));
        assert_eq!((cutting.judges(at(999)), cutting.forgets(at(999))), (None, false));
        assert_eq!(cutting.judge_due(at(999)), Some(Duration::from_millis(1)));
        assert_eq!(cutting.judges(at(1_000)), Some(of("10.0.0.1").and(of("10.0.0.2"))));
        cutting.listed(at(1_001));
        cutting.leave_behind(of("10.0.0.1"), at(1_100));
        // Where others are listed they are taken along, but not where only those are that are cut.
        cutting.judge(Restricted::default(), Soon::Now, at(1_101));
        assert_eq!(cutting.judges(at(1_101)), Some(Restricted::default()));
        cutting.restrict(of("10.0.0.2"), Soon::Now, at(1_101));
        assert_eq!(cutting.judges(at(1_101)), Some(of("10.0.0.1").and(of("10.0.0.2"))));
        // A list that took long is followed by a long rest, whatever else is listed meanwhile.
        cutting.listed(at(1_401));
        cutting.restrict(of("10.0.0.2"), Soon::Now, at(1_500));
        assert_eq!(cutting.judges(at(1_500)), Some(of("10.0.0.2")));
        cutting.listed(at(1_501));
        cutting.leave_behind(of("10.0.0.1"), at(2_000));
        assert_eq!((cutting.judges(at(4_999)), cutting.judges(at(5_000))), (None, Some(of("10.0.0.1"))));
    }

    #[test]
    fn the_fast_path_is_told_once_more_after_connections_were_cut() {
        let start = Instant::now();
        let at = |milliseconds| start + Duration::from_millis(milliseconds);
        let mut cutting = Cutting::default();
        cutting.restrict(Restricted::Any, Soon::Now, at(0));
        assert!(cutting.forgets(at(0)));
        cutting.cut();
        assert_eq!((cutting.forgets(at(10)), cutting.forget_due(at(10))), (false, Some(Duration::from_millis(40))));
        cutting.cut();
        assert!(cutting.forgets(at(50)) && !cutting.forgets(at(200)));
    }

    #[test]
    fn connections_are_judged_after_what_restricts_and_where_something_may_be_allowed_again() {
        let of = |address: &str| Restricted::with([address.parse().unwrap()]);
        let now = Instant::now();
        let mut cutting = Cutting::default();
        assert_eq!(cutting.judges(now), None);
        cutting.restrict(of("10.0.0.1"), Soon::Now, now);
        assert_eq!((cutting.judges(now), cutting.judges(now)), (Some(of("10.0.0.1")), None));
        let mut cutting = Cutting::default();
        cutting.judge(Restricted::default(), Soon::Now, now);
        assert_eq!(cutting.judges(now), Some(Restricted::default()));
        assert!(!cutting.forgets(now));
        // Those of several changes together.
        cutting.restrict(of("10.0.0.1"), Soon::Now, now);
        cutting.judge(Restricted::default(), Soon::Now, now);
        cutting.restrict(of("fd00::1"), Soon::Now, now);
        assert_eq!(cutting.judges(now), Some(of("10.0.0.1").and(of("fd00::1"))));
    }

    #[test]
    fn connections_of_attached_pods_are_judged_50_ms_after_the_first_of_them_or_with_others() {
        let of = |address: &str| Restricted::with([address.parse().unwrap()]);
        let start = Instant::now();
        let at = |milliseconds| start + Duration::from_millis(milliseconds);
        let mut cutting = Cutting::default();
        cutting.restrict(of("10.0.0.1"), Soon::Gathered, at(0));
        assert!(cutting.forgets(at(0)));
        cutting.restrict(of("10.0.0.2"), Soon::Gathered, at(10));
        assert_eq!((cutting.judges(at(49)), cutting.judge_due(at(49))), (None, Some(Duration::from_millis(1))));
        assert_eq!(cutting.judges(at(50)), Some(of("10.0.0.1").and(of("10.0.0.2"))));
        assert!(cutting.forgets(at(50)));
        assert_eq!(cutting.judge_due(at(50)), None);
        cutting.restrict(of("10.0.0.1"), Soon::Gathered, at(60));
        cutting.restrict(of("10.0.0.2"), Soon::Now, at(61));
        assert_eq!(cutting.judges(at(61)), Some(of("10.0.0.1").and(of("10.0.0.2"))));
    }
}
