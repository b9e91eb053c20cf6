//! The guard against pods that send from an address that is not their own.

use podwire_kernel::family::IpVersion;
use podwire_kernel::nft::{Chain, Rule};

use crate::defaults::HOST_VETH_PREFIX;
use crate::rules::node::counters::SPOOFING;
use crate::rules::node::local::{link_local, unspecified};

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
        // They are not forwarded; where they may go on the node says `local`.
        Rule::new().from(link_local()).return_(),
        Rule::new().from(unspecified()).return_(),
        Rule::new().count(SPOOFING).drop(),
    ];
    Chain { name: SPOOFED.into(), base: None, rules }
}
