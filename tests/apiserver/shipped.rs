//! The manifests of `conf/kubernetes` before a real API server: it knows every field of them, their pods are admitted where
//! they are to run, and the account of the daemon may do what it must and nothing else.

use podwire_tests::lab::scene::{Outcome, check, scene};
use serde_json::{Value, json};

use crate::api::{Api, NODES};
use crate::stage::{arrive, node, share, start};

/// The documents of a manifest.
fn manifest(name: &str) -> Outcome<Vec<Value>> {
    let path = format!("{}/../conf/kubernetes/{name}", env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(&path).map_err(|error| format!("{path}: {error}"))?;
    serde_saphyr::from_multiple(&text).map_err(|error| format!("{path}: {error}"))
}

/// Where objects of a kind are made, and whether a field that nobody knows is refused.
fn place(object: &Value, namespace: &str) -> Outcome<String> {
    let kind = object["kind"].as_str().ok_or_else(|| format!("no kind: {object}"))?;
    let group = match object["apiVersion"].as_str().ok_or_else(|| format!("no version: {object}"))? {
        "v1" => "/api/v1".to_owned(),
        group => format!("/apis/{group}"),
    };
    let namespace = object["metadata"]["namespace"].as_str().unwrap_or(namespace);
    let scope = match kind {
        "Namespace" | "ClusterRole" | "ClusterRoleBinding" => String::new(),
        _ => format!("/namespaces/{namespace}"),
    };
    Ok(format!("{group}{scope}/{}s?fieldValidation=Strict", kind.to_lowercase()))
}

/// Makes an object, or would.
fn make(api: &Api, object: &Value, namespace: &str, really: bool) -> Outcome<Value> {
    let place = place(object, namespace)?;
    api.create(&if really { place } else { format!("{place}&dryRun=All") }, object)
}

/// The namespace, with an account for those who name none: no controller makes one here.
fn namespace(api: &Api, name: &str, level: &str) -> Outcome {
    let labels = json!({"pod-security.kubernetes.io/enforce": level});
    api.create("/api/v1/namespaces", &json!({"metadata": {"name": name, "labels": labels}}))?;
    account(api, name)
}

fn account(api: &Api, namespace: &str) -> Outcome {
    api.create(&format!("/api/v1/namespaces/{namespace}/serviceaccounts"), &json!({"metadata": {"name": "default"}}))
        .map(drop)
}

/// The pod that a workload's controller would make.
fn pod(workload: &Value) -> Value {
    let template = &workload["spec"]["template"];
    let metadata = json!({"generateName": "scene-", "labels": template["metadata"]["labels"]});
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": template["spec"]})
}

#[test]
fn the_api_knows_every_field_of_the_manifests_and_admits_their_pods() {
    scene(0, |lab| {
        let api = Api::start(&lab.outside)?;
        for object in &manifest("podwire.yaml")? {
            make(&api, object, "", true)?;
        }
        account(&api, "podwire")?;
        namespace(&api, "examples", "restricted")?;
        let (mut objects, mut pods) = (0, 0);
        let examples = ["irc.yaml", "sidecar.yaml", "reachability.yaml"].map(|name| format!("examples/{name}"));
        for name in ["podwire.yaml", "uninstall.yaml"].map(str::to_owned).into_iter().chain(examples) {
            for object in manifest(&name)? {
                objects += 1;
                let there = name == "podwire.yaml" || object["kind"] == "Namespace";
                if !there {
                    make(&api, &object, "examples", false).map_err(|why| format!("{name}: {why}"))?;
                }
                if object["spec"]["template"].is_object() {
                    pods += 1;
                    let namespace = object["metadata"]["namespace"].as_str().unwrap_or("examples");
                    make(&api, &pod(&object), namespace, false).map_err(|why| format!("{name}: {why}"))?;
                }
            }
        }
        check((objects, pods) == (19, 6), || format!("{objects} objects, {pods} pods"))?;
        // It would have said so: a field that nobody knows, and the daemon's pod where it may not be.
        let mut wrong = manifest("examples/reachability.yaml")?.remove(1);
        wrong["spec"]["template"]["spec"]["containers"][0]["imagePolicy"] = json!("Always");
        let Err(why) = make(&api, &wrong, "examples", false) else { return Err("it takes any field".into()) };
        check(why.contains("imagePolicy"), || why)?;
        let daemon = manifest("podwire.yaml")?.pop().ok_or("an empty manifest")?;
        let mut daemon = pod(&daemon);
        daemon["spec"]["serviceAccountName"] = json!("default");
        let Err(why) = make(&api, &daemon, "examples", false) else { return Err("it admits any pod".into()) };
        check(why.contains("violates PodSecurity"), || why)
    });
}

#[test]
fn the_shipped_service_account_is_enough_for_the_daemon_and_for_nothing_else() {
    scene(1, |lab| {
        let api = Api::start(&lab.outside)?;
        for object in &manifest("podwire.yaml")? {
            make(&api, object, "", true)?;
        }
        api.create(NODES, &node(1))?;
        let asked = api.create(
            "/api/v1/namespaces/podwire/serviceaccounts/podwire/token",
            &json!({"spec": {"expirationSeconds": 3600}}),
        )?;
        let token = asked["status"]["token"].as_str().ok_or_else(|| format!("no token: {asked}"))?;
        share(lab, "kubeconfig", &api.kubeconfig(token))?;
        share(lab, "podwired.toml", "cluster_cidrs = [\"10.244.0.0/16\", \"fd00:10:244::/48\"]\n")?;
        start(&mut lab.nodes[0])?;
        lab.nodes[0].wait_ready()?;
        // It may watch, too.
        api.create(NODES, &node(2))?;
        arrive(&lab.nodes[0], &[2])?;
        for (method, path, body) in [
            ("GET", "/api/v1/pods", None),
            ("GET", "/api/v1/secrets", None),
            ("GET", "/api/v1/namespaces/podwire/configmaps/podwire", None),
            ("PATCH", "/api/v1/nodes/node-1", Some(json!({"metadata": {"labels": {"a": "b"}}}))),
            ("DELETE", "/api/v1/nodes/node-1", None),
            ("POST", "/api/v1/nodes", Some(node(3))),
        ] {
            let (code, answer) = api.request(method, path, token, body.as_ref())?;
            check(code == 403, || format!("{method} {path}: {code}: {answer}"))?;
        }
        let (code, _) = api.request("GET", "/api/v1/nodes/node-1", token, None)?;
        check(code == 200, || format!("it may not read its own Node: {code}"))
    });
}
