//! What the daemon says is wrong: those of its problems that nothing else here looks at with more detail. Pure.

use super::examined::Source;
use super::finding::{Finding, FindingKind};
use super::fix::command;
use crate::observe::status::document::{ProblemStatus, Status};
use crate::report::named::Documented;
use crate::report::problem::ProblemKind;

/// The findings out of the problems of a status.
pub(super) fn judge(status: &Status, source: &Source) -> Vec<Finding> {
    status.problems.iter().filter_map(|problem| of_problem(problem, status.converged, source)).collect()
}

fn of_problem(problem: &ProblemStatus, converged: bool, source: &Source) -> Option<Finding> {
    let (kind, fix) = match problem.kind {
        Documented::Known(ProblemKind::MembershipUnreadable) => {
            let fix = match source {
                Source::File(path) => command!("$EDITOR {}   # podwired reads it again by itself", path),
                _ => "kubectl get --raw /readyz   # podwired asks again by itself".into(),
            };
            (FindingKind::MembershipUnreadable, fix)
        }
        Documented::Known(ProblemKind::SandboxesUnlisted) => {
            let fix = "grep -s ndpoint /var/lib/kubelet/config.yaml /var/lib/kubelet/kubeadm-flags.env   # give podwired this \
                       socket as --cri-socket. Release a dead pod by `ip link delete DEVICE`";
            (FindingKind::SandboxesUnlisted, fix.into())
        }
        Documented::Known(ProblemKind::RuntimeSilent) => {
            let fix = "grep -s ndpoint /var/lib/kubelet/config.yaml /var/lib/kubelet/kubeadm-flags.env   # start the runtime of \
                       this socket, or give podwired the socket as --cri-socket";
            (FindingKind::RuntimeSilent, fix.into())
        }
        // Looked at by `addresses`, `reachability`, `leftovers`, `forward_policy` and `conflict`.
        Documented::Known(
            ProblemKind::NotInMembership
            | ProblemKind::EntryRejected
            | ProblemKind::ClusterRangeRejected
            | ProblemKind::PeerSilent
            | ProblemKind::PathMtuTooSmall
            | ProblemKind::StaleAddress
            | ProblemKind::ForwardPolicyDrop
            | ProblemKind::Conflict,
        ) => return None,
        Documented::Known(_) if converged => return None,
        // Nothing here looks at what a newer daemon calls wrong.
        Documented::Known(_) | Documented::Unknown(_) => {
            let fix = "fix what the sentence names: podwired tries again by itself, `podwired status` shows when";
            (FindingKind::DaemonProblem, fix.into())
        }
    };
    let finding = Finding::general(kind, &problem.text, fix);
    Some(Finding { subject: problem.subject.clone(), problem: Some(problem.kind.clone()), ..finding })
}

/// Whether a finding of the doctor's own explains a problem of the daemon.
pub(super) fn explains(finding: FindingKind, problem: ProblemKind) -> bool {
    match problem {
        ProblemKind::PortInUse => finding == FindingKind::ForeignVxlanPort,
        ProblemKind::ForeignObject => matches!(finding, FindingKind::ForeignAddress | FindingKind::ForeignRoute),
        ProblemKind::NodeAddressMissing => finding == FindingKind::NodeAddressMissing,
        ProblemKind::ConflistNotWritten => finding == FindingKind::ConflistNoDirectory,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::problem::Problem;

    #[test]
    fn an_unreadable_membership_is_found_though_the_node_is_converged_and_other_problems_only_where_it_is_not() {
        let problem = |kind| Problem::new(kind, "it", "a sentence").into();
        let status = |converged| Status {
            converged,
            problems: vec![
                problem(ProblemKind::MembershipUnreadable),
                problem(ProblemKind::ForeignDevice),
                problem(ProblemKind::PeerSilent),
            ],
            ..Status::default()
        };
        let file = Source::File("/nodes".into());
        let found = judge(&status(false), &file);
        let kinds: Vec<_> = found.iter().map(|finding| (finding.kind, finding.problem.clone())).collect();
        let wanted = [
            (FindingKind::MembershipUnreadable, Some(ProblemKind::MembershipUnreadable.into())),
            (FindingKind::DaemonProblem, Some(ProblemKind::ForeignDevice.into())),
        ];
        assert_eq!(kinds, wanted);
        assert!(found.iter().all(|finding| finding.subject.as_deref() == Some("it")));
        assert!(found[0].fix.starts_with("$EDITOR /nodes "), "{}", found[0].fix);
        let [unreadable] = judge(&status(true), &Source::Kubernetes).try_into().unwrap();
        assert!(unreadable.fix.starts_with("kubectl get --raw /readyz"), "{}", unreadable.fix);
    }
    #[test]
    fn what_a_newer_daemon_calls_wrong_is_found_under_its_own_name() {
        let newer = serde_json::json!({"kind": "tunnel-frozen", "subject": null, "text": "the tunnel is frozen"});
        let problems = vec![serde_json::from_value(newer).unwrap()];
        let [found] =
            judge(&Status { converged: true, problems, ..Status::default() }, &Source::Kubernetes).try_into().unwrap();
        assert_eq!((found.kind, found.cause.as_str()), (FindingKind::DaemonProblem, "the tunnel is frozen"));
        assert_eq!(serde_json::to_value(&found).unwrap()["problem"], "tunnel-frozen");
    }
}
