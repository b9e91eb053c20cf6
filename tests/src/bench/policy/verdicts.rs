//! What podwired must reach with policies, and whether it did. Of a run that measured a part there are the verdicts of that part.

use super::Report;
use super::cut::Whose;
use super::packets::{Figure, InForce};
use crate::verdict::Verdict;

/// The most that twice as many policies may cost in terms of twice the cost.
const LINEAR: f64 = 1.3;

/// All of them, in the order of importance.
pub(super) fn all(report: &Report) -> Vec<Verdict> {
    let mut verdicts = Vec::new();
    if let [few, middle, most] = &report.cold[..] {
        let what = format!("{} policies, {} pods: from the last object to in force", middle.policies, middle.pods);
        let measured = format!("{:.3} s", middle.cold_s);
        verdicts.push(Verdict::must(&what, "at most 0.5 s".into(), measured, None, middle.cold_s <= 0.5));
        let growth = (most.cold_s / few.cold_s) / (f64::from(most.policies) / f64::from(few.policies));
        let what = format!("time for each policy, with {} against {}", most.policies, few.policies);
        verdicts.push(Verdict::at_most(&what, Some(growth), LINEAR));
        let what = format!("memory (RSS) there, beside {} nodes", middle.nodes);
        let measured = format!("{:.1} MB at its peak, {:.1} MB at rest", middle.peak_mb, middle.resident_mb);
        verdicts.push(Verdict::must(&what, "at most 60 MB".into(), measured, None, middle.peak_mb <= 60.0));
    }
    if let Some(change) = &report.change {
        for (like, p99) in [("one like others", change.known.p99_ms), ("the first of its kind", change.new.p99_ms)] {
            let what =
                format!("a pod comes that a third of the policies lets in, {like}, beside {}, p99", change.policies);
            verdicts.push(Verdict::must(&what, "at most 2 ms".into(), format!("{p99:.2} ms"), None, p99 <= 2.0));
        }
    }
    // Where all are refused it takes as long as it takes.
    if let Some(cut) = report.cut.iter().find(|cut| cut.whose == Whose::Others) {
        let [existing, new, _] = cut.slowest_ms;
        for (what, slowest, most) in [("a connection that exists", existing, 250.0), ("new connections", new, 50.0)] {
            let what = format!("{what}: from a policy to the last packet, beside {} connections of others", cut.flows);
            let wanted = format!("at most {most} ms");
            verdicts.push(Verdict::must(&what, wanted, format!("{slowest:.1} ms"), None, slowest <= most));
        }
    }
    let of =
        |in_force, fast_path| report.packets.iter().find(|one| one.in_force == in_force && one.fast_path == fast_path);
    for (fast_path, name, most) in [(false, "without the fast path", 1.03), (true, "with the fast path", 1.01)] {
        let (Some(many), Some(none)) = (of(InForce::Many, fast_path), of(InForce::None, fast_path)) else { continue };
        let what = format!("round trip past all policies against none, {name}");
        verdicts.push(Verdict::at_most(&what, many.ratio(Figure::RoundTrip, none), most));
        let what = format!("throughput past all policies against none, {name}");
        verdicts.push(Verdict::at_least(&what, many.ratio(Figure::Throughput, none), 2.0 - most));
    }
    for (against, name, least) in [(InForce::One, "one", 0.98), (InForce::None, "none", 0.94)] {
        let (Some(many), Some(against)) = (of(InForce::Many, false), of(against, false)) else { continue };
        let what = format!("new connections a second past all policies against {name}");
        verdicts.push(Verdict::at_least(&what, many.ratio(Figure::Connections, against), least));
    }
    if let Some(attach) = &report.attach {
        let ratio = attach.with.p50_ms / attach.without.p50_ms;
        verdicts.push(Verdict::at_most("ADD that returns once its policies are in force", Some(ratio), 1.25));
    }
    verdicts
}
