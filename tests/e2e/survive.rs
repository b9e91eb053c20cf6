//! What goes on when something is killed, replaced or away: the traffic of the pods that run, and the start of new ones.

use std::fs;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use podwire_tests::lab::kube::name;
use podwire_tests::lab::scene::{FAMILIES, Outcome, check};
use podwire_tests::lab::stream::Stream;
use podwire_tests::lab::{SOON, eventually};

use crate::pods::{Pod, server};
use crate::ready::reaches_all;
use crate::stage::{NODES, Stage, scene, until};

/// The label of podwired's pods.
const PODWIRED: &str = "--selector=app.kubernetes.io/name=podwired";

/// The image of podwired that the manifest names.
const IMAGE: &str = "docker.io/podwire/podwired";

/// Plays something while a thousand packets a second go from a pod of node 1 to one of node 2 and back, in both families,
/// and finds that none was lost.
fn nothing_is_lost(stage: &Stage, changes: impl FnOnce(&dyn Fn() -> Outcome) -> Outcome) -> Outcome {
    let (near, far) = (stage.run_server("near", 1)?, stage.run_server("far", 2)?);
    let (from, to) = (stage.inside(&near)?, stage.inside(&far)?);
    let start = |like| Stream::start(&from, &to, far.address(like)?);
    let streams = [start(FAMILIES[0])?, start(FAMILIES[1])?];
    let flow = || streams.iter().try_for_each(Stream::flows);
    flow()?;
    changes(&flow)?;
    flow()?;
    for stream in streams {
        let count = stream.finish()?;
        eprintln!("{} packets, {} lost", count.sent, count.lost.len());
        check(count.lost.is_empty(), || format!("of {} packets were lost: {:?}", count.sent, count.lost))?;
    }
    Ok(())
}

/// Ends one of a node's own programs at once; the node's first process starts it again.
pub(crate) fn kill_program(stage: &Stage, number: u16, program: &str) -> Outcome {
    let process = stage.place.process_id(&name(number), program)?;
    kill_process(stage, number, process)?;
    until("it runs again", || {
        let now = stage.place.process_id(&name(number), program)?;
        check(now != process, || format!("{program} is still process {now}"))
    })
}

/// Ends a process of a node at once, by the id that it has there.
fn kill_process(stage: &Stage, number: u16, process: u32) -> Outcome {
    // The node's /proc is that of its own processes.
    let node = stage.node(number)?;
    node.run("nsenter", &["--pid=/proc/1/ns/pid", "kill", "-KILL", &process.to_string()]).map(drop)
}

/// podwired's pod on a node.
fn podwired(stage: &Stage, number: u16) -> Outcome<String> {
    let field = format!("--field-selector=spec.nodeName={}", name(number));
    stage.kubectl(&[
        "get",
        "pods",
        "--namespace=podwire",
        PODWIRED,
        &field,
        "--output=jsonpath={.items[0].metadata.name}",
    ])
}

/// The process of podwired on a node, by the id that it has there.
fn podwired_process(stage: &Stage, number: u16) -> Outcome<u32> {
    let found = stage.node(number)?.run("pidof", &["podwired"])?;
    found.parse().map_err(|error| format!("podwired is process {found:?}: {error}"))
}

fn kill_podwired(stage: &Stage, number: u16) -> Outcome {
    let before = podwired_process(stage, number)?;
    kill_process(stage, number, before)?;
    until("podwired runs again", || {
        let now = podwired_process(stage, number)?;
        check(now != before, || format!("podwired is still process {now}"))
    })
}

/// That a new pod on a node becomes Ready.
fn new_pod(stage: &Stage, pod: &str, number: u16) -> Outcome<Pod> {
    stage.run_server(pod, number)
}

#[test]
fn killing_podwired_containerd_and_kubelet_loses_no_packet_and_new_pods_start() {
    scene("killed", |stage| {
        nothing_is_lost(stage, |flow| {
            for number in [1, 2] {
                kill_podwired(stage, number)?;
                flow()?;
                new_pod(stage, &format!("after-podwired-{number}"), number)?;
                for program in ["containerd", "kubelet"] {
                    kill_program(stage, number, program)?;
                    flow()?;
                    until("a new pod starts", || new_pod(stage, &format!("after-{program}-{number}"), number))?;
                    flow()?;
                }
            }
            stage.all_ready()
        })
    });
}

#[test]
fn a_rolling_upgrade_loses_no_packet_and_new_pods_start_meanwhile() {
    scene("upgrade", |stage| {
        let version = env!("CARGO_PKG_VERSION");
        for node in stage.nodes()? {
            let names = [format!("{IMAGE}:{version}"), format!("{IMAGE}:{version}-next")];
            node.run("ctr", &["--namespace=k8s.io", "images", "tag", "--force", &names[0], &names[1]])?;
        }
        let before: Vec<_> = (1..=NODES).map(|number| podwired(stage, number)).collect::<Outcome<_>>()?;
        nothing_is_lost(stage, |flow| {
            for (round, tag) in [format!("{version}-next"), version.to_owned()].iter().enumerate() {
                let image = format!("podwired={IMAGE}:{tag}");
                stage.kubectl(&["--namespace=podwire", "set", "image", "daemonset/podwired", &image])?;
                for number in 1..=NODES {
                    flow()?;
                    new_pod(stage, &format!("meanwhile-{round}-{number}"), number)?;
                }
                stage.kubectl(&["--namespace=podwire", "rollout", "status", "daemonset/podwired", "--timeout=240s"])?;
            }
            Ok(())
        })?;
        let after: Vec<_> = (1..=NODES).map(|number| podwired(stage, number)).collect::<Outcome<_>>()?;
        check(before.iter().all(|pod| !after.contains(pod)), || format!("{before:?} became {after:?}"))
    });
}

/// While this is there, no API server runs.
struct Away<'a> {
    stage: &'a Stage,
}

impl<'a> Away<'a> {
    fn begin(stage: &'a Stage) -> Outcome<Self> {
        let held = stage.place.held("control-plane", "kube-apiserver");
        fs::write(&held, "").map_err(|error| format!("{}: {error}", held.display()))?;
        let away = Self { stage };
        let server = stage.place.process_id("control-plane", "kube-apiserver")?;
        let id = i32::try_from(server).map_err(|error| error.to_string())?;
        kill(Pid::from_raw(id), Signal::SIGKILL).map_err(|errno| format!("kill the API server: {errno}"))?;
        eventually(SOON, || match stage.place.process_id("control-plane", "kube-apiserver") {
            Ok(_) => Err("the API server has not ended".into()),
            Err(_) => Ok(()),
        })?;
        Ok(away)
    }

    /// Lets it start again, and waits until it answers.
    fn end(self) -> Outcome {
        let stage = self.stage;
        drop(self);
        until("the API server answers", || stage.kubectl(&["get", "--raw=/readyz"])).map(drop)
    }
}

impl Drop for Away<'_> {
    fn drop(&mut self) {
        // Whoever comes next needs an API server, however this one ended.
        let _ = fs::remove_file(self.stage.place.held("control-plane", "kube-apiserver"));
    }
}

/// The sandbox of a pod, by containerd: its id, and its process.
fn sandbox(stage: &Stage, pod: &Pod, number: u16) -> Outcome<(String, u32)> {
    let node = stage.node(number)?;
    let filter = "labels.\"io.cri-containerd.kind\"==sandbox,labels.\"io.kubernetes.pod.name\"==";
    let filter = format!("{filter}{},labels.\"io.kubernetes.pod.namespace\"=={}", pod.name, stage.namespace);
    let containers = node.run("ctr", &["--namespace=k8s.io", "containers", "list", "--quiet", &filter])?;
    let tasks = node.run("ctr", &["--namespace=k8s.io", "tasks", "list"])?;
    let running = containers.lines().find_map(|id| {
        let line = tasks.lines().find(|line| line.starts_with(id) && line.contains("RUNNING"))?;
        Some((id.to_owned(), line.split_whitespace().nth(1)?.parse().ok()?))
    });
    running.ok_or_else(|| format!("no sandbox of {} runs: {containers}\n{tasks}", pod.name))
}

/// The addresses that the ledger of a node holds.
pub(crate) fn claims(stage: &Stage, number: u16) -> Outcome<Vec<String>> {
    // Before the first pod there is no such directory.
    let list = || -> Vec<String> {
        let entries = fs::read_dir("/run/podwire/podwire/claims").into_iter().flatten().filter_map(Result::ok);
        entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
    };
    let mut claims = stage.node(number)?.enter(list);
    claims.sort();
    Ok(claims)
}

#[test]
fn without_an_api_server_sandboxes_are_recreated_and_podwired_starts_from_cached_nodes() {
    scene("api-away", |stage| {
        let mortal = stage.run_server("mortal", 3)?;
        nothing_is_lost(stage, |flow| {
            let (before, held) = (sandbox(stage, &mortal, 3)?, claims(stage, 3)?);
            let away = Away::begin(stage)?;
            // A sandbox dies: kubelet has the old network taken away and a new one made.
            kill_process(stage, 3, before.1)?;
            let after = until("kubelet makes the sandbox anew", || {
                let now = sandbox(stage, &mortal, 3)?;
                check(now.0 != before.0, || "it is still the old one".into()).map(|()| now)
            })?;
            let now = until("the old addresses return", || {
                let now = claims(stage, 3)?;
                check(now.len() == held.len() && now != held, || format!("held {now:?}, before {held:?}")).map(|()| now)
            })?;
            flow()?;
            // A daemon that starts now knows the others only from its disk; what it finds damaged it makes anew.
            for number in [2, 3] {
                kill_podwired(stage, number)?;
            }
            let node = stage.node(3)?;
            node.run("ip", &["link", "delete", "podwire.1"])?;
            kill_podwired(stage, 3)?;
            flow()?;
            // The new pod and those of the other nodes reach one another.
            let inside = node.found_pod("mortal", std::path::Path::new(&format!("/proc/{}/ns/net", after.1)))?;
            let far = stage.node(1)?;
            let address = now.iter().find(|address| !held.contains(*address)).ok_or("no new address")?;
            let address = address.parse().map_err(|error| format!("{address}: {error}"))?;
            until("the new sandbox is reached from another node", || {
                far.run("ping", &["-c", "1", "-W", "2", &format!("{address}")]).map(drop)?;
                let _: std::net::IpAddr = address;
                inside.run("ping", &["-c", "1", "-W", "2", &podwire_tests::lab::kube::addresses(1)[0].ip().to_string()])
            })?;
            away.end()?;
            reaches_all(stage, 3)?;
            stage.all_ready()
        })?;
        the_scheduler_follows(stage)
    });
}

/// That the scheduler has heard of the nodes since the API is back. It asks ever more rarely (half a minute at most) and
/// meanwhile goes by what it knew: it would give a pod to a node that is being drained.
fn the_scheduler_follows(stage: &Stage) -> Outcome {
    stage.kubectl(&["cordon", &name(3)])?;
    until("the scheduler knows that a node takes no pods", || {
        stage.apply(&server("refused", 3))?;
        let refused = ["wait", "--for=condition=PodScheduled=False", "pod/refused", "--timeout=5s"];
        let refused = stage.kubectl(&refused);
        stage.kubectl(&["delete", "pod", "refused", "--timeout=240s"])?;
        refused
    })?;
    stage.kubectl(&["uncordon", &name(3)]).map(drop)
}
