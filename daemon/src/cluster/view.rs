//! The cluster as this node believes it: entries that cannot be right are refused one by one, and the rest goes on.
//! Pure.

use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, Ipv6Addr};

use ipnetwork::IpNetwork;
use podwire_conf::hash;
use podwire_kernel::{Mac, family};

use crate::cluster::membership::{Member, Membership};

/// How many nodes are named where this one is not among them: there may be ten thousand.
const NAMED: usize = 8;

/// The cluster from the inside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct View {
    /// The ranges that all pods are in.
    pub cluster_cidrs: Vec<IpNetwork>,
    /// This node.
    pub own: Peer,
    /// The other nodes, by name.
    pub peers: BTreeMap<String, Peer>,
    /// What was not believed.
    pub refused: Vec<Refusal>,
}

/// A node's place on the overlay.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    /// Its address on the underlay.
    pub address: IpAddr,
    /// The prefixes of its pods.
    pub pod_cidrs: Vec<IpNetwork>,
    /// The link-layer address of its VXLAN device. It follows from the first pod CIDR, so that every other node knows
    /// it without being told.
    pub mac: Mac,
}

impl Peer {
    /// The link-local address of its VXLAN device: the next hop for its pods, in both families.
    pub fn link_local(&self) -> Ipv6Addr {
        self.mac.link_local()
    }

    /// The overlay addresses by which this node and a peer talk as nodes, own and theirs: of each family that both have,
    /// the network address of the first pod CIDR.
    pub fn overlay_addresses(&self, peer: &Self) -> Vec<(IpAddr, IpAddr)> {
        let first =
            |node: &Self, ipv4: bool| node.pod_cidrs.iter().find(|cidr| cidr.is_ipv4() == ipv4).map(IpNetwork::network);
        [true, false].into_iter().filter_map(|ipv4| first(self, ipv4).zip(first(peer, ipv4))).collect()
    }
}

/// An entry of the membership that is not believed, and why.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Refusal {
    /// The node's name; empty for the cluster itself.
    pub node: String,
    /// What is wrong with it.
    pub why: String,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.node.as_str() {
            "" => write!(f, "membership: {}", self.why),
            node => write!(f, "membership: node {node}: {}", self.why),
        }
    }
}

/// How the sentence about a node begins that has no entry.
pub(crate) const MISSING: &str = "is not in the membership";

impl View {
    /// The view of the node called `name`.
    ///
    /// # Errors
    /// When this node itself cannot take part: it is not in the membership, or its own entry is wrong.
    pub fn new(membership: &Membership, name: &str) -> Result<Self, Refusal> {
        let refuse = |why: String| Refusal { node: name.into(), why };
        let Some(node) = membership.nodes.iter().find(|node| node.name == name) else {
            let mut others: Vec<_> = membership.nodes.iter().take(NAMED).map(|node| node.name.as_str()).collect();
            if membership.nodes.len() > NAMED {
                others.push("…");
            }
            let others = if others.is_empty() { "no node".into() } else { others.join(", ") };
            return Err(refuse(format!("{MISSING}, which lists {others}")));
        };
        let (cluster_cidrs, mut refused) = cluster(&membership.cluster_cidrs);
        // In the order of the file, this node's entry too: whoever looks at it comes to the same verdict.
        let (mut claims, mut own, mut peers) = (Claims::default(), None, BTreeMap::new());
        for entry in &membership.nodes {
            let twice = peers.contains_key(&entry.name) || (own.is_some() && entry.name == name);
            let other_family = entry.address.is_ipv4() != node.address.is_ipv4();
            let verdict = if twice {
                Err("is listed twice; the first entry counts".into())
            } else if other_family {
                Err(format!("address {} and this node's {} are not of one family", entry.address, node.address))
            } else {
                claims.judge(entry, &cluster_cidrs)
            };
            match verdict {
                Ok(peer) if entry.name == name => own = Some(peer),
                Ok(peer) => _ = peers.insert(entry.name.clone(), peer),
                Err(why) if entry.name == name && own.is_none() => return Err(refuse(why)),
                Err(why) => refused.push(Refusal { node: entry.name.clone(), why }),
            }
        }
        let own = own.ok_or_else(|| refuse(MISSING.into()))?;
        Ok(Self { cluster_cidrs, own, peers, refused })
    }
}

/// The cluster's ranges that can be believed, and why the others are not.
fn cluster(cidrs: &[IpNetwork]) -> (Vec<IpNetwork>, Vec<Refusal>) {
    let (mut believed, mut refused) = (Vec::<IpNetwork>::new(), Vec::new());
    for cidr in cidrs {
        let why = if cidr.network() != cidr.ip() {
            format!("cluster CIDR {cidr} has host bits set: did you mean {}?", family::masked(*cidr))
        } else if let Some(reserved) = family::reserved().find(|reserved| family::overlap(*reserved, *cidr)) {
            format!("cluster CIDR {cidr} overlaps {reserved}, which is never routed")
        } else if let Some(other) = believed.iter().find(|other| family::overlap(**other, *cidr)) {
            format!("cluster CIDR {cidr} overlaps {other}")
        } else {
            believed.push(*cidr);
            continue;
        };
        refused.push(Refusal { node: String::new(), why });
    }
    (believed, refused)
}

/// What the nodes that are believed hold, by what no two may hold: a cluster of ten thousand is judged entry by entry,
/// not pair by pair.
#[derive(Default)]
pub(super) struct Claims {
    addresses: BTreeMap<IpAddr, String>,
    macs: BTreeMap<Mac, String>,
    /// By network address. No two overlap, so one that overlaps any overlaps a neighbour in this order.
    prefixes: BTreeMap<IpAddr, (IpNetwork, String)>,
}

impl Claims {
    /// What an entry must be, whoever's it is; one that is believed is held from now on.
    pub(super) fn judge(&mut self, node: &Member, cluster_cidrs: &[IpNetwork]) -> Result<Peer, String> {
        let address = node.address;
        if family::reserved().any(|reserved| reserved.contains(address)) {
            return Err(format!("address {address} is no address of a node"));
        }
        if let Some(cidr) = cluster_cidrs.iter().find(|cidr| cidr.contains(address)) {
            return Err(format!("address {address} is in the pods' range {cidr}"));
        }
        if let Some(other) = self.addresses.get(&address) {
            return Err(format!("address {address} is that of node {other}"));
        }
        let Some(first) = node.pod_cidrs.first() else { return Err("has no pod CIDR".into()) };
        for (place, cidr) in node.pod_cidrs.iter().enumerate() {
            if cidr.network() != cidr.ip() {
                return Err(format!("pod CIDR {cidr} has host bits set: did you mean {}?", family::masked(*cidr)));
            }
            // Room for the node itself, a gateway, a pod and, in IPv4, the broadcast address.
            if cidr.prefix() > family::host(cidr.ip()).prefix() - 2 {
                return Err(format!("pod CIDR {cidr} is too small for pods"));
            }
            if !cluster_cidrs.iter().any(|cluster| family::contains(*cluster, *cidr)) {
                return Err(format!("pod CIDR {cidr} is outside of the cluster's ranges"));
            }
            if let Some(other) = node.pod_cidrs[..place].iter().find(|other| family::overlap(**other, *cidr)) {
                return Err(format!("pod CIDR {cidr} overlaps its own {other}"));
            }
            if let Some((theirs, other)) = self.overlapping(*cidr) {
                return Err(format!("pod CIDR {cidr} overlaps {theirs} of node {other}"));
            }
        }
        let mac = Mac::local(hash::stable(&["overlay", &first.to_string()]));
        if let Some(other) = self.macs.get(&mac) {
            return Err(format!("its place on the overlay, {mac}, is that of node {other}"));
        }
        self.addresses.insert(address, node.name.clone());
        self.macs.insert(mac, node.name.clone());
        for cidr in &node.pod_cidrs {
            self.prefixes.insert(cidr.network(), (*cidr, node.name.clone()));
        }
        Ok(Peer { address, pod_cidrs: node.pod_cidrs.clone(), mac })
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
