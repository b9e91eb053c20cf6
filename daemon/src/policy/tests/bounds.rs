//! More than the kernel is given.

use std::net::{IpAddr, Ipv4Addr};

use serde_json::{Value, json};

use crate::policy::compiled::Compiled;
use crate::policy::compiler::Compiler;
use crate::policy::inputs::{Inputs, Local};
use crate::policy::network_policy::{self, NetworkPolicy};
use crate::policy::pod::{self, Pod};
use crate::policy::tests::world::{HERE, decode};
use crate::policy::too_large::{ELEMENTS, TooLarge};

/// Of so many selectors each peer is in others: classes are all combinations of them but the empty one.
const SELECTORS: u16 = 10;

/// Pods here, each with a policy of its own that allows the peers of each selector some ports.
fn compile(
    compiler: &mut Compiler,
    subjects: u16,
    ports: impl Fn(u16, u16) -> std::ops::Range<u16>,
) -> Result<Compiled, TooLarge> {
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
        let rule = |selector: u16| {
            let ports: Vec<_> = ports(number, selector).map(|port| json!({"port": port})).collect();
            json!({"from": [{"podSelector": {"matchLabels": {format!("s{selector}"): "yes"}}}], "ports": ports})
        };
        let rules: Vec<_> = (0..SELECTORS).map(rule).collect();
        json!({
            "metadata": {"name": format!("policy{number}"), "namespace": "a"},
            "spec": {"podSelector": {"matchLabels": {"own": number.to_string()}}, "ingress": rules},
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
    let one = |_, _| 80..81;
    let few = compile(&mut compiler, 3, one).unwrap();
    assert_eq!((few.ingress.listings.len(), few.listed.len()), (3 * classes, 1), "all have one list");
    let subjects = u16::try_from(ELEMENTS / classes + 1).unwrap();
    match compile(&mut compiler, subjects, one) {
        Err(TooLarge::Elements { count }) => assert_eq!(count, ELEMENTS + 1, "counting has ended there"),
        other => panic!("{:?}", other.map(|compiled| compiled.ingress.listings.len())),
    }
    let again = compile(&mut compiler, 3, one).unwrap();
    assert_eq!((again.ingress, again.listed), (few.ingress, few.listed), "the numbers stay");
}

#[test]
fn more_ports_in_lists_than_the_kernel_is_given_are_an_error_and_fewer_are_none_afterwards_or_in_their_place() {
    let mut compiler = Compiler::default();
    // A hundred for each selector: of the classes each has a list of its own, with half of them in the middle.
    let from = |first: u16| {
        move |subject: u16, selector: u16| {
            let first = first + 1_000 * subject + 100 * selector;
            first..first + 100
        }
    };
    let all = (usize::from(SELECTORS) * 100) << (SELECTORS - 1);
    assert!(all <= ELEMENTS && 2 * all > ELEMENTS);
    assert_eq!(compile(&mut compiler, 1, from(1)).unwrap().listed.len(), all);
    assert_eq!(compile(&mut compiler, 1, from(20_000)).unwrap().listed.len(), all, "what goes is not counted");
    let error = compile(&mut compiler, 2, from(1));
    assert!(
        matches!(error, Err(TooLarge::Elements { count }) if count > ELEMENTS),
        "{:?}",
        error.map(|made| made.listed.len())
    );
    assert_eq!(compile(&mut compiler, 1, from(1)).unwrap().listed.len(), all, "nothing is left of what was too much");
}
