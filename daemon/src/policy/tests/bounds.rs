//! More than the kernel is given.

use std::net::{IpAddr, Ipv4Addr};

use serde_json::{Value, json};

use crate::policy::compiled::Compiled;
use crate::policy::compiler::{Compiler, ELEMENTS, TooLarge};
use crate::policy::inputs::{Inputs, Local};
use crate::policy::network_policy::{self, NetworkPolicy};
use crate::policy::pod::{self, Pod};
use crate::policy::tests::world::{HERE, decode};

/// Of so many selectors each peer is in others: classes are all combinations of them but the empty one.
const SELECTORS: u16 = 10;

/// Pods here, each with a policy of its own that allows the peers of each selector one port.
fn compile(compiler: &mut Compiler, subjects: u16) -> Result<Compiled, TooLarge> {
    let address = |second: u8, number: u16| {
        let [high, low] = number.to_be_bytes();
        IpAddr::from(Ipv4Addr::new(10, second, high, low))
    };
    let peer = |number: u16| -> Value {
        let set = (0..SELECTORS).filter(|selector| number >> selector & 1 == 1);
        let labels: serde_json::Map<_, _> = set.map(|selector| (format!("s{selector}"), json!("yes"))).collect();
        json!({
            "metadata": {"name": format!("peer{number}"), "namespace": "a", "labels": labels},
            "spec": {"nodeName": "there"}, "status": {"podIPs": [{"ip": address(1, number)}]},
        })
    };
    let own = |number: u16| -> Value {
        let labels = json!({"own": number.to_string()});
        json!({"metadata": {"name": format!("own{number}"), "namespace": "a", "labels": labels}, "spec": {"nodeName": HERE}})
    };
    let policy = |number: u16| -> Value {
        let from: Vec<_> =
            (0..SELECTORS).map(|one| json!({"podSelector": {"matchLabels": {format!("s{one}"): "yes"}}})).collect();
        json!({
            "metadata": {"name": format!("policy{number}"), "namespace": "a"},
            "spec": {"podSelector": {"matchLabels": {"own": number.to_string()}}, "ingress": [{"from": from, "ports": [{"port": 80}]}]},
        })
    };
    let peers: Vec<Pod> = decode::<pod::Wire, _>(&(0..1 << SELECTORS).map(peer).collect::<Vec<_>>());
    let pods: Vec<Pod> = decode::<pod::Wire, _>(&(0..subjects).map(own).collect::<Vec<_>>());
    let policies: Vec<NetworkPolicy> =
        decode::<network_policy::Wire, _>(&(0..subjects).map(policy).collect::<Vec<_>>());
    let addresses: Vec<_> = (0..subjects).map(|number| [address(2, number)]).collect();
    compiler.compile(&Inputs {
        node: HERE,
        pods: peers.iter().collect(),
        policies: policies.iter().collect(),
        local: pods.iter().zip(&addresses).map(|(pod, addresses)| Local { pod, addresses }).collect(),
        ..Inputs::default()
    })
}

#[test]
fn more_pairs_of_subjects_and_classes_than_the_kernel_is_given_are_an_error_and_the_compiler_goes_on() {
    let (classes, mut compiler) = ((1 << SELECTORS) - 1, Compiler::default());
    let few = compile(&mut compiler, 3).unwrap();
    assert_eq!((few.ingress.listings.len(), few.listed.len()), (3 * classes, 1), "all have one list");
    let subjects = u16::try_from(ELEMENTS / classes + 1).unwrap();
    match compile(&mut compiler, subjects) {
        Err(TooLarge::Elements { count }) => assert_eq!(count, ELEMENTS + 1, "counting has ended there"),
        other => panic!("{:?}", other.map(|compiled| compiled.ingress.listings.len())),
    }
    let again = compile(&mut compiler, 3).unwrap();
    assert_eq!((again.ingress, again.listed), (few.ingress, few.listed), "the numbers stay");
}
