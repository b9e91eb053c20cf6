//! cyclonus, which knows no pods: it is told the labels and the namespace of both ends of a packet, and what the destination calls
//! the port. All clusters of a run are one for it, since their namespaces have names of their own.

use std::fs;
use std::path::Path;

use policy_model::packet::Packet;
use policy_model::stored::stored;
use policy_model::world::{World, addresses, is_peer, list};
use serde_json::{Value, json};

use crate::oracle::{Case, Said, run};

/// What cyclonus says.
pub(crate) fn judge(scratch: &Path, cases: &[Case]) -> Vec<Said> {
    let (mut policies, mut traffic) = (Vec::new(), Vec::new());
    for case in cases {
        let world = stored(&case.world);
        traffic.extend(case.packets.iter().map(|packet| asked(case.seed, &world, packet)));
        policies.extend(world.policies.into_iter().map(|mut policy| {
            let metadata = &mut policy["metadata"];
            metadata["namespace"] = json!(own_name(case.seed, &metadata["namespace"]));
            policy
        }));
    }
    let write = |name: &str, content: Value| {
        let path = scratch.join(name);
        fs::write(&path, content.to_string()).unwrap_or_else(|error| panic!("write {}: {error}", path.display()));
        path
    };
    let list = json!({"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicyList", "items": policies});
    let (policies, traffic) = (write("policies.json", list), write("traffic.json", json!(traffic)));
    let [policies, traffic] = [&policies, &traffic].map(|path| path.to_str().unwrap());
    let arguments = ["analyze", "--mode", "query-traffic", "--policy-path", policies, "--traffic-path", traffic];
    let said = run("cyclonus", &arguments, Path::new("/dev/null"));
    let verdict = |line: &str| match line {
        line if line.contains("TRUE") => Said::Both(true),
        line if line.contains("FALSE") => Said::Both(false),
        line => panic!("cyclonus says {line:?}"),
    };
    said.lines().filter(|line| line.contains("IS ALLOWED?")).map(verdict).collect()
}

/// A packet as cyclonus is asked for it.
fn asked(seed: u64, world: &World, packet: &Packet) -> Value {
    let owner = |address| world.pods.iter().find(|pod| is_peer(pod) && addresses(pod).any(|own| own == address));
    let end = |address| {
        let Some(pod) = owner(address) else { return json!({"IP": address}) };
        let name = &pod["metadata"]["namespace"];
        let namespace = world.namespaces.iter().find(|namespace| namespace["metadata"]["name"] == *name).unwrap();
        let internal = json!({
            "Namespace": own_name(seed, name), "NamespaceLabels": namespace["metadata"]["labels"],
            "PodLabels": pod["metadata"]["labels"],
        });
        json!({"IP": address, "Internal": internal})
    };
    let (protocol, port) = packet.port.unwrap_or(("ICMP", 0));
    let name = owner(packet.destination).and_then(|pod| name_of(pod, protocol, port)).unwrap_or_default();
    json!({
        "Source": end(packet.source), "Destination": end(packet.destination),
        "Protocol": protocol, "ResolvedPort": port, "ResolvedPortName": name,
    })
}

/// The first name that a pod has for a port.
fn name_of<'a>(pod: &'a Value, protocol: &str, port: u16) -> Option<&'a str> {
    let mut ports = ports(pod).filter(|one| one["protocol"] == protocol && one["containerPort"] == port);
    ports.find_map(|one| one["name"].as_str())
}

/// The ports of the containers that run as long as the pod.
fn ports(pod: &Value) -> impl Iterator<Item = &Value> {
    let sidecars = list(&pod["spec"]["initContainers"]).iter().filter(|one| one["restartPolicy"] == "Always");
    list(&pod["spec"]["containers"]).iter().chain(sidecars).flat_map(|container| list(&container["ports"]))
}

/// The name of a namespace among those of all clusters.
fn own_name(seed: u64, name: &Value) -> String {
    format!("{}-{seed}", name.as_str().unwrap())
}
