//! When the daemon syncs again: notifications that were lost, changes that are not announced, foreign objects that come and go;
//! and what it says of it.

use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use podwire_tests::lab::scene::{Outcome, check, cluster};
use podwire_tests::lab::{SOON, eventually};

use super::overlay::run;

/// Longer than the daemon's clock, by which it looks at the kernel every 30 seconds where nothing else is announced.
const A_TICK: Duration = Duration::from_secs(60);

#[test]
fn damage_is_repaired_even_if_its_notification_was_lost() {
    cluster(2, |lab| {
        let host = lab.nodes[0].host.clone();
        let daemon = lab.nodes[0].daemon.as_ref().ok_or("no daemon")?;
        let process = Pid::from_raw(i32::try_from(daemon.id()).map_err(|error| error.to_string())?);
        let signal = |signal| kill(process, signal).map_err(|errno| format!("send {signal}: {errno}"));
        signal(Signal::SIGSTOP)?;
        // More notifications of foreign routes than any socket has room for, then damage to ours.
        let line = |what: &str| format!("echo route {what} 172.16.$i.0/24 dev eth0");
        let (add, delete) = (line("add"), line("delete"));
        let flood = format!("i=0; while [ $i -lt 64 ]; do {add}; {delete}; i=$((i + 1)); done");
        host.run("sh", &["-c", &format!("{{ {flood}; }} > /run/batch")])?;
        for _ in 0..40 {
            host.run("ip", &["-batch", "/run/batch"])?;
        }
        let lost = || -> Outcome<u64> {
            let sockets = host.run("cat", &["/proc/net/netlink"])?;
            let own = host.run("cat", &[&format!("/proc/{process}/stat")])?;
            check(own.contains(") T "), || format!("the daemon runs: {own}"))?;
            let drops = |line: &str| line.split_whitespace().nth(8)?.parse::<u64>().ok();
            Ok(sockets.lines().filter_map(drops).sum())
        };
        let drops = lost()?;
        check(drops > 0, || "no notification was lost".into())?;
        run(&host, &[&["ip", "route", "delete", "10.244.2.0/24"]])?;
        signal(Signal::SIGCONT)?;
        eventually(SOON, || {
            let route = host.run("ip", &["route", "show", "10.244.2.0/24"])?;
            check(route.contains("nhid 11200001"), || format!("{route:?}"))
        })
    });
}

#[test]
fn changes_that_the_kernel_does_not_announce_are_repaired_by_the_next_full_sync() {
    cluster(2, |lab| {
        let host = lab.nodes[0].host.clone();
        let settings = [
            "ipv6/conf/podwire.1/accept_ra",
            "ipv6/conf/podwire.1/accept_redirects",
            "ipv4/conf/podwire.1/accept_redirects",
        ];
        for setting in settings {
            host.run("sh", &["-c", &format!("echo 1 > /proc/sys/net/{setting}")])?;
        }
        eventually(A_TICK, || {
            let paths = settings.map(|setting| format!("/proc/sys/net/{setting}"));
            let found = host.run("cat", &paths.each_ref().map(String::as_str))?;
            check(found.lines().all(|value| value == "0"), || format!("{found:?}"))
        })
    });
}

#[test]
fn a_foreign_route_in_the_place_of_ours_is_reported_and_ours_returns_when_it_is_gone() {
    cluster(2, |lab| {
        let host = lab.nodes[0].host.clone();
        let daemon = lab.nodes[0].daemon.as_ref().ok_or("no daemon")?;
        for (family, destination, gateway) in
            [("-4", "10.244.2.0/24", "192.168.50.254"), ("-6", "fd00:10:244:2::/64", "fd00:192:168:50::254")]
        {
            run(&host, &[&["ip", family, "route", "replace", destination, "via", gateway, "proto", "static"]])?;
            let said = format!("add route {destination} nhid 11200001: File exists (17): it is foreign");
            daemon.wait_for(&said, SOON)?;
            let route = host.run("ip", &[family, "route", "show", destination])?;
            check(route.contains(gateway), || route)?;
            run(&host, &[&["ip", family, "route", "delete", destination, "proto", "static"]])?;
            eventually(SOON, || {
                let route = host.run("ip", &[family, "route", "show", destination])?;
                check(route.contains("nhid 11200001"), || format!("{route:?}"))
            })?;
        }
        Ok(())
    });
}

#[test]
fn each_change_is_logged_once_and_foreign_changes_are_not() {
    cluster(2, |lab| {
        let host = lab.nodes[0].host.clone();
        let daemon = lab.nodes[0].daemon.as_ref().ok_or("no daemon")?;
        let before = daemon.said().len();
        for number in 1..=20 {
            let (route, link) = (format!("172.16.{number}.0/24"), format!("foreign{number}"));
            let neighbour = format!("192.168.50.{}", 100 + number);
            run(
                &host,
                &[
                    &["ip", "route", "add", &route, "via", "192.168.50.254"],
                    &["ip", "link", "add", &link, "type", "bridge"],
                    &["ip", "link", "set", &link, "up"],
                    &["ip", "neighbour", "add", &neighbour, "lladdr", "02:00:00:00:00:77", "dev", "eth0"],
                    &["nft", "add", "table", "inet", &link],
                    &["ip", "route", "delete", &route],
                    &["ip", "link", "delete", &link],
                ],
            )?;
        }
        // A damage of one thing after all of that is one line, and the only one.
        run(&host, &[&["ip", "route", "delete", "10.244.2.0/24"]])?;
        eventually(SOON, || {
            let said = daemon.said().split_off(before);
            check(!said.is_empty(), || "nothing was said of a repair".into())
        })?;
        run(&host, &[&["ip", "-6", "route", "delete", "fd00:10:244:2::/64"]])?;
        eventually(SOON, || {
            let said = daemon.said().split_off(before);
            check(said.len() >= 2, || format!("{said:?}"))
        })?;
        let said = daemon.said().split_off(before);
        let each = said.len() == 2
            && said[0].contains("INFO")
            && said[0].contains("add route 10.244.2.0/24 nhid 11200001")
            && said[1].contains("INFO")
            && said[1].contains("add route fd00:10:244:2::/64 nhid 11200001");
        check(each, || format!("{said:?}"))
    });
}

#[test]
fn foreign_routes_that_come_and_go_are_not_reported_as_conflicts() {
    cluster(2, |lab| {
        let host = lab.nodes[0].host.clone();
        // So many routes that the kernel lists them in parts.
        let mut membership = podwire_tests::lab::membership::Membership::of(1..=100);
        for (number, node) in (0_u32..).zip(&mut membership.nodes) {
            node.2.extend((0..10).map(|more| {
                let cidr = format!("fd00:10:244:{:x}::/64", 0x8000 + number * 10 + more);
                cidr.parse::<ipnetwork::IpNetwork>().unwrap()
            }));
        }
        lab.write(&membership)?;
        let daemon = lab.nodes[0].daemon.as_ref().ok_or("no daemon")?;
        daemon.wait_for("add route fd00:10:244:8300::/64", SOON)?;
        // IPv6 routes before ours in the kernel's tree, all of which go and come again while ours are listed.
        let line = |what: &str| format!("echo route {what} fc00::$i/128 dev eth0");
        let flood = |what: &str| format!("i=0; while [ $i -lt 300 ]; do {}; i=$((i + 1)); done", line(what));
        host.run("sh", &["-c", &format!("{{ {}; {}; }} > /run/batch", flood("add"), flood("delete"))])?;
        let syncs = || daemon.said().iter().filter(|line| line.contains("add route 10.244.2.0/24")).count();
        // Damage to ours meanwhile, so that full syncs are made.
        while syncs() < 10 {
            host.run("ip", &["-6", "-batch", "/run/batch"])?;
            let _gone_already = host.run("ip", &["route", "delete", "10.244.2.0/24"]);
        }
        let said = daemon.said();
        let blamed = said.iter().find(|line| line.contains("kind=\"foreign-object\""));
        check(blamed.is_none(), || format!("{blamed:?}"))
    });
}
