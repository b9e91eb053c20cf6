//! NetworkPolicy as the API documents it, read off the documents for one packet at a time. Slow and plain: nothing of the
//! compiler's is used, and nothing is decoded before.

use std::net::IpAddr;

use ipnetwork::IpNetwork;
use serde_json::Value;

use crate::policy::network_policy::Direction;
use crate::policy::port::Protocol;
use crate::policy::tests::world::{HERE, World};

/// The port that a packet goes to.
type Port = Option<(Protocol, u16)>;

/// Whether one end allows a packet.
pub(super) fn allows(world: &World, direction: Direction, own: IpAddr, peer: IpAddr, port: Port) -> bool {
    let isolating = isolating(world, direction, own);
    let rules = |policy: &&Value| rules(policy, direction).len();
    own == peer
        || isolating.is_empty()
        || isolating
            .iter()
            .any(|policy| (0..rules(policy)).any(|rule| rule_allows(world, direction, policy, rule, (own, peer), port)))
}

/// The policies that isolate the pod that has an address.
pub(super) fn isolating(world: &World, direction: Direction, own: IpAddr) -> Vec<&Value> {
    let Some(pod) = held(world, own).filter(|pod| pod["spec"]["hostNetwork"] != true) else { return Vec::new() };
    let isolates = |policy: &&Value| {
        let types = list(&policy["spec"]["policyTypes"]);
        let isolates = match direction {
            Direction::Ingress => types.is_empty() || types.iter().any(|name| name == "Ingress"),
            Direction::Egress if types.is_empty() => !list(&policy["spec"]["egress"]).is_empty(),
            Direction::Egress => types.iter().any(|name| name == "Egress"),
        };
        isolates
            && policy["metadata"]["annotations"]["podwire.dev/audit"] != "true"
            && policy["metadata"]["namespace"] == pod["metadata"]["namespace"]
            && selects(&policy["spec"]["podSelector"], &pod["metadata"]["labels"])
    };
    world.policies.iter().filter(isolates).collect()
}

/// Whether a rule of a policy that isolates allows a packet: of two addresses, the pod's own and its peer's.
pub(super) fn rule_allows(
    world: &World,
    direction: Direction,
    policy: &Value,
    rule: usize,
    (own, peer): (IpAddr, IpAddr),
    port: Port,
) -> bool {
    let rule = &rules(policy, direction)[rule];
    let peers = list(&rule[if direction == Direction::Ingress { "from" } else { "to" }]);
    let ports = list(&rule["ports"]);
    let destination = if direction == Direction::Ingress { held(world, own) } else { owner(world, peer) };
    (peers.is_empty() || peers.iter().any(|selector| is_peer(world, policy, selector, peer)))
        && (ports.is_empty()
            || port.is_some_and(|port| ports.iter().any(|allowed| is_port(allowed, port, destination))))
}

fn is_peer(world: &World, policy: &Value, selector: &Value, peer: IpAddr) -> bool {
    if selector["ipBlock"].is_object() {
        let stands_for = world.judged_as.iter().find(|(address, _)| *address == peer).map_or(peer, |(_, other)| *other);
        let is_in = |prefix: &Value| prefix.as_str().unwrap().parse::<IpNetwork>().unwrap().contains(stands_for);
        return is_in(&selector["ipBlock"]["cidr"]) && !list(&selector["ipBlock"]["except"]).iter().any(is_in);
    }
    let Some(pod) = owner(world, peer) else { return false };
    let in_namespace = if selector["namespaceSelector"].is_null() {
        pod["metadata"]["namespace"] == policy["metadata"]["namespace"]
    } else {
        let name = &pod["metadata"]["namespace"];
        let namespace = world.namespaces.iter().find(|namespace| namespace["metadata"]["name"] == *name);
        namespace.is_some_and(|namespace| {
            let mut labels = namespace["metadata"]["labels"].clone();
            labels["kubernetes.io/metadata.name"] = name.clone();
            selects(&selector["namespaceSelector"], &labels)
        })
    };
    in_namespace && selects(&selector["podSelector"], &pod["metadata"]["labels"])
}

fn is_port(allowed: &Value, (protocol, port): (Protocol, u16), destination: Option<&Value>) -> bool {
    let protocol = protocol.to_string();
    let same = |written: &Value| written.as_str().unwrap_or("TCP") == protocol;
    let port = u64::from(port);
    same(&allowed["protocol"])
        && match &allowed["port"] {
            Value::Null => true,
            Value::Number(first) => {
                let first = first.as_u64().unwrap();
                (first..=allowed["endPort"].as_u64().unwrap_or(first)).contains(&port)
            }
            name => destination.is_some_and(|pod| {
                let sidecars =
                    list(&pod["spec"]["initContainers"]).iter().filter(|one| one["restartPolicy"] == "Always");
                let containers = list(&pod["spec"]["containers"]).iter().chain(sidecars);
                let mut declared = containers.flat_map(|container| list(&container["ports"]));
                declared.any(|one| one["name"] == *name && same(&one["protocol"]) && one["containerPort"] == port)
            }),
        }
}

fn selects(selector: &Value, labels: &Value) -> bool {
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

/// The pod that holds an address here.
fn held(world: &World, address: IpAddr) -> Option<&Value> {
    world.held.iter().find(|(held, _)| *held == address).map(|(_, place)| &world.pods[*place])
}

/// The pod that an address belongs to, if selectors can match it: what is held here, or what another node has reported.
fn owner(world: &World, address: IpAddr) -> Option<&Value> {
    let has = |pod: &&Value| {
        let addresses = list(&pod["status"]["podIPs"]);
        addresses.iter().any(|entry| entry["ip"].as_str().unwrap().parse() == Ok(address))
    };
    let lives = |pod: &&Value| {
        pod["spec"]["hostNetwork"] != true
            && pod["status"]["phase"] != "Succeeded"
            && pod["status"]["phase"] != "Failed"
    };
    if let Some(pod) = held(world, address).filter(|pod| pod["spec"]["hostNetwork"] != true) {
        return Some(pod).filter(lives);
    }
    let elsewhere = world.pods.iter().filter(|pod| pod["spec"]["nodeName"] != HERE).filter(lives).filter(has);
    elsewhere.max_by_key(|pod| pod["metadata"]["creationTimestamp"].as_str().unwrap_or_default().to_owned())
}

fn rules(policy: &Value, direction: Direction) -> &[Value] {
    list(&policy["spec"][if direction == Direction::Ingress { "ingress" } else { "egress" }])
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}
