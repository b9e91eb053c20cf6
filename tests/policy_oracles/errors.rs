//! The known errors of the oracles. Each has been seen; one that is seen no more fails the test, and goes.

use policy_model::evaluator::selects;
use policy_model::world::{World, items, list};
use serde_json::{Value, json};

use crate::cyclonus;
use crate::engine;
use crate::oracle::{KnownError, Oracle};

/// Every value that labels have.
const VALUES: [&str; 6] = ["x", "y", "", "a", "b", "c"];

/// cyclonus. It knows no pods: who has an address it is told, so pods that have finished or are on their node's network are
/// nobody for it. That a pod reaches itself it does not know, and is not asked.
pub(crate) const CYCLONUS: Oracle = Oracle {
    name: "cyclonus",
    judge: cyclonus::judge,
    errors: &[
        KnownError {
            why: "refuses NotIn where the key is missing; Kubernetes selects such objects",
            reads_as: |world| each_selector(world, &mut not_in_wants_the_key),
        },
        KnownError {
            why: "takes a missing key for an empty value in matchLabels",
            reads_as: |world| each_selector(world, &mut empty_value_is_no_key),
        },
        KnownError { why: "is told one name of a port only", reads_as: one_name_a_port },
    ],
};

/// The engine. It finds pods by their addresses, as podwire does. Of the two forms that an API server accepts it is asked with the
/// stored one: it takes `ingress: []` for a rule that allows all, and does nothing about a policy without types. It knows no
/// namespace that has no object, and not that a pod reaches itself: neither is asked for.
pub(crate) const ENGINE: Oracle =
    Oracle { name: "the engine of kube-network-policies", judge: engine::judge, errors: &[FINISHED, SIDECARS] };

/// The same beside ClusterNetworkPolicies.
pub(crate) const ENGINE_WITH_TIERS: Oracle = Oracle {
    name: "the engine of kube-network-policies",
    judge: engine::judge,
    errors: &[
        FINISHED,
        SIDECARS,
        KnownError {
            why: "accepts, before the Baseline tier, what a NetworkPolicy of the other direction only says nothing of",
            reads_as: one_direction_decides_both,
        },
    ],
};

const FINISHED: KnownError =
    KnownError { why: "counts pods that have finished, as subjects and as peers", reads_as: finished_pods_run };
const SIDECARS: KnownError =
    KnownError { why: "knows no named ports of sidecars (init containers that stay)", reads_as: no_sidecars };

fn not_in_wants_the_key(selector: &mut Value) {
    let expressions = selector["matchExpressions"].as_array_mut();
    let Some(expressions) = expressions else { return };
    let keys: Vec<_> =
        expressions.iter().filter(|one| one["operator"] == "NotIn").map(|one| one["key"].clone()).collect();
    expressions.extend(keys.into_iter().map(|key| json!({"key": key, "operator": "Exists"})));
}

fn empty_value_is_no_key(selector: &mut Value) {
    let Some(labels) = selector["matchLabels"].as_object_mut() else { return };
    let empty: Vec<_> = labels.iter().filter(|(_, value)| **value == "").map(|(key, _)| key.clone()).collect();
    labels.retain(|_, value| *value != "");
    let others: Vec<_> = VALUES.into_iter().filter(|value| !value.is_empty()).collect();
    let expressions = empty.into_iter().map(|key| json!({"key": key, "operator": "NotIn", "values": others}));
    if !selector["matchExpressions"].is_array() {
        selector["matchExpressions"] = json!([]);
    }
    selector["matchExpressions"].as_array_mut().unwrap().extend(expressions);
}

fn one_name_a_port(world: &mut World) {
    for pod in &mut world.pods {
        let mut seen = Vec::new();
        for containers in ["containers", "initContainers"] {
            for container in items(&mut pod["spec"][containers]) {
                if containers == "initContainers" && container["restartPolicy"] != "Always" {
                    continue;
                }
                for port in items(&mut container["ports"]) {
                    let protocol = port["protocol"].as_str().unwrap_or("TCP").to_owned();
                    let key = (protocol, port["containerPort"].clone());
                    if seen.contains(&key) {
                        port["name"] = json!("");
                    } else {
                        seen.push(key);
                    }
                }
            }
        }
    }
}

fn finished_pods_run(world: &mut World) {
    world.pods.iter_mut().for_each(|pod| pod["status"]["phase"] = json!("Running"));
}

/// A pod that is selected, and in a direction by no policy, has one of its own there, which allows everything.
fn one_direction_decides_both(world: &mut World) {
    let is_of = |policy: &Value, name: &str| {
        let types = list(&policy["spec"]["policyTypes"]);
        match types.is_empty() {
            true => name == "Ingress" || !list(&policy["spec"]["egress"]).is_empty(),
            false => types.iter().any(|one| one == name),
        }
    };
    let mut own = Vec::new();
    for (number, pod) in world.pods.iter_mut().enumerate() {
        let (namespace, labels) = (&pod["metadata"]["namespace"], &pod["metadata"]["labels"]);
        let selects_it = |policy: &&Value| {
            policy["metadata"]["namespace"] == *namespace
                // It is told of those that are enforced.
                && policy["metadata"]["annotations"]["podwire.dev/audit"] != "true"
                && selects(&policy["spec"]["podSelector"], labels)
        };
        let selecting: Vec<_> = world.policies.iter().filter(selects_it).collect();
        let lacks = |name: &&str| !selecting.is_empty() && !selecting.iter().any(|policy| is_of(policy, name));
        for name in ["Ingress", "Egress"].into_iter().filter(lacks) {
            let spec = json!({
                "podSelector": {"matchLabels": {"own": number.to_string()}},
                "policyTypes": [name],
                name.to_lowercase(): [{}],
            });
            own.push(
                json!({"metadata": {"name": format!("own-{number}-{name}"), "namespace": namespace}, "spec": spec}),
            );
        }
        if !pod["metadata"]["labels"].is_object() {
            pod["metadata"]["labels"] = json!({});
        }
        pod["metadata"]["labels"]["own"] = json!(number.to_string());
    }
    world.policies.extend(own);
}

fn no_sidecars(world: &mut World) {
    world.pods.iter_mut().for_each(|pod| pod["spec"]["initContainers"] = json!([]));
}

/// Changes every selector of every policy.
fn each_selector(world: &mut World, change: &mut impl FnMut(&mut Value)) {
    for policy in &mut world.policies {
        let spec = &mut policy["spec"];
        change(&mut spec["podSelector"]);
        for (direction, peers) in [("ingress", "from"), ("egress", "to")] {
            for rule in items(&mut spec[direction]) {
                for peer in items(&mut rule[peers]) {
                    for selector in ["podSelector", "namespaceSelector"] {
                        if peer[selector].is_object() {
                            change(&mut peer[selector]);
                        }
                    }
                }
            }
        }
    }
}
