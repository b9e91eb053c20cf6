//! A node full of pods: they start, they stop, and every address returns. How long it takes is measured beside the reference
//! plugins, on the same node.

use std::path::Path;
use std::time::Instant;
use std::{env, fs};

use podwire_tests::lab::image::NAME;
use podwire_tests::lab::kube::name;
use podwire_tests::lab::scene::{Outcome, check};
use serde_json::{Value, json};

use crate::stage::{Stage, scene, until};
use crate::survive::claims;

/// How many pods kubelet takes at most unless it is told otherwise: with those of DaemonSets a node is full.
const PODS: usize = 110;

/// The node that is filled.
const FULL: u16 = 3;

/// A conflist of the reference plugins that comes before podwire's, in a range of its own.
const REFERENCE: &str = "/etc/cni/net.d/05-reference.conflist";

/// The plugins of that conflist.
const PLUGINS: [&str; 3] = ["ptp", "host-local", "portmap"];

fn deployment(name_of: &str, replicas: usize) -> Value {
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name_of},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": {"app": name_of}},
            "template": {
                "metadata": {"labels": {"app": name_of}},
                "spec": {
                    "nodeSelector": {"kubernetes.io/hostname": name(FULL)},
                    "terminationGracePeriodSeconds": 0,
                    "automountServiceAccountToken": false,
                    "enableServiceLinks": false,
                    "containers": [{"name": "sleeps", "image": NAME, "imagePullPolicy": "Never"}],
                },
            },
        },
    })
}

/// Fills the node, empties it, and says how long both took.
fn come_and_go(stage: &Stage, name_of: &str, held: impl Fn() -> Outcome<usize>) -> Outcome {
    let before = held()?;
    let start = Instant::now();
    stage.apply(&deployment(name_of, PODS))?;
    let deployment = format!("deployment/{name_of}");
    stage.kubectl(&["rollout", "status", &deployment, "--timeout=480s"])?;
    let came = start.elapsed();
    let pods = stage.look(&["get", "pods", &format!("--selector=app={name_of}")])?;
    let mut waits: Vec<u64> = pods["items"].as_array().into_iter().flatten().filter_map(scheduled_to_ready).collect();
    waits.sort_unstable();
    check(waits.len() == PODS, || format!("{} of {PODS} pods are Ready", waits.len()))?;
    let with = held()?;
    check(with == before + 2 * PODS, || format!("{with} addresses are held, {before} before"))?;
    let start = Instant::now();
    stage.kubectl(&["delete", &deployment, "--timeout=480s"])?;
    until("all addresses return", || {
        let pods = stage.pods_of(&format!("app={name_of}"))?.len();
        let now = held()?;
        check(pods == 0 && now == before, || format!("{pods} pods and {now} addresses are left, {before} before"))
    })?;
    let went = start.elapsed();
    let (median, last) = (waits[PODS / 2], waits[PODS - 1]);
    eprintln!(
        "{name_of}: {PODS} pods Ready after {:.1} s, scheduled to Ready {median} s in the median and {last} s at most; \
         gone after {:.1} s",
        came.as_secs_f64(),
        went.as_secs_f64()
    );
    Ok(())
}

/// From the condition PodScheduled to Ready, in seconds: the API knows no parts of them.
fn scheduled_to_ready(pod: &Value) -> Option<u64> {
    let at = |kind: &str| {
        let conditions = pod["status"]["conditions"].as_array()?;
        let condition =
            conditions.iter().find(|condition| condition["type"] == kind && condition["status"] == "True")?;
        // `2026-01-01T00:00:00Z`; within a day.
        let clock = condition["lastTransitionTime"].as_str()?.get(11..19)?;
        clock.split(':').map(|part| part.parse::<u64>().ok()).try_fold(0, |seconds, part| Some(seconds * 60 + part?))
    };
    Some((at("Ready")? + 86_400 - at("PodScheduled")?) % 86_400)
}

#[test]
fn a_full_node_starts_and_stops_its_pods_and_gets_every_address_back() {
    scene("full-node", |stage| {
        come_and_go(stage, "podwire", || Ok(claims(stage, FULL)?.len()))?;
        let Some(directory) = env::var_os("PODWIRE_REFERENCE_PLUGINS") else {
            return Err("PODWIRE_REFERENCE_PLUGINS is not set: scripts/kube test sets it".into());
        };
        let node = stage.node(FULL)?;
        let range = |subnet: &str| json!([{"subnet": subnet}]);
        let conflist = json!({
            "cniVersion": "1.0.0", "name": "reference", "plugins": [
                {"type": "ptp", "mtu": 1450, "ipMasq": false, "ipam": {
                    "type": "host-local", "ranges": [range("10.245.0.0/24"), range("fd00:10:245::/64")],
                    "routes": [{"dst": "0.0.0.0/0"}, {"dst": "::/0"}],
                }},
                {"type": "portmap", "capabilities": {"portMappings": true}},
            ],
        });
        let install = || -> std::io::Result<()> {
            for plugin in PLUGINS {
                fs::copy(Path::new(&directory).join(plugin), Path::new("/opt/cni/bin").join(plugin))?;
            }
            fs::write(REFERENCE, conflist.to_string())
        };
        node.enter(install).map_err(|error| format!("the reference plugins on {}: {error}", node.name))?;
        let played = reference_is_used(stage).and_then(|()| come_and_go(stage, "reference", || reference_held(stage)));
        // Whatever comes of it: the scenes after this one are podwire's.
        let removed = node.enter(|| fs::remove_file(REFERENCE)).map_err(|error| format!("remove {REFERENCE}: {error}"));
        played?;
        removed?;
        until("containerd has podwire's conflist again", || {
            stage.apply(&deployment("again", 1))?;
            stage.kubectl(&["rollout", "status", "deployment/again", "--timeout=240s"])?;
            stage.kubectl(&["rollout", "restart", "deployment/again"])?;
            stage.kubectl(&["rollout", "status", "deployment/again", "--timeout=240s"])?;
            let held = reference_held(stage)?;
            check(held == 0, || format!("{held} addresses of the reference plugins are held"))
        })
    });
}

/// Waits until containerd has taken the new conflist in, which it does a moment later.
fn reference_is_used(stage: &Stage) -> Outcome {
    until("containerd takes the reference plugins", || {
        stage.apply(&deployment("first", 1))?;
        stage.kubectl(&["rollout", "status", "deployment/first", "--timeout=240s"])?;
        let held = reference_held(stage)?;
        stage.kubectl(&["delete", "deployment", "first", "--timeout=240s"])?;
        check(held > 0, || "they have given no address".into())
    })?;
    until("the first one is gone", || check(reference_held(stage)? == 0, || "it is held still".into()))
}

/// How many addresses host-local has given.
fn reference_held(stage: &Stage) -> Outcome<usize> {
    let list = || -> usize {
        let entries = fs::read_dir("/var/lib/cni/networks/reference").into_iter().flatten().filter_map(Result::ok);
        entries.filter(|entry| entry.file_name().to_string_lossy().parse::<std::net::IpAddr>().is_ok()).count()
    };
    Ok(stage.node(FULL)?.enter(list))
}
