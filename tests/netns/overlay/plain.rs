//! Packets beside the overlay: under the cluster's addresses, and not encapsulated.

use std::net::IpAddr;

use podwire_tests::lab::frame::Datagram;
use podwire_tests::lab::host::Host;
use podwire_tests::lab::membership::underlay_address;
use podwire_tests::lab::node::Node;
use podwire_tests::lab::scene::{FAMILIES, Outcome, check, scene};
use podwire_tests::lab::{Lab, UPLINK, outside_address};

use super::forged::{CARRIED_PORT, Ear, send};
use super::guards::{has_refused, mac, refused, start_with, unused};
use super::modes::membership_on;

/// A node's address in the overlay.
fn overlay_address(number: u16, like: IpAddr) -> IpAddr {
    let text = if like.is_ipv4() { format!("10.244.{number}.0") } else { format!("fd00:10:244:{number}::") };
    text.parse().unwrap()
}

/// A host of the link sends these, and each is dropped and counted.
fn are_dropped(from: &Host, node: &Host, sources: &[IpAddr], destinations: &[IpAddr]) -> Outcome {
    are_dropped_at(from, node, UPLINK, sources, destinations)
}

/// The same with packets to a device of the node.
pub(super) fn are_dropped_at(
    from: &Host,
    node: &Host,
    device: &str,
    sources: &[IpAddr],
    destinations: &[IpAddr],
) -> Outcome {
    let to = mac(node, device)?;
    let before = refused(node, "plain-sources")?;
    let mut packets = 0;
    for source in sources {
        for destination in destinations {
            if source.is_ipv4() == destination.is_ipv4() {
                let lie = Datagram::new((*source, CARRIED_PORT), (*destination, CARRIED_PORT), "lie");
                lie.send(from, UPLINK, to)?;
                packets += 1;
                has_refused(node, "plain-sources", before + packets)
                    .map_err(|why| format!("{source} to {destination}: {why}"))?;
            }
        }
    }
    Ok(())
}

/// What is said after the lies is heard first.
pub(super) fn hears(ear: &Ear, from: &Host, to: IpAddr) -> Outcome {
    send(from, None, (to, CARRIED_PORT).into(), b"truth")?;
    let heard = ear.next()?;
    check(heard == "truth", || format!("{to} heard a {heard}"))
}

/// The pods of two nodes, and a way from the outside to those of the first.
fn two_pods(lab: &mut Lab) -> Outcome {
    for (place, node) in lab.nodes.iter_mut().take(2).enumerate() {
        node.add_pod(&format!("pod-{}", place + 1))?;
    }
    for address in &lab.nodes[0].pods[0].addresses {
        let gateway = underlay_address(1, *address).to_string();
        lab.outside.run("ip", &["route", "add", &address.to_string(), "via", &gateway])?;
    }
    Ok(())
}

#[test]
fn nobody_passes_by_the_overlay_under_the_clusters_addresses() {
    for (underlay, settings) in
        [(FAMILIES[0], ""), (FAMILIES[1], ""), (FAMILIES[0], "fast_path = false"), (FAMILIES[0], "masquerade = false")]
    {
        scene(2, |lab| {
            lab.write(&membership_on(underlay, 1..=2))?;
            lab.nodes.iter_mut().try_for_each(|node| start_with(node, settings))?;
            two_pods(lab)?;
            let (near, far) = (&lab.nodes[0].pods[0], &lab.nodes[1].pods[0]);
            let node = &lab.nodes[0].host;
            let (ear, own_ear, relayed) = (Ear::open(&near.host)?, Ear::open(node)?, Ear::open(&lab.outside)?);
            for like in FAMILIES {
                let pod = near.address(like);
                // A pod's of a peer, and what the peer could give; this node's own; a peer's own in the overlay; and
                // what no node has.
                let sources = [
                    far.address(like),
                    unused(2, like),
                    unused(1, like),
                    overlay_address(2, like),
                    unused(99, like),
                    pod,
                ];
                // To a pod, to the node and its address in the overlay, and on to the outside.
                let destinations = [pod, underlay_address(1, like), overlay_address(1, like), outside_address(like)];
                // Pods of peers come to this node unmasqueraded: the last scene.
                let others = if settings.contains("masquerade") { &destinations[..1] } else { &destinations[..] };
                are_dropped(&lab.outside, node, &sources[..2], others)?;
                are_dropped(&lab.outside, node, &sources[3..4], others)?;
                are_dropped(&lab.outside, node, &[sources[2], sources[4], sources[5]], &destinations)?;
                if let (IpAddr::V4(four), IpAddr::V6(_)) = (far.address(FAMILIES[0]), like) {
                    // What a program that listens to both families would take for a pod's, or for the host's own.
                    let mapped = [four, std::net::Ipv4Addr::LOCALHOST].map(|four| four.to_ipv6_mapped().into());
                    are_dropped(&lab.outside, node, &mapped, &destinations[..2])?;
                }
                // A peer does not, either.
                are_dropped(&lab.nodes[1].host, node, &[far.address(like)], others)?;
                hears(&ear, &lab.outside, pod)?;
                hears(&ear, &far.host, pod)?;
                hears(&own_ear, &lab.outside, underlay_address(1, like))?;
                hears(&own_ear, &near.host, underlay_address(1, like))?;
                hears(&own_ear, node, overlay_address(1, like))?;
                hears(&relayed, node, outside_address(like))?;
            }
            Ok(())
        });
    }
}

/// Moves a node behind the outside host, which is everybody's router.
pub(super) fn with_plain_routes(lab: &mut Lab, mode: &str, underlay: IpAddr) -> Outcome {
    let mut membership = membership_on(underlay, 1..=3);
    // On no link of the others.
    membership.nodes[2].1 = if underlay.is_ipv4() { [192, 168, 60, 3].into() } else { "fd00:60::3".parse().unwrap() };
    if mode == "never" {
        membership.nodes.pop();
    }
    lab.write(&membership)?;
    let start = |node: &mut Node| start_with(node, &format!("overlay = \"{mode}\""));
    lab.nodes.iter_mut().take(2).try_for_each(start)?;
    two_pods(lab)
}

#[test]
fn beside_plain_routes_only_the_sources_of_peers_on_the_link_are_taken() {
    for (mode, underlay) in [("auto", FAMILIES[0]), ("auto", FAMILIES[1]), ("never", FAMILIES[1])] {
        scene(3, |lab| {
            with_plain_routes(lab, mode, underlay)?;
            let (near, far) = (&lab.nodes[0].pods[0], &lab.nodes[1].pods[0]);
            let node = &lab.nodes[0].host;
            let ear = Ear::open(&near.host)?;
            for like in FAMILIES {
                let pod = near.address(like);
                // Of this node, of a node on another link, and of none.
                let sources = [unused(1, like), pod, unused(3, like), unused(99, like)];
                let destinations = [pod, underlay_address(1, like), outside_address(like)];
                are_dropped(&lab.outside, node, &sources, &destinations)?;
                if like.is_ipv6() && underlay.is_ipv4() {
                    // IPv6 pods have no plain route over an IPv4 underlay.
                    are_dropped(&lab.outside, node, &[far.address(like)], &destinations)?;
                }
                hears(&ear, &far.host, pod)?;
                hears(&ear, &lab.outside, pod)?;
            }
            Ok(())
        });
    }
}

#[test]
fn pods_of_peers_that_are_not_masqueraded_reach_nodes_and_no_pods() {
    for settings in
        ["masquerade = false", "not_masqueraded = [\"192.168.50.0/24\", \"fd00:192:168:50::/64\", \"192.0.2.0/24\"]"]
    {
        scene(2, |lab| {
            lab.nodes.iter_mut().try_for_each(|node| start_with(node, settings))?;
            two_pods(lab)?;
            let (near, far) = (&lab.nodes[0].pods[0], &lab.nodes[1].pods[0]);
            let node = &lab.nodes[0].host;
            let own_ear = Ear::open(node)?;
            for like in FAMILIES {
                hears(&own_ear, &far.host, underlay_address(1, like))?;
                are_dropped(&lab.outside, node, &[far.address(like)], &[near.address(like), overlay_address(1, like)])?;
                are_dropped(
                    &lab.outside,
                    node,
                    &[unused(1, like), unused(99, like)],
                    &[near.address(like), underlay_address(1, like)],
                )?;
            }
            Ok(())
        });
    }
}
