//! Numbers out of measured times. Times are in milliseconds.

use std::time::Duration;

use serde::Serialize;

/// What is told of a set of times.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub(crate) struct Summary {
    /// The time that half of the calls stay within, in milliseconds.
    pub(crate) p50_ms: f64,
    /// The time that 99 of 100 calls stay within, in milliseconds.
    pub(crate) p99_ms: f64,
    /// How many calls there were.
    pub(crate) calls: usize,
}

impl Summary {
    /// Of some times; `None` of none.
    pub(crate) fn of(times: &[Duration]) -> Option<Self> {
        let mut milliseconds: Vec<f64> = times.iter().map(|time| time.as_secs_f64() * 1e3).collect();
        milliseconds.sort_by(f64::total_cmp);
        let at = |percent| percentile(&milliseconds, percent).map(rounded);
        Some(Self { p50_ms: at(50)?, p99_ms: at(99)?, calls: times.len() })
    }

    /// The same, where the 99 of 100 are the median of those of so many rounds: what else the machine did in one of them does not decide.
    pub(crate) fn of_rounds(times: &[Duration], rounds: usize) -> Option<Self> {
        let each = times.chunks(times.len().div_ceil(rounds).max(1)).map(Self::of).collect::<Option<Vec<_>>>()?;
        let p99: Vec<_> = each.iter().map(|round| round.p99_ms).collect();
        Some(Self { p99_ms: median(&p99)?, ..Self::of(times)? })
    }
}

/// The smallest of the sorted values that `percent` of 100 values are not above (nearest rank).
fn percentile(sorted: &[f64], percent: usize) -> Option<f64> {
    let rank = (sorted.len() * percent).div_ceil(100).max(1);
    sorted.get(rank - 1).copied()
}

/// The value in the middle; of an even number of values the lower one of the two.
pub(crate) fn median(values: &[f64]) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    percentile(&sorted, 50)
}

/// To a thousandth: what is below was not measured.
pub(crate) fn rounded(value: f64) -> f64 {
    (value * 1e3).round() / 1e3
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_round_in_which_the_machine_was_busy_does_not_decide() {
        let mut times: Vec<_> = (0..500).map(|number| Duration::from_millis(number % 100 + 1)).collect();
        times[400..].iter_mut().for_each(|time| *time *= 100);
        let (all, rounds) = (Summary::of(&times).unwrap(), Summary::of_rounds(&times, 5).unwrap());
        assert_eq!((all.p99_ms, rounds.p99_ms), (9_500.0, 99.0));
        assert_eq!((all.p50_ms, all.calls), (rounds.p50_ms, rounds.calls));
        assert!(Summary::of_rounds(&[], 5).is_none());
    }

    #[test]
    fn percentiles_are_values_that_were_measured() {
        let times: Vec<_> = (1..=200).rev().map(Duration::from_millis).collect();
        assert_eq!(Summary::of(&times), Some(Summary { p50_ms: 100.0, p99_ms: 198.0, calls: 200 }));
        let one = [Duration::from_nanos(1_234_567)];
        assert_eq!(Summary::of(&one), Some(Summary { p50_ms: 1.235, p99_ms: 1.235, calls: 1 }));
        assert_eq!(Summary::of(&[]), None);
    }

    #[test]
    fn the_median_needs_no_order() {
        assert_eq!(median(&[3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(&[4.0, 1.0, 2.0, 3.0]), Some(2.0));
        assert_eq!(median(&[]), None);
    }
}
