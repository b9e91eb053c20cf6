//! What pods send to the outside of the cluster: under which source, and where to.

use std::net::{IpAddr, Ipv6Addr, UdpSocket};

use podwire_tests::lab::exchange::Responder;
use podwire_tests::lab::frame::{Datagram, checksum, send_packet};
use podwire_tests::lab::host::Host;
use podwire_tests::lab::membership::underlay_address;
use podwire_tests::lab::scene::{FAMILIES, Outcome, check, reaches, scene};
use podwire_tests::lab::{Lab, SOON, eventually, outside_address};

use super::forged::{CARRIED_PORT, Ear, send};
use super::guards::{has_refused, refused, start_with};
use super::local_sources::gateway;

/// Where the metadata service of a cloud is, in both families.
const METADATA: [&str; 2] = ["169.254.169.254", "fd00:ec2::254"];

/// A TCP segment (RFC 9293) with no connection: an acknowledgement with a reset that nobody has asked for.
pub(super) fn stray_segment(source: IpAddr, destination: IpAddr) -> Vec<u8> {
    let segment = [&[0x9c, 0x40, 0x9c, 0x41][..], &[0; 4], &[0, 0, 0, 1], &[0x50, 0x17, 0x20, 0], &[0; 4]].concat();
    with_checksum(source, destination, 6, segment, 16)
}

/// A neighbour solicitation (RFC 4861, section 4.3): conntrack tracks none.
fn solicitation(source: IpAddr, destination: IpAddr) -> Vec<u8> {
    let IpAddr::V6(target) = destination else { panic!("of IPv6 only") };
    let message = [&[135, 0, 0, 0, 0, 0, 0, 0][..], &target.octets()].concat();
    with_checksum(source, destination, 58, message, 2)
}

fn with_checksum(source: IpAddr, destination: IpAddr, protocol: u8, mut payload: Vec<u8>, place: usize) -> Vec<u8> {
    let length = u16::try_from(payload.len()).unwrap();
    let (header, addresses) = match (source, destination) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            let total = (20 + length).to_be_bytes();
            let mut header = [&[0x45, 0][..], &total, &[0, 0, 0, 0, 64, protocol, 0, 0]].concat();
            let addresses = [source.octets(), destination.octets()].concat();
            header.extend(&addresses);
            let sum = checksum(&header);
            header[10..12].copy_from_slice(&sum);
            (header, addresses)
        }
        (IpAddr::V6(source), IpAddr::V6(destination)) => {
            let addresses = [source.octets(), destination.octets()].concat();
            let fixed = [&[0x60, 0, 0, 0][..], &length.to_be_bytes(), &[protocol, 255]].concat();
            ([fixed, addresses.clone()].concat(), addresses)
        }
        _ => panic!("two families"),
    };
    let pseudo = [&addresses[..], &[0, 0], &length.to_be_bytes(), &[0, 0, 0, protocol], &payload].concat();
    let sum = checksum(&pseudo);
    payload[place..place + 2].copy_from_slice(&sum);
    [header, payload].concat()
}

#[test]
fn no_packet_of_a_pod_leaves_under_the_pods_address() {
    for settings in ["", "fast_path = false"] {
        scene(2, |lab| {
            lab.nodes.iter_mut().try_for_each(|node| start_with(node, settings))?;
            lab.nodes[0].add_pod("pod")?;
            lab.nodes[1].add_pod("far")?;
            let _responders = [Responder::start(&lab.outside)?, Responder::start(&lab.nodes[1].pods[0].host)?];
            watch(&lab.outside, "10.244.0.0/16", "fd00:10:244::/48")?;
            // What has no connection between pods passes: the two directions may have different paths.
            watch(&lab.nodes[1].pods[0].host, "10.244.1.0/24", "fd00:10:244:1::/64")?;
            let (pod, far) = (&lab.nodes[0].pods[0], &lab.nodes[1].pods[0]);
            let (node, gateway) = (&lab.nodes[0].host, gateway(&pod.host)?);
            for like in FAMILIES {
                let (own, outside) = (pod.address(like), outside_address(like));
                let mut strays = vec![stray_segment(own, outside)];
                strays.extend(like.is_ipv6().then(|| solicitation(own, outside)));
                // To a node, too: what is for peers' addresses is masqueraded.
                strays.push(stray_segment(own, underlay_address(2, like)));
                let before = refused(node, "pod-untranslated")?;
                for stray in &strays {
                    send_packet(&pod.host, "eth0", gateway, stray)?;
                }
                has_refused(node, "pod-untranslated", before + strays.len() as u64)?;
                send_packet(&pod.host, "eth0", gateway, &stray_segment(own, far.address(like)))?;
                eventually(SOON, || check(seen(&far.host, like)? > 0, || "a stray between pods is lost".into()))?;
                eventually(SOON, || reaches(&pod.host, underlay_address(1, like), outside))?;
                reaches(&pod.host, own, far.address(like))?;
                check(seen(&lab.outside, like)? == 0, || "the outside has seen a pod's address".into())?;
                has_refused(node, "pod-untranslated", before + strays.len() as u64)?;
            }
            Ok(())
        });
    }
}

/// Counts what comes to a host from pods.
fn watch(host: &Host, four: &str, six: &str) -> Outcome {
    let script = format!(
        "add table inet watch; add counter inet watch four; add counter inet watch six; \
         add chain inet watch in {{ type filter hook prerouting priority -400; }}; \
         add rule inet watch in ip saddr {four} ip protocol tcp counter name four; \
         add rule inet watch in ip6 saddr {six} meta l4proto {{ tcp, icmpv6 }} counter name six"
    );
    host.run("nft", &[&script]).map(drop)
}

fn seen(host: &Host, like: IpAddr) -> Outcome<u64> {
    let name = if like.is_ipv4() { "four" } else { "six" };
    let list = podwire_tests::lab::scene::json(host, "nft", &["-j", "list", "counter", "inet", "watch", name])?;
    let mut packets =
        list["nftables"].as_array().into_iter().flatten().filter_map(|it| it["counter"]["packets"].as_u64());
    packets.next().ok_or_else(|| list.to_string())
}

/// Gives the outside host the addresses of a metadata service, and hears what is asked there.
fn with_metadata(lab: &Lab) -> Outcome<Ear> {
    for address in METADATA {
        lab.outside.run("ip", &["address", "add", address, "dev", "lo"])?;
    }
    Ear::open(&lab.outside)
}

/// Another program's table went, and with it ours, or the daemon is new on a node with pods: what pods have begun to send
/// meanwhile.
#[test]
fn a_flow_from_before_the_rules_leaves_masqueraded_once_they_are_there() {
    scene(1, |lab| {
        lab.start()?;
        lab.nodes[0].add_pod("pod")?;
        let line = "add table inet foreign; add chain inet foreign seen { type filter hook forward priority 0; }; \
                    add rule inet foreign seen ct state new counter";
        lab.nodes[0].host.run("nft", &[line])?;
        for like in FAMILIES {
            let (pod, own) = (lab.nodes[0].pods[0].host.clone(), lab.nodes[0].pods[0].address(like));
            let bound = |host: &Host, address: IpAddr| {
                let socket = host.enter(|| UdpSocket::bind((address, CARRIED_PORT)));
                socket.map_err(|error| format!("bind {address} of {}: {error}", host.name))
            };
            let (outside, client) = (bound(&lab.outside, outside_address(like))?, bound(&pod, own)?);
            outside.set_read_timeout(Some(SOON)).map_err(|error| error.to_string())?;
            let source = || {
                let sent = client.send_to(b"!", (outside_address(like), CARRIED_PORT));
                let heard = sent.and_then(|_| outside.recv_from(&mut [0; 16]));
                heard.map(|(_, from)| from.ip()).map_err(|error| format!("nothing from {own}: {error}"))
            };
            let mut daemon = lab.nodes[0].daemon.take().ok_or("no daemon")?;
            daemon.stop(SOON)?;
            lab.nodes[0].host.run("nft", &["delete", "table", "inet", "podwire"])?;
            let seen = source()?;
            check(seen == own, || format!("without rules the outside sees {seen}"))?;
            lab.nodes[0].start()?;
            eventually(SOON, || {
                let seen = source()?;
                check(seen == underlay_address(1, like), || format!("the outside sees {seen}"))
            })?;
        }
        Ok(())
    });
}

#[test]
fn what_has_no_connection_does_not_reach_a_refused_destination_either() {
    const SETTINGS: &str = "not_masqueraded = [\"169.254.0.0/16\", \"fd00:ec2::/32\"]\n\
                            refused_destinations = [\"169.254.169.254/32\", \"fd00:ec2::/32\"]\n";
    for settings in ["", "fast_path = false\n", "masquerade = false\n"] {
        scene(2, |lab| {
            lab.nodes.iter_mut().try_for_each(|node| start_with(node, &format!("{settings}{SETTINGS}")))?;
            lab.nodes[0].add_pod("pod")?;
            let ear = with_metadata(lab)?;
            watch(&lab.outside, "10.244.0.0/16", "fd00:10:244::/48")?;
            let (node, pod) = (&lab.nodes[0].host, &lab.nodes[0].pods[0]);
            let gateway = gateway(&pod.host)?;
            for (like, destination) in FAMILIES.into_iter().zip(METADATA) {
                let (own, destination): (_, IpAddr) = (pod.address(like), destination.parse().unwrap());
                let mut strays = vec![stray_segment(own, destination)];
                strays.extend(like.is_ipv6().then(|| solicitation(own, destination)));
                let before = refused(node, "pod-destinations")?;
                for stray in &strays {
                    send_packet(&pod.host, "eth0", gateway, stray)?;
                }
                has_refused(node, "pod-destinations", before + strays.len() as u64)?;
                send(node, None, (destination, CARRIED_PORT).into(), b"node")?;
                let heard = ear.next()?;
                check(heard == "node" && seen(&lab.outside, like)? == 0, || format!("{destination} was reached"))?;
            }
            Ok(())
        });
    }
}

#[test]
fn the_metadata_service_is_reached_unless_it_is_refused_and_the_gateways_address_is_never() {
    for (settings, reached) in [
        ("", true),
        ("refused_destinations = [\"169.254.169.254/32\", \"fd00:ec2::/32\"]", false),
        ("masquerade = false\nrefused_destinations = [\"169.254.169.254/32\", \"fd00:ec2::/32\"]", false),
        ("fast_path = false\nrefused_destinations = [\"169.254.169.254/32\", \"fd00:ec2::/32\"]", false),
    ] {
        scene(2, |lab| {
            lab.nodes.iter_mut().try_for_each(|node| start_with(node, settings))?;
            lab.nodes[0].add_pod("pod")?;
            let ear = with_metadata(lab)?;
            let (node, pod) = (&lab.nodes[0].host, &lab.nodes[0].pods[0]);
            let gateway = gateway(&pod.host)?;
            // The outside host would take it, if it came.
            lab.outside.run("ip", &["address", "add", "169.254.1.1", "dev", "lo"])?;
            // A service that somebody who may make services has made of it.
            let line = "add table inet foreign; add chain inet foreign in { type nat hook prerouting priority -100; }; \
                        add rule inet foreign in ip daddr 10.96.0.1 udp dport 9999 dnat ip to 169.254.169.254";
            node.run("nft", &[line])?;
            let mut refusals = 0;
            for destination in METADATA {
                let destination: IpAddr = destination.parse().unwrap();
                send(&pod.host, None, (destination, CARRIED_PORT).into(), b"pod")?;
                send(node, None, (destination, CARRIED_PORT).into(), b"node")?;
                if reached {
                    let heard = ear.next()?;
                    check(heard == "pod", || format!("{destination} heard {heard:?}"))?;
                }
                let heard = ear.next()?;
                check(heard == "node", || format!("{destination} heard {heard:?}"))?;
                refusals += u64::from(!reached);
            }
            send(&pod.host, None, ("10.96.0.1".parse::<IpAddr>().unwrap(), CARRIED_PORT).into(), b"pod")?;
            if reached {
                let heard = ear.next()?;
                check(heard == "pod", || format!("by a service {heard:?} was heard"))?;
            }
            refusals += u64::from(!reached);
            has_refused(node, "pod-destinations", refusals)?;
            let own = pod.address(FAMILIES[0]);
            let gateways: IpAddr = "169.254.1.1".parse().unwrap();
            Datagram::new((own, CARRIED_PORT), (gateways, CARRIED_PORT), "lie").send(&pod.host, "eth0", gateway)?;
            has_refused(node, "pod-destinations", refusals + 1)?;
            // The IPv6 one is on the pod's link, and not forwarded.
            let link = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1);
            Datagram::new((pod.address(FAMILIES[1]), CARRIED_PORT), (link, CARRIED_PORT), "lie")
                .send(&pod.host, "eth0", gateway)?;
            for like in FAMILIES {
                send(node, None, (outside_address(like), CARRIED_PORT).into(), b"truth")?;
                let heard = ear.next()?;
                check(heard == "truth", || format!("the outside heard {heard:?}"))?;
            }
            Ok(())
        });
    }
}
