//! The desired state of the kernel, computed from the view. Pure.

use std::collections::BTreeSet;
use std::net::IpAddr;

use ipnetwork::IpNetwork;
use podwire_conf::{Ipam, Network, NetworkPolicy, Range, Route as PodRoute, defaults};
use podwire_kernel::address::Address;
use podwire_kernel::family;
use podwire_kernel::link::Vxlan;
use podwire_kernel::neighbour::Neighbour;
use podwire_kernel::nexthop::{Encap, Nexthop};
use podwire_kernel::route::{Route, Target};
use podwire_kernel::sysctl::Sysctl;

use crate::cluster::settings::{Overlay, Settings};
use crate::cluster::view::{self, Peer, View};
use crate::datapath::narrow_path;
use crate::datapath::overlay::state::{Device, NexthopIds, State};
use crate::datapath::overlay::underlay::Underlay;
use crate::report::probes::NarrowPaths;
use crate::report::problem::{Problem, ProblemKind};

/// The largest IP packet, in bytes.
const LARGEST_MTU: u32 = 65_535;

/// The MTU of this node's pods in bytes, and the problem where that is too small for them; it is then as small as they can
/// do with.
pub fn mtu(view: &View, settings: &Settings, underlay: &Underlay) -> (u32, Option<Problem>) {
    let overhead = if settings.overlay == Overlay::Never { 0 } else { narrow_path::overhead(view) };
    let left = underlay.mtu.saturating_sub(overhead).min(LARGEST_MTU);
    let mtu = settings.mtu.unwrap_or(left);
    let (smallest, needs) = match view.own.pod_cidrs.iter().any(IpNetwork::is_ipv6) {
        true => (defaults::SMALLEST_MTU, "IPv6 pods need"),
        false => (defaults::SMALLEST_IPV4_MTU, "pods need"),
    };
    if mtu >= smallest {
        return (mtu, None);
    }
    let problem = match settings.mtu {
        Some(mtu) => {
            let text = format!("the settings have mtu = {mtu}, and {needs} {smallest}");
            Problem::general(ProblemKind::MtuTooSmall, text)
        }
        None => {
            let (name, found, wanted) = (&underlay.name, underlay.mtu, smallest + overhead);
            let text = format!(
                "interface {name} has MTU {found}, which leaves {left} for pods, and {needs} {smallest}: \
                 set it to {wanted} or more"
            );
            Problem::new(ProblemKind::MtuTooSmall, name, text)
        }
    };
    (smallest, Some(problem))
}

/// The VXLAN device, for pods of this MTU in bytes. The gateways on it are IPv6 addresses, so its MTU is at least
/// IPv6's minimum: packets that are too large for the underlay are then fragmented.
pub fn device(view: &View, settings: &Settings, mtu: u32) -> Device {
    Device {
        name: defaults::OVERLAY_DEVICE.into(),
        mac: view.own.mac,
        mtu: mtu.max(defaults::SMALLEST_MTU),
        vxlan: Vxlan {
            port: settings.port,
            external: true,
            vni_filter: true,
            learning: false,
            zero_checksum6_received: true,
        },
    }
}

/// Whether a family is routed at all.
pub fn routes_family(view: &View, ipv4: bool) -> bool {
    view.cluster_cidrs.iter().any(|cidr| cidr.is_ipv4() == ipv4)
}

/// Sysctls, beside IPv6 forwarding: the node forwards, and accepts no route advertisements or redirects on the overlay.
pub fn settings(view: &View, overlay: Overlay) -> Vec<Sysctl> {
    let device = defaults::OVERLAY_DEVICE;
    let ipv4 = routes_family(view, true);
    let mut settings = Vec::new();
    if overlay != Overlay::Never {
        settings.extend([
            // The gateways on the overlay are IPv6 link-local addresses, so IPv6 has to be on there even where it is
            // off elsewhere.
            Sysctl::of_device("ipv6", device, "disable_ipv6", "0"),
            Sysctl::of_device("ipv6", device, "accept_ra", "0"),
            Sysctl::of_device("ipv6", device, "accept_redirects", "0"),
            Sysctl::of_device("ipv4", device, "accept_redirects", "0"),
            // Loose (RFC 3704, section 2.4), whatever the node's setting for all: a peer in another overlay mode may
            // send through the overlay what it receives by a plain route.
            Sysctl::of_device("ipv4", device, "rp_filter", "2"),
        ]);
        if ipv4 {
            settings.push(Sysctl::of_device("ipv4", device, "forwarding", "1"));
        }
    }
    if ipv4 {
        // First, since it sets all devices.
        settings.insert(0, Sysctl { path: "net/ipv4/ip_forward".into(), value: "1" });
    }
    settings
}

/// Everything on and behind the tunnel device with this index (none where there is to be none), and what cannot be.
///
/// A peer keeps the nexthop id that the kernel has for it, so that a restart changes nothing; a new one gets the lowest
/// free id.
pub fn state(
    view: &View,
    settings: &Settings,
    tunnel: Option<u32>,
    underlay: &Underlay,
    ids: &NexthopIds,
    narrow: &NarrowPaths,
) -> (State, Vec<Problem>) {
    let mut state = State::default();
    for cidr in &view.own.pod_cidrs {
        // An address of this node's pod CIDR without a pod: unreachable at once, not sent to the default route.
        state.with_route(route(*cidr, Target::Unreachable));
    }
    if routes_family(view, true) {
        // Nobody has the pods' gateway. The kernel answers a machine in a pod that asks for it only if it has a route
        // there by another device; packets find no neighbour on this one.
        let (destination, target) = (family::host(defaults::GATEWAY4.into()), tunnel.unwrap_or(underlay.device));
        let metric = defaults::GATEWAY_METRIC;
        state.with_route(Route { metric, ..route(destination, Target::Device(target)) });
    }
    if let Some(device) = tunnel {
        state.vnis.insert(settings.vni);
        for cidr in &view.own.pod_cidrs {
            // The source address of the node's own packets to pods of other nodes; the ledger never gives it to a pod.
            state.with_address(Address { device, address: family::host(cidr.network()) });
        }
    }
    let mut free = defaults::NEXTHOP_IDS.filter(|id| !ids.taken.contains(id));
    let mut id_of = |gateway: IpAddr| ids.ours.get(&gateway).copied().or_else(|| free.next());
    let mut without = Without::default();
    let (pods, _) = mtu(view, settings, underlay);
    for (name, peer) in &view.peers {
        let neighbour = settings.overlay != Overlay::Always && underlay.on_link(peer.address);
        let mut made: [Option<Nexthop>; 2] = [None, None];
        for cidr in &peer.pod_cidrs {
            let path = match (neighbour && peer.carries_plain(cidr.ip()), tunnel) {
                (true, _) => PeerPath::Plain,
                (false, Some(device)) => PeerPath::Tunnel(device),
                (false, None) => {
                    without.no_path(name, neighbour);
                    continue;
                }
            };
            let made = &mut made[usize::from(path == PeerPath::Plain)];
            if made.is_none() {
                *made = id_of(path.gateway(peer)).map(|id| path.nexthop(id, view, settings, peer, underlay));
            }
            match made {
                Some(nexthop) => {
                    let largest = narrow.get(name.as_str()).and_then(|largest| path.mtu(view, *largest));
                    let limit = largest.map(|largest| narrow_path::of_route(largest, cidr.is_ipv6()));
                    let target = match limit.filter(|mtu| *mtu < pods) {
                        Some(mtu) => Target::NexthopWithin { id: nexthop.id, mtu },
                        None => Target::Nexthop(nexthop.id),
                    };
                    state.with_route(route(*cidr, target));
                }
                None => without.no_id(name),
            }
        }
        for nexthop in made.into_iter().flatten() {
            if nexthop.encap.is_some() {
                let Nexthop { device, gateway: address, .. } = nexthop;
                state.with_neighbour(Neighbour { device, address, mac: peer.mac });
            }
            state.with_nexthop(nexthop);
        }
    }
    for cidr in &view.cluster_cidrs {
        // An address of the cluster CIDR that no node has: dropped, not sent to the default route.
        state.with_route(route(*cidr, Target::Blackhole));
    }
    (state, without.problems(underlay))
}

/// The path to a peer's pods.
#[derive(Clone, Copy, PartialEq, Eq)]
enum PeerPath {
    /// Through the peer's address, a neighbour on the underlay.
    Plain,
    /// Through the tunnel device with this index.
    Tunnel(u32),
}

impl PeerPath {
    /// The gateway, which identifies the peer's nexthop.
    fn gateway(self, peer: &Peer) -> IpAddr {
        match self {
            Self::Plain => peer.address,
            Self::Tunnel(_) => peer.link_local().into(),
        }
    }

    /// The largest packet of pods on it, where the path to the peer's node takes `largest`, both in bytes.
    fn mtu(self, view: &View, largest: u32) -> Option<u32> {
        match self {
            Self::Plain => narrow_path::plain(largest),
            Self::Tunnel(_) => narrow_path::through_tunnel(view, largest),
        }
    }

    fn nexthop(self, id: u32, view: &View, settings: &Settings, peer: &Peer, underlay: &Underlay) -> Nexthop {
        let encap = Encap { vni: settings.vni, source: view.own.address, destination: peer.address };
        let (device, encap) = match self {
            Self::Plain => (underlay.device, None),
            Self::Tunnel(device) => (device, Some(encap)),
        };
        Nexthop { id, device, gateway: self.gateway(peer), encap, protocol: defaults::OVERLAY_PROTOCOL }
    }
}

/// The peers that are not reachable, or not with all of their pod CIDRs.
#[derive(Default)]
struct Without {
    off_link: BTreeSet<String>,
    ipv6: bool,
    id: BTreeSet<String>,
}

impl Without {
    /// There is no overlay and no plain route: the peer is not on the link, or has an IPv4 address and IPv6 pods.
    fn no_path(&mut self, peer: &str, neighbour: bool) {
        match neighbour {
            true => self.ipv6 = true,
            false => _ = self.off_link.insert(peer.into()),
        }
    }

    fn no_id(&mut self, peer: &str) {
        self.id.insert(peer.into());
    }

    fn problems(self, underlay: &Underlay) -> Vec<Problem> {
        let mut problems = Vec::new();
        if !self.off_link.is_empty() {
            let (who, link) = (some(&self.off_link), &underlay.name);
            let text = format!(
                "not on the link of {link}, so there is no plain route to their pods with overlay = \"never\": {who}; \
                 overlay = \"auto\" reaches them"
            );
            problems.push(Problem::new(ProblemKind::NoPlainRoute, who, text));
        }
        if self.ipv6 {
            let text = "IPv6 pods are not reached over an IPv4 underlay with overlay = \"never\": \
                        overlay = \"auto\" reaches them";
            problems.push(Problem::general(ProblemKind::NoPlainRoute, text));
        }
        if !self.id.is_empty() {
            let who = some(&self.id);
            let text = format!("no nexthop id is left for {who}, see `ip nexthop`");
            problems.push(Problem::new(ProblemKind::NexthopIdsExhausted, who, text));
        }
        problems
    }
}

/// The first of many names, for people.
fn some(names: &BTreeSet<String>) -> String {
    let first: Vec<_> = names.iter().take(3).map(String::as_str).collect();
    let more = names.len() - first.len();
    let first = first.join(", ");
    if more == 0 { first } else { format!("{first} and {more} more") }
}

fn route(destination: IpNetwork, target: Target) -> Route {
    Route { destination, metric: 0, target, protocol: defaults::OVERLAY_PROTOCOL }
}

/// The network configuration of this node's pods, whose MTU in bytes is given, whether they have a fast path, and what their ADD does
/// about policies.
pub fn network(view: &View, mtu: u32, fast_path: bool, network_policy: Option<NetworkPolicy>) -> Network {
    let ranges = view::ranges(view);
    let everywhere = |set: &Vec<Range>| set.first().and_then(|range| family::everything(range.subnet));
    let routes = ranges.iter().filter_map(everywhere).map(|destination| PodRoute { destination, metric: 0 }).collect();
    let ipam = Ipam { kind: Some("podwire".into()), ranges, routes, resolv_conf: None };
    // The daemon masquerades what leaves the cluster, for all pods of the node.
    Network { mtu: Some(mtu), fast_path, daemon: true, network_policy, ipam, ..Network::default() }
}

#[cfg(test)]
mod tests;
