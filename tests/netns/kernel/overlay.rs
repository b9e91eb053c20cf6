//! Values of the overlay and the kernel: plain nexthops, routes of a device, tunnels that are elsewhere, and lists that are
//! made while others change what is listed.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::slice::from_ref;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use podwire_kernel::address::Address;
use podwire_kernel::link::{self, Vxlan, moved, vni_filter};
use podwire_kernel::nexthop::{self, Encap, Nexthop};
use podwire_kernel::route::{self, Route, Target};
use podwire_kernel::{Mac, Request, Socket};
use podwire_tests::lab::host::Host;

const OURS: u8 = 112;
const OTHERS: u8 = 200;
const OVERLAY: Vxlan =
    Vxlan { port: 8472, external: true, vni_filter: true, learning: false, zero_checksum6_received: true };

fn host() -> Host {
    Host::new("kernel", std::path::Path::new("/run")).unwrap()
}

/// A VXLAN device that is up, and its index.
fn overlay(socket: &mut Socket, name: &str) -> u32 {
    socket.execute(OVERLAY.create(name, Mac([2, 0, 0, 0, 0, 1]), 1450)).unwrap();
    let link = link::by_name(socket, name).unwrap().unwrap();
    socket.execute(link::set_router_port(link.index, link.mtu, None, &[])).unwrap();
    socket.execute(link::set_up(link.index, name)).unwrap();
    // Without any address there is no way to look a gateway up.
    let address = ipnetwork::IpNetwork::from(IpAddr::from([192, 0, 2, 1]));
    socket.execute(Address { device: link.index, address }.replace()).unwrap();
    link.index
}

fn to(destination: &str, target: Target) -> Route {
    Route { destination: destination.parse().unwrap(), metric: 0, target, protocol: OURS }
}

#[test]
fn a_nexthop_without_a_tunnel_reads_back_and_replaces_one_with_a_tunnel() {
    host().enter(|| {
        let mut socket = Socket::route().unwrap();
        let device = overlay(&mut socket, "vx");
        for gateway in ["192.0.2.2", "fd00::2"] {
            let plain = Nexthop { id: 7, device, gateway: gateway.parse().unwrap(), encap: None, protocol: OURS };
            let encap = Encap { vni: 1, source: [192, 0, 2, 1].into(), destination: [192, 0, 2, 2].into() };
            let tunnel = Nexthop { gateway: "fe80::2".parse().unwrap(), encap: Some(encap), ..plain.clone() };
            let route = to(if gateway.contains(':') { "fd00:2::/64" } else { "10.2.0.0/16" }, Target::Nexthop(7));
            for wanted in [&plain, &tunnel, &plain] {
                socket.execute(wanted.replace()).unwrap();
                socket.execute(route.replace()).unwrap();
                assert!(route::holds(&mut socket, &route).unwrap());
                assert_eq!(nexthop::list(&mut socket, OURS).unwrap(), (vec![wanted.clone()], vec![]));
            }
            socket.execute(plain.delete()).unwrap();
        }
    });
}

#[test]
fn routes_of_a_device_are_listed_without_ours_and_ours_with_extra_attributes_are_foreign() {
    let host = host();
    host.enter(|| {
        let mut socket = Socket::route().unwrap();
        let device = overlay(&mut socket, "vx");
        for (destination, gateway) in [("10.3.0.0/16", "10.9.0.1"), ("fd00:3::/48", "fd00:9::1")] {
            let gateway: IpAddr = gateway.parse().unwrap();
            let ours = to(destination, Target::Device(device));
            let theirs =
                Route { protocol: OTHERS, target: Target::Gateway { gateway, device }, metric: 9, ..ours.clone() };
            socket.execute(ours.replace()).unwrap();
            socket.execute(theirs.replace()).unwrap();
            let listed = route::list_of_device(&mut socket, device, gateway, OURS).unwrap();
            let mut listed = listed.into_iter().filter(|route| route.protocol != 2);
            assert_eq!((listed.next(), listed.next()), (Some(theirs), None));
            assert_eq!(route::list_bare(&mut socket, OURS).unwrap(), from_ref(&ours));
            host.run("ip", &["route", "change", destination, "dev", "vx", "proto", "112", "mtu", "600"]).unwrap();
            assert_eq!(
                route::list_bare(&mut socket, OURS).unwrap(),
                [Route { target: Target::Foreign, ..ours.clone() }]
            );
            socket.execute(ours.replace()).unwrap();
            assert_eq!(route::list_bare(&mut socket, OURS).unwrap(), from_ref(&ours));
            socket.execute(ours.delete()).unwrap();
        }
        // A route for some of the packets only is another one.
        host.run("ip", &["route", "add", "10.3.0.0/16", "tos", "4", "dev", "vx", "proto", "112"]).unwrap();
        assert_eq!(route::list(&mut socket, OURS).unwrap(), []);
        let none = route::list_of_device(&mut socket, 9_999, [0; 4].into(), OURS).unwrap();
        assert_eq!(none, [], "a device that has gone has no routes");
    });
}

#[test]
fn a_vxlan_device_that_was_moved_to_another_namespace_is_found_and_removed_there_and_no_foreign_one() {
    let host = host();
    host.enter(|| {
        let mut socket = Socket::route().unwrap();
        let index = overlay(&mut socket, "vx");
        socket.execute(vni_filter::add(index, 1)).unwrap();
        assert_eq!(moved::list(&mut socket).unwrap(), []);
        host.run("ip", &["netns", "add", "thief"]).unwrap();
        host.run("ip", &["link", "set", "vx", "netns", "thief"]).unwrap();
        // Made there, of the same settings; and one that is here.
        let theirs =
            ["netns", "exec", "thief", "ip", "link", "add", "theirs", "type", "vxlan", "external", "vnifilter"];
        host.run("ip", &theirs).unwrap();
        overlay(&mut socket, "vy");
        let found = moved::list(&mut socket).unwrap();
        let names: Vec<_> = found.iter().map(|moved| moved.link.name.as_str()).collect();
        assert_eq!(names, ["vx"]);
        socket.execute(found[0].delete()).unwrap();
        socket.execute(found[0].delete()).unwrap();
        assert_eq!(moved::list(&mut socket).unwrap(), []);
        let left = host.run("ip", &["-n", "thief", "-brief", "link"]).unwrap();
        assert!(left.contains("theirs") && !left.contains("vx"), "{left}");
        host.run("ip", &["netns", "delete", "thief"]).unwrap();
    });
}

#[test]
fn an_interrupted_dump_is_never_half_a_list() {
    host().enter(|| {
        let mut socket = Socket::route().unwrap();
        let device = overlay(&mut socket, "vx");
        let peer = |id: u32, protocol| Nexthop {
            id,
            device,
            gateway: std::net::Ipv6Addr::from(0xfe80_u128 << 112 | u128::from(id)).into(),
            encap: Some(Encap { vni: 1, source: [192, 0, 2, 1].into(), destination: [192, 0, 2, 2].into() }),
            protocol,
        };
        let ours: Vec<_> = (1_000..3_000).map(|id| peer(id, OURS)).collect();
        assert!(socket.execute_all(ours.iter().map(Nexthop::replace).collect()).is_empty());
        let done = AtomicBool::new(false);
        thread::scope(|scope| {
            let churn = scope.spawn(|| {
                // In the namespace of the thread that it was started by. Before ours and behind them.
                let mut socket = Socket::route().unwrap();
                while !done.load(Ordering::Relaxed) {
                    for theirs in [peer(7, OTHERS), peer(9_000, OTHERS)] {
                        let both: Vec<Request<_>> = vec![theirs.replace(), theirs.delete()];
                        assert!(socket.execute_all(both).is_empty());
                    }
                    thread::park_timeout(Duration::from_millis(1));
                }
            });
            let deadline = Instant::now() + Duration::from_secs(10);
            while socket.interrupted() < 5 && Instant::now() < deadline {
                match nexthop::list(&mut socket, OURS) {
                    Ok((listed, _)) => assert!(listed == ours, "{} of {} were listed", listed.len(), ours.len()),
                    Err(error) => assert!(error.to_string().contains("interrupted by changes"), "{error}"),
                }
            }
            done.store(true, Ordering::Relaxed);
            churn.join().unwrap();
        });
        assert!(socket.interrupted() >= 5, "{} lists were interrupted", socket.interrupted());
    });
}

#[test]
fn a_route_missing_from_an_ipv6_dump_is_found_by_a_lookup() {
    host().enter(|| {
        let mut socket = Socket::route().unwrap();
        let device = overlay(&mut socket, "vx");
        let route = |base: &str, number: u16, protocol| Route {
            destination: format!("{base}:{number:x}::/64").parse().unwrap(),
            metric: 0,
            target: Target::Device(device),
            protocol,
        };
        let mut ours: Vec<_> = (1..2_000).map(|number| route("fd20", number, OURS)).collect();
        ours.extend([to("fd21::/16", Target::Blackhole), to("fd22::/16", Target::Unreachable)]);
        let theirs: Vec<_> = (0..300).map(|number| route("fd10", number, OTHERS)).collect();
        assert!(socket.execute_all(ours.iter().map(Route::replace).collect()).is_empty());
        assert!(ours.iter().all(|route| route::holds(&mut socket, route).unwrap()));
        for not in [to("fd20:1::/64", Target::Blackhole), to("fd23::/16", Target::Device(device)), theirs[0].clone()] {
            assert!(!route::holds(&mut socket, &not).unwrap(), "{not}");
        }
        let done = AtomicBool::new(false);
        thread::scope(|scope| {
            scope.spawn(|| {
                let mut socket = Socket::route().unwrap();
                while !done.load(Ordering::Relaxed) {
                    socket.execute_all(theirs.iter().map(Route::replace).collect());
                    socket.execute_all(theirs.iter().map(Route::delete).collect());
                }
            });
            for _ in 0..20 {
                let listed: BTreeSet<_> = route::list(&mut socket, OURS).unwrap().into_iter().collect();
                let lacks: Vec<_> = ours.iter().filter(|route| !listed.contains(route)).collect();
                assert!(lacks.iter().all(|route| route::holds(&mut socket, route).unwrap()));
            }
            done.store(true, Ordering::Relaxed);
        });
    });
}
