//! The firewall's guards: who may use the overlay, under whose name, and who is translated.

use std::net::{IpAddr, SocketAddr};
use std::process::Command;

use podwire_kernel::Mac;
use podwire_tests::lab::exchange::Responder;
use podwire_tests::lab::host::{Host, SHARED};
use podwire_tests::lab::membership::{self, Membership, underlay_address};
use podwire_tests::lab::node::Node;
use podwire_tests::lab::scene::{FAMILIES, Outcome, check, cluster, json, reaches, scene};
use podwire_tests::lab::{Lab, SOON, eventually, outside_address, program};

use super::forged::{CARRIED_PORT, Ear, Forged, send};

/// The VXLAN port.
const PORT: u16 = 8472;

/// How many packets a guard of a node has refused.
pub(crate) fn refused(node: &Host, guard: &str) -> Outcome<u64> {
    let list = json(node, "nft", &["-j", "list", "counter", "inet", "podwire", guard])?;
    let counters = list["nftables"].as_array().into_iter().flatten();
    let mut packets = counters.filter_map(|entry| entry["counter"]["packets"].as_u64());
    packets.next().ok_or(format!("no guard {guard} in {list}"))
}

/// Waits until a guard has refused so many packets.
pub(super) fn has_refused(node: &Host, guard: &str, packets: u64) -> Outcome {
    eventually(SOON, || {
        let found = refused(node, guard)?;
        check(found == packets, || format!("{guard} of {} has refused {found} packets, not {packets}", node.name))
    })
}

pub(crate) fn mac(host: &Host, device: &str) -> Outcome<[u8; 6]> {
    let link = json(host, "ip", &["-j", "link", "show", device])?;
    let text = link[0]["address"].as_str().unwrap_or_default().to_owned();
    Mac::parse(&text).map(|mac| mac.0).ok_or(format!("{device} has no address: {link}"))
}

/// Starts the daemon of a node with settings, and waits until it is ready.
pub(super) fn start_with(node: &mut Node, settings: &str) -> Outcome {
    let (file, nodes) = ("/etc/podwired.toml", format!("{SHARED}/nodes.toml"));
    node.host.enter(|| std::fs::write(file, settings)).map_err(|error| format!("write {file}: {error}"))?;
    let mut command = Command::new(program("podwired").map_err(|error| error.to_string())?);
    command.args(["run", "--node-name", &node.host.name, "--nodes", &nodes, "--settings", file]);
    node.daemon = Some(node.host.start(&format!("podwired of {}", node.host.name), &mut command)?);
    node.wait_ready()
}

/// A membership whose nodes have their addresses in the family of `like`.
pub(crate) fn over(like: IpAddr, count: u16) -> Membership {
    let mut membership = Membership::of(1..=count);
    for (number, node) in (1..).zip(&mut membership.nodes) {
        node.1 = underlay_address(number, like);
    }
    membership
}

/// What a host would write to have a datagram delivered to a pod, from an address of its choice.
fn forged(node: &Host, source: IpAddr, destination: IpAddr, text: &str) -> Outcome<Forged> {
    let device = mac(node, "podwire.1")?;
    Ok(Forged { vni: 1, device, ethertype: None, source, destination, text: text.into() })
}

/// An address in a node's pod CIDR that no pod has.
pub(super) fn unused(number: u16, like: IpAddr) -> IpAddr {
    let prefix = membership::pod_cidrs(number)[usize::from(like.is_ipv6())];
    // The last byte of the prefix's own address is 0.
    let text = format!("{}77", prefix.network().to_string().trim_end_matches('0'));
    text.parse().unwrap()
}

#[test]
fn the_overlay_accepts_peers_only_and_each_only_with_its_own_pod_cidrs() {
    for (underlay, settings) in [(FAMILIES[0], ""), (FAMILIES[1], ""), (FAMILIES[0], "masquerade = false")] {
        scene(3, |lab| {
            lab.write(&over(underlay, 3))?;
            lab.nodes.iter_mut().try_for_each(|node| start_with(node, settings))?;
            let pod = lab.nodes[0].add_pod("pod")?;
            let (ear, addresses) = (Ear::open(&pod.host)?, pod.addresses.clone());
            let (node, peer) = (&lab.nodes[0].host, &lab.nodes[1].host);
            let port = underlay_address(1, underlay);
            let (mut foreign, mut sources) = (0, 0);
            for pod in addresses {
                let send = |from: &Host, forged: &Forged| forged.send(from, port, PORT);
                let truth = forged(node, unused(2, pod), pod, "truth")?;
                // Packets of a host that is no node are dropped, whatever they carry.
                send(&lab.outside, &Forged { text: "foreign".into(), ..truth.clone() })?;
                foreign += 1;
                has_refused(node, "overlay-strangers", foreign)?;
                // A node speaks for its own pods and for itself; not for another node's pods, or for the world's.
                let lies = [unused(3, pod), unused(1, pod), pod, outside_address(pod), underlay_address(3, pod)];
                for lie in lies {
                    send(peer, &Forged { source: lie, text: format!("lie {lie}"), ..truth.clone() })?;
                    sources += 1;
                }
                // Another network, something that is no IP, a frame with a tag, and one that is cut off.
                send(peer, &Forged { vni: 2, text: "network".into(), ..truth.clone() })?;
                send(peer, &Forged { ethertype: Some(0x0806), text: "arp".into(), ..truth.clone() })?;
                send(peer, &Forged { ethertype: Some(0x8100), text: "tag".into(), ..truth.clone() })?;
                super::forged::send(peer, None, (port, PORT).into(), &truth.bytes()[..20])?;
                sources += 4;
                has_refused(node, "overlay-sources", sources)?;
                send(peer, &truth)?;
                let heard = ear.next()?;
                check(heard == "truth", || format!("the pod heard {heard:?}"))?;
                if pod.is_ipv4() == underlay.is_ipv4() {
                    send(peer, &Forged { source: underlay_address(2, pod), text: "node".into(), ..truth })?;
                    let heard = ear.next()?;
                    check(heard == "node", || format!("the pod heard {heard:?}"))?;
                }
            }
            // Multicast on the link reaches the device as well.
            let everybody = "192.168.50.255".parse().unwrap();
            let lie = forged(node, unused(2, FAMILIES[0]), lab.nodes[0].pod("pod").address(FAMILIES[0]), "all")?;
            lie.send(&lab.outside, everybody, PORT)?;
            has_refused(node, "overlay-strangers", foreign + 1)
        });
    }
}

#[test]
fn a_pod_cannot_send_vxlan_packets() {
    for settings in ["", "masquerade = false"] {
        scene(2, |lab| {
            lab.nodes.iter_mut().try_for_each(|node| start_with(node, settings))?;
            no_pod_encapsulates(lab)
        });
    }
}

fn no_pod_encapsulates(lab: &mut Lab) -> Outcome {
    let near = lab.nodes[0].add_pod("near")?.host.clone();
    let (beside, beside_addresses) = {
        let pod = lab.nodes[0].add_pod("beside")?;
        (pod.host.clone(), pod.addresses.clone())
    };
    let (far, addresses) = {
        let pod = lab.nodes[1].add_pod("far")?;
        (pod.host.clone(), pod.addresses.clone())
    };
    let ear = Ear::open(&far)?;
    let (node, peer) = (&lab.nodes[0].host, &lab.nodes[1].host);
    // An address of the peer's that is in no membership.
    peer.run("ip", &["address", "add", "192.168.50.99/24", "dev", "eth0"])?;
    // A service whose endpoint is the peer's VXLAN port, as anybody can make one who may make services.
    for line in [
        "add table ip foreign",
        "add chain ip foreign in { type nat hook prerouting priority -100 ; }",
        "add rule ip foreign in ip daddr 10.96.0.1 udp dport 53 dnat to 192.168.50.2:8472",
        "add rule ip foreign in ip daddr 10.96.0.2 udp dport 53 dnat to 192.168.50.1:8472",
    ] {
        node.run("nft", &line.split(' ').collect::<Vec<_>>())?;
    }
    let device = mac(peer, "podwire.1")?;
    let [four, six] = [addresses[0], addresses[1]];
    // As if the pod's own node had sent it: what leaves the pod is masqueraded.
    let lie = |destination: IpAddr| Forged {
        vni: 1,
        device,
        ethertype: None,
        source: unused(1, destination),
        destination,
        text: "lie".into(),
    };
    let to = |address: &str, port: u16| -> SocketAddr { (address.parse::<IpAddr>().unwrap(), port).into() };
    let targets = [
        to("192.168.50.2", PORT),
        to("192.168.50.1", PORT),
        to("192.168.50.99", PORT),
        to("10.244.1.0", PORT),
        to("fd00:192:168:50::2", PORT),
        to("fd00:10:244:1::", PORT),
        to("192.168.50.254", PORT),
        to("10.96.0.1", 53),
        to("10.96.0.2", 53),
    ];
    let mut packets = 0;
    for target in targets {
        for destination in [four, six] {
            send(&near, None, target, &lie(destination).bytes())?;
            packets += 1;
            has_refused(node, "pod-encapsulation", packets).map_err(|why| format!("to {target}: {why}"))?;
        }
    }
    // By the overlay to the peer's own address there: the peer takes it from no pod.
    send(&near, None, to("10.244.2.0", PORT), &lie(four).bytes())?;
    has_refused(peer, "overlay-strangers", 1)?;
    // A pod's port is a pod's own.
    let listens = |host: &Host| -> Outcome<std::net::UdpSocket> {
        let socket = host.enter(|| std::net::UdpSocket::bind((std::net::Ipv6Addr::UNSPECIFIED, PORT)));
        let socket = socket.map_err(|error| error.to_string())?;
        socket.set_read_timeout(Some(SOON)).map_err(|error| error.to_string())?;
        Ok(socket)
    };
    for (host, addresses) in [(&beside, beside_addresses), (&far, addresses)] {
        let socket = listens(host)?;
        for address in addresses {
            send(&near, None, (address, PORT).into(), b"hello")?;
            let heard = socket.recv_from(&mut [0; 16]);
            heard.map_err(|error| format!("{address} of {}: {error}", host.name))?;
        }
    }
    forged(peer, unused(1, four), four, "truth")?.send(node, underlay_address(2, FAMILIES[0]), PORT)?;
    let heard = ear.next()?;
    check(heard == "truth", || format!("the pod heard {heard:?}"))?;
    has_refused(node, "pod-encapsulation", packets)
}

#[test]
fn a_peers_vxlan_port_cannot_be_reached_through_this_node() {
    for settings in ["", "masquerade = false"] {
        scene(2, |lab| {
            lab.nodes.iter_mut().try_for_each(|node| start_with(node, settings))?;
            nothing_is_relayed(lab)
        });
    }
}

fn nothing_is_relayed(lab: &mut Lab) -> Outcome {
    let (node, peer) = (&lab.nodes[0].host, &lab.nodes[1].host);
    // Somebody behind this node, whose packets would leave under its address.
    for line in [
        "add table ip foreign",
        "add chain ip foreign in { type nat hook prerouting priority -100 ; }",
        "add chain ip foreign out { type nat hook postrouting priority 100 ; }",
        "add rule ip foreign in udp dport 30000 dnat to 192.168.50.2:8472",
        "add rule ip foreign out udp dport 8472 masquerade",
    ] {
        node.run("nft", &line.split(' ').collect::<Vec<_>>())?;
    }
    let bytes = forged(peer, unused(1, FAMILIES[0]), unused(2, FAMILIES[0]), "lie")?.bytes();
    send(&lab.outside, None, (underlay_address(1, FAMILIES[0]), 30_000).into(), &bytes)?;
    has_refused(node, "overlay-strangers", 1)
}

#[test]
fn a_pod_cannot_spoof_its_source_address() {
    cluster(2, |lab| {
        let liar = lab.nodes[0].add_pod("liar")?.host.clone();
        let (near, near_addresses) = {
            let pod = lab.nodes[0].add_pod("near")?;
            (Ear::open(&pod.host)?, pod.addresses.clone())
        };
        let (far, far_addresses) = {
            let pod = lab.nodes[1].add_pod("far")?;
            (Ear::open(&pod.host)?, pod.addresses.clone())
        };
        let node = &lab.nodes[0].host;
        let own = lab.nodes[0].pod("liar").addresses.clone();
        let mut spoofed = 0;
        for (place, like) in FAMILIES.into_iter().enumerate() {
            // One that nobody has, a neighbour's, one of another node, and one of nowhere.
            let lies = [unused(1, like), near_addresses[place], far_addresses[place], outside_address(like)];
            for lie in lies {
                let length = if lie.is_ipv4() { 32 } else { 128 };
                let address = format!("{lie}/{length}");
                liar.run("ip", &["address", "add", &address, "dev", "eth0", "nodad"])?;
                for to in [near_addresses[place], far_addresses[place], underlay_address(1, like)] {
                    if to != lie {
                        eventually(SOON, || send(&liar, Some(lie), (to, CARRIED_PORT).into(), b"lie"))?;
                        spoofed += u64::from(lie.is_ipv6());
                    }
                }
                liar.run("ip", &["address", "delete", &address, "dev", "eth0"])?;
            }
            // What is said after the lies is heard first.
            for (ear, to) in [(&near, near_addresses[place]), (&far, far_addresses[place])] {
                send(&liar, Some(own[place]), (to, CARRIED_PORT).into(), b"truth")?;
                let heard = ear.next()?;
                check(heard == "truth", || format!("{to} heard a {heard}"))?;
            }
        }
        has_refused(node, "pod-spoofing", spoofed)
    });
}

#[test]
fn tunnelled_packets_are_never_translated() {
    for underlay in FAMILIES {
        scene(2, |lab| {
            lab.write(&over(underlay, 2))?;
            lab.start()?;
            let far = lab.nodes[1].add_pod("far")?;
            let _responder = Responder::start(&far.host)?;
            lab.nodes[0].add_pod("near")?;
            // A mark that outlives the encapsulation, and a rule that goes by it: here one that goes by nothing.
            for line in [
                "add table inet foreign",
                "add chain inet foreign out { type nat hook postrouting priority 90 ; }",
                "add rule inet foreign out udp dport 8472 masquerade to :1000-1010",
            ] {
                lab.nodes[0].host.run("nft", &line.split(' ').collect::<Vec<_>>())?;
            }
            for line in [
                "add table inet watch",
                "add chain inet watch in { type filter hook prerouting priority -400 ; }",
                "add rule inet watch in udp dport 8472 udp sport 1000-1010 counter",
                "add rule inet watch in udp dport 8472 counter",
            ] {
                lab.nodes[1].host.run("nft", &line.split(' ').collect::<Vec<_>>())?;
            }
            let (near, far) = (lab.nodes[0].pod("near"), lab.nodes[1].pod("far"));
            for like in FAMILIES {
                reaches(&near.host, near.address(like), far.address(like))?;
            }
            let list = lab.nodes[1].host.run("nft", &["list", "table", "inet", "watch"])?;
            let untouched = list.matches("counter packets 0 bytes 0").count() == 1;
            check(untouched && list.contains("udp sport 1000-1010 counter packets 0"), || list)
        });
    }
}

#[test]
fn without_masquerade_the_pods_own_address_is_seen() {
    scene(2, |lab| {
        let direct = "not_masqueraded = [\"192.168.50.0/24\", \"fd00:192:168:50::/64\"]";
        start_with(&mut lab.nodes[0], direct)?;
        start_with(&mut lab.nodes[1], "masquerade = false")?;
        let _responders = [Responder::start(&lab.outside)?, Responder::start(&lab.nodes[1].host)?];
        for number in [1, 2] {
            lab.nodes[usize::from(number) - 1].add_pod("pod")?;
            for (cidr, like) in membership::pod_cidrs(number).into_iter().zip(FAMILIES) {
                let (cidr, gateway) = (cidr.to_string(), underlay_address(number, like).to_string());
                lab.outside.run("ip", &["route", "add", &cidr, "via", &gateway])?;
            }
        }
        for like in FAMILIES {
            for node in &lab.nodes {
                let pod = node.pod("pod");
                // A node asks for its neighbours under its link-local address, which it has a second after its device.
                eventually(SOON, || reaches(&pod.host, pod.address(like), outside_address(like)))?;
            }
        }
        // To a node there and by the overlay back: what a node sends to pods may bear its own address.
        let pod = lab.nodes[0].pod("pod");
        reaches(&pod.host, pod.address(FAMILIES[0]), underlay_address(2, FAMILIES[0]))?;
        let list = lab.nodes[1].host.run("nft", &["list", "table", "inet", "podwire"])?;
        check(!list.contains("type nat") && list.contains("guard-input"), || list)?;
        // And back: a chain that is not wanted any more goes, and comes again when it is.
        lab.nodes[1].daemon.take().ok_or("no daemon")?.stop(SOON)?;
        start_with(&mut lab.nodes[1], "")?;
        let pod = lab.nodes[1].pod("pod");
        reaches(&pod.host, underlay_address(2, FAMILIES[0]), outside_address(FAMILIES[0]))?;
        let list = lab.nodes[1].host.run("nft", &["list", "table", "inet", "podwire"])?;
        check(list.contains("masquerade fully-random"), || list)?;
        lab.nodes[1].daemon.take().ok_or("no daemon")?.stop(SOON)?;
        start_with(&mut lab.nodes[1], "masquerade = false")?;
        let list = lab.nodes[1].host.run("nft", &["list", "table", "inet", "podwire"])?;
        check(!list.contains("type nat"), || list)
    });
}

#[test]
fn flows_that_began_before_the_guard_do_not_bypass_it() {
    cluster(2, |lab| {
        let near = lab.nodes[0].add_pod("near")?.host.clone();
        let node = lab.nodes[0].host.clone();
        lab.nodes[1].host.run(
            "nft",
            &["add table ip watch; add chain ip watch in { type filter hook prerouting priority -400; }; \
            add rule ip watch in udp dport 8472 udp length < 20 counter"],
        )?;
        let socket = near.enter(|| std::net::UdpSocket::bind(("0.0.0.0", 0))).map_err(|error| error.to_string())?;
        let say = || socket.send_to(b"lie", ("192.168.50.2", PORT)).map(drop).map_err(|error| error.to_string());
        let mut daemon = lab.nodes[0].daemon.take().ok_or("no daemon")?;
        daemon.stop(SOON)?;
        // A masquerade without guards, as between a flush and its repair.
        node.run("nft", &["flush chain inet podwire guard-forward"])?;
        let heard = || -> Outcome<bool> {
            let list = lab.nodes[1].host.run("nft", &["list", "table", "ip", "watch"])?;
            Ok(!list.contains("counter packets 0"))
        };
        eventually(SOON, || {
            say()?;
            check(heard()?, || "the pod does not reach the peer even without a guard".into())
        })?;
        lab.nodes[0].start()?;
        lab.nodes[0].wait_ready()?;
        say()?;
        has_refused(&node, "pod-encapsulation", 1)
    });
}
