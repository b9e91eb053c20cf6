//! NetworkPolicy and the order of the tiers as the API documents them, read off the documents for one packet at a time. Slow and
//! plain: nothing is decoded before.

use std::net::IpAddr;

use ipnetwork::IpNetwork;
use serde_json::Value;

use crate::packet::{Direction, Packet};
use crate::tiers::{self, Decision};
use crate::world::{HERE, World, addresses, is_peer, list};

/// Whether both ends of what is held here allow a packet.
pub fn passes(world: &World, packet: &Packet) -> bool {
    Direction::BOTH.into_iter().all(|direction| allows(world, direction, packet))
}

/// Whether one end allows a packet.
pub fn allows(world: &World, direction: Direction, packet: &Packet) -> bool {
    let (own, peer) = packet.ends(direction);
    if world.unknown.contains(&own) {
        return own == peer;
    }
    own == peer || tiers_allow(world, direction, packet, false)
}

/// Whether an end refuses a packet only if policies are enforced that are not.
pub fn would_refuse(world: &World, direction: Direction, packet: &Packet) -> bool {
    let (own, peer) = packet.ends(direction);
    !world.unknown.contains(&own)
        && own != peer
        && tiers_allow(world, direction, packet, false)
        && !tiers_allow(world, direction, packet, true)
}

/// The tiers in their order: Admin; NetworkPolicies, which decide of a pod that they isolate; Baseline; and else it is allowed.
fn tiers_allow(world: &World, direction: Direction, packet: &Packet, audits: bool) -> bool {
    let own = packet.ends(direction).0;
    match tiers::decide(world, "Admin", direction, packet, audits) {
        Decision::Accept(_) => return true,
        Decision::Deny(_) => return false,
        Decision::Pass(_) | Decision::Nothing => {}
    }
    let isolating = isolating_of(world, direction, own, audits);
    if !isolating.is_empty() {
        return first_of(world, direction, packet, isolating).is_some();
    }
    !matches!(tiers::decide(world, "Baseline", direction, packet, audits), Decision::Deny(_))
}

/// The first rule that allows a packet, by its policy and its place in it: the policies in the order of their names.
pub fn first_rule<'a>(world: &'a World, direction: Direction, packet: &Packet) -> Option<(&'a Value, usize)> {
    first_of(world, direction, packet, isolating(world, direction, packet.ends(direction).0))
}

fn first_of<'a>(
    world: &World,
    direction: Direction,
    packet: &Packet,
    mut policies: Vec<&'a Value>,
) -> Option<(&'a Value, usize)> {
    policies.sort_by_key(|policy| policy["metadata"]["name"].as_str().unwrap());
    let all =
        policies.into_iter().flat_map(|policy| (0..rules(policy, direction).len()).map(move |rule| (policy, rule)));
    all.into_iter().find(|(policy, rule)| rule_allows(world, direction, policy, *rule, packet))
}

/// The policies that isolate the pod that has an address.
pub fn isolating(world: &World, direction: Direction, own: IpAddr) -> Vec<&Value> {
    isolating_of(world, direction, own, false)
}

fn isolating_of(world: &World, direction: Direction, own: IpAddr, audits: bool) -> Vec<&Value> {
    let Some(pod) = world.holder(own).filter(|pod| pod["spec"]["hostNetwork"] != true) else { return Vec::new() };
    let isolates = |policy: &&Value| {
        let types = list(&policy["spec"]["policyTypes"]);
        let isolates = match direction {
            Direction::Ingress => types.is_empty() || types.iter().any(|name| name == "Ingress"),
            Direction::Egress if types.is_empty() => !list(&policy["spec"]["egress"]).is_empty(),
            Direction::Egress => types.iter().any(|name| name == "Egress"),
        };
        isolates
            && (audits || policy["metadata"]["annotations"]["podwire.dev/audit"] != "true")
            && policy["metadata"]["namespace"] == pod["metadata"]["namespace"]
            && selects(&policy["spec"]["podSelector"], &pod["metadata"]["labels"])
    };
    world.policies.iter().filter(isolates).collect()
}

/// Whether a rule of a policy that isolates allows a packet.
fn rule_allows(world: &World, direction: Direction, policy: &Value, rule: usize, packet: &Packet) -> bool {
    let (own, peer) = packet.ends(direction);
    let rule = &rules(policy, direction)[rule];
    let peers = list(&rule[if direction == Direction::Ingress { "from" } else { "to" }]);
    let ports = list(&rule["ports"]);
    let destination = if direction == Direction::Ingress { world.holder(own) } else { owner(world, peer) };
    (peers.is_empty() || peers.iter().any(|selector| selects_peer(world, policy, selector, peer)))
        && (ports.is_empty()
            || packet.port.is_some_and(|port| ports.iter().any(|allowed| is_port(allowed, port, destination))))
}

fn selects_peer(world: &World, policy: &Value, selector: &Value, peer: IpAddr) -> bool {
    if selector["ipBlock"].is_object() {
        let stands_for = world.judged_as.iter().find(|(address, _)| *address == peer).map_or(peer, |(_, other)| *other);
        let is_in = |prefix: &Value| prefix.as_str().unwrap().parse::<IpNetwork>().unwrap().contains(stands_for);
        return is_in(&selector["ipBlock"]["cidr"]) && !list(&selector["ipBlock"]["except"]).iter().any(is_in);
    }
    let Some(pod) = owner(world, peer) else { return false };
    let in_namespace = if selector["namespaceSelector"].is_null() {
        pod["metadata"]["namespace"] == policy["metadata"]["namespace"]
    } else {
        namespace_labels(world, pod).is_some_and(|labels| selects(&selector["namespaceSelector"], &labels))
    };
    in_namespace && selects(&selector["podSelector"], &pod["metadata"]["labels"])
}

/// The labels of a pod's namespace, where it is known.
pub(crate) fn namespace_labels(world: &World, pod: &Value) -> Option<Value> {
    let name = &pod["metadata"]["namespace"];
    let namespace = world.namespaces.iter().find(|namespace| namespace["metadata"]["name"] == *name)?;
    let mut labels = namespace["metadata"]["labels"].clone();
    labels["kubernetes.io/metadata.name"] = name.clone();
    Some(labels)
}

/// The numbers of the ports that a pod's containers call so.
pub(crate) fn ports_called<'a>(pod: &'a Value, name: &'a str, protocol: &'a str) -> impl Iterator<Item = u64> + 'a {
    let sidecars = list(&pod["spec"]["initContainers"]).iter().filter(|one| one["restartPolicy"] == "Always");
    let containers = list(&pod["spec"]["containers"]).iter().chain(sidecars);
    let declared = containers.flat_map(|container| list(&container["ports"]));
    let of_name = move |one: &&Value| one["name"] == name && one["protocol"].as_str().unwrap_or("TCP") == protocol;
    declared.filter(of_name).filter_map(|one| one["containerPort"].as_u64())
}

fn is_port(allowed: &Value, (protocol, port): (&str, u16), destination: Option<&Value>) -> bool {
    let same = |written: &Value| written.as_str().unwrap_or("TCP") == protocol;
    let port = u64::from(port);
    same(&allowed["protocol"])
        && match &allowed["port"] {
            Value::Null => true,
            Value::Number(first) => {
                let first = first.as_u64().unwrap();
                (first..=allowed["endPort"].as_u64().unwrap_or(first)).contains(&port)
            }
            name => destination
                .is_some_and(|pod| ports_called(pod, name.as_str().unwrap(), protocol).any(|number| number == port)),
        }
}

/// Whether a label selector, as the API has it, selects an object with these labels.
pub fn selects(selector: &Value, labels: &Value) -> bool {
    let matches = |expression: &Value| {
        let value = labels.get(expression["key"].as_str().unwrap());
        let listed = value.is_some_and(|value| list(&expression["values"]).contains(value));
        match expression["operator"].as_str().unwrap() {
            "In" => listed,
            "NotIn" => !listed,
            "Exists" => value.is_some(),
            _ => value.is_none(),
        }
    };
    let equal = selector["matchLabels"].as_object().into_iter().flatten();
    equal.into_iter().all(|(key, value)| labels.get(key) == Some(value))
        && list(&selector["matchExpressions"]).iter().all(matches)
}

/// The pod that an address belongs to, if selectors can match it: what is held here, or what another node has reported.
pub fn owner(world: &World, address: IpAddr) -> Option<&Value> {
    if let Some(pod) = world.holder(address).filter(|pod| pod["spec"]["hostNetwork"] != true) {
        return Some(pod).filter(|pod| is_peer(pod));
    }
    let elsewhere = world.pods.iter().filter(|pod| pod["spec"]["nodeName"] != HERE && is_peer(pod));
    let elsewhere = elsewhere.filter(|pod| addresses(pod).any(|reported| reported == address));
    elsewhere.max_by_key(|pod| pod["metadata"]["creationTimestamp"].as_str().unwrap_or_default().to_owned())
}

fn rules(policy: &Value, direction: Direction) -> &[Value] {
    list(&policy["spec"][if direction == Direction::Ingress { "ingress" } else { "egress" }])
}
