//! What is desired of the kernel for a view, and the conflist.

use podwire_kernel::route::Route;

use super::*;
use crate::cluster::membership::Membership;

fn view() -> View {
    let membership = Membership::parse(include_str!("../../../../../conf/nodes.toml")).unwrap();
    View::new(&membership, "node-1").unwrap()
}

/// An interface of this MTU on whose link node-2 is, and node-3 is not.
fn underlay(mtu: u32) -> Underlay {
    let route =
        |destination: &str, target| Route { destination: destination.parse().unwrap(), metric: 0, target, protocol: 2 };
    let gateway = Target::Gateway { gateway: "192.168.50.254".parse().unwrap(), device: 2 };
    let routes = [route("192.168.50.0/24", Target::Device(2)), route("192.168.50.3/32", gateway)];
    Underlay::new(2, "eth0", mtu, &routes)
}

fn with(overlay: Overlay) -> Settings {
    Settings { overlay, ..Settings::default() }
}

fn wanted(view: &View, overlay: Overlay, ids: &NexthopIds) -> (State, Vec<Problem>) {
    let tunnel = (overlay != Overlay::Never).then_some(7);
    state(view, &with(overlay), tunnel, &underlay(1500), ids, &NarrowPaths::new())
}

fn routes(state: &State) -> Vec<String> {
    state.routes.values().map(ToString::to_string).collect()
}

#[test]
fn every_pod_cidr_of_a_peer_is_routed_to_its_one_nexthop() {
    let (state, problems) = wanted(&view(), Overlay::Always, &NexthopIds::default());
    assert_eq!(problems, []);
    let expected = [
        "blackhole 10.244.0.0/16",
        "unreachable 10.244.1.0/24",
        "10.244.2.0/24 nhid 11200001",
        "10.244.3.0/24 nhid 11200002",
        "metric 11200 169.254.1.1/32 dev 7",
        "blackhole fd00:10:244::/48",
        "unreachable fd00:10:244:1::/64",
        "fd00:10:244:2::/64 nhid 11200001",
        "fd00:10:244:3::/64 nhid 11200002",
    ];
    assert_eq!(routes(&state), expected);
    let nexthop = &state.nexthops[&11_200_001];
    assert_eq!(nexthop.encap.unwrap().destination.to_string(), "192.168.50.2");
    assert_eq!(state.neighbours.len(), 2);
    assert_eq!(state.neighbours[&nexthop.gateway].mac, view().peers["node-2"].mac);
    let addresses: Vec<_> = state.addresses.keys().map(ToString::to_string).collect();
    assert_eq!(addresses, ["10.244.1.0/32", "fd00:10:244:1::/128"]);
}

#[test]
fn a_peer_keeps_its_id_and_a_new_one_gets_a_free_one() {
    let view = view();
    let (second, first) = (view.peers["node-3"].link_local().into(), defaults::NEXTHOP_IDS.min().unwrap());
    let ids = NexthopIds { ours: [(second, first)].into(), taken: [first, first + 1].into() };
    let (state, _) = wanted(&view, Overlay::Always, &ids);
    assert_eq!(state.nexthops[&first].gateway, second);
    assert_eq!(state.nexthops.keys().copied().collect::<Vec<_>>(), [first, first + 2]);
}

#[test]
fn a_peer_for_which_no_id_is_left_is_named_and_the_others_have_theirs() {
    let view = view();
    let ours = [(view.peers["node-3"].link_local().into(), 11_200_005)].into();
    let ids = NexthopIds { ours, taken: defaults::NEXTHOP_IDS.collect() };
    let (state, problems) = wanted(&view, Overlay::Always, &ids);
    let text = "no nexthop id is left for node-2, see `ip nexthop`";
    assert_eq!(problems, [Problem::new(ProblemKind::NexthopIdsExhausted, "node-2", text)]);
    assert_eq!(state.nexthops.keys().copied().collect::<Vec<_>>(), [11_200_005]);
}

#[test]
fn a_peer_on_the_link_has_plain_routes_where_possible_and_any_other_the_tunnel() {
    let (state, problems) = wanted(&view(), Overlay::Auto, &NexthopIds::default());
    assert_eq!(problems, []);
    let nexthops: Vec<_> = state.nexthops.values().map(ToString::to_string).collect();
    let tunnel = |id: u32, name: &str, address: &str| {
        format!("{id} via {} (VNI 1 from 192.168.50.1 to {address})", view().peers[name].link_local())
    };
    let expected = [
        "11200001 via 192.168.50.2 dev 2".to_owned(),
        tunnel(11_200_002, "node-2", "192.168.50.2"),
        tunnel(11_200_003, "node-3", "192.168.50.3"),
    ];
    assert_eq!(nexthops, expected);
    let of_peers: Vec<_> = routes(&state).into_iter().filter(|route| route.contains("nhid")).collect();
    let expected = [
        "10.244.2.0/24 nhid 11200001",
        "10.244.3.0/24 nhid 11200003",
        "fd00:10:244:2::/64 nhid 11200002",
        "fd00:10:244:3::/64 nhid 11200003",
    ];
    assert_eq!(of_peers, expected);
}

#[test]
fn without_an_overlay_unreachable_peers_are_named() {
    let (state, problems) = wanted(&view(), Overlay::Never, &NexthopIds::default());
    let expected = [
        "not on the link of eth0, so there is no plain route to their pods with overlay = \"never\": node-3; \
         overlay = \"auto\" reaches them",
        "IPv6 pods are not reached over an IPv4 underlay with overlay = \"never\": overlay = \"auto\" reaches them",
    ];
    assert!(problems.iter().all(|problem| problem.kind == ProblemKind::NoPlainRoute), "{problems:?}");
    assert_eq!(problems.into_iter().map(|problem| problem.text).collect::<Vec<_>>(), expected);
    assert_eq!((state.vnis.len(), state.addresses.len(), state.neighbours.len()), (0, 0, 0));
    let nexthops: Vec<_> = state.nexthops.values().map(ToString::to_string).collect();
    assert_eq!(nexthops, ["11200001 via 192.168.50.2 dev 2"]);
}

#[test]
fn a_neighbour_on_an_ipv6_underlay_serves_both_families() {
    let mut view = view();
    view.own.address = "fd00:50::1".parse().unwrap();
    view.peers.remove("node-3");
    view.peers.get_mut("node-2").unwrap().address = "fd00:50::2".parse().unwrap();
    let destination = "fd00:50::/64".parse().unwrap();
    let on_link = Route { destination, metric: 256, target: Target::Device(2), protocol: 2 };
    let underlay = Underlay::new(2, "eth0", 1500, &[on_link]);
    let (state, problems) =
        state(&view, &with(Overlay::Never), None, &underlay, &NexthopIds::default(), &NarrowPaths::new());
    assert_eq!((problems.len(), state.nexthops.len()), (0, 1));
    assert_eq!(routes(&state).iter().filter(|route| route.ends_with("nhid 11200001")).count(), 2);
}

#[test]
fn the_mtu_leaves_room_for_the_outer_headers_of_the_underlays_family() {
    let mut view = view();
    assert_eq!(mtu(&view, &with(Overlay::Always), &underlay(1500)), (1450, None));
    assert_eq!(mtu(&view, &with(Overlay::Auto), &underlay(1500)), (1450, None));
    assert_eq!(mtu(&view, &with(Overlay::Never), &underlay(1500)), (1500, None));
    let fixed = Settings { mtu: Some(1400), ..Settings::default() };
    assert_eq!(mtu(&view, &fixed, &underlay(9000)), (1400, None));
    view.own.address = "fd00::1".parse().unwrap();
    assert_eq!(mtu(&view, &with(Overlay::Always), &underlay(1500)), (1430, None));
}

#[test]
fn an_underlay_with_a_small_mtu_is_named_and_ipv4_needs_less() {
    let mut view = view();
    let too_small = |text: &str| Problem::new(ProblemKind::MtuTooSmall, "eth0", text);
    let text =
        "interface eth0 has MTU 1300, which leaves 1250 for pods, and IPv6 pods need 1280: set it to 1330 or more";
    assert_eq!(mtu(&view, &Settings::default(), &underlay(1300)), (1280, Some(too_small(text))));
    let fixed = Settings { mtu: Some(1279), ..Settings::default() };
    let text = "the settings have mtu = 1279, and IPv6 pods need 1280";
    assert_eq!(mtu(&view, &fixed, &underlay(1500)), (1280, Some(Problem::general(ProblemKind::MtuTooSmall, text))));
    view.own.pod_cidrs.retain(IpNetwork::is_ipv4);
    assert_eq!(mtu(&view, &Settings::default(), &underlay(1300)), (1250, None));
    // The gateways on the overlay are IPv6 addresses all the same.
    assert_eq!(device(&view, &Settings::default(), 1250).mtu, 1280);
    let text = "interface eth0 has MTU 600, which leaves 550 for pods, and pods need 576: set it to 626 or more";
    assert_eq!(mtu(&view, &Settings::default(), &underlay(600)), (576, Some(too_small(text))));
}

#[test]
fn a_pod_cidr_that_is_the_cluster_cidr_stays_reachable() {
    let mut view = view();
    view.peers.clear();
    view.own.pod_cidrs = view.cluster_cidrs.clone();
    let (state, _) = wanted(&view, Overlay::Always, &NexthopIds::default());
    let expected = ["unreachable 10.244.0.0/16", "metric 11200 169.254.1.1/32 dev 7", "unreachable fd00:10:244::/48"];
    assert_eq!(routes(&state), expected);
}

#[test]
fn the_network_of_the_sample_node_is_the_shipped_conflist() {
    let conflist = podwire_conf::conflist::render(&network(&view(), 1450, true, None)).unwrap();
    assert_eq!(conflist, include_str!("../../../../../conf/10-podwire.conflist"));
}

#[test]
fn routes_to_a_peer_behind_a_narrow_path_have_its_mtu() {
    let view = view();
    let routes_with = |largest: u32, overlay| {
        let narrow = NarrowPaths::from([("node-3".into(), largest)]);
        let tunnel = (overlay != Overlay::Never).then_some(7);
        let state = state(&view, &with(overlay), tunnel, &underlay(1500), &NexthopIds::default(), &narrow).0;
        routes(&state).into_iter().filter(|route| route.contains("mtu")).collect::<Vec<_>>()
    };
    let both = |four: u32, six: u32| {
        [format!("10.244.3.0/24 nhid 11200002 mtu {four}"), format!("fd00:10:244:3::/64 nhid 11200002 mtu {six}")]
    };
    assert_eq!(routes_with(1400, Overlay::Always), both(1350, 1350));
    // IPv6 has no smaller one; what no link of IPv6 may have is not believed.
    assert_eq!(routes_with(1300, Overlay::Always), both(1250, 1280));
    assert_eq!(routes_with(1000, Overlay::Always), [""; 0]);
    assert_eq!(routes_with(1500, Overlay::Always), [""; 0]);
}
