//! The Helm chart: it renders to the manifest, each value has its effect, and what is no value is refused.

use std::process::Command;

use podwired::cluster::settings::{Overlay, Settings};
use serde_json::{Value, json};

use crate::manifest::policy_rules;
use crate::stage::{documents, fails, root, succeeds, text, the};

/// helm, rendering the chart with more arguments.
fn template(arguments: &[&str]) -> Command {
    let helm = std::env::var_os("PODWIRE_HELM").expect("PODWIRE_HELM is what scripts/helm prints");
    let mut command = Command::new(helm);
    // Nothing of the machine's own.
    command.env("HELM_CONFIG_HOME", "/nonexistent").env("HELM_DATA_HOME", "/nonexistent");
    command.args(["template", "podwire"]).arg(root().join("conf/kubernetes/chart")).args(arguments);
    command
}

fn rendered(arguments: &[&str]) -> Vec<Value> {
    let documents = documents(&succeeds(&mut template(arguments)));
    documents.into_iter().filter(|document| !document.is_null()).collect()
}

fn settings(documents: &[Value]) -> Settings {
    let text = the(documents, "ConfigMap")["data"]["podwired.toml"].as_str().unwrap();
    let settings = Settings::parse(text).unwrap_or_else(|error| panic!("{error}: {text}"));
    settings.go_with(true, None).unwrap();
    settings
}

/// Sorted by kind, without what only one of both can have: the settings' comments and the mark of their change.
fn comparable(mut documents: Vec<Value>) -> Vec<Value> {
    for document in &mut documents {
        if let Some(text) = document.pointer_mut("/data/podwired.toml") {
            *text = json!(toml::from_str::<Value>(text.as_str().unwrap()).unwrap());
        }
        if let Some(metadata) = document.pointer_mut("/spec/template/metadata").and_then(Value::as_object_mut) {
            metadata.remove("annotations");
        }
    }
    documents.sort_by_key(|document| document["kind"].to_string());
    documents
}

#[test]
fn the_chart_with_default_values_renders_to_the_manifest() {
    let (ours, helms) = (documents(&text("conf/kubernetes/podwire.yaml")), rendered(&[]));
    let (ours, helms) = (comparable(ours), comparable(helms));
    for (ours, helms) in ours.iter().zip(&helms) {
        assert_eq!(serde_json::to_string_pretty(ours).unwrap(), serde_json::to_string_pretty(helms).unwrap());
    }
    assert_eq!(ours.len(), helms.len());
}

#[test]
fn every_chart_value_has_its_effect() {
    let pod = "/spec/template/spec";
    let container = "/spec/template/spec/containers/0";
    let cases: [(&str, String, Value); 21] = [
        (
            "image.repository=registry.test:5000/podwired",
            format!("{container}/image"),
            json!("registry.test:5000/podwired:0.1.0"),
        ),
        ("image.tag=9.9", format!("{container}/image"), json!("docker.io/podwire/podwired:9.9")),
        ("image.pullPolicy=Always", format!("{container}/imagePullPolicy"), json!("Always")),
        ("image.pullSecrets[0].name=key", format!("{pod}/imagePullSecrets"), json!([{"name": "key"}])),
        ("namespace.name=other", "/metadata/namespace".into(), json!("other")),
        ("apiServer.host=192.0.2.1", format!("{container}/env/1/value"), json!("192.0.2.1")),
        ("apiServer.host=api,apiServer.port=443", format!("{container}/env/2/value"), json!("443")),
        ("interface=eth1", format!("{container}/args/7"), json!("--interface=eth1")),
        ("criSocket=/run/crio/crio.sock", format!("{container}/args/5"), json!("--cri-socket=/run/crio/crio.sock")),
        ("criSocket=/run/crio/crio.sock", format!("{container}/volumeMounts/6/mountPath"), json!("/run/crio")),
        ("pluginDirectory=/usr/lib/cni", format!("{pod}/volumes/1/hostPath/path"), json!("/usr/lib/cni")),
        ("pluginDirectory=/usr/lib/cni", format!("{container}/volumeMounts/1/mountPath"), json!("/usr/lib/cni")),
        ("pluginDirectory=/usr/lib/cni", format!("{container}/args/3"), json!("--plugin-directory=/usr/lib/cni")),
        ("conflistDirectory=/etc/net.d", format!("{pod}/volumes/2/hostPath/path"), json!("/etc/net.d")),
        ("metrics.port=9000", format!("{container}/readinessProbe/httpGet/port"), json!(9000)),
        ("metrics.address=::", format!("{container}/args/6"), json!("--metrics=[::]:9472")),
        ("metrics.address=0.0.0.0", format!("{container}/livenessProbe/httpGet/host"), json!("127.0.0.1")),
        ("resources.limits.memory=1Gi", format!("{container}/resources/limits/memory"), json!("1Gi")),
        ("maxUnavailable=1", "/spec/updateStrategy/rollingUpdate/maxUnavailable".into(), json!(1)),
        ("priorityClassName=high", format!("{pod}/priorityClassName"), json!("high")),
        ("nodeSelector.disk=ssd", format!("{pod}/nodeSelector/disk"), json!("ssd")),
    ];
    for (set, place, value) in cases {
        let documents = rendered(&["--set", set]);
        assert_eq!(the(&documents, "DaemonSet").pointer(&place), Some(&value), "{set}");
    }
    let documents = rendered(&["--set-json", "tolerations=[{\"key\":\"a\",\"operator\":\"Exists\"}]"]);
    let tolerations = &the(&documents, "DaemonSet")["spec"]["template"]["spec"]["tolerations"];
    assert_eq!(tolerations, &json!([{"key": "a", "operator": "Exists"}]));
    let documents = rendered(&["--set", "podAnnotations.a=b"]);
    assert_eq!(the(&documents, "DaemonSet")["spec"]["template"]["metadata"]["annotations"]["a"], "b");
    let documents = rendered(&["--set", "namespace.create=false,namespace.name=other"]);
    assert!(documents.iter().all(|document| document["kind"] != "Namespace"));
    assert_eq!(the(&documents, "ClusterRoleBinding")["subjects"][0]["namespace"], "other");
}

#[test]
fn the_charts_settings_are_the_settings_file_and_a_change_restarts_the_daemons() {
    let plain = rendered(&[]);
    let set = "settings.vni=16777215,settings.port=4789,settings.overlay=auto,settings.accept_plain=true,\
               settings.mtu=1400,settings.masquerade=false,\
               settings.not_masqueraded[0]=10.0.0.0/8,settings.refused_destinations[0]=169.254.169.254/32,\
               settings.network_policy=true,settings.network_policy_unknown=allow,\
               settings.network_policy_timeout_milliseconds=500,settings.log_refused=true,settings.garbage_after_seconds=4294967295,settings.probes=false,\
               settings.underlay=ipv6,settings.cluster_cidrs[0]=10.0.0.0/8";
    // By --set a number is whole, in a file it is one with a fraction: both have to come out the same.
    let file = crate::stage::Directory::new();
    let values = file.path().join("values.yaml");
    let lines = "settings: {vni: 16777215, port: 4789, overlay: auto, accept_plain: true, mtu: 1400, masquerade: false, not_masqueraded: [10.0.0.0/8],
        refused_destinations: [169.254.169.254/32], network_policy: true, network_policy_unknown: allow, network_policy_timeout_milliseconds: 500, log_refused: true,
        garbage_after_seconds: 4294967295, probes: false, underlay: ipv6, cluster_cidrs: [10.0.0.0/8]}";
    std::fs::write(&values, lines).unwrap();
    for arguments in [["--set", set], ["--values", values.to_str().unwrap()]] {
        let documents = rendered(&arguments);
        let settings = settings(&documents);
        assert_eq!((settings.vni, settings.port, settings.mtu), (16_777_215, 4789, Some(1400)));
        assert_eq!((settings.overlay, settings.masquerade, settings.probes), (Overlay::Auto, false, false));
        assert_eq!((settings.not_masqueraded.len(), settings.garbage_after_seconds), (1, u32::MAX));
        assert_eq!(settings.refused_destinations[0].to_string(), "169.254.169.254/32");
        assert_eq!(settings.cluster_cidrs[0].to_string(), "10.0.0.0/8");
        let policy = settings.policies_of_new_pods().unwrap();
        assert_eq!((policy.unknown.name(), policy.timeout.as_millis()), ("allow", 500));
        assert!(settings.underlay.is_some() && settings.accept_plain && settings.logs_refused());
        let mark =
            |documents: &[Value]| the(documents, "DaemonSet")["spec"]["template"]["metadata"]["annotations"].clone();
        assert_ne!(mark(&documents), mark(&plain));
    }
    assert_eq!(settings(&rendered(&["--set", "settings.mtu=null"])), settings(&plain));
}

#[test]
fn the_chart_lets_the_daemon_read_policies_only_where_they_are_in_force() {
    let rules = |arguments: &[&str]| the(&rendered(arguments), "ClusterRole")["rules"].clone();
    assert_eq!(rules(&["--set", "settings.network_policy=true"]), policy_rules());
    let without = rules(&[]);
    assert_ne!(without, policy_rules());
    assert_eq!(rules(&["--set", "settings.network_policy=false"]), without);
    assert_eq!(rules(&["--set", "settings.network_policy=null"]), without);
}

#[test]
fn an_unknown_chart_value_is_rejected_by_name() {
    for (set, named) in [
        ("setings.vni=1", "setings"),
        ("settings.vin=1", "vin"),
        ("settings.vni=0", "vni"),
        ("settings.mtu=100", "mtu"),
        ("settings.overlay=sometimes", "overlay"),
        ("settings.cluster_cidrs=null", "cluster_cidrs"),
        ("settings.cluster_cidrs[0]=everything", "cluster_cidrs"),
        ("settings.masquerade=1", "masquerade"),
        ("settings.network_policy=on", "network_policy"),
        ("image.pullPolicy=Sometimes", "pullPolicy"),
        ("image.tag=a b", "tag"),
        ("metrics.port=0", "metrics/port"),
        ("metrics.address=localhost", "metrics/address"),
        ("criSocket=containerd.sock", "criSocket"),
        ("pluginDirectory=bin", "pluginDirectory"),
        ("interface=a-name-that-is-too-long", "interface"),
        ("maxUnavailable=0", "maxUnavailable"),
        ("tolerations=all", "tolerations"),
        ("namespace.name=Podwire", "namespace/name"),
        ("apiServer.port=70000", "apiServer/port"),
    ] {
        let said = fails(&mut template(&["--set", set]));
        assert!(said.contains("schema") && said.contains(named), "{set}: {said}");
    }
}

#[test]
fn the_chart_has_the_programs_version_and_passes_helm_lint() {
    let chart = documents(&text("conf/kubernetes/chart/Chart.yaml")).remove(0);
    assert_eq!(
        (&chart["version"], &chart["appVersion"]),
        (&json!(env!("CARGO_PKG_VERSION")), &json!(env!("CARGO_PKG_VERSION")))
    );
    let mut lint = Command::new(std::env::var_os("PODWIRE_HELM").expect("PODWIRE_HELM is what scripts/helm prints"));
    lint.args(["lint", "--strict"]).arg(root().join("conf/kubernetes/chart"));
    succeeds(&mut lint);
}
