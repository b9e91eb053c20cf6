//! containerd through its CRI, spoken to as kubelet does: RunPodSandbox, containers, StopPodSandbox, RemovePodSandbox.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::thread;

use nix::mount::{MntFlags, umount2};
use podwire_tests::lab::containerd::{Containerd, Sandbox};
use podwire_tests::lab::scene::{FAMILIES, Outcome, check, state};
use serde_json::json;

use crate::stage::{answers, as_before, containerd, containerd_with, held, pod_devices};

/// Any source will do: the node has many addresses.
fn anybody(_: IpAddr) -> Option<IpAddr> {
    None
}

#[test]
fn cri_a_pod_answers_the_node_and_another_pod_and_leaves_nothing() {
    containerd(|containerd| {
        let host = containerd.machine.host.clone();
        let before = state(&host)?;
        let web = containerd.run_server(&containerd.pod("web"))?;
        let addresses: Vec<_> = web.addresses.iter().map(ToString::to_string).collect();
        check(addresses == ["10.244.1.2", "fd00:10:244:1::2"], || format!("the runtime says {addresses:?}"))?;
        answers(&host, anybody, &web.addresses)?;

        let client = containerd.run_server(&containerd.pod("client"))?;
        let from = client.host(&host)?;
        answers(&from, |to| client.address(to).ok(), &web.addresses)?;
        answers(&web.host(&host)?, |to| web.address(to).ok(), &client.addresses)?;
        // The name by which the node finds a pod's device comes from CNI_ARGS, whatever the pod's annotations say.
        let mut aliases: Vec<_> = pod_devices(&host)?.iter().map(|link| link["ifalias"].to_string()).collect();
        aliases.sort();
        check(aliases == ["\"podwire: shop/client\"", "\"podwire: shop/web\""], || format!("aliases {aliases:?}"))?;

        drop(from);
        for pod in [&web, &client] {
            containerd.stop_pod(&pod.id)?;
            containerd.remove_pod(&pod.id)?;
        }
        as_before(&before, &host)
    });
}

#[test]
fn cri_stopping_twice_and_removing_a_running_pod_are_no_errors() {
    containerd(|containerd| {
        let host = containerd.machine.host.clone();
        let before = state(&host)?;
        let twice = containerd.run_pod(&containerd.pod("twice"))?;
        containerd.stop_pod(&twice)?;
        // The address is free as soon as the pod is stopped, whenever it is removed.
        check(held(&host).is_empty(), || format!("still held by a stopped pod: {:?}", held(&host)))?;
        containerd.stop_pod(&twice)?;
        containerd.remove_pod(&twice)?;
        let running = containerd.run_server(&containerd.pod("running"))?;
        containerd.crictl(&["rmp", "--force", &running.id])?;
        as_before(&before, &host)
    });
}

#[test]
fn cri_a_pod_whose_namespace_is_gone_is_stopped_and_removed() {
    containerd(|containerd| {
        let host = containerd.machine.host.clone();
        let before = state(&host)?;
        // What somebody's umount leaves, and what is left when the file is removed too.
        for removed in [false, true] {
            let pod = containerd.run_server(&containerd.pod("lost"))?;
            check(held(&host).len() == 3, || format!("held: {:?}", held(&host)))?;
            if removed {
                host.remove_pod(&pod.netns)?;
            } else {
                let unmounted = host.enter(|| umount2(&pod.netns, MntFlags::MNT_DETACH));
                unmounted.map_err(|errno| format!("unmount {}: {errno}", pod.netns.display()))?;
            }
            let why = |why| format!("with the file {}: {why}", if removed { "removed" } else { "left" });
            containerd.stop_pod(&pod.id).map_err(why)?;
            containerd.remove_pod(&pod.id).map_err(why)?;
            if !removed {
                // containerd leaves a file that is no namespace where it is.
                let _ = host.enter(|| std::fs::remove_file(&pod.netns));
            }
            as_before(&before, &host).map_err(why)?;
        }
        Ok(())
    });
}

#[test]
fn cri_pods_survive_a_killed_containerd_which_stops_them_when_it_is_back() {
    containerd(|containerd| {
        let host = containerd.machine.host.clone();
        let before = state(&host)?;
        let (first, second) =
            (containerd.run_server(&containerd.pod("first"))?, containerd.run_server(&containerd.pod("second"))?);
        answers(&host, anybody, &first.addresses)?;
        let with_pods = state(&host)?;
        containerd.kill()?;
        answers(&host, anybody, &first.addresses)?;
        answers(&first.host(&host)?, |to| first.address(to).ok(), &second.addresses)?;
        // One namespace is lost while nobody looks.
        host.remove_pod(&second.netns)?;
        containerd.start_again()?;
        podwire_tests::lab::scene::same("the node after the restart", &with_pods, &state(&host)?)?;
        let known = containerd.inspect(&first.id)?;
        check(known.addresses == first.addresses, || format!("{known:?} was {first:?}"))?;
        answers(&host, anybody, &first.addresses)?;
        let third = containerd.run_server(&containerd.pod("third"))?;
        let other = third.addresses.iter().all(|address| !first.addresses.contains(address));
        check(other, || format!("{third:?} has addresses of {first:?}"))?;
        for pod in [&first, &second, &third] {
            containerd.stop_pod(&pod.id)?;
            containerd.remove_pod(&pod.id)?;
        }
        as_before(&before, &host)
    });
}

#[test]
fn cri_a_pod_fails_with_our_message_when_the_range_is_exhausted_and_leaves_nothing() {
    // One IPv4 address for pods, two of IPv6.
    let plugin = json!({
        "type": "podwire",
        "ipam": {"ranges": [[{"subnet": "10.7.0.0/30"}], [{"subnet": "fd00:7::/126"}]]},
    });
    containerd_with(&plugin, |containerd| {
        let host = containerd.machine.host.clone();
        let first = containerd.run_pod(&containerd.pod("first"))?;
        let before = (state(&host)?, held(&host));
        for _ in 0..3 {
            let Err(why) = containerd.run_pod(&containerd.pod("second")) else {
                return Err(format!("a second pod has got an address: {:?}", held(&host)));
            };
            let ours = why.contains("no IP addresses available in") && why.contains("10.7.0.0/30");
            check(ours, || format!("the runtime does not tell why: {why}"))?;
            podwire_tests::lab::scene::same("the node after a failure", &before.0, &state(&host)?)?;
            check(held(&host) == before.1, || format!("held {:?}, before {:?}", held(&host), before.1))?;
            check(containerd.pods()? == [first.clone()], || format!("pods: {:?}", containerd.pods()))?;
        }
        containerd.stop_pod(&first)?;
        // The stopped pod's address is free, though it is not removed yet.
        let second = containerd.run_pod(&containerd.pod("second"))?;
        let addresses = containerd.inspect(&second)?.addresses;
        check(addresses[0].to_string() == "10.7.0.2", || format!("{addresses:?}"))?;
        containerd.remove_pod(&first)?;
        check(held(&host).len() == 3, || format!("removing a stopped pod took another's: {:?}", held(&host)))?;
        containerd.stop_pod(&second)?;
        containerd.remove_pod(&second)?;
        check(held(&host).is_empty(), || format!("still held: {:?}", held(&host)))
    });
}

/// Does something for each at once.
fn everyone<I: Sync, T: Send>(items: &[I], work: impl Fn(&I) -> Outcome<T> + Sync) -> Outcome<Vec<T>> {
    thread::scope(|scope| {
        let threads: Vec<_> = items.iter().map(|item| scope.spawn(|| work(item))).collect();
        threads.into_iter().map(|thread| thread.join().map_err(|_| "a thread panicked".to_owned())?).collect()
    })
}

#[test]
fn cri_many_pods_start_and_stop_at_once() {
    const CROWD: usize = 20;
    containerd(|containerd| {
        let host = containerd.machine.host.clone();
        let before = state(&host)?;
        let runtime: &Containerd = containerd;
        let names: Vec<_> = (0..CROWD).map(|number| format!("p{number}")).collect();
        let pods: Vec<Sandbox> = everyone(&names, |name| runtime.inspect(&runtime.run_pod(&runtime.pod(name))?))?;
        let addresses: BTreeSet<_> = pods.iter().flat_map(|pod| &pod.addresses).collect();
        check(addresses.len() == CROWD * FAMILIES.len(), || format!("{addresses:?} of {CROWD} pods"))?;
        check(held(&host).len() == CROWD * 3, || format!("held: {:?}", held(&host)))?;
        check(pod_devices(&host)?.len() == CROWD, || format!("{:?}", pod_devices(&host)))?;
        everyone(&pods, |pod| runtime.stop_pod(&pod.id))?;
        everyone(&pods, |pod| runtime.remove_pod(&pod.id))?;
        as_before(&before, &host)
    });
}
