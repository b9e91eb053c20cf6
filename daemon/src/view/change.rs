//! What a new membership changes in a view that was right before it, where that is little and plain: a few peers that
//! came, left or changed. Pure. Whatever is more than that, or gives a reason to refuse anything, is judged as a whole.

use std::collections::{BTreeMap, HashSet};

use podwire_kernel::family;

use super::{Claims, Peer, View};
use crate::membership::{Membership, Node};

/// The most peers that are looked at one by one; each is compared with all others.
const FEW: usize = 32;

/// Peers that differ between two views of the same node; all else is equal.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Change {
    /// Those that have left or changed, as they were.
    pub before: BTreeMap<String, Peer>,
    /// Those that have come or changed, as they are now.
    pub after: BTreeMap<String, Peer>,
}

impl Change {
    /// What leads from the view that the node called `name` has to the one that it gets by `membership`; `None` where
    /// that is not a matter of a few peers.
    pub fn between(view: &View, membership: &Membership, name: &str) -> Option<Self> {
        if !view.refused.is_empty() || view.cluster_cidrs != membership.cluster_cidrs {
            return None;
        }
        let mut change = Self::default();
        let (mut names, mut new) = (HashSet::with_capacity(membership.nodes.len()), Vec::new());
        let mut same = 0;
        for node in &membership.nodes {
            if !names.insert(node.name.as_str()) {
                return None;
            }
            let known = if node.name == name { Some(&view.own) } else { view.peers.get(&node.name) };
            match known {
                Some(peer) if peer.address == node.address && peer.pod_cidrs == node.pod_cidrs => same += 1,
                _ if node.name == name => return None,
                Some(peer) => {
                    change.before.insert(node.name.clone(), peer.clone());
                    new.push(node);
                }
                None => new.push(node),
            }
            if new.len() > FEW {
                return None;
            }
        }
        if same + change.before.len() < view.peers.len() + 1 {
            for (left, peer) in view.peers.iter().filter(|(known, _)| !names.contains(known.as_str())) {
                change.before.insert(left.clone(), peer.clone());
            }
        }
        if !names.contains(name) || change.before.len() > FEW {
            return None;
        }
        let mut claims = Claims::default();
        for node in new {
            let peer = claims.judge(node, &view.cluster_cidrs).ok()?;
            change.after.insert(node.name.clone(), change.accept(view, node, peer)?);
        }
        Some(change)
    }

    /// A peer that is nobody's rival among those that stay.
    fn accept(&self, view: &View, node: &Node, peer: Peer) -> Option<Peer> {
        if node.address.is_ipv4() != view.own.address.is_ipv4() {
            return None;
        }
        let rival = |other: &Peer| {
            let overlap = |cidr| other.pod_cidrs.iter().any(|theirs| family::overlap(*theirs, cidr));
            other.address == peer.address || other.mac == peer.mac || peer.pod_cidrs.iter().copied().any(overlap)
        };
        let mut staying = view.peers.iter().filter(|(name, _)| !self.before.contains_key(*name));
        let free = !rival(&view.own) && !staying.any(|(_, other)| rival(other));
        free.then_some(peer)
    }

    /// Whether nothing differs.
    pub fn is_empty(&self) -> bool {
        self.before.is_empty() && self.after.is_empty()
    }
}

impl View {
    /// This view after the change.
    #[must_use]
    pub fn with(&self, change: &Change) -> Self {
        let mut view = self.clone();
        view.peers.retain(|name, _| !change.before.contains_key(name));
        view.peers.extend(change.after.clone());
        view
    }

    /// This view with these peers only.
    #[must_use]
    pub fn with_only(&self, peers: &BTreeMap<String, Peer>) -> Self {
        let (cluster_cidrs, own) = (self.cluster_cidrs.clone(), self.own.clone());
        Self { cluster_cidrs, own, peers: peers.clone(), refused: Vec::new() }
    }
}

#[cfg(test)]
mod tests;
