//! Entries of the membership that this node does not accept, each with the reason. Pure.

use std::fmt;
use std::net::IpAddr;

use ipnetwork::IpNetwork;
use podwire_conf::shown;
use podwire_kernel::Mac;
use thiserror::Error;

use crate::cluster::membership::OTHER_ADDRESSES;

/// The most rejected entries that are named: the others are counted. A file may have tens of thousands.
const NAMED: usize = 500;

/// In the place of a name, where there are more.
const OTHERS: &str = "(others)";

/// The most pod CIDRs of a node, and cluster CIDRs, that are accepted.
pub(super) const POD_CIDRS: usize = 64;
pub(super) const CLUSTER_CIDRS: usize = 64;

/// The longest name of a node, in bytes: that of a DNS subdomain, as in Kubernetes (RFC 1123).
pub(super) const LONGEST_NAME: usize = 253;

/// An entry that is left out.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Rejected {
    /// The node's name; empty for the cluster itself.
    pub node: String,
    /// Why.
    pub reason: Reason,
}

/// Why an entry is rejected.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Error)]
pub enum Reason {
    /// There is no entry of this name; some of those that are there.
    #[error("is not in the membership, which lists {0}")]
    Missing(String),
    /// Its name is empty, too long, or has characters that are not seen as what they are.
    #[error("its name {0}: a name has 1 to {LONGEST_NAME} letters, digits, hyphens and dots")]
    UnfitName(&'static str),
    /// An entry of the same name stands before it.
    #[error("is listed twice; the first entry counts")]
    ListedTwice,
    /// Its address and this node's are of two families.
    #[error("address {address} and this node's {own} are not of one family")]
    OtherFamily {
        /// The entry's.
        address: IpAddr,
        /// This node's.
        own: IpAddr,
    },
    /// Its address is not one that a node can have.
    #[error("address {0} is no address of a node")]
    ReservedAddress(IpAddr),
    /// Its address is one that pods may have.
    #[error("address {address} is in the pods' range {cidr}")]
    PodAddress {
        /// The entry's.
        address: IpAddr,
        /// The cluster CIDR.
        cidr: IpNetwork,
    },
    /// Another node has its address.
    #[error("address {address} is that of node {other}")]
    SameAddress {
        /// The address of both.
        address: IpAddr,
        /// The node that is accepted.
        other: String,
    },
    /// It has no pod CIDR.
    #[error("has no pod CIDR")]
    NoPodCidr,
    /// It has more pod CIDRs than are looked at.
    #[error("has {0} pod CIDRs; at most {POD_CIDRS} are accepted")]
    ManyPodCidrs(usize),
    /// A pod CIDR has bits set behind its prefix.
    #[error("pod CIDR {cidr} has host bits set: did you mean {meant}?")]
    HostBits {
        /// As it is written.
        cidr: IpNetwork,
        /// Without these bits.
        meant: IpNetwork,
    },
    /// A pod CIDR has no room for a pod.
    #[error("pod CIDR {0} is too small for pods")]
    TooSmall(IpNetwork),
    /// A pod CIDR is in no cluster CIDR.
    #[error("pod CIDR {0} is outside of the cluster's ranges")]
    OutsideCluster(IpNetwork),
    /// Two pod CIDRs of the entry overlap.
    #[error("pod CIDR {cidr} overlaps its own {other}")]
    OverlapsOwn {
        /// The later one.
        cidr: IpNetwork,
        /// The earlier one.
        other: IpNetwork,
    },
    /// A pod CIDR overlaps one of another node.
    #[error("pod CIDR {cidr} overlaps {theirs} of node {other}")]
    Overlaps {
        /// The entry's.
        cidr: IpNetwork,
        /// The other's.
        theirs: IpNetwork,
        /// The node that is accepted.
        other: String,
    },
    /// Its VXLAN device would have the link-layer address of another one.
    #[error("its VTEP MAC address {mac} is that of node {other}")]
    SameMac {
        /// The address of both.
        mac: Mac,
        /// The node that is accepted.
        other: String,
    },
    /// One of its other addresses; the entry itself is accepted.
    #[error("of its other addresses one does not count: {0}")]
    OtherAddress(Box<Self>),
    /// It lists more other addresses than count.
    #[error("lists more than {OTHER_ADDRESSES} other addresses: those from {0} on do not count")]
    ManyAddresses(IpAddr),
    /// So many more entries are rejected.
    #[error("{0} more entries are rejected: correct those that are named first")]
    More(usize),
    /// There are more cluster CIDRs than are looked at.
    #[error("there are {0} cluster CIDRs; those behind the first {CLUSTER_CIDRS} do not count")]
    ManyClusterCidrs(usize),
    /// A cluster CIDR has bits set behind its prefix.
    #[error("cluster CIDR {cidr} has host bits set: did you mean {meant}?")]
    ClusterHostBits {
        /// As it is written.
        cidr: IpNetwork,
        /// Without these bits.
        meant: IpNetwork,
    },
    /// A cluster CIDR overlaps a range of special use.
    #[error("cluster CIDR {cidr} overlaps {reserved}, which is never routed")]
    ClusterReserved {
        /// The cluster CIDR.
        cidr: IpNetwork,
        /// The range of special use.
        reserved: IpNetwork,
    },
    /// Two cluster CIDRs overlap.
    #[error("cluster CIDR {cidr} overlaps {other}")]
    ClusterOverlaps {
        /// The later one.
        cidr: IpNetwork,
        /// The earlier one.
        other: IpNetwork,
    },
}

impl Rejected {
    /// An entry of this name, whatever the name is: the node of a rejected entry can be shown, and is not empty.
    pub(super) fn entry(name: &str, reason: Reason) -> Self {
        let node = if name.is_empty() { "(no name)".into() } else { shown::bounded(name, LONGEST_NAME) };
        Self { node, reason }
    }
}

/// The first of many, and how many more there are.
pub(super) fn named(mut rejected: Vec<Rejected>) -> Vec<Rejected> {
    if rejected.len() > NAMED {
        let more = rejected.split_off(NAMED).len();
        rejected.push(Rejected { node: OTHERS.into(), reason: Reason::More(more) });
    }
    rejected
}

/// Whether a node can have a name. It stands in logs and tables, and is compared byte by byte.
///
/// # Errors
/// Why it cannot.
pub(super) fn name(name: &str) -> Result<(), Reason> {
    let unfit = if name.is_empty() {
        "is empty"
    } else if name.len() > LONGEST_NAME {
        "is too long"
    } else if !name.chars().all(shown::is_shown) || name.contains(' ') {
        "has spaces, control characters or others that are not seen"
    } else {
        return Ok(());
    };
    Err(Reason::UnfitName(unfit))
}

impl fmt::Display for Rejected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.node.as_str() {
            "" => write!(f, "membership: {}", self.reason),
            node => write!(f, "membership: node {node}: {}", self.reason),
        }
    }
}
