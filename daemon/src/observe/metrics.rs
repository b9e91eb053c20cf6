//! The status as metrics, in Prometheus' text format (version 0.0.4). Pure. Every name is described in
//! docs/daemon.md.

use std::fmt::{Display, Write};

use podwire_conf::shown;

use crate::observe::status::document::{PeerState, PeerStatus, Range, RefusedPod, Status};
use crate::report::named::Documented;
use crate::report::outcome::FastPathState;
use crate::report::problem::ProblemKind;

/// Peers that have series of their own: those that do not answer first. All are counted in `podwire_peers`.
const PEERS: usize = 500;

/// Pods that have series of their own for what policies have refused of them: those with the most first.
const REFUSED_PODS: usize = 500;

/// The content type of the format.
pub(crate) const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// A text that is being written.
struct Page(String);

impl Page {
    /// A metric: its name, type and help, and its series, each with its labels.
    fn metric<V: Display>(
        &mut self,
        name: &str,
        kind: &str,
        help: &str,
        series: impl IntoIterator<Item = (Vec<(&'static str, String)>, V)>,
    ) {
        let mut series = series.into_iter().peekable();
        if series.peek().is_none() {
            return;
        }
        // Writing to a string does not fail.
        let _ = writeln!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}");
        series.for_each(|(labels, value)| self.series(name, &labels, value));
    }

    fn series(&mut self, name: &str, labels: &[(&'static str, String)], value: impl Display) {
        let labels: Vec<_> = labels.iter().map(|(name, text)| format!("{name}=\"{}\"", escaped(text))).collect();
        let labels = if labels.is_empty() { String::new() } else { format!("{{{}}}", labels.join(",")) };
        let _ = writeln!(self.0, "{name}{labels} {value}");
    }

    fn gauge(&mut self, name: &str, help: &str, value: impl Display) {
        self.metric(name, "gauge", help, [(Vec::new(), value)]);
    }
}

/// The most characters of a label.
const LONGEST_LABEL: usize = 256;

/// The text of a label, as it is shown, in which two characters mean something; a third, the newline, is not there any more.
fn escaped(text: &str) -> String {
    shown::bounded(text, LONGEST_LABEL).replace('\\', r"\\").replace('"', "\\\"")
}

/// The page.
pub fn render(status: &Status) -> String {
    let mut page = Page(String::new());
    let about = vec![("version", status.version.clone()), ("node", status.node.clone())];
    page.metric("podwire_info", "gauge", "1, with the version and the node's name.", [(about, 1)]);
    page.gauge("podwire_converged", "1 while the kernel and the conflist are as desired.", u8::from(status.converged));
    let count = |kind: &ProblemKind| status.problems.iter().filter(|problem| problem.kind == *kind).count();
    let problems = ProblemKind::ALL.iter().map(|kind| (vec![("kind", kind.name().to_owned())], count(kind)));
    page.metric("podwire_problems", "gauge", "What is wrong, as in `podwired status`, by kind.", problems);
    convergence(&mut page, status);
    peers(&mut page, status);
    pods(&mut page, status);
    page.0
}

fn convergence(page: &mut Page, status: &Status) {
    let daemon = &status.daemon;
    page.metric("podwire_passes_total", "counter", "Reconciles since the start.", [(Vec::new(), daemon.passes)]);
    let short = "Those of them that were incremental syncs.";
    page.metric("podwire_short_passes_total", "counter", short, [(Vec::new(), daemon.short_passes)]);
    if let Some(age) = daemon.last_pass_age_seconds {
        page.gauge("podwire_last_pass_age_seconds", "Time since the last reconcile ended.", age);
        page.gauge("podwire_last_pass_seconds", "How long the last reconcile took.", daemon.last_pass_seconds);
    }
    let age = status.membership.age_seconds;
    page.gauge("podwire_membership_age_seconds", "Time since the last change of the membership.", age);
    page.gauge("podwire_membership_nodes", "Accepted nodes, this one included.", status.membership.nodes);
    page.gauge("podwire_membership_refused", "Rejected entries of the membership.", status.refused.len());
    let by_kind = |counts: &std::collections::BTreeMap<String, u64>| {
        counts.iter().map(|(kind, count)| (vec![("kind", kind.clone())], *count)).collect::<Vec<_>>()
    };
    page.metric("podwire_changes_total", "counter", "Changes made to the node, by kind.", by_kind(&daemon.changes));
    let repairs = "Changes that restored what had been right before, by kind.";
    page.metric("podwire_repairs_total", "counter", repairs, by_kind(&daemon.repairs));
    let sizes = [("overlay", status.mtu), ("underlay", status.underlay_mtu)];
    let sizes = sizes.into_iter().filter_map(|(device, mtu)| Some((vec![("device", device.to_owned())], mtu?)));
    page.metric("podwire_mtu_bytes", "gauge", "The largest packet, in bytes.", sizes);
    if let Some(policies) = &status.network_policy {
        let in_force = "1 while the NetworkPolicies of the cluster are in force as the API has them.";
        page.gauge("podwire_policies_in_force", in_force, u8::from(policies.in_force));
        page.gauge("podwire_policies", "NetworkPolicies of the cluster.", policies.policies);
        let help = "ClusterNetworkPolicies of the cluster.";
        page.gauge("podwire_cluster_policies", help, policies.cluster_policies);
        page.gauge("podwire_isolated_pods", "Pods of this node that policies isolate.", policies.isolated_pods);
        let refused = [("from-pods", policies.refused_from_pods), ("to-pods", policies.refused_to_pods)];
        let refused = refused
            .into_iter()
            .filter_map(|(direction, packets)| Some((vec![("direction", direction.to_owned())], packets?)));
        let help = "Packets that NetworkPolicies have refused, by direction.";
        page.metric("podwire_policy_refused_packets_total", "counter", help, refused);
        let one = |refused: &RefusedPod| {
            let address = || refused.addresses.first().map(ToString::to_string).unwrap_or_default();
            let namespace = refused.namespace.clone().unwrap_or_default();
            let pod = refused.pod.clone().unwrap_or_else(address);
            [("from-pod", refused.from_pod), ("to-pod", refused.to_pod)].map(|(direction, packets)| {
                let labels = [("namespace", namespace.clone()), ("pod", pod.clone()), ("direction", direction.into())];
                (labels.into(), packets)
            })
        };
        let of_pods = |pods: &[RefusedPod]| pods.iter().take(REFUSED_PODS).flat_map(one).collect::<Vec<_>>();
        let help = "Packets of a pod that NetworkPolicies have refused since it became isolated, by direction.";
        page.metric("podwire_pod_refused_packets_total", "counter", help, of_pods(&policies.refused_pods));
        let help =
            "Packets of a pod that passed and that NetworkPolicies with the annotation audit would have refused.";
        page.metric("podwire_pod_audited_packets_total", "counter", help, of_pods(&policies.audited_pods));
    }
    let fast = u8::from(matches!(status.fast_path_state, Documented::Known(FastPathState::On { .. })));
    page.gauge("podwire_fast_path", "1 while established connections between pods take the fast path.", fast);
}

fn peers(page: &mut Page, status: &Status) {
    let count = |state: PeerState| status.peers.iter().filter(|peer| peer.state == state).count();
    let states = PeerState::ALL.map(|(state, name)| (vec![("state", name.to_owned())], count(state)));
    page.metric("podwire_peers", "gauge", "Other nodes, by whether their overlay addresses answer.", states);
    let smaller = |peer: &&PeerStatus| peer.path_mtu.is_some_and(|mtu| Some(mtu) < status.underlay_mtu);
    let few = "Other nodes behind a path that takes less than the underlay's MTU.";
    page.gauge("podwire_peers_path_too_small", few, status.peers.iter().filter(smaller).count());

    let (silent, others): (Vec<&PeerStatus>, Vec<&PeerStatus>) =
        status.peers.iter().partition(|peer| peer.state == PeerState::Silent);
    let named: Vec<_> = silent.into_iter().chain(others).take(PEERS).collect();
    let probes = || {
        named.iter().flat_map(|peer| {
            peer.probes
                .iter()
                .map(|probe| (vec![("peer", peer.name.clone()), ("address", probe.address.to_string())], probe))
        })
    };
    let round_trips =
        probes().filter_map(|(labels, probe)| Some((labels, seconds(probe.round_trip_microseconds?.into()))));
    page.metric(
        "podwire_probe_round_trip_seconds",
        "gauge",
        "The round trip to an overlay address of a peer, smoothed.",
        round_trips,
    );
    let losses = probes().map(|(labels, probe)| (labels, f64::from(probe.loss_percent) / 100.0));
    page.metric("podwire_probe_loss_ratio", "gauge", "The part of the last 16 probes of a peer that was lost.", losses);
    let paths = named.iter().filter_map(|peer| Some((vec![("peer", peer.name.clone())], peer.path_mtu?)));
    page.metric("podwire_path_mtu_bytes", "gauge", "The largest packet that came through to a peer's node.", paths);
}

fn pods(page: &mut Page, status: &Status) {
    let of = |value: fn(&Range) -> u64| {
        status.ranges.iter().map(move |range| (vec![("range", range.range.to_string())], value(range)))
    };
    page.metric("podwire_addresses_used", "gauge", "Addresses that pods hold.", of(|range| range.used));
    page.metric("podwire_addresses_free", "gauge", "Addresses that could be given.", of(|range| range.free));
    let guards = status.guards.iter().map(|(guard, packets)| (vec![("guard", guard.clone())], *packets));
    page.metric("podwire_guard_refused_packets_total", "counter", "Packets that a guard has dropped.", guards);
    let Some(adds) = &status.adds else { return };
    let name = "podwire_add_duration_seconds";
    let classes = adds.within_microseconds.iter().map(|(limit, count)| (seconds(*limit).to_string(), *count));
    let _ = writeln!(page.0, "# HELP {name} How long ADDs took.\n# TYPE {name} histogram");
    for (limit, count) in classes.chain([("+Inf".to_owned(), adds.count)]) {
        page.series(&format!("{name}_bucket"), &[("le", limit)], count);
    }
    page.series(&format!("{name}_sum"), &[], adds.seconds);
    page.series(&format!("{name}_count"), &[], adds.count);
}

#[expect(clippy::cast_precision_loss, reason = "a number of microseconds that is too large for it is none")]
fn seconds(microseconds: u64) -> f64 {
    microseconds as f64 / 1e6
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observe::status::document::{Adds, NetworkPolicy, Probe};
    use crate::report::problem::Problem;

    fn peer(name: &str, state: PeerState) -> PeerStatus {
        let probe = Probe { address: [10, 244, 2, 0].into(), round_trip_microseconds: Some(250), loss_percent: 25 };
        PeerStatus {
            name: name.into(),
            address: [192, 168, 50, 2].into(),
            pod_cidrs: Vec::new(),
            routes: Vec::new(),
            state: state.into(),
            probes: vec![probe],
            path_mtu: Some(1400),
        }
    }

    #[test]
    fn a_page_has_every_number_under_its_name() {
        let mut status =
            Status { node: "a\"b\\c\nd\u{1b}".into(), converged: true, underlay_mtu: Some(1500), ..Status::default() };
        status.peers = vec![peer("node-2", PeerState::Answers)];
        status.ranges = vec![Range { range: "10.244.1.0/24".parse().unwrap(), used: 2, free: 251 }];
        status.guards.insert("pod-spoofing".into(), 7);
        status.problems.push(Problem::new(ProblemKind::PeerSilent, "node-2", "peer node-2 does not answer").into());
        status.fast_path_state = FastPathState::On { devices_left_out: 1 }.into();
        status.daemon.repairs.insert("route".into(), 3);
        status.adds = Some(Adds { count: 5, seconds: 0.0125, within_microseconds: [(500, 1), (2000, 4)].into() });
        let page = render(&status);
        for line in [
            "podwire_info{version=\"\",node=\"a\\\"b\\\\c\\\\nd\\\\u{1b}\"} 1",
            "podwire_converged 1",
            "podwire_problems{kind=\"peer-silent\"} 1",
            "podwire_problems{kind=\"entry-rejected\"} 0",
            "podwire_fast_path 1",
            "podwire_peers{state=\"answers\"} 1",
            "podwire_peers{state=\"silent\"} 0",
            "podwire_peers_path_too_small 1",
            "podwire_probe_round_trip_seconds{peer=\"node-2\",address=\"10.244.2.0\"} 0.00025",
            "podwire_probe_loss_ratio{peer=\"node-2\",address=\"10.244.2.0\"} 0.25",
            "podwire_path_mtu_bytes{peer=\"node-2\"} 1400",
            "podwire_repairs_total{kind=\"route\"} 3",
            "podwire_addresses_free{range=\"10.244.1.0/24\"} 251",
            "podwire_guard_refused_packets_total{guard=\"pod-spoofing\"} 7",
            "podwire_add_duration_seconds_bucket{le=\"0.0005\"} 1",
            "podwire_add_duration_seconds_bucket{le=\"+Inf\"} 5",
            "podwire_add_duration_seconds_sum 0.0125",
            "podwire_add_duration_seconds_count 5",
        ] {
            assert!(page.lines().any(|found| found == line), "no {line} in\n{page}");
        }
        // Each metric is introduced once, and every line is a comment or a name and a number.
        let mut introduced: Vec<_> = page.lines().filter(|line| line.starts_with("# TYPE")).collect();
        introduced.sort_unstable();
        assert!(introduced.windows(2).all(|two| two[0] != two[1]));
        let number = |line: &str| line.rsplit_once(' ').is_some_and(|(_, value)| value.parse::<f64>().is_ok());
        assert!(page.lines().all(|line| line.starts_with('#') || number(line)), "{page}");
    }

    #[test]
    fn pods_of_which_most_was_refused_have_series_under_their_names() {
        let refused = |number: u64| RefusedPod {
            namespace: Some("a\"b\n".into()),
            pod: Some(format!("pod-{number}")),
            addresses: vec![[10, 244, 1, 2].into()],
            from_pod: number,
            to_pod: 0,
        };
        let mut refused_pods: Vec<_> = (0..600).rev().map(refused).collect();
        refused_pods[1] = RefusedPod { namespace: None, pod: None, ..refused(7) };
        let audited_pods = refused_pods[..3].to_vec();
        let policies = NetworkPolicy { refused_pods, audited_pods, ..NetworkPolicy::default() };
        let page = render(&Status { network_policy: Some(policies), ..Status::default() });
        let first =
            "podwire_pod_refused_packets_total{namespace=\"a\\\"b\\\\n\",pod=\"pod-599\",direction=\"from-pod\"} 599\n";
        assert!(page.contains(first), "{page}");
        let nameless = "podwire_pod_refused_packets_total{namespace=\"\",pod=\"10.244.1.2\",direction=\"to-pod\"} 0\n";
        assert!(page.contains(nameless), "{page}");
        let series = page.lines().filter(|line| line.starts_with("podwire_pod_refused_packets_total{")).count();
        assert_eq!(series, 2 * REFUSED_PODS);
        assert!(page.contains(&first.replace("refused", "audited")), "{page}");
    }

    #[test]
    fn of_many_peers_those_that_are_silent_have_series_and_all_are_counted() {
        let peers = (0..600).map(|number| peer(&format!("a-{number}"), PeerState::Answers)).collect();
        let mut status = Status { peers, ..Status::default() };
        status.peers.push(peer("z", PeerState::Silent));
        status.fast_path_state = FastPathState::Off { why: "on purpose".into() }.into();
        let page = render(&status);
        assert!(page.contains("podwire_fast_path 0\n"));
        let series = page.lines().filter(|line| line.starts_with("podwire_probe_loss_ratio{")).count();
        assert_eq!(series, PEERS);
        assert!(page.contains("podwire_peers{state=\"answers\"} 600\n"));
        assert!(page.contains("podwire_probe_loss_ratio{peer=\"z\""));
    }
}
