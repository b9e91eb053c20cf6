//! The VXLAN device in the hands of others: whatever they make of it, it is ours again, with all that is on and behind it.

use podwire_tests::lab::exchange::Responder;
use podwire_tests::lab::scene::{FAMILIES, Outcome, check, cluster, reaches, same, scene, state};
use podwire_tests::lab::{Lab, SOON, eventually};

use super::overlay::{run, without_index};

/// That the first node is as it was, and its pod reaches the other's.
fn as_before(lab: &Lab, whole: &serde_json::Value) -> Outcome {
    let host = &lab.nodes[0].host;
    eventually(SOON, || same("the node", &without_index(whole), &without_index(&state(host)?)))?;
    let (near, far) = (lab.nodes[0].pod("near"), lab.nodes[1].pod("far"));
    FAMILIES.into_iter().try_for_each(|like| reaches(&near.host, near.address(like), far.address(like)))
}

/// Two nodes with a pod each, before which something was there already.
fn with_pods(lab: &mut Lab) -> Outcome<Responder> {
    lab.start()?;
    lab.nodes[0].add_pod("near")?;
    Responder::start(&lab.nodes[1].add_pod("far")?.host)
}

#[test]
fn a_mac_that_is_rewritten_as_by_udev_is_restored_every_time() {
    cluster(2, |lab| {
        let _far = with_pods_of_a_cluster(lab)?;
        let host = lab.nodes[0].host.clone();
        let whole = state(&host)?;
        for number in 1..=5 {
            let address = format!("02:00:00:00:00:0{number}");
            run(&host, &[&["ip", "link", "set", "podwire.1", "address", &address]])?;
            as_before(lab, &whole)?;
        }
        Ok(())
    });
}

fn with_pods_of_a_cluster(lab: &mut Lab) -> Outcome<Responder> {
    lab.nodes[0].add_pod("near")?;
    Responder::start(&lab.nodes[1].add_pod("far")?.host)
}

#[test]
fn a_device_that_is_removed_or_moved_away_comes_back_with_all_its_routes() {
    cluster(2, |lab| {
        let _far = with_pods_of_a_cluster(lab)?;
        let host = lab.nodes[0].host.clone();
        let whole = state(&host)?;
        run(&host, &[&["ip", "link", "delete", "podwire.1"]])?;
        as_before(lab, &whole)?;
        // Into another namespace, where it goes on holding its networks in this one.
        run(&host, &[&["ip", "netns", "add", "thief"], &["ip", "link", "set", "podwire.1", "netns", "thief"]])?;
        as_before(lab, &whole)?;
        // Brought up there.
        run(&host, &[&["ip", "link", "set", "podwire.1", "netns", "thief", "name", "mine"]])?;
        as_before(lab, &whole)?;
        run(&host, &[&["ip", "netns", "delete", "thief"]])
    });
}

#[test]
fn a_device_that_became_a_bridge_port_is_taken_out_of_the_bridge() {
    cluster(2, |lab| {
        let _far = with_pods_of_a_cluster(lab)?;
        let host = lab.nodes[0].host.clone();
        let whole = state(&host)?;
        run(&host, &[&["ip", "link", "add", "bridge9", "type", "bridge"], &["ip", "link", "set", "bridge9", "up"]])?;
        run(&host, &[&["ip", "link", "set", "podwire.1", "master", "bridge9"]])?;
        eventually(SOON, || {
            let device = host.run("ip", &["link", "show", "podwire.1"])?;
            check(!device.contains("master"), || device)
        })?;
        run(&host, &[&["ip", "link", "delete", "bridge9"]])?;
        as_before(lab, &whole)
    });
}

#[test]
fn routes_that_are_removed_as_by_networkd_come_back() {
    cluster(2, |lab| {
        let _far = with_pods_of_a_cluster(lab)?;
        let host = lab.nodes[0].host.clone();
        let whole = state(&host)?;
        // On its restart it removes every route that it did not make, on whatever device, and every nexthop.
        let networkd = "ip -4 route show proto 112 | while read -r route; do ip -4 route delete $route; done; \
                        ip -6 route show proto 112 | while read -r route; do ip -6 route delete $route; done; \
                        ip nexthop flush proto 112; ip address flush dev podwire.1; \
                        ip neighbour flush dev podwire.1 nud permanent";
        host.run("sh", &["-c", &format!("{{ {networkd}; }} 2>/dev/null; true")])?;
        as_before(lab, &whole)
    });
}

#[test]
fn a_vxlan_device_of_our_name_in_any_state_is_adopted_at_start() {
    let foreign: [&[&[&str]]; 4] = [
        // As the program before it may have made it.
        &[&["ip", "link", "add", "podwire.1", "type", "vxlan", "id", "1", "dstport", "8472", "nolearning"]],
        &[&["ip", "link", "add", "podwire.1", "type", "vxlan", "external", "dstport", "8472"]],
        // Of another port, up, with an address and a route of ours.
        &[
            &["ip", "link", "add", "podwire.1", "type", "vxlan", "external", "vnifilter", "dstport", "4789"],
            &["ip", "address", "add", "10.244.9.0/32", "dev", "podwire.1"],
            &["ip", "link", "set", "podwire.1", "up"],
            &["ip", "route", "add", "10.244.99.0/24", "dev", "podwire.1", "proto", "112"],
        ],
        // A port of a bridge.
        &[
            &[
                "ip",
                "link",
                "add",
                "podwire.1",
                "type",
                "vxlan",
                "external",
                "vnifilter",
                "dstport",
                "8472",
                "nolearning",
            ],
            &["ip", "link", "add", "bridge0", "type", "bridge"],
            &["ip", "link", "set", "podwire.1", "master", "bridge0", "up"],
        ],
    ];
    for commands in foreign {
        scene(2, |lab| {
            run(&lab.nodes[0].host, commands)?;
            let _far = with_pods(lab)?;
            let (near, far) = (lab.nodes[0].pod("near"), lab.nodes[1].pod("far"));
            FAMILIES.into_iter().try_for_each(|like| reaches(&near.host, near.address(like), far.address(like)))?;
            let host = &lab.nodes[0].host;
            let device = host.run("ip", &["-d", "link", "show", "podwire.1"])?;
            check(!device.contains("bridge0") && device.contains("vnifilter"), || device)?;
            let routes = host.run("ip", &["route", "show", "proto", "112"])?;
            check(!routes.contains("10.244.99.0/24"), || routes)
        });
    }
}

#[test]
fn a_foreign_device_of_our_name_is_reported_and_kept() {
    scene(1, |lab| {
        let host = lab.nodes[0].host.clone();
        run(&host, &[&["ip", "link", "add", "podwire.1", "type", "bridge"]])?;
        lab.nodes[0].start()?;
        let daemon = lab.nodes[0].daemon.as_ref().ok_or("no daemon")?;
        daemon.wait_for("device podwire.1 is a foreign bridge: rename or remove it", SOON)?;
        let link = host.run("ip", &["-d", "link", "show", "podwire.1"])?;
        check(link.contains("bridge"), || link)?;
        run(&host, &[&["ip", "link", "delete", "podwire.1"]])?;
        lab.nodes[0].wait_ready()
    });
}
