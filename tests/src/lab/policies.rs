//! NetworkPolicies in a lab without an API: a directory of files that all nodes share, pods with labels, and who reaches whom.

use serde_json::{Value, json};

use super::daemon::{self, json as json_of};
use super::exchange::is_dropped;
use super::host::SHARED;
use super::node::{Node, Pod};
use super::scene::{FAMILIES, Outcome, check, reaches, scene};
use super::{Lab, SOON, eventually};

/// A pod, by the place of its node and its name.
pub type At<'a> = (usize, &'a str);

/// Where the daemons find the files.
pub fn directory() -> String {
    format!("{SHARED}/policies")
}

/// Plays a scene in a lab whose daemons are ready and follow a policy directory that is still empty.
#[track_caller]
pub fn policed(nodes: u16, body: impl FnOnce(&mut Lab) -> Outcome) {
    scene(nodes, |lab| {
        follow(lab)?;
        lab.start()?;
        body(lab)
    });
}

/// Makes an empty policy directory, which all daemons that are started from now on follow.
///
/// # Errors
/// When it cannot be made.
pub fn follow(lab: &mut Lab) -> Outcome {
    let place = directory();
    let made = lab.outside.enter(|| std::fs::create_dir(&place));
    made.map_err(|error| format!("create {place}: {error}"))?;
    for node in &mut lab.nodes {
        node.arguments.extend(["--policies".into(), place.clone()]);
    }
    Ok(())
}

/// Writes a file of the directory, or replaces it by a rename.
///
/// # Errors
/// When it cannot be written.
pub fn write(lab: &Lab, file: &str, text: &str) -> Outcome {
    let (path, beside) = (format!("{}/{file}", directory()), format!("{SHARED}/{file}.new"));
    let write = || std::fs::write(&beside, text).and_then(|()| std::fs::rename(&beside, &path));
    lab.outside.enter(write).map_err(|error| format!("write {path}: {error}"))
}

/// Removes a file of the directory.
///
/// # Errors
/// When there is none.
pub fn remove(lab: &Lab, file: &str) -> Outcome {
    lab.outside.run("rm", &[&format!("{}/{file}", directory())]).map(drop)
}

/// A policy of the namespace `default` with this spec, in a file of its own, in place of one of the same name.
///
/// # Errors
/// When it cannot be written.
pub fn put(lab: &Lab, name: &str, spec: &Value) -> Outcome {
    let policy = json!({
        "apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy",
        "metadata": {"name": name}, "spec": spec,
    });
    write(lab, &format!("{name}.json"), &policy.to_string())
}

/// Removes a policy that [`put`] has written.
///
/// # Errors
/// When there is none.
pub fn take(lab: &Lab, name: &str) -> Outcome {
    remove(lab, &format!("{name}.json"))
}

/// A ClusterNetworkPolicy about pods (as [`pods_of`]), in a file of its own, in place of one of the same name.
///
/// # Errors
/// When it cannot be written.
pub fn put_tier(lab: &Lab, name: &str, at: (&str, u16), about: &Value, rules: &Value) -> Outcome {
    write(lab, &format!("{name}.json"), &cluster_policy(name, at, about, rules).to_string())
}

/// The same of one that is not enforced.
///
/// # Errors
/// When it cannot be written.
pub fn put_audited(lab: &Lab, name: &str, at: (&str, u16), about: &Value, rules: &Value) -> Outcome {
    let mut policy = cluster_policy(name, at, about, rules);
    policy["metadata"]["annotations"] = json!({"podwire.dev/audit": "true"});
    write(lab, &format!("{name}.json"), &policy.to_string())
}

fn cluster_policy(name: &str, (tier, priority): (&str, u16), about: &Value, rules: &Value) -> Value {
    let mut spec = rules.clone();
    (spec["tier"], spec["priority"], spec["subject"]) = (json!(tier), json!(priority), json!({"pods": about}));
    json!({
        "apiVersion": "policy.networking.k8s.io/v1alpha2", "kind": "ClusterNetworkPolicy",
        "metadata": {"name": name}, "spec": spec,
    })
}

/// Pods of an application, in whatever namespace, as a ClusterNetworkPolicy selects them.
pub fn pods_of(app: &str) -> Value {
    json!({"namespaceSelector": {}, "podSelector": {"matchLabels": {"app": app}}})
}

/// Has all daemons that are started from now on log what policies refuse.
///
/// # Errors
/// When the settings cannot be written.
pub fn log_refused(lab: &mut Lab) -> Outcome {
    let settings = format!("{SHARED}/settings.toml");
    let written = lab.outside.enter(|| std::fs::write(&settings, "log_refused = true\n"));
    written.map_err(|error| format!("write {settings}: {error}"))?;
    lab.nodes.iter_mut().for_each(|node| node.arguments.extend(["--settings".into(), settings.clone()]));
    Ok(())
}

/// What a node's daemon has said so far of packets that were refused, or would have been.
///
/// # Errors
/// When there is no daemon.
pub fn refused_lines(node: &Node) -> Outcome<Vec<String>> {
    let said = daemon::of(node)?.said();
    Ok(said.into_iter().filter(|line| line.contains(" refuse") && line.contains(" direction=")).collect())
}

/// Attaches a pod of the namespace `default`, whose labels the runtime gives the plugin.
///
/// # Errors
/// The plugin's words, when it refuses.
pub fn add_pod<'a>(node: &'a mut Node, name: &str, labels: &[(&str, &str)]) -> Outcome<&'a mut Pod> {
    add_pod_in(node, "default", name, labels)
}

/// Attaches a pod of a namespace, whose labels the runtime gives the plugin.
///
/// # Errors
/// The plugin's words, when it refuses.
pub fn add_pod_in<'a>(
    node: &'a mut Node,
    namespace: &str,
    name: &str,
    labels: &[(&str, &str)],
) -> Outcome<&'a mut Pod> {
    let pairs: String = labels.iter().map(|(key, value)| format!(";label:{key}={value}")).collect();
    let arguments = format!("IgnoreUnknown=1;K8S_POD_NAMESPACE={namespace};K8S_POD_NAME={name}{pairs}");
    node.add_pod_as(name, |call| call.with("CNI_ARGS", &arguments))
}

/// The object of an attached pod, by which the other nodes know it.
pub fn object(node: &Node, namespace: &str, name: &str, labels: &Value) -> Value {
    let addresses: Vec<_> = node.pod(name).addresses.iter().map(|address| json!({"ip": address})).collect();
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"namespace": namespace, "name": name, "labels": labels},
        "spec": {"nodeName": node.host.name, "containers": [{"ports": [{"name": "echo", "containerPort": 7777}]}]},
        "status": {"podIPs": addresses},
    })
}

/// Writes the object of an attached pod of the namespace `default`, in a file of its own.
///
/// # Errors
/// When it cannot be written.
pub fn announce(lab: &Lab, (node, name): At<'_>, labels: &Value) -> Outcome {
    write(lab, &format!("pod-{name}.json"), &object(&lab.nodes[node], "default", name, labels).to_string())
}

/// Who reaches whom soon, in both families; in between it may be otherwise. Whoever is to be reached answers
/// (`exchange::Responder`).
///
/// # Errors
/// What was last otherwise.
pub fn soon(lab: &Lab, pairs: &[(At<'_>, At<'_>, bool)]) -> Outcome {
    eventually(SOON, || now(lab, pairs))
}

/// Who reaches whom now, in both families.
///
/// # Errors
/// The first that is otherwise.
pub fn now(lab: &Lab, pairs: &[(At<'_>, At<'_>, bool)]) -> Outcome {
    for ((at, from), (to_at, to), passes) in pairs {
        let (from, to) = (lab.nodes[*at].pod(from), lab.nodes[*to_at].pod(to));
        for like in FAMILIES {
            match passes {
                true => reaches(&from.host, from.address(like), to.address(like))?,
                false => is_dropped(&from.host, to.address(like))?,
            }
        }
    }
    Ok(())
}

/// The problems of a kind in a node's status: what each is about, and its sentence.
///
/// # Errors
/// When there is no status.
pub fn problems(node: &Node, kind: &str) -> Outcome<Vec<(String, String)>> {
    let status = json_of(&node.host, &["status", "--json"])?;
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let problems = status["problems"].as_array().into_iter().flatten().filter(|problem| problem["kind"] == kind);
    Ok(problems.map(|problem| (text(&problem["subject"]), text(&problem["text"]))).collect())
}

/// Waits until a node has policies in force as they are in the directory, and nothing is wrong with them.
///
/// # Errors
/// What is.
pub fn in_force(node: &Node) -> Outcome {
    eventually(SOON, || {
        let status = json_of(&node.host, &["status", "--json"])?;
        let is = status["network_policy"]["in_force"] == true && status["problems"] == json!([]);
        check(is, || format!("{}: {}, {}", node.host.name, status["network_policy"], status["problems"]))
    })
}
