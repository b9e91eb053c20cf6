//! A node with two devices on the link of its plain routes: peers send to either, since the node answers ARP by both.

use std::net::IpAddr;

use podwire_tests::lab::daemon::json;
use podwire_tests::lab::host::Host;
use podwire_tests::lab::membership::underlay_address;
use podwire_tests::lab::scene::{FAMILIES, Outcome, check, scene};
use podwire_tests::lab::{Lab, SOON, UPLINK, eventually, outside_address};

use super::forged::{CARRIED_PORT, Ear, send};
use super::guards::{has_refused, mac, refused, unused};
use super::plain::{are_dropped_at, hears, with_plain_routes};

/// The second device of the first node.
const OTHER: &str = "eth1";
/// Its addresses on the link.
const ADDRESSES: [&str; 2] = ["192.168.50.101/24", "fd00:192:168:50::101/64"];

/// Has the second node send to the other device of the first one what it sends to it. Advertisements of the second node come
/// there as well, and so the first one could not keep it as a neighbour by itself.
fn send_to_other(lab: &Lab, underlay: IpAddr) -> Outcome {
    let [first, second] = [1, 2].map(|number| underlay_address(number, underlay).to_string());
    let ways = [(1, first, mac(&lab.nodes[0].host, OTHER)?), (0, second, mac(&lab.nodes[1].host, UPLINK)?)];
    for (from, address, mac) in ways {
        let mac = mac.map(|byte| format!("{byte:02x}")).join(":");
        let entry = ["neighbour", "replace", &address, "lladdr", &mac, "dev", UPLINK, "nud", "permanent"];
        lab.nodes[from].host.run("ip", &entry)?;
    }
    Ok(())
}

/// By what each prefix of a peer is reached, and whether it answers, as the first node's status says.
fn reached(host: &Host) -> Outcome<(Vec<String>, String)> {
    let status = json(host, &["status", "--json"])?;
    let peer = status["peers"].as_array().into_iter().flatten().find(|peer| peer["name"] == "node-2");
    let peer = peer.ok_or_else(|| status.to_string())?;
    let by = peer["routes"].as_array().into_iter().flatten();
    let by = by.map(|route| route["by"].as_str().unwrap_or_default().to_owned()).collect();
    Ok((by, peer["state"].as_str().unwrap_or_default().to_owned()))
}

/// How often the firewall was repaired, and how many reconciles there were.
fn repairs(host: &Host) -> Outcome<(u64, u64)> {
    let daemon = json(host, &["status", "--json"])?["daemon"].clone();
    let number = |value: &serde_json::Value| value.as_u64().unwrap_or_default();
    Ok((number(&daemon["repairs"]["firewall"]), number(&daemon["passes"])))
}

#[test]
fn a_peers_plain_packets_are_taken_by_either_device_on_its_link_and_nobody_elses() {
    for (mode, underlay) in [("auto", FAMILIES[0]), ("auto", FAMILIES[1]), ("never", FAMILIES[1])] {
        scene(3, |lab| {
            let addresses = ADDRESSES.map(|address| address.parse().unwrap());
            lab.plug(&lab.nodes[0], OTHER, &addresses)?;
            with_plain_routes(lab, mode, underlay)?;
            let (near, far) = (&lab.nodes[0].pods[0], &lab.nodes[1].pods[0]);
            let node = &lab.nodes[0].host;
            let ear = Ear::open(&near.host)?;
            send_to_other(lab, underlay)?;
            let plain = |like: IpAddr| like.is_ipv4() || underlay.is_ipv6();
            let lies = |like: IpAddr| {
                let pod = near.address(like);
                // Of this node, of a node on another link, and of none.
                let sources = [unused(1, like), pod, unused(3, like), unused(99, like)];
                let destinations = [pod, underlay_address(1, like), outside_address(like)];
                are_dropped_at(&lab.outside, node, OTHER, &sources, &destinations)?;
                if !plain(like) {
                    // It is reached by the overlay.
                    are_dropped_at(&lab.outside, node, OTHER, &[far.address(like)], &destinations)?;
                }
                Ok(())
            };
            for like in FAMILIES {
                let before = refused(node, "plain-sources")?;
                hears(&ear, &far.host, near.address(like))?;
                has_refused(node, "plain-sources", before)?;
                lies(like)?;
                hears(&ear, &far.host, near.address(like))?;
            }
            let wanted = if plain(FAMILIES[1]) { ["plain", "plain"] } else { ["plain", "overlay"] };
            eventually(SOON, || {
                let (by, state) = reached(node)?;
                check(by == wanted && state == "answers", || format!("reached by {by:?}, {state}"))
            })?;

            // A ruleset is saved and loaded again; then there is nothing to repair.
            let before = repairs(node)?;
            node.run("sh", &["-c", "(echo flush ruleset; nft list ruleset) > /run/whole; nft -f /run/whole"])?;
            eventually(SOON, || check(repairs(node)?.1 > before.1, || "no reconcile".into()))?;
            check(repairs(node)?.0 == before.0, || "it was repaired".into())?;
            hears(&ear, &far.host, near.address(FAMILIES[1]))?;

            // Without an address in the peers' subnet it is another link, for all that is known.
            for address in ADDRESSES {
                node.run("ip", &["address", "delete", address, "dev", OTHER])?;
            }
            let like = if plain(FAMILIES[1]) { FAMILIES[1] } else { FAMILIES[0] };
            eventually(SOON, || {
                let list = node.run("nft", &["list", "chain", "inet", "podwire", "guard-plain"])?;
                check(!list.contains(OTHER), || list)
            })?;
            are_dropped_at(&lab.outside, node, OTHER, &[far.address(like)], &[near.address(like)])?;
            lies(like)
        });
    }
}

#[test]
fn a_device_that_peers_send_to_and_that_has_no_address_there_is_a_finding() {
    for underlay in FAMILIES {
        scene(3, |lab| {
            lab.plug(&lab.nodes[0], OTHER, &[])?;
            with_plain_routes(lab, "auto", underlay)?;
            let (near, far) = (&lab.nodes[0].pods[0], &lab.nodes[1].pods[0]);
            let node = &lab.nodes[0].host;
            let to = near.address(underlay);
            let named = || -> Outcome<Vec<(String, String)>> {
                let found = json(node, &["doctor", "--json"])?;
                let found = found.as_array().cloned().unwrap_or_default();
                let found = found.iter().filter(|finding| finding["kind"] == "plain-astray");
                let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
                Ok(found.map(|finding| (text(&finding["subject"]), text(&finding["cause"]))).collect())
            };
            check(named()?.is_empty(), || "a finding before anything was sent".into())?;
            send_to_other(lab, underlay)?;
            // A sender counts once the membership has rested for ten seconds.
            let found = eventually(SOON, || {
                let before = refused(node, "plain-sources")?;
                send(&far.host, None, (to, CARRIED_PORT).into(), b"lost")?;
                eventually(SOON, || check(refused(node, "plain-sources")? > before, || "not dropped".into()))?;
                let found = named()?;
                check(!found.is_empty(), || "no finding".into())?;
                Ok(found)
            })?;
            // The node's own probes come that way as well.
            let sources = ["as from 10.244.2.", "as from fd00:10:244:2:"];
            let right = |(subject, cause): &(String, String)| {
                subject == OTHER && cause.contains("node-2") && sources.iter().any(|source| cause.contains(source))
            };
            check(found.len() == 1 && found.iter().all(right), || format!("{found:?}"))?;

            let address = if underlay.is_ipv4() { ADDRESSES[0] } else { ADDRESSES[1] };
            let mut add = vec!["address", "add", address, "dev", OTHER];
            add.extend(underlay.is_ipv6().then_some("nodad"));
            node.run("ip", &add)?;
            let ear = Ear::open(&near.host)?;
            eventually(SOON, || {
                let list = node.run("nft", &["list", "chain", "inet", "podwire", "guard-plain"])?;
                check(list.contains(OTHER), || list)
            })?;
            hears(&ear, &far.host, to)
        });
    }
}
