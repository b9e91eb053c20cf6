//! How a scene with an API server is set: Nodes as objects, and daemons that read them.

use std::net::IpAddr;
use std::process::Command;

use ipnetwork::IpNetwork;
use podwire_tests::lab::host::SHARED;
use podwire_tests::lab::node::Node;
use podwire_tests::lab::scene::{Outcome, check, scene};
use podwire_tests::lab::{Lab, SOON, eventually, membership, program};
use serde_json::{Value, json};

use crate::api::{Api, NODES};

/// Where the daemon of a node keeps the last membership.
pub(crate) const STATE: &str = "/run/podwired-state";

/// The settings of the daemons.
const SETTINGS: &str = "cluster_cidrs = [\"10.244.0.0/16\", \"fd00:10:244::/48\"]\n";

/// Their settings with policies in force.
pub(crate) const SETTINGS_WITH_POLICIES: &str =
    "cluster_cidrs = [\"10.244.0.0/16\", \"fd00:10:244::/48\"]\nnetwork_policy = true\n";

/// Plays a scene on some hosts that can be nodes, with an API server outside that knows no node yet. Its account may read
/// nodes, and its kubeconfig is where [`start`] looks for it.
#[track_caller]
pub(crate) fn kubernetes(nodes: u16, body: impl FnOnce(&mut Lab, &mut Api) -> Outcome) {
    scene(nodes, |lab| {
        let mut api = Api::start(&lab.outside)?;
        api.allow()?;
        share(lab, "kubeconfig", &api.kubeconfig(&api.token()?))?;
        share(lab, "podwired.toml", SETTINGS)?;
        body(lab, &mut api)
    });
}

/// The same with all hosts being nodes whose daemons are ready.
#[track_caller]
pub(crate) fn cluster(nodes: u16, body: impl FnOnce(&mut Lab, &mut Api) -> Outcome) {
    kubernetes(nodes, |lab, api| {
        for number in 1..=nodes {
            api.create(NODES, &node(number))?;
        }
        for node in &mut lab.nodes {
            start(node)?;
        }
        lab.nodes.iter().try_for_each(Node::wait_ready)?;
        body(lab, api)
    });
}

/// The same with policies in force: the daemons' account may read what they are made of.
#[track_caller]
pub(crate) fn policed(nodes: u16, body: impl FnOnce(&mut Lab, &mut Api) -> Outcome) {
    kubernetes(nodes, |lab, api| {
        api.allow_policies()?;
        // Pods are accepted only where their account is.
        api.create("/api/v1/namespaces/default/serviceaccounts", &json!({"metadata": {"name": "default"}}))?;
        share(lab, "podwired.toml", SETTINGS_WITH_POLICIES)?;
        for number in 1..=nodes {
            api.create(NODES, &node(number))?;
        }
        for node in &mut lab.nodes {
            start(node)?;
        }
        lab.nodes.iter().try_for_each(Node::wait_ready)?;
        body(lab, api)
    });
}

/// Writes a file into the directory that all hosts share.
pub(crate) fn share(lab: &Lab, name: &str, text: &str) -> Outcome {
    let path = format!("{SHARED}/{name}");
    let write =
        || std::fs::write(format!("{path}.new"), text).and_then(|()| std::fs::rename(format!("{path}.new"), &path));
    lab.outside.enter(write).map_err(|error| format!("write {path}: {error}"))
}

/// Starts a node's daemon.
pub(crate) fn start(node: &mut Node) -> Outcome {
    start_with(node, &["--kubeconfig", &format!("{SHARED}/kubeconfig")], &[])
}

/// The same with other arguments behind `--kubernetes`, and variables in its environment.
pub(crate) fn start_with(node: &mut Node, arguments: &[&str], environment: &[(&str, String)]) -> Outcome {
    let mut command = Command::new(program("podwired").map_err(|error| error.to_string())?);
    command.args(["run", "--kubernetes", "--settings", &format!("{SHARED}/podwired.toml")]);
    command.args(["--state-directory", STATE]).args(arguments);
    command.env("NODE_NAME", &node.host.name);
    command.envs(environment.iter().map(|(name, value)| (name, value)));
    node.daemon = Some(node.host.start(&format!("podwired of {}", node.host.name), &mut command)?);
    Ok(())
}

/// A Node as kubelet and the controllers make it, by the lab's plan.
pub(crate) fn node(number: u16) -> Value {
    let addresses: Vec<_> = membership::underlay(number).iter().map(IpNetwork::ip).collect();
    node_with(&membership::name(number), &addresses, &membership::pod_cidrs(number))
}

/// A Node with these addresses and pod CIDRs.
pub(crate) fn node_with(name: &str, addresses: &[IpAddr], pod_cidrs: &[IpNetwork]) -> Value {
    let spec = match pod_cidrs.first() {
        None => json!({}),
        Some(first) => json!({"podCIDR": first, "podCIDRs": pod_cidrs}),
    };
    let mut addresses: Vec<_> =
        addresses.iter().map(|address| json!({"type": "InternalIP", "address": address})).collect();
    addresses.push(json!({"type": "Hostname", "address": name}));
    // What is in the way of whoever reads all of it.
    let images: Vec<_> = (0..50)
        .map(|image| {
            let digest = format!("{image:064}");
            let names =
                [format!("registry.example/{image}@sha256:{digest}"), format!("registry.example/{image}:v1.0.0")];
            json!({"names": names, "sizeBytes": 123_456_789})
        })
        .collect();
    json!({
        "metadata": {"name": name, "labels": {"kubernetes.io/hostname": name}},
        "spec": spec,
        "status": {"addresses": addresses, "images": images, "conditions": [beat(0)]},
    })
}

/// The condition that kubelet reports every five minutes.
pub(crate) fn beat(number: u64) -> Value {
    json!({
        "type": "Ready", "status": "True", "reason": "KubeletReady", "message": format!("beat {number}"),
        "lastHeartbeatTime": "2026-01-01T00:00:00Z", "lastTransitionTime": "2026-01-01T00:00:00Z",
    })
}

/// Waits until a node has routes to the pods of these nodes and no others.
pub(crate) fn arrive(node: &Node, numbers: &[u16]) -> Outcome {
    let four = numbers.iter().map(|number| format!("10.244.{number}.0/24"));
    let six = numbers.iter().map(|number| format!("fd00:10:244:{number}::/64"));
    arrive_at(node, &four.chain(six).collect::<Vec<_>>())
}

/// Waits until a node has routes to peers for these prefixes and no others.
pub(crate) fn arrive_at(node: &Node, prefixes: &[String]) -> Outcome {
    let mut wanted: Vec<_> = prefixes.iter().map(String::as_str).collect();
    wanted.sort_unstable();
    eventually(SOON, || {
        let list = |family: &str| node.host.run("ip", &[family, "route", "show", "proto", "112"]);
        let routes = format!("{}\n{}", list("-4")?, list("-6")?);
        let peers = routes.lines().filter(|line| line.contains(" nhid "));
        let mut found: Vec<_> = peers.filter_map(|line| line.split(' ').next()).collect();
        found.sort_unstable();
        check(found == wanted, || format!("routes to peers {found:?} instead of {wanted:?}"))
    })
}
