//! A line of the log of refused packets: whose the packet was, by name, and which policies isolate the pod that was judged, or the rule of
//! a ClusterNetworkPolicy that has decided.

use std::net::IpAddr;

use tracing::info;

use crate::cluster::view::View;
use crate::datapath::policy::layout::Fate;
use crate::datapath::policy::logged::LoggedPacket;
use crate::observe::policies::owner;
use crate::policy::compiled::Packet;
use crate::policy::explanation::{ByCluster, End};
use crate::policy::network_policy::{Direction, PolicyName};
use crate::policy::port::Protocol;
use crate::report::policies::Enforced;

/// What is said of a packet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Line {
    sentence: &'static str,
    direction: &'static str,
    source: Option<String>,
    destination: Option<String>,
    packet: Packet,
    protocol: String,
    by: By,
}

/// Who has decided.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct By {
    /// NetworkPolicies that isolate the pod; or one ClusterNetworkPolicy, of which the rest is said, too.
    policies: Option<String>,
    tier: Option<String>,
    rule: Option<String>,
    rule_name: Option<String>,
}

impl Line {
    /// The line of a packet, by what is in force now.
    pub(super) fn new(logged: &LoggedPacket, enforced: Option<&Enforced<'_>>, node: &str, view: Option<&View>) -> Self {
        let line = Self::without_names(logged);
        let Some(enforced) = enforced else { return line };
        let explanation = enforced.compiled.explain(&logged.packet);
        let end = match logged.direction {
            Direction::Ingress => explanation.ingress,
            Direction::Egress => explanation.egress,
        };
        let (sentence, by) = match (end, logged.fate) {
            (End::Denied { policies, .. }, Fate::Refused) => (line.sentence, By::isolating(&policies)),
            (End::WouldDeny { policies, .. }, Fate::Audited) => (line.sentence, By::isolating(&policies)),
            (End::Refused(by), Fate::Refused) => (line.sentence, By::cluster(logged.direction, &by)),
            (End::WouldRefuse(by), Fate::Audited) => (line.sentence, By::cluster(logged.direction, &by)),
            (End::Unknown, Fate::Refused) => ("refused a packet: no object of the pod is known", By::default()),
            (_, Fate::Refused) => ("refused a packet, by policies that have changed since", By::default()),
            (_, Fate::Audited) => ("would refuse a packet, by policies that have changed since", By::default()),
        };
        let name = |address: IpAddr| owner(enforced, node, view, address);
        let (source, destination) = (name(line.packet.source), name(line.packet.destination));
        Self { sentence, source, destination, by, ..line }
    }

    /// The line of a packet where nobody knows more than its headers.
    pub(super) fn without_names(logged: &LoggedPacket) -> Self {
        Self {
            sentence: match logged.fate {
                Fate::Refused => "refused a packet",
                Fate::Audited => "would refuse a packet",
            },
            direction: direction(logged.direction),
            source: None,
            destination: None,
            packet: logged.packet,
            protocol: protocol(logged.protocol),
            by: By::default(),
        }
    }

    /// Writes it. Who logs escapes what others have put into names.
    pub(super) fn log(&self) {
        let Self { sentence, direction, source, destination, packet, protocol, by } = self;
        let [from, to] = [(source, packet.source), (destination, packet.destination)]
            .map(|(name, address)| name.clone().unwrap_or_else(|| address.to_string()));
        info!(
            direction,
            source = from,
            source_address = %packet.source,
            destination = to,
            destination_address = %packet.destination,
            protocol = %protocol,
            port = packet.port.map(|(_, port)| port),
            policies = by.policies,
            tier = by.tier,
            rule = by.rule,
            rule_name = by.rule_name,
            "{sentence}"
        );
    }
}

impl By {
    /// No rule of these has allowed it.
    fn isolating(policies: &[PolicyName]) -> Self {
        let names: Vec<_> = policies.iter().map(ToString::to_string).collect();
        Self { policies: Some(names.join(", ")), ..Self::default() }
    }

    /// A rule has denied it.
    fn cluster(of: Direction, by: &ByCluster) -> Self {
        let ByCluster { policy, tier, rule, name, .. } = by;
        Self {
            policies: Some(policy.to_string()),
            tier: Some(tier.to_string()),
            rule: Some(format!("{}[{rule}]", direction(of))),
            rule_name: (!name.is_empty()).then(|| name.to_string()),
        }
    }
}

fn direction(direction: Direction) -> &'static str {
    match direction {
        Direction::Ingress => "ingress",
        Direction::Egress => "egress",
    }
}

/// A protocol by its name where that is known, else by its number (IANA, "Protocol Numbers").
fn protocol(number: u8) -> String {
    let known = Protocol::ALL.into_iter().find(|known| known.number() == number);
    match (known, number) {
        (Some(known), _) => known.to_string(),
        (None, 1) => "ICMP".into(),
        (None, 58) => "ICMPv6".into(),
        (None, other) => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::compiler::Compiler;
    use crate::policy::documents::Objects;
    use crate::policy::inputs::{Inputs, Local};
    use crate::report::policies::Attached;

    const OBJECTS: &str = "\
---\napiVersion: v1\nkind: Namespace\nmetadata: {name: a}
---\napiVersion: v1\nkind: Pod\nmetadata: {name: web, namespace: a, labels: {app: web}}\nspec: {nodeName: here}
---\napiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {name: nobody, namespace: a}
spec: {podSelector: {}, policyTypes: [Egress]}
---\napiVersion: policy.networking.k8s.io/v1alpha2\nkind: ClusterNetworkPolicy\nmetadata: {name: quarantine}
spec: {tier: Admin, priority: 7, subject: {namespaces: {}}, ingress: [
  {action: Pass, from: [{namespaces: {}}], protocols: [{tcp: {destinationPort: {number: 80}}}]},
  {action: Deny, name: no-udp, from: [{namespaces: {}}], protocols: [{udp: {destinationPort: {number: 53}}}]}]}
---\napiVersion: policy.networking.k8s.io/v1alpha2\nkind: ClusterNetworkPolicy
metadata: {name: base, annotations: {podwire.dev/audit: 'true'}}
spec: {tier: Baseline, priority: 7, subject: {namespaces: {}}, ingress: [{action: Deny, from: [{namespaces: {}}]}]}
---\napiVersion: v1\nkind: Pod\nmetadata: {name: far, namespace: a}\nspec: {nodeName: there}
status: {podIPs: [{ip: 10.0.1.1}, {ip: 'fd00:1::1'}]}
";

    const UNKNOWN: &str = "10.0.0.9";

    /// The line of a packet that has come to a fate in a direction.
    fn line(direction: Direction, fate: Fate, [from, to]: [&str; 2], port: Option<(Protocol, u16)>) -> Line {
        let objects = Objects::read(OBJECTS).unwrap();
        let addresses = ["10.0.0.1".parse().unwrap(), "fd00::1".parse().unwrap()];
        let inputs = Inputs {
            node: "here",
            pods: objects.pods.iter().collect(),
            namespaces: objects.namespaces.iter().collect(),
            policies: objects.policies.iter().collect(),
            cluster_policies: objects.cluster_policies.iter().collect(),
            local: vec![Local { pod: &objects.pods[0], addresses: &addresses }],
            unknown: [UNKNOWN.parse().unwrap()].into(),
            judged_as: Vec::new(),
        };
        let compiled = Compiler::default().compile(&inputs).unwrap();
        let enforced = Enforced {
            compiled: &compiled,
            attached: &Attached::default(),
            pods: inputs.pods.clone(),
            namespaces: inputs.namespaces.clone(),
            policies: inputs.policies.clone(),
            cluster_policies: inputs.cluster_policies.clone(),
            service_ranges: Vec::new(),
        };
        let packet = Packet { source: from.parse().unwrap(), destination: to.parse().unwrap(), port };
        let protocol = port.map_or(1, |(protocol, _)| protocol.number());
        Line::new(&LoggedPacket { direction, fate, packet, protocol }, Some(&enforced), "here", None)
    }

    const IN: [[&str; 2]; 2] = [["10.0.1.1", "10.0.0.1"], ["fd00:1::1", "fd00::1"]];

    fn said(line: &Line) -> (&'static str, [Option<&str>; 4]) {
        let By { policies, tier, rule, rule_name } = &line.by;
        (line.sentence, [policies, tier, rule, rule_name].map(Option::as_deref))
    }

    #[test]
    fn the_rule_of_a_cluster_network_policy_that_has_decided_is_named() {
        for ends in IN {
            let refused = line(Direction::Ingress, Fate::Refused, ends, Some((Protocol::Udp, 53)));
            let by = [Some("quarantine"), Some("Admin"), Some("ingress[1]"), Some("no-udp")];
            assert_eq!(said(&refused), ("refused a packet", by));
            assert_eq!((refused.direction, refused.source.as_deref()), ("ingress", Some("a/far")));
            // What is passed on comes to the baseline, which is not enforced.
            let audited = line(Direction::Ingress, Fate::Audited, ends, Some((Protocol::Tcp, 80)));
            assert_eq!(
                said(&audited),
                ("would refuse a packet", [Some("base"), Some("Baseline"), Some("ingress[0]"), None])
            );
        }
    }

    #[test]
    fn network_policies_that_isolate_are_named_and_a_pod_without_an_object_is_told_of() {
        for [to, from] in IN {
            let line = line(Direction::Egress, Fate::Refused, [from, to], None);
            assert_eq!(said(&line), ("refused a packet", [Some("a/nobody"), None, None, None]));
            assert_eq!(line.protocol, "ICMP");
        }
        let line = line(Direction::Ingress, Fate::Refused, ["10.0.1.1", UNKNOWN], None);
        assert_eq!(said(&line), ("refused a packet: no object of the pod is known", [None; 4]));
    }

    #[test]
    fn where_policies_decide_otherwise_by_now_none_is_named() {
        let changed = "refused a packet, by policies that have changed since";
        // It passes, and only what is not enforced would refuse it.
        let passing = line(Direction::Ingress, Fate::Refused, IN[0], Some((Protocol::Tcp, 80)));
        assert_eq!(said(&passing), (changed, [None; 4]));
        let would = "would refuse a packet, by policies that have changed since";
        // A rule that is enforced refuses it.
        let refused = line(Direction::Ingress, Fate::Audited, IN[0], Some((Protocol::Udp, 53)));
        assert_eq!(said(&refused), (would, [None; 4]));
    }
}
