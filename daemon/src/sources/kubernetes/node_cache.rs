//! The Nodes of the Kubernetes API, cut down to what the overlay needs, and the membership that follows from them.
//!
//! Pure: `nodes` fills it from the API.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnetwork::IpNetwork;

use crate::cluster::membership::{Member, Membership};
use crate::cluster::settings::{Settings, Underlay};
use crate::cluster::update::Update;

/// What is kept of a Node: some hundred bytes of some ten thousand.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CachedNode {
    /// When it was created, as a number that grows with time (the digits of the time in UTC).
    pub created: u64,
    /// Its first address of IPv4.
    pub ipv4: Option<Ipv4Addr>,
    /// Its first address of IPv6.
    pub ipv6: Option<Ipv6Addr>,
    /// The prefixes of its pods.
    pub pod_cidrs: Vec<IpNetwork>,
    /// Its addresses beside these two, at most one more than count.
    pub others: Vec<IpAddr>,
}

/// What of the membership a change of the Nodes may touch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NodeChange {
    /// Nothing: what has changed is not kept.
    Nothing,
    /// The node of this name.
    Node(String),
    /// Everything.
    All,
}

/// The Nodes of the API.
#[derive(Debug)]
pub struct NodeCache {
    own: String,
    cluster_cidrs: Vec<IpNetwork>,
    underlay: Option<Underlay>,
    nodes: BTreeMap<String, CachedNode>,
}

impl NodeCache {
    /// Knows no Node yet; this one is called `own`.
    pub fn new(own: &str, settings: &Settings) -> Self {
        let (cluster_cidrs, underlay) = (settings.cluster_cidrs.clone(), settings.underlay);
        Self { own: own.into(), cluster_cidrs, underlay, nodes: BTreeMap::new() }
    }

    /// Takes a complete list: there are no other Nodes.
    pub fn replace(&mut self, nodes: BTreeMap<String, CachedNode>) -> NodeChange {
        let changed = self.nodes != nodes;
        self.nodes = nodes;
        if changed { NodeChange::All } else { NodeChange::Nothing }
    }

    /// Takes a Node that was created or changed.
    pub fn set(&mut self, name: String, node: CachedNode) -> NodeChange {
        if self.nodes.get(&name) == Some(&node) {
            return NodeChange::Nothing;
        }
        let family = self.prefers_ipv4();
        self.nodes.insert(name.clone(), node);
        if family == self.prefers_ipv4() { NodeChange::Node(name) } else { NodeChange::All }
    }

    /// Removes a Node that was deleted.
    pub fn remove(&mut self, name: &str) -> NodeChange {
        let family = self.prefers_ipv4();
        match self.nodes.remove(name) {
            None => NodeChange::Nothing,
            Some(_) if family == self.prefers_ipv4() => NodeChange::Node(name.into()),
            Some(_) => NodeChange::All,
        }
    }

    /// Updates a membership that was made from this cache by a change, or any other by [`NodeChange::All`]. What has changed in
    /// it, if anything has.
    pub fn apply(&self, change: &NodeChange, membership: &mut Membership) -> Option<Update> {
        let name = match change {
            NodeChange::Nothing => return None,
            NodeChange::Node(name) => name,
            NodeChange::All => {
                let whole = self.membership();
                let update = (*membership != whole).then(|| Update::between(membership, &whole));
                *membership = whole;
                return update;
            }
        };
        let found = membership.nodes.iter().position(|node| node.name == *name).map(|place| {
            let node = membership.nodes.remove(place);
            (place, node)
        });
        let wanted = self.nodes.get(name).and_then(|cached| self.member(name, cached)).map(|member| {
            let key = self.key(name);
            (membership.nodes.partition_point(|other| self.key(&other.name) < key), member)
        });
        // At another place in the list it may be another one of two that is accepted.
        let update = (found != wanted).then(|| {
            let now = wanted.as_ref().map(|(_, member)| member.clone());
            Update::member(name, now)
        });
        if let Some((place, member)) = wanted {
            membership.nodes.insert(place, member);
        }
        update
    }

    /// What this node lacks to join, as the end of a sentence about it.
    pub fn own_lacks(&self) -> Option<&'static str> {
        let Some(own) = self.nodes.get(&self.own) else {
            return Some("is not among the nodes of the Kubernetes API: is --node-name right?");
        };
        if own.ipv4.is_none() && own.ipv6.is_none() {
            return Some("has no InternalIP in Kubernetes yet");
        }
        let without =
            "has no pod CIDR in Kubernetes yet: kube-controller-manager gives it one with --allocate-node-cidrs";
        own.pod_cidrs.is_empty().then_some(without)
    }

    /// How many Nodes there are.
    pub fn known(&self) -> usize {
        self.nodes.len()
    }

    /// How many Nodes there are, and how many of them have no address or no pod CIDR yet.
    pub fn count(&self) -> (usize, usize) {
        (self.nodes.len(), self.nodes.iter().filter(|(name, cached)| self.member(name, cached).is_none()).count())
    }

    fn membership(&self) -> Membership {
        let mut ready: Vec<_> =
            self.nodes.iter().filter_map(|(name, cached)| Some((cached.created, self.member(name, cached)?))).collect();
        // The sort keeps the order of the names.
        ready.sort_by_key(|(created, _)| *created);
        let nodes = ready.into_iter().map(|(_, node)| node).collect();
        Membership { cluster_cidrs: self.cluster_cidrs.clone(), nodes }
    }

    /// The place of a Node in the membership: all nodes judge the entries in this order, and of two that cannot both be right
    /// they accept the one that was there first.
    fn key<'a>(&self, name: &'a str) -> (u64, &'a str) {
        (self.nodes.get(name).map_or(0, |cached| cached.created), name)
    }

    /// A Node as an entry of the membership, if it can join already.
    fn member(&self, name: &str, cached: &CachedNode) -> Option<Member> {
        let (ipv4, ipv6) = (cached.ipv4.map(IpAddr::V4), cached.ipv6.map(IpAddr::V6));
        // An address of the other family only is an entry as well: the view rejects it, and says why.
        let address = if self.prefers_ipv4() { ipv4.or(ipv6) } else { ipv6.or(ipv4) }?;
        let pod_cidrs = cached.pod_cidrs.clone();
        let all = ipv4.into_iter().chain(ipv6).chain(cached.others.iter().copied());
        let addresses = all.filter(|other| *other != address).collect();
        (!pod_cidrs.is_empty()).then(|| Member { name: name.into(), address, pod_cidrs, addresses })
    }

    fn prefers_ipv4(&self) -> bool {
        match self.underlay {
            Some(underlay) => underlay == Underlay::Ipv4,
            None => self.nodes.get(&self.own).is_none_or(|own| own.ipv4.is_some() || own.ipv6.is_none()),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn node(number: u8, created: u64) -> CachedNode {
        let ipv4 = Some(Ipv4Addr::new(192, 168, 50, number));
        let ipv6 = Some(Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, number.into()));
        let pod_cidrs = vec![IpNetwork::new(Ipv4Addr::new(10, 244, number, 0).into(), 24).unwrap()];
        CachedNode { created, ipv4, ipv6, pod_cidrs, others: Vec::new() }
    }

    fn cache(settings: &str) -> (NodeCache, Membership) {
        let settings = format!("cluster_cidrs = [\"10.244.0.0/16\"]\n{settings}");
        let mut cache = NodeCache::new("a", &Settings::parse(&settings).unwrap());
        let listed = [("a", node(1, 5)), ("b", node(2, 7)), ("c", node(3, 6))];
        let change = cache.replace(listed.map(|(name, node)| (name.to_owned(), node)).into());
        let mut membership = Membership::default();
        assert!(cache.apply(&change, &mut membership).is_some());
        (cache, membership)
    }

    fn names(membership: &Membership) -> Vec<&str> {
        membership.nodes.iter().map(|node| node.name.as_str()).collect()
    }

    #[test]
    fn the_membership_is_in_the_order_of_creation() {
        let (mut cache, mut membership) = cache("");
        assert_eq!(names(&membership), ["a", "c", "b"]);
        let change = cache.set("0".into(), node(4, 6));
        assert!(cache.apply(&change, &mut membership).is_some());
        assert_eq!(names(&membership), ["a", "0", "c", "b"]);
    }

    #[test]
    fn a_recreated_node_is_a_new_one_and_comes_last() {
        let (mut cache, mut membership) = cache("");
        let change = cache.set("c".into(), node(9, 8));
        assert!(cache.apply(&change, &mut membership).is_some());
        assert_eq!(names(&membership), ["a", "b", "c"]);
        assert_eq!(membership.nodes[2].pod_cidrs, node(9, 0).pod_cidrs);
    }

    #[test]
    fn fields_that_are_not_cached_change_nothing() {
        let (mut cache, mut membership) = cache("");
        assert_eq!(cache.set("b".into(), node(2, 7)), NodeChange::Nothing);
        assert_eq!(cache.remove("nobody"), NodeChange::Nothing);
        assert_eq!(cache.apply(&NodeChange::Nothing, &mut membership), None);
    }

    #[test]
    fn all_addresses_of_a_node_but_the_one_of_the_underlay_are_other_ones() {
        let (mut cache, mut membership) = cache("");
        let others = ["10.9.9.2", "fd00:9::2"].map(|other| other.parse().unwrap()).to_vec();
        let change = cache.set("b".into(), CachedNode { others, ..node(2, 7) });
        assert!(cache.apply(&change, &mut membership).is_some());
        let addresses = |membership: &Membership| {
            let addresses = membership.nodes[2].addresses.iter().map(ToString::to_string);
            (membership.nodes[2].address.to_string(), addresses.collect::<Vec<_>>().join(" "))
        };
        assert_eq!(addresses(&membership), ("192.168.50.2".into(), "fd00::2 10.9.9.2 fd00:9::2".into()));
        let change = cache.set("b".into(), CachedNode { ipv6: None, ..node(2, 7) });
        assert!(cache.apply(&change, &mut membership).is_some());
        assert_eq!(addresses(&membership).1, "");
    }

    #[test]
    fn a_node_without_address_or_pod_cidr_is_no_entry_yet() {
        let (mut cache, mut membership) = cache("");
        let unready =
            [CachedNode { ipv4: None, ipv6: None, ..node(2, 7) }, CachedNode { pod_cidrs: Vec::new(), ..node(2, 7) }];
        for node in unready {
            let change = cache.set("b".into(), node);
            cache.apply(&change, &mut membership);
            assert_eq!((names(&membership), cache.count()), (vec!["a", "c"], (3, 1)));
        }
        let change = cache.set("b".into(), node(2, 7));
        assert!(cache.apply(&change, &mut membership).is_some());
        assert_eq!((names(&membership), cache.count()), (vec!["a", "c", "b"], (3, 0)));
    }

    #[test]
    fn what_this_node_lacks_is_named() {
        let (mut cache, _) = cache("");
        assert_eq!(cache.own_lacks(), None);
        cache.set("a".into(), CachedNode { pod_cidrs: Vec::new(), ..node(1, 5) });
        assert!(cache.own_lacks().unwrap().contains("--allocate-node-cidrs"));
        cache.set("a".into(), CachedNode { ipv4: None, ipv6: None, ..node(1, 5) });
        assert!(cache.own_lacks().unwrap().contains("InternalIP"));
        cache.remove("a");
        assert!(cache.own_lacks().unwrap().contains("--node-name"));
    }

    #[test]
    fn the_underlays_family_is_this_nodes_or_the_settings() {
        let addresses =
            |membership: &Membership| membership.nodes.iter().map(|node| node.address.to_string()).collect::<Vec<_>>();
        let (mut free, mut membership) = cache("");
        assert_eq!(addresses(&membership), ["192.168.50.1", "192.168.50.3", "192.168.50.2"]);
        // This node has lost its address of IPv4: all entries change, and a node that has no other keeps it.
        let change = free.set("b".into(), CachedNode { ipv6: None, ..node(2, 7) });
        free.apply(&change, &mut membership);
        let change = free.set("a".into(), CachedNode { ipv4: None, ..node(1, 5) });
        assert_eq!(change, NodeChange::All);
        assert!(free.apply(&change, &mut membership).is_some());
        assert_eq!(addresses(&membership), ["fd00::1", "fd00::3", "192.168.50.2"]);
        assert_eq!(addresses(&cache("underlay = \"ipv6\"").1), ["fd00::1", "fd00::3", "fd00::2"]);
        assert_eq!(addresses(&cache("underlay = \"ipv4\"").1)[0], "192.168.50.1");
    }

    proptest! {
        /// Whatever happens to nodes in whatever order, a membership that was changed step by step is the one that is made
        /// at once.
        #[test]
        fn a_membership_changed_step_by_step_is_the_one_made_at_once(
            steps in proptest::collection::vec((0_u8..6, 0_u64..4, 0_u8..5), 1..40),
        ) {
            let (mut cache, mut membership) = cache("");
            for (number, created, what) in steps {
                let name = char::from(b'a' + number).to_string();
                let cached = node(number + 1, created);
                let change = match what {
                    0 => cache.remove(&name),
                    1 => cache.set(name, CachedNode { ipv4: None, ..cached }),
                    2 => cache.set(name, CachedNode { pod_cidrs: Vec::new(), ..cached }),
                    3 => cache.set(name, CachedNode { ipv4: None, ipv6: None, ..cached }),
                    _ => cache.set(name, cached),
                };
                let before = membership.clone();
                let update = cache.apply(&change, &mut membership);
                prop_assert_eq!(&membership, &cache.membership());
                prop_assert_eq!(update.is_some(), before != membership);
                if let Some(Update::Members(members)) = update {
                    let found = |name: &String| membership.nodes.iter().find(|member| member.name == *name).cloned();
                    prop_assert!(members.iter().all(|(name, now)| found(name) == *now));
                    let others = |membership: Membership| {
                        let others = membership.nodes.into_iter().filter(|member| !members.contains_key(&member.name));
                        others.collect::<Vec<_>>()
                    };
                    prop_assert_eq!(others(before), others(membership.clone()));
                }
            }
        }
    }
}
