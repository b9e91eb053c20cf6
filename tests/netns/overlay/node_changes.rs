//! What changes while the daemons run: a node's address, its interface, its pod CIDRs. Afterwards every node is as one that
//! starts then, and traffic flows.

use std::net::IpAddr;

use ipnetwork::IpNetwork;
use podwire_tests::lab::exchange::Responder;
use podwire_tests::lab::host::Host;
use podwire_tests::lab::membership::{self, Membership};
use podwire_tests::lab::scene::{FAMILIES, Outcome, check, cluster, reaches, scene};
use podwire_tests::lab::{Lab, SOON, eventually};

use super::connectivity::{everybody_reaches_everybody, pods};

/// That every node comes to reach every other, in both families and both directions.
fn all_well(lab: &Lab) -> Outcome {
    eventually(SOON, || everybody_reaches_everybody(lab))
}

fn networks(list: [&str; 2]) -> Vec<IpNetwork> {
    list.iter().map(|text| text.parse().unwrap()).collect()
}

/// A host's own routes to peers and the nexthops, for comparing one node's with what they should be.
fn overlay(host: &Host) -> Outcome<String> {
    let show = |arguments: &[&str]| host.run("ip", arguments);
    let neighbours = show(&["neighbour", "show", "dev", "podwire.1", "nud", "permanent"])?;
    let routes = [show(&["-4", "route", "show", "proto", "112"])?, show(&["-6", "route", "show", "proto", "112"])?];
    Ok(format!("{}\n{}\n{}", show(&["nexthop"])?, neighbours, routes.concat()))
}

/// That nothing is left on a host that contains any of these.
fn nothing_of(host: &Host, gone: &[&str]) -> Outcome {
    eventually(SOON, || {
        let found = overlay(host)?;
        let left = gone.iter().find(|text| found.contains(*text));
        check(left.is_none(), || format!("{left:?} is still in {found}"))
    })
}

#[test]
fn every_node_follows_a_peer_that_changes_its_address() {
    for (like, new) in FAMILIES.into_iter().zip(["192.168.50.22/24", "fd00:192:168:50::22/64"]) {
        scene(3, |lab| {
            let new: IpNetwork = new.parse().unwrap();
            lab.write(&super::modes::membership_on(like, 1..=3))?;
            lab.start()?;
            let _responders = pods(lab)?;
            all_well(lab)?;
            let host = lab.nodes[1].host.clone();
            let old = membership::underlay(2)[usize::from(like.is_ipv6())];
            // Else the first address of a network takes the others with it.
            host.run("sh", &["-c", "echo 1 > /proc/sys/net/ipv4/conf/eth0/promote_secondaries"])?;
            host.run("ip", &["address", "add", &new.to_string(), "dev", "eth0", "nodad"])?;
            host.run("ip", &["address", "delete", &old.to_string(), "dev", "eth0"])?;
            let mut membership = super::modes::membership_on(like, 1..=3);
            membership.nodes[1].1 = new.ip();
            lab.write(&membership)?;
            all_well(lab)?;
            nothing_of(&lab.nodes[0].host, &[&format!(" {} ", old.ip())])?;
            nothing_of(&lab.nodes[1].host, &[&format!(" {} ", old.ip())])
        });
    }
}

#[test]
fn an_address_on_no_interface_is_reported_and_the_running_overlay_stays() {
    cluster(2, |lab| {
        let _responders = pods(lab)?;
        let mut membership = Membership::of(1..=2);
        membership.nodes[0].1 = [192, 168, 50, 11].into();
        lab.write(&membership)?;
        let daemon = lab.nodes[0].daemon.as_ref().ok_or("no daemon")?;
        let why = "this node's address 192.168.50.11 is on none of its interfaces: see `ip address`";
        daemon.wait_for(why, SOON)?;
        let nexthops = lab.nodes[0].host.run("ip", &["nexthop"])?;
        check(nexthops.contains("src 192.168.50.1 dst 192.168.50.2 "), || nexthops)?;
        lab.nodes[0].host.run("ip", &["address", "add", "192.168.50.11/24", "dev", "eth0"])?;
        all_well(lab)
    });
}

#[test]
fn a_node_that_moves_to_another_interface_takes_its_mtu() {
    cluster(2, |lab| {
        let _responders = pods(lab)?;
        let host = lab.nodes[0].host.clone();
        let addresses = membership::underlay(1);
        for address in &addresses {
            host.run("ip", &["address", "delete", &address.to_string(), "dev", "eth0"])?;
        }
        host.run("ip", &["link", "set", "eth0", "down"])?;
        lab.plug(&lab.nodes[0], "eth1", &addresses)?;
        host.run("ip", &["link", "set", "eth1", "mtu", "1420"])?;
        eventually(SOON, || {
            let link = host.run("ip", &["link", "show", "podwire.1"])?;
            check(link.contains("mtu 1370 "), || link)
        })?;
        all_well(lab)
    });
}

#[test]
fn the_underlay_is_the_interface_with_the_nodes_address_and_not_that_of_the_default_route() {
    scene(2, |lab| {
        // As in a machine of vagrant: the way out is another interface, with the same address on each of them.
        for node in &lab.nodes {
            lab.plug(node, "eth1", &["10.0.2.15/24".parse().unwrap()])?;
            node.host.run("ip", &["link", "set", "eth1", "mtu", "1300"])?;
            node.host.run("ip", &["route", "replace", "default", "via", "10.0.2.2", "dev", "eth1"])?;
        }
        lab.start()?;
        let _responders = pods(lab)?;
        let link = lab.nodes[0].host.run("ip", &["link", "show", "podwire.1"])?;
        check(link.contains("mtu 1450 "), || link)?;
        all_well(lab)
    });
}

#[test]
fn a_configured_interface_is_used_and_the_address_must_be_the_nodes_own() {
    scene(1, |lab| {
        let host = lab.nodes[0].host.clone();
        // The address is on the loopback device, as where every link is announced by a routing daemon.
        host.run("ip", &["address", "add", "192.168.99.1/32", "dev", "lo"])?;
        host.run("ip", &["link", "set", "eth0", "mtu", "1400"])?;
        let mut membership = Membership::of([1]);
        membership.nodes[0].1 = [192, 168, 99, 1].into();
        lab.write(&membership)?;
        lab.nodes[0].arguments = vec!["--interface".into(), "eth7".into()];
        lab.nodes[0].start()?;
        let daemon = lab.nodes[0].daemon.as_ref().ok_or("no daemon")?;
        daemon.wait_for("there is no interface eth7 (--interface): see `ip link`", SOON)?;
        lab.nodes[0].arguments = vec!["--interface".into(), "eth0".into()];
        lab.nodes[0].daemon = None;
        lab.nodes[0].start()?;
        lab.nodes[0].wait_ready()?;
        check(lab.nodes[0].configuration()?["mtu"] == 1350, || "the MTU is not that of eth0".into())?;
        host.run("ip", &["address", "delete", "192.168.99.1/32", "dev", "lo"])?;
        let daemon = lab.nodes[0].daemon.as_ref().ok_or("no daemon")?;
        daemon.wait_for("this node's address 192.168.99.1 is on none of its interfaces", SOON).map(drop)
    });
}

#[test]
fn a_change_of_a_pod_cidr_is_followed_and_old_pods_stay_reachable_on_their_node() {
    cluster(2, |lab| {
        let near = lab.nodes[0].add_pod("near")?.host.clone();
        lab.nodes[1].add_pod("old")?;
        let _old = Responder::start(&lab.nodes[1].pod("old").host)?;
        let old_mac = mac(&lab.nodes[1].host)?;
        let mut membership = Membership::of(1..=2);
        membership.nodes[1].2 = networks(["10.244.22.0/24", "fd00:10:244:22::/64"]);
        lab.write(&membership)?;
        eventually(SOON, || {
            let configuration = lab.nodes[1].configuration()?.to_string();
            check(configuration.contains("10.244.22.0/24"), || configuration)
        })?;
        let new_mac = mac(&lab.nodes[1].host)?;
        check(old_mac != new_mac, || "the device has kept its address".into())?;
        lab.nodes[1].add_pod("new")?;
        let new = lab.nodes[1].pod("new");
        let _new = Responder::start(&new.host)?;
        for (like, range) in FAMILIES.into_iter().zip(membership.nodes[1].2.clone()) {
            let (own, to) = (lab.nodes[0].pod("near").address(like), new.address(like));
            check(range.contains(to), || format!("{to} is not in {range}"))?;
            eventually(SOON, || reaches(&near, own, to))?;
            // The old pod is reached on its node.
            reaches(&new.host, to, lab.nodes[1].pod("old").address(like))?;
        }
        nothing_of(&lab.nodes[0].host, &["10.244.2.0", "fd00:10:244:2::", &old_mac])?;
        let unreachable = lab.nodes[1].host.run("ip", &["route", "show", "type", "unreachable"])?;
        check(unreachable.trim() == "unreachable 10.244.22.0/24 proto 112", || format!("{unreachable:?}"))
    });
}

/// The link-layer address of a node's device.
fn mac(host: &Host) -> Outcome<String> {
    let link = host.run("ip", &["-brief", "link", "show", "podwire.1"])?;
    link.split_whitespace().nth(2).map(str::to_owned).ok_or(link.clone())
}

#[test]
fn a_node_with_several_pod_cidrs_is_reached_in_all_of_them() {
    cluster(2, |lab| {
        lab.nodes[0].add_pod("near")?;
        // Room for one pod, and the next one is of the second range.
        let mut membership = Membership::of(1..=2);
        membership.nodes[1].2 = ["10.244.2.0/30", "fd00:10:244:2::/64", "10.244.77.0/24", "fd00:10:244:77::/64"]
            .map(|text| text.parse().unwrap())
            .to_vec();
        lab.write(&membership)?;
        eventually(SOON, || {
            let configuration = lab.nodes[1].configuration()?.to_string();
            check(configuration.contains("10.244.77.0/24"), || configuration)
        })?;
        let mut responders = Vec::new();
        for name in ["one", "two"] {
            responders.push(Responder::start(&lab.nodes[1].add_pod(name)?.host)?);
        }
        let second: IpAddr = lab.nodes[1].pod("two").address(FAMILIES[0]);
        check(membership.nodes[1].2[2].contains(second), || format!("the second pod has {second}"))?;
        let near = lab.nodes[0].pod("near");
        for like in FAMILIES {
            for name in ["one", "two"] {
                let to = lab.nodes[1].pod(name).address(like);
                eventually(SOON, || reaches(&near.host, near.address(like), to))?;
            }
        }
        let nexthops = lab.nodes[0].host.run("ip", &["nexthop"])?;
        check(nexthops.lines().count() == 1, || nexthops)
    });
}

#[test]
fn a_node_that_returns_with_another_name_or_address_leaves_no_stale_state() {
    cluster(3, |lab| {
        let _responders = pods(lab)?;
        // Node 3 is taken away and comes back as another: the same pod CIDRs at another address, and another name.
        let host = lab.nodes[2].host.clone();
        host.run("ip", &["address", "add", "192.168.50.33/24", "dev", "eth0"])?;
        let mut membership = Membership::of(1..=2);
        lab.write(&membership)?;
        nothing_of(&lab.nodes[0].host, &["10.244.3.0", "fd00:10:244:3::", "192.168.50.3 "])?;
        let (_, _, cidrs) = Membership::of([3]).nodes.remove(0);
        membership.nodes.push(("born-again".into(), [192, 168, 50, 33].into(), cidrs));
        lab.write(&membership)?;
        lab.nodes[2].daemon = None;
        let (host, program) = (lab.nodes[2].host.clone(), podwire_tests::lab::program("podwired"));
        let mut command = std::process::Command::new(program.map_err(|error| error.to_string())?);
        command.args(["run", "--node-name", "born-again", "--nodes", "/run/lab/nodes.toml"]);
        lab.nodes[2].daemon = Some(host.start("podwired of born-again", &mut command)?);
        lab.nodes[2].wait_ready()?;
        all_well(lab)?;
        nothing_of(&lab.nodes[0].host, &["192.168.50.3 "])
    });
}

#[test]
fn two_nodes_never_share_a_pod_cidr() {
    cluster(2, |lab| {
        let mut membership = Membership::of(1..=3);
        membership.nodes[2].2 = membership.nodes[1].2.clone();
        lab.write(&membership)?;
        for node in &lab.nodes {
            let daemon = node.daemon.as_ref().ok_or("no daemon")?;
            daemon.wait_for("node node-3: pod CIDR 10.244.2.0/24 overlaps 10.244.2.0/24 of node node-2", SOON)?;
        }
        let nexthops = lab.nodes[0].host.run("ip", &["nexthop"])?;
        check(nexthops.contains("dst 192.168.50.2 ") && nexthops.lines().count() == 1, || nexthops)
    });
}

#[test]
fn packets_arrive_on_a_node_with_a_strict_rp_filter_on_all_devices() {
    scene(2, |lab| {
        for node in &lab.nodes {
            node.host.run("sh", &["-c", "echo 1 | tee /proc/sys/net/ipv4/conf/*/rp_filter"])?;
        }
        lab.start()?;
        let _responders = pods(lab)?;
        all_well(lab)?;
        let file = "/proc/sys/net/ipv4/conf/podwire.1/rp_filter";
        lab.nodes[0].host.run("sh", &["-c", &format!("echo 1 > {file}")])?;
        eventually(SOON, || {
            let found = lab.nodes[0].host.run("cat", &[file])?;
            check(found == "2", || format!("rp_filter is {found}"))
        })
    });
}
