//! What a killed or forgetful containerd leaves is released by the daemon, which asks its CRI whose pods are alive.

use std::path::Path;

use podwire_tests::lab::containerd::Containerd;
use podwire_tests::lab::machine::Machine;
use podwire_tests::lab::node::CONFLISTS;
use podwire_tests::lab::scene::{Outcome, check, scene};
use podwire_tests::lab::{SOON, daemon, eventually, runtime};

use crate::stage::{answers, explained, held, pod_devices};

/// Plays a scene with containerd on a node whose daemon takes a pod for dead after a second, or after five where its device
/// is there. The socket is found.
#[track_caller]
fn collected(body: impl FnOnce(&mut Containerd, &dyn Fn() -> Vec<String>) -> Outcome) {
    scene(1, |lab| {
        daemon::start_with_settings(&mut lab.nodes[0], "garbage_after_seconds = 1\n", &[])?;
        let node = &lab.nodes[0];
        let process = daemon::of(node)?;
        explained(Machine::new(&node.host)?, |containerd| body(containerd, &|| process.said()))
    });
}

/// Ends the process of a sandbox, as somebody's `kill` does.
fn end(containerd: &Containerd, id: &str) {
    // containerd notices, and may be the one who takes the task away.
    let _ = containerd.ctr(&["tasks", "rm", "--force", id]);
}

/// Has containerd forget a sandbox that it has: its container and its process go, and nobody tells the plugin.
fn forget(containerd: &Containerd, id: &str) -> Outcome {
    end(containerd, id);
    eventually(SOON, || containerd.ctr(&["containers", "rm", id]).map(drop))
}

#[test]
fn cri_garbage_sandboxes_that_containerd_forgot_are_released_and_known_ones_are_not() {
    collected(|containerd, said| {
        let host = containerd.machine.host.clone();
        let pod = |name: &str| containerd.run_server(&containerd.pod(name));
        let (living, lost, forgotten) = (pod("living")?, pod("lost")?, pod("forgotten")?);
        let lines = |text: &str| said().into_iter().filter(|line| line.contains(text)).collect::<Vec<_>>();
        for gone in [&lost, &forgotten] {
            forget(containerd, &gone.id)?;
        }
        containerd.kill()?;
        host.remove_pod(&lost.netns)?;
        eventually(SOON, || check(!lines("WARN").is_empty(), || "the silence of containerd is not told".into()))?;
        check(lines("INFO released ").is_empty() && held(&host).len() == 9, || {
            format!("{:?}: {:?}", said(), held(&host))
        })?;

        containerd.start_again()?;
        for (gone, why) in [(&lost, "its device is gone"), (&forgotten, "the container runtime has forgotten it")] {
            let text = format!("of container {} (eth0, network podwire): {why}", gone.id);
            eventually(SOON, || check(lines(&text).len() == 1, || format!("{text} is not in {:?}", said())))?;
        }
        check(held(&host).len() == 3 && pod_devices(&host)?.len() == 1, || format!("held: {:?}", held(&host)))?;
        check(lines("INFO released ").len() == 2, || format!("{:?}", lines("INFO released ")))?;
        answers(&host, |_| None, &living.addresses)?;
        containerd.stop_pod(&living.id)?;
        containerd.remove_pod(&living.id)?;
        check(held(&host).is_empty(), || format!("held: {:?}", held(&host)))
    });
}

/// Attaches a network namespace that containerd has not made, among the processes of the machine.
fn add_by_hand(containerd: &Containerd, container: &str, arguments: &str) -> Outcome {
    let configuration = runtime::configuration(&containerd.machine.host, CONFLISTS)?.to_string();
    let line = "ip netns add $1 && echo \"$3\" | CNI_COMMAND=ADD CNI_CONTAINERID=$1 CNI_NETNS=/run/netns/$1 CNI_IFNAME=eth0 \
                CNI_PATH=/opt/cni/bin CNI_ARGS=\"IgnoreUnknown=1;$2\" /opt/cni/bin/podwire";
    containerd.machine.run("sh", &["-ec", line, "sh", container, arguments, &configuration]).map(drop)
}

#[test]
fn cri_garbage_leaves_known_sandboxes_to_containerd_and_foreign_pods_alone() {
    collected(|containerd, said| {
        let host = containerd.machine.host.clone();
        // Its namespace is lost, but containerd will say DEL.
        let known = containerd.inspect(&containerd.run_pod(&containerd.pod("known"))?)?;
        end(containerd, &known.id);
        host.remove_pod(&known.netns)?;
        // Somebody who calls the plugin by hand, or Podman: no CRI knows this one, and it lives.
        add_by_hand(containerd, "by-hand", "K8S_POD_NAME=by-hand")?;
        // And a sandbox that containerd never came to know, with its device: it may be another runtime's, and is reported, which
        // shows that time has passed.
        let unknown = "f".repeat(64);
        add_by_hand(containerd, &unknown, &format!("K8S_POD_INFRA_CONTAINER_ID={unknown}"))?;
        let text = format!("none of this node's 1 pods: {unknown} (pw");
        eventually(SOON, || {
            let said = said();
            check(said.iter().any(|line| line.contains("WARN") && line.contains(&text)), || said.join("\n"))
        })?;
        let released = said().iter().filter(|line| line.contains("INFO released ")).count();
        check(released == 0 && held(&host).len() == 9, || format!("{:?}: {:?}", said(), held(&host)))?;
        check(pod_devices(&host)?.len() == 2, || format!("{:?}", pod_devices(&host)))?;
        let by_hand = host.found_pod("by-hand", Path::new("/run/netns/by-hand"))?;
        let addresses = by_hand.run("ip", &["-brief", "address", "show", "eth0"])?;
        check(addresses.contains("10.244.1."), || addresses)?;
        // Without its device it is released, as the finding says.
        let devices = pod_devices(&host)?;
        let own = said().iter().rev().find_map(|line| line.split_once(&text).map(|(_, rest)| rest.to_owned()));
        let own =
            own.and_then(|rest| rest.split(')').next().map(|name| format!("pw{name}"))).ok_or("it is not named")?;
        check(devices.iter().any(|device| device["ifname"] == own), || format!("{own} is not among {devices:?}"))?;
        host.run("ip", &["link", "delete", &own])?;
        eventually(SOON, || check(held(&host).len() == 6, || format!("held: {:?}", held(&host))))?;
        containerd.crictl(&["rmp", "--force", &known.id])?;
        check(held(&host).len() == 3, || format!("held: {:?}", held(&host)))
    });
}
