//! What runtimes ask for beyond an address, by the capabilities that the conflist declares: host ports and bandwidth, and
//! podman's static addresses.

use std::net::{IpAddr, SocketAddr};

use podwire_tests::lab::host::Host;
use podwire_tests::lab::machine::Machine;
use podwire_tests::lab::podman::Podman;
use podwire_tests::lab::scene::{FAMILIES, Outcome, check, cluster, json as look, state};
use podwire_tests::lab::{SOON, eventually, image, membership, outside_address};
use serde_json::{Value, json};

use crate::stage::{as_before, containerd, containerd_from_outside, held, pod_devices};

/// The node's address of the family of `like`, and a port there.
fn at_node(like: IpAddr, port: u16) -> SocketAddr {
    (membership::underlay_address(1, like), port).into()
}

/// That the server behind a port of the node answers, from outside and from the node itself, and that the first is seen
/// as who it is.
fn published(outside: &Host, node: &Host, port: u16) -> Outcome {
    for like in FAMILIES {
        let seen = eventually(SOON, || image::ask_at(outside, at_node(like, port)))?;
        check(seen == outside_address(like), || format!("the pod has seen the outside as {seen}"))?;
        image::ask_at(node, at_node(like, port))?;
    }
    Ok(())
}

/// That nobody answers at a port of the node.
fn closed(outside: &Host, port: u16) -> Outcome {
    for like in FAMILIES {
        let answer = image::ask_at(outside, at_node(like, port));
        check(answer.is_err(), || format!("{} still answers: {answer:?}", at_node(like, port)))?;
    }
    Ok(())
}

#[test]
fn cri_a_host_port_leads_to_the_pod_while_it_runs() {
    containerd_from_outside(|containerd, outside| {
        let host = containerd.machine.host.clone();
        let before = state(&host)?;
        let mut pod = containerd.pod("web");
        // Protocol 0 is TCP; a mapping without a host port is none.
        pod["port_mappings"] = json!([
            {"protocol": 0, "container_port": image::PORT, "host_port": 18080},
            {"protocol": 0, "container_port": 81},
        ]);
        let web = containerd.run_server(&pod)?;
        published(outside, &host, 18080)?;
        // Another pod, and the pod itself, go by the node's address like everybody else.
        let client = containerd.run_server(&containerd.pod("client"))?;
        for from in [&client, &web] {
            for like in FAMILIES {
                eventually(SOON, || image::ask_at(&from.host(&host)?, at_node(like, 18080)))?;
            }
        }
        containerd.stop_pod(&web.id)?;
        closed(outside, 18080)?;
        containerd.remove_pod(&web.id)?;
        // The next one gets it.
        pod["metadata"]["uid"] = json!("another");
        let again = containerd.run_server(&pod)?;
        published(outside, &host, 18080)?;
        for id in [&again.id, &client.id] {
            containerd.stop_pod(id)?;
            containerd.remove_pod(id)?;
        }
        as_before(&before, &host)
    });
}

#[test]
fn cri_a_host_port_in_use_fails_the_pod_by_name() {
    containerd_from_outside(|containerd, outside| {
        let host = containerd.machine.host.clone();
        let pod = |name: &str| {
            let mut pod = containerd.pod(name);
            pod["port_mappings"] = json!([{"protocol": 0, "container_port": image::PORT, "host_port": 18080}]);
            pod
        };
        let first = containerd.run_server(&pod("first"))?;
        let before = (state(&host)?, held(&host));
        let Err(why) = containerd.run_pod(&pod("second")) else { return Err("two pods have port 18080".into()) };
        check(why.contains("18080"), || format!("the runtime does not tell which port: {why}"))?;
        podwire_tests::lab::scene::same("the node after a failure", &before.0, &state(&host)?)?;
        check(held(&host) == before.1, || format!("held {:?}, before {:?}", held(&host), before.1))?;
        published(outside, &host, 18080)?;
        containerd.stop_pod(&first.id)
    });
}

#[test]
fn cri_a_pods_bandwidth_is_that_of_its_annotations() {
    containerd(|containerd| {
        let host = containerd.machine.host.clone();
        let before = state(&host)?;
        let mut pod = containerd.pod("slow");
        pod["annotations"]["kubernetes.io/ingress-bandwidth"] = json!("8M");
        let slow = containerd.run_server(&pod)?;
        let devices = pod_devices(&host)?;
        let device = devices[0]["ifname"].as_str().unwrap_or_default();
        let queues = look(&host, "tc", &["-j", "qdisc", "show", "dev", device])?;
        // tc counts bytes in a second, the annotation bits.
        let limited = |queue: &&Value| queue["kind"] == "tbf" && queue["options"]["rate"] == 1_000_000;
        let found = queues.as_array().into_iter().flatten().find(limited);
        check(found.is_some(), || format!("no token bucket of 8 Mbit/s on {device}: {queues}"))?;
        for address in &slow.addresses {
            eventually(SOON, || image::ask(&host, *address))?;
        }
        containerd.stop_pod(&slow.id)?;
        containerd.remove_pod(&slow.id)?;
        as_before(&before, &host)
    });
}

#[test]
fn podman_publishes_a_port_and_assigns_the_requested_addresses() {
    cluster(1, |lab| {
        let podman = Podman::new(Machine::new(&lab.nodes[0].host)?, "podwire")?;
        let host = podman.machine.host.clone();
        let before = state(&host)?;
        podman.run_server("web", &["--network", "podwire", "--publish", &format!("18081:{}", image::PORT)])?;
        published(&lab.outside, &host, 18081)?;
        let fixed = ["--network", "podwire", "--ip", "10.244.1.77", "--mac-address", "02:11:22:33:44:55"];
        podman.run_server("fixed", &fixed)?;
        let network = podman.inspect("fixed")?["NetworkSettings"]["Networks"]["podwire"].clone();
        for (key, value) in [("IPAddress", "10.244.1.77"), ("MacAddress", "02:11:22:33:44:55")] {
            check(network[key] == value, || format!("podman shows {key} as {}, not {value}", network[key]))?;
        }
        let inside = podman.run(&["exec", "fixed", "ip", "address", "show", "eth0"])?;
        for text in ["inet 10.244.1.77/32 ", "link/ether 02:11:22:33:44:55 "] {
            check(inside.contains(text), || format!("no {text}in the container: {inside}"))?;
        }
        eventually(SOON, || image::ask(&host, IpAddr::from([10, 244, 1, 77])))?;
        podman.run(&["rm", "--force", "--time", "0", "web", "fixed"])?;
        closed(&lab.outside, 18081)?;
        as_before(&before, &host)
    });
}
