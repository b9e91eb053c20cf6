//! The size of packets: it follows from the underlay and the settings, and small underlays are named.

use podwire_tests::lab::host::Host;
use podwire_tests::lab::membership::Membership;
use podwire_tests::lab::node::Node;
use podwire_tests::lab::scene::{FAMILIES, Outcome, check, cluster, scene};
use podwire_tests::lab::{SOON, eventually};

use super::connectivity::pods;
use super::modes::{membership_on, settle};

/// That the device and the conflist have come to these MTUs.
fn arrives(node: &Node, device: u32, pods: u32) -> Outcome {
    eventually(SOON, || {
        let link = node.host.run("ip", &["link", "show", "podwire.1"])?;
        check(link.contains(&format!("mtu {device} ")), || link)?;
        let configuration = node.configuration()?;
        check(configuration["mtu"] == pods, || configuration.to_string())
    })
}

fn there(list: String) -> Outcome {
    check(!list.is_empty(), || "it is not there".into())
}

fn set_mtu(host: &Host, mtu: u32) -> Outcome {
    host.run("ip", &["link", "set", "eth0", "mtu", &mtu.to_string()]).map(drop)
}

#[test]
fn a_change_of_the_underlays_mtu_is_followed_at_run_time_on_either_underlay() {
    for (underlay, overhead) in FAMILIES.into_iter().zip([50, 70]) {
        scene(2, |lab| {
            lab.write(&membership_on(underlay, 1..=2))?;
            lab.start()?;
            let _responders = pods(lab)?;
            for mtu in [9000, 1400, 1500] {
                lab.nodes.iter().try_for_each(|node| set_mtu(&node.host, mtu))?;
                lab.nodes.iter().try_for_each(|node| arrives(node, mtu - overhead, mtu - overhead))?;
                // From a pod that has another MTU still: it is told once, and then sends what the overlay takes.
                let (from, to) = (lab.nodes[0].pod("pod-1"), lab.nodes[1].pod("pod-2"));
                for like in FAMILIES {
                    let address = to.address(like).to_string();
                    eventually(SOON, || from.host.run("ping", &["-c", "1", "-W", "1", "-s", "1440", &address]))?;
                }
            }
            Ok(())
        });
    }
}

#[test]
fn an_underlay_mtu_that_is_too_small_for_ipv6_is_reported_and_the_running_overlay_stays() {
    cluster(2, |lab| {
        let _responders = pods(lab)?;
        let host = lab.nodes[0].host.clone();
        set_mtu(&host, 1300)?;
        let daemon = lab.nodes[0].daemon.as_ref().ok_or("no daemon")?;
        let why = "interface eth0 has MTU 1300, which leaves 1250 for pods, and IPv6 pods need 1280: set it to 1330";
        daemon.wait_for(why, SOON)?;
        check(lab.nodes[0].configuration()?["mtu"] == 1450, || "the conflist was changed".into())?;
        let (from, to) = (lab.nodes[0].pod("pod-1"), lab.nodes[1].pod("pod-2"));
        for like in FAMILIES {
            let address = to.address(like).to_string();
            // Larger than the underlay takes: it goes in fragments.
            eventually(SOON, || from.host.run("ping", &["-c", "1", "-W", "1", "-s", "1200", &address]))?;
        }
        set_mtu(&host, 1330)?;
        arrives(&lab.nodes[0], 1280, 1280)
    });
}

#[test]
fn ipv4_pods_work_with_an_mtu_that_is_too_small_for_ipv6() {
    scene(2, |lab| {
        let mut membership = Membership::of(1..=2);
        membership.nodes.iter_mut().for_each(|node| node.2.retain(ipnetwork::IpNetwork::is_ipv4));
        lab.write(&membership)?;
        lab.nodes.iter().try_for_each(|node| set_mtu(&node.host, 1100))?;
        lab.start()?;
        for node in &mut lab.nodes {
            let name = format!("pod-{}", node.number);
            node.add_pod(&name)?;
        }
        // The device keeps what its gateways of IPv6 need.
        lab.nodes.iter().try_for_each(|node| arrives(node, 1280, 1050))?;
        let (from, to) = (lab.nodes[0].pod("pod-1"), lab.nodes[1].pod("pod-2"));
        let address = to.address(FAMILIES[0]).to_string();
        from.host.run("ping", &["-c", "1", "-W", "2", "-M", "do", "-s", "1022", &address])?;
        let more = from.host.run("ping", &["-c", "1", "-W", "1", "-M", "do", "-s", "1023", &address]);
        check(more.is_err(), || "a packet above the pods' MTU went".into())
    });
}

#[test]
fn a_configured_mtu_overrides_the_underlays() {
    scene(1, |lab| {
        settle(lab, "mtu = 1390\n")?;
        lab.start()?;
        arrives(&lab.nodes[0], 1390, 1390)?;
        set_mtu(&lab.nodes[0].host, 1480)?;
        let daemon = lab.nodes[0].daemon.as_ref().ok_or("no daemon")?;
        // What is repaired now is repaired by a full sync that has seen eth0 so.
        lab.nodes[0].host.run("ip", &["route", "delete", "blackhole", "10.244.0.0/16"])?;
        eventually(SOON, || lab.nodes[0].host.run("ip", &["route", "show", "10.244.0.0/16"]).and_then(there))?;
        arrives(&lab.nodes[0], 1390, 1390)?;
        let changed = daemon.said().into_iter().find(|line| line.contains("set the MTU"));
        check(changed.is_none(), || format!("{changed:?}"))
    });
}
