//! The daemon's part of table `inet podwire`, that follows from the cluster: guards of the overlay and against pods that
//! lie about themselves, and the masquerade. A pure function, so that whoever finds it missing or different writes the
//! same. The plugin's part is [`crate::rules::pods`]'s.
//!
//! ```text
//! guard-prerouting   raw: IPv6 of a pod whose source is not routed to it → guard-spoofed; UDP to the VXLAN port →
//!                    guard-overlay: of peers that tell the truth it is accepted and not tracked, what else is for this
//!                    node is dropped
//! guard-output       raw: what goes to a peer's VXLAN port is not tracked, so that nobody translates it
//! guard-input        UDP to the VXLAN port that was translated there is dropped
//! guard-forward      UDP to the VXLAN port of others → guard-relayed: a pod's goes to pods only, nobody's goes to a peer
//!                    but a peer's
//! fast-path          of what goes to a pod or a peer, what the fast path may remember gets a bit into its priority
//! postrouting        what pods send to the outside leaves under the node's address
//! ```
//! The last three look at the first packet of a connection: chains of type `nat` cost the others nothing, and a connection
//! whose first packet is dropped has none. Without a masquerade there is none of that type, since then there may be nobody
//! else who has connections tracked: guard-input and guard-forward see every packet, and the overlay is guarded in
//! guard-input.

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

const STRANGERS: &str = "overlay-strangers";
const SOURCES: &str = "overlay-sources";
const ENCAPSULATION: &str = "pod-encapsulation";
const SPOOFING: &str = "pod-spoofing";

/// The counters of the guards: the name of each, and what it counts.
pub const GUARDS: [(&str, &str); 4] = [
    (STRANGERS, "packets to the VXLAN port from an address that is no peer's"),
    (SOURCES, "packets of a peer that carry a source of another node, or nothing that a peer sends"),
    (ENCAPSULATION, "packets of a pod to the VXLAN port of a node"),
    (SPOOFING, "IPv6 packets of a pod from an address that is not its own"),
];

/// The names of chains that are or may have been the daemon's.
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

/// The bit in a packet's priority that says: the rules have let it pass, and its connection is established and not
/// translated. Those who order packets by their priority use the lowest bits, or two halves of a handle (`1:10`), of which
/// the first is rarely so large; it is taken out before anybody sees it.
pub const PASSED: i32 = 0x4000_0000;

/// First letters of the names of the daemon's sets.
const SETS: &str = "overlay-";

/// What the firewall follows from, beside the peers.
#[derive(Debug, Clone, Copy)]
pub struct Policy<'a> {
    /// The node's own address on the underlay.
    pub own: IpAddr,
    /// The prefixes of its pods.
    pub own_pod_cidrs: &'a [IpNetwork],
    /// The ranges that all pods are in.
    pub cluster_cidrs: &'a [IpNetwork],
    /// The VXLAN network identifier.
    pub vni: u32,
    /// The UDP port of the overlay.
    pub port: u16,
    /// Whether pods leave the cluster under the node's address.
    pub masquerade: bool,
    /// Where they do not, beside the cluster.
    pub not_masqueraded: &'a [IpNetwork],
    /// Whether there is a fast path to be told what it may remember.
    pub fast_path: bool,
}

/// The firewall: rules and sets, and what is in the sets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Firewall {
    /// The daemon's part of the table.
    pub table: Table,
    /// The keys of its sets, in their order.
    pub keys: Vec<Keys>,
}

/// Whether a chain of the table is or was the daemon's.
pub fn is_chain(name: &str) -> bool {
    CHAINS.contains(&name)
}

/// Whether a set of the table is or was the daemon's.
pub fn is_set(name: &str) -> bool {
    name.starts_with(SETS)
}

/// The firewall of a node that has these peers: each its address on the underlay, and the prefixes of its pods.
pub fn firewall<'a>(policy: &Policy<'_>, peers: impl Iterator<Item = (IpAddr, &'a [IpNetwork])> + Clone) -> Firewall {
    let underlay = IpVersion::of(policy.own);
    // Those of this node too, so that the first peer to join makes no new set.
    let own = policy.own_pod_cidrs.iter().copied().chain([family::host(policy.own)]);
    let mut widths: BTreeSet<Width> = own.map(Width::of).collect();
    widths.extend(peers.clone().flat_map(|(_, cidrs)| cidrs).map(|cidr| Width::of(*cidr)));
    let sources = widths.iter().map(|width| {
        let of_peer = |(address, cidrs): (IpAddr, &'a [IpNetwork])| {
            // A node's own address is as much its own as its pods' are: what its programs send to pods may bear it.
            let prefixes = cidrs.iter().copied().chain([family::host(address)]);
            let carried = prefixes.filter(|carried| Width::of(*carried) == *width);
            carried.map(move |carried| [Field::Address(address), Field::Address(carried.network())])
        };
        Keys::new(width.set(underlay), peers.clone().flat_map(of_peer))
    });
    let addresses = peers.clone().map(|(address, _)| [Field::Address(address)]);
    let keys: Vec<_> = [Keys::new(peer_set(underlay), addresses)].into_iter().chain(sources).collect();
    let table = Table {
        name: TABLE.into(),
        counters: GUARDS.iter().map(|(name, _)| (*name).into()).collect(),
        sets: keys.iter().map(|keys| keys.set().clone()).collect(),
        chains: chains(policy, &widths),
    };
    Firewall { table, keys }
}

/// A width of prefixes that peers have: each has a set of its own, since a prefix says nothing about its neighbours.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Width {
    version: IpVersion,
    bits: u8,
}

impl Width {
    fn of(prefix: IpNetwork) -> Self {
        Self { version: IpVersion::of(prefix.ip()), bits: prefix.prefix() }
    }

    /// Pairs of a peer's address on the underlay and a prefix that it may send from.
    fn set(self, underlay: IpVersion) -> Set {
        let name = format!("{SETS}sources{}-{}-{}", underlay.digit(), self.version.digit(), self.bits);
        Set { name, key: vec![Type::Address(underlay), Type::Address(self.version)], content: Content::Nothing }
    }
}

impl Ord for Width {
    /// In the order in which they are asked for: what pods send before what nodes send.
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        let rank = |width: &Self| {
            let whole = usize::from(width.bits) == width.version.address_length() * 8;
            (whole, width.version, width.bits)
        };
        rank(self).cmp(&rank(other))
    }
}

impl PartialOrd for Width {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

/// The addresses of the peers on the underlay.
fn peer_set(underlay: IpVersion) -> Set {
    let name = format!("{SETS}peers{}", underlay.digit());
    Set { name, key: vec![Type::Address(underlay)], content: Content::Nothing }
}

fn chains(policy: &Policy<'_>, widths: &BTreeSet<Width>) -> Vec<Chain> {
    let at = |chain_type, hook, priority| Some(Base { chain_type, hook, priority });
    let chain = |name: &str, base, rules| Chain { name: name.into(), base, rules };
    let underlay = IpVersion::of(policy.own);
    let overlay = || Rule::new().to_port(UDP, policy.port);
    let mut prerouting =
        vec![Rule::new().of(IpVersion::V6).iifname(HOST_VETH_PREFIX).without_reverse_route().jump(SPOOFED)];
    let (input, input_base, forward_base) = if policy.masquerade {
        prerouting.push(overlay().jump(OVERLAY));
        // What is accepted is not tracked, and never comes here.
        let refused = refused(overlay).to_vec();
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
        chain(OVERLAY, None, guard_overlay(policy, widths)),
        chain(RELAYED, None, guard_relayed(policy)),
        chain(
            SPOOFED,
            None,
            vec![
                // What a pod says to its link only goes no further than here.
                Rule::new().from(prefix(Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0).into(), 10)).return_(),
                Rule::new().from(family::host(Ipv6Addr::UNSPECIFIED.into())).return_(),
                Rule::new().count(SPOOFING).drop(),
            ],
        ),
    ];
    if policy.fast_path {
        let to = [OVERLAY_DEVICE, HOST_VETH_PREFIX].map(|device| Rule::new().oifname(device));
        let rules = to.map(|rule| rule.established().raise_priority(PASSED.unsigned_abs()));
        chains.push(chain(FAST_PATH, at(ChainType::Filter, ChainHook::Forward, FILTER), rules.to_vec()));
    }
    if policy.masquerade {
        // Nothing that goes to a pod is translated, whoever sent it; what is tunnelled bears the node's own source.
        let stay = policy.cluster_cidrs.iter().chain(policy.not_masqueraded);
        let stay = stay.map(|cidr| Rule::new().to(*cidr).accept());
        let leave = policy.own_pod_cidrs.iter().map(|cidr| Rule::new().from(*cidr).masquerade());
        let rules = stay.chain(leave).collect();
        chains.push(chain("postrouting", at(ChainType::Nat, ChainHook::Postrouting, SOURCE_NAT), rules));
    }
    chains
}

/// What comes to the VXLAN port of this node, and what only passes by on its way to another's.
fn guard_overlay(policy: &Policy<'_>, widths: &BTreeSet<Width>) -> Vec<Rule> {
    let underlay = IpVersion::of(policy.own);
    let truthful = |width: &Width| {
        let parts = [PacketField::Source(underlay), PacketField::CarriedSource(width.version, width.bits)];
        let rule = Rule::new().of(underlay).carries(policy.vni, width.version);
        rule.in_set(&width.set(underlay).name, &parts).notrack().accept()
    };
    let mut rules: Vec<_> = widths.iter().map(truthful).collect();
    // The device hears what is said to everybody, too.
    rules.push(Rule::new().to_remote_unicast().return_());
    let [from_pod, from_others] = refused(Rule::new);
    let from_peer = Rule::new().of(underlay).in_set(&peer_set(underlay).name, &[PacketField::Source(underlay)]);
    rules.extend([from_pod, from_peer.count(SOURCES).drop(), from_others]);
    rules
}

/// Drops a pod's packets, and all others, each counted.
fn refused(rule: impl Fn() -> Rule) -> [Rule; 2] {
    [rule().iifname(HOST_VETH_PREFIX).count(ENCAPSULATION).drop(), rule().count(STRANGERS).drop()]
}

/// What goes to the VXLAN port of others, as it is after a service or a host port has been translated.
///
/// Of a pod it goes to pods, and else nowhere: under the node's address a peer would take it for the node's own, at every
/// address that the peer has, of which only one is known here.
fn guard_relayed(policy: &Policy<'_>) -> Vec<Rule> {
    let underlay = IpVersion::of(policy.own);
    let peers = &peer_set(underlay).name;
    let from_pod = || Rule::new().iifname(HOST_VETH_PREFIX);
    let mut rules: Vec<_> = policy.cluster_cidrs.iter().map(|cidr| from_pod().to(*cidr).accept()).collect();
    rules.push(from_pod().count(ENCAPSULATION).drop());
    let to_peer = || Rule::new().of(underlay).in_set(peers, &[PacketField::Destination(underlay)]);
    // What the node itself sends is tracked while guard-output is missing.
    rules.push(Rule::new().from(family::host(policy.own)).accept());
    rules.push(to_peer().in_set(peers, &[PacketField::Source(underlay)]).accept());
    rules.push(to_peer().count(STRANGERS).drop());
    rules
}

#[cfg(test)]
mod tests {
    use super::*;

    fn net(text: &str) -> IpNetwork {
        text.parse().unwrap()
    }

    fn policy<'a>(own: &'a [IpNetwork], cluster: &'a [IpNetwork]) -> Policy<'a> {
        Policy {
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
    fn a_peer_that_joins_changes_elements_only_and_a_new_width_a_set() {
        let (own, cluster) = ([net("10.244.1.0/24"), net("fd00:1::/64")], [net("10.244.0.0/16"), net("fd00::/32")]);
        let two = [net("10.244.2.0/24"), net("fd00:2::/64")];
        let three = [net("10.244.4.0/22")];
        let peers = [("192.168.50.2".parse().unwrap(), &two[..]), ("192.168.50.3".parse().unwrap(), &three[..])];
        let alone = firewall(&policy(&own, &cluster), [].into_iter());
        let with = |count: usize| firewall(&policy(&own, &cluster), peers[..count].iter().copied());
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
    fn nothing_is_translated_where_nothing_is_masqueraded() {
        let (own, cluster) = ([net("10.244.1.0/24")], [net("10.244.0.0/16")]);
        let on = firewall(&policy(&own, &cluster), [].into_iter());
        let off = firewall(&Policy { masquerade: false, ..policy(&own, &cluster) }, [].into_iter());
        let nat = |firewall: &Firewall| {
            let is = |chain: &&Chain| chain.base.is_some_and(|base| base.chain_type == ChainType::Nat);
            firewall.table.chains.iter().filter(is).count()
        };
        assert_eq!((nat(&on), nat(&off)), (3, 0));
    }
}
