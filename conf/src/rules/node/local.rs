//! The guard of the node itself: what pods and others may send to the node's own addresses.
//!
//! The chain sees what is delivered to the node, the overlay's packets included, before NAT changes the source of a
//! reply. What is forwarded between pods does not pass here and pays nothing.

use std::net::Ipv6Addr;

use ipnetwork::IpNetwork;
use podwire_kernel::family::{self, IpVersion};
use podwire_kernel::nft::{Base, Chain, ChainHook, ChainType, Rule};

use crate::defaults::{GATEWAY6, HOST_VETH_PREFIX};
use crate::rules::masquerade::prefix;
use crate::rules::node::counters::{DESTINATIONS, SPOOFING};
use crate::rules::node::path_mtu;
use crate::rules::pods::RAW;

/// The chain for packets to the node itself.
pub(super) const LOCAL: &str = "guard-local";
/// The chain for those of pods.
pub(super) const FROM_POD: &str = "guard-from-pod";
/// The chain for those from a source that is valid on the pod's link only.
pub(super) const ON_LINK: &str = "guard-on-link";
/// The chain for those to the gateway.
pub(super) const GATEWAY: &str = "guard-gateway";

/// The chains, the hooked one first.
pub(super) fn chains() -> [Chain; 4] {
    let base = Base { chain_type: ChainType::Filter, hook: ChainHook::Input, priority: RAW };
    let chain = |name: &str, base, rules| Chain { name: name.into(), base, rules };
    [
        // Every packet of the overlay passes here, so the fewer rules the better.
        chain(LOCAL, Some(base), from_all().collect()),
        chain(FROM_POD, None, from_pod()),
        chain(ON_LINK, None, from_link_local()),
        chain(GATEWAY, None, to_gateway()),
    ]
}

fn from_all() -> impl Iterator<Item = Rule> {
    [Rule::new().iifname(HOST_VETH_PREFIX).jump(FROM_POD)].into_iter().chain(path_mtu::rules())
}

/// The reverse path filter of a pod's device checks IPv4 sources while a packet is routed. A packet for a connected
/// socket is not: it has the route of that socket (`udp_v4_early_demux` in net/ipv4/udp.c). IPv6 has been checked before
/// routing, but for what is sent on the link.
fn from_pod() -> Vec<Rule> {
    let ipv4 = Rule::new().of(IpVersion::V4).without_reverse_route().count(SPOOFING).drop();
    let on_link = [link_local(), unspecified()].map(|source| Rule::new().from(source).jump(ON_LINK));
    let gateway = Rule::new().to(family::host(GATEWAY6.into())).jump(GATEWAY);
    path_mtu::drop_all().chain([ipv4, gateway]).chain(on_link).collect()
}

/// The IPv6 gateway is an address of every pod's device so that it answers who asks for it: nothing of the node is reached there.
fn to_gateway() -> Vec<Rule> {
    let asks = Rule::neighbour_discovery().map(Rule::return_);
    asks.into_iter().chain([Rule::new().count(DESTINATIONS).drop()]).collect()
}

/// From a link-local address or from :: a pod may send to its link only: such packets are not forwarded, but the node
/// has other addresses that its programs listen at.
fn from_link_local() -> Vec<Rule> {
    let to = [link_local(), link_multicast()].map(|destination| Rule::new().to(destination).return_());
    to.into_iter().chain([Rule::new().count(SPOOFING).drop()]).collect()
}

/// fe80::/10 (RFC 4291, section 2.5.6).
pub(super) fn link_local() -> IpNetwork {
    prefix(Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0).into(), 10)
}

/// ff02::/16 (RFC 4291, section 2.7).
fn link_multicast() -> IpNetwork {
    prefix(Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 0).into(), 16)
}

/// ::, the source of an interface that has no address yet (RFC 4291, section 2.5.2).
pub(super) fn unspecified() -> IpNetwork {
    family::host(Ipv6Addr::UNSPECIFIED.into())
}
