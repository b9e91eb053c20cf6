//! The status that follows from a report, as document and as table.

use std::sync::Arc;
use std::time::Duration;

use super::*;
use crate::cluster::membership;
use crate::cluster::rejected::{Reason, Rejected};
use crate::observe::status::document::Adds;
use crate::observe::status::table::{Paint, render};
use crate::report::outcome::{Mtu, Outcome};

fn report() -> Report {
    let membership = membership::Membership::parse(include_str!("../../../../../conf/nodes.toml")).unwrap();
    let mut report = Report {
        node: "node-1".into(),
        file: Some("/etc/podwire/nodes.toml".into()),
        mtu: Some(Mtu { underlay: 1500, overlay: 1450 }),
        ..Report::default()
    };
    report.add(View::new(&membership, "node-1").map(Arc::new), &Outcome::default(), Duration::from_millis(2));
    report
}

fn probed(answers: [bool; 2], largest: u32) -> Probed {
    let mut probed = Probed { path: Some(Path { largest, wanted: 1500 }), ..Probed::default() };
    for (place, answers) in answers.into_iter().enumerate() {
        let mut echoes = Echoes::default();
        echoes.answered(Duration::from_micros(210));
        (0..3).for_each(|_| if answers { echoes.answered(Duration::from_micros(210)) } else { echoes.unanswered() });
        probed.overlay[place] = Some(echoes);
    }
    probed
}

/// The kinds and subjects of what is wrong.
fn typed(status: &Status) -> Vec<(ProblemKind, Option<&str>)> {
    status.problems.iter().map(|problem| (*problem.kind.known().unwrap(), problem.subject.as_deref())).collect()
}

fn status(report: &Report) -> Status {
    Status::new(report, Snapshot::default(), Instant::now())
}

#[test]
fn a_healthy_node_says_who_it_is_and_that_all_is_ok() {
    let mut report = report();
    report.probes.insert("node-2".into(), probed([true, true], 1500));
    let held = ["10.244.1.2", "10.244.1.3", "fd00:10:244:1::2", "10.244.9.9"].map(|text| text.parse().unwrap());
    let status = Status::new(&report, Snapshot { held: held.to_vec(), ..Snapshot::default() }, Instant::now());
    assert!(status.is_ok(), "{:?}", status.wrong);
    let states: Vec<_> = status.peers.iter().map(|peer| (peer.name.as_str(), peer.state.clone())).collect();
    assert_eq!(states, [("node-2", PeerState::Answers.into()), ("node-3", PeerState::Unknown.into())]);
    let ranges: Vec<_> = status.ranges.iter().map(|range| (range.used, range.free)).collect();
    // The network address, the gateway and the broadcast address are given to no pod.
    assert_eq!(ranges, [(2, 251), (1, (1 << 53) - 1)]);
    let text = render(&status, Paint(false));
    for line in [
        "node        node-1  192.168.50.1  podwired ",
        "membership  file /etc/podwire/nodes.toml: 3 nodes, unchanged for 0 s",
        "overlay     always, VNI 1, UDP port 8472, MTU 1450 (underlay 1500)",
        "node-2  192.168.50.2  10.244.2.0/24, fd00:10:244:2::/64  overlay  answers  0.21 ms     0 %   1500",
        "node-3  192.168.50.3  10.244.3.0/24, fd00:10:244:3::/64  overlay  unknown  -           -     -",
        "10.244.1.0/24       2     251",
        "fd00:10:244:1::/64  1     plenty",
        "OK  ",
    ] {
        assert!(text.contains(line), "no {line:?} in\n{text}");
    }
    assert!(!text.contains('\u{1b}') && render(&status, Paint(true)).contains("\u{1b}[32manswers\u{1b}[0m"));
}

#[test]
fn what_is_wrong_is_a_sentence_each() {
    let mut report = report();
    let refused = "add route 10.244.2.0/24: File exists (17)";
    report.problems = vec![Problem::new(ProblemKind::KernelRefused, "add route 10.244.2.0/24", refused)];
    report.converged = false;
    report.probes.insert("node-2".into(), probed([true, false], 1500));
    report.probes.insert("node-3".into(), probed([true, true], 1400));
    let status = status(&report);
    assert!(!status.is_ok());
    let wanted = [
        "add route 10.244.2.0/24: File exists (17)",
        "peer node-2 (192.168.50.2) does not answer over the overlay (fd00:10:244:2::): \
         `podwired doctor` looks for the cause",
        "the path to node-3 (192.168.50.3) takes packets of 1400 bytes at most, although the underlay's MTU here is \
         1500: the routes to its pods have a smaller MTU meanwhile; set the underlay's MTU to what the path takes, or repair the path",
    ];
    assert_eq!(status.wrong, wanted);
    let kinds = [
        (ProblemKind::KernelRefused, Some("add route 10.244.2.0/24")),
        (ProblemKind::PeerSilent, Some("node-2")),
        (ProblemKind::PathMtuTooSmall, Some("node-3")),
    ];
    assert_eq!(typed(&status), kinds);
    let text = render(&status, Paint(false));
    assert!(wanted.iter().all(|sentence| text.contains(&format!("wrong  {sentence}\n"))), "{text}");
    assert!(text.contains("not converged"));
}

#[test]
fn a_node_that_is_not_joined_says_why() {
    let mut report = report();
    let own = Rejected { node: "node-1".into(), reason: Reason::NoPodCidr };
    report.add(Err(own), &Outcome::default(), Duration::ZERO);
    let status = status(&report);
    assert_eq!((status.converged, status.address, status.membership.nodes), (false, None, 0));
    assert_eq!(status.wrong, ["membership: node node-1: has no pod CIDR"]);
    assert_eq!(typed(&status), [(ProblemKind::EntryRejected, Some("node-1"))]);
    assert_eq!((status.refused.len(), status.refused[0].kind.clone()), (1, ProblemKind::EntryRejected.into()));
    assert!(render(&status, Paint(false)).contains("node-1    has no pod CIDR"));
}

#[test]
fn of_many_silent_peers_a_few_are_named() {
    let mut report = report();
    let Some(Ok(view)) = &mut report.view else { panic!("no view") };
    let mut view = (**view).clone();
    for number in 10..30 {
        let peer = view.peers["node-2"].clone();
        view.peers.insert(format!("node-{number}"), peer);
        report.probes.insert(format!("node-{number}").into(), probed([false, false], 1500));
    }
    report.view = Some(Ok(Arc::new(view)));
    let status = status(&report);
    assert_eq!((status.wrong.len(), status.wrong[5].as_str()), (6, "15 more peers do not answer"));
    assert!(status.problems.iter().all(|problem| problem.kind == ProblemKind::PeerSilent));
    assert!(status.converged && !status.is_ok());
}

#[test]
fn a_membership_that_is_missing_or_unreadable_is_a_problem_of_its_kind() {
    let mut report = Report { file: Some("/nodes".into()), ..Report::default() };
    assert_eq!(typed(&status(&report)), [(ProblemKind::MembershipPending, None)]);
    report.feed.fails("read /nodes: no".into());
    let status = status(&report);
    let kinds = [(ProblemKind::MembershipUnreadable, Some("/nodes")), (ProblemKind::MembershipPending, None)];
    assert_eq!(typed(&status), kinds);
    assert_eq!(status.wrong[0], "read /nodes: no; the last membership that could be read is still used");
    assert_eq!(status.wrong[1], "the membership has not been read yet");
}

#[test]
fn the_fast_path_is_a_sentence_for_people_and_a_state_for_programs() {
    let mut report = report();
    for (state, text, json) in [
        (FastPathState::Unknown, "", serde_json::json!({"state": "unknown"})),
        (FastPathState::On { devices_left_out: 0 }, "on", serde_json::json!({"state": "on", "devices_left_out": 0})),
        (FastPathState::Off { why: "no".into() }, "off: no", serde_json::json!({"state": "off", "why": "no"})),
    ] {
        report.fast_path = state;
        let written = serde_json::to_value(status(&report)).unwrap();
        assert_eq!((&written["fast_path"], &written["fast_path_state"]), (&text.into(), &json));
    }
    report.fast_path = FastPathState::On { devices_left_out: 2 };
    assert_eq!(status(&report).fast_path, "on, except at 2 devices without a clsact qdisc, until they are made again");
}

#[test]
fn a_status_is_read_as_it_was_written() {
    let mut report = report();
    report.probes.insert("node-2".into(), probed([true, false], 1400));
    let mut status = status(&report);
    status.adds = Some(Adds { count: 1, seconds: 0.5, within_microseconds: [(1000, 1)].into() });
    status.guards.insert("pod-spoofing".into(), 3);
    let text = serde_json::to_string(&status).unwrap();
    assert_eq!(serde_json::from_str::<Status>(&text).unwrap(), status);
    // So is that of an older version, which has fewer keys.
    let mut older: serde_json::Value = serde_json::from_str(&text).unwrap();
    let keys = older.as_object_mut().unwrap();
    assert!(["problems", "fast_path_state"].iter().all(|key| keys.remove(*key).is_some()));
    assert_eq!(serde_json::from_value::<Status>(older).unwrap().wrong, status.wrong);
}
