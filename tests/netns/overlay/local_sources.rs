//! Under which sources pods reach the node's own sockets, those included that are connected to somebody else.

use std::net::{IpAddr, Ipv6Addr, SocketAddr, UdpSocket};

use podwire_tests::lab::frame::Datagram;
use podwire_tests::lab::host::Host;
use podwire_tests::lab::membership::underlay_address;
use podwire_tests::lab::scene::{FAMILIES, Outcome, check, json, scene};
use podwire_tests::lab::{Lab, SOON, outside_address};

use super::forged::{CARRIED_PORT, Ear, send};
use super::guards::{has_refused, refused, start_with};

/// The settings under which the guards have other chains.
const SETTINGS: [&str; 3] = ["", "fast_path = false", "masquerade = false"];

/// The link-layer address of a pod's gateway: the host's end.
pub(super) fn gateway(pod: &Host) -> Outcome<[u8; 6]> {
    let neighbours = json(pod, "ip", &["-j", "neighbour", "show", "169.254.1.1"])?;
    let text = neighbours[0]["lladdr"].as_str().unwrap_or_default().to_owned();
    podwire_kernel::Mac::parse(&text).map(|mac| mac.0).ok_or(format!("no gateway: {neighbours}"))
}

/// A socket of a host that is connected to a port of another one.
fn connected(host: &Host, own: IpAddr, to: SocketAddr) -> Outcome<UdpSocket> {
    let open = || {
        let socket = UdpSocket::bind((own, 0))?;
        socket.connect(to)?;
        socket.set_read_timeout(Some(SOON))?;
        Ok(socket)
    };
    let opened: std::io::Result<_> = host.enter(open);
    opened.map_err(|error| format!("ask {to}: {error}"))
}

fn heard(socket: &UdpSocket) -> Outcome<String> {
    let mut buffer = [0; 64];
    let length = socket.recv(&mut buffer).map_err(|error| format!("nothing is heard: {error}"))?;
    Ok(String::from_utf8_lossy(&buffer[..length]).into_owned())
}

#[test]
fn a_pod_cannot_answer_for_others_to_the_nodes_connected_sockets() {
    for settings in SETTINGS {
        scene(2, |lab| {
            lab.nodes.iter_mut().try_for_each(|node| start_with(node, settings))?;
            nobody_answers_for_others(lab)
        });
    }
}

fn nobody_answers_for_others(lab: &mut Lab) -> Outcome {
    let other = lab.nodes[0].add_pod("other")?;
    let (other, others) = (other.host.clone(), [other.addresses[0], other.addresses[1]]);
    let liar = lab.nodes[0].add_pod("liar")?;
    let (pod, own) = (liar.host.clone(), [liar.addresses[0], liar.addresses[1]]);
    let (node, peer, gateway) = (&lab.nodes[0].host, &lab.nodes[1].host, gateway(&pod)?);
    for (place, like) in FAMILIES.into_iter().enumerate() {
        let address = underlay_address(1, like);
        let servers =
            [(&lab.outside, outside_address(like)), (peer, underlay_address(2, like)), (&other, others[place])];
        for (server, claimed) in servers {
            let socket = connected(node, address, (claimed, 53).into())?;
            let to = socket.local_addr().map_err(|error| error.to_string())?;
            // With the first answer the socket keeps its route, and what comes later is not routed.
            let honest = server.enter(|| UdpSocket::bind((claimed, 53))).map_err(|error| error.to_string())?;
            let say = |text: &str| honest.send_to(text.as_bytes(), to).map(drop).map_err(|error| error.to_string());
            say("truth")?;
            let first = heard(&socket)?;
            check(first == "truth", || format!("as {claimed} a {first} is heard"))?;
            let before = refused(node, "pod-spoofing")?;
            for _ in 0..3 {
                Datagram::new((claimed, 53), to, "lie").send(&pod, "eth0", gateway)?;
            }
            has_refused(node, "pod-spoofing", before + 3).map_err(|why| format!("as {claimed}: {why}"))?;
            say("end")?;
            let next = heard(&socket)?;
            check(next == "end", || format!("as {claimed} a {next} is heard"))?;
        }
        // One that it does speak for: its own.
        let socket = connected(node, address, (own[place], 53).into())?;
        let to = socket.local_addr().map_err(|error| error.to_string())?;
        Datagram::new((own[place], 53), to, "truth").send(&pod, "eth0", gateway)?;
        let heard = heard(&socket)?;
        check(heard == "truth", || format!("the pod's own is heard as {heard}"))?;
    }
    Ok(())
}

#[test]
fn a_pods_link_local_sources_reach_its_link_only() {
    for settings in SETTINGS {
        scene(1, |lab| {
            start_with(&mut lab.nodes[0], settings)?;
            let pod = lab.nodes[0].add_pod("pod")?;
            let (pod, own) = (pod.host.clone(), pod.address(FAMILIES[1]));
            let (node, gateway) = (&lab.nodes[0].host, gateway(&pod)?);
            let ear = Ear::open(node)?;
            let before = refused(node, "pod-spoofing")?;
            let (link, none): (Ipv6Addr, _) = ("fe80::77".parse().unwrap(), Ipv6Addr::UNSPECIFIED);
            let overlay: IpAddr = "fd00:10:244:1::".parse().unwrap();
            let mut packets = 0;
            for to in [underlay_address(1, FAMILIES[1]), overlay] {
                for source in [IpAddr::V6(link), IpAddr::V6(none)] {
                    let lie = Datagram::new((source, CARRIED_PORT), (to, CARRIED_PORT), &format!("{source} to {to}"));
                    lie.send(&pod, "eth0", gateway)?;
                    packets += 1;
                    has_refused(node, "pod-spoofing", before + packets)?;
                }
            }
            // All nodes on the link.
            let all: IpAddr = "ff02::1".parse().unwrap();
            for (source, text) in [(IpAddr::V6(link), "link"), (own, "own")] {
                let truth = Datagram::new((source, CARRIED_PORT), (all, CARRIED_PORT), text);
                truth.send(&pod, "eth0", [0x33, 0x33, 0, 0, 0, 1])?;
                let heard = ear.next()?;
                check(heard == text, || format!("the node heard {heard:?}"))?;
            }
            send(&pod, Some(own), (underlay_address(1, FAMILIES[1]), CARRIED_PORT).into(), b"truth")?;
            let heard = ear.next()?;
            check(heard == "truth", || format!("the node heard {heard:?}"))?;
            has_refused(node, "pod-spoofing", before + packets)
        });
    }
}
