//! The order of a difference, and what becomes of a device that differs.

use podwire_kernel::Mac;

use super::*;
use crate::cluster::membership::Membership;
use crate::cluster::settings::Settings;
use crate::cluster::view::View;
use crate::datapath::overlay::desired;
use crate::datapath::overlay::state::NexthopIds;
use crate::datapath::overlay::underlay::Underlay;
use crate::report::probes::NarrowPaths;

const DEVICE: u32 = 7;

fn view() -> View {
    let membership = Membership::parse(include_str!("../../../../../conf/nodes.toml")).unwrap();
    View::new(&membership, "node-1").unwrap()
}

fn wanted(view: &View) -> State {
    let underlay = Underlay::new(2, "eth0", 1500, &[]);
    desired::state(view, &Settings::default(), Some(DEVICE), &underlay, &NexthopIds::default(), &NarrowPaths::new()).0
}

fn state(desired: &State, found: &State) -> Vec<Request<Message>> {
    super::state(desired, found, Some(DEVICE)).collect()
}

fn operations(changes: &[Request<Message>]) -> Vec<&str> {
    changes.iter().map(|change| change.operation.as_str()).collect()
}

#[test]
fn equal_states_need_no_request() {
    let wanted = wanted(&view());
    assert!(state(&wanted, &wanted).is_empty());
}

#[test]
fn from_nothing_guards_are_added_first_and_routes_to_peers_last() {
    let changes = state(&wanted(&view()), &State::default());
    let operations = operations(&changes);
    let place = |start: &str| operations.iter().position(|operation| operation.starts_with(start)).unwrap();
    let (guard, peer) = (place("add route blackhole"), place("add route 10.244.2.0/24"));
    assert!(guard < place("set neighbour") && place("set neighbour") < place("set nexthop"), "{operations:#?}");
    assert!(place("set nexthop") < peer, "{operations:#?}");
    assert_eq!(operations.iter().filter(|operation| operation.starts_with("add route")).count(), 9);
}

#[test]
fn a_removed_peer_takes_its_routes_its_nexthop_and_its_neighbour_with_it() {
    let (before, mut view) = (wanted(&view()), view());
    let gone = view.peers.remove("node-3").unwrap();
    let changes = state(&wanted(&view), &before);
    let expected = [
        "remove route 10.244.3.0/24 nhid 11200002".to_owned(),
        "remove route fd00:10:244:3::/64 nhid 11200002".to_owned(),
        format!("remove nexthop 11200002 via {} (VNI 1 from 192.168.50.1 to 192.168.50.3)", gone.link_local()),
        format!("remove neighbour {} at {}", gone.link_local(), gone.mac),
    ];
    assert_eq!(operations(&changes), expected);
}

#[test]
fn a_changed_address_of_a_peer_replaces_one_nexthop() {
    let (before, mut view) = (wanted(&view()), view());
    view.peers.get_mut("node-3").unwrap().address = "192.168.50.33".parse().unwrap();
    let changes = state(&wanted(&view), &before);
    assert_eq!(changes.len(), 1);
    assert!(changes[0].operation.starts_with("set nexthop 11200002"), "{}", changes[0].operation);
}

#[test]
fn to_nothing_guards_are_removed_last() {
    let changes = state(&State::default(), &wanted(&view()));
    let operations = operations(&changes);
    let place = |start: &str| operations.iter().position(|operation| operation.starts_with(start)).unwrap();
    let last_peer = operations.iter().rposition(|operation| operation.contains("nhid")).unwrap();
    assert!(last_peer < place("remove nexthop"), "{operations:#?}");
    assert!(place("remove route blackhole") > place("remove neighbour"), "{operations:#?}");
    assert_eq!(operations.last(), Some(&"refuse VNI 1"));
}

#[test]
fn a_route_of_ours_is_replaced_and_one_with_another_metric_is_removed() {
    let (wanted, mut found) = (wanted(&view()), wanted(&view()));
    let destination = "10.244.2.0/24".parse().unwrap();
    found.routes.get_mut(&(destination, 0)).unwrap().target = Target::Blackhole;
    let other_metric = Route { metric: 50, ..wanted.routes[&(destination, 0)].clone() };
    found.with_route(other_metric);
    let changes = state(&wanted, &found);
    let expected = ["set route 10.244.2.0/24 nhid 11200001", "remove route metric 50 10.244.2.0/24 nhid 11200001"];
    assert_eq!(operations(&changes), expected);
}

#[test]
fn a_nexthop_of_ours_is_replaced_and_a_new_one_takes_only_a_free_id() {
    let (wanted, mut found) = (wanted(&view()), wanted(&view()));
    found.nexthops.remove(&11_200_001);
    found.nexthops.get_mut(&11_200_002).unwrap().encap.as_mut().unwrap().vni = 7;
    let flags: Vec<_> = state(&wanted, &found).iter().map(|change| change.flags).collect();
    let (create, replace, exclusive) = (0x400, 0x100, 0x200);
    assert_eq!(flags, [create | exclusive, create | replace]);
}

fn link(device: &Device) -> Link {
    Link {
        index: DEVICE,
        name: device.name.clone(),
        up: true,
        operational: true,
        mtu: device.mtu,
        mac: Some(device.mac),
        kind: Some("vxlan".into()),
        peer: None,
        controller: None,
        alias: None,
        vxlan: Some(device.vxlan),
        makes_link_local: false,
        loopback: false,
    }
}

#[test]
fn the_device_is_kept_changed_recreated_or_foreign() {
    let wanted = desired::device(&view(), &Settings::default(), 1450);
    let good = link(&wanted);
    assert!(matches!(super::device(&wanted, Some(&good)), DeviceChange::Keep));
    assert!(matches!(super::device(&wanted, None), DeviceChange::Create(_)));

    let off = Link { up: false, makes_link_local: true, mtu: 1400, mac: Some(Mac([2; 6])), ..good.clone() };
    let DeviceChange::Change(changes) = super::device(&wanted, Some(&off)) else { panic!() };
    let mac = format!("set the address of device 7 to {}", wanted.mac);
    let expected = [&mac, "set the MTU of device 7 to 1450", "make device 7 a router port", "bring podwire.1 up"];
    assert_eq!(operations(&changes), expected);

    let bridged = Link { controller: Some(3), ..good.clone() };
    let DeviceChange::Change(changes) = super::device(&wanted, Some(&bridged)) else { panic!() };
    assert_eq!(operations(&changes), ["take device 7 out of the one it is a port of"]);

    let mut learning = good.clone();
    learning.vxlan.as_mut().unwrap().learning = true;
    let DeviceChange::Change(changes) = super::device(&wanted, Some(&learning)) else { panic!() };
    assert_eq!(operations(&changes), ["set learning of device 7 to false"]);

    let mut flannels = good.clone();
    flannels.vxlan.as_mut().unwrap().external = false;
    assert!(matches!(super::device(&wanted, Some(&flannels)), DeviceChange::Recreate(_)));
    let bridge = Link { vxlan: None, kind: Some("bridge".into()), ..good };
    assert!(matches!(super::device(&wanted, Some(&bridge)), DeviceChange::Foreign { kind } if kind == "bridge"));
}
