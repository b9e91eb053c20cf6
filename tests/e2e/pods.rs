//! Pods that a scene is played with: a busybox with a web server that says whom it sees, on a node of the scene's choice.

use std::net::IpAddr;
use std::path::Path;

use podwire_tests::lab::host::Host;
use podwire_tests::lab::image::{NAME, PORT, SERVER};
use podwire_tests::lab::kube::name;
use podwire_tests::lab::scene::Outcome;
use serde_json::{Value, json};

use crate::stage::{Stage, texts};

/// A pod that runs.
#[derive(Debug, Clone)]
pub(crate) struct Pod {
    /// Its name.
    pub(crate) name: String,
    /// Its addresses, IPv4 first.
    pub(crate) addresses: Vec<IpAddr>,
    /// The name of its node.
    pub(crate) node: String,
    /// The id of its first container.
    container: String,
}

/// The manifest of a pod with the web server, on the node of this number, with a label `app` that is its name.
pub(crate) fn server(pod: &str, node: u16) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": pod, "labels": {"app": pod}},
        "spec": {
            "nodeSelector": {"kubernetes.io/hostname": name(node)},
            "terminationGracePeriodSeconds": 0,
            "automountServiceAccountToken": false,
            "containers": [container("server")],
        },
    })
}

/// A container with the web server.
pub(crate) fn container(name: &str) -> Value {
    json!({
        "name": name, "image": NAME, "imagePullPolicy": "Never", "command": SERVER,
        "readinessProbe": {"httpGet": {"path": "/cgi-bin/seen?probe", "port": PORT}, "periodSeconds": 1},
    })
}

impl Stage {
    /// Makes a pod with the web server, and waits until it is Ready: kubelet has asked it.
    pub(crate) fn run_server(&self, pod: &str, node: u16) -> Outcome<Pod> {
        self.run_pod(&server(pod, node))
    }

    /// Makes a pod, and waits until it is Ready.
    pub(crate) fn run_pod(&self, manifest: &Value) -> Outcome<Pod> {
        self.apply(manifest)?;
        self.pod(manifest["metadata"]["name"].as_str().unwrap_or_default())
    }

    /// A pod, once it is Ready.
    pub(crate) fn pod(&self, pod: &str) -> Outcome<Pod> {
        self.kubectl(&["wait", "--for=condition=Ready", &format!("pod/{pod}"), "--timeout=240s"])?;
        let found = self.look(&["get", "pod", pod])?;
        let addresses = found["status"]["podIPs"].as_array().into_iter().flatten();
        let addresses = addresses.filter_map(|entry| entry["ip"].as_str()?.parse().ok()).collect();
        let container = found["status"]["containerStatuses"][0]["containerID"].as_str().unwrap_or_default();
        let container = container.trim_start_matches("containerd://").to_owned();
        let node = found["spec"]["nodeName"].as_str().unwrap_or_default().to_owned();
        Ok(Pod { name: pod.into(), addresses, node, container })
    }

    /// The names of the pods with a label.
    pub(crate) fn pods_of(&self, label: &str) -> Outcome<Vec<String>> {
        let names =
            self.kubectl(&["get", "pods", "--selector", label, "--output=jsonpath={.items[*].metadata.name}"])?;
        Ok(names.split_whitespace().map(str::to_owned).collect())
    }

    /// The network of a pod, with the mounts of its node: for whoever wants to send and to listen there.
    pub(crate) fn inside(&self, pod: &Pod) -> Outcome<Host> {
        let node = self.place.node(&pod.node)?;
        let tasks = node.run("ctr", &["--namespace=k8s.io", "tasks", "list"])?;
        let task = tasks.lines().find_map(|line| line.strip_prefix(&pod.container)?.split_whitespace().next());
        let process = task.ok_or_else(|| format!("no container {} on {}: {tasks}", pod.container, pod.node))?;
        node.found_pod(&pod.name, Path::new(&format!("/proc/{process}/ns/net")))
    }

    /// The pod CIDRs of a node.
    pub(crate) fn pod_cidrs(&self, node: u16) -> Outcome<Vec<String>> {
        Ok(texts(&self.look(&["get", "node", &name(node)])?["spec"]["podCIDRs"]))
    }
}

impl Pod {
    /// Its address of the family of `like`.
    pub(crate) fn address(&self, like: IpAddr) -> Outcome<IpAddr> {
        let found = self.addresses.iter().find(|address| address.is_ipv4() == like.is_ipv4());
        found.copied().ok_or_else(|| format!("{} has {:?}, none like {like}", self.name, self.addresses))
    }
}
