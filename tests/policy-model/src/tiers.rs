//! ClusterNetworkPolicy as the API documents it, read off the documents for one packet at a time: what a tier decides. Slow and
//! plain: nothing is decoded before.

use ipnetwork::IpNetwork;
use serde_json::Value;

use crate::evaluator::{namespace_labels, owner, ports_called, selects};
use crate::packet::{Direction, Packet};
use crate::world::{World, list};

/// A rule of a policy, by the place of the rule.
pub type Rule<'a> = (&'a Value, usize);

/// What a tier comes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision<'a> {
    /// A rule accepts.
    Accept(Rule<'a>),
    /// A rule denies.
    Deny(Rule<'a>),
    /// A rule has the next tier asked.
    Pass(Rule<'a>),
    /// No rule matches.
    Nothing,
}

/// What the policies of a tier decide of a packet at one end: the first rule that matches does. Policies with the annotation
/// `podwire.dev/audit` count where they are asked, too.
pub fn decide<'a>(world: &'a World, tier: &str, direction: Direction, packet: &Packet, audits: bool) -> Decision<'a> {
    let (own, _) = packet.ends(direction);
    let Some(pod) = world.holder(own).filter(|pod| pod["spec"]["hostNetwork"] != true) else {
        return Decision::Nothing;
    };
    let mut policies: Vec<_> = world.cluster_policies.iter().filter(|policy| policy["spec"]["tier"] == tier).collect();
    policies.retain(|policy| audits || policy["metadata"]["annotations"]["podwire.dev/audit"] != "true");
    // Which of two with one priority is asked first the API leaves open.
    policies.sort_by_key(|policy| (policy["spec"]["priority"].as_u64(), policy["metadata"]["name"].as_str()));
    for policy in policies {
        if !selects_pod(world, &policy["spec"]["subject"], pod) {
            continue;
        }
        let rules = list(&policy["spec"][if direction == Direction::Ingress { "ingress" } else { "egress" }]);
        for (place, rule) in rules.iter().enumerate() {
            let is_known = rule_is_known(rule, direction);
            let action = rule["action"].as_str().unwrap();
            match (is_known, action) {
                // "Fail closed": an Accept rule matches no traffic, any other denies all.
                (false, "Accept") => {}
                (false, _) => return Decision::Deny((policy, place)),
                (true, _) if !matches(world, direction, rule, packet) => {}
                (true, "Accept") => return Decision::Accept((policy, place)),
                (true, "Deny") => return Decision::Deny((policy, place)),
                (true, _) => return Decision::Pass((policy, place)),
            }
        }
    }
    Decision::Nothing
}

fn peers(rule: &Value, direction: Direction) -> &[Value] {
    list(&rule[if direction == Direction::Ingress { "from" } else { "to" }])
}

/// Whether every peer and protocol of a rule is of a sort that podwire supports.
pub fn rule_is_known(rule: &Value, direction: Direction) -> bool {
    let is_peer = |peer: &Value| ["namespaces", "pods", "networks"].iter().any(|sort| !peer[*sort].is_null());
    let sorts = ["tcp", "udp", "sctp", "destinationNamedPort"];
    let is_protocol = |protocol: &Value| sorts.iter().any(|sort| !protocol[*sort].is_null());
    peers(rule, direction).iter().all(is_peer) && list(&rule["protocols"]).iter().all(is_protocol)
}

fn matches(world: &World, direction: Direction, rule: &Value, packet: &Packet) -> bool {
    let (own, peer) = packet.ends(direction);
    let is_peer = |selector: &Value| {
        if selector["networks"].is_array() {
            let other = world.judged_as.iter().find(|(address, _)| *address == peer).map_or(peer, |(_, other)| *other);
            let networks = list(&selector["networks"]).iter();
            return networks
                .map(|one| one.as_str().unwrap())
                .any(|one| one.parse::<IpNetwork>().unwrap().contains(other));
        }
        owner(world, peer).is_some_and(|pod| selects_pod(world, selector, pod))
    };
    let destination = if direction == Direction::Ingress { world.holder(own) } else { owner(world, peer) };
    let is_protocol = |wanted: &Value| {
        let Some((protocol, port)) = packet.port else { return false };
        if let Some(name) = wanted["destinationNamedPort"].as_str() {
            return destination
                .is_some_and(|pod| ports_called(pod, name, protocol).any(|number| number == u64::from(port)));
        }
        let ports = &wanted[protocol.to_lowercase()]["destinationPort"];
        let number = |value: &Value| value.as_u64();
        match (number(&ports["number"]), &ports["range"]) {
            (Some(only), _) => only == u64::from(port),
            (None, range) if range.is_object() => {
                (number(&range["start"]).unwrap()..=number(&range["end"]).unwrap()).contains(&port.into())
            }
            _ => false,
        }
    };
    let protocols = &rule["protocols"];
    peers(rule, direction).iter().any(is_peer) && (protocols.is_null() || list(protocols).iter().any(is_protocol))
}

/// Whether a subject or peer that is `namespaces` or `pods` means a pod.
fn selects_pod(world: &World, selector: &Value, pod: &Value) -> bool {
    let Some(namespace) = namespace_labels(world, pod) else { return false };
    if selector["namespaces"].is_object() {
        return selects(&selector["namespaces"], &namespace);
    }
    let pods = &selector["pods"];
    selects(&pods["namespaceSelector"], &namespace) && selects(&pods["podSelector"], &pod["metadata"]["labels"])
}
