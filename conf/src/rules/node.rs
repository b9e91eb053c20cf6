//! The daemon's part of table `inet podwire`: guards of the overlay, guards against pods with forged source addresses,
//! and the masquerade. A pure function of the cluster's view. The plugin's part is in [`crate::rules::pods`].
//!
//! ```text
//! guard-prerouting   raw: IPv6 of a pod whose source is not routed to it → guard-spoofed; UDP to the VXLAN port →
//!                    guard-overlay: from peers with a source of their own accepted and not tracked, all else for this
//!                    node dropped
//! guard-output       raw: packets to a peer's VXLAN port are not tracked, so they are never translated
//! guard-input        UDP translated to the VXLAN port is dropped
//! guard-forward      UDP to the VXLAN port of other hosts → guard-relayed: a pod's may go to pods only; to a peer only
//!                    from a peer
//! fast-path          packets to a pod or a peer that the fast path may remember get a bit in their priority
//! postrouting        packets of pods to the outside are masqueraded
//! ```
//! guard-input, guard-forward and postrouting see the first packet of a connection only: chains of type `nat` cost the
//! other packets nothing, and a connection whose first packet is dropped has no others. Without a masquerade there is
//! no chain of that type, since then conntrack may be unused: guard-input and guard-forward see every packet, and the
//! overlay is guarded in guard-input.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv6Addr};

use ipnetwork::IpNetwork;
use podwire_kernel::family::{self, IpVersion};
use podwire_kernel::nft::{
    Base, Chain, ChainHook, ChainType, Content, Field, Keys, PacketField, Rule, Set, Table, Type,
};

use crate::defaults::{HOST_VETH_PREFIX, OVERLAY_DEVICE, TABLE};
use crate::rules::masquerade::prefix;
use crate::rules::pods::{RAW, SOURCE_NAT};

/// `NF_IP_PRI_FILTER` (uapi/linux/netfilter_ipv4.h).
const FILTER: i32 = 0;
/// `IPPROTO_UDP` (uapi/linux/in.h).
const UDP: u8 = 17;

const NOT_PEERS: &str = "overlay-strangers";
const SOURCES: &str = "overlay-sources";
const ENCAPSULATION: &str = "pod-encapsulation";
const SPOOFING: &str = "pod-spoofing";

/// The counters of the guards: the name of each, and what it counts.
pub const GUARDS: [(&str, &str); 4] = [
    (NOT_PEERS, "packets to the VXLAN port from an address that is not a peer's"),
    (SOURCES, "packets of a peer whose inner source is not its own, or with an inner packet that no peer sends"),
    (ENCAPSULATION, "packets of a pod to the VXLAN port of a node"),
    (SPOOFING, "IPv6 packets of a pod from an address that is not its own"),
];

/// The names of the daemon's chains, of this version and of earlier ones.
const CHAINS: [&str; 9] = [
    "guard-prerouting",
    "guard-output",
    "guard-input",
    "guard-forward",
    OVERLAY,
    RELAYED,
    SPOOFED,
    FAST_PATH,
    "postrouting",
];
const OVERLAY: &str = "guard-overlay";
const RELAYED: &str = "guard-relayed";
const SPOOFED: &str = "guard-spoofed";
const FAST_PATH: &str = "fast-path";

/// The bit in a packet's priority that means: the rules have accepted it, and its connection is established and not
/// translated. Queueing disciplines use the lowest bits of the priority, or a handle in two halves (`1:10`), of which
/// the first is rarely so large; the fast path clears the bit before they see it.
pub const PASSED: i32 = 0x4000_0000;

/// Prefix of the names of the daemon's sets.
const SETS: &str = "overlay-";

/// The input of the firewall, beside the peers.
#[derive(Debug, Clone, Copy)]
pub struct NodeConfig<'a> {
    /// The node's own address on the underlay.
    pub own: IpAddr,
    /// The pod CIDRs of this node.
    pub own_pod_cidrs: &'a [IpNetwork],
    /// The cluster CIDRs.
    pub cluster_cidrs: &'a [IpNetwork],
    /// The VXLAN network identifier.
    pub vni: u32,
    /// The UDP port of the overlay.
    pub port: u16,
    /// Whether packets of pods that leave the cluster are masqueraded.
    pub masquerade: bool,
    /// Destinations that are not masqueraded, beside the cluster.
    pub not_masqueraded: &'a [IpNetwork],
    /// Whether the fast path is on.
    pub fast_path: bool,
}

/// The firewall: rules and sets, and the content of the sets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Firewall {
    /// The daemon's part of the table.
    pub table: Table,
    /// The keys of its sets, in the same order.
    pub keys: Vec<Keys>,
}

/// Whether a chain of the table is the daemon's, of this version or an earlier one.
pub fn is_chain(name: &str) -> bool {
    CHAINS.contains(&name)
}

/// Whether a set of the table is the daemon's, of this version or an earlier one.
pub fn is_set(name: &str) -> bool {
    name.starts_with(SETS)
}

/// The firewall of a node with these peers: each with its underlay address and its pod CIDRs.
pub fn firewall<'a>(
    config: &NodeConfig<'_>,
    peers: impl Iterator<Item = (IpAddr, &'a [IpNetwork])> + Clone,
) -> Firewall {
    let underlay = IpVersion::of(config.own);
    // Including this node's, so that the first peer to join adds no new set.
    let own = config.own_pod_cidrs.iter().copied().chain([family::host(config.own)]);
    let mut lengths: BTreeSet<PrefixLength> = own.map(PrefixLength::of).collect();
    lengths.extend(peers.clone().flat_map(|(_, cidrs)| cidrs).map(|cidr| PrefixLength::of(*cidr)));
    let sources = lengths.iter().map(|length| {
        let of_peer = |(address, cidrs): (IpAddr, &'a [IpNetwork])| {
            // A node may also send from its own address: what its programs send to pods bears it.
            let prefixes = cidrs.iter().copied().chain([family::host(address)]);
            let carried = prefixes.filter(|carried| PrefixLength::of(*carried) == *length);
            carried.map(move |carried| [Field::Address(address), Field::Address(carried.network())])
        };
        Keys::new(length.set(underlay), peers.clone().flat_map(of_peer))
    });
    let addresses = peers.clone().map(|(address, _)| [Field::Address(address)]);
    let keys: Vec<_> = [Keys::new(peer_set(underlay), addresses)].into_iter().chain(sources).collect();
    let table = Table {
        name: TABLE.into(),
        counters: GUARDS.iter().map(|(name, _)| (*name).into()).collect(),
        sets: keys.iter().map(|keys| keys.set().clone()).collect(),
        chains: chains(config, &lengths),
    };
    Firewall { table, keys }
}

/// A prefix length of peers' pod CIDRs. Each has a set of its own, since a hash set matches one prefix length.
#[derive(Clone, Copy, PartialEq, Eq)]
struct PrefixLength {
    version: IpVersion,
    bits: u8,
}

impl PrefixLength {
    fn of(prefix: IpNetwork) -> Self {
        Self { version: IpVersion::of(prefix.ip()), bits: prefix.prefix() }
    }

    /// Pairs of a peer's underlay address and a prefix that it may send from.
    fn set(self, underlay: IpVersion) -> Set {
        let name = format!("{SETS}sources{}-{}-{}", underlay.digit(), self.version.digit(), self.bits);
        Set { name, key: vec![Type::Address(underlay), Type::Address(self.version)], content: Content::Nothing }
    }
}

impl Ord for PrefixLength {
    /// In the order of evaluation: pods' sources before nodes' sources.
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        let rank = |length: &Self| {
            let whole = usize::from(length.bits) == length.version.address_length() * 8;
            (whole, length.version, length.bits)
        };
        rank(self).cmp(&rank(other))
    }
}

impl PartialOrd for PrefixLength {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

/// The underlay addresses of the peers.
fn peer_set(underlay: IpVersion) -> Set {
    let name = format!("{SETS}peers{}", underlay.digit());
    Set { name, key: vec![Type::Address(underlay)], content: Content::Nothing }
}

fn chains(config: &NodeConfig<'_>, lengths: &BTreeSet<PrefixLength>) -> Vec<Chain> {
    let at = |chain_type, hook, priority| Some(Base { chain_type, hook, priority });
    let chain = |name: &str, base, rules| Chain { name: name.into(), base, rules };
    let underlay = IpVersion::of(config.own);
    let overlay = || Rule::new().to_port(UDP, config.port);
    let mut prerouting =
        vec![Rule::new().of(IpVersion::V6).iifname(HOST_VETH_PREFIX).without_reverse_route().jump(SPOOFED)];
    let (input, input_base, forward_base) = if config.masquerade {
        prerouting.push(overlay().jump(OVERLAY));
        // What guard-overlay accepts is not tracked, and never comes here.
        let refused = drop_rules(overlay).to_vec();
        let forward_base = at(ChainType::Nat, ChainHook::Postrouting, SOURCE_NAT - 1);
        (refused, at(ChainType::Nat, ChainHook::Input, SOURCE_NAT), forward_base)
    } else {
        let guard = vec![overlay().jump(OVERLAY)];
        (guard, at(ChainType::Filter, ChainHook::Input, FILTER), at(ChainType::Filter, ChainHook::Forward, FILTER))
    };
    let to_peer = [PacketField::Destination(underlay)];
    let untracked = overlay().of(underlay).in_set(&peer_set(underlay).name, &to_peer).notrack();
    let mut chains = vec![
        chain("guard-prerouting", at(ChainType::Filter, ChainHook::Prerouting, RAW), prerouting),
        chain("guard-output", at(ChainType::Filter, ChainHook::Output, RAW), vec![untracked]),
        chain("guard-input", input_base, input),
        chain("guard-forward", forward_base, vec![overlay().jump(RELAYED)]),
        chain(OVERLAY, None, guard_overlay(config, lengths)),
        chain(RELAYED, None, guard_relayed(config)),
        chain(
            SPOOFED,
            None,
            vec![
                // Link-local packets of a pod are not forwarded.
                Rule::new().from(prefix(Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0).into(), 10)).return_(),
                Rule::new().from(family::host(Ipv6Addr::UNSPECIFIED.into())).return_(),
                Rule::new().count(SPOOFING).drop(),
            ],
        ),
    ];
    if config.fast_path {
        let to = [OVERLAY_DEVICE, HOST_VETH_PREFIX].map(|device| Rule::new().oifname(device));
        let rules = to.map(|rule| rule.established().raise_priority(PASSED.unsigned_abs()));
        chains.push(chain(FAST_PATH, at(ChainType::Filter, ChainHook::Forward, FILTER), rules.to_vec()));
    }
    if config.masquerade {
        // Packets to pods are never translated; tunnelled ones have the node's own source.
        let stay = config.cluster_cidrs.iter().chain(config.not_masqueraded);
        let stay = stay.map(|cidr| Rule::new().to(*cidr).accept());
        let leave = config.own_pod_cidrs.iter().map(|cidr| Rule::new().from(*cidr).masquerade());
        let rules = stay.chain(leave).collect();
        chains.push(chain("postrouting", at(ChainType::Nat, ChainHook::Postrouting, SOURCE_NAT), rules));
    }
    chains
}

/// Packets to the VXLAN port of this node, and those that are forwarded to another's.
fn guard_overlay(config: &NodeConfig<'_>, lengths: &BTreeSet<PrefixLength>) -> Vec<Rule> {
    let underlay = IpVersion::of(config.own);
    let from_own_prefix = |length: &PrefixLength| {
        let parts = [PacketField::Source(underlay), PacketField::CarriedSource(length.version, length.bits)];
        let rule = Rule::new().of(underlay).carries(config.vni, length.version);
        rule.in_set(&length.set(underlay).name, &parts).notrack().accept()
    };
    let mut rules: Vec<_> = lengths.iter().map(from_own_prefix).collect();
    // The device receives broadcast and multicast, too.
    rules.push(Rule::new().to_remote_unicast().return_());
    let [from_pod, from_others] = drop_rules(Rule::new);
    let from_peer = Rule::new().of(underlay).in_set(&peer_set(underlay).name, &[PacketField::Source(underlay)]);
    rules.extend([from_pod, from_peer.count(SOURCES).drop(), from_others]);
    rules
}

/// Drops a pod's packets, and all others, with a counter each.
fn drop_rules(rule: impl Fn() -> Rule) -> [Rule; 2] {
    [rule().iifname(HOST_VETH_PREFIX).count(ENCAPSULATION).drop(), rule().count(NOT_PEERS).drop()]
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
    rules.push(to_peer().count(NOT_PEERS).drop());
    rules
}

#[cfg(test)]
mod tests {
    use super::*;

    fn net(text: &str) -> IpNetwork {
        text.parse().unwrap()
    }

    fn config<'a>(own: &'a [IpNetwork], cluster: &'a [IpNetwork]) -> NodeConfig<'a> {
        NodeConfig {
            own: "192.168.50.1".parse().unwrap(),
            own_pod_cidrs: own,
            cluster_cidrs: cluster,
            vni: 1,
            port: 8472,
            masquerade: true,
            not_masqueraded: &[],
            fast_path: true,
        }
    }

    fn sets(firewall: &Firewall) -> Vec<(String, usize)> {
        firewall.keys.iter().map(|keys| (keys.set().name.clone(), keys.len())).collect()
    }

    #[test]
    fn a_joining_peer_changes_only_elements_and_a_new_prefix_length_a_set() {
        let (own, cluster) = ([net("10.244.1.0/24"), net("fd00:1::/64")], [net("10.244.0.0/16"), net("fd00::/32")]);
        let two = [net("10.244.2.0/24"), net("fd00:2::/64")];
        let three = [net("10.244.4.0/22")];
        let peers = [("192.168.50.2".parse().unwrap(), &two[..]), ("192.168.50.3".parse().unwrap(), &three[..])];
        let alone = firewall(&config(&own, &cluster), [].into_iter());
        let with = |count: usize| firewall(&config(&own, &cluster), peers[..count].iter().copied());
        assert_eq!(alone.table, with(1).table);
        let name = |name: &str, count| (name.to_owned(), count);
        let one = [
            name("overlay-peers4", 1),
            name("overlay-sources4-4-24", 1),
            name("overlay-sources4-6-64", 1),
            name("overlay-sources4-4-32", 1),
        ];
        assert_eq!(sets(&with(1)), one);
        assert_eq!(sets(&with(2))[1..3], [name("overlay-sources4-4-22", 1), name("overlay-sources4-4-24", 1)]);
        assert!(with(2).table.sets.iter().all(|set| is_set(&set.name)));
        assert!(with(2).table.chains.iter().all(|chain| is_chain(&chain.name)));
    }

    #[test]
    fn there_is_no_nat_chain_without_masquerade() {
        let (own, cluster) = ([net("10.244.1.0/24")], [net("10.244.0.0/16")]);
        let on = firewall(&config(&own, &cluster), [].into_iter());
        let off = firewall(&NodeConfig { masquerade: false, ..config(&own, &cluster) }, [].into_iter());
        let nat = |firewall: &Firewall| {
            let is = |chain: &&Chain| chain.base.is_some_and(|base| base.chain_type == ChainType::Nat);
            firewall.table.chains.iter().filter(is).count()
        };
        assert_eq!((nat(&on), nat(&off)), (3, 0));
    }
}
