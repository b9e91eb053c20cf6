//! The modes of the overlay: who is reached through it, who by a plain route, and the way from one mode to another.

use std::net::IpAddr;

use podwire_tests::lab::daemon::json;
use podwire_tests::lab::membership::{self, Membership};
use podwire_tests::lab::node::Node;
use podwire_tests::lab::scene::{FAMILIES, Outcome, check, reaches, scene};
use podwire_tests::lab::stream::Stream;
use podwire_tests::lab::{Lab, SOON, eventually};

use super::connectivity::pods;

/// Where nodes find the settings: the same file on all.
const SETTINGS: &str = "/run/lab/settings.toml";

/// Writes the settings of all nodes.
pub(crate) fn settle(lab: &mut Lab, text: &str) -> Outcome {
    for node in &mut lab.nodes {
        node.arguments = vec!["--settings".into(), SETTINGS.into()];
        let written = node.host.enter(|| std::fs::write(SETTINGS, text));
        written.map_err(|error| format!("write {SETTINGS}: {error}"))?;
    }
    Ok(())
}

/// Stops a node's daemon and starts it again.
pub(crate) fn restart(node: &mut Node) -> Outcome {
    let mut daemon = node.daemon.take().ok_or("no daemon")?;
    let status = daemon.stop(SOON)?;
    check(status.success(), || format!("it ended with {status}"))?;
    node.start()?;
    node.wait_ready()
}

/// The usual membership on an underlay of one family.
pub(crate) fn membership_on(underlay: IpAddr, numbers: impl IntoIterator<Item = u16> + Clone) -> Membership {
    let mut membership = Membership::of(numbers.clone());
    for (number, node) in numbers.into_iter().zip(&mut membership.nodes) {
        node.1 = membership::underlay_address(number, underlay);
    }
    membership
}

/// Every pod to every pod, both families, without translation.
fn pods_reach_pods(lab: &Lab) -> Outcome {
    let all: Vec<_> = lab.nodes.iter().flat_map(|node| &node.pods).collect();
    for like in FAMILIES {
        for from in &all {
            all.iter().try_for_each(|to| reaches(&from.host, from.address(like), to.address(like)))?;
        }
    }
    Ok(())
}

/// Puts a node behind a router: the host outside, which everybody's default route leads to.
fn move_away(lab: &Lab, place: usize) -> Outcome {
    let router = [
        "ip address add 192.168.60.254/24 dev eth0",
        "sysctl -qw net.ipv4.ip_forward=1 net.ipv4.conf.all.send_redirects=0 net.ipv4.conf.eth0.send_redirects=0",
    ];
    router.iter().try_for_each(|line| lab.outside.run("sh", &["-c", line]).map(drop))?;
    let node = [
        "ip -4 address flush dev eth0",
        "ip address add 192.168.60.3/24 dev eth0",
        "ip route add default via 192.168.60.254",
    ];
    node.iter().try_for_each(|line| lab.nodes[place].host.run("sh", &["-c", line]).map(drop))
}

#[test]
fn auto_is_a_plain_route_to_neighbours_and_the_overlay_to_all_others() {
    scene(3, |lab| {
        move_away(lab, 2)?;
        let mut membership = Membership::of(1..=3);
        membership.nodes[2].1 = [192, 168, 60, 3].into();
        lab.write(&membership)?;
        settle(lab, "overlay = \"auto\"\n")?;
        lab.start()?;
        let _responders = pods(lab)?;
        pods_reach_pods(lab)?;
        let host = &lab.nodes[0].host;
        let nexthops = host.run("ip", &["nexthop"])?;
        for expected in [
            "via 192.168.50.2 dev eth0 scope link proto 112 onlink",
            "src 192.168.50.1 dst 192.168.50.2 ",
            "src 192.168.50.1 dst 192.168.60.3 ",
        ] {
            check(nexthops.contains(expected), || format!("{expected} is not in {nexthops}"))?;
        }
        check(nexthops.lines().count() == 3, || nexthops.clone())?;
        // IPv6 pods have no plain route over IPv4.
        for (family, destination, device) in [
            ("-4", "10.244.2.0/24", "dev eth0"),
            ("-4", "10.244.3.0/24", "dev podwire.1"),
            ("-6", "fd00:10:244:2::/64", "dev podwire.1"),
            ("-6", "fd00:10:244:3::/64", "dev podwire.1"),
        ] {
            let route = host.run("ip", &[family, "route", "show", destination])?;
            check(route.contains(device), || format!("{destination}: {route}"))?;
        }
        check(lab.nodes[0].configuration()?["mtu"] == 1450, || "the MTU is not that of the overlay".into())?;
        // A node itself is seen under its own address by pods that it has a plain route to.
        for (to, own) in [("pod-2", IpAddr::from([192, 168, 50, 1])), ("pod-3", [10, 244, 1, 0].into())] {
            let pod = lab.nodes.iter().flat_map(|node| &node.pods).find(|pod| pod.host.name == to);
            reaches(host, own, pod.ok_or("no pod")?.address(FAMILIES[0]))?;
        }
        Ok(())
    });
}

#[test]
fn without_an_overlay_there_are_plain_routes_and_no_device() {
    scene(2, |lab| {
        lab.write(&membership_on(FAMILIES[1], 1..=2))?;
        settle(lab, "overlay = \"never\"\n")?;
        lab.start()?;
        let _responders = pods(lab)?;
        // An interface that has just been plugged in does not ask for its neighbours before its own address is settled.
        eventually(SOON, || pods_reach_pods(lab))?;
        let host = &lab.nodes[0].host;
        let devices = host.run("ip", &["-brief", "link"])?;
        check(!devices.contains("podwire.1"), || devices)?;
        check(lab.nodes[0].configuration()?["mtu"] == 1500, || "the MTU is not the underlay's own".into())?;
        // The underlay's MTU, whole.
        let (from, to) = (lab.nodes[0].pod("pod-1"), lab.nodes[1].pod("pod-2"));
        for (like, size) in FAMILIES.into_iter().zip(["1472", "1452"]) {
            let address = to.address(like).to_string();
            from.host.run("ping", &["-c", "1", "-W", "2", "-M", "do", "-s", size, &address])?;
        }
        Ok(())
    });
}

#[test]
fn without_an_overlay_a_peer_that_no_plain_route_reaches_is_reported() {
    scene(3, |lab| {
        move_away(lab, 2)?;
        let mut membership = Membership::of(1..=3);
        membership.nodes[2].1 = [192, 168, 60, 3].into();
        lab.write(&membership)?;
        settle(lab, "overlay = \"never\"\n")?;
        lab.nodes[0].start()?;
        // One of the peer that is not on the link, one of the IPv6 pods over an IPv4 underlay.
        let reported = eventually(SOON, || {
            let problems = json(&lab.nodes[0].host, &["status", "--json"])?["problems"].clone();
            let reported = problems.as_array().map(Vec::len) == Some(2);
            check(reported, || problems.to_string()).map(|()| problems)
        })?;
        let kinds_and_subjects = [("no-plain-route", Some("node-3")), ("no-plain-route", None)];
        for (problem, (kind, subject)) in reported.as_array().into_iter().flatten().zip(kinds_and_subjects) {
            let right = problem["kind"] == kind && problem["subject"].as_str() == subject;
            check(right, || problem.to_string())?;
        }
        // The others are reached all the same.
        let route = lab.nodes[0].host.run("ip", &["route", "show", "10.244.2.0/24"])?;
        check(route.contains("via 192.168.50.2 dev eth0"), || route)
    });
}

#[test]
fn switching_from_always_via_auto_to_never_and_back_loses_no_packet() {
    scene(2, |lab| {
        lab.write(&membership_on(FAMILIES[1], 1..=2))?;
        // Nodes accept what others send in the mode before or after theirs.
        settle(lab, "overlay = \"always\"\naccept_plain = true\n")?;
        lab.start()?;
        pods(lab)?;
        let (from, to) = (lab.nodes[0].pod("pod-1").host.clone(), lab.nodes[1].pod("pod-2"));
        let start = |like| Stream::start(&from, &to.host, to.address(like));
        let streams = [start(FAMILIES[0])?, start(FAMILIES[1])?];
        streams.iter().try_for_each(Stream::flows)?;
        for (mode, device) in [("auto", "eth0"), ("never", "eth0"), ("auto", "eth0"), ("always", "podwire.1")] {
            settle(lab, &format!("overlay = \"{mode}\"\naccept_plain = true\n"))?;
            for node in &mut lab.nodes {
                restart(node)?;
                streams.iter().try_for_each(Stream::flows)?;
            }
            for destination in ["10.244.2.0/24", "fd00:10:244:2::/64"] {
                let family = if destination.contains(':') { "-6" } else { "-4" };
                let route = lab.nodes[0].host.run("ip", &[family, "route", "show", destination])?;
                check(route.contains(&format!("dev {device} ")), || format!("{mode}: {route}"))?;
            }
            let there = lab.nodes[0].host.run("ip", &["-brief", "link"])?.contains("podwire.1");
            check(there == (mode != "never"), || format!("{mode}: the device is there: {there}"))?;
            let nexthops = lab.nodes[0].host.run("ip", &["nexthop"])?;
            check(nexthops.lines().count() == 1, || format!("{mode}: {nexthops}"))?;
        }
        for stream in streams {
            let count = stream.finish()?;
            check(count.lost.is_empty() && count.sent > 100, || format!("{count:?}"))?;
        }
        Ok(())
    });
}

#[test]
fn an_invalid_setting_is_rejected_by_name() {
    scene(1, |lab| {
        for (text, why) in [
            ("overlay = \"sometimes\"", "sometimes"),
            ("mtu = 100", "mtu = 100, but it has to be the MTU of pods in bytes: 576"),
        ] {
            settle(lab, text)?;
            lab.nodes[0].start()?;
            lab.nodes[0].daemon.as_ref().ok_or("no daemon")?.wait_for(why, SOON)?;
        }
        Ok(())
    });
}

#[test]
fn another_vni_and_another_port_leave_nothing_of_the_previous_ones() {
    scene(2, |lab| {
        lab.start()?;
        let _responders = pods(lab)?;
        settle(lab, "vni = 77\nport = 4789\n")?;
        lab.nodes.iter_mut().try_for_each(restart)?;
        let host = &lab.nodes[0].host;
        let device = host.run("ip", &["-d", "link", "show", "type", "vxlan"])?;
        check(device.contains("dstport 4789") && device.matches("podwire.1").count() == 1, || device)?;
        let networks = host.run("bridge", &["vni"])?;
        check(networks.contains("77") && networks.lines().count() == 2, || networks)?;
        let nexthops = host.run("ip", &["nexthop"])?;
        check(nexthops.contains("encap ip id 77 ") && nexthops.lines().count() == 1, || nexthops)?;
        eventually(SOON, || pods_reach_pods(lab))
    });
}

#[test]
fn without_an_overlay_its_absence_is_not_reported() {
    scene(2, |lab| {
        lab.write(&membership_on(FAMILIES[1], 1..=2))?;
        settle(lab, "overlay = \"never\"\n")?;
        lab.start()?;
        let found = json(&lab.nodes[0].host, &["doctor", "--json"])?;
        check(found == serde_json::json!([]), || found.to_string())?;
        // A daemon that asked would have begun by now: it does so at once.
        let status = json(&lab.nodes[0].host, &["status", "--json"])?;
        check(status["peers"][0]["state"] == "unknown" && status["mode"] == "never", || status.to_string())
    });
}
