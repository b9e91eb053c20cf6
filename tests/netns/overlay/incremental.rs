//! Incremental syncs: a change of a few peers ends in the same state as a full sync, touches nothing foreign, and what other
//! programs do meanwhile is not missed.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use podwire_kernel::Socket;
use podwire_kernel::netlink::monitor::Monitor;
use podwire_kernel::nexthop::{self, Encap, Nexthop};
use podwire_kernel::route::{Route, Target};
use podwire_tests::lab::daemon::json;
use podwire_tests::lab::host::Host;
use podwire_tests::lab::membership::{self, Membership};
use podwire_tests::lab::scene::{Outcome, check, cluster, scene};
use podwire_tests::lab::{Lab, SOON, daemon, eventually};

/// What a node has of ours, without the ids of nexthops, which depend on who came first.
fn ours(host: &Host) -> Outcome<BTreeSet<String>> {
    let looks: [(&str, &[&str]); 6] = [
        ("ip", &["-4", "route", "show", "proto", "112"]),
        ("ip", &["-6", "route", "show", "proto", "112"]),
        ("ip", &["nexthop", "show", "proto", "112"]),
        ("ip", &["neighbour", "show", "dev", "podwire.1", "nud", "permanent"]),
        ("ip", &["-oneline", "address", "show", "dev", "podwire.1", "scope", "global"]),
        ("bridge", &["vni"]),
    ];
    let mut found = BTreeSet::new();
    for (program, arguments) in looks {
        for line in host.run(program, arguments)?.lines() {
            let is_id =
                |word: &str| word.parse().is_ok_and(|id: u32| podwire_conf::defaults::NEXTHOP_IDS.contains(&id));
            // Of an address the number of its device goes as well.
            let known = line.split_whitespace().filter(|word| !is_id(word) && !word.ends_with(':'));
            found.insert(known.collect::<Vec<_>>().join(" "));
        }
    }
    Ok(found)
}

/// What a node has that is started on the membership of a lab as it is now.
fn fresh(lab: &Lab) -> Outcome<BTreeSet<String>> {
    let host = &lab.nodes[0].host;
    let mut fresh = Lab::new(1)?;
    let text = host.enter(|| std::fs::read_to_string("/run/lab/nodes.toml")).map_err(|error| error.to_string())?;
    fresh.nodes[0].host.enter(|| std::fs::write("/run/lab/nodes.toml", text)).map_err(|error| error.to_string())?;
    fresh.start()?;
    ours(&fresh.nodes[0].host)
}

/// That a node has just what was wanted.
fn equal(what: &str, found: &BTreeSet<String>, wanted: &BTreeSet<String>) -> Outcome {
    let (more, less): (Vec<_>, Vec<_>) = (found.difference(wanted).collect(), wanted.difference(found).collect());
    check(found == wanted, || format!("{what}: has {more:#?} and lacks {less:#?}"))
}

/// Waits until the first node has just what a node has that is started on the membership as it is now.
fn as_a_fresh_start(lab: &Lab, what: &str) -> Outcome {
    let wanted = fresh(lab)?;
    eventually(SOON, || equal(what, &ours(&lab.nodes[0].host)?, &wanted))
}

/// Changes the membership; what the node has before anything but that change was looked at. Nothing where a full sync came
/// first, which is only so where the machine is busy.
fn at_once(lab: &Lab, membership: &Membership) -> Outcome<Option<BTreeSet<String>>> {
    let host = &lab.nodes[0].host;
    let whole = at_rest(host)?;
    let (short, _) = syncs(host)?;
    lab.write(membership)?;
    eventually(SOON, || check(syncs(host)?.0 > short, || "no incremental sync is made".into()))?;
    let found = ours(host)?;
    Ok((syncs(host)? == (short + 1, whole)).then_some(found))
}

#[test]
fn after_any_change_of_peers_the_node_is_as_after_a_fresh_start() {
    cluster(1, |lab| {
        let mut several = Membership::of((1..=6).filter(|number| *number != 3).chain([9]));
        several.nodes[2].1 = [192, 168, 50, 44].into();
        several.nodes[3].2 = membership::pod_cidrs(55);
        let mut swapped = several.clone();
        let (one, other) = (several.nodes[1].2.clone(), several.nodes[4].2.clone());
        (swapped.nodes[1].2, swapped.nodes[4].2) = (other, one);
        let steps = [
            ("five come", Membership::of(1..=6)),
            ("one leaves and one comes", Membership::of((1..=6).filter(|number| *number != 3).chain([9]))),
            ("one has another address and one has other pod CIDRs", several),
            ("two have changed their pod CIDRs for one another's", swapped),
            ("all leave", Membership::of([1])),
        ];
        let mut seen = 0;
        for (what, membership) in steps {
            let found = at_once(lab, &membership).map_err(|why| format!("{what}: {why}"))?;
            let wanted = fresh(lab)?;
            if let Some(found) = found {
                equal(&format!("{what}, at once"), &found, &wanted)?;
                seen += 1;
            }
            eventually(SOON, || equal(what, &ours(&lab.nodes[0].host)?, &wanted))?;
        }
        check(seen >= 3, || format!("full syncs came before {} of 5 looks", 5 - seen))
    });
}

/// The daemon's syncs since its start: the incremental ones and the full ones.
fn syncs(host: &Host) -> Outcome<(u64, u64)> {
    let status = json(host, &["status", "--json"])?;
    let count = |name: &str| status["daemon"][name].as_u64().ok_or_else(|| status.to_string());
    let (all, short) = (count("passes")?, count("short_passes")?);
    Ok((short, all - short))
}

/// Waits until the node's last sync was some time ago; the full syncs so far.
fn at_rest(host: &Host) -> Outcome<u64> {
    eventually(SOON, || {
        let status = json(host, &["status", "--json"])?;
        let age = status["daemon"]["last_pass_age_seconds"].as_f64();
        check(age.is_some_and(|age| age > 1.5), || format!("the last sync was {age:?} s ago"))?;
        Ok(syncs(host)?.1)
    })
}

#[test]
fn neighbours_that_the_kernel_learns_and_forgets_do_not_wake_the_daemon() {
    scene(2, |lab| {
        daemon::start_with_settings(&mut lab.nodes[0], "probes = false\n", &[])?;
        let (host, outside) = (lab.nodes[0].host.clone(), lab.outside.clone());
        let addresses: Vec<_> = (200..230).map(|last| format!("192.168.50.{last}")).collect();
        for address in &addresses {
            outside.run("ip", &["address", "add", address, "dev", "eth0"])?;
        }
        let before = at_rest(&host)?;
        for address in &addresses {
            host.run("ping", &["-c", "1", "-W", "5", address])?;
        }
        let learnt = host.run("ip", &["neighbour", "show", "dev", "eth0", "nud", "reachable"])?;
        check(learnt.lines().count() >= addresses.len(), || learnt)?;
        // What comes behind them is heard, so they have been as well.
        host.run("ip", &["route", "delete", "10.244.2.0/24"])?;
        eventually(SOON, || {
            let route = host.run("ip", &["route", "show", "10.244.2.0/24"])?;
            check(route.contains("nhid"), || format!("{route:?}"))
        })?;
        // The repair, a look at what came of it, and one by the clock.
        let syncs = at_rest(&host)? - before;
        check((1..=3).contains(&syncs), || format!("{syncs} syncs"))
    });
}

#[test]
fn a_change_of_a_few_peers_is_synced_incrementally_and_a_full_sync_follows() {
    cluster(1, |lab| {
        let host = lab.nodes[0].host.clone();
        check(syncs(&host)?.0 == 0, || "the start was an incremental sync".into())?;
        let before = at_rest(&host)?;
        for count in 1..=10 {
            // Two come, one of the last two leaves.
            let number = u16::try_from(count).unwrap() + 1;
            lab.write(&Membership::of([1, number, number + 1]))?;
            eventually(SOON, || {
                let (short, whole) = syncs(&host)?;
                check(short == count, || format!("{short} incremental syncs and {whole} full ones for {count} changes"))
            })?;
            // Whatever there is of it was made by that sync.
            let routes = host.run("ip", &["route", "show", "proto", "112"])?;
            let arrived = routes.contains(&format!("10.244.{}.0/24 nhid", number + 1));
            check(arrived && routes.matches(" nhid ").count() == 2, || routes)?;
        }
        // The peers came faster after one another than it comes after the last one. (One is the clock's.)
        let whole = syncs(&host)?.1;
        check(whole <= before + 1, || format!("{} full syncs among ten changes", whole - before))?;
        eventually(SOON, || check(syncs(&host)?.1 > whole, || "no full sync follows".into()))?;
        as_a_fresh_start(lab, "after ten changes")
    });
}

#[test]
fn constant_churn_of_peers_ends_in_the_right_state() {
    cluster(1, |lab| {
        let host = lab.nodes[0].host.clone();
        // The next ones come while the daemon still looks at what has become of the last ones.
        let follow = |membership: &Membership| {
            let (short, whole) = syncs(&host)?;
            lab.write(membership)?;
            eventually(SOON, || {
                let now = syncs(&host)?;
                check(now.0 + now.1 > short + whole, || "the daemon does not notice".into())
            })
        };
        let mut membership = Membership::of([1]);
        for round in 1..=16_u16 {
            let present = (2..=60).filter(|number| !(number * 7 + round * 13).is_multiple_of(5));
            membership = Membership::of([1].into_iter().chain(present));
            // Some have another address in each round.
            for (number, (_, address, _)) in
                (1..).zip(membership.nodes.iter_mut().skip(1).step_by(usize::from(round % 7) + 2))
            {
                *address = [192, 168, 50 + u8::try_from(round).unwrap(), number].into();
            }
            follow(&membership)?;
        }
        // Few at last: what came of them is looked at as a whole, too.
        membership.nodes.truncate(20);
        follow(&membership)?;
        as_a_fresh_start(lab, "after the churn")
    });
}

#[test]
fn a_joining_peer_does_not_take_a_foreign_nexthop_id() {
    cluster(2, |lab| {
        let host = lab.nodes[0].host.clone();
        let foreign = ["nexthop", "add", "id", "11200002", "via", "192.168.50.254", "dev", "eth0", "proto", "bird"];
        host.run("ip", &foreign)?;
        lab.write(&Membership::of(1..=3))?;
        eventually(SOON, || {
            let nexthops = host.run("ip", &["nexthop"])?;
            let right = nexthops.contains("id 11200002 via 192.168.50.254") && nexthops.contains("id 11200003 ");
            check(right, || nexthops)
        })
    });
}

#[test]
fn a_foreign_route_in_the_place_of_a_joining_peers_is_reported_and_kept() {
    cluster(2, |lab| {
        let host = lab.nodes[0].host.clone();
        host.run("ip", &["route", "add", "10.244.3.0/24", "via", "192.168.50.254", "proto", "static"])?;
        lab.write(&Membership::of(1..=3))?;
        let daemon = lab.nodes[0].daemon.as_ref().ok_or("no daemon")?;
        daemon.wait_for("10.244.3.0/24 nhid 11200002: File exists (17): it is foreign", SOON)?;
        let route = host.run("ip", &["route", "show", "10.244.3.0/24"])?;
        check(route.contains("via 192.168.50.254"), || route)?;
        host.run("ip", &["route", "delete", "10.244.3.0/24"])?;
        eventually(SOON, || {
            let route = host.run("ip", &["route", "show", "10.244.3.0/24"])?;
            check(route.contains("nhid 11200002"), || route)
        })
    });
}

#[test]
fn damage_during_churn_is_repaired() {
    cluster(2, |lab| {
        let host = lab.nodes[0].host.clone();
        for round in 0..20_u16 {
            lab.write(&Membership::of([1, 2, 10 + round]))?;
            host.run("ip", &["route", "delete", "10.244.2.0/24"])?;
            eventually(SOON, || {
                let routes = host.run("ip", &["route", "show", "proto", "112"])?;
                check(routes.contains("10.244.2.0/24 nhid"), || routes)
            })?;
        }
        as_a_fresh_start(lab, "after all that")
    });
}

#[test]
fn a_nexthop_that_is_added_is_ours_and_one_that_was_changed_is_noticed() {
    let host = Host::new("kernel", std::path::Path::new("/run")).unwrap();
    host.enter(|| {
        let mut socket = Socket::route().unwrap();
        let overlay = podwire_kernel::link::Vxlan {
            port: 8472,
            external: true,
            vni_filter: true,
            learning: false,
            zero_checksum6_received: true,
        };
        socket.execute(overlay.create("vx", podwire_kernel::Mac([2, 0, 0, 0, 0, 1]), 1450)).unwrap();
        let device = podwire_kernel::link::by_name(&mut socket, "vx").unwrap().unwrap().index;
        socket.execute(podwire_kernel::link::set_up(device, "vx")).unwrap();
        let encap = Encap { vni: 1, source: "192.0.2.1".parse().unwrap(), destination: "192.0.2.2".parse().unwrap() };
        let first = Nexthop { id: 7, device, gateway: "fe80::2".parse().unwrap(), encap: Some(encap), protocol: 112 };
        let second = Nexthop { id: 8, gateway: "fe80::3".parse().unwrap(), ..first.clone() };
        socket.execute(first.add()).unwrap();
        socket.execute(second.add()).unwrap();
        assert!(socket.execute(second.add()).unwrap_err().already_there());
        assert!(nexthop::has_all(&mut socket, [&first, &second]).unwrap());
        let other = Nexthop { protocol: 12, ..second.clone() };
        socket.execute(other.replace()).unwrap();
        assert!(!nexthop::has_all(&mut socket, [&first, &second]).unwrap());
        socket.execute(other.delete()).unwrap();
        assert!(!nexthop::has_all(&mut socket, [&first, &second]).unwrap());
        assert!(nexthop::has_all(&mut socket, [&first]).unwrap());
    });
}

#[test]
fn a_stopped_socket_refuses_dumps_and_still_makes_changes() {
    let host = Host::new("kernel", std::path::Path::new("/run")).unwrap();
    host.enter(|| {
        let stop = Arc::new(AtomicBool::new(true));
        let mut socket = Socket::route().unwrap();
        socket.stop_by(stop.clone());
        let route = blackhole(0);
        socket.execute(route.replace()).unwrap();
        let error = podwire_kernel::route::list(&mut socket, 112).unwrap_err().to_string();
        assert!(error.contains("something more urgent comes first"), "{error}");
        stop.store(false, Ordering::Relaxed);
        assert_eq!(podwire_kernel::route::list(&mut socket, 112).unwrap(), [route]);
    });
}

fn blackhole(number: u8) -> Route {
    let destination = format!("10.9.{number}.0/24").parse().unwrap();
    Route { destination, metric: 0, target: Target::Blackhole, protocol: 112 }
}

#[test]
fn a_socket_is_notified_of_the_changes_of_others_and_not_of_its_own() {
    let host = Host::new("kernel", std::path::Path::new("/run")).unwrap();
    host.enter(|| {
        let (mut own, mut other) = (Socket::route().unwrap(), Socket::route().unwrap());
        let monitor = Monitor::open(&[own.port()], &[]).unwrap();
        let (sender, receiver) = std::sync::mpsc::channel();
        std::thread::spawn(move || while monitor.wait().is_ok_and(|()| sender.send(()).is_ok()) {});
        for number in 0..100 {
            own.execute(blackhole(number).replace()).unwrap();
        }
        for number in 0..50 {
            own.execute(blackhole(number).delete()).unwrap();
        }
        other.execute(blackhole(200).replace()).unwrap();
        receiver.recv_timeout(SOON).unwrap();
        // The one notification was of the last change: all earlier ones had arrived.
        assert!(receiver.try_recv().is_err());
        own.execute(blackhole(201).replace()).unwrap();
        other.execute(blackhole(200).delete()).unwrap();
        receiver.recv_timeout(SOON).unwrap();
        assert!(receiver.try_recv().is_err());
    });
}
