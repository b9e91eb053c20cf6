//! What docs/ says of the answers of `podwired policy` as JSON: every key, and every verdict.

use std::collections::BTreeSet;

use podwired::observe::policies::document::{
    Allowing, ClusterRule, End, Endpoint, Explanation, List, Listed, ListedCluster, Packet, ServiceBlock,
    UndeclaredPort,
};

use crate::documentation::{keys, quoted, rows, section};

/// Every verdict that an end can have, with everything in it.
fn verdicts() -> Vec<End> {
    let allowing = || Allowing { policy: String::new(), rule: String::new(), ports: vec![String::new()] };
    let all = vec![
        End::Allowed { policy: String::new(), rule: String::new() },
        End::Denied { policies: vec![String::new()], others: vec![allowing()] },
        End::WouldDeny { policies: vec![String::new()], others: vec![allowing()] },
        End::Accepted(ClusterRule::default()),
        End::Refused(ClusterRule::default()),
        End::WouldRefuse(ClusterRule::default()),
        End::UnknownPod,
        End::NotIsolated,
        End::Itself,
        End::OwnNode,
        End::NoPod,
        End::Elsewhere { node: String::new() },
    ];
    // A new one does not compile until it is above.
    all.iter().for_each(|end| match end {
        End::Allowed { .. } | End::Denied { .. } | End::WouldDeny { .. } | End::UnknownPod => {}
        End::Accepted(_) | End::Refused(_) | End::WouldRefuse(_) => {}
        End::NotIsolated | End::Itself => {}
        End::OwnNode | End::NoPod | End::Elsewhere { .. } => {}
    });
    all
}

#[test]
fn every_key_and_verdict_of_the_answers_about_policies_is_documented() {
    let names = || vec![String::new()];
    let listed = Listed { policy: String::new(), audit: true, ingress: names(), egress: names() };
    let listed_cluster = ListedCluster {
        policy: String::new(),
        tier: String::new(),
        priority: 0,
        audit: true,
        ingress: names(),
        egress: names(),
        unsupported: names(),
    };
    let undeclared = UndeclaredPort { policy: String::new(), rule: String::new(), port: String::new() };
    let block = ServiceBlock { policy: String::new(), rule: String::new(), block: String::new() };
    let list = List {
        node: String::new(),
        in_force: true,
        policies: vec![listed],
        others: 0,
        cluster_policies: vec![listed_cluster],
        selecting_none: names(),
        undeclared_ports: vec![undeclared],
        service_blocks: vec![block],
    };
    let endpoint = || Endpoint { asked: String::new(), pod: None, node: None };
    let address = || "10.244.1.2".parse().unwrap();
    let (egress, ingress) = (End::Itself.into(), End::Itself.into());
    let passed = || vec![ClusterRule::default()];
    let (egress_passed, ingress_passed) = (passed(), passed());
    let packet = Packet { source: address(), destination: address(), egress, ingress, egress_passed, ingress_passed };
    let explanation = Explanation {
        node: String::new(),
        in_force: true,
        allowed: true,
        source: endpoint(),
        destination: endpoint(),
        protocol: None,
        port: None,
        packets: vec![packet],
    };
    let section = section("docs/network-policy.md", "## The answers as JSON");
    let rows = rows(&section);
    let documented = |parent: &str, key: &str| {
        let is_top = parent.is_empty();
        rows.iter().any(|(cell, row)| {
            let has = |text: &str, name: &str| quoted(text).iter().any(|quoted| quoted == name);
            has(if is_top { cell } else { row }, key) && (is_top || has(row, parent))
        })
    };
    for answer in [serde_json::to_value(list).unwrap(), serde_json::to_value(explanation).unwrap()] {
        let mut there = BTreeSet::new();
        keys(&answer, "", &mut there);
        for (parent, key) in there {
            assert!(documented(&parent, &key), "{parent}.{key}");
        }
    }
    for verdict in verdicts() {
        let written = serde_json::to_value(verdict).unwrap();
        let name = written["verdict"].as_str().unwrap().to_owned();
        let mut there = BTreeSet::new();
        keys(&written, &name, &mut there);
        for (_, key) in there.into_iter().filter(|(_, key)| key != "verdict") {
            assert!(documented(&name, &key), "{name}: {key}");
        }
        assert!(documented("", &name), "{name}");
    }
}
