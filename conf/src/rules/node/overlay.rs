//! The guard of the overlay: which packets to the VXLAN port are accepted, and which are passed on.

use std::collections::BTreeSet;

use podwire_kernel::family::{self, IpVersion};
use podwire_kernel::nft::{Chain, PacketField, Rule};

use crate::defaults::HOST_VETH_PREFIX;
use crate::rules::node::config::NodeConfig;
use crate::rules::node::counters::{ENCAPSULATION, NOT_PEERS, SOURCES};
use crate::rules::node::dropped;
use crate::rules::node::sources::{PrefixLength, peer_set};

/// `IPPROTO_UDP` (uapi/linux/in.h).
const UDP: u8 = 17;

/// The chain for packets to the VXLAN port of this node.
pub(super) const OVERLAY: &str = "guard-overlay";
/// The chain for packets to the VXLAN port of others.
pub(super) const RELAYED: &str = "guard-relayed";

/// Packets to the VXLAN port.
pub(super) fn encapsulated(config: &NodeConfig<'_>) -> Rule {
    Rule::new().to_port(UDP, config.port)
}

/// Packets of this node to a peer are not tracked.
pub(super) fn untracked(config: &NodeConfig<'_>) -> Rule {
    let underlay = IpVersion::of(config.own);
    encapsulated(config).of(underlay).in_set(&peer_set(underlay).name, &[PacketField::Destination(underlay)]).notrack()
}

/// The chains that others jump to.
pub(super) fn chains(config: &NodeConfig<'_>, lengths: &BTreeSet<PrefixLength>) -> [Chain; 2] {
    let chain = |name: &str, rules| Chain { name: name.into(), base: None, rules };
    [chain(OVERLAY, guard_overlay(config, lengths)), chain(RELAYED, guard_relayed(config))]
}

/// Packets to the VXLAN port of this node, and those that are forwarded to another's.
fn guard_overlay(config: &NodeConfig<'_>, lengths: &BTreeSet<PrefixLength>) -> Vec<Rule> {
    let underlay = IpVersion::of(config.own);
    let from_own_prefix = |length: &PrefixLength| {
        let parts = [PacketField::Source(underlay), PacketField::CarriedSource(length.version, length.bits)];
        // The version is matched where the program `nft` would: right before the field that depends on it.
        let rule = Rule::new().carries(config.vni, length.version).of(underlay);
        rule.in_set(&length.set(underlay).name, &parts).notrack().accept()
    };
    let mut rules: Vec<_> = lengths.iter().map(from_own_prefix).collect();
    // The device receives broadcast and multicast, too.
    rules.push(Rule::new().to_remote_unicast().return_());
    rules.push(from_pods(Rule::new()));
    rules.extend(dropped::record_members(config.vni, underlay));
    let from_peer = Rule::new().of(underlay).in_set(&peer_set(underlay).name, &[PacketField::Source(underlay)]);
    rules.push(from_peer.count(SOURCES).drop());
    rules.extend(from_strangers(Rule::new));
    rules
}

/// Drops a pod's packets, and all others, with a counter each.
pub(super) fn drop_rules(rule: impl Fn() -> Rule) -> Vec<Rule> {
    std::iter::once(from_pods(rule())).chain(from_strangers(rule)).collect()
}

fn from_pods(rule: Rule) -> Rule {
    rule.iifname(HOST_VETH_PREFIX).count(ENCAPSULATION).drop()
}

fn from_strangers(rule: impl Fn() -> Rule) -> Vec<Rule> {
    let mut rules = dropped::record_strangers(&rule).to_vec();
    rules.push(rule().count(NOT_PEERS).drop());
    rules
}

/// Packets to the VXLAN port of others, after DNAT of services and host ports.
///
/// A pod's packets may go to pods only: masqueraded, a peer would take them for the node's own, at each of the peer's
/// addresses, of which only one is known here.
fn guard_relayed(config: &NodeConfig<'_>) -> Vec<Rule> {
    let underlay = IpVersion::of(config.own);
    let peers = &peer_set(underlay).name;
    let from_pod = || Rule::new().iifname(HOST_VETH_PREFIX);
    let mut rules: Vec<_> = config.cluster_cidrs.iter().map(|cidr| from_pod().to(*cidr).accept()).collect();
    rules.push(from_pod().count(ENCAPSULATION).drop());
    let to_peer = || Rule::new().of(underlay).in_set(peers, &[PacketField::Destination(underlay)]);
    // Packets of the node itself are tracked while guard-output is missing.
    rules.push(Rule::new().from(family::host(config.own)).accept());
    rules.push(to_peer().in_set(peers, &[PacketField::Source(underlay)]).accept());
    rules.push(dropped::record_stranger(to_peer(), underlay));
    rules.push(to_peer().count(NOT_PEERS).drop());
    rules
}
