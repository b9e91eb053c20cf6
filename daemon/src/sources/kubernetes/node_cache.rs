//! The nodes as the Kubernetes API lists them, cut down to what the overlay needs, and the membership that follows from
//! them. Pure: `nodes` asks the API.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnetwork::IpNetwork;

use crate::cluster::membership::{Membership, Node};
use crate::cluster::settings::{Settings, Underlay};

/// What is kept of a Node: some hundred bytes of some ten thousand.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Entry {
    /// When it was created, as a number that grows with time (the digits of the time in UTC).
    pub created: u64,
    /// Its first address of IPv4.
    pub ipv4: Option<Ipv4Addr>,
    /// Its first address of IPv6.
    pub ipv6: Option<Ipv6Addr>,
    /// The prefixes of its pods.
    pub pod_cidrs: Vec<IpNetwork>,
}

/// What of the membership a change of the nodes may touch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// Nothing: what has changed is nothing that is kept.
    Nothing,
    /// The node of this name.
    Node(String),
    /// Everything.
    All,
}

/// The nodes of the API.
#[derive(Debug)]
pub struct Roster {
    own: String,
    cluster_cidrs: Vec<IpNetwork>,
    underlay: Option<Underlay>,
    entries: BTreeMap<String, Entry>,
}

impl Roster {
    /// Knows no node yet; this one is called `own`.
    pub fn new(own: &str, settings: &Settings) -> Self {
        let (cluster_cidrs, underlay) = (settings.cluster_cidrs.clone(), settings.underlay);
        Self { own: own.into(), cluster_cidrs, underlay, entries: BTreeMap::new() }
    }

    /// Enters a full list: nobody else is there.
    pub fn replace(&mut self, entries: BTreeMap<String, Entry>) -> Change {
        let changed = self.entries != entries;
        self.entries = entries;
        if changed { Change::All } else { Change::Nothing }
    }

    /// Enters a node that has come or changed.
    pub fn set(&mut self, name: String, entry: Entry) -> Change {
        if self.entries.get(&name) == Some(&entry) {
            return Change::Nothing;
        }
        let family = self.prefers_ipv4();
        self.entries.insert(name.clone(), entry);
        if family == self.prefers_ipv4() { Change::Node(name) } else { Change::All }
    }

    /// Strikes out a node that has gone.
    pub fn remove(&mut self, name: &str) -> Change {
        let family = self.prefers_ipv4();
        match self.entries.remove(name) {
            None => Change::Nothing,
            Some(_) if family == self.prefers_ipv4() => Change::Node(name.into()),
            Some(_) => Change::All,
        }
    }

    /// Brings a membership that was made by this roster up to a change, or any other with [`Change::All`]. Whether
    /// anything in it has changed.
    pub fn apply(&self, change: &Change, membership: &mut Membership) -> bool {
        let name = match change {
            Change::Nothing => return false,
            Change::Node(name) => name,
            Change::All => {
                let whole = self.membership();
                let changed = *membership != whole;
                *membership = whole;
                return changed;
            }
        };
        let found = membership.nodes.iter().position(|node| node.name == *name).map(|place| {
            let node = membership.nodes.remove(place);
            (place, node)
        });
        let wanted = self.entries.get(name).and_then(|entry| self.node(name, entry)).map(|node| {
            let key = self.key(name);
            (membership.nodes.partition_point(|other| self.key(&other.name) < key), node)
        });
        let changed = found != wanted;
        if let Some((place, node)) = wanted {
            membership.nodes.insert(place, node);
        }
        changed
    }

    /// What this node lacks to take part, as the end of a sentence about it.
    pub fn own_lacks(&self) -> Option<&'static str> {
        let Some(own) = self.entries.get(&self.own) else {
            return Some("is not among the nodes of the Kubernetes API: is --node-name right?");
        };
        if own.ipv4.is_none() && own.ipv6.is_none() {
            return Some("has no InternalIP in Kubernetes yet");
        }
        let without =
            "has no pod CIDR in Kubernetes yet: kube-controller-manager gives it one with --allocate-node-cidrs";
        own.pod_cidrs.is_empty().then_some(without)
    }

    /// How many nodes there are, and how many of them have no address or no pod CIDR yet.
    pub fn count(&self) -> (usize, usize) {
        (self.entries.len(), self.entries.iter().filter(|(name, entry)| self.node(name, entry).is_none()).count())
    }

    fn membership(&self) -> Membership {
        let mut ready: Vec<_> =
            self.entries.iter().filter_map(|(name, entry)| Some((entry.created, self.node(name, entry)?))).collect();
        // The sort keeps the order of the names.
        ready.sort_by_key(|(created, _)| *created);
        let nodes = ready.into_iter().map(|(_, node)| node).collect();
        Membership { cluster_cidrs: self.cluster_cidrs.clone(), nodes }
    }

    /// A node's place in the membership: all nodes look at the entries in this order, and of two that cannot both be
    /// right they believe the one that was there first.
    fn key<'a>(&self, name: &'a str) -> (u64, &'a str) {
        (self.entries.get(name).map_or(0, |entry| entry.created), name)
    }

    /// A node as an entry of the membership, if it can take part already.
    fn node(&self, name: &str, entry: &Entry) -> Option<Node> {
        let (ipv4, ipv6) = (entry.ipv4.map(IpAddr::V4), entry.ipv6.map(IpAddr::V6));
        // An address of the other family only is an entry as well: the view refuses it, and says why.
        let address = if self.prefers_ipv4() { ipv4.or(ipv6) } else { ipv6.or(ipv4) }?;
        let pod_cidrs = entry.pod_cidrs.clone();
        (!pod_cidrs.is_empty()).then(|| Node { name: name.into(), address, pod_cidrs })
    }

    fn prefers_ipv4(&self) -> bool {
        match self.underlay {
            Some(underlay) => underlay == Underlay::Ipv4,
            None => self.entries.get(&self.own).is_none_or(|own| own.ipv4.is_some() || own.ipv6.is_none()),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn entry(number: u8, created: u64) -> Entry {
        let ipv4 = Some(Ipv4Addr::new(192, 168, 50, number));
        let ipv6 = Some(Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, number.into()));
        let pod_cidrs = vec![IpNetwork::new(Ipv4Addr::new(10, 244, number, 0).into(), 24).unwrap()];
        Entry { created, ipv4, ipv6, pod_cidrs }
    }

    fn roster(settings: &str) -> (Roster, Membership) {
        let settings = format!("cluster_cidrs = [\"10.244.0.0/16\"]\n{settings}");
        let mut roster = Roster::new("a", &Settings::parse(&settings).unwrap());
        let listed = [("a", entry(1, 5)), ("b", entry(2, 7)), ("c", entry(3, 6))];
        let change = roster.replace(listed.map(|(name, entry)| (name.to_owned(), entry)).into());
        let mut membership = Membership::default();
        assert!(roster.apply(&change, &mut membership));
        (roster, membership)
    }

    fn names(membership: &Membership) -> Vec<&str> {
        membership.nodes.iter().map(|node| node.name.as_str()).collect()
    }

    #[test]
    fn the_membership_is_in_the_order_of_creation() {
        let (mut roster, mut membership) = roster("");
        assert_eq!(names(&membership), ["a", "c", "b"]);
        let change = roster.set("0".into(), entry(4, 6));
        assert!(roster.apply(&change, &mut membership));
        assert_eq!(names(&membership), ["a", "0", "c", "b"]);
    }

    #[test]
    fn pain22_a_node_that_is_made_again_is_another_one_and_stands_last() {
        let (mut roster, mut membership) = roster("");
        let change = roster.set("c".into(), entry(9, 8));
        assert!(roster.apply(&change, &mut membership));
        assert_eq!(names(&membership), ["a", "b", "c"]);
        assert_eq!(membership.nodes[2].pod_cidrs, entry(9, 0).pod_cidrs);
    }

    #[test]
    fn pain33_what_is_not_kept_changes_nothing() {
        let (mut roster, mut membership) = roster("");
        assert_eq!(roster.set("b".into(), entry(2, 7)), Change::Nothing);
        assert_eq!(roster.remove("nobody"), Change::Nothing);
        assert!(!roster.apply(&Change::Nothing, &mut membership));
        // The address that is of no use here.
        let change = roster.set("b".into(), Entry { ipv6: None, ..entry(2, 7) });
        assert!(!roster.apply(&change, &mut membership));
    }

    #[test]
    fn a_node_without_address_or_pod_cidr_is_no_entry_yet() {
        let (mut roster, mut membership) = roster("");
        let unready = [Entry { ipv4: None, ipv6: None, ..entry(2, 7) }, Entry { pod_cidrs: Vec::new(), ..entry(2, 7) }];
        for entry in unready {
            let change = roster.set("b".into(), entry);
            roster.apply(&change, &mut membership);
            assert_eq!((names(&membership), roster.count()), (vec!["a", "c"], (3, 1)));
        }
        let change = roster.set("b".into(), entry(2, 7));
        assert!(roster.apply(&change, &mut membership));
        assert_eq!((names(&membership), roster.count()), (vec!["a", "c", "b"], (3, 0)));
    }

    #[test]
    fn what_this_node_lacks_is_said() {
        let (mut roster, _) = roster("");
        assert_eq!(roster.own_lacks(), None);
        roster.set("a".into(), Entry { pod_cidrs: Vec::new(), ..entry(1, 5) });
        assert!(roster.own_lacks().unwrap().contains("--allocate-node-cidrs"));
        roster.set("a".into(), Entry { ipv4: None, ipv6: None, ..entry(1, 5) });
        assert!(roster.own_lacks().unwrap().contains("InternalIP"));
        roster.remove("a");
        assert!(roster.own_lacks().unwrap().contains("--node-name"));
    }

    #[test]
    fn the_underlays_family_is_this_nodes_or_the_settings() {
        let addresses =
            |membership: &Membership| membership.nodes.iter().map(|node| node.address.to_string()).collect::<Vec<_>>();
        let (mut free, mut membership) = roster("");
        assert_eq!(addresses(&membership), ["192.168.50.1", "192.168.50.3", "192.168.50.2"]);
        // This node has lost its address of IPv4: all entries change, and a node that has no other keeps it.
        let change = free.set("b".into(), Entry { ipv6: None, ..entry(2, 7) });
        free.apply(&change, &mut membership);
        let change = free.set("a".into(), Entry { ipv4: None, ..entry(1, 5) });
        assert_eq!(change, Change::All);
        assert!(free.apply(&change, &mut membership));
        assert_eq!(addresses(&membership), ["fd00::1", "fd00::3", "192.168.50.2"]);
        assert_eq!(addresses(&roster("underlay = \"ipv6\"").1), ["fd00::1", "fd00::3", "fd00::2"]);
        assert_eq!(addresses(&roster("underlay = \"ipv4\"").1)[0], "192.168.50.1");
    }

    proptest! {
        /// Whatever happens to nodes in whatever order, a membership that was changed step by step is the one that is made
        /// at once.
        #[test]
        fn a_membership_that_is_followed_is_the_whole_one(
            steps in proptest::collection::vec((0_u8..6, 0_u64..4, 0_u8..5), 1..40),
        ) {
            let (mut roster, mut membership) = roster("");
            for (node, created, what) in steps {
                let name = char::from(b'a' + node).to_string();
                let entry = entry(node + 1, created);
                let change = match what {
                    0 => roster.remove(&name),
                    1 => roster.set(name, Entry { ipv4: None, ..entry }),
                    2 => roster.set(name, Entry { pod_cidrs: Vec::new(), ..entry }),
                    3 => roster.set(name, Entry { ipv4: None, ipv6: None, ..entry }),
                    _ => roster.set(name, entry),
                };
                let before = membership.clone();
                let changed = roster.apply(&change, &mut membership);
                prop_assert_eq!(&membership, &roster.membership());
                prop_assert_eq!(changed, before != membership);
            }
        }
    }
}
