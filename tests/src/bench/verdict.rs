//! What must be reached, and whether it was.

use serde::Serialize;

use crate::contestant::{Contestant, Families, Setup, Verb};
use crate::growth::Growth;
use crate::race::AT_ONCE;
use crate::report::{Discipline, Report};
use crate::statistics::rounded;

/// The most that a cost which does not grow may differ between two measurements of one run.
const SAME: f64 = 1.3;

/// Something that must be, or that is hoped for.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Verdict {
    /// What is compared.
    pub(crate) what: String,
    /// What it has to be.
    pub(crate) wanted: String,
    /// What it is.
    pub(crate) measured: String,
    /// The number, where there is one.
    pub(crate) ratio: Option<f64>,
    /// How that is called.
    pub(crate) outcome: Outcome,
}

/// The end of a comparison.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Outcome {
    /// A must that is.
    Met,
    /// A must that is not, or that could not be measured.
    Missed,
    /// A hope that came true.
    Reached,
    /// A hope that did not.
    Hoped,
}

impl Outcome {
    /// As the terminal shows it.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Met => "met",
            Self::Missed => "missed",
            Self::Reached => "hope reached",
            Self::Hoped => "hope not reached",
        }
    }
}

impl Verdict {
    /// Whether a run with this one is a failure.
    pub(crate) fn is_missed(&self) -> bool {
        self.outcome == Outcome::Missed
    }

    /// One of any kind.
    pub(crate) fn must(what: &str, wanted: String, measured: String, ratio: Option<f64>, holds: bool) -> Self {
        let outcome = if holds { Outcome::Met } else { Outcome::Missed };
        Self { what: what.into(), wanted, measured, ratio: ratio.map(rounded), outcome }
    }

    fn hope(mut self) -> Self {
        self.outcome = if self.outcome == Outcome::Met { Outcome::Reached } else { Outcome::Hoped };
        self
    }

    /// A ratio that has to be this large.
    pub(crate) fn at_least(what: &str, ratio: Option<f64>, least: f64) -> Self {
        let holds = ratio.is_some_and(|ratio| ratio >= least);
        Self::must(what, format!("at least {least} ×"), times(ratio), ratio, holds)
    }

    /// A ratio that has to be this small.
    pub(crate) fn at_most(what: &str, ratio: Option<f64>, most: f64) -> Self {
        let holds = ratio.is_some_and(|ratio| ratio <= most);
        Self::must(what, format!("at most {most} ×"), times(ratio), ratio, holds)
    }
}

/// A ratio for the families for which it is worse: what must be has to be for both.
fn worse(ratio: impl Fn(Families) -> Option<f64>, choose: fn(f64, f64) -> f64) -> Option<f64> {
    Families::ALL.into_iter().filter_map(ratio).reduce(choose)
}

fn times(ratio: Option<f64>) -> String {
    ratio.map_or_else(|| "not yet".into(), |ratio| format!("{ratio:.2} ×"))
}

/// All of them, in the order of importance.
pub(crate) fn all(report: &Report) -> Vec<Verdict> {
    let discipline =
        |verb, host_port, at_once| move |families| Discipline { verb, setup: Setup { families, host_port }, at_once };
    let (add, ported) = (discipline(Verb::Add, false, 1), discipline(Verb::Add, true, 1));
    let (at_once, del) = (discipline(Verb::Add, false, AT_ONCE), discipline(Verb::Del, false, 1));
    let faster_than_ptp = |discipline: &dyn Fn(Families) -> Discipline| {
        worse(|families| report.multiple(Contestant::Ptp, discipline(families)), f64::min)
    };
    let over_floor = worse(|families| Some(1.0 / report.multiple(Contestant::Floor, add(families))?), f64::max);
    let faster_del = faster_than_ptp(&del);
    let more_per_second = worse(|families| report.rate_multiple(Contestant::Ptp, at_once(families)), f64::min);
    let held = report.held.full.p50_ms / report.held.empty.p50_ms;
    let peak = report.memory.iter().find(|one| one.contestant == Contestant::Podwire).map_or(0, |one| one.peak_kib);
    let peak = peak.max(report.held.memory.peak_kib);
    let binary = &report.binary;
    let megabytes = |bytes: u64| format!("{}.{:02} MB", bytes / 1_000_000, bytes % 1_000_000 / 10_000);
    let form = match (binary.linked_statically, binary.stripped) {
        (true, true) => "static, stripped",
        (true, false) => "static, not stripped",
        (false, true) => "dynamic, stripped",
        (false, false) => "dynamic, not stripped",
    };
    vec![
        Verdict::at_least("ADD against the ptp chain", faster_than_ptp(&add), 6.0),
        Verdict::at_most("ADD against the floor", over_floor, 1.3).hope(),
        Verdict::at_least("ADD with a hostPort against the ptp chain", faster_than_ptp(&ported), 12.0),
        Verdict::at_least("ADDs per second, 16 at once, against ptp", more_per_second, 5.0),
        Verdict::at_least("DEL against the ptp chain", faster_del, 5.0),
        Verdict::at_least("DEL against the ptp chain", faster_del, 10.0).hope(),
        Verdict::at_most(&grown(report, "ADD"), growth(report, |growth| growth.add.p50_ms), SAME),
        Verdict::at_most(&grown(report, "DEL"), growth(report, |growth| growth.del.p50_ms), SAME),
        Verdict::at_most(
            &format!("ADD with {} of {} addresses held, against none", report.held.held, report.held.of),
            Some(held),
            SAME,
        ),
        Verdict::must(
            "memory at peak (RSS)",
            "at most 6 MB".into(),
            megabytes(peak * 1024),
            None,
            peak * 1024 <= 6_000_000,
        ),
        Verdict::must(
            "the program's file",
            "at most 3 MB, static, stripped".into(),
            format!("{}, {form}", megabytes(binary.size)),
            None,
            binary.size <= 3_000_000 && binary.linked_statically && binary.stripped,
        ),
    ]
}

fn own(report: &Report) -> impl DoubleEndedIterator<Item = &Growth> {
    report.growth.iter().filter(|growth| growth.contestant == Contestant::Podwire)
}

fn grown(report: &Report, verb: &str) -> String {
    let pods = |growth: Option<&Growth>| growth.map_or(0, |growth| growth.pods);
    format!(
        "{verb} beside the floor, with {} pods on the node against {}",
        pods(own(report).next_back()),
        pods(own(report).next())
    )
}

/// What podwire takes beside the kernel's floor with the most pods, in terms of what it takes so with the fewest. The
/// kernel's own part grows: with every device it goes through all routes of IPv6.
fn growth(report: &Report, cost: impl Fn(&Growth) -> f64) -> Option<f64> {
    let beside_floor = |own: &Growth| {
        let mut floor = report.growth.iter().filter(|growth| growth.contestant == Contestant::Floor);
        Some(cost(own) - cost(floor.find(|floor| floor.pods == own.pods)?))
    };
    Some(beside_floor(own(report).next_back()?)? / beside_floor(own(report).next()?)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::tests::sample;

    #[test]
    fn verdicts_distinguish_demands_from_aims_and_from_what_is_not_measured_yet() {
        let verdicts = all(&sample());
        let found = |what: &str| {
            let matching = verdicts.iter().filter(|verdict| verdict.what.starts_with(what));
            matching.map(|verdict| (verdict.outcome, verdict.measured.as_str())).collect::<Vec<_>>()
        };
        assert_eq!(found("ADD against the ptp"), [(Outcome::Met, "7.00 ×")]);
        assert_eq!(found("ADD against the floor"), [(Outcome::Hoped, "1.50 ×")]);
        assert_eq!(found("ADD with a hostPort"), [(Outcome::Missed, "not yet")]);
        assert_eq!(found("ADDs per second"), [(Outcome::Met, "7.00 ×")]);
        assert_eq!(found("DEL against"), [(Outcome::Met, "7.00 ×"), (Outcome::Hoped, "7.00 ×")]);
        assert_eq!(found("ADD beside the floor, with 1000 pods on the node against 10"), [(Outcome::Met, "1.05 ×")]);
        assert_eq!(found("ADD with 60000 of 65533"), [(Outcome::Missed, "2.00 ×")]);
        assert_eq!(found("memory"), [(Outcome::Met, "2.09 MB")]);
        assert_eq!(found("the program"), [(Outcome::Met, "2.00 MB, static, stripped")]);
    }
}
