//! The daemon's part of table `inet podwire`: guards of the overlay, guards against pods with forged source addresses,
//! and the masquerade. A pure function of the cluster's view. The plugin's part is in [`crate::rules::pods`].
//!
//! ```text
//! guard-prerouting   raw: UDP to the VXLAN port → guard-overlay: from peers with a source of their own accepted and not
//!                    tracked, all else for this node dropped, its sender recorded (`dropped`); IPv6 of a pod whose source
//!                    is not routed to it → guard-spoofed; from an address of the cluster, and neither by a pod's device nor by the overlay's →
//!                    guard-plain: dropped unless a plain route leads back by that device, or by another one on the same link
//! guard-plain-first  nat: the same for the first packets of connections to the node itself (answers to what the node has sent
//!                    from an address of its own come plainly)
//! guard-local        raw, packets to the node itself: from pods → guard-from-pod: IPv4 whose source is not routed to the
//!                    pod, and IPv6 from a link-local source (guard-on-link) to what is not on the link, dropped, and all
//!                    to the gateway fe80::1 (guard-gateway) but neighbour discovery. ICMP
//!                    errors by which a packet was too large: dropped when of a pod, the others → guard-path-mtu4, -6:
//!                    dropped when about a packet to a peer or a pod that is none of TCP
//! guard-output       raw: packets to a peer's VXLAN port are not tracked, so they are never translated
//! guard-input        UDP translated to the VXLAN port is dropped
//! guard-forward      UDP to the VXLAN port of other hosts → guard-relayed: a pod's may go to pods only; to a peer only
//!                    from a peer. From pods → guard-destinations: what pods do not reach is dropped
//! guard-outside      packets without a connection → guard-untracked: from own pods to the outside dropped, and ICMP
//!                    errors by which a packet was too large
//! fast-path          packets to a pod or a peer that the fast path may remember get a bit in their priority
//! postrouting        packets of pods to the outside are masqueraded
//! ```
//! guard-input, guard-forward and postrouting see the first packet of a connection only: chains of type `nat` cost the
//! other packets nothing, and a connection whose first packet is dropped has no others. Without a masquerade there is
//! no chain of that type, since then conntrack may be unused: guard-input and guard-forward see every packet, the
//! overlay is guarded in guard-input, and guard-forward leads ICMP errors to guard-path-mtu4, -6.
//!
//! Here the chains are put together and hooked in. A file below has one guard, or what several of them share.
//!
//! What may not live here: which peers there are, and asking the kernel.

mod config;
mod counters;
pub mod dropped;
mod local;
mod outdated;
mod outside;
mod overlay;
mod path_mtu;
mod plain;
mod pod_sources;
mod sources;

use podwire_kernel::family::IpVersion;
use podwire_kernel::nft::{Base, Chain, ChainHook, ChainType, Entries, Rule, Table};
use std::collections::BTreeSet;

pub use self::config::{NodeConfig, PlainLink};
pub use self::counters::{GUARDS, PATH_MTU};
use self::local::{FROM_POD, GATEWAY, LOCAL, ON_LINK};
pub use self::outdated::is_outdated;
use self::outside::{FILTER, OUTSIDE, POD_DESTINATIONS, UNTRACKED};
use self::overlay::{OVERLAY, RELAYED};
pub use self::path_mtu::claimed;
use self::plain::{BESIDE, BESIDE_FIRST, FIRST, REFUSED};
use self::pod_sources::SPOOFED;
pub use self::sources::Sender;
use self::sources::{PrefixLength, SETS};
use crate::defaults::{HOST_VETH_PREFIX, OVERLAY_DEVICE, TABLE};
use crate::rules::pods::{RAW, SOURCE_NAT};
use crate::rules::services;

/// The names of the daemon's chains, of this version and of earlier ones.
const CHAINS: [&str; 22] = [
    "guard-prerouting",
    "guard-output",
    "guard-input",
    "guard-forward",
    OVERLAY,
    RELAYED,
    SPOOFED,
    BESIDE,
    FIRST,
    BESIDE_FIRST,
    REFUSED,
    POD_DESTINATIONS,
    OUTSIDE,
    UNTRACKED,
    LOCAL,
    FROM_POD,
    ON_LINK,
    GATEWAY,
    path_mtu::CHAINS[0],
    path_mtu::CHAINS[1],
    FAST_PATH,
    "postrouting",
];
const FAST_PATH: &str = "fast-path";

/// The bit in a packet's priority that means: the rules have accepted it, and its connection is established and not
/// translated. Queueing disciplines use the lowest bits of the priority, or a handle in two halves (`1:10`), of which
/// the first is rarely so large; the fast path clears the bit before they see it.
pub const PASSED: i32 = 0x4000_0000;

/// The firewall: rules and sets, and the content of the sets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Firewall {
    /// The daemon's part of the table.
    pub table: Table,
    /// The keys of its sets, in the same order; those behind are filled by the rules themselves.
    pub keys: Vec<Entries>,
}

/// Whether a chain of the table is the daemon's, of this version or an earlier one.
pub fn is_chain(name: &str) -> bool {
    CHAINS.contains(&name)
}

/// Whether a set of the table is the daemon's, of this version or an earlier one.
pub fn is_set(name: &str) -> bool {
    name.starts_with(SETS) || name.starts_with(dropped::SETS) || name.starts_with(services::SETS)
}

/// The firewall of a node with these peers.
pub fn firewall<'a>(config: &NodeConfig<'_>, peers: impl Iterator<Item = Sender<'a>> + Clone) -> Firewall {
    let lengths = sources::prefix_lengths(config, peers.clone());
    let underlay = IpVersion::of(config.own);
    let mut keys = sources::keys(underlay, &lengths, peers);
    keys.extend(services::keys(config.service_addresses));
    let recorded = dropped::sets(underlay, config.link.is_some()).chain([path_mtu::claimed(underlay)]);
    let table = Table {
        name: TABLE.into(),
        counters: GUARDS.iter().map(|(name, _)| (*name).into()).collect(),
        sets: keys.iter().map(|keys| keys.set().clone()).chain(recorded).collect(),
        chains: chains(config, &lengths),
    };
    Firewall { table, keys }
}

fn chains(config: &NodeConfig<'_>, lengths: &BTreeSet<PrefixLength>) -> Vec<Chain> {
    let at = |chain_type, hook, priority| Some(Base { chain_type, hook, priority });
    let chain = |name: &str, base, rules| Chain { name: name.into(), base, rules };
    let overlay = || overlay::encapsulated(config);
    let mut prerouting = Vec::new();
    let (input, input_base, forward_base) = if config.masquerade {
        prerouting.push(overlay().jump(OVERLAY));
        // What guard-overlay accepts is not tracked, and never comes here.
        let refused = overlay::drop_rules(overlay);
        let forward_base = at(ChainType::Nat, ChainHook::Postrouting, SOURCE_NAT - 1);
        (refused, at(ChainType::Nat, ChainHook::Input, SOURCE_NAT), forward_base)
    } else {
        let guard = vec![overlay().jump(OVERLAY)];
        (guard, at(ChainType::Filter, ChainHook::Input, FILTER), at(ChainType::Filter, ChainHook::Forward, FILTER))
    };
    let mut forward = vec![overlay().jump(RELAYED), outside::from_pods()];
    if !config.masquerade {
        forward.extend(path_mtu::rules());
    }
    prerouting.push(pod_sources::spoofed());
    prerouting.extend(plain::rules(config));
    let mut chains = vec![
        chain("guard-prerouting", at(ChainType::Filter, ChainHook::Prerouting, RAW), prerouting),
        chain("guard-output", at(ChainType::Filter, ChainHook::Output, RAW), vec![overlay::untracked(config)]),
        chain("guard-input", input_base, input),
        chain("guard-forward", forward_base, forward),
    ];
    chains.extend(overlay::chains(config, lengths));
    chains.push(pod_sources::chain());
    chains.extend(plain::chains(config));
    chains.push(outside::destinations(config));
    chains.extend(local::chains());
    chains.extend(path_mtu::chains(config));
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
        chains.extend(outside::untranslated(config));
        chains.push(chain("postrouting", at(ChainType::Nat, ChainHook::Postrouting, SOURCE_NAT), rules));
    }
    chains
}

#[cfg(test)]
mod tests {
    use ipnetwork::IpNetwork;

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
            plain_routes: false,
            link: None,
            accept_plain: false,
            masquerade: true,
            not_masqueraded: &[],
            refused_destinations: &[],
            fast_path: true,
            service_addresses: &[],
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
        let others = ["10.9.9.3".parse().unwrap(), "fd00:9::3".parse().unwrap()];
        let sender =
            |address: &str, pod_cidrs, addresses| Sender { address: address.parse().unwrap(), pod_cidrs, addresses };
        let peers = [sender("192.168.50.2", &two[..], &[][..]), sender("192.168.50.3", &three, &others)];
        let alone = firewall(&config(&own, &cluster), [].into_iter());
        let with = |count: usize| firewall(&config(&own, &cluster), peers[..count].iter().copied());
        assert_eq!(alone.table, with(1).table);
        let name = |name: &str, count| (name.to_owned(), count);
        let one = [
            name("overlay-peers4", 1),
            name("overlay-quoted4", 1),
            name("overlay-sources4-4-24", 1),
            name("overlay-sources4-6-64", 1),
            name("overlay-sources4-4-32", 1),
            name("overlay-sources4-6-128", 0),
        ];
        assert_eq!(sets(&with(1))[..6], one);
        // The other addresses of a node are elements, of both families.
        assert_eq!(sets(&with(2))[5..7], [name("overlay-sources4-4-32", 3), name("overlay-sources4-6-128", 1)]);
        assert_eq!(sets(&with(2))[2..4], [name("overlay-sources4-4-22", 1), name("overlay-sources4-4-24", 1)]);
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
        assert_eq!((nat(&on), nat(&off)), (4, 0));
    }
}
