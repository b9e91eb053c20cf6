//! `podwired doctor`: what keeps pods from talking, each finding with its cause and the command that fixes it.
//!
//! It looks at the node itself and probes the peers; the daemon is asked for its status and the list of its policies. Each file in `doctor/`
//! examines one subject: `look` reads the node, `judge` is pure. A finding's group (`check`) is independent of its file.
//! What may not live here: any change of the node.
//!
//! To add a finding: a variant of `FindingKind` with its public name, and its arm in `check()` (`doctor/finding.rs`); `look`,
//! `judge` and unit tests in the file of its subject, or in a new one beside it; for a new file `mod` and the call in
//! [`examine`], below; where it follows from another finding, `drop_consequences`, below; where it explains a problem of the
//! daemon, `explains` (`doctor/daemon.rs`). A scene in `tests/netns/operations/doctor.rs` (when that is full, in a file beside it,
//! named in `tests/netns/operations.rs`); limits of the whole machine: `tests/stock_kernel/limits.rs`. A row below its check in
//! `docs/troubleshooting.md`; for a new check also the row of "Findings of the doctor" and a section with a symptom
//! (`tests/packaging/documentation.rs` fails otherwise). A line in `CHANGELOG.md`.

pub mod error;
pub mod finding;

mod addresses;
mod conflict;
mod conflists;
mod daemon;
mod devices;
mod diagnosis;
mod dropped;
mod examined;
mod fix;
mod forward_policy;
mod ledger;
mod leftovers;
mod limits;
mod plugin_directory;
mod policies;
mod reachability;
mod sysctls;

use podwire_kernel::Socket;

use crate::args;
use crate::observe::status::client;
use crate::observe::status::table::Paint;
use crate::report::problem::ProblemKind;
use error::{Error, Result};
use examined::Examined;
use finding::{Finding, FindingKind, LISTED};

/// Examines the node.
///
/// # Errors
/// When the files that the command line names cannot be read.
pub fn examine(arguments: &args::Doctor) -> Result<Vec<Finding>> {
    let mut findings = Vec::new();
    let node = examined_node(arguments, &mut findings)?;
    let mut record = |found: Result<Vec<Finding>>| match found {
        Ok(found) => findings.extend(found),
        Err(why) => {
            let fix = match why {
                Error::Ledger(_) | Error::Directory { .. } | Error::Policies(_) => {
                    "do what the sentence says, then run `podwired doctor` again"
                }
                _ => "run `podwired doctor` as root, with CAP_NET_ADMIN and CAP_NET_RAW",
            };
            findings.push(Finding::general(FindingKind::ExaminationFailed, why.to_string(), fix));
        }
    };
    match Socket::route() {
        Err(error) => record(Err(error.into())),
        Ok(mut socket) => {
            record(addresses::look(&node, &mut socket).map_err(Error::from));
            record(devices::look(&node, &mut socket).map_err(Error::from));
            record(sysctls::look(&node, &mut socket).map_err(Error::from));
            record(leftovers::look(&node, &mut socket));
            record(limits::look(&node, &mut socket).map_err(Error::from));
            record(policies::look(&node, &mut socket));
            if let Some(cluster) = &node.cluster {
                record(reachability::look(cluster, node.port, &mut socket));
            }
        }
    }
    match Socket::netfilter() {
        Err(error) => record(Err(error.into())),
        Ok(mut socket) => {
            record(forward_policy::look(&node, &mut socket).map_err(Error::from));
            record(dropped::look(&node, &mut socket).map_err(Error::from));
        }
    }
    record(conflists::look(&node));
    record(Ok(ledger::look()));
    record(Ok(node.status.as_ref().and_then(conflict::look).into_iter().collect()));
    Ok(limit_per_kind(drop_consequences(findings)))
}

/// The node, as the files of the command line describe it, or the daemon, with what the daemon says is wrong.
fn examined_node(arguments: &args::Doctor, findings: &mut Vec<Finding>) -> Result<Examined> {
    if let Some(examined) = Examined::of_files(arguments)? {
        return Ok(examined);
    }
    match client::ask() {
        Ok(status) => {
            let examined = Examined::of_status(status, arguments);
            findings.extend(examined.status.iter().flat_map(|status| daemon::judge(status, &examined.source)));
            Ok(examined)
        }
        Err(why) => {
            let fix = "systemctl restart podwired; journalctl -u podwired -n 50   # with --nodes FILE --node-name NAME the \
                       doctor examines the peers meanwhile";
            findings.push(Finding::general(FindingKind::DaemonSilent, why.to_string(), fix));
            Ok(Examined::unknown(arguments))
        }
    }
}

/// Without the findings that follow from another one: what fixes that fixes them.
fn drop_consequences(mut findings: Vec<Finding>) -> Vec<Finding> {
    let kinds: Vec<_> = findings.iter().map(|finding| finding.kind).collect();
    let has = |wanted: &[FindingKind]| kinds.iter().any(|kind| wanted.contains(kind));
    // What the daemon has not made yet, or is kept from making.
    let unmade = has(&[FindingKind::DaemonSilent, FindingKind::DaemonProblem]);
    let bypass =
        [FindingKind::ForeignAddress, FindingKind::ForeignRoute, FindingKind::ForeignVxlanPort, FindingKind::Conflict];
    let bypassed = has(&bypass) || unmade;
    // Whom the membership leaves out, or leaves out here, sends what is dropped.
    let left_out = has(&[
        FindingKind::MembershipUnreadable,
        FindingKind::NotInMembership,
        FindingKind::EntryRejected,
        FindingKind::ClusterRangeRejected,
    ]);
    // Where the interface leaves too little for pods, so does every path.
    let is_reported = |wanted: ProblemKind| {
        findings.iter().any(|finding| finding.problem.as_ref().is_some_and(|problem| *problem == wanted))
    };
    let too_small = is_reported(ProblemKind::MtuTooSmall);
    findings.retain(|Finding { kind, problem, .. }| match kind {
        FindingKind::LargePacketsLost | FindingKind::LargePacketsFragmented => !too_small,
        FindingKind::DaemonProblem => !problem
            .as_ref()
            .and_then(|problem| problem.known())
            .is_some_and(|problem| kinds.iter().any(|kind| daemon::explains(*kind, *problem))),
        FindingKind::ForwardingOff => !unmade,
        FindingKind::SourceUnlisted | FindingKind::SenderUnknown => !left_out,
        FindingKind::OverlayMissing | FindingKind::OverlayDown | FindingKind::OverlayBypassed => !bypassed,
        _ => true,
    });
    findings
}

/// The first findings of each kind, and how many more there were.
fn limit_per_kind(findings: Vec<Finding>) -> Vec<Finding> {
    let mut short: Vec<Finding> = Vec::new();
    let mut more: Vec<(FindingKind, usize)> = Vec::new();
    for finding in findings {
        if short.iter().filter(|other| other.kind == finding.kind).count() < LISTED {
            short.push(finding);
            continue;
        }
        match more.iter_mut().find(|(kind, _)| *kind == finding.kind) {
            Some((_, count)) => *count += 1,
            None => more.push((finding.kind, 1)),
        }
    }
    short.extend(more.into_iter().map(|(kind, count)| {
        let cause = format!("{count} more findings of this kind");
        Finding::general(kind, cause, "fix those above, then run `podwired doctor` again")
    }));
    short
}

/// The findings for people. Pure.
pub fn render(findings: &[Finding], paint: Paint) -> String {
    if findings.is_empty() {
        return format!("{}  no findings\n", paint.good("OK"));
    }
    let one = |finding: &Finding| {
        format!("{}  {}\n    fix: {}\n", paint.bad(finding.kind.name()), finding.cause, paint.head(&finding.fix))
    };
    findings.iter().map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_follows_from_another_finding_is_left_out() {
        use FindingKind::{
            ConflistNoDirectory, ConflistOutranked, DaemonProblem, DaemonSilent, EntryRejected, ForeignRoute,
            ForeignVxlanPort, ForwardingOff, OverlayBypassed, PeerDown, SenderUnknown, SourceUnlisted,
        };
        let left = |given: &[(FindingKind, Option<ProblemKind>)]| {
            let finding = |(kind, problem): &(FindingKind, Option<ProblemKind>)| Finding {
                problem: problem.map(Into::into),
                ..Finding::general(*kind, "", "")
            };
            drop_consequences(given.iter().map(finding).collect())
                .into_iter()
                .map(|finding| finding.kind)
                .collect::<Vec<_>>()
        };
        let own = |kind| (kind, None);
        let reported = |problem| (DaemonProblem, Some(problem));
        assert_eq!(left(&[own(DaemonSilent), own(ForwardingOff), own(OverlayBypassed)]), [DaemonSilent]);
        assert_eq!(left(&[reported(ProblemKind::PortInUse), own(ForeignVxlanPort)]), [ForeignVxlanPort]);
        assert_eq!(
            left(&[reported(ProblemKind::ForeignObject), own(ForeignRoute), own(OverlayBypassed)]),
            [ForeignRoute]
        );
        let conflist = reported(ProblemKind::ConflistNotWritten);
        assert_eq!(left(&[conflist, own(ConflistNoDirectory)]), [ConflistNoDirectory]);
        assert_eq!(left(&[conflist, own(ConflistOutranked)]), [DaemonProblem, ConflistOutranked]);
        let address = reported(ProblemKind::NodeAddressMissing);
        assert_eq!(left(&[address, own(FindingKind::NodeAddressMissing)]), [FindingKind::NodeAddressMissing]);
        let small = reported(ProblemKind::MtuTooSmall);
        assert_eq!(left(&[small, own(FindingKind::LargePacketsLost)]), [DaemonProblem]);
        // Another problem is none of these.
        let other = reported(ProblemKind::KernelRefused);
        assert_eq!(left(&[other, own(ForeignRoute)]), [DaemonProblem, ForeignRoute]);
        assert_eq!(left(&[own(EntryRejected), own(SourceUnlisted), own(SenderUnknown)]), [EntryRejected]);
        let independent = [SourceUnlisted, SenderUnknown, ForwardingOff, OverlayBypassed, PeerDown];
        assert_eq!(left(&independent.map(own)), independent);
    }

    #[test]
    fn of_many_findings_of_a_kind_the_first_are_listed_and_the_others_counted() {
        let peer = |number: u32| Finding::new(FindingKind::PeerDown, number.to_string(), number.to_string(), "x");
        let other = Finding::general(FindingKind::UnderlayDown, "o", "y");
        let short = limit_per_kind([(0..25).map(peer).collect(), vec![other]].concat());
        assert_eq!(short.len(), 12);
        assert_eq!((short[9].subject.as_deref(), short[10].kind), (Some("9"), FindingKind::UnderlayDown));
        assert_eq!(
            (short[11].kind, short[11].cause.as_str()),
            (FindingKind::PeerDown, "15 more findings of this kind")
        );
        let text = render(&short, Paint(false));
        assert!(text.starts_with("peer-down  0\n    fix: x\n"), "{text}");
        assert_eq!(render(&[], Paint(false)), "OK  no findings\n");
    }
}
