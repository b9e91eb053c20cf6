//! The membership as this node accepts it: entries that cannot be right are rejected one by one, and the rest counts. Pure.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv6Addr};

use ipnetwork::IpNetwork;
use podwire_conf::{Range, hash, shown};
use podwire_kernel::{Mac, family};

use crate::cluster::membership::{Member, Membership, OTHER_ADDRESSES};
use crate::cluster::rejected::{self, Reason, Rejected};

/// How many nodes are named where this one is not among them: there may be ten thousand.
const NAMED: usize = 8;

/// And how many characters of each.
const SHOWN: usize = 64;

/// The cluster from the inside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct View {
    /// The ranges that all pods are in.
    pub cluster_cidrs: Vec<IpNetwork>,
    /// This node.
    pub own: Peer,
    /// The other nodes, by name.
    pub peers: BTreeMap<String, Peer>,
    /// The entries that are left out.
    pub rejected: Vec<Rejected>,
}

/// A node's place on the overlay.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    /// Its address on the underlay.
    pub address: IpAddr,
    /// The prefixes of its pods.
    pub pod_cidrs: Vec<IpNetwork>,
    /// Its other addresses, which its programs may send to pods from.
    pub addresses: Vec<IpAddr>,
    /// The link-layer address of its VXLAN device. It follows from the first pod CIDR, so that every other node knows
    /// it without being told.
    pub mac: Mac,
}

impl Peer {
    /// The link-local address of its VXLAN device: the next hop for its pods, in both families.
    pub fn link_local(&self) -> Ipv6Addr {
        self.mac.link_local()
    }

    /// Whether a pod of it with this address can be reached by a plain route through its own address: an IPv6 gateway
    /// serves both families, an IPv4 one only its own.
    pub fn carries_plain(&self, pod: IpAddr) -> bool {
        self.address.is_ipv6() || pod.is_ipv4()
    }

    /// Whether both claim an address, be it their own or another one.
    pub(super) fn shares_an_address(&self, other: &Self) -> bool {
        let has = |peer: &Self, address: &IpAddr| peer.address == *address || peer.addresses.contains(address);
        has(other, &self.address) || self.addresses.iter().any(|address| has(other, address))
    }

    /// The overlay addresses by which this node and a peer talk as nodes, own and theirs: of each family that both have,
    /// the network address of the first pod CIDR.
    pub fn overlay_addresses(&self, peer: &Self) -> Vec<(IpAddr, IpAddr)> {
        let first =
            |node: &Self, ipv4: bool| node.pod_cidrs.iter().find(|cidr| cidr.is_ipv4() == ipv4).map(IpNetwork::network);
        [true, false].into_iter().filter_map(|ipv4| first(self, ipv4).zip(first(peer, ipv4))).collect()
    }
}

impl View {
    /// The view of the node called `name`.
    ///
    /// # Errors
    /// When this node itself is not joined: it is not in the membership, or its own entry is rejected.
    pub fn new(membership: &Membership, name: &str) -> Result<Self, Rejected> {
        let reject = |reason: Reason| Rejected::entry(name, reason);
        let missing = || {
            let shown = |node: &Member| shown::bounded(&node.name, SHOWN);
            let mut others: Vec<_> = membership.nodes.iter().take(NAMED).map(shown).collect();
            if membership.nodes.len() > NAMED {
                others.push("…".into());
            }
            reject(Reason::Missing(if others.is_empty() { "no node".into() } else { others.join(", ") }))
        };
        let node = membership.nodes.iter().find(|node| node.name == name).ok_or_else(missing)?;
        let (cluster_cidrs, mut rejected) = cluster(&membership.cluster_cidrs);
        // In the order of the file, this node's entry too: every node comes to the same verdict.
        let (mut claims, mut own, mut peers) = (Claims::default(), None, BTreeMap::new());
        let mut with_others = Vec::new();
        for entry in &membership.nodes {
            let twice = peers.contains_key(&entry.name) || (own.is_some() && entry.name == name);
            let other_family = entry.address.is_ipv4() != node.address.is_ipv4();
            let verdict = if twice {
                Err(Reason::ListedTwice)
            } else if other_family {
                Err(Reason::OtherFamily { address: entry.address, own: node.address })
            } else {
                claims.judge(entry, &cluster_cidrs)
            };
            if verdict.is_ok() && !entry.addresses.is_empty() {
                with_others.push(entry);
            }
            match verdict {
                Ok(peer) if entry.name == name => own = Some(peer),
                Ok(peer) => _ = peers.insert(entry.name.clone(), peer),
                Err(reason) if entry.name == name && own.is_none() => return Err(reject(reason)),
                Err(reason) => rejected.push(Rejected::entry(&entry.name, reason)),
            }
        }
        let mut own = own.ok_or_else(missing)?;
        // After all entries: nobody's other address takes a node's own one from it, wherever it is listed.
        for entry in with_others {
            let (addresses, reasons) = claims.others(entry, &cluster_cidrs);
            rejected.extend(reasons.into_iter().map(|reason| Rejected::entry(&entry.name, reason)));
            let peer = if entry.name == name { Some(&mut own) } else { peers.get_mut(&entry.name) };
            peer.into_iter().for_each(|peer| peer.addresses.clone_from(&addresses));
        }
        Ok(Self { cluster_cidrs, own, peers, rejected: rejected::named(rejected) })
    }
}

/// Where this node's pods get their addresses from: out of each set, of one family each, one.
pub fn ranges(view: &View) -> Vec<Vec<Range>> {
    let of_family = |ipv4: bool| {
        let cidrs = view.own.pod_cidrs.iter().filter(move |cidr| cidr.is_ipv4() == ipv4);
        cidrs.map(|cidr| Range { subnet: *cidr, start: None, end: None, gateway: None }).collect::<Vec<_>>()
    };
    [true, false].map(of_family).into_iter().filter(|set| !set.is_empty()).collect()
}

/// The cluster CIDRs that can be right, and why the others are rejected.
fn cluster(cidrs: &[IpNetwork]) -> (Vec<IpNetwork>, Vec<Rejected>) {
    let (mut accepted, mut rejected) = (Vec::<IpNetwork>::new(), Vec::new());
    if cidrs.len() > rejected::CLUSTER_CIDRS {
        rejected.push(Rejected { node: String::new(), reason: Reason::ManyClusterCidrs(cidrs.len()) });
    }
    for cidr in cidrs.iter().copied().take(rejected::CLUSTER_CIDRS) {
        let reason = if cidr.network() != cidr.ip() {
            Reason::ClusterHostBits { cidr, meant: family::masked(cidr) }
        } else if let Some(reserved) = family::reserved().find(|reserved| family::overlap(*reserved, cidr)) {
            Reason::ClusterReserved { cidr, reserved }
        } else if let Some(other) = accepted.iter().copied().find(|other| family::overlap(*other, cidr)) {
            Reason::ClusterOverlaps { cidr, other }
        } else {
            accepted.push(cidr);
            continue;
        };
        rejected.push(Rejected { node: String::new(), reason });
    }
    (accepted, rejected)
}

/// What the accepted nodes hold, by what no two may hold: a cluster of ten thousand is judged entry by entry,
/// not pair by pair.
#[derive(Default)]
pub(super) struct Claims {
    addresses: BTreeMap<IpAddr, String>,
    macs: BTreeMap<Mac, String>,
    /// By network address. No two overlap, so one that overlaps any overlaps a neighbour in this order.
    prefixes: BTreeMap<IpAddr, (IpNetwork, String)>,
}

impl Claims {
    /// What an entry must be, whichever node's it is; what an accepted one has is held from now on.
    pub(super) fn judge(&mut self, node: &Member, cluster_cidrs: &[IpNetwork]) -> Result<Peer, Reason> {
        rejected::name(&node.name)?;
        let address = node.address;
        self.is_free(address, cluster_cidrs)?;
        let Some(first) = node.pod_cidrs.first() else { return Err(Reason::NoPodCidr) };
        if node.pod_cidrs.len() > rejected::POD_CIDRS {
            return Err(Reason::ManyPodCidrs(node.pod_cidrs.len()));
        }
        for (place, cidr) in node.pod_cidrs.iter().copied().enumerate() {
            if cidr.network() != cidr.ip() {
                return Err(Reason::HostBits { cidr, meant: family::masked(cidr) });
            }
            // Room for the node itself, a gateway, a pod and, in IPv4, the broadcast address.
            if cidr.prefix() > family::host(cidr.ip()).prefix() - 2 {
                return Err(Reason::TooSmall(cidr));
            }
            if !cluster_cidrs.iter().any(|cluster| family::contains(*cluster, cidr)) {
                return Err(Reason::OutsideCluster(cidr));
            }
            if let Some(other) = node.pod_cidrs[..place].iter().copied().find(|other| family::overlap(*other, cidr)) {
                return Err(Reason::OverlapsOwn { cidr, other });
            }
            if let Some((theirs, other)) = self.overlapping(cidr) {
                return Err(Reason::Overlaps { cidr, theirs: *theirs, other: other.clone() });
            }
        }
        let mac = Mac::local(hash::stable(&["overlay", &first.to_string()]));
        if let Some(other) = self.macs.get(&mac) {
            return Err(Reason::SameMac { mac, other: other.clone() });
        }
        self.addresses.insert(address, node.name.clone());
        self.macs.insert(mac, node.name.clone());
        for cidr in &node.pod_cidrs {
            self.prefixes.insert(cidr.network(), (*cidr, node.name.clone()));
        }
        Ok(Peer { address, pod_cidrs: node.pod_cidrs.clone(), addresses: Vec::new(), mac })
    }

    /// The other addresses of an accepted entry that count, and why the others do not. What counts is held from now on.
    pub(super) fn others(&mut self, node: &Member, cluster_cidrs: &[IpNetwork]) -> (Vec<IpAddr>, Vec<Reason>) {
        let (mut accepted, mut rejected) = (Vec::new(), Vec::new());
        for address in node.addresses.iter().copied() {
            // Listed twice, or the one by which the others reach it: nothing is lost.
            if address == node.address || accepted.contains(&address) {
                continue;
            }
            if accepted.len() + rejected.len() == OTHER_ADDRESSES {
                rejected.push(Reason::ManyAddresses(address));
                break;
            }
            match self.is_free(address, cluster_cidrs) {
                Ok(()) => accepted.push(address),
                Err(reason) => rejected.push(Reason::OtherAddress(Box::new(reason))),
            }
        }
        self.addresses.extend(accepted.iter().map(|address| (*address, node.name.clone())));
        (accepted, rejected)
    }

    /// Whether a node can have this address, and none has it yet.
    fn is_free(&self, address: IpAddr, cluster_cidrs: &[IpNetwork]) -> Result<(), Reason> {
        if family::reserved().any(|reserved| reserved.contains(address)) {
            return Err(Reason::ReservedAddress(address));
        }
        if let Some(cidr) = cluster_cidrs.iter().copied().find(|cidr| cidr.contains(address)) {
            return Err(Reason::PodAddress { address, cidr });
        }
        let other = self.addresses.get(&address);
        other.map_or(Ok(()), |other| Err(Reason::SameAddress { address, other: other.clone() }))
    }

    fn overlapping(&self, cidr: IpNetwork) -> Option<&(IpNetwork, String)> {
        let before = self.prefixes.range(..=cidr.network()).next_back();
        let after = self.prefixes.range(cidr.network()..).next();
        let mut neighbours = before.into_iter().chain(after).map(|(_, held)| held);
        neighbours.find(|(held, _)| family::overlap(*held, cidr))
    }
}

#[cfg(test)]
mod tests;
