//! Nodes that go and come: deleted and made anew with another address or other pod CIDRs, and rebooted.

use std::collections::BTreeSet;
use std::fs;
use std::io::BufReader;
use std::net::IpAddr;
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use podwire_tests::lab::eventually;
use podwire_tests::lab::kube::{self, addresses, name};
use podwire_tests::lab::scene::{Outcome, check};
use serde_json::Value;

use crate::ready::reaches_all;
use crate::stage::{NODES, PATIENCE, Stage, scene, texts, until};
use crate::survive::{claims, kill_program};

/// How long after the event of a Node the other nodes may take.
const SECOND: Duration = Duration::from_secs(1);

/// The node that all this happens to.
const MOVING: u16 = 3;

/// A Node as the membership knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Membership {
    address: String,
    pod_cidrs: Vec<String>,
}

/// What a Node says, if that is enough to be a member.
fn membership(node: &Value) -> Option<Membership> {
    let addresses = node["status"]["addresses"].as_array()?;
    let internal = |entry: &&Value| entry["type"] == "InternalIP" && !entry["address"].to_string().contains("::");
    let address = addresses.iter().find(internal)?["address"].as_str()?.to_owned();
    let pod_cidrs = texts(&node["spec"]["podCIDRs"]);
    (!pod_cidrs.is_empty()).then_some(Membership { address, pod_cidrs })
}

/// Whether a node sends what is for these pod CIDRs to this address.
fn leads(stage: &Stage, from: u16, wanted: &Membership) -> Outcome {
    let node = stage.node(from)?;
    for prefix in &wanted.pod_cidrs {
        let family = if prefix.contains(':') { "-6" } else { "-4" };
        let route = node.run("ip", &[family, "route", "show", prefix])?;
        let id = route.split_whitespace().skip_while(|word| *word != "nhid").nth(1).unwrap_or_default().to_owned();
        let nexthop = if id.is_empty() { String::new() } else { node.run("ip", &["nexthop", "show", "id", &id])? };
        let right = nexthop.contains(&format!("dst {} ", wanted.address));
        check(right, || format!("{} leads {prefix} by {route:?}, {nexthop:?}, not to {}", node.name, wanted.address))?;
    }
    Ok(())
}

/// Does something to a node, and measures how long after the event of its Node, that with `is_new`, the others are right;
/// the new membership.
fn measured(
    stage: &Stage,
    change: impl FnOnce() -> Outcome,
    is_new: impl Fn(&Membership) -> bool + Send,
) -> Outcome<Membership> {
    let moving = name(MOVING);
    let mut watch = stage.start(&[
        "get",
        "node",
        "--watch",
        "--output=json",
        "--field-selector",
        &format!("metadata.name={moving}"),
    ])?;
    let output = watch.0.stdout.take().ok_or("no output")?;
    let (event, is_event) = std::sync::mpsc::channel();
    let watcher = thread::spawn(move || {
        let nodes = serde_json::Deserializer::from_reader(BufReader::new(output)).into_iter::<Value>();
        for node in nodes.map_while(Result::ok) {
            if let Some(membership) = membership(&node)
                && event.send((Instant::now(), membership)).is_err()
            {
                return;
            }
        }
    });
    change()?;
    let deadline = Instant::now() + PATIENCE;
    let (at, new) = loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let (at, membership) = is_event.recv_timeout(left).map_err(|_| "no event of the new Node".to_owned())?;
        if is_new(&membership) {
            break (at, membership);
        }
    };
    for number in (1..=NODES).filter(|number| *number != MOVING) {
        eventually(PATIENCE, || leads(stage, number, &new))?;
    }
    let took = at.elapsed();
    eprintln!("{moving} is {new:?}; the others were right {took:?} after the event");
    drop(watch);
    let _ = watcher.join();
    check(took <= SECOND, || format!("the other nodes were right only {took:?} after the event of {new:?}"))?;
    Ok(new)
}

/// Ends a node as a power cut does: its processes and its network at once; its disk stays. It starts again by itself.
fn cut(stage: &Stage, number: u16) -> Outcome {
    let node = name(number);
    let init = stage.place.process_id(&node, "init")?;
    let id = i32::try_from(init).map_err(|error| error.to_string())?;
    kill(Pid::from_raw(id), Signal::SIGKILL).map_err(|errno| format!("cut {node}: {errno}"))?;
    until("the node starts again", || {
        let now = stage.place.process_id(&node, "init")?;
        check(now != init, || format!("{node} is still process {now}"))
    })
}

/// That the ledger of each node holds just the addresses of its pods that run.
fn no_leaks(stage: &Stage) -> Outcome {
    until("the ledgers hold what runs, and nothing else", || {
        let pods = stage.look(&["get", "pods", "--all-namespaces"])?;
        for number in 1..=NODES {
            let here =
                |pod: &&Value| pod["spec"]["nodeName"] == name(number).as_str() && pod["spec"]["hostNetwork"] != true;
            let pods = pods["items"].as_array().into_iter().flatten().filter(here);
            let running: BTreeSet<IpAddr> = pods
                .flat_map(|pod| pod["status"]["podIPs"].as_array().cloned().unwrap_or_default())
                .filter_map(|entry| entry["ip"].as_str()?.parse().ok())
                .collect();
            let held: BTreeSet<IpAddr> = claims(stage, number)?.iter().filter_map(|claim| claim.parse().ok()).collect();
            check(running == held, || format!("{} holds {held:?}, and {running:?} run", name(number)))?;
        }
        Ok(())
    })
}

fn of_now(stage: &Stage) -> Outcome<Membership> {
    let node = stage.look(&["get", "node", &name(MOVING)])?;
    membership(&node).ok_or_else(|| format!("{node}"))
}

/// That the node is back: it is Ready, all reach all, and a new pod on it is reached from another node.
fn is_back(stage: &Stage, pod: &str) -> Outcome {
    stage.begins()?;
    (1..=NODES).try_for_each(|number| until("routes to all", || reaches_all(stage, number)))?;
    let pod = stage.run_server(pod, MOVING)?;
    let far = stage.node(1)?;
    for address in &pod.addresses {
        until("it is reached", || podwire_tests::lab::image::ask(&far, *address))?;
    }
    no_leaks(stage)
}

#[test]
fn a_rebooted_node_has_its_pods_again_and_leaks_no_address() {
    scene("reboot", |stage| {
        stage.run_server("stays", MOVING)?;
        stage.run_server("neighbour", 1)?;
        let before = of_now(stage)?;
        cut(stage, MOVING)?;
        // Until kubelet has said so the Node is as it was before.
        until("the pod runs again", || {
            let restarts = stage.kubectl(&[
                "get",
                "pod",
                "stays",
                "--output=jsonpath={.status.containerStatuses[0].restartCount}",
            ])?;
            check(restarts != "0", || format!("{restarts} restarts"))
        })?;
        stage.pod("stays")?;
        is_back(stage, "new")?;
        check(of_now(stage)? == before, || "the Node is another one".into())
    });
}

#[test]
fn a_recreated_node_with_other_pod_cidrs_is_reached_within_a_second() {
    scene("other-cidrs", |stage| {
        let before = of_now(stage)?;
        let stale = stage.run_server("stale", MOVING)?;
        let change = || {
            stage.kubectl(&["delete", "node", &name(MOVING), "--timeout=240s"])?;
            // kubelet makes a Node when it starts.
            kill_program(stage, MOVING, "kubelet")
        };
        let old = before.clone();
        let after = measured(stage, change, move |new| new.pod_cidrs != old.pod_cidrs)?;
        check(after.address == before.address, || format!("{before:?} became {after:?}"))?;
        is_back(stage, "new")?;
        // A pod that the node has kept has an address which is nobody's now: that is reported, with the fix.
        let pod = stage.pod("stale")?;
        check(pod.addresses == stale.addresses, || format!("{stale:?} became {pod:?}"))?;
        let (fix, by) = ("fix: kubectl ", "delete pods --all-namespaces --field-selector status.podIP=");
        let said = doctor(stage, MOVING)?;
        check(said.contains(&format!("{fix}{by}{}\n", pod.addresses[0])), || said)?;
        // All of them: CoreDNS may have been there, too.
        until("the doctor finds nothing", || {
            let said = doctor(stage, MOVING)?;
            for command in said.lines().filter_map(|line| line.trim().strip_prefix(fix)) {
                stage.place.ask(&command.split(' ').collect::<Vec<_>>())?;
            }
            check(said == "OK  no findings", || said)
        })
    });
}

/// What the doctor says on a node.
fn doctor(stage: &Stage, number: u16) -> Outcome<String> {
    let here = format!("--field-selector=spec.nodeName={}", name(number));
    let selected = ["--selector=app.kubernetes.io/name=podwired", &here, "--output=name"];
    let pod = stage.place.ask(&[&["get", "pods", "--namespace=podwire"], &selected[..]].concat())?;
    let asked = stage.place.ask(&["exec", "--namespace=podwire", &pod, "--", "podwired", "doctor"]);
    // With findings its exit code is 1, which kubectl tells behind them.
    Ok(asked.unwrap_or_else(|said| said.replace("command terminated", "\ncommand terminated")))
}

#[test]
fn a_recreated_node_with_another_address_is_reached_within_a_second() {
    scene("other-address", |stage| {
        let before = of_now(stage)?;
        // There and back; from where one that has failed has left it, too.
        let there = if before.address == addresses(MOVING)[0].ip().to_string() { MOVING + 10 } else { MOVING };
        for number in [there, MOVING] {
            let path = stage.place.number(&name(MOVING));
            if kube::read(&path)? == number.to_string() {
                continue;
            }
            let change = || {
                stage.kubectl(&["delete", "node", &name(MOVING), "--timeout=240s"])?;
                fs::write(&path, number.to_string()).map_err(|error| format!("{}: {error}", path.display()))?;
                cut(stage, MOVING)
            };
            let address = addresses(number)[0].ip().to_string();
            let wanted = address.clone();
            let after = measured(stage, change, move |new| new.address == wanted)?;
            check(after.address == address, || format!("{before:?} became {after:?}"))?;
            is_back(stage, &format!("new-{number}"))?;
        }
        check(kube::read(&stage.place.number(&name(MOVING)))? == MOVING.to_string(), || "it has not come back".into())
    });
}
