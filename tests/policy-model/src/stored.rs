//! Documents as the API server stores them: defaults set, and empty lists of rules left out. Others are asked with these, and
//! podwire with what was written.

use serde_json::{Value, json};

use crate::world::{World, items};

/// A cluster whose documents say what they are.
pub fn typed(world: &World) -> World {
    let mut typed = world.clone();
    let kinds = [
        (&mut typed.namespaces, "v1", "Namespace"),
        (&mut typed.pods, "v1", "Pod"),
        (&mut typed.policies, "networking.k8s.io/v1", "NetworkPolicy"),
        (&mut typed.cluster_policies, "policy.networking.k8s.io/v1alpha2", "ClusterNetworkPolicy"),
    ];
    for (documents, version, kind) in kinds {
        for document in documents {
            (document["apiVersion"], document["kind"]) = (json!(version), json!(kind));
        }
    }
    typed
}

/// A cluster as the API server would have it. Policies that only podwire knows not to enforce are left out.
pub fn stored(world: &World) -> World {
    let mut stored = typed(world);
    stored.policies.retain(|policy| policy["metadata"]["annotations"]["podwire.dev/audit"] != "true");
    stored.cluster_policies.retain(|policy| policy["metadata"]["annotations"]["podwire.dev/audit"] != "true");
    for namespace in &mut stored.namespaces {
        let name = namespace["metadata"]["name"].clone();
        namespace["metadata"]["labels"]["kubernetes.io/metadata.name"] = name;
    }
    for pod in &mut stored.pods {
        pod["status"]["podIP"] = pod["status"]["podIPs"][0]["ip"].clone();
        for containers in ["containers", "initContainers"] {
            for container in items(&mut pod["spec"][containers]) {
                items(&mut container["ports"]).iter_mut().for_each(set_protocol);
            }
        }
    }
    for policy in &mut stored.policies {
        let spec = policy["spec"].as_object_mut().unwrap();
        if spec.get("policyTypes").is_none_or(|types| *types == json!([])) {
            let egress = spec.get("egress").is_some_and(|rules| *rules != json!([]));
            let types = if egress { json!(["Ingress", "Egress"]) } else { json!(["Ingress"]) };
            spec.insert("policyTypes".into(), types);
        }
        for direction in ["ingress", "egress"] {
            if spec.get(direction).is_some_and(|rules| *rules == json!([])) {
                spec.remove(direction);
            }
            for rule in spec.get_mut(direction).map(items).into_iter().flatten() {
                items(&mut rule["ports"]).iter_mut().for_each(set_protocol);
            }
        }
    }
    stored
}

fn set_protocol(port: &mut Value) {
    if port["protocol"].is_null() {
        port["protocol"] = json!("TCP");
    }
}
