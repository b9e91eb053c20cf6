//! Host ports, masquerade and the deletion of flows by the rules alone, without the plugin: pods made by hand, real sockets,
//! both families.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, UdpSocket};
use std::time::{Duration, Instant};

use podwire_conf::rules::host_ports::{Mapping, Protocol};
use podwire_conf::rules::{masquerade, node, pods};
use podwire_kernel::conntrack;
use podwire_kernel::family::IpVersion;
use podwire_kernel::nft;
use podwire_tests::lab::host::Host;
use podwire_tests::lab::membership::{pod_cidrs, underlay_address};
use podwire_tests::lab::scene::{FAMILIES, Outcome, check, cluster};
use podwire_tests::lab::{SOON, UPLINK, eventually, outside_address};

use super::hand_made::{
    HOST_PORT, LOOPBACK, POD_PORT, Pod, Server, answers, ensure, let_loopback_through, netfilter, node_address, play,
    remove_elements, second_address, tcp, udp, udp_socket, way_back,
};

#[test]
fn a_host_port_leads_to_its_pod_from_everywhere() {
    play(|node, outside, [pod, neighbour]| {
        let _server = pod.serve()?;
        // Who is not meant: other hosts' ports of the same number, and ::1, which has no way to a pod.
        let _outside = Server::start(outside, "outside", Ipv6Addr::UNSPECIFIED, HOST_PORT)?;
        let _own = Server::start(node, "node", Ipv6Addr::LOCALHOST, HOST_PORT)?;
        ensure(node, &pod.host_ports())?;
        for family in FAMILIES {
            let to = node_address(family);
            answers(outside, to, "pod-5", outside_address(family))?;
            answers(outside, second_address(family), "pod-5", outside_address(family))?;
            answers(node, to, "pod-5", to)?;
            answers(&pod.host, to, "pod-5", to)?;
            answers(&neighbour.host, to, "pod-5", neighbour.address(family))?;
            answers(node, outside_address(family), "outside", to)?;
            way_back(outside, neighbour.address(family))?;
            answers(&neighbour.host, outside_address(family), "outside", neighbour.address(family))?;
        }
        let seen = tcp(node, LOOPBACK, HOST_PORT)?;
        check(seen == format!("pod-5 {}", node_address(LOOPBACK)), || format!("by 127.0.0.1: {seen}"))?;
        answers(node, Ipv6Addr::LOCALHOST.into(), "node", Ipv6Addr::LOCALHOST.into())?;
        // And back again.
        check(remove_elements(node, &pod.host_ports())? == 6, || "not all was taken away".into())?;
        for family in FAMILIES {
            let refused = tcp(outside, node_address(family), HOST_PORT).unwrap_err();
            check(refused.contains("refused"), || refused)?;
        }
        Ok(())
    });
}

#[test]
fn a_host_port_of_one_address_has_precedence_over_one_of_all() {
    play(|node, outside, [wild, specific]| {
        let _servers = [wild.serve()?, specific.serve()?];
        for family in FAMILIES {
            let (first, second, client) = (node_address(family), second_address(family), outside_address(family));
            let of_one = specific.host_port(family, Some(second));
            ensure(node, &of_one)?;
            answers(outside, second, "pod-6", client)?;
            let refused = tcp(outside, first, HOST_PORT).unwrap_err();
            check(refused.contains("refused"), || refused)?;
            ensure(node, &wild.host_port(family, None))?;
            answers(outside, second, "pod-6", client)?;
            answers(outside, first, "pod-5", client)?;
            remove_elements(node, &of_one)?;
            answers(outside, second, "pod-5", client)?;
        }
        Ok(())
    });
}

#[test]
fn an_older_flow_follows_the_host_port_once_its_conntrack_entry_is_deleted() {
    play(|node, outside, [before, after]| {
        let _servers = [before.serve()?, after.serve()?];
        for family in FAMILIES {
            let to = node_address(family);
            let (old, new) = (before.host_port(family, None), after.host_port(family, None));
            let filter = conntrack::Filter {
                version: IpVersion::of(family),
                protocol: Protocol::Udp.number(),
                destination: None,
                destination_port: Some(HOST_PORT),
                reply_source: None,
            };
            let by_pod =
                conntrack::Filter { destination_port: None, reply_source: Some(before.address(family)), ..filter };
            let by_address = conntrack::Filter { destination: Some(to), ..filter };
            let forgets = [conntrack::forget, conntrack::forget_one_by_one];
            let ways = [filter, by_pod, by_address].map(|what| forgets.map(|forget| (what, forget)));
            for (number, (what, forget)) in ways.into_iter().flatten().enumerate() {
                ensure(node, &old)?;
                let (mine, bystander) = (udp_socket(outside, to)?, udp_socket(outside, to)?);
                let is = |who: &str| format!("{who} {}", outside_address(family));
                let found = udp(&mine, to)?;
                check(found == is("pod-5"), || found)?;
                // A flow that has nothing to do with it.
                bystander.send_to(b"?", (to, HOST_PORT + 1)).map_err(|error| error.to_string())?;
                remove_elements(node, &old)?;
                ensure(node, &new)?;
                let found = udp(&mine, to)?;
                check(found == is("pod-5"), || format!("{found}: there is nothing to forget"))?;
                netfilter(node, |socket| forget(socket, &what))?;
                let found = udp(&mine, to)?;
                check(found == is("pod-6"), || format!("{found}: not forgotten in way {number}"))?;
                let other = conntrack::Filter { destination_port: Some(HOST_PORT + 1), ..filter };
                let left = netfilter(node, |socket| conntrack::list(socket, &other))?;
                check(!left.is_empty(), || "a flow to another port was forgotten".into())?;
                netfilter(node, |socket| conntrack::forget(socket, &other))?;
                let left = netfilter(node, |socket| conntrack::list(socket, &other))?;
                check(left.is_empty(), || format!("not forgotten: {left:?}"))?;
                remove_elements(node, &new)?;
                netfilter(node, |socket| conntrack::forget(socket, &filter))?;
            }
        }
        Ok(())
    });
}

#[test]
fn services_on_the_nodes_loopback_cannot_be_reached() {
    play(|node, outside, [pod, _]| {
        let _own = Server::start(node, "node", LOOPBACK, 9)?;
        // On whoever asks, 127.0.0.1 is made to be somewhere else.
        let ip = |host: &Host, line: &str| host.run("ip", &line.split(' ').collect::<Vec<_>>()).map(drop);
        for (host, device, gateway) in
            [(&pod.host, "eth0", "169.254.1.1".to_owned()), (outside, UPLINK, node_address(LOOPBACK).to_string())]
        {
            let_loopback_through(host, device)?;
            ip(host, "address del 127.0.0.1/8 dev lo")?;
            ip(host, &format!("route add 127.0.0.1 via {gateway} dev {device} onlink"))?;
        }
        let unreached = |from: &Host| {
            let answer = tcp(from, LOOPBACK, 9);
            check(answer.is_err(), || format!("{} has reached the node's own: {answer:?}", from.name))
        };
        ensure(node, &pod.host_ports())?;
        unreached(&pod.host)?;
        unreached(outside)?;
        // That it is the guard which keeps the pod away, and the missing permission the neighbour.
        node.run("nft", &["flush", "chain", "inet", "podwire", "loopback-guard"])?;
        let_loopback_through(node, UPLINK)?;
        tcp(&pod.host, LOOPBACK, 9)?;
        tcp(outside, LOOPBACK, 9)?;
        check(ensure(node, &[])?.table, || "a chain without its rule passes".into())?;
        unreached(&pod.host)
    });
}

#[test]
fn pods_that_ask_for_masquerade_leave_with_the_nodes_address() {
    play(|node, outside, [pod, neighbour]| {
        let _servers = [neighbour.serve()?];
        let _outside = Server::start(outside, "outside", Ipv6Addr::UNSPECIFIED, HOST_PORT)?;
        let long = "n".repeat(253);
        for network in ["podwire", &long] {
            let table = pods::table(vec![masquerade::chain(network, &pod_cidrs(1))]);
            let elements: Vec<_> =
                FAMILIES.iter().map(|family| masquerade::element(network, pod.address(*family), &pod.device)).collect();
            let done = netfilter(node, |socket| nft::ensure(socket, &table, &elements))?;
            check(done.table && done.elements == 2, || format!("{done:?}"))?;
            for family in FAMILIES {
                answers(&pod.host, outside_address(family), "outside", node_address(family))?;
                let seen = tcp(&pod.host, neighbour.address(family), POD_PORT)?;
                check(seen == format!("pod-6 {}", pod.address(family)), || format!("pod to pod: {seen}"))?;
                // One that has not asked: outside there is a way back to it for this once.
                way_back(outside, neighbour.address(family))?;
                answers(&neighbour.host, outside_address(family), "outside", neighbour.address(family))?;
            }
            let done = netfilter(node, |socket| nft::ensure(socket, &table, &elements))?;
            check(done == nft::Ensured::default(), || format!("{network}: {done:?}"))?;
        }
        let list = node.run("nft", &["list", "chain", "inet", "podwire", "masquerade-podwire"])?;
        for line in ["ip daddr 10.244.1.0/24 return", "ip daddr 224.0.0.0/4 return", "ip6 daddr ff00::/8 return"] {
            check(list.contains(line), || format!("{line} is not in {list}"))?;
        }
        Ok(())
    });
}

/// What docker, kube-proxy and firewalld have in tables of their own, and somebody in ours.
const FOREIGN: &str = "
    table ip nat {
        chain DOCKER { iifname \"docker0\" return; }
        chain PREROUTING { type nat hook prerouting priority dstnat; fib daddr type local jump DOCKER; }
        chain POSTROUTING { type nat hook postrouting priority srcnat; oifname != \"docker0\" ip saddr 172.17.0.0/16 masquerade; }
    }
    table inet kube-proxy {
        map service-ips { type ipv4_addr . inet_proto . inet_service : verdict; }
        chain services { ip daddr . meta l4proto . th dport vmap @service-ips; }
        chain nat-prerouting { type nat hook prerouting priority dstnat; jump services; }
    }
    table inet firewalld { chain filter_INPUT { type filter hook input priority filter + 10;
        ct state established accept; }
    }
    table inet podwire {
        set theirs { type ipv4_addr; elements = { 203.0.113.1 }; }
        chain theirs { ip saddr @theirs counter accept; }
    }
";

#[test]
fn foreign_tables_and_foreign_rules_in_ours_are_kept() {
    play(|node, outside, [pod, _]| {
        let _server = pod.serve()?;
        node.enter(|| std::fs::write("/run/foreign.nft", FOREIGN)).map_err(|error| error.to_string())?;
        node.run("nft", &["-f", "/run/foreign.nft"])?;
        let look = || -> Outcome<Vec<String>> {
            let lists: [&[&str]; 5] = [
                &["list", "table", "ip", "nat"],
                &["list", "table", "inet", "kube-proxy"],
                &["list", "table", "inet", "firewalld"],
                &["list", "chain", "inet", "podwire", "theirs"],
                &["list", "set", "inet", "podwire", "theirs"],
            ];
            lists.iter().map(|list| node.run("nft", list)).collect()
        };
        let before = look()?;
        let sctp = Mapping {
            protocol: Protocol::Sctp,
            host_address: None,
            host_port: HOST_PORT,
            pod: pod.address(LOOPBACK),
            pod_port: POD_PORT,
        };
        ensure(node, &[pod.host_ports(), sctp.elements(&pod.device)].concat())?;
        for family in FAMILIES {
            answers(outside, node_address(family), "pod-5", outside_address(family))?;
        }
        let list = node.run("nft", &["list", "map", "inet", "podwire", "hostports4"])?;
        let element = format!("sctp . 8080 comment \"pwpod5\" : {} . 80", pod.address(LOOPBACK));
        check(list.contains(&element), || format!("{element} is not in {list}"))?;
        // Rules that somebody has put into a chain of ours are gone with the next use; their own are not.
        node.run("nft", &["insert", "rule", "inet", "podwire", "hostports", "accept"])?;
        check(ensure(node, &[])?.table, || "a rule too many passes".into())?;
        remove_elements(node, &pod.host_ports())?;
        let after = look()?;
        check(before == after, || format!("foreign objects were {before:#?} and are {after:#?}"))?;
        node.run("nft", &["-j", "list", "table", "inet", "podwire"]).map(drop)
    });
}

#[test]
fn the_daemon_and_the_plugin_own_different_chains_of_one_table() {
    cluster(1, |lab| {
        let node = &lab.nodes[0].host;
        let pod = Pod::new(node, 5)?;
        let clusters: Vec<_> = ["10.244.0.0/16", "fd00:10:244::/48"].iter().map(|cidr| cidr.parse().unwrap()).collect();
        let policy = node::NodeConfig {
            own: underlay_address(1, FAMILIES[0]),
            own_pod_cidrs: &pod_cidrs(1),
            cluster_cidrs: &clusters,
            vni: 1,
            port: 8472,
            plain_routes: false,
            link: None,
            accept_plain: false,
            masquerade: true,
            not_masqueraded: &[],
            refused_destinations: &[],
            // Where the kernel lets it.
            service_addresses: &[],
            fast_path: node.run("nft", &["list", "chain", "inet", "podwire", "fast-path"]).is_ok(),
        };
        let of_daemon = node::firewall(&policy, [].into_iter()).table;
        let of_plugin = pods::table(Vec::new());
        let is = |table: &nft::Table| netfilter(node, |socket| Ok(nft::read(socket, table)?.is(table)));
        check(is(&of_daemon)?, || "the daemon has made something else".into())?;
        ensure(node, &pod.host_ports())?;
        check(is(&of_daemon)? && is(&of_plugin)?, || "one has changed what is the other's".into())?;
        // Each restores what is its own, and nothing else.
        node.run("nft", &["flush", "chain", "inet", "podwire", "postrouting"])?;
        eventually(SOON, || check(is(&of_daemon)?, || "the daemon does not repair".into()))?;
        let done = ensure(node, &pod.host_ports())?;
        check(done == nft::Ensured::default(), || format!("the daemon has changed what is ours: {done:?}"))?;
        node.run("nft", &["flush", "ruleset"])?;
        eventually(SOON, || check(is(&of_daemon)?, || "the daemon does not repair".into()))?;
        check(!is(&of_plugin)?, || "nobody has made the plugin's part".into())?;
        let done = ensure(node, &pod.host_ports())?;
        check(done.table && done.elements == 6, || format!("{done:?}"))?;
        check(is(&of_daemon)? && is(&of_plugin)?, || "one has changed what is the other's".into())
    });
}

/// The time of a deletion grows with the size of the kernel's table, and not with each entry's share of user space.
#[test]
fn one_flow_among_a_hundred_thousand_is_deleted() {
    play(|node, _, [pod, _]| {
        ensure(node, &pod.host_ports())?;
        // A small machine tracks fewer.
        let most = node.run("cat", &["/proc/sys/net/netfilter/nf_conntrack_max"])?;
        let most = most.parse::<usize>().map_err(|error| format!("{most}: {error}"))?.min(200_000) / 2;
        let targets = (10_000..60_000).flat_map(|port| [2, 3].map(|last| (Ipv4Addr::new(127, 0, 0, last), port)));
        node.enter(|| -> io::Result<()> {
            let socket = UdpSocket::bind(("127.0.0.1", 0))?;
            for target in targets.take(most) {
                // A socket may report an earlier packet's rejection, and does not send then.
                while let Err(error) = socket.send_to(b"?", target) {
                    if error.kind() != io::ErrorKind::ConnectionRefused {
                        return Err(error);
                    }
                }
            }
            Ok(())
        })
        .map_err(|error| error.to_string())?;
        let filter = conntrack::Filter {
            version: IpVersion::V4,
            protocol: Protocol::Udp.number(),
            destination: None,
            destination_port: Some(10_001),
            reply_source: None,
        };
        let count = node.run("cat", &["/proc/sys/net/netfilter/nf_conntrack_count"])?;
        check(count.parse::<usize>().is_ok_and(|count| count >= most), || format!("there are only {count} entries"))?;
        let list = |filter| netfilter(node, |socket| conntrack::list(socket, filter));
        check(list(&filter)?.len() == 2, || "not two entries of a port".into())?;
        let start = Instant::now();
        netfilter(node, |socket| conntrack::forget(socket, &filter))?;
        let took = start.elapsed();
        check(list(&filter)?.is_empty(), || "not forgotten".into())?;
        check(took < Duration::from_secs(1), || format!("it took {took:?}"))?;
        let left = list(&conntrack::Filter { destination_port: None, ..filter })?.len();
        check(left >= most - 2, || format!("{left} entries are left"))
    });
}
