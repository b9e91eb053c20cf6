//! The sets of the overlay's guard: the peers, and what each of them may send from.

use std::collections::BTreeSet;
use std::net::IpAddr;

use ipnetwork::IpNetwork;
use podwire_kernel::family::{self, IpVersion};
use podwire_kernel::nft::{Content, Field, Keys, Set, Type};

use crate::rules::node::config::NodeConfig;

/// Prefix of the names of the daemon's sets.
pub(super) const SETS: &str = "overlay-";

/// The prefix lengths of what the nodes may send from. They include this node's, so that the first peer to join adds no
/// new set.
pub(super) fn prefix_lengths<'a>(
    config: &NodeConfig<'_>,
    peers: impl Iterator<Item = (IpAddr, &'a [IpNetwork])>,
) -> BTreeSet<PrefixLength> {
    let own = config.own_pod_cidrs.iter().copied().chain([family::host(config.own)]);
    let mut lengths: BTreeSet<_> = own.map(PrefixLength::of).collect();
    lengths.extend(peers.flat_map(|(_, cidrs)| cidrs).map(|cidr| PrefixLength::of(*cidr)));
    lengths
}

/// The keys of all sets.
pub(super) fn keys<'a>(
    underlay: IpVersion,
    lengths: &BTreeSet<PrefixLength>,
    peers: impl Iterator<Item = (IpAddr, &'a [IpNetwork])> + Clone,
) -> Vec<Keys> {
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
    [Keys::new(peer_set(underlay), addresses)].into_iter().chain(sources).collect()
}

/// A prefix length of peers' pod CIDRs. Each has a set of its own, since a hash set matches one prefix length.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct PrefixLength {
    pub(super) version: IpVersion,
    pub(super) bits: u8,
}

impl PrefixLength {
    fn of(prefix: IpNetwork) -> Self {
        Self { version: IpVersion::of(prefix.ip()), bits: prefix.prefix() }
    }

    /// Pairs of a peer's underlay address and a prefix that it may send from.
    pub(super) fn set(self, underlay: IpVersion) -> Set {
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
pub(super) fn peer_set(underlay: IpVersion) -> Set {
    let name = format!("{SETS}peers{}", underlay.digit());
    Set { name, key: vec![Type::Address(underlay)], content: Content::Nothing }
}
