//! Peers behind a path that takes less than the underlay's MTU, as the probes have measured it: how large pods' packets to
//! them may be. Pure.
//!
//! What may not live here: measuring a path (`observe::probe`), and the routes that follow (`overlay::desired`).

use podwire_conf::defaults;

use crate::cluster::view::View;

/// A path that takes less than this many bytes is not believed: every link of IPv6 takes as much (RFC 8200, section 5), and
/// what drops larger echoes may let other packets pass.
const SMALLEST_PATH: u32 = 1280;

/// What VXLAN adds to a packet, in bytes: the inner Ethernet header, VXLAN, UDP, and the outer IP header (RFC 7348,
/// section 5).
pub(super) fn overhead(view: &View) -> u32 {
    let outer = if view.own.address.is_ipv4() { 20 } else { 40 };
    14 + 8 + 8 + outer
}

/// The largest packet of pods through the tunnel to a peer, on a path that takes `largest`, both in bytes; `None` where the path
/// is not believed.
pub(super) fn through_tunnel(view: &View, largest: u32) -> Option<u32> {
    plain(largest).map(|largest| largest - overhead(view))
}

/// The same by a plain route.
pub(super) fn plain(largest: u32) -> Option<u32> {
    Some(largest).filter(|largest| *largest >= SMALLEST_PATH)
}

/// What a route's MTU is for packets of at most `mtu` bytes: IPv6 has no smaller one than its minimum.
pub(super) fn of_route(mtu: u32, ipv6: bool) -> u32 {
    if ipv6 { mtu.max(defaults::SMALLEST_MTU) } else { mtu }
}
