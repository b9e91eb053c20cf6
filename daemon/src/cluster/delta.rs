//! Which peers an update of the membership changes in a view, where that is little and plain: a few peers that came, left or
//! changed. Whatever is more than that, or gives a reason to reject anything, is judged as a whole.
//!
//! Pure. What may not live here: what differs between two memberships (`update`).

use std::collections::BTreeMap;

use podwire_kernel::family;

use crate::cluster::membership::Member;
use crate::cluster::update::Update;
use crate::cluster::view::{Claims, Peer, View};

/// The most peers that are judged one by one; each is compared with all others.
const FEW: usize = 32;

/// Peers that differ between two views of the same node; all else is equal.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Delta {
    /// Those that left or changed, as they were.
    pub before: BTreeMap<String, Peer>,
    /// Those that came or changed, as they are now.
    pub after: BTreeMap<String, Peer>,
}

impl Delta {
    /// What an update of the membership changes in `view`, which the node called `own` has by the membership before; `None`
    /// where that is not a matter of a few peers.
    pub fn new(view: &View, update: &Update, own: &str) -> Option<Self> {
        let Update::Members(members) = update else { return None };
        // Where an entry was rejected, another may take its place.
        if !view.rejected.is_empty() || members.contains_key(own) {
            return None;
        }
        let came: Vec<_> = members.values().flatten().collect();
        if came.len() > FEW || members.len() - came.len() > FEW {
            return None;
        }
        let mut delta = Self::default();
        for (name, peer) in members.keys().filter_map(|name| view.peers.get_key_value(name)) {
            delta.before.insert(name.clone(), peer.clone());
        }
        let mut claims = Claims::default();
        let judged = came.iter().map(|member| claims.judge(member, &view.cluster_cidrs));
        let judged: Vec<_> = judged.collect::<Result<_, _>>().ok()?;
        for (member, mut peer) in came.into_iter().zip(judged) {
            let (addresses, rejected) = claims.others(member, &view.cluster_cidrs);
            if !rejected.is_empty() {
                return None;
            }
            peer.addresses = addresses;
            delta.after.insert(member.name.clone(), delta.accept(view, member, peer)?);
        }
        // Some changed and changed back.
        let before = &mut delta.before;
        delta.after.retain(|name, peer| {
            let same = before.get(name) == Some(peer);
            if same {
                before.remove(name);
            }
            !same
        });
        Some(delta)
    }

    /// A peer that conflicts with none of those that stay.
    fn accept(&self, view: &View, member: &Member, peer: Peer) -> Option<Peer> {
        if member.address.is_ipv4() != view.own.address.is_ipv4() {
            return None;
        }
        let rival = |other: &Peer| {
            let overlap = |cidr| other.pod_cidrs.iter().any(|theirs| family::overlap(*theirs, cidr));
            peer.shares_an_address(other) || other.mac == peer.mac || peer.pod_cidrs.iter().copied().any(overlap)
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
    pub fn with(&self, delta: &Delta) -> Self {
        let mut view = self.clone();
        view.peers.retain(|name, _| !delta.before.contains_key(name));
        view.peers.extend(delta.after.clone());
        view
    }

    /// This view with these peers only.
    #[must_use]
    pub fn with_only(&self, peers: &BTreeMap<String, Peer>) -> Self {
        let (cluster_cidrs, own) = (self.cluster_cidrs.clone(), self.own.clone());
        Self { cluster_cidrs, own, peers: peers.clone(), rejected: Vec::new() }
    }
}

#[cfg(test)]
mod tests;
