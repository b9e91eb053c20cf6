//! The life of a node on another kernel: what it lacks is loaded, the overlay comes, pods come and go, and the daemon
//! follows a cluster of some size.

use podwire_tests::lab::exchange::Responder;
use podwire_tests::lab::scene::{FAMILIES, check, reaches, same, state};
use podwire_tests::lab::{SOON, eventually};

use crate::machine::machine;

#[test]
fn pods_of_two_nodes_reach_one_another_and_leave_nothing() {
    machine(1, 2, |lab| {
        lab.start()?;
        let before = state(&lab.nodes[1].host)?;
        let _far = Responder::start(&lab.nodes[0].add_pod("far")?.host)?;
        lab.nodes[1].add_pod("near")?;
        let (near, far) = (lab.nodes[1].pod("near"), lab.nodes[0].pod("far"));
        FAMILIES.into_iter().try_for_each(|like| reaches(&near.host, near.address(like), far.address(like)))?;
        lab.nodes[1].remove_pod("near")?;
        eventually(SOON, || same("the node after the pod", &before, &state(&lab.nodes[1].host)?))
    });
}

#[test]
fn a_hundred_peers_need_no_room_in_the_neighbour_tables() {
    machine(0, 101, |lab| {
        let host = lab.nodes[0].host.clone();
        let limits = "for family in ipv4 ipv6; do
            for limit in 1 2 3; do echo 40 > /proc/sys/net/$family/neigh/default/gc_thresh$limit; done; done";
        host.run("sh", &["-ec", limits])?;
        lab.start()?;
        for (family, routes) in [("-4", 100), ("-6", 100)] {
            let found = host.run("ip", &[family, "route", "show", "proto", "112"])?;
            let count = found.lines().filter(|line| line.contains(" nhid ")).count();
            check(count == routes, || format!("{count} routes to peers: {found}"))?;
        }
        let neighbours = host.run("ip", &["neighbour", "show", "dev", "podwire.1", "nud", "permanent"])?;
        check(neighbours.lines().count() == 100, || neighbours)?;
        // Broken as a whole, it comes back as a whole.
        let looks = "{ ip -4 route; ip -6 route; ip nexthop; ip neighbour show dev podwire.1 nud permanent; } | sort";
        let overlay = || host.run("sh", &["-ec", looks]);
        let before = overlay()?;
        host.run("ip", &["link", "delete", "podwire.1"])?;
        eventually(SOON, || {
            let found = overlay()?;
            check(found == before, || format!("{found}\ninstead of\n{before}"))
        })
    });
}
