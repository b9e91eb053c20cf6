//! What the daemon must reach, and whether it did. Of a run that measured a part there are the verdicts of that part.

use super::Report;
use super::layout::Layout;
use super::scale::Scale;
use super::traffic::Traffic;
use crate::verdict::Verdict;

/// The most that ten times as many peers may cost in terms of ten times the cost.
const LINEAR: f64 = 1.3;

impl Report {
    /// What podwire's traffic is in terms of that of another layout, like with like.
    pub(crate) fn ratio(&self, to: Layout, of: impl Fn(&Traffic) -> f64) -> Option<f64> {
        let find = |layout| self.traffic.iter().find(|one| one.layout == layout).map(&of);
        (to.ours() != to).then_some(())?;
        Some(find(to.ours())? / find(to)?)
    }
}

/// All of them, in the order of importance.
pub(super) fn all(report: &Report) -> Vec<Verdict> {
    let mut verdicts = Vec::new();
    if !report.traffic.is_empty() {
        for (what, layout) in [("as deployed", Layout::Flannel), ("with the same pods", Layout::FlannelSamePods)] {
            let latency = report.ratio(layout, |one| one.round_trip_us);
            let throughput = report.ratio(layout, |one| one.gigabits);
            let against = |measure: &str| format!("{measure} against flannel's, {what}");
            verdicts.push(Verdict::at_most(&against("TCP round trip"), latency, 0.9));
            verdicts.push(Verdict::at_least(&against("throughput"), throughput, 0.98));
        }
    }
    if let [few, .., most] = &report.scale[..] {
        scale(few, most, &report.scale, &mut verdicts);
    }
    if let Some(join) = &report.join {
        let p99 = join.latency.p99_ms;
        let what = format!("a peer joins {} others, event to routes, p99", join.peers);
        verdicts.push(Verdict::must(&what, "at most 5 ms".into(), format!("{p99:.2} ms"), None, p99 <= 5.0));
        for rest in &join.rest {
            let what = format!("processor beside {} peers: {}", join.peers, rest.what.name());
            let (measured, holds) = (format!("{:.2} %", rest.percent), rest.percent <= 1.0);
            verdicts.push(Verdict::must(&what, "at most 1 % of a core".into(), measured, None, holds));
        }
    }
    if let Some(churn) = &report.churn {
        let what = format!("the state after {} changes of {} nodes", churn.changes, churn.nodes);
        let (otherwise, restart) = (churn.differences.len(), churn.changed_by_restart.len());
        let measured = format!("{otherwise} differences, {restart} changes by a restart");
        let wanted = "as of a fresh start, and a restart changes nothing".into();
        verdicts.push(Verdict::must(&what, wanted, measured, None, otherwise + restart == 0));
    }
    verdicts
}

fn scale(few: &Scale, most: &Scale, all: &[Scale], verdicts: &mut Vec<Verdict>) {
    let peers = most.peers;
    let seconds = format!("{:.2} s", most.cold_s);
    verdicts.push(Verdict::must(
        &format!("{peers} peers from the start of podwired to all routes"),
        "at most 1 s".into(),
        seconds,
        None,
        most.cold_s <= 1.0,
    ));
    // From the second number on: with few peers the time is that of making the device.
    if let Some(base) = all.get(1).filter(|base| base.peers < peers) {
        let growth = (most.program_s / base.program_s) / (f64::from(peers) / f64::from(base.peers));
        let what = format!("time for each peer, with {peers} against {}", base.peers);
        verdicts.push(Verdict::at_most(&what, Some(growth), LINEAR));
    }
    let heaviest = all.iter().map(|one| one.peak_mb).fold(0.0, f64::max);
    let measured = format!("{heaviest:.1} MB at its peak, {:.1} MB at rest", most.resident_mb);
    verdicts.push(Verdict::must("memory (RSS)", "at most 40 MB".into(), measured, None, heaviest <= 40.0));
    let what = format!("a deleted route is back, beside {} peers", few.peers);
    let measured = format!("{:.1} ms", few.repair_ms);
    verdicts.push(Verdict::must(&what, "at most 50 ms".into(), measured, None, few.repair_ms <= 50.0));
}

#[cfg(test)]
mod tests {
    use crate::daemon::shown::tests::sample;
    use crate::verdict::Outcome;

    #[test]
    fn verdicts_compare_the_measured_with_the_demanded() {
        let verdicts = super::all(&sample());
        let found = |what: &str| {
            let verdict = verdicts.iter().find(|verdict| verdict.what.starts_with(what)).unwrap();
            (verdict.outcome, verdict.measured.as_str())
        };
        assert_eq!(found("TCP round trip"), (Outcome::Met, "0.80 ×"));
        assert_eq!(found("throughput"), (Outcome::Missed, "0.90 ×"));
        assert_eq!(found("10000 peers"), (Outcome::Met, "0.50 s"));
        // Ten times the peers in twenty times the time.
        assert_eq!(found("time for each peer"), (Outcome::Missed, "2.00 ×"));
        assert_eq!(found("memory"), (Outcome::Met, "39.0 MB at its peak, 20.0 MB at rest"));
        assert_eq!(found("a deleted route"), (Outcome::Met, "8.0 ms"));
        assert_eq!(found("a peer joins 5000"), (Outcome::Missed, "5.50 ms"));
        assert_eq!(found("processor beside 5000"), (Outcome::Met, "0.20 %"));
        assert_eq!(found("the state after 300"), (Outcome::Missed, "1 differences, 0 changes by a restart"));
    }
}
