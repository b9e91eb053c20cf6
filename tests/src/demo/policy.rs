//! The demo's NetworkPolicy: who reaches the IRC server. It comes from a file of the directory that all nodes follow, with the
//! pods that it is about.
//!
//! What may not live here: how it is found out who reaches whom (`matrix`).

use podwire_tests::lab::node::Node;
use podwire_tests::lab::{Lab, SOON, daemon, eventually, policies};
use serde_json::json;

/// Its name.
pub(crate) const NAME: &str = "irc/irc-server";

/// The file that it is in.
pub(crate) const FILE: &str = "irc.yaml";

/// The policy: the bot, which is in the server's namespace, and all pods of the users' namespace.
pub(crate) const TEXT: &str = "\
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: { namespace: irc, name: irc-server }
spec:
  podSelector: { matchLabels: { app: irc-server } }
  ingress:
    - from:
        - podSelector: { matchLabels: { app: weather-bot } }
        - namespaceSelector: { matchLabels: { kubernetes.io/metadata.name: users } }
";

/// The namespace of a pod of the demo.
pub(crate) fn namespace(pod: &str) -> &'static str {
    match pod {
        "irc-server" | "weather-bot" => "irc",
        "user-1" | "user-2" => "users",
        _ => "default",
    }
}

/// Whether the policy refuses what one pod sends to another.
pub(crate) fn refuses(from: &str, to: &str) -> bool {
    to == "irc-server" && namespace(from) == "default"
}

/// Puts the policy in force on every node.
pub(crate) fn put_in_force(lab: &Lab) -> Result<(), String> {
    let mut text = TEXT.to_owned();
    for node in &lab.nodes {
        for pod in &node.pods {
            let name = pod.host.name.as_str();
            let object = policies::object(node, namespace(name), name, &json!({"app": name}));
            text.push_str(&format!("---\n{object}\n"));
        }
    }
    policies::write(lab, FILE, &text)?;
    lab.nodes.iter().try_for_each(|node| eventually(SOON, || is_in_force(node)))
}

/// Asks the node that refuses, of each two pods between which something is: it has to name the policy.
pub(crate) fn explained(lab: &Lab, family: usize) -> Result<(), String> {
    let pods = || lab.nodes.iter().flat_map(|node| node.pods.iter().map(move |pod| (node, pod)));
    for (_, from) in pods() {
        for (node, to) in pods().filter(|(_, to)| refuses(&from.host.name, &to.host.name)) {
            let ends = [from.addresses[family].to_string(), to.addresses[family].to_string()];
            let found = daemon::json(&node.host, &["policy", "explain", &ends[0], &ends[1], "--json"])?;
            let end = &found["packets"][0]["ingress"];
            if end["verdict"] != "denied" || end["policies"] != json!([NAME]) {
                let [from, to] = [from, to].map(|pod| &pod.host.name);
                return Err(format!("from {from} to {to}, {} says {end}, and {NAME} refuses it", node.host.name));
            }
        }
    }
    Ok(())
}

fn is_in_force(node: &Node) -> Result<(), String> {
    let status = daemon::json(&node.host, &["status", "--json"])?;
    let state = &status["network_policy"];
    let is = state["in_force"] == true && state["policies"] == 1;
    if is { Ok(()) } else { Err(format!("{}: {state}, {}", node.host.name, status["problems"])) }
}
