//! Whether the daemon is alive and whether the node is ready: pure judgement over the report.

use std::path::Path;
use std::time::{Duration, Instant};

use crate::report::Report;

/// A daemon whose loop has not come round for so long stands still: it does at least every 30 s, and after every change.
const STANDS_STILL_AFTER: Duration = Duration::from_secs(180);

/// Whether the process does its work: a reason to start it again where it does not.
///
/// # Errors
/// Why not.
pub(crate) fn alive(report: &Report, now: Instant) -> Result<(), String> {
    // Nobody has said yet who the nodes are, and a daemon that were started again would know no better.
    if report.last_pass.is_none() && report.feed.source.is_none() {
        return Ok(());
    }
    let Some(last) = report.last_pass.or(report.started) else { return Ok(()) };
    let age = now.saturating_duration_since(last);
    if age <= STANDS_STILL_AFTER {
        return Ok(());
    }
    Err(format!("no pass for {} s: the daemon stands still", age.as_secs()))
}

/// Whether pods can be started on this node: the kernel is as the cluster says, and the conflist is there.
///
/// # Errors
/// Why not.
pub(crate) fn ready(report: &Report) -> Result<(), String> {
    if !report.converged {
        let own = report.view.as_ref().and_then(|view| view.as_ref().err()).map(ToString::to_string);
        let why = own.or_else(|| report.problems.first().cloned());
        return Err(format!("not converged: {}", why.as_deref().unwrap_or("the first pass is not over")));
    }
    conflist(&report.conflist)
}

fn conflist(path: &Path) -> Result<(), String> {
    std::fs::metadata(path).map(drop).map_err(|error| format!("the conflist {}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_loop_that_does_not_come_round_is_not_alive() {
        let now = Instant::now();
        let mut report = Report { started: Some(now), ..Report::default() };
        alive(&report, now + Duration::from_secs(3600)).unwrap();
        report.feed.comes_from(crate::report::Source::Kubernetes);
        alive(&report, now + Duration::from_secs(170)).unwrap();
        assert!(alive(&report, now + Duration::from_secs(181)).is_err());
        report.last_pass = Some(now + Duration::from_secs(100));
        alive(&report, now + Duration::from_secs(181)).unwrap();
        let why = alive(&report, now + Duration::from_secs(300)).unwrap_err();
        assert_eq!(why, "no pass for 200 s: the daemon stands still");
    }

    #[test]
    fn ready_is_converged_with_a_conflist() {
        let mut report = Report { conflist: "/nonexistent/10-podwire.conflist".into(), ..Report::default() };
        assert_eq!(ready(&report).unwrap_err(), "not converged: the first pass is not over");
        report.problems = vec!["add route: no".into()];
        assert_eq!(ready(&report).unwrap_err(), "not converged: add route: no");
        (report.problems, report.converged) = (Vec::new(), true);
        let why = ready(&report).unwrap_err();
        assert!(why.starts_with("the conflist /nonexistent/10-podwire.conflist: No such file"), "{why}");
        report.conflist = "/proc/self/stat".into();
        ready(&report).unwrap();
    }
}
