//! ClusterNetworkPolicies of the API, where their kind is installed, where it is not, and where it comes and goes.

use std::time::Duration;

use podwire_tests::lab::daemon::json as json_of;
use podwire_tests::lab::eventually;
use podwire_tests::lab::exchange::Responder;
use podwire_tests::lab::policies::{now, soon};
use podwire_tests::lab::scene::{Outcome, check};
use podwire_tests::lab::{Lab, SOON};
use serde_json::{Value, json};

use crate::api::Api;
use crate::policies::{POLICIES, add_pod, policy};
use crate::stage::policed;

/// How long it may take until a kind is noticed that has been installed: it is looked for twice a minute.
const NOTICED: Duration = Duration::from_secs(60);

/// Where they are, in one of the versions.
fn path(version: &str) -> String {
    format!("/apis/policy.networking.k8s.io/{version}/clusternetworkpolicies")
}

fn tier(name: &str, tier: &str, rules: &Value) -> Value {
    let mut spec = rules.clone();
    (spec["tier"], spec["priority"]) = (json!(tier), json!(10));
    spec["subject"] = json!({"pods": {"namespaceSelector": {}, "podSelector": {"matchLabels": {"app": "server"}}}});
    json!({"apiVersion": "policy.networking.k8s.io/v1beta1", "kind": "ClusterNetworkPolicy", "metadata": {"name": name}, "spec": spec})
}

/// Clients are dealt with so, and what they send to the named port.
fn from_clients(action: &str) -> Value {
    let from = json!([{"pods": {"namespaceSelector": {}, "podSelector": {"matchLabels": {"app": "client"}}}}]);
    json!({"ingress": [{"action": action, "from": from, "protocols": [{"destinationNamedPort": "echo"}]}]})
}

fn in_force(lab: &Lab) -> Outcome {
    eventually(SOON, || {
        let status = json_of(&lab.nodes[0].host, &["status", "--json"])?;
        let is_so = status["network_policy"]["in_force"] == true && status["problems"] == json!([]);
        check(is_so, || format!("{status:#}"))
    })
}

/// Three pods on two nodes, of which the server answers.
fn pods(lab: &mut Lab, api: &Api) -> Outcome<Responder> {
    add_pod(api, &mut lab.nodes[0], "server", &json!({"app": "server"}))?;
    add_pod(api, &mut lab.nodes[0], "near", &json!({"app": "other"}))?;
    add_pod(api, &mut lab.nodes[1], "far", &json!({"app": "client"}))?;
    Responder::start(&lab.nodes[0].pod("server").host)
}

/// A pod: the place of its node, and its name.
type At = (usize, &'static str);

fn from(near: bool, far: bool) -> [(At, At, bool); 2] {
    [((0, "near"), (0, "server"), near), ((1, "far"), (0, "server"), far)]
}

#[test]
fn policies_of_the_cluster_are_in_force_in_whichever_version_they_are_written() {
    policed(2, |lab, api| {
        api.install_cluster_policies(&["v1alpha2", "v1beta1"])?;
        let _responder = pods(lab, api)?;
        // It may have looked before the kind was there.
        api.create(&path("v1beta1"), &tier("deny", "Admin", &from_clients("Deny")))?;
        eventually(NOTICED, || soon(lab, &from(true, false)))?;
        // A NetworkPolicy cannot allow what the admin denies.
        api.create(POLICIES, &policy("open", &json!({"podSelector": {}, "ingress": [{}]})))?;
        in_force(lab)?;
        now(lab, &from(true, false))?;
        api.patch(&format!("{}/deny", path("v1beta1")), &json!({"spec": from_clients("Pass")}))?;
        soon(lab, &from(true, true))?;
        // What it denies it may allow, and what it allows it may deny.
        api.patch(&format!("{POLICIES}/open"), &json!({"spec": {"ingress": []}}))?;
        soon(lab, &from(false, false))?;
        api.patch(&format!("{}/deny", path("v1beta1")), &json!({"spec": from_clients("Accept")}))?;
        soon(lab, &from(false, true))?;
        // The baseline counts where no NetworkPolicy isolates.
        let nobody = json!({"ingress": [{"action": "Deny", "from": [{"namespaces": {}}]}]});
        api.create(&path("v1beta1"), &tier("nobody", "Baseline", &nobody))?;
        api.delete(&format!("{POLICIES}/open"))?;
        in_force(lab)?;
        soon(lab, &from(false, true))?;
        api.delete(&format!("{}/nobody", path("v1beta1")))?;
        soon(lab, &from(true, true))
    });
}

#[test]
fn where_the_kind_is_not_installed_policies_are_in_force_without_it_and_it_is_found_once_it_is() {
    policed(2, |lab, api| {
        let _responder = pods(lab, api)?;
        api.create(POLICIES, &policy("deny", &json!({"podSelector": {}, "ingress": []})))?;
        soon(lab, &from(false, false))?;
        in_force(lab)?;
        // Only in the version that is asked for second.
        api.install_cluster_policies(&["v1beta1"])?;
        api.create(&path("v1beta1"), &tier("accept", "Admin", &from_clients("Accept")))?;
        eventually(NOTICED, || soon(lab, &from(false, true)))?;
        // It goes, and with it what it accepts.
        api.uninstall_cluster_policies()?;
        soon(lab, &from(false, false))?;
        in_force(lab)
    });
}
