//! What the kernel should have, from what the cluster says: pure.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv6Addr;

use ipnetwork::IpNetwork;
use podwire_conf::{Ipam, Network, Range, Route as PodRoute, defaults};
use podwire_kernel::address::Address;
use podwire_kernel::family;
use podwire_kernel::link::Vxlan;
use podwire_kernel::neighbour::Neighbour;
use podwire_kernel::nexthop::{Encap, Nexthop};
use podwire_kernel::route::{Route, Target};
use podwire_kernel::sysctl::Sysctl;

use crate::settings::Settings;
use crate::state::{Device, State};
use crate::view::View;

/// Ids of nexthop objects that are in use: those of our own, by gateway, and all others.
#[derive(Debug, Clone, Default)]
pub struct NexthopIds {
    /// The id that the kernel has for a gateway of ours.
    pub ours: BTreeMap<Ipv6Addr, u32>,
    /// Every id that is taken, ours included.
    pub taken: BTreeSet<u32>,
}

/// What VXLAN adds to a packet, in bytes: the inner Ethernet header, VXLAN, UDP, and the outer IP header (RFC 7348,
/// section 5).
fn overhead(view: &View) -> u32 {
    let outer = if view.own.address.is_ipv4() { 20 } else { 40 };
    14 + 8 + 8 + outer
}

/// The VXLAN device on an underlay of this MTU, in bytes.
pub fn device(view: &View, settings: &Settings, underlay_mtu: u32) -> Device {
    Device {
        name: defaults::OVERLAY_DEVICE.into(),
        mac: view.own.mac,
        mtu: underlay_mtu.saturating_sub(overhead(view)).max(defaults::SMALLEST_MTU),
        vxlan: Vxlan {
            port: settings.port,
            external: true,
            vni_filter: true,
            learning: false,
            zero_checksum6_received: true,
        },
    }
}

/// Whether a family is routed here at all.
pub fn routes_family(view: &View, ipv4: bool) -> bool {
    view.cluster_cidrs.iter().any(|cidr| cidr.is_ipv4() == ipv4)
}

/// Settings of the kernel, beside IPv6 forwarding: the node routes, and believes nobody on the overlay about routes.
pub fn settings(view: &View) -> Vec<Sysctl> {
    let device = defaults::OVERLAY_DEVICE;
    // The gateways on the overlay are link-local addresses, so that IPv6 has to work there even where it is off.
    let mut settings = vec![
        Sysctl::of_device("ipv6", device, "disable_ipv6", "0"),
        Sysctl::of_device("ipv6", device, "accept_ra", "0"),
        Sysctl::of_device("ipv6", device, "accept_redirects", "0"),
        Sysctl::of_device("ipv4", device, "accept_redirects", "0"),
    ];
    if routes_family(view, true) {
        settings.push(Sysctl { path: "net/ipv4/ip_forward".into(), value: "1" });
    }
    settings
}

/// Everything on and behind the device with this index, and the peers for which no nexthop id is left.
///
/// A peer keeps the nexthop id that the kernel has for it, so that a restart changes nothing; a new one gets the lowest
/// that nobody has.
pub fn state(view: &View, settings: &Settings, device: u32, ids: &NexthopIds) -> (State, Vec<String>) {
    let mut left_out = Vec::new();
    let mut state = State { vnis: BTreeSet::from([settings.vni]), ..State::default() };
    for cidr in &view.own.pod_cidrs {
        // The source of packets from the node itself to pods elsewhere; the ledger never gives it to a pod.
        state.with_address(Address { device, address: family::host(cidr.network()) });
        // An address of this node that no pod has: an error at once, not a packet that leaves by the default route.
        state.with_route(route(*cidr, Target::Unreachable));
    }
    let mut free = defaults::NEXTHOP_IDS.filter(|id| !ids.taken.contains(id));
    for (name, peer) in &view.peers {
        let gateway = peer.link_local();
        let Some(id) = ids.ours.get(&gateway).copied().or_else(|| free.next()) else {
            left_out.push(name.clone());
            continue;
        };
        let encap = Encap { vni: settings.vni, source: view.own.address, destination: peer.address };
        state.with_neighbour(Neighbour { device, address: gateway.into(), mac: peer.mac });
        state.with_nexthop(Nexthop { id, device, gateway, encap, protocol: defaults::OVERLAY_PROTOCOL });
        for cidr in &peer.pod_cidrs {
            state.with_route(route(*cidr, Target::Nexthop(id)));
        }
    }
    for cidr in &view.cluster_cidrs {
        // An address of the cluster that no node has: dropped, not sent to whoever is behind the default route.
        state.with_route(route(*cidr, Target::Blackhole));
    }
    (state, left_out)
}

fn route(destination: IpNetwork, target: Target) -> Route {
    Route { destination, metric: 0, target, protocol: defaults::OVERLAY_PROTOCOL }
}

/// Where this node's pods get their addresses from: out of each set, of one family each, one.
pub fn ranges(view: &View) -> Vec<Vec<Range>> {
    let of_family = |ipv4: bool| {
        let cidrs = view.own.pod_cidrs.iter().filter(move |cidr| cidr.is_ipv4() == ipv4);
        cidrs.map(|cidr| Range { subnet: *cidr, start: None, end: None, gateway: None }).collect::<Vec<_>>()
    };
    [true, false].map(of_family).into_iter().filter(|set| !set.is_empty()).collect()
}

/// The network configuration of this node's pods.
pub fn network(view: &View, device: &Device) -> Network {
    let ranges = ranges(view);
    let everywhere = |set: &Vec<Range>| set.first().and_then(|range| family::everything(range.subnet));
    let routes = ranges.iter().filter_map(everywhere).map(|destination| PodRoute { destination, metric: 0 }).collect();
    let ipam = Ipam { kind: Some("podwire".into()), ranges, routes, resolv_conf: None };
    // What leaves the cluster is masqueraded by the daemon, for all pods of the node at once.
    Network { mtu: Some(device.mtu), masquerade: false, ipam }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::membership::Membership;

    fn view() -> View {
        let membership = Membership::parse(include_str!("../../conf/nodes.toml")).unwrap();
        View::new(&membership, "node-1").unwrap()
    }

    fn routes(state: &State) -> Vec<String> {
        state.routes.values().map(ToString::to_string).collect()
    }

    #[test]
    fn every_pod_cidr_of_a_peer_is_routed_to_its_one_nexthop() {
        let (state, left_out) = state(&view(), &Settings::default(), 7, &NexthopIds::default());
        assert!(left_out.is_empty());
        let expected = [
            "blackhole 10.244.0.0/16",
            "unreachable 10.244.1.0/24",
            "10.244.2.0/24 nhid 11200001",
            "10.244.3.0/24 nhid 11200002",
            "blackhole fd00:10:244::/48",
            "unreachable fd00:10:244:1::/64",
            "fd00:10:244:2::/64 nhid 11200001",
            "fd00:10:244:3::/64 nhid 11200002",
        ];
        assert_eq!(routes(&state), expected);
        let nexthop = &state.nexthops[&11_200_001];
        assert_eq!(nexthop.encap.destination.to_string(), "192.168.50.2");
        assert_eq!(state.neighbours.len(), 2);
        assert_eq!(state.neighbours[&nexthop.gateway.into()].mac, view().peers["node-2"].mac);
        let addresses: Vec<_> = state.addresses.keys().map(ToString::to_string).collect();
        assert_eq!(addresses, ["10.244.1.0/32", "fd00:10:244:1::/128"]);
    }

    #[test]
    fn a_peer_keeps_its_id_and_a_new_one_takes_none_that_is_taken() {
        let view = view();
        let (second, first) = (view.peers["node-3"].link_local(), defaults::NEXTHOP_IDS.min().unwrap());
        let ids = NexthopIds { ours: [(second, first)].into(), taken: [first, first + 1].into() };
        let (state, _) = state(&view, &Settings::default(), 7, &ids);
        assert_eq!(state.nexthops[&first].gateway, second);
        assert_eq!(state.nexthops.keys().copied().collect::<Vec<_>>(), [first, first + 2]);
    }

    #[test]
    fn a_peer_for_which_no_id_is_left_is_named_and_the_others_have_theirs() {
        let view = view();
        let ours = [(view.peers["node-3"].link_local(), 11_200_005)].into();
        let ids = NexthopIds { ours, taken: defaults::NEXTHOP_IDS.collect() };
        let (state, left_out) = state(&view, &Settings::default(), 7, &ids);
        assert_eq!(left_out, ["node-2"]);
        assert_eq!(state.nexthops.keys().copied().collect::<Vec<_>>(), [11_200_005]);
    }

    #[test]
    fn the_mtu_leaves_room_for_the_outer_headers_of_the_underlays_family() {
        let mut view = view();
        assert_eq!(device(&view, &Settings::default(), 1500).mtu, 1450);
        view.own.address = "fd00::1".parse().unwrap();
        assert_eq!(device(&view, &Settings::default(), 1500).mtu, 1430);
        // IPv6 needs 1280, whatever the underlay has.
        assert_eq!(device(&view, &Settings::default(), 1300).mtu, 1280);
    }

    #[test]
    fn a_node_whose_pod_cidr_is_the_whole_cluster_keeps_its_pods_reachable() {
        let mut view = view();
        view.peers.clear();
        view.own.pod_cidrs = view.cluster_cidrs.clone();
        let (state, _) = state(&view, &Settings::default(), 7, &NexthopIds::default());
        assert_eq!(routes(&state), ["unreachable 10.244.0.0/16", "unreachable fd00:10:244::/48"]);
    }

    #[test]
    fn the_network_of_the_sample_node_is_the_shipped_conflist() {
        let view = view();
        let conflist =
            podwire_conf::conflist::render(&network(&view, &device(&view, &Settings::default(), 1500))).unwrap();
        assert_eq!(conflist, include_str!("../../conf/10-podwire.conflist"));
    }
}
