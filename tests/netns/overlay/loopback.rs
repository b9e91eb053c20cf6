//! 127.0.0.0/8 of a node is the node's own: what leads there from pods, from the link and from peers.

use std::net::{IpAddr, Ipv4Addr, UdpSocket};

use podwire_tests::lab::frame::Datagram;
use podwire_tests::lab::host::Host;
use podwire_tests::lab::membership::underlay_address;
use podwire_tests::lab::node::Node;
use podwire_tests::lab::runtime::Call;
use podwire_tests::lab::scene::{FAMILIES, Outcome, check, scene};
use podwire_tests::lab::{Lab, SOON, UPLINK, eventually, outside_address};
use serde_json::{Value, json};

use super::forged::{CARRIED_PORT, Forged, send};
use super::guards::{mac, start_with, unused};
use super::local_sources::gateway;
use crate::plugin::attachment::host_device;
use crate::repair::host_ports::with_port;

/// Where a host port leads to, and where the same port of the whole network leads to.
const TARGETS: [Ipv4Addr; 2] = [Ipv4Addr::LOCALHOST, Ipv4Addr::new(127, 9, 9, 9)];

/// The VXLAN port.
const PORT: u16 = 8472;

#[test]
fn a_host_port_on_the_loopback_address_is_the_nodes_own() {
    for settings in ["", "fast_path = false", "masquerade = false"] {
        scene(2, |lab| {
            lab.nodes.iter_mut().try_for_each(|node| start_with(node, settings))?;
            let other = lab.nodes[0].add_pod("other")?.host.clone();
            // The host port is the one of the forged datagrams.
            let (pod, _, _) = with_port(&lab.nodes[0], "pod", CARRIED_PORT)?;
            let open = || {
                let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 80))?;
                socket.set_read_timeout(Some(SOON))?;
                Ok(socket)
            };
            let opened: std::io::Result<_> = pod.enter(open);
            let socket = opened.map_err(|error| error.to_string())?;
            only_the_node_reaches(lab, &other, &socket)?;
            // What the plugin has written holds without a daemon.
            lab.nodes[0].daemon.take().ok_or("no daemon")?.stop(SOON)?;
            only_the_node_reaches(lab, &other, &socket)
        });
    }
}

fn only_the_node_reaches(lab: &Lab, other: &Host, socket: &UdpSocket) -> Outcome {
    let (node, peer) = (&lab.nodes[0].host, &lab.nodes[1].host);
    let (link, device, gateway) = (mac(node, UPLINK)?, mac(node, "podwire.1")?, gateway(other)?);
    for target in TARGETS {
        let target = IpAddr::V4(target);
        for tags in 0..3 {
            let lie = Datagram::new((outside_address(FAMILIES[0]), 53), (target, CARRIED_PORT), "the link");
            lie.send_tagged(&lab.outside, UPLINK, link, tags)?;
            let lie =
                Datagram::new((lab.nodes[0].pod("other").address(FAMILIES[0]), 53), (target, CARRIED_PORT), "a pod");
            lie.send_tagged(other, "eth0", gateway, tags)?;
        }
        let (source, text) = (unused(2, FAMILIES[0]), "a peer".into());
        let lie = Forged { vni: 1, device, ethertype: None, source, destination: target, text };
        lie.send(peer, underlay_address(1, FAMILIES[0]), PORT)?;
    }
    // What the node says itself is heard first.
    send(node, None, (TARGETS[0], CARRIED_PORT).into(), b"the node")?;
    let mut buffer = [0; 16];
    let length = socket.recv(&mut buffer).map_err(|error| format!("nothing is heard: {error}"))?;
    let heard = String::from_utf8_lossy(&buffer[..length]);
    check(heard == "the node", || format!("{heard} was heard at the node's own address"))
}

/// A port that only the node itself is to reach.
const PRIVATE: u16 = 5353;

/// A pod of a request: its host, the call that has made it, and its device.
fn attach(node: &Node, name: &str, request: Value) -> Outcome<(Host, Call, String)> {
    let mut configuration = node.configuration()?;
    configuration["capabilities"] = json!({"portMappings": true, "bandwidth": true});
    configuration["runtimeConfig"] = request;
    let (host, netns) = node.host.pod(name)?;
    let call = Call::new("ADD", name, &netns, &configuration);
    let result = call.execute(&node.host)?.result()?;
    Ok((host, call, host_device(&result)))
}

/// A host port, on an address if one is given.
fn port(number: u16, address: Option<&str>) -> Value {
    json!([{"hostPort": number, "containerPort": 80, "protocol": "udp", "hostIP": address}])
}

/// The node's own service on 127.0.0.1, and the same on every address.
fn private(node: &Host) -> Outcome<[UdpSocket; 2]> {
    let open = |address: Ipv4Addr, port: u16| -> std::io::Result<UdpSocket> {
        let socket = UdpSocket::bind((address, port))?;
        socket.set_nonblocking(true)?;
        Ok(socket)
    };
    let opened: std::io::Result<_> =
        node.enter(|| Ok([open(Ipv4Addr::LOCALHOST, PRIVATE)?, open(Ipv4Addr::UNSPECIFIED, PRIVATE + 1)?]));
    opened.map_err(|error| error.to_string())
}

/// Everything that a pod can think of to reach 127.0.0.0/8 of its node.
fn attempts(node: &Host, pod: &Host, own: IpAddr) -> Outcome {
    let gateway = gateway(pod)?;
    for target in TARGETS {
        for source in [own, IpAddr::V4(Ipv4Addr::LOCALHOST)] {
            for port in [PRIVATE, PRIVATE + 1] {
                let lie = Datagram::new((source, CARRIED_PORT), (IpAddr::V4(target), port), "a pod");
                (0..3).try_for_each(|tags| lie.send_tagged(pod, "eth0", gateway, tags))?;
                lie.send(pod, "eth0", [0xff; 6])?;
            }
        }
    }
    // By a route in the packet (RFC 791, loose source routing), behind every filter.
    node.run("sh", &["-c", "echo 1 > /proc/sys/net/ipv4/conf/all/accept_source_route"])?;
    let mut lie = Datagram::new((own, CARRIED_PORT), (underlay_address(1, FAMILIES[0]), PRIVATE), "a route");
    lie.options = vec![131, 7, 4, 127, 0, 0, 1, 0];
    lie.send(pod, "eth0", gateway)
}

/// That nothing was heard but what is said now.
fn hear_nothing(node: &Host, sockets: &[UdpSocket; 2]) -> Outcome {
    for socket in sockets {
        let to = socket.local_addr().map_err(|error| error.to_string())?.port();
        send(node, None, (IpAddr::V4(Ipv4Addr::LOCALHOST), to).into(), b"the node")?;
        let mut buffer = [0; 16];
        let length = eventually(SOON, || socket.recv(&mut buffer).map_err(|error| error.to_string()))?;
        let heard = String::from_utf8_lossy(&buffer[..length]).into_owned();
        check(heard == "the node", || format!("{heard} was heard at the node's own address"))?;
    }
    Ok(())
}

fn address_of(pod: &Host) -> Outcome<IpAddr> {
    let found = podwire_tests::lab::scene::json(pod, "ip", &["-j", "-4", "address", "show", "eth0"])?;
    let address = found[0]["addr_info"][0]["local"].as_str().and_then(|text| text.parse().ok());
    address.ok_or_else(|| found.to_string())
}

fn route_localnet(node: &Host, device: &str) -> Outcome<String> {
    let found = node.run("cat", &[&format!("/proc/sys/net/ipv4/conf/{device}/route_localnet")])?;
    Ok(found.trim().to_owned())
}

#[test]
fn flushed_rules_open_nothing_of_the_nodes_loopback_to_pods() {
    for settings in ["", "fast_path = false"] {
        scene(1, |lab| {
            start_with(&mut lab.nodes[0], settings)?;
            let node = lab.nodes[0].host.clone();
            let shaped = json!({"egressRate": 1_000_000_000, "egressBurst": 8_000_000,
                "ingressRate": 1_000_000_000, "ingressBurst": 8_000_000});
            let pods = [
                attach(&lab.nodes[0], "plain", json!({"portMappings": port(8081, None)}))?,
                attach(&lab.nodes[0], "shaped", json!({"portMappings": port(8082, None), "bandwidth": shaped}))?,
                attach(&lab.nodes[0], "loopback", json!({"portMappings": port(8083, Some("127.0.0.1"))}))?,
                attach(&lab.nodes[0], "elsewhere", json!({"portMappings": port(8084, Some("192.168.50.1"))}))?,
                attach(&lab.nodes[0], "none", json!({}))?,
            ];
            for ((_, call, device), expected) in pods.iter().zip(["1", "1", "1", "0", "0"]) {
                let found = route_localnet(&node, device)?;
                check(found == expected, || format!("route_localnet of {device} is {found}, not {expected}"))?;
                call.clone().verb("CHECK").execute(&node)?.result().map(drop).or_else(|why| {
                    // A result is needed for CHECK, which this call has none of.
                    check(why.contains("prevResult"), || why)
                })?;
            }
            let sockets = private(&node)?;
            for _ in 0..5 {
                node.run("nft", &["flush ruleset"])?;
                for (pod, ..) in &pods {
                    attempts(&node, pod, address_of(pod)?)?;
                }
                hear_nothing(&node, &sockets)?;
            }
            // And without a daemon, for ever.
            lab.nodes[0].daemon.take().ok_or("no daemon")?.stop(SOON)?;
            node.run("nft", &["flush ruleset"])?;
            for (pod, ..) in &pods {
                attempts(&node, pod, address_of(pod)?)?;
            }
            hear_nothing(&node, &sockets)?;
            // That it is the filter which keeps them away.
            let (pod, _, device) = &pods[0];
            node.run("tc", &["filter", "delete", "dev", device, "ingress", "pref", "1"])?;
            attempts(&node, pod, address_of(pod)?)?;
            check(hear_nothing(&node, &sockets).is_err(), || "without the filter nothing is heard, either".into())
        });
    }
}

#[test]
fn a_lost_loopback_filter_is_attached_again() {
    for settings in ["", "fast_path = false"] {
        scene(1, |lab| {
            start_with(&mut lab.nodes[0], settings)?;
            let node = lab.nodes[0].host.clone();
            let (pod, _, device) = attach(&lab.nodes[0], "pod", json!({"portMappings": port(8081, None)}))?;
            let own = address_of(&pod)?;
            let filters = || node.run("tc", &["filter", "show", "dev", &device, "ingress", "pref", "1"]);
            let whole = filters()?;
            check(whole.contains("direct-action"), || whole.clone())?;
            for broken in [
                format!("tc filter del dev {device} ingress pref 1"),
                format!("tc qdisc del dev {device} clsact"),
                format!(
                    "tc filter del dev {device} ingress pref 1; tc filter add dev {device} ingress pref 1 protocol all \
                         bpf bytecode '1,6 0 0 4294967295,' direct-action"
                ),
            ] {
                node.run("sh", &["-c", &broken])?;
                // Nobody tells of filters: what wakes the daemon is a route.
                node.run("ip", &["route", "delete", &own.to_string()])?;
                eventually(SOON, || check(filters()? == whole, || format!("after {broken}: {:?}", filters())))?;
                let accepts = || check(route_localnet(&node, &device)? == "1", || "127.0.0.1 is not accepted".into());
                eventually(SOON, accepts)?;
                let routes = || node.run("ip", &["route", "show", &own.to_string()]);
                eventually(SOON, || check(!routes()?.is_empty(), || "the route is not restored".into()))?;
            }
            Ok(())
        });
    }
}
