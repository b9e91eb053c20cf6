//! A cluster as its API has it: nodes, namespaces, pods and policies, the same in every run. What may not live here: how they
//! are served.
//!
//! 50 namespaces; of each the policies that the numbers come from. 30 % of the policies select pods of this node, one pod is
//! selected by all policies of its namespace, the last four by none. A third of those that are in force lets in the pods that have the label
//! `client`, wherever they are: a pod that comes with it matters to 100 of 1,000 policies.

use std::net::{Ipv4Addr, Ipv6Addr};

use serde_json::{Value, json};

use crate::daemon::plan;

/// The namespaces; pods of this node are in the first [`HERE`] of them.
const NAMESPACES: u32 = 50;
const HERE: u32 = 15;

/// The applications that pods are of.
pub(crate) const APPS: u32 = 40;

/// Pods of this node.
pub(crate) const OWN: u32 = 100;

/// The node that is measured.
pub(crate) const NODE: u32 = 1;

/// How large a cluster is.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Size {
    /// All policies.
    pub(crate) policies: u32,
    /// All pods, those of this node included.
    pub(crate) pods: u32,
    /// All nodes, this one included.
    pub(crate) nodes: u32,
}

/// The name of a namespace.
fn namespace(number: u32) -> String {
    format!("team-{}", number % NAMESPACES)
}

/// Namespace and name of a pod of this node.
pub(crate) fn own(number: u32) -> (String, String) {
    (format!("team-{}", number % HERE), format!("own-{number}"))
}

/// The UID of a pod: it tells which pod of a name is meant.
pub(crate) fn uid(name: &str) -> String {
    format!("uid-of-{name}")
}

/// The addresses of a pod elsewhere, out of its node's: every number has its own.
pub(crate) fn addresses(number: u32, nodes: u32) -> (Ipv4Addr, Ipv6Addr) {
    let others = nodes.saturating_sub(1).max(1);
    let ((four, six), place) = (plan::pods(NODE + 1 + number % others), 2 + number / others);
    (Ipv4Addr::from(u32::from(four) + place), Ipv6Addr::from(u128::from(six) + u128::from(place)))
}

/// All Nodes.
pub(crate) fn nodes(size: Size) -> Vec<String> {
    let node = |number: u32| {
        let (name, address, (four, six)) = (plan::name(number), plan::underlay(number), plan::pods(number));
        let node = json!({
            "metadata": {"name": name, "uid": uid(&name), "resourceVersion": "1", "creationTimestamp": "2026-01-01T00:00:00Z"},
            "spec": {"podCIDR": format!("{four}/24"), "podCIDRs": [format!("{four}/24"), format!("{six}/64")]},
            "status": {"addresses": [{"type": "InternalIP", "address": address}], "conditions": noise()},
        });
        node.to_string()
    };
    (1..=size.nodes).map(node).collect()
}

/// All namespaces.
pub(crate) fn namespaces() -> Vec<String> {
    let namespace = |number: u32| {
        let name = namespace(number);
        let labels = json!({"zone": format!("zone-{}", number % 5)});
        json!({"metadata": {"name": name, "uid": uid(&name), "resourceVersion": "1", "labels": labels}}).to_string()
    };
    (0..NAMESPACES).map(namespace).collect()
}

/// All pods; those of this node have the addresses that were given to them.
pub(crate) fn pods(size: Size, own_addresses: &[Vec<String>]) -> Vec<String> {
    let here = (0..).zip(own_addresses).map(|(number, addresses)| {
        let (namespace, name) = own(number);
        // The first is in every group of its namespace.
        let group = match number {
            0 => "hub".to_owned(),
            number if number + 2 >= OWN => "free".to_owned(),
            number if number + 4 >= OWN => "beside".to_owned(),
            number => format!("group-{}", number / HERE % 6),
        };
        let labels = json!({"app": format!("app-{}", number % APPS), "group": group});
        pod(&namespace, &name, &plan::name(NODE), &labels, addresses).to_string()
    });
    let elsewhere = (0..size.pods.saturating_sub(OWN)).map(|number| {
        let (four, six) = addresses(number, size.nodes);
        let mut labels =
            json!({"app": format!("app-{}", number / NAMESPACES % APPS), "tier": format!("tier-{}", number % 3)});
        if number % 100 == 7 {
            labels["client"] = json!("yes");
        }
        let node = plan::name(NODE + 1 + number % size.nodes.saturating_sub(1).max(1));
        pod(&namespace(number), &format!("pod-{number}"), &node, &labels, &[four.to_string(), six.to_string()])
            .to_string()
    });
    here.chain(elsewhere).collect()
}

/// A pod as the API has it.
pub(crate) fn pod(namespace: &str, name: &str, node: &str, labels: &Value, addresses: &[String]) -> Value {
    let listed: Vec<_> = addresses.iter().map(|address| json!({"ip": address})).collect();
    let containers = json!([{
        "name": "main", "image": "registry.example/main:v1.0.0", "imagePullPolicy": "IfNotPresent",
        "env": [{"name": "A", "value": "1"}, {"name": "B", "value": "2"}],
        "ports": [{"name": "http", "containerPort": 8080, "protocol": "TCP"}],
        "resources": {"limits": {"cpu": "1", "memory": "128Mi"}, "requests": {"cpu": "100m", "memory": "64Mi"}},
    }]);
    json!({
        "metadata": {
            "name": name, "namespace": namespace, "uid": uid(name), "resourceVersion": "1", "labels": labels,
            "creationTimestamp": "2026-01-01T00:00:00Z",
            "ownerReferences": [{"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": name, "uid": uid(name), "controller": true}],
        },
        "spec": {"nodeName": node, "containers": containers, "restartPolicy": "Always", "serviceAccountName": "default"},
        "status": {"phase": "Running", "podIP": addresses.first(), "podIPs": listed, "conditions": noise()},
    })
}

/// What everybody has to read over.
fn noise() -> Value {
    let conditions = ["Ready", "ContainersReady", "Initialized", "PodScheduled", "PodReadyToStartContainers"];
    let condition = |kind: &str| json!({"type": kind, "status": "True", "lastProbeTime": null, "lastTransitionTime": "2026-01-01T00:00:00Z"});
    conditions.map(condition).to_vec().into()
}

/// All policies.
pub(crate) fn policies(size: Size) -> Vec<String> {
    (0..size.policies).map(|number| policy(number).to_string()).collect()
}

fn policy(number: u32) -> Value {
    let place = number / NAMESPACES;
    let groups = json!([format!("group-{}", place % 6), "hub"]);
    let mut from = vec![
        json!({"podSelector": {"matchLabels": {"app": format!("app-{}", number % APPS)}}}),
        json!({
            "namespaceSelector": {"matchLabels": {"zone": format!("zone-{}", number % 5)}},
            "podSelector": {"matchLabels": {"app": format!("app-{}", (number + 7) % APPS)}},
        }),
    ];
    if place.is_multiple_of(3) {
        from.push(json!({"namespaceSelector": {}, "podSelector": {"matchLabels": {"client": "yes"}}}));
    }
    if place % 10 == 1 {
        let (four, six) = (number % 200, number % 5000);
        from.push(
            json!({"ipBlock": {"cidr": format!("192.168.{four}.0/24"), "except": [format!("192.168.{four}.128/25")]}}),
        );
        from.push(json!({"ipBlock": {"cidr": format!("2001:db8:{six}::/64")}}));
    }
    let mut ports =
        vec![json!({"protocol": "TCP", "port": 8000 + number % 7}), json!({"protocol": "TCP", "port": "http"})];
    if place % 7 == 2 {
        ports.push(json!({"protocol": "UDP", "port": 5000, "endPort": 5000 + number % 50}));
    }
    let mut spec = json!({
        "podSelector": {"matchExpressions": [{"key": "group", "operator": "In", "values": groups}]},
        "policyTypes": ["Ingress"],
        "ingress": [{"from": from, "ports": ports}],
    });
    if place % 3 == 1 {
        spec["policyTypes"] = json!(["Ingress", "Egress"]);
        let app = format!("app-{}", (number + 11) % APPS);
        spec["egress"] = json!([
            {"to": [{"namespaceSelector": {}, "podSelector": {"matchLabels": {"app": app}}}]},
            {"ports": [{"protocol": "UDP", "port": 53}]},
        ]);
    }
    let metadata = json!({"name": format!("policy-{number}"), "namespace": namespace(number), "uid": uid(&number.to_string()), "resourceVersion": "1"});
    json!({"metadata": metadata, "spec": spec})
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    const SIZE: Size = Size { policies: 1_000, pods: 10_000, nodes: 1_000 };

    #[test]
    fn every_pod_has_an_address_of_its_own() {
        let addresses: BTreeSet<_> = (0..20_000).map(|number| addresses(number, SIZE.nodes)).collect();
        assert_eq!(addresses.len(), 20_000);
    }

    #[test]
    fn a_third_of_the_policies_in_force_lets_clients_in() {
        let in_force = |number: &u32| number % NAMESPACES < HERE;
        let clients = (0..SIZE.policies).filter(in_force).map(policy).filter(|policy| {
            policy["spec"]["ingress"][0]["from"]
                .as_array()
                .unwrap()
                .iter()
                .any(|peer| peer.to_string().contains("client"))
        });
        assert_eq!((0..SIZE.policies).filter(in_force).count(), 300);
        assert_eq!(clients.count(), 105);
    }
}
