//! A delta leads from one view to the other, or says that it cannot.

use proptest::prelude::*;

use super::*;
use crate::cluster::membership::Membership;

const NAME: &str = "node-1";

/// A node whose name, address and pod CIDRs are of one number each; an odd width makes its prefix overlap the next one's.
fn node((name, address, cidr, wide): (u8, u8, u8, bool)) -> Member {
    let prefix = if wide { 23 } else { 24 };
    let first = if wide { cidr & !1 } else { cidr };
    Member {
        name: format!("node-{name}"),
        address: [192, 168, 50, address].into(),
        pod_cidrs: vec![
            format!("10.244.{first}.0/{prefix}").parse().unwrap(),
            format!("fd00:10:244:{cidr:x}::/64").parse().unwrap(),
        ],
        addresses: Vec::new(),
    }
}

fn membership(nodes: Vec<Member>) -> Membership {
    let cluster_cidrs = ["10.244.0.0/16", "fd00:10:244::/48"].map(|cidr| cidr.parse().unwrap()).into();
    Membership { cluster_cidrs, nodes }
}

fn plain(numbers: impl IntoIterator<Item = u8>) -> Membership {
    membership(numbers.into_iter().map(|number| node((number, number, number, false))).collect())
}

fn names(peers: &BTreeMap<String, Peer>) -> Vec<&str> {
    peers.keys().map(String::as_str).collect()
}

fn between(before: &Membership, after: &Membership) -> Option<Delta> {
    Delta::new(&View::new(before, NAME).unwrap(), &Update::between(before, after), NAME)
}

#[test]
fn who_came_left_or_changed_is_the_delta() {
    let delta = between(&plain([1, 2, 3, 4]), &plain([5, 1, 2, 4])).unwrap();
    assert_eq!((names(&delta.before), names(&delta.after)), (vec!["node-3"], vec!["node-5"]));
    let mut moved = plain([1, 2, 3]);
    moved.nodes[2].address = [192, 168, 50, 33].into();
    let delta = between(&plain([1, 2, 3]), &moved).unwrap();
    assert_eq!((names(&delta.before), names(&delta.after)), (vec!["node-3"], vec!["node-3"]));
    // Another order is no change, and neither is one that was undone before it was read.
    assert!(between(&plain([1, 2, 3]), &plain([3, 1, 2])).unwrap().is_empty());
    let mut undone = Update::between(&plain([1, 2, 3]), &moved);
    undone.merge(Update::between(&moved, &plain([1, 2, 3])));
    assert!(Delta::new(&View::new(&plain([1, 2, 3]), NAME).unwrap(), &undone, NAME).unwrap().is_empty());
}

#[test]
fn more_than_a_few_peers_or_a_reason_to_reject_one_is_left_to_the_full_sync() {
    let before = plain([1, 2, 3]);
    let mut other_range = before.clone();
    other_range.cluster_cidrs.pop();
    let mut own_address = before.clone();
    own_address.nodes[0].address = [192, 168, 50, 11].into();
    let mut wrong = before.clone();
    wrong.nodes.push(node((9, 2, 9, false)));
    for after in [other_range, own_address, wrong, plain([2, 3]), plain(1..=60), plain([1, 2, 2, 3])] {
        assert_eq!(between(&before, &after), None, "{after:?}");
    }
}

#[test]
fn other_addresses_of_a_node_are_a_matter_of_that_peer() {
    let (before, mut after) = (plain([1, 2, 3]), plain([1, 2, 3]));
    after.nodes[1].addresses = vec!["10.9.9.2".parse().unwrap(), "fd00:9::2".parse().unwrap()];
    let delta = between(&before, &after).unwrap();
    assert_eq!((names(&delta.before), names(&delta.after)), (vec!["node-2"], vec!["node-2"]));
    assert_eq!(delta.after["node-2"].addresses, after.nodes[1].addresses);
    // One that is another node's, its own or one of its other ones.
    let mut third = after.clone();
    third.nodes[2].addresses = vec!["10.9.9.2".parse().unwrap()];
    assert_eq!(between(&after, &third), None);
    third.nodes[2].addresses = vec!["192.168.50.1".parse().unwrap()];
    assert_eq!(between(&after, &third), None);
}

fn any_nodes() -> impl Strategy<Value = Vec<Member>> {
    let numbers = (1..6_u8, 1..7_u8, 1..7_u8, prop::bool::weighted(0.1));
    let regular = (1..6_u8).prop_map(|number| (number, number, number, false));
    // Other addresses, some of which others have, as theirs or as another one too.
    let others = prop_oneof![4 => Just(Vec::new()), 1 => prop::collection::vec(1..12_u8, 1..3)];
    let with_others = |(numbers, others): (_, Vec<u8>)| {
        let addresses = others.into_iter().map(|other| [192, 168, 50, other].into()).collect();
        Member { addresses, ..node(numbers) }
    };
    prop::collection::vec((prop_oneof![3 => regular, 1 => numbers], others).prop_map(with_others), 0..7)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_delta_leads_to_just_the_view_that_the_whole_membership_gives(
        before in any_nodes(), between in prop::option::of(any_nodes()), after in any_nodes(),
    ) {
        let own = node((1, 1, 1, false));
        let whole = |mut nodes: Vec<Member>| {
            nodes.insert(nodes.len() / 2, own.clone());
            membership(nodes)
        };
        let (before, after) = (whole(before), whole(after));
        // What happened on the way there, before it was read.
        let update = match between.map(whole) {
            None => Update::between(&before, &after),
            Some(between) => {
                let mut update = Update::between(&before, &between);
                update.merge(Update::between(&between, &after));
                update
            }
        };
        let Ok(view) = View::new(&before, NAME) else { return Ok(()) };
        if let Some(delta) = Delta::new(&view, &update, NAME) {
            prop_assert_eq!(Ok(view.with(&delta)), View::new(&after, NAME));
        }
    }
}
