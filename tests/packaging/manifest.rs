//! `podwire.yaml` and `uninstall.yaml`: what they ask of a cluster, and that they fit what the daemon takes.

use clap::Parser;
use podwired::args::{Args, Command};
use podwired::cluster::settings::Settings;
use serde_json::{Value, json};

use crate::stage::{containers, documents, manifests, of_kind, pod, text, texts, the, workloads};

const MANIFEST: &str = "conf/kubernetes/podwire.yaml";
const UNINSTALL: &str = "conf/kubernetes/uninstall.yaml";

/// The container of a list by its name.
fn named<'a>(list: &'a Value, name: &str) -> &'a Value {
    let found = list.as_array().and_then(|list| list.iter().find(|entry| entry["name"] == name));
    found.unwrap_or_else(|| panic!("no {name} in {list}"))
}

fn command_line(container: &Value, more: &[&str]) -> Args {
    let line = texts(&container["command"]).into_iter().chain(texts(&container["args"]));
    let line = line.chain(more.iter().map(ToString::to_string));
    Args::try_parse_from(line).unwrap_or_else(|error| panic!("{error}"))
}

/// Where a path of the container is on the node.
fn on_the_node(workload: &Value, path: &str) -> String {
    let container = containers(workload)[0];
    let mounts = container["volumeMounts"].as_array().unwrap().iter();
    let below = |mount: &&Value| path.starts_with(mount["mountPath"].as_str().unwrap());
    let mount = mounts.filter(below).max_by_key(|mount| mount["mountPath"].as_str().map(str::len));
    let mount = mount.unwrap_or_else(|| panic!("{path} is in the image"));
    let volume = named(&pod(workload)["volumes"], mount["name"].as_str().unwrap());
    let place = volume["hostPath"]["path"].as_str().unwrap_or("").to_owned();
    place + path.strip_prefix(mount["mountPath"].as_str().unwrap()).unwrap()
}

#[test]
fn every_manifest_is_an_object_with_a_kind_and_a_name() {
    let manifests = manifests();
    assert!(manifests.len() >= 6, "{manifests:?}");
    for (path, documents) in manifests {
        for document in documents {
            assert!(document["apiVersion"].is_string() && document["kind"].is_string(), "{path}: {document}");
            let name = if document["kind"] == "Cluster" { &document["name"] } else { &document["metadata"]["name"] };
            assert!(name.is_string(), "{path}: {document}");
        }
    }
}

#[test]
fn the_only_permission_is_to_read_nodes_and_with_network_policy_what_policies_are_compiled_from() {
    let mut roles = 0;
    for (path, documents) in manifests() {
        for role in documents.iter().filter(|document| document["kind"].as_str().unwrap().ends_with("Role")) {
            roles += 1;
            assert_eq!(role["rules"], json!([reading("", &["nodes"])]), "{path}");
        }
    }
    assert_eq!(roles, 1);
    // What the comments say is to be taken in are rules and a setting.
    let allowed = documents(&with_network_policy());
    assert_eq!(the(&allowed, "ClusterRole")["rules"], policy_rules());
    let settings = the(&allowed, "ConfigMap")["data"]["podwired.toml"].as_str().unwrap();
    assert!(Settings::parse(settings).unwrap().network_policy, "{settings}");
}

fn reading(group: &str, resources: &[&str]) -> Value {
    json!({"apiGroups": [group], "resources": resources, "verbs": ["get", "list", "watch"]})
}

/// The rules of a cluster whose policies are in force.
pub(crate) fn policy_rules() -> Value {
    let policies = reading("networking.k8s.io", &["networkpolicies", "servicecidrs"]);
    let of_cluster = reading("policy.networking.k8s.io", &["clusternetworkpolicies"]);
    json!([reading("", &["nodes"]), reading("", &["pods", "namespaces"]), policies, of_cluster])
}

/// The manifest with the lines that switch policies on.
fn with_network_policy() -> String {
    let commented = ["- apiGroups: [", "  resources: [", "  verbs: [", "network_policy = "];
    let taken_in = |line: &str| match line.split_once("# ") {
        Some((before, rest)) if commented.iter().any(|start| rest.starts_with(start)) => format!("{before}{rest}\n"),
        _ => format!("{line}\n"),
    };
    text(MANIFEST).lines().map(taken_in).collect()
}

#[test]
fn every_container_has_no_more_privileges_than_it_needs() {
    // What the unit of systemd gives the daemon.
    let unit = text("conf/podwired.service");
    let unit = unit.lines().find_map(|line| line.strip_prefix("CapabilityBoundingSet=")).unwrap();
    let daemons: Vec<_> = unit.split(' ').map(|name| name.trim_start_matches("CAP_").to_owned()).collect();
    let workloads = workloads();
    assert!(workloads.len() >= 6);
    for (path, workload) in &workloads {
        let pod = pod(workload);
        for forbidden in ["hostPID", "hostIPC", "shareProcessNamespace"] {
            assert_eq!(pod[forbidden], Value::Null, "{path}: {forbidden}");
        }
        assert_eq!(pod["securityContext"]["seccompProfile"]["type"], "RuntimeDefault", "{path}");
        // Only who writes to the node may be more than a container, where there is SELinux.
        let writes = [MANIFEST, UNINSTALL].contains(&path.as_str());
        assert_eq!(pod["securityContext"]["seLinuxOptions"]["type"].as_str(), writes.then_some("spc_t"), "{path}");
        for container in containers(workload) {
            let security = &container["securityContext"];
            assert_eq!(security["allowPrivilegeEscalation"], false, "{path}");
            assert_eq!(security["readOnlyRootFilesystem"], true, "{path}");
            assert_ne!(security["privileged"], true, "{path}");
            assert_eq!(texts(&security["capabilities"]["drop"]), ["ALL"], "{path}");
            assert!(!container["resources"]["requests"].is_null(), "{path}");
            assert!(container["resources"]["limits"]["memory"].is_string(), "{path}");
            let added = &security["capabilities"]["add"];
            match (path.as_str(), added.as_array()) {
                (MANIFEST, Some(_)) => assert_eq!(texts(added), daemons),
                (UNINSTALL, Some(_)) => assert_eq!(texts(added), ["NET_ADMIN"]),
                (_, added) => assert_eq!(added, None, "{path}"),
            }
        }
    }
}

#[test]
fn the_images_are_those_of_this_repository() {
    let version = env!("CARGO_PKG_VERSION");
    let built = ["podwired", "test-pods"].map(|name| format!("docker.io/podwire/{name}:{version}"));
    for (path, workload) in workloads() {
        for container in containers(&workload) {
            assert!(built.iter().any(|image| container["image"] == *image), "{path}: {}", container["image"]);
            assert_eq!(container["imagePullPolicy"], "IfNotPresent", "{path}");
        }
    }
}

#[test]
fn the_daemon_accepts_its_command_line_and_its_paths_are_mounted() {
    let documents = documents(&text(MANIFEST));
    let workload = the(&documents, "DaemonSet");
    let container = containers(workload)[0];
    assert_eq!(named(&container["env"], "NODE_NAME")["valueFrom"]["fieldRef"]["fieldPath"], "spec.nodeName");
    let Command::Run(run) = command_line(container, &["--node-name=node-1"]).command else { panic!("not run") };
    assert!(run.kubernetes);
    let place = |path: &std::path::Path| on_the_node(workload, path.to_str().unwrap());
    assert_eq!(place(&run.plugin_directory.unwrap()), "/opt/cni/bin");
    assert_eq!(place(&run.conflist_directory), "/etc/cni/net.d");
    assert_eq!(place(&run.state_directory), "/var/lib/podwire");
    assert_eq!(place(std::path::Path::new("/run/podwire")), "/run/podwire");
    assert_eq!(place(&run.sysctl_root.unwrap().join("net")), "/proc/sys/net");
    assert_eq!(place(&run.cri_socket.unwrap()), "/run/containerd/containerd.sock");
    // What is at one place for everybody: kubectl exec and its podwired status, the lock.
    for mount in container["volumeMounts"].as_array().unwrap() {
        let writable = mount["readOnly"] != true;
        let own = !mount["mountPath"].as_str().unwrap().starts_with("/host/");
        assert!(!writable || !own || on_the_node(workload, mount["mountPath"].as_str().unwrap()) == mount["mountPath"]);
    }
    let metrics = run.metrics.unwrap();
    assert!(metrics.ip().is_loopback());
    for (probe, page) in [("readinessProbe", "/readyz"), ("livenessProbe", "/healthz")] {
        let asked = json!({"host": metrics.ip().to_string(), "port": metrics.port(), "path": page});
        assert_eq!(container[probe]["httpGet"], asked);
    }

    let settings = &the(&documents, "ConfigMap")["data"];
    let file = run.settings.unwrap();
    assert!(file.starts_with("/etc/podwire"));
    let settings = settings[file.file_name().unwrap().to_str().unwrap()].as_str().unwrap();
    let settings = Settings::parse(settings).unwrap();
    settings.go_with(true, None).unwrap();
    let kind = crate::stage::documents(&text("conf/kind/kind.yaml")).remove(0);
    let ranges: Vec<_> = settings.cluster_cidrs.iter().map(ToString::to_string).collect();
    assert_eq!(kind["networking"]["podSubnet"], ranges.join(","), "kind's pods are in other ranges");
    assert_eq!(kind["networking"]["disableDefaultCNI"], true);
}

#[test]
fn the_daemon_runs_on_every_node_before_anything_else() {
    let documents = documents(&text(MANIFEST));
    let (workload, namespace) = (the(&documents, "DaemonSet"), the(&documents, "Namespace"));
    let pod = pod(workload);
    assert_eq!(pod["hostNetwork"], true);
    assert_eq!(pod["priorityClassName"], "system-node-critical");
    assert_eq!(pod["tolerations"], json!([{"operator": "Exists"}]));
    assert_eq!(namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"], "privileged");
    let (account, binding) = (the(&documents, "ServiceAccount"), the(&documents, "ClusterRoleBinding"));
    assert_eq!(pod["serviceAccountName"], account["metadata"]["name"]);
    assert_eq!(binding["subjects"][0]["name"], account["metadata"]["name"]);
    assert_eq!(binding["subjects"][0]["namespace"], namespace["metadata"]["name"]);
    assert_eq!(binding["roleRef"]["name"], the(&documents, "ClusterRole")["metadata"]["name"]);
    let labels = &workload["spec"]["template"]["metadata"]["labels"];
    assert_eq!(&workload["spec"]["selector"]["matchLabels"], labels);
    for document in &documents {
        let own = &document["metadata"]["namespace"];
        assert!(own.is_null() || own == "podwire", "{document}");
    }
}

#[test]
fn uninstall_covers_everything_that_install_has_created() {
    let (installed, documents) = (documents(&text(MANIFEST)), documents(&text(UNINSTALL)));
    assert_eq!(the(&documents, "Namespace"), the(&installed, "Namespace"));
    assert!(of_kind(&documents, "ServiceAccount").is_empty());
    let workload = the(&documents, "DaemonSet");
    assert_ne!(workload["metadata"]["name"], the(&installed, "DaemonSet")["metadata"]["name"]);
    assert_ne!(
        workload["spec"]["selector"],
        the(&installed, "DaemonSet")["spec"]["selector"],
        "one DaemonSet would take the other's pods for its own"
    );
    assert_eq!(
        (&pod(workload)["hostNetwork"], &pod(workload)["automountServiceAccountToken"]),
        (&json!(true), &json!(false))
    );
    assert_eq!(pod(workload)["tolerations"], json!([{"operator": "Exists"}]));
    let lines = containers(workload).into_iter().map(|container| match command_line(container, &[]).command {
        Command::Uninstall(line) => line,
        other => panic!("{other:?}"),
    });
    let lines: Vec<_> = lines.collect();
    // First the one that comes to an end, then the one that does not.
    assert_eq!(
        lines.iter().map(|line| (line.wait, line.stay, line.pods)).collect::<Vec<_>>(),
        [(true, false, false), (false, true, false)]
    );
    for path in ["/opt/cni/bin", "/etc/cni/net.d", "/run/podwire", "/var/lib/podwire"] {
        assert_eq!(on_the_node(workload, path), path);
    }
    // A mount point cannot be removed.
    for container in containers(workload) {
        let mounts = container["volumeMounts"].as_array().unwrap();
        assert!(!mounts.iter().any(|mount| mount["mountPath"].as_str().unwrap().ends_with("/podwire")));
    }
    // What the comment says is to be taken in is an argument.
    let allowed = text(UNINSTALL).replace("# - --pods", "- --pods");
    let allowed = crate::stage::documents(&allowed);
    let Command::Uninstall(line) = command_line(containers(the(&allowed, "DaemonSet"))[0], &[]).command else {
        panic!("not uninstall")
    };
    assert!(line.pods && line.wait);
}
