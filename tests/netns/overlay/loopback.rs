//! 127.0.0.0/8 of a node is the node's own: what leads there from pods, from the link and from peers.

use std::net::{IpAddr, Ipv4Addr, UdpSocket};

use podwire_tests::lab::frame::Datagram;
use podwire_tests::lab::host::Host;
use podwire_tests::lab::membership::underlay_address;
use podwire_tests::lab::scene::{FAMILIES, Outcome, check, scene};
use podwire_tests::lab::{Lab, SOON, UPLINK, outside_address};

use super::forged::{CARRIED_PORT, Forged, send};
use super::guards::{mac, start_with, unused};
use super::local_sources::gateway;
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
