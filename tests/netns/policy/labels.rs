//! Whose labels a pod has without an API: those of its runtime, of the network, of its object; and its name and namespace.

use podwire_tests::lab::exchange::Responder;
use podwire_tests::lab::policies::{add_pod, policed, put, remove, soon, write};
use serde_json::{Value, json};

/// Only pods that this selects reach the servers.
fn only(from: &Value) -> Value {
    json!({"podSelector": {"matchLabels": {"app": "server"}}, "ingress": [{"from": [from]}]})
}

#[test]
fn labels_of_the_runtime_come_over_those_of_the_network_and_an_object_over_both() {
    policed(1, |lab| {
        let node = &mut lab.nodes[0];
        let mut labelled = node.configuration()?;
        labelled["labels"] = json!({"app": "client", "zone": "a"});
        add_pod(node, "server", &[("app", "server")])?;
        node.add_pod_as("by-network", |call| call.configured(&labelled))?;
        let arguments = "K8S_POD_NAMESPACE=default;K8S_POD_NAME=by-runtime;label:app=other";
        node.add_pod_as("by-runtime", |call| call.configured(&labelled).with("CNI_ARGS", arguments))?;
        add_pod(node, "unlabelled", &[])?;
        let _server = Responder::start(&node.pod("server").host)?;
        let to_server = |network, runtime, unlabelled| {
            [("by-network", network), ("by-runtime", runtime), ("unlabelled", unlabelled)]
                .map(|(from, passes)| ((0, from), (0, "server"), passes))
        };
        put(lab, "only", &only(&json!({"podSelector": {"matchLabels": {"app": "client"}}})))?;
        soon(lab, &to_server(true, false, false))?;
        put(lab, "only", &only(&json!({"podSelector": {"matchLabels": {"zone": "a"}}})))?;
        soon(lab, &to_server(true, true, false))?;
        let object = |name: &str, labels: &str| {
            format!("apiVersion: v1\nkind: Pod\nmetadata:\n  name: {name}\n  labels: {labels}\n")
        };
        write(lab, "a.yaml", &object("unlabelled", "{zone: a}"))?;
        write(lab, "b.yaml", &object("by-network", "{}"))?;
        soon(lab, &to_server(false, true, true))?;
        write(lab, "a.yaml", &object("unlabelled", "{zone: b}"))?;
        soon(lab, &to_server(false, true, false))?;
        remove(lab, "b.yaml")?;
        soon(lab, &to_server(true, true, false))
    });
}

#[test]
fn a_pod_that_nobody_names_is_in_the_default_namespace_and_called_as_its_container() {
    policed(1, |lab| {
        let node = &mut lab.nodes[0];
        add_pod(node, "server", &[("app", "server")])?;
        node.add_pod_as("unnamed", |call| call.without("CNI_ARGS"))?;
        // As podman calls.
        node.add_pod_as("half-named", |call| call.with("CNI_ARGS", "IgnoreUnknown=1;K8S_POD_NAME=half"))?;
        let shop = "K8S_POD_NAMESPACE=shop;K8S_POD_NAME=named";
        node.add_pod_as("in-shop", |call| call.with("CNI_ARGS", shop))?;
        let _server = Responder::start(&node.pod("server").host)?;
        let to_server = |unnamed, half, shop| {
            [("unnamed", unnamed), ("half-named", half), ("in-shop", shop)]
                .map(|(from, passes)| ((0, from), (0, "server"), passes))
        };
        // The namespace of the policy is `default`.
        put(lab, "only", &only(&json!({"podSelector": {}})))?;
        soon(lab, &to_server(true, true, false))?;
        let named = json!({"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "shop"}}});
        put(lab, "only", &only(&named))?;
        soon(lab, &to_server(false, false, true))?;
        // A namespace has other labels by its object only.
        put(lab, "only", &only(&json!({"namespaceSelector": {"matchLabels": {"team": "a"}}})))?;
        soon(lab, &to_server(false, false, false))?;
        write(lab, "shop.yaml", "{apiVersion: v1, kind: Namespace, metadata: {name: shop, labels: {team: a}}}")?;
        soon(lab, &to_server(false, false, true))?;
        let object =
            |name: &str| format!("{{apiVersion: v1, kind: Pod, metadata: {{name: {name}, labels: {{app: client}}}}}}");
        put(lab, "only", &only(&json!({"podSelector": {"matchLabels": {"app": "client"}}})))?;
        soon(lab, &to_server(false, false, false))?;
        write(lab, "half.yaml", &object("half"))?;
        soon(lab, &to_server(false, true, false))?;
        write(lab, "unnamed.yaml", &object("unnamed"))?;
        soon(lab, &to_server(true, true, false))
    });
}

#[test]
fn a_container_that_takes_the_place_of_another_has_its_own_labels() {
    policed(1, |lab| {
        let node = &mut lab.nodes[0];
        add_pod(node, "server", &[("app", "server")])?;
        for (container, app) in [("first", "client"), ("second", "other")] {
            let arguments = format!("K8S_POD_NAMESPACE=default;K8S_POD_NAME=web;label:app={app}");
            node.add_pod_as(container, |call| call.with("CNI_ARGS", &arguments))?;
        }
        let _server = Responder::start(&node.pod("server").host)?;
        put(lab, "only", &only(&json!({"podSelector": {"matchLabels": {"app": "client"}}})))?;
        soon(lab, &[((0, "first"), (0, "server"), true), ((0, "second"), (0, "server"), false)])?;
        put(lab, "only", &only(&json!({"podSelector": {"matchLabels": {"app": "other"}}})))?;
        soon(lab, &[((0, "first"), (0, "server"), false), ((0, "second"), (0, "server"), true)])
    });
}
