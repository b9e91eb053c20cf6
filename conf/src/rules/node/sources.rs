//! The sets of the overlay's guard: the peers, and what each of them may send from.

use std::collections::BTreeSet;
use std::net::IpAddr;

use ipnetwork::IpNetwork;
use podwire_kernel::family::{self, IpVersion};
use podwire_kernel::nft::{Content, Entries, Field, Set, Type};

use crate::rules::node::config::NodeConfig;

/// Prefix of the names of the daemon's sets.
pub(super) const SETS: &str = "overlay-";

/// What a peer may send from.
#[derive(Debug, Clone, Copy)]
pub struct Sender<'a> {
    /// Its address on the underlay, which all of its packets come from.
    pub address: IpAddr,
    /// The pod CIDRs of it.
    pub pod_cidrs: &'a [IpNetwork],
    /// Its other addresses, which its programs may send to pods from.
    pub addresses: &'a [IpAddr],
}

impl<'a> Sender<'a> {
    /// The prefixes of what it sends: of its pods, and of itself, since what its programs send to pods bears its addresses.
    fn prefixes(self) -> impl Iterator<Item = IpNetwork> + 'a {
        let own = [self.address].into_iter().chain(self.addresses.iter().copied());
        self.pod_cidrs.iter().copied().chain(own.map(family::host))
    }
}

/// The prefix lengths of what the nodes may send from. They include this node's, and addresses of both families, so that the
/// first peer to join and a node's first other address add no new set.
pub(super) fn prefix_lengths<'a>(
    config: &NodeConfig<'_>,
    peers: impl Iterator<Item = Sender<'a>>,
) -> BTreeSet<PrefixLength> {
    let mut lengths: BTreeSet<_> = config.own_pod_cidrs.iter().copied().map(PrefixLength::of).collect();
    lengths.extend(IpVersion::BOTH.map(PrefixLength::host));
    lengths.extend(peers.flat_map(|peer| peer.pod_cidrs).map(|cidr| PrefixLength::of(*cidr)));
    lengths
}

/// The keys of all sets.
pub(super) fn keys<'a>(
    underlay: IpVersion,
    lengths: &BTreeSet<PrefixLength>,
    peers: impl Iterator<Item = Sender<'a>> + Clone,
) -> Vec<Entries> {
    let sources = lengths.iter().map(|length| {
        let of_peer = |peer: Sender<'a>| {
            let carried = peer.prefixes().filter(|carried| PrefixLength::of(*carried) == *length);
            carried.map(move |carried| [Field::Address(peer.address), Field::Address(carried.network())])
        };
        Entries::keys(length.set(underlay), peers.clone().flat_map(of_peer))
    });
    let addresses = peers.clone().map(|peer| [Field::Address(peer.address)]);
    let quoted = Entries::keys(quoted_set(underlay), addresses.clone());
    [Entries::keys(peer_set(underlay), addresses), quoted].into_iter().chain(sources).collect()
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

    /// That of single addresses.
    pub(super) fn host(version: IpVersion) -> Self {
        Self { version, bits: u8::try_from(version.address_length() * 8).unwrap_or(u8::MAX) }
    }

    /// Pairs of a peer's underlay address and a prefix that it may send from.
    pub(super) fn set(self, underlay: IpVersion) -> Set {
        let name = format!("{SETS}sources{}-{}-{}", underlay.digit(), self.version.digit(), self.bits);
        Set { name, key: vec![Type::Address(underlay), Type::CarriedSource(self.version)], content: Content::Nothing }
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

/// The underlay addresses of the peers, once more: as destinations of packets that ICMP errors quote.
pub(super) fn quoted_set(underlay: IpVersion) -> Set {
    let name = format!("{SETS}quoted{}", underlay.digit());
    Set { name, key: vec![Type::QuotedDestination(underlay)], content: Content::Nothing }
}
