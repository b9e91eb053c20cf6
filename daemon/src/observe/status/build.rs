//! The status document out of the report and of what was looked up just now. Pure: time is handed in.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Instant;

use ipnetwork::IpNetwork;
use podwire_attachment::ledger::Record;
use podwire_conf::Range;

use crate::cluster::rejected::Rejected;
use crate::cluster::settings::Overlay;
use crate::cluster::view::{self, View};
use crate::datapath::policy::refused::Refused;
use crate::node::forward_policies::Cut;
use crate::node::stale_addresses::{self, StalePod};
use crate::observe::snapshot::Snapshot;
use crate::observe::status::document::{
    Daemon, Membership, NetworkPolicy, PeerRoute, PeerState, PeerStatus, Probe, Range as RangeStatus, Reach,
    RefusedPod, RejectedEntry, Runtime, Status,
};
use crate::report::Report;
use crate::report::change_kind::Counts;
use crate::report::container_runtime::ContainerRuntime;
use crate::report::feed::Source;
use crate::report::outcome::FastPathState;
use crate::report::policies::PolicyState;
use crate::report::probes::{self, Echoes, Path, Probed};
use crate::report::problem::{Problem, ProblemKind};

/// Problems of one kind that are listed; the others are counted.
const LISTED: usize = 5;

/// Numbers of JSON are exact up to here.
const LARGEST: u128 = 1 << 53;

impl Status {
    /// The status after the last reconcile, with what was found on the node just now.
    pub fn new(report: &Report, snapshot: Snapshot, now: Instant) -> Self {
        let view = report.view.as_ref().and_then(|view| view.as_ref().ok());
        let age = |then: Instant| now.saturating_duration_since(then);
        let counts = |counts: &Counts| counts.named().map(|(name, count)| (name.to_owned(), count)).collect();
        let peers = view.map(|view| peers(view, report)).unwrap_or_default();
        let rejected = match &report.view {
            Some(Ok(view)) => view.rejected.as_slice(),
            Some(Err(own)) => std::slice::from_ref(own),
            None => &[],
        };
        let entry = |rejected: &Rejected| {
            let Problem { kind, subject, .. } = Problem::from(rejected);
            RejectedEntry { node: subject.unwrap_or_default(), why: rejected.reason.to_string(), kind: kind.into() }
        };
        let problems = problems(report, &peers, &snapshot, now);
        Self {
            version: env!("CARGO_PKG_VERSION").into(),
            node: report.node.clone(),
            address: view.map(|view| view.own.address),
            pod_cidrs: view.map(|view| view.own.pod_cidrs.clone()).unwrap_or_default(),
            cluster_cidrs: view.map(|view| view.cluster_cidrs.clone()).unwrap_or_default(),
            mode: report.settings.overlay.to_string(),
            vni: report.settings.vni,
            port: report.settings.port,
            mtu: report.mtu.map(|mtu| mtu.overlay),
            underlay_mtu: report.mtu.map(|mtu| mtu.underlay),
            network_policy: report.policies.as_ref().map(|policies| network_policy(policies, &snapshot)),
            fast_path: fast_path(&report.fast_path),
            fast_path_state: report.fast_path.clone().into(),
            conflist: report.conflist.display().to_string(),
            plugin_directory: report.plugin_directory.clone(),
            membership: Membership {
                source: report.file.as_ref().map_or("kubernetes".into(), |file| format!("file {}", file.display())),
                file: report.file.clone(),
                connected: report.feed.connected,
                stored: report.feed.source == Some(Source::Stored),
                age_seconds: report.view_since.map_or(0, |then| age(then).as_secs()),
                nodes: view.map_or(0, |view| view.peers.len() + 1),
            },
            converged: report.converged,
            wrong: problems.iter().map(|problem| problem.text.clone()).collect(),
            problems: problems.into_iter().map(Into::into).collect(),
            daemon: Daemon {
                age_seconds: report.started.map_or(0, |then| age(then).as_secs()),
                last_pass_age_seconds: report.last_sync.map(|then| age(then).as_secs_f64()),
                last_pass_seconds: report.sync_took.as_secs_f64(),
                passes: report.syncs,
                short_passes: report.incremental_syncs,
                changes: counts(&report.made),
                repairs: counts(&report.repaired),
            },
            peers,
            refused: rejected.iter().map(entry).collect(),
            ranges: view.map(|view| ranges(view, &snapshot.held)).unwrap_or_default(),
            guards: snapshot.guards,
            adds: snapshot.adds,
            runtime: runtime(&report.runtime),
        }
    }
}

fn runtime(ContainerRuntime { socket, why, name, sandboxes, failure, problem: _ }: &ContainerRuntime) -> Runtime {
    let (socket, why, name, failure) = (socket.clone(), why.clone(), name.clone(), failure.clone());
    Runtime { socket, why, name, sandboxes: *sandboxes, failure }
}

fn network_policy(state: &PolicyState, snapshot: &Snapshot) -> NetworkPolicy {
    let [refused_from_pods, refused_to_pods] = snapshot.refused;
    let PolicyState { in_force, policies, cluster_policies, isolated, .. } = *state;
    NetworkPolicy {
        in_force,
        policies,
        cluster_policies,
        isolated_pods: isolated,
        refused_from_pods,
        refused_to_pods,
        refused_pods: by_pod(&snapshot.refused_by_address, &snapshot.attachments),
        audited_pods: by_pod(&snapshot.audited_by_address, &snapshot.attachments),
    }
}

/// What was refused of each pod: the sum of its addresses.
fn by_pod(by_address: &BTreeMap<IpAddr, Refused>, attachments: &[Record]) -> Vec<RefusedPod> {
    let name = |address: &IpAddr| {
        let holds = |record: &&Record| record.addresses.iter().any(|held| held.address == *address);
        attachments.iter().find(holds)?.pod.as_ref()
    };
    let mut pods: Vec<RefusedPod> = Vec::new();
    for (address, refused) in by_address {
        let (namespace, pod) = name(address).map(|pod| (pod.namespace.clone(), pod.name.clone())).unzip();
        let same = |other: &RefusedPod| pod.is_some() && (&other.namespace, &other.pod) == (&namespace, &pod);
        let place = pods.iter().position(same);
        let place = place.unwrap_or_else(|| {
            pods.push(RefusedPod { namespace, pod, ..RefusedPod::default() });
            pods.len() - 1
        });
        let Some(pod) = pods.get_mut(place) else { continue };
        pod.addresses.push(*address);
        pod.from_pod += refused.from_pod;
        pod.to_pod += refused.to_pod;
    }
    pods.sort_by_key(|pod| Reverse(pod.from_pod + pod.to_pod));
    pods
}

/// The state of the fast path, for people.
fn fast_path(state: &FastPathState) -> String {
    match state {
        FastPathState::Unknown => String::new(),
        FastPathState::On { devices_left_out: 0 } => "on".into(),
        FastPathState::On { devices_left_out } => {
            format!("on, except at {devices_left_out} devices without a clsact qdisc, until they are made again")
        }
        FastPathState::Off { why } => format!("off: {why}"),
    }
}

fn peers(view: &View, report: &Report) -> Vec<PeerStatus> {
    let peer = |(name, peer): (&String, &view::Peer)| {
        let probed = report.probes.get(name.as_str());
        let probe = |(address, echoes): (IpAddr, Echoes)| Probe {
            address,
            round_trip_microseconds: echoes.round_trip(),
            loss_percent: echoes.loss_percent(),
        };
        PeerStatus {
            name: name.clone(),
            address: peer.address,
            pod_cidrs: peer.pod_cidrs.clone(),
            routes: peer.pod_cidrs.iter().map(|cidr| route(report, peer, *cidr)).collect(),
            state: state(probed).into(),
            probes: echoes(view, peer, report, probed).map(probe).collect(),
            path_mtu: probed.and_then(|probed| probed.path).map(|path| path.largest),
        }
    };
    view.peers.iter().map(peer).collect()
}

/// How packets get to a prefix of a peer's pods, as `datapath::overlay::desired` has it.
fn route(report: &Report, peer: &view::Peer, pod_cidr: IpNetwork) -> PeerRoute {
    let overlay = report.settings.overlay;
    let plain = overlay != Overlay::Always && report.link.holds(peer.address) && peer.carries_plain(pod_cidr.ip());
    let by = match (plain, overlay) {
        (true, _) => Reach::Plain,
        (false, Overlay::Never) => Reach::None,
        (false, Overlay::Always | Overlay::Auto) => Reach::Overlay,
    };
    PeerRoute { pod_cidr, by: by.into() }
}

/// What the probes of each address of a peer that is asked have found.
fn echoes<'a>(
    view: &'a View,
    peer: &'a view::Peer,
    report: &'a Report,
    probed: Option<&'a Probed>,
) -> impl Iterator<Item = (IpAddr, Echoes)> {
    let addresses = probes::asked(&view.own, peer, report.settings.overlay).into_iter();
    addresses.filter_map(move |address| Some((address, probed?.overlay[usize::from(address.is_ipv6())]?)))
}

fn state(probed: Option<&Probed>) -> PeerState {
    let answers: Vec<_> =
        probed.into_iter().flat_map(|probed| probed.overlay.iter().flatten().map(Echoes::answers)).collect();
    if answers.contains(&Some(false)) {
        PeerState::Silent
    } else if answers.is_empty() || answers.contains(&None) {
        PeerState::Unknown
    } else {
        PeerState::Answers
    }
}

/// What is wrong: what the last reconcile could not do, the membership and its rejected entries, repairs that are undone,
/// peers that the probes do not reach, and pods that no peer reaches.
fn problems(report: &Report, peers: &[PeerStatus], snapshot: &Snapshot, now: Instant) -> Vec<Problem> {
    let mut problems = report.problems.clone();
    problems.extend(membership(report));
    problems.extend(report.is_in_conflict(now).then(|| conflict(report)));
    let silent = peers.iter().filter(|peer| peer.state == PeerState::Silent).map(|peer| silent(peer, report));
    listed(&mut problems, silent, "more peers do not answer");
    let narrow = peers.iter().filter_map(|peer| path_too_small(peer, report));
    listed(&mut problems, narrow, "more peers are behind a path that takes less than the MTU");
    if let Some(Ok(view)) = &report.view {
        let stale = stale_addresses::of(&snapshot.attachments, &view.own.pod_cidrs);
        let stale = stale.iter().map(StalePod::problem);
        listed(&mut problems, stale, "more pods have addresses that no other node reaches");
        let cut = snapshot.policies.cut(&view.cluster_cidrs);
        listed(&mut problems, cut.iter().map(Cut::problem), "more chains drop what pods send");
    }
    problems.extend(report.runtime.problem.clone());
    let policies = report.policies.iter().flat_map(|policies| policies.all_problems().cloned());
    use ProblemKind::{PodUnknown, PoliciesNotInForce, PolicyRejected, PolicyUnsupported, RefusedNotLogged};
    for kind in [PolicyRejected, PolicyUnsupported, PoliciesNotInForce, PodUnknown, RefusedNotLogged] {
        listed(&mut problems, policies.clone().filter(|problem| problem.kind == kind), "more problems of policies");
    }
    problems.extend(report.unread_log.clone());
    problems.extend_from_slice(&snapshot.unread);
    problems
}

fn membership(report: &Report) -> Vec<Problem> {
    let mut problems = Vec::new();
    if let Some(error) = report.feed.error.as_ref() {
        let subject = report.file.as_ref().map(|file| file.display().to_string());
        let text = format!("{error}; the last membership that could be read is still used");
        problems.push(Problem { kind: ProblemKind::MembershipUnreadable, subject, text });
    }
    match &report.view {
        None => {
            let lacks = report.feed.waits_for.as_deref().unwrap_or("the membership has not been read yet");
            problems.push(Problem::general(ProblemKind::MembershipPending, lacks));
        }
        Some(Err(own)) => problems.push(own.into()),
        Some(Ok(view)) => problems.extend(view.rejected.iter().map(Problem::from)),
    }
    problems
}

fn conflict(report: &Report) -> Problem {
    let kinds = report.repaired.named().filter(|(_, count)| *count > 0);
    let kinds: Vec<_> = kinds.map(|(kind, count)| format!("{kind}: {count}")).collect();
    let text = format!(
        "within the last minute another program has undone podwire's repairs again and again (repairs so far: {}), and \
         packets were lost: `podwired doctor` finds out whether that goes on",
        kinds.join(", ")
    );
    Problem::general(ProblemKind::Conflict, text)
}

fn silent(peer: &PeerStatus, report: &Report) -> Problem {
    let probed = report.probes.get(peer.name.as_str());
    let is_silent = |address: &IpAddr| {
        let echoes = probed.and_then(|probed| probed.overlay[usize::from(address.is_ipv6())]);
        echoes.and_then(|echoes| echoes.answers()) == Some(false)
    };
    let by = |address: &IpAddr| {
        let route = peer.routes.iter().find(|route| route.pod_cidr.contains(*address));
        // The node's own address stands for its pods, where that is asked.
        let route = route.or(peer.routes.first());
        route.and_then(|route| route.by.known()).copied().unwrap_or(Reach::Overlay)
    };
    let addresses: Vec<_> = peer.probes.iter().map(|probe| probe.address).filter(is_silent).collect();
    let ways = [
        (Reach::Overlay, "over the overlay"),
        (Reach::Plain, "by the plain route"),
        (Reach::None, "for want of a route to its pods"),
    ];
    let ways = ways.into_iter().filter_map(|(reach, how)| {
        let of_it: Vec<_> = addresses.iter().filter(|address| by(address) == reach).map(ToString::to_string).collect();
        (!of_it.is_empty()).then(|| format!("{how} ({})", of_it.join(", ")))
    });
    let text = format!(
        "peer {} ({}) does not answer {}: `podwired doctor` looks for the cause",
        peer.name,
        peer.address,
        ways.collect::<Vec<_>>().join(", nor ")
    );
    Problem::new(ProblemKind::PeerSilent, &peer.name, text)
}

fn path_too_small(peer: &PeerStatus, report: &Report) -> Option<Problem> {
    let path = report.probes.get(peer.name.as_str())?.path;
    let Path { largest, wanted } = path.filter(|path| path.narrow().is_some())?;
    let text = format!(
        "the path to {} ({}) takes packets of {largest} bytes at most, although the underlay's MTU here is {wanted}: the \
         routes to its pods have a smaller MTU meanwhile; set the underlay's MTU to what the path takes, or repair the path",
        peer.name, peer.address
    );
    Some(Problem::new(ProblemKind::PathMtuTooSmall, &peer.name, text))
}

/// The first few of one kind, and the number of the others.
fn listed(problems: &mut Vec<Problem>, mut more: impl Iterator<Item = Problem>, others: &str) {
    problems.extend(more.by_ref().take(LISTED));
    if let Some(Problem { kind, .. }) = more.next() {
        problems.push(Problem::general(kind, format!("{} {others}", more.count() + 1)));
    }
}

/// How many addresses of each pod CIDR of this node are held. Stale addresses are in none of these.
fn ranges(view: &View, held: &[IpAddr]) -> Vec<RangeStatus> {
    let of = |range: &Range| {
        let used = held.iter().filter(|address| range.subnet.contains(**address)).count() as u64;
        let all = podwire_attachment::ipam::size(std::slice::from_ref(range)).min(LARGEST);
        let free = u64::try_from(all).unwrap_or(u64::MAX).saturating_sub(used);
        RangeStatus { range: range.subnet, used, free }
    };
    view::ranges(view).iter().flatten().map(of).collect()
}

#[cfg(test)]
mod tests;
