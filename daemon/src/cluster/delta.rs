//! What a new membership changes in a view that was right before it, where that is little and plain: a few peers that
//! came, left or changed. Pure. Whatever is more than that, or gives a reason to refuse anything, is judged as a whole.

use std::collections::{BTreeMap, HashMap};

use podwire_kernel::family;

use crate::cluster::membership::{Membership, Node};
use crate::cluster::view::{Claims, Peer, View};

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
    /// What leads from `view`, which the node called `name` has by the membership `old`, to the one that it gets by `new`;
    /// `None` where that is not a matter of a few peers.
    pub fn between(view: &View, old: &Membership, new: &Membership, name: &str) -> Option<Self> {
        if !view.refused.is_empty() || old.cluster_cidrs != new.cluster_cidrs {
            return None;
        }
        let (old, new) = differing(&old.nodes, &new.nodes);
        let mut left: HashMap<&str, &Node> = old.iter().map(|node| (node.name.as_str(), node)).collect();
        let (mut change, mut come) = (Self::default(), Vec::new());
        for node in new {
            match left.remove(node.name.as_str()) {
                Some(same) if same == node => {}
                // One that is listed twice, or was and is elsewhere in the list.
                None if node.name == name || view.peers.contains_key(&node.name) => return None,
                before => {
                    change.leave(view, before)?;
                    come.push(node);
                }
            }
            if come.len() > FEW {
                return None;
            }
        }
        if left.len() > FEW {
            return None;
        }
        left.into_values().try_for_each(|node| change.leave(view, Some(node)))?;
        let mut claims = Claims::default();
        for node in come {
            let peer = claims.judge(node, &view.cluster_cidrs).ok()?;
            let twice = change.after.insert(node.name.clone(), change.accept(view, node, peer)?);
            twice.is_none().then_some(())?;
        }
        Some(change)
    }

    /// Notes a peer that is not any more what it was, if there was one; this node itself is none.
    fn leave(&mut self, view: &View, node: Option<&Node>) -> Option<()> {
        if let Some(node) = node {
            let (name, peer) = view.peers.get_key_value(&node.name)?;
            self.before.insert(name.clone(), peer.clone());
        }
        Some(())
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

/// What is left of two lists without what they begin and end with alike.
fn differing<'old, 'new>(old: &'old [Node], new: &'new [Node]) -> (&'old [Node], &'new [Node]) {
    let begin = old.iter().zip(new).take_while(|(old, new)| old == new).count();
    let (old, new) = (&old[begin..], &new[begin..]);
    let end = old.iter().rev().zip(new.iter().rev()).take_while(|(old, new)| old == new).count();
    (&old[..old.len() - end], &new[..new.len() - end])
}

/// Makes a membership equal to a new one, and leaves alone what is equal already.
pub fn follow(membership: &mut Membership, new: &Membership) {
    let begin = membership.nodes.iter().zip(&new.nodes).take_while(|(old, new)| old == new).count();
    let (old, other) = differing(&membership.nodes, &new.nodes);
    let end = begin + old.len();
    membership.nodes.splice(begin..end, other.iter().cloned());
    membership.cluster_cidrs.clone_from(&new.cluster_cidrs);
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
