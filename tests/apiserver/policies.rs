//! NetworkPolicies of the API, in force between pods.

use podwire_tests::lab::daemon::json as json_of;
use podwire_tests::lab::exchange::Responder;
use podwire_tests::lab::node::Node;
use podwire_tests::lab::policies::soon;
use podwire_tests::lab::scene::{FAMILIES, Outcome, check};
use podwire_tests::lab::stream::Stream;
use podwire_tests::lab::{SOON, eventually};
use serde_json::{Value, json};

use crate::api::Api;
use crate::stage::{policed, start};

pub(crate) const PODS: &str = "/api/v1/namespaces/default/pods";
pub(crate) const POLICIES: &str = "/apis/networking.k8s.io/v1/namespaces/default/networkpolicies";

/// A pod's object, as the scheduler leaves it.
pub(crate) fn scheduled(name: &str, node: &str, labels: &Value) -> Value {
    let ports = json!([{"name": "echo", "containerPort": 7777}]);
    let containers = json!([{"name": "main", "image": "none", "ports": ports}]);
    json!({
        "metadata": {"name": name, "labels": labels},
        "spec": {"nodeName": node, "containers": containers, "automountServiceAccountToken": false},
    })
}

/// Attaches a pod that has an object, and reports its addresses as kubelet does.
pub(crate) fn add_pod(api: &Api, node: &mut Node, name: &str, labels: &Value) -> Outcome {
    api.create(PODS, &scheduled(name, &node.host.name, labels))?;
    let pod = node.add_pod(name)?;
    let addresses: Vec<_> = FAMILIES.iter().map(|like| json!({"ip": pod.address(*like)})).collect();
    let first = addresses[0]["ip"].clone();
    let status = json!({"status": {"phase": "Running", "podIP": first, "podIPs": addresses}});
    api.patch(&format!("{PODS}/{name}/status"), &status).map(drop)
}

pub(crate) fn policy(name: &str, spec: &Value) -> Value {
    json!({"metadata": {"name": name}, "spec": spec})
}

#[test]
fn a_policy_of_the_api_is_in_force_between_pods_of_one_node_and_of_two() {
    policed(2, |lab, api| {
        add_pod(api, &mut lab.nodes[0], "server", &json!({"app": "server"}))?;
        add_pod(api, &mut lab.nodes[0], "near", &json!({"app": "client"}))?;
        add_pod(api, &mut lab.nodes[1], "far", &json!({"app": "client"}))?;
        add_pod(api, &mut lab.nodes[1], "other", &json!({"app": "other"}))?;
        let _responders = [(0, "server"), (0, "near")]
            .map(|(node, name)| Responder::start(&lab.nodes[node].pod(name).host))
            .into_iter()
            .collect::<Result<Vec<_>, _>>()?;
        let server = (0, "server");
        let from =
            |near, far, other| [((0, "near"), server, near), ((1, "far"), server, far), ((1, "other"), server, other)];
        soon(lab, &from(true, true, true))?;
        // Nobody at all: an empty selector and no rule.
        let everybody = json!({"podSelector": {}, "policyTypes": ["Ingress"]});
        api.create(POLICIES, &policy("deny", &everybody))?;
        soon(lab, &from(false, false, false))?;
        soon(lab, &[((1, "other"), (0, "near"), false)])?;
        // Clients, to the named port.
        let clients = json!({
            "podSelector": {"matchLabels": {"app": "server"}},
            "ingress": [{
                "from": [{"podSelector": {"matchLabels": {"app": "client"}}}],
                "ports": [{"port": "echo", "protocol": "TCP"}],
            }],
        });
        api.create(POLICIES, &policy("clients", &clients))?;
        soon(lab, &from(true, true, false))?;
        soon(lab, &[((1, "other"), (0, "near"), false)])?;
        // A label decides, as soon as it is changed.
        api.patch(&format!("{PODS}/other"), &json!({"metadata": {"labels": {"app": "client"}}}))?;
        soon(lab, &from(true, true, true))?;
        api.patch(&format!("{PODS}/far"), &json!({"metadata": {"labels": {"app": "none"}}}))?;
        soon(lab, &from(true, false, true))?;
        // The port of another number.
        let other_port =
            json!({"spec": {"ingress": [{"ports": [{"port": 7000, "endPort": 7776, "protocol": "TCP"}]}]}});
        api.patch(&format!("{POLICIES}/clients"), &other_port)?;
        soon(lab, &from(false, false, false))?;
        // Only of pods, and the range has the port.
        let range = json!({"spec": {"ingress": [{
            "from": [{"podSelector": {}}],
            "ports": [{"port": 7000, "endPort": 7777, "protocol": "TCP"}],
        }]}});
        api.patch(&format!("{POLICIES}/clients"), &range)?;
        soon(lab, &from(true, true, true))?;
        // Egress of the far end, by an ipBlock that leaves the server out.
        let blocks = json!([
            {"ipBlock": {"cidr": "0.0.0.0/0", "except": ["10.244.1.0/24"]}},
            {"ipBlock": {"cidr": "::/0", "except": ["fd00:10:244:1::/64"]}},
        ]);
        let outside = json!({
            "podSelector": {"matchLabels": {"app": "none"}},
            "policyTypes": ["Egress"],
            "egress": [{"to": blocks}],
        });
        api.create(POLICIES, &policy("outside", &outside))?;
        soon(lab, &from(true, false, true))?;
        // The last policy goes, and with it everything.
        for name in ["outside", "clients", "deny"] {
            api.delete(&format!("{POLICIES}/{name}"))?;
        }
        soon(lab, &from(true, true, true))?;
        soon(lab, &[((1, "other"), (0, "near"), true)])?;
        let table = lab.nodes[0].host.run("nft", &["-j", "list", "table", "inet", "podwire-policy"])?;
        let table: Value = serde_json::from_str(&table).map_err(|error| format!("{error}: {table}"))?;
        let sets = table["nftables"].as_array().into_iter().flatten().flat_map(|part| [&part["set"], &part["map"]]);
        let left: Vec<_> = sets.filter(|set| !set["elem"].is_null()).map(|set| set["name"].to_string()).collect();
        // What a decision comes to is always there.
        let are_fixed = left.iter().all(|name| name.contains("-verdicts"));
        check(are_fixed && left.len() == 4, || format!("something is left in force: {left:?}"))?;
        let problems = || Ok::<_, String>(json_of(&lab.nodes[0].host, &["status", "--json"])?["problems"].clone());
        check(problems()? == json!([]), || format!("{:?}", problems()))?;
        // Attachments of an earlier podwire have no name, and one whose record cannot be read stays isolated.
        api.create(POLICIES, &policy("deny", &everybody))?;
        soon(lab, &from(false, false, false))?;
        let records = "/run/podwire/podwire/attachments";
        let spoil = format!(
            "cd {records}; for record in *; do grep -q '\"server\"' $record && echo '{{' > $record; done
            sed -i 's/,\"pod\":{{[^}}]*}}//' *; ! grep '\"pod\"' *"
        );
        lab.nodes[0].host.run("sh", &["-c", &spoil])?;
        api.patch(&format!("{PODS}/other"), &json!({"metadata": {"labels": {"app": "none"}}}))?;
        eventually(SOON, || {
            let problems = problems()?;
            let named = |kind: &str, part: &str| {
                let is = |problem: &Value| problem["kind"] == kind && problem["text"].to_string().contains(part);
                problems.as_array().into_iter().flatten().any(is)
            };
            check(named("policies-not-in-force", "1 records of the ledger"), || problems.to_string())
        })?;
        soon(lab, &[((1, "other"), server, false)])
    });
}

#[test]
fn a_connection_that_a_new_policy_refuses_is_cut_and_goes_on_when_it_is_allowed_again() {
    policed(2, |lab, api| {
        add_pod(api, &mut lab.nodes[0], "server", &json!({"app": "server"}))?;
        add_pod(api, &mut lab.nodes[0], "near", &json!({}))?;
        add_pod(api, &mut lab.nodes[1], "far", &json!({}))?;
        let server = lab.nodes[0].pod("server");
        let mut streams = Vec::new();
        for like in FAMILIES {
            for client in [lab.nodes[0].pod("near"), lab.nodes[1].pod("far")] {
                streams.push(Stream::start(&client.host, &server.host, server.address(like))?);
                // And from the pod that will be isolated: replies to what it has begun itself.
                streams.push(Stream::start(&server.host, &client.host, client.address(like))?);
            }
        }
        streams.iter().try_for_each(Stream::flows)?;
        let deny = json!({"podSelector": {"matchLabels": {"app": "server"}}, "policyTypes": ["Ingress"]});
        api.create(POLICIES, &policy("deny", &deny))?;
        streams.iter().step_by(2).try_for_each(Stream::is_cut)?;
        streams.iter().skip(1).step_by(2).try_for_each(Stream::flows)?;
        // A daemon that starts anew finds them cut, and leaves them so.
        lab.nodes[0].daemon.take().ok_or("no daemon")?.kill()?;
        start(&mut lab.nodes[0])?;
        lab.nodes[0].daemon.as_ref().ok_or("no daemon")?.wait_for("the policies are in force", SOON)?;
        streams.iter().step_by(2).try_for_each(Stream::is_cut)?;
        streams.iter().skip(1).step_by(2).try_for_each(Stream::flows)?;
        api.delete(&format!("{POLICIES}/deny"))?;
        streams.iter().try_for_each(Stream::flows)?;
        // A client that is one no longer: no policy has changed, and no selector means the pod any more.
        let label = |value: &str| json!({"metadata": {"labels": {"app": value}}});
        api.patch(&format!("{PODS}/far"), &label("client"))?;
        let clients = json!({
            "podSelector": {"matchLabels": {"app": "server"}},
            "ingress": [{"from": [{"podSelector": {"matchLabels": {"app": "client"}}}]}],
        });
        api.create(POLICIES, &policy("clients", &clients))?;
        let (near, far) = (streams.iter().step_by(4), streams.iter().skip(2).step_by(4));
        near.clone().try_for_each(Stream::is_cut)?;
        far.clone().try_for_each(Stream::flows)?;
        api.patch(&format!("{PODS}/far"), &label("none"))?;
        far.clone().try_for_each(Stream::is_cut)?;
        streams.iter().skip(1).step_by(2).try_for_each(Stream::flows)
    });
}
