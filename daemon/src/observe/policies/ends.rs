//! The ends of a packet that is asked about: which addresses a name stands for, and whose an address is. Pure.

use std::collections::BTreeSet;
use std::net::IpAddr;

use thiserror::Error;

use crate::cluster::view::{Peer, View};
use crate::policy::pod::Pod;
use crate::policy::question::Endpoint;
use crate::report::policies::Attached;

/// What ends are looked up in.
#[derive(Clone, Copy)]
pub(super) struct Directory<'a> {
    pub(super) node: &'a str,
    pub(super) attached: &'a Attached,
    /// The addresses of pods here of which no object is known.
    pub(super) unknown: &'a BTreeSet<IpAddr>,
    /// The pods of the cluster.
    pub(super) pods: &'a [&'a Pod],
    pub(super) view: Option<&'a View>,
    /// The addresses of this node's own devices.
    pub(super) own: &'a [IpAddr],
}

/// One end, as it was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) addresses: Vec<IpAddr>,
    /// The pod, as `NAMESPACE/NAME`.
    pub(super) pod: Option<String>,
    pub(super) place: Place,
}

/// Where an end is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Place {
    /// A pod that is attached to this node.
    Here,
    /// A pod of another node.
    Elsewhere(String),
    /// This node itself.
    OwnNode,
    /// Another node itself.
    Node(String),
    /// Nothing that the cluster knows.
    Outside,
}

impl Found {
    /// Its name for people: a pod's, or a node's; nothing for what the cluster does not know.
    pub(super) fn name(self) -> Option<String> {
        match (self.pod, self.place) {
            (Some(pod), _) => Some(pod),
            (None, Place::Node(node)) => Some(format!("node {node}")),
            (None, _) => None,
        }
    }
}

/// A pod of this name has no addresses.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub(super) enum NotFound {
    #[error(
        "pod {0}: no such pod is attached to this node, and podwired has not heard of one: `kubectl get pods \
         --all-namespaces` lists them all"
    )]
    Unknown(String),
    #[error("pod {0} has finished: it has no address any more")]
    Finished(String),
    #[error("pod {0} is to run on this node and is not attached: ask again when it has its addresses")]
    NotAttached(String),
    #[error("pod {0} has no address yet, as far as the API knows: ask again when kubelet has reported one")]
    WithoutAddress(String),
}

impl Directory<'_> {
    /// The end that is meant.
    pub(super) fn find(&self, endpoint: &Endpoint) -> Result<Found, NotFound> {
        match endpoint {
            Endpoint::Address(address) => Ok(self.owner(*address)),
            Endpoint::Pod { namespace, name } => self.pod(namespace, name),
        }
    }

    fn pod(&self, namespace: &str, name: &str) -> Result<Found, NotFound> {
        let full_name = format!("{namespace}/{name}");
        let is_it = |pod: &&Pod| (&*pod.namespace, &*pod.name) == (namespace, name);
        let object = self.pods.iter().copied().find(is_it);
        let of_name = self.attached.iter().filter(|(of, _)| (&*of.namespace, &*of.name) == (namespace, name));
        // While a pod is replaced by another of its name both may be attached; the one that the API has is meant.
        let is_current = |pod: &Pod| object.is_some_and(|object| object.uid == pod.uid);
        let current = of_name.max_by_key(|(_, (pod, _))| pod.as_deref().is_some_and(is_current));
        let found =
            |addresses: &[IpAddr], place| Found { addresses: addresses.into(), pod: Some(full_name.clone()), place };
        if let Some((_, (_, addresses))) = current {
            return Ok(found(addresses, Place::Here));
        }
        let Some(object) = object else { return Err(NotFound::Unknown(full_name)) };
        let is_here = *object.node == *self.node;
        match &object.addresses[..] {
            _ if object.finished => Err(NotFound::Finished(full_name)),
            [] => Err(NotFound::WithoutAddress(full_name)),
            _ if object.host_network && is_here => Ok(found(&object.addresses, Place::OwnNode)),
            _ if object.host_network => Ok(found(&object.addresses, Place::Node(object.node.to_string()))),
            _ if is_here => Err(NotFound::NotAttached(full_name)),
            _ => Ok(found(&object.addresses, Place::Elsewhere(object.node.to_string()))),
        }
    }

    /// Whose an address is.
    pub(super) fn owner(&self, address: IpAddr) -> Found {
        let found = |pod, place| Found { addresses: vec![address], pod, place };
        let holds = |(_, (_, addresses)): &(_, &(_, Vec<IpAddr>))| addresses.contains(&address);
        if let Some((name, _)) = self.attached.iter().find(holds) {
            return found(Some(format!("{}/{}", name.namespace, name.name)), Place::Here);
        }
        // One without a name in the ledger.
        if self.unknown.contains(&address) {
            return found(None, Place::Here);
        }
        let is_of = |node: &Peer| {
            let mut overlay = node.pod_cidrs.iter().map(|cidr| cidr.network());
            node.address == address || node.addresses.contains(&address) || overlay.any(|own| own == address)
        };
        if self.own.contains(&address) || self.view.is_some_and(|view| is_of(&view.own)) {
            return found(None, Place::OwnNode);
        }
        let is_peer = |pod: &&Pod| !pod.host_network && !pod.finished && *pod.node != *self.node;
        let pods = self.pods.iter().copied().filter(is_peer);
        // Where two claim it, the one that was created last has it, as for the compiler.
        let owner = pods.filter(|pod| pod.addresses.contains(&address)).max_by_key(|pod| (pod.created, &pod.uid));
        if let Some(pod) = owner {
            return found(Some(format!("{}/{}", pod.namespace, pod.name)), Place::Elsewhere(pod.node.to_string()));
        }
        let peer = self.view.and_then(|view| view.peers.iter().find(|(_, peer)| is_of(peer)));
        found(None, peer.map_or(Place::Outside, |(name, _)| Place::Node(name.clone())))
    }
}
