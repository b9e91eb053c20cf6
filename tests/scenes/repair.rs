//! Whatever anybody breaks comes back, and what is not ours is left alone.

use podwire_tests::lab::exchange::Responder;
use podwire_tests::lab::host::Host;
use podwire_tests::lab::{SOON, eventually};

use crate::expect::{FAMILIES, Outcome, check, cluster, reaches, same, scene, state};

/// What breaks a node: programs with their arguments.
const BREAKS: [&[&[&str]]; 23] = [
    &[&["ip", "link", "delete", "podwire.1"]],
    &[&["ip", "link", "set", "podwire.1", "down"]],
    &[&["ip", "link", "set", "podwire.1", "address", "02:00:00:00:00:01"]],
    &[&["ip", "link", "set", "podwire.1", "mtu", "1300"]],
    &[&["ip", "address", "flush", "dev", "podwire.1"]],
    &[&["ip", "address", "add", "10.9.9.9/24", "dev", "podwire.1"]],
    &[&["ip", "route", "delete", "10.244.2.0/24"], &["ip", "-6", "route", "delete", "fd00:10:244:2::/64"]],
    &[
        &["ip", "route", "delete", "blackhole", "10.244.0.0/16"],
        &["ip", "route", "delete", "unreachable", "10.244.1.0/24"],
    ],
    &[&["ip", "route", "replace", "blackhole", "10.244.2.0/24", "proto", "112"]],
    &[&["ip", "nexthop", "flush"]],
    &[&["ip", "neighbour", "flush", "dev", "podwire.1", "nud", "permanent"]],
    &[&["bridge", "vni", "delete", "vni", "1", "dev", "podwire.1"]],
    &[&["bridge", "vni", "add", "vni", "2", "dev", "podwire.1"]],
    &[&["ip", "route", "add", "10.244.2.0/24", "dev", "eth0", "proto", "112", "metric", "50"]],
    &[&["ip", "-6", "route", "add", "fd00:10:244:2::/64", "dev", "eth0", "proto", "112", "metric", "50"]],
    &[&["sh", "-c", "ip nexthop replace $(ip nexthop | sed 's/ttl 64 tos 0/ttl 1/; s/scope link//')"]],
    &[&["sh", "-c", "echo 0 > /proc/sys/net/ipv4/ip_forward"]],
    &[&["sh", "-c", "echo 0 > /proc/sys/net/ipv6/conf/all/forwarding"]],
    &[&["nft", "flush", "ruleset"]],
    &[&["nft", "add", "chain", "inet", "podwire", "postrouting", "{ policy drop; }"]],
    &[&["nft", "add", "table", "inet", "podwire", "{ flags dormant; }"]],
    &[&["nft", "delete chain inet podwire postrouting; add chain inet podwire postrouting"]],
    &[&["nft", "insert", "rule", "inet", "podwire", "postrouting", "masquerade"]],
];

fn run(host: &Host, commands: &[&[&str]]) -> Outcome {
    commands.iter().try_for_each(|command| host.run(command[0], &command[1..]).map(drop))
}

#[test]
fn whatever_is_broken_is_as_before_and_traffic_flows() {
    cluster(2, |lab| {
        let _far = Responder::start(&lab.nodes[1].add_pod("far")?.host)?;
        lab.nodes[0].add_pod("near")?;
        let host = &lab.nodes[0].host;
        let whole = state(host)?;
        for broken in BREAKS {
            run(host, broken)?;
            let repaired = eventually(SOON, || same("the node", &without_index(&whole), &without_index(&state(host)?)));
            repaired.map_err(|why| format!("after {broken:?}: {why}"))?;
            let (near, far) = (lab.nodes[0].pod("near"), lab.nodes[1].pod("far"));
            for like in FAMILIES {
                let reached = reaches(&near.host, near.address(like), far.address(like));
                reached.map_err(|why| format!("after {broken:?}: {why}"))?;
            }
        }
        Ok(())
    });
}

/// A device that was made anew has another index, and is last in every list.
fn without_index(state: &serde_json::Value) -> serde_json::Value {
    let mut state = state.clone();
    for list in ["links", "addresses"] {
        for entry in state[list].as_array_mut().into_iter().flatten() {
            entry.as_object_mut().into_iter().for_each(|fields| _ = fields.remove("ifindex"));
        }
        if let Some(entries) = state[list].as_array_mut() {
            entries.sort_by_key(|entry| entry["ifname"].to_string());
        }
    }
    state
}

#[test]
fn strangers_in_the_same_namespace_are_left_alone() {
    cluster(2, |lab| {
        let host = &lab.nodes[0].host;
        let strangers: [&[&str]; 8] = [
            &["ip", "route", "add", "10.244.2.128/25", "via", "192.168.50.254", "proto", "static"],
            &["ip", "route", "add", "172.16.0.0/12", "via", "192.168.50.254", "proto", "bird"],
            &["ip", "-6", "route", "add", "fd00:99::/64", "via", "fd00:192:168:50::254", "proto", "static"],
            // An id of ours, another owner.
            &["ip", "nexthop", "add", "id", "11200002", "via", "192.168.50.254", "dev", "eth0", "proto", "bird"],
            &["ip", "route", "add", "172.15.0.0/16", "nhid", "11200002", "proto", "bird"],
            &["nft", "add", "table", "inet", "stranger"],
            &["nft", "add", "chain", "inet", "podwire", "theirs"],
            &["ip", "neighbour", "add", "192.168.50.77", "lladdr", "02:00:00:00:00:77", "dev", "eth0"],
        ];
        run(host, &strangers)?;
        let before = state(host)?;
        // Something of ours is broken, so that a pass with changes is made; and a node joins.
        run(
            host,
            &[&["ip", "link", "delete", "podwire.1"], &["nft", "flush", "chain", "inet", "podwire", "postrouting"]],
        )?;
        eventually(SOON, || same("the node", &without_index(&before), &without_index(&state(host)?)))?;
        lab.write(&podwire_tests::lab::membership::Membership::of(1..=3))?;
        eventually(SOON, || {
            let nexthops = host.run("ip", &["nexthop"])?;
            crate::expect::check(nexthops.contains("id 11200003"), || nexthops)
        })?;
        lab.write(&podwire_tests::lab::membership::Membership::of(1..=2))?;
        eventually(SOON, || same("the node", &without_index(&before), &without_index(&state(host)?)))
    });
}

#[test]
fn a_strangers_route_where_ours_should_be_is_named_and_not_replaced() {
    scene(2, |lab| {
        let host = lab.nodes[0].host.clone();
        let strangers: [&[&str]; 3] = [
            &["ip", "link", "add", "cni0", "type", "bridge"],
            &["ip", "address", "add", "10.244.1.1/24", "dev", "cni0"],
            &["ip", "link", "set", "cni0", "up"],
        ];
        run(&host, &strangers)?;
        run(
            &host,
            &[&["ip", "-6", "route", "add", "fd00:10:244:2::/64", "via", "fd00:192:168:50::2", "proto", "static"]],
        )?;
        lab.nodes[0].start()?;
        let daemon = lab.nodes[0].daemon.as_ref().ok_or("no daemon")?;
        for route in ["unreachable 10.244.1.0/24", "fd00:10:244:2::/64 nhid 11200001"] {
            daemon.wait_for(&format!("add route {route}: File exists (17)"), SOON)?;
        }
        for (family, route) in [("-4", "10.244.1.0/24 dev cni0 proto kernel"), ("-6", "fd00:10:244:2::/64 via ")] {
            let routes = host.run("ip", &[family, "route"])?;
            check(routes.contains(route), || format!("{route} is not in {routes}"))?;
        }
        let written = host.enter(|| std::path::Path::new("/etc/cni/net.d/10-podwire.conflist").exists());
        check(!written, || "a conflist was written although not all is as it should be".into())?;
        run(&host, &[&["ip", "link", "delete", "cni0"], &["ip", "-6", "route", "delete", "fd00:10:244:2::/64"]])?;
        lab.nodes[0].wait_ready()
    });
}

#[test]
fn a_default_route_that_was_advertised_outlives_the_forwarding() {
    scene(1, |lab| {
        let host = lab.nodes[0].host.clone();
        host.run("sh", &["-c", "echo 1 > /proc/sys/net/ipv6/conf/eth0/accept_ra"])?;
        let default =
            ["ip", "-6", "route", "add", "default", "via", "fe80::1", "dev", "eth0", "proto", "ra", "metric", "512"];
        run(&host, &[&default])?;
        lab.nodes[0].start()?;
        lab.nodes[0].wait_ready()?;
        let found = host.run("cat", &["/proc/sys/net/ipv6/conf/eth0/accept_ra"])?;
        check(found == "2", || format!("accept_ra of eth0 is {found}"))?;
        let forwarding = host.run("cat", &["/proc/sys/net/ipv6/conf/all/forwarding"])?;
        check(forwarding == "1", || format!("forwarding is {forwarding}"))
    });
}

#[test]
fn a_nexthop_of_ours_that_was_made_into_another_goes_and_traffic_flows() {
    cluster(2, |lab| {
        let _far = Responder::start(&lab.nodes[1].add_pod("far")?.host)?;
        lab.nodes[0].add_pod("near")?;
        let host = &lab.nodes[0].host;
        run(host, &[&["ip", "nexthop", "replace", "id", "11200001", "via", "fe80::9", "dev", "eth0", "proto", "112"]])?;
        eventually(SOON, || {
            let nexthops = host.run("ip", &["nexthop"])?;
            let one = nexthops.lines().count() == 1 && nexthops.contains("dst 192.168.50.2 ");
            check(one, || nexthops)
        })?;
        let (near, far) = (lab.nodes[0].pod("near"), lab.nodes[1].pod("far"));
        let reach = |like| eventually(SOON, || reaches(&near.host, near.address(like), far.address(like)));
        FAMILIES.into_iter().try_for_each(reach)
    });
}

#[test]
fn somebody_elses_device_of_our_name_is_named_and_left() {
    scene(1, |lab| {
        let host = lab.nodes[0].host.clone();
        run(&host, &[&["ip", "link", "add", "podwire.1", "type", "bridge"]])?;
        lab.nodes[0].start()?;
        let daemon = lab.nodes[0].daemon.as_ref().ok_or("no daemon")?;
        daemon.wait_for("device podwire.1 is a bridge of somebody else's: rename or remove it", SOON)?;
        let link = host.run("ip", &["-d", "link", "show", "podwire.1"])?;
        check(link.contains("bridge"), || link)?;
        run(&host, &[&["ip", "link", "delete", "podwire.1"]])?;
        lab.nodes[0].wait_ready()
    });
}
