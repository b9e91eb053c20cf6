//! `podwired doctor`: each cause is made on a node, is found, is fixed by the command that the finding gives, and is not
//! found any more; and where nothing is wrong nothing is found. The wording of the sentences is for the daemon's unit tests.

use std::net::IpAddr;

use podwire_tests::lab::daemon::{json, podwired};
use podwire_tests::lab::exchange::{Responder, exchange};
use podwire_tests::lab::host::Host;
use podwire_tests::lab::membership::{self, Membership};
use podwire_tests::lab::scene::{FAMILIES, Outcome, check, cluster, reaches, scene};
use podwire_tests::lab::{Lab, SOON, daemon, eventually, program};
use serde_json::Value;

/// What the doctor finds on the first node.
fn findings(lab: &Lab, arguments: &[&str]) -> Outcome<Vec<Value>> {
    let found = json(&lab.nodes[0].host, &[&["doctor", "--json"], arguments].concat())?;
    found.as_array().cloned().ok_or_else(|| found.to_string())
}

/// That there is just one finding: of this kind, about this (nothing: about several things, or the node); its command.
fn only(found: &[Value], kind: &str, subject: Option<&str>) -> Outcome<String> {
    let [finding] = found else { return Err(format!("not one finding {kind}: {found:#?}")) };
    let right = finding["kind"] == kind && finding["subject"].as_str() == subject;
    check(right, || format!("not {kind} of {subject:?}: {finding:#}"))?;
    finding["fix"].as_str().map(str::to_owned).ok_or_else(|| finding.to_string())
}

/// Without those of kinds that come along with others.
fn without(mut found: Vec<Value>, kinds: &[&str]) -> Vec<Value> {
    found.retain(|finding| !kinds.iter().any(|kind| finding["kind"] == *kind));
    found
}

fn sh(host: &Host, line: &str) -> Outcome {
    host.run("sh", &["-ec", line]).map(drop)
}

fn nothing(lab: &Lab, arguments: &[&str]) -> Outcome {
    eventually(SOON, || {
        let found = findings(lab, arguments)?;
        check(found.is_empty(), || format!("{found:#?}"))
    })
}

/// Breaks the first node, finds just that, fixes it as the finding says.
fn plays(lab: &Lab, broken: &str, arguments: &[&str], kind: &str, subject: Option<&str>) -> Outcome {
    let host = &lab.nodes[0].host;
    let play = || {
        sh(host, broken)?;
        let fix = only(&findings(lab, arguments)?, kind, subject)?;
        let podwire = program("podwire").map_err(|error| error.to_string())?;
        sh(host, &fix.replace("/opt/cni/bin/podwire", &podwire.display().to_string()))?;
        nothing(lab, arguments)
    };
    play().map_err(|why| format!("{broken}: {why}"))
}

#[test]
fn a_healthy_node_has_no_findings() {
    cluster(3, |lab| {
        for node in &mut lab.nodes {
            node.add_pod(&format!("pod-{}", node.number))?;
        }
        for node in &lab.nodes {
            let answer = podwired(&node.host, &["doctor"])?;
            check(answer.code == Some(0) && answer.said == "OK  no findings\n", || answer.said + &answer.complaint)?;
        }
        // Neither is it with the files instead of the daemon, on either underlay.
        let of_files = ["--nodes", "/run/lab/nodes.toml", "--node-name", "node-1"];
        nothing(lab, &of_files)?;
        let mut membership = Membership::of(1..=3);
        for (number, node) in (1..).zip(&mut membership.nodes) {
            node.1 = membership::underlay_address(number, std::net::Ipv6Addr::UNSPECIFIED.into());
        }
        lab.write(&membership)?;
        nothing(lab, &[])?;
        nothing(lab, &of_files)
    });
}

#[test]
fn a_blocked_vxlan_port_is_distinguished_from_a_node_that_is_down() {
    cluster(3, |lab| {
        let far = lab.nodes[1].host.clone();
        sh(&far, "nft 'add table inet eater; add chain inet eater input { type filter hook input priority -300; }'")?;
        sh(&far, "nft 'add rule inet eater input udp dport 8472 drop'")?;
        let fix = only(&findings(lab, &[])?, "peer-overlay-silent", Some("node-2"))?;
        check(fix.contains("--dport 8472 -j ACCEPT"), || fix)?;
        let human = podwired(&lab.nodes[0].host, &["doctor"])?;
        check(human.code == Some(1) && human.said.contains("fix: on node-2: podwired status"), || human.said)?;
        sh(&far, "nft 'delete table inet eater'")?;
        nothing(lab, &[])?;
        sh(&far, "ip link set eth0 down")?;
        only(&findings(lab, &[])?, "peer-down", Some("node-2")).map(drop)
    });
}

#[test]
fn a_fault_of_this_node_is_reported_once_and_not_for_every_peer() {
    cluster(4, |lab| {
        let host = lab.nodes[0].host.clone();
        let wall = "nft 'add table inet wall; add chain inet wall input { type filter hook input priority -300; }'
            nft 'add rule inet wall input udp dport 8472 drop'";
        sh(&host, wall)?;
        let fix = only(&findings(lab, &[])?, "overlay-port-blocked", None)?;
        check(fix.starts_with("here: iptables -I INPUT"), || fix)?;
        sh(&host, "nft delete table inet wall")?;
        nothing(lab, &[])?;
        // No prefix of the link any more, and so no route to anybody.
        sh(&host, "ip address delete 192.168.50.1/24 dev eth0; ip address add 192.168.50.1/32 dev eth0")?;
        only(&findings(lab, &[])?, "no-route-to-peer", None)?;
        sh(&host, "ip address delete 192.168.50.1/32 dev eth0; ip address add 192.168.50.1/24 dev eth0")?;
        nothing(lab, &[])?;
        plays(lab, "ip link set eth0 down", &[], "underlay-down", Some("eth0"))
    });
}

#[test]
fn an_unreadable_membership_file_is_found_although_the_last_one_stays_in_use() {
    cluster(2, |lab| {
        let path = "/run/lab/nodes.toml";
        for broken in [format!("echo 'cluster_cidrs = [' > {path}"), format!("rm {path}")] {
            let host = &lab.nodes[0].host;
            sh(host, &broken)?;
            let found = eventually(SOON, || {
                let found = findings(lab, &[])?;
                check(!found.is_empty(), || "nothing found".into()).map(|()| found)
            })?;
            let fix = only(&found, "membership-unreadable", Some(path))?;
            check(fix.starts_with("$EDITOR /run/lab/nodes.toml "), || fix)?;
            lab.write(&Membership::of(1..=2))?;
            nothing(lab, &[])?;
        }
        Ok(())
    });
}

#[test]
fn a_program_that_keeps_undoing_repairs_is_found() {
    cluster(2, |lab| {
        let line = "while :; do ip -6 route delete fd00:10:244:2::/64 2>/dev/null; sleep 0.02; done";
        let vandal = lab.nodes[0].host.start("a vandal", std::process::Command::new("sh").args(["-c", line]))?;
        // The daemon repairs ever more slowly: so many repairs take their time on a busy machine.
        let found = eventually(SOON * 6, || {
            let found = findings(lab, &[])?;
            check(found.iter().any(|finding| finding["kind"] == "conflict"), || format!("{found:#?}")).map(|()| found)
        })?;
        // It may be seen at work meanwhile.
        let found = without(found, &["peer-overlay-silent", "large-packets-lost"]);
        only(&found, "conflict", None)?;
        // The daemon says it by itself, too. It counts reconciles that repaired something, and the doctor what they repaired: it
        // may be the first to know.
        eventually(SOON, || {
            let said = json(&lab.nodes[0].host, &["status", "--json"])?["problems"].clone();
            let named = said.as_array().is_some_and(|said| said.iter().any(|problem| problem["kind"] == "conflict"));
            check(named, || said.to_string())
        })?;
        drop(vandal);
        nothing(lab, &[])
    });
}

#[test]
fn a_path_that_drops_large_packets_is_found_with_its_mtu() {
    cluster(2, |lab| {
        let far = lab.nodes[1].host.clone();
        sh(&far, "nft 'add table inet narrow; add chain inet narrow input { type filter hook input priority -300; }'")?;
        sh(&far, "nft 'add rule inet narrow input meta length > 1403 drop'")?;
        let fix = only(&findings(lab, &[])?, "large-packets-lost", Some("node-2"))?;
        check(fix.starts_with("on every node: ip link set dev eth0 mtu 1403 "), || fix)?;
        // As the finding says: on every node.
        for node in &lab.nodes {
            sh(&node.host, "ip link set dev eth0 mtu 1403")?;
        }
        nothing(lab, &[])
    });
}

#[test]
fn a_peer_that_answers_pings_but_neither_tcp_nor_udp_is_found() {
    cluster(2, |lab| {
        // What a receiver does with wrong checksums.
        let far = lab.nodes[1].host.clone();
        sh(&far, "nft 'add table inet card; add chain inet card input { type filter hook input priority -300; }'")?;
        sh(&far, "nft 'add rule inet card input iifname podwire.1 meta l4proto { tcp, udp } drop'")?;
        let fix = only(&findings(lab, &[])?, "wrong-checksums", Some("node-2"))?;
        check(fix.contains("ethtool -K podwire.1 tx-checksum-ip-generic off"), || fix)?;
        // One of both that comes through is enough.
        sh(
            &far,
            "nft 'flush chain inet card input; add rule inet card input iifname podwire.1 meta l4proto tcp drop'",
        )?;
        nothing(lab, &[])
    });
}

#[test]
fn an_rp_filter_that_is_too_loose_or_too_strict_is_found_with_its_effective_value() {
    cluster(2, |lab| {
        lab.nodes[0].add_pod("pod")?;
        let all = "echo 2 > /proc/sys/net/ipv4/conf/all/rp_filter";
        plays(lab, all, &[], "reverse-path-loose", Some("net/ipv4/conf/all/rp_filter"))?;
        // The answer to a peer would leave by another device than its packets come in by.
        let host = &lab.nodes[0].host;
        let other = "ip link add other type veth peer name rehto; ip link set other up; ip link set rehto up
            ip route add 192.168.50.2/32 dev other; echo 1 > /proc/sys/net/ipv4/conf/eth0/rp_filter";
        sh(host, other)?;
        let unreached = ["peer-down", "peer-overlay-silent", "no-route-to-peer"];
        let fix = only(&without(findings(lab, &[])?, &unreached), "reverse-path-strict", Some("node-2"))?;
        sh(host, &fix)?;
        let found = without(findings(lab, &[])?, &unreached);
        check(found.is_empty(), || format!("{found:#?}"))
    });
}

#[test]
fn a_strict_rp_filter_on_all_devices_is_harmless_and_not_a_finding() {
    cluster(2, |lab| {
        let _far = Responder::start(&lab.nodes[1].add_pod("far")?.host)?;
        lab.nodes[0].add_pod("near")?;
        for node in &lab.nodes {
            sh(&node.host, "for file in /proc/sys/net/ipv4/conf/*/rp_filter; do echo 1 > $file; done")?;
        }
        let (near, far) = (lab.nodes[0].pod("near"), lab.nodes[1].pod("far"));
        FAMILIES.into_iter().try_for_each(|like| reaches(&near.host, near.address(like), far.address(like)))?;
        nothing(lab, &[])
    });
}

#[test]
fn a_node_that_does_not_forward_is_found_where_no_daemon_repairs_it() {
    cluster(2, |lab| {
        lab.nodes[0].daemon.take().ok_or("no daemon")?.stop(SOON)?;
        let of_files = ["--nodes", "/run/lab/nodes.toml", "--node-name", "node-1"];
        for path in ["net/ipv4/ip_forward", "net/ipv6/conf/all/forwarding", "net/ipv4/conf/podwire.1/forwarding"] {
            plays(lab, &format!("echo 0 > /proc/sys/{path}"), &of_files, "forwarding-off", Some(path))?;
        }
        Ok(())
    });
}

#[test]
fn a_foreign_firewall_that_drops_forwarded_packets_is_found() {
    cluster(2, |lab| {
        for family in ["inet", "ip6"] {
            let chain = "{ type filter hook forward priority 0; policy drop; }";
            let broken = format!("nft 'add table {family} wall; add chain {family} wall across {chain}'");
            plays(lab, &broken, &[], "forward-policy-drop", Some(&format!("{family} wall across")))?;
            sh(&lab.nodes[0].host, &format!("nft delete table {family} wall"))?;
        }
        Ok(())
    });
}

#[test]
fn a_conflist_of_another_network_that_sorts_first_is_found() {
    cluster(1, |lab| {
        let broken = "echo '{}' > /etc/cni/net.d/05-other.conflist; touch /etc/cni/net.d/99-last.conf";
        plays(lab, broken, &[], "conflist-outranked", Some("/etc/cni/net.d/05-other.conflist"))
    });
}

#[test]
fn a_conflist_directory_that_is_something_else_is_found_and_reported_once() {
    scene(1, |lab| {
        sh(&lab.nodes[0].host, "mkdir /etc/cni; touch /etc/cni/net.d")?;
        lab.nodes[0].start()?;
        lab.nodes[0].daemon.as_ref().ok_or("no daemon")?.wait_for("write /etc/cni/net.d/10-podwire.conflist", SOON)?;
        plays(lab, "true", &[], "conflist-no-directory", Some("/etc/cni/net.d"))
    });
}

#[test]
fn foreign_addresses_and_routes_in_the_pod_ranges_are_found() {
    cluster(2, |lab| {
        let broken = "ip link add cni0 type bridge; ip address add 10.244.1.1/24 dev cni0";
        plays(lab, broken, &[], "foreign-address", Some("10.244.1.1/24"))?;
        let broken = "ip route add 10.244.2.128/25 via 192.168.50.254";
        plays(lab, broken, &[], "foreign-route", Some("10.244.2.128/25"))?;
        let broken = "ip -6 route add fd00:10:244:2:8000::/65 via fd00:192:168:50::254";
        plays(lab, broken, &[], "foreign-route", Some("fd00:10:244:2:8000::/65"))?;
        // Two nodes with one range: the later one is rejected.
        let mut membership = Membership::of(1..=3);
        membership.nodes[2].2 = membership.nodes[1].2.clone();
        lab.write(&membership)?;
        let found = eventually(SOON, || {
            let found = findings(lab, &[])?;
            check(!found.is_empty(), || "nothing found".into()).map(|()| found)
        })?;
        let fix = only(&found, "entry-rejected", Some("node-3"))?;
        check(fix.starts_with("$EDITOR /run/lab/nodes.toml "), || fix)
    });
}

#[test]
fn a_node_address_that_is_on_no_interface_or_on_two_nodes_is_found() {
    cluster(2, |lab| {
        let mut twice = Membership::of(1..=3);
        twice.nodes[2].1 = twice.nodes[1].1;
        lab.write(&twice)?;
        let found = eventually(SOON, || {
            let found = findings(lab, &[])?;
            check(!found.is_empty(), || "nothing found".into()).map(|()| found)
        })?;
        only(&found, "entry-rejected", Some("node-3"))?;
        // As on machines whose first interface is the same everywhere.
        let mut wrong = Membership::of(1..=2);
        wrong.nodes[0].1 = [192, 168, 50, 99].into();
        lab.write(&wrong)?;
        let found = eventually(SOON, || {
            let found = without(findings(lab, &[])?, &["daemon-problem"]);
            check(found.iter().any(|finding| finding["kind"] == "node-address-missing"), || format!("{found:#?}"))
                .map(|()| found)
        })?;
        let found = without(found, &["peer-overlay-silent"]);
        let fix = only(&found, "node-address-missing", Some("192.168.50.99"))?;
        check(fix.contains("ip address add 192.168.50.99/32 dev INTERFACE"), || fix)
    });
}

#[test]
fn a_fix_that_calls_the_plugin_names_the_directory_that_it_is_in() {
    cluster(2, |lab| {
        lab.nodes[0].daemon.take().ok_or("no daemon")?.stop(SOON)?;
        daemon::start(&mut lab.nodes[0], &["--plugin-directory", "/run/cni/bin"])?;
        lab.nodes[0].wait_ready()?;
        lab.nodes[0].add_pod("dead")?;
        let host = lab.nodes[0].host.clone();
        sh(&host, "ip link delete $(ip -o link | grep -o 'pw[0-9a-v]\\{13\\}')")?;
        let fix = only(&findings(lab, &[])?, "dead-attachment", Some("dead"))?;
        check(fix.ends_with(" CNI_PATH=/run/cni/bin /run/cni/bin/podwire"), || fix.clone())?;
        sh(&host, &fix)?;
        nothing(lab, &[])
    });
}

#[test]
fn leftovers_are_found() {
    cluster(2, |lab| {
        lab.nodes[0].add_pod("dead")?;
        let dead = "ip link delete $(ip -o link | grep -o 'pw[0-9a-v]\\{13\\}')";
        plays(lab, dead, &[], "dead-attachment", Some("dead"))?;
        let stale = "ip link add pw0123456789abc type veth peer name stale
            echo 1 > /proc/sys/net/ipv4/conf/pw0123456789abc/rp_filter";
        plays(lab, stale, &[], "orphaned-device", Some("pw0123456789abc"))?;
        let old = "mkdir -p /run/podwire/old/attachments; echo another > /run/podwire/old/boot";
        plays(lab, old, &[], "ledger-of-other-boot", Some("old"))?;

        // What the membership does not explain any more, where no daemon takes it away.
        let host = lab.nodes[0].host.clone();
        lab.nodes[0].daemon.take().ok_or("no daemon")?.stop(SOON)?;
        lab.write(&Membership::of([1]))?;
        let of_files = ["--nodes", "/run/lab/nodes.toml", "--node-name", "node-1"];
        let found = findings(lab, &of_files)?;
        let kinds: Vec<_> = found.iter().filter_map(|finding| finding["kind"].as_str()).collect();
        check(kinds == ["leftover-route", "leftover-route", "leftover-nexthop"], || format!("{found:#?}"))?;
        for finding in &found {
            sh(&host, finding["fix"].as_str().ok_or("no fix")?)?;
        }
        nothing(lab, &of_files)?;
        let left = host.run("ip", &["route", "show", "proto", "112"])?;
        check(left.lines().count() == 3, || left)
    });
}

#[test]
fn a_ledger_without_room_or_that_others_can_write_is_found() {
    cluster(1, |lab| {
        lab.nodes[0].add_pod("pod")?;
        let place = "/run/podwire/podwire";
        plays(lab, &format!("chmod 777 {place}"), &[], "ledger-writable", Some(place))?;
        plays(lab, "chown 65534 /run/podwire", &[], "ledger-writable", Some("/run/podwire"))?;
        // It fills the disk, so that its last write fails.
        sh(&lab.nodes[0].host, "mount -o remount,size=1M /run; head -c 2M /dev/zero > /run/fill || true")?;
        only(&findings(lab, &[])?, "ledger-full", Some("/run/podwire"))?;
        let Err(why) = lab.nodes[0].add_pod("another") else { return Err("there is room".into()) };
        check(why.contains("No space left") && why.contains("the file system is full"), || why)?;
        sh(&lab.nodes[0].host, "rm /run/fill")?;
        nothing(lab, &[])
    });
}

#[test]
fn a_pod_outside_of_its_nodes_new_pod_cidrs_is_found() {
    cluster(2, |lab| {
        let host = lab.nodes[0].host.clone();
        let stale = lab.nodes[0].add_pod("stale")?;
        let (_answers, stale) = (Responder::start(&stale.host)?, stale.addresses.clone());
        let far = lab.nodes[1].add_pod("far")?.host.clone();
        let all_reached = |from: &Host, addresses: &[IpAddr]| {
            eventually(SOON, || addresses.iter().try_for_each(|address| exchange(from, *address).map(drop)))
        };
        all_reached(&far, &stale)?;
        let mut changed = Membership::of(1..=2);
        changed.nodes[0].2 = membership::pod_cidrs(7);
        lab.write(&changed)?;
        let said = eventually(SOON, || {
            let said = json(&host, &["status", "--json"])?;
            check(said["pod_cidrs"][0] == "10.244.7.0/24" && said["converged"] == true, || said.to_string())
                .map(|()| said)
        })?;
        check(stale.len() == 2, || format!("{stale:?}"))?;
        let [problem] = said["problems"].as_array().map(Vec::as_slice).unwrap_or_default() else {
            return Err(format!("{:#}", said["problems"]));
        };
        let text = problem["text"].as_str().unwrap_or_default();
        let named = problem["kind"] == "stale-address" && problem["subject"] == "stale";
        check(named && stale.iter().all(|address| text.contains(&address.to_string())), || format!("{problem:#}"))?;
        check(said["wrong"] == serde_json::json!([text]), || format!("{:#}", said["wrong"]))?;
        let fix = only(&findings(lab, &[])?, "stale-address", Some("stale"))?;
        check(fix.starts_with("podman restart stale "), || fix)?;
        let of_files = ["--nodes", "/run/lab/nodes.toml", "--node-name", "node-1"];
        only(&findings(lab, &of_files)?, "stale-address", Some("stale"))?;
        // It is as they say: a pod that comes now is reached, this one is not.
        let home = lab.nodes[0].add_pod("home")?;
        let _answers = Responder::start(&home.host)?;
        all_reached(&far, &home.addresses)?;
        for address in &stale {
            check(exchange(&far, *address).is_err(), || format!("{address} is reached from another node"))?;
        }
        all_reached(&home.host, &stale)?;
        lab.nodes[0].remove_pod("stale")?;
        nothing(lab, &[])?;
        let said = json(&host, &["status", "--json"])?;
        check(said["wrong"] == serde_json::json!([]), || format!("{:#}", said["wrong"]))
    });
}

#[test]
fn a_foreign_vxlan_device_on_our_port_is_found() {
    cluster(1, |lab| {
        let broken = "ip link add flannel.1 type vxlan id 7 dstport 8472";
        plays(lab, broken, &[], "foreign-vxlan-port", Some("flannel.1"))
    });
}

#[test]
fn programs_that_manage_every_device_are_found() {
    cluster(1, |lab| {
        let host = &lab.nodes[0].host;
        sh(host, "mkdir -p /run/systemd/netif; touch /run/systemd/netif/state")?;
        only(&findings(lab, &[])?, "network-manager", Some("systemd-networkd"))?;
        sh(
            host,
            "mkdir /run/systemd/networkd.conf.d; echo 'ManageForeignRoutes = no' > /run/systemd/networkd.conf.d/a.conf",
        )?;
        nothing(lab, &[])?;
        sh(host, "mkdir -p /run/NetworkManager/devices")?;
        only(&findings(lab, &[])?, "network-manager", Some("NetworkManager"))?;
        sh(
            host,
            "mkdir /run/NetworkManager/conf.d; echo 'unmanaged-devices=interface-name:podwire.*;interface-name:pw*' > \
            /run/NetworkManager/conf.d/a.conf",
        )?;
        nothing(lab, &[])
    });
}

#[test]
fn without_a_daemon_the_doctor_says_so_and_still_checks_the_node() {
    scene(1, |lab| {
        let host = lab.nodes[0].host.clone();
        sh(&host, "ip link add flannel.1 type vxlan id 7 dstport 8472")?;
        let found = findings(lab, &[])?;
        let kinds: Vec<_> = found.iter().filter_map(|finding| finding["kind"].as_str()).collect();
        check(kinds.contains(&"daemon-silent") && kinds.contains(&"foreign-vxlan-port"), || format!("{found:#?}"))?;
        let missing = podwired(&host, &["doctor", "--nodes", "/nonexistent", "--node-name", "a"])?;
        let told = missing.code == Some(2) && missing.complaint.contains("membership file /nonexistent: No such file");
        check(told, || missing.complaint)
    });
}

#[test]
fn what_the_daemon_cannot_do_is_a_finding() {
    scene(1, |lab| {
        let host = lab.nodes[0].host.clone();
        sh(&host, "ip link add podwire.1 type bridge")?;
        lab.nodes[0].start()?;
        lab.nodes[0].daemon.as_ref().ok_or("no daemon")?.wait_for("kind=\"foreign-device\"", SOON)?;
        let found = findings(lab, &[])?;
        only(&found, "daemon-problem", Some("podwire.1"))?;
        check(found[0]["problem"] == "foreign-device", || found[0].to_string())
    });
}
