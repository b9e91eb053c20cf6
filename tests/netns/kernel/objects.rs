//! Values and the kernel: what is set is what is listed, what is replaced is replaced, what is removed is gone.

use std::os::fd::AsFd;
use std::slice::from_ref;

use podwire_kernel::address::{self, Address};
use podwire_kernel::link::{self, End, Veth, Vxlan, vni_filter};
use podwire_kernel::neighbour::{self, Neighbour};
use podwire_kernel::netns::Namespace;
use podwire_kernel::nexthop::{self, Encap, Nexthop};
use podwire_kernel::route::{self, Route, Target};
use podwire_kernel::{Mac, Socket};
use podwire_tests::lab::host::Host;

const OURS: u8 = 112;
const OVERLAY: Vxlan =
    Vxlan { port: 8472, external: true, vni_filter: true, learning: false, zero_checksum6_received: true };

pub(crate) fn host() -> Host {
    Host::new("kernel", std::path::Path::new("/run")).unwrap()
}

/// A VXLAN device that is up, and its index.
fn overlay(socket: &mut Socket) -> u32 {
    socket.execute(OVERLAY.create("vx", Mac([2, 0, 0, 0, 0, 1]), 1450)).unwrap();
    let link = link::by_name(socket, "vx").unwrap().unwrap();
    socket.execute(link::set_router_port(link.index, link.mtu, None, &[])).unwrap();
    socket.execute(link::set_up(link.index, "vx")).unwrap();
    link.index
}

#[test]
fn a_vxlan_device_reads_back_as_it_was_created() {
    host().enter(|| {
        let mut socket = Socket::route().unwrap();
        assert_eq!(link::by_name(&mut socket, "vx").unwrap(), None);
        let index = overlay(&mut socket);
        let found = link::by_index(&mut socket, index).unwrap().unwrap();
        assert_eq!((found.vxlan, found.mtu, found.up), (Some(OVERLAY), 1450, true));
        assert_eq!(found.mac, Some(Mac([2, 0, 0, 0, 0, 1])));
        socket.execute(vni_filter::add(index, 1)).unwrap();
        assert_eq!(vni_filter::list(&mut socket, index).unwrap(), [1]);
        // The kernel lists neighbours as a range.
        socket.execute(vni_filter::add(index, 2)).unwrap();
        assert_eq!(vni_filter::list(&mut socket, index).unwrap(), [1, 2]);
        socket.execute(vni_filter::delete(index, 2)).unwrap();
        socket.execute(vni_filter::delete(index, 1)).unwrap();
        assert_eq!(vni_filter::list(&mut socket, index).unwrap(), [0_u32; 0]);
        socket.execute(link::delete("vx")).unwrap();
        socket.execute(link::delete("vx")).unwrap();
        assert_eq!(link::by_name(&mut socket, "vx").unwrap(), None);
    });
}

#[test]
fn a_veth_pair_is_created_across_two_namespaces_with_its_addresses_and_its_mtu() {
    let (outer, inner) = (host(), host());
    let inside = inner.enter(|| Namespace::own().unwrap());
    let (host_mac, pod_mac) = (Mac([2, 0, 0, 0, 0, 1]), Mac([2, 0, 0, 0, 0, 2]));
    let pair = Veth {
        host: End { name: "outer", mac: host_mac },
        pod: End { name: "inner", mac: pod_mac },
        namespace: inside.as_fd(),
        mtu: 1400,
    };
    let here = outer.enter(|| {
        let mut socket = Socket::route().unwrap();
        socket.execute(pair.create()).unwrap();
        let again = socket.execute(pair.create()).unwrap_err();
        assert!(again.already_there(), "{again}");
        link::by_name(&mut socket, "outer").unwrap().unwrap()
    });
    let there = inner.enter(|| link::by_name(&mut Socket::route().unwrap(), "inner").unwrap().unwrap());
    assert_eq!((here.mac, here.mtu, here.peer), (Some(host_mac), 1400, Some(there.index)));
    assert_eq!((there.mac, there.mtu, there.kind.as_deref()), (Some(pod_mac), 1400, Some("veth")));
}

#[test]
fn addresses_neighbours_and_routes_of_a_device_are_listed_replaced_and_removed() {
    host().enter(|| {
        let mut socket = Socket::route().unwrap();
        let device = overlay(&mut socket);
        for (own, far) in [("10.1.0.0/32", "10.1.0.9"), ("fd00:1::/128", "fd00:1::9")] {
            let own = Address { device, address: own.parse().unwrap() };
            socket.execute(own.replace()).unwrap();
            socket.execute(own.replace()).unwrap();
            assert_eq!(address::list(&mut socket, Some(device)).unwrap(), from_ref(&own));
            socket.execute(own.delete()).unwrap();
            socket.execute(own.delete()).unwrap();
            assert_eq!(address::list(&mut socket, Some(device)).unwrap(), []);

            let mut far = Neighbour { device, address: far.parse().unwrap(), mac: Mac([2; 6]) };
            socket.execute(far.replace()).unwrap();
            far.mac = Mac([4; 6]);
            socket.execute(far.replace()).unwrap();
            assert_eq!(neighbour::list(&mut socket, device).unwrap(), from_ref(&far));
            socket.execute(far.delete()).unwrap();
            socket.execute(far.delete()).unwrap();
            assert_eq!(neighbour::list(&mut socket, device).unwrap(), []);
        }
    });
}

#[test]
fn a_nexthop_serves_both_families_over_either_underlay_and_is_replaced_in_place() {
    host().enter(|| {
        let mut socket = Socket::route().unwrap();
        let device = overlay(&mut socket);
        for (source, destination, other) in [("192.0.2.1", "192.0.2.2", "192.0.2.3"), ("fd00::1", "fd00::2", "fd00::3")]
        {
            let (source, destination) = (source.parse().unwrap(), destination.parse().unwrap());
            let encap = Encap { vni: 1, source, destination };
            let gateway = "fe80::2".parse().unwrap();
            let mut peer = Nexthop { id: 7, device, gateway, encap: Some(encap), protocol: OURS };
            socket.execute(peer.replace()).unwrap();
            let routes = ["10.2.0.0/16", "fd00:2::/64"].map(|destination| Route {
                destination: destination.parse().unwrap(),
                metric: 0,
                target: Target::Nexthop(7),
                protocol: OURS,
            });
            for route in &routes {
                socket.execute(route.replace()).unwrap();
            }
            peer.encap = Some(Encap { destination: other.parse().unwrap(), ..encap });
            socket.execute(peer.replace()).unwrap();
            assert_eq!(nexthop::list(&mut socket, OURS).unwrap(), (vec![peer.clone()], vec![]));
            // Another owner's nexthop is known by its id only.
            assert_eq!(nexthop::list(&mut socket, OURS + 1).unwrap(), (vec![], vec![7]));
            assert_eq!(route::list(&mut socket, OURS).unwrap(), routes);
            socket.execute(peer.delete()).unwrap();
            socket.execute(peer.delete()).unwrap();
            assert_eq!(route::list(&mut socket, OURS).unwrap(), []);
        }
    });
}

#[test]
fn routes_are_listed_and_removed_by_owner() {
    host().enter(|| {
        let mut socket = Socket::route().unwrap();
        let device = overlay(&mut socket);
        for destination in ["10.3.0.0/16", "fd00:3::/48"] {
            let destination = destination.parse().unwrap();
            let mut route = Route { destination, metric: 0, target: Target::Unreachable, protocol: OURS };
            let foreign = Route { protocol: OURS + 1, ..route.clone() };
            for target in [Target::Unreachable, Target::Blackhole, Target::Device(device)] {
                route.target = target;
                socket.execute(route.replace()).unwrap();
                assert_eq!(route::list(&mut socket, OURS).unwrap(), from_ref(&route));
            }
            assert!(socket.execute(route.add()).unwrap_err().already_there());
            socket.execute(foreign.delete()).unwrap();
            assert_eq!(
                route::list(&mut socket, OURS).unwrap(),
                from_ref(&route),
                "a foreign route's removal is not ours"
            );
            socket.execute(route.delete()).unwrap();
            socket.execute(route.delete()).unwrap();
            assert_eq!(route::list(&mut socket, OURS).unwrap(), []);
        }
    });
}

#[test]
fn a_rejected_request_of_a_batch_is_named_and_the_others_are_executed() {
    host().enter(|| {
        let mut socket = Socket::route().unwrap();
        // More than go into one system call, every third one wrong: a device that is not there.
        let route = |number: u8| Route {
            destination: format!("10.9.{number}.0/24").parse().unwrap(),
            metric: 0,
            target: if number.is_multiple_of(3) { Target::Device(4711) } else { Target::Blackhole },
            protocol: OURS,
        };
        let refused = socket.execute_all((0..=254).map(|number| route(number).replace()).collect());
        let places: Vec<_> = refused.iter().map(|(place, _)| *place).collect();
        assert_eq!(places, (0..=254).step_by(3).collect::<Vec<_>>());
        assert_eq!(refused[1].1.to_string(), "set route 10.9.3.0/24 dev 4711: No such device (19)");
        assert_eq!(route::list(&mut socket, OURS).unwrap().len(), 170);
    });
}
