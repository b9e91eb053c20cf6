//! Which entries of a membership are accepted, and why the others are rejected.

use super::*;

const CLUSTER: &str = "cluster_cidrs = [\"10.244.0.0/16\", \"fd00:10:244::/48\"]\n";

fn node(name: &str, address: &str, cidrs: &[&str]) -> String {
    format!("[[node]]\nname = {name:?}\naddress = {address:?}\npod_cidrs = {cidrs:?}\n")
}

fn view(entries: &[String]) -> Result<View, Rejected> {
    View::new(&Membership::parse(&format!("{CLUSTER}{}", entries.concat())).unwrap(), "a")
}

fn own() -> String {
    node("a", "192.168.50.1", &["10.244.1.0/24", "fd00:10:244:1::/64"])
}

#[test]
fn the_sample_membership_is_accepted_whole() {
    let membership = Membership::parse(include_str!("../../../../conf/nodes.toml")).unwrap();
    let view = View::new(&membership, "node-2").unwrap();
    assert_eq!(view.peers.keys().collect::<Vec<_>>(), ["node-1", "node-3"]);
    assert_eq!(view.rejected, []);
    // What the nodes of one cluster must agree on, whatever version they run.
    assert_eq!(view.own.mac.to_string(), "0a:2e:00:db:f3:7f");
    assert_eq!(view.own.link_local().to_string(), "fe80::82e:ff:fedb:f37f");
}

fn with_others(entry: &str, others: &[&str]) -> String {
    format!("{entry}addresses = {others:?}\n")
}

#[test]
fn other_addresses_count_unless_they_are_anothers_or_pods_and_the_entry_stays() {
    let two = node("b", "192.168.50.2", &["10.244.2.0/24"]);
    let three = node("c", "192.168.50.3", &["10.244.3.0/24"]);
    // A later node's own address, an earlier one's other address, its own twice, of pods, of nobody.
    let listed = [
        with_others(&own(), &["192.168.50.3", "10.9.9.1"]),
        with_others(&two, &["10.9.9.2", "10.9.9.1", "192.168.50.2", "fd00:9::2", "10.9.9.2", "10.244.3.7", "::1"]),
        with_others(&three, &["192.168.50.1"]),
    ];
    let view = view(&listed).unwrap();
    let text = |peer: &Peer| peer.addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ");
    assert_eq!((text(&view.own), text(&view.peers["b"])), ("10.9.9.1".into(), "10.9.9.2 fd00:9::2".into()));
    assert_eq!(text(&view.peers["c"]), "");
    let rejected: Vec<_> = view.rejected.iter().map(ToString::to_string).collect();
    let of =
        |node: &str, why: &str| format!("membership: node {node}: of its other addresses one does not count: {why}");
    assert_eq!(
        rejected,
        [
            of("a", "address 192.168.50.3 is that of node c"),
            of("b", "address 10.9.9.1 is that of node a"),
            of("b", "address 10.244.3.7 is in the pods' range 10.244.0.0/16"),
            of("b", "address ::1 is no address of a node"),
            of("c", "address 192.168.50.1 is that of node a"),
        ]
    );
}

#[test]
fn of_many_other_addresses_the_first_count() {
    let many: Vec<_> = (1..40).map(|number| format!("10.9.9.{number}")).collect();
    let many: Vec<_> = many.iter().map(String::as_str).collect();
    let view = view(&[own(), with_others(&node("b", "192.168.50.2", &["10.244.2.0/24"]), &many)]).unwrap();
    assert_eq!(view.peers["b"].addresses.len(), 16);
    let rejected: Vec<_> = view.rejected.iter().map(ToString::to_string).collect();
    let why = "membership: node b: lists more than 16 other addresses: those from 10.9.9.17 on do not count";
    assert_eq!(rejected, [why]);
}

#[test]
fn a_wrong_entry_is_rejected_by_itself() {
    let good = node("b", "192.168.50.2", &["10.244.2.0/24"]);
    let cases = [
        (node("c", "127.0.0.1", &["10.244.3.0/24"]), "address 127.0.0.1 is no address of a node"),
        (node("c", "224.0.0.1", &["10.244.3.0/24"]), "address 224.0.0.1 is no address of a node"),
        (node("c", "0.0.0.0", &["10.244.3.0/24"]), "address 0.0.0.0 is no address of a node"),
        (node("c", "255.255.255.255", &["10.244.3.0/24"]), "address 255.255.255.255 is no address of a node"),
        (node("c", "192.168.50.3", &["10.244.3.0/31"]), "pod CIDR 10.244.3.0/31 is too small for pods"),
        (node("c", "10.244.9.9", &["10.244.3.0/24"]), "address 10.244.9.9 is in the pods' range 10.244.0.0/16"),
        (node("c", "192.168.50.1", &["10.244.3.0/24"]), "address 192.168.50.1 is that of node a"),
        (node("c", "192.168.50.2", &["10.244.3.0/24"]), "address 192.168.50.2 is that of node b"),
        (
            node("c", "fd00::3", &["10.244.3.0/24"]),
            "address fd00::3 and this node's 192.168.50.1 are not of one family",
        ),
        (node("c", "192.168.50.3", &[]), "has no pod CIDR"),
        (node("c", "192.168.50.3", &["10.1.0.0/24"]), "pod CIDR 10.1.0.0/24 is outside of the cluster's ranges"),
        (
            node("c", "192.168.50.3", &["10.244.3.1/24"]),
            "pod CIDR 10.244.3.1/24 has host bits set: did you mean 10.244.3.0/24?",
        ),
        (node("c", "192.168.50.3", &["10.244.2.128/25"]), "pod CIDR 10.244.2.128/25 overlaps 10.244.2.0/24 of node b"),
        (node("c", "192.168.50.3", &["10.244.2.0/23"]), "pod CIDR 10.244.2.0/23 overlaps 10.244.2.0/24 of node b"),
        (node("c", "192.168.50.3", &["10.244.0.0/22"]), "pod CIDR 10.244.0.0/22 overlaps 10.244.1.0/24 of node a"),
        (node("c", "192.168.50.3", &["10.244.1.0/25"]), "pod CIDR 10.244.1.0/25 overlaps 10.244.1.0/24 of node a"),
        (
            node("c", "192.168.50.3", &["10.244.3.0/24", "10.244.3.0/25"]),
            "pod CIDR 10.244.3.0/25 overlaps its own 10.244.3.0/24",
        ),
        (node("b", "192.168.50.3", &["10.244.3.0/24"]), "is listed twice; the first entry counts"),
        (node("a", "192.168.50.3", &["10.244.3.0/24"]), "is listed twice; the first entry counts"),
    ];
    for (wrong, why) in cases {
        let view = view(&[own(), good.clone(), wrong]).unwrap();
        assert_eq!(view.peers.keys().collect::<Vec<_>>(), ["b"], "{why}");
        assert_eq!(view.rejected.iter().map(|rejected| rejected.reason.to_string()).collect::<Vec<_>>(), [why]);
    }
}

#[test]
fn a_node_that_is_not_joined_says_why() {
    let missing = view(&[node("b", "192.168.50.2", &["10.244.2.0/24"])]).unwrap_err();
    assert_eq!(missing.to_string(), "membership: node a: is not in the membership, which lists b");
    let wrong = view(&[node("a", "192.168.50.1", &["10.1.0.0/24"])]).unwrap_err();
    assert_eq!(wrong.to_string(), "membership: node a: pod CIDR 10.1.0.0/24 is outside of the cluster's ranges");
}

#[test]
fn a_rejected_entry_holds_nothing() {
    let wrong = node("b", "192.168.50.2", &["10.1.0.0/24"]);
    let good = node("c", "192.168.50.2", &["10.244.2.0/24"]);
    let view = view(&[own(), wrong, good]).unwrap();
    assert_eq!(view.peers.keys().collect::<Vec<_>>(), ["c"]);
}

#[test]
fn an_ipv6_address_is_judged_as_well() {
    let own = node("a", "fd00::1", &["10.244.1.0/24"]);
    for address in ["::", "::1", "ff02::1", "fe80::7"] {
        let view = view(&[own.clone(), node("b", address, &["10.244.2.0/24"])]).unwrap();
        assert_eq!(view.rejected[0].reason.to_string(), format!("address {address} is no address of a node"));
    }
}

#[test]
fn of_two_nodes_with_one_pod_cidr_all_agree_that_the_first_has_it() {
    let nodes = [own(), node("b", "192.168.50.2", &["10.244.1.0/24"])];
    let membership = Membership::parse(&format!("{CLUSTER}{}", nodes.concat())).unwrap();
    assert_eq!(View::new(&membership, "a").unwrap().rejected.len(), 1);
    let second = View::new(&membership, "b").unwrap_err();
    assert_eq!(second.to_string(), "membership: node b: pod CIDR 10.244.1.0/24 overlaps 10.244.1.0/24 of node a");
}

#[test]
fn of_many_rejected_entries_the_first_are_named_and_of_many_ranges_the_first_are_looked_at() {
    let entry = |name: String, cidrs: usize| Member {
        name,
        address: "192.0.2.9".parse().unwrap(),
        pod_cidrs: (0..cidrs).map(|number| format!("10.244.9.{}/30", number % 64 * 4).parse().unwrap()).collect(),
        addresses: Vec::new(),
    };
    let mut membership = Membership {
        cluster_cidrs: vec!["10.244.0.0/16".parse().unwrap(); 66],
        nodes: vec![Member { address: "192.0.2.1".parse().unwrap(), ..entry("a".into(), 1) }],
    };
    membership.nodes[0].pod_cidrs = vec!["10.244.1.0/24".parse().unwrap()];
    membership.nodes.push(entry("many".into(), 65));
    membership.nodes.extend((0..1000).map(|number| entry(format!("x{number}"), 0)));
    let view = View::new(&membership, "a").unwrap();
    let text = |place: usize| view.rejected[place].to_string();
    assert_eq!(view.rejected.len(), 501);
    assert_eq!(text(0), "membership: there are 66 cluster CIDRs; those behind the first 64 do not count");
    assert_eq!(text(64), "membership: node many: has 65 pod CIDRs; at most 64 are accepted");
    assert_eq!(
        text(500),
        "membership: node (others): 565 more entries are rejected: correct those that are named first"
    );
}

#[test]
fn a_cluster_range_that_is_never_routed_or_has_host_bits_is_rejected() {
    for (cidr, why) in [
        ("0.0.0.0/0", "cluster CIDR 0.0.0.0/0 overlaps 0.0.0.0/8, which is never routed"),
        ("127.0.0.0/8", "cluster CIDR 127.0.0.0/8 overlaps 127.0.0.0/8, which is never routed"),
        ("fe80::/64", "cluster CIDR fe80::/64 overlaps fe80::/10, which is never routed"),
        ("10.1.0.1/16", "cluster CIDR 10.1.0.1/16 has host bits set: did you mean 10.1.0.0/16?"),
    ] {
        let text =
            format!("cluster_cidrs = [{cidr:?}, \"10.244.0.0/16\"]\n{}", node("a", "192.168.50.1", &["10.244.1.0/24"]));
        let view = View::new(&Membership::parse(&text).unwrap(), "a").unwrap();
        assert_eq!(view.rejected[0].reason.to_string(), why);
        assert_eq!(view.cluster_cidrs.len(), 1);
    }
}

#[test]
fn of_two_cluster_ranges_that_overlap_the_first_counts() {
    let text =
        format!("cluster_cidrs = [\"10.0.0.0/8\", \"10.244.0.0/16\"]\n{}", node("a", "192.168.50.1", &["10.1.0.0/24"]));
    let view = View::new(&Membership::parse(&text).unwrap(), "a").unwrap();
    assert_eq!(view.cluster_cidrs.len(), 1);
    assert_eq!(view.rejected[0].to_string(), "membership: cluster CIDR 10.244.0.0/16 overlaps 10.0.0.0/8");
}

#[test]
fn a_name_that_is_not_seen_as_what_it_is_is_rejected_by_each_way_and_shown_as_escapes() {
    let long = "x".repeat(254);
    for (name, shown, why) in [
        ("", "(no name)", "its name is empty: "),
        ("a b", "a b", "its name has spaces"),
        ("a\nb", r"a\nb", "its name has spaces"),
        ("a\u{202e}b", r"a\u{202e}b", "its name has spaces"),
        (long.as_str(), &format!("{}…", "x".repeat(252)), "its name is too long: a name has 1 to 253 letters"),
    ] {
        let entry = Member {
            name: name.into(),
            address: "192.168.50.3".parse().unwrap(),
            addresses: Vec::new(),
            pod_cidrs: vec!["10.244.3.0/24".parse().unwrap()],
        };
        let mut membership = Membership::parse(&format!("{CLUSTER}{}", own())).unwrap();
        let before = View::new(&membership, "a").unwrap();
        membership.nodes.push(entry.clone());
        let view = View::new(&membership, "a").unwrap();
        assert!(view.peers.is_empty(), "{name:?}");
        let [rejected] = view.rejected.as_slice() else { panic!("{:?}", view.rejected) };
        assert_eq!(rejected.node, shown);
        assert!(rejected.reason.to_string().starts_with(why), "{rejected}");
        // And as one that comes alone.
        let update = crate::cluster::update::Update::member(name, Some(entry));
        assert_eq!(crate::cluster::delta::Delta::new(&before, &update, "a"), None);
    }
    let mut membership = Membership::parse(&format!("{CLUSTER}{}", own())).unwrap();
    membership.nodes[0].name = "a\u{1b}".into();
    assert_eq!(View::new(&membership, "a\u{1b}").unwrap_err().node, r"a\u{1b}");
}
