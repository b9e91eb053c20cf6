//! Whether the daemon is alive and whether the node is ready: pure judgement over the report.

use std::io;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use thiserror::Error;

use crate::report::Report;
use crate::report::policies::PolicyState;
use crate::report::problem::{Problem, ProblemKind};

/// A daemon without a reconcile for so long hangs: there is one at least every 30 s, and after every change.
const HANGS_AFTER: Duration = Duration::from_secs(180);

/// The daemon hangs.
#[derive(Debug, PartialEq, Eq, Error)]
#[error("no reconcile for {0} s: the daemon hangs")]
pub(crate) struct Hangs(u64);

/// Why pods cannot be started on this node.
#[derive(Debug, Error)]
pub(crate) enum NotReady {
    /// The first full sync is not over.
    #[error("not converged: the first full sync is not over")]
    Starting,
    /// The kernel or the conflist is not as desired.
    #[error("not converged: {0}")]
    NotConverged(Problem),
    /// What policies follow from is not known yet.
    #[error("the NetworkPolicies are not in force: pods, namespaces and policies have not all been read")]
    PoliciesUnread,
    /// The policies have not been put in force, or the kernel does not have the last change of them.
    #[error("{0}")]
    Policies(Problem),
    /// The conflist is not in its place.
    #[error("the conflist {}: {error}", path.display())]
    Conflist {
        /// Its place.
        path: PathBuf,
        /// What the kernel says.
        error: io::Error,
    },
}

/// Whether the process does its work: a reason to restart it where it does not.
///
/// # Errors
/// When it does not.
pub(crate) fn alive(report: &Report, now: Instant) -> Result<(), Hangs> {
    // Before the first membership a restarted daemon would know no better.
    if report.last_sync.is_none() && report.feed.source.is_none() {
        return Ok(());
    }
    let Some(last) = report.last_sync.or(report.started) else { return Ok(()) };
    let age = now.saturating_duration_since(last);
    if age > HANGS_AFTER { Err(Hangs(age.as_secs())) } else { Ok(()) }
}

/// Whether pods can be started on this node as the cluster wants: the kernel is as desired, the policies are in force where they shall
/// be, and the conflist is there. Where they are and cannot be read any more, what was in force stays, and the node ready.
///
/// # Errors
/// Why not.
pub(crate) fn ready(report: &Report) -> Result<(), NotReady> {
    if !report.converged {
        let own = report.view.as_ref().and_then(|view| view.as_ref().err()).map(Problem::from);
        let problem = own.or_else(|| report.problems.first().cloned());
        return Err(problem.map_or(NotReady::Starting, NotReady::NotConverged));
    }
    if report.settings.network_policy {
        policies(report.policies.as_ref())?;
    }
    let path = report.conflist.clone();
    std::fs::metadata(&path).map(drop).map_err(|error| NotReady::Conflist { path, error })
}

fn policies(state: Option<&PolicyState>) -> Result<(), NotReady> {
    match state {
        Some(state) if state.in_force => Ok(()),
        state => {
            let of_all = |problem: &&Problem| problem.kind == ProblemKind::PoliciesNotInForce;
            let problem = state.and_then(|state| state.all_problems().find(of_all));
            Err(problem.cloned().map_or(NotReady::PoliciesUnread, NotReady::Policies))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_daemon_without_a_reconcile_is_not_alive() {
        let now = Instant::now();
        let mut report = Report { started: Some(now), ..Report::default() };
        alive(&report, now + Duration::from_secs(3600)).unwrap();
        report.feed.comes_from(crate::report::feed::Source::Kubernetes);
        alive(&report, now + Duration::from_secs(170)).unwrap();
        assert!(alive(&report, now + Duration::from_secs(181)).is_err());
        report.last_sync = Some(now + Duration::from_secs(100));
        alive(&report, now + Duration::from_secs(181)).unwrap();
        let hangs = alive(&report, now + Duration::from_secs(300)).unwrap_err();
        assert_eq!((hangs.to_string().as_str(), hangs), ("no reconcile for 200 s: the daemon hangs", Hangs(200)));
    }

    #[test]
    fn ready_is_converged_with_a_conflist() {
        let mut report = Report { conflist: "/nonexistent/10-podwire.conflist".into(), ..Report::default() };
        let why = |report: &Report| ready(report).unwrap_err().to_string();
        assert_eq!(why(&report), "not converged: the first full sync is not over");
        report.problems = vec![Problem::general(ProblemKind::KernelRefused, "add route: no")];
        assert_eq!(why(&report), "not converged: add route: no");
        (report.problems, report.converged) = (Vec::new(), true);
        assert!(matches!(ready(&report).unwrap_err(), NotReady::Conflist { .. }));
        let missing = why(&report);
        assert!(missing.starts_with("the conflist /nonexistent/10-podwire.conflist: No such file"), "{missing}");
        report.conflist = "/proc/self/stat".into();
        ready(&report).unwrap();
    }

    #[test]
    fn ready_is_with_the_policies_in_force_where_they_shall_be() {
        let mut report = Report { conflist: "/proc/self/stat".into(), converged: true, ..Report::default() };
        report.settings.network_policy = true;
        let why = |report: &Report| ready(report).unwrap_err().to_string();
        let unread = "the NetworkPolicies are not in force: pods, namespaces and policies have not all been read";
        assert_eq!(why(&report), unread);
        let problems = [(ProblemKind::PolicyRejected, "of one"), (ProblemKind::PoliciesNotInForce, "list pods: 403")];
        let problems = problems.map(|(kind, text)| Problem::general(kind, text)).into();
        report.policies = Some(PolicyState { of_objects: problems, ..PolicyState::default() });
        assert_eq!(why(&report), "list pods: 403");
        // What was in force stays, whatever is wrong with the API.
        report.policies.as_mut().unwrap().in_force = true;
        ready(&report).unwrap();
    }
}
