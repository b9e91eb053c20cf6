//! Where the packets come from that the guards drop: sets that the rules fill, for whoever looks for the cause. A
//! flood of forged sources fills a set, and no more; the packets are dropped all the same, by the next rule.
//!
//! What may not live here: what is dropped (`overlay`, `plain`), and what to do about it.

use std::time::Duration;

use podwire_kernel::family::IpVersion;
use podwire_kernel::nft::{Bounds, Content, PacketField, Rule, Set, Type};

use crate::rules::node::sources::{PrefixLength, peer_set};

/// Prefix of the names of these sets.
pub(super) const SETS: &str = "dropped-";

/// What a set holds, and how long: what sends again is there again.
const BOUNDS: Bounds = Bounds { size: 64, timeout: Duration::from_secs(600) };

/// Addresses of this version that are no peer's, and have sent to the VXLAN port.
pub fn strangers(version: IpVersion) -> Set {
    let name = format!("{SETS}strangers{}", version.digit());
    Set { name, key: vec![Type::Address(version)], content: Content::Recorded(BOUNDS) }
}

/// Pairs of a peer's underlay address and the source of a packet that it has sent by the overlay, which is not its own.
pub fn members(underlay: IpVersion, carried: IpVersion) -> Set {
    let name = format!("{SETS}members{}-{}", underlay.digit(), carried.digit());
    Set { name, key: vec![Type::Address(underlay), Type::CarriedSource(carried)], content: Content::Recorded(BOUNDS) }
}

/// Pairs of a peer's underlay address and a single address that it may send from.
pub fn listed(underlay: IpVersion, carried: IpVersion) -> Set {
    PrefixLength::host(carried).set(underlay)
}

/// Pairs of an address of a peer's pod and the device that a plain packet from it has come in by, where the plain route to it
/// leads by another one.
pub fn astray(version: IpVersion) -> Set {
    let name = format!("{SETS}astray{}", version.digit());
    Set { name, key: vec![Type::Address(version), Type::DeviceName], content: Content::Recorded(BOUNDS) }
}

/// All of them; where there are plain routes also those of [`astray`].
pub(super) fn sets(underlay: IpVersion, plain: bool) -> impl Iterator<Item = Set> {
    let of_members = IpVersion::BOTH.map(|carried| members(underlay, carried));
    let astray = IpVersion::BOTH.map(astray).into_iter().filter(move |_| plain);
    IpVersion::BOTH.map(strangers).into_iter().chain(of_members).chain(astray)
}

/// Record what is routed to this device and has come by another one.
pub(super) fn record_astray(device: &str) -> [Rule; 2] {
    IpVersion::BOTH.map(|version| {
        let key = [PacketField::Source(version), PacketField::IncomingDevice];
        Rule::new().from_behind_device(device).of(version).record(&astray(version).name, &key)
    })
}

/// Record the sender of what `rule` matches.
pub(super) fn record_strangers(rule: impl Fn() -> Rule) -> [Rule; 2] {
    IpVersion::BOTH.map(|version| record_stranger(rule().of(version), version))
}

/// Records the sender of what `rule` matches, of this version.
pub(super) fn record_stranger(rule: Rule, version: IpVersion) -> Rule {
    rule.record(&strangers(version).name, &[PacketField::Source(version)])
}

/// Record what peers send by the overlay.
pub(super) fn record_members(vni: u32, underlay: IpVersion) -> [Rule; 2] {
    IpVersion::BOTH.map(|carried| {
        let source = PacketField::Source(underlay);
        let from_peer = Rule::new().carries(vni, carried).of(underlay).in_set(&peer_set(underlay).name, &[source]);
        let whole = u8::try_from(carried.address_length() * 8).unwrap_or(u8::MAX);
        from_peer.record(&members(underlay, carried).name, &[source, PacketField::CarriedSource(carried, whole)])
    })
}
