//! Numbers and changes: what has not changed keeps its elements, changes lead from one form to the next, and the order of
//! objects does not matter.

use std::collections::BTreeSet;
use std::fmt::Debug;

use policy_model::random::Random;

use crate::policy::change::Change;
use crate::policy::changes::Changes;
use crate::policy::compiled::Compiled;
use crate::policy::compiler::Compiler;
use crate::policy::tests::world::{Compile, World};

fn sets(compiled: &Compiled) -> [Vec<String>; 12] {
    fn shown<T: Debug>(list: impl IntoIterator<Item = T>) -> Vec<String> {
        list.into_iter().map(|element| format!("{element:?}")).collect()
    }
    [
        shown(&compiled.ingress.subjects),
        shown(&compiled.ingress.allowed),
        shown(&compiled.ingress.decided),
        shown(&compiled.ingress.listings),
        shown(&compiled.egress.subjects),
        shown(&compiled.egress.allowed),
        shown(&compiled.egress.decided),
        shown(&compiled.egress.listings),
        shown(&compiled.listed),
        shown(&compiled.peers),
        shown(&compiled.blocks),
        shown(&compiled.ports),
    ]
}

#[test]
fn changes_lead_from_each_form_to_the_next() {
    fn applied<T: Ord + Copy + Debug>(old: impl IntoIterator<Item = T>, change: &Change<T>) -> Vec<T> {
        let mut set: BTreeSet<T> = old.into_iter().collect();
        for removed in &change.removed {
            assert!(set.remove(removed), "{removed:?} is not there");
        }
        for added in &change.added {
            assert!(set.insert(*added), "{added:?} is there already");
        }
        set.into_iter().collect()
    }
    let (mut compiler, mut old) = (Compiler::default(), Compiled::default());
    for seed in 0..200 {
        let new = Random(seed).tiered_world().compile(&mut compiler);
        let changes = Changes::between(&old, &new);
        for (old, new, change) in
            [(&old.ingress, &new.ingress, &changes.ingress), (&old.egress, &new.egress, &changes.egress)]
        {
            assert_eq!(applied(old.allowed.iter().copied(), &change.allowed), new.allowed, "seed {seed}");
            assert_eq!(applied(old.decided.iter().copied(), &change.decided), new.decided, "seed {seed}");
            assert_eq!(applied(old.listings.iter().copied(), &change.listings), new.listings, "seed {seed}");
            let tiered: Vec<_> = new.tiered.iter().copied().collect();
            assert_eq!(applied(old.tiered.iter().copied(), &change.tiered), tiered, "seed {seed}");
            let pairs: Vec<_> = new.subjects.clone().into_iter().collect();
            assert_eq!(applied(old.subjects.clone(), &change.subjects), pairs, "seed {seed}");
        }
        let peers: Vec<_> = new.peers.clone().into_iter().collect();
        assert_eq!(applied(old.peers.clone(), &changes.peers), peers, "seed {seed}");
        assert_eq!(applied(old.blocks.iter().copied(), &changes.blocks), new.blocks, "seed {seed}");
        assert_eq!(applied(old.ports.iter().copied(), &changes.ports), new.ports, "seed {seed}");
        assert_eq!(applied(old.listed.iter().copied(), &changes.listed), new.listed, "seed {seed}");
        assert!(Changes::between(&new, &new).is_empty());
        old = new;
    }
}

#[test]
fn the_same_objects_have_the_same_elements_in_any_order_and_again() {
    for seed in 0..200 {
        let world = Random(seed).tiered_world();
        let mut turned = world.clone();
        turned.policies.reverse();
        turned.cluster_policies.reverse();
        turned.namespaces.reverse();
        turned.pods.reverse();
        turned.held.iter_mut().for_each(|(_, place)| *place = world.pods.len() - 1 - *place);
        turned.held.reverse();
        let mut compiler = Compiler::default();
        let first = sets(&world.compile(&mut compiler));
        assert_eq!(first, sets(&turned.compile(&mut Compiler::default())), "seed {seed}");
        assert_eq!(first, sets(&turned.compile(&mut compiler)), "seed {seed}");
    }
}

#[test]
fn one_pod_more_adds_its_own_elements_and_changes_no_other() {
    let pod = |number: u8, label: &str, node: &str| {
        format!(
            "---\nkind: Pod\nmetadata: {{name: p{number}, namespace: a, labels: {{app: {label}}}}}\n\
             spec: {{nodeName: {node}}}\nstatus: {{podIPs: [{{ip: 10.0.0.{number}}}]}}\n"
        )
    };
    let policy = |name: &str, selected: &str, peer: &str, port: u16| {
        format!(
            "---\nkind: NetworkPolicy\nmetadata: {{name: {name}, namespace: a}}\n\
             spec: {{podSelector: {{matchLabels: {{app: {selected}}}}}, ingress: [{{from: [{{podSelector: {{matchLabels: \
             {{app: {peer}}}}}}}], ports: [{{port: {port}}}]}}]}}\n"
        )
    };
    let policies = policy("a", "x", "y", 80) + &policy("b", "y", "z", 81);
    let before = policies.clone() + &pod(2, "x", "here") + &pod(3, "y", "there");
    let mut compiler = Compiler::default();
    let old = World::of(&before).compile(&mut compiler);
    // A number that is less than those of the pods that are there, and labels of a known class.
    let elsewhere = before.clone() + &pod(1, "y", "there");
    let new = World::of(&elsewhere).compile(&mut compiler);
    let changes = Changes::between(&old, &new);
    assert_eq!((changes.peers.added.len(), changes.peers.removed.len()), (1, 0));
    assert!(Changes { peers: Change::default(), ..changes }.is_empty());
    // A pod here that another policy isolates.
    let here = elsewhere + &pod(0, "y", "here");
    let newer = World::of(&here).compile(&mut compiler);
    let changes = Changes::between(&new, &newer);
    assert_eq!((changes.ingress.subjects.added.len(), changes.ingress.subjects.removed.len()), (1, 0));
    assert!(changes.peers.removed.is_empty() && changes.ingress.allowed.removed.is_empty());
}
