//! What a pod says of others by ARP and neighbour discovery: its node believes none of it, nor a router that a pod claims to be.

use std::net::{IpAddr, Ipv6Addr};

use podwire_tests::lab::exchange::{Responder, exchange};
use podwire_tests::lab::frame::{checksum, send_packet, transmit};
use podwire_tests::lab::host::Host;
use podwire_tests::lab::membership::underlay_address;
use podwire_tests::lab::scene::{FAMILIES, Outcome, cluster, same};
use serde_json::{Value, json};

use super::local_sources::gateway;

/// Who claims everything.
const LIAR: [u8; 6] = [2, 0, 0, 0, 0, 9];
const ROUTER: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 9);
const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);

/// An ARP frame (RFC 826) in which the liar has an address: a request (1) or a reply (2).
fn arp(operation: u8, to: [u8; 6], address: [u8; 4], asked: [u8; 4]) -> Vec<u8> {
    let head = [0, 1, 8, 0, 6, 4, 0, operation];
    [&to[..], &LIAR, &[8, 6], &head, &LIAR, &address, &to, &asked].concat()
}

/// A message of neighbour discovery (RFC 4861), which has to come over no router.
fn icmp6(to: Ipv6Addr, message: &[u8]) -> Vec<u8> {
    let length = u16::try_from(message.len()).expect("a short message").to_be_bytes();
    let addresses = [ROUTER.octets(), to.octets()].concat();
    let sum = checksum(&[&addresses[..], &[0, 0], &length, &[0, 0, 0, 58], message].concat());
    [&[0x60, 0, 0, 0][..], &length, &[58, 255], &addresses, &message[..2], &sum, &message[4..]].concat()
}

/// Everything that a pod can claim of an address: that it is its own, or is reached through it.
fn claims(from: &Host, to: [u8; 6], address: IpAddr, asked: IpAddr) -> Outcome {
    match (address, asked) {
        (IpAddr::V4(address), IpAddr::V4(asked)) => {
            for operation in [1, 2] {
                for target in [asked, address] {
                    transmit(from, "eth0", &arp(operation, to, address.octets(), target.octets()))?;
                }
            }
            Ok(())
        }
        (IpAddr::V6(address), _) => {
            let own = [&[2, 1][..], &LIAR].concat();
            // An advertisement that overrides, and a redirect to the liar.
            let advertised = [&[136, 0, 0, 0, 0x20, 0, 0, 0][..], &address.octets(), &own].concat();
            let redirected = [&[137, 0, 0, 0, 0, 0, 0, 0][..], &ROUTER.octets(), &address.octets(), &own].concat();
            let prefix: Ipv6Addr = "fd00:bad::".parse().expect("an address");
            let router = [
                &[134, 0, 0, 0, 64, 0, 7, 8, 0, 0, 0, 0, 0, 0, 0, 0][..],
                &[3, 4, 64, 0xc0, 0, 0, 7, 8, 0, 0, 7, 8, 0, 0, 0, 0],
                &prefix.octets(),
            ];
            for message in [advertised, redirected, router.concat()] {
                send_packet(from, "eth0", to, &icmp6(ALL_NODES, &message))?;
            }
            Ok(())
        }
        _ => Err(format!("{address} and {asked} are of two families")),
    }
}

/// What the node knows of its links, as `ip` lists it.
fn known(host: &Host) -> Outcome<Value> {
    let listed = |arguments: &str| -> Outcome<Vec<String>> {
        let said = host.run("sh", &["-c", &format!("ip {arguments}")])?;
        let mut lines: Vec<_> = said.lines().map(str::to_owned).collect();
        lines.sort();
        Ok(lines)
    };
    Ok(json!({
        "neighbours": listed("neighbour show nud permanent")?,
        // The liar's entries, and those that are made of its words.
        "claimed": listed("neighbour show | grep -i 02:00:00:00:00:09 || true")?,
        // Without those of the links themselves, which come when the kernel has found them to be unique.
        "addresses": listed("-o address show scope global")?,
        "routes": [listed("route show")?, listed("-6 route show | grep -v ^fe80::/64")?],
    }))
}

#[test]
fn a_pod_cannot_take_over_anothers_traffic_by_arp_or_neighbour_discovery() {
    cluster(2, |lab| {
        let other = lab.nodes[0].add_pod("other")?.host.clone();
        let liar = lab.nodes[0].add_pod("liar")?.host.clone();
        let _responders = [Responder::start(&other)?, Responder::start(&liar)?];
        let (node, to) = (&lab.nodes[0].host, gateway(&liar)?);
        let reach = || -> Outcome {
            for pod in ["liar", "other"] {
                FAMILIES
                    .into_iter()
                    .try_for_each(|like| exchange(node, lab.nodes[0].pod(pod).address(like)).map(drop))?;
            }
            Ok(())
        };
        reach()?;
        let before = known(node)?;
        for like in FAMILIES {
            let gateway: IpAddr = if like.is_ipv4() { [169, 254, 1, 1].into() } else { "fe80::1".parse().unwrap() };
            let others = [lab.nodes[0].pod("other").address(like), underlay_address(2, like), gateway];
            for address in others {
                claims(&liar, to, address, underlay_address(1, like))?;
            }
        }
        // What comes by the liar's link after the lies is answered after them.
        reach()?;
        same("the node", &before, &known(node)?)
    });
}
