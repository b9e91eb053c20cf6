//! The cluster as this node believes it: entries that cannot be right are refused one by one, and the rest goes on.
//! Pure.

use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, Ipv6Addr};

use ipnetwork::IpNetwork;
use podwire_conf::hash;
use podwire_kernel::{Mac, family};

use crate::membership::{Membership, Node};

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

impl View {
    /// The view of the node called `name`.
    ///
    /// # Errors
    /// When this node itself cannot take part: it is not in the membership, or its own entry is wrong.
    pub fn new(membership: &Membership, name: &str) -> Result<Self, Refusal> {
        let refuse = |why: String| Refusal { node: name.into(), why };
        let Some(node) = membership.nodes.iter().find(|node| node.name == name) else {
            let others: Vec<_> = membership.nodes.iter().map(|node| node.name.as_str()).collect();
            let others = if others.is_empty() { "no node".into() } else { others.join(", ") };
            return Err(refuse(format!("is not in the membership, which lists {others}")));
        };
        let mut refused = Vec::new();
        let mut cluster_cidrs: Vec<IpNetwork> = Vec::new();
        for cidr in &membership.cluster_cidrs {
            match cluster_cidrs.iter().find(|other| family::overlap(**other, *cidr)) {
                Some(other) => {
                    let why = format!("cluster CIDR {cidr} overlaps {other}");
                    refused.push(Refusal { node: String::new(), why });
                }
                None => cluster_cidrs.push(family::masked(*cidr)),
            }
        }
        let mut claims = Claims::default();
        let own = claims.judge(node, &cluster_cidrs).map_err(refuse)?;
        let mut view = Self { cluster_cidrs, own, peers: BTreeMap::new(), refused };
        let mut own_seen = false;
        for node in &membership.nodes {
            if node.name == name && !std::mem::replace(&mut own_seen, true) {
                continue;
            }
            match view.admit(node, name, &mut claims) {
                Ok(peer) => _ = view.peers.insert(node.name.clone(), peer),
                Err(why) => view.refused.push(Refusal { node: node.name.clone(), why }),
            }
        }
        Ok(view)
    }

    fn admit(&self, node: &Node, own_name: &str, claims: &mut Claims) -> Result<Peer, String> {
        if node.name == own_name || self.peers.contains_key(&node.name) {
            return Err("is listed twice; the first entry counts".into());
        }
        if node.address.is_ipv4() != self.own.address.is_ipv4() {
            return Err(format!("address {} and this node's {} are not of one family", node.address, self.own.address));
        }
        claims.judge(node, &self.cluster_cidrs)
    }
}

/// What the nodes that are believed hold, by what no two may hold: a cluster of ten thousand is judged entry by entry,
/// not pair by pair.
#[derive(Default)]
struct Claims {
    addresses: BTreeMap<IpAddr, String>,
    macs: BTreeMap<Mac, String>,
    /// By network address. No two overlap, so one that overlaps any overlaps a neighbour in this order.
    prefixes: BTreeMap<IpAddr, (IpNetwork, String)>,
}

impl Claims {
    /// What an entry must be, whoever's it is; one that is believed is held from now on.
    fn judge(&mut self, node: &Node, cluster_cidrs: &[IpNetwork]) -> Result<Peer, String> {
        let address = node.address;
        if address.is_unspecified() || address.is_loopback() || address.is_multicast() {
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
