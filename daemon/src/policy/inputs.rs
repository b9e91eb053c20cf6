//! What is compiled: the objects of the cluster, and the pods of this node with the addresses that they hold here.

use std::collections::BTreeSet;
use std::net::IpAddr;

use crate::policy::cluster_policy::ClusterPolicy;
use crate::policy::namespace::Namespace;
use crate::policy::network_policy::NetworkPolicy;
use crate::policy::pod::Pod;

/// What is compiled. The order of none of the lists matters.
#[derive(Debug, Clone, Default)]
pub struct Inputs<'a> {
    /// This node's name. Its pods count by `local` alone.
    pub node: &'a str,
    /// The pods of the cluster.
    pub pods: Vec<&'a Pod>,
    /// The namespaces of the cluster. A namespace that is not among them is selected by no `namespaceSelector`.
    pub namespaces: Vec<&'a Namespace>,
    /// The policies of the cluster. No two have one namespace and name: of those only one would count.
    pub policies: Vec<&'a NetworkPolicy>,
    /// The ClusterNetworkPolicies of the cluster. No two have one name.
    pub cluster_policies: Vec<&'a ClusterPolicy>,
    /// The pods that are attached here, until their DEL, whatever has become of their objects.
    pub local: Vec<Local<'a>>,
    /// Addresses of pods that are attached here and of which no object is known: they are allowed nothing.
    pub unknown: BTreeSet<IpAddr>,
    /// Addresses that stand for others as far as ipBlocks go, the others after them: overlay addresses of nodes, which are
    /// judged as the nodes' InternalIPs.
    pub judged_as: Vec<(IpAddr, IpAddr)>,
}

/// A pod that is attached here.
#[derive(Debug, Clone, Copy)]
pub struct Local<'a> {
    /// The pod, as it was known last.
    pub pod: &'a Pod,
    /// The addresses that it holds, from the ledger: those of its object may be too late or too many.
    pub addresses: &'a [IpAddr],
}
