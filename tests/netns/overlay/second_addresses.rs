//! Other addresses of a node: its programs reach pods elsewhere from those that the membership lists, and from no others.

use std::net::{IpAddr, UdpSocket};
use std::time::Duration;

use podwire_tests::lab::host::Host;
use podwire_tests::lab::membership::{self, underlay_address};
use podwire_tests::lab::scene::{FAMILIES, Outcome, check, scene};
use podwire_tests::lab::{Lab, SOON, eventually};

use super::guards::{over, refused};

const PORT: u16 = 7777;
const OTHERS: [&str; 2] = ["10.9.9.2", "fd00:9::2"];

/// Gives the second node two more addresses, and the first one the way to them.
fn give_others(lab: &Lab) -> Outcome {
    for (like, other) in FAMILIES.into_iter().zip(OTHERS) {
        lab.nodes[1].host.run("ip", &["address", "add", other, "dev", "lo"])?;
        let via = underlay_address(2, like).to_string();
        lab.nodes[0].host.run("ip", &["route", "add", other, "via", &via])?;
    }
    Ok(())
}

/// Sends a datagram from an address of a host to a pod, and one back to where the pod says that it came from.
fn answered(from: &Host, own: IpAddr, pod: &Host, address: IpAddr) -> Outcome {
    let open = |host: &Host, own: IpAddr, port| {
        let open = || {
            let socket = UdpSocket::bind((own, port))?;
            socket.set_read_timeout(Some(Duration::from_millis(500)))?;
            Ok(socket)
        };
        host.enter(open).map_err(|error: std::io::Error| format!("bind {own} on {}: {error}", host.name))
    };
    let (near, far) = (open(from, own, 0)?, open(pod, address, PORT)?);
    let exchange = || -> std::io::Result<IpAddr> {
        near.send_to(b"question", (address, PORT))?;
        let (_, seen) = far.recv_from(&mut [0; 64])?;
        far.send_to(b"answer", seen)?;
        near.recv_from(&mut [0; 64])?;
        Ok(seen.ip())
    };
    let seen = exchange().map_err(|error| format!("from {own} to {address}: {error}"))?;
    check(seen == own, || format!("from {own} to {address}: seen as {seen}"))
}

#[test]
fn a_node_reaches_pods_elsewhere_from_every_address_that_the_membership_lists() {
    for underlay in FAMILIES {
        scene(3, |lab| {
            let mut nodes = over(underlay, 3);
            lab.write(&nodes)?;
            lab.start()?;
            give_others(lab)?;
            let pod = lab.nodes[0].add_pod("pod")?.host.clone();
            let pods = FAMILIES.map(|like| lab.nodes[0].pod("pod").address(like));
            let others = OTHERS.map(|other| other.parse::<IpAddr>().unwrap());
            let reach =
                || others.iter().zip(pods).try_for_each(|(own, to)| answered(&lab.nodes[1].host, *own, &pod, to));
            // The address of the underlay is always one of its own.
            let own = underlay_address(2, underlay);
            eventually(SOON, || answered(&lab.nodes[1].host, own, &pod, pods[usize::from(own.is_ipv6())]))?;
            let before = refused(&lab.nodes[0].host, "overlay-sources")?;
            check(reach().is_err(), || "the pod takes packets from an address of nobody".into())?;
            let dropped = refused(&lab.nodes[0].host, "overlay-sources")? - before;
            check(dropped > 0, || "nothing was counted".into())?;

            let rules = || lab.nodes[0].host.run("nft", &["list", "chain", "inet", "podwire", "guard-overlay"]);
            let chain = rules()?;
            nodes.addresses(2, &others);
            lab.write(&nodes)?;
            eventually(SOON, reach)?;
            check(rules()? == chain, || format!("the rules have changed with an address: {}", rules().unwrap()))?;
            // Another member has not got it by that.
            lab.nodes[2].host.run("ip", &["address", "add", OTHERS[0], "dev", "lo"])?;
            let stolen = answered(&lab.nodes[2].host, others[0], &pod, pods[0]);
            check(stolen.is_err(), || "another node sends from it".into())?;

            nodes.addresses(2, &[]);
            lab.write(&nodes)?;
            eventually(SOON, || check(reach().is_err(), || "the address still counts".into()))
        });
    }
}

#[test]
fn an_address_of_two_nodes_or_of_pods_is_rejected_by_itself() {
    scene(3, |lab| {
        let mut nodes = membership::Membership::of(1..=3);
        let own = underlay_address(3, FAMILIES[0]);
        let pod = membership::pod_cidrs(3)[0].network();
        nodes.addresses(2, &[own, pod, OTHERS[0].parse().unwrap()]);
        lab.write(&nodes)?;
        lab.start()?;
        let status = podwire_tests::lab::daemon::json(&lab.nodes[0].host, &["status", "--json"])?;
        let said = |what: &str| status["wrong"].to_string().contains(what);
        let named = said("of its other addresses one does not count: address 192.168.50.3 is that of node node-3")
            && said("address 10.244.3.0 is in the pods' range 10.244.0.0/16");
        check(named && status["membership"]["nodes"] == 3, || status.to_string())?;
        let elements = lab.nodes[0].host.run("nft", &["list", "set", "inet", "podwire", "overlay-sources4-4-32"])?;
        // An address out of a carried packet is a number to `nft`.
        let pair = |carried: [u8; 4]| elements.contains(&format!("192.168.50.2 . {:#x}", u32::from_be_bytes(carried)));
        let right = pair([10, 9, 9, 2]) && !pair([192, 168, 50, 3]);
        check(right, || elements)
    });
}
