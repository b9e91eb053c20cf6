//! Forged ICMP errors about the size of packets: whoever sends them, and whatever they quote, the overlay's packets keep
//! their size.

use std::net::IpAddr;

use podwire_tests::lab::host::Host;
use podwire_tests::lab::membership::underlay_address;
use podwire_tests::lab::scene::{FAMILIES, Outcome, check, json, scene};
use podwire_tests::lab::{SOON, eventually, outside_address};

use super::connectivity::pods;
use super::guards::has_refused;
use super::modes::{membership_on, settle};
use super::too_large::{self, quotes};

/// The smallest that the kernel believes, of both families.
const TINY: u16 = 1280;

/// The path MTUs that a node has learned.
pub(crate) fn learned(node: &Host) -> Outcome<Vec<String>> {
    let mut found = Vec::new();
    for family in ["-4", "-6"] {
        let cached = json(node, "ip", &["-j", family, "route", "show", "cache"])?;
        let with_mtu = cached.as_array().into_iter().flatten().filter(|route| route.to_string().contains("\"mtu\""));
        found.extend(with_mtu.map(ToString::to_string));
    }
    Ok(found)
}

fn nothing_learned(node: &Host, after: &str) -> Outcome {
    let found = learned(node)?;
    check(found.is_empty(), || format!("{} has learned after {after}: {found:?}", node.name))
}

#[test]
fn errors_about_packets_to_peers_and_pods_are_not_believed() {
    for (underlay, settings) in
        [(FAMILIES[0], ""), (FAMILIES[1], ""), (FAMILIES[0], "masquerade = false\nfast_path = false\n")]
    {
        scene(2, |lab| {
            lab.write(&membership_on(underlay, 1..=2))?;
            settle(lab, settings)?;
            lab.start()?;
            let _responders = pods(lab)?;
            let node = &lab.nodes[0].host;
            let (near, far) = (lab.nodes[0].pod("pod-1"), lab.nodes[1].pod("pod-2"));
            let (own, peer) = (underlay_address(1, underlay), underlay_address(2, underlay));
            let overlay = |number: u16, like: IpAddr| {
                podwire_tests::lab::membership::pod_cidrs(number)[usize::from(like.is_ipv6())].network()
            };
            // By which node: the errors of another node's pod are dropped there.
            let mut refused = [0; 2];
            let mut attack = |who: &str, from: (&Host, IpAddr), to: IpAddr, about: (IpAddr, IpAddr)| -> Outcome {
                for quoted in quotes(about.0, about.1) {
                    too_large::send(from.0, from.1, to, TINY, &quoted)?;
                    nothing_learned(node, &format!("{} from {who} about {} to {}", quoted.what, about.0, about.1))?;
                    // What TCP is told has to fit a connection: it is left to TCP, but for what a pod says to its node.
                    let (of_pod, at_home) = (who == "a pod", who == "another node's pod");
                    let untracked = at_home && settings.is_empty();
                    refused[usize::from(at_home)] += u64::from(!quoted.is_tcp || of_pod || untracked);
                }
                Ok(())
            };
            let outside = (&lab.outside, outside_address(underlay));
            attack("outside", outside, own, (own, peer))?;
            attack("a pod", (&near.host, near.address(underlay)), own, (own, peer))?;
            for like in FAMILIES {
                let pod = (&near.host, near.address(like));
                attack("a pod", pod, overlay(1, like), (overlay(1, like), far.address(like)))?;
                let elsewhere = (&far.host, far.address(like));
                attack("another node's pod", elsewhere, overlay(1, like), (overlay(1, like), far.address(like)))?;
            }
            has_refused(node, "path-mtu", refused[0])?;
            has_refused(&lab.nodes[1].host, "path-mtu", refused[1])?;
            nothing_learned(node, "all of it")
        });
    }
}

#[test]
fn errors_to_pods_that_no_connection_explains_are_not_believed() {
    for settings in ["", "masquerade = false\nfast_path = false\n"] {
        scene(2, |lab| {
            settle(lab, settings)?;
            lab.start()?;
            let _responders = pods(lab)?;
            let (near, far) = (lab.nodes[0].pod("pod-1"), lab.nodes[1].pod("pod-2"));
            let mut refused = [0; 2];
            for like in FAMILIES {
                let (from, to) = (near.address(like), far.address(like));
                let node = underlay_address(1, like).to_string();
                lab.outside.run("ip", &["route", "add", &from.to_string(), "via", &node])?;
                for (sender, own, at_home) in [(&lab.outside, outside_address(like), false), (&far.host, to, true)] {
                    for quoted in quotes(from, to) {
                        too_large::send(sender, own, from, TINY, &quoted)?;
                        // Without conntrack TCP's are left to the pod, which has no such connection.
                        let masqueraded = settings.is_empty();
                        let node = usize::from(at_home);
                        refused[node] += u64::from(masqueraded || !quoted.is_tcp);
                    }
                }
            }
            for (node, refused) in lab.nodes.iter().zip(refused) {
                has_refused(&node.host, "path-mtu", refused)?;
            }
            nothing_learned(&near.host, "all of it")
        });
    }
}

#[test]
fn errors_of_peers_and_about_packets_to_others_are_believed() {
    for underlay in FAMILIES {
        scene(2, |lab| {
            lab.write(&membership_on(underlay, 1..=2))?;
            lab.start()?;
            let node = &lab.nodes[0].host;
            // Someone else than a peer: a host of the same network that is in no membership.
            let (own, other) = (underlay_address(1, underlay), underlay_address(77, underlay));
            let mut all = quotes(own, other).into_iter();
            let answer = all.find(|quoted| quoted.what == "an answer to an echo").ok_or("no answer to an echo")?;
            too_large::send(&lab.outside, outside_address(underlay), own, TINY, &answer)?;
            let knows = |of: IpAddr, count| {
                eventually(SOON, || {
                    let found = learned(node)?;
                    let of = of.to_string();
                    let known = found.len() == count && found.iter().any(|route| route.contains(&of));
                    check(known, || format!("{found:?}"))
                })
            };
            knows(other, 1)?;
            // A peer, whose pods are behind a smaller link than its own.
            let (peer, from) = (&lab.nodes[1].host, underlay_address(2, underlay));
            let datagram = quotes(own, from).into_iter().find(|quoted| quoted.what == "an answer to an echo");
            too_large::send(peer, from, own, TINY, &datagram.ok_or("no answer to an echo")?)?;
            knows(from, 2)?;
            has_refused(node, "path-mtu", 0)
        });
    }
}

#[test]
fn what_was_learned_while_the_guard_was_not_there_is_forgotten() {
    for underlay in FAMILIES {
        scene(2, |lab| {
            lab.write(&membership_on(underlay, 1..=2))?;
            lab.start()?;
            let (own, peer) = (underlay_address(1, underlay), underlay_address(2, underlay));
            let answer = quotes(own, peer).into_iter().find(|quoted| quoted.what == "an answer to an echo");
            let answer = answer.ok_or("no answer to an echo")?;
            let node = &mut lab.nodes[0];
            node.daemon = None;
            node.host.run("nft", &["flush", "ruleset"])?;
            too_large::send(&lab.outside, outside_address(underlay), own, TINY, &answer)?;
            eventually(SOON, || {
                let found = learned(&node.host)?;
                check(found.len() == 1 && found[0].contains(&peer.to_string()), || format!("{found:?}"))
            })?;
            node.start()?;
            node.wait_ready()?;
            eventually(SOON, || nothing_learned(&node.host, "the guard was back"))
        });
    }
}
