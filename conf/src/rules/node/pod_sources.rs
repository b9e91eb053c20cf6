//! The guard against pods that send from an address that is not their own.

use std::net::Ipv6Addr;

use podwire_kernel::family::{self, IpVersion};
use podwire_kernel::nft::{Chain, Rule};

use crate::defaults::HOST_VETH_PREFIX;
use crate::rules::masquerade::prefix;
use crate::rules::node::counters::SPOOFING;

/// The chain for packets of pods whose source is not routed to them.
pub(super) const SPOOFED: &str = "guard-spoofed";

/// Packets whose source is not routed to the pod that sends them. For IPv4 the reverse path filter of the pod's device
/// does it.
pub(super) fn spoofed() -> Rule {
    Rule::new().of(IpVersion::V6).iifname(HOST_VETH_PREFIX).without_reverse_route().jump(SPOOFED)
}

/// The chain that [`spoofed`] jumps to.
pub(super) fn chain() -> Chain {
    let rules = vec![
        // Link-local packets of a pod are not forwarded.
        Rule::new().from(prefix(Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0).into(), 10)).return_(),
        Rule::new().from(family::host(Ipv6Addr::UNSPECIFIED.into())).return_(),
        Rule::new().count(SPOOFING).drop(),
    ];
    Chain { name: SPOOFED.into(), base: None, rules }
}
