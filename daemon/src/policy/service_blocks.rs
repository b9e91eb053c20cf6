//! Blocks of rules in which there are addresses of Services only: they match nothing, since what is sent to a Service is translated
//! before policies judge it, and nothing comes from its address.

use std::net::IpAddr;

use ipnetwork::IpNetwork;
use podwire_kernel::family::IpVersion;

use crate::policy::cluster_policy::ClusterPolicy;
use crate::policy::ip_block::{self, IpBlock, Span};
use crate::policy::network_policy::{Direction, NetworkPolicy};
use crate::policy::pod::Pod;
use crate::policy::rule::{Peer, Rule};
use crate::policy::service_range::ServiceRange;

/// A block that matches nothing.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct ServiceBlock {
    /// The policy: `NAMESPACE/NAME`, or the `NAME` of a ClusterNetworkPolicy.
    pub policy: String,
    /// The direction of the rule.
    pub direction: Direction,
    /// Its place in the policy.
    pub rule: usize,
    /// The block, without what is excepted.
    pub block: IpNetwork,
}

/// Those of all policies, in order and each once.
pub fn of(
    ranges: &[&ServiceRange],
    pods: &[&Pod],
    policies: &[&NetworkPolicy],
    cluster_policies: &[&ClusterPolicy],
) -> Vec<ServiceBlock> {
    let services = joined(ranges);
    if services.is_empty() {
        return Vec::new();
    }
    let is_of_services = |block: &&IpBlock| {
        let spans = block.spans();
        let within = |span: &Span| services.iter().any(|range| contains(range, span));
        // Pods that have addresses of Services, as where the ranges overlap, are matched as pods.
        let has = |address: &IpAddr| spans.iter().any(|span| contains(span, &single(*address)));
        !spans.is_empty() && spans.iter().all(within) && !pods.iter().any(|pod| pod.addresses.iter().any(has))
    };
    let mut found = Vec::new();
    for direction in Direction::BOTH {
        let mut look = |policy: &dyn std::fmt::Display, place: usize, rule: &Rule| {
            let blocks = rule.peers.iter().flatten().filter_map(|peer| match peer {
                Peer::Block(block) => Some(block),
                Peer::Pods { .. } => None,
            });
            found.extend(blocks.filter(is_of_services).map(|block| ServiceBlock {
                policy: policy.to_string(),
                direction,
                rule: place,
                block: block.cidr,
            }));
        };
        for policy in policies {
            let rules = policy.rules(direction).unwrap_or_default().iter().enumerate();
            rules.for_each(|(place, rule)| look(&policy.name, place, rule));
        }
        for policy in cluster_policies {
            let rules = policy.rules(direction).iter().enumerate();
            rules.for_each(|(place, rule)| look(&policy.name, place, &rule.matches));
        }
    }
    found.sort();
    found.dedup();
    found
}

/// The addresses of all ranges, as spans that do not touch: a block may be in two of them.
fn joined(ranges: &[&ServiceRange]) -> Vec<Span> {
    let mut spans: Vec<_> = ranges.iter().flat_map(|range| &range.prefixes).copied().map(Span::of).collect();
    spans.sort();
    let mut joined: Vec<Span> = Vec::new();
    for span in spans {
        match joined.last_mut() {
            Some(last) if last.version == span.version && span.first <= last.last.saturating_add(1) => {
                last.last = last.last.max(span.last);
            }
            _ => joined.push(span),
        }
    }
    joined
}

fn contains(span: &Span, other: &Span) -> bool {
    span.version == other.version && span.first <= other.first && other.last <= span.last
}

fn single(address: IpAddr) -> Span {
    let number = ip_block::number(address);
    Span { version: IpVersion::of(address), first: number, last: number }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::documents::Objects;

    const POD: &str = "\
---\napiVersion: v1\nkind: Pod\nmetadata: {name: odd, namespace: a}\nspec: {nodeName: n}\nstatus: {podIPs: [{ip: 10.96.9.9}]}
";

    /// What is found of a policy's blocks, and of a ClusterNetworkPolicy's of the same networks.
    fn found(blocks: &[&str], ranges: &[&str]) -> Vec<String> {
        let peers: Vec<_> = blocks.iter().map(|block| format!("{{ipBlock: {block}}}")).collect();
        let peers = peers.join(", ");
        let policy = format!(
            "---\napiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {{name: p, namespace: a}}\n\
             spec: {{podSelector: {{}}, policyTypes: [Ingress, Egress], ingress: [{{from: [{peers}]}}], \
             egress: [{{}}, {{to: [{{podSelector: {{}}}}, {peers}]}}]}}\n"
        );
        let ranges = ServiceRange { prefixes: ranges.iter().map(|range| range.parse().unwrap()).collect() };
        let objects = Objects::read(&format!("{POD}{policy}")).unwrap();
        let (pods, policies) = (objects.pods.iter().collect::<Vec<_>>(), objects.policies.iter().collect::<Vec<_>>());
        shown(&of(&[&ranges], &pods, &policies, &[]))
    }

    fn shown(found: &[ServiceBlock]) -> Vec<String> {
        let shown = |ServiceBlock { policy, direction, rule, block }: &ServiceBlock| {
            format!("{policy} {direction:?} {rule} {block}")
        };
        found.iter().map(shown).collect()
    }

    const RANGES: [&str; 2] = ["10.96.0.0/16", "fd00:96::/112"];

    #[test]
    fn a_block_with_addresses_of_services_only_is_found_in_both_directions_and_families() {
        assert_eq!(
            found(&["{cidr: 10.96.0.10/32}"], &RANGES),
            ["a/p Ingress 0 10.96.0.10/32", "a/p Egress 1 10.96.0.10/32"]
        );
        assert_eq!(
            found(&["{cidr: 'fd00:96::/120'}"], &RANGES),
            ["a/p Ingress 0 fd00:96::/120", "a/p Egress 1 fd00:96::/120"]
        );
        // What is excepted does not count; in two ranges beside each other it is as in one.
        let rest = "{cidr: 10.96.0.0/15, except: [10.97.0.0/16, 10.96.9.0/24]}";
        assert_eq!(found(&[rest], &RANGES).len(), 2);
        assert_eq!(found(&["{cidr: 10.98.0.0/15}"], &["10.98.0.0/16", "10.99.0.0/16"]).len(), 2);
        // Twice in a rule it is said once.
        assert_eq!(found(&["{cidr: 10.96.0.10/32}", "{cidr: 10.96.0.10/32}"], &RANGES).len(), 2);
    }

    #[test]
    fn a_block_that_may_match_something_is_not_found() {
        for block in [
            "{cidr: 10.96.0.0/15}",
            "{cidr: 0.0.0.0/0}",
            "{cidr: 10.95.0.0/16}",
            "{cidr: 'fd00:97::/112'}",
            "{cidr: '::/0'}",
        ] {
            assert_eq!(found(&[block], &RANGES), [""; 0], "{block}");
        }
        // A pod has an address of it.
        assert_eq!(found(&["{cidr: 10.96.0.0/16}"], &RANGES), [""; 0]);
        // All of it is excepted, and that is no matter of Services.
        assert_eq!(found(&["{cidr: 10.96.0.0/24, except: [10.96.0.0/25, 10.96.0.128/25]}"], &RANGES), [""; 0]);
        // Which addresses are of Services is not known.
        assert_eq!(found(&["{cidr: 10.96.0.10/32}"], &[]), [""; 0]);
    }

    #[test]
    fn networks_of_a_cluster_network_policy_are_found_as_well() {
        let policy = "\
---\napiVersion: policy.networking.k8s.io/v1alpha2\nkind: ClusterNetworkPolicy\nmetadata: {name: c}
spec: {tier: Admin, priority: 1, subject: {namespaces: {}}, egress: [
  {action: Deny, to: [{namespaces: {}}]}, {action: Deny, to: [{networks: [192.0.2.0/24, 10.96.0.1/32]}]}]}
";
        let objects = Objects::read(policy).unwrap();
        let ranges = ServiceRange { prefixes: RANGES.map(|range| range.parse().unwrap()).into() };
        let found = of(&[&ranges], &[], &[], &objects.cluster_policies.iter().collect::<Vec<_>>());
        assert_eq!(shown(&found), ["c Egress 1 10.96.0.1/32"]);
    }
}
