//! The overlay between nodes: its layout in the kernel, and that packets go where they should and nowhere else.

use podwire_tests::lab::exchange::{Responder, exchange};
use podwire_tests::lab::membership::{self, Membership};
use podwire_tests::lab::scene::{FAMILIES, Outcome, check, cluster, field, json as look, reaches, scene};
use podwire_tests::lab::{Lab, SOON, eventually, outside_address};
use serde_json::{Value, json};

/// Names of the pods: one on each node.
pub(crate) fn pods(lab: &mut Lab) -> Outcome<Vec<Responder>> {
    let mut responders = Vec::new();
    for node in &mut lab.nodes {
        let name = format!("pod-{}", node.number);
        responders.push(Responder::start(&node.add_pod(&name)?.host)?);
    }
    Ok(responders)
}

/// Every pod to every pod, both families, no translation; and each node to each pod on another node.
pub(crate) fn everybody_reaches_everybody(lab: &Lab) -> Outcome {
    let all: Vec<_> = lab.nodes.iter().flat_map(|node| node.pods.iter().map(move |pod| (node, pod))).collect();
    for (place, like) in FAMILIES.into_iter().enumerate() {
        for (node, from) in &all {
            for (elsewhere, to) in &all {
                reaches(&from.host, from.address(like), to.address(like))?;
                if node.number == elsewhere.number {
                    exchange(&node.host, to.address(like))?;
                } else {
                    let own = membership::pod_cidrs(node.number)[place].network();
                    reaches(&node.host, own, to.address(like))?;
                }
            }
        }
    }
    Ok(())
}

#[test]
fn the_layout_is_one_device_and_one_nexthop_per_peer() {
    cluster(3, |lab| {
        let host = &lab.nodes[0].host;
        let device = &look(host, "ip", &["-d", "-j", "link", "show", "podwire.1"])?[0];
        let data = &device["linkinfo"]["info_data"];
        check(device["mtu"] == 1450 && device["operstate"] == "UNKNOWN", || device.to_string())?;
        check(data["external"] == true && data["port"] == 8472 && data["learning"] == false, || data.to_string())?;
        check(data["udp_zero_csum6_rx"] == true, || data.to_string())?;
        for (setting, value) in [
            ("ipv6/conf/podwire.1/disable_ipv6", "0"),
            ("ipv6/conf/podwire.1/accept_ra", "0"),
            ("ipv6/conf/podwire.1/accept_redirects", "0"),
            ("ipv4/conf/podwire.1/accept_redirects", "0"),
        ] {
            let found = host.run("cat", &[&format!("/proc/sys/net/{setting}")])?;
            check(found == value, || format!("{setting} is {found}"))?;
        }
        let vnis = host.run("bridge", &["-j", "vni", "show", "dev", "podwire.1"])?;
        let vnis: Value = serde_json::from_str(&vnis).map_err(|error| format!("{error}: {vnis}"))?;
        check(vnis[0]["vnis"] == json!([{"vni": 1}]), || format!("accepted networks: {vnis}"))?;

        // In text: the JSON has the keys `id` and `dst` twice, once for the tunnel.
        let nexthops = host.run("ip", &["nexthop"])?;
        for (id, number) in [(11_200_001, 2), (11_200_002, 3)] {
            let line = format!("id {id}  encap ip id 1 src 192.168.50.1 dst 192.168.50.{number} ttl 64 ");
            check(nexthops.contains(&line), || format!("no {line} in {nexthops}"))?;
        }
        check(nexthops.lines().count() == 2, || nexthops)?;
        for (family, own, cluster, peers) in [
            ("-4", "10.244.1.0/24", "10.244.0.0/16", ["10.244.2.0/24", "10.244.3.0/24"]),
            ("-6", "fd00:10:244:1::/64", "fd00:10:244::/48", ["fd00:10:244:2::/64", "fd00:10:244:3::/64"]),
        ] {
            let routes = host.run("ip", &[family, "route", "show", "proto", "112"])?;
            let mut wanted = vec![format!("unreachable {own} "), format!("blackhole {cluster} ")];
            wanted
                .extend(peers.into_iter().zip([11_200_001, 11_200_002]).map(|(peer, id)| format!("{peer} nhid {id} ")));
            for start in &wanted {
                check(routes.lines().any(|route| route.starts_with(start)), || format!("no {start}in {routes}"))?;
            }
            // And one to the pods' IPv4 gateway.
            let count = if family == "-4" { 5 } else { 4 };
            check(routes.lines().count() == count, || routes)?;
        }
        let addresses = look(host, "ip", &["-j", "address", "show", "podwire.1"])?[0]["addr_info"].clone();
        let found: Vec<_> = field(&addresses, "local");
        check(found == ["10.244.1.0", "fd00:10:244:1::"], || addresses.to_string())?;
        for (path, value) in [("ipv4/ip_forward", "1"), ("ipv6/conf/all/forwarding", "1")] {
            let found = host.run("cat", &[&format!("/proc/sys/net/{path}")])?;
            check(found == value, || format!("{path} is {found}"))?;
        }
        Ok(())
    });
}

#[test]
fn every_pod_reaches_every_pod_over_either_underlay_without_nat() {
    for underlay in FAMILIES {
        scene(3, |lab| {
            let mut membership = Membership::of(1..=3);
            for (number, node) in (1..).zip(&mut membership.nodes) {
                node.1 = membership::underlay_address(number, underlay);
            }
            lab.write(&membership)?;
            lab.start()?;
            let _responders = pods(lab)?;
            everybody_reaches_everybody(lab)
        });
    }
}

#[test]
fn a_node_with_ipv6_disabled_has_both_families_on_the_overlay() {
    scene(2, |lab| {
        for node in &lab.nodes {
            node.host.run("sh", &["-c", "echo 1 > /proc/sys/net/ipv6/conf/default/disable_ipv6"])?;
        }
        lab.start()?;
        let _responders = pods(lab)?;
        let (from, to) = (lab.nodes[0].pod("pod-1"), lab.nodes[1].pod("pod-2"));
        FAMILIES.into_iter().try_for_each(|like| reaches(&from.host, from.address(like), to.address(like)))
    });
}

#[test]
fn a_packet_as_large_as_the_pod_mtu_arrives_unfragmented() {
    for (underlay, mtu) in FAMILIES.into_iter().zip([1450, 1430]) {
        scene(2, |lab| {
            let mut membership = Membership::of(1..=2);
            for (number, node) in (1..).zip(&mut membership.nodes) {
                node.1 = membership::underlay_address(number, underlay);
            }
            lab.write(&membership)?;
            lab.start()?;
            let _responders = pods(lab)?;
            let (from, to) = (lab.nodes[0].pod("pod-1"), lab.nodes[1].pod("pod-2"));
            for (like, headers) in FAMILIES.into_iter().zip([28, 48]) {
                let size = (mtu - headers).to_string();
                let address = to.address(like).to_string();
                // Not to be fragmented by anybody on the way.
                let whole = ["-c", "1", "-W", "1", "-M", "do", "-s", &size, &address];
                eventually(SOON, || from.host.run("ping", &whole))?;
            }
            Ok(())
        });
    }
}

#[test]
fn a_pod_leaves_the_cluster_with_its_nodes_address_and_reaches_nodes_too() {
    cluster(2, |lab| {
        let _responders = pods(lab)?;
        let _outside = Responder::start(&lab.outside)?;
        let _node = Responder::start(&lab.nodes[1].host)?;
        let pod = lab.nodes[0].pod("pod-1");
        for like in FAMILIES {
            let own = membership::underlay_address(1, like);
            reaches(&pod.host, own, outside_address(like))?;
            reaches(&pod.host, own, membership::underlay_address(2, like))?;
        }
        Ok(())
    });
}

#[test]
fn packets_to_an_unused_pod_address_are_rejected_and_never_leave_the_cluster() {
    cluster(2, |lab| {
        pods(lab)?;
        let watch = lab.outside.run("nft", &["add", "table", "inet", "watch"]).and_then(|_| {
            let chain = "{ type filter hook prerouting priority raw; }";
            lab.outside.run("nft", &["add", "chain", "inet", "watch", "in", chain])?;
            for family in ["ip daddr 10.244.0.0/16", "ip6 daddr fd00:10:244::/48"] {
                let rule =
                    ["add", "rule", "inet", "watch", "in"].into_iter().chain(family.split(' ')).chain(["counter"]);
                lab.outside.run("nft", &rule.collect::<Vec<_>>())?;
            }
            Ok(())
        });
        watch?;
        let pod = lab.nodes[0].pod("pod-1");
        for (unused, why) in [
            ("10.244.1.77", "Destination Host Unreachable"),
            ("fd00:10:244:1::77", "unreachable"),
            // Of no node: dropped.
            ("10.244.77.7", "100% packet loss"),
            ("fd00:10:244:77::7", "100% packet loss"),
        ] {
            let answer = pod.host.run("ping", &["-c", "1", "-W", "1", unused]);
            let said = answer.err().ok_or_else(|| format!("{unused} answers"))?;
            check(said.contains(why), || format!("{unused}: {said}"))?;
        }
        let counters = lab.outside.run("nft", &["list", "table", "inet", "watch"])?;
        check(counters.matches("counter packets 0 bytes 0").count() == 2, || counters)
    });
}
