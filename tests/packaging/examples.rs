//! The manifests of the test pods.

use serde_json::Value;

use crate::stage::{containers, documents, manifests, of_kind, pod, text, texts, the, workloads};

#[test]
fn the_test_pods_may_run_in_a_namespace_that_is_restricted() {
    let mut seen = 0;
    for (path, workload) in workloads().into_iter().filter(|(path, _)| path.contains("/examples/")) {
        seen += 1;
        let security = &pod(&workload)["securityContext"];
        assert_eq!(security["runAsNonRoot"], true, "{path}");
        assert!(security["runAsUser"].as_u64().is_some_and(|user| user > 0), "{path}");
        assert!(pod(&workload)["hostNetwork"].is_null() && pod(&workload)["volumes"].is_null(), "{path}");
        assert_eq!(pod(&workload)["automountServiceAccountToken"], false, "{path}");
    }
    assert_eq!(seen, 4);
}

#[test]
fn the_test_pods_start_programs_of_the_image_with_arguments_they_accept() {
    let image = text("scripts/image");
    let programs = image.lines().find_map(|line| line.trim().strip_prefix("programs=(irc")).unwrap();
    let programs: Vec<_> = format!("irc{}", programs.trim_end_matches(')')).split(' ').map(str::to_owned).collect();
    for (path, documents) in manifests().into_iter().filter(|(path, _)| path.contains("/examples/")) {
        let has = |kind: &str, reference: &Value| {
            let data = if kind == "Secret" { "stringData" } else { "data" };
            let found = of_kind(&documents, kind);
            let found = found.iter().find(|document| document["metadata"]["name"] == reference["name"]);
            found.is_some_and(|found| found[data][reference["key"].as_str().unwrap()].is_string())
        };
        for workload in documents.iter().filter(|document| !pod(document).is_null()) {
            for container in containers(workload) {
                let line = texts(&container["command"]);
                let program = line[0].strip_prefix("/bin/").unwrap();
                assert!(programs.iter().any(|packed| packed == program), "{path}: {program} of {programs:?}");
                for entry in container["env"].as_array().into_iter().flatten() {
                    let from = &entry["valueFrom"];
                    let kinds = [("Secret", &from["secretKeyRef"]), ("ConfigMap", &from["configMapKeyRef"])];
                    let missing: Vec<_> =
                        kinds.iter().filter(|(kind, key)| !key.is_null() && !has(kind, key)).collect();
                    assert!(missing.is_empty(), "{path}: {missing:?}");
                }
            }
        }
    }
}

#[test]
fn manifests_have_a_placeholder_instead_of_a_key() {
    let mut keys = 0;
    for (path, documents) in manifests() {
        for secret in of_kind(&documents, "Secret") {
            let Some(key) = secret["stringData"]["key"].as_str() else { continue };
            keys += 1;
            assert!(key.starts_with("PLACEHOLDER-"), "{path}: {key}");
        }
    }
    assert_eq!(keys, 2);
}

#[test]
fn the_bot_waits_for_the_servers_name_and_connects_to_that_name() {
    let documents = documents(&text("conf/kubernetes/examples/irc.yaml"));
    let service = the(&documents, "Service");
    let (name, port) = (service["metadata"]["name"].as_str().unwrap(), &service["spec"]["ports"][0]["port"]);
    let deployments = of_kind(&documents, "Deployment");
    let of = |name: &str| *deployments.iter().find(|found| found["metadata"]["name"] == name).unwrap();
    let (server, bot) = (of("irc-server"), of("weather-bot"));
    assert_eq!(service["spec"]["selector"], server["spec"]["template"]["metadata"]["labels"]);
    let container = containers(server)[0];
    assert_eq!(service["spec"]["ports"][0]["targetPort"], container["ports"][0]["name"]);
    assert_eq!(texts(&container["command"])[1], container["ports"][0]["containerPort"].to_string());
    assert_eq!(texts(&pod(bot)["initContainers"][0]["command"])[1], name);
    assert_eq!(texts(&pod(bot)["containers"][0]["command"])[1], format!("{name}:{port}"));
}

#[test]
fn the_sidecar_has_its_server_at_localhost() {
    let documents = documents(&text("conf/kubernetes/examples/sidecar.yaml"));
    let containers = containers(the(&documents, "Deployment"));
    assert_eq!(containers.len(), 2);
    assert_eq!(texts(&containers[1]["command"])[1], format!("localhost:{}", texts(&containers[0]["command"])[1]));
}

#[test]
fn the_reachability_pods_find_all_their_peers() {
    let documents = documents(&text("conf/kubernetes/examples/reachability.yaml"));
    let (service, workload) = (the(&documents, "Service"), the(&documents, "DaemonSet"));
    let spec = &service["spec"];
    assert_eq!((spec["clusterIP"].as_str(), spec["publishNotReadyAddresses"].as_bool()), (Some("None"), Some(true)));
    assert_eq!(spec["selector"], workload["spec"]["template"]["metadata"]["labels"]);
    let container = containers(workload)[0];
    assert_eq!(texts(&container["command"])[2], service["metadata"]["name"].as_str().unwrap());
    assert_eq!(container["ports"][0]["containerPort"], 8080, "the program's default");
}
